"""Folding by hash: a table of states a key, and the reduce side that is built on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from mrq.codec.order import Family, family, sort_columns
from mrq.codec.types import only_type
from mrq.shuffle.bounded import Quota
from mrq.shuffle.budget import FLOAT, INT, SLOT, ascii_cost, column_cost
from mrq.shuffle.fold import Columns, Fold, Tick
from mrq.shuffle.grouping import groups
from mrq.shuffle.merge import merge
from mrq.shuffle.runs import Run, RunWriter

#: A key's entry in a dict, with what a resize holds twice and the columns that a flush makes, bytes.
ENTRY: Final = 136
#: A list a key, with its first slots, bytes.
LIST: Final = 88
#: Values that wait for folding, at most.
_PENDING_MAX: Final = 1 << 18
#: What sorting takes of a single besides: the sorted list, Timsort's half, what growing lists hold twice.
SORTED: Final = 24
#: Distinct keys of a block, about: they and their states are in the processor's cache until they are written.
_BLOCK: Final = 2048
#: The families of keys that may be singles.
_LISTED: Final = frozenset({"str", "bytes"})


class FoldTable:
    """States by key, and what they cost. Keys stay in the order, and as, they came first.

    Where the fold adds, `sums` has every key and the hot loops add ints to it directly. Other values are
    appended to `lists` (through `put`) and folded many at a time into `states`.
    """

    def __init__(self, fold: Fold, *, raw: bool) -> None:
        self._fold = fold
        self._raw = raw  # values are a user's, to be started; else they are states
        self.sums: dict[Any, Any] = {}
        self.lists: defaultdict[Any, list[Any]] = defaultdict(list)
        self.states: dict[Any, Any] = {}
        self.keys_held = 0  #: keys that were charged
        self._held = 0
        self._pending = 0  # values in lists
        self._pending_cost = 0
        self._listed = 0  # keys of lists that were charged

    @property
    def held(self) -> int:
        """Bytes, by `budget`."""
        return self._held + self._pending_cost

    def put(self, key: Any, value: Any) -> None:
        """One value that isn't an int, of a fold that adds."""
        self.sums.setdefault(key, 0)
        new = key not in self.lists
        self.lists[key].append(value)
        self._pending += 1
        self._pending_cost += SLOT + FLOAT + (ENTRY + LIST) * new

    def waits(self, column: list[Any]) -> None:
        """Charge for values that were appended to `lists`, and for lists that are new."""
        self._pending += len(column)
        self._pending_cost += column_cost(column)
        new = len(self.lists) - self._listed
        if new:
            keys = list(islice(reversed(self.lists), new))
            self._pending_cost += new * (ENTRY + LIST) + column_cost(keys)
            self._listed += new

    def over(self, memory: int) -> bool:
        """Charge for new keys; fold what waits when it is much. Whether the table must be spilled."""
        self._charge_keys()
        if self._pending and (self._pending > _PENDING_MAX or self.held > memory):
            self._settle()
        return self.held > memory

    def _charge_keys(self) -> None:
        table = self.sums if self._fold.adds else self.states
        new = len(table) - self.keys_held
        if new:
            keys = list(islice(reversed(table), new))
            self._held += new * (ENTRY + INT) + column_cost(keys)
            self.keys_held += new

    def _settle(self) -> None:
        fold, states = self._fold, self.states
        for key, values in self.lists.items():
            if self._raw:
                state = fold.start(values)
                states[key] = fold.merge((states[key], state)) if key in states else state
            elif key in states:
                states[key] = fold.merge((states[key], *values))
            else:
                states[key] = values[0] if len(values) == 1 else fold.merge(values)
        self.lists = defaultdict(list)
        self._pending = self._pending_cost = self._listed = 0
        self._charge_keys()

    @property
    def holds_any(self) -> bool:
        """Whether `take` would give anything."""
        return bool(self.sums or self.states or self.lists)

    def take(self) -> dict[Any, Any]:
        """States by key; the table is empty after."""
        self._settle()
        table: dict[Any, Any] = self.states
        if self._fold.adds:
            table = self.sums
            for key, state in self.states.items():
                table[key] = self._fold.merge((table[key], state))
        self.sums = {}
        self.states = {}
        self.keys_held = self._held = 0
        return table


class Aggregator:
    """The reduce of a fold: adds blocks of states in any order of keys, sorts distinct keys once.

    Most keys of a count are *singles*: they come with the state 1, and from one map only. Those are listed
    and sorted, and counted where they lie beside each other. Looking each up in a table takes longer, since
    that waits for memory at nearly every step.
    """

    def __init__(
        self, fold: Fold, *, memory: int, scratch: str, tick: Tick, quota: Quota | None = None
    ) -> None:
        self._quota = quota
        self._fold = fold
        self._memory = memory
        self._scratch = scratch
        self._tick = tick
        self._table = FoldTable(fold, raw=False)
        self._singles: list[Any] = []
        self._singles_kind: Family | None = None  # of all of them
        self._singles_cost = 0  # bytes, by `budget`
        self._lists_singles = fold.adds  # until they are found to repeat
        self._runs: list[Run] = []
        self.groups = 0  #: distinct keys; known when `results` is through

    @property
    def spills(self) -> int:
        """Runs written."""
        return len(self._runs)

    def add(self, keys: list[Any], states: list[Any]) -> None:
        """Take a block of map outputs, in (map, position) order. Raises DataError, DiskFullError."""
        if not (self._lists_singles and self._list(keys, states)):
            self._look_up(keys, states)
        if self._table.over(self._memory - self._singles_cost):
            self._spill()
        self._tick()

    def _list(self, keys: list[Any], states: list[Any]) -> bool:
        """Take a block of singles, if it is one. Numbers aren't listed: keys may be equal and look different,
        and which one came first would be lost."""
        if states.count(1) < len(states) or only_type(states) is not int:
            return False
        cost = ascii_cost(keys)
        kind = "str" if cost is not None else family(keys)
        if kind not in _LISTED or kind != (self._singles_kind or kind):
            return False
        self._singles_kind = kind
        self._singles += keys
        self._singles_cost += (cost or column_cost(keys)) + SORTED * len(keys)
        return True

    def _look_up(self, keys: list[Any], states: list[Any]) -> None:
        table = self._table
        if self._fold.adds:
            sums = table.sums
            if set(map(type, states)) == {int}:
                for key, state in zip(keys, states, strict=True):
                    if key in sums:  # most keys are new: a quarter faster than get
                        sums[key] += state
                    else:
                        sums[key] = state
            else:
                for key, state in zip(keys, states, strict=True):
                    if type(state) is int:
                        sums[key] = sums.get(key, 0) + state
                    else:
                        table.put(key, state)
        else:
            lists = table.lists
            for key, state in zip(keys, states, strict=True):
                lists[key].append(state)
            table.waits(states)

    def _spill(self) -> None:
        singles, distinct = len(self._singles), 0
        writer = RunWriter(f"{self._scratch}/fold-{len(self._runs):05d}", quota=self._quota)
        try:
            for keys, states in self._distinct():
                distinct += len(keys)
                writer.write(keys, states)
            self._runs.append(writer.close())
        except BaseException:
            writer.abort()
            raise
        if distinct < singles // 2:
            self._lists_singles = False  # a table holds them in less

    def _distinct(self) -> Iterator[Columns]:
        """Blocks of distinct keys, sorted, with their states; nothing is held after."""
        table = self._table.take()
        if not self._singles:
            keys, _ = sort_columns(list(table), None)
            for at in range(0, len(keys), _BLOCK):
                some = keys[at : at + _BLOCK]
                yield some, list(map(table.__getitem__, some))
            return
        looked_up, _ = sort_columns(list(table), None)
        alike = not looked_up or family(looked_up) == self._singles_kind
        self._singles += looked_up
        keys, _ = sort_columns(self._singles, None, self._singles_kind if alike else None)
        self._singles, self._singles_cost = [], 0
        keys.reverse()  # so that they go, block by block, while they are in the processor's cache
        looked_up.reverse()
        while keys:
            counts = Counter(_taken(keys))
            while looked_up and looked_up[-1] in counts:
                key = looked_up.pop()
                state, singles = table[key], counts[key] - 1
                if type(state) is int:
                    counts[key] = state + singles
                else:
                    counts[key] = self._fold.merge((state, singles)) if singles else state
            yield list(counts), list(counts.values())

    def results(self) -> Iterator[Columns]:
        """Blocks of distinct keys, sorted, with their results. Raises DiskFullError, CorruptFileError."""
        for keys, states in self._folded() if self._runs else self._distinct():
            self.groups += len(keys)
            yield keys, self._fold.finish(states)

    def _folded(self) -> Iterator[Columns]:
        """Sorted blocks with one state a key, of all runs."""
        self._spill()
        merged = merge(
            self._runs, memory=self._memory, scratch=self._scratch, tick=self._tick, quota=self._quota
        )
        keys: list[Any] = []
        states: list[Any] = []
        for key, group in groups(merged):
            keys.append(key)
            # At most one state a run.
            if type(group) is list and len(group) == 1:
                states.append(group[0])
            else:
                states.append(self._fold.merge(list(group)))
            if len(keys) == 4096:
                yield keys, states
                keys, states = [], []
        if keys:
            yield keys, states


def _taken(keys: list[Any]) -> list[Any]:
    """The block at the end of a list in reverse order, taken off it, in order; equal keys stay together."""
    size = min(_BLOCK, len(keys))
    last = keys[-size]
    while size < len(keys) and keys[-size - 1] == last:
        size += 1
    taken = keys[-size:]
    del keys[-size:]
    taken.reverse()
    return taken
