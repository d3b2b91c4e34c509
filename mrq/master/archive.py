"""Jobs that are over and that the machine has let go of: their rows, and their status from the store."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mrq.core import events as e
from mrq.core.jobs import JobView
from mrq.core.machine import Machine
from mrq.core.model import JobSpec, JobState
from mrq.core.rows import JobRow, StatusRow, job_row
from mrq.errors import CorruptFileError, OperatorError
from mrq.io.plan import sample_id
from mrq.master.views import status_of
from mrq.ports import LeaderState, StoredJob

#: Rows that are kept at most, whatever the time.
_ROWS_MAX: Final = 10_000


class Archive:
    """What is still known of jobs that are over; `keep_s` after their end they are gone."""

    def __init__(
        self, state: LeaderState, *, keep_s: float, now: Callable[[], float], epoch_s: float
    ) -> None:
        self._state = state
        self._keep_s = keep_s
        self._now = now
        self._epoch_s = epoch_s
        self._rows: OrderedDict[str, JobRow] = OrderedDict()
        self._unread: dict[str, tuple[JobSpec, JobView]] = {}  #: of jobs whose records can't be read

    def add(self, spec: JobSpec, view: JobView | None) -> None:
        """A job is over. From any thread."""
        if view is not None:
            self._rows[spec.job] = job_row(spec, view, epoch_s=self._epoch_s)
            while len(self._rows) > _ROWS_MAX:
                self._rows.popitem(last=False)

    def give_up(self, spec: JobSpec, error: str) -> None:
        """A job that failed because its records can't be read: all that can be shown of it is that."""
        machine = Machine(wall=self._epoch_s)
        machine.handle(e.JobSubmitted(spec=spec), self._now())
        view = machine.job(spec.job)
        assert view is not None
        over = replace(view, state=JobState.FAILED, error=error, finished_at=self._now())
        spec = replace(spec, splits=())
        self._unread[spec.job] = spec, over
        self.add(spec, over)

    def expired(self, job: str) -> bool:
        """Was there such a job, whose records aren't kept any more? Raises OperatorError."""
        return self._state.expired(job)

    def there(self, job: str) -> bool:
        """Does the store know a job, or a sampling for one, of this id? Raises OperatorError."""
        return any(self._state.state(name) is not None for name in (job, sample_id(job)))

    def rows(self) -> list[JobRow]:
        """Of all jobs that are still kept, oldest first."""
        until = time.time() - self._keep_s
        return [row for row in list(self._rows.values()) if row["finished_at"] > until]

    def state(self, job: str) -> JobState | None:
        """How a job ended."""
        row = self._rows.get(job)
        return JobState(row["state"]) if row is not None else None

    def status(self, job: str, *, tasks: bool = False) -> StatusRow | None:
        """A job's last status, from what the store keeps; `tasks` as of `Views`. Raises OperatorError."""
        try:
            stored = self._state.load(job)
        except CorruptFileError as exc:
            raise OperatorError(f"job {job} can't be shown: {exc}") from exc
        machine = self.machine_of(stored) if stored is not None else None
        view = machine.job(job) if machine is not None else None
        if stored is None or machine is None or view is None:
            spec, view = self._unread.get(job, (None, None))
            if spec is None or view is None:
                return None
            return status_of(spec, view, [], epoch_s=self._epoch_s, now=self._now())
        listed = list(machine.tasks(job)) if tasks else []
        return status_of(stored.spec, view, listed, epoch_s=self._epoch_s, now=self._now())

    def machine_of(self, stored: StoredJob) -> Machine | None:
        """A machine that knows this job alone, to be looked at; None where nothing was recorded of it."""
        machine = Machine(wall=self._epoch_s)
        try:
            return machine if machine.adopt(stored, self._now()) else None
        except CorruptFileError:
            return None
