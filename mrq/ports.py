"""What the roles need of the outside, as small Protocols. Each has an in-memory twin.

Those of `servers/memory/` are what the embedded run uses, the others are the tests' own (`tests/twins.py`).
RabbitMQ, Redis and gRPC adapters implement the same ones, and one contract suite (`tests/contract/`) runs on
every twin.
Adapters tell what happened by calling the *sink* that they were made with, from any thread; a sink
only enqueues.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mrq.core.events import AttemptReported
from mrq.core.model import Beat, JobSpec, JobState, MapLocation, TaskMessage
from mrq.core.refs import Kind
from mrq.core.store_api import (
    Batch,
    BeatReply,
    ClaimAnswer,
    ClaimRequest,
    ClientRequest,
    Fence,
    LeaseView,
    ReportAnswer,
    StoredJob,
    StoredWorker,
    WriteAnswer,
)

if TYPE_CHECKING:
    from mrq.shuffle.mapfile import Region

#: Where an adapter puts what happened (a core event). Thread-safe, never blocks.
Sink = Callable[[object], None]


class Clock:
    """Time for the loops, by this machine's own clocks; the machines of `core` get `now` as an argument."""

    monotonic = staticmethod(time.monotonic)  #: seconds that never run backwards
    time = staticmethod(time.time)  #: seconds since the epoch, for people


class Broker(Protocol):
    """Carries task messages; at least once, in no order. One for each process.

    Deliveries arrive at the worker's sink as `core.agent.Delivered`, a lost and a new connection as
    BrokerLost and BrokerBack, each once; messages that died arrive at the leader's sink as
    `core.events.MessageDied`.
    """

    def attach(self, *, worker: Sink | None = None, leader: Sink | None = None) -> None:
        """Where deliveries, and messages that died, go: nothing is delivered without a worker's sink, and
        without a leader's nobody reads the dead letters."""
        ...

    def tick(self) -> None:
        """The process's loop is alive. Raises InternalError when a thread of the broker's died of a bug."""
        ...

    def publish(self, messages: Sequence[TaskMessage], *, together: bool = False) -> None:
        """Publish, confirmed in the background: each by itself, or `together` as one message that names
        several tasks of one job and kind. That comes whole, as a delivery for each task, and is unsettled
        until all of them are settled. Raises OperatorError once closed."""
        ...

    def set_credit(self, kind: Kind, credit: int) -> None:
        """At most this many unsettled messages of the kind; 0, as at first, stops taking.

        Less than are unsettled takes nothing back. Less than 0 raises InternalError.
        """
        ...

    def ack(self, delivery: int) -> None:
        """Settle for good. Settling twice, or what was never delivered, raises InternalError; what was
        lost with its connection meanwhile is passed over, once."""
        ...

    def give_back(self, delivery: int) -> None:
        """Settle by returning it to the queue, for another consumer; one of several tasks of a message as a
        message of its own. Raises as `ack`. A message that came back more than 20 times dies, which is told
        of each of its tasks."""
        ...

    def close(self) -> None:
        """Return everything unsettled to the queue. Twice is once; any other call then raises
        OperatorError."""
        ...


class LeaderStore(Protocol):
    """The leader's side of the state. Claims, reports and beats arrive at the sink as core events."""

    def begin(self, spec: JobSpec, code: bytes, fence: Fence) -> WriteAnswer:
        """Store a job whole (spec and bundle) before its first batch; idempotent."""
        ...

    def lead(self, fence: Fence) -> WriteAnswer:
        """Take the fence of what belongs to no job: of the batches with job "" (workers' health, orders).
        Also in a store that isn't open yet; idempotent; FENCED where a later epoch has it."""
        ...

    def write(self, batch: Batch) -> WriteAnswer:
        """Apply one batch atomically."""
        ...

    def fence(self, job: str) -> Fence | None:
        """The job's fence as the store has it; of the job "", the one that `lead` took."""
        ...

    def forget(self, job: str) -> None:
        """Drop a job's records; a store that outlives its leader keeps them for a while (`keep_s`)."""
        ...

    def close(self) -> None:
        """Stop calling the sink."""
        ...


class LeaderState(Protocol):
    """What a new leader reads and says before it writes; the same store as its LeaderStore."""

    def identity(self) -> tuple[str, int, bool]:
        """(store id, incarnation, ready); the id is "" in a store that was never initialised."""
        ...

    def open(self, incarnation: int, store_id: str = "") -> None:
        """Everything is loaded or restored: from now on workers get answers. The incarnation only grows.
        The id is written over one that was made meanwhile; without it a store that has none gets one."""
        ...

    def jobs(self) -> list[str]:
        """Ids of all jobs that aren't expired, oldest first."""
        ...

    def state(self, job: str) -> JobState | None:
        """How far a job is, which costs little; None when it isn't known (any more)."""
        ...

    def expired(self, job: str) -> bool:
        """Was there such a job, whose records were kept for as long as they are?"""
        ...

    def load(self, job: str) -> StoredJob | None:
        """A job whole; None when it isn't known (any more). Raises CorruptFileError for one that another
        version of mrq has stored."""
        ...

    def workers(self) -> list[StoredWorker]:
        """Each worker; ages by the store's clock. Read before the place from which events are followed is
        noted: a beat of an older boot must not come after a newer one's."""
        ...

    def logs(self, job: str) -> Mapping[str, str]:
        """What `WorkerStore.log` said of a job's logs: name -> digest, or "" where there is none."""
        ...

    def restore(self, stored: StoredJob, code: bytes) -> WriteAnswer:
        """Write a job whole (rows and locations from `stored.writes`) into a store that lost it, or is
        behind, under the given fence, in place of what is there; also in a store that isn't open. Idempotent;
        FENCED where the incarnation and epoch there are as late."""
        ...


class Lease(Protocol):
    """Who leads. Every call is one atomic step of the store; raises OperatorError when it can't be asked."""

    def take(self, owner: str, epoch_above: int, seconds: float) -> LeaseView:
        """Take a lease that nobody holds, under an epoch above the last one and above `epoch_above`; the
        lease as it then is, whoever has it."""
        ...

    def renew(self, owner: str, epoch: int, seconds: float) -> bool:
        """Hold on to it; False when it is another's, or nobody's."""
        ...

    def release(self, owner: str, epoch: int) -> None:
        """Let go of it, if it is held so."""
        ...

    def view(self) -> LeaseView:
        """The lease as it is."""
        ...


class RequestQueue(Protocol):
    """The leader's side of what clients ask."""

    def requests(self, wait_s: float) -> list[ClientRequest]:
        """New requests, oldest first; those that aren't removed come again to the next leader."""
        ...

    def answer(self, request: str, answer: Mapping[str, Any]) -> None:
        """Answer a request; the first answer counts."""
        ...

    def remove(self, request: str) -> None:
        """What a request asked for is persisted."""
        ...

    def tell(self, job: str, entry: Mapping[str, Any]) -> None:
        """Append to a job's news; old progress may be dropped, an end never."""
        ...

    def close(self) -> None:
        """Close connections; a blocked `requests` returns."""
        ...


class ClientLink(Protocol):
    """A client's side of the same. Raises OperatorError when the store can't be reached."""

    def send(self, request: ClientRequest) -> None:
        """Ask; sending the same id again changes nothing."""
        ...

    def answer(self, request: str, wait_s: float) -> Mapping[str, Any] | None:
        """The answer, waited for; None when there is none yet."""
        ...

    def news(self, job: str, after: str, wait_s: float) -> tuple[str, list[Mapping[str, Any]]]:
        """A job's news after a position ("" for all that is kept), waited for, and the new position."""
        ...

    def close(self) -> None:
        """Close connections; a blocked call returns or raises OperatorError."""
        ...


class Blobs(Protocol):
    """Content-addressed bytes: bundles, side files, standard input, logs, results without OUT."""

    def put(self, data: bytes, *, keep_s: float | None = None) -> str:
        """Store bytes under their sha256, in chunks, and return it; what is there already is only kept
        longer. Raises OperatorError, UsageError when over the limit."""
        ...

    def get(self, digest: str) -> bytes | None:
        """The bytes, verified; None when they aren't there (any more)."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


class LocationStore(Protocol):
    """Where map outputs are: all of the state that a data plane reads."""

    def locations(
        self, job: str, after: int, wait_s: float = 0.0
    ) -> tuple[int, list[tuple[MapLocation, bool]]]:
        """Entries (location, withdrawn) after a position, and the new position; waits for more, if told."""
        ...

    def address(self, worker: str, boot: str) -> str | None:
        """Where that boot of a worker serves its map outputs, by its last beat; None when it isn't known, or
        the worker has another boot by now."""
        ...


class WorkerStore(LocationStore, Protocol):
    """A worker's side of the state."""

    def job(self, job: str, stage: int | None = None) -> JobSpec | None:
        """The job's spec, with the plan of the run of a stage that has that number, if it is known; None when
        the job isn't known (any more)."""
        ...

    def code(self, digest: str) -> bytes | None:
        """A bundle by its sha256."""
        ...

    def claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimAnswer]:
        """Ask for attempts, before any user code runs; idempotent per token."""
        ...

    def report(self, reports: Sequence[AttemptReported]) -> list[ReportAnswer]:
        """Record outcomes; idempotent."""
        ...

    def beat(self, beat: Beat) -> BeatReply | None:
        """The lease of everything listed; None when the store isn't ready."""
        ...

    def boot(self, worker: str) -> tuple[str, float] | None:
        """The boot that beats under a worker's id, and how long ago it did last, seconds by the store's
        clock; None when there is none, or it has said goodbye."""
        ...

    def log(self, job: str, name: str, blob: str) -> None:
        """An attempt's log lies in the blobs under this digest, as ordered by UploadLog; "": this worker has
        none. `name` is the `core.refs.AttemptRef` as text. Kept with the job; nothing for an unknown one."""
        ...

    def leave(self, worker: str, boot: str) -> None:
        """Goodbye of a worker that holds nothing any more; the leader hears WorkerLeft."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialled:
    """Who listens at an address."""

    worker: str
    boot: str
    root: str  #: the path of the folder of its files, as it sees it
    sentinel: str  #: what the file `sentinel` in there holds; "" where there is none


class PeerClient(Protocol):
    """Reads map outputs of other workers (or one's own), by ids.

    Calls wait: for a peer that is busy, and a few times for one that can't be reached.
    """

    def sizes(self, job: str, partition: int, outputs: Sequence[MapLocation]) -> list[Region | None]:
        """What each output's region is, wherever it lies there; None where no such output is found: gone,
        damaged, or with another digest. Raises PeerUnreachableError, with nothing of any output."""
        ...

    def fetch(
        self, job: str, partition: int, outputs: Sequence[MapLocation], offset: int = 0
    ) -> Iterator[bytes]:
        """The regions of one worker's outputs, one after another, from an offset into all of them on, in
        chunks of at most 1 MiB, for the reader to check.

        Raises CorruptFileError at an output for which `sizes` gives None, after what comes before it, and
        PeerUnreachableError.
        """
        ...

    def dial(self, worker: str, boot: str) -> Dialled:
        """Who listens at a peer's address. Raises PeerUnreachableError, also if it is another."""
        ...

    def close(self) -> None:
        """Close channels."""
        ...
