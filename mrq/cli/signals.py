"""Ctrl-C and SIGTERM: the first stops cleanly, the second kills at once.

A handler runs in the main thread, between two bytecodes. While that thread plans (lists files, imports the
job), the handler raises, so that the planning ends where it is; while the engine is being started, run or
closed, it only notes the signal, and the loop that waits looks at the note ten times a second: nothing of
the engine is ever interrupted half way.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

#: Ctrl-C; what service managers and `kill` send; a terminal that was closed.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal asked the program to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number

    @property
    def exit_code(self) -> int:
        """As a shell reports it: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.number


class Signals:
    """The handlers of one command; installed in the main thread only, and taken away again."""

    def __init__(self) -> None:
        self.received: int | None = None  #: the first signal that came
        self._noting = 0
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # What the parent chose to ignore (nohup, background jobs of scripts) stays ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._old.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            self._kill(number)
        self.received = number
        if not self._noting:
            raise Stopped(number)

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Within: a signal is noted in `received` instead of being raised."""
        self._noting += 1
        try:
            yield
        finally:
            self._noting -= 1

    def check(self) -> None:
        """Raise Stopped if a signal came, whoever swallowed or noted it."""
        if self.received is not None:
            raise Stopped(self.received)

    def _kill(self, number: int) -> None:
        """The second signal: no more ceremony."""
        try:
            kill_children()
        finally:
            os._exit(128 + number)


def kill_children() -> None:
    """SIGKILL every child of this process, with its process group where it leads one of its own."""
    for pid in child_pids():
        with contextlib.suppress(OSError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)


def child_pids(pid: int | str = "self") -> list[int]:
    """Children of a process, whichever of its threads started them. Empty where /proc says nothing."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    return found
