"""Every Clock: one that never runs back, and one for people."""

from __future__ import annotations

import time

from mrq.adapters.memory import SystemClock
from mrq.ports import Clock


def test_monotonic_never_runs_back() -> None:
    clock: Clock = SystemClock()
    times = [clock.monotonic() for _ in range(1000)]
    assert times == sorted(times)


def test_time_is_the_wall_clock() -> None:
    clock: Clock = SystemClock()
    assert abs(clock.time() - time.time()) < 5
