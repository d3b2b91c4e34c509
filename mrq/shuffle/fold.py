"""What the shuffle is given of a reducer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

#: A block: keys and values, parallel.
Columns = tuple[list[Any], list[Any]]

#: (key, the values of its group, at least two) -> fewer values. Never called for a single value.
Combine = Callable[[Any, "Iterator[Any] | list[Any]"], Iterable[Any]]

#: Called now and then: a sign of life.
Tick = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """A reducer that keeps one small carried state a key."""

    adds: bool  #: states of ints are ints, and merging adds them
    counts: bool  #: every pair counts one, whatever its value
    start: Callable[[Sequence[Any]], Any]  #: the state of one key's values, in order. Raises DataError
    merge: Callable[[Sequence[Any]], Any]  #: one state of several of one key, in order
    finish: Callable[[list[Any]], list[Any]]  #: a column of states as a column of results
