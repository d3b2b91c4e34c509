"""Jobs that go on changing what they have yielded, in a file of their own: executors import it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import mrq


class Rows(mrq.Job):
    """Lines `key n`: one row is refilled for all of them, three levels down too."""

    def setup(self) -> None:
        self.row: list[Any] = [0, {"deep": [0]}]

    def map(self, offset: int, line: str) -> Iterator[Any]:
        key, n = line.split()
        self.row[0] = self.row[1]["deep"][0] = int(n)
        yield key, self.row
        self.row[1]["deep"][0] = "changed"


class Grouped(Rows):
    def combine(self, key: str, values: Iterator[Any]) -> Iterator[Any]:
        row: list[Any] = []
        for value in values:
            row[:] = value
            yield row
            row.clear()

    def reduce(self, key: str, values: Iterator[Any]) -> Iterator[Any]:
        pair = mrq.Pair(None, None)
        name = bytearray(4)
        for n, deep in values:
            name[:] = b"%04d" % n
            pair.key, pair.value = name, [deep]
            yield pair
            deep["deep"][0] = pair.key = "changed"


class Split(mrq.Job, input_format="jsonl"):
    def map_split(self, records: Iterator[Any]) -> Iterator[Any]:
        for _, record in records:
            yield record["n"], record
            record.clear()


class Blocks(mrq.Job):
    reduce = mrq.collect

    def setup(self) -> None:
        self.found: dict[str, list[int]] = {}

    def map_block(self, block: bytes) -> dict[str, list[int]]:
        for line in block.split(b"\n"):
            if line:
                key, n = line.decode().split()
                self.found.setdefault(key, []).append(int(n))
        return self.found


class Bad(mrq.Job, input_format="jsonl", output_format="jsonl", skip_bad_records=2):
    def map(self, offset: int, record: Any) -> Iterator[Any]:
        record["list"].append("changed")
        yield None, record
        record["list"].clear()
        if record["n"] % 2:
            raise ValueError("odd")


class Huge(mrq.Job, output_format="jsonl"):
    def map(self, offset: int, line: str) -> Iterator[Any]:
        yield None, {"n": [10**4999 + int(line.split()[1])], "bytes": b"\xff", 1: (None, True)}


class Back(mrq.Job, input_format="jsonl", output_format="records"):
    reduce = mrq.identity

    def map(self, offset: int, record: Any) -> Iterator[Any]:
        yield record["value"]["n"][0] % 1000, [record["value"]["bytes"], record["value"]["1"]]


class OneName(mrq.Job):
    def map(self, offset: int, line: str) -> Iterator[Any]:
        yield line, {"rows": [{1: 0, "1": 1}]}


class Arrays(mrq.Job):
    """Scalars of NumPy as keys and values; or an array of one item, as the result of a reduce."""

    array: bool

    def map(self, offset: int, line: str) -> Iterator[Any]:
        yield (np.int64(len(line)), np.str_(line)), {np.int8(1): [np.float32(0.5)]}

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterator[Any]:
        for value in values:
            yield np.array([1]) if self.array else [np.bool_(True), value]
