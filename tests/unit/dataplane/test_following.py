"""A follower of map outputs, against a store that does what stores do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import cast

import pytest

from mrq.core.model import MapLocation
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.errors import OperatorError
from mrq.worker import protocol
from mrq.worker.dataplane import follow, messages
from mrq.worker.dataplane.follow import Follower
from mrq.worker.dataplane.messages import Located

JOB = "job-1"


def location(index: int, ticket: int = 1, worker: str = "w1") -> MapLocation:
    attempt = AttemptRef(TaskRef(JOB, 0, Kind.MAP, index), ticket, 1, f"{worker}-{index}-{ticket}")
    return MapLocation(attempt=attempt, worker=worker, boot=f"{worker}b", digest=index, bytes=1)


class Store:
    """Two calls of a WorkerStore; a position is an index, a page has three entries."""

    def __init__(self) -> None:
        self.entries: list[tuple[MapLocation, bool]] = []
        self.addresses = {("w1", "w1b"): "w1:1"}
        self.away = False
        self.broken = False
        self.asked = 0

    def locations(
        self, job: str, after: int, wait_s: float = 0.0
    ) -> tuple[int, list[tuple[MapLocation, bool]]]:
        self.asked += 1
        if self.away:
            raise OperatorError("the store is away")
        if self.broken:
            raise RuntimeError("a bug")
        found = self.entries[after : after + 3]
        if not found and wait_s:
            time.sleep(0.01)
        return after + len(found), found

    def address(self, worker: str, boot: str) -> str | None:
        if self.away:
            raise OperatorError("the store is away")
        return self.addresses.get((worker, boot))


class Rig:
    def __init__(self) -> None:
        self.store = Store()
        self.known: dict[int, MapLocation] = {}
        self.peers: dict[tuple[str, str], str] = {}
        self.told = 0
        self.said: list[str] = []
        self._more = threading.Condition()
        self.follower = Follower(JOB, self.store, self.tell, self.said.append)  # type: ignore[arg-type]
        self.follower.resume()

    def tell(self, follower: Follower, new: Located) -> None:
        with self._more:
            for attempt in new.gone:
                assert self.known.pop(attempt.task.index).attempt == attempt
            for one in new.found:
                assert one.map_index not in self.known
                self.known[one.map_index] = one
            self.peers.update(((worker, boot), address) for worker, boot, address in new.peers)
            self.told += 1
            self._more.notify_all()

    def becomes(self, *locations: MapLocation) -> None:
        wanted = {one.map_index: one for one in locations}
        with self._more:
            assert self._more.wait_for(lambda: self.known == wanted, 10), self.known


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    for name, seconds in (("_WAIT_S", 0.01), ("_READ_AGAIN_S", 0.2), ("_ASK_AGAIN_S", 0.05)):
        monkeypatch.setattr(follow, name, seconds)
    made = Rig()
    yield made
    made.follower.stop()


def test_what_comes_and_goes_is_told_once(rig: Rig) -> None:
    many = [location(i) for i in range(8)]
    rig.store.entries += [(one, False) for one in many]
    rig.becomes(*many)
    again = location(3, ticket=2)
    rig.store.entries += [(many[3], True), (again, False), (many[4], True), (many[5], False)]
    rig.becomes(*many[:3], again, *many[5:])


def test_a_withdrawal_of_another_attempt_is_passed_over(rig: Rig) -> None:
    first, second = location(0), location(0, ticket=2)
    rig.store.entries += [(first, False), (second, False), (first, True), (location(1), False)]
    rig.becomes(second, location(1))


def test_a_store_that_was_written_anew_is_read_again(rig: Rig) -> None:
    """It has less than was followed, and nobody withdraws what it lost."""
    rig.store.entries += [(location(i), False) for i in range(5)]
    rig.becomes(*(location(i) for i in range(5)))
    rig.store.entries = [(location(0), False), (location(2, ticket=2), False)]
    rig.becomes(location(0), location(2, ticket=2))
    rig.store.entries.append((location(3), False))
    rig.becomes(location(0), location(2, ticket=2), location(3))


def test_a_store_that_is_away_is_waited_for(rig: Rig) -> None:
    rig.store.entries.append((location(0), False))
    rig.becomes(location(0))
    rig.store.away = True
    time.sleep(0.3)  # also when all is to be read again
    rig.store.entries.append((location(1), False))
    rig.store.away = False
    rig.becomes(location(0), location(1))
    assert rig.said == []


def test_a_bug_is_said_and_doesnt_end_it(rig: Rig) -> None:
    rig.store.broken = True
    deadline = time.monotonic() + 10
    while not rig.said:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert "RuntimeError: a bug" in rig.said[0]
    rig.store.broken = False
    rig.store.entries.append((location(0), False))
    rig.becomes(location(0))


def test_an_address_that_isnt_known_yet_is_asked_for_again(rig: Rig) -> None:
    rig.store.entries += [(location(0), False), (location(1, worker="w2"), False)]
    rig.becomes(location(0), location(1, worker="w2"))
    assert rig.peers == {("w1", "w1b"): "w1:1"}
    rig.store.addresses["w2", "w2b"] = "w2:1"
    deadline = time.monotonic() + 10
    while ("w2", "w2b") not in rig.peers:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_peer_that_isnt_where_it_was_said_to_be_is_asked_for_again(rig: Rig) -> None:
    """Told even if the store says the same: what its name means may have changed."""
    rig.store.entries += [(location(0), False)]
    rig.becomes(location(0))
    for address in ("w1:2", "w1:2"):
        rig.store.addresses["w1", "w1b"] = address
        rig.peers.clear()
        rig.follower.ask_again(("w1", "w1b"))
        deadline = time.monotonic() + 10
        while rig.peers != {("w1", "w1b"): address}:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    rig.follower.ask_again(("nobody", "b"))  # whom nobody has told of


def test_paused_it_asks_nothing(rig: Rig) -> None:
    rig.follower.pause()
    time.sleep(0.1)
    asked = rig.store.asked
    rig.store.entries.append((location(0), False))
    time.sleep(0.1)
    assert (rig.store.asked, rig.known) == (asked, {})
    rig.follower.resume()
    rig.becomes(location(0))


def test_many_locations_go_in_several_frames() -> None:
    peers = (("w1", "b", "a:1"),)
    found, gone = tuple(location(i) for i in range(12_000)), (location(5).attempt,)
    frames = [
        protocol.encode(messages.frame(each))
        for each in Located(job=JOB, found=found, gone=gone, peers=peers).in_frames()
    ]
    assert len(frames) == 4
    read = [cast(Located, messages.read(frame)) for frame in protocol.FrameReader().feed(b"".join(frames))]
    assert read[0] == Located(job=JOB, gone=gone, peers=peers)
    assert [one for some in read[1:] for one in some.found] == list(found)
    assert not any(some.gone or some.peers for some in read[1:])
    assert Located(job=JOB).in_frames() == []
