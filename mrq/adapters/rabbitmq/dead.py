"""What died and what can't be read: put aside, told to the leader, kept bounded.

    mrq.map, mrq.reduce   can't be read:        a confirmed copy, with the reason, in mrq.dead; then acked
                          came back too often:  to mrq.dead by RabbitMQ itself
    mrq.dead              a task's message:     the leader hears MessageDied; then acked
                          anything else:        logged, a confirmed copy in mrq.rubbish; then acked

mrq.rubbish keeps the last thousand for an operator. Only the leader reads mrq.dead, so a task whose
message died is put back or failed by name once; if the leader dies between hearing and persisting, its
successor finds the task queued and unclaimed, and publishes it again.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from mrq.adapters.rabbitmq.connection import Link
from mrq.adapters.rabbitmq.envelopes import BODY_BYTES_MAX, Messages, Refused
from mrq.adapters.rabbitmq.lanes import Lane, guard
from mrq.adapters.rabbitmq.topology import DELIVERY_LIMIT, Topology
from mrq.core.events import MessageDied
from mrq.core.model import TaskMessage
from mrq.core.refs import Kind
from mrq.ports import Sink

_LOG: Final = logging.getLogger(__name__)

#: Why a copy was put aside, where from, and how large it was if it was cut.
REASON_HEADER: Final = "x-mrq-reason"
QUEUE_HEADER: Final = "x-mrq-queue"
SIZE_HEADER: Final = "x-mrq-size"

_PREFETCH: Final = 100
_HEADER_MAX: Final = 1000
_LOGGED: Final = 64  #: lines of a process about what can't be read; after that, one in a thousand

#: Publishes to a key of the dead exchange and calls back once that is confirmed, from another thread.
PublishDead = Callable[[str, bytes, Mapping[str, Any], Callable[[], None]], None]


class SetAside:
    """Makes the confirmed copies of what can't be read."""

    def __init__(self, topology: Topology, publish: PublishDead) -> None:
        self._topology = topology
        self._publish = publish
        self.count = 0

    def task(self, body: bytes, queue: str, reason: str, done: Callable[[], None]) -> None:
        """From a task queue to the dead letters."""
        self._log(body, queue, reason)
        self._copy(self._topology.dead.key, body, {REASON_HEADER: reason, QUEUE_HEADER: queue}, done)

    def dead(self, body: bytes, headers: Mapping[str, Any], reason: str, done: Callable[[], None]) -> None:
        """From the dead letters to the rubbish; a reason that it has stays."""
        # As text: anybody may have written them, of types that can't be sent on.
        names = (REASON_HEADER, QUEUE_HEADER, SIZE_HEADER)
        kept = {name: str(headers[name])[:_HEADER_MAX] for name in names if name in headers}
        if REASON_HEADER not in kept:
            kept[REASON_HEADER] = reason
            self._log(body, self._topology.dead.name, reason)
        self._copy(self._topology.rubbish.key, body, kept, done)

    def _copy(self, key: str, body: bytes, headers: dict[str, str], done: Callable[[], None]) -> None:
        if len(body) > BODY_BYTES_MAX:
            headers.setdefault(SIZE_HEADER, str(len(body)))
        self._publish(key, body[:BODY_BYTES_MAX], headers, done)

    def _log(self, body: bytes, queue: str, reason: str) -> None:
        self.count += 1
        if self.count <= _LOGGED or self.count % 1000 == 0:
            _LOG.warning(
                "queue %s: a message of %d bytes is put aside: %s (sha256 %.16s, begins %r; %d so far)",
                queue,
                len(body),
                reason,
                hashlib.sha256(body).hexdigest(),
                body[:32],
                self.count,
            )


class DeadLetters:
    """Reads the dead-letter queue over the consuming link, while there is a leader to tell."""

    def __init__(self, topology: Topology, messages: Messages, set_aside: SetAside) -> None:
        self.link: Link | None = None
        self.leader: Sink | None = None  #: set from any thread, then the link is woken
        self._topology = topology
        self._messages = messages
        self._set_aside = set_aside
        self._tasks = {topology.tasks(kind).name: kind for kind in Kind}
        self._connection: Any = None
        self._channel: Any = None  #: open, or being opened
        self._lane: Lane | None = None
        self._safe: deque[tuple[Lane, int]] = deque()  #: copied to the rubbish: to be acked

    def opened(self, connection: Any) -> None:
        """A new connection."""
        self._connection = connection

    def lost(self) -> None:
        """It is gone."""
        self._connection = self._channel = self._lane = None

    def look(self) -> None:
        """Begin or stop, as there is a leader; stopping returns what isn't settled. Ack what is safe."""
        if self._connection is None or not self._connection.is_open:
            return
        if self.leader is not None and self._channel is None:
            self._channel = self._connection.channel(on_open_callback=self._on_channel)
        elif self.leader is None and self._lane is not None:
            channel, self._channel, self._lane = self._channel, None, None
            channel.close()
        while self._safe:
            lane, tag = self._safe.popleft()
            if lane is self._lane and lane.channel.is_open:
                lane.ack([tag])

    def _on_channel(self, channel: Any) -> None:
        assert self.link is not None
        guard(channel, self.link)
        self._lane = Lane(channel)
        channel.basic_qos(prefetch_count=_PREFETCH, callback=lambda _frame: self._consume(channel))
        self.look()  # perhaps it leads no more

    def _consume(self, channel: Any) -> None:
        if channel.is_open:
            channel.basic_consume(self._topology.dead.name, self._on_message)

    def _on_message(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        lane, leader, tag = self._lane, self.leader, method.delivery_tag
        if lane is None or lane.channel is not channel or leader is None:
            return
        lane.delivered(tag, method.consumer_tag)
        headers = properties.headers or {}
        queue, reason = _death(headers)
        read: tuple[TaskMessage, ...] | Refused = Refused(
            reason="undecodable: it didn't come from a queue of tasks"
        )
        if queue in self._tasks:
            read = self._messages.decode(body, queue)
        if isinstance(read, Refused):
            self._set_aside.dead(body, headers, read.reason, lambda: self._is_safe(lane, tag))
            return
        for message in read:
            leader(MessageDied(message=message, reason=reason))
        lane.ack([tag])

    def _is_safe(self, lane: Lane, tag: int) -> None:
        """From another thread: its copy is confirmed."""
        assert self.link is not None
        self._safe.append((lane, tag))
        self.link.wake()


def _death(headers: Mapping[str, Any]) -> tuple[str, str]:
    """The queue where a message died, and why, by RabbitMQ's x-death; whatever the headers are."""
    deaths = headers.get("x-death")
    death = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], Mapping) else {}
    queue, reason = str(death.get("queue", "")), str(death.get("reason", ""))
    match reason:
        case "delivery_limit":
            return queue, f"it came back to {queue} more than {DELIVERY_LIMIT} times"
        case "expired":
            return queue, f"it expired in {queue}: a policy sets message-ttl"
        case "maxlen":
            return queue, f"{queue} is over the length that a policy sets"
        case "rejected":
            return queue, f"a consumer rejected it from {queue}"
        case _:
            return queue, f"it was dead-lettered from {queue or 'nowhere'}: {reason or 'no reason given'}"
