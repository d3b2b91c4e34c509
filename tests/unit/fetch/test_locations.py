"""What a data plane reads of the store, against a store that does what stores do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import cast

import pytest

from mrq.core.backoff import Backoff
from mrq.core.model import MapLocation
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.errors import OperatorError, StoreRefusedError
from mrq.worker.fetch import location_reader
from mrq.worker.fetch.location_reader import Addresses, StageLocations
from mrq.worker.fetch.reduce_fetch import ReduceFetch

JOB = "job-1"


def location(index: int, ticket: int = 1, worker: str = "w1", stage: int = 0) -> MapLocation:
    attempt = AttemptRef(TaskRef(JOB, stage, Kind.MAP, index), ticket, 1, f"{worker}-{index}-{ticket}")
    return MapLocation(attempt=attempt, worker=worker, boot=f"{worker}b", digest=index, bytes=1)


class Store:
    """A LocationStore; a position is an index, a page has three entries."""

    def __init__(self) -> None:
        self.entries: list[tuple[MapLocation, bool]] = []
        self.addresses = {("w1", "w1b"): "w1:1"}
        self.error: Exception | None = None
        self.asked = 0

    def locations(
        self, job: str, after: int, wait_s: float = 0.0
    ) -> tuple[int, list[tuple[MapLocation, bool]]]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        found = self.entries[after : after + 3]
        if not found and wait_s:
            time.sleep(0.01)
        return after + len(found), found

    def address(self, worker: str, boot: str) -> str | None:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.addresses.get((worker, boot))


class Fetch:
    """Notes what it is told, as a fetch does, and that what goes was there."""

    def __init__(self) -> None:
        self.known: dict[int, MapLocation] = {}
        self.over = False
        self.broken: list[BaseException] = []
        self._more = threading.Condition()

    def locate(self, found: Iterable[MapLocation], gone: Iterable[AttemptRef]) -> None:
        with self._more:
            for attempt in gone:
                assert self.known.pop(attempt.task.index).attempt == attempt
            for one in found:
                assert one.map_index not in self.known
                self.known[one.map_index] = one
            self._more.notify_all()

    def break_off(self, exc: BaseException) -> None:
        with self._more:
            self.over = True
            self.broken.append(exc)
            self._more.notify_all()

    def becomes(self, *locations: MapLocation) -> None:
        wanted = {one.map_index: one for one in locations}
        with self._more:
            assert self._more.wait_for(lambda: self.known == wanted, 10), self.known

    def breaks(self) -> BaseException:
        with self._more:
            assert self._more.wait_for(lambda: self.broken, 10)
        return self.broken[0]


class Rig:
    def __init__(self) -> None:
        self.store = Store()
        self.locations = StageLocations(JOB, 0, self.store)
        self.fetch = self.add()

    def add(self) -> Fetch:
        made = Fetch()
        self.locations.add(cast(ReduceFetch, made))
        return made


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    for name, seconds in (("_WAIT_S", 0.01), ("_READ_AGAIN_S", 0.2)):
        monkeypatch.setattr(location_reader, name, seconds)
    monkeypatch.setattr(location_reader, "_AGAIN", Backoff(base_s=0.01, max_s=0.01))
    made = Rig()
    yield made
    made.locations.stop()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_comes_and_goes_is_told_once(rig: Rig) -> None:
    many = [location(i) for i in range(8)]
    rig.store.entries += [(one, False) for one in many]
    rig.fetch.becomes(*many)
    again = location(3, ticket=2)
    rig.store.entries += [(many[3], True), (again, False), (many[4], True), (many[5], False)]
    rig.fetch.becomes(*many[:3], again, *many[5:])


def test_what_is_of_another_stage_of_the_job_is_passed_over(rig: Rig) -> None:
    rig.store.entries += [(location(i, stage=3), False) for i in range(4)]
    rig.store.entries += [(location(0), False), (location(0, stage=3), True), (location(1), False)]
    rig.fetch.becomes(location(0), location(1))
    asked = rig.store.asked
    wait_for(lambda: rig.store.asked > asked + 20)  # it was read whole again, too
    rig.fetch.becomes(location(0), location(1))


def test_a_withdrawal_of_another_attempt_is_passed_over(rig: Rig) -> None:
    first, second = location(0), location(0, ticket=2)
    rig.store.entries += [(first, False), (second, False), (first, True), (location(1), False)]
    rig.fetch.becomes(second, location(1))


def test_a_second_fetch_is_told_what_is_known_and_what_comes(rig: Rig) -> None:
    rig.store.entries.append((location(0), False))
    rig.fetch.becomes(location(0))
    second = rig.add()
    second.becomes(location(0))
    rig.store.entries += [(location(0), True), (location(1), False)]
    for fetch in (rig.fetch, second):
        fetch.becomes(location(1))


def test_a_store_that_was_written_anew_is_read_again(rig: Rig) -> None:
    """It has less than was followed, and nobody withdraws what it lost."""
    rig.store.entries += [(location(i), False) for i in range(5)]
    rig.fetch.becomes(*(location(i) for i in range(5)))
    rig.store.entries = [(location(0), False), (location(2, ticket=2), False)]
    rig.fetch.becomes(location(0), location(2, ticket=2))
    rig.store.entries.append((location(3), False))
    rig.fetch.becomes(location(0), location(2, ticket=2), location(3))


def test_a_store_that_is_away_is_waited_for(rig: Rig) -> None:
    rig.store.entries.append((location(0), False))
    rig.fetch.becomes(location(0))
    rig.store.error = OperatorError("the store is away")
    time.sleep(0.3)  # also when all is to be read again
    rig.store.entries.append((location(1), False))
    rig.store.error = None
    rig.fetch.becomes(location(0), location(1))
    assert rig.fetch.broken == []


@pytest.mark.parametrize("error", [StoreRefusedError("no such user"), RuntimeError("a bug")])
def test_what_no_waiting_mends_ends_the_fetches_and_not_the_next_one(rig: Rig, error: Exception) -> None:
    rig.store.error = error
    assert rig.fetch.breaks() is error
    rig.store.error = None
    rig.store.entries.append((location(0), False))
    rig.add().becomes(location(0))


def test_nothing_is_asked_once_every_fetch_is_over(rig: Rig) -> None:
    rig.fetch.over = True
    asked = -1

    def rests() -> bool:
        nonlocal asked
        before, asked = asked, rig.store.asked
        time.sleep(0.05)
        return before == asked

    wait_for(rests)
    rig.store.entries.append((location(0), False))
    rig.add().becomes(location(0))
    assert rig.fetch.known == {}


def test_an_address_is_asked_for_until_it_is_known(rig: Rig) -> None:
    addresses = Addresses(rig.store)
    assert addresses.of("w2", "w2b") is None
    rig.store.addresses["w2", "w2b"] = "w2:1"
    assert addresses.of("w2", "w2b") == "w2:1"
    del rig.store.addresses["w2", "w2b"]
    assert addresses.of("w2", "w2b") == "w2:1"


def test_a_peer_that_isnt_where_it_was_said_to_be_is_asked_for_again(rig: Rig) -> None:
    addresses = Addresses(rig.store)
    assert addresses.of("w1", "w1b") == "w1:1"
    rig.store.addresses["w1", "w1b"] = "w1:2"
    addresses.forget("w1", "w1b")
    assert addresses.of("w1", "w1b") == "w1:2"
    addresses.forget("nobody", "b")  # whom nobody has told of


def test_an_address_waits_for_a_store_that_is_away_and_not_for_one_that_refuses(rig: Rig) -> None:
    rig.fetch.over = True
    addresses = Addresses(rig.store)
    rig.store.error = OperatorError("the store is away")
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(addresses.of("w1", "w1b")))
    thread.start()
    wait_for(lambda: rig.store.asked > 3)
    assert found == []
    rig.store.error = None
    thread.join(10)
    assert found == ["w1:1"]
    rig.store.error = StoreRefusedError("no such user")
    with pytest.raises(StoreRefusedError):
        addresses.of("w2", "w2b")
