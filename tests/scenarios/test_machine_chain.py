"""A job of several stages: what one writes is what the next one reads, and where a part of it is lost the job
begins again, under other numbers."""

from __future__ import annotations

import pytest
from machine_script import Script, known, parts_read
from test_machine_adopt import Kept, cut
from test_machine_reopen import again, begun

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.model import FOLLOWS, JobState, Outcome, StagedFile, Status, TaskState
from mrq.core.orders import DropMaps


def chain(*then: int, workers: tuple[str, ...] = ("w1", "w2"), **more: object) -> Kept:
    """A job of two maps and a reduce, and of stages with so many reduces behind them."""
    s = Kept()
    s.join(*workers)
    s.submit(then=then, **more)
    return s


def plan(s: Script, *, read: c.PlanStage | None = None) -> list[c.Command]:
    """The parts are kept: the next stage's plan is told."""
    asked = read or s.of(c.PlanStage, s.log)[-1]
    told = parts_read(s.machine._state.jobs["j"].spec, asked)
    return s.do(e.StagePlanned(job="j", stage=asked.stage, plan=told))


def stage(s: Script, number: int, *, maps: int = 1, reduces: int = 1, **result: object) -> list[c.Command]:
    """All tasks of a run of a stage are done by w1; what is decided with the last one."""
    tasks = [f"m{number}.{i}" for i in range(maps)] + [f"r{number}.{i}" for i in range(reduces)]
    made: list[c.Command] = []
    for task in tasks:
        made = s.done(s.claim(task, "w1"), **result)
    return made


def dropped(s: Script, made: list[c.Command]) -> list[DropMaps]:
    return [x.order for x in s.of(c.GiveAll, made) if isinstance(x.order, DropMaps)]


def lose(s: Script, task: str, worker: str) -> list[c.Command]:
    """An attempt can't read the part that it is for."""
    log = len(s.log)
    s.fail(s.claim(task, worker), Status.PART_LOST, type="InputError", message="it's gone")
    return s.log[log:]


def test_each_stage_reads_what_the_one_before_wrote_and_the_last_one_is_committed():
    s = chain(2, FOLLOWS)
    made = stage(s, 1, maps=2, counters={"seen": 1})
    (asked,) = s.of(c.PlanStage, made)
    assert (asked.complete, asked.stage, asked.samples) == (1, 2, ())
    assert [part.final for part in asked.parts] == ["part-00000"]
    assert not s.of(c.StartCommit, s.log)
    made = plan(s)
    assert dropped(s, made) == [DropMaps(job="j", stage=1)]
    assert s.published(made) == ["m2.0"]
    (asked,) = s.of(c.PlanStage, stage(s, 2, reduces=2, counters={"seen": 10}))
    assert [part.final for part in asked.parts] == ["part-00000", "part-00001"]
    assert s.published(plan(s)) == ["m3.0", "m3.1"]
    assert s.view().reduces.total == 2, "R follows from the parts"
    made = stage(s, 3, maps=2, reduces=2, counters={"seen": 100})
    (commit,) = s.of(c.StartCommit, made)
    assert [file.final for file in commit.files] == ["part-00000", "part-00001"]
    assert commit.counters == {"seen": 3 * 1 + 3 * 10 + 4 * 100}
    assert commit.reducers == 2
    assert [(each.stage, each.name, each.total) for each in commit.stages] == [
        (1, "map", 2),
        (1, "reduce", 1),
        (2, "map", 1),
        (2, "reduce", 2),
        (3, "map", 2),
        (3, "reduce", 2),
    ]


def test_what_is_complete_is_shown_before_what_runs():
    s = chain(0)
    stage(s, 1, maps=2)
    plan(s)
    shown = s.view()
    assert [(each.stage, each.name, each.completed) for each in shown.stages] == [
        (1, "map", 2),
        (1, "reduce", 1),
        (2, "map", 0),
    ]
    assert (shown.maps.stage, shown.maps.total, shown.reduces.total) == (2, 1, 0)


def test_stages_without_reduces_hand_on_what_their_maps_wrote():
    s = chain(0, maps=3, reducers=0, workers=("w1",))
    (asked,) = s.of(c.PlanStage, stage(s, 1, maps=3, reduces=0))
    assert len(asked.parts) == 3
    assert dropped(s, plan(s)) == []
    assert s.of(c.StartCommit, stage(s, 2, maps=3, reduces=0))


def test_bad_records_of_all_stages_count_together_and_their_files_come_to_the_output():
    s = chain(1, skip_bad_records=2)
    bad = StagedFile(name="attempts/x/m1", final="_bad/m1-00000.jsonl", records=1, bytes=9, crc32=7)
    s.done(s.claim("m1.0", "w1"), bad_records=1, files=(bad,))
    s.run("m1.1", "r1.0", worker="w1")
    (asked,) = s.of(c.PlanStage, s.log)
    assert [part.final for part in asked.parts] == ["part-00000"], "no part for those that follow"
    plan(s)
    s.done(s.claim("m2.0", "w1"), bad_records=1)
    made = s.done(s.claim("r2.0", "w1"))
    (commit,) = s.of(c.StartCommit, made)
    assert bad in commit.files


def test_one_bad_record_too_many_in_all_stages_together_fails_the_job():
    s = chain(1, skip_bad_records=2)
    s.done(s.claim("m1.0", "w1"), bad_records=2)
    s.run("m1.1", "r1.0", worker="w1")
    plan(s)
    s.done(s.claim("m2.0", "w1"), bad_records=1)
    assert s.state() is JobState.FAILED
    assert "3 records are bad" in s.error()


# A part that is lost.


def test_a_part_that_nobody_can_read_begins_the_job_again_under_other_numbers():
    s = chain(1)
    stage(s, 1, maps=2, counters={"seen": 1})
    plan(s)
    made = lose(s, "m2.0", "w1")
    assert s.is_("m2.0", TaskState.QUEUED), "one worker's word isn't enough where there is another"
    s.advance(1)
    made = lose(s, "m2.0", "w2")
    assert s.published(made) == ["m3.0", "m3.1"]
    assert (s.view().failures, s.view().losses, s.view().reruns) == (0, 0, 3)
    assert [each.stage for each in s.view().stages] == [1, 1]
    assert s.view().counters == {}
    stage(s, 3, maps=2, counters={"seen": 1})
    (asked,) = s.of(c.PlanStage)
    assert (asked.complete, asked.stage) == (3, 4)
    plan(s)
    made = stage(s, 4)
    (commit,) = s.of(c.StartCommit, made)
    assert commit.counters == {"seen": 3}, "nothing counts of what was given up"


def test_where_there_is_one_worker_its_word_is_enough():
    s = chain(1, workers=("w1",))
    stage(s, 1, maps=2)
    plan(s)
    assert s.published(lose(s, "m2.0", "w1")) == ["m3.0", "m3.1"]


def test_a_disk_that_one_worker_does_not_see_is_no_loss():
    s = chain(1)
    stage(s, 1, maps=2)
    plan(s)
    lose(s, "m2.0", "w1")
    s.advance(1)
    s.run("m2.0", worker="w2")
    assert s.is_("m2.0", TaskState.COMPLETED)


def test_what_is_heard_late_of_a_run_that_was_given_up_changes_nothing():
    s = chain(1, workers=("w1",))
    first = s.claim("m1.0", "w1")
    s.done(first)
    s.run("m1.1", "r1.0", worker="w1")
    asked = s.of(c.PlanStage, s.log)[-1]
    plan(s)
    old = s.claim("m2.0", "w1")
    s.fail(old, Status.PART_LOST)
    before = known(s.machine)
    assert s.done(first) == []
    assert s.report(old, Outcome(status=Status.FAILED)) == []
    assert plan(s, read=asked) == []
    assert s.do(e.PartsLost(job="j", stage=1, why="x")) == []
    assert s.do(e.PartsLost(job="j", stage=2, why="x")) == []
    assert known(s.machine) == before


def test_a_part_that_is_gone_before_it_is_kept_begins_the_job_again():
    s = chain(1)
    stage(s, 1, maps=2)
    assert s.published(s.do(e.PartsLost(job="j", stage=1, why="x"))) == ["m3.0", "m3.1"]


def test_parts_that_were_read_otherwise_than_they_were_written_begin_the_job_again():
    s = chain(1)
    stage(s, 1, maps=2)
    plan(s)
    s.done(s.claim("m2.0", "w1"), crcs=(77,))
    made = s.done(s.claim("r2.0", "w1"))
    assert not s.of(c.StartCommit, made)
    assert s.published(made) == ["m3.0", "m3.1"]


def test_a_job_begins_again_four_times_and_then_fails_by_name():
    s = chain(1, workers=("w1",))
    for number in range(1, 10, 2):
        stage(s, number, maps=2)
        plan(s)
        lose(s, f"m{number + 1}.0", "w1")
    assert s.state() is JobState.FAILED
    assert "m10-00000 can't read what the stage before wrote" in s.error()
    assert "began again at its first stage 4 times" in s.error()
    s.do(e.RetryRequested(job="j"))
    assert s.published(lose(s, "m10.0", "w1")) == ["m11.0", "m11.1"], "a retry forgives, and numbers go on"


def test_a_job_of_one_stage_never_begins_again():
    s = Script()
    s.join("w1")
    s.submit()
    s.fail(s.claim("m0", "w1"), Status.PART_LOST)
    assert s.state() is JobState.RUNNING
    assert s.do(e.PartsLost(job="j", stage=0, why="x")) == []
    assert s.is_("m0", TaskState.QUEUED)


# Successors.


@pytest.mark.parametrize("at", range(6))
def test_a_successor_goes_on_wherever_the_job_was(at: int):
    """The first one is cut off after each step: in a stage, before a stage's plan is told, and behind it."""
    s = chain(1, 1)
    steps = [
        lambda: s.run("m1.0", "m1.1", worker="w1"),
        lambda: s.run("r1.0", worker="w1"),
        lambda: plan(s),
        lambda: s.run("m2.0", worker="w1"),
        lambda: s.run("r2.0", worker="w1"),
        lambda: plan(s),
    ]
    for done, step in enumerate(steps):
        step()
        if done == at:
            cut(s, s.store)
            s.beat("w1")
    stage(s, 3)
    (commit,) = s.of(c.StartCommit)
    assert [each.stage for each in commit.stages] == [1, 1, 2, 2, 3, 3]


def test_a_successor_knows_how_often_the_job_began_again_and_what_counts():
    s = chain(1, workers=("w1",))
    stage(s, 1, maps=2, counters={"seen": 1})
    plan(s)
    lose(s, "m2.0", "w1")
    cut(s, s.store)
    s.beat("w1")
    stage(s, 3, maps=2, counters={"seen": 1})
    plan(s)
    cut(s, s.store)
    s.beat("w1")
    assert s.view().counters == {"seen": 3}
    (commit,) = s.of(c.StartCommit, stage(s, 4))
    assert commit.counters == {"seen": 3}


def test_a_retry_of_an_engines_job_goes_on_at_its_stage():
    s = begun(then=(1,))
    stage(s, 1, maps=2)
    plan(s)
    s.run("m2.0", worker="w1")
    made = again(s)
    assert s.is_("m2.0", TaskState.COMPLETED)
    assert s.published(made) == ["r2.0"]


def test_a_lost_store_gets_the_stage_that_the_job_is_at():
    s = chain(1)
    stage(s, 1, maps=2)
    plan(s)
    made = s.do(e.StoreLost())
    (told,) = s.of(c.WritePlan, made)
    assert told.stage == 2
    assert {x.task.stage for x in s.of(c.WriteTask, made)} == {2}
