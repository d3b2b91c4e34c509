"""What was yielded counts as it was, and what was written is read back: on this machine and on a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from changing_jobs import Arrays, Back, Bad, Blocks, Grouped, Huge, OneName, Rows, Split
from cluster_rig import engine_of

from mrq.io.output import output_format
from mrq.result import JobFailed

N = 300


@pytest.fixture(params=["embedded", "cluster"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))
    with engine_of(request.param, tmp_path) as made:
        yield made


def lines(folder: Path, count: int = N) -> Path:
    path = folder / "in.txt"
    path.write_text("".join(f"{'ab'[n % 2]} {n}\n" for n in range(count)))
    return path


def test_rows_that_are_changed(engine: Any, tmp_path: Path) -> None:
    source = lines(tmp_path)
    found = engine.run(Rows, [source], tmp_path / "rows", output_format="jsonl")
    assert list(found) == [("ab"[n % 2], [n, {"deep": [n]}]) for n in range(N)]
    found = engine.run(Grouped, [source], tmp_path / "grouped", output_format="records", reducers=1)
    assert sorted(found) == [(b"%04d" % n, [{"deep": [n]}]) for n in range(N)]
    found = engine.run(Blocks, [source], tmp_path / "blocks", output_format="records", reducers=1)
    assert list(found) == [(key, [list(range(first, N, 2))]) for first, key in enumerate("ab")]


def test_records_that_are_changed(engine: Any, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    rows = [{"n": n, "list": [n]} for n in range(4)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = engine.run(Split, [source], tmp_path / "split", output_format="records")
    assert list(found) == [(n, row) for n, row in enumerate(rows)]
    found = engine.run(Bad, [source], tmp_path / "out")
    assert list(found) == [(None, {"n": n, "list": [n, "changed"]}) for n in (0, 2)]
    (kept,) = (tmp_path / "out" / "_bad").glob("*.records")
    assert [value for _, value in output_format("records").read(str(kept))] == rows[1::2]


def test_what_was_written_is_read_back(engine: Any, tmp_path: Path) -> None:
    engine.run(Huge, [lines(tmp_path, 3)], tmp_path / "huge")
    found = engine.run(Back, [tmp_path / "huge"], tmp_path / "back", reducers=1)
    assert list(found) == [(n, ["\udcff", [None, True]]) for n in range(3)]
    with pytest.raises(JobFailed, match="its keys 1 and '1' have one name there"):
        engine.run(OneName, [lines(tmp_path, 3)], tmp_path / "one")


def test_scalars_and_arrays_of_numpy(engine: Any, tmp_path: Path) -> None:
    source = lines(tmp_path, 2)
    found = engine.run(
        Arrays(array=False), [source], tmp_path / "scalars", output_format="records", reducers=1
    )
    assert list(found) == [((3, f"{'ab'[n]} {n}"), [True, {1: [0.5]}]) for n in range(2)]
    with pytest.raises(JobFailed, match=r"a value of type numpy\.ndarray can't be carried"):
        engine.run(Arrays(array=True), [source], tmp_path / "arrays", output_format="text")
