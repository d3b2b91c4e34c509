"""Runs: sorted pieces that were spilled, each a file of frames."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from mrq.errors import DiskFullError
from mrq.shuffle.block import Block, FrameWriter, disk_error, read_blocks, unwritten
from mrq.shuffle.bounded import Quota, create


class Source:
    """What a merge reads: a run, or a region of a map-output file."""

    __slots__ = ()

    records: int  #: pairs in all
    cost: int  #: bytes in memory when all of it is loaded, as `budget.cost` has it
    block_cost: int  #: bytes in memory of its most expensive block
    is_sorted: bool  #: whether the pairs come in key order

    def blocks(self) -> Iterator[Block]:
        """All pairs, block by block; each call reads from the start. Holds no descriptor between
        blocks. Raises CorruptFileError, OSError."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Source):
    """A spilled piece on disk."""

    path: str
    records: int
    bytes: int
    cost: int
    block_cost: int
    is_sorted: bool = True

    def blocks(self) -> Iterator[Block]:
        return read_blocks(self.path, 0, self.bytes, self.records)


class RunWriter:
    """Writes a run; `close` tells what it is, `abort` removes it."""

    def __init__(self, path: str, *, quota: Quota | None = None) -> None:
        """Make the file, which must not exist. Raises DiskFullError, OSError."""
        self._path = path
        try:
            self._file = create(path, "xb", quota)
        except OSError as exc:
            raise disk_error(exc, path, 0) from exc
        self._frames = FrameWriter(self._file, path)

    def write(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Append pairs that don't change any more. Raises DataError, DiskFullError, OSError."""
        self._frames.write(keys, values)

    def close(self) -> Run:
        """End the run. Raises DataError, DiskFullError, OSError."""
        frames = self._frames
        frames.flush()
        try:
            self._file.flush()
            self._file.close()
        except OSError as exc:
            raise disk_error(exc, self._path, unwritten(self._file)) from exc
        return Run(
            path=self._path,
            records=frames.records,
            bytes=frames.bytes,
            cost=frames.cost,
            block_cost=frames.block_cost,
        )

    def abort(self) -> None:
        """Remove what was written; for a writer that won't be closed."""
        discard(self._file, self._path)


def discard(file: BinaryIO, path: str) -> None:
    """Close a file whose content no longer matters, and remove it."""
    with contextlib.suppress(OSError, DiskFullError):  # closing flushes, which fails again on a full disk
        file.close()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
