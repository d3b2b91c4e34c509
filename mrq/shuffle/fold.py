"""What the shuffle asks of a reducer, as Protocols: `job.builtins` and the task runners fulfil them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

#: A block: keys and values, parallel.
Columns = tuple[list[Any], list[Any]]

#: (key, the values of its group, at least two) -> fewer values. Never called for a single value.
Combine = Callable[[Any, "Iterator[Any] | list[Any]"], Iterable[Any]]

#: Called now and then: a sign of life.
Tick = Callable[[], None]


class Fold(Protocol):
    """A reducer that keeps one small carried state a key."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def adds(self) -> bool:
        """States of ints are ints, and merging adds them."""
        ...

    @property
    def counts(self) -> bool:
        """Every pair counts one, whatever its value."""
        ...

    def start(self, values: Sequence[Any]) -> Any:
        """The state of one key's values, at least one, in order. Raises DataError."""
        ...

    def merge(self, states: Sequence[Any]) -> Any:
        """One state of several of one key, in order."""
        ...

    def finish(self, states: list[Any]) -> list[Any]:
        """A column of states as a column of results."""
        ...
