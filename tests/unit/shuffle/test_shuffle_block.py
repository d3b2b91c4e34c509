"""Blocks, frames and runs: what is written comes back, what is damaged is named."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrq.errors import CorruptFileError, DataError, DiskFullError
from mrq.shuffle import block
from mrq.shuffle.budget import cost
from mrq.shuffle.runs import Run, RunWriter

pairs_lists = st.lists(
    st.tuples(st.one_of(st.text(max_size=5), st.integers()), st.text(max_size=30)), max_size=60
)


def pairs_of(run: Run) -> list[tuple[Any, Any]]:
    return [pair for keys, values in run.blocks() for pair in zip(keys, values, strict=True)]


def write_run(path: Path, *writes: Sequence[tuple[Any, Any]]) -> Run:
    writer = RunWriter(str(path))
    try:
        for pairs in writes:
            writer.write([k for k, _ in pairs], [v for _, v in pairs])
        return writer.close()
    except BaseException:
        writer.abort()
        raise


@settings(max_examples=100)
@given(
    st.one_of(
        st.lists(st.text(max_size=30), max_size=60),
        st.lists(st.one_of(st.text(max_size=3), st.integers(), st.tuples(st.integers())), max_size=60),
    ),
    st.integers(200, 2_000),
)
def test_frames_without_values_are_those_with_ones(keys: list[Any], price: int) -> None:
    with patch.object(block, "BLOCK_COST", price):
        bare, full = list(block.frames(keys, None)), list(block.frames(keys, [1] * len(keys)))
    assert bare == full
    blocks = [block.decode(frame.payload) for frame in bare]
    assert [key for some, _ in blocks for key in some] == keys
    for frame, (some_keys, ones) in zip(bare, blocks, strict=True):
        assert frame.records == len(some_keys) == ones.count(1) == len(ones)
        assert frame.cost == cost(some_keys, ones)
        assert frame.cost <= price or frame.records == 1


@settings(max_examples=100)
@given(pairs_lists)
def test_a_block_comes_back(pairs: list[tuple[Any, Any]]) -> None:
    keys, values = [k for k, _ in pairs], [v for _, v in pairs]
    frames = list(block.frames(keys, values))
    assert [block.decode(frame.payload) for frame in frames] == ([(keys, values)] if pairs else [])


@settings(max_examples=60)
@given(st.lists(pairs_lists, max_size=5), st.integers(1, 20), st.integers(1, 3000))
def test_a_run_comes_back_in_blocks_of_bounded_cost(
    tmp_path_factory: pytest.TempPathFactory, writes: list[Any], records: int, price: int
) -> None:
    path = tmp_path_factory.mktemp("run") / "r"
    with patch.object(block, "BLOCK_RECORDS", records), patch.object(block, "BLOCK_COST", price):
        run = write_run(path, *writes)
        blocks = list(run.blocks())
    expected = [pair for pairs in writes for pair in pairs]
    assert pairs_of(run) == expected
    assert run.records == len(expected)
    assert run.bytes == path.stat().st_size
    costs = [cost(keys, values) for keys, values in blocks]
    assert run.cost == sum(costs)
    assert run.block_cost == max(costs, default=0)
    for (keys, _), one in zip(blocks, costs, strict=True):
        assert len(keys) <= records
        assert one <= price or len(keys) == 1


def test_small_writes_are_gathered_into_full_blocks(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", *([(i, i)] for i in range(10_000)))
    assert [len(keys) for keys, _ in run.blocks()] == [4096, 4096, 1808]


def test_the_same_pairs_make_the_same_bytes(tmp_path: Path) -> None:
    pairs = [(f"k{i}", i) for i in range(5000)]
    write_run(tmp_path / "a", pairs)
    write_run(tmp_path / "b", pairs)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_any_flipped_byte_is_found_and_named(tmp_path: Path) -> None:
    path = tmp_path / "r"
    run = write_run(path, [(f"k{i}", (i, "x")) for i in range(20)])
    sound = path.read_bytes()
    for at in range(len(sound)):
        damaged = bytearray(sound)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=rf"{path}.*offset 0"):
            list(run.blocks())


def test_a_cut_off_run_is_found_and_named(tmp_path: Path) -> None:
    path = tmp_path / "r"
    run = write_run(path, [(i, i) for i in range(5000)])
    sound = path.read_bytes()
    for length in (0, 5, 16, 100, len(sound) - 1):
        path.write_bytes(sound[:length])
        with pytest.raises(CorruptFileError, match=rf"{path}: ends at offset {length}"):
            list(run.blocks())


def test_a_run_that_says_other_records_is_found(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", [(1, 2)])
    wrong = Run(path=run.path, records=2, bytes=run.bytes, cost=run.cost, block_cost=run.block_cost)
    with pytest.raises(CorruptFileError, match="records too many"):
        list(wrong.blocks())


def test_an_aborted_run_is_gone_and_an_existing_one_is_kept(tmp_path: Path) -> None:
    writer = RunWriter(str(tmp_path / "r"))
    writer.write([1], [2])
    writer.abort()
    assert list(tmp_path.iterdir()) == []
    write_run(tmp_path / "r", [(1, 2)])
    with pytest.raises(FileExistsError):
        RunWriter(str(tmp_path / "r"))


def test_what_cannot_be_carried_is_refused_on_writing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a key of type set"):
        write_run(tmp_path / "k", [({1}, 1)])
    with pytest.raises(DataError, match="a value of type set"):
        write_run(tmp_path / "v", [(1, {1})])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named() -> None:
    """/dev/full says ENOSPC to every write."""
    with open("/dev/full", "wb", buffering=0) as full:
        frames = block.FrameWriter(full, "/dev/full")
        frames.write(["k"], ["v"])
        with pytest.raises(DiskFullError, match=r"no space left in /dev.*needed \d+ more bytes.*MRQ_TMP"):
            frames.flush()


def test_other_errors_of_the_disk_stay_what_they_are() -> None:
    broken = OSError(errno.EIO, "input/output error")
    assert block.disk_error(broken, "/tmp/x", 1) is broken
    assert isinstance(block.disk_error(OSError(errno.EDQUOT, "quota"), "/tmp/x", 1), DiskFullError)


def test_large_values_go_one_a_block(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", [(i, "x" * (3 << 20)) for i in range(3)])
    assert [len(keys) for keys, _ in run.blocks()] == [1, 1, 1]
    assert 3 << 20 < run.block_cost < (3 << 20) + 1000
