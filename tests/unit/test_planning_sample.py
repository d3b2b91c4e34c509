"""What a total order samples: the beginnings of many splits, spread over the input, whatever the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

import mrq
from mrq import planning
from mrq.core.model import Purpose
from mrq.planning import Plan, Request

KIB = 1 << 10


class Ordered(mrq.Job, order="total"):
    reduce = mrq.identity

    def map(self, key: int, line: str) -> list[tuple[str, None]]:
        return [(line, None)]


def planned(tmp_path: Path, size: int, name: str = "in.txt", **overrides: object) -> Plan:
    source = tmp_path / name
    source.write_bytes(b"x" * 99 + b"\n")
    with source.open("r+b") as file:
        file.truncate(size)
    return planning.plan(
        Request(ref=Ordered, inputs=[str(source)], output=str(tmp_path / "out"), overrides=overrides)
    )


@pytest.mark.parametrize(
    ("splits", "reducers", "sampled"), [(10, 2, 10), (32, 2, 32), (100, 2, 25), (100, 80, 50)]
)
def test_splits_are_spread_evenly(tmp_path: Path, splits: int, reducers: int, sampled: int) -> None:
    plan = planned(tmp_path, splits * 512 * KIB, split_size=512 * KIB, reducers=reducers)
    sample, work = plan.spec.stages
    assert (sample.purpose, work.purpose) == (Purpose.SAMPLE, Purpose.WORK)
    assert (sample.reducers, work.reducers, work.number) == (0, reducers, 0)
    assert sample.plan is not None
    assert work.plan is None
    assert len(sample.splits) == sampled
    starts = [split.pieces[0].start for split in sample.splits]
    assert starts == list(range(0, splits * 512 * KIB, splits // sampled * 512 * KIB))
    assert [split.index for split in sample.splits] == list(range(sampled))


def test_only_beginnings_are_read(tmp_path: Path) -> None:
    plan = planned(tmp_path, 4096 * KIB, split_size=1024 * KIB, reducers=3)
    sample = plan.spec.stages[0]
    assert [split.length for split in sample.splits] == [256 * KIB] * 4
    assert [split.length for split in plan.spec.splits] == [1024 * KIB] * 4


def test_what_cannot_be_cut_is_read_whole(tmp_path: Path) -> None:
    plan = planned(tmp_path, 1024 * KIB, name="in.gz", reducers=3)
    sample = plan.spec.stages[0]
    assert [split.length for split in sample.splits] == [1024 * KIB]


def test_one_partition_needs_no_boundaries(tmp_path: Path) -> None:
    (stage,) = planned(tmp_path, 1024 * KIB, reducers=1).spec.stages
    assert stage.plan is not None
