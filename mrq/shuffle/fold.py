"""What the shuffle is given of a reducer.

A reduce that *folds* keeps one small state a key: the map side folds the values of a key before it writes
them, the reduce side what all maps have of it. A *combine* of a user's does the same with code of their own.
"""

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
    """A reducer that keeps one small carried state a key. All of it goes by columns."""

    #: Two states of one key as one, where both are ints; None where that takes more.
    join: Callable[[int, int], int] | None
    states: Callable[[list[Any]], list[Any]]  #: of each value by itself. Raises DataError
    merged: Callable[[Sequence[list[Any]]], list[Any]]  #: of each list of states of one key, in order, one
    finish: Callable[[list[Any]], list[Any]]  #: a column of states as a column of results
