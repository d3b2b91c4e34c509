"""What people are shown of jobs, stages, tasks and attempts, a frozen value each. Those of workers and logs,
which a job on this machine doesn't show, are in `core.worker_info`.

The leader's machine makes them (`core.inform`), its surroundings add what only they know (`master.views`),
`core.wire` carries them in answers, news and what is kept of jobs that are over, the command line's tables
read them, and `--json` prints them under their field names. The comments here are the documentation of
those fields: docs/json.md is made from them.

Times are seconds since the epoch, 0 where it hasn't happened; ages and durations end with `_s`; sizes are
bytes. Every field has a zero, so that a reader of another version gets on: what the sender hasn't got is
taken as its zero, and what the reader doesn't know is left out. So fields are added at a class's end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

from mrq.core.model import ErrorReport, JobState, Role, Status, TaskState

#: Names of stages.
MAP: Final = "map"
REDUCE: Final = "reduce"
SAMPLE: Final = "sample"


class Info:
    """What is shown: `core.wire` takes one with fewer or more fields than are known here.

    Equal and printed by their fields, as dataclasses are; by one method for all classes, as a small job would
    notice what it costs to make two for each.
    """

    __slots__: tuple[str, ...] = ()
    may_grow: ClassVar[bool] = True

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        told = ((name, getattr(self, name)) for name in self.__slots__)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in told)})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class AttemptInfo(Info):
    """One live attempt of a task."""

    job: str = ""  #: the job's id
    task: str = ""  #: `m-00042`, `r-00003`
    stage: str = ""  #: the name of the task's stage
    ticket: int = 0  #: the leader's leave to run the task once; grows by one each time that it is given out
    number: int = 0  #: of the claim: it only grows, over all attempts of the task
    #: A name of its own: the log and the files of an attempt are named `TASK.TICKET.NUMBER.TOKEN`.
    token: str = ""
    role: Role = Role.PRIMARY  #: `primary`, or `backup` beside one that takes long
    worker: str = ""  #: its id
    state: str = ""  #: `running`, `waiting` (claimed ahead of its turn), `paused` (its worker isn't heard of)
    phase: str = ""  #: `mapping`, `shuffling` or `reducing`; empty as long as it waits
    fraction: float = 0.0  #: of its input that is consumed, 0 to 1
    records: int = 0  #: consumed so far
    bytes: int = 0  #: consumed so far
    started_at: float = 0.0  #: it was claimed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ErrorInfo(Info):
    """One attempt that failed or was lost."""

    task: str = ""  #: `m-00042`, `r-00003`
    stage: str = ""  #: the name of the task's stage
    ticket: int = 0  #: as of an attempt
    number: int = 0  #: as of an attempt
    token: str = ""  #: as of an attempt
    worker: str = ""  #: its worker's id
    #: `failed`, `timed_out`, `lost` (its executor), `worker_lost`, `unlisted` (its worker doesn't know it),
    #: `fetch_failed`, `part_lost` (what an earlier stage wrote is gone), `disk_full`.
    status: Status = Status.FAILED
    at: float = 0.0  #: the leader heard of it
    error: ErrorReport | None = None  #: what the attempt said of it; null where nobody was left to say


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class TaskInfo(Info):
    """One task, with the numbers of the attempt whose result is taken."""

    task: str = ""  #: `m-00042`, `r-00003`
    stage: str = ""  #: the name of its stage
    state: TaskState = TaskState.IDLE  #: `idle`, `queued`, `running`, `completed`
    ticket: int = 0  #: its last; of a completed task that of the attempt whose result is taken
    number: int = 0  #: of the attempt whose result is taken or that runs; 0 where there is none
    token: str = ""  #: of that attempt
    worker: str = ""  #: of that attempt
    boot: str = ""  #: of that worker
    failures: int = 0  #: charged since the last retry
    losses: int = 0  #: charged since the last retry
    queued_at: float = 0.0  #: it was given out last
    started_at: float = 0.0  #: the attempt was claimed
    updated_at: float = 0.0  #: anything of it changed last
    finished_at: float = 0.0  #: the result was taken
    records_in: int = 0  #: of a completed task; as all numbers that follow 0 of others
    bytes_in: int = 0  #: of a completed task
    records_out: int = 0  #: of a completed task; of a map with reduces: pairs after combining
    bytes_out: int = 0  #: of a completed task
    spills: int = 0  #: sorted runs that it wrote to its disk
    bad_records: int = 0  #: left out
    seconds: float = 0.0  #: that the attempt took, by its executor
    peak_rss_bytes: int = 0  #: resident memory of its executor at most; 0: not known


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StageInfo(Info):
    """The tasks of one stage: how many are how far, and the sums of what they did."""

    name: str = ""  #: `map`, `reduce`; `sample` of keys before a total order
    total: int = 0  #: tasks; each is idle, queued, running or completed
    idle: int = 0  #: not given out, or given back
    queued: int = 0  #: given out and not claimed yet
    running: int = 0  #: tasks with an attempt that was claimed
    completed: int = 0  #: whose result is taken
    attempts: int = 0  #: that an executor has begun, backups among them
    failed: int = 0  #: attempts of it among the job's `errors`
    fraction: float = 0.0  #: of the stage's work that is done, running attempts included, 0 to 1
    records_in: int = 0  #: consumed, by running attempts too
    bytes_in: int = 0  #: consumed, by running attempts too
    records_out: int = 0  #: of the results that are taken, as the sums that follow
    bytes_out: int = 0  #: of the results that are taken
    records_emitted: int = 0  #: pairs that maps yielded, before they were combined
    groups: int = 0  #: distinct keys of reduces
    spills: int = 0  #: sorted runs that were written to disks
    bad_records: int = 0  #: left out
    slowest: str | None = None  #: the task whose attempt took longest, of the results that are taken
    slowest_s: float = 0.0  #: how long that was
    median_s: float = 0.0  #: of completed attempts, from their claim to their report
    stage: int = 0  #: which of the job's stages, of several; 0 of a job's only one

    @property
    def label(self) -> str:
        """What people know it by: `map`, of several stages `map 2`."""
        return f"{self.name} {self.stage}" if self.stage else self.name

    @property
    def complete(self) -> bool:
        """Is every task completed?"""
        return self.completed >= self.total


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class JobInfo(Info):
    """A job: how far it is, what runs, what went wrong."""

    job: str = ""  #: its id; of one whose keys are sampled first, also as long as that runs
    name: str = ""  #: its class
    state: JobState = JobState.PENDING  #: `pending`, `running`, `committing`; `done`, `failed`, `cancelled`
    error: str | None = None  #: why it failed or was cancelled
    priority: int = 0  #: the higher, the sooner its tasks are given out
    inputs: tuple[str, ...] = ()  #: as typed
    output: str | None = None  #: OUT as typed; null where whoever submitted it fetches the result
    submitted_at: float = 0.0  #: by the clock of whoever submitted it
    #: Its first task was given out; this and all other times are by the leader's clock.
    started_at: float = 0.0
    updated_at: float = 0.0  #: anything of it changed last
    finished_at: float = 0.0  #: it ended
    #: In their order: of the job's stages that are complete, and of the one that it is at, of which as long
    #: as keys are sampled `sample` alone.
    stages: tuple[StageInfo, ...] = ()
    attempts: tuple[AttemptInfo, ...] = ()  #: that live; none in a list of jobs
    tasks: tuple[TaskInfo, ...] = ()  #: all of them where that was asked for (`--tasks`), else none
    errors: tuple[ErrorInfo, ...] = ()  #: the latest 20, the last of them last; none in a list of jobs
    counters: Mapping[str, int] = field(default_factory=dict)  #: the job's own; none in a list of jobs
    failures: int = 0  #: charged to all tasks together, since the last retry
    losses: int = 0  #: of executors, charged
    worker_losses: int = 0  #: of whole workers, charged
    reruns: int = 0  #: completed tasks that had to be run again
    backups: int = 0  #: backup attempts that were given out
    waits_for: str | None = None  #: why nothing of it runs, in a sentence
    notes: tuple[str, ...] = ()  #: what else is amiss, in sentences, as workers that don't share OUT's disk

    @property
    def maps(self) -> StageInfo:
        """The maps of the stage that the job is at, of the sampling as long as that runs."""
        return next((each for each in reversed(self.stages) if each.name != REDUCE), StageInfo(name=MAP))

    @property
    def reduces(self) -> StageInfo:
        """The reduces of the stage that the job is at; a stage without tasks where there are none."""
        return self.stages[-1] if self.stages and self.stages[-1].name == REDUCE else StageInfo(name=REDUCE)

    def brief(self) -> JobInfo:
        """As a list has it: without what grows with what runs and went wrong."""
        return replace(self, attempts=(), tasks=(), errors=(), counters={})
