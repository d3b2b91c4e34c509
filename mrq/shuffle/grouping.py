"""Sorted blocks as groups of equal keys, and what becomes of groups: combined, folded, or blocks again.

Keys that are equal lie beside each other, and all have been encoded and decoded once, so Python's `==` tells
them. Nothing here holds more than a block or two, whatever the size of a group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from typing import Any

from mrq.shuffle.block import BLOCK_RECORDS
from mrq.shuffle.fold import Columns, Combine, Fold


def groups(source: Iterator[Columns]) -> Iterator[tuple[Any, list[Any] | Iterator[Any]]]:
    """(key, its values) of sorted blocks, in order; the key as it came first.

    Values are a list where the group lies in one block, else an iterator that must be used before the
    next group is asked for; what is left of it is skipped then.
    """
    blocks = (block for block in source if block[0])
    block = next(blocks, None)
    while block is not None:
        keys, values = block
        counts = Counter(keys)  # at C speed; a dict keeps the first of equal keys, and their order
        last, _ = counts.popitem()
        at = 0
        for key, count in counts.items():
            yield key, values[at : at + count]
            at += count
        block = next(blocks, None)
        if block is None or block[0][0] != last:
            yield last, values[at:]
        else:
            long = _LongGroup(last, values[at:], block, blocks)
            yield last, iter(long)
            block = long.skip()


class _LongGroup:
    """A group that goes on in the next blocks."""

    def __init__(self, key: Any, values: list[Any], block: Columns, blocks: Iterator[Columns]) -> None:
        self._key = key
        self._values = values
        self._block: Columns | None = block
        self._blocks = blocks

    def __iter__(self) -> Iterator[Any]:
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
        if self._block is None:
            return False
        keys, values = self._block
        if keys[-1] == self._key:
            self._values, self._block = values, next(self._blocks, None)
            return True
        end = next(at for at, key in enumerate(keys) if key != self._key)
        self._values, self._block = values[:end], (keys[end:], values[end:])
        return end > 0


def combined(source: Iterator[Columns], combine: Combine) -> Iterator[Columns]:
    """Sorted blocks with every group of at least two values combined."""
    keys: list[Any] = []
    values: list[Any] = []
    for key, group in groups(source):
        single = type(group) is list and len(group) == 1
        found = iter(group if single else combine(key, group))
        while chunk := list(islice(found, BLOCK_RECORDS)):
            keys.extend(repeat(key, len(chunk)))
            values.extend(chunk)
            if len(keys) >= BLOCK_RECORDS:
                yield keys, values
                keys, values = [], []
    if keys:
        yield keys, values


def folded(source: Iterator[Columns], fold: Fold) -> Iterator[Columns]:
    """Sorted blocks of states with one state a key; the last key of a block may go on in the next one."""
    keys: list[Any] = []
    states: list[Any] = []
    for more_keys, more_states in source:
        keys, states = keys + more_keys, states + more_states
        counts = Counter(keys)
        if len(counts) < len(keys):
            each = iter(states)
            states = fold.merged([list(islice(each, count)) for count in counts.values()])
            keys = list(counts)
        yield keys[:-1], states[:-1]
        keys, states = keys[-1:], states[-1:]
    yield keys, states


def expanded(keys: Iterable[Any], lists: Sequence[Sequence[Any]]) -> Iterator[Columns]:
    """Keys with their lists of values as blocks with one key a value."""
    each_key = chain.from_iterable(map(repeat, keys, map(len, lists)))
    each_value = chain.from_iterable(lists)
    while values := list(islice(each_value, BLOCK_RECORDS)):
        yield list(islice(each_key, len(values))), values
