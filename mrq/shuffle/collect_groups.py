"""The collector of maps whose reduce, and combine, need the values themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Any, Final

from mrq.codec.order import sort_pairs
from mrq.codec.types import only_type
from mrq.shuffle.aggregate import ENTRY, LIST
from mrq.shuffle.budget import PAIR_HELD, column_cost
from mrq.shuffle.chunks import columns, listed
from mrq.shuffle.collect import Collector, MapPlan, Pair
from mrq.shuffle.fold import Columns, Combine
from mrq.shuffle.grouping import blocks, combined, expanded
from mrq.shuffle.mapfile import MapFileWriter
from mrq.shuffle.merge import merge
from mrq.shuffle.partition import Ranges, deal_pairs
from mrq.shuffle.runs import Source

#: From that many pairs on, the share of distinct keys decides how they are kept.
_LOOK_AFTER: Final = 1 << 15
#: What sorting costs a key that Python doesn't compare as we do, bytes.
_RANKED: Final = 128


class GroupCollector(Collector):
    """Keeps a list of values a key; two columns once keys hardly repeat. Writes sorted regions."""

    _is_sorted = True

    def __init__(self, plan: MapPlan, combine: Combine | None = None, *, paired: bool = False) -> None:
        super().__init__(plan)
        self._combine = combine
        self._paired = paired  #: keep pairs from the start
        self._lists: defaultdict[Any, list[Any]] = defaultdict(list)
        self._keys: list[Any] = []
        self._values: list[Any] = []
        self._held = 0  # bytes, by `budget`
        self._records = 0
        self._seen = 0  # keys of _lists that were charged

    def consume(self, pairs: Iterator[Pair]) -> None:
        while not self._paired:
            column = listed(pairs, self._step, self._lists)  # another dict after a spill
            if not column:
                return
            self._charge_lists(column)
            del column  # values may be large: gone before the next ones come
        while block := columns(pairs, self._step):
            keys, values = block
            self._keys += keys
            self._values += values
            self._emitted += len(keys)
            self._records += len(keys)
            self._held += PAIR_HELD * len(keys) + _key_cost(keys) + column_cost(values)
            if self._held > self.plan.memory:
                self._spill()
            self._pace(self._held, self._records)
            del block, keys, values  # as above

    def _charge_lists(self, column: list[Any]) -> None:
        count = len(column)
        self._emitted += count
        self._records += count
        held = column_cost(column)
        new = len(self._lists) - self._seen
        if new:
            keys = list(islice(reversed(self._lists), new))
            held += new * (ENTRY + LIST) + _key_cost(keys)
            self._seen += new
        self._held += held
        if self._held > self.plan.memory:
            self._spill()
        elif self._records >= _LOOK_AFTER and 2 * self._seen > self._records:
            self._to_pairs()
        self._pace(self._held, self._records)

    def _to_pairs(self) -> None:
        """Go over to two columns. Values of a key keep their order; keys are sorted anyway."""
        self._paired = True
        for key, values in self._lists.items():
            for value in values:
                self._keys.append(key)
                self._values.append(value)
        self._lists = defaultdict(list)
        self._seen = 0

    def _holds_any(self) -> bool:
        return bool(self._keys or self._lists)

    def _write(self, writer: MapFileWriter) -> None:
        if self._paired:
            keys, values, self._keys, self._values = self._keys, self._values, [], []
        else:
            keys, values = list(self._lists), list(self._lists.values())
            self._lists = defaultdict(list)
        self._held = self._records = self._seen = 0
        for partition, (mine, its) in enumerate(self._sorted(keys, values)):
            writer.begin(partition)
            if self._paired and self._combine is None:
                writer.write(mine, its)
            else:
                for block in self._blocks(mine, its):
                    writer.write(*block)
            writer.end()

    def _sorted(self, keys: list[Any], values: list[Any]) -> Iterator[Columns]:
        """The columns of each partition, in key order."""
        plan = self.plan
        if plan.partitions == 1:
            yield sort_pairs(keys, values)
        elif isinstance(plan.partition, Ranges):
            # One sort, then cuts: cheaper than a search for each key.
            keys, values = sort_pairs(keys, values)
            cuts = plan.partition.cut(keys, plan.partitions)
            for begin, end in pairwise(cuts):
                yield keys[begin:end], values[begin:end]
        else:
            for mine, its in deal_pairs(plan.partition(keys), (keys, values), plan.partitions):
                yield sort_pairs(mine, its)

    def _blocks(self, keys: list[Any], values: list[Any]) -> Iterator[Columns]:
        """Sorted columns as blocks of pairs, combined."""
        combine = self._combine
        if combine is not None and self._paired:
            return combined(blocks(keys, values), combine)
        if combine is not None:
            values = [
                group if len(group) == 1 else list(combine(key, group))
                for key, group in zip(keys, values, strict=True)
            ]
        return expanded(keys, values)

    def _merge(self, sources: Sequence[Source], writer: MapFileWriter) -> None:
        plan = self.plan
        merged = merge(sources, memory=plan.memory, scratch=plan.scratch, tick=plan.tick, quota=plan.quota)
        if self._combine is not None:
            merged = combined(merged, self._combine)
        for block in merged:
            writer.write(*block)


def _key_cost(keys: list[Any]) -> int:
    """Keys of mixed types, or beyond ASCII, may need a rank each to be sorted by."""
    kind = only_type(keys)
    plain = kind is not None and (kind is not str or all(map(str.isascii, keys)))
    return column_cost(keys, kind) + (0 if plain else _RANKED * len(keys))
