"""The servers as a master uses them, behind the ports; `mrq.master.__main__` makes the real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mrq.ports import Blobs, Broker, LeaderState, LeaderStore, Lease, RequestQueue, Sink


class Events(Protocol):
    """What workers record, put into a sink from a place that was noted before the load."""

    def note(self) -> None:
        """Follow from here. Raises OperatorError."""
        ...

    def start(self) -> None:
        """Follow, on a thread of its own."""
        ...

    def close(self) -> None:
        """Call the sink no more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """What a leadership needs: of this process (`servers.memory`), or of a cluster."""

    store: LeaderStore
    state: LeaderState  #: the same store
    blobs: Blobs
    events: Callable[[Sink], Events]  #: makes what a leadership hears of workers from


class Backend(Protocol):
    """One process's connections to a cluster; what is made for a term of leadership is closed with it."""

    @property
    def servers(self) -> Servers: ...
    @property
    def lease(self) -> Lease: ...

    def store_id(self) -> str:
        """`state.identity()`'s, asked for as promptly as the lease is; "" in a store without one. Raises
        OperatorError."""
        ...

    def desk(self) -> RequestQueue:
        """A term's own."""
        ...

    def broker(self, notify: Callable[[str | None], None]) -> Broker:
        """The process's own, made once and kept open; `notify` is told what keeps it from taking messages,
        None once it takes them again. Raises OperatorError."""
        ...
