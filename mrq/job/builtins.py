"""The built-in reducers: `reduce = mrq.sum`.

Two kinds. A *folding* one (sum, count, min, max, mean) keeps one small state a key, so the engine
aggregates by hash on both sides and never sorts values. A *grouping* one (collect, identity, top, bottom)
reads a group's values as a user's reduce does. Each knows its own combiner.

Results never depend on how the values were grouped, spilled or merged: states are exact until the end.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from mrq.errors import DataError

#: From here on every float is a whole number, so an int carries it exactly.
_WHOLE: Final = 2.0**53


class BuiltIn:
    """A built-in reducer. `job.reduce` holds one where the class says `reduce = mrq.sum`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name  #: as users know it: "sum", "top(10)"

    def __repr__(self) -> str:
        return f"mrq.{self.name}"


class Folding(BuiltIn):
    """A reducer with one small state a key. States are carried values, so they travel as values do."""

    __slots__ = ()

    #: States of ints are ints and merging adds them: the engine may add ints itself.
    adds = False
    #: Every pair counts one, whatever its value.
    counts = False

    def start(self, values: Sequence[Any]) -> Any:
        """The state of one key's values, at least one, in order. Raises DataError for a wrong type."""
        raise NotImplementedError

    def merge(self, states: Sequence[Any]) -> Any:
        """One state of several of one key, in order."""
        raise NotImplementedError

    def finish(self, states: list[Any]) -> list[Any]:
        """A column of states as a column of results."""
        return states


class Grouping(BuiltIn):
    """A reducer that reads a group's values."""

    __slots__ = ()

    #: Its combiner shortens groups; otherwise there is none.
    combines = False
    #: Gives back every pair as it came: the engine needn't look at groups.
    passes = False

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterable[Any]:
        """The results of one group."""
        raise NotImplementedError

    def combine(self, key: Any, values: Iterator[Any]) -> Iterable[Any]:
        """Fewer values that reduce to the same; only where `combines`."""
        raise NotImplementedError


class _Sum(Folding):
    """Ints: the exact int. With a float among them: the exact sum of all, rounded once, correctly.

    A state is an int (only ints so far), a float (exactly that), or a tuple (int, float, …) whose exact
    sum it is, with at least one float seen. inf and nan are absorbing: a state of them is that float.
    """

    __slots__ = ()
    adds = True

    def start(self, values: Sequence[Any]) -> Any:
        types = set(map(type, values))
        if types <= _INTS:
            return builtins.sum(values)
        if types <= _NUMBERS:
            ints = builtins.sum(v for v in values if type(v) is not float)
            return _exact(ints, [v for v in values if type(v) is float])
        return self.start([v if type(v) in _NUMBERS else _number(v, self.name) for v in values])

    def merge(self, states: Sequence[Any]) -> Any:
        ints = 0
        floats: list[float] = []
        seen = False
        for state in states:
            kind = type(state)
            if kind is int:
                ints += state
                continue
            seen = True
            if kind is float:
                floats.append(state)
            else:
                ints += state[0]
                floats.extend(state[1:])
        return _exact(ints, floats) if seen else ints

    def finish(self, states: list[Any]) -> list[Any]:
        if set(map(type, states)) <= _INT:
            return states
        return [state if type(state) is int else _rounded(state) for state in states]


def _exact(ints: int, floats: list[float]) -> float | tuple[Any, ...]:
    """The state of an int and some floats: as few floats as their exact sum needs, found by `math.fsum`."""
    parts: list[float] = []
    try:
        while True:
            part = math.fsum(chain(floats, map(float.__neg__, parts)))
            if part == 0.0:
                break
            if part - part != 0.0:  # inf or nan
                return builtins.sum(x for x in floats if x - x != 0.0)
            parts.append(part)
    except (OverflowError, ValueError):
        # ValueError: inf and -inf. OverflowError: a partial sum of finite ones is out of range.
        odd = [x for x in floats if x - x != 0.0]
        if odd:
            return builtins.sum(odd)
        whole = builtins.sum(int(x) for x in floats if abs(x) >= _WHOLE)
        return _exact(ints + whole, [x for x in floats if abs(x) < _WHOLE])
    if ints == 0 and len(parts) <= 1:
        return parts[0] if parts else 0.0
    return (ints, *parts)


def _rounded(state: float | tuple[Any, ...]) -> float:
    """A state's exact value, rounded once; beyond the range of floats, inf with its sign."""
    if type(state) is float:
        return state + 0.0
    ints, *parts = state  # type: ignore[misc]
    if ints == 0:
        try:
            return math.fsum(parts)
        except OverflowError:
            pass
    from fractions import Fraction

    total = builtins.sum(map(Fraction, parts), Fraction(ints))
    try:
        return float(total)
    except OverflowError:
        return math.inf if total > 0 else -math.inf


class _Count(Folding):
    """How many values."""

    __slots__ = ()
    adds = True
    counts = True

    def start(self, values: Sequence[Any]) -> Any:
        return len(values)

    def merge(self, states: Sequence[Any]) -> Any:
        return builtins.sum(states)


class _Extreme(Folding):
    """The least or greatest value by the order of keys; the first of equal ones; NaN if one is among them."""

    __slots__ = ("_pick",)

    def __init__(self, name: str, pick: Callable[..., Any]) -> None:
        super().__init__(name)
        self._pick = pick

    def start(self, values: Sequence[Any]) -> Any:
        if len(values) == 1:
            return values[0]
        from mrq.codec.order import NONE, family, sort_key

        if float in set(map(type, values)):
            for value in values:
                if value != value:
                    return value
        kind = family(values)
        if kind is None or kind == NONE:
            return self._pick(values, key=sort_key)
        return self._pick(values)

    def merge(self, states: Sequence[Any]) -> Any:
        return self.start(states)


class _Mean(Folding):
    """The arithmetic mean: the correctly rounded sum, divided by how many. A state is (how many, sum's)."""

    __slots__ = ()

    def start(self, values: Sequence[Any]) -> Any:
        return (len(values), sum.start(values))

    def merge(self, states: Sequence[Any]) -> Any:
        return (builtins.sum(s[0] for s in states), sum.merge([s[1] for s in states]))

    def finish(self, states: list[Any]) -> list[Any]:
        return [_divided(total, n) for n, total in states]


def _divided(total: Any, n: int) -> float:
    if type(total) is not int:
        return _rounded(total) / n
    try:
        return total / n
    except OverflowError:
        return math.inf if total > 0 else -math.inf


class _Identity(Grouping):
    """Every value, under its key: a sort."""

    __slots__ = ()
    passes = True

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterable[Any]:
        return values


class _Collect(Grouping):
    """One list of all values. It is held in memory, beside the engine's own budget."""

    __slots__ = ()

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterable[Any]:
        return [list(values)]


class _Top(Grouping):
    """The n greatest (or least) values, best first, each its own record; of equal ones the first."""

    __slots__ = ("_best", "_key", "_n")
    combines = True

    def __init__(self, name: str, n: int, key: Callable[[Any], Any] | None, best: Callable[..., Any]) -> None:
        super().__init__(f"{name}({n})")
        self._n = n
        self._key = key
        self._best = best

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterable[Any]:
        from mrq.codec.order import sort_key

        chosen = self._key
        by = sort_key if chosen is None else lambda value: sort_key(chosen(value))
        found: list[Any] = self._best(self._n, values, key=by)
        return found

    combine = reduce


def _number(value: Any, name: str) -> Any:
    """A subclass of a number as its base, a NumPy scalar as Python's. Raises DataError for the rest."""
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        return int(value)
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "shape", None) == ():
        plain = item()
        if type(plain) in _NUMBERS:
            return plain
    text = repr(value)
    text = text if len(text) <= 80 else text[:77] + "…"
    raise DataError(
        f"mrq.{name} adds numbers, and got {text} ({type(value).__name__}); yield an int or a float"
    )


_INT: Final = frozenset({int})
_INTS: Final = frozenset({int, bool})
_NUMBERS: Final = frozenset({int, bool, float})

sum: Final = _Sum("sum")
count: Final = _Count("count")
min: Final = _Extreme("min", builtins.min)
max: Final = _Extreme("max", builtins.max)
mean: Final = _Mean("mean")
identity: Final = _Identity("identity")
collect: Final = _Collect("collect")


def top(n: int, key: Callable[[Any], Any] | None = None) -> BuiltIn:
    """The n greatest values of each key, best first; by `key(value)` if given, in the order of keys.

    Raises TypeError or ValueError for an n that isn't a number of at least 1.
    """
    from heapq import nlargest

    return _Top("top", _checked(n, "top"), key, nlargest)


def bottom(n: int, key: Callable[[Any], Any] | None = None) -> BuiltIn:
    """The n least values of each key, least first; by `key(value)` if given, in the order of keys.

    Raises TypeError or ValueError for an n that isn't a number of at least 1.
    """
    from heapq import nsmallest

    return _Top("bottom", _checked(n, "bottom"), key, nsmallest)


def _checked(n: int, name: str) -> int:
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"mrq.{name}(n) takes how many values to keep, not {n!r}: reduce = mrq.{name}(10)")
    if n < 1:
        raise ValueError(f"mrq.{name}({n}) keeps nothing; n must be at least 1")
    return n
