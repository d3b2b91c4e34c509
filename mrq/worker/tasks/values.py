"""What a user's reduce and combine get and give: `values`, and what they may return."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from inspect import isgeneratorfunction
from itertools import chain
from sys import getrefcount
from types import CodeType, GeneratorType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mrq.codec.types import shown
from mrq.errors import DataError, UsageTypeError
from mrq.shuffle.fold import Fold

if TYPE_CHECKING:
    from dis import Instruction

    from mrq.job.builtins import Folding

_REFUSED: Final = (str, bytes, bytearray, dict, tuple, set, frozenset)
#: A reference of its holder, and the argument of getrefcount.
_UNSHARED: Final = 2


class Values:
    """The values of one group: a stream, to be read once while its group is reduced.

    Iterating costs nothing beside a plain iterator: the stream is a C-level chain of the values and of a
    watchman that raises if the stream is used after its group.
    """

    __slots__ = ("_group", "_stream", "_tail")

    def __init__(self) -> None:
        self._group: Iterable[Any] | None = None
        self._stream: Iterator[Any] | None = None
        #: Empty while the group is current; shared with every stream that was made from it.
        self._tail: list[None] = []

    def __iter__(self) -> Iterator[Any]:
        group = self._group
        if group is None:
            raise DataError(_AFTER if self._tail else _SECOND)
        self._group = None
        stream = self._stream
        if stream is None:
            stream = self._stream = chain(group, map(_over, self._tail))
        return stream

    def __next__(self) -> Any:
        stream = self._stream
        if stream is None:
            if self._group is None:
                raise DataError(_AFTER)
            stream = self._stream = chain(self._group, map(_over, self._tail))
        return next(stream)

    def __getitem__(self, index: Any) -> Any:
        raise UsageTypeError(
            "values is a one-pass stream and can't be indexed; take list(values) if the group fits in memory"
        )

    def __repr__(self) -> str:
        return "<values: a one-pass stream>"


# Python makes the error of len() from the type's name, and asks the type, not __len__, in list(values).
Values.__name__ = "values (a one-pass stream: count while reading, or take list(values) if the group fits)"

_SECOND: Final = (
    "values was read a second time, but it is a one-pass stream; "
    "take list(values) first if the group fits in memory"
)
_AFTER: Final = (
    "values was used after its group; it is a one-pass stream, to be read while its key is reduced"
)


def _over(_: None) -> None:
    raise DataError(_AFTER)


class Groups:
    """Makes the `values` of one group after the other, the same object again where nobody kept it."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values = Values()

    def open(self, group: Iterable[Any]) -> Values:
        """The values of the next group; those of the one before end."""
        values = self._values
        tail = values._tail
        values._group = values._stream = None
        # Kept by the user: the object itself, or a stream, which holds the tail.
        if getrefcount(values) > _UNSHARED + 1 or getrefcount(tail) > _UNSHARED + 1:
            self.close()
            values = self._values
        values._group = group
        return values

    def close(self) -> None:
        """End the current group: whatever was kept of it raises from now on."""
        old, self._values = self._values, Values()
        old._group = old._stream = None
        old._tail.append(None)


def fold_of(reducer: Folding) -> Fold:
    """A built-in that folds, as the shuffle takes it."""
    return Fold(join=reducer.join, states=reducer.states, merged=reducer.merged, finish=reducer.finish)


def returning(
    function: Callable[..., Any], name: str, *, paired: bool = False
) -> Callable[..., Iterable[Any]]:
    """The function, with what it returns and yields checked; as it is where its code shows that there is
    nothing to check: a generator function whose every return gives None and, where it is `paired`, as a map,
    every yield a pair. `name`: what the user calls it."""
    shapes = _Shapes()
    if isgeneratorfunction(function):
        shape = shapes[_code_of(function)]
        if shape.settled(paired):
            return function
        return lambda key, value: _watched(function(key, value), name, shape, paired=paired)

    def checked(key: Any, value: Any) -> Iterable[Any]:
        try:
            found = function(key, value)
        except StopIteration as exc:
            raise stopped(name) from exc
        kind = type(found)
        if kind is list:
            if paired:
                try:
                    for pair in found:
                        if type(pair) is not tuple:
                            return _pairs(found, name)
                        _, _ = pair  # a third faster than its length
                except ValueError:
                    return _pairs(found, name)
            return found  # type: ignore[no-any-return]
        if found is None:
            return ()
        if kind is GeneratorType:
            shape = shapes[found.gi_code]
            return found if shape.settled(paired) else _watched(found, name, shape, paired=paired)
        return given(found, name, paired=paired)

    return checked


def called(function: Callable[..., Any], name: str, *arguments: Any) -> Any:
    """What a user's callable returns. Its StopIteration comes out as an error with a name."""
    try:
        return function(*arguments)
    except StopIteration as exc:
        raise stopped(name) from exc


def stopped(name: str) -> RuntimeError:
    """The error of a callable that raised StopIteration, which would silently end iterators of the engine's
    own; in generators Python does the same (PEP 479)."""
    return RuntimeError(f"{name} raised StopIteration; was next() called on an empty iterator?")


def given(found: Any, name: str, *, paired: bool = False) -> Iterable[Any]:
    """What a method returned, to be iterated over once: None, an iterator or a list, else DataError with
    what it was and what is wanted. Where it is `paired`, as of a map, each is checked to be a pair."""
    if found is None:
        return ()
    kind = type(found)
    if kind is GeneratorType:
        shape = shape_of(found.gi_code)
        return found if shape.settled(paired) else _watched(found, name, shape, paired=paired)
    if kind is Values:
        found = iter(found)  # `values` itself may be iterated over once, and loops take it in steps
    if isinstance(found, list | Iterator) and not isinstance(found, _REFUSED):
        if paired:
            return _pairs(found, name)
        return found if kind.__module__ in _PLAIN else _drawn(found)
    what = "key, value" if paired else "value"
    if hasattr(found, "__await__") or hasattr(found, "__anext__"):
        raise DataError(f"{name} is asynchronous; write it as a plain `def {name}` that yields")
    if kind.__module__ == "mrq.job.builtins":
        raise DataError(f"{name} returned {found!r} itself; write `return {found!r}(key, values)`")
    raise DataError(
        f"{name} returned {_described(found)}; it must yield (`yield {what}`), "
        "or return a list, an iterator or None"
    )


def check_nothing(found: Any, name: str) -> None:
    """Raise DataError for what setup or teardown gave: nobody takes it."""
    if found is None:
        return
    if hasattr(found, "__await__") or hasattr(found, "__anext__"):
        raise DataError(f"{name} is asynchronous, so nothing in it has run; write it as a plain `def {name}`")
    instead = AT_THE_END if name == "teardown" else "write it without yield, and keep what it makes in self"
    if isinstance(found, Iterator):
        raise DataError(
            f"{name} gave {_described(found)}, and nothing iterates over it, so what it would do is "
            f"left undone; {instead}"
        )
    raise DataError(f"{name} returned {_described(found)}, which nothing takes; {instead}")


def check_pair(pair: Any, name: str) -> tuple[Any, Any]:
    """The pair, if it is a tuple of exactly two. Raises DataError, which names the method that gave it."""
    if isinstance(pair, tuple) and len(pair) == 2:
        return pair
    many = f" of {len(pair)}" if isinstance(pair, tuple | list) else ""
    described = "None" if pair is None else f"{shown(pair)} (a {type(pair).__name__}{many})"
    raise DataError(f"{name} yielded {described}; it must yield pairs: `yield key, value`")


class Shape(NamedTuple):
    """What the bytecode of a generator function shows of all that it can give."""

    returns_none: bool  #: every return gives None
    yields_pairs: bool  #: every yield gives a tuple of exactly two, written where it is yielded

    def settled(self, paired: bool) -> bool:
        """Whether nothing that it gives needs a look. `paired`: it must yield pairs."""
        return self.returns_none and (self.yields_pairs or not paired)


def shape_of(code: CodeType) -> Shape:
    """The shape of what a function gives, as far as its bytecode shows; False where it doesn't."""
    from dis import get_instructions  # `inspect` has it already

    none = pairs = True
    before: Instruction | None = None
    for step in get_instructions(code):
        # Only what was made right before, on the one way that leads here, is known.
        made = None if step.is_jump_target else before
        if step.opname == "RETURN_CONST":  # Python 3.12 and 3.13
            none &= step.argval is None
        elif step.opname == "RETURN_VALUE":
            none &= made is not None and made.opname == "LOAD_CONST" and made.argval is None
        elif step.opname == "YIELD_VALUE":
            pairs &= made is not None and _makes_pair(made)
        if step.opname not in _NO_STEPS:
            before = step
        elif step.is_jump_target:
            before = None
    return Shape(none, pairs)


def _makes_pair(step: Instruction) -> bool:
    if step.opname == "BUILD_TUPLE":
        return step.arg == 2
    return step.opname == "LOAD_CONST" and type(step.argval) is tuple and len(step.argval) == 2


_NO_STEPS: Final = frozenset({"NOP", "CACHE", "EXTENDED_ARG"})
#: Where iterators come from that are known to be their own `iter()`.
_PLAIN: Final = frozenset({"builtins", "itertools"})
#: What to write instead of a teardown that emits.
AT_THE_END: Final = (
    "to emit something at the end write `def map_split(self, records):`, which loops over the records and "
    "yields what comes last behind the loop"
)


class _Shapes(dict[CodeType, Shape]):
    """By code: `shape_of`, found out once."""

    def __missing__(self, code: CodeType) -> Shape:
        found = self[code] = shape_of(code)
        return found


def _code_of(function: Any) -> CodeType:
    """Of a generator function, in as many partials and methods as it may be."""
    while not hasattr(function, "__code__"):
        function = getattr(function, "__func__", None) or function.func
    code: CodeType = function.__code__
    return code


def _watched(found: Generator[Any, Any, Any], name: str, shape: Shape, *, paired: bool) -> Iterator[Any]:
    """All that a generator yields, with what its code doesn't settle looked at."""
    drawn = found if shape.returns_none else _ended(found, name)
    return _pairs(drawn, name) if paired and not shape.yields_pairs else drawn


def _ended(found: Generator[Any, Any, Any], name: str) -> Iterator[Any]:
    """All that a generator yields. Raises DataError where it returns something at its end."""
    result = yield from found
    if result is not None:
        raise DataError(
            f"{name} yields, so what it returned, {_described(result)}, would be dropped; "
            "write `yield from …` in place of `return …`"
        )


def _pairs(found: Iterable[Any], name: str) -> Iterator[Any]:
    """The pairs of an iterable that isn't trusted: a str of two letters would be taken apart as one.

    Its `__iter__` is called once. Raises DataError for the first that isn't a pair.
    """
    for pair in found:
        if type(pair) is tuple and len(pair) == 2:
            yield pair
        else:
            yield tuple(check_pair(pair, name))  # of a subclass, which may iterate as it likes


def _drawn(found: Iterable[Any]) -> Iterator[Any]:
    """The items of an iterator of a user's own class: its `__iter__` is called once, and isn't trusted."""
    yield from found


def _described(found: Any) -> str:
    return f"{shown(found)} (a {type(found).__name__})"
