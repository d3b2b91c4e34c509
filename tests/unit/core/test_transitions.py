from __future__ import annotations

import itertools

import pytest

from mrq.core import transitions
from mrq.core.jobs import LeaderJob
from mrq.core.model import AttemptState, JobSpec, JobState, Role, Split, StageSpec, TaskState
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.tasks import STATES, LiveAttempt, TaskTable
from mrq.errors import IllegalTransition


def pairs(states, table):
    return [pair for pair in itertools.product(states, repeat=2) if pair not in table]


def table() -> TaskTable:
    return TaskTable("job-1", 0, Kind.MAP, 5, transitions.History(), [0, 0, 0, 0])


def job() -> LeaderJob:
    spec = JobSpec(
        job="job-1",
        name="J",
        code="c",
        entry="m:J",
        parameters={},
        inputs=(),
        stages=(StageSpec(splits=(Split(index=0, pieces=()),), reducers=1),),
    )
    return LeaderJob(spec, 0.0, transitions.History(), {kind: [0, 0, 0, 0] for kind in Kind})


@pytest.mark.parametrize(("old", "new"), pairs(TaskState, transitions.TASK))
def test_an_illegal_task_transition_raises_with_its_history_and_changes_nothing(old, new):
    tasks = table()
    path = {
        TaskState.IDLE: [],
        TaskState.QUEUED: [1],
        TaskState.RUNNING: [1, 2],
        TaskState.COMPLETED: [1, 2, 3],
    }
    for code in path[old]:
        tasks.move(3, code, f"step {code}")
    before = bytes(tasks.state), list(tasks.counts), list(tasks.totals), list(tasks.history.lines)
    with pytest.raises(IllegalTransition) as caught:
        tasks.move(3, STATES.index(new), "no")
    assert (bytes(tasks.state), tasks.counts, tasks.totals, list(tasks.history.lines)) == before
    text = str(caught.value)
    assert f"job-1/m-00003: {old.value} -> {new.value} isn't a legal transition" in text
    assert all(f"step {code}" in text for code in path[old])


@pytest.mark.parametrize(("old", "new"), pairs(JobState, transitions.JOB))
def test_an_illegal_job_transition_raises_and_changes_nothing(old, new):
    made = job()
    made.state = old
    with pytest.raises(IllegalTransition, match="job-1: "):
        made.move(new, "no")
    assert made.state is old
    assert not made.history.lines


@pytest.mark.parametrize(("old", "new"), pairs(AttemptState, transitions.ATTEMPT))
def test_an_illegal_attempt_transition_raises_and_changes_nothing(old, new):
    attempt = LiveAttempt(
        ref=AttemptRef(TaskRef("j", 0, Kind.MAP, 0), 1, 1, "t"),
        role=Role.PRIMARY,
        worker="w",
        boot="b",
        claimed_at=0.0,
        updated_at=0.0,
        floor=0,
        state=old,
    )
    with pytest.raises(IllegalTransition):
        attempt.move(new)
    assert attempt.state is old


def test_done_is_final_and_every_other_state_can_be_left():
    final = set(JobState) - {old for old, _ in transitions.JOB}
    assert final == {JobState.DONE}
    assert set(TaskState) == {old for old, _ in transitions.TASK}


def test_every_state_can_be_reached():
    for states, start, legal in (
        (JobState, JobState.PENDING, transitions.JOB),
        (TaskState, TaskState.IDLE, transitions.TASK),
        (AttemptState, AttemptState.RUNNING, transitions.ATTEMPT),
    ):
        reached = {start}
        while True:
            more = {new for old, new in legal if old in reached} - reached
            if not more:
                break
            reached |= more
        assert reached == set(states)


def test_the_history_is_bounded_and_told_by_name():
    history = transitions.History(keep=3)
    for i in range(9):
        history.note(f"job/m-{i % 2}", TaskState.IDLE, TaskState.QUEUED, str(i))
    assert len(history.lines) == 3
    assert [line[-1] for line in history.of("job/m-0")] == ["6", "8"]
