"""A job of two stages: its keys are sampled, and what they say is known before anything of the next is handed
out."""

from __future__ import annotations

import pytest
from machine_script import Script, known
from test_machine_adopt import Kept, cut

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.model import JobState, Outcome, StagePlan, Status, TaskState
from mrq.core.store_rows import plan_key
from mrq.errors import CorruptFileError

PLAN = StagePlan(boundaries=("k", (1, "x")))
PLANNED = e.StagePlanned(job="j", stage=0, plan=PLAN)


def sampled(**more: object) -> Kept:
    """A job of two maps and a reduce, of which two beginnings are sampled; with two workers."""
    s = Kept()
    s.join("w1", "w2")
    s.submit(sampled=2, **more)
    return s


def sample(s: Script, index: int, **result: object) -> list[c.Command]:
    return s.done(s.claim(f"m1.{index}", "w1"), sample=b"keys of %d" % index, files=(), **result)


def between(**more: object) -> Kept:
    """The samples are there, and nobody has said yet what they mean."""
    s = sampled(**more)
    sample(s, 1)
    sample(s, 0)
    return s


def test_what_samples_say_is_asked_for_and_written_before_the_next_stage_begins():
    s = sampled()
    assert s.published() == ["m1.0", "m1.1"]
    assert not s.of(c.PlanStage, sample(s, 1, counters={"seen": 5}))
    made = sample(s, 0, counters={"seen": 7})
    (asked,) = s.of(c.PlanStage, made)
    assert (asked.job, asked.complete, asked.stage, asked.known.reducers) == ("j", 1, 0, 1)
    assert asked.samples == (b"keys of 0", b"keys of 1"), "in the order of the tasks"
    assert not s.published(made)
    made = s.do(PLANNED)
    assert s.of(c.WritePlan, made) == [c.WritePlan(job="j", stage=0, plan=PLAN)]
    kinds = [type(x) for x in made]
    assert kinds.index(c.WritePlan) < kinds.index(c.PublishTask)
    assert s.published(made) == ["m0", "m1"]
    assert {x.message.plan for x in s.of(c.PublishTask, made)} == {PLAN.checksum}
    s.run("m0", "m1", worker="w1")
    s.done(s.claim("r0", "w2"), counters={"seen": 1})
    (commit,) = s.of(c.StartCommit)
    assert [file.final for file in commit.files] == ["part-00000"]
    assert commit.counters == {"seen": 1}, "what a sampling counts counts for nothing"


def test_messages_of_a_job_of_one_stage_name_no_plan():
    s = Script()
    s.join("w1")
    s.submit()
    assert {x.message.plan for x in s.of(c.PublishTask)} == {0}


def test_the_same_plan_told_again_changes_nothing():
    s = between()
    s.do(PLANNED)
    s.run("m0", worker="w1")
    before = known(s.machine)
    assert s.do(PLANNED) == []
    assert known(s.machine) == before


def test_a_plan_that_comes_before_all_samples_are_there_changes_nothing():
    s = sampled()
    sample(s, 0)
    assert s.do(PLANNED) == []
    assert s.of(c.PlanStage, sample(s, 1))


@pytest.mark.parametrize("end", [e.CancelRequested(job="j"), e.JobBroken(job="j", error="no")])
def test_a_job_that_ends_between_two_stages_does_not_go_on(end: e.Event):
    s = between()
    s.do(end)
    assert s.state() in (JobState.CANCELLED, JobState.FAILED)
    assert s.do(PLANNED) == []
    assert s.of(c.PlanStage, s.do(e.RetryRequested(job="j"))), "a retry goes on where it was"
    assert s.published(s.do(PLANNED)) == ["m0", "m1"]


def test_a_sample_that_fails_fails_the_job_by_its_name():
    s = sampled(max_failures=1)
    s.fail(s.claim("m1.1", "w1"), message="no number")
    assert s.state() is JobState.FAILED
    assert "m1-00001 failed" in s.error()
    assert s.view().errors[0].stage == "sample"
    s.do(e.RetryRequested(job="j"))
    sample(s, 1)
    sample(s, 0)
    assert s.published(s.do(PLANNED)) == ["m0", "m1"]


def test_what_is_heard_late_of_a_sample_is_of_no_task_of_the_next_stage():
    """Task 0 of either stage has the ticket 1."""
    s = sampled()
    first = s.claim("m1.0", "w1")
    s.done(first, sample=b"a", files=())
    sample(s, 1)
    s.do(PLANNED)
    before = known(s.machine)
    assert s.report(first, Outcome(status=Status.FAILED)) == []
    assert s.do(e.OutputMissing(attempt=first.attempt)) == []
    assert s.do(e.MessageDied(message=first.message, reason="returned")) == []
    assert known(s.machine) == before
    late = e.AttemptClaimed(attempt=first.attempt._replace(token="late"), worker="w1", boot=first.boot)
    assert s.killed(s.do(late)) == ["late"]
    assert s.is_("m0", TaskState.QUEUED)


def test_what_waits_for_a_sample_is_done_to_no_task_of_the_next_stage():
    """Its message, which nobody was seen to claim for long, has a ticket that task 0 of the next has, too."""
    s = sampled()
    s.advance(9)
    sample(s, 0)
    sample(s, 1)
    s.do(PLANNED)
    log = len(s.log)
    s.advance(3)
    assert s.published(s.log[log:]) == []
    s.advance(8)
    assert "m0" in s.published(s.log[log:]), "10 s after its own message"


def test_takeover_between_two_stages_asks_again():
    s = between()
    cut(s, s.store)
    (asked,) = s.of(c.PlanStage)
    assert asked.samples == (b"keys of 0", b"keys of 1")
    assert s.published(s.do(PLANNED)) == ["m0", "m1"]


def test_takeover_in_the_next_stage_goes_on_there():
    s = between()
    s.do(PLANNED)
    s.run("m0", worker="w1")
    log = len(s.log)
    cut(s, s.store)
    made = s.log[log:]
    assert not s.of(c.PlanStage, made)
    assert s.is_("m0", TaskState.COMPLETED)
    assert {x.message.plan for x in s.of(c.PublishTask, made)} == {PLAN.checksum}
    s.beat("w1")
    s.run("m1", "r0", worker="w1")
    assert s.state() is JobState.COMMITTING


def test_records_without_the_plan_of_their_stage_are_refused():
    s = between()
    s.do(PLANNED)
    del s.store.records["j"][plan_key(0)]
    with pytest.raises(CorruptFileError, match="records of job j"):
        cut(s, s.store)


def test_a_lost_store_gets_the_plan_with_the_view():
    s = between()
    s.do(PLANNED)
    s.run("m0", worker="w1")
    made = s.do(e.StoreLost())
    assert s.of(c.WritePlan, made) == [c.WritePlan(job="j", stage=0, plan=PLAN)]
    assert {x.task.stage for x in s.of(c.WriteTask, made)} == {0}


def test_a_store_that_is_lost_between_two_stages_gets_the_samples():
    s = between()
    made = s.do(e.StoreLost())
    assert not s.of(c.WritePlan, made)
    assert [x.winner is not None for x in s.of(c.WriteTask, made)] == [True, True]
    assert set(s.machine.records(made)) == {"m1.0", "m1.1"}
    assert s.published(s.do(PLANNED)) == ["m0", "m1"]


def test_what_was_decided_of_a_complete_stage_is_written_without_records():
    """The store was away meanwhile: what is written then is of the next stage."""
    s = sampled()
    made = [*sample(s, 0), *sample(s, 1), *s.do(PLANNED)]
    assert set(s.machine.records(made)) == {plan_key(0), "m0", "m1"}
