"""What a block costs in memory: the deterministic measure behind every spill and merge decision.

The cost is a function of the data alone (lengths and counts, never RSS or `sys.getsizeof`, which differ
between builds), so runs are cut at the same places in every re-run. The constants are CPython's object
sizes on 64 bits (str 49 + bytes, int 28, float 24, bytes 33, tuple 40 + 8 an item, list 56, dict 64 + 100
an item), each rounded up to the allocator's 16 and with the 8 bytes of the slot that holds it; `PAIR` is
what sorting a pair takes besides (three pointer arrays and Timsort's own half; a merge, which sorts a range
of keys at a time, takes less), `PAIR_HELD` where all pairs are sorted at once by their positions.

Calibrated by the growth of peak RSS in merges of words, records, numbers, tuples, dicts, Cyrillic text and
mixed keys: 45 to 95% of what is charged where all is loaded, 25 to 75% in steps; the unit test of the
merge's memory repeats that with 4 MiB to spare.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any, Final

from mrq.codec.order import family
from mrq.codec.types import NoneType, only_type

SLOT: Final = 8
STR: Final = 64  #: and the bytes of its text
_WIDER: Final = 8  # beyond ASCII: the longer header
BYTES: Final = 48  #: and its length
INT: Final = 40
FLOAT: Final = 32
LIST: Final = 72  #: a list or tuple, and its items with a slot each
DICT: Final = 80
DICT_ITEM: Final = 104  #: a key of a dict and the share of its table, without key and value
PAIR: Final = 40
#: A position, its slots and its key's, Timsort's half, and where both columns are gathered.
PAIR_HELD: Final = 64

_SMALL_INTS: Final = 256  # CPython keeps those as one object each
_INT64: Final = 1 << 63
_WIDE: Final = 4  # rows for each of their places, at least, lest a long list be taken apart
_PACKED_MAX: Final = 1 << 13  # ints that may be copied to look at them
_JOINED_MAX: Final = 1 << 20  # text that may be copied to look at it, characters


def cost(keys: Sequence[Any], values: Sequence[Any]) -> int:
    """Bytes that a block of pairs takes in memory while it is sorted, about."""
    return keys_cost(keys) + column_cost(values)


def keys_cost(keys: Sequence[Any], characters: int | None = None) -> int:
    """The keys' part of that, with what sorting takes. `characters` are theirs in all, where they are known
    already to be ASCII text."""
    if characters is not None:
        return (SLOT + STR + PAIR) * len(keys) + characters
    price = column_cost(keys)
    if keys and type(keys[0]) is tuple and family(keys) is None:
        price *= 3  # sorted by keys made of them, which take twice as much
    return price + PAIR * len(keys)


def column_cost(column: Sequence[Any], kind: type | None = None) -> int:
    """Bytes that a column's objects and their slots take, about; 20 to 40 ns an item if uniform.

    `kind` is the type of all items, where it is known already; text and ints say themselves whether they are.
    """
    if column and type(column[0]) is str:
        try:
            return (SLOT + STR) * len(column) + _text_bytes(column)
        except TypeError:  # not all of it
            pass
    elif column and type(column[0]) is int and _are_packed(column):
        return (SLOT + INT) * len(column)
    kind = kind or only_type(column)
    if kind is not None:
        return SLOT * len(column) + _objects_cost(column, kind)
    parts = ([item for item in column if type(item) is kind] for kind in set(map(type, column)))
    return SLOT * len(column) + sum(_objects_cost(part, type(part[0])) for part in parts)


def ascii_cost(column: Sequence[Any]) -> int | None:
    """`column_cost` of ASCII text, which is copied to look at it; None for anything else. 20 ns an item."""
    try:
        joined = "".join(column)
    except TypeError:
        return None
    return (SLOT + STR) * len(column) + len(joined) if joined.isascii() else None


def _objects_cost(column: Sequence[Any], kind: type) -> int:
    """Of objects of one type, at least one, without their slots. Containers are opened for the whole
    column at once: one level, one list."""
    n = len(column)
    if issubclass(kind, str):
        return STR * n + _text_bytes(column)
    if kind is bool or kind is NoneType:
        return 0
    if issubclass(kind, int):
        return _int_bytes(column)
    if issubclass(kind, (bytes, bytearray)):
        return BYTES * n + sum(map(len, column))
    if issubclass(kind, (tuple, list)):
        return LIST * n + _items_cost(column)
    if issubclass(kind, dict):
        keys = list(chain.from_iterable(column))
        values = _items_cost(list(map(dict.values, column)))
        return DICT * n + DICT_ITEM * len(keys) + column_cost(keys) + values
    return FLOAT * n


def _items_cost(rows: Sequence[Collection[Any]]) -> int:
    """`column_cost` of all that lies in tuples, lists or values of dicts. Place by place, as if all had as
    many: a place mostly holds one type, and a mixed column takes a pass for each of its types."""
    items = list(chain.from_iterable(rows))
    width = len(rows[0])
    if not 0 < _WIDE * width <= len(rows):
        return column_cost(items)
    return sum(column_cost(items[at::width]) for at in range(width))


def _text_bytes(texts: Sequence[str]) -> int:
    """Beyond ASCII a character takes 1, 2 or 4 bytes by the widest one of its string: counted as 2,
    or as 4 where any needs it."""
    length = sum(map(len, texts))
    if length > _JOINED_MAX:
        return length if sum(map(str.isascii, texts)) == len(texts) else 4 * length  # looks at all
    joined = "".join(texts)
    if joined.isascii():
        return length
    try:
        doubled = len(joined.encode("utf-16-le"))
    except UnicodeEncodeError:  # as keys they are sorted by their bytes
        return 4 * length + STR * len(texts)
    return (doubled if doubled == 2 * length else 4 * length) + _WIDER * len(texts)


def _int_bytes(numbers: Sequence[int]) -> int:
    if numbers[0] == 1 and numbers.count(1) == len(numbers):
        return 0  # the values of a count, at no cost
    low, high = min(numbers), max(numbers)
    if low >= -5 and high <= _SMALL_INTS:
        return 0
    if low >= -_INT64 and high <= _INT64:
        return INT * len(numbers)
    return sum(INT + n.bit_length() // 7 for n in numbers)


def _are_packed(column: Sequence[Any]) -> bool:
    """Whether a column that begins with an int can be packed, a third of what looking at types and sizes
    takes: then all are ints of 64 bits or bools, and not all are shared objects."""
    if -5 <= column[0] <= _SMALL_INTS or len(column) > _PACKED_MAX:
        return False
    try:
        struct.pack(f"{len(column)}q", *column)
    except struct.error:
        return False
    return True
