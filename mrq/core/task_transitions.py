"""The steps that rules are made of: attach and end attempts, take tasks back, end jobs."""

from __future__ import annotations

from mrq.core import commands as c
from mrq.core.jobs import LeaderJob
from mrq.core.machine_state import OFFER, READY, State
from mrq.core.model import AttemptState, JobState, MapLocation, Role, TaskMessage
from mrq.core.orders import DropJob, Kill
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.tasks import IDLE, QUEUED, RUNNING, InProgress, LiveAttempt, TaskTable, packed_bytes_out
from mrq.core.worker_table import Worker


def message(
    job: LeaderJob, table: TaskTable, index: int, ticket: int, not_worker: str | None = None
) -> TaskMessage:
    """What is published or offered for a task in progress."""
    flight = table.flights[index]
    trouble = table.trouble.get(index)
    return TaskMessage(
        task=table.task(index),
        ticket=ticket,
        not_worker=not_worker,
        careful=trouble is not None and trouble.careful,
        needs=job.needs,
        skip_bad_records=job.limits.skip_bad_records,
        alone=flight.alone,
        strict_order=job.strict_order,
        plan=job.plan_sum,
    )


def issue(table: TaskTable, index: int) -> int:
    """A new ticket for a task."""
    table.ticket[index] += 1
    return table.ticket[index]


def kill(state: State, worker: Worker | None, attempt: AttemptRef) -> None:
    """Order a worker to end an attempt; repeated at a later beat that still lists it."""
    if worker is None:
        return
    worker.killed[attempt.token] = worker.seq
    state.give(worker, Kill(token=attempt.token), attempt.task.job)


def attach(
    state: State, table: TaskTable, index: int, worker: Worker, attempt: AttemptRef, role: Role
) -> LiveAttempt:
    """A live ticket was claimed: the task runs."""
    flight = table.flights[index]
    made = LiveAttempt(
        ref=attempt,
        role=role,
        worker=worker.worker,
        boot=worker.boot,
        claimed_at=state.now,
        updated_at=state.now,
        floor=worker.seq + 1,
    )
    if table.state[index] != RUNNING:
        table.move(index, RUNNING, f"claimed by {worker.worker} as {attempt.token}")
        table.started_at[index] = state.now
        table.running[index] = None
    table.updated_at[index] = state.now
    flight.last_number = max(flight.last_number, attempt.number)
    if role is Role.PRIMARY:
        flight.primary, flight.offered_to = made, None
    else:
        flight.backup, flight.backup_offered_to = made, None
    state.workers.hold(worker, attempt.token, attempt.task)
    state.rate_count[table.kind] += 1
    return made


def detach(
    state: State, table: TaskTable, index: int, attempt: LiveAttempt, to: AttemptState, kill_it: bool
) -> None:
    """An attempt is over: its worker's slot is free again."""
    attempt.move(to)
    flight = table.flights[index]
    if flight.primary is attempt:
        flight.primary = None
    elif flight.backup is attempt:
        flight.backup = None
    worker = state.workers.all.get(attempt.worker)
    if worker is None or worker.boot != attempt.boot:
        return
    state.workers.release(worker, attempt.ref.token)
    if kill_it:
        kill(state, worker, attempt.ref)


def drop_flight(state: State, table: TaskTable, index: int) -> InProgress | None:
    """End all attempts of a task, claimed or offered."""
    flight = table.flights.get(index)
    if flight is None:
        return None
    for attempt in flight.attempts():
        detach(state, table, index, attempt, AttemptState.ENDED, kill_it=True)
    del table.flights[index]
    table.running.pop(index, None)
    return flight


def make_ready(state: State, table: TaskTable, index: int, delay: float = 0.0) -> None:
    """An idle task may be handed out, now or after a backoff."""
    if delay > 0:
        state.timer(delay, READY, table.task(index), table.ticket[index])
    else:
        table.give(index)


def publish(state: State, job: LeaderJob, table: TaskTable, index: int) -> None:
    """Publish a queued task with its primary ticket."""
    flight = table.flights[index]
    unclaimed = state.unclaimed[table.kind]
    for _ in range(2):  # what was claimed meanwhile leaves at the pace at which more comes
        if unclaimed and settled(state, *unclaimed[0][1:]):
            unclaimed.popleft()
    due = state.now + state.config.republish_after_s
    flight.publishes += 1
    unclaimed.append((due, table.task(index), flight.primary_ticket, flight.publishes))
    if flight.primary_ticket:  # else its backup was claimed as nobody led: what is recorded says more
        text = message(job, table, index, flight.primary_ticket)
        state.out.append(c.PublishTask(message=text, together=_travels_with(state, job, table, index)))


def together(state: State, job: LeaderJob, kind: Kind) -> int:
    """How many tasks one message names: as many as are soon done one after another, by those that are, but
    no more than a slot's share of all that wait."""
    results, seconds = job.took[kind]
    if not results:
        return 1
    counts = job.table(kind).counts
    share = -(-(counts[IDLE] + counts[QUEUED]) // max(1, state.workers.capacity[kind]))
    most = min(share, state.config.message_tasks_max)
    return max(1, min(most, int(state.config.message_s * results / max(seconds, 1e-9))))


def _travels_with(state: State, job: LeaderJob, table: TaskTable, index: int) -> int:
    """The number of the message that names a task. One with which something went wrong travels alone: where
    it takes others down nobody could say which it was."""
    if index in table.trouble:
        return 0
    number, room = state.filling.get((table.job, table.kind), (0, 0))
    if not room:
        number, room = state.next_serial(), together(state, job, table.kind)
    state.filling[table.job, table.kind] = number, room - 1
    return number


def settled(state: State, task: TaskRef, ticket: int, published: int) -> bool:
    """Was a message claimed, replaced by another, or is its job over?"""
    found = state.in_flight(task)
    if found is None or found[1].state[task.index] != QUEUED:
        return True
    flight = found[2]
    return (flight.primary_ticket, flight.publishes) != (ticket, published)


def take_back(state: State, table: TaskTable, index: int, why: str, delay: float = 0.0) -> None:
    """A task goes back to idle: its tickets end, and with them all its attempts."""
    drop_flight(state, table, index)
    table.move(index, IDLE, why)
    state.write_task(table, index)
    make_ready(state, table, index, delay)


def end_role(state: State, table: TaskTable, index: int, role: Role) -> None:
    """End one role beside a healthy one, with its ticket."""
    flight = table.flights[index]
    if role is Role.PRIMARY:
        flight.primary_ticket = 0
    else:
        flight.backup_ticket, flight.backup_offered_to = 0, None
    state.write_task(table, index)


def location(job: LeaderJob, index: int) -> MapLocation | None:
    """Where the accepted output of a map lies."""
    maps = job.maps
    winner, packed = maps.winner(index), maps.results[index]
    if winner is None or packed is None:
        return None
    worker, boot = job.boots[maps.boot[index]]
    return MapLocation(
        attempt=winner,
        worker=worker,
        boot=boot,
        digest=maps.digest[index],
        bytes=packed_bytes_out(packed),
    )


def write_location(state: State, job: LeaderJob, index: int, *, withdrawn: bool) -> None:
    """Tell the reducers that follow."""
    found = location(job, index)
    if found is not None:
        state.out.append(c.WriteLocation(location=found, withdrawn=withdrawn))


def stop_tasks(state: State, job: LeaderJob, why: str) -> None:
    """Take back all that is in progress: the job is over, or goes on without it."""
    for table in job.tables:
        for index in list(table.flights):
            take_back(state, table, index, why)


def end_job(state: State, job: LeaderJob, to: JobState, error: str | None) -> None:
    """The job is over: nothing of it runs any more."""
    stop_tasks(state, job, f"the job is {to.value}")
    job.move(to, error or "over")
    job.error = error
    job.finished_at = state.now
    state.active.pop(job.spec.job, None)
    state.write_job(job)
    if to is JobState.DONE:
        state.out.append(c.GiveAll(order=DropJob(job=job.spec.job)))
    state.out.append(c.EndJob(job=job.spec.job, state=to, error=error))


def fail_job(state: State, job: LeaderJob, error: str) -> None:
    """A bound was reached, or a check found an inconsistency."""
    end_job(state, job, JobState.FAILED, error)


def alive(state: State, worker: str, boot: str) -> bool:
    """Is it this boot of the worker that beats?"""
    found = state.workers.all.get(worker)
    return found is not None and found.boot == boot and found.live.value != "dead"


def arm_offer(state: State, table: TaskTable, index: int, role: Role) -> None:
    """Look at an offer again if nobody claims it."""
    flight = table.flights[index]
    ticket = flight.primary_ticket if role is Role.PRIMARY else flight.backup_ticket
    state.timer(state.config.offer_timeout_s, OFFER, table.task(index), ticket)


def arm(state: State, job: LeaderJob, what: str, delay: float) -> None:
    """Start a periodic look at a job, once."""
    if what not in job.timers:
        job.timers.add(what)
        state.timer(delay, what, job.spec.job)
