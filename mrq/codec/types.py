"""What can be carried: which types keys and values may have, and what becomes of others.

Keys are None, bool, int, float, str, bytes and tuples of them; values these and list and dict.
Subclasses become their base, NumPy scalars what their `.item()` says; the rest is refused by name.
Nothing here imports NumPy, decimal or datetime: types are recognised by the names in their MRO.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mrq.errors import DataError

NoneType: Final = type(None)
NUMBERS: Final = frozenset({bool, int, float})
#: Types that a key or value may have exactly, without any conversion and with nothing inside.
ATOMS: Final = frozenset({NoneType, bool, int, float, str, bytes})
#: Types that a value may have exactly.
CARRIED: Final = ATOMS | {tuple, list, dict}
#: Keys of these types need no look inside; text is looked at when it is encoded.
_PLAIN_KEYS: Final = ATOMS - {float}

_USE: Final = {
    "enum.Enum": "its .value",
    "datetime.datetime": ".isoformat()",
    "datetime.date": ".isoformat()",
    "datetime.time": ".isoformat()",
    "datetime.timedelta": ".total_seconds()",
    "decimal.Decimal": "str(x)",
    "fractions.Fraction": "str(x) or (x.numerator, x.denominator)",
    "uuid.UUID": "str(x)",
    "pathlib.PurePath": "str(x)",
    "builtins.set": "sorted(x), a list",
    "builtins.frozenset": "sorted(x), a list",
    "builtins.complex": "(x.real, x.imag)",
    "builtins.range": "list(x)",
    "builtins.generator": "list(x)",
    "builtins.map": "list(x)",
    "builtins.filter": "list(x)",
    "builtins.zip": "list(x)",
    "builtins.dict_keys": "list(x)",
    "builtins.dict_values": "list(x)",
    "builtins.dict_items": "list(x)",
    "collections.deque": "list(x)",
    "builtins.mappingproxy": "dict(x)",
    "array.array": ".tolist()",
    "numpy.ndarray": ".tolist()",
    "pandas.core.frame.DataFrame": '.to_dict("records")',
    "pandas.core.series.Series": ".tolist()",
    "types.SimpleNamespace": "vars(x)",
    "builtins.function": "its result: was it meant to be called?",
    "builtins.method": "its result: was it meant to be called?",
    "builtins.type": "its name",
}
_KEY_USE: Final = {
    "builtins.list": "tuple(x)",
    "builtins.dict": "tuple(sorted(x.items()))",
    "builtins.set": "tuple(sorted(x))",
    "builtins.frozenset": "tuple(sorted(x))",
}


def only_type(column: Sequence[Any]) -> type | None:
    """The exact type of all items, None where they differ or there are none (19 ns an item)."""
    if not column:
        return None
    kind = type(column[0])
    return kind if list(map(type, column)).count(kind) == len(column) else None


def type_name(kind: type) -> str:
    """`datetime.datetime`, or the bare name of a builtin."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _what(key: bool) -> str:
    return "key" if key else "value"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 a user's __repr__ must not hide the error that we report
        return "…"
    return text if len(text) <= 80 else text[:77] + "…"


def refusal(value: Any, *, key: bool) -> DataError:
    """The error that names a type which can't be carried and what to convert it with."""
    kind = type(value)
    table = {**_USE, **_KEY_USE} if key else _USE
    names = [f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__]
    use = next((table[name] for name in names if name in table), None)
    if use is None and hasattr(kind, "__dataclass_fields__"):
        use = "dataclasses.astuple(x)" if key else "dataclasses.asdict(x)"
    if use is None:
        carried = "None, bool, int, float, str, bytes or a tuple of them"
        use = carried if key else carried + ", list or dict"
    return DataError(f"a {_what(key)} of type {type_name(kind)} can't be carried: {_shown(value)}; use {use}")


def nan_refusal() -> DataError:
    """NaN equals nothing, itself included, so it can't be a key."""
    return DataError("NaN can't be a key: it equals nothing, not even itself; use None or a string for it")


def surrogate_refusal(text: str, *, key: bool) -> DataError:
    """Only U+DC80 to U+DCFF stand for a byte (surrogateescape)."""
    bad = next(c for c in text if "\ud800" <= c <= "\udc7f" or "\udd00" <= c <= "\udfff")
    return DataError(
        f"a {_what(key)} holds the lone surrogate U+{ord(bad):04X}, which stands for no byte: "
        f"{_shown(ascii(text))}; encode the text with errors='replace' first"
    )


def _is_enum(kind: type) -> bool:
    return any(base.__module__ == "enum" and base.__qualname__ == "Enum" for base in kind.__mro__)


def base_of(value: Any, *, key: bool = False) -> Any:
    """The carried value that stands for `value`: itself where its type is carried exactly, its base
    for a subclass, `.item()` for a NumPy scalar. What is inside is left alone. Raises DataError."""
    kind = type(value)
    if kind in ATOMS or kind is tuple or (kind in CARRIED and not key):
        return value
    if _is_enum(kind):
        raise refusal(value, key=key)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b"".join((value,))
    if isinstance(value, tuple):
        return tuple(value)
    if not key and isinstance(value, list):
        return list(value)
    if not key and isinstance(value, dict):
        return dict(value)
    if any(base.__module__ == "numpy" and base.__qualname__ == "generic" for base in kind.__mro__):
        item = value.item()
        if not type(item).__module__.startswith("numpy"):
            return base_of(item, key=key)
    raise refusal(value, key=key)


def check_key(key: Any) -> Any:
    """One key with everything inside made carried. Raises DataError for types that can't be, for
    NaN and for surrogates that stand for no byte."""
    key = base_of(key, key=True)
    if type(key) is tuple:
        return tuple(map(check_key, key))
    if type(key) is float and key != key:
        raise nan_refusal()
    if type(key) is str:
        utf8(key, key=True)
    return key


def carried_keys(keys: Sequence[Any]) -> Sequence[Any]:
    """A column of keys that no codec looks at, with everything made carried. Raises DataError."""
    if _PLAIN_KEYS.issuperset(map(type, keys)):
        return keys
    return list(map(check_key, keys))


def utf8(text: str, *, key: bool = True) -> bytes:
    """The bytes that a str is equal and ordered by. Raises DataError for a surrogate without a byte."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise surrogate_refusal(text, key=key) from None
