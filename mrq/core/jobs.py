"""One job as the leader holds it, and the views of it that people see."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from mrq.core import transitions
from mrq.core.digest import mix
from mrq.core.model import (
    NO_LIMITS,
    AttemptId,
    ErrorReport,
    JobSpec,
    JobState,
    Kind,
    Limits,
    Role,
    StagedFile,
    Status,
    TaskResult,
    TaskState,
    task_name,
)
from mrq.core.tasks import STATES, TaskTable
from mrq.core.wire import from_wire, to_wire
from mrq.core.workers import Worker

if TYPE_CHECKING:
    from mrq.core.checked import Checked

_SAMPLE_MAX: Final = 257


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskError:
    """One attempt that didn't make it."""

    kind: Kind
    index: int
    attempt: AttemptId
    worker: str
    status: Status
    at: float
    error: ErrorReport | None

    @property
    def task(self) -> str:
        return task_name(self.kind, self.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningView:
    """One live attempt."""

    kind: Kind
    index: int
    role: Role
    attempt: AttemptId
    worker: str
    started_at: float
    fraction: float
    phase: str
    records: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """One task's record; times are 0 where it hasn't happened."""

    kind: Kind
    index: int
    state: TaskState
    generation: int
    winner: AttemptId | None  #: of a completed task
    attempt: AttemptId | None  #: the winner, or the primary (else the backup) that runs
    worker: str | None
    boot: str | None
    failures: int
    losses: int
    queued_at: float
    started_at: float
    updated_at: float
    finished_at: float
    result: TaskResult | None  #: of a completed task


@dataclass(frozen=True, slots=True, kw_only=True)
class StageView:
    """Counts and sums of one kind's tasks; sums are over winners."""

    total: int
    idle: int
    queued: int
    running: int
    completed: int
    records_in: int
    bytes_in: int
    records_out: int
    bytes_out: int
    records_emitted: int
    groups: int
    spills: int
    bad_records: int
    slowest: str | None  #: the task whose winner took longest
    slowest_s: float
    median_s: float  #: of completed attempts, from claim to report


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A snapshot for people; times on the machine's clock, 0 where it hasn't happened."""

    job: str
    name: str
    state: JobState
    error: str | None
    maps: StageView
    reduces: StageView
    failures: int  #: charged, all tasks together, since the last retry
    losses: int
    worker_losses: int
    reruns: int  #: completed tasks that went back to idle
    backups: int  #: backup attempts authorised
    running: tuple[RunningView, ...]
    errors: tuple[TaskError, ...]  #: the latest
    counters: Mapping[str, int]
    submitted_at: float
    started_at: float
    updated_at: float
    finished_at: float

    def under_way(self, kind: Kind) -> tuple[int, float, int, int]:
        """(attempts, tasks' worth of work, records, bytes) of what runs.

        Claimed ahead of its turn isn't running: only what an executor has begun has a phase. A backup works
        on what its primary works on: the one that is further counts.
        """
        attempts = [each for each in self.running if each.kind is kind and each.phase]
        ahead: dict[int, RunningView] = {}
        for each in attempts:
            known = ahead.get(each.index)
            if known is None or (known.fraction, known.records) < (each.fraction, each.records):
                ahead[each.index] = each
        return (
            len(attempts),
            sum(min(1.0, each.fraction) for each in ahead.values()),
            sum(each.records for each in ahead.values()),
            sum(each.bytes for each in ahead.values()),
        )


#: Fields of a result that are summed over winners.
SUMMED: Final = (
    "records_in",
    "bytes_in",
    "records_out",
    "bytes_out",
    "records_emitted",
    "groups",
    "spills",
    "bad_records",
)


class Durations:
    """A bounded, deterministic sample of how long a stage's attempts took; its median."""

    __slots__ = ("count", "order", "values")

    def __init__(self) -> None:
        self.count = 0
        self.order: list[float] = []  #: as they came, by place
        self.values: list[float] = []  #: the same, sorted

    def add(self, seconds: float) -> None:
        """Reservoir sampling with a hash for the dice."""
        self.count += 1
        if len(self.order) < _SAMPLE_MAX:
            self.order.append(seconds)
            insort(self.values, seconds)
            return
        place = mix(self.count) % self.count
        if place < _SAMPLE_MAX:
            del self.values[bisect_left(self.values, self.order[place])]
            self.order[place] = seconds
            insort(self.values, seconds)

    @property
    def median(self) -> float:
        """Seconds; 0 while nothing has finished."""
        return self.values[len(self.values) // 2] if self.values else 0.0


def _checked(spec: JobSpec) -> Checked | None:
    """What is to be checked of a job's inputs; what does it is imported only where there is something."""
    if all(piece.crc32 is None for split in spec.splits for piece in split.pieces):
        return None
    from mrq.core.checked import Checked

    return Checked.of(spec.splits)


class Job:
    """All that the leader holds of one job. Its splits aren't among it: workers read those."""

    __slots__ = (
        "accepted",
        "adopted",
        "backups",
        "boot_number",
        "boots",
        "checked",
        "completions",
        "counters",
        "digest_sum",
        "durations",
        "error",
        "errors",
        "excused",
        "failures",
        "finished_at",
        "history",
        "limits",
        "losses",
        "maps",
        "needs",
        "reduces",
        "reruns",
        "rollbacks",
        "slowest",
        "spec",
        "started_at",
        "state",
        "submitted_at",
        "sums",
        "takers",
        "takers_at",
        "timers",
        "unverified",
        "updated_at",
        "worker_losses",
    )

    def __init__(
        self,
        spec: JobSpec,
        maps: int,
        now: float,
        history: transitions.History,
        totals: Mapping[Kind, list[int]],
    ) -> None:
        self.spec = replace(spec, splits=())
        self.checked = _checked(spec)  #: inputs that are parts of a finished output
        self.history = history
        self.state = JobState.PENDING
        self.error: str | None = None
        self.maps = TaskTable(spec.job, Kind.MAP, maps, history, totals[Kind.MAP])
        self.reduces = TaskTable(spec.job, Kind.REDUCE, spec.reducers, history, totals[Kind.REDUCE])
        self.submitted_at = self.updated_at = now
        self.started_at = self.finished_at = 0.0
        #: (worker, boot) by number; 0 is nobody.
        self.boots: list[tuple[str, str]] = [("", "")]
        self.boot_number: dict[tuple[str, str], int] = {}
        self.accepted = 0  #: maps that were completed at least once
        self.digest_sum = 0  #: of consumed(map, digest) over the accepted maps, mod 2**64
        self.adopted = False  #: from a store, which may have fallen back while nobody led
        self.unverified = False  #: recovered reduces weren't compared with digest_sum yet
        self.completions = 0
        self.failures = self.losses = self.worker_losses = self.reruns = self.rollbacks = self.backups = 0
        self.errors: list[TaskError] = []
        self.counters: dict[str, int] = {}
        self.sums = {kind: dict.fromkeys(SUMMED, 0) for kind in Kind}
        self.slowest: dict[Kind, tuple[float, int]] = dict.fromkeys(Kind, (0.0, -1))
        self.durations = {kind: Durations() for kind in Kind}
        self.needs = spec.needs
        self.limits = NO_LIMITS  #: what a retry has set anew; `spec` has it
        #: Maps that came out differently since a retry gave them other memory: once each, that is expected.
        self.excused: set[int] = set()
        #: Who may claim its tasks, at so many changes of the workers: kept by `core.fitting`.
        self.takers: dict[Kind, tuple[Worker, ...] | None] = {}
        self.takers_at = -1
        self.timers: set[str] = set()  #: periodic timers that are armed: "m", "r" or "stall"

    def limit(self, limits: Limits) -> None:
        """Go on under what a retry has set anew."""
        self.limits, self.spec = limits, limits.applied(self.spec)
        self.needs = self.spec.needs
        self.takers_at = -1

    def excuses(self, index: int) -> bool:
        """Whether a map may have come out differently because a retry gave it other memory; once a map."""
        if self.limits.memory_bytes is None or index in self.excused:
            return False
        self.excused.add(index)
        return True

    def table(self, kind: Kind) -> TaskTable:
        return self.maps if kind is Kind.MAP else self.reduces

    @property
    def active(self) -> bool:
        """May its tasks be handed out and reported?"""
        return self.state in (JobState.RUNNING, JobState.PENDING)

    @property
    def shuffled(self) -> bool:
        """Do maps write for reduces, rather than parts?"""
        return self.spec.reducers > 0

    @property
    def winners(self) -> TaskTable:
        """The tasks whose files are the output."""
        return self.reduces if self.shuffled else self.maps

    def move(self, state: JobState, why: str) -> None:
        """The only place where a job's state changes. Raises IllegalTransition, changing nothing."""
        who = self.spec.job
        transitions.check(transitions.JOB, self.state, state, who, self.history.of(who))
        self.history.note(who, self.state, state, why)
        self.state = state

    def boot(self, worker: str, boot: str) -> int:
        """The number of a worker's boot."""
        key = (worker, boot)
        number = self.boot_number.get(key)
        if number is None:
            number = self.boot_number[key] = len(self.boots)
            self.boots.append(key)
        return number

    def add(self, kind: Kind, result: TaskResult, sign: int = 1) -> None:
        """Count a winner's result, or take it out again."""
        sums = self.sums[kind]
        for name in SUMMED:
            value = getattr(result, name)
            if value:
                sums[name] += sign * value
        for name, n in result.counters.items():
            total = self.counters.get(name, 0) + sign * n
            if total or sign > 0:
                self.counters[name] = total
            else:
                self.counters.pop(name, None)

    def files(self) -> tuple[StagedFile, ...]:
        """Of all winners, in part order; maps' bad-record files come before the reduces' files."""
        found: list[StagedFile] = []
        # With a shuffle, maps stage nothing but their bad records: mostly there is nothing to unpack.
        maps = not self.shuffled or self.sums[Kind.MAP]["bad_records"] > 0
        for table in (self.maps, self.reduces) if maps else (self.reduces,):
            for index in range(len(table)):
                result = table.result(index)
                if result is not None:
                    found.extend(result.files)
        return tuple(found)

    # Views.

    def view(self, shift: float) -> JobView:
        """As people see it; `shift` turns the machine's times into the caller's."""
        running = []
        for table in (self.maps, self.reduces):
            for index in sorted(table.running):
                for a in table.flights[index].attempts():
                    running.append(
                        RunningView(
                            kind=table.kind,
                            index=index,
                            role=a.role,
                            attempt=a.id,
                            worker=a.worker,
                            started_at=a.claimed_at + shift,
                            fraction=a.fraction,
                            phase=a.phase,
                            records=a.records,
                            bytes=a.bytes,
                        )
                    )
        return JobView(
            job=self.spec.job,
            name=self.spec.name,
            state=self.state,
            error=self.error,
            maps=self._stage(Kind.MAP),
            reduces=self._stage(Kind.REDUCE),
            failures=self.failures,
            losses=self.losses,
            worker_losses=self.worker_losses,
            reruns=self.reruns,
            backups=self.backups,
            running=tuple(running),
            errors=tuple(replace(e, at=e.at + shift) for e in self.errors),
            counters=dict(self.counters),
            submitted_at=self.submitted_at + shift,
            started_at=self.started_at and self.started_at + shift,
            updated_at=self.updated_at + shift,
            finished_at=self.finished_at and self.finished_at + shift,
        )

    def _stage(self, kind: Kind) -> StageView:
        table = self.table(kind)
        idle, queued, running, completed = table.counts
        seconds, slowest = self.slowest[kind]
        return StageView(
            total=len(table),
            idle=idle,
            queued=queued,
            running=running,
            completed=completed,
            slowest=None if slowest < 0 else task_name(kind, slowest),
            slowest_s=seconds,
            median_s=self.durations[kind].median,
            **self.sums[kind],
        )

    def tasks(self, shift: float) -> Iterator[TaskView]:
        """Every task, maps first."""
        for table in (self.maps, self.reduces):
            for index in range(len(table)):
                yield self._task(table, index, shift)

    def _task(self, table: TaskTable, index: int, shift: float) -> TaskView:
        state = STATES[table.state[index]]
        attempt: AttemptId | None = None
        worker = boot = None
        if state is TaskState.COMPLETED:
            attempt = table.winner(index)
            worker, boot = self.boots[table.boot[index]]
        elif index in table.running:
            a = table.flights[index].attempts()[0]
            attempt, worker, boot = a.id, a.worker, a.boot

        def at(column: Any) -> float:
            seconds: float = column[index]
            return seconds and seconds + shift

        return TaskView(
            kind=table.kind,
            index=index,
            state=state,
            generation=table.generation[index],
            winner=table.winner(index) if state is TaskState.COMPLETED else None,
            attempt=attempt,
            worker=worker,
            boot=boot,
            failures=table.failures[index],
            losses=table.losses[index],
            queued_at=at(table.queued_at),
            started_at=at(table.started_at),
            updated_at=at(table.updated_at),
            finished_at=at(table.finished_at),
            result=table.result(index) if state is TaskState.COMPLETED else None,
        )

    # Checkpoints.

    def save(self) -> list[Any]:
        """As msgpack-able data."""
        plain = [getattr(self, name) for name in _PLAIN]
        return [
            to_wire(self.spec),
            len(self.maps),
            self.state.value,
            plain,
            [list(pair) for pair in self.boots],
            [to_wire(e) for e in self.errors],
            [[k, str(v)] for k, v in self.counters.items()],
            [[str(self.sums[kind][name]) for name in SUMMED] for kind in Kind],
            [list(self.slowest[kind]) for kind in Kind],
            [[d.count, d.order] for d in (self.durations[kind] for kind in Kind)],
            sorted(self.timers),
            self.maps.save(),
            self.reduces.save(),
            None if self.checked is None else self.checked.save(),
            to_wire(self.limits),
        ]

    @classmethod
    def load(cls, data: list[Any], history: transitions.History, totals: Mapping[Kind, list[int]]) -> Job:
        """The job that `save` gave."""
        job = cls(from_wire(JobSpec, data[0]), data[1], 0.0, history, totals)
        job.state = JobState(data[2])
        for name, value in zip(_PLAIN, data[3], strict=True):
            setattr(job, name, value)
        job.boots = [(worker, boot) for worker, boot in data[4]]
        job.boot_number = {pair: i for i, pair in enumerate(job.boots) if i}
        job.errors = [from_wire(TaskError, e) for e in data[5]]
        job.counters = {k: int(v) for k, v in data[6]}
        for kind, sums, slowest, (count, order) in zip(Kind, data[7], data[8], data[9], strict=True):
            job.sums[kind] = {name: int(v) for name, v in zip(SUMMED, sums, strict=True)}
            job.slowest[kind] = (slowest[0], slowest[1])
            d = job.durations[kind]
            d.count, d.order, d.values = count, order, sorted(order)
        job.timers = set(data[10])
        job.maps.load(data[11])
        job.reduces.load(data[12])
        if len(data) > 13 and data[13] is not None:  # an earlier mrq checked nothing
            from mrq.core.checked import Checked

            job.checked = Checked.load(data[13])
        if len(data) > 14:
            job.limits = from_wire(Limits, data[14])
        return job


#: Attributes of a job that msgpack carries as they are.
_PLAIN: Final = (
    "error",
    "submitted_at",
    "started_at",
    "updated_at",
    "finished_at",
    "accepted",
    "adopted",
    "digest_sum",
    "unverified",
    "completions",
    "failures",
    "losses",
    "worker_losses",
    "reruns",
    "rollbacks",
    "backups",
)
