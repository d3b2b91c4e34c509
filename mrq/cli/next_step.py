"""What to do after a failure: go on with `mrq retry` where that can help, else what does.

A retry runs the stored code over the inputs as they were. So it helps where the cause lay outside of both and
has gone: a full disk, a service, memory that others took. It can't where code or an input must change first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mrq.errors import CorruptFileError, InternalError, Interrupted, NoAnswerError, UsageError

if TYPE_CHECKING:
    from mrq.core.model import ErrorReport

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
    """A sentence on what to do now; None where the error says all. `job` is what could be gone on with."""
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
