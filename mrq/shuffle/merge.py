"""Merging sorted sources: stable, in bounded memory, by concatenating and sorting again.

Timsort finds the runs in a concatenation and merges them at C speed, three times as fast as a heap of
iterators. What fits the budget is loaded whole and sorted a range of keys at a time. What doesn't is merged
in steps: every source holds a buffer of some blocks, and the *cut* is the smallest last key of all buffers
that have more behind them on disk. What is below the cut can't be preceded by anything unread, so it is
taken from every buffer, sorted and handed out.

Keys equal to the cut need care, because equal keys come in source order. Let c be the first source whose
buffer ends with the cut and has more on disk. Sources before c hold all their pairs of that key in their
buffers (otherwise they would be c), so theirs are taken too, and all of c's; sources after c keep theirs
until c has no more. So a key with any number of values streams through, source by source.

Sources beyond what the budget can hold a block of are merged in passes over neighbouring ranges first,
which keeps the order (map index, position).
"""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from mrq.codec.order import NONE, Family, family, sort_key, sort_pairs
from mrq.shuffle.block import BLOCK_COST, BLOCK_RECORDS, Block
from mrq.shuffle.bounded import Quota
from mrq.shuffle.budget import cost
from mrq.shuffle.fold import Tick
from mrq.shuffle.runs import Run, RunWriter, Source

#: Sources of one merge at most: each step looks at every source.
FAN_IN_MAX: Final = 512
#: Records sorted at once, about; or so many a source, lest looking for their ends costs more than sorting.
_RANGE: Final = 1 << 13
_PART: Final = 16
#: Of each source every so manieth key helps to choose the ranges.
_STRIDE: Final = 64


def merge(
    sources: Sequence[Source], *, memory: int, scratch: str, tick: Tick, quota: Quota | None = None
) -> Iterator[Block]:
    """Blocks in key order of all pairs of `sources`; equal keys in source order, then in position order.

    `memory` is in bytes of `budget.cost`; it is exceeded only by a small multiple of the largest single
    block. Intermediate runs go to the folder `scratch`, under `quota`, and are removed. `tick` is called
    every few thousand records. Raises CorruptFileError, DiskFullError, OSError.
    """
    sources = [source for source in sources if source.records]
    if len(sources) == 1 and sources[0].is_sorted:
        for block in sources[0].blocks():
            tick()
            yield block
        return
    if sum(source.cost for source in sources) <= memory:
        yield from _merge_loaded(sources, tick)
        return
    passes = _Passes(memory // 2, scratch, tick, quota)
    try:
        yield from _merge_buffers(passes.narrow(passes.sort_unsorted(sources)), memory // 2, tick)
    finally:
        passes.clean()


def _merge_loaded(sources: Sequence[Source], tick: Tick) -> Iterator[Block]:
    """Everything in memory."""
    parts: list[Block] = []
    for source in sources:
        keys: list[Any] = []
        values: list[Any] = []
        for some_keys, some_values in source.blocks():
            keys += some_keys
            values += some_values
            tick()
        parts.append((keys, values) if source.is_sorted else sort_pairs(keys, values))
    kinds = {family(keys) for keys, _ in parts}
    kind = kinds.pop() if len(kinds) == 1 else None
    yield from _merge_parts(parts, None if kind == NONE else kind, tick)


def _merge_parts(parts: list[Block], kind: Family | None, tick: Tick) -> Iterator[Block]:
    """Sorted columns as one, in blocks; `kind` is the family of all keys if Python compares them."""
    for some, alike in [(parts, False)] if kind is None else _ranges(parts):
        if alike or len(some) == 1:
            for keys, values in some:
                yield from _slices(keys, values, tick)
        elif some:
            keys = list(chain.from_iterable(part[0] for part in some))
            values = list(chain.from_iterable(part[1] for part in some))
            yield from _slices(*sort_pairs(keys, values, kind), tick)


def _ranges(parts: Sequence[Block]) -> Iterator[tuple[list[Block], bool]]:
    """(what the parts hold of a range of keys, whether these are all equal), range after range.

    What is sorted at once fits the processor's cache then: 200 ns a record, 350 for all of a reduce's.
    Where a key fills ranges it gets one of its own, and needs no sort.
    """
    ranges = sum(len(keys) for keys, _ in parts) // max(_RANGE, _PART * len(parts))
    sample = sorted(chain.from_iterable(keys[::_STRIDE] for keys, _ in parts)) if ranges > 1 else []
    at = [0] * len(parts)
    last: Any = None
    for number in range(1, ranges):
        cut = sample[len(sample) * number // ranges]
        alike = number > 1 and cut == last
        last, search = cut, bisect_right if alike else bisect_left
        ends = [search(keys, cut, start) for (keys, _), start in zip(parts, at, strict=True)]
        yield _between(parts, at, ends), alike
        at = ends
    yield _between(parts, at, [len(keys) for keys, _ in parts]), False


def _between(parts: Sequence[Block], starts: Sequence[int], ends: Sequence[int]) -> list[Block]:
    return [
        (keys[start:end], values[start:end])
        for (keys, values), start, end in zip(parts, starts, ends, strict=True)
        if start < end
    ]


def _slices(keys: list[Any], values: list[Any], tick: Tick) -> Iterator[Block]:
    for start in range(0, len(keys), BLOCK_RECORDS):
        tick()
        yield keys[start : start + BLOCK_RECORDS], values[start : start + BLOCK_RECORDS]


class _Passes:
    """What comes before the last merge: unsorted sources sorted, too many sources made fewer."""

    def __init__(self, memory: int, scratch: str, tick: Tick, quota: Quota | None) -> None:
        self._memory = memory
        self._quota = quota
        self._scratch = scratch
        self._tick = tick
        self._made: dict[str, Run] = {}
        self._count = 0

    def sort_unsorted(self, sources: Sequence[Source]) -> list[Source]:
        """Each unsorted source replaced by sorted runs of it, in position order."""
        result: list[Source] = []
        for source in sources:
            if source.is_sorted:
                result.append(source)
                continue
            keys: list[Any] = []
            values: list[Any] = []
            held = 0
            for some_keys, some_values in source.blocks():
                price = cost(some_keys, some_values)
                if held and held + price > self._memory:
                    result.append(self._spill([sort_pairs(keys, values)]))
                    keys, values, held = [], [], 0
                keys += some_keys
                values += some_values
                held += price
                self._tick()
            result.append(self._spill([sort_pairs(keys, values)]))
        return result

    def narrow(self, sources: list[Source]) -> list[Source]:
        """Merge neighbours until one merge can hold a block of each."""
        while not self._holds(len(sources), sum(source.block_cost for source in sources)):
            sources = self._one_pass(sources)
        return sources

    def _holds(self, count: int, block_cost: int) -> bool:
        """Whether that many sources can be merged at once, whose blocks cost that together."""
        return count <= 2 or (count <= FAN_IN_MAX and block_cost <= self._memory)

    def _one_pass(self, sources: list[Source]) -> list[Source]:
        """From the left, merge as many neighbours at once as fit, but no more than are needed for the
        rest to fit."""
        done: list[Source] = []
        count, total = len(sources), sum(source.block_cost for source in sources)
        at = 0
        while at < len(sources) and not self._holds(count, total):
            end, held = at, 0
            while end < len(sources):
                price = sources[end].block_cost
                enough = end - at >= 2 and self._holds(count - (end - at) + 1, total - held + BLOCK_COST)
                if enough or not self._holds(end - at + 1, held + price):
                    break
                held += price
                end += 1
            done.append(self._merged(sources[at:end]))
            count -= end - at - 1
            total += done[-1].block_cost - held
            at = end
        return done + sources[at:]

    def _merged(self, group: list[Source]) -> Source:
        if len(group) == 1:
            return group[0]
        run = self._spill(_merge_buffers(group, self._memory, self._tick))
        for source in group:
            if isinstance(source, Run):
                self._remove(source.path)
        return run

    def _spill(self, blocks: Iterable[Block]) -> Run:
        self._count += 1
        path = os.path.join(self._scratch, f"merge-{id(self):x}-{self._count}.run")
        writer = RunWriter(path, quota=self._quota)
        try:
            for keys, values in blocks:
                writer.write(keys, values)
                self._tick()
            run = writer.close()
        except BaseException:
            writer.abort()
            raise
        self._made[path] = run
        return run

    def _remove(self, path: str) -> None:
        """Remove a run if it is one that was made here."""
        if self._made.pop(path, None) is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def clean(self) -> None:
        """Remove every run that is left."""
        for path in list(self._made):
            self._remove(path)


class _Buffer:
    """One source of a merge in steps: what is loaded of it and not yet handed out."""

    __slots__ = ("_blocks", "_share", "at", "index", "keys", "kind", "last_rank", "more", "values")

    def __init__(self, index: int, source: Source, share: int) -> None:
        self.index = index
        self._share = share
        self._blocks = source.blocks()
        self.more = True  #: whether there is more on disk
        self.fill()

    def fill(self) -> None:
        """Load blocks up to the share, at least one if there is one."""
        self.keys: list[Any] = []
        self.values: list[Any] = []
        held = 0
        while not held or held < self._share:
            block = next(self._blocks, None)
            if block is None:
                self.more = False
                break
            self.keys += block[0]
            self.values += block[1]
            held += cost(*block)
        self.at = 0
        self.kind: Family | None = family(self.keys)
        self.last_rank: Any = None

    def take(self, end: int) -> Block:
        """What lies before `end`."""
        start, self.at = self.at, end
        if start == 0 and end == len(self.keys):
            return self.keys, self.values
        return self.keys[start:end], self.values[start:end]


def _merge_buffers(sources: Sequence[Source], memory: int, tick: Tick) -> Iterator[Block]:
    """The merge in steps; see the head of this module."""
    share = memory // max(1, len(sources))
    live = []
    for index, source in enumerate(sources):
        buffer = _Buffer(index, source, share)
        tick()
        if buffer.keys:
            live.append(buffer)
    while live:
        kind = live[0].kind  # the family of all, if they have one whose keys Python compares
        if kind == NONE or any(buffer.kind != kind for buffer in live):
            kind = None
        yield from _merge_parts(_take(live, _first_cut(live, kind), kind), kind, tick)
        for buffer in live:
            if buffer.at == len(buffer.keys):
                buffer.fill()
                tick()
        live = [buffer for buffer in live if buffer.keys]


def _first_cut(live: Sequence[_Buffer], kind: Family | None) -> _Buffer | None:
    """The first of the buffers with the smallest last key that have more on disk."""
    open_ = [buffer for buffer in live if buffer.more]
    if not open_:
        return None
    if kind is not None:
        return min(open_, key=lambda buffer: buffer.keys[-1])
    for buffer in open_:
        if buffer.last_rank is None:
            buffer.last_rank = sort_key(buffer.keys[-1])
    return min(open_, key=lambda buffer: buffer.last_rank)


def _take(live: Sequence[_Buffer], cut: _Buffer | None, kind: Family | None) -> list[Block]:
    """From every buffer what may be handed out, in source order; all there is if there is no cut."""
    if cut is None:
        return [buffer.take(len(buffer.keys)) for buffer in live]
    key = None if kind is not None else sort_key
    last = cut.keys[-1] if kind is not None else cut.last_rank
    parts = []
    for buffer in live:
        if buffer is cut:
            end = len(buffer.keys)
        elif buffer.index < cut.index:
            end = bisect_right(buffer.keys, last, buffer.at, key=key)
        else:
            end = bisect_left(buffer.keys, last, buffer.at, key=key)
        if end > buffer.at:
            parts.append(buffer.take(end))
    return parts
