"""The services that the suite runs on: what a test may do with them, and that none sees another's."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pika
import pytest
from services import Broker, Redis


def declared(broker: Broker, name: str, arguments: dict[str, str]) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    connection.channel().queue_declare(name, durable=True, arguments=arguments)
    connection.close()


@pytest.mark.parametrize("rabbitmq", ["3.10", "4.0", "4.3"], indirect=True)
def test_each_version_has_quorum_queues_in_a_virtual_host_of_the_test(rabbitmq: Broker) -> None:
    declared(rabbitmq, "q", {"x-queue-type": "quorum"})
    assert [row["name"] for row in rabbitmq.admin.get(f"/queues/{rabbitmq.vhost}")] == ["q"]
    assert rabbitmq.admin.get("/overview")["rabbitmq_version"].startswith(rabbitmq.version)


@pytest.mark.parametrize("redis_server", ["7.0", "8.0"], indirect=True)
def test_redis_is_durable_and_evicts_nothing(redis_server: Redis) -> None:
    with redis_server.client() as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.info("server")["redis_version"].startswith(redis_server.version)


def test_a_prefix_goes_with_its_test(redis_server: Redis) -> None:
    with redis_server.client() as client:
        client.set(f"{redis_server.prefix}:x", "1")
        client.set(f"{redis_server.prefix}2:x", "another's", ex=60)
        redis_server.drop()
        assert client.exists(f"{redis_server.prefix}:x") == 0
        assert client.delete(f"{redis_server.prefix}2:x") == 1


def test_a_redis_of_ones_own_keeps_its_data_over_a_kill(private_redis: Callable[..., Redis]) -> None:
    server = private_redis("8.0", "--appendfsync", "always")
    with server.client() as client:
        client.set("x", "1")
        server.container.kill()
        server.container.start()
        assert client.get("x") == b"1"


def test_a_broker_of_ones_own_can_be_configured_and_restarted(
    private_rabbitmq: Callable[..., Broker],
) -> None:
    broker = private_rabbitmq("4.0", consumer_timeout_s=60, channel_tick_s=1)
    asked = (
        "{application:get_env(rabbit, consumer_timeout), application:get_env(rabbit, channel_tick_interval)}."
    )
    assert broker.container.exec("rabbitmqctl", "eval", asked).split() == ["{{ok,60000},{ok,1000}}"]
    declared(broker, "q", {"x-queue-type": "quorum"})
    broker.container.restart()
    assert [row["name"] for row in broker.admin.get(f"/queues/{broker.vhost}")] == ["q"]


def test_a_paused_server_is_silent_and_comes_back(private_redis: Callable[..., Redis]) -> None:
    server = private_redis()
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.5) as connection:
        server.container.pause()
        connection.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(64)
        server.container.unpause()
        connection.settimeout(10)
        assert connection.recv(64).startswith(b"+PONG")
