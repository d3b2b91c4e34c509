"""Whichever library makes the checksums, they are zlib's."""

from __future__ import annotations

import zlib

import pytest

from mrq.codec.checksum import crc32


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)) * 4097])
def test_it_is_zlibs(data: bytes) -> None:
    assert crc32(data) == zlib.crc32(data)
    assert crc32(memoryview(data)[1:], crc32(data[:1])) == zlib.crc32(data)
