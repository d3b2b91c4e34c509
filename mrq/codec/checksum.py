"""The CRC-32 of zlib, from the fastest library that is there: the same numbers from each."""

from __future__ import annotations

try:
    from isal.isal_zlib import crc32
except ImportError:  # no wheel for this machine
    from zlib import crc32

__all__ = ["crc32"]
