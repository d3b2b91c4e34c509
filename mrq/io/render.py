"""Keys and values as text: what `text`, `lines` and `jsonl` write.

Strings as they are, bytes raw, None as nothing, everything else compact JSON (not ASCII-escaped, tuples
as arrays, bytes inside as text, inf and nan as they are). The result is str in which bytes that are
no UTF-8 stand as surrogates; encoding it with surrogateescape gives them back.

What comes here is carried. JSON has fewer words than Python: keys of dicts become text, and where two of them
would become the same the dict is refused, since a reader would get one of both. `jsonl_gives` is what a
reader of jsonl gets.
"""

from __future__ import annotations

import json.encoder
import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final

from mrq.codec.digits import decimal, whole
from mrq.codec.types import DEPTH_MAX, NoneType, base_of, shown
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
_CONTAINERS: Final = frozenset({tuple, list, dict})
#: Different keys of a dict that are all of one of these types have different names.
_NAMED_APART: Final = frozenset({str, int, bool, NoneType})


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
        return decimal(value)
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
        if kind in _CONTAINERS:
            return _rows(values, _fast_json, json_text)
    return list(map(json_text, values))


def _json_float(value: float) -> str:
    return _fast_json(float(value))


def _integers(values: Sequence[Any]) -> Sequence[str]:
    try:
        few = set(values)
        if 2 * len(few) > len(values):
            return list(map(repr, values))
        return list(map(dict(zip(few, map(repr, few), strict=True)).__getitem__, values))
    except ValueError:  # longer than sys.get_int_max_str_digits()
        return list(map(decimal, values))


def _decoded(values: Sequence[Any]) -> Sequence[str]:
    joined = b"\0".join(values)
    if joined.count(b"\0") == len(values) - 1:  # no lead byte takes a NUL for its own
        return joined.decode("utf-8", "surrogateescape").split("\0")
    return [value.decode("utf-8", "surrogateescape") for value in values]


def _rows(values: Sequence[Any], fast: Callable[[Any], str], one: Callable[[Any], str]) -> list[str]:
    """JSON of a column of containers of one type: made at once, as an array, and cut between its rows.

    Text in a row may look as such a cut does; then there are too many, and each row is made by itself."""
    try:
        made = fast(values)
    except (TypeError, ValueError, RecursionError):
        return list(map(one, values))
    if "{" in made and not (_all_named_apart(values) and _strict(made)):
        return list(map(one, values))
    begin, end = made[1], made[-2]
    rows = made[2:-2].split(f"{end},{begin}")
    if len(rows) != len(values):
        return list(map(one, values))
    return [f"{begin}{row}{end}" for row in rows]


def _all_named_apart(values: Sequence[Any]) -> bool:
    """`_named_apart` of a column of containers, all at once; False also where that doesn't show it."""
    dicts = type(values[0]) is dict
    if dicts:
        kinds = set(map(type, chain.from_iterable(values)))
        if len(kinds) > 1 or not kinds <= _NAMED_APART:
            return False
    items = list(chain.from_iterable(map(dict.values, values) if dicts else values))
    return _CONTAINERS.isdisjoint(map(type, items)) or all(map(_named_apart, items))


def _text_rows(values: Sequence[Any]) -> list[str]:
    return _rows(values, _fast, text)


_UNIFORM: Final[dict[type, Callable[[Sequence[Any]], Sequence[str]]]] = {
    str: lambda values: values,
    int: _integers,
    float: lambda values: list(map(repr, values)),
    bytes: _decoded,
    bool: lambda values: ["true" if value else "false" for value in values],
    type(None): lambda values: [""] * len(values),
    tuple: _text_rows,
    list: _text_rows,
    dict: _text_rows,
}


def _json(value: Any, fast: Callable[[Any], str], number: Callable[[float], str]) -> str:
    try:
        made = fast(value)
    except (TypeError, ValueError, RecursionError):
        return _slow(value, number, 0)
    if "{" in made and not (_named_apart(value) and _strict(made)):
        return _slow(value, number, 0)
    return made


def _strict(text: str) -> bool:
    """Whether it has no surrogates. With them, names that differ may be the same bytes."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _named_apart(value: Any) -> bool:
    """Whether it shows at a glance that all dicts in it have a name of its own for each key."""
    items = value
    if type(value) is dict:
        kinds = set(map(type, value))
        if len(kinds) > 1 or not kinds <= _NAMED_APART:
            return False
        items = value.values()
    elif type(value) not in _CONTAINERS:
        return True
    return _CONTAINERS.isdisjoint(map(type, items)) or all(map(_named_apart, items))


def _slow(value: Any, number: Callable[[float], str], depth: int) -> str:
    """The general way: bytes, inf and nan, huge ints, odd keys of dicts. Raises DataError."""
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
        return decimal(int(value))
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list | tuple):
        return f"[{','.join([_slow(item, number, depth + 1) for item in value])}]"
    if isinstance(value, dict):
        names = [_name(key, number, depth) for key in value]
        if len(set(map(encode, names))) < len(names):
            encoded = list(map(encode, names))
            name = next(name for name in encoded if encoded.count(name) > 1)
            first, second, *_ = (shown(key) for key, its in zip(value, encoded, strict=True) if its == name)
            raise DataError(
                f"a dict can't be written as JSON: its keys {first} and {second} have one name there; make "
                "its keys of one type, or use the records format"
            )
        items = [f"{k}:{_slow(v, number, depth + 1)}" for k, v in zip(names, value.values(), strict=True)]
        return f"{{{','.join(items)}}}"
    return _slow(base_of(value), number, depth)


def _name(key: Any, number: Callable[[float], str], depth: int) -> str:
    """A dict's key: text as such, anything else as the text of its JSON. Quoted."""
    if isinstance(key, str | bytes):
        return _slow(key, number, depth + 1)
    return _quote(_slow(key, number, depth + 1))


def loads(text: str) -> Any:
    """The value of a JSON text as mrq writes it: `json.loads`, and ints of any length. Raises ValueError,
    RecursionError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # more digits than Python converts
        return json.loads(text, parse_int=whole)


def jsonl_gives(value: Any) -> Any:
    """What a reader gets of a carried key or value that was written to jsonl.

    None, bools, ints, floats (inf and nan too) and text are what they were; bytes become text, those that
    aren't UTF-8 as `surrogateescape` has them; tuples become lists, and keys of dicts their names: text as it
    is, anything else as the text of its JSON. Text is taken by its bytes, here as everywhere.
    """
    kind = type(value)
    if kind is bytes:
        return value.decode("utf-8", "surrogateescape")
    if kind is str:
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    if kind is list or kind is tuple:
        return list(map(jsonl_gives, value))
    if kind is dict:
        names = [jsonl_gives(key if type(key) in (str, bytes) else json_text(key)) for key in value]
        return dict(zip(names, map(jsonl_gives, value.values()), strict=True))
    return value


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
