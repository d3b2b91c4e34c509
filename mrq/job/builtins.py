"""The built-in reducers: `reduce = mrq.sum`.

Two kinds. A *folding* one (sum, count, min, max, mean) keeps one small state a key, so the engine
aggregates by hash on both sides and never sorts values. A *grouping* one (collect, identity, top, bottom)
reads a group's values as a user's reduce does. Each knows its own combiner.

Results never depend on how the values were grouped, spilled or merged: states are exact until the end.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, islice
from operator import add
from typing import Any, Final

from mrq.codec.order import NONE, family, sort_key
from mrq.codec.types import ATOMS, carried, shown
from mrq.errors import DataError, UsageTypeError, UsageValueError

#: Values of a group that are folded at once, where a reduce of a user's own calls a built-in.
_CHUNK: Final = 1024
#: From here on every float is a whole number, so an int carries it exactly.
_WHOLE: Final = 2.0**53
#: Families of values that Python doesn't compare, or not as keys are ordered: those need a `sort_key` each.
_RANKED: Final = (None, NONE)


class WrongValue(DataError):
    """A value that a built-in can't take. It is found when many are folded: not by the record at hand."""


class BuiltIn:
    """A built-in reducer. `job.reduce` holds one where the class says `reduce = mrq.sum`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name  #: as users know it: "sum", "top(10)"

    @property
    def parameter(self) -> str | None:
        """The parameter that an argument names; None where none does."""
        return None

    def __repr__(self) -> str:
        return f"mrq.{self.name}"

    def __call__(self, *arguments: Any) -> Iterable[Any]:
        """The results of one group: `yield from mrq.top(self.n)(key, values)` in a reduce of one's own."""
        if len(arguments) != 2:
            raise UsageTypeError(
                f"{self!r} is called with a group, as reduce is: {self!r}(key, values); "
                f"as a whole reduce it is written {self!r} alone"
            )
        return self.results(*arguments)

    def results(self, key: Any, values: Iterable[Any]) -> Iterable[Any]:
        """The results of one group."""
        raise NotImplementedError

    def look(self, value: Any) -> None:
        """Raise what a value raises by itself when it is first looked at."""

    def bound(self, parameters: Mapping[str, Any]) -> BuiltIn:
        """The same with the values of the parameters that its arguments name."""
        return self


class Folding(BuiltIn):
    """A reducer with one small state a key. States are carried values, so they travel as values do."""

    __slots__ = ()

    def start(self, values: Sequence[Any]) -> Any:
        """The state of one key's values, at least one, in order. Raises DataError for a wrong type."""
        raise NotImplementedError

    def merge(self, states: Sequence[Any]) -> Any:
        """One state of several of one key, in order."""
        raise NotImplementedError

    @property
    def join(self) -> Callable[[int, int], int] | None:
        """Two states as one, where both are ints; None where that takes more."""
        return None

    def states(self, values: list[Any]) -> list[Any]:
        """The state of each value by itself. Raises DataError for a wrong type."""
        return [self.start((value,)) for value in values]

    def merged(self, lists: Sequence[list[Any]]) -> list[Any]:
        """One state of each list of states of one key."""
        return [states[0] if len(states) == 1 else self.merge(states) for states in lists]

    def finish(self, states: list[Any]) -> list[Any]:
        """A column of states as a column of results."""
        return states

    def look(self, value: Any) -> None:
        self.start((value,))

    def results(self, key: Any, values: Iterable[Any]) -> Iterable[Any]:
        source, states = iter(values), []
        while chunk := list(islice(source, _CHUNK)):
            states.append(self.start(chunk))
            states = [self.merge(states)]
        return self.finish(states)


class Grouping(BuiltIn):
    """A reducer that reads a group's values."""

    __slots__ = ()

    #: Its combiner shortens groups; otherwise there is none.
    combines = False
    #: Gives back every pair as it came: the engine needn't look at groups.
    passes = False

    @property
    def counts_on_order(self) -> bool:
        """Among values that it takes for equal the first is meant: with sort_values nothing may be left out
        before they are in order."""
        return False

    def reduce(self, key: Any, values: Iterable[Any]) -> Iterable[Any]:
        """The results of one group."""
        raise NotImplementedError

    def combine(self, key: Any, values: Iterable[Any]) -> Iterable[Any]:
        """Fewer values that reduce to the same; only where `combines`."""
        raise NotImplementedError

    def results(self, key: Any, values: Iterable[Any]) -> Iterable[Any]:
        # Values are kept here, and a generator of the user's may refill what it has yielded.
        return self.reduce(key, map(carried, values))


class _Sum(Folding):
    """Ints: the exact int. With a float among them: the exact sum of all, rounded once, correctly.

    A state is an int (only ints so far), a float (exactly that), or a tuple (int, float, …) whose exact
    sum it is, with at least one float seen. inf and nan are absorbing: a state of them is that float.
    """

    __slots__ = ()
    join = staticmethod(add)

    def states(self, values: list[Any]) -> list[Any]:
        return values if set(map(type, values)) <= _PLAIN_NUMBERS else super().states(values)

    def merged(self, lists: Sequence[list[Any]]) -> list[Any]:
        if set(map(type, chain.from_iterable(lists))) == _INT:
            return list(map(builtins.sum, lists))
        return super().merged(lists)

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
    join = staticmethod(add)

    def states(self, values: list[Any]) -> list[Any]:
        return [1] * len(values)

    def merged(self, lists: Sequence[list[Any]]) -> list[Any]:
        return list(map(builtins.sum, lists))

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

    @property
    def join(self) -> Callable[[int, int], int]:
        return self._pick

    def states(self, values: list[Any]) -> list[Any]:
        return values if ATOMS.issuperset(map(type, values)) else super().states(values)

    def merged(self, lists: Sequence[list[Any]]) -> list[Any]:
        if set(map(type, chain.from_iterable(lists))) == _INT:
            return list(map(self._pick, lists))
        return super().merged(lists)

    def start(self, values: Sequence[Any]) -> Any:
        if len(values) == 1:
            if type(values[0]) not in ATOMS:
                self.look(values[0])
            return values[0]
        types = set(map(type, values))
        if types == _INT:
            return self._pick(values)
        if float in types:
            for value in values:
                if value != value:
                    return value
        if family(values) in _RANKED:
            for value in values:
                if type(value) not in ATOMS:
                    self.look(value)
            return self._pick(values, key=sort_key)
        return self._pick(values)

    def merge(self, states: Sequence[Any]) -> Any:
        return self.start(states)

    def look(self, value: Any) -> None:
        """A value without a place in the order is refused also where it is the only one of its key: results
        mustn't depend on what else there is."""
        try:
            sort_key(value)
        except DataError as exc:
            raise WrongValue(
                f"mrq.{self.name} orders values as keys are ordered, and got {_shown(value)}: {exc}"
            ) from exc


class _Mean(Folding):
    """The arithmetic mean: the exact sum divided by how many, rounded once. A state is (how many, sum's)."""

    __slots__ = ()

    def states(self, values: list[Any]) -> list[Any]:
        return [(1, state) for state in _summed.states(values)]

    def start(self, values: Sequence[Any]) -> Any:
        return (len(values), _summed.start(values))

    def merge(self, states: Sequence[Any]) -> Any:
        return (builtins.sum(s[0] for s in states), _summed.merge([s[1] for s in states]))

    def finish(self, states: list[Any]) -> list[Any]:
        return [_divided(total, n) for n, total in states]


def _divided(total: Any, n: int) -> float:
    """A sum's state by a count, rounded once. Only what no single float is pays for a fraction."""
    if type(total) is float:
        return (total + 0.0) / n
    if type(total) is tuple:
        whole = _as_float(total)
        if whole is not None:
            return whole / n
        from fractions import Fraction

        total = builtins.sum(map(Fraction, total[1:]), Fraction(total[0]))
    try:
        return float(total / n)
    except OverflowError:
        return math.inf if total > 0 else -math.inf


def _as_float(state: tuple[Any, ...]) -> float | None:
    """A state of several numbers as the float that it is exactly; None where it is none."""
    if abs(state[0]) > _WHOLE:
        return None
    try:
        whole = math.fsum(state)
        return whole if math.fsum((*state, -whole)) == 0.0 else None
    except OverflowError:
        return None


class _Identity(Grouping):
    """Every value, under its key: a sort."""

    __slots__ = ()
    passes = True

    def reduce(self, key: Any, values: Iterable[Any]) -> Iterable[Any]:
        return values


class _Collect(Grouping):
    """One list of all values. It is held in memory, beside the engine's own budget."""

    __slots__ = ()

    def reduce(self, key: Any, values: Iterable[Any]) -> Iterable[Any]:
        return [list(values)]


class _Top(Grouping):
    """The n greatest (or least) values, best first, each its own record; of equal ones the first."""

    __slots__ = ("_best", "_key", "_n")
    combines = True

    def __init__(
        self, name: str, n: int | str, key: Callable[[Any], Any] | None, best: Callable[..., Any]
    ) -> None:
        super().__init__(f"{name}({n!r})")
        self._n = n
        self._key = key
        self._best = best

    @property
    def parameter(self) -> str | None:
        return self._n if isinstance(self._n, str) else None

    def bound(self, parameters: Mapping[str, Any]) -> BuiltIn:
        if self.parameter is None:
            return self
        kind = self.name.partition("(")[0]
        return _Top(kind, _checked(parameters[self.parameter], kind), self._key, self._best)

    def reduce(self, key: Any, values: Iterable[Any]) -> Iterable[Any]:
        if isinstance(self._n, str):
            kind = self.name.partition("(")[0]
            raise UsageTypeError(
                f"{self!r} names a parameter, which only a whole reduce can: write "
                f"mrq.{kind}(self.{self._n})(key, values)"
            )
        if self._key is not None:
            found: list[Any] = self._best(self._n, values, key=self._chosen_by)
            return found
        if type(values) is list:
            return self._ordered(values)
        found, source = [], iter(values)
        while chunk := list(islice(source, builtins.max(_CHUNK, self._n))):
            found = self._ordered(found + chunk)
        return found

    combine = reduce

    def _ordered(self, values: list[Any]) -> list[Any]:
        """The best of some values, by themselves: compared as they are where that is the order of keys.
        Raises DataError for a value without a place in it."""
        by = sort_key if family(values) in _RANKED else None
        found: list[Any] = self._best(self._n, values, key=by)
        return found

    @property
    def counts_on_order(self) -> bool:
        return self._key is not None

    def look(self, value: Any) -> None:
        self._chosen_by(value)

    def _chosen_by(self, value: Any) -> Any:
        """What a value is ordered by. Raises what the key function raises, DataError."""
        if self._key is None:
            return sort_key(value)
        try:
            by = self._key(carried(value))  # its own copy, which it may change
        except StopIteration as exc:
            raise RuntimeError(
                f"the key of {self!r} raised StopIteration; was next() called on an empty iterator?"
            ) from exc
        return sort_key(by)


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
    raise WrongValue(f"mrq.{name} adds numbers, and got {_shown(value)}; yield an int or a float")


def _shown(value: Any) -> str:
    return f"{shown(value)} ({type(value).__name__})"


_INT: Final = frozenset({int})
_INTS: Final = frozenset({int, bool})
_NUMBERS: Final = frozenset({int, bool, float})
#: Each is its own sum's state.
_PLAIN_NUMBERS: Final = frozenset({int, float})

sum: Final = _Sum("sum")
count: Final = _Count("count")
min: Final = _Extreme("min", builtins.min)
max: Final = _Extreme("max", builtins.max)
mean: Final = _Mean("mean")
#: What mean keeps of a sum: errors speak of mean.
_summed: Final = _Sum("mean")
identity: Final = _Identity("identity")
collect: Final = _Collect("collect")


def top(n: int | str, key: Callable[[Any], Any] | None = None) -> BuiltIn:
    """The n greatest values of each key, best first; by `key(value)` if given, in the order of keys.

    `n` may be the name of a parameter of the job: `mrq.top("n")`. Raises UsageTypeError or
    UsageValueError for an n that isn't a number of at least 1 or a name.
    """
    from heapq import nlargest

    return _made("top", n, key, nlargest)


def bottom(n: int | str, key: Callable[[Any], Any] | None = None) -> BuiltIn:
    """The n least values of each key, least first; by `key(value)` if given, in the order of keys.

    `n` may be the name of a parameter of the job: `mrq.bottom("n")`. Raises UsageTypeError or
    UsageValueError for an n that isn't a number of at least 1 or a name.
    """
    from heapq import nsmallest

    return _made("bottom", n, key, nsmallest)


def _made(name: str, n: int | str, key: Callable[[Any], Any] | None, best: Callable[..., Any]) -> BuiltIn:
    kept = n if isinstance(n, str) and n.isidentifier() else _checked(n, name)
    if key is not None and not callable(key):
        raise UsageTypeError(
            f"mrq.{name}(…, key={key!r}): key must be a function of a value, as lambda v: v[1]"
        )
    return _Top(name, kept, key, best)


def _checked(n: Any, name: str) -> int:
    if isinstance(n, bool) or not isinstance(n, int):
        raise UsageTypeError(
            f"mrq.{name}(n) takes how many values to keep, not {n!r}: reduce = mrq.{name}(10), or "
            f'reduce = mrq.{name}("n") for the parameter n'
        )
    if n < 1:
        raise UsageValueError(f"mrq.{name}({n}) keeps nothing; n must be at least 1")
    return n
