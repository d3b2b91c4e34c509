"""Turns the dataclasses of `core.model` and `ports` into msgpack-able data and back.

Each class is compiled once into a packer and an unpacker; a value becomes a list of its fields in
order, so what is stored is small and says nothing twice. A reference (`core.refs`) is a list of its items;
where it is a class's first field, those begin the class's own list. Enums travel as their values. Parameters,
counters and boundaries may hold any carried value: tuples and big ints are kept through small tagged
lists, since msgpack alone would lose them. Fields that are added at a class's end, with a default, are taken
from it where an earlier mrq stored less; any other change of a class's fields changes the stored form, so
whatever stores wire data stores `VERSION` beside it. Of a class with `may_grow` (`core.info`) a reader also
leaves out what a later mrq has added at the end.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgpack

from mrq.core.refs import ATTEMPT_ITEMS, TASK_ITEMS, AttemptRef, TaskRef
from mrq.errors import CorruptFileError, DataError

VERSION: Final = 5

_NOTHING: Final[Mapping[str, Any]] = types.MappingProxyType({})

#: With how many items each has.
_REFERENCES: Final[Mapping[Any, int]] = {TaskRef: len(TASK_ITEMS), AttemptRef: len(ATTEMPT_ITEMS)}

T = TypeVar("T")
_Fn = Callable[..., Any]


def to_wire(value: Any, given: Mapping[str, Any] = _NOTHING) -> Any:
    """A dataclass instance as nested lists that msgpack can carry; `given` stands for fields by name."""
    return _codec(value.__class__)[0](value, given)


def from_wire(cls: type[T], data: Any, given: Mapping[str, Any] = _NOTHING) -> T:
    """The instance of `cls` that `to_wire` was given; fields in `given` are taken from there as they are.
    Raises CorruptFileError for anything else."""
    try:
        return typing.cast(T, _codec(typing.cast(Any, cls))[1](data, given))
    except (TypeError, ValueError, KeyError, IndexError) as exc:
        raise CorruptFileError(f"stored data isn't a {cls.__name__} of version {VERSION}: {exc}") from exc


def pack(data: Any) -> bytes:
    """Wire data as bytes. Names of files that aren't UTF-8 are strings with surrogates, and come back so."""
    return typing.cast(bytes, msgpack.packb(data, unicode_errors="surrogatepass"))


def unpack(data: bytes) -> Any:
    """What `pack` was given, tuples as lists. Raises ValueError, TypeError or UnpackException."""
    return msgpack.unpackb(data, strict_map_key=False, unicode_errors="surrogatepass")


def pack_any(value: Any) -> Any:
    """A carried value so that tuples, lists, big ints and odd dict keys survive msgpack."""
    kind = type(value)
    if value is None or kind in (bool, float, str, bytes):
        return value
    if kind is int:
        return value if -(1 << 63) <= value < 1 << 64 else ["i", str(value)]
    if kind is tuple:
        return ["t", *map(pack_any, value)]
    if kind is list:
        return ["l", *map(pack_any, value)]
    if isinstance(value, Mapping):
        return ["d", *(pack_any(x) for pair in value.items() for x in pair)]
    raise DataError(
        f"a value of type {kind.__name__} can't be carried; use None, bool, int, float, str, "
        "bytes, or tuples, lists and dicts of them"
    )


def unpack_any(data: Any) -> Any:
    """The value that `pack_any` was given."""
    if type(data) is not list:
        return data
    tag, rest = data[0], data[1:]
    if tag == "i":
        return int(rest[0])
    if tag == "t":
        return tuple(map(unpack_any, rest))
    if tag == "l":
        return [unpack_any(x) for x in rest]
    if tag == "d":
        items = [unpack_any(x) for x in rest]
        return dict(zip(items[::2], items[1::2], strict=True))
    raise ValueError(f"unknown tag {tag!r}")


def _same(value: Any) -> Any:
    return value


@functools.cache
def _codec(cls: Any) -> tuple[_Fn, _Fn]:
    """(pack, unpack) of one dataclass, compiled once."""
    if cls in _REFERENCES:
        return (lambda v, given=_NOTHING: list(v.to_items())), (lambda d, given=_NOTHING: cls.of_items(*d))
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    coders = [_coder(hints[name]) for name in names]
    plan = [(name, pack, unpack) for name, (pack, unpack) in zip(names, coders, strict=True)]
    first = _REFERENCES.get(hints[names[0]], 0) if names else 0
    most = sys.maxsize if getattr(cls, "may_grow", False) else len(plan)
    needed = max((at for at, f in enumerate(dataclasses.fields(cls), 1) if not has_default(f)), default=0)

    def pack(value: Any, given: Mapping[str, Any] = _NOTHING) -> list[Any]:
        if given:
            row = [given[name] if name in given else p(getattr(value, name)) for name, p, _ in plan]
        else:
            row = [p(getattr(value, name)) for name, p, _ in plan]
        if first:
            row[:1] = row[0]
        return row

    def unpack(data: Any, given: Mapping[str, Any] = _NOTHING) -> Any:
        if first:
            data = [data[:first], *data[first:]]
        if not needed <= len(data) <= most:
            raise ValueError(f"{len(data)} fields where {len(plan)} are expected")
        together = zip(plan, data, strict=False)
        if given:
            return cls(**{n: given[n] if n in given else u(x) for (n, _, u), x in together})
        return cls(**{n: u(x) for (n, _, u), x in together})

    return pack, unpack


def has_default(field: dataclasses.Field[Any]) -> bool:
    """Whether a field may be left out at the end of what is stored."""
    return (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)


def _coder(hint: Any) -> tuple[_Fn, _Fn]:
    """(pack, unpack) of one annotation."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union(args)
    if hint in (bool, int, float, str, bytes, type(None)):
        return _same, _same
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return (lambda v: v.value), hint
    if dataclasses.is_dataclass(hint) or hint in _REFERENCES:
        return (lambda v: _codec(hint)[0](v)), (lambda d: _codec(hint)[1](d))
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis and args[0] is not Any:
        pack, unpack = _coder(args[0])
        return (lambda v: [pack(x) for x in v]), (lambda d: tuple(unpack(x) for x in d))
    if origin is frozenset:
        return (lambda v: sorted(v)), frozenset
    return pack_any, unpack_any


def _union(args: tuple[Any, ...]) -> tuple[_Fn, _Fn]:
    """`X | None`, and unions of dataclasses, told apart by name."""
    rest = [a for a in args if a is not type(None)]
    if len(rest) == 1:
        pack, unpack = _coder(rest[0])
        return (
            lambda v: None if v is None else pack(v),
            lambda d: None if d is None else unpack(d),
        )
    by_name = {a.__name__: a for a in rest}

    def pack_named(value: Any) -> Any:
        return None if value is None else [type(value).__name__, to_wire(value)]

    def unpack_named(data: Any) -> Any:
        return None if data is None else from_wire(by_name[data[0]], data[1])

    return pack_named, unpack_named
