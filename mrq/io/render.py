"""Keys and values as text: what `text` and `lines` write.

Strings as they are, bytes raw, None as nothing, everything else compact JSON (not ASCII-escaped, tuples
as arrays, bytes inside as text, inf and nan as they are). The result is str in which bytes that are
no UTF-8 stand as surrogates; encoding it with surrogateescape gives them back.
"""

from __future__ import annotations

import json.encoder
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from mrq.errors import DataError

_quote: Final[Callable[[str], str]] = json.encoder.encode_basestring


def _encoder(allow_nan: bool) -> Callable[[Any], str]:
    """Compact JSON of one value. Raises TypeError or ValueError for what JSON has no words for.

    The encoder in C is made once: `JSONEncoder.encode` makes one a call, 8 times the cost of a small value.
    """
    whole = json.encoder.JSONEncoder(
        ensure_ascii=False, allow_nan=allow_nan, separators=(",", ":"), check_circular=False
    )
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return whole.encode
    chunks = make(None, whole.default, _quote, None, ":", ",", False, False, allow_nan)
    return lambda value: "".join(chunks(value, 0))


_fast: Final = _encoder(allow_nan=False)
_fast_json: Final = _encoder(allow_nan=True)
#: Deeper values are refused rather than left to the interpreter's stack.
DEPTH_MAX: Final = 200


def column(values: Sequence[Any], kinds: set[type]) -> Sequence[str]:
    """Each value as text; `kinds` is `set(map(type, values))`. None comes out as ""."""
    if len(kinds) == 1:
        render = _UNIFORM.get(next(iter(kinds)))
        if render is not None:
            return render(values)
    return list(map(text, values))


def text(value: Any) -> str:
    """One value as text. Raises DataError for a type that can't be carried."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is int:
        return _integer(value)
    if value is None:
        return ""
    if kind is bytes:
        return value.decode("utf-8", "surrogateescape")  # type: ignore[no-any-return]
    return _json(value, _fast, float.__repr__)


def json_text(value: Any) -> str:
    """One value as JSON that `json.loads` reads: strings quoted, None as null, NaN and Infinity."""
    kind = type(value)
    if kind is str:
        return _quote(value)
    if kind is bytes:
        return _quote(value.decode("utf-8", "surrogateescape"))
    return _json(value, _fast_json, _json_float)


def json_column(values: Sequence[Any]) -> Sequence[str]:
    """Each value as `json_text` has it."""
    kinds = set(map(type, values))
    if len(kinds) == 1:
        kind = next(iter(kinds))
        if kind is str:
            return list(map(_quote, values))
        if kind is int:
            return _integers(values)
        if kind is float and all(map(math.isfinite, values)):
            return list(map(repr, values))
    return list(map(json_text, values))


def _json_float(value: float) -> str:
    return _fast_json(float(value))


def _same(values: Sequence[Any]) -> Sequence[str]:
    return values


def _integers(values: Sequence[Any]) -> Sequence[str]:
    try:
        few = set(values)
        if 2 * len(few) > len(values):
            return list(map(repr, values))
        return list(map(dict(zip(few, map(repr, few), strict=True)).__getitem__, values))
    except ValueError:  # longer than sys.get_int_max_str_digits()
        return list(map(_integer, values))


def _integer(value: int) -> str:
    try:
        return repr(value)
    except ValueError:
        limit = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(0)
        try:
            return repr(value)
        finally:
            sys.set_int_max_str_digits(limit)


def _decoded(values: Sequence[Any]) -> Sequence[str]:
    joined = b"\0".join(values)
    if joined.count(b"\0") == len(values) - 1:  # no lead byte takes a NUL for its own
        return joined.decode("utf-8", "surrogateescape").split("\0")
    return [value.decode("utf-8", "surrogateescape") for value in values]


_UNIFORM: Final[dict[type, Callable[[Sequence[Any]], Sequence[str]]]] = {
    str: _same,
    int: _integers,
    float: lambda values: list(map(repr, values)),
    bytes: _decoded,
    bool: lambda values: ["true" if value else "false" for value in values],
    type(None): lambda values: [""] * len(values),
}


def _json(value: Any, fast: Callable[[Any], str], number: Callable[[float], str]) -> str:
    try:
        return fast(value)
    except (TypeError, ValueError, RecursionError):
        return _slow(value, number, 0)


def _slow(value: Any, number: Callable[[float], str], depth: int) -> str:
    """The general way: bytes, inf and nan, huge ints, odd keys of dicts, NumPy scalars."""
    if depth > DEPTH_MAX:
        raise DataError(
            f"a value nested more than {DEPTH_MAX} deep can't be written as text; flatten it, or use records"
        )
    if isinstance(value, str):
        return _quote(str(value))
    if isinstance(value, bytes):
        return _quote(value.decode("utf-8", "surrogateescape"))
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, int):
        return _integer(int(value))
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list | tuple):
        return f"[{','.join([_slow(item, number, depth + 1) for item in value])}]"
    if isinstance(value, Mapping):
        pairs = [f"{_name(k, number, depth)}:{_slow(v, number, depth + 1)}" for k, v in value.items()]
        return f"{{{','.join(pairs)}}}"
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        return _slow(value.item(), number, depth + 1)
    raise DataError(
        f"a value of type {type(value).__name__} can't be written as text; yield None, bool, int, float, "
        "str, bytes, or tuples, lists and dicts of them"
    )


def _name(key: Any, number: Callable[[float], str], depth: int) -> str:
    """A dict's key: text as such, anything else as the text of its JSON."""
    if isinstance(key, str | bytes):
        return _slow(key, number, depth + 1)
    return _quote(_slow(key, number, depth + 1))


def encode(joined: str) -> bytes:
    """UTF-8 with surrogates turned back into the bytes they stand for. Raises DataError for others."""
    try:
        return joined.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as exc:
        code = ord(joined[exc.start])
        near = joined[max(0, exc.start - 20) : exc.start + 20]
        raise DataError(
            f"text holds the lone surrogate U+{code:04X}, which stands for no byte, near {near!r}; "
            "encode it with errors='replace' or yield bytes"
        ) from exc
