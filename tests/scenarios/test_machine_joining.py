"""How workers come and go: dialled back, refused, drained with what others need; a lost store."""

from __future__ import annotations

import math
from dataclasses import replace

from machine_script import Script, named, parse

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.machine import Machine, MachineConfig
from mrq.core.machine_state import dice
from mrq.core.model import Beat, JobState, Slots, TaskState, WorkerHealth
from mrq.core.orders import Drain, Notify, Release
from mrq.core.refs import Kind
from mrq.core.store_api import StoredWorker
from mrq.core.worker_info import WorkerInfo


def arrive(s: Script, name: str, *, seq: int = 1, boot: str = "b", **more: object) -> list[c.Command]:
    """A beat with an address, as the store passes it on."""
    health = more.pop("health", WorkerHealth.JOINING)
    slots = Slots(map=2, reduce=2, total=4)
    beat = replace(Beat(worker=name, boot=boot, seq=seq, slots=slots, address=f"{name}:1"), **more)
    return s.do(e.BeatReceived(beat=beat, health=health))


def stored(beat: Beat, health: WorkerHealth) -> StoredWorker:
    """As a successor finds it."""
    return StoredWorker(beat=beat, health=health, age_s=0.0)


def seen(s: Script, name: str) -> WorkerInfo:
    return next(w for w in s.machine.workers() if w.worker == name)


def test_a_worker_with_an_address_counts_for_nothing_before_it_was_dialled_back():
    s = Script()
    arrive(s, "w1")
    assert s.of(c.DialWorker) == [c.DialWorker(worker="w1", boot="b", address="w1:1")]
    assert seen(s, "w1").health is WorkerHealth.JOINING
    assert s.machine._state.workers.free_slots(Kind.MAP) == 0
    s.do(e.WorkerDialled(worker="w1", boot="b"))
    assert s.of(c.WriteWorker) == [c.WriteWorker(worker="w1", boot="b", health=WorkerHealth.ALIVE)]
    assert s.machine._state.workers.free_slots(Kind.MAP) == 2


def test_one_that_cannot_be_reached_is_tried_again_later_each_time_and_people_see_why():
    s = Script()
    arrive(s, "w1")
    waits = []
    for turn in range(4):
        s.do(e.WorkerDialled(worker="w1", boot="b", trouble="w1:1 refused the connection"))
        for seconds in range(1, 20):
            s.now += 1.0
            made = [*s.do(e.Ticked()), *arrive(s, "w1", seq=20 * turn + seconds + 1)]
            if s.of(c.DialWorker, made):
                waits.append(seconds)
                break
    drawn = [dice(f"w1/b/{turn}") for turn in range(1, 5)]
    again = MachineConfig().dial_again
    assert waits == [math.ceil(again.wait_s(turn, each)) for turn, each in enumerate(drawn, 1)]
    assert all(most / 2 <= wait <= most for wait, most in zip(waits, (1, 2, 4, 8), strict=True))
    assert seen(s, "w1").trouble == "w1:1 refused the connection"
    s.do(e.WorkerDialled(worker="w1", boot="b"))
    assert seen(s, "w1").trouble == ""


def test_a_worker_that_cannot_be_reached_is_told_why_once_a_reason():
    s = Script()
    arrive(s, "w1")
    for reason in ("w1:1 refused the connection", "w1:1 refused the connection", "w1:1 isn't known"):
        s.do(e.WorkerDialled(worker="w1", boot="b", trouble=reason))
    first, second = s.ordered(Notify, s.log)
    assert first.order.text == "no tasks yet: w1:1 refused the connection"
    assert second.order.text == "no tasks yet: w1:1 isn't known"
    assert (first.worker, first.boot) == ("w1", "b")


def test_a_verdict_on_an_older_boot_is_nobodys():
    s = Script()
    arrive(s, "w1")
    arrive(s, "w1", boot="b2")
    assert [x.boot for x in s.of(c.DialWorker)] == ["b2"]
    s.do(e.WorkerDialled(worker="w1", boot="b"))
    assert seen(s, "w1").health is WorkerHealth.JOINING


def test_a_verdict_that_never_comes_is_asked_for_again():
    s = Script()
    arrive(s, "w1")
    for seq in range(2, 40):
        s.now += 1.0
        made = [*s.do(e.Ticked()), *arrive(s, "w1", seq=seq)]
        if s.of(c.DialWorker, made):
            break
    assert seq == 31


def test_what_the_store_has_of_a_worker_is_written_again_where_it_is_wrong():
    """Interleaving: the leader's word on a boot was written before the boot's first beat made its row."""
    s = Script()
    arrive(s, "w1")
    s.do(e.WorkerDialled(worker="w1", boot="b"))
    arrive(s, "w1", seq=2)
    assert s.of(c.WriteWorker) == [c.WriteWorker(worker="w1", boot="b", health=WorkerHealth.ALIVE)]
    arrive(s, "w1", seq=3, health=WorkerHealth.ALIVE)
    assert s.of(c.WriteWorker) == []


def test_takeover_a_worker_that_the_last_leader_reached_need_not_be_dialled_again():
    s = Script()
    beat = Beat(worker="w1", boot="b", seq=7, slots=Slots(map=1, reduce=1, total=2), address="w1:1")
    other = replace(beat, worker="w2")
    s.machine = Machine(MachineConfig())
    s.machine.adopt_workers([stored(beat, WorkerHealth.ALIVE), stored(other, WorkerHealth.JOINING)], s.now)
    s.do(e.Restored())
    s.do(e.Ticked())
    assert [x.worker for x in s.of(c.DialWorker, s.log)] == ["w2"]
    assert seen(s, "w1").health is WorkerHealth.ALIVE


OTHER = "it runs mrq 1.3.1 and the masters mrq 1.2.0: start it from the same mrq as the masters"


def test_a_worker_of_another_version_stays_joining_by_both_versions_names():
    s = Script(MachineConfig(version="1.2.0"))
    arrive(s, "w1", about={"version": "1.3.1"})
    (told,) = s.ordered(Notify)
    assert (told.worker, told.order.text) == ("w1", f"no tasks: {OTHER}")
    s.do(e.WorkerDialled(worker="w1", boot="b"))
    assert s.of(c.WriteWorker) == [c.WriteWorker(worker="w1", boot="b", health=WorkerHealth.JOINING)]
    arrive(s, "w1", seq=11, about={"version": "1.3.1"})
    assert s.ordered(Notify) == []
    found = seen(s, "w1")
    assert (found.health, found.reason, found.trouble) == (WorkerHealth.JOINING, OTHER, OTHER)
    assert "started again" in found.ends
    arrive(s, "w2", about={"version": "1.2.9"})
    s.do(e.WorkerDialled(worker="w2", boot="b"))
    assert seen(s, "w2").health is WorkerHealth.ALIVE
    assert s.ordered(Drain, s.log) == []


def test_a_worker_of_another_version_is_given_nothing_until_it_is_started_again():
    s = Script(MachineConfig(version="1.2.0"))
    arrive(s, "w1", about={"version": "1.3.1"})
    s.do(e.WorkerDialled(worker="w1", boot="b"))
    assert s.machine._state.workers.free_slots(Kind.MAP) == 0
    arrive(s, "w1", boot="b2", about={"version": "1.2.0"})
    s.do(e.WorkerDialled(worker="w1", boot="b2"))
    assert s.machine._state.workers.free_slots(Kind.MAP) == 2
    found = seen(s, "w1")
    assert (found.health, found.reason, found.trouble) == (WorkerHealth.ALIVE, "", "")


def unread(s: Script, name: str, *, seq: int = 1, boot: str = "b", **more: object) -> list[c.Command]:
    """A beat of another version, of which only who beats could be read."""
    beat = Beat(worker=name, boot=boot, seq=seq, slots=Slots(map=0, reduce=0, total=0))
    return s.do(e.BeatReceived(beat=beat, refused=UNREAD, **more))


UNREAD = "it runs another version of mrq"


def test_a_worker_whose_beats_cannot_be_read_is_listed_as_joining_and_why():
    s = Script()
    made = unread(s, "w1", health=WorkerHealth.JOINING)
    assert s.of(c.GiveOrder, made) == []  # an order couldn't be read there
    assert s.of(c.WriteWorker, made) == []
    found = seen(s, "w1")
    assert (found.health, found.reason, found.boot) == (WorkerHealth.JOINING, UNREAD, "b")
    (listed,) = s.machine.workers(everybody=False)
    assert listed.worker == "w1"
    assert s.machine._state.workers.free_slots(Kind.MAP) == 0


def test_one_that_the_store_would_let_claim_is_joining_there_too():
    """It names no address, or a leader of its own version has reached it."""
    s = Script()
    unread(s, "w1", health=WorkerHealth.ALIVE)
    assert s.of(c.WriteWorker) == [c.WriteWorker(worker="w1", boot="b", health=WorkerHealth.JOINING)]


def test_one_whose_beats_cannot_be_read_is_forgotten_as_any_other_that_goes_silent():
    s = Script(MachineConfig(forget_worker_s=60.0))
    for seq in range(1, 4):
        s.now += 1.0
        s.do(e.Ticked())
        unread(s, "w1", seq=seq, health=WorkerHealth.JOINING)
    assert seen(s, "w1").silent_s == 0.0
    s.advance(16.0)
    assert seen(s, "w1").health is WorkerHealth.DEAD
    s.advance(60.0)
    assert s.machine.workers() == []


def test_one_that_is_started_with_the_right_version_is_alive_and_a_late_beat_changes_nothing():
    s = Script()
    unread(s, "w1", health=WorkerHealth.JOINING)
    arrive(s, "w1", boot="b2")
    s.do(e.WorkerDialled(worker="w1", boot="b2"))
    unread(s, "w1", seq=2)
    found = seen(s, "w1")
    assert (found.health, found.reason, found.boot) == (WorkerHealth.ALIVE, "", "b2")
    assert s.machine._state.workers.free_slots(Kind.MAP) == 2


def test_a_boot_of_another_version_takes_what_the_worker_ran_with_it():
    s = Script()
    s.join("w1", "w2")
    s.submit(maps=1)
    s.claim("m0", "w1")
    unread(s, "w1", boot="older", health=WorkerHealth.JOINING)
    assert not s.is_("m0", TaskState.RUNNING)
    assert seen(s, "w1").health is WorkerHealth.JOINING


def test_takeover_a_successor_refuses_whom_its_predecessor_let_in():
    """Masters were upgraded before the workers: what these run goes on, and they get nothing more."""
    s = Script()
    beat = Beat(worker="w1", boot="b", seq=7, slots=Slots(map=1, reduce=1, total=2), address="w1:1")
    old = replace(beat, about={"version": "1.3.1"})
    s.machine = Machine(MachineConfig(version="1.2.0"))
    s.machine.adopt_workers([stored(old, WorkerHealth.ALIVE)], s.now)
    s.do(e.Restored())
    assert (seen(s, "w1").health, seen(s, "w1").reason) == (WorkerHealth.JOINING, OTHER)
    # Its predecessor may have led for a moment only, or not at all: the worker's own log is to say so.
    assert [(told.worker, told.order.text) for told in s.ordered(Notify)] == [("w1", f"no tasks: {OTHER}")]
    assert s.machine._state.workers.free_slots(Kind.MAP) == 0
    s.do(e.BeatReceived(beat=replace(beat, seq=8), health=WorkerHealth.ALIVE))
    assert s.of(c.WriteWorker) == [c.WriteWorker(worker="w1", boot="b", health=WorkerHealth.JOINING)]
    s.machine = Machine(MachineConfig(version="1.3.0"))  # the masters are put back
    s.machine.adopt_workers([stored(old, WorkerHealth.JOINING)], s.now)
    s.do(e.Restored())
    s.do(e.WorkerDialled(worker="w1", boot="b"))
    assert seen(s, "w1").health is WorkerHealth.ALIVE


def test_takeover_whose_beats_cannot_be_read_is_joining():
    s = Script()
    beat = Beat(worker="w1", boot="b", seq=7, slots=Slots(map=0, reduce=0, total=0))
    s.machine = Machine(MachineConfig())
    s.machine.adopt_workers([replace(stored(beat, WorkerHealth.ALIVE), refused=UNREAD)], s.now)
    s.do(e.Restored())
    assert (seen(s, "w1").health, seen(s, "w1").reason) == (WorkerHealth.JOINING, UNREAD)
    assert s.ordered(Notify) == []  # it couldn't read that


def test_an_operators_drain_is_ordered_and_ends_once_nothing_is_needed():
    s = Script()
    s.join("w1", "w2")
    s.submit(maps=1)
    claim = s.claim("m0", "w1")
    s.do(e.DrainRequested(worker="w1"))
    assert [x.worker for x in s.ordered(Drain)] == ["w1"]
    assert s.ordered(Release) == []
    s.fail(claim)
    s.workers["w1"].draining = True
    s.beat("w1")
    assert [x.worker for x in s.ordered(Release)] == ["w1"]
    s.beat("w1")
    assert s.ordered(Release) == []


def test_a_successor_knows_whom_an_operator_drained():
    s = Script()
    beat = Beat(worker="w1", boot="b", seq=7, slots=Slots(map=1, reduce=1, total=2), draining=True)
    s.machine = Machine(MachineConfig())
    heard = [
        stored(beat, WorkerHealth.QUARANTINED),
        stored(replace(beat, worker="w2"), WorkerHealth.DRAINING),
    ]
    s.machine.adopt_workers(heard, s.now)
    s.do(e.Restored())
    assert [seen(s, w).health for w in ("w1", "w2")] == [WorkerHealth.DRAINING] * 2
    for worker, health in (("w1", WorkerHealth.QUARANTINED), ("w2", WorkerHealth.ALIVE)):
        again = Beat(worker=worker, boot="again", seq=1, slots=beat.slots)
        s.do(e.BeatReceived(beat=again, health=health))
        assert seen(s, worker).health is health


def test_a_draining_workers_maps_run_again_for_reduces_that_begin_later():
    s = Script()
    s.join("w1", "w2")
    s.submit(maps=2, reducers=9)
    s.run("m0", worker="w1")
    s.run("m1", worker="w2")
    s.workers["w1"].draining = True
    s.beat("w1")
    assert not s.is_("m0", TaskState.COMPLETED)
    assert s.is_("m1", TaskState.COMPLETED)
    assert [x.worker for x in s.ordered(Release)] == ["w1"]


def test_a_draining_worker_goes_on_serving_reduces_that_all_run():
    s = Script()
    s.join("w1", "w2")
    s.submit(maps=2, reducers=1)
    s.run("m0", worker="w1")
    s.run("m1", worker="w2")
    reduce = s.claim("r0", "w2")
    s.workers["w1"].draining = True
    s.beat("w1")
    assert s.is_("m0", TaskState.COMPLETED)
    assert s.ordered(Release) == []
    s.done(reduce)
    s.beat("w1")
    assert [x.worker for x in s.ordered(Release)] == ["w1"]


def test_the_last_worker_that_drains_keeps_its_outputs_as_nobody_else_could_make_them():
    s = Script()
    s.join("w1")
    s.submit(maps=2, reducers=9)
    s.run("m0", worker="w1")
    s.workers["w1"].draining = True
    s.beat("w1")
    assert s.is_("m0", TaskState.COMPLETED)


def test_store_lost_completed_work_is_kept_and_all_else_begins_again_with_other_tickets():
    s = Script()
    s.join("w1", "w2")
    s.submit(maps=3, reducers=1)
    s.run("m0", worker="w1")
    running = s.claim("m1", "w2")
    made = s.do(e.StoreLost())
    rows = {x.task: x for x in s.of(c.WriteTask)}
    assert rows[parse("m0")].winner == s.winner("m0")
    assert {rows[parse(f"m{i}")].primary for i in (1, 2)} == {2}
    assert [x.location.map_index for x in s.of(c.WriteLocation)] == [0]
    assert s.killed() == [running.attempt.token]
    assert "m0" not in s.published(made)
    assert (s.view().losses, s.view().worker_losses, s.view().failures) == (0, 0, 0)
    s.done(running)  # of the store that is gone
    assert not s.is_("m1", TaskState.COMPLETED)
    s.run("m1", "m2", "r0", worker="w1")
    assert s.state() is JobState.COMMITTING


def test_store_lost_while_a_job_commits_it_goes_on_committing():
    s = Script()
    s.join("w1")
    s.submit()
    s.run("m0", "m1", "r0", worker="w1")
    s.do(e.StoreLost())
    assert s.state() is JobState.COMMITTING
    assert s.of(c.StartCommit) == []
    assert [x.state for x in s.of(c.WriteJob)] == [JobState.COMMITTING]
    s.do(e.CommitEnded(job="j"))
    assert s.state() is JobState.DONE


def test_two_jobs_share_several_workers_by_their_priority_and_a_cap_is_kept():
    s = Script()
    s.join("w1", "w2", "w3", maps=4, reduces=1)
    s.submit("a", maps=200, reducers=1, priority=1)
    s.submit("b", maps=200, reducers=1)
    s.submit("c", maps=200, reducers=1, max_running=2)
    done = dict.fromkeys("abc", 0)
    for turn in range(150):
        order = {x.message.task: at for at, x in enumerate(s.of(c.PublishTask, s.log))}
        views = {job: s.view(job).maps for job in "abc"}
        assert views["c"].queued + views["c"].running <= 2
        ready = sorted(
            (k for k in s.messages if k[0].kind is Kind.MAP and s.is_(named(k[0]), TaskState.QUEUED)),
            key=lambda k: order[k[0]],
        )
        task, role = ready[0]
        s.run(named(task), worker=f"w{1 + turn % 3}")
        del s.messages[task, role]
        done[task.job] += 1
    assert 1.6 < done["a"] / done["b"] < 2.4
    assert done["c"] > 0
