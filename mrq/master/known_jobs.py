"""All jobs that a leadership knows: those that its machine has, and those that are over and still kept."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from mrq.core import events as e
from mrq.core.backoff import Retry
from mrq.core.info import JobInfo
from mrq.core.model import JobSpec, JobState
from mrq.errors import DiskFullError, OperatorError, UsageError
from mrq.master.finished_jobs import FinishedJobs
from mrq.master.loop import Master
from mrq.master.views import Views
from mrq.settings.checks import nearest

#: Between tries of a store that is away.
#: More names than this aren't listed in an error.
_NAMED: Final = 8
_BY_USER: Final = "cancelled by the user"


@dataclass(eq=False)
class KnownJobs:
    """One leadership's, for any thread; `taken` and `cancel` wait for the loop, so not for the loop's own."""

    master: Master
    views: Views
    archive: FinishedJobs
    stopping: threading.Event
    has_new: bool = field(default=False, init=False)  #: since somebody looked, and said so

    def knows(self, job: str) -> bool:
        """Is there a job of this id? Raises OperatorError."""
        return self.state(job) is not None or self.archive.store.state(job) is not None

    def take(self, spec: JobSpec, code: bytes) -> None:
        """Take a job; the store has it when this returns. Raises OperatorError when this leader is done."""
        retry = Retry()
        while True:
            try:
                self.master.submit(spec, code)
                break
            except DiskFullError:
                raise
            except OperatorError:  # away, or the answer was lost: the same again is the same
                if self.stopping.wait(retry.failed()):
                    raise
        self.has_new = True

    def taken(self) -> None:
        """Wait until the machine knows what was taken: whoever asks next is told of it."""
        with contextlib.suppress(OperatorError):  # the store has it: the next leader goes on
            self.master.settled()

    def take_back(self, job: str) -> None:
        """End a job that was just taken."""
        self.master.sink(e.CancelRequested(job=job, reason=_BY_USER))

    def cancel(self, job: str, reason: str) -> JobState | None:
        """End a job that is under way; how far it then is, None for one that nobody knows. Raises
        OperatorError."""
        if self.views.is_active(job):
            self.master.settle(e.CancelRequested(job=job, reason=reason))
        return self.state(job)

    def code(self, job: str) -> bytes:
        """The bundle of a job that is under way; b"" where it isn't known."""
        return self.master.code(job)

    def state(self, job: str) -> JobState | None:
        """How far a job is, or how it ended."""
        return self.views.state(job) or self.archive.state(job)

    def all(self) -> list[JobInfo]:
        """Every job as a list has it, oldest first."""
        found = {info.job: info for info in (*self.archive.jobs(), *self.views.jobs())}
        return list(found.values())

    def status(self, job: str, *, tasks: bool) -> JobInfo:
        """A job by itself, its tasks listed if asked. Raises UsageError for one that nobody knows."""
        found = self.views.status(job, tasks=tasks) or self.archive.status(job, tasks=tasks)
        if found is None:
            raise self.unknown(job)
        return found

    def failed(self, job: str) -> JobSpec | None:
        """A job that failed, to be gone on with; None where it goes on already. Raises UsageError for one
        that nobody knows, or that is over for good."""
        state = self.views.state(job)
        past = self.archive.state(job) if state is None else None
        if state is None and past is None:
            if self.archive.expired(job):
                raise UsageError(f"job {job} is over for longer than jobs are kept; submit it anew")
            raise self.unknown(job)
        if state in (JobState.DONE, JobState.CANCELLED):
            past = state  # and is forgotten in a moment
        if past is not None:
            raise UsageError(
                f"job {job} is {past.value}: there is nothing to go on with"
                + ("; submit it anew" if past is JobState.CANCELLED else "")
            )
        return self.master.spec(job) if state is JobState.FAILED else None

    def unknown(self, job: str) -> UsageError:
        """The refusal of a job that nobody knows, or knows any more."""
        if self.archive.expired(job):
            return UsageError(
                f"job {job} is over for longer than jobs are kept (--keep): nothing is known of it"
            )
        return nobody("job", job, {info.job for info in self.all()})


def nobody(what: str, name: str, known: Iterable[str]) -> UsageError:
    """The refusal of a name that isn't known, with the nearest that is."""
    from difflib import get_close_matches

    names = sorted(known)
    if len(names) > _NAMED and not get_close_matches(name, names, n=1, cutoff=0.5):
        return UsageError(f"there is no {what} {name!r}; of {len(names):,} others `mrq {what}s` has the list")
    if not names:
        return UsageError(f"there is no {what} {name!r}, and no other one is known")
    return UsageError(f"there is no {what} {name!r}{nearest(name, names)}")
