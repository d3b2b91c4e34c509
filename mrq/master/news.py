"""Tells clients: progress at most every half second while something changes, notes, and ends, which are
never lost.

One thread does the telling, so the master's loop never waits for the store. What couldn't be told is told
again when the store is back; a leader that dies before is made good by its successor, which tells the ends
of all jobs again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from mrq.core import wire
from mrq.core.info import JobInfo
from mrq.errors import OperatorError
from mrq.ports import Desk

PROGRESS_S: Final = 0.5
_AGAIN_S: Final = 0.5


class News:
    """`jobs` gives (the machine's id, what is known) of each job under way; called on the news thread."""

    def __init__(
        self,
        desk: Desk,
        jobs: Callable[[], Iterable[tuple[str, JobInfo]]],
        died: Callable[[BaseException], None] = lambda crash: None,
    ) -> None:
        self._desk = desk
        self._died = died
        self._jobs = jobs
        self._waiting: deque[tuple[str, Mapping[str, Any]]] = deque()
        self._wake = threading.Event()
        self._stirred = False
        self._due = 0.0
        self._shown: dict[str, JobInfo] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="mrq-news", daemon=True)

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def stir(self) -> None:
        """Something may have changed. From any thread."""
        if not self._stirred:
            self._stirred = True
            self._wake.set()

    def tell(self, job: str, entry: Mapping[str, Any]) -> None:
        """Append to a job's news, soon. From any thread."""
        self._waiting.append((job, entry))
        self._wake.set()

    def note(self, job: str, text: str) -> None:
        """A sentence for whoever waits for a job."""
        self.tell(job, {"type": "note", "text": text})

    def stop(self) -> None:
        """Tell what waits, if the store takes it, and end."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._tell_all()
        except BaseException as exc:  # clients would wait for ever
            self._died(exc)
            raise

    def _tell_all(self) -> None:
        while True:
            now = time.monotonic()
            due = max(0.0, self._due - now) if self._stirred else None
            self._wake.wait(0.0 if self._waiting else due)
            self._wake.clear()
            told = self._flush()
            if self._stopping:
                return
            if not told:
                self._wake.wait(_AGAIN_S)
                continue
            if self._stirred and time.monotonic() >= self._due:
                self._stirred = False
                self._due = time.monotonic() + PROGRESS_S
                self._progress()

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

    def _progress(self) -> None:
        shown: dict[str, JobInfo] = {}
        for name, info in self._jobs():
            still = shown[name] = replace(info, updated_at=0.0)
            if self._shown.get(name) != still:
                self._waiting.append((info.job, {"type": "progress", "info": wire.to_wire(info)}))
        self._shown = shown
        self._flush()
