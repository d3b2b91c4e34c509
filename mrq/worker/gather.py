"""What a reduce on a cluster waits for before it starts: every map's region, on this machine.

`worker.dataplane` gathers, and tells of it in these words. The embedded run has no gatherer: its map outputs
lie where reduces can read them.
"""

from __future__ import annotations

from dataclasses import dataclass

from mrq.core.model import Outcome
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
