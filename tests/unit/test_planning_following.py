"""What a stage reads of the one before: a function of the parts' names and sizes alone."""

from __future__ import annotations

import pytest

from mrq.core.model import FOLLOWS, JobSpec, Purpose, StageSpec
from mrq.core.splits import InputFile
from mrq.io.plan import following

MIB = 1 << 20
FIRST = StageSpec(splits=(), reducers=1, number=1)


def part(index: int, size: int) -> InputFile:
    name = f"part-{index:05d}.records"
    return InputFile(
        path=f"stage 1/{name}",
        open=f"/staging/stages/1/{name}",
        size=size,
        mtime_ns=0,
        splittable=True,
        crc32=index,
    )


def spec(*stages: StageSpec) -> JobSpec:
    return JobSpec(
        job="j", name="J", code="c", entry="m:J", parameters={}, inputs=(), stages=(FIRST, *stages)
    )


def later(**more: object) -> StageSpec:
    made: dict[str, object] = {"splits": (), "reducers": FOLLOWS, "number": 2, "plan": None, "place": 1}
    return StageSpec(**{**made, **more})  # type: ignore[arg-type]


def test_parts_are_cut_and_packed_as_inputs_are() -> None:
    plan = following(spec(later()), 1, [part(0, 20 * MIB), part(1, 100), part(2, 200)])
    assert plan.splits is not None
    assert [split.length for split in plan.splits] == [20 * MIB // 8] * 8 + [300]
    assert [piece.crc32 for piece in plan.splits[-1].pieces] == [1, 2], "each is checked"
    assert plan.reducers == 6, "one for each 4 MiB"
    assert plan.boundaries is plan.then is None


@pytest.mark.parametrize("reducers", [0, 3])
def test_reducers_that_were_given_stay(reducers: int) -> None:
    assert following(spec(later(reducers=reducers)), 1, [part(0, 20 * MIB)]).reducers == reducers


def test_a_split_size_that_was_given_is_the_stages() -> None:
    plan = following(spec(later(split_bytes=MIB)), 1, [part(0, 3 * MIB)])
    assert plan.splits is not None
    assert len(plan.splits) == 3


def test_a_sampling_reads_beginnings_and_knows_what_it_is_for() -> None:
    work = later(reducers=4)
    sample = later(reducers=0, purpose=Purpose.SAMPLE, number=3)
    plan = following(spec(sample, work), 1, [part(0, 20 * MIB)])
    assert plan.then == following(spec(work), 1, [part(0, 20 * MIB)])
    assert plan.splits is not None
    assert [split.length for split in plan.splits] == [256 << 10] * 8


def test_there_is_nothing_to_sample_for_one_reduce() -> None:
    sample = later(reducers=0, purpose=Purpose.SAMPLE, number=3)
    plan = following(spec(sample, later()), 1, [part(0, 100)])
    assert plan.splits == ()
    assert plan.then is not None
    assert plan.then.reducers == 1


def test_without_a_part_there_is_nothing_to_read() -> None:
    plan = following(spec(later()), 1, [])
    assert (plan.splits, plan.reducers) == ((), 1)
