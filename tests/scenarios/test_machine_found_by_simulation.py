"""What the simulator found in the leader's machine, as the shortest scripts that show it."""

from __future__ import annotations

from machine_script import Script

from mrq.core import events as e
from mrq.core.machine import MachineConfig, ReduceStart
from mrq.core.model import Beat, Slots, TaskState


def test_a_late_beat_of_an_older_boot_hides_the_newer_one_for_some_seconds_at_most():
    # Seed 895: the older boot's beats had been lost, but for one, which came after the newer one's first.
    s = Script()
    s.join("w1", "w2")
    s.submit()
    late = Beat(worker="w1", boot="w1-boot0", seq=3, slots=Slots(map=2, reduce=2, total=4))
    s.do(e.BeatReceived(beat=late))
    assert [w.boot for w in s.machine.workers()] == ["w1-boot0", "w2-boot1"]
    s.advance(8)
    assert [w.boot for w in s.machine.workers()] == ["w1-boot1", "w2-boot1"]
    s.done(s.claim("m0", "w1"))
    assert s.is_("m0", TaskState.COMPLETED)


def test_claims_of_a_boot_that_no_beat_told_of_back_off():
    # Seed 2311: its first beat was lost, and until the next one it claimed the same task fifty times.
    s = Script()
    s.join("w1")
    s.submit()
    s.workers["w1"].boot = "w1-boot2"
    s.claim("m0", "w1")
    assert s.is_("m0", TaskState.QUEUED)
    s.claim("m0", "w1")
    assert s.is_("m0", TaskState.IDLE)
    s.advance(2)
    s.run("m0", worker="w1")


def test_maps_that_must_run_again_get_room_under_max_running():
    # Seed 2267: both running tasks were reduces that waited for maps which max_running kept from starting.
    s = Script(MachineConfig(reduce_start=ReduceStart.FIRST_MAPS))
    s.join("w1", maps=4, reduces=4)
    s.join("w2", maps=4, reduces=4)
    s.submit(maps=2, reducers=2, max_running=2)
    s.run("m0", "m1", worker="w2")
    reduces = [s.claim("r0", "w1"), s.claim("r1", "w1")]
    winner = s.winner("m0")
    assert winner is not None
    s.do(e.OutputMissing(attempt=winner))
    out = s.advance(8)
    assert len(set(s.killed(out)) & {claim.attempt.token for claim in reduces}) == 1
    s.run("m0", worker="w1")
    assert s.view().maps.completed == 2
