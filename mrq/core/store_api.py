"""What workers and the leader ask of the store, and what it answers: plain frozen values.

They live in the core because the machines speak them; `mrq.ports` exports them beside the Protocols.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mrq.core.commands import GiveOrder, WriteJob, WriteLocation, WriteTask, WriteWorker
from mrq.core.events import AttemptClaimed, AttemptReported
from mrq.core.model import Beat, JobSpec, JobState, Quarantine, TaskMessage, WorkerHealth
from mrq.core.orders import Numbered
from mrq.core.refs import AttemptRef


class Answer(enum.Enum):
    """What a claim is answered."""

    NO_STORE = "no_store"
    OBSOLETE = "obsolete"
    NEW = "new"
    SAME = "same"  # held with the same token: the same answer again
    DUPLICATE = "duplicate"
    RESUME = "resume"
    HELD = "held"
    DECLINED = "declined"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    message: TaskMessage
    worker: str
    boot: str
    token: str  #: one per (boot, delivery)
    held_beat_seq: int | None = None  #: of an earlier HELD answer, with the holder that it named
    held_token: str | None = None
    fits: bool = True  #: the worker has what the message says that its task needs


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimAnswer:
    answer: Answer
    attempt: AttemptRef | None = None  #: with NEW, SAME and RESUME; with HELD the holder's
    beat_seq: int | None = None  #: with HELD


class ReportAnswer(enum.Enum):
    RECORDED = "recorded"
    ALREADY = "already"
    OBSOLETE = "obsolete"  # no longer live: the outcome is thrown away
    NO_STORE = "no_store"


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatReply:
    orders: tuple[Numbered, ...]  #: repeated until a beat acknowledges their number
    health: WorkerHealth
    live: frozenset[str]  #: of the beat's tokens, those that are still live
    store_id: str
    incarnation: int


Write = WriteJob | WriteTask | WriteLocation | WriteWorker


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """`{job}:fence`: who may write, and how many batches were written."""

    incarnation: int
    epoch: int
    owner: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One atomic step of the leader for one job: moves the fence from seq-1 to seq."""

    job: str  #: "": what belongs to no job, under the fence that `LeaderStore.lead` took
    fence: Fence
    writes: tuple[Write, ...] = ()
    orders: tuple[GiveOrder, ...] = ()  #: an older boot's are dropped
    #: What a successor's machine is made of, opaque to the store: the leader's own record of every task in
    #: `writes`, by `task_key`, and the plan of a stage, by `plan_key`, which workers read too.
    records: tuple[tuple[str, bytes], ...] = ()
    job_record: bytes | None = None  #: likewise of the job


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredJob:
    """A job as the store has it: what a new leader goes on with."""

    spec: JobSpec
    fence: Fence
    state: JobState
    error: str | None
    job_record: bytes | None
    records: Mapping[str, bytes]  #: as in a `Batch`
    #: Of tasks that aren't completed, the claim of each before its report.
    recorded: tuple[AttemptClaimed | AttemptReported, ...]
    #: For `LeaderState.restore` alone: the tasks and locations to write with it.
    writes: tuple[Write, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWorker:
    """A worker as the store has it."""

    beat: Beat  #: the last one, with what it last said about itself
    health: WorkerHealth
    age_s: float  #: since its last beat, or its goodbye, came
    quarantine: Quarantine | None = None  #: of one whose health is QUARANTINED
    refused: str = ""  #: as of `BeatReceived`


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseView:
    """The leader's lease as the store has it."""

    owner: str | None  #: None: nobody holds it
    epoch: int  #: of the last holder
    left_s: float  #: until it ends by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRequest:
    """What a client asks of whoever leads."""

    id: str  #: chosen by the client: asked twice is done once
    op: str
    args: Mapping[str, Any]  #: what msgpack carries, str keys


class WriteAnswer(enum.Enum):
    WRITTEN = "written"
    ALREADY = "already"  # this very seq was written before: a replay
    FENCED = "fenced"  # another owner or a later epoch
    ROLLED_BACK = "rolled_back"  # the store is behind: it lost writes
    NO_STORE = "no_store"
