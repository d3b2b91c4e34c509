"""The progress page: 64 bytes that an executor and its agent share through mmap.

The executor stores, the agent reads; neither waits for the other. The agent takes any change as a
sign of life, and after a sudden death the page says which record was at hand.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

FIELDS: Final = 8
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

PHASES: Final = ("", "mapping", "shuffling", "reducing")
MAPPING, SHUFFLING, REDUCING = 1, 2, 3


def create(path: str) -> None:
    """Make a blank page. Raises OSError."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(fd, (-1).to_bytes(8, "little", signed=True) + bytes(SIZE - 8))
    finally:
        os.close(fd)


def open_page(path: str) -> memoryview:
    """The page as eight signed integers, shared with every other opener. Raises OSError."""
    fd = os.open(path, os.O_RDWR)
    try:
        return memoryview(mmap.mmap(fd, SIZE)).cast("q")
    finally:
        os.close(fd)
