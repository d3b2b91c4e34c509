"""Twins in memory of what only a cluster has, and of what can go wrong with servers.

One `MemoryLease`, `MemoryRequests` or `Blobs` stands for a store's part; all masters and clients of one
`MemoryCluster` share it. `away` makes every call raise OperatorError, as a server that can't be reached;
`wipe` is a store that comes back without its data.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from mrq.core.agent_words import BrokerBack, BrokerLost
from mrq.core.claims import Claims
from mrq.core.model import MapLocation
from mrq.core.paths import job_folder
from mrq.core.refs import Kind
from mrq.core.store_api import ClientRequest, LeaseView
from mrq.errors import CorruptFileError, OperatorError
from mrq.master.backend import Servers
from mrq.ports import Dialled
from mrq.servers.memory.queues import MemoryBroker, MemoryQueues
from mrq.servers.memory.servers import MemoryBlobs, MemoryEvents
from mrq.servers.memory.store import MemoryStore
from mrq.shuffle.mapfile import MapFile, Region

#: Answers are kept so long for whoever asked.
_ANSWER_KEPT_S: Final = 600.0
#: Progress of a job that is kept; an end always is.
_PROGRESS_KEPT: Final = 64


class MemoryLease:
    """A Lease, for all masters; `now` is the store's own clock."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._owner: str | None = None
        self._epoch = 0
        self._until = 0.0
        self.away = False

    def take(self, owner: str, epoch_above: int, seconds: float) -> LeaseView:
        """Take a lease that nobody holds."""
        with self._lock:
            view = self._view()
            if view.owner is None:
                self._owner, self._epoch = owner, max(self._epoch, epoch_above) + 1
                self._until = self._now() + seconds
                view = self._view()
            return view

    def renew(self, owner: str, epoch: int, seconds: float) -> bool:
        """Hold on to it."""
        with self._lock:
            held = self._held(owner, epoch)
            if held:
                self._until = self._now() + seconds
            return held

    def release(self, owner: str, epoch: int) -> None:
        """Let go of it."""
        with self._lock:
            if self._held(owner, epoch):
                self._owner = None

    def view(self) -> LeaseView:
        """The lease as it is."""
        with self._lock:
            return self._view()

    def wipe(self) -> None:
        """As when the store comes back without its data."""
        with self._lock:
            self._owner, self._epoch, self._until = None, 0, 0.0

    def _held(self, owner: str, epoch: int) -> bool:
        view = self._view()
        return (view.owner, view.epoch) == (owner, epoch)

    def _view(self) -> LeaseView:
        if self.away:
            raise OperatorError("the store can't be reached")
        left = self._until - self._now()
        if self._owner is None or left <= 0:
            return LeaseView(owner=None, epoch=self._epoch, left_s=0.0)
        return LeaseView(owner=self._owner, epoch=self._epoch, left_s=left)


class MemoryRequests:
    """The stream of requests, their answers, and each job's news."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: OrderedDict[str, tuple[int, ClientRequest]] = OrderedDict()
        self.seen: set[str] = set()
        self.answers: OrderedDict[str, tuple[float, Mapping[str, Any]]] = OrderedDict()
        self.news: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
        self.serial = 0
        self.away = False

    def next_serial(self) -> int:
        """Grows for ever."""
        self.serial += 1
        return self.serial

    def check(self) -> None:
        """Raise where a server couldn't be reached. With the lock held."""
        if self.away:
            raise OperatorError("the store can't be reached")


class MemoryDesk:
    """A RequestQueue: each leader makes its own."""

    def __init__(self, shared: MemoryRequests) -> None:
        self._shared = shared
        self._position = 0  #: of the last request that this leader was given
        self._closed = False

    def requests(self, wait_s: float) -> list[ClientRequest]:
        """New requests, oldest first."""
        with self._shared.changed:
            self._shared.changed.wait_for(lambda: self._closed or bool(self._new()), wait_s)
            if self._closed:
                return []
            self._shared.check()
            found = self._new()
            if found:
                self._position = found[-1][0]
            return [request for _, request in found]

    def answer(self, request: str, answer: Mapping[str, Any]) -> None:
        """Answer; the first one counts."""
        with self._shared.changed:
            self._shared.check()
            answers, now = self._shared.answers, time.monotonic()
            while answers and next(iter(answers.values()))[0] < now - _ANSWER_KEPT_S:
                answers.popitem(last=False)
            answers.setdefault(request, (now, dict(answer)))
            self._shared.changed.notify_all()

    def remove(self, request: str) -> None:
        """What it asked for is persisted."""
        with self._shared.changed:
            self._shared.check()
            self._shared.waiting.pop(request, None)

    def tell(self, job: str, entry: Mapping[str, Any]) -> None:
        """Append to a job's news."""
        with self._shared.changed:
            self._shared.check()
            news = self._shared.news.setdefault(job, [])
            news.append((self._shared.next_serial(), dict(entry)))
            progress = [item for item in news if item[1].get("type") == "progress"]
            for item in progress[:-_PROGRESS_KEPT]:
                news.remove(item)
            self._shared.changed.notify_all()

    def close(self) -> None:
        """A blocked `requests` returns."""
        with self._shared.changed:
            self._closed = True
            self._shared.changed.notify_all()

    def _new(self) -> list[tuple[int, ClientRequest]]:
        return [item for item in self._shared.waiting.values() if item[0] > self._position]


class MemoryClientLink:
    """A ClientLink: each client makes its own."""

    def __init__(self, shared: MemoryRequests) -> None:
        self._shared = shared
        self._closed = False

    def send(self, request: ClientRequest) -> None:
        """Ask, once for each id."""
        with self._shared.changed:
            self._check()
            if request.id not in self._shared.seen:
                self._shared.seen.add(request.id)
                self._shared.waiting[request.id] = (self._shared.next_serial(), request)
                self._shared.changed.notify_all()

    def answer(self, request: str, wait_s: float) -> Mapping[str, Any] | None:
        """The answer, waited for."""
        with self._shared.changed:
            self._shared.changed.wait_for(lambda: self._closed or request in self._shared.answers, wait_s)
            self._check()
            found = self._shared.answers.get(request)
            return None if found is None else found[1]

    def news(self, job: str, after: str, wait_s: float) -> tuple[str, list[Mapping[str, Any]]]:
        """A job's news after a position."""
        position = int(after or 0)

        def found() -> list[tuple[int, Mapping[str, Any]]]:
            return [item for item in self._shared.news.get(job, ()) if item[0] > position]

        with self._shared.changed:
            self._shared.changed.wait_for(lambda: self._closed or bool(found()), wait_s)
            self._check()
            new = found()
            return str(new[-1][0]) if new else after, [entry for _, entry in new]

    def close(self) -> None:
        """A blocked call raises OperatorError."""
        with self._shared.changed:
            self._closed = True
            self._shared.changed.notify_all()

    def _check(self) -> None:
        if self._closed:
            raise OperatorError("this connection to the cluster is closed")
        self._shared.check()


class Store(MemoryStore):
    """A store that can lose its data."""

    def wipe(self, *, initialised: bool = False) -> None:
        """As when a server comes back without its data, and what `init` does."""
        with self._lock:
            store_id = secrets.token_hex(8) if initialised else ""
            self._claims = Claims(store_id=store_id, incarnation=0, ready=False)
            self._specs.clear()
            self._code.clear()
            self._beaten.clear()
            self._logs.clear()


class Blobs(MemoryBlobs):
    """Blobs that can be lost."""

    def wipe(self) -> None:
        """As when the store comes back without its data."""
        with self._lock:
            self._kept.clear()


class LosingBroker(MemoryBroker):
    """A broker whose connection can break."""

    def __init__(self, queues: MemoryQueues) -> None:
        self._lost: set[int] = set()
        self._connected = True
        super().__init__(queues)

    def lose_connection(self) -> None:
        """As when a real connection breaks."""
        with self._queues.lock:
            if self._connected and not self._closed:
                self._connected = False
                self._lost.update(self._unsettled)
                self._return_all()
                self._credit = dict.fromkeys(Kind, 0)
                if self._worker is not None:
                    self._worker(BrokerLost())
                self._queues.pump()

    def connect_again(self) -> None:
        """A new connection, without credit."""
        with self._queues.lock:
            if not self._connected and not self._closed:
                self._connected = True
                if self._worker is not None:
                    self._worker(BrokerBack())

    def wants(self, kind: Kind) -> bool:
        return self._connected and super().wants(kind)

    def ack(self, delivery: int) -> None:
        if not self._was_lost(delivery):
            super().ack(delivery)

    def give_back(self, delivery: int) -> None:
        if not self._was_lost(delivery):
            super().give_back(delivery)

    def _was_lost(self, delivery: int) -> bool:
        """What was lost with its connection is passed over, once."""
        with self._queues.lock:
            self._check_open()
            lost = delivery in self._lost
            self._lost.discard(delivery)
            return lost


class MemoryCluster:
    """A `master.backend.Backend`: masters, workers and clients of it share one store, queues and blobs."""

    def __init__(self, store: MemoryStore, blobs: MemoryBlobs) -> None:
        self.store = store
        self.blobs = blobs
        self.servers = Servers(
            store=store, state=store, blobs=blobs, events=lambda sink: MemoryEvents(store, sink)
        )
        self.lease = MemoryLease()
        self.requests = MemoryRequests()
        self.queues = MemoryQueues()

    def store_id(self) -> str:
        """The store's id."""
        return self.store.identity()[0]

    def desk(self) -> MemoryDesk:
        """One leader's side of what clients ask."""
        return MemoryDesk(self.requests)

    def broker(self, notify: Callable[[str | None], None]) -> MemoryBroker:
        """One process's connection to the queues."""
        return MemoryBroker(self.queues)


class LocalPeers:
    """A PeerClient over the map-output files under one root, which all workers of this machine share."""

    def __init__(self, root: str) -> None:
        self._root = root

    def sizes(self, job: str, partition: int, outputs: Sequence[MapLocation]) -> list[Region | None]:
        """Each output's region, by its index entry."""
        return [self._size(job, partition, output) for output in outputs]

    def fetch(
        self, job: str, partition: int, outputs: Sequence[MapLocation], offset: int = 0
    ) -> Iterator[bytes]:
        """The regions' bytes from an offset on."""
        for output in outputs:
            with self._open(job, output) as file:
                length = file.entry(partition).length
                try:
                    yield from file.raw(partition, offset)
                except OSError as exc:
                    raise CorruptFileError(f"{file.path}: {exc.strerror} in partition {partition}") from exc
                offset = max(0, offset - length)

    def dial(self, worker: str, boot: str) -> Dialled:
        """Whoever it is, it is here."""
        try:
            with open(f"{self._root}/sentinel", encoding="ascii") as file:
                sentinel = file.read()
        except OSError:
            sentinel = ""
        return Dialled(worker=worker, boot=boot, root=self._root, sentinel=sentinel)

    def close(self) -> None:
        """Nothing is held open."""

    def _size(self, job: str, partition: int, output: MapLocation) -> Region | None:
        try:
            with self._open(job, output) as file:
                return file.entry(partition)
        except CorruptFileError:
            return None

    def _open(self, job: str, output: MapLocation) -> MapFile:
        """The file of exactly this attempt and digest. Raises CorruptFileError."""
        path = f"{job_folder(self._root, job)}/maps/{output.attempt}"
        try:
            file = MapFile(path)
        except OSError as exc:
            raise CorruptFileError(f"{path}: {exc.strerror}; the map must run again") from exc
        if file.digest != output.digest:
            file.close()
            raise CorruptFileError(
                f"{path}: digest {file.digest:#x} where {output.digest:#x} is recorded; run the map again"
            )
        return file
