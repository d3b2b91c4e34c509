"""Whether a job's cores had nothing to do, and what is said of it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from mrq.cli.summary import summary_lines
from mrq.cli.wording import in_flags
from mrq.core.model import JobSpec, Piece, Split, StageSpec, TaskResult
from mrq.core.refs import Kind, TaskRef
from mrq.io.idle import summarize

MIB = 1 << 20


def piece(path: Path, start: int = 0, length: int | None = None) -> Piece:
    stat = path.stat()
    size = stat.st_size
    return Piece(
        path=path.name,
        open=str(path),
        start=start,
        length=size if length is None else length,
        size=size,
        mtime_ns=stat.st_mtime_ns,
    )


def spec(*splits: tuple[Piece, ...], **more: Any) -> JobSpec:
    cut = tuple(Split(index=i, pieces=p) for i, p in enumerate(splits))
    return JobSpec(
        job="j", name="J", code="c", entry="m:J", parameters={}, inputs=("in",),
        stages=(StageSpec(splits=cut, reducers=1, **more),),
    )  # fmt: skip


def result(seconds: float, records: int = 100, groups: int = 50) -> TaskResult:
    return TaskResult(
        records_in=records, bytes_in=1, records_out=1, bytes_out=1, groups=groups, seconds=seconds
    )


def idle(job: JobSpec, maps: list[float], reduces: list[float], slots: int = 2, **more: int) -> list[str]:
    results = {TaskRef("j", 0, Kind.MAP, i): result(seconds, **more) for i, seconds in enumerate(maps)}
    results |= {TaskRef("j", 0, Kind.REDUCE, i): result(seconds, **more) for i, seconds in enumerate(reduces)}
    found = summarize(job, results, 10.0, 0, dict.fromkeys(Kind, slots))
    lines = summary_lines(found, output="out", parts=1)
    said = [in_flags(text) for text in found.idle]
    assert [line.removeprefix("  idle    ") for line in lines if line.startswith("  idle")] == said
    return said


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "in.txt").write_bytes(b"a line\n" * (4 * MIB // 7))
    return tmp_path / "in.txt"


def test_one_map_for_two_cores(text: Path) -> None:
    one = spec((piece(text),))
    assert idle(one, [8.0], []) == ["1 map for 2 cores: `--split-size 2M` makes one for each"]
    assert idle(one, [8.0], [], slots=10) == ["1 map for 10 cores: `--split-size 410K` makes one for each"]
    half = text.stat().st_size // 2
    two = spec((piece(text, 0, half),), (piece(text, half, half),))
    assert idle(two, [8.0, 7.0], [], slots=4) == ["2 maps for 4 cores: `--split-size 1M` makes one for each"]


def test_cores_that_had_work_or_no_time_are_not_talked_about(text: Path) -> None:
    half = text.stat().st_size // 2
    two = spec((piece(text, 0, half),), (piece(text, half, half),))
    assert idle(two, [8.0, 7.0], [3.0, 3.1]) == []
    assert idle(spec((piece(text),)), [0.4], [0.2]) == []
    assert idle(spec((piece(text),)), [8.0], [], slots=1) == []
    assert idle(spec((piece(text),)), [8.0], [], records=1) == [], "one record can't be shared out"


def test_one_reduce_for_two_cores(text: Path) -> None:
    half = text.stat().st_size // 2
    two = spec((piece(text, 0, half),), (piece(text, half, half),))
    assert idle(two, [1.0, 1.0], [8.0]) == ["1 reduce for 2 cores: `--reducers 2` makes one for each"]
    assert idle(two, [1.0, 1.0], [8.0], groups=1) == [], "one key is one partition"


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt"])
def test_what_cannot_be_cut_is_named(tmp_path: Path, name: str) -> None:
    packed = tmp_path / name
    packed.write_bytes(gzip.compress(b"a line\n" * 1000))
    (tmp_path / "b.txt").write_bytes(b"a\n")
    job = spec((piece(packed),), (piece(tmp_path / "b.txt"),), (piece(tmp_path / "b.txt"),))
    (said,) = idle(job, [9.0, 0.1, 0.1], [])
    assert said.startswith(f"{name} can't be cut, so it is one map: 9.0 s while others of the 2 cores")
    assert idle(job, [9.0, 8.0, 8.5], []) == []


def test_a_format_that_reads_files_whole(text: Path) -> None:
    (said,) = idle(spec((piece(text),), input_format="whole"), [9.0], [], slots=3, records=2)
    assert said.startswith("in.txt can't be cut, so it is one map: 9.0 s while others of the 3 cores")


def test_a_file_that_is_gone_by_then_harms_nothing(text: Path) -> None:
    job = spec((piece(text),))
    text.unlink()
    assert idle(job, [8.0], []) == ["1 map for 2 cores: `--split-size 2M` makes one for each"]
