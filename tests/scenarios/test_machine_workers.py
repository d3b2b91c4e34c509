"""The leader's machine: workers' beats, silence, boots, drain and quarantine."""

from __future__ import annotations

from machine_script import Claim, Script

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.machine import Machine, MachineConfig
from mrq.core.model import (
    Beat,
    JobState,
    Quarantine,
    RunningAttempt,
    Slots,
    Status,
    TaskState,
    WorkerHealth,
)
from mrq.core.orders import Notify
from mrq.core.standing import Standing
from mrq.core.store_api import StoredWorker
from mrq.core.worker_info import WorkerInfo


def two(maps: int = 2, **more: object) -> Script:
    s = Script()
    s.join("w1", "w2")
    s.submit(maps=maps, **more)
    return s


def health(s: Script, name: str) -> WorkerHealth:
    return next(w.health for w in s.machine.workers() if w.worker == name)


def told(s: Script, where: list[c.Command] | None = None) -> list[tuple[str, WorkerHealth]]:
    return [(x.worker, x.health) for x in s.of(c.WriteWorker, where)]


def test_a_silent_worker_is_suspect_after_5_s_and_dead_after_15():
    s = two()
    s.workers["w1"].silent = True
    s.advance(4.9)
    assert health(s, "w1") is WorkerHealth.ALIVE
    assert told(s, s.advance(0.2)) == [("w1", WorkerHealth.SUSPECT)]
    s.advance(9.8)
    assert health(s, "w1") is WorkerHealth.SUSPECT
    assert told(s, s.advance(0.2)) == [("w1", WorkerHealth.DEAD)]


def test_a_suspect_worker_that_beats_is_alive_and_keeps_what_it_runs():
    s = two()
    claim = s.claim("m0", "w1")
    s.workers["w1"].silent = True
    s.advance(8)
    s.beat("w1")
    assert told(s) == [("w1", WorkerHealth.ALIVE)]
    s.done(claim)
    assert s.is_("m0", TaskState.COMPLETED)


def test_a_dead_worker_that_beats_again_is_alive_and_its_old_attempts_are_killed():
    s = two()
    claim = s.claim("m0", "w1")
    s.workers["w1"].silent = True
    s.advance(16)
    s.workers["w1"].running[claim.attempt.token] = line_of(claim)
    s.beat("w1")
    assert health(s, "w1") is WorkerHealth.ALIVE
    assert s.killed() == [claim.attempt.token]


def line_of(claim: Claim) -> RunningAttempt:
    return RunningAttempt(attempt=claim.attempt, phase="mapping")


def test_a_kill_is_repeated_only_now_and_then():
    s = two()
    claim = s.claim("m0", "w1")
    s.fail(claim)  # reported, but its worker goes on listing it
    line = line_of(claim)
    orders = 0
    for _ in range(10):
        s.workers["w1"].running[claim.attempt.token] = line
        s.beat("w1")
        orders += len(s.killed())
    assert orders == 2


def test_losing_workers_has_a_wide_bound_of_boots():
    s = Script(MachineConfig(dead_after_s=6))
    s.join(*(f"w{i}" for i in range(4)))
    s.submit(maps=1, max_worker_losses=3)
    for i in range(3):
        s.claim("m0", f"w{i}")
        s.workers[f"w{i}"].silent = True
        s.advance(8)
    assert s.error() == "m-00000 was lost with 3 boots of workers (w0, w1, w2)"
    assert s.view().failures == 0


def test_the_newest_boot_wins():
    s = two()
    claim = s.claim("m0", "w1")
    old = Beat(worker="w1", boot="w1-boot1", seq=99, slots=Slots(map=2, reduce=2, total=4))
    s.reboot("w1")
    assert s.task("m0").ticket == 2
    assert s.do(e.BeatReceived(beat=old)) == []
    assert s.done(claim) == []
    assert [w.boot for w in s.machine.workers()] == ["w1-boot2", "w2-boot1"]


def test_a_claim_of_a_boot_that_no_beat_told_of_goes_back_uncharged():
    # Boots are heard of in order by their beats alone; this one may be older than the one that is known.
    s = two()
    s.workers["w1"].boot = "w1-boot0"
    claim = s.claim("m0", "w1")
    t = s.task("m0")
    assert (t.state, t.ticket, s.view().worker_losses) == (TaskState.QUEUED, 2, 0)
    assert s.done(claim) == []
    assert [w.boot for w in s.machine.workers()] == ["w1-boot1", "w2-boot1"]


def test_two_beats_without_an_attempt_mean_that_it_is_over_and_charge_nothing():
    s = two()
    claim = s.claim("m0", "w1")
    s.beat("w1")
    s.workers["w1"].running.clear()
    s.beat("w1")
    assert s.is_("m0", TaskState.RUNNING)
    s.beat("w1")
    assert (s.is_("m0", TaskState.RUNNING), s.task("m0").losses) == (False, 0)
    assert [error.status for error in s.view().errors] == [Status.UNLISTED]
    assert s.done(claim) == []


def test_a_beat_that_began_before_the_claim_is_no_evidence():
    s = two()
    s.claim("m0", "w1")
    running, s.workers["w1"].running = s.workers["w1"].running, {}
    s.beat("w1")  # under way when the claim was recorded
    s.beat("w1")
    s.workers["w1"].running = running
    s.beat("w1")
    assert s.is_("m0", TaskState.RUNNING)


def test_what_beats_do_not_list_is_no_strike_against_their_worker_and_still_ends():
    s = Script(MachineConfig(uncharged_max=5))
    s.join("w1", "w2")
    s.submit(maps=1)
    for _ in range(5):
        assert s.state() is JobState.RUNNING
        s.claim("m0", "w1")
        s.workers["w1"].running.clear()
        s.advance(20)
    assert s.error() == "m-00000 ended 5 times without a result, the last time as unlisted"
    assert not s.machine._state.jobs["j"].maps.trouble[0].failed_on


def test_doubled_and_overtaken_beats_count_once():
    s = two()
    s.claim("m0", "w1")
    s.advance(3)
    stale = Beat(worker="w1", boot="w1-boot1", seq=1, slots=Slots(map=2, reduce=2, total=4))
    for _ in range(9):
        assert s.do(e.BeatReceived(beat=stale)) == []
    assert s.is_("m0", TaskState.RUNNING)


def test_a_beat_tells_of_a_claim_whose_event_was_lost():
    s = two()
    claim = s.claim("m0", "w1", tell=False)
    s.beat("w1")
    assert s.is_("m0", TaskState.RUNNING)
    s.tell(claim)
    s.done(claim)
    assert s.is_("m0", TaskState.COMPLETED)


def test_progress_in_beats_shows_in_the_view():
    s = two()
    claim = s.claim("m0", "w1")
    s.advance(2)
    (running,) = s.view().attempts
    assert (running.token, running.phase, running.records) == (claim.attempt.token, "mapping", 1)
    assert s.task("m0").updated_at == s.now


def test_a_draining_worker_gets_nothing_and_its_goodbye_charges_nothing():
    s = two(maps=1)
    claim = s.claim("m0", "w1")
    s.workers["w1"].draining = True
    s.beat("w1")
    assert told(s) == [("w1", WorkerHealth.DRAINING)]
    s.do(e.WorkerLeft(worker="w1", boot="w1-boot1"))
    assert told(s) == [("w1", WorkerHealth.DEAD)]
    t = s.task("m0")
    assert (t.state, t.failures, t.losses, s.view().worker_losses) == (TaskState.QUEUED, 0, 0, 0)
    assert s.done(claim) == []


def test_a_worker_may_drain_by_itself():
    s = two()
    s.workers["w1"].draining = True
    s.beat("w1")
    assert health(s, "w1") is WorkerHealth.DRAINING


def test_a_worker_that_drained_by_itself_takes_tasks_when_it_comes_again():
    s = two(maps=1)
    s.workers["w1"].draining = True
    s.beat("w1")
    s.do(e.WorkerLeft(worker="w1", boot="w1-boot1"))
    s.workers["w1"].draining = False
    s.reboot("w1")
    assert health(s, "w1") is WorkerHealth.ALIVE


def test_a_drained_worker_stays_out_until_it_is_readmitted_whatever_starts_it_again():
    s = two(maps=1)
    s.do(e.DrainRequested(worker="w1"))
    assert health(s, "w1") is WorkerHealth.DRAINING
    assert told(s) == [("w1", WorkerHealth.QUARANTINED)]  # in the store, for whoever leads by then
    s.do(e.WorkerLeft(worker="w1", boot="w1-boot1"))
    assert health(s, "w1") is WorkerHealth.DEAD
    assert told(s) == [("w1", WorkerHealth.QUARANTINED)]
    for _ in range(2):
        s.reboot("w1")
        assert health(s, "w1") is WorkerHealth.QUARANTINED
    s.do(e.ReadmitRequested(worker="w1"))
    assert told(s) == [("w1", WorkerHealth.ALIVE)]


def test_a_drained_worker_that_was_forgotten_is_still_out_when_it_comes_again():
    s = two(maps=1)
    s.do(e.DrainRequested(worker="w1"))
    s.do(e.WorkerLeft(worker="w1", boot="w1-boot1"))
    s.workers["w1"].silent = True
    s.advance(MachineConfig().forget_worker_s + 1)
    assert [w.worker for w in s.machine.workers()] == ["w2"]
    beat = Beat(worker="w1", boot="w1-boot2", seq=1, slots=Slots(map=1, reduce=1, total=2))
    s.do(e.BeatReceived(beat=beat, health=WorkerHealth.QUARANTINED))
    assert health(s, "w1") is WorkerHealth.QUARANTINED


def test_drained_workers_dont_keep_others_from_being_quarantined():
    s = Script()
    s.join("w1", "w2", "w3", "w4")
    s.submit(maps=10)
    for gone in ("w3", "w4"):
        s.do(e.DrainRequested(worker=gone))
        s.do(e.WorkerLeft(worker=gone, boot=f"{gone}-boot1"))
        s.workers[gone].silent = True
    for i in range(5):
        s.fail(s.claim(f"m{i}", "w1"))
        s.advance(1)
        s.run(f"m{i}", worker="w2")
    assert health(s, "w1") is WorkerHealth.QUARANTINED


def test_goodbye_of_an_older_boot_is_stale():
    s = two()
    s.reboot("w1")
    assert s.do(e.WorkerLeft(worker="w1", boot="w1-boot1")) == []


def broken_worker(config: MachineConfig | None = None, workers: tuple[str, ...] = ("w1", "w2")) -> Script:
    """Tasks fail on w1 and are completed by w2."""
    s = Script(config)
    s.join(*workers)
    s.submit(maps=10)
    for i in range(5):
        s.fail(s.claim(f"m{i}", "w1"))
        s.advance(1)
        s.run(f"m{i}", worker=workers[-1])
    return s


def test_a_worker_on_which_different_tasks_fail_is_quarantined():
    s = broken_worker()
    assert health(s, "w1") is WorkerHealth.QUARANTINED
    assert health(s, "w2") is WorkerHealth.ALIVE


def test_only_an_operators_word_brings_it_back():
    s = broken_worker()
    s.advance(10)
    s.reboot("w1")
    assert health(s, "w1") is WorkerHealth.QUARANTINED
    s.do(e.ReadmitRequested(worker="w1"))
    assert told(s) == [("w1", WorkerHealth.ALIVE)]


def test_the_last_worker_is_never_quarantined():
    s = broken_worker()
    s.do(e.QuarantineRequested(worker="w2"))  # an operator may
    assert health(s, "w2") is WorkerHealth.QUARANTINED
    s = Script()
    s.join("w1", "w2")
    s.submit(maps=10)
    s.do(e.DrainRequested(worker="w2"))
    for i in range(5):
        s.fail(s.claim(f"m{i}", "w1"))
        s.advance(1)
        s.run(f"m{i}", worker="w2")
    assert health(s, "w1") is WorkerHealth.ALIVE


def test_a_leaders_own_worker_is_never_quarantined():
    s = broken_worker(MachineConfig(quarantines=False))
    assert health(s, "w1") is WorkerHealth.ALIVE
    assert s.do(e.QuarantineRequested(worker="w1")) == []


def test_a_job_that_fails_everywhere_quarantines_nobody():
    s = two(maps=10, max_failures=9)
    for i in range(6):
        for worker in ("w1", "w2"):
            s.fail(s.claim(f"m{i}", worker))
            s.advance(3)
    assert {health(s, w) for w in ("w1", "w2")} == {WorkerHealth.ALIVE}


def test_at_most_half_of_the_workers_are_quarantined():
    s = Script()
    s.join("w1", "w2", "w3")
    s.submit(maps=10)
    for bad in ("w1", "w2"):
        for i in range(5):
            m = i if bad == "w1" else i + 5
            s.fail(s.claim(f"m{m}", bad), Status.LOST)
            s.advance(1)
            s.run(f"m{m}", worker="w3")
    assert [health(s, w) for w in ("w1", "w2")] == [WorkerHealth.QUARANTINED, WorkerHealth.ALIVE]


def test_after_the_leaders_own_outage_every_worker_has_a_full_grace():
    s = two()
    claim = s.claim("m0", "w1")
    s.now += 120  # the loop slept: the tick that was wanted 115 s ago comes now
    assert told(s, s.do(e.Ticked())) == []
    s.workers["w1"].silent = True
    s.advance(14)
    assert health(s, "w1") is WorkerHealth.SUSPECT
    s.beat("w1")
    s.done(claim)
    assert s.is_("m0", TaskState.COMPLETED)


def test_a_dead_worker_is_forgotten_after_an_hour():
    s = two()
    s.workers["w1"].silent = True
    s.do(e.CancelRequested(job="j"))
    s.advance(20)
    assert len(s.machine.workers()) == 2
    s.workers["w2"].silent = True
    s.now += 1
    while s.machine.next_tick(s.now) < float("inf") and s.now < 9000:
        s.now = max(s.now, s.machine.next_tick(s.now))
        s.do(e.Ticked())
    assert s.machine.workers() == []
    assert s.state() is JobState.CANCELLED


def test_a_worker_that_a_new_leader_found_dead_is_forgotten_an_hour_later():
    s = Script()
    beat = Beat(worker="w1", boot="w1-boot1", seq=9, slots=Slots(map=1, reduce=1, total=2))
    s.machine.adopt_workers([StoredWorker(beat=beat, health=WorkerHealth.DEAD, age_s=50.0)], s.now)
    s.now += 1
    s.do(e.Restored())
    assert view(s, "w1").beat_at == view(s, "w1").since == s.now - 51
    s.advance(3599)
    assert len(s.machine.workers()) == 1
    s.advance(2)
    assert s.machine.workers() == []


def shown(s: Script) -> list[str]:
    return [w.worker for w in s.machine.workers(everybody=False)]


def test_a_dead_worker_is_listed_for_a_minute_after_its_last_beat():
    s = two()
    s.workers["w1"].silent = True
    s.advance(59)
    assert shown(s) == ["w1", "w2"]
    assert "this row goes when another worker takes its place, or 1 min" in stands(s, "w1").ends
    s.advance(2)
    assert shown(s) == ["w2"]
    assert health(s, "w1") is WorkerHealth.DEAD  # which is known for longer
    s.reboot("w1")
    assert shown(s) == ["w1", "w2"]


def test_a_dead_worker_in_quarantine_is_listed_for_an_hour_with_the_reason():
    s = two()
    s.do(e.DrainRequested(worker="w1"))
    s.do(e.WorkerLeft(worker="w1", boot="w1-boot1"))
    s.workers["w1"].silent = True
    s.advance(3599)
    assert shown(s) == ["w1", "w2"]
    assert stands(s, "w1").reason.endswith("it is in quarantine: an operator drained it")
    assert "mrq workers readmit w1; this row goes" in stands(s, "w1").ends
    s.advance(2)
    assert shown(s) == ["w2"]


def test_a_dead_worker_isnt_listed_once_another_has_found_its_boot_over_on_the_same_disk():
    s = two()
    s.workers["w1"].silent = True
    s.advance(20)
    s.join("w3", ended=("w1-boot0",))
    assert shown(s) == ["w1", "w2", "w3"]  # that was an older boot of it
    s.join("w4", ended=("w1-boot1", "w2-boot1"))
    assert shown(s) == ["w2", "w3", "w4"]  # whoever beats is there, whatever others have found
    s.reboot("w1")
    s.workers["w1"].silent = True
    s.advance(20)
    assert shown(s) == ["w1", "w2", "w3", "w4"]  # this boot's end is news


def test_a_dead_worker_isnt_listed_once_another_was_reached_at_its_address():
    s = Script()
    old, new = (
        Beat(worker=name, boot="b", seq=1, slots=Slots(map=1, reduce=1, total=2), address="host:7070")
        for name in ("old", "new")
    )
    s.do(e.BeatReceived(beat=old))
    s.do(e.WorkerDialled(worker="old", boot="b"))
    s.do(e.WorkerLeft(worker="old", boot="b"))
    s.do(e.BeatReceived(beat=new))
    assert shown(s) == ["old", "new"]
    s.do(e.WorkerDialled(worker="new", boot="b"))
    assert shown(s) == ["new"]


def view(s: Script, name: str) -> WorkerInfo:
    return next(w for w in s.machine.workers() if w.worker == name)


def stands(s: Script, name: str) -> Standing:
    found = view(s, name)
    return Standing(reason=found.reason, ends=found.ends)


def test_every_health_has_a_reason_a_time_and_an_end():
    s = two()
    assert stands(s, "w1") == Standing(reason="", ends="")
    s.workers["w1"].silent = True
    s.advance(6)
    assert "no beat came for" in stands(s, "w1").reason
    assert "15 s it counts as dead" in stands(s, "w1").ends
    assert s.now - view(s, "w1").since < 2
    s.advance(10)
    assert "started again" in stands(s, "w1").ends
    s.do(e.DrainRequested(worker="w2"))
    assert stands(s, "w2").reason == "an operator drains it"
    assert "then it leaves" in stands(s, "w2").ends
    s.join("w3")
    since = s.now
    s.do(e.QuarantineRequested(worker="w3"))
    assert (stands(s, "w3").reason, stands(s, "w3").ends) == (
        "an operator put it there",
        "mrq workers readmit w3",
    )
    s.advance(3)
    assert view(s, "w3").since == since
    s.do(e.ReadmitRequested(worker="w3"))
    assert stands(s, "w3") == Standing(reason="", ends="")
    assert view(s, "w3").since == s.now


def test_a_worker_that_fails_tasks_is_told_why_it_is_in_quarantine():
    s = broken_worker()
    reason = stands(s, "w1").reason
    assert reason.startswith("5 different tasks failed on it within 60 minutes"), reason
    assert "m-00004" in reason
    assert "failed" in reason
    assert any(reason in given.order.text for given in s.ordered(Notify))


def successor(s: Script, *known: StoredWorker) -> None:
    """Another leader, which finds these in the store; its clock is a thousand seconds behind."""
    s.machine = Machine(MachineConfig(), wall=1000.0)
    s.machine.adopt_workers(known, s.now)
    s.do(e.Restored())


def test_a_quarantine_is_stored_with_its_reason_and_since_when_and_a_successor_shows_them():
    s = broken_worker()
    (word,) = {x.quarantine for x in s.of(c.WriteWorker)}
    assert word is not None
    assert word.at == s.now
    reason = stands(s, "w1").reason
    beat = Beat(worker="w1", boot="w1-boot1", seq=9, slots=Slots(map=2, reduce=2, total=4))
    s.now += 5
    successor(s, StoredWorker(beat=beat, health=WorkerHealth.QUARANTINED, age_s=1.0, quarantine=word))
    assert stands(s, "w1").reason == reason == word.why
    assert view(s, "w1").since == word.at
    s.do(e.ReadmitRequested(worker="w1"))
    assert [x.quarantine for x in s.of(c.WriteWorker)] == [None]


def test_a_quarantine_that_an_earlier_mrq_stored_is_shown_without_a_reason():
    s = Script()
    beat = Beat(worker="w1", boot="w1-boot1", seq=9, slots=Slots(map=2, reduce=2, total=4))
    successor(s, StoredWorker(beat=beat, health=WorkerHealth.QUARANTINED, age_s=1.0))
    assert "an earlier leader put it there" in stands(s, "w1").reason
    assert view(s, "w1").since == s.now + 1000.0


def test_a_worker_that_was_forgotten_comes_back_into_the_quarantine_that_the_store_knows():
    s = Script()
    beat = Beat(worker="w1", boot="w1-boot9", seq=1, slots=Slots(map=1, reduce=1, total=2))
    word = Quarantine(why="an operator drained it", at=12.5)
    s.do(e.BeatReceived(beat=beat, health=WorkerHealth.QUARANTINED, quarantine=word))
    assert s.machine._state.workers.all["w1"].quarantine == word
    assert view(s, "w1").since == 12.5
    assert [x.order.text for x in s.ordered(Notify)] == [
        "in quarantine, no tasks until `mrq workers readmit w1`: an operator drained it"
    ]


def test_a_long_reason_is_kept_with_its_beginning():
    s = two(maps=10)
    s.join("w3", "w4")
    for i in range(5):
        s.fail(s.claim(f"m{i}", "w1"), message="x" * 10_000)
        s.advance(1)
        s.run(f"m{i}", worker="w2")
    word = s.machine._state.workers.all["w1"].quarantine
    assert word is not None
    assert word.why.startswith("5 different tasks failed")
    assert len(word.why) < 1100
