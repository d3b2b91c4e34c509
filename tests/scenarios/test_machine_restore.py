"""A machine that was saved and loaded goes on exactly as the one that never stopped."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_chaos import JOBS, STEPS, Chaos, check
from machine_script import Script, spec

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.machine import Machine, MachineConfig
from mrq.core.model import JobState, TaskState
from mrq.core.refs import Kind
from mrq.errors import CorruptFileError


def play(steps: list, config: MachineConfig, cut: int, later: float = 0.0) -> None:
    """One machine never stops; the other is saved and loaded after `cut` steps, `later` seconds on."""
    chaos, now = Chaos(), 50.0
    whole = Machine(config)
    other: Machine | None = None
    for i, name in enumerate(JOBS):
        submitted = e.JobSubmitted(
            spec=spec(name, maps=4, reducers=2, priority=i, skip_bad_records=2 * i, max_worker_losses=3)
        )
        chaos.see(whole.handle(submitted, now))
    for at, step in enumerate(steps):
        if at == cut:
            data = whole.save()
            other = Machine.load(data, now + later, wall=-later)  # errors have times of the epoch
            assert other.save() == data
        now += step[5]
        event = chaos.event(step)
        made = whole.handle(event, now)
        check(whole)
        if other is not None:
            assert other.handle(event, now + later) == made
            assert other.next_tick(now + later) == pytest.approx(whole.next_tick(now) + later)
        chaos.see(made)
    if other is not None:
        assert other.save() == whole.save()
        for name in JOBS:
            if not later:
                assert other.job(name) == whole.job(name)
                assert list(other.tasks(name)) == list(whole.tasks(name))


@given(steps=STEPS, cut=st.integers(0, 40), embedded=st.booleans())
@settings(max_examples=150)
def test_a_restored_machine_goes_on_exactly_as_the_one_that_never_stopped(steps, cut, embedded):
    play(steps, MachineConfig.for_embedded() if embedded else MachineConfig(), cut)


@given(steps=STEPS, cut=st.integers(0, 40))
@settings(max_examples=40)
def test_time_that_passed_while_it_was_stopped_does_not_count(steps, cut):
    play(steps, MachineConfig(), cut, later=4096.0)


@given(steps=STEPS)
@settings(max_examples=100)
def test_impatient_bounds_hold_under_any_script(steps):
    config = MachineConfig(
        uncharged_max=3, map_reruns_max=1, rollbacks_max=1, backup_min_s=0.1, backup_stage_done=0.2
    )
    play(steps, config, cut=20)


def test_what_was_queued_is_published_again_with_a_new_publish_id():
    s = Script()
    s.join("w1")
    s.submit(maps=2)
    running = s.claim("m0", "w1")
    old = {x.message.publish_id for x in s.of(c.PublishTask, s.log)}
    s.machine = Machine.load(s.machine.save(), s.now)
    s.do(e.Restored(embedded=False, incarnation=7))
    assert s.published() == ["m1"]
    assert s.of(c.PublishTask)[0].message.publish_id not in old
    s.advance(4)
    s.done(running)
    assert s.is_("m0", TaskState.COMPLETED)


def test_after_a_takeover_silent_workers_have_a_full_grace_then_die():
    s = Script()
    s.join("w1")
    s.submit(maps=2)
    s.claim("m0", "w1")
    s.workers["w1"].silent = True
    s.advance(14)
    s.machine = Machine.load(s.machine.save(), s.now)
    s.do(e.Restored(embedded=False))
    s.advance(14)
    assert s.is_("m0", TaskState.RUNNING)
    s.advance(2)
    assert not s.is_("m0", TaskState.RUNNING)


def test_embedded_what_was_in_progress_is_requeued_uncharged_and_the_view_is_written():
    s = Script(MachineConfig.for_embedded())
    s.join("w1")
    s.submit(maps=3)
    s.run("m0", worker="w1")
    s.claim("m1", "w1")
    s.machine = Machine.load(s.machine.save(), s.now)
    s.do(e.Restored(embedded=True))
    latest = {w.task.index: w for w in s.of(c.WriteTask) if w.task.kind is Kind.MAP}
    assert latest[0].state is TaskState.COMPLETED
    assert latest[0].winner == s.winner("m0")
    assert [(latest[i].state, latest[i].generation) for i in (1, 2)] == [(TaskState.QUEUED, 2)] * 2
    assert [x.location.map_index for x in s.of(c.WriteLocation)] == [0]
    assert (s.task("m1").failures, s.task("m1").losses, s.view().worker_losses) == (0, 0, 0)
    assert s.killed() == []


def test_embedded_recovered_outputs_under_the_new_boot_are_kept_on_retry():
    s = Script(MachineConfig.for_embedded())
    s.join("w1")
    s.submit(maps=2, max_failures=1)
    done = s.claim("m0", "w1")
    s.done(done)
    s.fail(s.claim("m1", "w1"))
    s.machine = Machine.load(s.machine.save(), s.now)
    s.do(e.Restored(embedded=True))
    recovered = e.OutputRecovered(attempt=done.attempt, worker="w1", boot="w1-boot2", result=s.result(done))
    s.do(recovered)
    s.do(e.RetryRequested(job="j"))
    assert s.published() == ["m1"]
    s.reboot("w1")
    assert s.is_("m0", TaskState.COMPLETED)
    s.run("m1", "r0", worker="w1")
    assert s.state() is JobState.COMMITTING


def test_a_job_that_was_committing_commits_again():
    s = Script()
    s.join("w1")
    s.submit()
    s.run("m0", "m1", "r0", worker="w1")
    (first,) = s.of(c.StartCommit)
    s.machine = Machine.load(s.machine.save(), s.now)
    s.do(e.Restored(embedded=True))
    assert s.of(c.StartCommit) == [first]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        msgpack.packb(["mrq machine", 999, 1, {}]),
        msgpack.packb(["other", 1, 1, {}]),
        msgpack.packb(["mrq machine", 1, 1, {}]),
    ],
)
def test_damaged_or_foreign_checkpoints_are_refused(data):
    with pytest.raises(CorruptFileError):
        Machine.load(data, 0.0)


def test_a_truncated_checkpoint_is_refused():
    s = Script()
    s.join("w1")
    s.submit()
    with pytest.raises(CorruptFileError):
        Machine.load(s.machine.save()[:-5], 0.0)
