"""What `--json` prints, version 2: one object a command, its fields under their own names.

docs/json.md is made of these classes, of those that they name, and of the comments at their fields
(`infra/docs/pages.py`), so it says what is printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mrq.core.info import JobInfo
from mrq.core.job_summary import Summary
from mrq.core.model import ErrorReport
from mrq.core.worker_info import LogInfo, WorkerInfo
from mrq.servers.memory.jobfolder import Leftover

VERSION: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong."""

    type: str  #: the error's class, as `JobFailed`, `UsageError`; `Interrupted` after a signal
    message: str  #: a sentence or more
    attempts: tuple[ErrorReport, ...]  #: what the job's failed attempts said, the latest last


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonAnswer:
    """What every object has; all of it where nothing else is said."""

    version: int = VERSION  #: of this format
    #: How the command went: `done`, `failed`, `refused`, `interrupted`, or `nothing` where no file was in the
    #: inputs; `submitted` with --detach, `planned` of a dry run; `listed`, `status`, `logs`, `ordered`,
    #: `cleaned`, `shown` of the other commands; of `mrq cancel` the job's state.
    status: str
    exit_code: int  #: of the command
    engine: str  #: `embedded` or `cluster`
    cluster: str | None  #: the profile's name, or the Redis URL without its password; null: `embedded`
    job: str | None  #: the id of the job that it is about; null where there is none, or none yet
    name: str | None  #: that job's class
    output: str | None  #: OUT: of a finished job and an embedded one the absolute path, else as it was typed
    #: Sentences, as that a compressed file is read as one split; of a cluster also what was said meanwhile.
    notes: tuple[str, ...]
    error: Failure | None = None  #: why the command ended with another exit code than 0
    info: JobInfo | None = None  #: the job as it was last, where the command followed it or asked for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(JsonAnswer):
    """`mrq submit`, `mrq wait`, `mrq retry JOB`: a job that is done."""

    parts: tuple[str, ...]  #: paths of the parts, in order
    summary: Summary  #: what it did, in numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """A file of the input."""

    path: str  #: as typed
    bytes: int  #: its size
    splittable: bool  #: whether several maps may read it


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPiece:
    """A range of a file."""

    path: str  #: as typed
    start: int  #: where it begins, in bytes
    length: int  #: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSplit:
    """What one map would read."""

    index: int  #: of the map
    bytes: int  #: of all its pieces
    pieces: tuple[PlannedPiece, ...]  #: ranges of files, in the order in which it would read them


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """One stage of the job."""

    methods: str  #: as `stages` names them: `map=words, reduce=mrq.sum`; empty in a job without `stages`
    partitions: int | None  #: reduces; 0: none; null: as many as what the stage before writes asks for
    partitioned_by: str | None  #: `hash` or `range`; null without partitions


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned(JsonAnswer):
    """`mrq submit --dry-run`."""

    code: str  #: SHA-256 of the job's code and what it imports
    parameters: Mapping[str, Any]  #: of the job; what JSON can't say, as Python writes it
    files: tuple[PlannedFile, ...]  #: of the input
    splits: tuple[PlannedSplit, ...]  #: one a map
    #: Reduces of the last stage; 0: none, parts are what maps write; null: it follows from the stage before.
    partitions: int | None
    partitioned_by: str | None  #: `hash` or `range`; null without partitions
    stages: tuple[PlannedStage, ...]  #: one, or as many as the job's `stages` gives
    input_format: str  #: `text`, `whole`, `jsonl` or `records`
    output_format: str  #: `text`, `lines`, `jsonl` or `records`
    compression: str | None  #: of the output
    executors: int  #: tasks at once
    memory_bytes: int  #: the budget of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs(JsonAnswer):
    """`mrq jobs` of a cluster."""

    jobs: tuple[JobInfo, ...]  #: those that run first, then the latest
    now: float  #: the leader's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptJobs(JsonAnswer):
    """`mrq retry` without a job, and `mrq jobs` without a cluster."""

    kept: tuple[Leftover, ...]  #: what a retry on this machine could go on with


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned(JsonAnswer):
    """`mrq clean`."""

    removed: tuple[Leftover, ...]  #: what was there until now
    bytes: int  #: of all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus(JsonAnswer):
    """`mrq status JOB`; the job is in `info`."""

    now: float  #: the leader's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerList(JsonAnswer):
    """`mrq workers`, `mrq workers WORKER`."""

    leader: str  #: the master that leads, and its epoch
    workers: tuple[WorkerInfo, ...]  #: the living by name, then the dead, the latest first
    now: float  #: the leader's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered(JsonAnswer):
    """`mrq workers drain`, `quarantine`, `readmit`."""

    worker: str  #: its id
    health: str  #: that it has now


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs(JsonAnswer):
    """`mrq logs JOB`."""

    logs: tuple[LogInfo, ...]  #: of the attempts that were asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigValue:
    """One setting of a cluster."""

    value: Any  #: passwords and keys are stars
    source: str  #: where it comes from, as `/home/ann/mrq.toml:4`


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(JsonAnswer):
    """`mrq config`."""

    settings: Mapping[str, ConfigValue]  #: by their names


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of standard error with `--log-format json`. What isn't known of a line is left out of it."""

    time: str  #: UTC, as `2026-11-30T15:09:25.123Z`
    level: str  #: `info`, `warning`, `error`; `debug`: an attempt's or a job's end, which text has no line of
    logger: str  #: who says it, as `mrq.master.service`; `mrq.notes` for the notes on a job
    message: str  #: what people read otherwise
    job: str | None = None  #: the job that it is about
    task: str | None = None  #: `m-00042`
    attempt: str | None = None  #: ticket and number of the attempt, as `1.2`
    worker: str | None = None  #: the id of the worker that says it, or that it is about
    boot: str | None = None  #: of this start of that worker
    epoch: int | None = None  #: of the master's leadership
    traceback: str | None = None  #: of an error that is a bug


#: All that `--json` prints, in the order of the documentation.
ANSWERS: Final = (
    JsonAnswer,
    Finished,
    Planned,
    Jobs,
    JobStatus,
    WorkerList,
    Ordered,
    Logs,
    KeptJobs,
    Cleaned,
    Config,
)
