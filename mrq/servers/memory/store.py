"""The store of one process, as strict as a server: it answers by `core.claims` alone.

Sinks are called under its lock, so the leader hears of claims and reports in the order in which they were
recorded; a sink only enqueues.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from mrq.core.claims import Claims
from mrq.core.events import AttemptReported
from mrq.core.model import Beat, JobSpec, JobState, MapLocation
from mrq.core.persistence import planned
from mrq.core.store_api import (
    Batch,
    BeatReply,
    ClaimAnswer,
    ClaimRequest,
    Fence,
    ReportAnswer,
    StoredJob,
    StoredWorker,
    WriteAnswer,
)
from mrq.ports import Sink

_A = TypeVar("_A")


class MemoryStore:
    """A LeaderStore, a LeaderState and a WorkerStore (`mrq.ports`): `core.claims` under one lock."""

    def __init__(self, leader: Sink | None = None, *, ready: bool = True, store_id: str = "memory") -> None:
        self._lock = threading.RLock()
        self._grown = threading.Condition(self._lock)  #: something was written
        self._claims = Claims(store_id=store_id, ready=ready)
        self._followers: list[Sink] = [] if leader is None else [leader]
        self._nudges: list[Callable[[], None]] = []
        self._specs: dict[str, JobSpec] = {}
        self._code: dict[str, bytes] = {}
        self._beaten: dict[str, float] = {}  #: when each worker's last beat came, of those that didn't leave
        self._logs: dict[str, dict[str, str]] = {}  #: by job: name -> digest
        self._gone: deque[str] = deque(maxlen=10_000)  #: forgotten jobs

    def attach(self, *, nudge: Callable[[], None]) -> None:
        """Call this, from any thread, when orders wait for the next beat; it only enqueues."""
        self._nudges.append(nudge)

    def follow(self, sink: Sink) -> None:
        """Tell this sink, too, what workers record from now on."""
        with self._lock:
            self._followers.append(sink)

    def unfollow(self, sink: Sink) -> None:
        """Tell it nothing more. Raises ValueError where it wasn't told anything."""
        with self._lock:
            self._followers.remove(sink)

    # LeaderState.

    def identity(self) -> tuple[str, int, bool]:
        with self._lock:
            return self._claims.store_id, self._claims.incarnation, self._claims.ready

    def open(self, incarnation: int, store_id: str = "") -> None:
        with self._lock:
            self._claims.store_id = store_id or self._claims.store_id or secrets.token_hex(8)
            self._claims.open(incarnation)
            self._grown.notify_all()

    def jobs(self) -> list[str]:
        with self._lock:
            return list(self._claims.jobs)

    def state(self, job: str) -> JobState | None:
        with self._lock:
            found = self._claims.jobs.get(job)
            return None if found is None else JobState(found["state"])

    def load(self, job: str) -> StoredJob | None:
        with self._lock:
            spec = self._specs.get(job)
            return None if spec is None else self._claims.load(spec)

    def workers(self) -> list[StoredWorker]:
        with self._lock:
            now, at = time.monotonic(), self._beaten
            return [replace(w, age_s=now - at.get(w.beat.worker, now)) for w in self._claims.heard()]

    def logs(self, job: str) -> Mapping[str, str]:
        with self._lock:
            return dict(self._logs.get(job, {}))

    def restore(self, stored: StoredJob, code: bytes) -> WriteAnswer:
        with self._lock:
            answer = self._claims.restore(stored)
            if answer in (WriteAnswer.WRITTEN, WriteAnswer.ALREADY):
                self._specs[stored.spec.job] = stored.spec
                self._code[stored.spec.code] = code
            self._grown.notify_all()
            return answer

    # LeaderStore.

    def lead(self, fence: Fence) -> WriteAnswer:
        with self._lock:
            return self._claims.lead(fence)

    def begin(self, spec: JobSpec, code: bytes, fence: Fence) -> WriteAnswer:
        with self._lock:
            answer = self._claims.begin(spec.job, fence)
            if answer in (WriteAnswer.WRITTEN, WriteAnswer.ALREADY):
                self._specs.setdefault(spec.job, spec)
                self._code.setdefault(spec.code, code)
            return answer

    def write(self, batch: Batch) -> WriteAnswer:
        """Apply one batch atomically; wakes workers that have orders."""
        with self._lock:
            answer = self._claims.write(batch)
            self._grown.notify_all()
        if answer is WriteAnswer.WRITTEN and batch.orders:
            for nudge in self._nudges:
                nudge()
        return answer

    def fence(self, job: str) -> Fence | None:
        with self._lock:
            return self._claims.fence(job)

    def expired(self, job: str) -> bool:
        with self._lock:
            return job in self._gone and job not in self._claims.jobs

    def forget(self, job: str) -> None:
        """Drop a job's records, and its code unless another job runs on it."""
        with self._lock:
            if job in self._claims.jobs:
                self._gone.append(job)
            self._claims.forget(job)
            self._logs.pop(job, None)
            spec = self._specs.pop(job, None)
            if spec is not None and all(other.code != spec.code for other in self._specs.values()):
                self._code.pop(spec.code, None)

    def close(self) -> None:
        with self._lock:
            self._followers.clear()
            self._nudges.clear()

    # WorkerStore.

    def job(self, job: str, stage: int | None = None) -> JobSpec | None:
        with self._lock:
            spec = self._specs.get(job)
            return spec and planned(spec, stage, self._claims.jobs[job]["records"].get)

    def code(self, digest: str) -> bytes | None:
        with self._lock:
            return self._code.get(digest)

    def claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimAnswer]:
        with self._lock:
            return [self._tell(*self._claims.claim(request)) for request in requests]

    def report(self, reports: Sequence[AttemptReported]) -> list[ReportAnswer]:
        with self._lock:
            return [self._tell(*self._claims.report(report)) for report in reports]

    def beat(self, beat: Beat) -> BeatReply | None:
        with self._lock:
            reply, events = self._claims.beat(beat)
            found = self._claims.workers.get(beat.worker)
            if found is not None and found["boot"] == beat.boot:
                self._beaten[beat.worker] = time.monotonic()
            for event in events:
                self._tell(None, event)
            return reply

    def locations(
        self, job: str, after: int, wait_s: float = 0.0
    ) -> tuple[int, list[tuple[MapLocation, bool]]]:
        with self._grown:
            found = self._claims.locations(job, after)
            if not found[1] and wait_s > 0:
                self._grown.wait(wait_s)
                found = self._claims.locations(job, after)
            return found

    def address(self, worker: str, boot: str) -> str | None:
        with self._lock:
            found = self._claims.workers.get(worker)
            if found is None or found["boot"] != boot:
                return None
            return found["beat"].address or None

    def boot(self, worker: str) -> tuple[str, float] | None:
        with self._lock:
            found = self._claims.workers.get(worker)
            if found is None or worker not in self._beaten:
                return None
            return found["boot"], time.monotonic() - self._beaten[worker]

    def log(self, job: str, name: str, blob: str) -> None:
        with self._lock:
            if job in self._specs:
                self._logs.setdefault(job, {})[name] = blob

    def leave(self, worker: str, boot: str) -> None:
        with self._lock:
            event = self._claims.leave(worker, boot)
            if event is not None:
                self._beaten.pop(worker, None)
            self._tell(None, event)

    def _tell(self, answer: _A, event: object | None) -> _A:
        if event is not None:
            for sink in list(self._followers):
                sink(event)
        return answer
