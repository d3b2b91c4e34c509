"""The stable hash that partitions keys: the same in every process, whatever PYTHONHASHSEED.

Keys that are one key hash alike (1, 1.0 and True; -0.0 and 0.0; str by its bytes), in tuples too.
Everything goes through CRC-32, numbers as the eight bytes of Python's own hash, which for numbers isn't
randomised and is made to agree between types. The result is reduced modulo a prime first: CRC-32 is
linear, so its low bits alone would split keys that differ in few bits unevenly. (A multiplicative hash of
numbers is no faster and left 64 partitions of quarters 30% uneven.)
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any, Final
from zlib import crc32

from mrq.codec.types import NUMBERS, base_of, utf8

_INT64: Final = Struct("<q")
_PRIME24: Final = 16777213  # the largest below 2**24: far above any number of partitions
_TUPLE: Final = 1000003
_MASK32: Final = 0xFFFFFFFF
_NONE: Final = 0x6E6F6E65
_BYTES_SEED: Final = 0x62


def partition_column(keys: Sequence[Any], n: int) -> list[int]:
    """Which of `n` partitions each key belongs to. Raises DataError for keys that can't be carried."""
    if n == 1:
        return [0] * len(keys)
    try:
        hashes = map(crc32, map(str.encode, keys))  # most keys are text
        return [h % _PRIME24 % n for h in hashes]
    except (UnicodeEncodeError, TypeError):  # escaped bytes somewhere, or not all are text
        return [hash_key(key) % _PRIME24 % n for key in keys]


def hash_key(key: Any) -> int:
    """32 bits, equal for keys that are one key. Raises DataError."""
    kind = type(key)
    if kind is str:
        return crc32(utf8(key))
    if kind in NUMBERS:
        return crc32(_INT64.pack(hash(key)))
    if kind is tuple:
        h = len(key)
        for inner in key:
            h = (h * _TUPLE + hash_key(inner)) & _MASK32
        return h
    if kind is bytes:
        return crc32(key, _BYTES_SEED)
    if key is None:
        return _NONE
    return hash_key(base_of(key, key=True))
