"""What a block costs in memory: the deterministic measure behind every spill and merge decision.

The cost is a function of the data alone (lengths and counts, never RSS or `sys.getsizeof`, which differ
between builds), so runs are cut at the same places in every re-run. The constants are CPython's object
sizes on 64 bits (str 49 + bytes, int 28, float 24, bytes 33, tuple 40 + 8 an item, list 56, dict 64 + 100
an item), each rounded up to the allocator's 16 and with the 8 bytes of the slot that holds it; `PAIR` is
what sorting a pair takes besides (positions, gathered columns and Timsort's own half).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

from mrq.codec.order import family
from mrq.codec.types import NoneType

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
#: Keys that Python doesn't order as we do are sorted by keys made of them, which take twice as much.
_RANKED: Final = 3

_SMALL_INTS: Final = 256  # CPython keeps those as one object each
_INT64: Final = 1 << 63


def cost(keys: Sequence[Any], values: Sequence[Any]) -> int:
    """Bytes that a block of pairs takes in memory while it is sorted, about."""
    return keys_cost(keys) + column_cost(values)


def keys_cost(keys: Sequence[Any]) -> int:
    """The keys' part of that, with what sorting takes."""
    return column_cost(keys) * (1 if family(keys) is not None else _RANKED) + PAIR * len(keys)


def column_cost(column: Sequence[Any]) -> int:
    """Bytes that a column's objects and their slots take, about."""
    total = SLOT * len(column)
    kinds = set(map(type, column))
    for kind in kinds:
        alike = column if len(kinds) == 1 else [item for item in column if type(item) is kind]
        total += _objects_cost(alike, kind)
    return total


def _objects_cost(column: Sequence[Any], kind: type) -> int:
    """Of objects of one type, at least one, without their slots. Containers are opened for the whole
    column at once: one level, one list."""
    n = len(column)
    if kind is str:
        characters = sum(map(len, column))
        # Beyond ASCII a character takes up to 4 bytes, by the widest one of its string.
        return STR * n + (characters if all(map(str.isascii, column)) else _WIDER * n + 4 * characters)
    if kind is bool or kind is NoneType:
        return 0
    if kind is int:
        low, high = min(column), max(column)
        if low >= -5 and high <= _SMALL_INTS:
            return 0
        if low >= -_INT64 and high <= _INT64:
            return INT * n
        return sum(INT + number.bit_length() // 7 for number in column)
    if kind is bytes:
        return BYTES * n + sum(map(len, column))
    if kind is tuple or kind is list:
        return LIST * n + column_cost(list(chain.from_iterable(column)))
    if kind is dict:
        names = list(chain.from_iterable(column))
        values = column_cost(list(chain.from_iterable(map(dict.values, column))))
        return DICT * n + DICT_ITEM * len(names) + column_cost(names) + values
    return FLOAT * n
