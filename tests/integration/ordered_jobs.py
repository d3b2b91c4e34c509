"""Jobs with sort_values of which some values have no place in an order, in a file of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import mrq


def pairs(line: str | bytes | dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Of a record {"k": …, "v": …}: the pair, and one under a key that all records share."""
    row = line if isinstance(line, dict) else json.loads(line)
    yield row["k"], tuple(row["v"]) if isinstance(row["v"], list) else row["v"]
    yield "all", 1


class Listed(mrq.Job, sort_values=True, output_format="jsonl"):
    def map(self, key: Any, line: Any) -> Iterator[tuple[Any, Any]]:
        self.counters["pairs"] += 2
        yield from pairs(line)

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterator[list[Any]]:
        yield list(values)


class Collected(Listed):
    reduce = mrq.collect


class Identical(Listed):
    reduce = mrq.identity


class First(Listed):
    reduce = mrq.bottom(99)


class FirstByText(Listed):
    reduce = mrq.bottom(99, key=repr)


class Total(Listed, order="total"):
    """Its keys are sampled first."""


class Combined(Listed):
    """What is sorted is what its combine made."""

    def combine(self, key: Any, values: Iterator[Any]) -> Iterator[Any]:
        yield from values


class Blocks(mrq.Job, sort_values=True, output_format="jsonl"):
    reduce = mrq.collect

    def map_block(self, block: bytes) -> Iterator[tuple[Any, Any]]:
        for line in block.splitlines():
            self.counters["pairs"] += 2
            yield from pairs(line)


class Whole(mrq.Job, sort_values=True, output_format="jsonl"):
    reduce = mrq.collect

    def map_split(self, records: Iterator[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        for _, line in records:
            yield from pairs(line)
