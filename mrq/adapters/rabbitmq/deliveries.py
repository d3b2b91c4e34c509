"""Deliveries by their own numbers, each settled once. Shared by the process's loop and the consuming
thread."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mrq.core.model import TaskMessage
from mrq.core.refs import Kind
from mrq.errors import InternalError

#: Numbers of lost deliveries that may still be settled, once; older ones are forgotten.
_LOST_KEPT: Final = 100_000


@dataclass(slots=True, eq=False)
class HeldDelivery:
    """Where a message lies: `life` counts connections, `tag` is RabbitMQ's number on the kind's channel."""

    life: int
    kind: Kind
    tag: int
    tasks: int = 1
    left: int = 1  #: tasks that aren't settled


@dataclass(slots=True)
class Settled:
    """What one drain found, by kind."""

    acks: dict[Kind, list[int]]
    returns: dict[Kind, list[int]]


class Deliveries:
    """Hands out numbers, and takes settlements from any thread to the consuming one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: From anywhere: another broker's number is unlikely to be one of ours.
        self._serial = secrets.randbits(32) << 31
        self._life = 0
        self._unsettled: dict[int, tuple[HeldDelivery, TaskMessage]] = {}
        self._lost: dict[int, None] = {}
        self._to_settle: deque[tuple[HeldDelivery, bool]] = deque()

    @property
    def life(self) -> int:
        """The connection's number."""
        return self._life

    def made(self, held: HeldDelivery, tasks: Sequence[TaskMessage]) -> list[int]:
        """A message came: a number for each of its tasks."""
        with self._lock:
            held.tasks = held.left = len(tasks)
            numbers = [self._serial + 1 + at for at in range(len(tasks))]
            self._serial = numbers[-1]
            self._unsettled.update((n, (held, task)) for n, task in zip(numbers, tasks, strict=True))
            return numbers

    def take(self, delivery: int, how: str) -> tuple[HeldDelivery, TaskMessage] | None:
        """It is to be acked or given back, once; None when its connection is gone, which is passed over once.

        Raises InternalError for one that was settled before, or never made.
        """
        with self._lock:
            found = self._unsettled.pop(delivery, None)
            if found is not None:
                return found
            if delivery not in self._lost:
                raise InternalError(
                    f"delivery {delivery} is to be {how}, but it was settled before or never made"
                )
            del self._lost[delivery]
            return None

    def done(self, held: HeldDelivery) -> None:
        """One task of a message is settled for good; with the last of them the message is acked."""
        with self._lock:
            held.left -= 1
            if not held.left:
                self._to_settle.append((held, True))

    def give_back(self, held: HeldDelivery) -> None:
        """Return a whole message."""
        self._to_settle.append((held, False))

    def drain(self) -> Settled:
        """What is to be settled on this connection; what belongs to an earlier one is thrown away."""
        found = Settled({kind: [] for kind in Kind}, {kind: [] for kind in Kind})
        while self._to_settle:
            held, ack = self._to_settle.popleft()
            if held.life == self._life:
                (found.acks if ack else found.returns)[held.kind].append(held.tag)
        return found

    def lose(self) -> None:
        """The connection is gone, and every unsettled delivery with it."""
        with self._lock:
            self._life += 1
            self._lost.update(dict.fromkeys(self._unsettled))
            self._unsettled.clear()
            for old in list(self._lost)[:-_LOST_KEPT]:
                del self._lost[old]
