"""Workers whose disks are full: a job waits while anything may make room, and else one ends by name."""

from __future__ import annotations

from machine_script import Script

from mrq.core import events as e
from mrq.core.model import JobState, TaskState

FULL = "disk quota reached: 45 of 64 bytes are used"


def filled(*names: str, **more: object) -> Script:
    """A job of three maps, of which one is completed, on workers that are full since."""
    s = Script()
    s.join(*(names or ("w1", "w2")))
    s.submit(maps=3, **more)
    s.run("m0", worker="w1")
    for name in names or ("w1", "w2"):
        s.workers[name].full = FULL
    return s


def test_a_job_that_fills_every_worker_fails_by_name_and_makes_room():
    s = filled()
    s.advance(45)
    assert s.state() is JobState.RUNNING
    s.advance(30)
    assert s.state() is JobState.FAILED
    assert "no worker takes more maps" in s.error()
    assert FULL in s.error()
    assert s.dropped(s.log) == ["j"]
    assert s.task("m0").state is TaskState.IDLE, "a retry runs it again"


def test_the_one_that_keeps_most_makes_room_for_others():
    s = filled()
    s.submit("late", maps=2)
    s.advance(80)
    assert s.state() is JobState.FAILED
    for worker in s.workers.values():
        worker.full = ""
    s.advance(30)
    s.run("late/m0", "late/m1", worker="w1")
    s.run("late/r0", worker="w2")
    assert s.state("late") is JobState.COMMITTING


def test_what_a_job_that_is_over_has_left_goes_first():
    s = filled()
    s.submit("late", maps=2)
    s.do(e.CancelRequested(job="j", reason="by hand"))
    s.advance(35)
    assert s.dropped(s.log) == ["j"]
    assert s.state("late") is JobState.RUNNING
    s.workers["w1"].full = ""
    s.advance(60)
    assert s.state("late") is JobState.RUNNING


def test_a_worker_with_room_is_waited_for():
    s = filled()
    s.workers["w2"].full = ""
    s.advance(200)
    assert s.state() is JobState.RUNNING


def test_maps_and_reduces_that_run_may_make_room():
    s = filled()
    s.submit("done", maps=1)
    for worker in s.workers.values():
        worker.full = ""
    s.run("done/m0", worker="w1")
    reduce = s.claim("done/r0", "w1")
    for worker in s.workers.values():
        worker.full = FULL
    s.advance(200)
    assert s.state() is JobState.RUNNING
    s.done(reduce)
    assert s.state("done") is JobState.COMMITTING
    s.advance(200)
    assert s.state() is JobState.RUNNING, "its files go with the commit"


def test_reduces_that_wait_for_maps_make_none():
    s = filled()
    s.claim("r0", "w1")
    s.advance(80)
    assert s.state() is JobState.FAILED


def test_a_reduce_that_waits_for_maps_gives_its_slot_to_a_job_that_would_make_room():
    # Seed 7310871: it waited for maps that no disk had room for, in the slot of one that makes some.
    s = filled()
    for worker in s.workers.values():
        worker.full = ""
    s.submit("late", maps=1)
    s.run("late/m0", worker="w1")
    waits = s.claim("r0", "w1")
    for worker in s.workers.values():
        worker.full = FULL
    assert waits.attempt.token in s.killed(s.advance(10))
    s.run("late/r0", worker="w1")
    assert s.state("late") is JobState.COMMITTING


def test_a_map_that_only_some_may_run_is_offered_to_one_that_has_room():
    # Seed 51: the one with the most free slots was full, let the offer pass, and got it again, for ever.
    s = Script()
    s.join("w1", maps=4, memory=4, full=FULL)
    s.join("w2", maps=1, memory=4)
    s.join("w3", maps=4, memory=1)
    s.submit(maps=1, memory_bytes=4)
    assert [x.worker for x in s.offered(s.log)] == ["w2"]


def test_a_map_that_only_full_workers_may_run_is_offered_once_there_is_room():
    s = Script()
    s.join("w1", memory=4, full=FULL)
    s.join("w2", memory=1)
    s.submit(maps=1, memory_bytes=4)
    s.advance(15)
    assert s.offered(s.log) == []
    s.workers["w1"].full = ""
    assert [x.worker for x in s.offered(s.beat("w1"))] == ["w1"]
