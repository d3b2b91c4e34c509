"""The agent loop as a cluster has it: the store asked by threads, reduces that fetch first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agent_runs import BOOT, WORKER, AgentRun, wait_for

from mrq.core import agent_words as a
from mrq.core.commands import WriteLocation
from mrq.core.model import FetchFailure, MapLocation, Outcome, Slots, Status
from mrq.core.paths import map_output_path
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.errors import OperatorError
from mrq.worker.attempt_order import MapSource
from mrq.worker.fetch.messages import Fetched, FetchFailed, FetchProgressed

WORDS = (
    "class T(mrq.Job):\n    reduce = mrq.sum\n    def map(self, key, line):\n"
    "        for word in line.split(): yield word, 1\n"
)


class FakeDataPlane:
    """Says nothing by itself; notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.tell: Callable[[object], None]

    def attach(self, selector: object, sink: Callable[[object], None], notify: object) -> None:
        self.tell = sink

    def watch(self, now: float) -> None:
        pass

    def fetch(self, attempt: AttemptRef, maps: int) -> None:
        self.asked.append((attempt, maps))

    def discard(self, attempt: AttemptRef) -> None:
        self.asked.append(attempt.token)

    def forget(self, job: str) -> None:
        self.asked.append(job)


@pytest.fixture
def data_plane() -> FakeDataPlane:
    return FakeDataPlane()


def map_done(run: AgentRun) -> tuple[MapSource, MapLocation]:
    """One map's output, and where it lies."""
    run.publish(0)
    made = run.reports(1)[0]
    assert made.outcome.result is not None
    digest = made.outcome.result.digest
    location = MapLocation(attempt=made.attempt, worker=WORKER, boot=BOOT, digest=digest, bytes=1)
    path = map_output_path(str(run.root), made.attempt)
    return MapSource(map_index=0, digest=digest, path=path), location


def beats(run: AgentRun) -> list[Any]:
    """Beats as the leader hears them."""
    return [event.beat for event in run.events if hasattr(event, "beat")]


def test_a_map_and_a_reduce_with_the_store_asked_by_threads(tmp_path: Path) -> None:
    with AgentRun(tmp_path, threaded=True) as run:
        spec = run.add(WORDS, ["b a", "a"])
        _, location = map_done(run)
        run.write("j", WriteLocation(location=location))
        run.publish(0, Kind.REDUCE)
        told = run.reports(2)[1].outcome
        assert told.result is not None, told
        assert spec.staging is not None
        assert (Path(spec.staging) / told.result.files[0].name).read_text() == "a\t2\nb\t1\n"


def test_a_reduce_fetches_before_it_gets_an_executor(tmp_path: Path, data_plane: FakeDataPlane) -> None:
    with AgentRun(tmp_path, threaded=True, data_plane=data_plane) as run:
        run.add(WORDS, ["b a", "a"])
        source, _ = map_done(run)
        run.publish(0, Kind.REDUCE)
        wait_for(lambda: data_plane.asked)
        ((attempt, maps),) = data_plane.asked
        assert (attempt.task, attempt.ticket, maps) == (TaskRef("j", 0, Kind.REDUCE, 0), 1, 1)
        token = attempt.token
        data_plane.tell(FetchProgressed(token=token, fraction=0.5, bytes=77))

        def shown() -> bool:
            lines = [line for beat in beats(run) for line in beat.running]
            return any((line.phase, line.fraction, line.bytes) == ("shuffling", 0.5, 77) for line in lines)

        wait_for(shown)
        assert len(run.loop._attempts) == 0
        data_plane.tell(Fetched(token=token, sources=(source,)))
        assert run.reports(2)[1].outcome.status is Status.DONE
        wait_for(lambda: data_plane.asked[1:] == [token])
        data_plane.tell(Fetched(token=token, sources=(source,)))  # too late: nobody listens
        run.drop()
        wait_for(lambda: data_plane.asked[2:] == ["j"])


def test_a_fetch_that_fails_is_the_outcome(tmp_path: Path, data_plane: FakeDataPlane) -> None:
    with AgentRun(tmp_path, threaded=True, data_plane=data_plane) as run:
        run.add(WORDS, ["x"])
        run.publish(0, Kind.REDUCE)
        wait_for(lambda: data_plane.asked)
        failure = FetchFailure(map_index=0, ticket=3, reason="unreachable")
        outcome = Outcome(status=Status.FETCH_FAILED, fetch_failures=(failure,), started=False)
        data_plane.tell(FetchFailed(token=f"{BOOT}-1", outcome=outcome))
        assert run.outcome() == outcome


def test_a_kill_ends_a_fetch(tmp_path: Path, data_plane: FakeDataPlane) -> None:
    with AgentRun(tmp_path, threaded=True, data_plane=data_plane) as run:
        run.add(WORDS, ["x"])
        run.publish(0, Kind.REDUCE)
        wait_for(lambda: data_plane.asked)
        run.kill(f"{BOOT}-1")
        told = run.outcome()
        assert (told.status, told.started) == (Status.SUPERSEDED, False)
        assert data_plane.asked[1:] == [f"{BOOT}-1"]
        assert len(run.loop._launches) == 0


def test_a_drain_hands_back_what_fetches(tmp_path: Path, data_plane: FakeDataPlane) -> None:
    with AgentRun(tmp_path, threaded=True, data_plane=data_plane) as run:
        run.add(WORDS, ["x"])
        run.publish(0, Kind.REDUCE)
        wait_for(lambda: data_plane.asked)
        run.loop.drain(30.0)
        run.thread.join(5)
        assert not run.thread.is_alive()
        told = run.outcome()
        assert (told.status, told.started) == (Status.HANDED_BACK, False)


def test_a_reduce_that_fetches_leaves_the_map_slot_free(tmp_path: Path, data_plane: FakeDataPlane) -> None:
    config = a.AgentConfig(
        worker=WORKER, boot=BOOT, slots=Slots(map=1, reduce=1, total=2), beat_interval_s=0.05
    )
    with AgentRun(tmp_path, threaded=True, data_plane=data_plane, config=config) as run:
        run.add(WORDS, ["x"])
        run.publish(0, Kind.REDUCE)
        wait_for(lambda: data_plane.asked)
        source, _ = map_done(run)
        data_plane.tell(Fetched(token=data_plane.asked[0][0].token, sources=(source,)))
        assert [report.outcome.status for report in run.reports(2)] == [Status.DONE] * 2


def test_beats_go_on_while_claims_and_looks_wait(tmp_path: Path) -> None:
    with AgentRun(tmp_path, threaded=True) as run:
        run.add(WORDS, ["x"])
        go_on, code = threading.Event(), run.store.code

        def slow(digest: str) -> bytes | None:
            assert go_on.wait(10)
            return code(digest)

        run.store.code = slow  # type: ignore[method-assign]
        run.publish()
        wait_for(lambda: len(run.loop._launches) == 1)
        before = len(beats(run))
        wait_for(lambda: len(beats(run)) > before + 5)
        go_on.set()
        assert run.outcome().status is Status.DONE


def test_a_store_that_is_away_for_long_and_back(tmp_path: Path) -> None:
    """Ten and fifteen beats stand for the 10 and 15 s of a cluster."""
    config = a.AgentConfig(
        worker=WORKER,
        boot=BOOT,
        slots=Slots(map=1, reduce=1, total=2),
        beat_interval_s=0.05,
        no_claims_after_s=0.5,
        pause_after_s=0.75,
        retry_s=0.05,
    )
    with AgentRun(tmp_path, threaded=True, config=config) as run:
        mark = tmp_path / "mark"
        run.add(
            "class T(mrq.Job):\n    reduce = mrq.sum\n    def map(self, key, line):\n"
            f"        open({str(mark)!r}, 'w'); time.sleep(0.3); yield line, 1\n",
            ["x"],
            splits=2,
        )
        run.publish(0)
        wait_for(mark.exists)
        asked: list[str] = []
        calls = {name: getattr(run.store, name) for name in ("beat", "claim", "report")}

        def away(name: str) -> Callable[[Any], Any]:
            def call(argument: Any) -> Any:
                asked.append(name)
                raise OperatorError("away")

            return call

        for name in calls:
            setattr(run.store, name, away(name))
        time.sleep(1.0)
        asked.clear()
        run.publish(1)
        time.sleep(0.5)
        assert set(asked) == {"beat"}, "nothing is claimed, nothing reported"
        for name, call in calls.items():
            setattr(run.store, name, call)
        assert [report.outcome.status for report in run.reports(2)] == [Status.DONE] * 2
