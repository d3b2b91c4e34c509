"""The benchmarks' jobs, as a user would write them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import mrq


class WordCount(mrq.Job):
    """The record API: a generator, a pair a word."""

    reduce = mrq.sum

    def map(self, key: int, line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            yield word, 1


class WordCountBlocks(mrq.Job):
    """The block API: many lines at a time."""

    reduce = mrq.sum

    def map_block(self, block: bytes) -> dict[str, int]:
        return Counter(block.decode().split())


class Sort(mrq.Job, order="total", encoding=None, output_format="lines"):
    """100-byte records by their first 10 bytes."""

    reduce = mrq.identity

    def map(self, key: int, line: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield line[:10], line


class Grep(mrq.Job, output_format="lines"):
    """The lines that match."""

    pattern: str

    def setup(self) -> None:
        self._search = re.compile(self.pattern).search

    def map(self, key: int, line: str) -> Iterator[tuple[None, str]]:
        if self._search(line):
            yield None, line


class Noop(mrq.Job):
    """Maps that yield nothing."""

    reduce = mrq.sum

    def map(self, key: int, line: str) -> None:
        return None
