"""Every store: what both sides may rely on. The claim table is in tests/scenarios/test_claims_table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from contract_kit import CODE, Sides, beat, fence, job_state, line, message, ref, report, request, spec, task

from mrq.core.commands import GiveOrder, WriteLocation, WriteWorker
from mrq.core.events import AttemptClaimed, AttemptReported, BeatReceived, WorkerLeft
from mrq.core.model import JobState, MapLocation, Quarantine, Status, WorkerHealth
from mrq.core.orders import Drain, DropJob, Kill, Numbered, Offer
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_api import Answer, Batch, ReportAnswer, StoredWorker, WriteAnswer


def location(index: int) -> MapLocation:
    attempt = AttemptRef(TaskRef("j", 0, Kind.MAP, index), 1, 1, f"t{index}")
    return MapLocation(attempt=attempt, worker="w1", boot="b1", digest=2**64 - 1, bytes=10)


# Begin, fence, write.


def test_a_job_begins_once(empty: Sides) -> None:
    assert empty.worker.job("j") is None
    assert empty.leader.begin(spec(), b"code", fence()) is WriteAnswer.WRITTEN
    assert empty.leader.begin(spec(), b"code", fence()) is WriteAnswer.ALREADY
    assert empty.worker.job("j") == spec()
    assert empty.worker.code(CODE) == b"code"
    assert empty.worker.code("other") is None
    assert empty.leader.fence("j") == fence()
    assert empty.leader.fence("k") is None


def test_batches_move_the_fence_one_by_one(store: Sides) -> None:
    one = Batch(job="j", fence=fence(seq=1), writes=(task(),))
    assert store.leader.write(one) is WriteAnswer.WRITTEN
    assert store.leader.write(one) is WriteAnswer.ALREADY
    assert store.leader.write(Batch(job="j", fence=fence(seq=2))) is WriteAnswer.WRITTEN
    assert store.leader.fence("j") == fence(seq=2)
    assert store.leader.write(one) is WriteAnswer.ALREADY


def test_a_replayed_batch_changes_nothing(store: Sides) -> None:
    first = Batch(job="j", fence=fence(seq=1), writes=(task(), WriteLocation(location=location(0))))
    store.leader.write(first)
    store.leader.write(Batch(job="j", fence=fence(seq=2), writes=(task(primary=2),)))
    store.leader.write(first)
    assert store.claim(request()).answer is Answer.OBSOLETE
    assert store.claim(request(ticket=2)).answer is Answer.NEW
    assert len(store.worker.locations("j", 0)[1]) == 1


def test_a_gap_means_that_the_store_lost_writes(store: Sides) -> None:
    gap = Batch(job="j", fence=fence(seq=2), writes=(task(),))
    assert store.leader.write(gap) is WriteAnswer.ROLLED_BACK
    assert store.claim(request()).answer is Answer.OBSOLETE
    assert store.leader.fence("j") == fence()


def test_a_job_that_is_gone_means_that_the_store_lost_it(empty: Sides) -> None:
    batch = Batch(job="j", fence=fence(seq=1))
    assert empty.leader.write(batch) is WriteAnswer.ROLLED_BACK


def test_another_owner_is_fenced(store: Sides) -> None:
    for other in (fence(seq=1, owner="x"), fence(seq=1, epoch=0), fence(seq=1, incarnation=0)):
        assert store.leader.write(Batch(job="j", fence=other, writes=(task(),))) is WriteAnswer.FENCED
    assert store.leader.begin(spec(), b"code", fence(owner="x")) is WriteAnswer.FENCED
    assert store.claim(request()).answer is Answer.OBSOLETE


def test_a_later_epoch_takes_over_and_the_old_one_is_fenced(store: Sides) -> None:
    store.write(task())
    assert store.claim(request()).answer is Answer.NEW
    assert store.leader.begin(spec(), b"code", fence(epoch=2, owner="x")) is WriteAnswer.WRITTEN
    assert store.leader.write(Batch(job="j", fence=fence(seq=2))) is WriteAnswer.FENCED
    assert store.leader.write(Batch(job="j", fence=fence(seq=1, epoch=2, owner="x"))) is WriteAnswer.WRITTEN
    assert store.claim(request()).answer is Answer.SAME  # records stay


def test_a_later_epoch_that_was_never_taken_here_means_a_rollback(store: Sides) -> None:
    batch = Batch(job="j", fence=fence(seq=5, epoch=2))
    assert store.leader.write(batch) is WriteAnswer.ROLLED_BACK


def test_a_store_that_is_not_ready_answers_nothing(unready: Sides) -> None:
    assert unready.leader.begin(spec(), b"code", fence()) is WriteAnswer.NO_STORE
    assert unready.leader.write(Batch(job="j", fence=fence(seq=1))) is WriteAnswer.NO_STORE
    assert unready.claim(request()).answer is Answer.NO_STORE
    assert (
        unready.report(report(AttemptRef(TaskRef("j", 0, Kind.MAP, 0), 1, 1, "t1"))) is ReportAnswer.NO_STORE
    )
    assert unready.worker.beat(beat(1)) is None
    assert unready.inbox.events == []
    unready.make_ready()
    assert unready.leader.begin(spec(), b"code", fence()) is WriteAnswer.WRITTEN
    reply = unready.worker.beat(beat(1))
    assert reply is not None
    assert reply.incarnation == 7


def test_a_forgotten_job_is_gone_but_not_code_that_others_run(store: Sides) -> None:
    store.leader.begin(spec("k"), b"code", fence())
    store.write(task())
    store.leader.forget("j")
    store.leader.forget("j")
    assert store.worker.job("j") is None
    assert store.worker.code(CODE) == b"code"
    assert store.claim(request()).answer is Answer.OBSOLETE
    store.leader.forget("k")
    assert store.worker.code(CODE) is None


# Claims and reports.


def test_the_leader_hears_of_a_claim_once(store: Sides) -> None:
    store.write(task())
    answer = store.claim(request())
    assert answer.answer is Answer.NEW
    store.claim(request())
    (claimed,) = store.inbox.wait(AttemptClaimed)
    assert claimed.attempt == answer.attempt
    assert (claimed.worker, claimed.boot, claimed.attempt.task) == ("w1", "b1", TaskRef("j", 0, Kind.MAP, 0))
    store.inbox.stays(AttemptClaimed, 1)


def test_the_leader_is_told_of_a_report_with_the_beats_until_it_has_written_what_follows(
    store: Sides,
) -> None:
    store.write(task())
    attempt = store.claim(request()).attempt
    store.report(report(attempt, status=Status.DONE))
    store.worker.beat(beat(1))
    told = store.inbox.wait(AttemptReported, 2)
    assert told[0] == told[1]
    store.inbox.wait(BeatReceived)
    assert isinstance(store.inbox.events[-1], BeatReceived)  # the report comes before the beat without it
    store.write(task(primary=0))
    store.worker.beat(beat(2))
    store.inbox.stays(AttemptReported, 2)


def test_a_boot_that_never_beat_may_not_claim(store: Sides) -> None:
    store.write(task())
    assert store.claim(request(boot="b2")).answer is Answer.DECLINED
    store.worker.beat(beat(1, boot="b2"))
    assert store.claim(request(boot="b2")).answer is Answer.NEW


def test_many_claims_in_one_call_are_answered_in_order(store: Sides) -> None:
    store.write(task(0), task(1))
    answers = store.worker.claim(
        [request("a", index=1), request("b", index=9), request("c", index=0), request("d", index=1)]
    )
    assert [a.answer for a in answers] == [Answer.NEW, Answer.OBSOLETE, Answer.NEW, Answer.RESUME]
    assert answers[3].attempt == answers[0].attempt
    assert store.worker.claim([]) == []


def test_a_report_is_recorded_once(store: Sides) -> None:
    store.write(task())
    attempt = store.claim(request()).attempt
    assert store.report(report(attempt)) is ReportAnswer.RECORDED
    assert store.report(report(attempt)) is ReportAnswer.ALREADY
    (reported,) = store.inbox.wait(AttemptReported)
    assert reported.outcome.status is Status.FAILED
    store.inbox.stays(AttemptReported, 1)
    assert store.claim(request("t2")).answer is Answer.OBSOLETE


@pytest.mark.parametrize(
    "after",
    [
        task(primary=2),
        task(primary=2, backup=3),
        task(primary=0),
        job_state(JobState.CANCELLED),
        job_state(JobState.FAILED),
        job_state(JobState.COMMITTING),
        job_state(JobState.DONE),
    ],
    ids=repr,
)
def test_a_dead_attempt_cannot_report(store: Sides, after: object) -> None:
    store.write(task())
    attempt = store.claim(request()).attempt
    store.write(after)  # type: ignore[arg-type]
    assert store.report(report(attempt)) is ReportAnswer.OBSOLETE
    store.inbox.stays(AttemptReported, 0)
    reply = store.worker.beat(beat(1, "t1"))
    assert reply is not None
    assert reply.live == frozenset()


def test_reports_of_strangers_change_nothing(store: Sides) -> None:
    never = AttemptRef(TaskRef("j", 0, Kind.MAP, 0), 1, 1, "never")
    assert store.report(report(never)) is ReportAnswer.OBSOLETE
    assert store.report(report(never._replace(task=TaskRef("k", 0, Kind.MAP, 0)))) is ReportAnswer.OBSOLETE
    store.write(task())
    attempt = store.claim(request()).attempt
    assert store.report(report(attempt._replace(token="other"))) is ReportAnswer.OBSOLETE
    assert store.report(report(attempt)) is ReportAnswer.RECORDED


# Beats, orders, locations.


def test_a_beat_is_told_what_lives(store: Sides) -> None:
    store.write(task())
    store.claim(request())
    reply = store.worker.beat(beat(1, "t1", "unknown"))
    assert reply is not None
    assert reply.live == {"t1"}
    assert reply.health is WorkerHealth.ALIVE
    assert reply.orders == ()
    assert store.inbox.wait(BeatReceived)[0].beat == beat(1, "t1", "unknown")


def test_orders_are_numbered_and_repeated_until_acknowledged(store: Sides) -> None:
    store.worker.beat(beat(1))
    offer = Offer(message=message())
    store.write(
        orders=(
            GiveOrder(worker="w1", boot="b1", order=Kill(token="t")),
            GiveOrder(worker="w1", boot="b1", order=offer),
            GiveOrder(worker="w1", boot="b1", order=DropJob(job="x")),
            GiveOrder(worker="w1", boot="b1", order=Drain()),
            GiveOrder(worker="w2", boot="b1", order=Drain()),
        )
    )
    for seq, acked, numbers in ((2, 0, [1, 2, 3, 4]), (3, 2, [3, 4]), (4, 4, [])):
        reply = store.worker.beat(beat(seq, acked=acked))
        assert reply is not None
        assert [order.number for order in reply.orders] == numbers
    store.write(orders=(GiveOrder(worker="w1", boot="b1", order=Kill(token="u")),))
    reply = store.worker.beat(beat(5, acked=4))
    assert reply is not None
    assert reply.orders == (Numbered(number=5, order=Kill(token="u")),)


def test_orders_for_an_older_boot_are_dropped(store: Sides) -> None:
    store.worker.beat(beat(1))
    store.write(orders=(GiveOrder(worker="w1", boot="b1", order=Drain()),))
    reply = store.worker.beat(beat(1, boot="b2"))
    assert reply is not None
    assert reply.orders == ()
    store.write(orders=(GiveOrder(worker="w1", boot="b1", order=Drain()),))
    reply = store.worker.beat(beat(2, boot="b2"))
    assert reply is not None
    assert reply.orders == ()


def test_a_late_beat_changes_nothing(store: Sides) -> None:
    store.write(task())
    store.claim(request())
    store.worker.beat(beat(3, "t1"))
    reply = store.worker.beat(beat(2))
    assert reply is not None
    store.inbox.stays(BeatReceived, 1)
    store.worker.beat(beat(1, worker="w2", boot="b9"))
    again = store.claim(request("t2", "w2", "b9"))
    assert (again.answer, again.beat_seq) == (Answer.HELD, 3)


def test_the_newest_boot_wins(store: Sides) -> None:
    store.write(task())
    store.claim(request())
    store.worker.beat(beat(1, "t1"))
    store.worker.beat(beat(1, boot="b2"))
    reply = store.worker.beat(beat(2, "t1"))
    assert reply is not None
    assert reply.health is WorkerHealth.DEAD
    assert reply.orders == (Numbered(number=1, order=Drain()),)
    assert reply.live == frozenset()
    store.inbox.stays(BeatReceived, 2)
    assert store.claim(request("t9", "w1", "b1", index=0)).answer in (Answer.DECLINED, Answer.RESUME)


def test_health_is_what_the_leader_wrote(store: Sides) -> None:
    store.worker.beat(beat(1))
    store.write(WriteWorker(worker="w1", boot="b1", health=WorkerHealth.QUARANTINED))
    store.write(WriteWorker(worker="w1", boot="old", health=WorkerHealth.ALIVE))
    reply = store.worker.beat(beat(2))
    assert reply is not None
    assert reply.health is WorkerHealth.QUARANTINED


def test_a_quarantine_outlasts_boots_with_its_reason(store: Sides) -> None:
    def known() -> StoredWorker:
        return next(each for each in store.state.workers() if each.beat.worker == "w1")

    store.worker.beat(beat(1))
    word = Quarantine(why="m-00001 failed: can't open caf\udce9", at=1_700_000_000.25)
    quarantined = WriteWorker(worker="w1", boot="b1", health=WorkerHealth.QUARANTINED, quarantine=word)
    store.write(quarantined)
    assert (known().health, known().quarantine) == (WorkerHealth.QUARANTINED, word)
    store.worker.beat(beat(1, boot="b2"))
    assert (known().health, known().quarantine) == (WorkerHealth.QUARANTINED, word)
    told = store.inbox.wait_for(lambda each: isinstance(each, BeatReceived) and each.beat.boot == "b2")
    assert (told.health, told.quarantine) == (WorkerHealth.QUARANTINED, word)
    store.write(WriteWorker(worker="w1", boot="b2", health=WorkerHealth.ALIVE))
    assert (known().health, known().quarantine) == (WorkerHealth.ALIVE, None)
    store.worker.beat(beat(1, boot="b3"))
    assert known().quarantine is None


def test_a_goodbye_is_heard_once_the_boot_is_the_workers(store: Sides) -> None:
    store.worker.beat(beat(1))
    store.worker.leave("w1", "older")
    store.worker.leave("stranger", "b1")
    store.inbox.stays(WorkerLeft, 0)
    store.worker.leave("w1", "b1")
    assert store.inbox.wait(WorkerLeft) == [WorkerLeft(worker="w1", boot="b1")]
    store.write(task())
    assert store.claim(request()).answer is Answer.DECLINED


def test_locations_are_followed_by_position(store: Sides) -> None:
    assert store.worker.locations("j", 0) == (0, [])
    store.write(WriteLocation(location=location(0)), WriteLocation(location=location(1)))
    at, entries = store.worker.locations("j", 0)
    assert entries == [(location(0), False), (location(1), False)]
    store.write(WriteLocation(location=location(0), withdrawn=True))
    at, entries = store.worker.locations("j", at)
    assert entries == [(location(0), True)]
    assert store.worker.locations("j", at) == (at, [])
    assert store.worker.locations("unknown", 0) == (0, [])


def test_a_line_of_a_beat_is_matched_by_ticket_too(store: Sides) -> None:
    store.write(task(backup=2))
    store.claim(request())

    wrong = replace(beat(1), running=(line("t1", attempt=AttemptRef(ref(), 2, 1, "t1")),))
    reply = store.worker.beat(wrong)
    assert reply is not None
    assert reply.live == frozenset()


def test_a_boots_address_is_known_while_it_is_its_workers(store: Sides) -> None:
    assert store.worker.address("w1", "b1") is None
    store.worker.beat(replace(beat(1), address="h:1"))
    assert store.worker.address("w1", "b1") == "h:1"
    store.worker.beat(replace(beat(1, boot="b2"), address="h:2"))
    assert store.worker.address("w1", "b1") is None
    assert store.worker.address("w1", "b2") == "h:2"
    assert store.worker.address("w2", "b1") is None


def test_who_beats_under_an_id_and_since_when(store: Sides) -> None:
    found = store.worker.boot("w1")
    assert found is not None
    assert found[0] == "b1"
    assert 0 <= found[1] < 5
    store.worker.beat(beat(1, boot="b2"))
    store.worker.leave("w1", "b1")  # which isn't the worker's any more
    found = store.worker.boot("w1")
    assert found is not None
    assert found[0] == "b2"
    store.worker.leave("w1", "b2")
    assert store.worker.boot("w1") is None
    assert store.worker.boot("w2") is None


def test_logs_are_noted_with_their_job(store: Sides) -> None:
    store.worker.log("j", "m-00000.1.1.t", "digest")
    store.worker.log("j", "m-00001.1.1.t", "")
    store.worker.log("k", "m-00001.1.1.t", "digest")
    assert store.state.logs("j") == {"m-00000.1.1.t": "digest", "m-00001.1.1.t": ""}
    assert store.state.logs("k") == {}
    store.leader.forget("j")
    assert "m-00000.1.1.t" not in store.state.logs("j")
