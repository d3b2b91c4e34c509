"""What whoever waits for a job is told: progress, notes, how it ended, and that it goes on again.

`JobEvents` is what the leader tells. On a cluster a `JobEventQueue` appends it to the store, where clients
read it; in an engine's own process its handles are told at once.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from mrq.core import wire
from mrq.core.backoff import Retry
from mrq.core.ending import JobEnd
from mrq.core.info import JobInfo
from mrq.errors import OperatorError
from mrq.ports import RequestQueue

PROGRESS_S: Final = 0.5


class JobEvents(Protocol):
    """Where a leader tells of its jobs, from any thread; only `resumed` waits until that is written."""

    def note(self, job: str, text: str) -> None:
        """A sentence for whoever waits for a job."""
        ...

    def resumed(self, job: str) -> None:
        """A job that had failed goes on, so an end before this is old news. Raises OperatorError."""
        ...

    def ended(self, end: JobEnd) -> None:
        """A job is over."""
        ...

    def mark_dirty(self) -> None:
        """How far jobs are may have changed."""
        ...


class JobEventQueue:
    """A cluster's `JobEvents`: progress at most every half second while something changes; ends aren't lost.

    One thread does the telling, so the leader's loop never waits for the store. What couldn't be told is told
    again when the store is back; a leader that dies before is made good by its successor, which tells the
    ends of all jobs again. `jobs` gives (the machine's id, what is known) of each job under way; it is called
    on that thread.
    """

    def __init__(
        self,
        desk: RequestQueue,
        jobs: Callable[[], Iterable[JobInfo]],
        died: Callable[[BaseException], None] = lambda crash: None,
    ) -> None:
        self._desk = desk
        self._died = died
        self._jobs = jobs
        self._waiting: deque[tuple[str, Mapping[str, Any]]] = deque()
        self._wake = threading.Event()
        self._dirty = False
        self._due = 0.0
        self._shown: dict[str, JobInfo] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="mrq-events", daemon=True)

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def mark_dirty(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._wake.set()

    def note(self, job: str, text: str) -> None:
        self._append(job, {"type": "note", "text": text})

    def resumed(self, job: str) -> None:
        """A job that had failed goes on. Written before this returns; raises OperatorError."""
        self._desk.tell(job, {"type": "resumed"})

    def ended(self, end: JobEnd) -> None:
        self._append(end.job, end.entry())

    def stop(self) -> None:
        """Tell what waits, if the store takes it, and end."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _append(self, job: str, entry: Mapping[str, Any]) -> None:
        self._waiting.append((job, entry))
        self._wake.set()

    def _run(self) -> None:
        try:
            self._tell_all()
        except BaseException as exc:  # clients would wait for ever
            self._died(exc)
            raise

    def _tell_all(self) -> None:
        retry = Retry()
        while True:
            now = time.monotonic()
            due = max(0.0, self._due - now) if self._dirty else None
            self._wake.wait(0.0 if self._waiting else due)
            self._wake.clear()
            told = self._flush()
            if self._stopping:
                return
            if not told:
                self._wake.wait(retry.failed())
                continue
            retry.worked()
            if self._dirty and time.monotonic() >= self._due:
                self._dirty = False
                self._due = time.monotonic() + PROGRESS_S
                shown: dict[str, JobInfo] = {}
                for info in self._jobs():
                    still = shown[info.job] = replace(info, updated_at=0.0)
                    if self._shown.get(info.job) != still:
                        self._waiting.append((info.job, {"type": "progress", "info": wire.to_wire(info)}))
                self._shown = shown
                self._flush()

    def _flush(self) -> bool:
        """Tell all that waits, in order; False when the store can't be reached."""
        while self._waiting:
            job, entry = self._waiting[0]
            try:
                self._desk.tell(job, entry)
            except OperatorError:
                return False
            self._waiting.popleft()
        return True
