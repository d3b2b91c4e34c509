"""Queues, exchanges and their arguments: every name and the one fixed set of arguments.

    mrq.tasks (direct)  --map-->  mrq.map      --+  delivery limit, at least once
                        --reduce-> mrq.reduce  --+
    mrq.dead (direct)   --dead--> mrq.dead   <---+  and confirmed copies of what can't be read
                        --rubbish-> mrq.rubbish     what nobody can read, the last thousand

A queue that is declared again with other arguments is refused by RabbitMQ (406), so nothing here may
depend on a setting; what an operator tunes goes into policies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mrq.core.refs import Kind
from mrq.errors import OperatorError, UsageError

#: Returns of one message before it dies. Never -1: RabbitMQ 3.10 then drops it at the first return.
DELIVERY_LIMIT: Final = 20

#: The oldest RabbitMQ with at-least-once dead lettering.
OLDEST: Final = (3, 10)

_DEAD_KEY: Final = "dead"
_RUBBISH_KEY: Final = "rubbish"
_QUORUM: Final[Mapping[str, Any]] = {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}
_RUBBISH: Final[Mapping[str, Any]] = {
    **_QUORUM,
    "x-max-length": 1000,
    "x-max-length-bytes": 64 << 20,
    "x-overflow": "drop-head",
}

_PREFIX_RE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A durable quorum queue and where its messages come from."""

    name: str
    exchange: str
    key: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The names of one cluster; several share a virtual host under prefixes of their own."""

    prefix: str = "mrq"

    def __post_init__(self) -> None:
        if not _PREFIX_RE.fullmatch(self.prefix):
            raise UsageError(
                f"prefix {self.prefix!r}: queues can't be named so; use letters, digits, - and _, at most 64"
            )

    @property
    def tasks_exchange(self) -> str:
        """Where task messages are published, keyed by kind."""
        return f"{self.prefix}.tasks"

    @property
    def dead_exchange(self) -> str:
        """Where messages go that died, or can't be read."""
        return f"{self.prefix}.dead"

    @property
    def dead(self) -> Queue:
        """Read by the leader alone."""
        return Queue(
            name=f"{self.prefix}.dead", exchange=self.dead_exchange, key=_DEAD_KEY, arguments=_QUORUM
        )

    @property
    def rubbish(self) -> Queue:
        """Read by nobody: for an operator to look at; the oldest go when it is full."""
        return Queue(
            name=f"{self.prefix}.rubbish",
            exchange=self.dead_exchange,
            key=_RUBBISH_KEY,
            arguments=_RUBBISH,
        )

    def tasks(self, kind: Kind) -> Queue:
        """The queue of one kind of task."""
        name = "map" if kind is Kind.MAP else "reduce"
        arguments = {
            **_QUORUM,
            "x-dead-letter-exchange": self.dead_exchange,
            "x-dead-letter-routing-key": _DEAD_KEY,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",  # at-least-once needs it
        }
        return Queue(
            name=f"{self.prefix}.{name}", exchange=self.tasks_exchange, key=name, arguments=arguments
        )

    @property
    def queues(self) -> tuple[Queue, ...]:
        """All of them; where dead letters go first, so that no letter finds no queue."""
        return (self.dead, self.rubbish, *(self.tasks(kind) for kind in Kind))

    def declare(self, channel: Any, done: Callable[[], None]) -> None:
        """Declare all on an open pika channel; `done` after the last answer. Declaring again is harmless.

        What RabbitMQ refuses closes the channel; `refused` says what that means.
        """
        for exchange in (self.dead_exchange, self.tasks_exchange):
            channel.exchange_declare(
                exchange=exchange, exchange_type="direct", durable=True, callback=_ignore
            )
        for queue in self.queues:
            channel.queue_declare(
                queue=queue.name, durable=True, arguments=dict(queue.arguments), callback=_ignore
            )
            channel.queue_bind(
                queue=queue.name, exchange=queue.exchange, routing_key=queue.key, callback=_ignore
            )
        # pika sends one request at a time, in order: the answer to a last one, which changes nothing, says
        # that all are done.
        channel.basic_qos(prefetch_count=0, callback=lambda _frame: done())


def _ignore(_frame: object) -> None:
    """pika wants a callback to wait for an answer at all."""


def refused(code: int, text: str, vhost: str) -> OperatorError:
    """What a channel that was closed while declaring tells the operator."""
    if code == 406 and "inequivalent arg" in text:
        what = re.search(r"for (queue|exchange) '([^']+)'", text)
        kind, name = (what[1], what[2]) if what else ("queue", "?")
        how = f"rabbitmqctl --vhost {vhost} delete_queue {name}"
        if kind == "exchange":
            how = f"delete the exchange {name} in the management page"
        return OperatorError(
            f"{kind} {name} in virtual host {vhost} exists with other arguments than mrq declares ({text}). "
            f"To migrate: stop masters and workers, {how}, start them again; what was queued is published "
            f"again from the store. Or give this cluster another prefix or virtual host"
        )
    if code == 403:
        return OperatorError(
            f"RabbitMQ doesn't let this user declare or use mrq's queues in virtual host {vhost} ({text}); "
            f"give it configure, write and read permissions for names that begin with the prefix"
        )
    return OperatorError(
        f"RabbitMQ refuses mrq's queues in virtual host {vhost}: {code} {text}; mrq needs quorum queues "
        f"of RabbitMQ {OLDEST[0]}.{OLDEST[1]} or newer"
    )


def check_server(properties: Mapping[str, Any] | None) -> None:
    """Raises OperatorError for a broker that mrq can't work with, by its name and version."""
    found = {
        str(name): value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for name, value in (properties or {}).items()
    }
    product, version = found.get("product", "?"), found.get("version", "?")
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if product != "RabbitMQ" or numbers is None:
        raise OperatorError(
            f"the broker is {product} {version}; mrq needs RabbitMQ {OLDEST[0]}.{OLDEST[1]} or newer"
        )
    if (int(numbers[1]), int(numbers[2])) < OLDEST:
        raise OperatorError(
            f"this is RabbitMQ {version}; mrq needs {OLDEST[0]}.{OLDEST[1]} or newer, whose quorum queues "
            "lose no dead letter: upgrade the broker"
        )
