"""What to do: the only output of `core.machine`. Imperative, frozen, carried out in order.

The loop that carries them out first persists every `WriteTask`, `WriteJob`, `WritePlan` and
`WriteLocation` of a batch in one step, then performs the rest: decide, persist, publish.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mrq.core.info import StageInfo
from mrq.core.model import (
    JobState,
    MapLocation,
    Quarantine,
    StagedFile,
    StagePlan,
    TaskMessage,
    WorkerHealth,
)
from mrq.core.orders import Order
from mrq.core.refs import AttemptRef, TaskRef


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteJob:
    """Persist a job's state."""

    job: str
    state: JobState
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WritePlan:
    """Persist what a stage needs to know of the one before; in the batch with which the job comes to it."""

    job: str
    stage: int
    plan: StagePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteTask:
    """Persist one task's record, and the tickets with which it may be claimed; 0 is none."""

    task: TaskRef
    primary: int
    backup: int
    winner: AttemptRef | None = None  #: of a task that is completed

    @property
    def job(self) -> str:
        """Whose records it is written into."""
        return self.task.job


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteLocation:
    """Append to the stream of map outputs that reducers in progress follow."""

    location: MapLocation
    withdrawn: bool = False

    @property
    def job(self) -> str:
        """Whose stream it is."""
        return self.location.attempt.task.job


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteWorker:
    """Persist what the leader thinks of a worker; its next beat's reply carries it."""

    worker: str
    boot: str
    health: WorkerHealth
    quarantine: Quarantine | None = None  #: of one whose health is QUARANTINED


@dataclass(frozen=True, slots=True, kw_only=True)
class DialWorker:
    """See whether a joining worker can be reached at its address: WorkerDialled."""

    worker: str
    boot: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishTask:
    """Have a task's message delivered to some worker."""

    message: TaskMessage
    together: int = 0  #: tasks of one number may travel in one message; 0: by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveOrder:
    """Give one worker's boot an order, with the batch of the job that it follows from."""

    worker: str
    boot: str
    order: Order
    job: str = ""  #: "": it follows from no job


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveAll:
    """Give every worker that is known an order."""

    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStage:
    """A stage is complete: keep its parts, and find out what the next one needs to know of it: StagePlanned,
    or PartsLost where a part is gone. Replayable."""

    job: str
    complete: int  #: the number of the one that is complete
    stage: int  #: the number of the next one
    known: StagePlan  #: what is known of the next one already
    samples: tuple[bytes, ...] = ()  #: of a sampling's winners: of their keys, in their order
    parts: tuple[StagedFile, ...] = ()  #: of any other's winners: what they wrote, in part order


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCommit:
    """Winners are frozen: write the manifest and publish OUT. Replayable."""

    job: str
    files: tuple[StagedFile, ...]  #: of the winners, in part order, and all stages' files of bad records
    counters: Mapping[str, int]
    reducers: int  #: R of the last stage
    stages: tuple[StageInfo, ...] = ()  #: what each did, of a job of several


@dataclass(frozen=True, slots=True, kw_only=True)
class EndJob:
    """The job is over; tell its client."""

    job: str
    state: JobState
    error: str | None = None


Command = (
    WriteJob
    | WritePlan
    | WriteTask
    | WriteLocation
    | WriteWorker
    | DialWorker
    | PublishTask
    | GiveOrder
    | GiveAll
    | PlanStage
    | StartCommit
    | EndJob
)
