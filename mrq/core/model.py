"""The nouns of mrq: what a job, a task, an attempt and a worker are.

Plain frozen values without behaviour; the machines own all change. `to_wire`/`from_wire` in
`core.wire` turn any of them into msgpack-able data and back.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from zlib import crc32

from mrq.core import wire
from mrq.core.refs import AttemptRef, TaskRef
from mrq.errors import UsageError


class Role(enum.Enum):
    """Why an attempt was authorised: as the task's first choice, or beside a straggler."""

    PRIMARY = "primary"
    BACKUP = "backup"


class Purpose(enum.Enum):
    """What a stage of a job is for."""

    WORK = "work"  # the user's maps and reduces
    SAMPLE = "sample"  # maps that give nothing but keys, which cut the key space of the stage that follows


class JobState(enum.Enum):
    PENDING = "pending"  # known, nothing handed out yet
    RUNNING = "running"
    COMMITTING = "committing"  # winners are frozen; only the commit may go on
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Has the job ended, well or not? A retry may go on with one that failed."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class TaskState(enum.Enum):
    IDLE = "idle"
    QUEUED = "queued"  # the seed's in-progress: a message is out
    RUNNING = "running"  # the seed's in-progress: an attempt was claimed
    COMPLETED = "completed"


class AttemptState(enum.Enum):
    RUNNING = "running"
    REPORTED = "reported"
    ENDED = "ended"  # superseded: its ticket is no longer one of its task's


class MasterStanding(enum.Enum):
    """What a master is among masters."""

    STANDBY = "standby"
    LEADING = "leading"
    PAUSED = "paused"  # it can't be sure of the lease: says nothing, and keeps its view
    STOPPED = "stopped"


class WorkerHealth(enum.Enum):
    JOINING = "joining"  # no tasks: its address wasn't dialled back yet, or it is of another version of mrq
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    DRAINING = "draining"
    QUARANTINED = "quarantined"


class Status(enum.Enum):
    """How an attempt ended. What each is charged is the table in `core.failures`."""

    DONE = "done"
    FAILED = "failed"  # the user's code raised, or gave the wrong shape
    TIMED_OUT = "timed_out"  # silence for longer than the progress timeout: a failure
    LOST = "lost"  # the executor died under a living agent
    WORKER_LOST = "worker_lost"  # the whole agent died
    UNLISTED = "unlisted"  # by beats, with no report known, or what it read by the store, which fell back
    FETCH_FAILED = "fetch_failed"  # a map output couldn't be read; never the reducer's fault
    PART_LOST = "part_lost"  # what a stage before wrote for this one is gone, or isn't what was written
    DISK_FULL = "disk_full"  # ENOSPC on the worker
    HANDED_BACK = "handed_back"  # drain, shutdown, a dead data plane
    SUPERSEDED = "superseded"  # killed on order: another attempt won, or the job is over


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A range of one input file."""

    path: str  #: as the user spelled it: what user code, order and output see
    open: str  #: the path or URL to open
    start: int  #: byte offset; the format decides which record begins here
    length: int  #: bytes; the whole rest when the file can't be split
    size: int  #: of the file when it was planned, bytes
    mtime_ns: int  #: of the file when it was planned; 0 where the store has none
    #: Of the whole file on the disk, where a finished output's manifest says it: what is read must have it.
    crc32: int | None = None
    #: Of a file that is still written, and read as it was when planned: it may grow, and be no other.
    inode: int = 0
    #: Bytes behind `size` that it had by then too: a line without its end.
    unended: int = 0
    #: Of such a file: the checksum of its last lines, or of what fits in 4 KiB.
    last_lines: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What one map task reads: one range of a large file, or several small files."""

    index: int
    pieces: tuple[Piece, ...]

    @property
    def length(self) -> int:
        """Bytes to read."""
        return sum(piece.length for piece in self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a worker must have to run a job's tasks; `core.placement` compares."""

    memory_bytes: int = 0  #: for one executor
    #: (module, distributions that have it): one of each.
    packages: tuple[tuple[str, tuple[str, ...]], ...] = ()


#: R of a stage as long as it follows from what the one before writes.
FOLLOWS: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """What of a stage is known once the one before it is complete: a function of that one's results alone."""

    boundaries: tuple[Any, ...] | None = None  #: of a total order
    splits: tuple[Split, ...] | None = None  #: over the parts of the stage before; None: as in the spec
    reducers: int | None = None  #: None: as in the spec
    then: StagePlan | None = None  #: of a sampling: what is known already of the stage that it is for

    @property
    def checksum(self) -> int:
        """By which a worker knows whether the plan that it has is the leader's."""
        return crc32(wire.pack(wire.to_wire(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """One stage of a job as submitted: maps, each over one split, and reduces of what they give."""

    splits: tuple[Split, ...]
    reducers: int  #: R; 0 is map-only, `FOLLOWS` what its input makes it
    purpose: Purpose = Purpose.WORK
    #: It stands in its tasks' names, unless it is 0. A job's only stage of work has 0, several are numbered
    #: from 1 on, and samplings come after them: tasks of a job of one stage are called the same whether or
    #: not its keys are sampled.
    number: int = 0
    plan: StagePlan | None = StagePlan()  #: None: it depends on the stage before
    place: int = 0  #: which of the user's stages it is, or is for, counted from 0
    #: What its maps read: of a stage behind another it is "records".
    input_format: str = "text"
    #: What it writes where its output is the job's, or it is followed by another: then it is "records".
    output_format: str = "text"
    compression: str | None = None  #: of what it writes: None, "gz", "bz2", "xz" or "zst"
    encoding: str | None = "utf-8"  #: of text; None gives bytes
    #: Text that begins with a byte order mark of UTF-16 or UTF-32 is refused: no encoding was named.
    refuses_marks: bool = True
    sort_values: bool = False
    can_skip: bool = True  #: single records can be left out; map_split reads them by itself
    #: How what a stage before wrote is cut into splits, where its plan depends on that.
    split_bytes: int | None = None
    split_bytes_min: int = 64 << 10
    said: str = ""  #: its methods as the user's `stages` has them: "map=words, reduce=mrq.sum"

    @property
    def boundaries(self) -> tuple[Any, ...] | None:
        """R-1 keys of a total order, once they are known; None: hashed."""
        return self.plan.boundaries if self.plan is not None else None

    @property
    def reads_parts(self) -> bool:
        """Are its splits over what a stage before wrote? Asked once its plan is known."""
        return self.plan is not None and self.plan.splits is not None

    def planned(self, plan: StagePlan) -> StageSpec:
        """The stage with its plan."""
        splits = self.splits if plan.splits is None else plan.splits
        reducers = self.reducers if plan.reducers is None else plan.reducers
        return replace(self, plan=plan, splits=splits, reducers=reducers)

    def without_splits(self) -> StageSpec:
        """The stage without what grows with its inputs."""
        plan = self.plan and replace(self.plan, splits=self.plan.splits and (), then=None)
        return replace(self, splits=(), plan=plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job as submitted: frozen, stored whole, enough to run it again."""

    job: str  #: the id: `[a-z0-9-]{1,64}`, unique
    name: str  #: the class's name, for people
    code: str  #: sha256 of the bundle, hex
    entry: str  #: `module:Class` inside the bundle
    source_root: str = ""  #: the folder that the bundle was made from, as tracebacks should name it
    parameters: Mapping[str, Any]  #: the job's own fields, converted
    inputs: tuple[str, ...]  #: as spelled
    stages: tuple[StageSpec, ...]  #: at least one, in the order in which they run, one after another
    output: str | None = None  #: OUT as spelled; None for a private result
    output_open: str | None = None  #: the absolute path of OUT
    staging: str | None = None  #: the absolute path of its sibling `.NAME.mrq`
    overwrite: bool = False
    memory_bytes: int = 512 << 20  #: per executor: the one byte budget of sort, fetch and merge
    max_failures: int = 1  #: that many charged failures of one task fail the job
    max_losses: int = 3
    max_worker_losses: int = 10
    backups: bool = True
    skip_bad_records: int = 0
    progress_timeout_s: float = 600.0
    priority: int = 0
    max_running: int | None = None  #: cap on running tasks
    seed: int = 0  #: of task.rng and jitter
    #: What its code imports, as `Needs.packages`; empty where it runs with the packages that are here.
    packages: tuple[tuple[str, tuple[str, ...]], ...] = ()
    created_at: float = 0.0  #: seconds since the epoch
    #: What the job's claim on OUT carries: whoever has this record may go on with it. "": of an earlier mrq.
    claim: str = ""

    @property
    def needs(self) -> Needs:
        """What a worker must have."""
        return Needs(memory_bytes=self.memory_bytes, packages=self.packages)

    @property
    def first(self) -> StageSpec:
        """The first of the user's stages, which reads the job's inputs."""
        return next((stage for stage in self.stages if stage.purpose is Purpose.WORK), self.stages[-1])

    @property
    def last(self) -> StageSpec:
        """The stage that writes the output."""
        return self.stages[-1]

    @property
    def splits(self) -> tuple[Split, ...]:
        """What the job reads."""
        return self.first.splits

    @property
    def reducers(self) -> int:
        """R of the stage that writes the output; 0 where that is map-only, `FOLLOWS` where it isn't known
        before the stage before is complete."""
        return self.last.reducers

    @property
    def can_skip(self) -> bool:
        """Single records can be left out, in each of its stages."""
        return all(stage.can_skip for stage in self.stages)

    @property
    def several(self) -> bool:
        """Has the job more than one stage of work?"""
        return sum(stage.purpose is Purpose.WORK for stage in self.stages) > 1

    def number_of(self, at: int, again: int) -> int:
        """Of the run of a stage, by its index among the job's, once the job began `again` so many times.

        No two runs have the same, so nothing of one that was given up is taken for another's. They only grow
        from one stage of work to the next, and from one beginning to the next.
        """
        return self.stages[at].number + again * len(self.stages)

    def index_of(self, number: int) -> int:
        """Which stage a run of that number is of, by its index. Raises KeyError."""
        indices = {stage.number: at for at, stage in enumerate(self.stages)}
        if number not in indices and self.several:
            number = (number - 1) % len(self.stages) + 1
        return indices[number]

    def stage(self, number: int) -> StageSpec:
        """The stage that a run of that number is of. Raises KeyError."""
        return self.stages[self.index_of(number)]

    def named(self, task: TaskRef) -> TaskRef:
        """The task as it is called in files and by user code, however often the job began again."""
        return task._replace(stage=self.stage(task.stage).number)

    def planned(self, number: int, plan: StagePlan) -> JobSpec:
        """The job with the plan of that run of a stage."""
        at = self.index_of(number)
        return replace(
            self, stages=(*self.stages[:at], self.stages[at].planned(plan), *self.stages[at + 1 :])
        )

    def without_splits(self) -> JobSpec:
        """The job without what grows with its inputs."""
        return replace(self, stages=tuple(stage.without_splits() for stage in self.stages))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a retry may set anew of a job; None leaves it."""

    skip_bad_records: int | None = None
    max_failures: int | None = None
    memory_bytes: int | None = None

    def check(self, spec: JobSpec) -> None:
        """Raise UsageError for what means nothing to this job."""
        if self.skip_bad_records and not spec.can_skip:
            raise UsageError(cannot_skip(spec.name))

    def applied(self, spec: JobSpec) -> JobSpec:
        """The spec with these."""
        return replace(
            spec,
            skip_bad_records=spec.skip_bad_records
            if self.skip_bad_records is None
            else self.skip_bad_records,
            max_failures=self.max_failures or spec.max_failures,
            memory_bytes=self.memory_bytes or spec.memory_bytes,
        )

    def over(self, older: Limits) -> Limits:
        """These, and of older ones what they leave."""
        return Limits(
            skip_bad_records=older.skip_bad_records
            if self.skip_bad_records is None
            else self.skip_bad_records,
            max_failures=self.max_failures or older.max_failures,
            memory_bytes=self.memory_bytes or older.memory_bytes,
        )


NO_LIMITS: Final = Limits()


def cannot_skip(name: str) -> str:
    """Why skip_bad_records is refused for the job of that class."""
    return (
        f"{name} has map_split, which reads its records by itself, so skip_bad_records can't leave one out; "
        'define map, or catch what a record raises in map_split and count it: `self.counters["bad"] += 1`'
    )


def _given(value: int | None, otherwise: int | None) -> Any:
    return otherwise if value is None else value


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMessage:
    """What is published for a task: a wake-up, never the truth."""

    task: TaskRef
    ticket: int  #: the leader's leave to run it once; copies of a message carry the same, and are harmless
    not_worker: str | None = None  #: a worker that must not take it (backups, exclusions)
    #: An earlier attempt failed, or made what can't be used: look at each record's pairs while it is at hand,
    #: and with skip_bad_records drop bad records in place.
    careful: bool = False
    needs: Needs = Needs()  #: a worker that lacks some of it mustn't take it
    skip_bad_records: int | None = None  #: another bound than the spec's, after a retry
    alone: bool = False  #: it was lost with others: its worker runs nothing else beside it
    #: A reduce met a value that sort_values can't order: now each such value counts, also where it is alone
    #: with its key.
    strict_order: bool = False
    plan: int = 0  #: the checksum of its stage's plan; 0: that doesn't depend on a stage before


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReport:
    """Why an attempt failed, ready to be shown."""

    type: str  #: `ValueError`, `killed by signal 9`, `no progress for 600 s`
    message: str  #: of what was raised; "" where the type says it all
    frames: str = ""  #: the user's own frames first, as text
    record: str | None = None  #: repr of the record at hand, shortened
    path: str | None = None  #: of that record, as spelled
    offset: int | None = None  #: of that record in its file, bytes
    log_path: str | None = None  #: of its log, on its worker
    log_tail: str = ""  #: the end of that
    peak_rss_bytes: int = 0  #: resident memory of its executor at most; 0: not known
    can_skip: bool = True  #: whether the job could leave bad records out (`--skip-bad-records`)

    @property
    def fingerprint(self) -> tuple[str, str | None, int | None, str]:
        """Equal for the same exception at the same record: twice is enough to give up."""
        return (self.type, self.path, self.offset, self.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """A file that an attempt wrote privately in the job's staging folder."""

    name: str  #: relative to the staging folder
    final: str  #: relative to OUT once committed: "part-00003.jsonl"
    records: int
    bytes: int
    crc32: int  #: of the file's bytes

    @property
    def is_bad(self) -> bool:
        """Does it hold bad records, and isn't a part?"""
        return self.final.startswith("_bad/")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """What a finished attempt says of its work."""

    records_in: int  #: map: input records; reduce: pairs consumed
    bytes_in: int
    records_out: int  #: map: pairs after combining; reduce and map-only: records written
    bytes_out: int
    digest: int = 0  #: map: of its index; reduce: sum of consumed(map, digest) mod 2**64
    records_emitted: int = 0  #: pairs that map yielded, before combining
    groups: int = 0  #: reduce: distinct keys
    spills: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)
    files: tuple[StagedFile, ...] = ()  #: parts and bad-record files in staging
    bad_records: int = 0
    seconds: float = 0.0
    peak_rss_bytes: int = 0
    sample: bytes | None = None  #: an encoded key column, of a sampling stage's map
    #: Map: of the bytes, as they lie on the disk, of each piece whose file has a `crc32`, in order.
    crcs: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchFailure:
    """A map output that a reducer couldn't read; or use: then the map is to look at each of its pairs."""

    map_index: int
    ticket: int  #: of the attempt that made it
    reason: str  #: "not_found", "corrupt" or "unreachable"; "unordered": it has values that can't be sorted


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended, with what it made or why it didn't."""

    status: Status
    result: TaskResult | None = None  #: set exactly when DONE
    error: ErrorReport | None = None
    fetch_failures: tuple[FetchFailure, ...] = ()
    started: bool = True  #: False: no executor had started, so nothing is charged
    #: LOST for a folder of the worker's own, that is gone or can't be written: as a full disk, nothing is
    #: charged, another worker is preferred, and where there is none it is tried a few times.
    disk: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MapLocation:
    """Where a completed map's output lies: ids and sizes, never paths."""

    attempt: AttemptRef
    worker: str
    boot: str
    digest: int
    bytes: int

    @property
    def map_index(self) -> int:
        """Which map it is, of its job's."""
        return self.attempt.task.index


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningAttempt:
    """One line of a beat."""

    attempt: AttemptRef
    fraction: float = 0.0  #: of its input consumed, 0 to 1
    phase: str = ""  #: "mapping", "shuffling" or "reducing"
    records: int = 0
    bytes: int = 0
    at: str = ""  #: the record at hand, of one that runs alone: whoever outlives its worker can name it


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """How many tasks a worker takes at once."""

    map: int
    reduce: int
    total: int  #: embedded, maps and reduces share `total` executors; else map + reduce


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """That a worker gets no tasks until an operator readmits it; it outlasts boots and leaders."""

    why: str = ""  #: "": of an earlier mrq, which didn't keep that
    at: float = 0.0  #: since then, in seconds since the epoch; 0: likewise


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a worker says every second. Who says it, and the number, come first in every version's."""

    worker: str
    boot: str
    seq: int
    slots: Slots
    running: tuple[RunningAttempt, ...] = ()
    acked_order: int = 0  #: orders up to this number were carried out
    draining: bool = False
    hints: Mapping[str, int] = field(default_factory=dict)  #: cpus, memory_bytes, disk_bytes
    address: str = ""
    #: Version, python, packages, disk …: with a first beat, a change, and every tenth beat; else empty.
    about: Mapping[str, Any] = field(default_factory=dict)
