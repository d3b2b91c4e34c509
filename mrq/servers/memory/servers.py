"""What stands beside the store of one process: its blobs, and what it tells a leader of."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable

from mrq.errors import UsageError
from mrq.ports import Sink
from mrq.servers.memory.store import MemoryStore


class MemoryBlobs:
    """Blobs, for everybody; at most `bytes_max` each."""

    def __init__(self, *, bytes_max: int = 512 << 20, now: Callable[[], float] = time.monotonic) -> None:
        self._bytes_max = bytes_max
        self._now = now
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[bytes, float]] = {}  #: with the time until which it is kept

    def put(self, data: bytes, *, keep_s: float | None = None) -> str:
        if len(data) > self._bytes_max:
            raise UsageError(
                f"{len(data):,} bytes are more than the {self._bytes_max:,} that the cluster takes at once "
                "(blob_bytes_max); put the data where the cluster can read it, and name it as input"
            )
        digest = hashlib.sha256(data).hexdigest()
        until = float("inf") if keep_s is None else self._now() + keep_s
        with self._lock:
            before = self._kept.get(digest, (b"", 0.0))[1]
            self._kept[digest] = (bytes(data), max(before, until))
        return digest

    def get(self, digest: str) -> bytes | None:
        with self._lock:
            data, until = self._kept.get(digest, (b"", 0.0))
            if until > self._now():
                return data
            self._kept.pop(digest, None)
            return None

    def drop(self, digest: str) -> None:
        """Keep these bytes no longer."""
        with self._lock:
            self._kept.pop(digest, None)

    def close(self) -> None:
        """Nothing is held open."""


class MemoryEvents:
    """A `master.backend.Events`: what comes between `note` and `start` waits."""

    def __init__(self, store: MemoryStore, sink: Sink) -> None:
        self._store, self._sink = store, sink
        self._waiting: list[object] | None = []
        self._lock = threading.Lock()

    def note(self) -> None:
        self._store.follow(self._take)

    def start(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting or [], None
            for event in waiting:
                self._sink(event)

    def close(self) -> None:
        with contextlib.suppress(ValueError):
            self._store.unfollow(self._take)

    def _take(self, event: object) -> None:
        with self._lock:
            if self._waiting is not None:
                self._waiting.append(event)
                return
        self._sink(event)
