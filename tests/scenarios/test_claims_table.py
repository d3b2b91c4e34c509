"""The claim table, row by row, with the interleavings that it was drawn against."""

from __future__ import annotations

from dataclasses import replace

import pytest
from machine_script import spec

from mrq.core.claims import Claims
from mrq.core.commands import GiveOrder, WriteJob, WriteTask, WriteWorker
from mrq.core.events import AttemptClaimed, AttemptReported, BeatReceived
from mrq.core.model import (
    Beat,
    JobState,
    Outcome,
    RunningAttempt,
    Slots,
    Status,
    TaskMessage,
    WorkerHealth,
)
from mrq.core.orders import Kill
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_api import (
    Answer,
    Batch,
    ClaimAnswer,
    ClaimRequest,
    Fence,
    ReportAnswer,
    StoredJob,
    Write,
    WriteAnswer,
)


class Table:
    """A store with one published map, and workers w1 to w3 that have said hello."""

    def __init__(self) -> None:
        self.claims = Claims(store_id="s")
        self.seq = 0
        self.beats: dict[str, int] = {}
        assert self.claims.begin("j", self.fence()) is WriteAnswer.WRITTEN
        self.task()
        for worker in ("w1", "w2", "w3"):
            self.beat(worker)

    def fence(self) -> Fence:
        return Fence(incarnation=1, epoch=1, owner="o", seq=self.seq)

    def write(self, *writes: Write) -> None:
        self.seq += 1
        assert self.claims.write(Batch(job="j", fence=self.fence(), writes=writes)) is WriteAnswer.WRITTEN

    def task(self, ticket: int = 1, *, backup: int = 0) -> None:
        """The tickets that it may be claimed with; 0 is none."""
        self.write(WriteTask(task=TaskRef("j", 0, Kind.MAP, 0), primary=ticket, backup=backup))

    def beat(self, worker: str, *tokens: str, boot: str = "b", draining: bool = False) -> None:
        seq = self.beats[worker + boot] = self.beats.get(worker + boot, 0) + 1
        running = tuple(
            RunningAttempt(attempt=AttemptRef(TaskRef("j", 0, Kind.MAP, 0), 1, 1, token)) for token in tokens
        )
        slots = Slots(map=1, reduce=1, total=2)
        self.claims.beat(
            Beat(worker=worker, boot=boot, seq=seq, slots=slots, running=running, draining=draining)
        )

    def claim(
        self,
        token: str,
        worker: str = "w1",
        boot: str = "b",
        *,
        job: str = "j",
        ticket: int = 1,
        not_worker: str | None = None,
        held: ClaimAnswer | None = None,
        fits: bool = True,
    ) -> ClaimAnswer:
        message = TaskMessage(
            task=TaskRef(job, 0, Kind.MAP, 0),
            ticket=ticket,
            not_worker=not_worker,
        )
        request = ClaimRequest(
            message=message,
            worker=worker,
            boot=boot,
            token=token,
            held_beat_seq=held.beat_seq if held else None,
            held_token=held.attempt.token if held and held.attempt else None,
            fits=fits,
        )
        return self.claims.claim(request)[0]

    def report(self, attempt: AttemptRef | None) -> ReportAnswer:
        assert attempt is not None
        request = AttemptReported(
            attempt=attempt,
            worker="w1",
            boot="b",
            outcome=Outcome(status=Status.FAILED),
        )
        return self.claims.report(request)[0]


def test_not_ready_is_no_store() -> None:
    t = Table()
    t.claims.ready = False
    assert t.claim("t1").answer is Answer.NO_STORE
    t.claims.open(2)
    assert t.claim("t1").answer is Answer.NEW


def test_an_unknown_job_is_obsolete() -> None:
    assert Table().claim("t1", job="k").answer is Answer.OBSOLETE


@pytest.mark.parametrize("state", [JobState.COMMITTING, JobState.DONE, JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_is_over_is_obsolete(state: JobState) -> None:
    t = Table()
    t.write(WriteJob(job="j", state=state))
    assert t.claim("t1").answer is Answer.OBSOLETE


def test_another_ticket_is_obsolete() -> None:
    t = Table()
    t.task(3)
    assert t.claim("t1", ticket=2).answer is Answer.OBSOLETE
    assert t.claim("t2", ticket=4).answer is Answer.OBSOLETE
    assert t.claim("t3", ticket=3).answer is Answer.NEW


def test_a_task_may_have_a_ticket_for_a_backup_alone() -> None:
    t = Table()
    t.task(0, backup=2)
    assert t.claim("t1", ticket=1).answer is Answer.OBSOLETE
    assert t.claim("t2", ticket=2).answer is Answer.NEW


@pytest.mark.parametrize("ticket", [1, 0, -1])
def test_a_task_without_tickets_is_obsolete(ticket: int) -> None:
    """It is idle, or completed; no message has the ticket 0, and one that says so gets nothing."""
    t = Table()
    t.task(0)
    assert t.claim("t1", ticket=ticket).answer is Answer.OBSOLETE


def test_an_attempt_that_reported_is_obsolete() -> None:
    t = Table()
    assert t.report(t.claim("t1").attempt) is ReportAnswer.RECORDED
    for worker in ("w1", "w2"):
        assert t.claim("t2", worker).answer is Answer.OBSOLETE
    assert t.claim("t1").answer is Answer.OBSOLETE


def test_nobody_holds_the_ticket_is_new_and_numbers_only_grow() -> None:
    t = Table()
    first = t.claim("t1")
    assert (first.answer, first.attempt) == (
        Answer.NEW,
        AttemptRef(TaskRef("j", 0, Kind.MAP, 0), 1, 1, "t1"),
    )
    t.task(2)
    second = t.claim("t2", ticket=2)
    assert second.attempt == AttemptRef(TaskRef("j", 0, Kind.MAP, 0), 2, 2, "t2")


def test_the_same_token_gets_the_same_answer() -> None:
    # The claim was recorded and its answer lost: asked again, by whoever has the token.
    t = Table()
    first = t.claim("t1")
    again = t.claim("t1")
    assert (again.answer, again.attempt) == (Answer.SAME, first.attempt)


def test_the_same_boot_resumes() -> None:
    # The connection was lost and the message came back to the worker that runs it; or it got a copy as well.
    t = Table()
    first = t.claim("t1")
    again = t.claim("t2")
    assert (again.answer, again.attempt) == (Answer.RESUME, first.attempt)


def test_a_holder_whose_beat_lists_it_is_held_then_lives_on_its_beats() -> None:
    # Its message was delivered again; or a new leader has published it again, while the first was claimed.
    t = Table()
    t.claim("t1")
    t.beat("w1", "t1")
    held = t.claim("t2", "w2")
    assert (held.answer, held.beat_seq) == (Answer.HELD, 2)
    t.beat("w1", "t1")
    assert t.claim("t2", "w2", held=held).answer is Answer.DUPLICATE


def test_a_holder_without_a_newer_beat_loses_it() -> None:
    t = Table()
    first = t.claim("t1")
    t.beat("w1", "t1")
    held = t.claim("t2", "w2")
    taken = t.claim("t2", "w2", held=held)
    assert (taken.answer, taken.attempt) == (
        Answer.NEW,
        AttemptRef(TaskRef("j", 0, Kind.MAP, 0), 1, 2, "t2"),
    )
    assert t.report(first.attempt) is ReportAnswer.OBSOLETE
    assert t.report(taken.attempt) is ReportAnswer.RECORDED


def test_a_newer_boot_of_the_holder_loses_it_at_once() -> None:
    t = Table()
    t.claim("t1")
    t.beat("w1", "t1")
    t.beat("w1", boot="b2")
    assert t.claim("t2", "w2").answer is Answer.NEW


def test_the_newer_boot_itself_may_take_it() -> None:
    t = Table()
    t.claim("t1")
    t.beat("w1", boot="b2")
    assert t.claim("t2", "w1", "b2").answer is Answer.NEW


def test_a_beat_under_way_when_the_claim_was_recorded_is_no_evidence() -> None:
    # Claimed after beat 1; beat 2 may have been made before, so only 3 and 4 prove that it is gone.
    t = Table()
    t.claim("t1")
    t.beat("w1")
    assert t.claim("t2", "w2").answer is Answer.HELD
    t.beat("w1")
    assert t.claim("t2", "w2").answer is Answer.HELD
    t.beat("w1")
    assert t.claim("t2", "w2").answer is Answer.NEW


def test_held_names_the_holder_so_that_another_one_is_asked_about_anew() -> None:
    # w2 waits for w1; meanwhile w3 took it over. w3's beats are counted on their own.
    t = Table()
    t.claim("t1")
    t.beat("w1", "t1")
    held = t.claim("t2", "w2")
    assert t.claim("t3", "w3", held=held).answer is Answer.NEW
    again = t.claim("t2", "w2", held=held)
    assert again.answer is Answer.HELD
    assert again.attempt is not None
    assert again.attempt.token == "t3"


def test_the_other_role_is_another_row() -> None:
    t = Table()
    primary = t.claim("t1")
    t.task(1, backup=2)
    backup = t.claim("t2", "w2", ticket=2)
    assert backup.answer is Answer.NEW
    assert backup.attempt is not None
    assert backup.attempt.number == 2
    assert t.report(backup.attempt) is ReportAnswer.RECORDED
    assert t.report(primary.attempt) is ReportAnswer.RECORDED  # the leader decides who won


def test_a_worker_that_must_not_take_it_is_declined() -> None:
    t = Table()
    assert t.claim("t1", "w1", not_worker="w1").answer is Answer.DECLINED
    assert t.claim("t2", "w2", not_worker="w1").answer is Answer.NEW


def test_a_worker_without_what_the_task_needs_is_declined_and_another_may_take_it() -> None:
    t = Table()
    assert t.claim("t1", "w1", fits=False).answer is Answer.DECLINED
    assert t.claim("t1", "w1", fits=False).answer is Answer.DECLINED
    assert t.claim("t2", "w2").answer is Answer.NEW
    # Redelivered to it, as somebody else's it is judged like any other: held, and then theirs.
    assert t.claim("t1", "w1", fits=False).answer is Answer.HELD


def test_a_worker_that_does_not_fit_inherits_nothing() -> None:
    t = Table()
    assert t.claim("t2", "w2").answer is Answer.NEW
    t.beat("w2", boot="b2")  # what w2 held is gone
    assert t.claim("t1", "w1", fits=False).answer is Answer.DECLINED
    assert t.claim("t3", "w3").answer is Answer.NEW


def test_what_was_taken_back_is_obsolete_for_a_worker_that_was_declined() -> None:
    t = Table()
    assert t.claim("t1", "w1", fits=False).answer is Answer.DECLINED
    t.task(0)
    assert t.claim("t1", "w1", fits=False).answer is Answer.OBSOLETE


def test_a_draining_worker_is_declined_but_keeps_what_it_has() -> None:
    t = Table()
    t.claim("t1")
    t.beat("w1", "t1", draining=True)
    assert t.claim("t1").answer is Answer.SAME
    t.task(2)
    assert t.claim("t2", ticket=2).answer is Answer.DECLINED


@pytest.mark.parametrize("health", [WorkerHealth.QUARANTINED, WorkerHealth.DRAINING, WorkerHealth.DEAD])
def test_a_worker_that_is_shut_out_is_declined(health: WorkerHealth) -> None:
    t = Table()
    t.write(WriteWorker(worker="w1", boot="b", health=health))
    assert t.claim("t1").answer is Answer.DECLINED
    t.write(WriteWorker(worker="w1", boot="b", health=WorkerHealth.ALIVE))
    assert t.claim("t1").answer is Answer.NEW


def test_a_quarantine_outlives_the_boot() -> None:
    t = Table()
    t.write(WriteWorker(worker="w1", boot="b", health=WorkerHealth.QUARANTINED))
    t.beat("w1", boot="b2")
    assert t.claim("t1", boot="b2").answer is Answer.DECLINED


def test_a_successor_finds_claims_and_reports_of_what_is_not_completed() -> None:
    t = Table()
    attempt = t.claim("t1").attempt
    assert [type(x).__name__ for x in t.claims.recorded("j")] == ["AttemptClaimed"]
    t.report(attempt)
    assert [type(x).__name__ for x in t.claims.recorded("j")] == ["AttemptClaimed", "AttemptReported"]
    t.task(2)
    assert t.claims.recorded("j") == []


# Joining: a boot that names an address gets nothing before the leader has dialled it back.


def hello(
    t: Table, worker: str, boot: str, *, seq: int = 1, acked: int = 0, about: dict[str, object] | None = None
) -> WorkerHealth | None:
    """A beat with an address; the health that the leader is told."""
    slots = Slots(map=1, reduce=1, total=2)
    beat = Beat(worker=worker, boot=boot, seq=seq, slots=slots, address="h:1", acked_order=acked)
    _, events = t.claims.beat(replace(beat, about=about or {}))
    told = [event.health for event in events if isinstance(event, BeatReceived)]
    return told[0] if told else None


def health(t: Table, worker: str, boot: str, to: WorkerHealth) -> None:
    t.write(WriteWorker(worker=worker, boot=boot, health=to))


def test_a_boot_with_an_address_is_declined_until_it_was_dialled_back() -> None:
    t = Table()
    assert hello(t, "w9", "b") is WorkerHealth.JOINING
    assert t.claim("t1", "w9").answer is Answer.DECLINED
    health(t, "w9", "b", WorkerHealth.ALIVE)
    assert hello(t, "w9", "b", seq=2) is WorkerHealth.ALIVE
    assert t.claim("t1", "w9").answer is Answer.NEW


def test_a_newer_boot_is_dialled_anew() -> None:
    t = Table()
    hello(t, "w9", "b1")
    health(t, "w9", "b1", WorkerHealth.ALIVE)
    assert hello(t, "w9", "b2") is WorkerHealth.JOINING
    health(t, "w9", "b1", WorkerHealth.ALIVE)  # the verdict on the boot before comes late
    assert t.claim("t1", "w9", "b2").answer is Answer.DECLINED


def test_a_worker_in_quarantine_that_comes_back_stays_there() -> None:
    t = Table()
    hello(t, "w9", "b1")
    health(t, "w9", "b1", WorkerHealth.QUARANTINED)
    assert hello(t, "w9", "b2") is WorkerHealth.QUARANTINED


def test_what_a_worker_says_about_itself_is_kept_until_it_says_something_else() -> None:
    t = Table()
    hello(t, "w9", "b", about={"version": "1.0"})
    hello(t, "w9", "b", seq=2)
    (beat,) = [found.beat for found in t.claims.heard() if found.beat.worker == "w9"]
    assert (beat.seq, beat.about) == (2, {"version": "1.0"})
    hello(t, "w9", "b", seq=3, about={"version": "1.1"})
    assert t.claims.workers["w9"]["about"] == {"version": "1.1"}


# Records, takeover, and a store that was lost.


def test_a_batch_sent_again_leaves_the_records_of_the_batch_after_it() -> None:
    t = Table()
    first = Batch(job="j", fence=Fence(incarnation=1, epoch=1, owner="o", seq=2), records=(("m0", b"1"),))
    second = replace(first, fence=replace(first.fence, seq=3), records=(("m0", b"2"),), job_record=b"j")
    assert [t.claims.write(x) for x in (first, second, first)] == [
        WriteAnswer.WRITTEN,
        WriteAnswer.WRITTEN,
        WriteAnswer.ALREADY,
    ]
    stored = t.claims.load(spec("j"))
    assert stored is not None
    assert (stored.records, stored.job_record, stored.fence.seq) == ({"m0": b"2"}, b"j", 3)


def test_takeover_the_old_leaders_batch_comes_after_the_new_one_took_the_fence() -> None:
    t = Table()
    late = Batch(job="j", fence=Fence(incarnation=1, epoch=1, owner="o", seq=2), records=(("m0", b"late"),))
    assert t.claims.begin("j", Fence(incarnation=1, epoch=2, owner="p", seq=0)) is WriteAnswer.WRITTEN
    assert t.claims.write(late) is WriteAnswer.FENCED
    stored = t.claims.load(spec("j"))
    assert stored is not None
    assert not stored.records


def test_takeover_claims_go_on_and_are_told_to_the_new_leader() -> None:
    t = Table()
    first = t.claim("t1")
    assert t.claims.begin("j", Fence(incarnation=1, epoch=2, owner="p", seq=0)) is WriteAnswer.WRITTEN
    t.report(first.attempt)
    stored = t.claims.load(spec("j"))
    assert stored is not None
    assert [type(event) for event in stored.recorded] == [AttemptClaimed, AttemptReported]


def test_what_belongs_to_no_job_has_a_fence_of_its_own() -> None:
    t = Table()
    mine = Fence(incarnation=1, epoch=1, owner="o", seq=0)
    word = WriteWorker(worker="w1", boot="b", health=WorkerHealth.QUARANTINED)
    batch = Batch(job="", fence=replace(mine, seq=1), writes=(word,))
    assert t.claims.write(batch) is WriteAnswer.ROLLED_BACK  # nobody has taken it yet
    assert [t.claims.lead(mine), t.claims.lead(mine)] == [WriteAnswer.WRITTEN, WriteAnswer.ALREADY]
    assert [t.claims.write(batch), t.claims.write(batch)] == [WriteAnswer.WRITTEN, WriteAnswer.ALREADY]
    assert t.claim("t1").answer is Answer.DECLINED
    assert t.claims.lead(Fence(incarnation=1, epoch=2, owner="p", seq=0)) is WriteAnswer.WRITTEN
    assert t.claims.write(replace(batch, fence=replace(mine, seq=2))) is WriteAnswer.FENCED
    assert t.claims.lead(mine) is WriteAnswer.FENCED


def test_store_lost_a_restored_job_has_its_rows_and_nobodys_claims() -> None:
    t = Table()
    held = t.claim("t1")
    behind = Fence(incarnation=2, epoch=1, owner="o", seq=0)
    row = WriteTask(task=TaskRef("j", 0, Kind.MAP, 0), primary=2, backup=0)
    stored = StoredJob(
        spec=spec("j"),
        fence=behind,
        state=JobState.RUNNING,
        error=None,
        job_record=b"j",
        records={"m0": b"0"},
        recorded=(),
        writes=(row,),
    )
    t.claims.ready = False
    assert [t.claims.restore(stored), t.claims.restore(stored)] == [WriteAnswer.WRITTEN, WriteAnswer.ALREADY]
    late = replace(stored, fence=replace(behind, incarnation=1))
    assert t.claims.restore(late) is WriteAnswer.FENCED
    t.claims.open(2)
    assert t.report(held.attempt) is ReportAnswer.OBSOLETE
    assert t.claim("t2").answer is Answer.OBSOLETE
    assert t.claim("t3", "w2", ticket=2).answer is Answer.NEW


def test_store_lost_orders_go_on_counting_from_what_a_worker_has_acknowledged() -> None:
    t = Table()
    hello(t, "w9", "b", seq=70, acked=41)
    t.claims.write(
        Batch(
            job="j",
            fence=Fence(incarnation=1, epoch=1, owner="o", seq=2),
            orders=(GiveOrder(worker="w9", boot="b", order=Kill(token="t")),),
        )
    )
    assert [order.number for order in t.claims.workers["w9"]["orders"]] == [42]
