"""Sorted blocks as groups of equal keys, and columns as blocks of a bounded length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat
from typing import Any

from mrq.codec.order import same
from mrq.shuffle.block import BLOCK_RECORDS
from mrq.shuffle.fold import Columns, Combine


def groups(source: Iterator[Columns]) -> Iterator[tuple[Any, list[Any] | Iterator[Any]]]:
    """(key, its values) of sorted blocks, in order; the key as it came first.

    Values are a list where the group lies in one block, else an iterator that must be used before the
    next group is asked for; what is left of it is skipped then. Memory: a block or two, whatever the group.
    """
    block = _next_block(source)
    while block is not None:
        keys, values = block
        # Counting equal keys at C speed: they are neighbours, and a dict keeps the order of the first.
        counts = Counter(keys)
        last, _ = counts.popitem()
        at = 0
        for key, count in counts.items():
            end = at + count
            yield key, values[at:end]
            at = end
        rest = values[at:] if at else values
        block = _next_block(source)
        if block is None or not same(block[0][0], last):
            yield last, rest
        else:
            long = _LongGroup(last, rest, block, source)
            yield last, long.values()
            block = long.skip()


def _next_block(source: Iterator[Columns]) -> Columns | None:
    for block in source:
        if block[0]:
            return block
    return None


class _LongGroup:
    """A group that goes on in the next blocks."""

    def __init__(self, key: Any, values: list[Any], block: Columns, source: Iterator[Columns]) -> None:
        self._key = key
        self._values: list[Any] = values
        self._block: Columns | None = block
        self._source = source

    def values(self) -> Iterator[Any]:
        """All values, one pass."""
        while self._values:
            mine, self._values = self._values, []
            yield from mine
            del mine
            self._pull()

    def skip(self) -> Columns | None:
        """Go to the end of the group; the block that begins after it."""
        while self._pull():
            pass
        return self._block

    def _pull(self) -> bool:
        """Take the next values of this group from the block at hand; False when there are none."""
        self._values = []
        block = self._block
        if block is None:
            return False
        keys, values = block
        if same(keys[-1], self._key):
            self._values = values
            self._block = _next_block(self._source)
            return True
        end = next(i for i, key in enumerate(keys) if not same(key, self._key))
        self._values = values[:end]
        self._block = (keys[end:], values[end:])
        return end > 0


def combined(source: Iterator[Columns], combine: Combine) -> Iterator[Columns]:
    """Sorted blocks with every group of at least two values combined."""
    keys: list[Any] = []
    values: list[Any] = []
    for key, group in groups(source):
        if type(group) is list and len(group) == 1:
            keys.append(key)
            values.append(group[0])
        else:
            found = iter(combine(key, group))
            while chunk := list(islice(found, BLOCK_RECORDS)):
                keys.extend(repeat(key, len(chunk)))
                values.extend(chunk)
                if len(keys) >= BLOCK_RECORDS:
                    yield from blocks(keys, values)
                    keys, values = [], []
        if len(keys) >= BLOCK_RECORDS:
            yield from blocks(keys, values)
            keys, values = [], []
    yield from blocks(keys, values)


def blocks(keys: list[Any], values: list[Any]) -> Iterator[Columns]:
    """Columns cut into blocks of at most BLOCK_RECORDS."""
    if 0 < len(keys) <= BLOCK_RECORDS:
        yield keys, values
        return
    for at in range(0, len(keys), BLOCK_RECORDS):
        end = at + BLOCK_RECORDS
        yield keys[at:end], values[at:end]


def expanded(keys: Iterable[Any], lists: list[list[Any]]) -> Iterator[Columns]:
    """Keys with their lists of values as blocks with one key a value."""
    each_key = chain.from_iterable(map(repeat, keys, map(len, lists)))
    each_value = chain.from_iterable(lists)
    while values := list(islice(each_value, BLOCK_RECORDS)):
        yield list(islice(each_key, len(values))), values
