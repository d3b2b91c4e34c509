"""Who leads: masters with clocks of their own around one lease, over a network that loses and delays."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from twins import MemoryLease

from mrq.core import election as el
from mrq.core.model import MasterStanding
from mrq.core.store_api import LeaseView
from mrq.errors import OperatorError

LOOP_S = 0.5


class Stage:
    """Virtual time, the lease in its store, and what happens in between."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lease = MemoryLease(now=lambda: self.now)
        self.store_id = "s"
        self.masters: list[Master] = []
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        #: (seconds to the store, seconds back), drawn for each call; None loses it.
        self.network: Callable[[], tuple[float | None, float | None]] = lambda: (0.01, 0.01)

    def master(self, owner: str, clock: float = 0.0) -> Master:
        made = Master(self, owner, clock)
        self.masters.append(made)
        return made

    def at(self, seconds: float, step: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (self.now + seconds, self._serial, step))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._heap and self._heap[0][0] <= until:
            self.now, _, step = heapq.heappop(self._heap)
            step()
            acting = [m.owner for m in self.masters if m.acting]
            assert len(acting) <= 1, f"{acting} act at {self.now}"
        self.now = until

    def wipe(self) -> None:
        self.lease.wipe()
        self.store_id = ""


class Master:
    def __init__(self, stage: Stage, owner: str, clock: float) -> None:
        self.stage, self.owner, self.clock = stage, owner, clock
        self.machine = el.Election(el.ElectionConfig(owner=owner))
        self.said: list[el.ElectionCommand] = []
        self.calls = 0
        self.paused = False
        self.hung = False  #: the process lives, its loop stands still
        self.dead = False
        self._backlog: list[el.ElectionEvent] = []
        stage.at(0.0, self._loop)

    @property
    def time(self) -> float:
        return self.stage.now + self.clock

    @property
    def acting(self) -> bool:
        return not self.dead and not self.paused and self.machine.acting(self.time)

    @property
    def words(self) -> list[Any]:
        """What it said beside its calls."""
        return [x for x in self.said if isinstance(x, el.Lead | el.Pause | el.StandDown)]

    def feed(self, event: el.ElectionEvent) -> None:
        if self.dead:
            return
        if self.paused:
            self._backlog.append(event)
            return
        for command in self.machine.handle(event, self.time):
            self.said.append(command)
            self._do(command)
        due = self.machine.next_tick() - self.time
        if due != float("inf"):
            self.stage.at(max(due, 0.001), lambda: self.feed(el.Ticked()))

    def pause(self, seconds: float) -> None:
        self.paused = True

        def resume() -> None:
            self.paused = False
            waiting, self._backlog = self._backlog, []
            for event in waiting:
                self.feed(event)

        self.stage.at(seconds, resume)

    def _loop(self) -> None:
        if self.dead:
            return
        if not self.hung and not self.paused:
            self.feed(el.LoopTicked())
        self.stage.at(LOOP_S, self._loop)

    def _do(self, command: el.ElectionCommand) -> None:
        if isinstance(command, el.ReleaseLease):
            self.stage.at(0.01, lambda: self._release(command))
            return
        if isinstance(command, el.Lead | el.Pause | el.StandDown):
            return
        self.calls += 1
        there, back = self.stage.network()
        if there is None:
            self.stage.at(2.0, lambda: self.feed(el.LeaseCallFailed(call=command.call)))
            return
        self.stage.at(there, lambda: self._execute(command, back))

    def _release(self, command: el.ReleaseLease) -> None:
        try:
            self.stage.lease.release(self.owner, command.epoch)
        except OperatorError:
            return

    def _execute(self, command: Any, back: float | None) -> None:
        lease, answer = self.stage.lease, None
        try:
            match command:
                case el.ViewLease(call=call):
                    answer = el.LeaseViewed(call=call, view=lease.view(), store_id=self.stage.store_id)
                case el.TakeLease(call=call, epoch_above=above, seconds=seconds):
                    answer = el.LeaseTaken(call=call, view=lease.take(self.owner, above, seconds))
                case el.RenewLease(call=call, epoch=epoch, seconds=seconds):
                    answer = el.LeaseRenewed(call=call, kept=lease.renew(self.owner, epoch, seconds))
        except OperatorError:
            answer = None
        if answer is None or back is None:
            self.stage.at(2.0, lambda: self.feed(el.LeaseCallFailed(call=command.call)))
        else:
            self.stage.at(back, lambda: self.feed(answer))


def two() -> tuple[Stage, Master, Master]:
    """One leads, the other stands by; their clocks have nothing in common."""
    stage = Stage()
    one = stage.master("one", clock=7000.0)
    stage.run(1.0)
    other = stage.master("other", clock=-300.0)
    stage.run(5.0)
    assert one.acting
    assert not other.acting
    return stage, one, other


def test_the_first_master_leads_and_keeps_leading() -> None:
    stage, one, other = two()
    stage.run(120.0)
    assert one.words == [el.Lead(epoch=1, fresh=True)]
    assert other.words == []
    assert one.calls < 110  # a renewal every 1.5 s, no more
    assert other.calls < 140


def test_a_standby_leads_within_fifteen_seconds_of_a_kill() -> None:
    stage, one, other = two()
    one.dead = True
    stage.run(10.0)
    assert other.words == [el.Lead(epoch=2, fresh=True)]


def test_a_master_that_is_stopped_hands_over_at_once() -> None:
    stage, one, other = two()
    one.feed(el.ResignRequested())
    stage.run(2.0)
    assert isinstance(one.words[-1], el.StandDown)
    assert other.acting
    assert one.machine.handle(el.LoopTicked(), one.time) == []


def test_a_paused_leader_wakes_up_when_another_leads() -> None:
    stage, one, other = two()
    one.pause(20.0)
    stage.run(19.0)
    assert other.acting
    stage.run(3.0)
    assert [type(word) for word in one.words] == [el.Lead, el.Pause, el.StandDown]
    assert one.machine.standing is MasterStanding.STANDBY
    assert other.acting


def test_a_paused_leader_does_not_act_between_waking_and_its_first_event() -> None:
    stage, one, _ = two()
    one.paused = True
    stage.run(6.0)
    assert one.machine.standing is MasterStanding.LEADING  # it knows nothing yet
    assert not one.machine.acting(one.time)


def test_a_leader_whose_loop_hangs_is_not_renewed() -> None:
    stage, one, other = two()
    one.hung = True
    stage.run(12.0)
    assert not one.acting
    assert other.acting
    one.hung = False
    stage.run(3.0)
    assert isinstance(one.words[-1], el.StandDown)


def test_renewals_whose_answers_are_lost_end_the_acting_before_the_lease() -> None:
    stage, one, other = two()
    stage.network = lambda: (0.01, None)
    stage.run(6.0)
    assert one.words[-1] == el.Pause()
    assert not one.acting
    stage.network = lambda: (0.01, 0.01)
    stage.run(4.0)
    assert one.words[-1] == el.Lead(epoch=1, fresh=False)  # it held the lease all the time
    assert other.words == []


def test_acting_ends_five_seconds_after_a_renewal_began_however_late_its_answer_came() -> None:
    machine = el.Election(el.ElectionConfig(owner="o"))
    (look,) = machine.handle(el.LoopTicked(), 100.0)
    free = LeaseView(owner=None, epoch=0, left_s=0.0)
    (take,) = machine.handle(el.LeaseViewed(call=look.call, view=free, store_id="s"), 100.0)
    machine.handle(el.LoopTicked(), 103.9)
    held = LeaseView(owner="o", epoch=1, left_s=8.0)
    assert el.Lead(epoch=1, fresh=True) in machine.handle(el.LeaseTaken(call=take.call, view=held), 104.0)
    assert machine.acting(104.9)
    assert not machine.acting(105.0)


def test_a_lease_whose_taking_was_never_answered_is_gone_on_with() -> None:
    stage = Stage()
    answers = iter([(0.01, 0.01), (0.01, None)])
    stage.network = lambda: next(answers, (0.01, 0.01))
    one = stage.master("one")
    stage.run(6.0)
    assert one.words == [el.Lead(epoch=1, fresh=True)]


def test_a_store_that_is_away_pauses_the_leader_who_goes_on_with_its_view() -> None:
    stage, one, other = two()
    stage.lease.away = True
    stage.run(20.0)
    assert not one.acting
    assert not other.acting
    stage.lease.away = False
    stage.run(6.0)
    leads = [m for m in (one, other) if m.acting]
    assert len(leads) == 1
    if leads == [one]:
        assert one.words[-1] == el.Lead(epoch=2, fresh=False)


def test_a_wiped_store_is_taken_at_once_by_its_last_holder_and_by_nobody_else() -> None:
    stage, one, other = two()
    stage.run(3.0)
    stage.wipe()
    stage.run(4.0)
    assert one.words[-2:] == [el.Pause(), el.Lead(epoch=2, fresh=False)]
    assert other.words == []


def test_a_wiped_store_waits_two_leases_for_its_holder() -> None:
    stage, one, other = two()
    stage.run(3.0)
    one.dead = True
    stage.wipe()
    stage.store_id = "new"  # somebody was quick with `init`
    stage.run(15.0)
    assert other.words == []
    stage.run(4.0)
    assert other.words == [el.Lead(epoch=2, fresh=True)]  # above what it had seen


def test_a_wiped_store_is_left_to_whoever_led_last_by_one_that_led_before() -> None:
    """Interleaving: paused beyond its lease, it wakes up in a store that forgot who led meanwhile."""
    stage, one, other = two()
    stage.run(3.0)
    one.pause(14.0)
    stage.run(13.9)
    assert other.words == [el.Lead(epoch=2, fresh=True)]
    stage.wipe()
    stage.run(4.0)
    assert other.words[1:] == [el.Pause(), el.Lead(epoch=3, fresh=False)]
    assert [type(word) for word in one.words[1:]] == [el.Pause, el.StandDown]


def test_a_wiped_store_that_was_away_for_longer_than_a_lease_waits_two_and_is_its_holders() -> None:
    stage, one, other = two()
    stage.run(3.0)
    stage.lease.away = True
    stage.run(12.0)
    stage.wipe()
    stage.lease.away = False
    stage.run(14.0)
    assert one.words[-1] == el.Pause()
    stage.run(6.0)
    assert one.words[-1] == el.Lead(epoch=2, fresh=False)
    assert other.words == []


def test_a_wiped_store_whose_taking_was_answered_too_late_is_still_its_last_holders() -> None:
    """Interleaving: the lease that it took had lapsed before the answer came, under an epoch of its own."""
    stage, one, other = two()
    stage.run(3.0)
    stage.wipe()
    slow = iter([(0.01, 0.01), (0.01, 0.01), (0.01, 12.0)])
    stage.network = lambda: next(slow, (0.01, 0.01))
    stage.run(14.0)
    assert isinstance(one.words[-1], el.Lead)
    assert not one.words[-1].fresh
    assert not [word for word in one.words if isinstance(word, el.StandDown)]
    assert other.words == []


@pytest.mark.parametrize("lost", [0, 1])
def test_a_wiped_store_whose_taking_was_never_answered_is_still_its_last_holders(lost: int) -> None:
    stage, one, _ = two()
    stage.run(3.0)
    stage.wipe()
    one.hung = bool(lost)
    slow = iter([(0.01, 0.01), (0.01, 0.01), (0.01, None)])
    stage.network = lambda: next(slow, (0.01, 0.01))
    stage.run(4.0)
    one.hung = False
    stage.run(16.0)
    assert isinstance(one.words[-1], el.Lead)
    assert not one.words[-1].fresh


def test_a_store_that_was_never_initialised_is_left_alone() -> None:
    stage = Stage()
    stage.store_id = ""
    one = stage.master("one")
    stage.run(60.0)
    assert one.words == []
    stage.store_id = "s"
    stage.run(2.0)
    assert one.acting


def test_a_fenced_leader_stands_down_and_leads_only_above_what_fenced_it() -> None:
    stage, one, other = two()
    other.dead = True
    one.feed(el.EpochSeen(epoch=9))
    assert isinstance(one.words[-1], el.StandDown)
    stage.run(20.0)
    assert one.words[-1] == el.Lead(epoch=10, fresh=True)
    one.feed(el.WasFenced())
    assert isinstance(one.words[-1], el.StandDown)
    stage.run(20.0)
    assert one.words[-1] == el.Lead(epoch=11, fresh=True)


def test_a_release_that_was_lost_does_not_bring_a_fenced_epoch_back() -> None:
    stage, one, other = two()
    other.dead = True
    stage.lease.away = True
    one.feed(el.WasFenced())
    stage.run(0.1)
    stage.lease.away = False
    stage.run(12.0)
    assert one.words[-1] == el.Lead(epoch=2, fresh=True)


def test_an_answer_to_a_call_that_is_over_changes_nothing() -> None:
    machine = el.Election(el.ElectionConfig(owner="o"))
    (look,) = machine.handle(el.LoopTicked(), 0.0)
    machine.handle(el.LeaseCallFailed(call=look.call), 2.0)
    held = LeaseView(owner="o", epoch=1, left_s=8.0)
    machine.handle(el.LeaseTaken(call=look.call, view=held), 2.1)
    machine.handle(el.LeaseRenewed(call=look.call, kept=True), 2.1)
    assert machine.standing is MasterStanding.STANDBY


@pytest.mark.parametrize("seed", range(60))
def test_whatever_the_network_does_at_most_one_acts_and_in_the_end_one_does(seed: int) -> None:
    """`Stage.run` checks after every step that no two act."""
    rng = Random(f"election {seed}")
    stage = Stage()
    loss, slow = rng.choice((0.0, 0.1, 0.4)), rng.choice((0.05, 2.0, 7.0))

    def network() -> tuple[float | None, float | None]:
        there = None if rng.random() < loss else rng.uniform(0, slow)
        return there, None if rng.random() < loss else rng.uniform(0, slow)

    masters = [stage.master(f"m{i}", clock=rng.uniform(-1e6, 1e6)) for i in range(3)]
    stage.network = network
    for _ in range(12):
        stage.run(rng.uniform(1, 12))
        master = rng.choice(masters)
        what = rng.choice(("pause", "hang", "fence", "away", "wipe"))
        if what == "pause" and not master.paused:
            master.pause(rng.choice((2.0, 6.0, 20.0)))
        elif what == "hang":
            master.hung = not master.hung
        elif what == "fence":
            master.feed(el.WasFenced())
        elif what == "away":
            stage.lease.away = not stage.lease.away
    stage.network = lambda: (0.01, 0.01)
    stage.lease.away = False
    for master in masters:
        master.hung = False
    stage.run(60.0)
    assert sum(master.acting for master in masters) == 1
    epochs = [word.epoch for m in masters for word in m.words if isinstance(word, el.Lead) and word.fresh]
    assert len(epochs) == len(set(epochs))  # nobody leads afresh under an epoch that was led under
