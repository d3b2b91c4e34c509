"""What a leader answers to `jobs`, `status`, `workers` and `logs`: plain maps, as messages have them.

The command line prints them, `--json` hands them on as they are. Times are seconds since the epoch, 0 where
it hasn't happened; ages and durations end with `_s`. A reader takes a missing field as its zero, so that
fields may be added.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any, TypedDict, TypeVar

from mrq.core.jobs import JobView, RunningView, StageView, TaskError
from mrq.core.model import JobSpec, Kind, task_name


class StageRow(TypedDict):
    """One kind of a job's tasks."""

    name: str  #: "map" or "reduce"
    total: int
    idle: int
    queued: int
    running: int
    completed: int
    records_in: int  #: consumed so far, by running attempts too
    bytes_in: int
    records_out: int
    bytes_out: int
    bad_records: int
    slowest: str | None
    slowest_s: float
    median_s: float


class AttemptRow(TypedDict):
    """One live attempt."""

    job: str
    task: str  #: "m-00042"
    kind: str  #: "map" or "reduce"
    generation: int
    number: int
    role: str  #: "primary" or "backup"
    worker: str
    state: str  #: "running", "waiting" (claimed ahead of its turn), "paused" (its worker isn't heard of)
    phase: str  #: "mapping", "shuffling" or "reducing"; "" as long as it waits
    fraction: float
    records: int
    bytes: int
    started_at: float


class ErrorRow(TypedDict):
    """One attempt that failed or was lost."""

    task: str
    generation: int
    number: int
    worker: str
    status: str  #: "failed", "timed_out", "lost", …
    type: str
    message: str
    record: str | None
    path: str | None
    offset: int | None
    at: float


class JobRow(TypedDict):
    """A job in a list."""

    job: str
    name: str
    state: str
    error: str | None
    priority: int
    maps: int
    maps_done: int
    reduces: int
    reduces_done: int
    running: int  #: attempts
    output: str | None  #: OUT as typed; None: fetched by whoever submitted it
    submitted_at: float
    started_at: float
    finished_at: float


class TaskRow(TypedDict):
    """One task; times are seconds since the epoch, 0 where it hasn't happened."""

    task: str
    state: str
    generation: int
    number: int
    worker: str
    failures: int
    losses: int
    started_at: float
    finished_at: float
    records_in: int
    records_out: int


class StatusRow(JobRow):
    """A job by itself."""

    inputs: list[str]
    stages: list[StageRow]
    attempts: list[AttemptRow]
    tasks: list[TaskRow]  #: all of them where that was asked for, else none
    errors: list[ErrorRow]  #: the latest
    counters: dict[str, int]
    workers: list[str]  #: that run something of it
    failures: int
    losses: int
    worker_losses: int
    reruns: int
    backups: int
    waits_for: str | None  #: why nothing of it runs: "no worker can run …"
    notes: list[str]  #: what else is amiss: workers that don't share OUT's disk
    now: float  #: the leader's clock


class OutputRow(TypedDict):
    """A map output that a worker serves."""

    job: str
    task: str
    bytes: int


class WorkerRow(TypedDict):
    """A worker as the leader sees it."""

    worker: str
    boot: str
    address: str
    running: bool  #: its beats come
    health: str
    since: float  #: it has this health
    reason: str  #: why, where it isn't simply taking tasks; else ""
    ends: str  #: how that ends; else ""
    map_slots: int
    reduce_slots: int
    hints: dict[str, int]  #: cpus, memory_bytes, disk_bytes
    attempts: list[AttemptRow]
    outputs: list[OutputRow]  #: the largest
    outputs_count: int
    outputs_bytes: int
    completed: int  #: tasks, since the leader knows this boot
    last_beat_s: float  #: ago
    disk_used: int  #: bytes of its files under its root
    disk_quota: int  #: bytes; 0: the disk
    disk_free: int
    version: str
    python: str
    packages: dict[str, str]
    trouble: str  #: why it gets no tasks: "nobody answers at …"; else ""
    full: str  #: why it takes no maps: "disk quota reached: …"; else ""
    notes: list[str]  #: what else is amiss there, such as a broker that blocks
    debug: str  #: what its debug switch does; "" where none is set
    leader: str  #: that it follows: owner and epoch


class LogRow(TypedDict):
    """The log of one attempt."""

    task: str
    generation: int
    number: int
    worker: str
    status: str
    tail: str  #: its end, as it came with a report or a beat
    blob: str | None  #: digest of the whole, where that was uploaded
    missing: str  #: why there is no more than the tail: "worker w3 is gone"; else ""


T = TypeVar("T", bound=Mapping[str, Any])


def filled(cls: type[T], row: Mapping[str, Any]) -> T:
    """A row as it came, with the zero of every field that it lacks, in rows within it too."""
    made = dict(row)
    for name, hint in typing.get_type_hints(cls).items():
        made[name] = _filled(hint, made[name]) if name in made else _zero(hint)
    return typing.cast(T, made)


def _filled(hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) is list:
        (inner,) = typing.get_args(hint)
        if typing.is_typeddict(inner):
            return [filled(inner, each) for each in value]
    return value


def _zero(hint: Any) -> Any:
    return None if isinstance(hint, types.UnionType) else (typing.get_origin(hint) or hint)()


_KINDS = {Kind.MAP: "map", Kind.REDUCE: "reduce"}


def job_row(spec: JobSpec, view: JobView, *, epoch_s: float) -> JobRow:
    """A job in a list. `epoch_s`: what to add to the machine's clock for seconds since the epoch."""
    return JobRow(
        job=spec.job,
        name=spec.name,
        state=view.state.value,
        error=view.error,
        priority=spec.priority,
        maps=view.maps.total,
        maps_done=view.maps.completed,
        reduces=view.reduces.total,
        reduces_done=view.reduces.completed,
        running=len(view.running),
        output=spec.output,
        submitted_at=spec.created_at,
        started_at=_at(view.started_at, epoch_s),
        finished_at=_at(view.finished_at, epoch_s),
    )


def status_row(
    spec: JobSpec, view: JobView, *, epoch_s: float, now: float, waits_for: str | None = None
) -> StatusRow:
    """A job by itself; `now` on the machine's clock."""
    attempts = [attempt_row(spec.job, each, epoch_s=epoch_s) for each in view.running]
    return StatusRow(
        **job_row(spec, view, epoch_s=epoch_s),
        inputs=list(spec.inputs),
        stages=[
            _stage(name, stage, view, kind)
            for name, stage, kind in (
                ("map", view.maps, Kind.MAP),
                ("reduce", view.reduces, Kind.REDUCE),
            )
            if stage.total or name == "map"
        ],
        attempts=attempts,
        tasks=[],
        errors=[_error(each, epoch_s) for each in view.errors],
        counters=dict(view.counters),
        workers=sorted({each["worker"] for each in attempts}),
        failures=view.failures,
        losses=view.losses,
        worker_losses=view.worker_losses,
        reruns=view.reruns,
        backups=view.backups,
        waits_for=waits_for,
        notes=[],
        now=now + epoch_s,
    )


def attempt_row(job: str, view: RunningView, *, epoch_s: float, paused: bool = False) -> AttemptRow:
    """A live attempt; `paused`: its worker hasn't been heard of lately."""
    return AttemptRow(
        job=job,
        task=task_name(view.kind, view.index),
        kind=_KINDS[view.kind],
        generation=view.attempt.generation,
        number=view.attempt.number,
        role=view.role.value,
        worker=view.worker,
        state="paused" if paused else "running" if view.phase else "waiting",
        phase=view.phase,
        fraction=view.fraction,
        records=view.records,
        bytes=view.bytes,
        started_at=_at(view.started_at, epoch_s),
    )


def _stage(name: str, view: StageView, job: JobView, kind: Kind) -> StageRow:
    _, _, records, size = job.under_way(kind)
    return StageRow(
        name=name,
        total=view.total,
        idle=view.idle,
        queued=view.queued,
        running=view.running,
        completed=view.completed,
        records_in=view.records_in + records,
        bytes_in=view.bytes_in + size,
        records_out=view.records_out,
        bytes_out=view.bytes_out,
        bad_records=view.bad_records,
        slowest=view.slowest,
        slowest_s=view.slowest_s,
        median_s=view.median_s,
    )


def _error(error: TaskError, epoch_s: float) -> ErrorRow:
    report = error.error
    return ErrorRow(
        task=error.task,
        generation=error.attempt.generation,
        number=error.attempt.number,
        worker=error.worker,
        status=error.status.value,
        type=report.type if report is not None else "",
        message=report.message if report is not None else "",
        record=report.record if report is not None else None,
        path=report.path if report is not None else None,
        offset=report.offset if report is not None else None,
        at=_at(error.at, epoch_s),
    )


def _at(clock: float, epoch_s: float) -> float:
    return clock + epoch_s if clock else 0.0
