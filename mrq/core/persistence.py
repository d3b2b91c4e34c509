"""The leader's knowledge as a store keeps it: one record a task, a job, a stage's plan; a machine of these.

A record is written with the row that the claim scripts read, in the same batch, so both are of one moment.
A task without a record was never touched. What runs is no part of a record: attempts are the claim scripts'
to write, and come back with the recorded claims; until then such a task counts as queued.

What a successor doesn't learn, all of it harmless: rates and smoothed windows, beats missed so far, since
when a live attempt has run (the straggler's clock begins anew), how much of a backoff was over (it begins
anew), messages that died, which reducers complained of an output that they couldn't reach, whether disks
were full in a row. Sums, counters, medians and digests follow from the tasks' results.

Times are seconds since the epoch (the machine's own plus `State.wall`): a successor's clock is another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgpack

from mrq.core import wire
from mrq.core.admission import other_version
from mrq.core.digest import MASK, consumed
from mrq.core.events import AttemptClaimed
from mrq.core.info import ErrorInfo
from mrq.core.jobs import SUMMED, LeaderJob, Passed
from mrq.core.machine_state import BEAT, DIAL, FORGET, READY, State
from mrq.core.model import JobSpec, Limits, Quarantine, Role, StagePlan, WorkerHealth
from mrq.core.refs import Kind
from mrq.core.store_api import StoredJob, StoredWorker
from mrq.core.store_rows import is_plan, parse_task, plan_key
from mrq.core.task_transitions import arm_offer, attach
from mrq.core.tasks import (
    COMPLETED,
    IDLE,
    QUEUED,
    RESULT_FIELDS,
    RUNNING,
    FailureHistory,
    InProgress,
    TaskTable,
)
from mrq.core.worker_table import Worker
from mrq.errors import CorruptFileError

VERSION: Final = 4

_DAMAGED: Final = (CorruptFileError, msgpack.UnpackException)

DEAD: Final = WorkerHealth.DEAD

_REACHED: Final = (WorkerHealth.ALIVE, WorkerHealth.SUSPECT, WorkerHealth.DRAINING)

#: Attributes of a job that its record holds as they are, and how many of them, the first, are times.
_PLAIN: Final = (
    "submitted_at",
    "started_at",
    "updated_at",
    "finished_at",
    "failures",
    "losses",
    "worker_losses",
    "reruns",
    "rollbacks",
    "backups",
    "again",
    "parts_lost",
)
_TIMES: Final = 4

#: Of an `InProgress`: all but the attempts, and what counts for one leader alone.
_FLIGHT: Final = (
    "primary_ticket",
    "backup_ticket",
    "offered_to",
    "backup_offered_to",
    "last_number",
    "alone",
)
_TROUBLE: Final = FailureHistory.__slots__

_AT: Final = {name: RESULT_FIELDS.index(name) for name in (*SUMMED, "counters", "seconds")}
_SUMS: Final = tuple((name, _AT[name]) for name in SUMMED)
_COUNTERS: Final = _AT["counters"]
_SECONDS: Final = _AT["seconds"]


def task_record(state: State, job: LeaderJob, table: TaskTable, index: int) -> bytes:
    """All that is known of a task."""
    code = table.state[index]
    updated = table.updated_at[index]
    flight, trouble = table.flights.get(index), table.trouble.get(index)
    row: list[Any] = [
        VERSION,
        QUEUED if code == RUNNING else code,
        table.ticket[index],
        table.failures[index],
        table.losses[index],
        updated and updated + state.shift + state.wall,
        _before(table.queued_at[index], updated),
        _before(table.started_at[index], updated),
        _before(table.finished_at[index], updated),
        *job.boots[table.boot[index]],
        table.winner_ticket[index],
        table.winner_number[index],
        table.token[index],
        table.digest[index],
        table.results[index],
    ]
    if flight is not None or trouble is not None:
        row.append(None if flight is None else [getattr(flight, name) for name in _FLIGHT])
        row.append(None if trouble is None else [getattr(trouble, name) for name in _TROUBLE])
    return wire.pack(row)


def job_record(state: State, job: LeaderJob) -> bytes:
    """What is known of a job and doesn't follow from its tasks."""
    shift = state.shift + state.wall
    plain = [getattr(job, name) for name in _PLAIN]
    plain[:_TIMES] = [at and at + shift for at in plain[:_TIMES]]
    errors = [wire.to_wire(error) for error in job.errors]
    limits = wire.to_wire(job.limits)
    row = [plain, errors, limits, job.strict_order, job.at, job.passed_record]
    return wire.pack([VERSION, wire.VERSION, *row])


def plan_record(plan: StagePlan) -> bytes:
    """The plan of a stage, as its workers read it too."""
    return wire.pack(wire.to_wire(plan))


def planned(spec: JobSpec, number: int | None, record: Callable[[str], bytes | None]) -> JobSpec:
    """A job's spec with the plan of that run of a stage, if it depends on one before and is known: it is
    among the job's records, which are asked for by key. Raises CorruptFileError."""
    if number is None:
        return spec
    data = record(plan_key(number)) if spec.stage(number).plan is None else None
    return spec if data is None else spec.planned(number, _unpack_plan(data))


def _unpack_plan(data: bytes) -> StagePlan:
    try:
        return wire.from_wire(StagePlan, wire.unpack(data))
    except (ValueError, TypeError, msgpack.UnpackException) as exc:
        raise CorruptFileError(f"the plan of a stage can't be read: {exc!r}") from exc


def _before(at: float, updated: float) -> int | None:
    """Milliseconds before the last update; None where it hasn't happened."""
    return round((updated - at) * 1000) if at else None


def adopt(state: State, stored: StoredJob) -> bool:
    """Take a job from its records and recorded claims; workers were adopted before. False: none was ever
    written, so it is to be submitted. Raises CorruptFileError.

    Nothing goes out yet: `Restored` publishes what is queued, and the recorded events are to follow it.
    """
    if stored.job_record is None:
        return False
    spec = stored.spec
    job = LeaderJob(spec, state.now, state.history, state.totals)
    job.adopted = True
    try:
        _take_job(state, job, stored)
        shift = state.shift + state.wall
        untouched = dict.fromkeys(Kind, 0)
        for key, data in stored.records.items():
            if is_plan(key):
                continue
            task = parse_task(spec.job, key)
            if task.stage != job.number:
                continue  # that one is complete, or was given up
            untouched[task.kind] = max(untouched[task.kind], task.index + 1)
            _take_task(job, job.table(task.kind), task.index, wire.unpack(data), shift)
        _derive(job)
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, *_DAMAGED) as exc:
        job.drop()
        raise CorruptFileError(f"the records of job {spec.job} can't be read: {exc!r}") from exc
    for table in job.tables:
        table.recount()
    state.jobs[spec.job] = job
    if job.active:
        state.active[spec.job] = job
        _note_old_boots(state, job)
        for event in stored.recorded:
            if isinstance(event, AttemptClaimed):
                _attach(state, event)
        for table in job.tables:
            _hand_out_again(state, job, table, untouched[table.kind])
    return True


def _take_job(state: State, job: LeaderJob, stored: StoredJob) -> None:
    version, wire_version, *rest = wire.unpack(stored.job_record or b"")
    if (version, wire_version) != (VERSION, wire.VERSION):
        raise ValueError(f"they are of version {version}.{wire_version}, not {VERSION}.{wire.VERSION}")
    plain, errors, limits, strict_order, place, passed = rest
    shift = state.shift + state.wall
    job.state, job.error = stored.state, stored.error
    for at, (name, value) in enumerate(zip(_PLAIN, plain, strict=True)):
        setattr(job, name, value - shift if at < _TIMES and value else value)
    plan = _unpack_plan(stored.records[plan_key(job.spec.number_of(place, job.again))]) if place else None
    job.begin(place, plan)
    job.take_passed(tuple(wire.from_wire(Passed, each) for each in (wire.unpack(passed) if passed else ())))
    job.limit(wire.from_wire(Limits, limits))
    job.strict_order = strict_order
    job.errors = [wire.from_wire(ErrorInfo, each) for each in errors]


def _take_task(job: LeaderJob, table: TaskTable, index: int, row: list[Any], shift: float) -> None:
    version, code, ticket, failures, losses, updated, queued, started, finished = row[:9]
    if version != VERSION:
        raise ValueError(f"{table.name(index)} is of version {version}, not {VERSION}")
    table.state[index] = code
    table.ticket[index] = ticket
    if failures or losses:
        table.failures[index], table.losses[index] = failures, losses
    if updated:
        updated -= shift
        table.updated_at[index] = updated
        if queued is not None:
            table.queued_at[index] = updated - queued / 1000
        if started is not None:
            table.started_at[index] = updated - started / 1000
        if finished is not None:
            table.finished_at[index] = updated - finished / 1000
    worker, boot, won_ticket, won_number, token, digest, result = row[9:16]
    table.digest[index] = digest
    if token is not None or worker:
        table.winner_ticket[index], table.winner_number[index] = won_ticket, won_number
        table.token[index], table.results[index] = token, result
        number = job.boot(worker, boot) if worker else 0
        if code == COMPLETED and table.kind is Kind.MAP and job.shuffled:
            table.link(index, number)
        else:
            table.boot[index] = number
    if len(row) > 16:
        if row[16] is not None:
            table.flights[index] = InProgress(**dict(zip(_FLIGHT, row[16], strict=True)))
        if row[17] is not None:
            table.trouble[index] = FailureHistory(**dict(zip(_TROUBLE, row[17], strict=True)))
    if code == QUEUED and index not in table.flights:
        raise ValueError(f"{table.name(index)} is queued without a flight")


def _derive(job: LeaderJob) -> None:
    """What follows from the results that are accepted."""
    counters: dict[str, int] = {}
    for table in job.tables:
        kind, maps = table.kind, table.kind is Kind.MAP
        sums, durations = job.sums[kind], job.durations[kind]
        for index, packed in enumerate(table.results):
            if packed is None:
                continue
            row = wire.unpack(packed)
            results, seconds = job.took[kind]
            job.took[kind] = results + 1, seconds + row[_SECONDS]
            for name, at in _SUMS:
                if row[at]:
                    sums[name] += row[at]
            for name, n in row[_COUNTERS].items():
                counters[name] = counters.get(name, 0) + int(n)
            if maps:
                job.accepted += 1
                job.digest_sum += consumed(index, table.digest[index])
            if table.state[index] == COMPLETED:
                job.completions += 1
                if row[_SECONDS] > job.slowest[kind][0]:
                    job.slowest[kind] = (row[_SECONDS], index)
                if table.started_at[index]:
                    durations.add(table.finished_at[index] - table.started_at[index])
    job.counters = counters
    job.digest_sum &= MASK


def _note_old_boots(state: State, job: LeaderJob) -> None:
    """A boot that has completed something and isn't the one that the store knows now came before it."""
    for name, boot in job.boots[1:]:
        worker = state.workers.all.get(name)
        if worker is not None and boot not in (worker.boot, *worker.old_boots):
            worker.old_boots.append(boot)


def _attach(state: State, event: AttemptClaimed) -> None:
    """A recorded claim whose worker is there; of others the event, handed over later, has the rest."""
    task = event.attempt.task
    found = state.in_flight(task)
    if found is None:
        return
    _, table, flight = found
    worker = state.workers.all.get(event.worker)
    role = flight.role_of(event.attempt.ticket)
    if (
        role is not None
        and flight.held_as(role) is None
        and worker is not None
        and worker.boot == event.boot
        and worker.health is not DEAD
    ):
        attach(state, table, task.index, worker, event.attempt, role)


def _hand_out_again(state: State, job: LeaderJob, table: TaskTable, untouched: int) -> None:
    """Idle tasks that were touched are to be handed out, after a backoff where they were in trouble; offers
    of backups are looked at again."""
    at = table.state.find(IDLE, 0, untouched)
    while at >= 0:
        trouble = table.trouble.get(at)
        if trouble is not None and trouble.retries:
            delay = state.backoff(job, table.name(at), trouble.retries)
            state.timer(delay, READY, table.task(at), table.ticket[at])
        else:
            table.give(at)
        at = table.state.find(IDLE, at + 1, untouched)
    table.cursor = untouched
    for index, flight in table.flights.items():
        if flight.backup_ticket and flight.backup is None:
            flight.backup_offered_to = flight.backup_offered_to or ""
            arm_offer(state, table, index, Role.BACKUP)


def adopt_workers(state: State, known: Iterable[StoredWorker]) -> None:
    """Take the workers as the store knows them: each with a full grace (`State.beats_from`), whenever it beat
    last."""
    for stored in known:
        beat, health = stored.beat, stored.health
        if beat.worker in state.workers.all:
            continue
        beat_at = state.now - stored.age_s
        worker = Worker(worker=beat.worker, boot=beat.boot, beat_at=beat_at, seq=beat.seq, slots=beat.slots)
        worker.address, worker.hints = beat.address, dict(beat.hints)
        worker.say(beat.about)
        worker.refused = stored.refused or other_version(state.config.version, beat.about)
        # Of one that was reached nothing needs to be known again; of the others, that.
        worker.reached = not beat.address or health in _REACHED
        if not worker.reached:
            state.timer(0.0, DIAL, beat.worker)
        worker.draining = beat.draining or health is WorkerHealth.DRAINING
        if health is WorkerHealth.QUARANTINED:
            worker.quarantine = stored.quarantine or Quarantine()
        state.workers.all[beat.worker] = worker
        if worker.quarantined:
            state.workers.quarantined[beat.worker] = None
        if health is DEAD:
            worker.live = worker.seen = DEAD
            worker.since = beat_at
            state.timer(state.config.forget_worker_s, FORGET, beat.worker)
        else:
            if health is WorkerHealth.SUSPECT:
                worker.live = WorkerHealth.SUSPECT
            state.timer(state.config.suspect_after_s, BEAT, beat.worker)
        state.workers.put_in(worker)
