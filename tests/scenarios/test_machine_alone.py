"""The leader's machine: what was lost with two workers runs alone on a third, and three times are poison."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from machine_script import Claim, Offered, Script
from test_machine_adopt import Kept, cut

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.machine import MachineConfig
from mrq.core.model import JobState, Role, TaskState
from mrq.core.refs import Kind


def with_workers(*names: str, config: MachineConfig | None = None, **more: Any) -> Script:
    s = Script(config)
    s.join(*(names or ("w1", "w2", "w3")), **more)
    return s


def lose(s: Script, worker: str) -> None:
    """A worker is killed, and is back at once as another boot."""
    s.reboot(worker)


def lost_twice(s: Script, task: str = "m0") -> Offered:
    """A task is lost with two boots; the offer that follows."""
    for worker in ("w1", "w1"):
        s.claim(task, worker)
        lose(s, worker)
    (offer,) = s.offered()
    assert offer.message.alone
    return offer


def taken(s: Script, offer: Offered) -> Claim:
    m = offer.message
    return s.claim(f"{m.task.job}/{m.task.kind.value}{m.task.index}", offer.worker)


def test_the_first_losses_are_run_as_before_and_then_it_runs_alone() -> None:
    s = with_workers()
    s.submit(maps=1)
    s.claim("m0", "w1")
    lose(s, "w1")
    assert s.published() == ["m0"]
    assert not s.of(c.PublishTask)[0].message.alone
    s.claim("m0", "w2")
    lose(s, "w2")
    assert s.published() == []
    (offer,) = s.offered()
    assert (offer.worker, offer.message.alone) == ("w3", True)
    assert s.view().worker_losses == 2


def test_a_boot_counts_once_and_every_boot_counts() -> None:
    """On one worker as on many: what is never over would be tried for ever."""
    s = with_workers("w1", config=MachineConfig(alone_losses_max=99))
    s.submit(maps=1)
    for n in range(10):
        assert s.state() is JobState.RUNNING, f"after {n} losses"
        s.claim("m0", "w1")
        lose(s, "w1")
    assert s.error() == f"m-00000 was lost with 10 boots of workers ({', '.join(['w1'] * 10)})"
    assert s.view().failures == s.view().losses == 0


def test_the_bound_on_all_losses_is_a_setting() -> None:
    s = with_workers()
    s.submit(maps=1, max_worker_losses=1)
    s.claim("m0", "w1")
    lose(s, "w1")
    assert s.error() == "m-00000 was lost with 1 boot of a worker (w1)"


@pytest.mark.parametrize("workers", [("w1",), ("w1", "w2"), ("w1", "w2", "w3", "w4")], ids=len)
def test_three_losses_alone_are_poison_named_with_record_and_workers(workers: tuple[str, ...]) -> None:
    s = with_workers(*workers)
    s.submit(maps=2)
    other = s.claim("m1", "w1")
    offer, died = lost_twice(s), ["w1", "w1"]
    assert s.task("m1").ticket > other.message.ticket
    for n in range(3):
        assert s.state() is JobState.RUNNING, f"after {n} losses alone"
        claim = taken(s, offer)
        worker = s.workers[offer.worker]
        line = worker.running[claim.attempt.token]
        worker.running[claim.attempt.token] = replace(line, at="'x' (offset 8 of in.txt)")
        s.beat(offer.worker)
        died.append(offer.worker)
        lose(s, offer.worker)
        if n < 2:
            (offer,) = [x for x in s.offered() if x.message.task.index == 0]
    assert s.state() is JobState.FAILED
    assert s.error().startswith(
        "m-00000 took its worker down 3 times while nothing else ran there, last heard of at "
        f"'x' (offset 8 of in.txt); it was lost with {', '.join(died)}. A record of it kills"
    )


def test_how_far_a_reduce_was_is_said_in_words() -> None:
    s = with_workers("w1")
    s.submit(maps=1, max_worker_losses=1)
    claim = s.claim("m0", "w1")
    line = s.workers["w1"].running[claim.attempt.token]
    s.workers["w1"].running[claim.attempt.token] = replace(line, at="after 3 records")
    s.beat("w1")
    lose(s, "w1")
    assert s.error() == "m-00000 was lost with 1 boot of a worker (w1), last heard of after 3 records"


def test_a_loss_beside_others_says_nothing_of_one_task() -> None:
    s = with_workers()
    s.submit(maps=1, reducers=0)
    s.submit("k", maps=1, reducers=0)
    offer = lost_twice(s)
    s.claim("k/m0", offer.worker)  # it came before the worker heard of the offer
    taken(s, offer)
    lose(s, offer.worker)
    job = s.machine._state.jobs["j"]
    assert job.maps.trouble[0].lost_alone == 0
    assert len(job.maps.trouble[0].workers_lost or ()) == 3


def test_nothing_else_is_placed_on_its_worker_until_it_is_over() -> None:
    s = with_workers("w1", "w2", maps=4)
    s.submit(maps=1, reducers=0)
    offer = lost_twice(s)
    kept = s.machine._state.workers.all[offer.worker]
    assert (kept.takes, list(s.machine._state.workers.kept)) == (False, [offer.worker])
    claim = taken(s, offer)
    capacity = s.machine._state.workers.capacity[Kind.MAP]
    assert capacity == 4, "the other worker's"
    s.advance(3)
    assert not kept.takes
    s.done(claim)
    assert kept.takes
    assert s.machine._state.workers.capacity[Kind.MAP] == 8


def test_it_runs_where_it_was_lost_least_and_little_is_lost_with_it() -> None:
    """A machine that always dies makes no poison of a good task, and no map outputs go for nothing."""
    s = with_workers("w1", "w2", "w3")
    s.submit("good", maps=4)
    for n in range(4):
        s.run(f"good/m{n}", worker="w2")
    s.submit(maps=1, reducers=0)
    assert lost_twice(s).worker == "w3"


def test_half_of_the_workers_are_left_to_others_but_where_there_is_one_it_is_taken() -> None:
    s = with_workers("w1", "w2", "w3", "w4", maps=8)
    s.submit(maps=6, reducers=0)
    for _ in range(2):
        for n in range(6):
            s.claim(f"m{n}", "w1")
        lose(s, "w1")
    alone = [x for x in s.offered() if x.message.alone]
    assert len({x.worker for x in alone}) == len(alone) == 2
    s.submit("k", maps=1, reducers=0)
    assert s.published() == ["m0"]
    for offer in alone:
        s.done(taken(s, offer))
    more = [x for x in s.offered(s.advance(2)) if x.message.alone]
    assert len(more) == 2, "the others' turn comes"
    one = with_workers("w1")
    one.submit(maps=1)
    assert lost_twice(one).worker == "w1"


def test_a_reduce_that_waits_for_the_map_gives_its_worker_back() -> None:
    """One worker alone: the reduce would wait for the map, and the map for the reduce."""
    s = with_workers("w1", maps=3, reduces=4)
    s.submit(maps=1, reducers=1)
    s.claim("m0", "w1")
    lose(s, "w1")
    s.submit("k", maps=2, reducers=1)
    s.run("k/m1", worker="w1")
    s.claim("m0", "w1")
    lose(s, "w1")
    assert [x.message.alone for x in s.offered()] == [True]
    waiting = s.claim("k/r0", "w1")  # before the worker heard of the offer
    busy = s.claim("k/m0", "w1")
    s.log.clear()
    offers = [x for x in s.offered(s.advance(11)) if x.message.alone]
    assert s.killed(s.log) == [waiting.attempt.token]
    assert [x.worker for x in offers] == ["w1"], "it is told again, while it ends what it has"
    assert s.is_("k/m0", TaskState.RUNNING)
    s.done(busy)
    s.done(taken(s, offers[0]))
    assert s.is_("m0", TaskState.COMPLETED)
    assert "r0" in s.published(s.log)


def test_a_reduce_runs_alone_once_all_maps_are_there() -> None:
    s = with_workers()
    s.submit(maps=2, reducers=1)
    s.run("m0", worker="w2")
    for _ in range(2):
        s.claim("r0", "w1")
        lose(s, "w1")
    assert s.is_("r0", TaskState.IDLE)
    s.advance(5)
    assert s.is_("r0", TaskState.IDLE)
    s.run("m1", worker="w2")
    (offer,) = [x for x in s.offered(s.advance(2)) if x.message.task.kind is Kind.REDUCE]
    assert offer.message.alone
    s.done(taken(s, offer))
    assert s.state() is JobState.COMMITTING


def test_a_worker_that_goes_before_it_has_claimed_it_is_replaced_at_once() -> None:
    s = with_workers()
    s.submit(maps=1)
    first = lost_twice(s)
    lose(s, first.worker)
    (second,) = s.offered()
    assert second.message.ticket > first.message.ticket
    assert s.view().worker_losses == 2, "it didn't run there"
    s.workers[second.worker].draining = True
    s.beat(second.worker)
    (third,) = [x for x in s.offered(s.advance(11)) if x.message.alone]
    assert third.worker != second.worker


def test_one_that_is_not_claimed_by_a_worker_with_nothing_to_end_goes_to_the_next() -> None:
    s = with_workers()
    s.submit(maps=1)
    first = lost_twice(s)
    (second,) = s.offered(s.advance(11))
    assert second.message.alone
    assert second.message.ticket > first.message.ticket


def test_it_gets_no_backup_and_others_do() -> None:
    s = with_workers(maps=8)
    s.submit(maps=8, reducers=0)
    offer = lost_twice(s)
    claim = taken(s, offer)
    straggler = s.claim("m7", "w2" if offer.worker != "w2" else "w3")
    for n in range(1, 7):
        s.run(f"m{n}", worker=straggler.worker)
    s.advance(10)
    backups = [x.message.task.index for x in s.offered(s.log) if s.role(x.message) is Role.BACKUP]
    assert backups == [7]
    s.done(claim)


def test_a_message_that_comes_again_isnt_run_beside_others() -> None:
    """The second loss shows by another worker's claim of the same message, before its beats are missed."""
    s = with_workers()
    s.submit(maps=1, reducers=0)
    s.claim("m0", "w1")
    lose(s, "w1")
    s.claim("m0", "w2")
    again = s.claim("m0", "w3")
    assert again.attempt.token in s.killed()
    (offer,) = s.offered()
    assert offer.message.alone
    assert offer.message.ticket > again.message.ticket
    assert s.done(again) == [], "it is no longer live"
    lose(s, "w3")  # it had begun all the same: no storm, but its own doing
    for _ in range(3):
        claim = taken(s, [x for x in s.offered(s.log) if x.message.alone][-1])
        lose(s, claim.worker)
    assert "took its worker down 3 times" in s.error()


def test_a_worker_that_is_busy_for_long_isnt_waited_for_where_another_has_nothing_to_do() -> None:
    s = with_workers("w1", "w2")
    s.submit("k", maps=1, reducers=0)
    s.claim("k/m0", "w2")
    s.submit(maps=1, reducers=0)
    assert lost_twice(s).worker == "w2", "it was never lost there"
    (offer,) = [x for x in s.offered(s.advance(11)) if x.message.alone]
    assert offer.worker == "w1"
    s.done(taken(s, offer))
    assert s.state() is JobState.COMMITTING


def test_a_reduce_alone_whose_maps_are_lost_gives_its_worker_back() -> None:
    """It would wait for the map, and the map, which is to run alone too, for a worker that may be kept."""
    s = with_workers("w1", "w2")
    s.submit(maps=1, reducers=1)
    for _ in range(2):
        s.claim("m0", "w2")
        lose(s, "w2")
    (offer,) = s.offered()
    made = taken(s, offer)
    s.done(made)
    other = "w2" if offer.worker == "w1" else "w1"
    for _ in range(2):
        s.claim("r0", other)
        lose(s, other)
    (reduce,) = [x for x in s.offered(s.log) if x.message.task.kind is Kind.REDUCE]
    claim = taken(s, reduce)
    s.log.clear()
    s.do(e.OutputMissing(attempt=made.attempt))
    assert claim.attempt.token in s.killed(), "it waits for what nobody could run"
    s.advance(2)
    (again,) = [x for x in s.offered(s.log) if x.message.task.kind is Kind.MAP]
    s.done(taken(s, again))
    s.advance(2)
    (reduce,) = [x for x in s.offered(s.log) if x.message.task.kind is Kind.REDUCE]
    s.done(taken(s, reduce))
    assert s.state() is JobState.COMMITTING


@pytest.mark.parametrize("why", ["drains", "quarantine", "disk"])
def test_a_worker_that_takes_nothing_any_more_isnt_offered_it_again(why: str) -> None:
    """However long it has something to end, and however busy the others are."""
    s = with_workers("w1", "w2", "w3")
    s.submit("k", maps=3, reducers=0)
    for n, worker in enumerate(("w2", "w3")):
        s.claim(f"k/m{n}", worker)
    s.submit(maps=1, reducers=0)
    first = lost_twice(s)
    assert first.worker != "w1"
    s.claim("k/m2", "w1")
    kept = s.workers[first.worker]
    match why:
        case "drains":
            kept.draining = True
        case "quarantine":
            s.do(e.QuarantineRequested(worker=first.worker))
        case "disk":
            kept.full = "it has no room"
    s.beat(first.worker)
    again = [x for x in s.offered(s.advance(12)) if x.message.alone]
    assert again
    assert first.worker not in {x.worker for x in again}


def test_a_retry_forgives_it() -> None:
    s = with_workers()
    s.submit(maps=1)
    claim = taken(s, lost_twice(s))
    s.do(e.CancelRequested(job="j"))
    s.workers[claim.worker].running.clear()
    s.do(e.RetryRequested(job="j"))
    assert s.published() == ["m0"]
    assert not s.machine._state.workers.kept


def test_takeover_of_what_is_offered_or_runs_alone() -> None:
    """By what a store keeps, which is all that a successor has."""
    for claimed in (False, True):
        s = Kept()
        s.join("w1", "w2", "w3")
        s.submit(maps=2)
        offer = lost_twice(s)
        if claimed:
            taken(s, offer)
        s.log.clear()
        cut(s, s.store)
        assert list(s.machine._state.workers.kept) == [offer.worker]
        assert not [x for x in s.of(c.PublishTask, s.log) if x.message.task.index == 0], "never on the queue"
        if not claimed:
            (offer,) = [x for x in s.offered(s.advance(12)) if x.message.alone]
            taken(s, offer)
        lose(s, offer.worker)
        assert s.machine._state.jobs["j"].maps.trouble[0].lost_alone == 1


@pytest.mark.parametrize("storm_s", [20.0, 0.0], ids=["as it is", "without the rule"])
def test_fifteen_kills_in_twenty_seconds_on_ten_workers_fail_no_good_job(storm_s: float) -> None:
    """One worker after the other, and what is published is claimed by the next victim: so tasks are lost
    again and again, with others and alone. Without looking at the others' deaths that is poison."""
    s = with_workers(*(f"w{n}" for n in range(10)), config=MachineConfig(storm_s=storm_s), maps=8)
    s.submit(maps=6, reducers=0)
    maps = s.machine._state.jobs["j"].maps
    for n in range(15):
        for index in [index for index, flight in maps.flights.items() if flight.primary is None]:
            flight, victim = maps.flights[index], f"w{n % 10}"
            if flight.alone or not s.machine._state.workers.all[victim].alone:
                s.claim(f"m{index}", flight.offered_to or victim)
        lose(s, f"w{n % 10}")
        s.advance(20 / 15)
        if s.state() is JobState.FAILED:
            break
    if not storm_s:
        assert "took its worker down 3 times" in s.error()
        return
    assert s.state() is JobState.RUNNING
    assert max(len(each.workers_lost or ()) for each in maps.trouble.values()) >= 5, "enough for poison"


def test_poison_beside_a_storm_is_bound_by_all_its_losses() -> None:
    s = with_workers("w1", "w2")
    s.submit(maps=1, reducers=0)
    for _ in range(10):
        flight = s.machine._state.jobs["j"].maps.flights[0]
        s.claim("m0", flight.offered_to or "w1")
        s.workers["w2"].running.clear()
        lose(s, "w2")  # for reasons of its own
        if s.is_("m0", TaskState.RUNNING):
            lose(s, "w1")
        s.advance(1)
    assert "was lost with 10 boots of workers" in s.error()


def test_a_worker_that_comes_back_after_long_is_no_storm() -> None:
    s = with_workers("w1", "w2", "w3", "w4")
    s.workers["w4"].silent = True
    s.advance(60)
    s.submit(maps=1, reducers=0)
    offer = lost_twice(s)
    taken(s, offer)
    lose(s, "w4")  # dead for a minute: it starts again
    lose(s, offer.worker)
    assert s.machine._state.jobs["j"].maps.trouble[0].lost_alone == 1
