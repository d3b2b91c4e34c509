"""Every byte of the input counts once, whatever a split cuts through."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tasks_rig import Rig

import mrq
from mrq.core.model import TaskResult
from mrq.core.refs import Kind
from mrq.core.splits import InputFile, plan
from mrq.io.output import output_format


class Keep(mrq.Job):
    def map(self, key: Any, value: Any) -> Iterator[tuple[Any, Any]]:
        yield None, 1


class KeepBlocks(mrq.Job):
    def map_block(self, block: bytes) -> Iterator[tuple[Any, Any]]:
        yield None, len(block)


class First(mrq.Job):
    def map_split(self, records: Iterator[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        yield from itertools.islice(records, 1)


def run(folder: Path, job: mrq.Job, data: bytes, form: str, split_bytes: int) -> list[TaskResult]:
    rig = Rig(job, folder, settings={"input_format": form})
    piece = rig.piece(data, f"in.{form}")
    file = InputFile(
        path=piece.path, open=piece.open, size=piece.size, mtime_ns=piece.mtime_ns, splittable=True
    )
    results = []
    for split in plan([file], split_bytes):
        outcome = rig.run(rig.order(Kind.MAP, split.index, split=split))
        assert outcome.result is not None, outcome
        results.append(outcome.result)
    return results


def records(folder: Path) -> bytes:
    writer = output_format("records").open(str(folder / "made"))
    writer.write(list(range(5)), ["x" * 1_500_000] * 5)
    writer.close()
    return (folder / "made").read_bytes()


@pytest.mark.parametrize("job", [Keep, KeepBlocks])
@pytest.mark.parametrize("end", [b"\n", b""])
def test_lines_longer_than_a_split(tmp_path: Path, job: type[mrq.Job], end: bytes) -> None:
    data = b"short\n" + b"x" * 50_000 + b"\nshort\nshort\n" + b"y" * 30_000 + end
    results = run(tmp_path, job(), data, "text", 4000)
    assert len(results) == 21
    assert sum(result.records_in for result in results) == 5
    assert sum(result.bytes_in for result in results) == len(data)


def test_json_lines_longer_than_a_split(tmp_path: Path) -> None:
    data = b'"' + b"x" * 20_000 + b'"\n\n1\n'
    results = run(tmp_path, Keep(), data, "jsonl", 3000)
    assert (sum(r.records_in for r in results), sum(r.bytes_in for r in results)) == (2, len(data))


def test_blocks_of_records_longer_than_a_split(tmp_path: Path) -> None:
    data = records(tmp_path)
    results = run(tmp_path, Keep(), data, "records", 65536)
    assert len(results) > 100
    assert (sum(r.records_in for r in results), sum(r.bytes_in for r in results)) == (5, len(data))


def test_a_map_that_stops_early_has_read_less(tmp_path: Path) -> None:
    (result,) = run(tmp_path, First(), b"a line\n" * 500_000, "text", 1 << 30)
    assert result.records_out == 1
    assert result.bytes_in < 500_000 * 7
