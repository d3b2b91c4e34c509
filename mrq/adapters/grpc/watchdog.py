"""Ends calls that give nothing while somebody waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Watched:
    """One call, as its reader marks it."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._since: float | None = None

    def waits(self) -> None:
        """The reader wants bytes, from now on."""
        self._since = time.monotonic()

    def rests(self) -> None:
        """It does something else."""
        self._since = None

    def end_if_silent(self, before: float) -> None:
        """Cancel the call if its reader has waited since before that."""
        since = self._since
        if since is not None and since < before:
            self._call.cancel()


class Watchdog:
    """Looks at all calls that are read, from one thread, which lives while there are any."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._watched: set[Watched] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def over(self, call: Any) -> Iterator[Watched]:
        """Watch a call."""
        watched = Watched(call)
        with self._changed:
            self._watched.add(watched)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="mrq-watchdog", daemon=True)
                self._thread.start()
        try:
            yield watched
        finally:
            with self._changed:
                self._watched.discard(watched)

    def close(self) -> None:
        """Watch no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        with self._changed:
            while self._watched and not self._closed:
                before = time.monotonic() - self._limit_s
                for watched in self._watched:
                    watched.end_if_silent(before)
                self._changed.wait(min(1.0, self._limit_s / 4))
            self._thread = None
