"""The u64 that stands for "this reduce consumed this output of that map"; pure arithmetic."""

from __future__ import annotations

from typing import Final

MASK: Final = (1 << 64) - 1


def mix(x: int) -> int:
    """splitmix64's finaliser: a bijection of u64 whose every output bit depends on every input bit."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def consumed(map_index: int, digest: int) -> int:
    """What a reduce adds, modulo 2**64, for having consumed map `map_index`'s output with `digest`."""
    return mix((mix((map_index + 1) * 0x9E3779B97F4A7C15 & MASK) + digest) & MASK)
