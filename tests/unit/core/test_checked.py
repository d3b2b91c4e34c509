"""Checksums of pieces, joined to those of files."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrq.core.checked import Checked, join
from mrq.core.model import Piece, Split, TaskResult


@given(st.binary(max_size=70), st.binary(max_size=70))
def test_two_strings_are_joined(one: bytes, other: bytes) -> None:
    assert join(zlib.crc32(one), zlib.crc32(other), len(other)) == zlib.crc32(one + other)


@pytest.mark.parametrize("length", [0, 1, 7, 255, 4096, 65537, (1 << 20) + 3])
def test_of_any_length(length: int) -> None:
    one, other = os.urandom(1000), os.urandom(length)
    assert join(zlib.crc32(one), zlib.crc32(other), length) == zlib.crc32(one + other)


def test_a_terabyte_takes_no_longer() -> None:
    zeros = 0  # the crc32 of 2^40 zeros, by doubling
    block, length = zlib.crc32(bytes(1 << 20)), 1 << 20
    while length < 1 << 40:
        block, length = join(block, block, length), 2 * length
    zeros = block
    assert join(join(zeros, zlib.crc32(b"x"), 1), zlib.crc32(b"y"), 1) == join(zeros, zlib.crc32(b"xy"), 2)


#: Three files of a finished output and one that is none: cut, packed, empty.
CONTENT = {"a": b"0123456789" * 3, "plain": b"no manifest", "b": b"bbb", "empty": b"", "c": b"cc"}


def piece(name: str, start: int, length: int) -> Piece:
    data = CONTENT[name]
    crc = None if name == "plain" else zlib.crc32(data)
    return Piece(
        path=name, open=f"/{name}", start=start, length=length, size=len(data), mtime_ns=0, crc32=crc
    )


SPLITS = tuple(
    Split(index=index, pieces=pieces)
    for index, pieces in enumerate(
        [
            (piece("a", 0, 11),),
            (piece("a", 11, 11),),
            (piece("a", 22, 8),),
            (piece("plain", 0, 11), piece("b", 0, 3), piece("empty", 0, 0), piece("c", 0, 2)),
        ]
    )
)


def results(content: dict[str, bytes]) -> list[TaskResult]:
    return [result([p for p in split.pieces if p.crc32 is not None], content) for split in SPLITS]


def result(pieces: Sequence[Piece], content: dict[str, bytes]) -> TaskResult:
    crcs = tuple(zlib.crc32(content[p.path][p.start : p.start + p.length]) for p in pieces)
    return TaskResult(records_in=0, bytes_in=0, records_out=0, bytes_out=0, crcs=crcs)


def flipped(name: str, at: int) -> dict[str, bytes]:
    data = bytearray(CONTENT[name])
    data[at] ^= 4
    return {**CONTENT, name: bytes(data)}


def checked() -> Checked:
    found = Checked.of(SPLITS)
    assert found is not None
    return found


def test_nothing_to_check_is_none() -> None:
    assert Checked.of([Split(index=0, pieces=(piece("plain", 0, 11),))]) is None
    assert Checked.of([]) is None


def test_right_bytes_are_right() -> None:
    each = checked()
    assert each.wrong(results(CONTENT).__getitem__) == []
    assert [path for path, _, _ in each.files] == ["a", "b", "empty", "c"]


@pytest.mark.parametrize(
    ("name", "at", "maps"),
    [("a", 0, (0, 1, 2)), ("a", 15, (0, 1, 2)), ("a", 29, (0, 1, 2)), ("b", 1, (3,)), ("c", 1, (3,))],
)
def test_a_flipped_bit_is_found_with_those_who_read_it(name: str, at: int, maps: tuple[int, ...]) -> None:
    (wrong,) = checked().wrong(results(flipped(name, at)).__getitem__)
    assert (wrong.path, wrong.maps) == (name, maps)


def test_two_files_at_once() -> None:
    content = {**flipped("a", 3), "c": b"xx"}
    assert [wrong.path for wrong in checked().wrong(results(content).__getitem__)] == ["a", "c"]


def test_what_was_not_said_is_not_right() -> None:
    said = results(CONTENT)
    said[3] = result([], CONTENT)
    assert [wrong.path for wrong in checked().wrong(said.__getitem__)] == ["b", "empty", "c"]
    assert [wrong.path for wrong in checked().wrong(lambda index: None)] == ["a", "b", "empty", "c"]
