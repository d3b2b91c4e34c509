"""What a map task adds its pairs to: collectors, under one byte budget.

There is one way. A `Sink` takes what user code yields in chunks of two columns, keys and values, each pair
made what is carried before the next one is pulled: what user code has yielded it may change once it goes on.
Between two chunks it is looked what is held, so a record that emits without end is bounded too.

A `TableCollector` keeps a list of values a key, in a dict. Where the reduce folds, the lists hold states, and
are folded to one each when the budget is full; where that doesn't help, or nothing folds, all is spilled:
dealt out by partition, sorted, folded or combined, written as a map output. The last step merges the spills.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import add
from typing import Any, Final

from mrq.codec.order import family, respelled, sort_pairs
from mrq.codec.types import ATOMS, PLAIN_KEYS, NoneType, carried_key, carried_other
from mrq.shuffle.block import BLOCK_RECORDS, Source
from mrq.shuffle.bounded import Quota
from mrq.shuffle.budget import INT, column_cost, keys_cost
from mrq.shuffle.fold import Columns, Combine, Fold, Tick
from mrq.shuffle.grouping import combined, expanded, folded
from mrq.shuffle.mapfile import MapFile, MapFileInfo, MapFileWriter, MapHeader, empty_digest
from mrq.shuffle.merge import merge
from mrq.shuffle.partition import Partition, deal

#: Pairs between two looks at the budget, at most and at first: sizes may jump within a chunk.
STEP_MAX: Final = 256
STEP_FIRST: Final = 16
#: A chunk may hold this share of the budget, going by the average pair so far.
_STEP_SHARE: Final = 16
#: A key's entry in a dict, with what a resize holds twice, bytes.
_ENTRY: Final = 136
#: A list a key, with its first slots, bytes.
_LIST: Final = 88

Pair = tuple[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPlan:
    """Where a map's pairs go."""

    partitions: int
    partition: Partition
    memory: int  #: bytes of the budget
    scratch: str  #: an empty folder for spills
    header: MapHeader
    tick: Tick
    quota: Quota | None = None  #: of the disk


def columns(pairs: Iterator[Pair], count: int) -> Columns:
    """Up to so many pairs as two columns, empty at the end. Raises DataError for what can't be carried.

    The hot loop of every map: what is plain, and of the type of what came last, costs a comparison.
    """
    atoms, plain_keys = ATOMS, PLAIN_KEYS
    kind = key_kind = NoneType  # plain types, of what came last
    keys: list[Any] = []
    values: list[Any] = []
    add_key, add_value = keys.append, values.append
    for key, value in islice(pairs, count):
        if type(key) is not key_kind:
            if type(key) in plain_keys:
                key_kind = type(key)
            else:
                key = carried_key(key)
        if type(value) is not kind:
            if type(value) in atoms:
                kind = type(value)
            else:
                value = carried_other(value)
        add_key(key)
        add_value(value)
    return keys, values


class Sink:
    """What a map's pairs go to."""

    def __init__(self) -> None:
        self.writing = False  #: an error now isn't about the record at hand
        self._step = STEP_FIRST  # pairs until it is looked what is held
        self._emitted = 0

    @property
    def emitted(self) -> int:
        """Pairs consumed so far."""
        return self._emitted

    def consume(self, pairs: Iterator[Pair]) -> None:
        """Take every pair, each a tuple of two. Raises DataError for what can't be carried."""
        while True:
            keys, values = columns(pairs, self._step)
            if not keys:
                return
            self._emitted += len(keys)
            self._take(keys, values)
            del keys, values  # they may be large: gone before the next ones come

    def consume_mapping(self, mapping: Mapping[Any, Any]) -> None:
        """Take a dict's items as pairs."""
        self.consume(iter(mapping.items()))

    def _take(self, keys: list[Any], values: list[Any]) -> None:
        """Keep a chunk, and choose the next one's length by `_pace`."""
        raise NotImplementedError

    def _pace(self, held: int, pairs: int, memory: int) -> None:
        """Choose the next chunk's length from what a pair has cost so far."""
        self._step = max(1, min(self._step * 2, memory * pairs // (held + 1), STEP_MAX))


class Collector(Sink):
    """The common part: spills, the final file, the look at the budget."""

    def __init__(self, plan: MapPlan) -> None:
        super().__init__()
        self.plan = plan
        self._spilled: list[str] = []

    @property
    def spills(self) -> int:
        """Spills that were written."""
        return len(self._spilled)

    def _holds_any(self) -> bool:
        """Whether there is something that `_write` would write."""
        raise NotImplementedError

    def _write(self, writer: MapFileWriter) -> None:
        """Write all that is held, partition by partition, and hold nothing."""
        raise NotImplementedError

    def _merge(self, sources: Sequence[Source], writer: MapFileWriter) -> None:
        """Write one partition's share of all spills."""
        raise NotImplementedError

    def go_on_from(self, other: Collector) -> None:
        """Begin behind what another collector of the same plan has spilled."""
        self._spilled = other._spilled

    def finish(self, path: str) -> MapFileInfo:
        """Write the map-output file, if there is anything to write. Raises OSError, DataError."""
        if not self._spilled and not self._holds_any():
            return MapFileInfo(digest=empty_digest(self.plan.partitions), bytes=0, records=0, cost=0)
        if not self._spilled:
            return self._file(path, self._write)
        self._spill()
        return self._file(path, self._write_merged)

    def _file(self, path: str, write: Callable[[MapFileWriter], None]) -> MapFileInfo:
        writer = MapFileWriter(path, self.plan.header, self.plan.partitions, self.plan.quota)
        self.writing = True
        try:
            write(writer)
            info = writer.finish()
            self.writing = False
            return info
        except BaseException:
            writer.abort()
            raise

    def _write_merged(self, writer: MapFileWriter) -> None:
        for partition in range(self.plan.partitions):
            sources = []
            for path in self._spilled:
                with MapFile(path) as spill:
                    sources.append(spill.entry(partition))
            writer.begin(partition)
            self._merge(sources, writer)
            writer.end()

    def _spill(self) -> None:
        path = f"{self.plan.scratch}/spill-{len(self._spilled):05d}"
        self._file(path, self._write)
        self._spilled.append(path)
        self.plan.tick()


class TableCollector(Collector):
    """A table by key. Without a fold it holds the list of a key's values; with one a key's state, or the list
    of states that wait to be merged into one, many at a time (no state is a list). Ints are joined at once,
    as long as nothing else came. Writes sorted regions."""

    def __init__(self, plan: MapPlan, *, fold: Fold | None = None, combine: Combine | None = None) -> None:
        super().__init__(plan)
        self._fold = fold
        self._combine = combine
        self._forget()

    def _forget(self) -> None:
        self._table: Any = defaultdict(list) if self._fold is None else Counter()
        self._ints = True  # all states so far are
        self._charged = 0  # keys of the table that are in _held
        self._held = 0  # bytes, by `budget`
        self._records = 0  # pairs that are in it

    def _take(self, keys: list[Any], values: list[Any]) -> None:
        table = self._table
        if family(keys) is None:  # a dict must find equal keys
            keys = list(map(respelled, keys))
        if self._fold is None:
            for key, value in zip(keys, values, strict=True):
                table[key].append(value)
            self._held += column_cost(values)
        else:
            self._held += self._join(keys, self._fold.states(values), self._fold.join)
        self._records += len(keys)
        new = len(table) - self._charged
        if new:
            added = list(islice(reversed(table), new))
            self._held += new * (_ENTRY + (_LIST if self._fold is None else INT)) + keys_cost(added)
            self._charged += new
        if self._held > self.plan.memory:
            self._make_room()
        self._pace(self._held, self._records, self.plan.memory // _STEP_SHARE)

    def _join(self, keys: list[Any], states: list[Any], join: Callable[[int, int], int] | None) -> int:
        """Put states to those of their keys; what they cost beside the keys that are new."""
        table = self._table
        self._ints = self._ints and join is not None and set(map(type, states)) == {int}
        if self._ints and join is add and states.count(1) == len(states):
            table.update(keys)  # counts them, at C speed
            return 0
        if self._ints and join is not None:
            for key, state in zip(keys, states, strict=True):
                table[key] = join(table[key], state) if key in table else state
            return 0
        made = 0
        for key, state in zip(keys, states, strict=True):
            if key not in table:
                table[key] = state
                continue
            held = table[key]
            if type(held) is list:
                held.append(state)
            else:
                table[key] = [held, state]
                made += 1
        return column_cost(states) + made * _LIST

    def _merged(self, column: list[Any]) -> list[Any]:
        """A column of the table as states."""
        assert self._fold is not None
        waiting = [held for held in column if type(held) is list]
        if not waiting:
            return column
        made = iter(self._fold.merged(waiting))
        return [next(made) if type(held) is list else held for held in column]

    def _make_room(self) -> None:
        """Merge the states that wait, where that may halve what is held, or else spill."""
        if self._fold is not None and self._records > 2 * len(self._table):
            keys, states = list(self._table), self._merged(list(self._table.values()))
            for key, state in zip(keys, states, strict=True):
                self._table[key] = state
            self._records = len(keys)
            self._held = len(keys) * _ENTRY + keys_cost(keys) + column_cost(states)
            if self._held <= self.plan.memory // 2:
                return
        self._spill()

    def _holds_any(self) -> bool:
        return bool(self._table)

    def _write(self, writer: MapFileWriter) -> None:
        plan = self.plan
        keys, held = list(self._table), list(self._table.values())
        self._forget()
        numbers = plan.partition(keys) if plan.partitions > 1 else [0] * len(keys)
        dealt_keys, dealt = (deal(numbers, column, plan.partitions)[::-1] for column in (keys, held))
        del keys, held
        for partition in range(plan.partitions):
            writer.begin(partition)
            for block in self._blocks(*sort_pairs(dealt_keys.pop(), dealt.pop())):
                writer.write(*block)
            writer.end()

    def _blocks(self, keys: list[Any], held: list[Any]) -> Iterator[Columns]:
        """Sorted columns of the table as blocks of pairs, folded or combined."""
        combine = self._combine
        for at in range(0, len(keys), BLOCK_RECORDS):
            some, theirs = keys[at : at + BLOCK_RECORDS], held[at : at + BLOCK_RECORDS]
            if self._fold is not None:
                yield some, self._merged(theirs)
                continue
            if combine is not None:
                grouped = zip(some, theirs, strict=True)
                theirs = [group if len(group) == 1 else list(combine(key, group)) for key, group in grouped]
            yield from expanded(some, theirs)

    def _merge(self, sources: Sequence[Source], writer: MapFileWriter) -> None:
        plan = self.plan
        merged = merge(sources, memory=plan.memory, scratch=plan.scratch, tick=plan.tick, quota=plan.quota)
        if self._fold is not None:
            merged = folded(merged, self._fold)
        elif self._combine is not None:
            merged = combined(merged, self._combine)
        for block in merged:
            writer.write(*block)
