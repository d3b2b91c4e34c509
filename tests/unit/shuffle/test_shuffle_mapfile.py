"""The map-output file: every region comes back, every damage is found, content alone is in the digest."""

from __future__ import annotations

import itertools
import os
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.errors import CorruptFileError, InternalError
from mrq.shuffle.mapfile import MapFile, MapFileInfo, MapFileWriter, MapHeader

#: A job of the version before, whose folder has map outputs.
KEPT = Path(__file__).parents[2] / "fixtures/before/kept-job.tar.gz"
HEADER = MapHeader(attempt=AttemptRef(TaskRef("wordcount-1", 3, Kind.MAP, 42), 2, 3, "t" * 32), code="c" * 64)


Regions = dict[int, list[tuple[Any, Any]]]


def write(path: Path, regions: Regions, header: MapHeader = HEADER, n: int = 0) -> MapFileInfo:
    writer = MapFileWriter(str(path), header, n)
    for partition, pairs in regions.items():
        writer.begin(partition, sorted=partition % 2 == 0)
        writer.write([k for k, _ in pairs], [v for _, v in pairs])
        assert writer.end() == len(pairs)
    return writer.finish()


REGIONS: Regions = {
    0: [("a", 1), ("b", 2)],
    1: [],
    3: [(i, "x" * i) for i in range(300)],
    4: [((i, "k"), None) for i in range(9000)],
}


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.integers(0, 12), st.lists(st.tuples(st.text(max_size=4), st.integers()), max_size=30), max_size=8
    )
)
def test_every_region_comes_back(tmp_path_factory: pytest.TempPathFactory, regions: dict[int, Any]) -> None:
    path = tmp_path_factory.mktemp("map") / "m"
    regions = dict(sorted(regions.items()))
    info = write(path, regions, n=13)
    with MapFile(str(path)) as file:
        assert file.partitions == 13
        assert file.verify() == info
        assert info.records == sum(map(len, regions.values()))
        for partition in range(13):
            expected = regions.get(partition, [])
            found = [
                p for keys, values in file.entry(partition).blocks() for p in zip(keys, values, strict=True)
            ]
            assert found == expected
            entry = file.entry(partition)
            assert entry.records == len(expected)
            assert (
                b"".join(file.raw(partition)) == path.read_bytes()[entry.offset : entry.offset + entry.length]
            )
        assert file.entries() == [file.entry(partition) for partition in range(13)]
        assert info.bytes == sum(entry.bytes for entry in file.entries())


def test_header_and_flags_come_back(tmp_path: Path) -> None:
    info = write(tmp_path / "m", REGIONS)
    with MapFile(str(tmp_path / "m")) as file:
        assert file.header == HEADER
        assert file.digest == info.digest
        assert [entry.is_sorted for entry in file.entries()] == [True, False, True, False, True]
    assert os.listdir(tmp_path) == ["m"]


def test_the_digest_is_of_content_alone(tmp_path: Path) -> None:
    first = write(tmp_path / "a", REGIONS)
    again = write(
        tmp_path / "b",
        REGIONS,
        replace(HEADER, attempt=HEADER.attempt._replace(token="other", ticket=9, number=9)),
    )
    assert again == first
    changed = dict(REGIONS)
    changed[0] = [("a", 1), ("b", 3)]
    assert write(tmp_path / "c", changed).digest != first.digest
    moved = {1: REGIONS[0], **{p: r for p, r in REGIONS.items() if p > 1}}
    assert write(tmp_path / "d", moved).digest != first.digest


def test_a_read_goes_on_at_an_offset(tmp_path: Path) -> None:
    write(tmp_path / "m", REGIONS)
    with MapFile(str(tmp_path / "m")) as file:
        whole = b"".join(file.raw(4))
        assert len(whole) == file.entry(4).length
        for offset, chunk in itertools.product((0, 1, 4095, len(whole) - 1, len(whole)), (7919, 1 << 20)):
            parts = list(file.raw(4, offset, chunk))
            assert b"".join(parts) == whole[offset:]
            assert all(len(part) <= chunk for part in parts)


def test_nothing_is_there_before_it_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "m"
    writer = MapFileWriter(str(path), HEADER)
    writer.begin(0)
    writer.write([1], [2])
    writer.end()
    assert not path.exists()
    writer.abort()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        MapFile(str(path))


def test_partitions_out_of_turn_are_our_own_bug(tmp_path: Path) -> None:
    writer = MapFileWriter(str(tmp_path / "m"), HEADER)
    with pytest.raises(InternalError, match="outside a partition"):
        writer.write([1], [1])
    with pytest.raises(InternalError, match="no partition to end"):
        writer.end()
    writer.begin(2)
    with pytest.raises(InternalError, match="partition 3 begun while 2 is open"):
        writer.begin(3)
    with pytest.raises(InternalError, match="finished inside partition 2"):
        writer.finish()
    writer.end()
    with pytest.raises(InternalError, match="partition 2 begun"):
        writer.begin(2)
    writer.finish()
    with MapFile(str(tmp_path / "m")) as file, pytest.raises(InternalError, match="no partition 3 of 3"):
        file.entry(3)


def test_any_flipped_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write(path, {0: [("a", 1), ("b", 2)], 2: [(i, "x") for i in range(10)]})
    sound = path.read_bytes()
    for at in range(len(sound)):
        damaged = bytearray(sound)
        damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=str(path)), MapFile(str(path)) as file:
            file.verify()


@settings(max_examples=100)
@given(st.data())
def test_a_damaged_region_is_found_by_who_reads_it(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    path = tmp_path_factory.mktemp("map") / "m"
    write(path, REGIONS)
    with MapFile(str(path)) as file:
        entry = file.entry(4)
        at = data.draw(st.integers(0, entry.length - 1))
        damage = data.draw(st.integers(1, 255))
        sound = bytearray(path.read_bytes())
        sound[entry.offset + at] ^= damage
        path.write_bytes(sound)
        with pytest.raises(CorruptFileError, match=rf"{path}.*offset \d+"):
            list(entry.blocks())
        assert sum(len(keys) for keys, _ in file.entry(3).blocks()) == 300


def test_a_cut_off_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write(path, REGIONS)
    sound = path.read_bytes()
    for length in (0, 10, 48, len(sound) // 2, len(sound) - 1):
        path.write_bytes(sound[:length])
        with pytest.raises(CorruptFileError, match=str(path)):
            MapFile(str(path))


def test_regions_are_read_after_the_file_is_closed_and_hold_no_descriptor(tmp_path: Path) -> None:
    write(tmp_path / "m", REGIONS)
    with MapFile(str(tmp_path / "m")) as file:
        entry = file.entry(4)
    before = len(os.listdir("/proc/self/fd"))
    readers = [entry.blocks() for _ in range(100)]
    assert [len(next(reader)[0]) for reader in readers] == [len(next(entry.blocks())[0])] * 100
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_whose_header_had_no_stage_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write(path, {0: [("a", 1)]})
    data = bytearray(path.read_bytes())
    footer = len(data) - 48
    data[footer + 8 : footer + 12] = (2).to_bytes(4, "little")
    data[-4:] = zlib.crc32(data[footer:-4]).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match="of version 2; this mrq reads version 3"):
        MapFile(str(path))


def test_a_file_of_version_1_is_refused_by_name(tmp_path: Path) -> None:
    """Its header has as many fields as the one after it, and one means something else."""
    with tarfile.open(KEPT) as archive:
        names = [name for name in archive.getnames() if "/maps/m-" in name]
        assert len(names) == 2
        for name in names:
            packed = archive.extractfile(name)
            assert packed is not None
            path = tmp_path / Path(name).name
            path.write_bytes(packed.read())
            with pytest.raises(CorruptFileError, match="of version 1; this mrq reads version 3") as refused:
                MapFile(str(path))
            assert str(path) in str(refused.value)
            assert "run again" in str(refused.value)
