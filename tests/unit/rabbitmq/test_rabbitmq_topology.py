"""Names and arguments, and what a broker that refuses them means."""

from __future__ import annotations

import pytest

from mrq.adapters.rabbitmq.topology import Topology, check_server, refused
from mrq.core.refs import Kind
from mrq.errors import OperatorError, UsageError


def test_the_arguments_are_fixed() -> None:
    """A queue that exists with others is refused by RabbitMQ: a change here needs a migration."""
    topology = Topology()
    tasks = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "mrq.dead",
        "x-dead-letter-routing-key": "dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    assert {queue.name: dict(queue.arguments) for queue in topology.queues} == {
        "mrq.dead": {"x-queue-type": "quorum", "x-delivery-limit": 20},
        "mrq.rubbish": {
            "x-queue-type": "quorum",
            "x-delivery-limit": 20,
            "x-max-length": 1000,
            "x-max-length-bytes": 64 << 20,
            "x-overflow": "drop-head",
        },
        "mrq.map": tasks,
        "mrq.reduce": tasks,
    }
    assert [(q.exchange, q.key) for q in topology.queues] == [
        ("mrq.dead", "dead"),
        ("mrq.dead", "rubbish"),
        ("mrq.tasks", "map"),
        ("mrq.tasks", "reduce"),
    ]


def test_a_prefix_is_in_every_name() -> None:
    topology = Topology(prefix="blue")
    names = [topology.tasks_exchange, topology.dead_exchange, *(queue.name for queue in topology.queues)]
    assert all(name.startswith("blue.") for name in names)
    assert topology.tasks(Kind.REDUCE).arguments["x-dead-letter-exchange"] == "blue.dead"


@pytest.mark.parametrize("prefix", ["", "a b", "-a", "a.b", "ä", "x" * 65])
def test_a_prefix_that_makes_no_name_is_refused(prefix: str) -> None:
    with pytest.raises(UsageError, match="letters, digits"):
        Topology(prefix=prefix)


def test_other_arguments_say_how_to_migrate() -> None:
    text = (
        "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'mrq.map' in vhost 'v': "
        "received '20' but current is '5'"
    )
    said = str(refused(406, text, "v"))
    assert "queue mrq.map in virtual host v exists with other arguments" in said
    assert "received '20' but current is '5'" in said
    assert "rabbitmqctl --vhost v delete_queue mrq.map" in said


def test_another_exchange_is_named_as_one() -> None:
    text = "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'mrq.tasks' in vhost '/': …"
    assert "delete the exchange mrq.tasks" in str(refused(406, text, "/"))


def test_missing_rights_are_named() -> None:
    said = str(refused(403, "ACCESS_REFUSED - configure access to queue 'mrq.map' …", "v"))
    assert "configure, write and read" in said


def test_what_else_is_refused_names_quorum_queues() -> None:
    said = str(refused(540, "NOT_IMPLEMENTED - queue type quorum", "v"))
    assert "540 NOT_IMPLEMENTED" in said
    assert "quorum queues" in said


@pytest.mark.parametrize("version", ["3.10.0", "3.10.8", "3.13.7", "4.0.5", "4.3.6-rc.1", "10.0"])
def test_versions_that_will_do(version: str) -> None:
    check_server({"product": "RabbitMQ", "version": version})
    check_server({"product": b"RabbitMQ", "version": version.encode()})


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ({"product": "RabbitMQ", "version": "3.9.29"}, "this is RabbitMQ 3.9.29; mrq needs 3.10"),
        ({"product": "RabbitMQ", "version": "2.8.1"}, "this is RabbitMQ 2.8.1"),
        ({"product": "LavinMQ", "version": "2.1.0"}, "the broker is LavinMQ 2.1.0; mrq needs RabbitMQ"),
        ({"product": "RabbitMQ", "version": "x"}, "the broker is RabbitMQ x"),
        ({}, "the broker is"),
        (None, "the broker is"),
    ],
)
def test_brokers_that_wont_do_are_refused_by_name(properties: dict[str, str] | None, says: str) -> None:
    with pytest.raises(OperatorError, match=says):
        check_server(properties)
