"""Merging sorted sources: stable, in bounded memory, by concatenating and sorting again.

Timsort finds the runs in a concatenation and merges them at C speed, three times as fast as a heap of
iterators. Every source holds a buffer of some blocks, and the *cut* is the smallest last key of all buffers
that have more behind them on disk. What is below the cut can't be preceded by anything unread, so it is
taken from every buffer, sorted and handed out; then empty buffers are filled again.

Keys equal to the cut need care, because equal keys come in source order. Let c be the first source whose
buffer ends with the cut and has more on disk. Sources before c hold all their pairs of that key in their
buffers (otherwise they would be c), so theirs are taken too, and all of c's; sources after c keep theirs
until c has no more. So a key with any number of values streams through, source by source.

Before that, sources that aren't sorted are, in pieces; and where memory can't
hold a block of every source, neighbours are merged into one, which keeps the order (map index, position).
"""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final

from mrq.codec.order import NONE, Family, family, sort_key, sort_pairs
from mrq.shuffle.block import BLOCK_COST, BLOCK_RECORDS, Block, Source
from mrq.shuffle.bounded import Quota
from mrq.shuffle.budget import cost
from mrq.shuffle.fold import Tick
from mrq.shuffle.mapfile import write_run

#: Sources of one merge at most: each step looks at every source.
FAN_IN_MAX: Final = 512
#: A buffer needs no more, however much memory there is: short sorts stay in the processor's cache.
_BUFFER_COST: Final = BLOCK_COST


def merge(
    sources: Sequence[Source], *, memory: int, scratch: str, tick: Tick, quota: Quota | None = None
) -> Iterator[Block]:
    """Blocks in key order of all pairs of `sources`; equal keys in source order, then in position order.

    `memory` is in bytes of `budget.cost`; it is exceeded only by a small multiple of the largest single
    block. Intermediate runs go to the folder `scratch`, under `quota`, and are removed. `tick` is called
    every few thousand records. Raises CorruptFileError, DiskFullError, OSError.
    """
    before = _Before(memory // 2, scratch, tick, quota)
    try:
        ready = before.narrowed(before.ordered([source for source in sources if source.records]))
        yield from _merged(ready, memory // 2, tick)
    finally:
        before.clean()


@dataclass(frozen=True, kw_only=True)
class _Held(Source):
    """Pairs in memory."""

    keys: list[Any]
    values: list[Any]
    cost: int
    block_cost: int = 0  # nothing is to be loaded
    is_sorted: bool = True

    def blocks(self) -> Iterator[Block]:
        for at in range(0, len(self.keys), BLOCK_RECORDS):
            yield self.keys[at : at + BLOCK_RECORDS], self.values[at : at + BLOCK_RECORDS]


class _Before:
    """What comes before the merge: unsorted sources sorted, too many sources made fewer."""

    def __init__(self, memory: int, scratch: str, tick: Tick, quota: Quota | None) -> None:
        self._memory = memory
        self._quota = quota
        self._scratch = scratch
        self._tick = tick
        self._made: set[str] = set()
        self._count = 0

    def ordered(self, sources: Sequence[Source]) -> list[Source]:
        """Unsorted sources replaced by sorted pieces of all neighbours together, in their order; what fits
        stays in memory."""
        found: list[Source] = []
        keys: list[Any] = []
        values: list[Any] = []
        held = 0
        spills = sum(source.cost for source in sources) > self._memory

        def end() -> None:
            nonlocal keys, values, held
            if keys:
                pair = sort_pairs(keys, values)
                keys, values = [], []
                found.append(self._run([pair]) if spills else _Held(keys=pair[0], values=pair[1], cost=held))
            held = 0

        for source in sources:
            if source.is_sorted:
                end()
                found.append(source)
                continue
            for block in source.blocks():
                price = cost(*block)
                if held + price > self._memory:
                    end()
                keys += block[0]
                values += block[1]
                held += price
                self._tick()
        end()
        return found

    def narrowed(self, sources: list[Source]) -> list[Source]:
        """From the left, neighbours merged until one merge can hold a block of each."""
        largest = max((source.block_cost for source in sources), default=0)
        at_once = max(2, min(FAN_IN_MAX, self._memory // max(1, largest)))
        at = 0
        while len(sources) > at_once:
            group = sources[at : at + min(at_once, len(sources) - at_once + 1)]
            sources[at : at + len(group)] = [self._run(_merged(group, self._memory, self._tick))]
            for source in group:
                self._remove(getattr(source, "path", ""))
            at = at + 1 if at + 2 < len(sources) else 0
        return sources

    def _run(self, blocks: Iterable[Block]) -> Source:
        self._count += 1
        path = os.path.join(self._scratch, f"merge-{id(self):x}-{self._count}.run")
        run = write_run(path, self._ticking(blocks), self._quota)
        self._made.add(path)
        return run

    def _ticking(self, blocks: Iterable[Block]) -> Iterator[Block]:
        for block in blocks:
            yield block
            self._tick()

    def _remove(self, path: str) -> None:
        """Remove a run if it is one that was made here."""
        if path in self._made:
            self._made.remove(path)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def clean(self) -> None:
        """Remove every run that is left."""
        for path in list(self._made):
            self._remove(path)


class _Buffer:
    """What is loaded of one source and not yet handed out."""

    __slots__ = ("_at_once", "_blocks", "at", "index", "keys", "kind", "more", "values")

    def __init__(self, index: int, source: Source, share: int) -> None:
        self.index = index
        self._blocks = source.blocks()
        self._at_once = max(1, share // max(1, source.block_cost))
        self.fill()

    def fill(self) -> None:
        """Load as many blocks as the share of memory holds, at least one if there is one."""
        loaded = list(islice(self._blocks, self._at_once))
        self.more = len(loaded) == self._at_once  #: whether there may be more on disk
        self.keys = list(chain.from_iterable(keys for keys, _ in loaded))
        self.values = list(chain.from_iterable(values for _, values in loaded))
        self.at = 0
        self.kind: Family | None = family(self.keys)

    def take(self, end: int) -> Block:
        """What lies before `end`."""
        start, self.at = self.at, end
        return self.keys[start:end], self.values[start:end]


def _merged(sources: Sequence[Source], memory: int, tick: Tick) -> Iterator[Block]:
    """The merge; see the head of this module."""
    if len(sources) == 1:
        for block in sources[0].blocks():
            tick()
            yield block
        return
    share = min(memory // max(1, len(sources)), _BUFFER_COST)
    live = [_Buffer(index, source, share) for index, source in enumerate(sources)]
    while live := [buffer for buffer in live if buffer.keys]:
        tick()
        kinds = {buffer.kind for buffer in live}
        kind = kinds.pop() if len(kinds) == 1 and NONE not in kinds else None  # if Python compares all keys
        parts = [part for part in _take(live, kind) if part[0]]
        keys, values = parts[0]
        if len(parts) > 1:
            keys = list(chain.from_iterable(part[0] for part in parts))
            values = list(chain.from_iterable(part[1] for part in parts))
            keys, values = sort_pairs(keys, values, kind)
        del parts
        for start in range(0, len(keys), BLOCK_RECORDS):
            yield keys[start : start + BLOCK_RECORDS], values[start : start + BLOCK_RECORDS]
        del keys, values
        for buffer in live:
            if buffer.at == len(buffer.keys):
                buffer.fill()
                tick()


def _take(live: Sequence[_Buffer], kind: Family | None) -> list[Block]:
    """From every buffer what may be handed out, in source order; all there is if nothing is on disk."""
    key = sort_key if kind is None else None
    open_ = [buffer for buffer in live if buffer.more]
    if not open_:
        return [buffer.take(len(buffer.keys)) for buffer in live]
    lasts = [buffer.keys[-1] if key is None else key(buffer.keys[-1]) for buffer in open_]
    last = min(lasts)
    cut = open_[lasts.index(last)]
    parts = []
    for buffer in live:
        if buffer is cut:
            end = len(buffer.keys)
        else:
            search = bisect_right if buffer.index < cut.index else bisect_left
            end = search(buffer.keys, last, buffer.at, key=key)
        parts.append(buffer.take(end))
    return parts
