"""Makes what people are shown of jobs (`core.info`) of the leader's state; `core.standing` does of workers.

It changes nothing. A job's information costs what runs, not what there is; tasks are listed only where that
is asked for. `now` is the machine's own time, for what depends on how long a worker hasn't been heard of.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

from mrq.core.info import (
    MAP,
    REDUCE,
    SAMPLE,
    AttemptInfo,
    ErrorInfo,
    JobInfo,
    StageInfo,
    TaskInfo,
)
from mrq.core.jobs import LeaderJob
from mrq.core.machine_state import State
from mrq.core.model import ErrorReport, Purpose, Status
from mrq.core.refs import Kind
from mrq.core.tasks import COMPLETED, STATES, LiveAttempt, TaskTable

#: A worker that wasn't heard of for longer shows its attempts as paused.
PAUSED_S: Final = 15.0


def job_info(state: State, job: LeaderJob, now: float) -> JobInfo:
    """A job, without its tasks one by one."""
    shift, spec = state.shift + state.wall, job.spec
    attempts: list[AttemptInfo] = []
    stages = [stage for each in job.passed for stage in each.stages]
    for table in _tables(job):
        stage, live = stage_name(job, table.kind), _live(table)
        attempts += [attempt_info(state, stage, a, now) for _, a in live]
        stages.append(_stage(job, table, stage, live))
    return JobInfo(
        job=spec.job,
        name=spec.name,
        state=job.state,
        error=job.error,
        priority=spec.priority,
        inputs=spec.inputs,
        output=spec.output,
        submitted_at=spec.created_at or job.submitted_at + shift,
        started_at=job.started_at and job.started_at + shift,
        updated_at=job.updated_at + shift,
        finished_at=job.finished_at and job.finished_at + shift,
        stages=tuple(stages),
        attempts=tuple(attempts),
        errors=tuple(job.errors),
        counters=job.all_counters(),
        failures=job.failures,
        losses=job.losses,
        worker_losses=job.worker_losses,
        reruns=job.reruns,
        backups=job.backups,
    )


def stage_infos(state: State, job: LeaderJob) -> tuple[StageInfo, ...]:
    """Of the stage that a job is at: of its maps, and of its reduces if it has any."""
    return tuple(_stage(job, table, stage_name(job, table.kind), _live(table)) for table in _tables(job))


def _tables(job: LeaderJob) -> tuple[TaskTable, ...]:
    return job.tables if job.shuffled else (job.maps,)


def _live(table: TaskTable) -> list[tuple[int, LiveAttempt]]:
    """The attempts that live, each with its task's index."""
    return [(index, a) for index in sorted(table.running) for a in table.flights[index].attempts()]


def stage_name(job: LeaderJob, kind: Kind) -> str:
    """What people know the tasks of a kind by."""
    if kind is Kind.REDUCE:
        return REDUCE
    return SAMPLE if job.stage.purpose is Purpose.SAMPLE else MAP


def attempt_info(state: State, stage: str, a: LiveAttempt, now: float) -> AttemptInfo:
    """A live attempt; its stage as people know it."""
    worker = state.workers.all.get(a.worker)
    paused = worker is not None and now - worker.beat_at > PAUSED_S
    return AttemptInfo(
        job=a.ref.task.job,
        task=str(a.ref.task),
        stage=stage,
        ticket=a.ref.ticket,
        number=a.ref.number,
        token=a.ref.token,
        role=a.role,
        worker=a.worker,
        state="paused" if paused else "running" if a.phase else "waiting",
        phase=a.phase,
        fraction=a.fraction,
        records=a.records,
        bytes=a.bytes,
        started_at=a.claimed_at + state.shift + state.wall,
    )


def _stage(job: LeaderJob, table: TaskTable, name: str, live: list[tuple[int, LiveAttempt]]) -> StageInfo:
    """Counts and sums. Claimed ahead of its turn isn't begun: only what an executor has begun has a phase. A
    backup works on what its primary works on: the one that is further counts."""
    begun, ahead = 0, dict[int, LiveAttempt]()
    for index, a in live:
        if a.phase:
            begun += 1
            known = ahead.get(index)
            if known is None or (known.fraction, known.records) < (a.fraction, a.records):
                ahead[index] = a
    idle, queued, running, completed = table.counts
    slowest_s, slowest = job.slowest[table.kind]
    own = f"{table.task(0).letter}-"
    sums, made, total = job.sums[table.kind], float(completed), len(table)
    records, size = sums["records_in"], sums["bytes_in"]
    for a in ahead.values():
        made += min(1.0, a.fraction)
        records += a.records
        size += a.bytes
    return StageInfo(
        name=name,
        total=total,
        idle=idle,
        queued=queued,
        running=running,
        completed=completed,
        attempts=begun,
        failed=sum(error.task.startswith(own) for error in job.errors) if job.errors else 0,
        fraction=min(1.0, made / total) if total else 1.0,
        slowest=None if slowest < 0 else str(table.task(slowest)),
        slowest_s=slowest_s,
        median_s=job.durations[table.kind].median,
        stage=job.stage.place + 1 if job.spec.several else 0,
        **{**sums, "records_in": records, "bytes_in": size},
    )


def error_info(
    state: State,
    job: LeaderJob,
    attempt: LiveAttempt,
    status: Status,
    error: ErrorReport | None,
) -> ErrorInfo:
    """An attempt that ended badly, just now."""
    return ErrorInfo(
        task=str(attempt.ref.task),
        stage=stage_name(job, attempt.ref.task.kind),
        ticket=attempt.ref.ticket,
        number=attempt.ref.number,
        token=attempt.ref.token,
        worker=attempt.worker,
        status=status,
        at=state.now + state.shift + state.wall,
        error=error,
    )


def task_infos(state: State, job: LeaderJob) -> Iterator[TaskInfo]:
    """Every task, maps first."""
    for table in job.tables:
        stage = stage_name(job, table.kind)
        for index in range(len(table)):
            yield _task(state, job, table, stage, index)


def _task(state: State, job: LeaderJob, table: TaskTable, stage: str, index: int) -> TaskInfo:
    code, shift = table.state[index], state.shift + state.wall
    ran = attempt = result = None
    if code == COMPLETED:
        attempt, result, ran = table.winner(index), table.result(index), job.boots[table.boot[index]]
    elif index in table.running:
        a = table.flights[index].attempts()[0]
        attempt, ran = a.ref, (a.worker, a.boot)
    worker, boot = ran or ("", "")

    def at(column: array[float]) -> float:
        return column[index] and column[index] + shift

    return TaskInfo(
        task=str(table.task(index)),
        stage=stage,
        state=STATES[code],
        ticket=attempt.ticket if attempt is not None else table.ticket[index],
        number=attempt.number if attempt is not None else 0,
        token=attempt.token if attempt is not None else "",
        worker=worker,
        boot=boot,
        failures=table.failures[index],
        losses=table.losses[index],
        queued_at=at(table.queued_at),
        started_at=at(table.started_at),
        updated_at=at(table.updated_at),
        finished_at=at(table.finished_at),
        **({name: getattr(result, name) for name in _OF_RESULT} if result is not None else {}),
    )


#: What a task's information has of its result.
_OF_RESULT: Final = (
    "records_in",
    "bytes_in",
    "records_out",
    "bytes_out",
    "spills",
    "bad_records",
    "seconds",
    "peak_rss_bytes",
)
