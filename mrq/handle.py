"""A job under way, as whoever started it holds it: wait, look, cancel, take the result."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from mrq.core.answers import error_of
from mrq.core.ending import JobEnd
from mrq.core.info import JobInfo
from mrq.core.model import JobState
from mrq.errors import Interrupted, MrqError, StillRunningError, UsageTypeError
from mrq.result import JobFailed, Result

_NOTES: Final = logging.getLogger("mrq.notes")


class Handle:
    """A job under way. Its methods may be called from any thread."""

    def __init__(
        self, job: str, *, cancel: Callable[[str], None], view: Callable[[str], JobInfo | None]
    ) -> None:
        self.job = job
        #: What the user should be told, beside how the job ended; one sentence each.
        self.notes: list[str] = []
        self._ask_cancel = cancel
        self._look = view
        self._over = threading.Event()
        self._last: JobInfo | None = None
        self._result: Result | None = None
        self._error: MrqError | None = None

    def done(self) -> bool:
        """Whether the job is over, well or not."""
        return self._over.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the job is over; False when the time ran out first. None waits as long as it takes."""
        if timeout_s is not None and (isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float)):
            raise UsageTypeError(f"timeout_s must be a number of seconds or None, not {timeout_s!r}")
        return self._over.wait(timeout_s)

    def result(self, timeout_s: float | None = None) -> Result:
        """The result, waited for. Raises JobFailed, Interrupted, OperatorError, or StillRunningError."""
        if not self.wait(timeout_s):
            raise StillRunningError(f"job {self.job} isn't over after {timeout_s} s")
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def cancel(self) -> None:
        """Ask for the job's end; `result` then raises Interrupted, unless the job commits already."""
        self._ask_cancel(self.job)

    def view(self) -> JobInfo | None:
        """The job as it is now (docs/json.md); one whose keys are sampled has a stage `sample` alone as long
        as that runs. None before there is anything to see."""
        return self._look(self.job) or self._last

    def status(self) -> JobState:
        """How far the job is: PENDING, RUNNING, COMMITTING; then DONE, FAILED or CANCELLED."""
        if self._over.is_set():
            if self._error is None:
                return JobState.DONE
            return JobState.CANCELLED if isinstance(self._error, Interrupted) else JobState.FAILED
        view = self.view()
        if view is None:
            return JobState.PENDING
        under_way = view.state in (JobState.PENDING, JobState.COMMITTING)
        return view.state if under_way else JobState.RUNNING

    def finish(self, result: Result | None, error: MrqError | None, last: JobInfo | None = None) -> None:
        """For the engine: tell whoever waits. Only the first call counts."""
        if not self._over.is_set():
            self._result, self._error = result, error
            self.seen(last)
            self._over.set()

    def note(self, text: str) -> None:
        """For the engine: tell the user a sentence."""
        self.notes.append(text)
        _NOTES.info("%s", text, extra={"job": self.job})

    def end(self, end: JobEnd, result_of: Callable[[JobEnd], Result]) -> None:
        """For the engine: tell whoever waits how the job ended; `result_of` makes the result of one that is
        done."""
        if end.state is JobState.DONE:
            self.finish(result_of(end), None, end.info)
        elif end.state is JobState.CANCELLED:
            self.finish(None, Interrupted(f"job {self.job} was cancelled"), end.info)
        elif end.error_type:
            self.finish(None, error_of(end.error_type, str(end.error)), end.info)
        else:
            told = end.info.errors if end.info is not None else ()
            errors = [each.error for each in told if each.error is not None]
            failed = JobFailed(end.error or "the job failed", job=self.job, errors=errors)
            self.finish(None, failed, end.info)

    def seen(self, last: JobInfo | None) -> None:
        """For the engine: what `view` shows once the machine has forgotten the job."""
        self._last = last or self._last
