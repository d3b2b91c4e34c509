"""What a reduce on a cluster waits for before it starts: every map's region, on this machine.

The embedded run has no gatherer: its map outputs lie where reduces can read them. `worker.dataplane` is the
one that there is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mrq.core.model import Outcome
from mrq.core.refs import AttemptRef
from mrq.worker.order import MapSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathering:
    """How far an attempt's gathering is."""

    token: str
    fraction: float  #: of all maps, 0 to 1
    bytes: int  #: that were fetched or found


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """All of an attempt's regions are here; its files stay until `cancel`."""

    token: str
    sources: tuple[MapSource, ...]  #: every map's, in map order


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherFailed:
    """An attempt ends before it began; nothing of it is left. Its outcome is FETCH_FAILED with what couldn't
    be read, DISK_FULL, or LOST and never started, where gathering itself failed."""

    token: str
    outcome: Outcome


class Gatherer(Protocol):
    """Gathers for reduces. No call blocks; each may come from the owner's thread only."""

    def attach(self, sink: Callable[[object], None]) -> None:
        """Tell `sink` (never blocks) of Gathering, and of one Gathered or GatherFailed a token."""
        ...

    def gather(self, attempt: AttemptRef, maps: int) -> None:
        """Begin for a reduce attempt: its partition of all maps' outputs, as they appear in the store's
        locations."""
        ...

    def cancel(self, token: str) -> None:
        """The attempt is over, whether it still gathers or has read all: remove what was gathered. Nothing
        more is told of it; a token that isn't known is passed over."""
        ...

    def forget(self, job: str) -> None:
        """The job is over: cancel all that gathers for it and stop following its locations."""
        ...
