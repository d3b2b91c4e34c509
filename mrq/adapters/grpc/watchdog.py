"""Ends calls in which nothing happens while somebody waits: a reader for bytes, a server for its caller."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

#: The thread stays for so long after its last call: short ones come one after another.
_LINGER_S: Final = 5.0


class Watched:
    """One call, as whoever waits in it marks it."""

    def __init__(self, call: Any, limit_s: float) -> None:
        self.call = call
        self.limit_s = limit_s
        self.since: float | None = None  #: it is waited in

    def arm(self) -> None:
        """Something is to come, or to be taken, from now on."""
        self.since = time.monotonic()

    def disarm(self) -> None:
        """Nobody waits for the other side."""
        self.since = None


class Watchdog:
    """Looks at all calls that are waited in, from one thread, which lives while there are any."""

    def __init__(self, limit_s: float) -> None:
        """`limit_s` holds for calls that have no limit of their own."""
        self._limit_s = limit_s
        self._watched: set[Watched] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def over(self, call: Any, limit_s: float | None = None) -> Iterator[Watched]:
        """Watch a call: what has a `cancel`."""
        watched = Watched(call, self._limit_s if limit_s is None else limit_s)
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
            last = time.monotonic()
            while not self._closed:
                now = time.monotonic()
                if self._watched:
                    last = now
                elif now - last > _LINGER_S:
                    break
                for watched in self._watched:
                    since = watched.since
                    if since is not None and since < now - watched.limit_s:
                        watched.call.cancel()
                self._changed.wait(min(0.5, self._limit_s / 4))
            self._thread = None
