"""Publishing: confirmed, mandatory, many under way at once, again after a loss.

What was handed over waits in a deque, goes out as room in the pipeline allows, and is remembered until
RabbitMQ confirms it. What a lost connection leaves unconfirmed is published again, and may so be there
twice: a copy of a task's message is harmless (`core.claims`). Nothing here blocks a caller: what is over
the bound is dropped, and said, since the leader publishes again what stays unclaimed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pika
import pika.exceptions

from mrq.adapters.rabbitmq.connection import Link, LinkOwner, Notices
from mrq.core.backoff import Backoff, Retry
from mrq.core.model import TaskMessage

_LOG: Final = logging.getLogger(__name__)

#: Unconfirmed at once: beyond some hundred RabbitMQ gets no faster.
_PIPELINE_MAX: Final = 1000
#: Waiting to be sent: minutes of an outage at the leader's rate.
_WAITING_MAX: Final = 200_000
#: A message that RabbitMQ refused (nack), or that found no queue, is tried again after such a wait.
_AGAIN: Final = Backoff(base_s=1.0, max_s=8.0)
#: Unconfirmed for so long on a living connection: said.
_SLOW_S: Final = 15.0

_SOURCE: Final = "confirms"
_ALARM: Final = "alarm"


@dataclass(slots=True, eq=False)
class Outgoing:
    """One message on its way, until it is confirmed."""

    exchange: str
    key: str
    body: bytes
    tasks: Sequence[TaskMessage] = ()  #: none for copies, which are tried again until they are confirmed
    headers: Mapping[str, Any] | None = None
    confirmed: Callable[[], None] | None = None
    sent_at: float = 0.0


class Publisher(LinkOwner):
    """The owner of the publishing link. `unroutable` hears of task messages that found no queue."""

    def __init__(self, notices: Notices, unroutable: Callable[[Sequence[TaskMessage]], None]) -> None:
        self.link: Link | None = None
        self._notices = notices
        self._unroutable = unroutable
        self._waiting: deque[Outgoing] = deque()
        self._unconfirmed: dict[int, Outgoing] = {}
        self._returned: set[str] = set()  #: tags of messages that found no queue
        self._channel: Any = None
        self._sent = 0  #: the last tag on this channel
        self._blocked = False
        self._resting = 0  #: refused, to be sent again
        self._retry = Retry(_AGAIN)
        self._empty = threading.Event()
        self._empty.set()
        self.dropped = 0  #: over the bound

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Hand over. From any thread."""
        assert self.link is not None
        room = _WAITING_MAX - len(self._waiting)
        if len(messages) > room:
            lost, messages = len(messages) - max(0, room), messages[: max(0, room)]
            self.dropped += lost
            self._notices.say(
                _SOURCE,
                f"{self.dropped:,} messages dropped: {_WAITING_MAX:,} wait for RabbitMQ; "
                "the master publishes them again",
            )
        self._waiting.extend(messages)
        self._empty.clear()  # set again by the wake-up that follows, if all is confirmed by then
        self.link.wake()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything is confirmed; False when it isn't. From any thread but the link's."""
        return self._empty.wait(timeout_s)

    # The link's owner.

    def opened(self, connection: Any) -> None:
        self._blocked = False
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        connection.channel(on_open_callback=self._on_channel)

    def lost(self) -> None:
        self._channel = None
        self._waiting.extendleft(reversed(self._unconfirmed.values()))
        self._unconfirmed.clear()
        self._returned.clear()

    def woken(self) -> None:
        self._send()

    def looked(self) -> None:
        oldest = next(iter(self._unconfirmed.values()), None)
        late = oldest is not None and time.monotonic() - oldest.sent_at > _SLOW_S
        if late and not self._blocked:
            self._notices.say(
                _SOURCE, f"RabbitMQ hasn't confirmed messages for {_SLOW_S:.0f} s: has its queue a leader?"
            )

    # The channel.

    def _on_channel(self, channel: Any) -> None:
        channel.add_on_return_callback(self._on_return)
        channel.add_on_close_callback(self._on_channel_closed)
        channel.confirm_delivery(self._on_confirm, callback=lambda _frame: self._begin(channel))

    def _begin(self, channel: Any) -> None:
        self._channel, self._sent = channel, 0
        self._send()

    def _on_channel_closed(self, channel: Any, reason: Exception) -> None:
        if channel is self._channel:
            self._channel = None
        if self.link is not None and isinstance(reason, pika.exceptions.ChannelClosedByBroker):
            self.link.drop(f"{reason.reply_code} {reason.reply_text}")

    def _send(self) -> None:
        channel = self._channel
        if channel is None or self._blocked or not channel.is_open:
            return
        now = time.monotonic()
        while self._waiting and len(self._unconfirmed) < _PIPELINE_MAX:
            out = self._waiting.popleft()
            out.sent_at = now
            self._sent += 1
            self._unconfirmed[self._sent] = out
            channel.basic_publish(
                out.exchange,
                out.key,
                out.body,
                pika.BasicProperties(delivery_mode=2, message_id=str(self._sent), headers=out.headers),
                mandatory=True,
            )
        if not self._unconfirmed and not self._waiting and not self._resting:
            self._empty.set()

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        tag, nacked = method.delivery_tag, isinstance(method, pika.spec.Basic.Nack)
        if method.multiple:
            tags = []
            for unconfirmed in self._unconfirmed:
                if unconfirmed > tag:
                    break
                tags.append(unconfirmed)
        else:
            tags = [tag]
        again: list[Outgoing] = []
        for each in tags:
            out = self._unconfirmed.pop(each)
            if str(each) in self._returned:
                self._returned.discard(str(each))
                # Somebody deleted a queue or a binding: declare all again; the leader hears of the task.
                if out.tasks:
                    self._unroutable(out.tasks)
                else:
                    again.append(out)
                if self.link is not None:
                    why = f"no queue for messages of {out.exchange} with key {out.key}"
                    self.link.drop(f"{why}; declaring again")
            elif nacked:
                again.append(out)
            elif out.confirmed is not None:
                out.confirmed()
        if again:
            self._again(again)
        else:
            self._retry.worked()
            self._notices.say(_SOURCE, None)
            self._notices.say(_ALARM, None)
        self._send()

    def _on_return(self, _channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
        """It finds no queue; its confirm follows."""
        self._returned.add(properties.message_id)

    def _again(self, refused: list[Outgoing]) -> None:
        assert self.link is not None
        self._notices.say(_SOURCE, f"RabbitMQ refuses messages ({len(refused)} now); trying again")

        self._resting += len(refused)

        def put_back() -> None:
            self._resting -= len(refused)
            self._waiting.extendleft(reversed(refused))
            self._send()

        self.link.later(self._retry.failed(), put_back)

    def _on_blocked(self, _connection: Any, frame: Any) -> None:
        self._blocked = True
        reason = str(frame.method.reason)
        alarms = [name for name in ("disk", "memory") if name in reason] or [reason]
        self._notices.say(_ALARM, f"broker blocked: {' and '.join(alarms)} alarm")

    def _on_unblocked(self, _connection: Any, _frame: Any) -> None:
        self._blocked = False
        self._notices.say(_ALARM, None)
        self._send()
