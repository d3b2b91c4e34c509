"""An engine takes a job up after the one that had it is gone, with its workers, its queue and its store."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_chaos import JOBS, STEPS, Chaos, check
from machine_script import Script, spec
from test_machine_adopt import Kept, Store

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.machine import Machine, MachineConfig
from mrq.core.model import JobState, Limits, StagePlan, TaskState
from mrq.core.refs import Kind
from mrq.core.store_api import StoredJob

#: The successor's worker.
BOOT = "w1-boot9"


def left(s: Kept, job: str = "j") -> StoredJob:
    """What the log of a job has: what was written of it, and no claim of any worker."""
    return replace(s.store.stored(s.machine, job), recorded=())


def again(s: Kept, *missing: str, retry: bool = True, stored: StoredJob | None = None) -> list[c.Command]:
    """Another engine takes job "j" up; of the tasks named the output is gone. All that it decides."""
    stored = stored or left(s)
    gone = [s.winner(task) for task in missing]
    s.now += 3.0
    s.machine = Machine(MachineConfig.for_one_worker(), wall=1e9)
    s.messages.clear()
    s.log.clear()
    s.do(e.JobReopened(stored=stored, worker="w1", boot=BOOT))
    for attempt in gone:
        assert attempt is not None
        s.do(e.OutputMissing(attempt=attempt))
    if retry:
        s.do(e.RetryRequested(job="j"))
    for worker in s.workers.values():
        worker.boot, worker.seq, worker.running = BOOT, 0, {}
    return s.log


def begun(**more: object) -> Kept:
    s = Kept()
    s.machine = Machine(MachineConfig.for_one_worker(), wall=1e9)
    s.join("w1")
    s.submit(**more)
    return s


def test_what_was_in_progress_begins_again_uncharged_and_the_view_is_written():
    s = begun(maps=3)
    s.run("m0", worker="w1")
    s.claim("m1", "w1")
    made = again(s)
    latest = {w.task.index: w for w in s.of(c.WriteTask, made) if w.task.kind is Kind.MAP}
    assert latest[0].winner == s.winner("m0")
    assert [(latest[i].primary, latest[i].winner) for i in (1, 2)] == [(2, None)] * 2
    assert sorted(s.published(made)) == ["m1", "m2"]
    assert [(x.location.map_index, x.location.boot) for x in s.of(c.WriteLocation, made)] == [(0, BOOT)]
    assert (s.task("m1").failures, s.task("m1").losses, s.view().worker_losses) == (0, 0, 0)
    assert s.killed(made) == []
    s.beat("w1")
    s.run("m1", "m2", "r0", worker="w1")
    assert s.state() is JobState.COMMITTING


def test_a_late_report_of_an_attempt_of_before_changes_nothing():
    s = begun(maps=2)
    old = s.claim("m0", "w1")
    again(s)
    assert s.done(old) == []


def test_charges_stay_and_a_task_that_backed_off_does_so_again():
    s = begun(maps=2, max_failures=3)
    s.fail(s.claim("m0", "w1"))
    made = again(s)
    assert s.task("m0").failures == 1
    assert s.published(made) == ["m1"]
    s.beat("w1")
    s.advance(1)
    s.fail(s.claim("m0", "w1"))
    s.advance(1)
    s.fail(s.claim("m0", "w1"))
    assert s.state() is JobState.FAILED


def test_of_a_job_of_which_nothing_was_written_everything_begins():
    s = begun(maps=2)
    made = again(s, stored=replace(left(s), job_record=None, records={}))
    assert s.published(made) == ["m0", "m1"]
    assert s.of(c.WriteJob, made)[0].state is JobState.PENDING


def test_a_failed_job_goes_on_with_what_is_complete_and_forgiven():
    s = begun(maps=2, max_failures=1)
    s.run("m0", worker="w1")
    s.fail(s.claim("m1", "w1"))
    assert s.state() is JobState.FAILED
    assert s.published(again(s)) == ["m1"]
    assert s.task("m1").failures == 0
    s.beat("w1")
    assert s.is_("m0", TaskState.COMPLETED)
    s.run("m1", "r0", worker="w1")
    assert s.state() is JobState.COMMITTING


def test_a_failed_job_waits_for_the_retry():
    s = begun(maps=2, max_failures=1)
    s.fail(s.claim("m1", "w1"))
    made = again(s, retry=False)
    assert s.published(made) == []
    assert s.state() is JobState.FAILED
    assert s.of(c.EndJob, made) == [], "whoever waits isn't told of the end of before"


@pytest.mark.parametrize("done", [False, True])
def test_a_commit_begins_again_however_far_it_came(done: bool):
    s = begun(maps=2)
    s.run("m0", "m1", "r0", worker="w1")
    (first,) = s.of(c.StartCommit, s.log)
    if done:
        s.do(e.CommitEnded(job="j"))
    made = again(s)
    assert s.of(c.StartCommit, made) == [first]
    s.do(e.CommitEnded(job="j"))
    assert s.state() is JobState.DONE
    assert len(s.of(c.EndJob)) == 1


@pytest.mark.parametrize("done", [False, True])
def test_what_a_commit_doesnt_find_is_made_again(done: bool):
    s = begun(maps=2, reducers=2)
    s.run("m0", "m1", "r0", "r1", worker="w1")
    if done:
        s.do(e.CommitEnded(job="j"))
    made = again(s, "r1")
    assert s.published(made) == ["r1"]
    assert s.of(c.StartCommit, made) == []
    s.beat("w1")
    s.run("r1", worker="w1")
    assert s.state() is JobState.COMMITTING


def test_maps_that_are_missing_run_before_the_reduces_go_on():
    s = begun(maps=3)
    s.run("m0", "m1", "m2", worker="w1")
    s.claim("r0", "w1")
    again(s, "m1", "m2")
    assert {name for name in ("m1", "m2", "r0") if s.is_(name, TaskState.QUEUED)} == {"m1", "m2"}
    s.beat("w1")
    s.run("m1", "m2", "r0", worker="w1")
    assert s.state() is JobState.COMMITTING


def test_a_map_that_comes_out_differently_has_the_reduces_of_before_run_again():
    s = begun(maps=2, reducers=2)
    s.run("m0", "m1", "r0", worker="w1")
    again(s, "m1")
    s.beat("w1")
    s.done(s.claim("m1", "w1"), digest=77)
    assert s.task("r0").ticket == 2
    s.run("r0", "r1", worker="w1")
    assert s.state() is JobState.COMMITTING


def test_the_beat_of_the_new_boot_loses_nothing():
    s = begun(maps=2)
    s.run("m0", worker="w1")
    again(s)
    s.beat("w1")
    s.advance(20)
    assert s.is_("m0", TaskState.COMPLETED)
    assert s.task("m0").ticket == 1


def test_a_sampling_goes_on_and_so_does_what_it_is_for():
    s = begun(maps=2, sampled=2)
    s.done(s.claim("m1.0", "w1"), files=(), sample=b"x")
    again(s)
    s.beat("w1")
    s.done(s.claim("m1.1", "w1"), files=(), sample=b"y")
    asked = s.of(c.PlanStage)
    assert [(x.stage, x.samples, x.known.reducers) for x in asked] == [(0, (b"x", b"y"), 1)]
    made = again(s)
    assert s.of(c.PlanStage, made) == asked, "nobody had answered"
    s.do(e.StagePlanned(job="j", stage=0, plan=StagePlan(boundaries=())))
    s.beat("w1")
    s.run("m0", worker="w1")
    made = again(s)
    assert s.published(made) == ["m1"], "nothing is sampled again"
    assert s.of(c.WritePlan, made) == [c.WritePlan(job="j", stage=0, plan=StagePlan(boundaries=()))]


def test_limits_of_this_retry_and_of_those_before_hold():
    s = begun(maps=2, max_failures=1)
    s.fail(s.claim("m0", "w1"))
    s.do(e.RetryRequested(job="j", limits=Limits(memory_bytes=99 << 20)))
    again(s, retry=False)
    s.do(e.RetryRequested(job="j", limits=Limits(max_failures=7)))
    kept = s.machine._state.jobs["j"].spec
    assert (kept.memory_bytes, kept.max_failures) == (99 << 20, 7)


def test_a_job_that_is_known_isnt_taken_up_twice():
    s = begun(maps=2)
    stored = left(s)
    assert s.do(e.JobReopened(stored=stored, worker="w1", boot=BOOT)) == []


def test_jobs_beside_it_go_on():
    s = begun(maps=2)
    s.run("m0", worker="w1")
    stored = left(s)
    other = Script(MachineConfig.for_one_worker())
    other.join("w1")
    other.submit("k", maps=2, reducers=0)
    running = other.claim("k/m0", "w1")
    boot = other.workers["w1"].boot
    other.do(e.JobReopened(stored=stored, worker="w1", boot=boot))
    other.do(e.RetryRequested(job="j"))
    other.done(running)
    other.run("k/m1", "m1", worker="w1")
    assert other.state("k") is JobState.COMMITTING
    assert other.is_("m0", TaskState.COMPLETED)
    assert other.winner("m0") == s.winner("m0")


@given(steps=STEPS, cut=st.integers(0, 40), gone=st.sets(st.integers(0, 7)))
@settings(max_examples=200)
def test_whatever_happened_before_what_is_complete_stays_so_and_nothing_else_is_charged(steps, cut, gone):
    chaos, now, store = Chaos(), 50.0, Store()
    whole = Machine(MachineConfig.for_one_worker(), wall=1e9)
    for i, name in enumerate(JOBS):
        store.specs[name] = spec(name, maps=4, reducers=2, priority=i, skip_bad_records=2 * i)
        store.write(whole, whole.handle(e.JobSubmitted(spec=store.specs[name]), now))
    for step in steps[:cut]:
        now += step[5]
        made = whole.handle(chaos.event(step), now)
        store.write(whole, made)
        chaos.see(made)
    other = Machine(MachineConfig.for_one_worker(), wall=1e9 - 7.0)
    for name in JOBS:
        stored = replace(store.stored(whole, name), recorded=())
        was = dict(whole.completed(name))
        other.handle(e.JobReopened(stored=stored, worker="w1", boot="new"), now + 7.0)
        lost = [won for at, won in enumerate(was) if at in gone]
        active = other.state(name) in (JobState.PENDING, JobState.RUNNING)
        for won in lost:
            other.handle(e.OutputMissing(attempt=won), now + 7.0)
        check(other)
        kept = {won: result for won, result in was.items() if won not in lost}
        assert dict(other.completed(name)) == kept
        for before, after in zip(whole.tasks(name), other.tasks(name), strict=True):
            assert (after.failures, after.losses) == (before.failures, before.losses)
            assert after.state is not TaskState.RUNNING
            assert after.ticket >= before.ticket
        other.handle(e.RetryRequested(job=name), now + 7.0)
        assert active or other.state(name) in (JobState.RUNNING, JobState.COMMITTING, JobState.FAILED)
        check(other)
    for step in steps[cut:]:
        now += step[5]
        chaos.see(other.handle(chaos.event(step), now + 7.0))
        check(other)
