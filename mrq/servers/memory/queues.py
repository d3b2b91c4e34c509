"""The queues of one process, as strict as a server's: deliveries are settled once, messages that keep coming
back die.

Sinks are called under the queues' lock; a sink only enqueues.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mrq.core.agent_words import Delivered
from mrq.core.events import MessageDied
from mrq.core.model import TaskMessage
from mrq.core.refs import Kind
from mrq.errors import InternalError, OperatorError
from mrq.ports import Sink

#: Returns of one message before it dies, as `x-delivery-limit` of the real queues.
DELIVERY_LIMIT: Final = 20


@dataclass(slots=True, eq=False)
class _Queued:
    """One message."""

    tasks: tuple[TaskMessage, ...]
    returns: int = 0
    left: int = 0  #: tasks of its delivery that aren't settled

    @property
    def kind(self) -> Kind:
        return self.tasks[0].task.kind


class MemoryQueues:
    """The queues themselves; several brokers (one a process, on a real one) may share them."""

    def __init__(self, delivery_limit: int = DELIVERY_LIMIT) -> None:
        self.lock = threading.RLock()
        self.delivery_limit = delivery_limit
        self.ready: dict[Kind, deque[_Queued]] = {kind: deque() for kind in Kind}
        self.consumers: list[MemoryBroker] = []
        self.deliveries = 0  #: numbers that were given out

    def pump(self) -> None:
        """Hand out what is ready, consumers taking turns. With the lock held."""
        for kind, ready in self.ready.items():
            while ready:
                taker = next((c for c in self.consumers if c.wants(kind)), None)
                if taker is None:
                    break
                self.consumers.remove(taker)
                self.consumers.append(taker)
                taker.deliver(ready.popleft())


class MemoryBroker:
    """A Broker: one process's connection to the queues."""

    def __init__(self, queues: MemoryQueues) -> None:
        self._queues = queues
        self._worker: Sink | None = None
        self._leader: Sink | None = None
        self._credit = dict.fromkeys(Kind, 0)
        self._unsettled: dict[int, tuple[_Queued, TaskMessage]] = {}
        self._count = dict.fromkeys(Kind, 0)
        self._closed = False
        with self._queues.lock:
            self._queues.consumers.append(self)

    def attach(self, *, worker: Sink | None = None, leader: Sink | None = None) -> None:
        with self._queues.lock:
            self._worker, self._leader = worker, leader
            self._queues.pump()

    def tick(self) -> None:
        """Nothing here watches the loop."""

    def publish(self, messages: Sequence[TaskMessage], *, together: bool = False) -> None:
        with self._queues.lock:
            self._check_open()
            for tasks in [tuple(messages)] if together else [(message,) for message in messages]:
                self._queues.ready[tasks[0].task.kind].append(_Queued(tasks))
            self._queues.pump()

    def set_credit(self, kind: Kind, credit: int) -> None:
        if credit < 0:
            raise InternalError(f"credit of {credit} for {kind.name} tasks; 0 is the least")
        with self._queues.lock:
            self._check_open()
            self._credit[kind] = credit
            self._queues.pump()

    def ack(self, delivery: int) -> None:
        with self._queues.lock:
            self._settled(self._take(delivery, "acked")[0])
            self._queues.pump()

    def give_back(self, delivery: int) -> None:
        """Return to the front of the queue."""
        with self._queues.lock:
            queued, message = self._take(delivery, "given back")
            self._settled(queued)
            self._return([queued if len(queued.tasks) == 1 else _Queued((message,))])
            self._queues.pump()

    def close(self) -> None:
        with self._queues.lock:
            if self._closed:
                return
            self._closed = True
            self._queues.consumers.remove(self)
            self._return_all()
            self._queues.pump()

    def wants(self, kind: Kind) -> bool:
        """Would a delivery of the kind be taken now?"""
        return self._worker is not None and self._count[kind] < self._credit[kind]

    def deliver(self, queued: _Queued) -> None:
        """Hand over one message. With the queues' lock held."""
        assert self._worker is not None
        queued.left = len(queued.tasks)
        self._count[queued.kind] += 1
        first = self._queues.deliveries + 1
        self._queues.deliveries += queued.left
        numbered = list(enumerate(queued.tasks, first))
        self._unsettled.update((delivery, (queued, message)) for delivery, message in numbered)
        group, again = first if queued.left > 1 else 0, queued.returns > 0
        for delivery, message in numbered:
            self._worker(Delivered(delivery=delivery, message=message, redelivered=again, group=group))

    def _settled(self, queued: _Queued) -> None:
        """One of a message's tasks is."""
        queued.left -= 1
        if not queued.left:
            self._count[queued.kind] -= 1

    def _take(self, delivery: int, how: str) -> tuple[_Queued, TaskMessage]:
        self._check_open()
        found = self._unsettled.pop(delivery, None)
        if found is None:
            raise InternalError(
                f"delivery {delivery} is to be {how}, but it was settled before or never made"
            )
        return found

    def _return_all(self) -> None:
        self._return(list(dict.fromkeys(queued for queued, _ in self._unsettled.values())))
        self._unsettled.clear()
        self._count = dict.fromkeys(Kind, 0)

    def _return(self, returned: Sequence[_Queued]) -> None:
        """Back to the front in the old order; what came back too often dies."""
        for queued in reversed(returned):
            queued.returns += 1
            if queued.returns <= self._queues.delivery_limit:
                self._queues.ready[queued.kind].appendleft(queued)
                continue
            why = f"it came back to the queue {queued.returns} times"
            for broker in [self, *self._queues.consumers]:
                if broker._leader is not None:
                    for message in queued.tasks:
                        broker._leader(MessageDied(message=message, reason=why))
                    break

    def _check_open(self) -> None:
        if self._closed:
            raise OperatorError("this connection to the queues is closed; nothing more goes through it")
