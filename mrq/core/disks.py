"""Workers whose disks are full take no maps. Where that is all of them, and nothing goes on that would make
room, waiting would be for ever: what is kept of jobs that are over goes first, then a job ends by name.

Looked at every few seconds while a worker says that it is full.
"""

from __future__ import annotations

from typing import Final

from mrq.core import commands as c
from mrq.core.jobs import LeaderJob
from mrq.core.machine_state import DISKS, State
from mrq.core.model import JobState
from mrq.core.orders import DropJob
from mrq.core.placement import takers
from mrq.core.refs import Kind
from mrq.core.shuffle_rules import lose_maps
from mrq.core.task_transitions import fail_job
from mrq.core.tasks import COMPLETED, RUNNING
from mrq.core.worker_table import Worker

#: Looks in a row that find nothing going on: then what jobs that are over have left is given up …
_GIVE_UP_LOOKS: Final = 2
#: … and then a job fails.
_FAIL_LOOKS: Final = 5
#: What a retry would go on with.
_KEPT: Final = frozenset({JobState.FAILED, JobState.CANCELLED})


def watch(state: State) -> None:
    """A worker is full: look from time to time."""
    if not state.disks_watched:
        state.disks_watched = True
        state.timer(state.config.disks_look_s, DISKS, "")


def disks_due(state: State, looks: int, before: int) -> None:
    """One look: `looks` before it found nothing going on, at `before` completions."""
    if not any(worker.full for worker in state.workers.all.values() if worker.takes):
        state.disks_watched = False
        return
    completions = sum(job.completions for job in state.active.values())
    stuck = _stuck(state)
    looks = looks + 1 if stuck and completions == before else 0
    if looks == _GIVE_UP_LOOKS:
        for job in [job for job in state.jobs.values() if job.state in _KEPT]:
            _give_up(state, job)
    elif looks >= _FAIL_LOOKS:
        looks = 0
        _fail(state, max(stuck, key=lambda job: job.maps.counts[COMPLETED]))
    state.timer(state.config.disks_look_s, DISKS, "", looks, completions)


def _stuck(state: State) -> list[LeaderJob]:
    """The jobs whose maps nobody takes for want of room; none while anything goes on that may make some."""
    making = state.totals[Kind.MAP][RUNNING] or any(job.maps.done for job in state.active.values())
    if making or any(job.state is JobState.COMMITTING for job in state.jobs.values()):
        return []
    return [job for job in state.active.values() if nobody_has_room(state, job)]


def nobody_has_room(state: State, job: LeaderJob) -> str:
    """What the first of those says that would take the job's maps, if all of them are full."""
    said = [worker.full for worker in _fitting(state, job)]
    return said[0] if said and all(said) else ""


def map_takers(state: State, job: LeaderJob) -> dict[str, Worker]:
    """The workers, by name, that take the job's maps as soon as they have a slot: they fit, and have room."""
    return {worker.worker: worker for worker in _fitting(state, job) if not worker.full}


def _fitting(state: State, job: LeaderJob) -> list[Worker]:
    """The workers that would take the job's maps if they had slots and room."""
    among = takers(state, job, Kind.MAP)
    workers = state.workers.all.values() if among is None else among
    return [worker for worker in workers if worker.takes and worker.own(Kind.MAP)]


def _give_up(state: State, job: LeaderJob) -> None:
    """What is left of a job that is over goes; going on with it runs its maps again."""
    kept = [index for index in range(len(job.maps)) if job.maps.state[index] == COMPLETED]
    if kept and job.shuffled:
        lose_maps(state, job, kept, "given up: workers' disks were full")
        state.out.append(c.GiveAll(order=DropJob(job=job.spec.job)))


def _fail(state: State, job: LeaderJob) -> None:
    """The one that keeps most; others may go on in its room."""
    why = nobody_has_room(state, job)
    fail_job(
        state,
        job,
        f"no worker takes more maps, for want of disk, and nothing goes on that would make room: {why}",
    )
    _give_up(state, job)
