"""pika's errors as an operator reads them."""

from __future__ import annotations

import socket

import pika.exceptions as px
import pytest
from pika.adapters.utils import connection_workflow as workflow

from mrq.adapters.rabbitmq import connect
from mrq.adapters.rabbitmq.envelopes import SigningKeys
from mrq.adapters.rabbitmq.trouble import Endpoint, explain, is_final
from mrq.errors import UsageError

AT = Endpoint(host="rabbit", port=5672, vhost="jobs", user="ann")


def closed(code: int, text: str) -> Exception:
    return px.ConnectionClosedByBroker(code, text)


def wrapped(cause: Exception) -> Exception:
    """As pika does it for a connection that couldn't be made."""
    return px.AMQPConnectionError(
        workflow.AMQPConnectionWorkflowFailed([workflow.AMQPConnectorSocketConnectError(cause)])
    )


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        (closed(403, "ACCESS_REFUSED - Login was refused"), "refuses user ann: wrong user or password"),
        (
            px.ProbableAuthenticationError(repr(closed(403, "ACCESS_REFUSED - Login was refused"))),
            "refuses user ann: wrong user or password",
        ),
        (
            px.ProbableAccessDeniedError(repr(closed(530, "NOT_ALLOWED - vhost jobs not found"))),
            "has no virtual host jobs; create it",
        ),
        (
            px.ProbableAccessDeniedError(
                repr(closed(530, "NOT_ALLOWED - access to vhost 'jobs' refused for user 'ann'"))
            ),
            "doesn't let user ann into virtual host jobs",
        ),
        (px.IncompatibleProtocolError("x"), "isn't RabbitMQ, or wants TLS"),
    ],
)
def test_what_stays_wrong_isnt_tried_again(reason: Exception, says: str) -> None:
    assert is_final(reason)
    assert says in str(explain(reason, AT))
    assert "rabbit:5672" in str(explain(reason, AT))


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        (wrapped(ConnectionRefusedError(111, "Connection refused")), "isn't there (connection refused)"),
        (wrapped(socket.gaierror(-2, "Name or service not known")), "no address for rabbit"),
        (px.AMQPHeartbeatTimeout("x"), "doesn't answer heartbeats"),
        (px.ConnectionBlockedTimeout("x"), "blocked publishing for too long"),
        (closed(320, "CONNECTION_FORCED - shutdown"), "closed the connection: 320 CONNECTION_FORCED"),
        (
            px.ProbableAccessDeniedError(repr(closed(541, "INTERNAL_ERROR - vhost 'jobs' is down"))),
            "closed the connection: 541",
        ),
        (
            px.ProbableAccessDeniedError(
                repr(
                    closed(
                        530, "NOT_ALLOWED - access to vhost 'jobs' refused: connection limit (1) is reached"
                    )
                )
            ),
            "connection limit (1) is reached",
        ),
        # A broker that is starting, or a proxy before it: pika guesses from the state it was in.
        (px.IncompatibleProtocolError(repr(px.StreamLostError("reset"))), "RabbitMQ may be starting"),
        (px.ProbableAuthenticationError(repr(px.StreamLostError("reset"))), "broke"),
        (px.ProbableAccessDeniedError(repr(px.StreamLostError("reset"))), "broke"),
        (px.StreamLostError("Transport indicated EOF"), "Transport indicated EOF"),
    ],
)
def test_what_may_pass_is_tried_again(reason: Exception, says: str) -> None:
    assert not is_final(reason)
    assert says in str(explain(reason, AT))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "rabbit",
        "http://rabbit/",
        "amqp:///v",
        "amqp://u:hunter2@rabbit:port/v",
        "amqp://u:hunter2@rabbit:99999/v",
        "amqp://u:hunter2@rabbit/?heartbeat=often",
    ],
)
def test_a_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(UsageError, match=r"amqp_url.*must look like amqp://") as caught:
        connect(url, keys=SigningKeys(current="k", secrets={"k": b"0123456789abcdef"}))
    assert "hunter2" not in str(caught.value)
