"""Workers: beats, silence, boots, draining and quarantine."""

from __future__ import annotations

from typing import Final

from mrq.core import events as e
from mrq.core.admission import dial, drain, join, let_go, other_version, refuse, tell_refused
from mrq.core.alone import note_death
from mrq.core.attempt_rules import end_attempt, lose_worker, reboot
from mrq.core.disks import watch
from mrq.core.failures import quarantine, shut_out
from mrq.core.jobs import LeaderJob
from mrq.core.machine_state import BEAT, FORGET, State
from mrq.core.model import Beat, Outcome, Quarantine, RunningAttempt, Status, WorkerHealth
from mrq.core.refs import TaskRef
from mrq.core.task_transitions import attach, kill
from mrq.core.tasks import QUEUED, LiveAttempt, TaskTable
from mrq.core.worker_table import Worker

#: A kill is ordered again when this many later beats still list the attempt.
_KILL_AGAIN_BEATS: Final = 5
_SLACK_S: Final = 1e-3


def on_beat(state: State, event: e.BeatReceived) -> None:
    """The only lease: what a beat lists is alive, what two beats don't list is over."""
    beat = event.beat
    known = state.workers.all.get(beat.worker)
    worker = state.worker(beat.worker, beat.boot)
    if beat.boot in worker.old_boots and beat.boot != worker.boot:
        # A late beat of an old boot, unless the one that replaced it was the late one: then it is silent.
        if state.now - max(worker.beat_at, state.beats_from) < state.config.suspect_after_s:
            return
        worker.old_boots.remove(beat.boot)
    if known is None and event.health is WorkerHealth.QUARANTINED:
        shut_out(state, worker, event.quarantine or Quarantine())  # forgotten here, and not in the store
    before = WorkerHealth.JOINING if known is None or beat.boot != known.boot else known.stored
    if beat.boot != worker.boot:
        reboot(state, worker, beat.boot)
    elif beat.seq <= worker.seq:
        return  # doubled or overtaken
    refuse(state, worker, event.refused)
    _take_in(state, worker, beat, event.health)
    # What the store has may be another boot's, or from before it lost something.
    if worker.stored is not (event.health or before):
        state.write_worker(worker)
    listed = {}
    for running in beat.running:
        listed[running.attempt.token] = running
        _progress(state, worker, running)
    for token in [t for t in worker.held if t not in listed]:
        _missed(state, worker, token)
    if worker.killed:
        for token in [t for t in worker.killed if t not in listed]:
            if worker.killed[token] < beat.seq - 1:
                del worker.killed[token]


def _take_in(state: State, worker: Worker, beat: Beat, stored: WorkerHealth | None) -> None:
    """Slots, hints and health, as the beat has them."""
    worker.beat_at, worker.seq = state.now, beat.seq
    had = worker.hints, worker.packages
    worker.hints = dict(beat.hints)
    if beat.about:
        worker.say(beat.about)
        state.workers.refresh(worker)
        why = other_version(state.config.version, beat.about)
        if why and why != worker.refused:
            tell_refused(state, worker, why)
        refuse(state, worker, why)
    if worker.full:
        watch(state)
    if beat.address != worker.address:
        join(state, worker, beat.address, reached=stored in (WorkerHealth.ALIVE, WorkerHealth.SUSPECT))
    draining = worker.draining or beat.draining
    if draining and not worker.released:
        let_go(state, worker)
    if (
        worker.live is WorkerHealth.ALIVE
        and worker.slots == beat.slots
        and draining == worker.draining
        and had == (worker.hints, worker.packages)
        and worker.worker in state.workers.out
    ):
        return
    state.workers.take_out(worker)
    if worker.live is WorkerHealth.DEAD:
        state.timer(state.config.suspect_after_s, BEAT, worker.worker)
        if not worker.reached:
            dial(state, worker)
    worker.live, worker.slots, worker.draining = WorkerHealth.ALIVE, beat.slots, draining
    state.workers.put_in(worker)


def _locate(
    state: State, task: TaskRef, token: str
) -> tuple[LeaderJob, TaskTable, LiveAttempt | None] | None:
    job = state.jobs.get(task.job)
    table = job.table_of(task) if job is not None else None
    if job is None or table is None:
        return None
    flight = table.flights.get(task.index)
    return job, table, flight.attempt(token) if flight is not None else None


def _progress(state: State, worker: Worker, running: RunningAttempt) -> None:
    """One line of a beat."""
    found = _locate(state, running.attempt.task, running.attempt.token)
    if found is None:
        return
    job, table, attempt = found
    if attempt is None:
        if not _adopt(state, job, table, worker, running):
            _kill_again(state, table, worker, running)
        return
    attempt.misses = 0
    attempt.updated_at = table.updated_at[running.attempt.task.index] = state.now
    attempt.fraction, attempt.phase = running.fraction, running.phase
    attempt.records, attempt.bytes = running.records, running.bytes
    attempt.at = running.at or attempt.at


def _adopt(state: State, job: LeaderJob, table: TaskTable, worker: Worker, running: RunningAttempt) -> bool:
    """A queued task whose claim we weren't told of: the number says that it was given one."""
    attempt = running.attempt
    index = attempt.task.index
    flight = table.flights.get(index)
    role = flight.role_of(attempt.ticket) if flight is not None else None
    if flight is None or role is None or not job.active:
        return False
    if attempt.number <= flight.last_number:
        return attempt.number <= 0  # not claimed yet: a token is listed before its claim is sent
    if table.state[index] == QUEUED:
        attach(state, table, index, worker, attempt, role)
    return True


def _kill_again(state: State, table: TaskTable, worker: Worker, running: RunningAttempt) -> None:
    """It runs what is no longer live: say so, now and then."""
    task, _, number, token = running.attempt
    if number <= 0 or table.token[task.index] == token:
        return  # not claimed yet, or it has won since the beat began
    at = worker.killed.get(token)
    if at is None or worker.seq >= at + _KILL_AGAIN_BEATS:
        kill(state, worker, running.attempt)


def _missed(state: State, worker: Worker, token: str) -> None:
    """A beat that began after the claim doesn't list the attempt; two of them mean that it is over, and that
    what became of it isn't known here. Nothing is charged.

    An agent lists what it has started until its report was answered, and an executor's death is a report like
    any other. A report that was recorded is told before the beat that no longer lists its attempt, and again
    with every beat until it was acted upon (`Claims.beat`). So the worker let go in good order of what isn't
    listed and wasn't reported, and it is the store that has changed, or has news for us:

    - The attempt was reported, as DONE, say; the report was recorded and answered, and the worker let go of
      it. Before the leader heard of that, the store fell back to a moment between the claim and the report.
      The claim still stands there without a report, and the beats, which go on, don't list it.
    - The store fell back behind the claim: the report was answered as obsolete.
    - The worker was paused, the role was given to another, a beat's reply ended the attempt, and the event of
      the other's claim is still on its way.
    - The claim's answer was lost, and the claim was obsolete when it was asked again: nothing was started.

    No fact of a restored store is asked for, because there may be none: where the leader wrote nothing in
    between, the fences of a store that fell back are what they were; and where nobody led, the successor
    finds no trace of it in what it loads.
    """
    task = worker.held[token]
    found = _locate(state, task, token)
    attempt = found[2] if found else None
    if found is None or attempt is None:
        state.workers.release(worker, token)
        return
    if worker.seq <= attempt.floor:
        return
    attempt.misses += 1
    if attempt.misses >= state.config.missing_beats:
        job, table, _ = found
        end_attempt(state, job, table, task.index, attempt, Outcome(status=Status.UNLISTED))


def check_beats(state: State, name: str) -> None:
    """A beat was due: alive, suspect or dead."""
    worker = state.workers.all.get(name)
    if worker is None or worker.live is WorkerHealth.DEAD:
        return
    config = state.config
    last = max(worker.beat_at, state.beats_from)
    silent = state.now - last
    # Sums of floats may fall short of a deadline by a rounding error, for ever.
    if silent >= config.dead_after_s - _SLACK_S:
        die(state, worker, Status.WORKER_LOST)
        return
    if silent < config.suspect_after_s - _SLACK_S:
        state.timer(last + config.suspect_after_s - state.now, BEAT, name)
        return
    state.timer(last + config.dead_after_s - state.now, BEAT, name)
    if worker.live is WorkerHealth.ALIVE:
        before = worker.health
        state.workers.take_out(worker)
        worker.live = WorkerHealth.SUSPECT
        state.workers.put_in(worker)
        if worker.health is not before:
            state.write_worker(worker)


def die(state: State, worker: Worker, status: Status) -> None:
    """A worker is gone, with what it ran and what lies on its disk."""
    if worker.live is WorkerHealth.DEAD:
        return
    if status is Status.WORKER_LOST:
        note_death(state, worker)
    state.workers.take_out(worker)
    worker.live = WorkerHealth.DEAD
    state.workers.refresh(worker)
    state.write_worker(worker)
    lose_worker(state, worker, status)
    state.timer(state.config.forget_worker_s, FORGET, worker.worker)


def forget(state: State, name: str) -> None:
    """Drop a worker that has been dead for long."""
    worker = state.workers.all.get(name)
    if worker is None or worker.live is not WorkerHealth.DEAD:
        return
    due = max(worker.beat_at, state.beats_from) + state.config.forget_worker_s
    if due - state.now > _SLACK_S:  # it died again since, or another leader has taken it over
        state.timer(due - state.now, FORGET, name)
        return
    state.workers.quarantined.pop(name, None)
    del state.workers.all[name]


def on_left(state: State, event: e.WorkerLeft) -> None:
    """A goodbye: as a death, but nothing is charged."""
    worker = state.workers.all.get(event.worker)
    if worker is not None and worker.boot == event.boot:
        die(state, worker, Status.HANDED_BACK)


def on_drain(state: State, event: e.DrainRequested) -> None:
    """No new tasks; it leaves when it has finished what it has, and whatever starts it again gets none."""
    worker = state.workers.all.get(event.worker)
    if worker is None:
        return
    if not worker.draining:
        drain(state, worker, "an operator drains it")
        let_go(state, worker)
    if not worker.quarantined and state.config.quarantines:
        quarantine(state, worker, "an operator drained it")
    else:
        state.write_worker(worker)


def on_quarantine(state: State, event: e.QuarantineRequested) -> None:
    """An operator's word is enough: also for the last worker, which is theirs to decide."""
    worker = state.workers.all.get(event.worker)
    if worker is not None and not worker.quarantined and state.config.quarantines:
        quarantine(state, worker, "an operator put it there")


def on_readmit(state: State, event: e.ReadmitRequested) -> None:
    """Only this brings a quarantined or drained worker back."""
    worker = state.workers.all.get(event.worker)
    if worker is None or not (worker.quarantined or worker.draining):
        return
    state.workers.take_out(worker)
    worker.draining = worker.released = False
    worker.quarantine, worker.trouble = None, ""
    state.workers.quarantined.pop(worker.worker, None)
    worker.strikes.clear()
    state.workers.put_in(worker)
    state.write_worker(worker)
