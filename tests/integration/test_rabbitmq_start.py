"""Connecting to RabbitMQ: what is wrong is said by name, and what may pass is waited for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rabbitmq_runs import KEYS
from services import Broker, free_ports

from mrq.adapters.rabbitmq import connect
from mrq.errors import OperatorError


def refusal(url: str, timeout_s: float = 10.0) -> str:
    with pytest.raises(OperatorError) as caught:
        connect(url, keys=KEYS, timeout_s=timeout_s)
    return str(caught.value)


def test_a_wrong_password(rabbitmq: Broker) -> None:
    said = refusal(rabbitmq.url_as("guest", "hunter2"))
    assert "refuses user guest: wrong user or password" in said
    assert "hunter2" not in said


def test_a_virtual_host_that_isnt_there(rabbitmq: Broker) -> None:
    assert "has no virtual host nowhere; create it" in refusal(
        rabbitmq.url.replace(rabbitmq.vhost, "nowhere")
    )


def test_a_virtual_host_of_others(rabbitmq: Broker) -> None:
    user = f"ann-{rabbitmq.vhost}"
    rabbitmq.add_user(user, "secret", configure=".*", write=".*", read=".*")
    said = refusal(rabbitmq.url_as(user, "secret").replace(f"/{rabbitmq.vhost}", "/%2F"))
    assert f"doesn't let user {user} into virtual host /" in said


def test_rights_for_mrqs_own_names_are_enough(rabbitmq: Broker) -> None:
    user, ours = f"ann-{rabbitmq.vhost}", r"^mrq\..*"
    rabbitmq.add_user(user, "secret", configure=ours, write=ours, read=ours)
    connect(rabbitmq.url_as(user, "secret"), keys=KEYS).close()
    with pytest.raises(OperatorError, match="give it configure, write and read permissions"):
        connect(rabbitmq.url_as(user, "secret"), keys=KEYS, prefix="other")


def test_user_and_password_beside_the_url(rabbitmq: Broker) -> None:
    url = f"amqp://127.0.0.1:{rabbitmq.port}/{rabbitmq.vhost}"
    connect(url, keys=KEYS, user="guest", password="guest").close()


@pytest.mark.parametrize("rabbitmq", ["3.10", "4.0", "4.3"], indirect=True)
def test_a_queue_with_other_arguments_says_how_to_migrate(rabbitmq: Broker) -> None:
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 5}
    rabbitmq.admin.call("PUT", f"/queues/{rabbitmq.vhost}/mrq.map", {"durable": True, "arguments": arguments})
    said = refusal(rabbitmq.url)
    assert f"queue mrq.map in virtual host {rabbitmq.vhost} exists with other arguments" in said
    assert f"rabbitmqctl --vhost {rabbitmq.vhost} delete_queue mrq.map" in said
    rabbitmq.container.exec("rabbitmqctl", "--vhost", rabbitmq.vhost, "delete_queue", "mrq.map")
    connect(rabbitmq.url, keys=KEYS).close()


def test_nobody_there_is_said_while_it_is_waited_for() -> None:
    (port,) = free_ports(1)
    heard: list[str | None] = []
    with pytest.raises(OperatorError, match=r"no RabbitMQ at 127.0.0.1:\d+ within 0.5 s: .*refused"):
        connect(f"amqp://127.0.0.1:{port}/", keys=KEYS, timeout_s=0.5, notify=heard.append)
    assert heard == [f"RabbitMQ at 127.0.0.1:{port} isn't there (connection refused); trying again"]


def test_a_name_that_means_nothing() -> None:
    said = refusal("amqp://nowhere.invalid/", timeout_s=0.5)
    assert "no address for nowhere.invalid" in said or "no RabbitMQ at nowhere.invalid" in said


@contextmanager
def other_server(answer: bytes) -> Iterator[int]:
    """Something else on a port: answers whatever it is told with these bytes, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    client, _ = listening.accept()
                except TimeoutError:
                    continue
                with client:
                    client.recv(100)
                    client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            over.set()
            thread.join()


def test_something_else_at_that_port() -> None:
    with other_server(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n") as port:
        assert "isn't RabbitMQ" in refusal(f"amqp://127.0.0.1:{port}/", timeout_s=0.5)


def test_a_port_that_hangs_up_is_waited_for() -> None:
    """So does a container's port before its RabbitMQ has started."""
    with other_server(b"") as port:
        said = refusal(f"amqp://127.0.0.1:{port}/", timeout_s=0.5)
    assert "within 0.5 s: what answers" in said
    assert "RabbitMQ may be starting" in said


def test_a_port_that_says_nothing_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert "no RabbitMQ at 127.0.0.1" in refusal(f"amqp://127.0.0.1:{port}/", timeout_s=0.3)
