"""Folding by hash: a table of states a key, and the reduce side that is built on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice, repeat
from typing import Any, Final

from mrq.codec.order import sort_columns
from mrq.shuffle.bounded import Quota
from mrq.shuffle.budget import FLOAT, INT, SLOT, column_cost
from mrq.shuffle.fold import Columns, Fold, Tick
from mrq.shuffle.grouping import blocks, groups
from mrq.shuffle.merge import merge
from mrq.shuffle.runs import Run, RunWriter

#: A key's entry in a dict, with what a resize holds twice and the columns that a flush makes, bytes.
ENTRY: Final = 136
#: A list a key, with its first slots, bytes.
LIST: Final = 88
#: Values that wait for folding, at most.
_PENDING_MAX: Final = 1 << 18
#: CPython has one object for it: what isn't it, True and 1.0 too, is looked up.
_ONE: Final = 1


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
    """The reduce of a fold: adds blocks of states in any order of keys, sorts distinct keys once."""

    def __init__(
        self, fold: Fold, *, memory: int, scratch: str, tick: Tick, quota: Quota | None = None
    ) -> None:
        self._quota = quota
        self._fold = fold
        self._memory = memory
        self._scratch = scratch
        self._tick = tick
        self._table = FoldTable(fold, raw=False)
        self._runs: list[Run] = []
        self.groups = 0  #: distinct keys; known when `results` is through

    @property
    def spills(self) -> int:
        """Runs written."""
        return len(self._runs)

    def add(self, keys: list[Any], states: list[Any]) -> None:
        """Take a block of map outputs, in (map, position) order. Raises DataError, DiskFullError."""
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
        if table.over(self._memory):
            self._spill()
        self._tick()

    def _spill(self) -> None:
        writer = RunWriter(f"{self._scratch}/fold-{len(self._runs):05d}", quota=self._quota)
        try:
            writer.write(*self._sorted())
            self._runs.append(writer.close())
        except BaseException:
            writer.abort()
            raise

    def _sorted(self) -> Columns:
        # Sorting the keys alone and looking their states up takes two thirds of sorting both, and half of
        # that where most states are 1: the table of the others fits the processor's cache.
        table = self._table.take()
        keys, _ = sort_columns(list(table), None)
        if self._fold.adds and list(table.values()).count(1) > len(table) * 3 // 4:
            others = {key: state for key, state in table.items() if state is not _ONE}
            del table
            return keys, list(map(others.get, keys, repeat(_ONE)))
        return keys, list(map(table.__getitem__, keys))

    def results(self) -> Iterator[Columns]:
        """Blocks of distinct keys, sorted, with their results. Raises DiskFullError, CorruptFileError."""
        finish = self._fold.finish
        if not self._runs:
            keys, states = self._sorted()
            self.groups = len(keys)
            for some_keys, some_states in blocks(keys, states):
                yield some_keys, finish(some_states)
            return
        self._spill()
        merged = merge(
            self._runs, memory=self._memory, scratch=self._scratch, tick=self._tick, quota=self._quota
        )
        for keys, states in self._folded(merged):
            self.groups += len(keys)
            yield keys, finish(states)

    def _folded(self, merged: Iterator[Columns]) -> Iterator[Columns]:
        """Sorted blocks with one state a key."""
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
