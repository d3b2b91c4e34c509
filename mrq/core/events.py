"""What happened: the only input of `core.machine`. Past tense, frozen, with no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mrq.core.model import (
    NO_LIMITS,
    Beat,
    JobSpec,
    Limits,
    Outcome,
    Quarantine,
    StagePlan,
    TaskMessage,
    WorkerHealth,
)
from mrq.core.refs import AttemptRef

if TYPE_CHECKING:
    from mrq.core.store_api import StoredJob


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSubmitted:
    spec: JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReopened:
    """An engine took up a job whose engine is gone: with its workers, its queue and its store.

    What was in progress goes back to idle, uncharged. What is completed lies with the boot that is named, but
    for each `OutputMissing` that follows; `RetryRequested` is the last. A job of which nothing was stored is
    submitted.
    """

    stored: StoredJob
    worker: str
    boot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatReceived:
    beat: Beat
    health: WorkerHealth | None = None  #: what the store says of the worker; None: it wasn't asked
    quarantine: Quarantine | None = None  #: of one whose health there is QUARANTINED
    refused: str = (
        ""  #: why its worker gets no tasks: of a beat of another version, of which little can be read
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLeft:
    """A worker that drained and said goodbye."""

    worker: str
    boot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDialled:
    """That boot was dialled back at the address that it names."""

    worker: str
    boot: str
    trouble: str = ""  #: why it couldn't be reached; then it is dialled again after a while


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptClaimed:
    """The claim script recorded a holder."""

    attempt: AttemptRef
    worker: str
    boot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptReported:
    """How an attempt ended: what its worker asks the store to record, and the leader hears of once it is."""

    attempt: AttemptRef
    worker: str
    boot: str
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlanned:
    """What a stage needs to know of the one before, which is complete; told again, it is the same."""

    job: str
    stage: int  #: its number
    plan: StagePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsLost:
    """What a stage wrote for those after it can't be found any more, or isn't what was written."""

    job: str
    stage: int  #: the number of the run that the job is at, which wrote it or reads it
    why: str  #: in a sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputMissing:
    """A completed task's output isn't on the disk of the engine that took its job up, or is damaged."""

    attempt: AttemptRef


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDied:
    """A task's message was returned or dead-lettered."""

    message: TaskMessage
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitEnded:
    """OUT is published, or can't be."""

    job: str
    error: str | None = None  #: why not


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    job: str
    reason: str = "cancelled by the user"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobBroken:
    """What is decided of a job can't be kept any more, so it fails: others of its leader go on."""

    job: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRequested:
    """A failed or cancelled job goes on: charges are forgiven, completed work is kept.

    One that goes on already only takes the limits, and is finished if nothing is left to be done.
    """

    job: str
    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainRequested:
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineRequested:
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadmitRequested:
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetRequested:
    """A job that is over may be dropped, with its intermediate files."""

    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A new leader has adopted the jobs of its predecessor; the first event after that.

    What was queued is published again, and what was running lives on its worker's beats, with a full grace.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLost:
    """The store came back without what was written, or without its last writes.

    What is completed is kept; what was in progress goes back to idle, uncharged, since its claims may be
    gone or given twice. The whole view is written again: into a restored store, before anything goes out.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time passed: what was due by now is looked at. Agents and elections take it, too."""


Event = (
    JobSubmitted
    | JobReopened
    | BeatReceived
    | WorkerLeft
    | WorkerDialled
    | AttemptClaimed
    | AttemptReported
    | StagePlanned
    | PartsLost
    | OutputMissing
    | MessageDied
    | CommitEnded
    | CancelRequested
    | JobBroken
    | RetryRequested
    | DrainRequested
    | QuarantineRequested
    | ReadmitRequested
    | ForgetRequested
    | Restored
    | StoreLost
    | Ticked
)
