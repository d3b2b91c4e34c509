"""What a map task adds its pairs to: collectors, under one byte budget.

`consume(pairs)` is the hot loop of mrq. `pairs` is one iterator over a whole block of records, so nothing
here is done per record: the loops pull up to `_step` pairs at a time, and between two chunks look at one
pair's shape and at what is held. So a record that emits without end is bounded too.

What user code has yielded it may change once it goes on. So whatever isn't known to be plain is made
`carried` before the next pair is pulled; ints that are added, and what is only counted, are never kept.

A *FoldCollector* keeps a state a key (built-ins that fold): no sort, regions unsorted. A *GroupCollector*
keeps lists of values a key, or two columns once keys hardly repeat; regions are sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, islice, repeat
from operator import is_not, not_
from typing import Any, Final

from mrq.codec.types import ATOMS, NUMBERS, PLAIN_KEYS, NoneType, carried, carried_key
from mrq.shuffle.aggregate import FoldTable
from mrq.shuffle.block import Frame, frames
from mrq.shuffle.bounded import Quota
from mrq.shuffle.chunks import listed
from mrq.shuffle.fold import Fold, Tick
from mrq.shuffle.mapfile import MapFile, MapFileInfo, MapFileWriter, MapHeader, empty_digest
from mrq.shuffle.partition import Partition, deal, deal_pairs
from mrq.shuffle.runs import Source

#: Pairs between two looks at the budget, at most and at first. Sizes may jump within a chunk, so it is
#: shorter where values are held (a look costs 10 ns a pair then), longer where only new keys are.
STEP_MAX: Final = 256
STEP_MAX_FOLDING: Final = 1024
STEP_FIRST: Final = 16
#: A chunk may hold this share of the budget, going by the average pair so far.
_STEP_SHARE: Final = 16
#: Keys of a folded table that are dealt out and encoded at once, …
_DEALT_AT_ONCE: Final = 1 << 14
#: … or so many a partition, lest frames get small.
_DEALT_A_PARTITION: Final = 256
#: CPython has one object for it: a user's `yield word, 1` is told by `is`.
_ONE: Final = 1

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


class Sink:
    """What a map's pairs go to."""

    def __init__(self) -> None:
        self.writing = False  #: an error now isn't about the record at hand
        self._step = STEP_FIRST  # pairs until it is looked what is held
        self._emitted = 0

    @property
    def emitted(self) -> int:
        """Pairs consumed so far. Exact after the last one, a lower bound before."""
        return self._emitted

    def consume(self, pairs: Iterator[Pair]) -> None:
        """Take every pair, each a tuple of two. Raises DataError for what can't be carried."""
        raise NotImplementedError

    def consume_mapping(self, mapping: Mapping[Any, Any]) -> None:
        """Take a dict's items as pairs."""
        self.consume(iter(mapping.items()))


class Collector(Sink):
    """The common part: spills, the final file, the look at the budget."""

    _is_sorted = False  #: are regions in key order
    _step_max = STEP_MAX

    def __init__(self, plan: MapPlan) -> None:
        super().__init__()
        self.plan = plan
        self.spills = 0
        self._spilled: list[str] = []

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
        self.spills, self._spilled = other.spills, other._spilled

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
            writer.begin(partition, sorted=self._is_sorted)
            self._merge(sources, writer)
            writer.end()

    def _spill(self) -> None:
        path = f"{self.plan.scratch}/spill-{len(self._spilled):05d}"
        self._file(path, self._write)
        self._spilled.append(path)
        self.spills += 1
        self.plan.tick()

    def _pace(self, held: int, pairs: int) -> None:
        """Choose the next chunk's length from what a pair has cost so far."""
        average = held // pairs + 1 if pairs else 1
        fits = self.plan.memory // (_STEP_SHARE * average)
        self._step = max(1, min(self._step * 2, fits, self._step_max))


def _has_number(key: Any) -> bool:
    if type(key) is not tuple:
        return type(key) in NUMBERS
    return not NUMBERS.isdisjoint(map(type, key)) or (tuple in map(type, key) and any(map(_has_number, key)))


class FoldCollector(Collector):
    """Folds pairs into one state a key, by hash."""

    def __init__(self, plan: MapPlan, fold: Fold) -> None:
        super().__init__(plan)
        self._fold = fold
        if fold.adds:
            self._step_max = STEP_MAX_FOLDING
        self._table = FoldTable(fold, raw=True)
        self._numbers = False  # of a fold that adds: numbers are among its keys, or in them
        self._odd = 0  # pairs whose value wasn't the int 1
        self._odd_sum = 0  # what they added to the sums

    def consume(self, pairs: Iterator[Pair]) -> None:
        if self._fold.counts:
            self._count(pairs)
        elif self._fold.adds:
            self._add(pairs)
        else:
            self._gather(pairs)

    def consume_mapping(self, mapping: Mapping[Any, Any]) -> None:
        fold, kinds = self._fold, set(map(type, mapping))
        plain = set(map(type, mapping.values())) == {int} and kinds <= PLAIN_KEYS
        if fold.counts or not fold.adds or not plain:
            super().consume_mapping(mapping)
            return
        sums = self._table.sums
        if sums:
            get = sums.get
            for key, value in mapping.items():
                held = get(key)
                sums[key] = value if held is None else held + value
        else:
            sums.update(mapping)
        self._numbers = self._numbers or not NUMBERS.isdisjoint(kinds)
        self._odd += len(mapping)
        self._odd_sum += sum(mapping.values())
        self._charge()

    def _add(self, pairs: Iterator[Pair]) -> None:
        one = _ONE
        for pair in pairs:
            sums = self._table.sums  # another after a spill
            get = sums.get
            if self._other(*pair):
                self._add_looking(pairs)
                continue
            odd = odd_sum = 0
            for key, value in islice(pairs, self._step):
                try:
                    held = get(key)  # an eighth faster than get(key, 0)
                except (TypeError, ValueError):  # no hash, as a bytearray: its bytes can be a key
                    key = carried_key(key)
                    held = get(key)
                if value is one:
                    if held is not None:
                        sums[key] = held + one
                    elif type(key) is str:
                        sums[key] = one
                    else:
                        if self._add_to(key, one):
                            break
                elif type(value) is int:
                    odd += 1
                    odd_sum += value
                    if held is not None:
                        sums[key] = held + value
                    elif self._add_to(key, value):
                        break
                elif type(value) is float and type(key) is str:  # nothing that `_other` would look at
                    odd += 1
                    self._table.put(key, value)
                elif self._other(key, value):
                    break
            self._odd += odd
            self._odd_sum += odd_sum
            self._charge()

    def _add_looking(self, pairs: Iterator[Pair]) -> None:
        """A chunk of pairs, once a number is among the keys. What can't be a key may be equal to it, as
        Decimal(1) is to 1, and would be found: so the key's types are looked at before it is looked up."""
        sums = self._table.sums
        get = sums.get
        one, atoms, counts = _ONE, ATOMS, self._fold.counts
        kind = first_kind = second_kind = NoneType  # plain types, of what came last
        odd = odd_sum = 0
        for key, value in islice(pairs, self._step):
            if type(key) is not kind:
                if type(key) is tuple:
                    if len(key) == 2:
                        first, second = key
                        if type(first) is first_kind and type(second) is second_kind:
                            pass
                        elif type(first) in atoms and type(second) in atoms:
                            first_kind, second_kind = type(first), type(second)
                        else:
                            key = carried_key(key)
                    else:
                        for item in key:
                            if type(item) not in atoms:
                                key = carried_key(key)
                                break
                elif type(key) in atoms:
                    kind = type(key)
                else:
                    key = carried_key(key)
            held = get(key)
            if held is None:  # a new one, which may be or hold NaN
                key, held = carried_key(key), 0
            if value is one or counts:
                sums[key] = held + one
            elif type(value) is int:
                odd += 1
                odd_sum += value
                sums[key] = held + value
            else:
                self._other(key, value)
        self._odd += odd
        self._odd_sum += odd_sum
        self._charge()

    def _other(self, key: Any, value: Any) -> bool:
        """One pair, the general way. Whether numbers are among the keys now."""
        self._odd += 1
        if type(value) is int or type(value) is bool:
            numbers = self._add_to(key, value)
            self._odd_sum += value
            return numbers
        key = carried_key(key)
        self._table.put(key, carried(value))
        self._numbers = self._numbers or _has_number(key)
        return self._numbers

    def _add_to(self, key: Any, value: int) -> bool:
        """Add to the sum of a key that may be new. Whether numbers are among the keys now."""
        key = carried_key(key)
        sums = self._table.sums
        sums[key] = sums.get(key, 0) + value
        self._numbers = self._numbers or _has_number(key)
        return self._numbers

    def _count(self, pairs: Iterator[Pair]) -> None:
        for pair in pairs:
            sums = self._table.sums  # another after a spill
            get = sums.get
            if self._add_to(pair[0], 1):
                self._add_looking(pairs)
                continue
            for key, _ in islice(pairs, self._step):
                try:
                    held = get(key)
                except (TypeError, ValueError):  # no hash, as a bytearray: its bytes can be a key
                    key = carried_key(key)
                    held = get(key)
                if held is not None:
                    sums[key] = held + 1
                elif type(key) is str:
                    sums[key] = 1
                else:
                    if self._add_to(key, 1):
                        break
            self._charge()

    def _gather(self, pairs: Iterator[Pair]) -> None:
        table = self._table
        while column := listed(pairs, self._step, table.lists):  # lists are others after a spill
            self._emitted += len(column)
            table.waits(column)
            self._charge()
            del column  # values may be large: gone before the next ones come

    @property
    def emitted(self) -> int:
        # Pairs of 1 aren't counted one by one: they are what the sums hold beyond the odd ones.
        return self._emitted + self._odd if self._fold.adds else self._emitted

    def _charge(self) -> None:
        """Spill when the table holds too much, and choose the next chunk."""
        table = self._table
        if table.over(self.plan.memory):
            self._spill()
        self._pace(table.held, table.keys_held)

    def _holds_any(self) -> bool:
        return self._table.holds_any

    def _write(self, writer: MapFileWriter) -> None:
        plan, fold = self.plan, self._fold
        if fold.adds:
            self._emitted += sum(self._table.sums.values()) - self._odd_sum + self._odd
            self._odd = self._odd_sum = 0
        regions: list[list[Frame]] = [[] for _ in range(plan.partitions)]
        self._encode(self._table.take(), regions)
        for partition in range(plan.partitions):
            writer.begin(partition, sorted=False)
            writer.put(regions[partition])
            regions[partition] = []
            writer.end()

    def _encode(self, table: dict[Any, Any], regions: list[list[Frame]]) -> None:
        """The table as frames, by partition.

        Some ten thousand keys at a time: they lie beside each other in memory, so they are in the processor's
        cache when they are hashed, dealt out and encoded. All at once takes half as long again.

        Where most sums are 1, those are in frames apart: they need no states, and no table in the reduce.
        """
        at_once = max(_DEALT_AT_ONCE, _DEALT_A_PARTITION * self.plan.partitions)
        apart = self._fold.adds and list(table.values()).count(_ONE) > len(table) // 2
        keys, states = iter(table), iter(table.values())
        rest_keys: list[Any] = []
        rest_states: list[Any] = []
        while some_keys := list(islice(keys, at_once)):
            some_states = list(islice(states, at_once))
            if not apart:
                self._deal_out(some_keys, some_states, regions)
                continue
            rest = list(map(is_not, some_states, repeat(_ONE)))
            rest_keys += compress(some_keys, rest)
            rest_states += compress(some_states, rest)
            self._deal_out(list(compress(some_keys, map(not_, rest))), None, regions)
        for at in range(0, len(rest_keys), at_once):
            self._deal_out(rest_keys[at : at + at_once], rest_states[at : at + at_once], regions)

    def _deal_out(self, keys: list[Any], states: list[Any] | None, regions: list[list[Frame]]) -> None:
        """Keys and their states, or 1 each, as frames at the end of the regions."""
        partitions = self.plan.partitions
        if partitions == 1:
            regions[0] += frames(keys, states)
            return
        numbers = self.plan.partition(keys)
        if states is None:
            for region, mine in zip(regions, deal(numbers, keys, partitions), strict=True):
                region += frames(mine, None)
            return
        for region, (mine, its) in zip(regions, deal_pairs(numbers, (keys, states), partitions), strict=True):
            region += frames(mine, its)

    def _merge(self, sources: Sequence[Source], writer: MapFileWriter) -> None:
        put_together(sources, writer, self.plan.tick)


def put_together(sources: Sequence[Source], writer: MapFileWriter, tick: Tick) -> None:
    """One partition's share of all spills of a fold, one behind the other: the reduce folds by hash, so a key
    may be there once a spill. Raises CorruptFileError, DataError, OSError."""
    for source in sources:
        for keys, states in source.blocks():
            writer.write(keys, states)
            tick()
