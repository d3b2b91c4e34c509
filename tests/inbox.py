"""A sink of events that tests can wait for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any


class Inbox:
    """A sink that can be waited for."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self._more = threading.Condition()

    def __call__(self, event: object) -> None:
        with self._more:
            self.events.append(event)
            self._more.notify_all()

    def wait(self, kind: type[Any], n: int = 1, timeout_s: float = 5.0) -> list[Any]:
        """The events of a kind, once there are at least n."""
        with self._more:
            self._more.wait_for(lambda: len(self.of(kind)) >= n, timeout_s)
            found = self.of(kind)
        assert len(found) >= n, f"{len(found)} {kind.__name__} in {timeout_s} s where {n} were expected"
        return found

    def wait_for(self, wanted: Callable[[Any], bool], timeout_s: float = 5.0) -> Any:
        """The first event that is wanted, once there is one."""
        self.wait_until(lambda: any(map(wanted, self.events)), timeout_s)
        return next(filter(wanted, self.events))

    def wait_until(self, holds: Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Until it holds after some event."""
        with self._more:
            assert self._more.wait_for(holds, timeout_s), f"not in {timeout_s} s; heard: {self.events[-20:]}"

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def stays(self, kind: type[Any], n: int, seconds: float = 0.05) -> None:
        """That many come, and no more."""
        self.wait(kind, n)
        time.sleep(seconds)
        assert len(self.of(kind)) == n
