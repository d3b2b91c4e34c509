"""Every PeerClient: regions by ids, resumable, never the wrong output."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
from contract_kit import PEERS

from mrq.core.model import MapLocation
from mrq.core.paths import map_output_path
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.errors import CorruptFileError
from mrq.ports import PeerClient
from mrq.shuffle.mapfile import MapFileWriter, MapHeader


def attempt(index: int) -> AttemptRef:
    return AttemptRef(TaskRef("j", 0, Kind.MAP, index), 2, 3, "b1-7")


ATTEMPT = attempt(5)


@pytest.fixture(params=PEERS, ids=lambda factory: factory.__name__)
def factory(request: pytest.FixtureRequest) -> Callable[[str], PeerClient]:
    made: Callable[[str], PeerClient] = request.param
    return made


@pytest.fixture
def output(tmp_path: Path) -> MapLocation:
    """Map 5's output: partition 0 small, 1 empty, 2 of several MiB."""
    return make(tmp_path, 5)


def make(root: Path, index: int) -> MapLocation:
    path = map_output_path(str(root), attempt(index))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    header = MapHeader(attempt=attempt(index), code="c")
    writer = MapFileWriter(path, header, partitions=3)
    for partition, n in ((0, 10), (2, 3000)):
        writer.begin(partition)
        writer.write([f"k{i:06d}" for i in range(n)], [os.urandom(1024).hex() for _ in range(n)])
        writer.end()
    info = writer.finish()
    return MapLocation(attempt=attempt(index), worker="w", boot="b1", digest=info.digest, bytes=info.bytes)


def test_sizes_say_what_is_there(
    factory: Callable[[str], PeerClient], tmp_path: Path, output: MapLocation
) -> None:
    peers = factory(str(tmp_path))
    (small,) = peers.sizes("j", 0, [output])
    (none,) = peers.sizes("j", 1, [output])
    assert small is not None
    assert none is not None
    assert small.records == 10
    assert (none.length, none.records) == (0, 0)
    assert small.is_sorted
    assert small.cost >= small.block_cost > 0
    peers.close()


def test_a_region_comes_whole_in_chunks_and_from_any_offset(
    factory: Callable[[str], PeerClient], tmp_path: Path, output: MapLocation
) -> None:
    peers = factory(str(tmp_path))
    (info,) = peers.sizes("j", 2, [output])
    assert info is not None
    chunks = list(peers.fetch("j", 2, [output]))
    whole = b"".join(chunks)
    assert len(chunks) > 1
    assert max(map(len, chunks)) <= 1 << 20
    assert (len(whole), crc32(whole)) == (info.length, info.crc32)
    for offset in (1, 1 << 20, info.length - 1, info.length):
        assert b"".join(peers.fetch("j", 2, [output], offset)) == whole[offset:]
    peers.close()


@pytest.mark.parametrize(
    "change",
    [
        {"digest": 1},
        {"attempt": attempt(6)},
        {"attempt": ATTEMPT._replace(token="b1-8")},
        {"attempt": ATTEMPT._replace(number=4)},
        {"attempt": ATTEMPT._replace(ticket=1)},
    ],
    ids=lambda c: next(iter(c)),
)
def test_another_attempts_output_is_not_this_one(
    factory: Callable[[str], PeerClient], tmp_path: Path, output: MapLocation, change: dict[str, object]
) -> None:
    peers = factory(str(tmp_path))
    wrong = replace(output, **change)  # type: ignore[arg-type]
    assert peers.sizes("j", 0, [wrong, output])[0] is None
    assert peers.sizes("j", 0, [wrong, output])[1] is not None
    with pytest.raises(CorruptFileError):
        list(peers.fetch("j", 0, [wrong]))
    assert peers.sizes("k", 0, [output]) == [None]
    peers.close()


def test_a_damaged_output_is_not_found(
    factory: Callable[[str], PeerClient], tmp_path: Path, output: MapLocation
) -> None:
    path = Path(map_output_path(str(tmp_path), ATTEMPT))
    path.write_bytes(path.read_bytes()[:-1])
    peers = factory(str(tmp_path))
    assert peers.sizes("j", 0, [output]) == [None]
    with pytest.raises(CorruptFileError):
        list(peers.fetch("j", 0, [output]))
    peers.close()


@pytest.mark.parametrize("partition", [0, 2])
def test_regions_of_several_outputs_come_one_after_another(
    factory: Callable[[str], PeerClient], tmp_path: Path, output: MapLocation, partition: int
) -> None:
    outputs = [make(tmp_path, 3), output, make(tmp_path, 9)]
    peers = factory(str(tmp_path))
    each = [b"".join(peers.fetch("j", partition, [one])) for one in outputs]
    whole = b"".join(each)
    first = len(each[0])
    for offset in (0, first - 1, first, first + 1, len(whole)):
        assert b"".join(peers.fetch("j", partition, outputs, offset)) == whole[offset:]
    sizes = peers.sizes("j", partition, outputs)
    assert [info and info.length for info in sizes] == [len(data) for data in each]
    peers.close()


def test_what_comes_before_an_output_that_is_gone_is_good(
    factory: Callable[[str], PeerClient], tmp_path: Path, output: MapLocation
) -> None:
    peers = factory(str(tmp_path))
    whole = b"".join(peers.fetch("j", 0, [output]))
    got: list[bytes] = []
    with pytest.raises(CorruptFileError):
        got.extend(peers.fetch("j", 0, [output, replace(output, attempt=attempt(6))]))
    assert b"".join(got) == whole
    peers.close()


def test_a_peer_says_who_it_is(factory: Callable[[str], PeerClient], tmp_path: Path) -> None:
    (tmp_path / "sentinel").write_text("s")
    peers = factory(str(tmp_path))
    found = peers.dial("w", "b1")
    assert (found.worker, found.boot, found.root, found.sentinel) == ("w", "b1", str(tmp_path), "s")
    peers.close()
