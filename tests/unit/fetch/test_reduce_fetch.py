"""One reduce's fetch against peers that behave, and that don't."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from outputs_rig import JOB, output, path_of
from twins import LocalPeers

from mrq.core.model import FetchFailure, MapLocation, Status
from mrq.core.paths import fetched_path
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.errors import CorruptFileError, DiskFullError, PeerUnreachableError
from mrq.ports import Dialled
from mrq.shuffle.fetched import FetchedFile, FetchedWriter
from mrq.shuffle.mapfile import MapFile, Region
from mrq.worker.attempt_order import MapSource
from mrq.worker.fetch import messages
from mrq.worker.fetch.local_outputs import LocalOutputs, write_sentinel
from mrq.worker.fetch.reduce_fetch import Budget, ReduceFetch

TOKEN = "here-1"


class Peers:
    """A PeerClient over folders, one a worker, with a mishap where a test wants one."""

    def __init__(self, roots: dict[str, Path]) -> None:
        self._local = {worker: LocalPeers(str(root)) for worker, root in roots.items()}
        self.calls: list[tuple[str, int, int]] = []  #: of fetch: worker, outputs, offset
        self.sized: list[int] = []
        self.spoil: Callable[[MapLocation, int, bytes], bytes | None] = lambda output, nth, data: data
        self.gate: threading.Event | None = None
        self.dead: set[str] = set()
        self.shared: dict[str, Path] = {}

    def _of(self, worker: str) -> LocalPeers:
        if worker in self.dead:
            raise PeerUnreachableError(f"worker {worker} can't be read from: it is dead")
        return self._local[worker]

    def sizes(self, job: str, partition: int, outputs: Sequence[MapLocation]) -> list[Region | None]:
        self.sized.append(len(outputs))
        return self._of(outputs[0].worker).sizes(job, partition, outputs)

    def fetch(
        self, job: str, partition: int, outputs: Sequence[MapLocation], offset: int = 0
    ) -> Iterator[bytes]:
        assert len({o.worker for o in outputs}) == 1
        nth = len(self.calls)
        self.calls.append((outputs[0].worker, len(outputs), offset))
        for chunk in self._of(outputs[0].worker).fetch(job, partition, outputs, offset):
            if self.gate is not None:
                assert self.gate.wait(10)
            spoilt = self.spoil(outputs[0], nth, chunk)
            if spoilt is None:
                return
            yield spoilt

    def dial(self, worker: str, boot: str) -> Dialled:
        self._of(worker)
        if worker in self.shared:
            root = self.shared[worker]
            return Dialled(worker=worker, boot=boot, root=str(root), sentinel=(root / "sentinel").read_text())
        return Dialled(worker=worker, boot=boot, root="/nowhere", sentinel="x")

    def close(self) -> None:
        pass


class Rig:
    """This worker is `here`; `w1` to `w9` are elsewhere."""

    def __init__(self, tmp_path: Path) -> None:
        self.roots = {name: tmp_path / name for name in ("here", *(f"w{n}" for n in range(1, 10)))}
        for root in self.roots.values():
            root.mkdir()
        self.peers = Peers(self.roots)
        self.told: list[Any] = []
        self._more = threading.Condition()
        self.outputs = LocalOutputs(root=str(self.roots["here"]), worker="here", peers=self.peers)
        self.path = Path(fetched_path(str(self.roots["here"]), JOB, TOKEN))
        self.threads = threading.active_count()

    def tell(self, message: object) -> None:
        with self._more:
            self.told.append(message)
            self._more.notify_all()

    def fetch(self, maps: int, partition: int = 0, budget: Budget | None = None) -> ReduceFetch:
        attempt = AttemptRef(TaskRef(JOB, 0, Kind.REDUCE, partition), 1, 1, TOKEN)
        return ReduceFetch(
            attempt, maps, str(self.path),
            peers=self.peers, outputs=self.outputs, budget=budget or Budget(), tell=self.tell,
        )  # fmt: skip

    def end(self) -> Any:
        """The last word."""
        with self._more:
            over = self._more.wait_for(
                lambda: self.told and not isinstance(self.told[-1], messages.FetchProgressed), timeout=20
            )
        assert over, self.told
        return self.told[-1]

    def sources(self) -> tuple[MapSource, ...]:
        message = self.end()
        assert isinstance(message, messages.Fetched), message
        return message.sources

    def failures(self) -> list[FetchFailure]:
        message = self.end()
        assert isinstance(message, messages.FetchFailed), message
        outcome = message.outcome
        assert outcome.status is Status.FETCH_FAILED
        assert not outcome.started
        self.nothing_left()
        return list(outcome.fetch_failures)

    def nothing_left(self) -> None:
        self.settle()
        assert not self.path.parent.exists() or not list(self.path.parent.iterdir())

    def settle(self) -> None:
        """The fetch's threads have ended."""
        deadline = time.monotonic() + 10
        while any(t.name == "mrq-fetch" for t in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def output(self, index: int, worker: str = "w1", **changes: Any) -> MapLocation:
        return output(self.roots[worker], index, worker=worker, **changes)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def pairs(source: MapSource, partition: int) -> list[tuple[list[Any], list[Any]]]:
    """As the reducer reads them."""
    if source.partition is not None:
        return list(FetchedFile(source.path).region(source.partition, source.digest).blocks())
    with MapFile(source.path) as file:
        assert file.digest == source.digest
        return list(file.entry(partition).blocks())


def same(rig: Rig, locations: Sequence[MapLocation], partition: int = 0) -> None:
    """What was fetched is what the maps have written, in map order."""
    sources = rig.sources()
    assert [source.map_index for source in sources] == list(range(len(locations)))
    assert [source.digest for source in sources] == [location.digest for location in locations]
    for source, location in zip(sources, locations, strict=True):
        with MapFile(str(path_of(rig.roots[location.worker], location))) as file:
            original = file.entry(partition)
            assert pairs(source, partition) == list(original.blocks())
        if source.partition is not None:
            assert source.ticket == location.attempt.ticket
            region = FetchedFile(source.path).region(source.partition, source.digest)
            for field in ("length", "records", "crc32", "cost", "block_cost", "is_sorted"):
                assert getattr(region, field) == getattr(original, field)


def test_regions_of_several_peers(rig: Rig) -> None:
    sizes = (1000, 0, 3 << 20, 0, 20 << 20)
    for partition in range(5):
        rig.told.clear()
        locations = [rig.output(i, f"w{1 + i % 3}", sizes=sizes) for i in range(6)]
        fetch = rig.fetch(6, partition)
        fetch.locate(locations, [])
        same(rig, locations, partition)
        fetch.cancel()
        rig.nothing_left()


def test_locations_that_come_one_by_one(rig: Rig) -> None:
    locations = [rig.output(i, f"w{1 + i % 3}") for i in range(9)]
    fetch = rig.fetch(9)
    for location in reversed(locations):
        fetch.locate([location], [])
        fetch.locate([location], [])
    same(rig, locations)


def test_no_maps_at_all_are_fetched_at_once(rig: Rig) -> None:
    rig.fetch(0).locate([], [])
    assert rig.sources() == ()


def test_own_outputs_are_read_where_they_lie(rig: Rig) -> None:
    locations = [rig.output(0, "here"), rig.output(1, "w1"), rig.output(2, "here", boot="older")]
    rig.fetch(3).locate(locations, [])
    same(rig, locations)
    sources = rig.sources()
    assert [source.partition for source in sources] == [None, 1, None]
    assert sources[0].path == str(path_of(rig.roots["here"], locations[0]))
    assert {worker for worker, _, _ in rig.peers.calls} == {"w1"}


def test_outputs_on_a_shared_disk_are_read_where_they_lie(rig: Rig) -> None:
    for worker in ("w1", "w2"):
        write_sentinel(str(rig.roots[worker]))
        rig.peers.shared[worker] = rig.roots[worker]
    locations = [rig.output(0, "w1"), rig.output(1, "w2"), rig.output(2, "w3")]
    rig.fetch(3).locate(locations, [])
    same(rig, locations)
    assert [source.partition for source in rig.sources()] == [None, None, 2]
    assert rig.peers.calls == [("w3", 1, 0)]


def test_the_same_path_of_another_machine_is_no_shared_disk(rig: Rig, tmp_path: Path) -> None:
    write_sentinel(str(rig.roots["w1"]))
    rig.peers.shared["w1"] = rig.roots["w1"]
    location = rig.output(0, "w1")
    real = rig.peers.dial
    rig.peers.dial = lambda worker, boot: replace(real(worker, boot), sentinel="0" * 32)  # type: ignore[method-assign]
    rig.fetch(1).locate([location], [])
    same(rig, [location])
    assert rig.sources()[0].partition == 0


def test_a_shared_output_that_cant_be_read_here_is_fetched(rig: Rig, tmp_path: Path) -> None:
    """The sentinel is a hint; what counts is the file."""
    seen = tmp_path / "seen"
    seen.mkdir()
    write_sentinel(str(seen))
    rig.peers.shared["w1"] = seen
    location = rig.output(0, "w1")
    rig.fetch(1).locate([location], [])
    same(rig, [location])
    assert rig.sources()[0].partition == 0


def test_a_stream_that_ends_early_is_resumed(rig: Rig) -> None:
    """Without an error: as if all had been sent."""
    location = rig.output(0, sizes=(5 << 20,))
    seen: list[int] = []

    def cut(output: MapLocation, nth: int, data: bytes) -> bytes | None:
        seen.append(nth)
        return None if nth == 0 and len(seen) > 2 else data

    rig.peers.spoil = cut
    rig.fetch(1).locate([location], [])
    same(rig, [location])
    assert [offset for _, _, offset in rig.peers.calls] == [0, 2 << 20]


def test_a_region_that_comes_damaged_once_is_fetched_again(rig: Rig) -> None:
    locations = [rig.output(i) for i in range(5)]
    first = iter([True])
    rig.peers.spoil = lambda output, nth, data: flip(data) if next(first, False) else data
    rig.fetch(5).locate(locations, [])
    same(rig, locations)
    assert [count for _, count, _ in rig.peers.calls] == [5, 1]  # only the one that was damaged


def flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def test_a_region_that_comes_damaged_twice_is_corrupt(rig: Rig) -> None:
    locations = [rig.output(i) for i in range(3)]
    path = path_of(rig.roots["w1"], locations[1])
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    rig.fetch(3).locate(locations, [])
    assert rig.failures() == [FetchFailure(map_index=1, ticket=2, reason="corrupt")]
    assert [count for _, count, _ in rig.peers.calls] == [3, 1]


def test_more_bytes_than_were_promised_are_no_region(rig: Rig) -> None:
    location = rig.output(0)
    rig.peers.spoil = lambda output, nth, data: data + b"more"
    rig.fetch(1).locate([location], [])
    assert rig.failures() == [FetchFailure(map_index=0, ticket=2, reason="corrupt")]


@pytest.mark.parametrize("worker", ["w1", "here"])
def test_outputs_that_are_gone_are_not_found(rig: Rig, worker: str) -> None:
    locations = [rig.output(i, worker) for i in range(5)]
    for location in locations[1:3]:
        path_of(rig.roots[worker], location).unlink()
    rig.fetch(5).locate(locations, [])
    assert [(f.map_index, f.reason) for f in rig.failures()] == [(1, "not_found"), (2, "not_found")]


def test_an_output_that_goes_while_it_is_fetched_is_not_found(rig: Rig) -> None:
    locations = [rig.output(i) for i in range(5)]

    class Going(LocalPeers):
        def fetch(self, job: str, partition: int, outputs: Any, offset: int = 0) -> Iterator[bytes]:
            path_of(rig.roots["w1"], locations[2]).unlink(missing_ok=True)
            return super().fetch(job, partition, outputs, offset)

    rig.peers._local["w1"] = Going(str(rig.roots["w1"]))
    rig.fetch(5).locate(locations, [])
    assert [(f.map_index, f.reason) for f in rig.failures()] == [(2, "not_found")]


def test_all_outputs_of_a_dead_peer_are_unreachable(rig: Rig) -> None:
    locations = [rig.output(i, "w1" if i < 3 else "w2") for i in range(5)]
    rig.peers.dead.add("w1")
    rig.fetch(5).locate(locations, [])
    assert [(f.map_index, f.reason) for f in rig.failures()] == [
        (0, "unreachable"),
        (1, "unreachable"),
        (2, "unreachable"),
    ]


def test_a_peer_that_dies_in_the_middle_is_unreachable_for_the_rest(rig: Rig) -> None:
    locations = [rig.output(i, sizes=(9 << 20,)) for i in range(3)]

    def die(output: MapLocation, nth: int, data: bytes) -> bytes:
        if output.map_index:
            raise PeerUnreachableError("worker w1 can't be read from: it died")
        return data

    rig.peers.spoil = die
    fetch = rig.fetch(3)
    fetch.locate(locations[:1], [])
    rig.settle()
    fetch.locate(locations[1:], [])
    assert [(f.map_index, f.reason) for f in rig.failures()] == [(1, "unreachable"), (2, "unreachable")]


def test_a_withdrawal_in_the_middle_drops_what_was_fetched(rig: Rig) -> None:
    """The map is run again elsewhere, differently; the old bytes come home late, and don't count."""
    old = [rig.output(0, "w1"), rig.output(1, "w2")]
    rig.peers.gate = threading.Event()
    fetch = rig.fetch(2)
    fetch.locate(old, [])
    fetch.locate([], [old[0].attempt])
    new = rig.output(0, "w3", ticket=3, salt="x")
    fetch.locate([new], [])
    rig.peers.gate.set()
    same(rig, [new, old[1]])
    assert rig.sources()[0].ticket == 3


def test_a_withdrawal_after_it_was_fetched_drops_it_too(rig: Rig) -> None:
    old = [rig.output(0, "w1"), rig.output(1, "w2")]
    fetch = rig.fetch(2)
    fetch.locate(old[:1], [])
    rig.settle()
    fetch.locate([], [old[0].attempt])
    fetch.locate(old[1:], [])
    rig.settle()
    assert all(isinstance(message, messages.FetchProgressed) for message in rig.told)
    new = rig.output(0, "w3", ticket=3, salt="x")
    fetch.locate([new], [])
    same(rig, [new, old[1]])


def test_an_output_that_is_made_again_the_same_isnt_fetched_again(rig: Rig) -> None:
    old = [rig.output(0, "w1"), rig.output(1, "w2")]
    fetch = rig.fetch(2)
    fetch.locate(old[:1], [])
    rig.settle()
    again = AttemptRef(TaskRef(JOB, 0, Kind.MAP, 0), 3, 4, "w3-1")
    new = replace(old[0], attempt=again, worker="w3")
    fetch.locate([new, old[1]], [old[0].attempt])
    assert [source.ticket for source in rig.sources()] == [3, 2]
    assert sorted(worker for worker, _, _ in rig.peers.calls) == ["w1", "w2"]


def test_a_withdrawal_of_another_attempt_changes_nothing(rig: Rig) -> None:
    locations = [rig.output(0), rig.output(1)]
    fetch = rig.fetch(2)
    fetch.locate(locations[:1], [])
    fetch.locate([], [locations[0].attempt._replace(ticket=1)])
    fetch.locate(locations[1:], [])
    same(rig, locations)


def test_a_failure_of_what_was_withdrawn_meanwhile_is_none(rig: Rig) -> None:
    """A worker dies: its outputs are withdrawn while its reader still tries."""
    old = [rig.output(0, "w1"), rig.output(1, "w2")]
    gate = threading.Event()

    def dying(worker: str, boot: str) -> Dialled:
        if worker == "w1":
            assert gate.wait(10)
            raise PeerUnreachableError("worker w1 can't be read from: it is dead")
        return Dialled(worker=worker, boot=boot, root="/nowhere", sentinel="x")

    rig.peers.dial = dying  # type: ignore[method-assign]
    fetch = rig.fetch(2)
    fetch.locate(old, [])
    fetch.locate([], [old[0].attempt])
    gate.set()
    new = rig.output(0, "w3", ticket=3)
    fetch.locate([new], [])
    same(rig, [new, old[1]])


def test_cancelled_in_the_middle_it_leaves_nothing(rig: Rig) -> None:
    locations = [rig.output(i, f"w{1 + i % 3}", sizes=(3 << 20,)) for i in range(6)]
    rig.peers.gate = threading.Event()
    fetch = rig.fetch(6)
    fetch.locate(locations, [])
    deadline = time.monotonic() + 10
    while not rig.path.with_name(f"{TOKEN}.partial").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    fetch.cancel()
    assert not list(rig.path.parent.iterdir())  # at once, whatever threads still wait for
    fetch.locate(locations, [])
    rig.peers.gate.set()
    rig.nothing_left()
    assert not [message for message in rig.told if not isinstance(message, messages.FetchProgressed)]


def test_a_full_disk_is_said_by_name(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, offset: int, data: bytes) -> None:
        raise DiskFullError("no space left in there")

    monkeypatch.setattr(FetchedWriter, "write", full)
    rig.fetch(1).locate([rig.output(0)], [])
    outcome = rig.end().outcome
    assert (outcome.status, outcome.started) == (Status.DISK_FULL, False)
    assert outcome.error is not None
    assert "no space left" in outcome.error.message
    rig.nothing_left()


def test_a_bug_ends_the_attempt_and_says_so(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    def broken(worker: str, boot: str) -> Dialled:
        raise RuntimeError("a bug")

    rig.peers.dial = broken  # type: ignore[method-assign]
    rig.fetch(1).locate([rig.output(0)], [])
    outcome = rig.end().outcome
    assert outcome.status is Status.LOST
    assert outcome.error is not None
    assert "a bug" in outcome.error.message
    assert "RuntimeError: a bug" in caplog.text


def test_a_thousand_maps_need_few_calls_and_descriptors(rig: Rig) -> None:
    locations = [rig.output(i, f"w{1 + i % 4}", sizes=(200,)) for i in range(1000)]
    fetch = rig.fetch(1000)
    fetch.locate(locations, [])
    same(rig, locations)
    assert len(rig.peers.sized) == 8  # of four peers: few at first, so that bytes come soon, then the rest
    assert len(rig.peers.calls) == 8
    fetch.cancel()


def test_two_calls_to_a_peer_at_once_and_no_more(rig: Rig) -> None:
    locations = [rig.output(i, sizes=(9 << 20,)) for i in range(4)]
    rig.peers.gate = threading.Event()
    fetch = rig.fetch(4)
    fetch.locate(locations, [])
    deadline = time.monotonic() + 10
    while len(rig.peers.calls) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(0.05)
    assert len(rig.peers.calls) == 2
    rig.peers.gate.set()
    same(rig, locations)


def test_five_peers_at_once_and_no_more(rig: Rig) -> None:
    locations = [rig.output(i, f"w{1 + i}") for i in range(9)]
    rig.peers.gate = threading.Event()
    fetch = rig.fetch(9)
    fetch.locate(locations, [])
    deadline = time.monotonic() + 10
    while len(rig.peers.calls) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(0.05)
    assert len(rig.peers.calls) == 5
    rig.peers.gate.set()
    same(rig, locations)


def test_bytes_are_reserved_before_they_are_asked_for(rig: Rig) -> None:
    locations = [rig.output(i, f"w{1 + i}", sizes=(3 << 20,)) for i in range(5)]
    rig.peers.gate = threading.Event()
    fetch = rig.fetch(5, budget=Budget(7 << 20))
    fetch.locate(locations, [])
    time.sleep(0.1)
    assert len(rig.peers.calls) == 2
    rig.peers.gate.set()
    same(rig, locations)


def test_progress_is_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrq.worker.fetch.reduce_fetch._PROGRESS_S", 0.0)
    fetch = rig.fetch(4)
    locations = [rig.output(0, "here"), *(rig.output(i) for i in range(1, 4))]
    for location in locations:
        fetch.locate([location], [])
        rig.settle()
    same(rig, locations)
    shown = [m.fraction for m in rig.told if isinstance(m, messages.FetchProgressed)]
    assert shown == [0.25, 0.5, 0.75, 1.0]
    assert rig.told[-2].bytes > 0


def test_a_fetch_that_waits_for_maps_has_told_how_far_it_is(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However soon its last region came after the one before."""
    monkeypatch.setattr("mrq.worker.fetch.reduce_fetch._PROGRESS_S", 1e9)
    fetch = rig.fetch(4)
    for location in [rig.output(0, "here"), *(rig.output(i) for i in range(1, 3))]:
        fetch.locate([location], [])
        rig.settle()
    assert [m.fraction for m in rig.told] == [0.25, 0.5, 0.75]
    fetch.cancel()


def test_a_fetched_file_is_of_the_outputs_that_it_was_made_of(rig: Rig) -> None:
    location = rig.output(0)
    rig.fetch(1).locate([location], [])
    (source,) = rig.sources()
    file = FetchedFile(source.path)
    for partition, digest in ((0, location.digest ^ 1), (1, location.digest), (-1, location.digest)):
        with pytest.raises(CorruptFileError):
            file.region(partition, digest)
    with pytest.raises(CorruptFileError, match="isn't a fetched file"):
        FetchedFile(str(path_of(rig.roots["w1"], location)))
    data = bytearray(Path(source.path).read_bytes())
    data[-60] ^= 1
    Path(source.path).write_bytes(data)
    with pytest.raises(CorruptFileError):
        FetchedFile(source.path)
