"""A reduce over regions that were fetched: the same result as where the maps' own files are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tasks_rig import Rig, done, lines

import mrq
from mrq.core.digest import consumed
from mrq.core.model import Status
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.shuffle.fetched import FetchedWriter
from mrq.shuffle.mapfile import MapFile, MapHeader, Region, empty_digest
from mrq.worker.attempt_order import MapSource


class Count(mrq.Job):
    def map(self, key: int, line: str) -> Any:
        for word in line.split():
            yield word, 1

    reduce = mrq.sum


class Together(mrq.Job):
    """Shows the order of values."""

    def map(self, key: int, line: str) -> Any:
        for at, word in enumerate(line.split()):
            yield word, [line, at]

    def reduce(self, key: str, values: Any) -> Any:
        yield list(values)


SPLITS = (lines(["a b c a", "b"]), lines([]), lines(["c d", "a a e"]), lines(["z"]))


def own(rig: Rig) -> list[MapSource]:
    found = []
    for index, data in enumerate(SPLITS):
        order = rig.map_order(index, data)
        result = done(rig.run(order))
        path = order.output_path if result.bytes_out else ""  # there is no file of nothing
        found.append(MapSource(map_index=index, digest=result.digest, path=path))
    return found


def fetched(
    tmp_path: Path, sources: list[MapSource], partition: int, skip: frozenset[int]
) -> list[MapSource]:
    """Regions of all maps but those in `skip`, landed in an odd order."""
    path = str(tmp_path / f"fetched-{partition}")
    writer = FetchedWriter(path)
    placed: list[tuple[Region, int] | None] = [None] * len(sources)
    result = list(sources)
    for index in (2, 0, 3, 1):
        source = sources[index]
        if index in skip or not source.path:
            continue
        with MapFile(source.path) as file:
            region = file.entry(partition)
            at = writer.reserve(region.length)
            writer.write(at, b"".join(file.raw(partition)))
        placed[index] = replace(region, path=path, offset=at), source.digest
        result[index] = replace(source, path=path, partition=index, ticket=7)
    header = MapHeader(attempt=AttemptRef(TaskRef("rig", 0, Kind.MAP, partition), 0, 0, "t"), code="")
    writer.finish(header, placed)
    writer.close()
    return result


@pytest.mark.parametrize("job", [Count, Together])
@pytest.mark.parametrize("skip", [frozenset(), frozenset((0, 3))], ids=["all", "some"])
def test_the_same_parts_and_the_same_conservation(
    tmp_path: Path, job: type[mrq.Job], skip: frozenset[int]
) -> None:
    rig = Rig(job(), tmp_path, reducers=2)
    sources = own(rig)
    for partition in range(2):
        wanted = done(rig.run(rig.order(Kind.REDUCE, partition, sources=tuple(sources))))
        some = fetched(tmp_path, sources, partition, skip)
        result = done(rig.run(rig.order(Kind.REDUCE, partition, sources=tuple(some))))
        assert [file.crc32 for file in result.files] == [file.crc32 for file in wanted.files]
        assert rig.part(result) == rig.part(wanted)
        assert (result.digest, result.records_in, result.bytes_in) == (
            wanted.digest,
            wanted.records_in,
            wanted.bytes_in,
        )


def test_what_is_wrong_with_it_is_the_maps_to_make_good(tmp_path: Path) -> None:
    """By the ticket that it was fetched from, so that the map is run again, within its bound."""
    rig = Rig(Count(), tmp_path)
    sources = fetched(tmp_path, own(rig), 0, frozenset())

    def reasons(changed: list[MapSource]) -> list[tuple[int, int, str]]:
        outcome = rig.run(rig.order(Kind.REDUCE, 0, sources=tuple(changed)))
        assert outcome.status is Status.FETCH_FAILED
        return [(f.map_index, f.ticket, f.reason) for f in outcome.fetch_failures]

    assert not sources[1].path  # of nothing there is no file
    other = replace(sources[3], digest=sources[3].digest ^ 1)
    assert reasons([*sources[:3], other]) == [(3, 7, "corrupt")]
    path = Path(sources[0].path)
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])  # map 2's region came first
    assert reasons(sources) == [(2, 7, "corrupt")]
    path.write_bytes(whole[:-1])
    assert reasons(sources) == [(index, 7, "corrupt") for index in (0, 2, 3)]
    path.unlink()  # not the maps' fault: what was fetched is this worker's to fetch again
    outcome = rig.run(rig.order(Kind.REDUCE, 0, sources=tuple(sources)))
    assert (outcome.status, outcome.disk, outcome.started) == (Status.LOST, True, False)


def test_a_map_that_yields_nothing_leaves_no_file_and_is_read_without_one(tmp_path: Path) -> None:
    rig = Rig(Count(), tmp_path, reducers=2)
    order = rig.map_order(0, lines([]))
    result = done(rig.run(order))
    assert (result.bytes_out, result.records_out, result.digest) == (0, 0, empty_digest(2))
    assert not Path(order.output_path).exists()
    source = MapSource(map_index=0, digest=result.digest, path="")
    reduced = done(rig.run(rig.order(Kind.REDUCE, 0, sources=(source,))))
    assert (reduced.records_in, reduced.records_out, reduced.digest) == (0, 0, consumed(0, result.digest))
