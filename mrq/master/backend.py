"""The servers as a master uses them, behind the ports; `mrq.master.__main__` makes the real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mrq.ports import Blobs, Broker, Desk, LeaderState, LeaderStore, Lease, Sink


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


class Backend(Protocol):
    """One process's connections; what is made for a term of leadership is closed with it."""

    @property
    def lease(self) -> Lease: ...
    @property
    def state(self) -> LeaderState: ...
    @property
    def store(self) -> LeaderStore: ...
    @property
    def blobs(self) -> Blobs: ...

    def store_id(self) -> str:
        """`state.identity()`'s, asked for as promptly as the lease is; "" in a store without one. Raises
        OperatorError."""
        ...

    def events(self, sink: Sink) -> Events:
        """A term's own."""
        ...

    def desk(self) -> Desk:
        """A term's own."""
        ...

    def broker(self, notify: Callable[[str | None], None]) -> Broker:
        """The process's own, made once and kept open; `notify` is told what keeps it from taking messages,
        None once it takes them again. Raises OperatorError."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
