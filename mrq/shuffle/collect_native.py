"""The collector on the native data path: what is held lies in a table of the extension's.

A table takes pairs as they are yielded, each before the next one is asked for, as far as keys and values are
of types that are carried exactly. The first pair that it can't take ends it: what is held is written, and the
collector in Python goes on with that pair. So whatever is refused, is refused there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from mrq.shuffle.block import Frame, Source
from mrq.shuffle.collect import Collector, MapPlan, Pair
from mrq.shuffle.fold import Fold
from mrq.shuffle.grouping import folded
from mrq.shuffle.merge import merge

if TYPE_CHECKING:
    from mrq._native import FoldTable, PairTable
    from mrq.shuffle.mapfile import MapFileInfo, MapFileWriter


class NativeCollector(Collector):
    """Folds ints by key, or keeps pairs; either is written sorted by key."""

    def __init__(
        self,
        plan: MapPlan,
        table: FoldTable | PairTable,
        rest: Callable[[], Collector],
        fold: Fold | None = None,
    ) -> None:
        """`rest` makes the collector in Python; `fold` is what the table's ints are folded by."""
        self._table = table
        self._fold = fold
        self._make_rest = rest
        self._rest: Collector | None = None  # once there was a pair that the table doesn't take
        super().__init__(plan)

    @property
    def writing(self) -> bool:
        """An error now isn't about the record at hand."""
        return self._writing if self._rest is None else self._rest.writing

    @writing.setter
    def writing(self, now: bool) -> None:
        self._writing = now

    @property
    def emitted(self) -> int:
        # Kept here: the table can't be asked while it asks for pairs, which is when the feed looks.
        return self._emitted + (0 if self._rest is None else self._rest.emitted)

    def consume(self, pairs: Iterator[Pair]) -> None:
        while self._rest is None:
            left = self._table.take(pairs)
            self._emitted = self._table.emitted
            if left is None:
                return
            if left is True:
                self._spill()
            else:
                self._hand_over()
                pairs = chain((left,), pairs)
        self._rest.consume(pairs)

    def _hand_over(self) -> None:
        """Go on in Python, behind what is held so far."""
        if self._holds_any():
            self._spill()
        self._rest = self._make_rest()
        self._rest.go_on_from(self)

    def finish(self, path: str) -> MapFileInfo:
        if self._rest is None:
            return super().finish(path)
        return self._rest.finish(path)

    def _holds_any(self) -> bool:
        return bool(self._table)

    def _write(self, writer: MapFileWriter) -> None:
        table = self._table
        table.deal()
        for partition in range(self.plan.partitions):
            writer.begin(partition)
            writer.put(Frame(*frame) for frame in table.frames(partition))
            writer.end()
            self.plan.tick()
        table.clear()

    def _merge(self, sources: Sequence[Source], writer: MapFileWriter) -> None:
        plan = self.plan
        merged = merge(sources, memory=plan.memory, scratch=plan.scratch, tick=plan.tick, quota=plan.quota)
        for block in merged if self._fold is None else folded(merged, self._fold):
            writer.write(*block)
