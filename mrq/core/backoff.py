"""How long what failed is left alone before it is tried again: longer each time, and not in step with others.

The machines pass a number from a stable hash for `dice`, so that they stay pure; whoever waits outside of the
core counts by a `Retry`, whose numbers come from `random`, or from a test.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waits that double up to the longest. Each is drawn between none and the whole of it (full jitter), or
    from `least` of it on where trying again at once would do harm."""

    base_s: float  #: the whole of the first wait
    max_s: float  #: the longest
    least: float = 0.0  #: a share of the whole, which is waited whatever is drawn

    def wait_s(self, failures: int, dice: float) -> float:
        """Seconds to wait after so many failures in a row, from 1; `dice` is from 0 to 1."""
        whole = min(self.max_s, self.base_s * 2.0 ** min(failures - 1, 32))
        return whole * (self.least + (1.0 - self.least) * dice)


#: Of a server that can't be reached.
AWAY: Final = Backoff(base_s=0.5, max_s=2.0)


class Retry:
    """One thing that is tried until it works."""

    def __init__(self, backoff: Backoff = AWAY, dice: Callable[[], float] = random.random) -> None:
        self._backoff = backoff
        self._dice = dice
        self.failures = 0  #: in a row

    def failed(self) -> float:
        """It failed once more; seconds until it is to be tried again."""
        self.failures += 1
        return self._backoff.wait_s(self.failures, self._dice())

    def worked(self) -> None:
        """The next failure is a first one."""
        self.failures = 0
