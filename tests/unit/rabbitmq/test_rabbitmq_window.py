"""Credit as consumers, against a broker that delivers whenever a consumer has room."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from mrq.adapters.rabbitmq.window import CALM_S, CONSUMERS_MAX, Cancel, Consume, Window


class Broker:
    """Consumers with a prefetch each, and steps that take as long as the test wants."""

    def __init__(self) -> None:
        self.window = Window("q")
        self.now = 100.0
        self.prefetch: dict[str, int] = {}
        self.unsettled: dict[str, int] = {}
        self.open: Consume | Cancel | None = None
        self.steps = 0

    @property
    def total(self) -> int:
        return sum(self.unsettled.values())

    @property
    def room(self) -> int:
        return sum(prefetch - self.unsettled[tag] for tag, prefetch in self.prefetch.items())

    def credit(self, credit: int) -> None:
        self.window.set_credit(credit, self.now)
        self.ask()

    def ask(self) -> None:
        step = self.window.next_step(self.now)
        if isinstance(step, Consume | Cancel):
            assert self.open is None, "one step at a time"
            self.open, self.steps = step, self.steps + 1

    def answer(self) -> None:
        """The broker did what is open."""
        step, self.open = self.open, None
        if isinstance(step, Consume):
            assert step.prefetch > 0
            assert step.tag not in self.unsettled
            self.prefetch[step.tag], self.unsettled[step.tag] = step.prefetch, 0
        elif isinstance(step, Cancel):
            del self.prefetch[step.tag]
        if step is not None:
            self.window.done()
            self.ask()

    def deliver(self, n: int = 1) -> int:
        """As many as there is room for, up to n."""
        for done in range(n):
            tags = [tag for tag, prefetch in self.prefetch.items() if self.unsettled[tag] < prefetch]
            if not tags:
                return done
            self.unsettled[tags[0]] += 1
            self.window.delivered(tags[0])
        return n

    def settle(self, tag: str) -> None:
        self.unsettled[tag] -= 1
        self.window.settled(tag)
        self.ask()

    def calm(self) -> None:
        """All that is wanted is done, however long it takes."""
        for _ in range(200):
            self.answer()
            self.now += CALM_S + 0.001
            self.ask()
            if self.open is None and self.window.next_step(self.now) is None:
                return
        raise AssertionError("the window never comes to rest")


def test_credit_is_one_consumer_with_that_prefetch() -> None:
    broker = Broker()
    broker.credit(5)
    broker.answer()
    assert list(broker.prefetch.values()) == [5]
    assert broker.deliver(9) == 5


def test_no_credit_cancels_at_once() -> None:
    broker = Broker()
    broker.credit(5)
    broker.answer()
    broker.deliver(2)
    broker.credit(0)
    assert isinstance(broker.open, Cancel)
    assert broker.window.cancelling
    broker.answer()
    assert not broker.window.cancelling
    assert broker.deliver() == 0


def test_credit_that_comes_back_within_the_calm_costs_nothing() -> None:
    broker = Broker()
    broker.credit(16)
    broker.answer()
    for _ in range(50):
        broker.credit(8)
        broker.now += CALM_S / 2
        broker.ask()
        broker.credit(16)
        broker.now += CALM_S / 2
        broker.ask()
    assert broker.steps == 1


def test_small_rises_are_taken_up_together() -> None:
    broker = Broker()
    broker.credit(16)
    broker.answer()
    for credit in range(17, 30):
        broker.now += CALM_S / 2
        broker.credit(credit)
        broker.answer()
    assert broker.steps <= 4
    broker.calm()
    assert broker.room == 29


def test_less_credit_holds_after_the_calm() -> None:
    broker = Broker()
    broker.credit(16)
    broker.answer()
    broker.deliver(16)
    broker.credit(4)
    broker.calm()
    for _ in range(12):
        broker.settle(next(iter(broker.unsettled)))
        broker.calm()
        assert broker.deliver(5) == 0
    broker.settle(next(iter(broker.unsettled)))
    broker.calm()
    assert broker.deliver(5) == 1


def test_a_long_task_in_a_cancelled_consumer_holds_its_credit() -> None:
    """Its delivery isn't given a second time while it is unsettled, nor is its credit lost after it."""
    broker = Broker()
    broker.credit(2)
    broker.answer()
    broker.deliver()
    (old,) = broker.unsettled
    broker.credit(0)
    broker.calm()
    broker.credit(2)
    broker.calm()
    assert broker.deliver(9) == 1
    broker.settle(old)
    broker.calm()
    assert broker.deliver(9) == 1


def test_credit_that_creeps_up_keeps_few_consumers() -> None:
    broker = Broker()
    for credit in range(1, 120):
        broker.credit(credit)
        broker.calm()
        broker.deliver(500)
        assert broker.total == credit
        assert broker.window.consumers <= CONSUMERS_MAX


operations = st.lists(
    st.sampled_from(["credit", "answer", "deliver", "settle", "wait"]), min_size=1, max_size=120
)


@given(operations, st.integers(0, 2**32))
@settings(max_examples=300)
def test_never_more_than_the_credit_and_never_less_once_calm(what: list[str], seed: int) -> None:
    broker, rng, credit = Broker(), random.Random(seed), 0
    highest = 0  # of the credits since all was calm: what was promised then may still be delivered
    for each in what:
        if each == "credit":
            credit = rng.choice([0, 1, 2, 3, 8, 16, 17, 64])
            highest = max(highest, credit)
            broker.credit(credit)
        elif each == "answer":
            broker.answer()
        elif each == "deliver":
            broker.deliver(rng.randint(1, 20))
        elif each == "settle" and broker.total:
            broker.settle(rng.choice([tag for tag, n in broker.unsettled.items() if n]))
        elif each == "wait":
            broker.now += rng.choice([0.01, CALM_S])
            broker.ask()
        assert broker.total <= highest
    broker.calm()
    assert broker.room == max(0, credit - broker.total)
    assert broker.window.consumers <= CONSUMERS_MAX
