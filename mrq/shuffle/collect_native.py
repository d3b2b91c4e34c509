"""The collector of maps whose reduce folds, on the native data path: the table lies in the extension.

It takes pairs as they are yielded, each before the next one is asked for, whose keys are of types that are
carried exactly and whose values are ints. The first pair that it can't take ends it: what is held is
written, and the collector in Python goes on with that pair. So whatever is refused, is refused there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

from mrq.shuffle.block import Frame
from mrq.shuffle.collect import Collector, FoldCollector, MapPlan, Pair, put_together
from mrq.shuffle.fold import Fold
from mrq.shuffle.mapfile import MapFileInfo, MapFileWriter
from mrq.shuffle.partition import ByHash
from mrq.shuffle.runs import Source

if TYPE_CHECKING:
    from mrq._native import FoldTable

#: Keys whose partitions are asked for at once, where no hash tells them.
_ASKED_AT_ONCE: Final = 1 << 14


class NativeFoldCollector(Collector):
    """Folds ints by key in the extension, as far as its pairs go."""

    def __init__(self, plan: MapPlan, fold: Fold, table: FoldTable) -> None:
        self._fold = fold
        self._table = table
        self._rest: FoldCollector | None = None  # once there was a pair that the table doesn't take
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
        self._rest = FoldCollector(self.plan, self._fold)
        self._rest.go_on_from(self)

    def finish(self, path: str) -> MapFileInfo:
        if self._rest is None:
            return super().finish(path)
        info = self._rest.finish(path)
        self.spills = self._rest.spills
        return info

    def _holds_any(self) -> bool:
        return len(self._table) > 0

    def _write(self, writer: MapFileWriter) -> None:
        table, partitions = self._table, self.plan.partitions
        table.deal(partitions, self._partitions_of_keys())
        for partition in range(partitions):
            writer.begin(partition, sorted=False)
            writer.put(Frame(*frame) for frame in table.frames(partition))
            writer.end()
            self.plan.tick()
        table.clear()

    def _partitions_of_keys(self) -> list[int] | None:
        """Of each key that is held, in order; None where the hash tells it."""
        plan, table = self.plan, self._table
        if plan.partitions == 1 or isinstance(plan.partition, ByHash):
            return None
        numbers: list[int] = []
        for at in range(0, len(table), _ASKED_AT_ONCE):
            numbers += plan.partition(table.keys(at, at + _ASKED_AT_ONCE))
        return numbers

    def _merge(self, sources: Sequence[Source], writer: MapFileWriter) -> None:
        put_together(sources, writer, self.plan.tick)
