"""What a user's reduce and combine get and give: `values`, and what they may return."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from inspect import isgeneratorfunction
from itertools import chain
from sys import getrefcount
from typing import Any, Final

from mrq.errors import DataError

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
        raise TypeError(
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


def returning(function: Callable[..., Any], name: str) -> Callable[..., Iterable[Any]]:
    """The function, with what it returns checked per call unless it is a generator function."""
    if isgeneratorfunction(function):
        return function

    def checked(*arguments: Any) -> Iterable[Any]:
        try:
            found = function(*arguments)
        except StopIteration as exc:
            # It would silently end the engine's own iterators; in generators Python does this (PEP 479).
            raise RuntimeError(
                f"{name} raised StopIteration; was next() called on an empty iterator?"
            ) from exc
        kind = type(found)
        if kind is list:
            return found  # type: ignore[no-any-return]
        if found is None:
            return ()
        return check_returned(found, name)

    return checked


def check_returned(found: Any, name: str) -> Iterable[Any]:
    """None, an iterator or a list, else DataError with what was returned and what is wanted."""
    if found is None:
        return ()
    if isinstance(found, list) or (isinstance(found, Iterator) and not isinstance(found, _REFUSED)):
        return found
    what = "key, value" if name.startswith("map") else "value"
    if hasattr(found, "__await__") or hasattr(found, "__anext__"):
        raise DataError(f"{name} is asynchronous; write it as a plain `def {name}` that yields")
    text = repr(found)
    text = text if len(text) <= 80 else text[:77] + "…"
    raise DataError(
        f"{name} returned {text} (a {type(found).__name__}); it must yield (`yield {what}`), "
        "or return a list, an iterator or None"
    )
