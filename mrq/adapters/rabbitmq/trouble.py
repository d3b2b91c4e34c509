"""pika's and the socket's errors, as what an operator can do about them."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass

import pika.exceptions as px
from pika.adapters.utils import connection_workflow as workflow

from mrq.errors import OperatorError


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Which broker; without the password, for messages."""

    host: str
    port: int
    vhost: str
    user: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def explain(reason: BaseException, endpoint: Endpoint) -> OperatorError:
    """Why a connection couldn't be made, or was lost, in one sentence."""
    cause = root(reason)
    made = _final(cause, endpoint) or OperatorError(_passing(cause, endpoint))
    made.__cause__ = reason
    return made


def is_final(reason: BaseException) -> bool:
    """Would trying again with the same settings fail in the same way?"""
    return _final(root(reason), Endpoint(host="", port=0, vhost="", user="")) is not None


def root(reason: BaseException) -> BaseException:
    """pika wraps what happened several times; the innermost says it."""
    while True:
        if isinstance(reason, workflow.AMQPConnectionWorkflowFailed) and reason.exceptions:
            reason = reason.exceptions[-1]
        elif isinstance(reason, workflow.AMQPConnectorPhaseErrorBase):
            reason = reason.exception
        elif (
            isinstance(reason, px.AMQPConnectionError)
            and reason.args
            and isinstance(reason.args[0], Exception)
        ):
            reason = reason.args[0]
        else:
            return reason


def _answer(cause: BaseException) -> tuple[int, str]:
    """The broker's own (code, text), or (0, ""). While it connects, pika keeps only the repr."""
    if isinstance(cause, px.ConnectionClosedByBroker):
        return cause.reply_code, cause.reply_text
    found = re.search(r"ConnectionClosedByBroker: \((\d+)\) (.*)", str(cause), re.DOTALL)
    return (int(found[1]), found[2]) if found else (0, "")


def _final(cause: BaseException, endpoint: Endpoint) -> OperatorError | None:
    code, text = _answer(cause)
    if code == 403:
        return OperatorError(
            f"RabbitMQ at {endpoint} refuses user {endpoint.user}: wrong user or password; "
            f"check amqp_user and amqp_password, or those in amqp_url"
        )
    if code == 530 and "not found" in text:
        return OperatorError(
            f"RabbitMQ at {endpoint} has no virtual host {endpoint.vhost}; create it "
            f"(rabbitmqctl add_vhost {endpoint.vhost}) or correct the end of amqp_url"
        )
    if code == 530 and "limit" not in text:  # of connections: others may leave
        return OperatorError(
            f"RabbitMQ at {endpoint} doesn't let user {endpoint.user} into virtual host {endpoint.vhost} "
            f"({text}); see rabbitmqctl list_permissions --vhost {endpoint.vhost}"
        )
    foreign = px.IncompatibleProtocolError | px.ProtocolSyntaxError | px.ProtocolVersionMismatch
    if isinstance(cause, foreign) and not _hung_up(cause):
        return OperatorError(
            f"what answers at {endpoint} isn't RabbitMQ, or wants TLS (amqps://): it doesn't speak AMQP 0-9-1"
        )
    if isinstance(cause, ssl.SSLCertVerificationError):
        return OperatorError(
            f"the certificate of RabbitMQ at {endpoint} isn't trusted: {cause.verify_message}; "
            "name its authority"
        )
    return None


def _hung_up(cause: BaseException) -> bool:
    """Only the connection's end is known; pika guesses from it, while RabbitMQ may just be starting."""
    return isinstance(cause, px.StreamLostError) or "StreamLostError" in str(cause)


def _passing(cause: BaseException, endpoint: Endpoint) -> str:
    code, text = _answer(cause)
    if isinstance(cause, ConnectionRefusedError):
        return f"RabbitMQ at {endpoint} isn't there (connection refused)"
    if isinstance(cause, socket.gaierror):
        return f"RabbitMQ at {endpoint} isn't there (no address for {endpoint.host}: {cause.strerror})"
    if isinstance(cause, px.ConnectionBlockedTimeout):
        return f"RabbitMQ at {endpoint} has blocked publishing for too long (an alarm: memory or disk)"
    if isinstance(cause, px.AMQPHeartbeatTimeout):
        return f"RabbitMQ at {endpoint} doesn't answer heartbeats"
    if code:
        return f"RabbitMQ at {endpoint} closed the connection: {code} {text}"
    if isinstance(cause, px.IncompatibleProtocolError):
        return (
            f"what answers at {endpoint} hangs up before it says anything: RabbitMQ may be starting, "
            "or it isn't RabbitMQ, or wants TLS (amqps://)"
        )
    if _hung_up(cause):
        return f"the connection to RabbitMQ at {endpoint} broke ({cause})"
    return f"no connection to RabbitMQ at {endpoint} ({cause or type(cause).__name__})"
