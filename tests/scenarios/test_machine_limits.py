"""A retry under other limits: another bound of bad records or failures, other memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from machine_script import Script
from test_machine_adopt import Kept, cut
from test_machine_shuffle import mapped, rerun

from mrq.core import events as e
from mrq.core.model import JobState, Limits


def failed(s: Script, **limits: int) -> None:
    """m0 fails the job, which goes on under other limits."""
    s.join("w1", "w2")
    s.submit(maps=1, reducers=0, max_failures=1)
    s.fail(s.claim("m0", "w1"))
    assert s.state() is JobState.FAILED
    s.do(e.RetryRequested(job="j", limits=Limits(**limits)))
    assert s.state() is JobState.RUNNING


def test_more_bad_records_make_the_next_failure_a_careful_attempt():
    s = Script()
    failed(s, skip_bad_records=2)
    s.advance(2)
    s.fail(s.claim("m0", "w1"))
    s.advance(5)
    claim = s.claim("m0", "w1")
    assert (claim.message.careful, claim.message.skip_bad_records) == (True, 2)
    s.done(claim, bad_records=2)
    assert s.state() is JobState.COMMITTING


def test_more_failures_are_borne():
    s = Script()
    failed(s, max_failures=3)
    for _ in range(2):
        s.advance(60)
        s.fail(s.claim("m0", "w1"))
        assert s.state() is JobState.RUNNING
    s.advance(60)
    s.fail(s.claim("m0", "w2"))
    assert s.state() is JobState.FAILED


def test_other_memory_is_in_what_is_published():
    s = Script()
    failed(s, memory_bytes=99 << 20)
    s.advance(2)
    claim = s.claim("m0", "w1")
    assert claim.message.needs.memory_bytes == 99 << 20
    assert claim.message.skip_bad_records is None


def test_a_job_that_goes_on_takes_limits_too():
    s = Script()
    s.join("w1")
    s.submit(maps=1, reducers=0, max_failures=1)
    s.do(e.RetryRequested(job="j", limits=Limits(max_failures=2)))
    s.fail(s.claim("m0", "w1"))
    assert s.state() is JobState.RUNNING


def test_limits_add_up_over_retries_and_survive_another_leader():
    s = Kept()
    failed(s, skip_bad_records=2)
    cut(s, s.store)
    s.do(e.RetryRequested(job="j", limits=Limits(memory_bytes=99 << 20)))
    cut(s, s.store)
    spec = s.machine._state.jobs["j"].spec
    assert (spec.skip_bad_records, spec.memory_bytes, spec.max_failures) == (2, 99 << 20, 1)
    job = s.machine._state.jobs["j"]
    assert job.limits == Limits(skip_bad_records=2, memory_bytes=99 << 20)
    assert job.needs.memory_bytes == 99 << 20


@pytest.mark.parametrize("memory", [None, 99 << 20])
def test_maps_that_come_out_differently_under_other_memory_charge_nothing_once(memory):
    s = mapped()
    s.do(e.RetryRequested(job="j", limits=Limits(memory_bytes=memory)))
    for index in range(3):
        s.run("r0", worker="w3")
        rerun(s, index, 5000 + index)
        assert s.state() is JobState.RUNNING
    assert s.machine._state.jobs["j"].rollbacks == (0 if memory else 3)
    s.run("r0", worker="w3")
    rerun(s, 1, 6000)  # it has been so already: that is the job's own doing
    assert s.machine._state.jobs["j"].rollbacks == (1 if memory else 4)


def test_limits_of_a_retry_over_those_of_another():
    assert replace(Limits(), memory_bytes=1).over(Limits(skip_bad_records=3)) == Limits(
        skip_bad_records=3, memory_bytes=1
    )
