"""A channel that consumes: which deliveries are unsettled on it, and settling them in few frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pika.exceptions

from mrq.adapters.rabbitmq.window import Cancel, Consume, Window

if TYPE_CHECKING:
    from mrq.adapters.rabbitmq.connection import Link


def guard(channel: Any, link: Link) -> None:
    """Begin anew when RabbitMQ cancels a consumer (queue deleted; consumer timeout, from 4.3) or closes a
    channel (consumer timeout, before): what was delivered is lost, and its attempts live on their beats."""
    channel.add_on_cancel_callback(
        lambda frame: link.drop(f"RabbitMQ cancelled a consumer ({frame.method.consumer_tag})")
    )

    def closed(_channel: Any, reason: Exception) -> None:
        if isinstance(reason, pika.exceptions.ChannelClosedByBroker):
            link.drop(f"RabbitMQ closed a channel: {reason.reply_code} {reason.reply_text}")

    channel.add_on_close_callback(closed)


class Lane:
    """The unsettled deliveries of one channel, in the order in which they came: tag -> consumer."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self._unsettled: dict[int, str] = {}

    def delivered(self, tag: int, consumer: str) -> None:
        """A delivery came."""
        self._unsettled[tag] = consumer

    def ack(self, tags: Sequence[int]) -> list[str]:
        """Settle for good: the oldest in one frame, others by their own. Their consumers."""
        wanted, consumers, upto, many = set(tags), [], 0, 0
        for tag in self._unsettled:
            if tag not in wanted:
                break
            upto, many = tag, many + 1
        if upto:
            self.channel.basic_ack(upto, multiple=many > 1)
        for tag in tags:
            consumers.append(self._unsettled.pop(tag))
            if tag > upto:
                self.channel.basic_ack(tag)
        return consumers

    def give_back(self, tags: Sequence[int]) -> list[str]:
        """Return to the queue, counted towards the delivery limit: 4.3 doesn't count basic.nack. Their
        consumers."""
        for tag in tags:
            self.channel.basic_reject(tag, requeue=True)
        return [self._unsettled.pop(tag) for tag in tags]


class TaskLane:
    """One kind's channel: credit, deliveries, settling."""

    def __init__(
        self,
        *,
        channel: Any,
        queue: str,
        link: Link,
        clock: Callable[[], float],
        deliver: Callable[[int, bool, bytes], None],
    ) -> None:
        self._lane = Lane(channel)
        self._channel = channel
        self._queue = queue
        self._link = link
        self._clock = clock
        self._deliver = deliver
        self._window = Window(f"{queue}-{channel.channel_number}")
        self._returns: list[int] = []  #: held until no consumer of ours would get them straight back
        self._due = False  #: a look at the window is scheduled

    def set_credit(self, credit: int) -> None:
        """At most this many unsettled deliveries."""
        self._window.set_credit(credit, self._clock())

    def settle(self, acks: Sequence[int], returns: Sequence[int]) -> None:
        """Settle deliveries by tag, then do what credit wants. On a channel that is going, nothing: they
        come back."""
        if not self._channel.is_open:
            return
        if acks:
            for consumer in self._lane.ack(acks):
                self._window.settled(consumer)
        self._returns.extend(returns)
        self._step()

    def _step(self) -> None:
        """Begin what the window wants next, and give back what was waiting for it."""
        if not self._channel.is_open:
            return
        step = self._window.next_step(self._clock())
        if isinstance(step, float):
            if not self._due:
                self._due = True
                self._link.later(step, self._look)
        elif isinstance(step, Consume):
            self._channel.basic_qos(
                prefetch_count=step.prefetch, callback=lambda _frame: self._consume(step.tag)
            )
        elif isinstance(step, Cancel):
            self._channel.basic_cancel(step.tag, callback=self._done)
        if self._returns and not self._window.cancelling:
            returns, self._returns = self._returns, []
            for consumer in self._lane.give_back(returns):
                self._window.settled(consumer)
            self._step()

    def _look(self) -> None:
        self._due = False
        self._step()

    def _consume(self, tag: str) -> None:
        if self._channel.is_open:
            self._channel.basic_consume(self._queue, self._on_message, consumer_tag=tag, callback=self._done)

    def _done(self, _frame: Any) -> None:
        self._window.done()
        self._step()

    def _on_message(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        tag = method.delivery_tag
        self._lane.delivered(tag, method.consumer_tag)
        self._window.delivered(method.consumer_tag)
        self._deliver(tag, method.redelivered, body)
