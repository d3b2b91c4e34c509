"""What to do: the only output of `core.machine`. Imperative, frozen, carried out in order.

The loop that carries them out first persists every `WriteTask`, `WriteJob` and `WriteLocation` of a
batch in one step, then performs the rest: decide, persist, publish.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mrq.core.model import (
    AttemptId,
    JobState,
    Kind,
    MapLocation,
    StagedFile,
    TaskMessage,
    TaskState,
    WorkerHealth,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteJob:
    """Persist a job's state."""

    job: str
    state: JobState
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteTask:
    """Persist one task's record: the leader's side of the claim protocol."""

    job: str
    kind: Kind
    index: int
    state: TaskState
    generation: int
    primary_number: int
    backup_number: int  #: 0: no backup is authorised
    winner: AttemptId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteLocation:
    """Append to the stream of map outputs that reducers in progress follow."""

    job: str
    location: MapLocation
    withdrawn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteWorker:
    """Persist what the leader thinks of a worker; its next beat's reply carries it."""

    worker: str
    boot: str
    health: WorkerHealth


@dataclass(frozen=True, slots=True, kw_only=True)
class DialWorker:
    """See whether a joining worker can be reached at its address: WorkerReachable or WorkerUnreachable."""

    worker: str
    boot: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainWorker:
    """Order a worker to take nothing more, and to leave once it is done."""

    worker: str
    boot: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TellWorker:
    """Have a worker say something to whoever runs it: why it gets no tasks."""

    worker: str
    boot: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseWorker:
    """Tell a draining worker that nothing it keeps is needed any more."""

    worker: str
    boot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishTask:
    message: TaskMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferTask:
    """Ask one worker, in its beat's reply, to claim this (backups, exclusions)."""

    worker: str
    boot: str
    message: TaskMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class KillAttempt:
    """Order a worker to end an attempt that is no longer live."""

    worker: str
    boot: str
    job: str
    kind: Kind
    index: int
    attempt: AttemptId


@dataclass(frozen=True, slots=True, kw_only=True)
class DropJob:
    """Order every worker to delete a job's intermediate files."""

    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCommit:
    """Winners are frozen: write the manifest and publish OUT. Replayable."""

    job: str
    files: tuple[StagedFile, ...]  #: of the winners, in part order
    counters: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndJob:
    """The job is over; tell its client."""

    job: str
    state: JobState
    error: str | None = None


Command = (
    WriteJob
    | WriteTask
    | WriteLocation
    | WriteWorker
    | DialWorker
    | DrainWorker
    | TellWorker
    | ReleaseWorker
    | PublishTask
    | OfferTask
    | KillAttempt
    | DropJob
    | StartCommit
    | EndJob
)
