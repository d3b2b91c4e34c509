"""Inputs that are parts of a finished output: did the maps read the bytes that it was finished with?

A manifest has the crc32 of each part. Maps read pieces of parts, and say the crc32 of each piece. Those of a
part's pieces are joined: the crc32 of two strings together follows from theirs and the second's length.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from mrq.core.model import Split, TaskResult

#: zlib's polynomial, bits reversed: bit 31 is the coefficient of x^0.
_POLYNOMIAL: Final = 0xEDB88320
_ONE: Final = 1 << 31


class WrongPart(NamedTuple):
    """A file whose bytes, as the maps read them, aren't those of its manifest."""

    path: str  #: as the user spelled it
    maps: tuple[int, ...]  #: that read it


class Checked(NamedTuple):
    """The pieces of one job that are to be checked, file after file, in the order of the maps."""

    files: tuple[tuple[str, int, int], ...]  #: (path as spelled, crc32 that it should have, number of pieces)
    maps: array[int]  #: of each piece: the map that reads it
    lengths: array[int]  #: of each piece: its bytes

    @classmethod
    def of(cls, splits: Iterable[Split]) -> Checked | None:
        """What is to be checked of these splits; None for nothing, as mostly."""
        files: list[tuple[str, int, int]] = []
        maps, lengths = array("I"), array("Q")
        opened, end = "", 0
        for split in splits:
            for piece in split.pieces:
                if piece.crc32 is None:
                    continue
                if piece.open == opened and piece.start == end and files and piece.start:
                    path, crc, count = files[-1]
                    files[-1] = (path, crc, count + 1)
                else:
                    files.append((piece.path, piece.crc32, 1))
                opened, end = piece.open, piece.start + piece.length
                maps.append(split.index)
                lengths.append(piece.length)
        return cls(files=tuple(files), maps=maps, lengths=lengths) if files else None

    def wrong(self, result: Callable[[int], TaskResult | None]) -> list[WrongPart]:
        """The files that came out differently; `result` has what a map's accepted attempt said."""
        found: list[WrongPart] = []
        at, current, place = 0, -1, 0
        crcs: Sequence[int] = ()
        for path, wanted, count in self.files:
            whole: int | None = 0
            for piece in range(at, at + count):
                place += 1
                if self.maps[piece] != current:
                    current, place = self.maps[piece], 0
                    said = result(current)
                    crcs = said.crcs if said is not None else ()
                if place >= len(crcs):
                    whole = None
                elif whole is not None:
                    whole = join(whole, crcs[place], self.lengths[piece])
            if whole != wanted:
                found.append(WrongPart(path=path, maps=tuple(self.maps[at : at + count])))
            at += count
        return found


def join(first: int, second: int, length: int) -> int:
    """The crc32 of two strings one after another, from those of each and the length of the second."""
    return _times(_shift(length), first) ^ second


@lru_cache(maxsize=256)
def _shift(length: int) -> int:
    """x^(8 length) modulo the polynomial: what `length` bytes that follow do to a crc."""
    found, factor = _ONE, 1 << 23  # x^8
    while length:
        if length & 1:
            found = _times(factor, found)
        factor = _times(factor, factor)
        length >>= 1
    return found


def _times(a: int, b: int) -> int:
    """The product of two polynomials over GF(2), modulo the polynomial."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = (a << 1) & 0xFFFFFFFF
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product
