"""What the tests of the RabbitMQ adapter share: connected brokers, and bodies put on a queue by hand."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from typing import Any

from inbox import Inbox
from services import Broker

from mrq.adapters.rabbitmq import RabbitBroker, SigningKeys, connect
from mrq.core.model import TaskMessage
from mrq.core.refs import Kind, TaskRef

KEYS = SigningKeys(current="k1", secrets={"k1": b"an example's secret, of 32 bytes"})


def message(index: int = 0, kind: Kind = Kind.MAP, **changes: Any) -> TaskMessage:
    fields: dict[str, Any] = {
        "task": TaskRef("j", 0, kind, index),
        "ticket": 1,
    }
    return TaskMessage(**{**fields, **changes})


class Process:
    """One process's broker, with one inbox for all it hears; `said` is what its user was told."""

    def __init__(
        self, server: Broker, *, leads: bool = False, keys: SigningKeys = KEYS, **options: Any
    ) -> None:
        self.inbox = Inbox()
        self.said: list[str | None] = []
        self.broker: RabbitBroker = connect(server.url, keys=keys, notify=self._told, **options)
        self.broker.attach(worker=self.inbox, leader=self.inbox if leads else None)

    def _told(self, line: str | None) -> None:
        self.said.append(line)
        self.inbox(line)

    def wait_said(self, part: str, timeout_s: float = 20.0) -> None:
        """Until the user was told a line with this part, once or more."""
        self.inbox.wait_for(lambda event: isinstance(event, str) and part in event, timeout_s)

    def wait_well(self, timeout_s: float = 20.0) -> None:
        """Until the last that the user was told is that nothing is wrong."""
        self.inbox.wait_until(lambda: not self.said or self.said[-1] is None, timeout_s)


Processes = Callable[..., Process]


def put(server: Broker, queue: str, body: bytes) -> None:
    """Put a body on a queue as anybody could."""
    server.admin.call(
        "POST",
        f"/exchanges/{server.vhost}/amq.default/publish",
        {
            "routing_key": queue,
            "payload": base64.b64encode(body).decode(),
            "payload_encoding": "base64",
            "properties": {"delivery_mode": 2},
        },
    )


def take(server: Broker, queue: str, n: int) -> list[tuple[bytes, Mapping[str, Any]]]:
    """Up to n bodies with their headers, taken off the queue."""
    found = server.admin.call(
        "POST",
        f"/queues/{server.vhost}/{queue}/get",
        {"count": n, "ackmode": "ack_requeue_false", "encoding": "base64"},
    )
    return [(base64.b64decode(each["payload"]), each["properties"].get("headers", {})) for each in found]


def eventually(holds: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Ask RabbitMQ until it holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not in {timeout_s} s"
        time.sleep(0.05)
