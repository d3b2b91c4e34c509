"""What the contract suites need of any twin: a factory each, and values to send through it.

A real adapter joins by adding a factory to BROKERS or PEERS, or a name to STORES; the tests stay as they
are. They wait for what may take time (`Inbox.wait`), so they hold for a network as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from inbox import Inbox
from services import Redis, broker_on, shared
from twins import LocalPeers, LosingBroker

from mrq.adapters.grpc.peer_client import GrpcPeers
from mrq.adapters.grpc.server import FileServer
from mrq.adapters.rabbitmq import RabbitBroker, SigningKeys
from mrq.adapters.rabbitmq import connect as connect_rabbitmq
from mrq.adapters.redis import LeaderEvents, RedisLeaderStore, RedisWorkerStore, connect
from mrq.core.commands import GiveOrder, WriteJob, WriteTask
from mrq.core.events import AttemptReported
from mrq.core.model import (
    Beat,
    JobSpec,
    JobState,
    Outcome,
    RunningAttempt,
    Slots,
    StageSpec,
    Status,
    TaskMessage,
)
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_api import Batch, ClaimRequest, Fence, Write, WriteAnswer
from mrq.ports import Broker, LeaderState, LeaderStore, PeerClient, WorkerStore
from mrq.servers.memory.queues import MemoryQueues
from mrq.servers.memory.store import MemoryStore


@dataclass
class Consumer:
    broker: Broker
    inbox: Inbox


class MemoryBrokerFactory:
    """Brokers of several processes over one set of queues."""

    name = "memory"

    def __init__(self, _request: pytest.FixtureRequest) -> None:
        self._queues = MemoryQueues()
        self._made: list[LosingBroker] = []

    def connect(self) -> Consumer:
        """One process's broker, with one inbox for worker and leader events."""
        inbox = Inbox()
        broker = LosingBroker(self._queues)
        broker.attach(worker=inbox, leader=inbox)
        self._made.append(broker)
        return Consumer(broker, inbox)

    def lose(self, consumer: Consumer) -> None:
        assert isinstance(consumer.broker, LosingBroker)
        consumer.broker.lose_connection()

    def restore(self, consumer: Consumer) -> None:
        assert isinstance(consumer.broker, LosingBroker)
        consumer.broker.connect_again()

    def close(self) -> None:
        for broker in self._made:
            broker.close()


class RabbitBrokerFactory:
    """Brokers of several processes on a virtual host of their own; each leads, and reads the dead letters."""

    version = ""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._server = broker_on(
            shared(request.getfixturevalue("run"), "rabbitmq", self.version), self.version
        )
        self._made: list[RabbitBroker] = []

    def connect(self) -> Consumer:
        inbox = Inbox()
        broker = connect_rabbitmq(self._server.url, keys=KEYS)
        self._made.append(broker)
        broker.attach(worker=inbox, leader=inbox)
        return Consumer(broker, inbox)

    def lose(self, consumer: Consumer) -> None:
        assert isinstance(consumer.broker, RabbitBroker)
        consumer.broker.lose_connection()

    def restore(self, consumer: Consumer) -> None:
        """It connects again by itself."""

    def close(self) -> None:
        for broker in self._made:
            broker.close()
        self._server.drop()


class RabbitMQ40(RabbitBrokerFactory):
    name, version = "rabbitmq-4.0", "4.0"


class RabbitMQ310(RabbitBrokerFactory):
    name, version = "rabbitmq-3.10", "3.10"


class RabbitMQ43(RabbitBrokerFactory):
    name, version = "rabbitmq-4.3", "4.3"


@dataclass
class Sides:
    """Both sides of one store."""

    leader: LeaderStore
    worker: WorkerStore
    inbox: Inbox
    make_ready: Callable[[], None]
    close: Callable[[], None]
    seq: dict[str, int] = field(default_factory=dict)

    @property
    def state(self) -> LeaderState:
        """What a new leader reads: the same store."""
        return cast(LeaderState, self.leader)

    def write(self, *writes: Write, job: str = "j", orders: tuple[GiveOrder, ...] = ()) -> None:
        """The next batch under the fence that `begun` took."""
        self.seq[job] = self.seq.get(job, 0) + 1
        batch = Batch(job=job, fence=fence(seq=self.seq[job]), writes=writes, orders=orders)
        assert self.leader.write(batch) is WriteAnswer.WRITTEN

    def claim(self, request: ClaimRequest) -> Any:
        (answer,) = self.worker.claim([request])
        return answer

    def report(self, request: AttemptReported) -> Any:
        (answer,) = self.worker.report([request])
        return answer


def memory_store(*, ready: bool = True) -> Sides:
    inbox = Inbox()
    store = MemoryStore(leader=inbox, ready=ready)
    return Sides(store, store, inbox, lambda: store.open(7), store.close)


def redis_store(server: Redis, *, ready: bool = True, url: str | None = None) -> Sides:
    """Both sides over connections of their own, and the events; nothing is kept of a forgotten job."""
    leading = connect(url or server.url, prefix=server.prefix)
    working = connect(url or server.url, prefix=server.prefix)
    inbox, leader, worker = Inbox(), RedisLeaderStore(leading, keep_s=0), RedisWorkerStore(working)
    events = LeaderEvents(leading, inbox, recorded=leader.recorded)

    def close() -> None:
        events.close()
        worker.close()
        working.close()
        leading.close()

    leader.init()
    if ready:
        leader.open(1)
    events.note()
    events.start()
    return Sides(leader, worker, inbox, lambda: leader.open(7), close)


class ServedPeers(GrpcPeers):
    """Files under one root, through a server and a client, with a key."""

    def __init__(self, root: str) -> None:
        self._server = FileServer(root=root, worker="w", boot="b1", sentinel="s", key=b"secret")
        self._server.start()
        super().__init__(lambda worker, boot: self._server.address, key=b"secret")

    def close(self) -> None:
        super().close()
        self._server.stop(0)


BrokerFactory = MemoryBrokerFactory | RabbitBrokerFactory
BROKERS: list[type[BrokerFactory]] = [MemoryBrokerFactory, RabbitMQ40, RabbitMQ310, RabbitMQ43]
#: "memory", or the version of a Redis.
STORES = ("memory", "8.0", "7.0")
PEERS: list[Callable[[str], PeerClient]] = [LocalPeers, ServedPeers]

KEYS = SigningKeys(current="k1", secrets={"k1": b"an example's secret, of 32 bytes"})
#: Of the bundle b"code".
CODE = hashlib.sha256(b"code").hexdigest()
SLOTS = Slots(map=2, reduce=2, total=2)


def spec(job: str = "j", **changes: Any) -> JobSpec:
    made = JobSpec(
        job=job,
        name="Test",
        code=CODE,
        entry="jobs:Test",
        parameters={"n": 3},
        inputs=("in",),
        stages=(StageSpec(splits=(), reducers=2),),
    )
    return replace(made, **changes)


def fence(*, seq: int = 0, epoch: int = 1, owner: str = "o", incarnation: int = 1) -> Fence:
    return Fence(incarnation=incarnation, epoch=epoch, owner=owner, seq=seq)


def ref(index: int = 0, kind: Kind = Kind.MAP, job: str = "j") -> TaskRef:
    return TaskRef(job, 0, kind, index)


def task(index: int = 0, kind: Kind = Kind.MAP, **changes: Any) -> WriteTask:
    made = WriteTask(
        task=ref(index, kind),
        primary=1,
        backup=0,
    )
    return replace(made, **changes)


def job_state(state: JobState, job: str = "j") -> WriteJob:
    return WriteJob(job=job, state=state)


def message(index: int = 0, kind: Kind = Kind.MAP, job: str = "j", **changes: Any) -> TaskMessage:
    made = TaskMessage(task=ref(index, kind, job), ticket=1)
    return replace(made, **changes)


def request(
    token: str = "t1", worker: str = "w1", boot: str = "b1", index: int = 0, **changes: Any
) -> ClaimRequest:
    held_seq, held_token = changes.pop("held_beat_seq", None), changes.pop("held_token", None)
    return ClaimRequest(
        message=message(index, **changes),
        worker=worker,
        boot=boot,
        token=token,
        held_beat_seq=held_seq,
        held_token=held_token,
    )


def report(
    attempt: AttemptRef,
    worker: str = "w1",
    boot: str = "b1",
    status: Status = Status.FAILED,
    **changes: Any,
) -> AttemptReported:
    made = AttemptReported(
        attempt=attempt,
        worker=worker,
        boot=boot,
        outcome=Outcome(status=status),
    )
    return replace(made, **changes)


def line(token: str, index: int = 0, **changes: Any) -> RunningAttempt:
    made = RunningAttempt(attempt=AttemptRef(ref(index), 1, 1, token))
    return replace(made, **changes)


def beat(
    seq: int, *tokens: str, worker: str = "w1", boot: str = "b1", acked: int = 0, draining: bool = False
) -> Beat:
    return Beat(
        worker=worker,
        boot=boot,
        seq=seq,
        slots=SLOTS,
        running=tuple(line(token) for token in tokens),
        acked_order=acked,
        draining=draining,
    )
