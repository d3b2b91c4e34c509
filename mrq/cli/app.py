"""The command line as a whole: picks the command, turns what it raises into words and an exit code."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mrq.cli import command_table, failure_text
from mrq.cli.console import write_out
from mrq.cli.session import Session
from mrq.cli.signals import Stopped
from mrq.cli.wording import in_flags
from mrq.errors import MrqError, NoInputFiles, OperatorError, UsageError
from mrq.settings.run import SUBMIT

if TYPE_CHECKING:
    from mrq.job.base import Job


_LOG: Final = logging.getLogger(__name__)


def run(argv: Sequence[str], *, job: type[Job] | None = None) -> int:
    """Run one command line and return its exit code. `job`: submit this class, all words are inputs."""
    session = Session()
    with session.signals, session.console.listening():
        try:
            return _dispatch(argv, job, session)
        except BaseException as exc:
            if isinstance(exc, SystemExit):
                raise
            session.console.end()
            with session.signals.noting():
                return _failed(exc, argv, session)


def _dispatch(argv: Sequence[str], job: type[Job] | None, session: Session) -> int:
    """Find the command and run it."""
    if job is not None:
        return _submit(argv, job, session)
    name, rest = (argv[0], argv[1:]) if argv else ("help", ())
    if name in ("-h", "--help"):
        name = "help"
    if name in ("-V", "--version", "version"):
        import mrq
        from mrq import native

        write_out(f"mrq {mrq.__version__} ({native.told()})\n".encode())
        return failure_text.DONE
    if name == "submit":
        return _submit(rest, None, session)
    from mrq.cli.parser import parse

    command = command_table.command(name)
    parsed = parse(command.flags, rest, listed_by=f"mrq help {name}")
    if parsed.given.get("help") or name == "help":
        about = name if name != "help" else parsed.words[0] if parsed.words else None
        write_out(command_table.help_text(about).encode())
        return failure_text.DONE
    session.take(parsed)
    command.check(parsed)
    from importlib import import_module

    module, _, function = command.run.partition(":")
    code: int = getattr(import_module(module), function)(session)
    return code


def _submit(argv: Sequence[str], job: type[Job] | None, session: Session) -> int:
    import sys

    from mrq.cli.parser import parse

    # The running program, as it was named: of `mrq.main` a job's own file.
    program = f"python {sys.argv[0] or 'job.py'}" if job is not None else "mrq submit"
    parsed = parse(SUBMIT, argv, listed_by=f"{program} --help")
    if parsed.given.get("help"):
        text = command_table.help_text("submit")
        if job is None and parsed.words:
            from mrq.cli.options import ref_of
            from mrq.job.load import load_job

            program = f"{program} {parsed.words[0]}"
            job = load_job(ref_of(list(parsed.words))).cls
        if job is not None:
            from mrq.cli.jobhelp import job_text

            text = job_text(job, program)
        write_out(text.encode())
        return failure_text.DONE
    from mrq.cli.options import submit_request
    from mrq.cli.submit import submit

    request = submit_request(parsed, job)
    session.take(parsed)
    return submit(session, request)


def _failed(exc: BaseException, argv: Sequence[str], session: Session) -> int:
    """Say what went wrong, where the caller listens, and return the exit code."""
    code = failure_text.exit_code(exc)
    if isinstance(exc, BrokenPipeError):
        return code
    status = "failed"
    if isinstance(exc, NoInputFiles):
        status = "nothing"
        logging.getLogger("mrq.notes").info(exc)
        session.notes += (str(exc),)
    elif isinstance(exc, KeyboardInterrupt):
        status = "interrupted"
        by = "Ctrl-C" if code == 130 else str(exc).removeprefix("stopped by ")
        unchanged = session.output if session.engine == "embedded" else None
        fate = session.fate or (f"{unchanged} is as it was before" if unchanged else "")
        _LOG.error(f"interrupted by {by}" + (f"; {fate}" if fate else ""))
    elif isinstance(exc, MrqError):
        status = "refused" if isinstance(exc, UsageError) else "failed"
        job = session.job and session.job + session.where
        failure_text.print_error(exc, job=job, remote=session.engine == "cluster")
    else:
        failure_text.print_bug(exc)
    if "--json" in argv:
        from mrq.cli.objects import Failure, JsonAnswer

        kind = "Interrupted" if isinstance(exc, Stopped) else type(exc).__name__
        attempts = tuple(failure_text.reports_of(exc))
        failure = Failure(type=kind, message=in_flags(str(exc)), attempts=attempts) if code else None
        with contextlib.suppress(BrokenPipeError, OperatorError):
            session.answer(JsonAnswer, status, code, error=failure)
    return code
