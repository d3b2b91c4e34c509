"""Consuming: both kinds' deliveries under their credit, each on a channel of its own."""

from __future__ import annotations

import time
from typing import Any

from mrq.adapters.rabbitmq.connection import Link, LinkOwner
from mrq.adapters.rabbitmq.dead import DeadLetters, SetAside
from mrq.adapters.rabbitmq.deliveries import Deliveries, HeldDelivery
from mrq.adapters.rabbitmq.envelopes import Messages, Refused
from mrq.adapters.rabbitmq.lanes import TaskLane, guard
from mrq.adapters.rabbitmq.topology import Topology
from mrq.core.agent_words import BrokerBack, BrokerLost, Delivered
from mrq.core.refs import Kind
from mrq.ports import Sink


class Consumer(LinkOwner):
    """The owner of the consuming link; the dead letters are read over it too."""

    def __init__(
        self, topology: Topology, messages: Messages, set_aside: SetAside, dead: DeadLetters
    ) -> None:
        self.link: Link | None = None
        self.worker: Sink | None = None
        self.deliveries = Deliveries()
        self.credit = dict.fromkeys(Kind, 0)
        self._queues = {kind: topology.tasks(kind).name for kind in Kind}
        self._messages = messages
        self._set_aside = set_aside
        self._dead = dead
        self._lanes: dict[Kind, TaskLane] = {}
        self._was_lost = False

    # The link's owner.

    def opened(self, connection: Any) -> None:
        for kind in Kind:
            connection.channel(on_open_callback=lambda channel, kind=kind: self._on_channel(kind, channel))
        self._dead.opened(connection)

    def lost(self) -> None:
        self.deliveries.lose()
        self._lanes.clear()
        self._dead.lost()
        self.credit = dict.fromkeys(Kind, 0)
        if not self._was_lost:  # it may break again before it was of use
            self._was_lost = True
            if self.worker is not None:
                self.worker(BrokerLost())

    def woken(self) -> None:
        self._dead.look()
        if len(self._lanes) < len(Kind):
            return
        settled = self.deliveries.drain()
        for kind, lane in self._lanes.items():
            lane.set_credit(self.credit[kind] if self.worker is not None else 0)
            lane.settle(settled.acks[kind], settled.returns[kind])

    def attach(self, worker: Sink | None) -> None:
        """Take a sink; one that comes while there is no connection hears so. On the link's thread."""
        self.worker = worker
        if worker is not None and self._was_lost:
            worker(BrokerLost())
        self.woken()

    # Channels.

    def _on_channel(self, kind: Kind, channel: Any) -> None:
        assert self.link is not None
        guard(channel, self.link)
        life = self.deliveries.life
        self._lanes[kind] = TaskLane(
            channel=channel,
            queue=self._queues[kind],
            link=self.link,
            clock=time.monotonic,
            deliver=lambda tag, again, body: self._delivered(life, kind, tag, again, body),
        )
        if len(self._lanes) == len(Kind):
            if self._was_lost:
                self._was_lost = False
                if self.worker is not None:
                    self.worker(BrokerBack())
            self.woken()

    # Deliveries.

    def _delivered(self, life: int, kind: Kind, tag: int, again: bool, body: bytes) -> None:
        read = self._messages.decode(body, self._queues[kind])
        if not isinstance(read, Refused) and any(message.task.kind is not kind for message in read):
            read = Refused(reason=f"forged: a message of another kind in {self._queues[kind]}")
        held = HeldDelivery(life, kind, tag)
        if isinstance(read, Refused):
            self._set_aside.task(body, self._queues[kind], read.reason, lambda: self.done(held))
            return
        if self.worker is None:  # it has just been taken away
            self.give_back(held)
        else:
            numbers = self.deliveries.made(held, read)
            group = numbers[0] if len(read) > 1 else 0
            for number, message in zip(numbers, read, strict=True):
                self.worker(Delivered(delivery=number, message=message, redelivered=again, group=group))

    def done(self, held: HeldDelivery) -> None:
        """One task of a message is settled for good; from any thread, once its copy is confirmed say."""
        assert self.link is not None
        self.deliveries.done(held)
        self.link.wake()

    def give_back(self, held: HeldDelivery) -> None:
        """Return a whole message; from any thread."""
        assert self.link is not None
        self.deliveries.give_back(held)
        self.link.wake()
