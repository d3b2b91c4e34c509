"""What can be carried: which types keys and values may have, and what becomes of others.

Keys are None, bool, int, float, str, bytes and tuples of them; values these and list and dict.
Subclasses become their base, NumPy scalars what their `.item()` says; the rest is refused by name.
Nothing here imports NumPy, decimal or datetime: types are recognised by the names in their MRO.

A user's method may go on changing what it has yielded: a row buffer is refilled, a list grows. So every loop
that takes pairs or results from user code asks `carried` and `carried_key` before it asks for the next
one, and keeps what they give. A look at a chunk of pairs afterwards would see what became of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_
from typing import Any, Final

from mrq.errors import DataError

NoneType: Final = type(None)
NUMBERS: Final = frozenset({bool, int, float})
#: Types that a key or value may have exactly, without any conversion and with nothing inside.
ATOMS: Final = frozenset({NoneType, bool, int, float, str, bytes})
#: Types that a value may have exactly.
CARRIED: Final = ATOMS | {tuple, list, dict}
#: Keys of these types need no look: a float may be NaN. Text is looked at when it is encoded.
PLAIN_KEYS: Final = ATOMS - {float}
#: So many containers may lie in each other: every way out, and the way back in, can take them.
DEPTH_MAX: Final = 200

#: What to use of a value of a type, by the type's name.
_USE: Final = {
    name: use
    for use, names in {
        "list(x)": "builtins.range builtins.generator builtins.map builtins.filter builtins.zip "
        "builtins.dict_keys builtins.dict_values builtins.dict_items collections.deque "
        "mrq.worker.tasks.values.Values",
        "sorted(x), a list": "builtins.set builtins.frozenset",
        "str(x)": "decimal.Decimal uuid.UUID pathlib.PurePath numpy.datetime64",
        "str(x) or (x.numerator, x.denominator)": "fractions.Fraction",
        "(x.real, x.imag)": "builtins.complex numpy.complexfloating",
        "float(x)": "numpy.longdouble numpy.float128",
        ".isoformat()": "datetime.datetime datetime.date datetime.time",
        ".total_seconds()": "datetime.timedelta",
        "x / numpy.timedelta64(1, 's'), the seconds as a float": "numpy.timedelta64",
        ".tolist()": "array.array numpy.ndarray pandas.core.series.Series",
        '.to_dict("records")': "pandas.core.frame.DataFrame",
        "x.item()": "numpy.void",
        "dict(x)": "builtins.mappingproxy",
        "vars(x)": "types.SimpleNamespace",
        "x.pattern": "re.Pattern",
        "its .value": "enum.Enum",
        "its name": "builtins.type",
        "its result: was it meant to be called?": "builtins.function builtins.method",
        "its results: yield from x(key, values)": "mrq.job.builtins.BuiltIn",
    }.items()
    for name in names.split()
}
_KEY_USE: Final = {
    "builtins.list": "tuple(x)",
    "builtins.dict": "tuple(sorted(x.items()))",
    "builtins.set": "tuple(sorted(x))",
    "builtins.frozenset": "tuple(sorted(x))",
    "numpy.ndarray": "tuple(x.tolist())",
}
#: NumPy's scalars that no value of Python stands for, and those that can change.
_NUMPY_REFUSED: Final = frozenset(
    f"numpy.{name}"
    for name in ("void", "datetime64", "timedelta64", "longdouble", "float128", "complexfloating")
)


def only_type(column: Sequence[Any]) -> type | None:
    """The exact type of all items, None where they differ or there are none (19 ns an item)."""
    if not column:
        return None
    kind = type(column[0])
    return kind if list(map(type, column)).count(kind) == len(column) else None


def _what(key: bool) -> str:
    return "key" if key else "value"


def shown(value: Any, limit: int = 80) -> str:
    """Its repr, shortened, for messages. Raises nothing, whatever a user's __repr__ does."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 the error that is reported must not be hidden by another
        return f"an int of {value.bit_length():,} bits" if type(value) is int else "…"
    return text if len(text) <= limit else text[: limit - 3] + "…"


def refusal(value: Any, *, key: bool) -> DataError:
    """The error that names a type which can't be carried and what to convert it with."""
    kind = type(value)
    table = {**_USE, **_KEY_USE} if key else _USE
    names = _names(kind)
    use = next((table[name] for name in names if name in table), None)
    if use is None and hasattr(kind, "__dataclass_fields__"):
        use = "dataclasses.astuple(x)" if key else "dataclasses.asdict(x)"
    if use is None:
        carried = "None, bool, int, float, str, bytes or a tuple of them"
        use = carried if key else carried + ", list or dict"
    name = names[0].removeprefix("builtins.")
    return DataError(f"a {_what(key)} of type {name} can't be carried: {shown(value)}; use {use}")


def nan_refusal() -> DataError:
    """NaN equals nothing, itself included, so it can't be a key."""
    return DataError("NaN can't be a key: it equals nothing, not even itself; use None or a string for it")


def surrogate_refusal(text: str, *, key: bool) -> DataError:
    """Only U+DC80 to U+DCFF stand for a byte (surrogateescape)."""
    bad = next(c for c in text if "\ud800" <= c <= "\udc7f" or "\udd00" <= c <= "\udfff")
    return DataError(
        f"a {_what(key)} holds the lone surrogate U+{ord(bad):04X}, which stands for no byte: "
        f"{shown(ascii(text))}; encode the text with errors='replace' first"
    )


def _depth_refusal(key: bool) -> DataError:
    return DataError(
        f"a {_what(key)} can't be carried: it is nested too deeply (more than {DEPTH_MAX} levels), or holds "
        "itself; flatten it, or yield it as JSON text"
    )


def _names(kind: type) -> list[str]:
    """Of a type and its bases, nearest first."""
    return [f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__]


def carried(value: Any) -> Any:
    """What is carried for a value that user code gave, as it is at this moment.

    That is the value itself where nothing can change it: an atom, or a tuple of such. Lists and dicts are
    copied, and so is what lies in them, at any depth; subclasses become their base, NumPy scalars Python's,
    bytearray and memoryview bytes. Raises DataError for everything else, and for what is nested too deeply.
    """
    return value if type(value) in ATOMS else carried_other(value)


def carried_other(value: Any) -> Any:
    """`carried` of what is no atom. What holds nothing but atoms is told at the first glance."""
    kind = type(value)
    if kind is dict:
        if ATOMS.issuperset(map(type, value)) and ATOMS.issuperset(map(type, value.values())):
            return value.copy()
    elif (kind is tuple or kind is list) and ATOMS.issuperset(map(type, value)):
        return value if kind is tuple else value.copy()
    return _within_stack(value, False)


def carried_key(key: Any) -> Any:
    """`carried` of a key. Raises DataError for types that keys may not have, and for NaN at any depth."""
    kind = type(key)
    if kind in PLAIN_KEYS or (kind is float and key == key):
        return key
    if kind is tuple and PLAIN_KEYS.issuperset(map(type, key)):
        return key
    made = _within_stack(key, True)
    if _has_nan(made):
        raise nan_refusal()
    return made


def _within_stack(value: Any, key: bool) -> Any:
    try:
        return _copied(value, key, 0)
    except RecursionError:  # the caller's own stack was deep already
        raise _depth_refusal(key) from None


def _copied(value: Any, key: bool, depth: int) -> Any:
    """The general way of `carried` and `carried_key`, one level a call."""
    base, kind = value, type(value)
    if kind is not tuple and (key or (kind is not list and kind is not dict)):
        base = base_of(value, key=key)
        kind = type(base)
        if kind in ATOMS:
            return base
    if depth == DEPTH_MAX:
        raise _depth_refusal(key)
    if kind is dict:
        return _copied_dict(base, depth + 1)
    items = []
    for item in base:
        items.append(item if type(item) in ATOMS else _copied(item, key, depth + 1))
    if kind is list:
        return items
    return base if all(map(is_, items, base)) else tuple(items)


def _copied_dict(given: dict[Any, Any], depth: int) -> dict[Any, Any]:
    made = {}
    for name, item in given.items():
        carried_name = name if type(name) in ATOMS else _copied(name, True, depth)
        if carried_name in made:
            raise DataError(
                f"a dict can't be carried: two of its keys become {shown(carried_name)}, since their class "
                "isn't carried but its base is; make them plain and distinct first"
            )
        made[carried_name] = item if type(item) in ATOMS else _copied(item, False, depth)
    return made


def _has_nan(key: Any) -> bool:
    return any(map(_has_nan, key)) if type(key) is tuple else type(key) is float and key != key


def base_of(value: Any, *, key: bool = False) -> Any:
    """The carried value that stands for `value`: itself where its type is carried exactly, its base
    for a subclass, `.item()` for a NumPy scalar. What is inside is left alone. Raises DataError."""
    kind = type(value)
    if kind in ATOMS or kind is tuple or (kind in CARRIED and not key):
        return value
    names = _names(kind)
    if "enum.Enum" in names or not _NUMPY_REFUSED.isdisjoint(names):
        raise refusal(value, key=key)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, memoryview):
        try:
            return value.tobytes()
        except ValueError as exc:  # its user has released it
            raise DataError(
                f"a {_what(key)} of type memoryview can't be carried: {exc}; use bytes(x)"
            ) from exc
    if isinstance(value, (bytes, bytearray)):
        return b"".join((value,))
    if isinstance(value, tuple):
        return tuple(value)
    if not key and isinstance(value, list):
        return list(value)
    if not key and isinstance(value, dict):
        return dict(value)
    if "numpy.generic" in names:
        item = value.item()
        if not type(item).__module__.startswith("numpy"):
            return base_of(item, key=key)
    raise refusal(value, key=key)


def utf8(text: str, *, key: bool = True) -> bytes:
    """The bytes that a str is equal and ordered by. Raises DataError for a surrogate without a byte."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise surrogate_refusal(text, key=key) from None
