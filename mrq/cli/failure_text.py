"""How a failure is told: what happened, the user's own frames, the record, the log, and what to do next."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mrq import errors as tree
from mrq.cli import units
from mrq.cli.console import shown
from mrq.cli.wording import in_flags
from mrq.core.paths import named
from mrq.errors import CorruptFileError, InternalError, Interrupted, NoAnswerError, NoInputFiles, UsageError

if TYPE_CHECKING:
    from mrq.core.model import ErrorReport

_LOG: Final = logging.getLogger(__name__)

#: Lines of a failed attempt's log that are printed; the path leads to the rest.
LOG_LINES: Final = 10

#: Errors of the machine: which line of code met them says nothing.
_NOT_THE_CODE: Final = frozenset({"DiskFullError", "OperatorError"})

DONE: Final = 0
FAILED: Final = 1
WRONG_USE: Final = 2
#: As of a program that SIGPIPE ended: whoever read standard output has gone.
BROKEN_PIPE: Final = 141


def exit_code(exc: BaseException) -> int:
    """2 for wrong use, 1 for every other failure; a signal's own for Stopped; 0 for nothing to do."""
    from mrq.cli.signals import Stopped

    if isinstance(exc, Stopped):
        return exc.exit_code
    if isinstance(exc, KeyboardInterrupt):
        return 130
    if isinstance(exc, BrokenPipeError):
        return BROKEN_PIPE
    if isinstance(exc, NoInputFiles):
        return DONE
    return WRONG_USE if isinstance(exc, UsageError) else FAILED


def print_error(exc: BaseException, *, job: str | None = None, remote: bool = False) -> None:
    """Print what is known of an error, the attempt that decided it first.

    `job` is what `mrq retry` could go on with; None: there is nothing to go on with. A `remote` job's logs
    lie where only its workers are: the command that fetches them is named, not the path.
    """
    reports = reports_of(exc)
    lines = shown(in_flags(str(exc)) or type(exc).__name__).splitlines() or [type(exc).__name__]
    if reports:
        logs = f"mrq logs {job}" if remote and job else None
        lines += report_lines(reports[-1], lines[0], logs=logs)
        if len(reports) > 1:
            where = f"shown by {logs}" if logs else "in the same folder"
            lines.append(f"  and {units.plural(len(reports) - 1, 'more failed attempt')}, {where}")
    step = next_step(exc, reports[-1] if reports else None, job)
    _LOG.error("error: " + "\n".join(lines if step is None else [*lines, step]))


def report_lines(report: ErrorReport, said: str = "", *, logs: str | None = None) -> list[str]:
    """An attempt's failure: frames, what was raised unless `said` has it, record, place, memory, log, which
    `logs` prints where its path says nothing here."""
    lines: list[str] = []
    if report.frames and report.type not in _NOT_THE_CODE:
        lines += ["  " + shown(line) for line in report.frames.rstrip("\n").splitlines()]
    # What is ours to say is said in flags; the user's own messages stay as they are.
    ours = hasattr(tree, report.type) or report.type == "ModuleNotFoundError"  # to which a hint is added
    message = in_flags(report.message) if ours else report.message
    what = f"{report.type}: {message}" if message else report.type
    if shown(what) not in said:
        lines += ["  " + line for line in shown(what).splitlines()]
    if report.record is not None:
        lines.append(f"  record  {shown(report.record)}")
    if report.path is not None:
        at = f" at byte {report.offset:,}" if report.offset is not None else ""
        lines.append(f"  where   {shown(named(report.path))}{at}")
    if report.peak_rss_bytes:
        lines.append(f"  memory  {units.size(report.peak_rss_bytes)} at most")
    if report.log_path:
        tail = report.log_tail.rstrip("\n").splitlines()[-LOG_LINES:]
        lines.append(f"  log     {logs or shown(report.log_path)}" + (", which ends with" if tail else ""))
        lines += [f"          | {shown(line)}" for line in tail]
    return lines


def print_bug(exc: BaseException) -> None:
    """An exception that nobody foresaw: ours to mend."""
    _LOG.error(
        "error: this is a bug in mrq, not in your job or data; please report it with the lines below",
        exc_info=exc,
    )


def reports_of(exc: BaseException) -> Sequence[ErrorReport]:
    """The attempts' failures that an error carries, as JobFailed does; none for others."""
    from mrq.core.model import ErrorReport

    found = getattr(exc, "errors", ())
    return (
        [each for each in found if isinstance(each, ErrorReport)] if isinstance(found, list | tuple) else []
    )


#: Errors of the machine, of an attempt's report.
_MACHINE: Final = frozenset({"DiskFullError", "OperatorError", "PeerUnreachableError"})
#: Of what the job's code gave or did, found by mrq: the same code does the same again.
_CODE: Final = frozenset(
    {"DataError", "JobError", "JobDefinitionError", "UsageError", "UsageTypeError", "UsageValueError"}
)
#: Of an input that is there and can't be read now; it may be once permissions or a disk are mended.
_UNREADABLE: Final = ("can't be read: ", "reading failed: ")
_SUBMIT: Final = "Mend the job's code and submit it again: a retry runs the code as it was."


def next_step(exc: BaseException, report: ErrorReport | None, job: str | None) -> str | None:
    """A sentence on what to do now; None where the error says all. `job` is what could be gone on with.

    A retry runs the stored code over the inputs as they were. So it helps where the cause lay outside of both
    and has gone: a full disk, a service, memory that others took. It can't where code or an input must change
    first.
    """
    if isinstance(exc, InternalError):
        return "This is a bug in mrq. Please report it with the lines above."
    if job is None or isinstance(exc, UsageError | Interrupted | NoAnswerError):
        return None
    if report is None and isinstance(exc, CorruptFileError):  # of what was kept of the job
        return None
    go_on = f"go on from what is done, with the same code and inputs: mrq retry {job}"
    if report is None and "is nondeterministic" in str(exc):
        return _SUBMIT
    if report is None or report.type in _MACHINE:
        return f"To {go_on}"
    if report.type == "InputError" or (report.type == "CorruptFileError" and report.path is not None):
        if any(words in report.message for words in _UNREADABLE):
            return f"Once it can be read, {go_on}"
        return "Mend that input or leave it out, and submit the job again: a retry takes inputs as they were."
    if report.type == "CorruptFileError":  # of what is kept of the job, or passes between its tasks
        return None if "submit again" in report.message else f"To {go_on}"
    leave_out = ""
    if report.path is not None and report.can_skip:
        leave_out = f"\nTo leave such records out instead: mrq retry {job} --skip-bad-records N"
    if report.type in _CODE:
        return _SUBMIT + leave_out
    if report.type.startswith(("killed by signal", "exit code")):
        return (
            "Mend the job's code and submit it again, or give it other memory: "
            f"mrq retry {job} --memory SIZE\n"
            f"If something outside the job ended it (a kill, memory that others took), {go_on}"
        )
    if report.type.startswith("no progress"):
        return (
            "Mend what hangs, or allow a longer silence (--progress-timeout), and submit the job again.\n"
            f"If it waited for something that is back, {go_on}"
        )
    return f"{_SUBMIT}{leave_out}\nIf the cause has gone by itself (a service, a file), {go_on}"
