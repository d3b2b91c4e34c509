"""A channel of deliveries, on a channel that only writes down what it is told."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from mrq.adapters.rabbitmq.deliveries import Deliveries, HeldDelivery
from mrq.adapters.rabbitmq.lanes import Lane, TaskLane
from mrq.core.model import TaskMessage
from mrq.core.refs import Kind, TaskRef
from mrq.errors import InternalError


class FakeChannel:
    """Takes down every frame; answers requests when told to."""

    channel_number = 1
    is_open = True

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []
        self.open: list[Callable[[Any], None]] = []
        self.consumers: dict[str, Callable[..., None]] = {}

    def basic_qos(self, prefetch_count: int, callback: Callable[[Any], None]) -> None:
        self.said.append(("qos", prefetch_count))
        self.open.append(callback)

    def basic_consume(
        self, queue: str, on_message: Callable[..., None], consumer_tag: str, callback: Callable[[Any], None]
    ) -> None:
        self.said.append(("consume",))
        self.consumers[consumer_tag] = on_message
        self.open.append(callback)

    def basic_cancel(self, tag: str, callback: Callable[[Any], None]) -> None:
        self.said.append(("cancel",))
        self.open.append(callback)

    def basic_ack(self, tag: int, multiple: bool = False) -> None:
        self.said.append(("ack", tag, multiple))

    def basic_reject(self, tag: int, requeue: bool) -> None:
        self.said.append(("reject", tag, requeue))

    def answer(self) -> None:
        while self.open:
            self.open.pop(0)(None)

    def deliver(self, *tags: int) -> None:
        (consumer,) = self.consumers
        for tag in tags:
            method = SimpleNamespace(delivery_tag=tag, consumer_tag=consumer, redelivered=False)
            self.consumers[consumer](self, method, None, b"body")


class FakeLink:
    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.timers.append((seconds, callback))

    def drop(self, why: str) -> None:
        raise AssertionError(why)


@pytest.fixture
def channel() -> FakeChannel:
    return FakeChannel()


def lane_of(channel: FakeChannel, delivered: list[int]) -> TaskLane:
    return TaskLane(
        channel=channel,
        queue="mrq.map",
        link=FakeLink(),
        clock=lambda: 0.0,
        deliver=lambda tag, again, body: delivered.append(tag),
    )


def test_the_oldest_are_acked_in_one_frame(channel: FakeChannel) -> None:
    lane = Lane(channel)
    for tag in range(1, 9):
        lane.delivered(tag, "c")
    assert lane.ack([3, 1, 2, 6]) == ["c"] * 4
    assert channel.said == [("ack", 3, True), ("ack", 6, False)]


def test_an_older_one_that_is_unsettled_is_never_acked_with_others(channel: FakeChannel) -> None:
    lane = Lane(channel)
    for tag in range(1, 5):
        lane.delivered(tag, "c")
    lane.ack([2, 3])
    lane.ack([4])
    lane.ack([1])
    assert channel.said == [("ack", 2, False), ("ack", 3, False), ("ack", 4, False), ("ack", 1, False)]


def test_credit_is_a_prefetch_and_a_consumer(channel: FakeChannel) -> None:
    delivered: list[int] = []
    lane = lane_of(channel, delivered)
    lane.set_credit(3)
    lane.settle([], [])
    channel.answer()
    channel.deliver(1, 2, 3)
    assert channel.said == [("qos", 3), ("consume",)]
    assert delivered == [1, 2, 3]


def test_what_is_given_back_waits_until_no_consumer_would_get_it_again(channel: FakeChannel) -> None:
    lane = lane_of(channel, [])
    lane.set_credit(2)
    lane.settle([], [])
    channel.answer()
    channel.deliver(1, 2)
    lane.set_credit(0)
    lane.settle([1], [2])
    assert channel.said[2:] == [("ack", 1, False), ("cancel",)]
    channel.answer()
    assert channel.said[4:] == [("reject", 2, True)]


def test_with_credit_it_goes_back_at_once(channel: FakeChannel) -> None:
    lane = lane_of(channel, [])
    lane.set_credit(2)
    lane.settle([], [])
    channel.answer()
    channel.deliver(1)
    lane.settle([], [1])
    assert channel.said[2:] == [("reject", 1, True)]


def test_credit_that_changes_while_a_step_is_open_waits_for_its_answer(channel: FakeChannel) -> None:
    lane = lane_of(channel, [])
    for credit in (2, 8, 0, 5):
        lane.set_credit(credit)
        lane.settle([], [])
    assert channel.said == [("qos", 2)]
    channel.answer()
    assert channel.said[:2] == [("qos", 2), ("consume",)]
    assert channel.said[2:] == [("qos", 3), ("consume",)]


def message(index: int = 0) -> TaskMessage:
    return TaskMessage(
        task=TaskRef("j", 0, Kind.MAP, index),
        ticket=1,
    )


def test_settlements_of_an_earlier_connection_are_thrown_away() -> None:
    deliveries = Deliveries()
    (old,) = deliveries.made(HeldDelivery(deliveries.life, Kind.MAP, 1), [message()])
    (on_its_way,) = deliveries.made(HeldDelivery(deliveries.life, Kind.MAP, 2), [message()])
    found = deliveries.take(on_its_way, "acked")
    assert found is not None
    deliveries.done(found[0])
    deliveries.lose()
    (new,) = deliveries.made(HeldDelivery(deliveries.life, Kind.MAP, 1), [message()])
    assert deliveries.take(old, "acked") is None
    found = deliveries.take(new, "given back")
    assert found is not None
    deliveries.give_back(found[0])
    settled = deliveries.drain()
    assert settled.acks == {Kind.MAP: [], Kind.REDUCE: []}
    assert settled.returns == {Kind.MAP: [1], Kind.REDUCE: []}
    with pytest.raises(InternalError, match="settled before or never made"):
        deliveries.take(old, "acked")


def test_a_message_of_several_tasks_is_acked_with_the_last_of_them() -> None:
    deliveries = Deliveries()
    numbers = deliveries.made(HeldDelivery(deliveries.life, Kind.MAP, 1), [message(i) for i in range(3)])
    for left in (2, 1, 0):
        found = deliveries.take(numbers.pop(), "acked")
        assert found is not None
        assert found[1] == message(left)
        deliveries.done(found[0])
        assert deliveries.drain().acks[Kind.MAP] == ([] if left else [1])
