"""Claims and reports: which attempt is live, who won, and what the others are charged."""

from __future__ import annotations

from mrq.core import events as e
from mrq.core.alone import is_by_itself, is_wanted, note_beside, note_death, note_lost
from mrq.core.failures import CHARGES, avoid, charge, settle_blame
from mrq.core.jobs import LeaderJob
from mrq.core.lifecycle import arm_stragglers, begin_again, complete, lose_boot, settle
from mrq.core.machine_state import BEAT, REPUBLISH, State
from mrq.core.model import AttemptState, Outcome, Role, Status, WorkerHealth
from mrq.core.placement import others_take
from mrq.core.refs import Kind
from mrq.core.shuffle_rules import conserved, fetch_failed
from mrq.core.task_transitions import attach, detach, end_role, fail_job, kill, take_back
from mrq.core.tasks import QUEUED, InProgress, LiveAttempt, TaskTable
from mrq.core.worker_table import Worker

_Event = e.AttemptClaimed | e.AttemptReported


def find(state: State, event: _Event) -> tuple[LeaderJob, TaskTable, InProgress] | None:
    """The task of an attempt whose ticket is live. Else None."""
    found = state.in_flight(event.attempt.task)
    if found is None or not found[0].active or found[2].role_of(event.attempt.ticket) is None:
        return None
    return found


def on_claimed(state: State, event: e.AttemptClaimed) -> None:
    """A holder was recorded for a role."""
    found = find(state, event)
    if found is None:
        _kill_stale(state, event)
        return
    job, table, flight = found
    _hold(state, job, table, flight, event)


def _kill_stale(state: State, event: e.AttemptClaimed) -> None:
    """What was claimed is out of date: save the worker the time."""
    task = event.attempt.task
    job, worker = state.jobs.get(task.job), state.workers.all.get(event.worker)
    if job is None or worker is None or worker.boot != event.boot:
        return
    table = job.table_of(task)
    if table is not None and table.token[task.index] == event.attempt.token:
        return  # it has reported already: events change places
    if event.attempt.token not in worker.killed:
        kill(state, worker, event.attempt)


def _hold(
    state: State, job: LeaderJob, table: TaskTable, flight: InProgress, event: _Event
) -> LiveAttempt | None:
    """The attempt of a live claim or report, attached if it is news; None if it is out of date."""
    index, role = event.attempt.task.index, flight.role_of(event.attempt.ticket)
    assert role is not None
    holder = flight.held_as(role)
    if holder is not None:
        if holder.ref.token == event.attempt.token:
            return holder
        if event.attempt.number <= holder.ref.number:
            return None
        # The claim gave the ticket to another: the holder's worker is gone, or has a newer boot.
        detach(state, table, index, holder, AttemptState.ENDED, kill_it=True)
        note_lost(state, holder.worker, holder.boot)
        error = charge(state, job, table, index, holder, Status.WORKER_LOST, None, started=True)
        if error is not None:
            fail_job(state, job, error)
            return None
        if is_wanted(state, table, index):
            _not_beside_others(state, table, event, role)
            return None
        state.write_task(table, index)  # with what was charged
    # Boots are heard of in order by their beats alone: a boot that isn't the worker's is an older one, or
    # a newer one whose first beat got lost, and its next beat will tell.
    worker = state.worker(event.worker, event.boot)
    gone = worker.boot != event.boot or worker.live is WorkerHealth.DEAD
    made = attach(state, table, index, worker, event.attempt, role)
    if gone:
        state.workers.release(worker, event.attempt.token)
        made.boot = event.boot
        if isinstance(event, e.AttemptClaimed) or (table.kind is Kind.MAP and job.shuffled):
            # Nobody beats for it, and a map's output there can't be read.
            end_attempt(state, job, table, index, made, Outcome(status=Status.WORKER_LOST, started=False))
            return None
    arm_stragglers(state, job, table)
    return made


def _not_beside_others(state: State, table: TaskTable, event: _Event, role: Role) -> None:
    """The message of a task that is to run alone from now on was claimed once more, by a worker that runs
    others beside it."""
    index = event.attempt.task.index
    note_beside(table.troubled(index), event.worker, event.boot)
    kill(state, state.workers.all.get(event.worker), event.attempt)
    if table.flights[index].attempts():
        end_role(state, table, index, role)
    else:
        take_back(state, table, index, "it is to run alone")


def lose_worker(state: State, worker: Worker, status: Status) -> None:
    """A boot is gone: what it ran goes back to idle, and so do its completed maps if still needed."""
    alone = is_by_itself(state, worker)
    for token, task in list(worker.held.items()):
        found = state.in_flight(task)
        attempt = found[2].attempt(token) if found is not None else None
        if found is None or attempt is None:
            state.workers.release(worker, token)
            continue
        job, table, _ = found
        end_attempt(state, job, table, task.index, attempt, Outcome(status=status), alone=alone)
    for job in list(state.active.values()):
        lose_boot(state, job, worker.worker, worker.boot)
    worker.killed.clear()
    worker.offers.clear()


def reboot(state: State, worker: Worker, boot: str) -> None:
    """A worker came back as a new process: the newest boot wins."""
    state.workers.take_out(worker)
    worker.old_boots = [*worker.old_boots, worker.boot][-8:]
    was = worker.live
    if was is not WorkerHealth.DEAD:
        note_death(state, worker)
    worker.live = WorkerHealth.DEAD
    lose_worker(state, worker, Status.WORKER_LOST)
    worker.boot, worker.seq, worker.beat_at = boot, -1, state.now
    worker.live, worker.draining = WorkerHealth.ALIVE, False
    worker.address, worker.reached, worker.released = "", True, False
    worker.trouble = worker.refused = ""
    if was is WorkerHealth.DEAD:
        state.timer(state.config.suspect_after_s, BEAT, worker.worker)
    state.workers.put_in(worker)


def on_reported(state: State, event: e.AttemptReported) -> None:
    """An outcome was recorded; of a dead attempt it changes nothing."""
    found = find(state, event)
    if found is None:
        return
    job, table, flight = found
    attempt = _hold(state, job, table, flight, event)
    if attempt is None:
        return
    if event.outcome.status is Status.DONE and event.outcome.result is not None:
        _done(state, job, table, event, attempt)
    else:
        end_attempt(state, job, table, event.attempt.task.index, attempt, event.outcome)


def _done(
    state: State, job: LeaderJob, table: TaskTable, event: e.AttemptReported, attempt: LiveAttempt
) -> None:
    """First to finish wins; the other attempt is killed."""
    result, index = event.outcome.result, event.attempt.task.index
    assert result is not None
    if table.kind is Kind.REDUCE and not conserved(job, result):
        _not_conserved(state, job, table, index, attempt)
        return
    detach(state, table, index, attempt, AttemptState.REPORTED, kill_it=False)
    job.durations[table.kind].add(state.now - attempt.claimed_at)
    settle_blame(state, table, index, event.worker)
    boot = job.boot(event.worker, event.boot)
    error = complete(state, job, table, index, event.attempt, boot, result)
    if error is None:
        arm_stragglers(state, job, table)
    settle(state, job, error)


def _not_conserved(state: State, job: LeaderJob, table: TaskTable, index: int, attempt: LiveAttempt) -> None:
    """A reduce consumed something else than the accepted outputs: the job fails, but after a takeover, or
    where maps leave out records that they gave before, the reduce runs again, and nothing is charged.

    What it read may have been accepted by a leader whose store fell back before a successor loaded it. Seed
    92425: the outputs of two maps are accepted and located, and a reduce that runs already reads them. The
    store goes away, and comes back at a moment before both. The one leader that has their digests can't renew
    its lease meanwhile, and stands down before it sees that the store is behind; so nobody restores it, and
    no ticket is ended. To the successor these maps were never completed. The reduce's claim, which is
    older, still stands, and its worker beats for it: it reads the remaining maps and reports, before one of
    those two is done again, or when it is and came out differently.

    Of a worker that still follows the forgotten outputs this is true of reduces that begin later, too; so
    any reduce of such a job is tried again, later each time, within the bound of all that is uncharged.
    Likewise where a map's output was sent back and came out differently: the older one may still lie with
    its worker, to be read by whoever hasn't heard of it.
    """
    if job.adopted or job.strict_order:
        end_attempt(state, job, table, index, attempt, Outcome(status=Status.UNLISTED))
        return
    fail_job(
        state,
        job,
        f"conservation: {table.task(index)} didn't consume exactly one accepted output of "
        "each map; nothing was committed. This is a damaged disk or a bug in mrq: please report it",
    )


def end_attempt(
    state: State,
    job: LeaderJob,
    table: TaskTable,
    index: int,
    attempt: LiveAttempt,
    outcome: Outcome,
    *,
    alone: bool = False,
) -> None:
    """A live attempt ended without a result: charge it, then go on with the other role or from idle. `alone`:
    nothing else ran on its worker, which was lost."""
    flight = table.flights[index]
    status = Status.FAILED if outcome.status is Status.DONE else outcome.status
    to = AttemptState.ENDED if status in (Status.UNLISTED, Status.WORKER_LOST) else AttemptState.REPORTED
    detach(state, table, index, attempt, to, kill_it=False)
    was_careful = index in table.trouble and table.trouble[index].careful
    error = charge(
        state,
        job,
        table,
        index,
        attempt,
        status,
        outcome.error,
        started=outcome.started,
        disk=outcome.disk,
        alone=alone,
    )
    if error is None and status is Status.FETCH_FAILED and table.kind is Kind.REDUCE:
        if any(f.reason == "unreachable" for f in outcome.fetch_failures):
            avoid(table, index, attempt.worker)  # the link may be broken on its side
        error = fetch_failed(state, job, index, outcome.fetch_failures)
        if error is None and index not in table.flights:
            return  # it was taken back along the way
    if error is not None:
        fail_job(state, job, error)
        return
    if status is Status.PART_LOST and _is_lost(state, job, table, index, attempt):
        said = f": {outcome.error.message}" if outcome.error is not None else ""
        begin_again(state, job, f"{table.task(index)} can't read what the stage before wrote{said}")
        return
    trouble = table.troubled(index)
    turned_careful = trouble.careful and not was_careful
    if flight.attempts() and not turned_careful:
        end_role(state, table, index, attempt.role)
        return
    delay = 0.0
    # One that ended as it was claimed would be claimed, by the same worker, again and again.
    at_once = status is Status.WORKER_LOST and not outcome.started and trouble.uncharged > 1
    if (CHARGES[status].backs_off or at_once) and not turned_careful:
        trouble.retries += 1
        delay = state.backoff(job, table.name(index), trouble.retries)
    take_back(state, table, index, f"attempt {attempt.ref.token} ended: {status.value}", delay)


def _is_lost(state: State, job: LeaderJob, table: TaskTable, index: int, attempt: LiveAttempt) -> bool:
    """Is what the stage before wrote to be given up, as a task can't read it? Where there is another worker,
    that one is asked, too: a disk that isn't seen on one of them is no loss."""
    if not job.stage.reads_parts:
        return False
    trouble, worker = table.troubled(index), attempt.worker
    first = trouble.misses_part is None
    if not first or not others_take(state, job, table.kind, [worker]):
        return True
    trouble.misses_part = worker
    avoid(table, index, worker)
    return False


def on_message_died(state: State, event: e.MessageDied) -> None:
    """A task's message was returned or dead-lettered: publish it again, a bounded number of times."""
    died, task, index = event.message, event.message.task, event.message.task.index
    found = state.in_flight(task)
    if found is None or not found[0].active:
        return
    job, table, flight = found
    if table.state[index] != QUEUED or flight.primary_ticket != died.ticket:
        return
    trouble = table.troubled(index)
    trouble.deaths += 1
    if trouble.deaths > state.config.message_deaths_max:
        fail_job(
            state,
            job,
            f"the message of {task} was returned {trouble.deaths} times: "
            f"{event.reason}; look at the broker's queues and at the workers' logs",
        )
        return
    delay = state.backoff(job, table.name(index), trouble.deaths)
    state.timer(delay, REPUBLISH, task, died.ticket)
