"""Workers that are dialled back, some at once and each once at a time.

The machine asks again where no verdict came in time. Where many can't be reached each takes seconds, and what
is still waiting for its turn is asked for again: that mustn't make the queue longer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from mrq.core import commands as c
from mrq.core import events as e

#: Dials a worker back, some seconds long; what came of it.
Dial = Callable[[c.DialWorker], e.Event]

#: At once; one that can't be reached takes some seconds.
DIALS_MAX: Final = 8


class Dials:
    """`later` does a thing on one of DIALS_MAX threads, and never raises; verdicts go to `tell`."""

    def __init__(
        self, dial: Dial, later: Callable[[Callable[[], None]], None], tell: Callable[[e.Event], None]
    ) -> None:
        self._dial, self._later, self._tell = dial, later, tell
        self._lock = threading.Lock()
        self._waiting: set[c.DialWorker] = set()

    def ask(self, asked: c.DialWorker) -> None:
        """Dial, unless that is about to be done. From any thread."""
        with self._lock:
            if asked in self._waiting:
                return
            self._waiting.add(asked)
        self._later(lambda: self._ask(asked))

    def _ask(self, asked: c.DialWorker) -> None:
        try:
            verdict = self._dial(asked)
        finally:
            with self._lock:
                self._waiting.discard(asked)
        self._tell(verdict)
