"""The Broker port on RabbitMQ: one to publish, one to consume, and what is between them and the process's
loop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from mrq.adapters.rabbitmq.connection import Link, Notices, Watch
from mrq.adapters.rabbitmq.consumer import Consumer
from mrq.adapters.rabbitmq.dead import DeadLetters, SetAside
from mrq.adapters.rabbitmq.envelopes import Messages
from mrq.adapters.rabbitmq.publisher import Outgoing, Publisher
from mrq.adapters.rabbitmq.topology import Topology
from mrq.adapters.rabbitmq.trouble import Endpoint
from mrq.core.events import MessageDied
from mrq.core.model import TaskMessage
from mrq.core.refs import Kind
from mrq.errors import InternalError, OperatorError
from mrq.ports import Sink

_LOG: Final = logging.getLogger(__name__)

#: What `close` waits for confirms, and for each connection's goodbye.
_FLUSH_S: Final = 2.0
_GOODBYE_S: Final = 3.0


class RabbitBroker:
    """A Broker. Made by `connect`; `attach` sinks, `tick` from the process's loop, `close` at the end.

    The publishing connection is made with the first message: a worker, which publishes nothing but copies of
    what it can't read, and of what it gives back of several tasks, mostly has one connection only.
    """

    def __init__(
        self,
        *,
        parameters: Any,
        endpoint: Endpoint,
        topology: Topology,
        messages: Messages,
        notify: Callable[[str | None], None] | None = None,
    ) -> None:
        self._topology = topology
        self._messages = messages
        self._queues = {kind: topology.tasks(kind) for kind in Kind}
        self._watch = Watch()
        self._closed = False
        self._starting = threading.Lock()  #: of the publishing connection, against `close`
        self._publishing = False
        notices = Notices(notify)
        self._publisher = Publisher(notices, self._unroutable)
        self.set_aside = SetAside(topology, self._publish_dead)  #: what this process couldn't read
        self._dead = DeadLetters(topology, messages, self.set_aside)
        self._consumer = Consumer(topology, messages, self.set_aside, self._dead)

        def link(name: str, owner: Publisher | Consumer) -> Link:
            return Link(
                name=name,
                parameters=parameters,
                endpoint=endpoint,
                topology=topology,
                owner=owner,
                watch=self._watch,
                notices=notices,
            )

        self._publish_link = self._publisher.link = link("publish", self._publisher)
        self._consume_link = self._consumer.link = self._dead.link = link("consume", self._consumer)

    def open(self, timeout_s: float) -> None:
        """Connect. Raises OperatorError; then nothing is left behind."""
        self._consume_link.start()
        try:
            self._consume_link.wait_open(timeout_s)
        except BaseException:
            self.close()
            raise

    def attach(self, *, worker: Sink | None = None, leader: Sink | None = None) -> None:
        """Where deliveries, and messages that died, go. Nothing is delivered without a worker's sink, and
        only a process with a leader's reads the dead letters: attach one while it leads."""
        self._check_open()
        if worker is None and leader is None:
            self._watch.rest()
        if leader is not None:
            self._start_publishing()
        self._dead.leader = leader
        self._consume_link.call(lambda: self._consumer.attach(worker))

    def tick(self) -> None:
        """The process's loop is alive: call it each second or more often. From the first call on, 5 s without
        one close the connections; a process without a loop never calls it, and one that detached its sinks
        may stop. Raises InternalError once a connection's thread died of a bug."""
        self._watch.tick()
        self._publish_link.check()
        self._consume_link.check()

    # The port.

    def publish(self, messages: Sequence[TaskMessage], *, together: bool = False) -> None:
        """Publish, confirmed in the background."""
        self._check_open()
        self._start_publishing()
        self._publisher.publish(
            [self._outgoing(tasks) for tasks in ([messages] if together else [[each] for each in messages])]
        )

    def set_credit(self, kind: Kind, credit: int) -> None:
        """At most this many unsettled. None at all holds at once, less within a tenth of a second."""
        if credit < 0:
            raise InternalError(f"credit of {credit} for {kind.name} tasks; 0 is the least")
        self._check_open()
        self._consumer.credit[kind] = credit
        self._consume_link.wake()

    def ack(self, delivery: int) -> None:
        """Settle for good."""
        self._check_open()
        found = self._consumer.deliveries.take(delivery, "acked")
        if found is not None:
            self._consumer.done(found[0])

    def give_back(self, delivery: int) -> None:
        """Return to the queue: one of several tasks as a copy, confirmed before it is let go of here."""
        self._check_open()
        found = self._consumer.deliveries.take(delivery, "given back")
        if found is None:
            return
        held, message = found
        if held.tasks == 1:
            self._consumer.give_back(held)
            return
        copy = replace(self._outgoing([message]), tasks=(), confirmed=partial(self._consumer.done, held))
        self._start_publishing()
        self._publisher.publish([copy])

    def close(self) -> None:
        """Wait shortly for confirms, then leave; RabbitMQ returns what is unsettled to its queues."""
        with self._starting:
            if self._closed:
                return
            self._closed = True
        # A copy's confirm settles the message that its task came in.
        if self._publishing and not self._publisher.flush(_FLUSH_S):
            _LOG.warning("left with messages unconfirmed: they may not have reached RabbitMQ")
        self._consume_link.close(_GOODBYE_S)
        self._publish_link.close(_GOODBYE_S)

    def lose_connection(self) -> None:
        """As when the network breaks: a fault to test with. It connects again by itself."""
        self._consume_link.lose()
        self._publish_link.lose()

    # Between the parts.

    def _outgoing(self, tasks: Sequence[TaskMessage]) -> Outgoing:
        queue = self._queues[tasks[0].task.kind]
        body = self._messages.encode(tasks, queue.name)
        return Outgoing(queue.exchange, queue.key, body, tasks)

    def _start_publishing(self) -> None:
        with self._starting:
            if not self._publishing and not self._closed:
                self._publishing = True
                self._publish_link.start()

    def _publish_dead(
        self, key: str, body: bytes, headers: Mapping[str, Any], confirmed: Callable[[], None]
    ) -> None:
        self._start_publishing()
        out = Outgoing(self._topology.dead_exchange, key, body, headers=headers, confirmed=confirmed)
        self._publisher.publish([out])

    def _unroutable(self, tasks: Sequence[TaskMessage]) -> None:
        leader = self._dead.leader
        if leader is None:
            return
        for message in tasks:
            queue = self._queues[message.task.kind].name
            leader(MessageDied(message=message, reason=f"RabbitMQ had no queue for it; was {queue} deleted?"))

    def _check_open(self) -> None:
        if self._closed:
            raise OperatorError("this connection to RabbitMQ is closed; nothing more goes through it")
