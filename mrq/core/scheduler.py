"""What is handed out next: windows, fairness between jobs, slots of each kind, offers."""

from __future__ import annotations

from typing import Final

from mrq.core import alone
from mrq.core.disks import map_takers
from mrq.core.jobs import LeaderJob
from mrq.core.machine_config import ReduceStart
from mrq.core.machine_state import READY, STALL, State, queued
from mrq.core.model import JobState, Role
from mrq.core.orders import Offer
from mrq.core.placement import is_offered, look_later, next_taker, others_take, takers
from mrq.core.refs import Kind, TaskRef
from mrq.core.shuffle_rules import idle_maps
from mrq.core.task_transitions import (
    arm,
    arm_offer,
    end_role,
    issue,
    message,
    publish,
    settled,
    take_back,
    together,
)
from mrq.core.tasks import COMPLETED, IDLE, QUEUED, RUNNING, InProgress, TaskTable
from mrq.core.worker_table import Worker

#: A task waits so often, so long, for a free worker that it needn't avoid.
_AVOID_WAITS: Final = 5
_AVOID_WAIT_S: Final = 1.0
#: The rate of claims is counted over so long, or longer.
_RATE_S: Final = 0.25


def fill(state: State) -> None:
    """Hand out tasks until each kind's window is full, maps first, short ones a message at a time."""
    alone.look_over(state)
    look_later(state)
    for kind in (Kind.MAP, Kind.REDUCE):
        if not state.totals[kind][IDLE]:
            continue
        most = window(state, kind)
        room = most - queued(state, kind)
        while room > 0:
            job = choose(state, kind)
            if job is None:
                break
            size = together(state, job, kind)
            if room < min(size, most // 4):
                break  # enough is on its way: the next message is worth waiting for
            for _ in range(min(size, room)):
                table = job.table(kind)
                room -= hand_out(state, job, table, table.take())
                if not eligible(state, job, kind):
                    break


def fit_due(state: State) -> None:
    """Workers came or went: what not every worker may run (any more) isn't left on the queue, nor with a
    worker that can't claim it any more. Nothing is charged."""
    state.fit_due, state.fitted_at = False, state.workers.changes
    for job in state.active.values():
        for kind in Kind:
            if takers(state, job, kind) is None:
                continue
            table = job.table(kind)
            for index in [i for i in table.flights if table.state[i] == QUEUED]:
                if not is_offered(state, job, kind, index):
                    take_back(state, table, index, "not every worker may run it")


def window(state: State, kind: Kind) -> int:
    """Tasks to have published and unclaimed: the free slots, and what is claimed in a round trip.

    No more than that, so that priority, fairness and cancel are decided as late as possible.
    """
    config = state.config
    ahead = max(state.workers.capacity[kind], int(2 * state.rate[kind] * config.round_trip_s))
    return state.workers.free_slots(kind) + min(max(ahead, config.window_min), config.window_max)


def choose(state: State, kind: Kind) -> LeaderJob | None:
    """The job with the least in progress for its weight, among those that may go on."""
    best, least = None, 0.0
    for job in state.active.values():
        if not eligible(state, job, kind):
            continue
        share = (job.maps.in_progress + job.reduces.in_progress) / weight(job.spec.priority)
        if best is None or share < least:
            best, least = job, share
    return best


def weight(priority: int) -> float:
    """Each step of priority doubles a job's share; beyond ten steps nothing changes."""
    clamped: float = 2.0 ** max(-10, min(10, priority))
    return clamped


def eligible(state: State, job: LeaderJob, kind: Kind) -> bool:
    """May a task of the kind be handed out now, and is there somebody to run it?"""
    if not _may_begin(state, job, kind):
        return False
    among = takers(state, job, kind)
    return among is None or next_taker(state, job, kind, among) is not None


def _may_begin(state: State, job: LeaderJob, kind: Kind) -> bool:
    table = job.table(kind)
    if not table.counts[IDLE] or not table.ready():
        return False
    cap = job.spec.max_running
    if cap is not None and job.maps.in_progress + job.reduces.in_progress >= cap:
        return False
    if kind is Kind.MAP or job.maps.done:
        return True
    if state.config.reduce_start is ReduceStart.AFTER_MAPS or not job.maps.counts[COMPLETED]:
        return False
    if cap is not None and job.reduces.in_progress + 1 >= cap:
        return False  # a waiting reduce must leave room for the maps it waits for
    waiting = sum(j.reduces.in_progress for j in state.active.values() if not j.maps.done)
    among = takers(state, job, kind)
    slots = state.workers.capacity[kind] if among is None else sum(w.slots.reduce for w in among if w.takes)
    return waiting < int(slots * state.config.waiting_reduces_share)


def hand_out(state: State, job: LeaderJob, table: TaskTable, index: int) -> bool:
    """Publish a task, or offer it where not every worker may have it. False: it waits a little."""
    if alone.is_wanted(state, table, index):
        return _hand_out_alone(state, job, table, index)
    among, worker = takers(state, job, table.kind), None
    trouble = table.trouble.get(index)
    if trouble is not None and trouble.avoid and others_take(state, job, table.kind, trouble.avoid):
        worker = state.workers.pick(table.kind, trouble.avoid, among)
        if worker is None and trouble.waits < _AVOID_WAITS:
            trouble.waits += 1
            _wait(state, table, index)
            return False
    if worker is None and among is not None:
        worker = next_taker(state, job, table.kind, among)
    if table.kind is Kind.REDUCE and not job.maps.done:
        arm(state, job, STALL, state.config.stall_after_s)
    if worker is not None:
        _queue(state, job, table, index, "offered").offered_to = worker.worker
        if among is not None:
            worker.offers[table.task(index)] = table.ticket[index]
        offer(state, job, table, index, Role.PRIMARY, worker, None)
        return True
    _queue(state, job, table, index, "published")
    publish(state, job, table, index)
    return True


def _hand_out_alone(state: State, job: LeaderJob, table: TaskTable, index: int) -> bool:
    """Offer a task to a worker that is to run nothing else beside it. False: it waits a little."""
    worker = alone.worker_for(state, job, table, index)
    if worker is None:
        _wait(state, table, index)
        return False
    flight = _queue(state, job, table, index, "offered, to run alone")
    flight.offered_to, flight.alone = worker.worker, True
    alone.keep(state, worker, table, index)
    offer(state, job, table, index, Role.PRIMARY, worker, None)
    return True


def _wait(state: State, table: TaskTable, index: int) -> None:
    """An idle task may be handed out again after a while."""
    state.timer(_AVOID_WAIT_S, READY, table.task(index), table.ticket[index])


def _queue(state: State, job: LeaderJob, table: TaskTable, index: int, why: str) -> InProgress:
    if job.state is JobState.PENDING:
        job.move(JobState.RUNNING, "first task handed out")
        job.started_at = state.now
        state.write_job(job)
    table.move(index, QUEUED, why)
    flight = table.flights[index] = InProgress(primary_ticket=issue(table, index))
    table.queued_at[index] = table.updated_at[index] = state.now
    state.write_task(table, index)
    return flight


def offer(
    state: State,
    job: LeaderJob,
    table: TaskTable,
    index: int,
    role: Role,
    worker: Worker,
    not_worker: str | None,
) -> None:
    """Ask one worker to claim, in its beat's reply; looked at again if it doesn't."""
    flight = table.flights[index]
    ticket = flight.primary_ticket if role is Role.PRIMARY else flight.backup_ticket
    state.give(worker, Offer(message=message(job, table, index, ticket, not_worker)), table.job)
    arm_offer(state, table, index, role)


def offer_due(state: State, task: TaskRef, ticket: int) -> None:
    """An offer should have been claimed by now: hand the task out anew, or take the backup's ticket back."""
    found, index = state.in_flight(task), task.index
    if found is None or found[2].role_of(ticket) is None:
        return
    job, table, flight = found
    if ticket == flight.backup_ticket:
        if flight.backup is None and flight.backup_offered_to is not None:
            end_role(state, table, index, Role.BACKUP)
    elif table.state[index] == QUEUED and flight.offered_to is not None:
        worker = state.workers.all.get(flight.offered_to)
        if flight.alone and worker is not None and alone.waits(state, job, worker, table, index):
            alone.clear(state, worker)
            offer(state, job, table, index, Role.PRIMARY, worker, None)
        elif flight.alone:
            take_back(state, table, index, f"{flight.offered_to} didn't claim it")
        elif takers(state, job, table.kind) is None:
            flight.offered_to = None
            _republish(state, job, table, index, flight)
        else:
            take_back(state, table, index, f"{flight.offered_to} didn't claim it")


def _republish(state: State, job: LeaderJob, table: TaskTable, index: int, flight: InProgress) -> None:
    """Another message for the same ticket; after some of them, a new ticket."""
    if flight.publishes >= state.config.republish_max:
        take_back(state, table, index, "nobody claimed it, though there were free slots")
        return
    publish(state, job, table, index)


def message_due(state: State, task: TaskRef, ticket: int) -> None:
    """The wait after a returned message is over."""
    found, index = state.in_flight(task), task.index
    if found is None or found[2].role_of(ticket) is None:
        return
    job, table, flight = found
    if table.state[index] == QUEUED and flight.offered_to is None:
        publish(state, job, table, index)


def unclaimed_due(state: State) -> None:
    """Messages that nobody claimed for long: published again where slots are free."""
    for kind, unclaimed in state.unclaimed.items():
        while unclaimed and unclaimed[0][0] <= state.now:
            _, task, ticket, published = unclaimed.popleft()
            if settled(state, task, ticket, published):
                continue
            job = state.jobs[task.job]
            table = job.table(kind)
            if state.workers.free_slots(kind) > 0:
                _republish(state, job, table, task.index, table.flights[task.index])
            else:
                due = state.now + state.config.republish_after_s
                unclaimed.append((due, task, ticket, published))


def ready_due(state: State, task: TaskRef, ticket: int) -> None:
    """A backoff is over."""
    job = state.jobs.get(task.job)
    table = job.table_of(task) if job is not None and job.active else None
    if table is not None and table.state[task.index] == IDLE and table.ticket[task.index] == ticket:
        table.give(task.index)


def stall_due(state: State, name: str) -> None:
    """Maps that wait for slots that waiting reduces hold get one back: no deadlock."""
    job = state.jobs.get(name)
    if job is None:
        return
    job.timers.discard(STALL)
    if not job.active or job.maps.done:
        return
    arm(state, job, STALL, state.config.stall_after_s)
    if not idle_maps(job.maps) or job.maps.counts[RUNNING]:
        return
    waiting = [i for i in reversed(job.reduces.running) if job.reduces.flights[i].fetches]
    able = map_takers(state, job)
    if able and not _capped(job):
        if any(worker.free(Kind.MAP) or worker.used_map for worker in able.values()):
            return  # a slot is free, or another job's maps hold it: those will end
        attempts = {i: job.reduces.flights[i].attempts() for i in waiting}
        waiting = [i for i in waiting if any(attempt.worker in able for attempt in attempts[i])]
    # Where no disk has room, the reduce may hold the slot that a job waits for which would make some.
    if waiting:
        take_back(state, job.reduces, waiting[0], "a map needs its slot")


def _capped(job: LeaderJob) -> bool:
    """Do a job's maps wait for its waiting reduces under its own bound of what runs at once?"""
    cap = job.spec.max_running
    full = cap is not None and job.maps.in_progress + job.reduces.in_progress >= cap
    return full and not job.maps.counts[QUEUED]


def note_rate(state: State) -> None:
    """Claims a second; a rise counts at once, a fall is smoothed over a few seconds."""
    passed = state.now - state.rate_from
    if passed < _RATE_S:
        return
    for kind in Kind:
        lately, keep = state.rate_count[kind] / passed, 0.5**passed
        state.rate[kind] = max(lately, keep * state.rate[kind] + (1 - keep) * lately)
        state.rate_count[kind] = 0
    state.rate_from = state.now
