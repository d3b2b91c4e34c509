"""What can befall the servers in memory: a connection breaks, a store loses its data or isn't there."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from mrq.adapters.memory import MemoryBroker, MemoryQueues, MemoryStore
from mrq.adapters.memory_leading import MemoryBlobs, MemoryLease, MemoryRequests
from mrq.core.agent_words import BrokerBack, BrokerLost
from mrq.core.claims import Claims
from mrq.core.refs import Kind
from mrq.errors import OperatorError
from mrq.ports import ClientRequest, LeaseView


class BreakingBroker(MemoryBroker):
    """A broker whose connection breaks."""

    def __init__(self, queues: MemoryQueues | None = None) -> None:
        self._connected = True
        self._lost: set[int] = set()
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

    def ack(self, delivery: int) -> None:
        with self._queues.lock:
            if not self._was_lost(delivery):
                super().ack(delivery)

    def give_back(self, delivery: int) -> None:
        with self._queues.lock:
            if not self._was_lost(delivery):
                super().give_back(delivery)

    def wants(self, kind: Kind) -> bool:
        return self._connected and super().wants(kind)

    def _was_lost(self, delivery: int) -> bool:
        """Was it made over a connection that is gone? The queues have it back already."""
        self._check_open()
        if delivery not in self._lost:
            return False
        self._lost.remove(delivery)
        return True


class AwayLease(MemoryLease):
    """A lease whose store can be `away`, as a server that can't be reached."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(now=now)
        self.away = False

    def _view(self) -> LeaseView:
        if self.away:
            raise OperatorError("the store can't be reached")
        return super()._view()


def wipe_store(store: MemoryStore, *, initialised: bool = False) -> None:
    """As when a server comes back without its data; `initialised`: and an operator ran `init` at once."""
    with store._lock:
        store._claims = Claims(
            store_id=secrets.token_hex(8) if initialised else "", incarnation=0, ready=False
        )
        store._specs.clear()
        store._code.clear()
        store._beaten.clear()
        store._logs.clear()


def wipe_lease(lease: MemoryLease) -> None:
    """As when the store comes back without its data."""
    with lease._lock:
        lease._owner, lease._epoch, lease._until = None, 0, 0.0


def wipe_blobs(blobs: MemoryBlobs) -> None:
    """As when the store comes back without its data."""
    with blobs._lock:
        blobs._kept.clear()


class MemoryClientLink:
    """A ClientLink: each client makes its own. In memory a leader is called, so that only tests ask so."""

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
