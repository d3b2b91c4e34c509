"""The twins of what masters and clients share: the lease, requests with their answers and news, blobs.

One `MemoryLease`, `MemoryRequests` or `MemoryBlobs` stands for a store's part; all masters and clients of one
`servers.memory.servers.MemoryServers` share it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

from mrq.errors import UsageError
from mrq.ports import ClientRequest, LeaseView

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

    def _held(self, owner: str, epoch: int) -> bool:
        view = self._view()
        return (view.owner, view.epoch) == (owner, epoch)

    def _view(self) -> LeaseView:
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

    def next_serial(self) -> int:
        """Grows for ever."""
        self.serial += 1
        return self.serial


class MemoryDesk:
    """A Desk: each leader makes its own."""

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
            found = self._new()
            if found:
                self._position = found[-1][0]
            return [request for _, request in found]

    def answer(self, request: str, answer: Mapping[str, Any]) -> None:
        """Answer; the first one counts."""
        with self._shared.changed:
            answers, now = self._shared.answers, time.monotonic()
            while answers and next(iter(answers.values()))[0] < now - _ANSWER_KEPT_S:
                answers.popitem(last=False)
            answers.setdefault(request, (now, dict(answer)))
            self._shared.changed.notify_all()

    def remove(self, request: str) -> None:
        """What it asked for is persisted."""
        with self._shared.changed:
            self._shared.waiting.pop(request, None)

    def tell(self, job: str, entry: Mapping[str, Any]) -> None:
        """Append to a job's news."""
        with self._shared.changed:
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


class MemoryBlobs:
    """Blobs, for everybody; at most `bytes_max` each."""

    def __init__(self, *, bytes_max: int = 512 << 20, now: Callable[[], float] = time.monotonic) -> None:
        self._bytes_max = bytes_max
        self._now = now
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[bytes, float]] = {}  #: with the time until which it is kept

    def put(self, data: bytes, *, keep_s: float | None = None) -> str:
        """Store bytes under their sha256."""
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
        """The bytes."""
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
