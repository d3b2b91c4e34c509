"""The leader's machine: a job's life without trouble, and what late, doubled or lost events do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from machine_script import Claim, Script, known, spec

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.machine import MachineConfig
from mrq.core.model import JobState, Outcome, Status, TaskState, WorkerHealth
from mrq.core.orders import DropJob
from mrq.core.refs import Kind, TaskRef


def two_by_one(config: MachineConfig | None = None, **more: object) -> Script:
    s = Script(config)
    s.join("w1", "w2")
    s.submit(**more)
    return s


def test_a_job_runs_from_submit_to_done():
    s = two_by_one(maps=2, reducers=2)
    assert s.published() == ["m0", "m1"]
    assert [w.state for w in s.of(c.WriteJob)] == [JobState.PENDING, JobState.RUNNING]
    s.done(s.claim("m0", "w1"), counters={"seen": 2})
    assert [x.location.map_index for x in s.of(c.WriteLocation)] == [0]
    s.done(s.claim("m1", "w2"), counters={"seen": 3})
    s.run("r0", worker="w1")
    s.done(s.claim("r1", "w2"), counters={"seen": 1})
    (commit,) = s.of(c.StartCommit)
    assert [f.final for f in commit.files] == ["part-00000", "part-00001"]
    assert commit.counters == {"seen": 6}
    assert s.state() is JobState.COMMITTING
    s.do(e.CommitEnded(job="j"))
    assert [type(x) for x in s.out] == [c.WriteJob, c.GiveAll, c.EndJob]
    assert s.state() is JobState.DONE


def test_every_task_record_is_written_before_its_message():
    s = two_by_one(maps=3)
    written = set()
    for command in s.log:
        if isinstance(command, c.WriteTask):
            written.add((command.task, command.primary))
        if isinstance(command, c.PublishTask):
            m = command.message
            assert (m.task, m.ticket) in written


def test_timestamps_are_queued_started_updated_finished():
    s = two_by_one()
    s.advance(1)
    claim = s.claim("m0", "w1")
    s.advance(2)
    s.done(claim)
    t = s.task("m0")
    assert (t.queued_at, t.started_at, t.finished_at) == (100.0, 101.0, 103.0)
    assert t.updated_at == 103.0
    assert (t.worker, t.boot, s.winner("m0")) == ("w1", "w1-boot1", claim.attempt)


def test_embedded_reduces_start_after_the_maps():
    s = two_by_one(MachineConfig.for_one_worker())
    s.run("m0", worker="w1")
    assert s.published() == []
    s.run("m1", worker="w1")
    assert s.published() == ["r0"]


def test_on_a_cluster_reduces_start_from_the_first_completed_map_on():
    s = two_by_one(reducers=4)
    assert s.published() == ["m0", "m1"]
    s.run("m0", worker="w1")
    assert s.published() == ["r0", "r1"]  # at most half of the four reduce slots
    s.run("m1", worker="w1")
    assert s.published() == ["r2", "r3"]


def test_map_only_jobs_commit_their_maps():
    s = two_by_one(reducers=0)
    s.run("m0", "m1", worker="w1")
    (commit,) = s.of(c.StartCommit)
    assert [f.final for f in commit.files] == ["part-00000", "part-00001"]
    assert s.of(c.WriteLocation, s.log) == []


def test_a_job_without_splits_runs_its_reduces_over_nothing():
    s = two_by_one(maps=0, reducers=2)
    assert s.published() == ["r0", "r1"]
    s.run("r0", "r1", worker="w1")
    assert s.of(c.StartCommit)


def test_a_job_without_tasks_commits_at_once():
    s = two_by_one(maps=0, reducers=0)
    assert s.of(c.StartCommit)[0].files == ()


def test_submitting_the_same_job_twice_changes_nothing():
    s = two_by_one()
    assert s.do(e.JobSubmitted(spec=spec())) == []


def test_a_failed_commit_fails_the_job_and_a_retry_commits_again():
    s = two_by_one()
    s.run("m0", "m1", "r0", worker="w1")
    s.do(e.CommitEnded(job="j", error="the disk is full"))
    assert (s.state(), s.error()) == (JobState.FAILED, "the disk is full")
    assert not s.dropped(s.log)
    s.do(e.RetryRequested(job="j"))
    assert s.of(c.StartCommit)


# Late, doubled, lost and reordered.


def test_a_double_report_changes_nothing():
    s = two_by_one()
    claim = s.claim("m0", "w1")
    s.done(claim)
    before = known(s.machine)
    assert s.done(claim) == []
    assert s.view().maps.records_out == 6
    assert known(s.machine) == before


def test_a_double_claim_changes_nothing():
    s = two_by_one()
    claim = s.claim("m0", "w1")
    assert s.tell(claim) == []
    assert len(s.view().attempts) == 1


def test_a_report_that_overtakes_its_claim_counts():
    s = two_by_one()
    claim = s.claim("m0", "w1", tell=False)
    s.done(claim)
    assert s.is_("m0", TaskState.COMPLETED)
    assert s.tell(claim) == []
    assert not s.machine.workers(whole=True)[0].attempts


def test_a_claim_after_completion_by_another_is_killed():
    s = two_by_one()
    first = s.claim("m0", "w1")
    late = s.claim("m0", "w2", tell=False)
    s.done(first)
    s.tell(late)
    assert s.killed() == [late.attempt.token]


def test_a_late_report_with_a_dead_ticket_changes_nothing():
    s = two_by_one()
    old = s.claim("m0", "w1")
    s.fail(old)
    s.advance(2)
    new = s.claim("m0", "w2")
    assert new.message.ticket == old.message.ticket + 1
    assert s.done(old) == []
    assert s.is_("m0", TaskState.RUNNING)
    s.done(new)
    assert s.winner("m0") == new.attempt


def test_a_report_with_another_ticket_changes_nothing():
    s = two_by_one()
    claim = s.claim("m0", "w1")
    other = e.AttemptReported(
        attempt=claim.attempt._replace(ticket=7),
        worker="w1",
        boot="w1-boot1",
        outcome=outcome_of(s, claim),
    )
    assert s.do(other) == []
    assert s.is_("m0", TaskState.RUNNING)


def outcome_of(s: Script, claim: Claim) -> Outcome:
    return Outcome(status=Status.DONE, result=s.result(claim))


def test_events_of_unknown_jobs_workers_and_tasks_change_nothing():
    s = two_by_one()
    claim = s.claim("m0", "w1")
    for job, index in (("nope", 0), ("j", 99)):
        task = TaskRef(job, 0, Kind.MAP, index)
        base = {"attempt": claim.attempt._replace(task=task)}
        held = {"worker": "w9", "boot": "b"}
        events = [
            e.AttemptClaimed(**base, **held),
            e.AttemptReported(**base, **held, outcome=outcome_of(s, claim)),
            e.OutputMissing(**base),
            e.MessageDied(message=replace(claim.message, task=task), reason="returned"),
        ]
        for event in events:
            assert s.do(event) == []
    for event in (
        e.CancelRequested(job="nope"),
        e.RetryRequested(job="nope"),
        e.CommitEnded(job="j"),
        e.CommitEnded(job="j", error="x"),
        e.ForgetRequested(job="j"),
        e.DrainRequested(worker="w9"),
        e.QuarantineRequested(worker="w9"),
        e.ReadmitRequested(worker="w9"),
        e.WorkerLeft(worker="w9", boot="b"),
    ):
        assert s.do(event) == []


def test_an_older_claim_of_a_ticket_changes_nothing():
    """What is recorded is read before the event of the claim that it replaced comes: the number says so."""
    s = two_by_one(maps=1)
    older = s.claim("m0", "w1", tell=False)
    newer = s.claim("m0", "w2")
    assert s.tell(older) == []
    assert (s.view().worker_losses, s.machine._state.lost_boots) == (0, [])
    s.done(newer)
    assert s.winner("m0") == newer.attempt


def test_an_unclaimed_message_is_published_again_with_the_same_ticket():
    s = two_by_one(maps=1)
    (first,) = s.of(c.PublishTask, s.log)
    out = s.advance(10.5)
    assert [x.message for x in s.of(c.PublishTask, out)] == [first.message]


def test_after_some_messages_without_a_claim_there_is_a_new_ticket():
    # A report that was lost: the store calls every new claim obsolete until then.
    s = two_by_one(maps=1)
    s.advance(45)
    assert s.task("m0").ticket == 2


def test_without_free_slots_nothing_is_published_again():
    s = Script()
    s.join("w1", maps=1, reduces=1)
    s.submit(maps=2)
    s.claim("m0", "w1")
    assert s.published(s.advance(60)) == []


def test_a_returned_message_is_published_again_but_not_for_ever():
    s = two_by_one(maps=1)
    for _ in range(11):
        m = s.of(c.PublishTask, s.log)[-1].message
        s.do(e.MessageDied(message=m, reason="unroutable"))
        s.advance(31)
        if s.state() is JobState.FAILED:
            break
    assert s.error().startswith("the message of m-00000 was returned 11 times: unroutable")


# Cancel and forget.


def test_cancel_kills_what_runs_and_ends_the_job():
    s = two_by_one()
    claim = s.claim("m0", "w1")
    s.do(e.CancelRequested(job="j", reason="by hand"))
    assert s.killed() == [claim.attempt.token]
    assert [(x.state, x.error) for x in s.of(c.EndJob)] == [(JobState.CANCELLED, "by hand")]
    assert s.done(claim) == []
    assert s.view().maps.completed == 0


def test_cancel_before_anything_ran():
    s = Script(MachineConfig(window_min=0))
    s.submit()
    assert s.state() is JobState.PENDING
    s.do(e.CancelRequested(job="j"))
    assert s.state() is JobState.CANCELLED


def test_cancel_while_committing_is_too_late():
    s = two_by_one()
    s.run("m0", "m1", "r0", worker="w1")
    assert s.do(e.CancelRequested(job="j")) == []
    s.do(e.CommitEnded(job="j"))
    assert s.state() is JobState.DONE


@pytest.mark.parametrize("end", [e.CommitEnded(job="j"), e.CommitEnded(job="j", error="x")])
def test_cancel_of_a_job_that_is_over_changes_nothing(end):
    s = two_by_one()
    s.run("m0", "m1", "r0", worker="w1")
    s.do(end)
    assert s.do(e.CancelRequested(job="j")) == []


def test_a_cancelled_job_goes_on_after_retry_with_its_completed_work():
    s = two_by_one()
    s.run("m0", worker="w1")
    s.do(e.CancelRequested(job="j"))
    s.do(e.RetryRequested(job="j"))
    assert s.state() is JobState.RUNNING
    assert "m1" in s.published()
    assert "m0" not in s.published()


def test_a_job_that_is_over_can_be_forgotten_with_its_files():
    s = two_by_one()
    s.do(e.CancelRequested(job="j"))
    assert s.do(e.ForgetRequested(job="j")) == [c.GiveAll(order=DropJob(job="j"))]
    assert s.machine.job("j") is None
    assert list(s.machine.tasks("j")) == []


# Fairness and caps.


def test_max_running_caps_what_is_handed_out():
    s = two_by_one(maps=8, max_running=3)
    assert s.published() == ["m0", "m1", "m2"]
    s.run("m0", worker="w1")
    assert len(s.published()) == 1


def test_two_jobs_share_and_priority_doubles_the_share():
    s = Script(MachineConfig(window_min=0))
    s.submit("a", maps=100)
    s.submit("b", maps=100, priority=1)
    s.join("w1", maps=15)
    assert (s.view("a").maps.queued, s.view("b").maps.queued) == (10, 20)


def test_the_window_keeps_the_rest_idle():
    s = two_by_one(maps=1000)
    queued = s.view().maps.queued
    assert 8 <= queued <= 20
    assert s.view().maps.idle == 1000 - queued


def test_workers_are_seen_with_their_slots_and_health():
    s = two_by_one()
    (w1, w2) = s.machine.workers()
    assert (w1.worker, w1.health, w1.map_slots) == ("w1", WorkerHealth.ALIVE, 2)
    assert w2.boot == "w2-boot1"
