"""The command line as a whole: picks the command, turns what it raises into words and an exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mrq.cli import errors, flags
from mrq.cli.console import Console, print_json, shown, write_out
from mrq.cli.signals import Signals, Stopped
from mrq.cli.wording import in_flags
from mrq.errors import MrqError, NoInputFiles, OperatorError, UsageError

if TYPE_CHECKING:
    from mrq.cli.submit import Told
    from mrq.job.base import Job


#: Commands that take (parsed, console, signals, told): module and function, imported when asked for.
_COMMANDS: Final = {
    "retry": ("mrq.cli.retry", "retry"),
    "clean": ("mrq.cli.retry", "clean"),
    "jobs": ("mrq.cli.listing", "jobs"),
    "status": ("mrq.cli.listing", "status"),
    "wait": ("mrq.cli.remote", "wait"),
    "cancel": ("mrq.cli.remote", "cancel"),
    "logs": ("mrq.cli.logs", "logs"),
    "workers": ("mrq.cli.workers", "workers"),
    "config": ("mrq.cli.settings", "config"),
}


def run(argv: Sequence[str], *, job: type[Job] | None = None) -> int:
    """Run one command line and return its exit code. `job`: submit this class, all words are inputs."""
    from mrq.cli.submit import Told

    told = Told()
    console = Console()
    with Signals() as signals:
        try:
            try:
                return _dispatch(argv, job, console, signals, told)
            finally:
                console.end()
        except BaseException as exc:
            if isinstance(exc, SystemExit):
                raise
            with signals.noting():
                return _failed(exc, argv, console, told)


def _dispatch(
    argv: Sequence[str], job: type[Job] | None, console: Console, signals: Signals, told: Told
) -> int:
    """Find the command and run it."""
    if job is not None:
        return _submit(argv, job, console, signals, told)
    name, rest = (argv[0], argv[1:]) if argv else ("help", ())
    if name in ("-h", "--help"):
        name = "help"
    if name in ("-V", "--version", "version"):
        import mrq

        write_out(f"mrq {mrq.__version__}\n".encode())
        return errors.DONE
    if name == "submit":
        return _submit(rest, None, console, signals, told)
    parsed = flags.parse(flags.command(name).flags, rest, listed_by=f"mrq help {name}")
    if "help" in parsed.switches or name == "help":
        about = parsed.words[0] if name == "help" and parsed.words else None if name == "help" else name
        write_out(flags.help_text(about).encode())
        return errors.DONE
    console.quiet = "quiet" in parsed.switches
    if name in _COMMANDS:
        from importlib import import_module

        module, function = _COMMANDS[name]
        code: int = getattr(import_module(module), function)(parsed, console, signals, told)
        return code
    return _read(name, parsed)


def _submit(
    argv: Sequence[str], job: type[Job] | None, console: Console, signals: Signals, told: Told
) -> int:
    from mrq.cli import clusters
    from mrq.cli.options import submit_options
    from mrq.cli.submit import submit

    program = f"python {_script()}" if job is not None else "mrq submit"
    parsed = flags.parse(flags.SUBMIT_FLAGS, argv, listed_by=f"{program} --help")
    if "help" in parsed.switches:
        write_out(_submit_help(parsed, job, program).encode())
        return errors.DONE
    options = submit_options(parsed, with_ref=job is None)
    console.quiet = options.quiet
    if clusters.is_local(parsed):
        return submit(options, console, signals, told, job=job)
    from mrq.cli import remote

    return remote.submit(options, parsed, console, signals, told, job=job)


def _script() -> str:
    """The running program, as it was named: of `mrq.main` a job's own file."""
    import sys

    return sys.argv[0] or "job.py"


def _submit_help(parsed: flags.Parsed, job: type[Job] | None, program: str) -> str:
    """Of the job that is named, else of all. Raises JobDefinitionError for a JOB that is none."""
    if job is None and not parsed.words:
        return flags.help_text("submit")
    from mrq.cli.jobhelp import job_text

    if job is None:
        from mrq.cli.options import ref_of
        from mrq.job.load import load_job

        program = f"{program} {parsed.words[0]}"
        job = load_job(ref_of(list(parsed.words))).cls
    return job_text(job, program)


def _read(name: str, parsed: flags.Parsed) -> int:
    """`cat` and `show`."""
    from mrq.cli import cat

    if len(parsed.words) != 1:
        raise UsageError(f"mrq {name} takes one OUT; {len(parsed.words)} are given")
    if name == "cat":
        cat.cat(parsed.words[0])
    else:
        cat.show(parsed.words[0], json="json" in parsed.switches)
    return errors.DONE


def _failed(exc: BaseException, argv: Sequence[str], console: Console, told: Told) -> int:
    """Say what went wrong, where the caller listens, and return the exit code."""
    code = errors.exit_code(exc)
    if isinstance(exc, BrokenPipeError):
        return code
    status = "failed"
    if isinstance(exc, NoInputFiles):
        status = "nothing"
        console.line(f"note: {shown(in_flags(str(exc)))}")
        told.notes += (str(exc),)
    elif isinstance(exc, KeyboardInterrupt):
        status = "interrupted"
        by = "Ctrl-C" if code == 130 else str(exc).removeprefix("stopped by ")
        out = f"{told.output} is as it was before" if told.output and told.engine == "embedded" else ""
        fate = told.fate or out
        console.error(f"interrupted by {by}" + (f"; {fate}" if fate else ""))
    elif isinstance(exc, MrqError):
        status = "refused" if isinstance(exc, UsageError) else "failed"
        errors.print_error(
            console, exc, job=told.job and told.job + told.where, remote=told.engine == "cluster"
        )
    else:
        errors.print_bug(console, exc)
    if "--json" in argv:
        _print_failure(exc, status, code, told)
    return code


def _print_failure(exc: BaseException, status: str, code: int, told: Told) -> None:
    """The object of `--json` for what didn't work."""
    from mrq.cli.objects import Answer, Failure, head

    kind = "Interrupted" if isinstance(exc, Stopped) else type(exc).__name__
    attempts = tuple(errors.reports_of(exc))
    failure = Failure(type=kind, message=in_flags(str(exc)), attempts=attempts) if code else None
    with contextlib.suppress(BrokenPipeError, OperatorError):
        print_json(Answer(**head(told, status, code), error=failure))
