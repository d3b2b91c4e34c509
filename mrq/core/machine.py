"""The leader: events in, commands out.

One `handle` call takes one event through the rules and then hands out what has become possible. The
rules live in neighbouring modules over one `State`; what is legal is the table in `core.transitions`;
what is charged, the one in `core.failures`. Late, doubled and reordered events are recognised by
ticket and token, and change nothing. No rule looks at all tasks or all workers, but
for those that have to name all winners (the commit) or undo a whole job.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from mrq.core import (
    admission,
    attempt_rules,
    disks,
    inform,
    lifecycle,
    liveness,
    persistence,
    scheduler,
    stragglers,
)
from mrq.core import commands as c
from mrq.core import events as e
from mrq.core import machine_state as ms
from mrq.core.info import JobInfo, TaskInfo
from mrq.core.jobs import Passed
from mrq.core.machine_config import MachineConfig, ReduceStart
from mrq.core.model import JobState, StageSpec, TaskResult
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_api import StoredJob, StoredWorker
from mrq.core.store_rows import plan_key, task_key
from mrq.core.tasks import COMPLETED

if TYPE_CHECKING:
    from mrq.core.worker_info import WorkerInfo

__all__ = ["JobInfo", "Machine", "MachineConfig", "ReduceStart", "TaskInfo"]

_RULES: Final[dict[type, Callable[[ms.State, Any], None]]] = {
    e.JobSubmitted: lifecycle.on_submitted,
    e.JobReopened: lifecycle.on_reopened,
    e.BeatReceived: liveness.on_beat,
    e.WorkerLeft: liveness.on_left,
    e.WorkerDialled: admission.on_dialled,
    e.AttemptClaimed: attempt_rules.on_claimed,
    e.AttemptReported: attempt_rules.on_reported,
    e.StagePlanned: lifecycle.on_planned,
    e.PartsLost: lifecycle.on_parts_lost,
    e.OutputMissing: lifecycle.on_missing,
    e.MessageDied: attempt_rules.on_message_died,
    e.CommitEnded: lifecycle.on_commit_ended,
    e.CancelRequested: lifecycle.on_cancel,
    e.JobBroken: lifecycle.on_broken,
    e.RetryRequested: lifecycle.on_retry,
    e.DrainRequested: liveness.on_drain,
    e.QuarantineRequested: liveness.on_quarantine,
    e.ReadmitRequested: liveness.on_readmit,
    e.ForgetRequested: lifecycle.on_forget,
    e.Restored: lifecycle.on_restored,
    e.StoreLost: lifecycle.on_store_lost,
}


_TASK_TIMERS: Final[dict[str, Callable[[ms.State, TaskRef, int], None]]] = {
    ms.READY: scheduler.ready_due,
    ms.OFFER: scheduler.offer_due,
    ms.REPUBLISH: scheduler.message_due,
}


class Machine:
    """The leader's decisions. Not thread-safe: one loop owns it."""

    def __init__(self, config: MachineConfig | None = None, *, wall: float = 0.0) -> None:
        """`wall` is what makes seconds since the epoch of the caller's clock, for records and for people."""
        self._state = ms.State(config or MachineConfig())
        self._state.wall = wall
        self._begun = False

    def handle(self, event: e.Event, now: float, *, more: bool = False) -> list[c.Command]:
        """Take one event; what is to be done about it, in order. Where there is `more` to come at once, what
        can be handed out is looked for after the last. Raises IllegalTransition for a bug."""
        state = self._state
        self._clock(now)
        state.out = []
        state.filling.clear()
        try:
            if isinstance(event, e.Ticked):
                self._tick()
            else:
                _RULES[type(event)](state, event)
            if not more:
                scheduler.fill(state)
            state.workers.note(state.now)
        finally:
            state.promised = state.due()
        return state.out

    def next_tick(self, now: float) -> float:
        """When `Ticked` is wanted, on the caller's clock; infinity when nothing is waited for."""
        return self._state.due() + self._state.shift

    def records(self, made: Iterable[c.Command]) -> dict[str, bytes]:
        """What is to be stored with these writes of a job (see `core.persistence`), by key: all that is known
        of each task, unless its stage is complete by now, and the plans among them."""
        found: dict[str, bytes] = {}
        for each in made:
            match each:
                case c.WritePlan():
                    found[plan_key(each.stage)] = persistence.plan_record(each.plan)
                case c.WriteTask() | c.WriteLocation():
                    task = each.task if isinstance(each, c.WriteTask) else each.location.attempt.task
                    key = task_key(task)
                    if key not in found and (record := self.record(task)) is not None:
                        found[key] = record
        return found

    def record(self, task: TaskRef) -> bytes | None:
        """All that is known of a task; None once its stage is complete."""
        found = self._state.jobs[task.job]
        table = found.table_of(task)
        return None if table is None else persistence.task_record(self._state, found, table, task.index)

    def job_record(self, job: str) -> bytes:
        """What is known of a job beyond its tasks: to be stored whenever it has changed."""
        return persistence.job_record(self._state, self._state.jobs[job])

    def adopt_workers(self, stored: Iterable[StoredWorker], now: float) -> None:
        """Take the workers that a store knows; before any job."""
        self._clock(now)
        persistence.adopt_workers(self._state, stored)
        self._state.workers.note(self._state.now)

    def adopt(self, stored: StoredJob, now: float) -> bool:
        """Take a job from a predecessor's records. False where there are none yet: submit it. After all of
        them comes `Restored`, then what each has recorded. Raises CorruptFileError."""
        self._clock(now)
        return persistence.adopt(self._state, stored)

    def job(self, job: str, now: float | None = None) -> JobInfo | None:
        """A job as people see it, its tasks not listed; None when it isn't known. Costs what runs, not what
        there is. `now` is the caller's clock, as of the other questions; without it: of the last event."""
        found = self._state.jobs.get(job)
        return None if found is None else inform.job_info(self._state, found, self._own(now))

    def knows(self, job: str) -> bool:
        """Whether there is such a job."""
        return job in self._state.jobs

    def state(self, job: str) -> JobState | None:
        """How far a job is; None when it isn't known."""
        found = self._state.jobs.get(job)
        return None if found is None else found.state

    def jobs(self) -> list[str]:
        """The ids of all jobs that are known, in order of submission."""
        return list(self._state.jobs)

    def tasks(self, job: str) -> Iterator[TaskInfo]:
        """Every task of the stage that a job is at, maps first; nothing for an unknown job."""
        found = self._state.jobs.get(job)
        return iter(()) if found is None else inform.task_infos(self._state, found)

    def completed(self, job: str) -> Iterator[tuple[AttemptRef, TaskResult]]:
        """Completed tasks of the stage that a job is at, maps first: whose result is taken, and that."""
        found = self._state.jobs.get(job)
        for table in found.tables if found is not None else ():
            for index, code in enumerate(table.state):
                winner, result = table.winner(index), table.result(index) if code == COMPLETED else None
                if winner is not None and result is not None:
                    yield winner, result

    def results(self, job: str) -> dict[TaskRef, TaskResult]:
        """What the completed tasks of the stage that a job is at made."""
        return {winner.task: result for winner, result in self.completed(job)}

    def stage(self, job: str) -> StageSpec | None:
        """The stage that a job is at, with its plan; None for an unknown job."""
        found = self._state.jobs.get(job)
        return None if found is None else found.stage

    def number(self, job: str) -> int | None:
        """Of the run of that stage."""
        found = self._state.jobs.get(job)
        return None if found is None else found.number

    def passed(self, job: str) -> tuple[Passed, ...]:
        """A job's stages of work that are complete."""
        found = self._state.jobs.get(job)
        return () if found is None else found.passed

    def workers(
        self, now: float | None = None, *, whole: bool = False, everybody: bool = True
    ) -> list[WorkerInfo]:
        """All workers that are known, dead ones for an hour, or only those that a list shows; as a `whole`
        with what each runs and serves, which costs what there is."""
        from mrq.core import standing

        state, at = self._state, self._own(now)
        known = list(state.workers.all.values())
        if not everybody:
            known = standing.listed(known, now=at, config=state.config)
        make = standing.whole_worker_info if whole else standing.worker_info
        return [make(state, w, at) for w in known]

    def boots(self) -> list[tuple[str, str]]:
        """All workers that are known, each with its boot."""
        return [(w.worker, w.boot) for w in self._state.workers.all.values()]

    def _own(self, now: float | None) -> float:
        """The machine's own time of the caller's."""
        return self._state.now if now is None else now - self._state.shift

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
            _, _, what, about, first, second = heapq.heappop(state.timers)
            if isinstance(about, TaskRef):
                _TASK_TIMERS[what](state, about, first)
            elif what == ms.BEAT:
                liveness.check_beats(state, about)
            elif what == ms.FORGET:
                liveness.forget(state, about)
            elif what == ms.DIAL:
                admission.dial_due(state, about, first)
            elif what == ms.STRAGGLERS[Kind.MAP]:
                stragglers.stragglers_due(state, about, Kind.MAP)
            elif what == ms.STRAGGLERS[Kind.REDUCE]:
                stragglers.stragglers_due(state, about, Kind.REDUCE)
            elif what == ms.FIT:
                scheduler.fit_due(state)
            elif what == ms.DISKS:
                disks.disks_due(state, first, second)
            elif what == ms.STALL:
                scheduler.stall_due(state, about)
        scheduler.unclaimed_due(state)
