"""RabbitMQ behind `mrq.ports.Broker`. Everything of pika stays in here.

broker = connect("amqp://user:password@host/vhost", keys=Keys(current="k1", secrets={"k1": secret}))
broker.attach(worker=loop.sink)
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import pika

from mrq.adapters.rabbitmq.broker import RabbitBroker
from mrq.adapters.rabbitmq.envelopes import Messages, SigningKeys
from mrq.adapters.rabbitmq.topology import Topology
from mrq.adapters.rabbitmq.trouble import Endpoint
from mrq.errors import UsageError

__all__ = ["RabbitBroker", "SigningKeys", "connect"]

# pika logs each loss at ERROR beside what we say of it: shown only to who configures logging for it.
logging.getLogger("pika").addHandler(logging.NullHandler())

_HEARTBEAT_S: Final = 20
_BLOCKED_S: Final = 60.0


def connect(
    url: str,
    *,
    keys: SigningKeys,
    prefix: str = "mrq",
    user: str | None = None,
    password: str | None = None,
    tls: ssl.SSLContext | None = None,
    timeout_s: float = 30.0,
    notify: Callable[[str | None], None] | None = None,
    heartbeat_s: int = _HEARTBEAT_S,
    name: str = "mrq",
) -> RabbitBroker:
    """Connect to RabbitMQ and declare mrq's queues there.

    `url` is amqp:// or amqps://, with the virtual host as its path; `user` and `password` go before those
    in it. While RabbitMQ isn't there, or doesn't answer, it is tried again, for `timeout_s` seconds; what
    is wrong at any time is told to `notify` as a line, and None when it is over, from other threads.
    `name` is what RabbitMQ's own pages show. Raises UsageError for a URL that is none, OperatorError:
    wrong password, no such virtual host, other queues of these names, too old a RabbitMQ, or none within
    the time.
    """
    parameters, endpoint = _parameters(url, user, password, tls)
    parameters.client_properties = {"connection_name": name}
    parameters.heartbeat = heartbeat_s
    parameters.blocked_connection_timeout = _BLOCKED_S
    parameters.connection_attempts = 1
    parameters.socket_timeout = parameters.stack_timeout = 10.0
    broker = RabbitBroker(
        parameters=parameters,
        endpoint=endpoint,
        topology=Topology(prefix=prefix),
        messages=Messages(keys),
        notify=notify,
    )
    broker.open(timeout_s)
    return broker


def _parameters(
    url: str, user: str | None, password: str | None, tls: ssl.SSLContext | None
) -> tuple[Any, Endpoint]:
    """pika's parameters. Raises UsageError, which never shows the URL's password."""
    try:
        parts = urlsplit(url)
        shown = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
            raise UsageError(f"amqp_url {shown!r}: it must look like amqp://user:password@host:5672/vhost")
        parameters = pika.URLParameters(url)
    except (ValueError, TypeError, KeyError) as exc:
        raise UsageError(f"amqp_url: {exc}; it must look like amqp://user:password@host:5672/vhost") from exc
    old = parameters.credentials
    parameters.credentials = pika.PlainCredentials(
        user if user is not None else old.username, password if password is not None else old.password
    )
    if parts.scheme == "amqps":
        context = tls if tls is not None else ssl.create_default_context()
        parameters.ssl_options = pika.SSLOptions(context, parts.hostname)
    elif tls is not None:
        raise UsageError(f"amqp_url {shown!r}: TLS is configured, so it must begin with amqps://")
    endpoint = Endpoint(
        host=parameters.host,
        port=parameters.port,
        vhost=parameters.virtual_host,
        user=parameters.credentials.username,
    )
    return parameters, endpoint
