"""Blocks, frames and runs: what is written comes back, what is damaged is named."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrq.errors import CorruptFileError, DataError, DiskFullError
from mrq.shuffle import block
from mrq.shuffle.budget import cost
from mrq.shuffle.mapfile import Region, write_run

pairs_lists = st.lists(
    st.tuples(st.one_of(st.text(max_size=5), st.integers()), st.text(max_size=30)), max_size=60
)


def pairs_of(run: Region) -> list[tuple[Any, Any]]:
    return [pair for keys, values in run.blocks() for pair in zip(keys, values, strict=True)]


def written(path: Path, *writes: Sequence[tuple[Any, Any]]) -> Region:
    return write_run(str(path), [([k for k, _ in pairs], [v for _, v in pairs]) for pairs in writes])


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
        run = written(path, *writes)
        blocks = list(run.blocks())
    expected = [pair for pairs in writes for pair in pairs]
    assert pairs_of(run) == expected
    assert run.records == len(expected)
    assert run.offset == 0
    assert run.bytes < path.stat().st_size  # the index follows
    costs = [cost(keys, values) for keys, values in blocks]
    assert run.cost == sum(costs)
    assert run.block_cost == max(costs, default=0)
    for (keys, _), one in zip(blocks, costs, strict=True):
        assert len(keys) <= records
        assert one <= price or len(keys) == 1


def test_small_writes_are_gathered_into_full_blocks(tmp_path: Path) -> None:
    run = written(tmp_path / "r", *([(i, i)] for i in range(10_000)))
    assert [len(keys) for keys, _ in run.blocks()] == [4096, 4096, 1808]


def test_the_same_pairs_make_the_same_bytes(tmp_path: Path) -> None:
    pairs = [(f"k{i}", i) for i in range(5000)]
    written(tmp_path / "a", pairs)
    written(tmp_path / "b", pairs)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_any_flipped_byte_is_found_and_named(tmp_path: Path) -> None:
    path = tmp_path / "r"
    run = written(path, [(f"k{i}", (i, "x")) for i in range(20)])
    sound = path.read_bytes()
    for at in range(run.bytes):
        damaged = bytearray(sound)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=rf"{path}.*offset 0"):
            list(run.blocks())


def test_a_cut_off_run_is_found_and_named(tmp_path: Path) -> None:
    path = tmp_path / "r"
    run = written(path, [(i, i) for i in range(5000)])
    sound = path.read_bytes()
    for length in (0, 5, 16, 100, run.bytes - 1):
        path.write_bytes(sound[:length])
        with pytest.raises(CorruptFileError, match=rf"{path}: ends at offset {length}"):
            list(run.blocks())


def test_a_run_that_says_other_records_is_found(tmp_path: Path) -> None:
    run = written(tmp_path / "r", [(1, 2)])
    wrong = replace(run, records=2)
    with pytest.raises(CorruptFileError, match="records too many"):
        list(wrong.blocks())


def test_a_run_that_is_given_up_is_gone(tmp_path: Path) -> None:
    def blocks() -> Iterator[Any]:
        yield [1], [2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_run(str(tmp_path / "r"), blocks())
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_carried_is_refused_on_writing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a key of type set"):
        written(tmp_path / "k", [({1}, 1)])
    with pytest.raises(DataError, match="a value of type set"):
        written(tmp_path / "v", [(1, {1})])
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
    run = written(tmp_path / "r", [(i, "x" * (3 << 20)) for i in range(3)])
    assert [len(keys) for keys, _ in run.blocks()] == [1, 1, 1]
    assert 3 << 20 < run.block_cost < (3 << 20) + 1000
