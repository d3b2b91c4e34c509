"""Backup attempts near the end of a stage: who is a straggler, and who runs beside it."""

from __future__ import annotations

from mrq.core.alone import is_wanted
from mrq.core.jobs import LeaderJob
from mrq.core.lifecycle import arm_stragglers
from mrq.core.machine_state import STRAGGLERS, State
from mrq.core.model import Role
from mrq.core.placement import takers
from mrq.core.refs import Kind
from mrq.core.scheduler import offer
from mrq.core.task_transitions import issue
from mrq.core.tasks import COMPLETED, RUNNING, TaskTable


def stragglers_due(state: State, name: str, kind: Kind) -> None:
    """Look at the attempts of a stage that have run longest, while most of the stage is done."""
    job = state.jobs.get(name)
    if job is None:
        return
    job.timers.discard(STRAGGLERS[kind])
    table = job.table(kind)
    if not job.active or table.counts[COMPLETED] < state.config.backup_stage_done * len(table):
        return  # armed again by the next completion
    _back_up(state, job, table)
    arm_stragglers(state, job, table)


def _back_up(state: State, job: LeaderJob, table: TaskTable) -> None:
    config = state.config
    limit = max(config.backup_min_s, config.backup_slowness * job.durations[table.kind].median)
    allowed = max(1, int(config.backup_share * table.counts[RUNNING])) - table.backed_up
    for index in table.running:
        if allowed <= 0 or state.now - table.started_at[index] < limit:
            return  # the rest was claimed later
        flight = table.flights[index]
        if flight.backup_ticket or flight.primary is None or flight.alone or is_wanted(state, table, index):
            continue
        if state.now - flight.primary.claimed_at < limit:
            continue
        if not _authorise(state, job, table, index):
            return
        allowed -= 1


def _authorise(state: State, job: LeaderJob, table: TaskTable, index: int) -> bool:
    """Offer a backup to a worker with a free slot. False: there is none now."""
    flight = table.flights[index]
    assert flight.primary is not None
    holder = flight.primary.worker
    same = state.config.backup_same_worker
    among = takers(state, job, table.kind)
    worker = state.workers.pick(table.kind, None if same else [holder], among)
    if worker is None:
        return False
    flight.backup_ticket = issue(table, index)
    flight.backup_offered_to = worker.worker
    job.backups += 1
    state.write_task(table, index)
    offer(state, job, table, index, Role.BACKUP, worker, None if same else holder)
    return True
