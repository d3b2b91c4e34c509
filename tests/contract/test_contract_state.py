"""Every store: what a new leader reads, takes, opens and restores."""

from __future__ import annotations

from dataclasses import replace

from contract_kit import CODE, Sides, beat, fence, job_state, line, report, request, spec, task

from mrq.core.commands import GiveOrder, WriteLocation, WriteWorker
from mrq.core.events import AttemptClaimed, AttemptReported
from mrq.core.model import (
    JobState,
    MapLocation,
    Piece,
    Purpose,
    Split,
    StagePlan,
    StageSpec,
    Status,
    WorkerHealth,
)
from mrq.core.orders import Drain, Numbered
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_api import Answer, Batch, StoredJob, WriteAnswer


def location(index: int = 0) -> MapLocation:
    attempt = AttemptRef(TaskRef("j", 0, Kind.MAP, index), 1, 1, f"t{index}")
    return MapLocation(attempt=attempt, worker="w1", boot="b1", digest=2**64 - 1, bytes=2**40)


# Identity.


def test_a_store_is_opened_by_a_leader(unready: Sides) -> None:
    store_id, _, ready = unready.state.identity()
    assert store_id
    assert not ready
    unready.state.open(7)
    unready.state.open(7)
    assert unready.state.identity() == (store_id, 7, True)
    unready.state.open(3)
    assert unready.state.identity() == (store_id, 7, True)


def test_a_leader_writes_the_id_back_that_its_store_had(unready: Sides) -> None:
    unready.state.open(7, "of-before")
    assert unready.state.identity() == ("of-before", 7, True)
    unready.state.open(8)
    assert unready.state.identity() == ("of-before", 8, True)


# Jobs.


def test_a_job_is_loaded_as_it_was_written(store: Sides) -> None:
    records = (("m0", b"\xff\x00record"), ("r1", b""))
    writes = (task(0), task(1, kind=Kind.REDUCE), job_state(JobState.RUNNING))
    first = Batch(job="j", fence=fence(seq=1), writes=writes, records=records, job_record=b"\x00job")
    assert store.leader.write(first) is WriteAnswer.WRITTEN
    assert store.state.state("j") is JobState.RUNNING
    found = store.state.load("j")
    assert found == StoredJob(
        spec=spec(),
        fence=fence(seq=1),
        state=JobState.RUNNING,
        error=None,
        job_record=b"\x00job",
        records=dict(records),
        recorded=(),
    )
    second = Batch(job="j", fence=fence(seq=2), writes=(task(0, primary=2),), records=(("m0", b"2"),))
    store.leader.write(second)
    store.leader.write(first)  # comes again, and changes nothing
    found = store.state.load("j")
    assert found is not None
    assert dict(found.records) == {"m0": b"2", "r1": b""}
    assert found.job_record == b"\x00job"


def test_a_spec_comes_back_whole(empty: Sides) -> None:
    piece = Piece(path="é\udcff", open="/x", start=2**40, length=2**62, size=2**63, mtime_ns=2**62 + 1)
    given = spec(
        parameters={"big": 2**100, "pair": (1, [None, 2.5]), "bytes": b"\xff", "map": {1: "x"}},
        stages=(
            StageSpec(splits=(), reducers=0, purpose=Purpose.SAMPLE, number=1),
            StageSpec(
                splits=(Split(index=0, pieces=(piece,)),),
                reducers=2,
                plan=StagePlan(boundaries=("a", ("b", 1))),
            ),
        ),
    )
    empty.leader.begin(given, b"code", fence())
    assert empty.worker.job("j") == given
    found = empty.state.load("j")
    assert found is not None
    assert found.spec == given


def test_an_unknown_job_is_not_loaded(empty: Sides) -> None:
    assert empty.state.state("j") is None
    assert empty.state.load("j") is None
    assert empty.state.jobs() == []


def test_jobs_are_listed_oldest_first(empty: Sides) -> None:
    for job in ("z", "a", "m"):
        empty.leader.begin(spec(job), b"code", fence())
    empty.leader.begin(spec("z"), b"code", fence(epoch=2))
    assert empty.state.jobs() == ["z", "a", "m"]
    empty.leader.forget("a")
    assert empty.state.jobs() == ["z", "m"]


def test_what_is_claimed_and_reported_is_loaded(store: Sides) -> None:
    store.write(task(0), task(1), task(2), task(3))
    attempts = [store.claim(request(f"t{n}", index=n)).attempt for n in (0, 1, 2)]
    for n in (1, 2):
        done = report(attempts[n], status=Status.LOST)
        store.report(done)
    store.write(task(2, primary=0))
    found = store.state.load("j")
    assert found is not None
    by_task: dict[int, list[type]] = {}
    for event in found.recorded:
        by_task.setdefault(event.attempt.task.index, []).append(type(event))
    assert by_task == {0: [AttemptClaimed], 1: [AttemptClaimed, AttemptReported]}
    store.write(job_state(JobState.CANCELLED))
    found = store.state.load("j")
    assert found is not None
    assert found.state is JobState.CANCELLED
    assert found.recorded == ()


def test_why_a_job_failed_is_loaded_and_forgotten_when_it_goes_on(store: Sides) -> None:
    store.write(replace(job_state(JobState.FAILED), error="m-00001: boom é"))
    found = store.state.load("j")
    assert found is not None
    assert (found.state, found.error) == (JobState.FAILED, "m-00001: boom é")
    store.write(job_state(JobState.RUNNING))
    found = store.state.load("j")
    assert found is not None
    assert (found.state, found.error) == (JobState.RUNNING, None)


# Workers, and what belongs to no job.


def test_workers_are_listed_with_their_last_beat(store: Sides) -> None:
    first = replace(beat(1, worker="w2"), about={"version": "1", "packages": {"numpy": "2"}})
    store.worker.beat(first)
    last = beat(2, "t1", worker="w2")
    store.worker.beat(last)
    found = {each.beat.worker: each for each in store.state.workers()}
    assert set(found) == {"w1", "w2"}
    assert found["w2"].beat == replace(last, about=first.about)
    assert found["w2"].health is WorkerHealth.ALIVE
    assert 0 <= found["w2"].age_s < 5
    store.worker.beat(beat(1, worker="w2", boot="b2"))
    (told,) = (each.beat for each in store.state.workers() if each.beat.worker == "w2")
    assert told == beat(1, worker="w2", boot="b2")  # an older boot's words aren't its own


def test_a_worker_that_can_be_dialled_joins_first(store: Sides) -> None:
    store.write(task())
    joining = replace(beat(1, worker="w2"), address="h:1")
    reply = store.worker.beat(joining)
    assert reply is not None
    assert reply.health is WorkerHealth.JOINING
    assert store.claim(request(worker="w2")).answer is Answer.DECLINED
    store.leader.lead(fence())
    alive = WriteWorker(worker="w2", boot="b1", health=WorkerHealth.ALIVE)
    store.leader.write(Batch(job="", fence=fence(seq=1), writes=(alive,)))
    assert store.claim(request(worker="w2")).answer is Answer.NEW


def test_what_belongs_to_no_job_has_a_fence_of_its_own(store: Sides) -> None:
    order = GiveOrder(worker="w1", boot="b1", order=Drain(reason="its version doesn't fit"))
    batch = Batch(job="", fence=fence(seq=1), orders=(order,))
    assert store.leader.fence("") is None
    assert store.leader.write(batch) is WriteAnswer.ROLLED_BACK
    assert store.leader.lead(fence()) is WriteAnswer.WRITTEN
    assert store.leader.lead(fence()) is WriteAnswer.ALREADY
    assert store.leader.write(batch) is WriteAnswer.WRITTEN
    assert store.leader.write(batch) is WriteAnswer.ALREADY
    assert store.leader.lead(fence(owner="x")) is WriteAnswer.FENCED
    assert store.leader.lead(fence(epoch=2, owner="x", seq=0)) is WriteAnswer.WRITTEN
    assert store.leader.write(replace(batch, fence=fence(seq=2))) is WriteAnswer.FENCED
    assert store.leader.fence("") == fence(epoch=2, owner="x")
    reply = store.worker.beat(beat(1))
    assert reply is not None
    assert reply.orders == (Numbered(number=1, order=Drain(reason="its version doesn't fit")),)


def test_a_store_that_is_not_open_can_be_led(unready: Sides) -> None:
    assert unready.leader.lead(fence()) is WriteAnswer.WRITTEN
    assert unready.leader.fence("") == fence()


# Restoring.


def stored(*, incarnation: int = 2, seq: int = 9) -> StoredJob:
    return StoredJob(
        spec=spec(),
        fence=fence(incarnation=incarnation, epoch=2, owner="o", seq=seq),
        state=JobState.RUNNING,
        error=None,
        job_record=b"job",
        records={"m0": b"zero", "m1": b"one"},
        recorded=(),
        writes=(
            task(0, primary=0),
            task(1, primary=5),
            WriteLocation(location=location(0)),
        ),
    )


def test_a_job_is_written_whole_into_a_store_that_lost_it(unready: Sides) -> None:
    given = stored()
    assert unready.state.restore(given, b"code") is WriteAnswer.WRITTEN
    assert unready.state.restore(given, b"code") is WriteAnswer.ALREADY
    assert unready.state.load("j") == replace(given, writes=())
    assert unready.worker.job("j") == spec()
    assert unready.worker.code(CODE) == b"code"
    assert unready.claim(request(index=1, ticket=5)).answer is Answer.NO_STORE
    unready.make_ready()
    unready.worker.beat(beat(1))
    assert unready.worker.locations("j", 0)[1] == [(location(0), False)]
    assert unready.claim(request(ticket=3)).answer is Answer.OBSOLETE
    assert unready.claim(request(index=1, ticket=5)).answer is Answer.NEW
    after = Batch(job="j", fence=fence(incarnation=2, epoch=2, seq=10), writes=(task(2),))
    assert unready.leader.write(after) is WriteAnswer.WRITTEN


def test_a_restored_job_takes_the_place_of_what_is_behind(store: Sides) -> None:
    store.write(task(), WriteLocation(location=location(7)))
    attempt = store.claim(request()).attempt
    assert store.state.restore(stored(), b"code") is WriteAnswer.WRITTEN
    assert store.leader.write(Batch(job="j", fence=fence(seq=2))) is WriteAnswer.FENCED
    reply = store.worker.beat(beat(1, "t1"))
    assert reply is not None
    assert reply.live == frozenset()
    assert store.report(report(attempt)).value == "obsolete"
    assert [entry.map_index for entry, _ in store.worker.locations("j", 0)[1]] == [0]
    assert store.claim(request(index=1, ticket=5)).attempt.number == 1


def test_an_older_view_is_not_restored(store: Sides) -> None:
    assert store.state.restore(stored(), b"code") is WriteAnswer.WRITTEN
    assert store.state.restore(stored(incarnation=1), b"code") is WriteAnswer.FENCED
    other = replace(stored(), fence=fence(incarnation=2, epoch=2, owner="x", seq=9))
    assert store.state.restore(other, b"code") is WriteAnswer.FENCED
    assert store.leader.fence("j") == stored().fence


def test_lines_of_beats_are_lived_after_a_takeover(store: Sides) -> None:
    store.write(task())
    store.claim(request())
    assert store.leader.begin(spec(), b"code", fence(epoch=2, owner="x")) is WriteAnswer.WRITTEN
    reply = store.worker.beat(replace(beat(1), running=(line("t1"),)))
    assert reply is not None
    assert reply.live == {"t1"}
