"""The servers of one process: what stands where a cluster has Redis and RabbitMQ."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from mrq.adapters.memory import MemoryBroker, MemoryQueues, MemoryStore
from mrq.adapters.memory_leading import MemoryBlobs, MemoryDesk, MemoryLease, MemoryRequests
from mrq.ports import Sink

S = TypeVar("S", bound=MemoryStore)


class MemoryServers(Generic[S]):
    """A `master.backend.Backend`: masters, workers and clients of it share one store, queues and blobs."""

    def __init__(self, store: S, blobs: MemoryBlobs | None = None) -> None:
        self.store: S = store
        self.state: S = store
        self.blobs = blobs if blobs is not None else MemoryBlobs()
        self.lease = MemoryLease()
        self.requests = MemoryRequests()
        self.queues = MemoryQueues()

    def store_id(self) -> str:
        """The store's id."""
        return self.store.identity()[0]

    def events(self, sink: Sink) -> MemoryEvents:
        """What workers record from now on, for one leader."""
        return MemoryEvents(self.store, sink)

    def desk(self) -> MemoryDesk:
        """One leader's side of what clients ask."""
        return MemoryDesk(self.requests)

    def broker(self, notify: Callable[[str | None], None] = lambda trouble: None) -> MemoryBroker:
        """One process's connection to the queues."""
        return MemoryBroker(self.queues)

    def close(self) -> None:
        """Nothing is held open."""


class MemoryEvents:
    """A `master.backend.Events`: what comes between `note` and `start` waits."""

    def __init__(self, store: MemoryStore, sink: Sink) -> None:
        self._store, self._sink = store, sink
        self._waiting: list[object] | None = []
        self._lock = threading.Lock()

    def note(self) -> None:
        """Follow from here."""
        self._store.follow(self._take)

    def start(self) -> None:
        """Hand on what has come, and what comes."""
        with self._lock:
            waiting, self._waiting = self._waiting or [], None
            for event in waiting:
                self._sink(event)

    def close(self) -> None:
        """Call the sink no more."""
        with contextlib.suppress(ValueError):
            self._store.unfollow(self._take)

    def _take(self, event: object) -> None:
        with self._lock:
            if self._waiting is not None:
                self._waiting.append(event)
                return
        self._sink(event)
