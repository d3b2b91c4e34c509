"""Which partition a key goes to, a column at a time, and columns dealt out by partition."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from typing import Any

from mrq.codec.columns import decode_column
from mrq.codec.hashing import partition_column
from mrq.codec.order import NONE, family, same, sort_columns, sort_key
from mrq.codec.types import shown
from mrq.errors import DataError

#: A column of keys -> the partition of each. Equal keys must come out alike.
Partition = Callable[[Sequence[Any]], Sequence[int]]


class ByHash:
    """The stable hash: the same in every process and version, and on either data path."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions

    def __call__(self, keys: Sequence[Any]) -> Sequence[int]:
        """The partition of each key. Raises DataError for keys that can't be carried."""
        return partition_column(keys, self._partitions)


def by_function(
    function: Callable[[Any, int], int], partitions: int, name: str, failed: Callable[[Any], None]
) -> Partition:
    """A user's `partition(key, n)`, checked. The returned callable raises DataError for a wrong answer, or
    what the function raises, and tells `failed` the key first."""

    def column(keys: Sequence[Any]) -> Sequence[int]:
        found: list[int] = []
        try:
            found.extend(map(function, keys, repeat(partitions)))
        except Exception:
            failed(keys[len(found)])
            raise
        if len(found) < len(keys):  # a StopIteration of the function's ended our map()
            failed(keys[len(found)])
            raise _stopped(function, keys[len(found)], partitions)
        if set(map(type, found)) - {int} or (found and not (min(found) >= 0 and max(found) < partitions)):
            for i, number in enumerate(found):
                try:
                    found[i] = _checked(number, keys[i], partitions, name)
                except DataError:
                    failed(keys[i])
                    raise
        return found

    return column


def _stopped(function: Callable[[Any, int], int], key: Any, partitions: int) -> RuntimeError:
    """The error of a partition that raised StopIteration, which it is called once more to show."""
    error = RuntimeError("partition raised StopIteration; was next() called on an empty iterator?")
    try:
        function(key, partitions)
    except StopIteration as exc:
        error.__cause__ = exc
    return error


def _checked(number: Any, key: Any, partitions: int, name: str) -> int:
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < partitions:
        return int(number)
    raise DataError(
        f"{name}({shown(key)}, {partitions}) returned {shown(number)}; it must return an int "
        f"from 0 to {partitions - 1}, as in `return zlib.crc32(key.encode()) % n`"
    )


class Ranges:
    """Partitions of a total order: partition i holds the keys from boundary i-1 on and below boundary i."""

    def __init__(self, boundaries: Sequence[Any]) -> None:
        self._boundaries = list(boundaries)
        self._ordered = [sort_key(key) for key in boundaries]
        self._family = family(self._boundaries)

    @property
    def boundaries(self) -> Sequence[Any]:
        """The first key of each partition but the first."""
        return self._boundaries

    def __call__(self, keys: Sequence[Any]) -> Sequence[int]:
        """The partition of each key."""
        if self._family not in (None, NONE) and family(keys) == self._family:  # Python's order is ours
            return list(map(partial(bisect_right, self._boundaries), keys))
        return [bisect_right(self._ordered, sort_key(key)) for key in keys]


def boundaries(samples: Sequence[bytes], reducers: int) -> list[Any]:
    """At most `reducers` - 1 distinct keys that cut the sampled keys into even parts; none for no keys.

    `samples` are `TaskResult.sample` of all sampled maps. Raises CorruptFileError.
    """
    keys: list[Any] = []
    for sample in samples:
        keys += decode_column(sample) if sample else []
    ordered, _ = sort_columns(keys, None)
    found: list[Any] = []
    for number in range(1, reducers) if ordered else ():
        key = ordered[number * len(ordered) // reducers]
        if not (same(key, ordered[0]) or (found and same(key, found[-1]))):
            found.append(key)
    return found


def deal(numbers: Sequence[int], column: Sequence[Any], partitions: int) -> list[list[Any]]:
    """The column's items of each partition, in order."""
    dealt: list[list[Any]] = [[] for _ in range(partitions)]
    add = [mine.append for mine in dealt]
    for number, item in zip(numbers, column, strict=True):
        add[number](item)
    return dealt
