"""The checksum of a piece is of exactly its bytes, whatever a format reads around them, or leaves unread."""

from __future__ import annotations

import gzip
import itertools
import os
import zlib
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrq.core.checked import Checked
from mrq.core.model import Piece, Split, TaskResult
from mrq.io import blocks, lines
from mrq.io.formats import input_format
from mrq.io.inputs import changed
from mrq.io.output import output_format
from mrq.io.streams import ByteSource, Reading


def cut(opened: str, data: bytes, cuts: list[int]) -> list[Split]:
    edges = [0, *sorted({c % (len(data) + 1) for c in cuts} - {0, len(data)}), len(data)]
    return [
        Split(
            index=index,
            pieces=(
                Piece(
                    path="f", open=opened, start=a, length=b - a, size=len(data), mtime_ns=0,
                    crc32=zlib.crc32(data),
                ),
            ),
        )
        for index, (a, b) in enumerate(itertools.pairwise(edges))
    ]  # fmt: skip


def check(splits: list[Split], form: str, taken: int | None) -> None:
    """Read each split, or the first blocks of it, and join what was summed up."""
    results = []
    for split in splits:
        reading = Reading(lines=input_format(form).lines)
        for block in itertools.islice(input_format(form).read(split, reading=reading), taken):
            assert block.piece == 0
        crcs = reading.crcs(split.pieces)
        results.append(TaskResult(records_in=0, bytes_in=0, records_out=0, bytes_out=0, crcs=crcs))
    checked = Checked.of(splits)
    assert checked is not None
    assert checked.wrong(results.__getitem__) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sums")


@settings(max_examples=150, deadline=None)
@given(
    content=st.lists(st.sampled_from([b"\n", b"1", b"22\n", b"3" * 40, b"\r\n"]), max_size=40).map(b"".join),
    cuts=st.lists(st.integers(0, 1000), max_size=6),
    taken=st.sampled_from([None, 0, 1, 2]),
    block=st.sampled_from([1, 7, 64, 1 << 20]),
)
def test_of_lines(folder: Path, content: bytes, cuts: list[int], taken: int | None, block: int) -> None:
    (folder / "f").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", max(block, 16))
        check(cut(str(folder / "f"), content, cuts), "text", taken)


@settings(max_examples=40, deadline=None)
@given(
    records=st.integers(0, 9000),
    cuts=st.lists(st.integers(0, 200_000), max_size=6),
    taken=st.sampled_from([None, 0, 1]),
)
def test_of_records(folder: Path, records: int, cuts: list[int], taken: int | None) -> None:
    path = folder / "r.records"
    path.unlink(missing_ok=True)
    writer = output_format("records").open(str(path))
    writer.write(list(range(records)), ["x" * (n % 50) for n in range(records)])
    writer.close()
    check(cut(str(path), path.read_bytes(), cuts), "records", taken)


@pytest.mark.parametrize("taken", [None, 0, 1])
@pytest.mark.parametrize("form", ["text", "whole"])
def test_of_compressed_files_and_by_url(tmp_path: Path, form: str, taken: int | None) -> None:
    packed = gzip.compress(b"line\n" * 300_000) + gzip.compress(b"more\n")
    for name in ("f.gz", "f"):
        (tmp_path / name).write_bytes(packed)
        check(cut(str(tmp_path / name), packed, []), form, taken)
        check(cut(f"file://{tmp_path}/{name}", packed, []), form, taken)
    plain = b"line\n" * (blocks.BLOCK_BYTES // 2)
    with fsspec.open(f"memory://{tmp_path.name}/f", "wb") as file:
        file.write(plain)
    check(
        cut(f"memory://{tmp_path.name}/f", plain, [1_000_000, 2_000_001] if form == "text" else []),
        form,
        taken,
    )


def test_a_part_that_was_copied_again_is_read_on(tmp_path: Path) -> None:
    """`mrq retry` after a damaged part was replaced by a good copy, which has another time."""
    path = tmp_path / "part-00000"
    data = b"a part\n" * 9
    path.write_bytes(data)
    size, mtime_ns = len(data), path.stat().st_mtime_ns
    then = Piece(path="part-00000", open=str(path), start=0, length=size, size=size, mtime_ns=mtime_ns)
    checked = replace(then, crc32=zlib.crc32(data))
    os.utime(path, ns=(1, 1))
    assert changed([then]) == ["part-00000 (same size, other time)"]
    assert changed([checked]) == []
    reading = Reading()
    with ByteSource(checked, reading) as source:
        assert source.read(size) == data
    assert reading.crcs([checked]) == (zlib.crc32(data),)
    path.write_bytes(data + b"more")
    assert changed([checked]) != []
