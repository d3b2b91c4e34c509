"""Cuts the input into splits. Pure, and a function of the input alone: never of cores or engine.

A large file that can be split is cut into pieces of equal length; small files, and files that can't
be cut, are packed together in the order given. Cuts fall at arbitrary bytes: a format decides which
records begin in a piece (a line belongs to the piece in which its first byte lies).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from mrq.core.model import Piece, Split
from mrq.errors import UsageError

MIB: Final = 1 << 20
#: A split of a large input: from 4 MiB, about 64 of them until it has grown to 64 MiB.
LARGE_BYTES_MIN: Final = 4 * MIB
SPLIT_BYTES_MAX: Final = 64 * MIB
SPLITS_WANTED: Final = 64
#: A small input is cut into about 8, so that it is more than one core's work, and its progress is seen. A map
#: of 64 KiB takes a few milliseconds, most of them its own start.
SMALL_SPLITS_WANTED: Final = 8
SPLIT_BYTES_MIN: Final = 64 << 10
#: What each attempt of a job with `setup` should be worth: nobody knows what that loads.
SETUP_BYTES_MIN: Final = 1 * MIB
#: What opening a file is worth in bytes, so that thousands of tiny files don't end up in one split.
FILE_COST_BYTES: Final = 16 << 10
REDUCERS_MAX: Final = 10_000
#: More pieces of one file than this are a mistyped split size, and would fill the memory.
PIECES_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One file of the input, as it was when the job was planned; wire data."""

    path: str  #: as the user spelled it: what user code, order and output see
    open: str  #: the absolute path or URL to open
    size: int  #: bytes
    mtime_ns: int  #: 0 where the store has none
    splittable: bool  #: False: compressed, or a format that reads files whole
    crc32: int | None = None  #: as its manifest says, where it is part of a finished output
    inode: int = 0  #: of a file that is still written, of which `size` is where its last whole line ends
    unended: int = 0  #: bytes behind that: a line without its end
    last_lines: int | None = None  #: see `model.Piece`

    def piece(self, start: int, length: int) -> Piece:
        """So many of its bytes, from byte `start` on."""
        return Piece(
            path=self.path,
            open=self.open,
            start=start,
            length=length,
            size=self.size,
            mtime_ns=self.mtime_ns,
            crc32=self.crc32,
            inode=self.inode,
            unended=self.unended,
            last_lines=self.last_lines,
        )


def default_split_bytes(total_bytes: int, files: int = 1, least: int = SPLIT_BYTES_MIN) -> int:
    """Bytes of a split for so much input in so many files: an eighth of what it costs, at least `least` and
    at most what a large input has, which is 4 to 64 MiB, a whole number of MiB."""
    wanted = -(-total_bytes // SPLITS_WANTED)
    rounded = -(-wanted // MIB) * MIB
    large = min(max(rounded, LARGE_BYTES_MIN), SPLIT_BYTES_MAX)
    cost = total_bytes + files * FILE_COST_BYTES
    return min(max(-(-cost // SMALL_SPLITS_WANTED), least), large)


def default_reducers(total_bytes: int) -> int:
    """R for so much input: one per 4 MiB up to 64, then one per 32 MiB, at most 1,000.

    Many small partitions are faster than few large ones: a reduce whose keys fit the processor's cache takes
    half the time a key (word count of 256 MiB: 7.9 s of reduces with R=16, 4.9 s with R=64).
    """
    small = max(1, -(-total_bytes // (4 * MIB)))
    if small <= 64:
        return small
    return min(1000, max(64, -(-total_bytes // (32 * MIB))))


def plan(
    files: Sequence[InputFile], split_bytes: int | None = None, *, least: int = SPLIT_BYTES_MIN
) -> tuple[Split, ...]:
    """Splits that cover every byte of the files once, in order; none for no files.

    `split_bytes` None takes `default_split_bytes`, at least `least`. Raises UsageError below 1.
    """
    if split_bytes is None:
        split_bytes = default_split_bytes(sum(file.size for file in files), len(files), least)
    if split_bytes < 1:
        raise UsageError(f"a split of {split_bytes} bytes makes no sense; the split size must be at least 1")
    splits: list[Split] = []
    pack: list[Piece] = []
    cost = 0
    for file in files:
        if file.splittable and file.size > split_bytes:
            if pack:
                splits.append(Split(index=len(splits), pieces=tuple(pack)))
                pack, cost = [], 0
            for piece in _cut(file, split_bytes):
                splits.append(Split(index=len(splits), pieces=(piece,)))
            continue
        one = file.size + FILE_COST_BYTES
        if pack and cost + one > split_bytes:
            splits.append(Split(index=len(splits), pieces=tuple(pack)))
            pack, cost = [], 0
        pack.append(file.piece(0, file.size))
        cost += one
    if pack:
        splits.append(Split(index=len(splits), pieces=tuple(pack)))
    return tuple(splits)


def _cut(file: InputFile, split_bytes: int) -> Iterable[Piece]:
    """Pieces of nearly equal length, so that no tiny tail becomes a task of its own."""
    count = -(-file.size // split_bytes)
    if count > PIECES_MAX:
        raise UsageError(
            f"{file.path}: splits of {split_bytes} bytes would make {count} map tasks of this one file; "
            f"the most is {PIECES_MAX}, so ask for a larger split size"
        )
    start = 0
    for i in range(1, count + 1):
        end = file.size * i // count
        yield file.piece(start, end - start)
        start = end
