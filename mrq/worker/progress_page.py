"""The progress page: a hundred bytes that an executor and its agent share through mmap.

The executor stores, the agent reads; neither waits for the other. The agent takes any change as a
sign of life, and after a sudden death the page says which record was at hand.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from typing import Final

FIELDS: Final = 13
SIZE: Final = FIELDS * 8

#: Slots of the page, each a signed 64-bit integer.
OFFSET: Final = 0  # of the record at hand: what a text map gets as its key; -1 before the first
PIECE: Final = 1  # index into the split's pieces
RECORDS: Final = 2  # consumed so far
BYTES: Final = 3  # of input consumed so far
OUT: Final = 4  # records emitted so far
TICKS: Final = 5  # task.progress() calls, merge steps: anything that moves without records
PHASE: Final = 6  # index into PHASES
TOTAL: Final = 7  # bytes of input in all, for the fraction
# How far the block at hand is follows from the record at hand, which is stored anyway: nothing is counted.
BLOCK_RECORDS: Final = 8  # of the block at hand; 0 between blocks, and where only whole ones are known
BLOCK_BYTES: Final = 9  # of input that it stands for
BLOCK_START: Final = 10  # offset of its first record; -1 where its records have one offset, and are counted
BLOCK_SPAN: Final = 11  # from there to its last record
BLOCK_AT: Final = 12  # index of the record at hand, where they are counted

#: A page before its attempt.
BLANK: Final = memoryview((-1).to_bytes(8, "little", signed=True) + bytes(SIZE - 8)).cast("q")

PHASES: Final = ("", "mapping", "shuffling", "reducing")
MAPPING, SHUFFLING, REDUCING = 1, 2, 3


def create(path: str) -> None:
    """Make a blank page. Raises OSError."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(fd, BLANK)
    finally:
        os.close(fd)


def open_page(path: str) -> memoryview:
    """The page as eight signed integers, shared with every other opener. Raises OSError."""
    fd = os.open(path, os.O_RDWR)
    try:
        return memoryview(mmap.mmap(fd, SIZE)).cast("q")
    finally:
        os.close(fd)


def consumed(position: Sequence[int]) -> tuple[int, int]:
    """(records, bytes) of input consumed so far, those of the block at hand too: as far as its record at hand
    is in it."""
    records, size, span = position[RECORDS], position[BYTES], position[BLOCK_SPAN]
    if position[BLOCK_RECORDS] <= 0 or span <= 0:
        return records, size
    start = position[BLOCK_START]
    at = position[BLOCK_AT] if start < 0 else position[OFFSET] - start
    share = min(max(at / span, 0.0), 1.0)
    # The record at hand isn't consumed yet: even the last one of a block leaves it short.
    last = position[BLOCK_RECORDS] - 1
    return records + int(share * last), size + int(share * position[BLOCK_BYTES] * last / (last + 1))
