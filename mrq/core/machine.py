"""The leader: events in, commands out.

One `handle` call takes one event through the rules and then hands out what has become possible. The
rules live in neighbouring modules over one `State`; what is legal is the table in `core.transitions`;
what is charged, the one in `core.charges`. Late, doubled and reordered events are recognised by
(generation, role number, token) and change nothing. No rule looks at all tasks or all workers, but
for those that have to name all winners (the commit) or undo a whole job.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from mrq.core import attempts, disks, health, joining, lifecycle, records, scheduler, stragglers
from mrq.core import commands as c
from mrq.core import events as e
from mrq.core import machine_state as ms
from mrq.core.exchange import StoredJob, StoredWorker
from mrq.core.jobs import JobView, RunningView, StageView, TaskError, TaskView
from mrq.core.machine_config import MachineConfig, ReduceStart
from mrq.core.model import Kind, WorkerHealth
from mrq.core.restore import dump, restore
from mrq.core.workers import Worker, WorkerView

__all__ = [
    "JobView",
    "Machine",
    "MachineConfig",
    "ReduceStart",
    "RunningView",
    "StageView",
    "TaskError",
    "TaskView",
    "WorkerView",
]

_RULES: Final[dict[type, Callable[[ms.State, Any], None]]] = {
    e.JobSubmitted: lifecycle.on_submitted,
    e.BeatReceived: health.on_beat,
    e.WorkerLeft: health.on_left,
    e.WorkerReachable: joining.on_reachable,
    e.WorkerUnreachable: joining.on_unreachable,
    e.AttemptClaimed: attempts.on_claimed,
    e.AttemptReported: attempts.on_reported,
    e.OutputRecovered: lifecycle.on_recovered,
    e.OutputMissing: lifecycle.on_missing,
    e.MessageDied: attempts.on_message_died,
    e.CommitFinished: lifecycle.on_commit_finished,
    e.CommitFailed: lifecycle.on_commit_failed,
    e.CancelRequested: lifecycle.on_cancel,
    e.RetryRequested: lifecycle.on_retry,
    e.DrainRequested: health.on_drain,
    e.QuarantineRequested: health.on_quarantine,
    e.ReadmitRequested: health.on_readmit,
    e.ForgetRequested: lifecycle.on_forget,
    e.Restored: lifecycle.on_restored,
    e.StoreLost: lifecycle.on_store_lost,
}


class Machine:
    """The leader's decisions. Not thread-safe: one loop owns it."""

    def __init__(self, config: MachineConfig | None = None, *, wall: float = 0.0) -> None:
        """`wall` is what makes seconds since the epoch of the caller's clock, for the times in records."""
        self._state = ms.State(config or MachineConfig())
        self._state.wall = wall
        self._begun = False

    def handle(self, event: e.Event, now: float) -> list[c.Command]:
        """Take one event; what is to be done about it, in order. Raises IllegalTransition for a bug."""
        state = self._state
        self._clock(now)
        state.out = []
        try:
            if isinstance(event, e.Ticked):
                self._tick()
            else:
                _RULES[type(event)](state, event)
            scheduler.fill(state)
            state.workers.note(state.now)
        finally:
            state.promised = state.due()
        return state.out

    def next_tick(self, now: float) -> float:
        """When `Ticked` is wanted, on the caller's clock; infinity when nothing is waited for."""
        return self._state.due() + self._state.shift

    def save(self) -> bytes:
        """Everything, versioned: what `load` takes."""
        return dump(self._state)

    @classmethod
    def load(cls, data: bytes, now: float, config: MachineConfig | None = None) -> Machine:
        """The machine that was saved, as though no time had passed. Raises CorruptFileError.

        It goes on exactly as the saved one would. A new leader's first event is `Restored`.
        """
        machine = cls.__new__(cls)
        machine._state = restore(data, now, config)
        machine._begun = True
        return machine

    def record(self, job: str, kind: Kind, index: int) -> bytes:
        """All that is known of a task (see `core.records`): to be stored with each write of it."""
        found = self._state.jobs[job]
        return records.task_record(self._state, found, found.table(kind), index)

    def job_record(self, job: str) -> bytes:
        """What is known of a job beyond its tasks: to be stored whenever it has changed."""
        return records.job_record(self._state, self._state.jobs[job])

    def adopt_workers(self, stored: Iterable[StoredWorker], now: float) -> None:
        """Take the workers that a store knows; before any job."""
        self._clock(now)
        records.adopt_workers(self._state, stored)
        self._state.workers.note(self._state.now)

    def adopt(self, stored: StoredJob, now: float) -> bool:
        """Take a job from a predecessor's records. False where there are none yet: submit it. After all of
        them comes `Restored`, then what each has recorded. Raises CorruptFileError."""
        self._clock(now)
        return records.adopt(self._state, stored)

    def job(self, job: str) -> JobView | None:
        """A job as people see it; None when it isn't known. Costs what runs, not what there is."""
        found = self._state.jobs.get(job)
        return None if found is None else found.view(self._state.shift)

    def knows(self, job: str) -> bool:
        """Whether there is such a job; a view costs more."""
        return job in self._state.jobs

    def jobs(self) -> list[str]:
        """The ids of all jobs that are known, in order of submission."""
        return list(self._state.jobs)

    def tasks(self, job: str) -> Iterator[TaskView]:
        """Every task of a job, maps first; nothing for an unknown job."""
        found = self._state.jobs.get(job)
        return iter(()) if found is None else found.tasks(self._state.shift)

    def workers(self) -> list[WorkerView]:
        """All workers that are known, dead ones for an hour; `standing.listed` are those to show."""
        shift = self._state.shift
        return [
            WorkerView(
                worker=w.worker,
                boot=w.boot,
                health=w.health,
                last_beat=w.beat_at + shift,
                slots=w.slots,
                running=len(w.held),
                address=w.address,
                hints=dict(w.hints),
                strikes=len(w.strikes),
                about=dict(w.about),
                packages=w.packages,
                trouble=w.trouble,
                since=self._since(w),
                quarantine=w.quarantine,
                held=tuple(w.held.values()),
            )
            for w in self._state.workers.all.values()
        ]

    def _since(self, worker: Worker) -> float:
        """Since when it has its health, on the caller's clock: a quarantine outlasts boots and leaders."""
        if worker.health is WorkerHealth.QUARANTINED and worker.quarantine and worker.quarantine.at:
            return worker.quarantine.at - self._state.wall
        return worker.since + self._state.shift

    def _clock(self, now: float) -> None:
        """Time never runs back; a loop that slept through its tick was itself the outage."""
        state = self._state
        if not self._begun:
            self._begun = True
            state.now = state.rate_from = state.beats_from = now
        mine = max(now - state.shift, state.now)
        if mine > state.promised + state.config.late_tick_s:
            state.beats_from = mine
        state.now = state.history.now = mine

    def _tick(self) -> None:
        """All that is due."""
        state = self._state
        scheduler.note_rate(state)
        while state.timers and state.timers[0][0] <= state.now:
            _, _, what, who, kind, index, generation = heapq.heappop(state.timers)
            if what == ms.READY:
                scheduler.ready_due(state, who, Kind(kind), index, generation)
            elif what == ms.BEAT:
                health.check_beats(state, who)
            elif what == ms.FORGET:
                health.forget(state, who)
            elif what == ms.OFFER:
                scheduler.offer_due(state, who, kind, index, generation)
            elif what == ms.REPUBLISH:
                scheduler.message_due(state, who, Kind(kind), index, generation)
            elif what == ms.DIAL:
                joining.dial_due(state, who, index)
            elif what == ms.STRAGGLERS:
                stragglers.stragglers_due(state, who, Kind(kind))
            elif what == ms.FIT:
                scheduler.fit_due(state)
            elif what == ms.DISKS:
                disks.disks_due(state, index, generation)
            elif what == ms.STALL:
                scheduler.stall_due(state, who)
        scheduler.unclaimed_due(state)
