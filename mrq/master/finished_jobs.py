"""Jobs that are over and that the machine has let go of: all in a list, and one by itself from the store."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from mrq.core import events as e
from mrq.core.info import JobInfo
from mrq.core.machine import Machine
from mrq.core.model import JobSpec, JobState
from mrq.core.store_api import StoredJob
from mrq.errors import CorruptFileError, OperatorError
from mrq.ports import LeaderState

#: Jobs that are kept at most, whatever the time.
_JOBS_MAX: Final = 10_000


@dataclass(eq=False, kw_only=True)
class FinishedJobs:
    """What is still known of jobs that are over; `keep_s` after their end they are gone."""

    store: LeaderState
    keep_s: float
    now: Callable[[], float]
    epoch_s: float
    _jobs: OrderedDict[str, JobInfo] = field(default_factory=OrderedDict, init=False)  #: as a list has them
    _unread: dict[str, JobInfo] = field(default_factory=dict, init=False)  #: whose records can't be read

    def add(self, info: JobInfo) -> None:
        """A job is over. From any thread."""
        if not self.keep_s:
            return
        self._jobs[info.job] = info.brief()
        while len(self._jobs) > _JOBS_MAX:
            self._jobs.popitem(last=False)

    def give_up(self, spec: JobSpec, state: JobState, error: str) -> None:
        """A job that is over, and whose records can't be read: all that can be shown of it is that."""
        machine = Machine(wall=self.epoch_s)
        machine.handle(e.JobSubmitted(spec=spec), self.now())
        info = machine.job(spec.job)
        assert info is not None
        over = replace(info, state=state, error=error, finished_at=self.now() + self.epoch_s)
        self._unread[over.job] = over
        self.add(over)

    def expired(self, job: str) -> bool:
        """Was there such a job, whose records aren't kept any more? Raises OperatorError."""
        return self.store.expired(job)

    def jobs(self) -> list[JobInfo]:
        """All jobs that are still kept, as a list has them, oldest first."""
        until = time.time() - self.keep_s
        return [info for info in list(self._jobs.values()) if info.finished_at > until]

    def state(self, job: str) -> JobState | None:
        """How a job ended."""
        info = self._jobs.get(job)
        return info.state if info is not None else None

    def status(self, job: str, *, tasks: bool = False) -> JobInfo | None:
        """A job as it was last, from what the store keeps, its tasks listed if asked; None where there is
        none. Raises OperatorError."""
        if job in self._unread:
            return self._unread[job]
        try:
            found = self.read(self.store.load(job))
        except CorruptFileError as exc:
            raise OperatorError(f"job {job} can't be shown: {exc}") from exc
        if found is None:
            return None
        machine, info = found
        return replace(info, tasks=tuple(machine.tasks(job))) if tasks else info

    def read(self, stored: StoredJob | None) -> tuple[Machine, JobInfo] | None:
        """A machine that knows this job alone, to be looked at, and the job; None where nothing was recorded
        of it. Raises CorruptFileError."""
        machine = Machine(wall=self.epoch_s)
        if stored is None or not machine.adopt(stored, self.now()):
            return None
        info = machine.job(stored.spec.job)
        return None if info is None else (machine, info)
