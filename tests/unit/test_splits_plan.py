"""How the input is cut: every byte once, by the input alone."""

from __future__ import annotations

import time

import pytest
from covers import check_cover
from hypothesis import given
from hypothesis import strategies as st

from mrq.core.model import Split
from mrq.core.splits import (
    MIB,
    SETUP_BYTES_MIN,
    SPLIT_BYTES_MAX,
    SPLIT_BYTES_MIN,
    InputFile,
    default_reducers,
    default_split_bytes,
    plan,
)
from mrq.errors import InternalError, UsageError

KIB = 1 << 10


def file(size: int, name: str = "f", splittable: bool = True) -> InputFile:
    return InputFile(path=name, open=f"/{name}", size=size, mtime_ns=7, splittable=splittable)


FILES = st.lists(
    st.tuples(st.one_of(st.integers(0, 50), st.integers(0, 300_000)), st.booleans()), max_size=30
).map(lambda rows: [file(size, f"f{i}", cut) for i, (size, cut) in enumerate(rows)])


@given(files=FILES, split_bytes=st.integers(1000, 100_000) | st.none())
def test_every_byte_once_and_in_order(files: list[InputFile], split_bytes: int | None) -> None:
    splits = plan(files, split_bytes)
    check_cover(files, splits)
    assert splits == plan(files, split_bytes)
    limit = (
        default_split_bytes(sum(f.size for f in files), len(files)) if split_bytes is None else split_bytes
    )
    whole = {f.open for f in files if not f.splittable}
    for split in splits:
        assert split.length <= limit or (len(split.pieces) == 1 and split.pieces[0].open in whole)
        for piece in split.pieces:
            assert piece.open not in whole or (piece.start, piece.length) == (0, piece.size)


@given(files=FILES.filter(lambda fs: any(f.size > 1 for f in fs)), data=st.data())
def test_a_wrong_plan_is_found(files: list[InputFile], data: st.DataObject) -> None:
    splits = list(plan(files, 20_000))
    i = data.draw(st.integers(0, len(splits) - 1))
    victim = splits[i]
    broken = [
        splits[:i] + splits[i + 1 :],  # a split is missing
        [*splits, victim],  # one too many
        [*splits[:i], Split(index=i, pieces=victim.pieces[:-1]), *splits[i + 1 :]],
        [*splits[:i], Split(index=i, pieces=(*victim.pieces, victim.pieces[-1])), *splits[i + 1 :]],
        [*splits[:i], Split(index=i + 1, pieces=victim.pieces), *splits[i + 1 :]],
    ]
    for plan_ in broken:
        with pytest.raises(InternalError):
            check_cover(files, plan_)


def test_nothing_gives_no_splits_and_empty_files_are_kept() -> None:
    assert plan([]) == ()
    (split,) = plan([file(0, "a"), file(0, "b")])
    assert [(p.path, p.length) for p in split.pieces] == [("a", 0), ("b", 0)]


def test_a_large_file_is_cut_evenly() -> None:
    splits = plan([file(10 * MIB + 5)], 4 * MIB)
    assert len(splits) == 3
    lengths = [s.length for s in splits]
    assert max(lengths) - min(lengths) <= 1


def test_small_files_are_packed_but_not_all_into_one() -> None:
    splits = plan([file(1000, f"f{i}") for i in range(8000)])
    assert 8 <= len(splits) <= 200
    assert all(len(s.pieces) > 10 for s in splits)


def test_what_cannot_be_cut_stays_whole() -> None:
    splits = plan([file(100 * MIB, "a.gz", False), file(5, "b"), file(100 * MIB, "c.gz", False)], 8 * MIB)
    assert [[p.path for p in s.pieces] for s in splits] == [["a.gz"], ["b"], ["c.gz"]]


def test_defaults_depend_on_the_size_only_and_grow_with_it() -> None:
    sizes = [40 * MIB, 255 * MIB, 512 * MIB, 5 << 30, 1 << 40]
    assert [default_split_bytes(s) // MIB for s in sizes] == [4, 4, 8, 64, 64], "large ones as ever"
    sizes += [0, 1, MIB, 30 * MIB]
    assert [default_reducers(s) for s in (0, 1, MIB, 30 * MIB, 512 * MIB, 5 << 30, 1 << 40)] == [
        1, 1, 1, 8, 64, 160, 1000,
    ]  # fmt: skip
    assert all(SPLIT_BYTES_MIN <= default_split_bytes(s) <= SPLIT_BYTES_MAX for s in sizes)
    reducers = [default_reducers(s * MIB) for s in range(0, 6000, 7)]
    assert reducers == sorted(reducers)


@pytest.mark.parametrize(
    ("size", "count", "with_setup"),
    [
        (0, 1, 1),
        (48 * KIB, 1, 1),
        (64 * KIB, 1, 1),
        (65 * KIB, 2, 1),
        (400 * KIB, 7, 1),
        (MIB, 8, 1),
        (3 * MIB, 8, 3),
        (4 * MIB, 8, 4),
        (20 * MIB, 8, 8),
        (31 * MIB, 8, 8),
        (32 * MIB, 8, 8),
        (33 * MIB, 9, 9),
        (100 * MIB, 25, 25),
    ],
)
def test_a_small_file_is_more_than_one_cores_work(size: int, count: int, with_setup: int) -> None:
    assert len(plan([file(size)])) == count
    assert len(plan([file(size)], least=SETUP_BYTES_MIN)) == with_setup
    assert len(plan([file(size)], 4 * MIB)) == max(1, -(-size // (4 * MIB))), "--split-size stays what it is"


def test_sixty_small_files_are_a_map_for_each_core() -> None:
    files = [file(1000, f"f{i}") for i in range(60)]
    assert len(plan(files)) == 9
    assert len(plan(files, least=SETUP_BYTES_MIN)) == 1
    assert len(plan(files[:2])) == 1, "not for what takes no time"


@given(
    st.lists(st.tuples(st.integers(0, 3 * MIB), st.booleans()), max_size=40),
    st.sampled_from([SPLIT_BYTES_MIN, SETUP_BYTES_MIN]),
)
def test_the_size_is_an_eighth_of_the_cost_within_its_bounds(
    made: list[tuple[int, bool]], least: int
) -> None:
    files = [file(size, f"f{i}", splittable) for i, (size, splittable) in enumerate(made)]
    total = sum(f.size for f in files)
    cost = total + len(files) * 16 * KIB
    today = min(max(-(-total // (64 * MIB)) * MIB, 4 * MIB), 64 * MIB)
    size = default_split_bytes(total, len(files), least)
    assert size == min(today, max(least, (cost + 7) // 8))
    assert plan(files, least=least) == plan(files, size)


def test_sizes_without_sense_are_refused() -> None:
    for size in (0, -5):
        with pytest.raises(UsageError, match="at least 1"):
            plan([file(10)], size)
    with pytest.raises(UsageError, match=r"f: splits of 1 bytes would make 1073741824 map tasks"):
        plan([file(1 << 30)], 1)


def test_hundreds_of_thousands_of_files_take_a_moment() -> None:
    files = [file(i % 5000, f"f{i}") for i in range(200_000)]
    began = time.process_time()
    splits = plan(files)
    check_cover(files, splits)
    assert time.process_time() - began < 10  # a quadratic plan would take hours
