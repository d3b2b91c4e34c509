"""skip_bad_records: bad records are left out in place, and kept to be read in again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tasks_rig import Rig, done

import mrq
from mrq.core.model import Kind, Status, TaskResult
from mrq.io.formats import output_format
from mrq.worker.order import MapSource


class Numbers(mrq.Job):
    """Emits before it fails: nothing of a bad record may stay."""

    reduce = mrq.sum

    def map(self, key: int, line: str) -> Iterator[tuple[str, int]]:
        yield "lines", 1
        yield "sum", int(line)


class MapOnly(Numbers):
    reduce = None


class Unkeyable(Numbers):
    def map(self, key: int, line: str) -> Iterator[Any]:
        yield (object() if line == "x" else line), 1


class Blocks(mrq.Job):
    reduce = mrq.sum

    def map_block(self, block: bytes) -> dict[str, int]:
        return {"sum": sum(map(int, block.split()))}


class Groups(Numbers):
    def reduce(self, key: str, values: Iterator[int]) -> Iterator[int]:  # type: ignore[override]
        yield 0
        yield 1 // (next(values) - 1) + sum(values)


DATA = b"1\n2\nx\n4\n\xff\n"


def bad(rig: Rig, result: TaskResult, suffix: str) -> list[Any]:
    (file,) = (f for f in result.files if f.final.startswith("_bad/") and f.final.endswith(suffix))
    path = os.path.join(rig.folder, file.name)
    assert file.bytes == os.path.getsize(path)
    if suffix == ".records":
        return list(output_format("records").read(path))
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def careful(job: mrq.Job, folder: Path, data: bytes, allowed: int, **settings: Any) -> tuple[Rig, Any, Any]:
    rig = Rig(job, folder, settings={"skip_bad_records": allowed, **settings})
    order = rig.map_order(42, data, careful=True)
    return rig, rig.run(order), order


def test_bad_records_are_left_out_whole_and_kept(tmp_path: Path) -> None:
    rig, outcome, order = careful(Numbers(), tmp_path, DATA, 2)
    result = done(outcome)
    assert (result.bad_records, result.records_in, result.records_emitted) == (2, 5, 6)
    source = MapSource(map_index=42, digest=result.digest, path=order.output_path)
    reduced = done(rig.run(rig.order(Kind.REDUCE, 0, sources=(source,))))
    assert rig.part(reduced) == [("lines", 3), ("sum", 7)]
    assert bad(rig, result, ".records") == [(4, "x"), (8, "\udcff")]
    rows = bad(rig, result, ".jsonl")
    assert [(row["path"], row["offset"]) for row in rows] == [("input-1.txt", 4), ("input-1.txt", 8)]
    assert all("int(line)" in row["traceback"] for row in rows)
    assert [f.final for f in result.files] == ["_bad/m-00042.jsonl", "_bad/m-00042.records"]


def test_one_too_many_fails_clearly(tmp_path: Path) -> None:
    _, outcome, _ = careful(Numbers(), tmp_path, DATA, 1)
    assert outcome.status is Status.FAILED
    assert "m-00042 alone has more than the 1 bad records" in outcome.error.message
    assert "caused by ValueError" in outcome.error.frames


def test_map_only_jobs_skip_too(tmp_path: Path) -> None:
    rig, outcome, _ = careful(MapOnly(), tmp_path, DATA, 2)
    assert rig.part(done(outcome)) == [
        ("lines", 1),
        ("sum", 1),
        ("lines", 1),
        ("sum", 2),
        ("lines", 1),
        ("sum", 4),
    ]


def test_what_cannot_be_carried_is_a_bad_record(tmp_path: Path) -> None:
    rig, outcome, _ = careful(Unkeyable(), tmp_path, DATA, 1)
    assert bad(rig, done(outcome), ".records") == [(4, "x")]


def test_a_bad_block_is_a_bad_record(tmp_path: Path) -> None:
    rig, outcome, _ = careful(Blocks(), tmp_path, DATA, 1)
    assert bad(rig, done(outcome), ".records") == [(0, DATA)]


def test_lines_that_are_no_json_are_bad_records(tmp_path: Path) -> None:
    class Rows(mrq.Job):
        def map(self, key: int, row: Any) -> Iterator[Any]:
            yield key, row["n"]

    rig, outcome, _ = careful(Rows(), tmp_path, b'{"n": 1}\n{oops\n{"m": 2}\n', 2, input_format="jsonl")
    assert rig.part(done(outcome)) == [(0, 1)]
    assert bad(rig, done(outcome), ".records") == [(9, b"{oops"), (15, {"m": 2})]


@pytest.mark.parametrize("allowed", [1, 0])
def test_a_bad_group_is_left_out_whole(allowed: int, tmp_path: Path) -> None:
    rig = Rig(Groups(), tmp_path, settings={"skip_bad_records": allowed})
    order = rig.map_order(0, b"2\n3\n")
    result = done(rig.run(order))
    source = MapSource(map_index=0, digest=result.digest, path=order.output_path)
    outcome = rig.run(rig.order(Kind.REDUCE, 3 - 3, sources=(source,), careful=True))
    if not allowed:
        assert outcome.status is Status.FAILED
        return
    assert rig.part(done(outcome)) == [("sum", 0), ("sum", 4)]
    assert bad(rig, done(outcome), ".records") == [("lines", [1, 1])]
