"""The store asked by threads: who waits for whom, what is given up, what is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mrq.core import agent_words as a
from mrq.core.backoff import Backoff
from mrq.core.model import Beat, Slots, TaskMessage, WorkerHealth
from mrq.core.refs import Kind, TaskRef
from mrq.core.store_api import Answer, BeatReply, ClaimAnswer, ClaimRequest
from mrq.errors import CorruptFileError, OperatorError
from mrq.worker import calls
from mrq.worker.calls import CallerDied, Calls, JobFound, ThreadedCalls

WAIT_S = 5.0
OBSOLETE = ClaimAnswer(answer=Answer.OBSOLETE)


class Store:
    """Notes what it is asked; claims wait for `claims`, beats fail while `away`."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.claims = threading.Event()
        self.begun = threading.Event()
        self.away = False

    def claim(self, requests: Any) -> list[ClaimAnswer]:
        self.asked.append([request.token for request in requests])
        self.begun.set()
        assert self.claims.wait(WAIT_S)
        return [OBSOLETE for _ in requests]

    def beat(self, beat: Beat) -> BeatReply | None:
        self.asked.append(beat.seq)
        if self.away:
            raise OperatorError("away")
        return BeatReply(orders=(), health=WorkerHealth.ALIVE, live=frozenset(), store_id="s", incarnation=1)

    def leave(self, worker: str, boot: str) -> None:
        self.asked.append((worker, boot))


class Told:
    """Events, waited for."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self._changed = threading.Condition()

    def __call__(self, event: object) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, count: int) -> list[Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.events) >= count, WAIT_S), self.events
            return list(self.events)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def asking(store: Store, told: Told) -> Iterator[ThreadedCalls]:
    made = ThreadedCalls(store)  # type: ignore[arg-type]
    made.attach(told)
    yield made
    store.claims.set()
    made.close()


def request(token: str) -> ClaimRequest:
    message = TaskMessage(task=TaskRef("j", 0, Kind.MAP, 0), ticket=1)
    return ClaimRequest(message=message, worker="w", boot="b", token=token)


def beat(seq: int) -> Beat:
    return Beat(worker="w", boot="b", seq=seq, slots=Slots(map=1, reduce=1, total=2))


def test_a_slow_claim_delays_no_beat_and_later_claims_go_together(
    asking: ThreadedCalls, store: Store, told: Told
) -> None:
    asking.claim([request("t1")])
    assert store.begun.wait(WAIT_S)
    asking.claim([request("t2")])
    asking.claim([request("t3")])
    asking.beat(beat(1))
    (answered,) = told.wait(1)
    assert isinstance(answered, a.BeatAnswered)
    assert answered.seq == 1
    store.claims.set()
    assert [event.token for event in told.wait(4)[1:]] == ["t1", "t2", "t3"]
    assert store.asked == [["t1"], 1, ["t2", "t3"]]


def test_a_store_that_is_away_is_told_by_event(asking: ThreadedCalls, store: Store, told: Told) -> None:
    store.away = True
    asking.beat(beat(7))
    assert told.wait(1) == [a.BeatAnswered(seq=7, reply=None)]


def test_the_goodbye_is_said_after_the_last_beat_and_waiting_claims_are_dropped(
    asking: ThreadedCalls, store: Store
) -> None:
    asking.claim([request("t1")])
    assert store.begun.wait(WAIT_S)
    asking.claim([request("t2")])
    asking.beat(beat(1))
    asking.leave("w", "b")
    store.claims.set()
    asking.close()
    asking.claim([request("t3")])
    assert [asked for asked in store.asked if asked != ["t1"]] in ([1, ("w", "b")], [["t2"], 1, ("w", "b")])


def test_a_job_is_looked_for_again_while_the_store_is_away(
    asking: ThreadedCalls, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_FIND_AGAIN", Backoff(base_s=0.01, max_s=0.01))
    turns = iter(range(100))

    def find() -> str:
        if next(turns) < 3:
            raise OperatorError("away")
        return "found"

    asking.find_job("j", find)
    assert told.wait(1) == [JobFound(job="j", found="found")]
    assert next(turns) == 4


def test_looking_for_a_job_ends_in_the_error_that_stays(
    asking: ThreadedCalls, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_FIND_AGAIN", Backoff(base_s=0.0, max_s=0.0))
    monkeypatch.setattr(calls, "_FINDS_MAX", 3)
    away, damaged = OperatorError("away"), CorruptFileError("damaged")

    def raising(error: Exception) -> Any:
        def find() -> None:
            raise error

        return find

    asking.find_job("j", raising(damaged))
    asking.find_job("k", raising(away))
    assert told.wait(2) == [JobFound(job="j", error=damaged), JobFound(job="k", error=away)]


def test_a_bug_in_a_call_is_told(asking: ThreadedCalls, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    boom = ZeroDivisionError("boom")

    def work() -> None:
        raise boom

    asking.in_background(work)
    assert told.wait(1) == [CallerDied(error=boom)]


def test_inline_calls_answer_at_once(store: Store, told: Told) -> None:
    direct = Calls(store)  # type: ignore[arg-type]
    direct.attach(told)
    store.claims.set()
    direct.claim([request("t1")])
    direct.find_job("j", lambda: None)
    assert told.events == [a.ClaimAnswered(token="t1", answer=OBSOLETE), JobFound(job="j")]
