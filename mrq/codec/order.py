"""The total order of keys: None < numbers by value < str < bytes < tuple.

Strings order, and are equal, by their UTF-8 bytes (surrogateescape); Python's own order of str is the
same wherever strict UTF-8 works, because code points and their UTF-8 order alike. Tuples go element by
element. Most columns have a *family*: a uniform shape whose order in Python is this order, so they are
sorted as they are; any other column is sorted by `sort_key`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Final

from mrq.codec.types import NUMBERS, NoneType, base_of, only_type, utf8

#: Joining this many strings at a time bounds the copy that the check for surrogates makes.
_CHECKED: Final = 8192

#: What a column is uniformly: columns of one family compare with Python's own `<`.
Family = str | tuple[Any, ...]

NONE: Final = "none"  #: every key is None: equal, and no `<` between them


def family(keys: Sequence[Any]) -> Family | None:
    """The family of a column of carried keys; None where Python's order isn't the key order."""
    kind = only_type(keys)
    if kind is str:
        return "str" if _strict(keys) else None
    if kind is bytes:
        return "bytes"
    if kind is tuple:
        if len(set(map(len, keys))) != 1:
            return None
        inner = [family(column) for column in zip(*keys, strict=True)]
        # None inside is fine: tuples look for the first elements that differ, and None never differs.
        return None if None in inner else ("tuple", *inner)
    if kind is NoneType:
        return NONE
    return "number" if kind in NUMBERS or NUMBERS.issuperset(map(type, keys)) else None


def _strict(texts: Sequence[str]) -> bool:
    """Whether all are free of surrogates: strict UTF-8 can encode them."""
    for start in range(0, len(texts), _CHECKED):
        joined = "".join(texts[start : start + _CHECKED])
        if not joined.isascii():
            try:
                joined.encode()
            except UnicodeEncodeError:
                return False
    return True


def sort_key(key: Any) -> tuple[Any, ...]:
    """A value whose order in Python is the key order, for keys of any types."""
    kind = type(key)
    if kind is str:
        return (2, utf8(key))
    if kind in NUMBERS:
        return (1, key)
    if kind is tuple:
        return (4, tuple(map(sort_key, key)))
    if kind is bytes:
        return (3, key)
    if key is None:
        return (0,)
    return sort_key(base_of(key, key=True))


def same(a: Any, b: Any) -> bool:
    """Whether two carried keys are one key: 1, 1.0 and True are; str by their bytes."""
    return bool(a == b) or ((_escaped(a) or _escaped(b)) and sort_key(a) == sort_key(b))


def _escaped(key: Any) -> bool:
    if type(key) is tuple:
        return any(map(_escaped, key))
    return type(key) is str and not key.isascii()


def respelled(key: Any) -> Any:
    """A key as it comes back from a file, text spelled by its bytes: keys that are one are equal to Python
    then. What stands for no byte stays, and is refused where it is written."""
    if type(key) is tuple:
        return tuple(map(respelled, key))
    if type(key) is not str or key.isascii():
        return key
    try:
        return key.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return key


def sort_columns(
    keys: Sequence[Any], values: Sequence[Any] | None, kind: Family | None = None
) -> tuple[list[Any], list[Any] | None]:
    """New lists in key order, stable. `kind` is the keys' family where it is known already.

    Positions are sorted by the keys, and both columns gathered by them, so that no pair is ever built.
    """
    kind = kind or family(keys)
    if kind == NONE:
        return list(keys), None if values is None else list(values)
    if values is None:
        return sorted(keys, key=sort_key if kind is None else None), None
    ranks = keys if kind is not None else list(map(sort_key, keys))
    if len(keys) < 2:
        return list(keys), list(values)
    gather = itemgetter(*sorted(range(len(keys)), key=partial(next, iter(ranks))))
    return list(gather(keys)), list(gather(values))


def sort_pairs(
    keys: Sequence[Any], values: Sequence[Any], kind: Family | None = None
) -> tuple[list[Any], list[Any]]:
    """`sort_columns` of both."""
    ordered, moved = sort_columns(keys, values, kind)
    assert moved is not None
    return ordered, moved
