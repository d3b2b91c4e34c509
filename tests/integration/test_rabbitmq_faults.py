"""RabbitMQ and the ways in which it goes away: nothing is lost, everything is said, the consumer lives."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
from rabbitmq_runs import Process, Processes, eventually, message, put, take
from services import Broker

from mrq.adapters.rabbitmq import SigningKeys
from mrq.adapters.rabbitmq import connection as connection_module
from mrq.core.agent_words import BrokerBack, BrokerLost, Delivered
from mrq.core.backoff import Backoff
from mrq.core.events import MessageDied
from mrq.core.refs import Kind, TaskRef

VERSIONS = ["3.10", "4.0", "4.3"]


@pytest.fixture
def processes() -> Iterator[Processes]:
    made: list[Process] = []

    def make(server: Broker, **options: Any) -> Process:
        made.append(Process(server, **options))
        return made[-1]

    yield make
    for each in made:
        each.broker.close()


def indices(process: Process) -> set[int]:
    return {event.message.task.index for event in process.inbox.of(Delivered)}


def test_the_broker_closes_every_connection(rabbitmq: Broker, processes: Processes) -> None:
    worker, leader = processes(rabbitmq), processes(rabbitmq, leads=True)
    worker.broker.set_credit(Kind.MAP, 2)
    leader.broker.publish([message(i) for i in range(4)])
    first = worker.inbox.wait(Delivered, 2)
    rabbitmq.container.exec("rabbitmqctl", "close_all_connections", "--vhost", rabbitmq.vhost, "a test")
    worker.inbox.wait(BrokerLost)
    worker.wait_said("closed the connection: 320")
    leader.broker.publish([message(i) for i in range(4, 8)])
    for each in first:
        worker.broker.ack(each.delivery)  # on its way when the connection broke
    worker.inbox.wait(BrokerBack, timeout_s=10)
    worker.inbox.stays(Delivered, 2)
    worker.broker.set_credit(Kind.MAP, 20)
    again = worker.inbox.wait(Delivered, 10)[2:]
    assert {each.message.task.index for each in again} == set(range(8))
    assert len(worker.inbox.of(BrokerLost)) == len(worker.inbox.of(BrokerBack)) == 1
    worker.wait_well()
    leader.wait_well()


def test_a_deleted_queue_is_declared_again(rabbitmq: Broker, processes: Processes) -> None:
    """The worker's consumer is cancelled; the leader's message finds no queue, and it hears so."""
    worker, leader = processes(rabbitmq), processes(rabbitmq, leads=True)
    leader.broker.publish([message(1, kind=Kind.REDUCE)])
    worker.broker.set_credit(Kind.MAP, 1)
    worker.broker.set_credit(Kind.REDUCE, 1)
    worker.inbox.wait(Delivered)
    rabbitmq.admin.call("DELETE", f"/queues/{rabbitmq.vhost}/mrq.reduce")
    worker.inbox.wait(BrokerBack, timeout_s=10)
    worker.broker.set_credit(Kind.REDUCE, 1)
    leader.broker.publish([message(2, kind=Kind.REDUCE)])
    assert worker.inbox.wait(Delivered, 2)[1].message.task.index == 2
    worker.broker.close()
    rabbitmq.admin.call("DELETE", f"/queues/{rabbitmq.vhost}/mrq.reduce")
    leader.broker.publish([message(3, kind=Kind.REDUCE)])
    (died,) = leader.inbox.wait(MessageDied)
    assert died.message.task == TaskRef("j", 0, Kind.REDUCE, 3)
    assert "no queue for it; was mrq.reduce deleted?" in died.reason
    leader.broker.publish([message(4, kind=Kind.REDUCE)])
    late = processes(rabbitmq)
    late.broker.set_credit(Kind.REDUCE, 1)
    assert late.inbox.wait(Delivered)[0].message.task.index == 4


def test_a_restart(
    private_rabbitmq: Callable[..., Broker], processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was published before, and meanwhile, comes; a process that starts meanwhile waits for it."""
    monkeypatch.setattr(connection_module, "_AGAIN", Backoff(base_s=0.5, max_s=0.5))
    server = private_rabbitmq()
    worker, leader = processes(server), processes(server, leads=True)
    leader.broker.publish([message(i) for i in range(3)])
    worker.broker.set_credit(Kind.MAP, 1)
    worker.inbox.wait(Delivered)
    server.container.kill()
    worker.inbox.wait(BrokerLost)
    leader.broker.publish([message(i) for i in range(3, 6)])
    leader.wait_said("isn't there")
    subprocess.run(["docker", "start", server.container.id], check=True, capture_output=True)
    late = processes(server, timeout_s=60)  # begins to connect while it starts
    late.broker.set_credit(Kind.MAP, 10)
    assert {e.message.task.index for e in late.inbox.wait(Delivered, 6, timeout_s=30)} == set(range(6))
    worker.inbox.wait(BrokerBack, timeout_s=10)
    leader.wait_well()
    assert len(worker.inbox.of(BrokerLost)) == 1


@pytest.mark.parametrize("rabbitmq", VERSIONS, indirect=True)
@pytest.mark.parametrize("kind", Kind)
def test_rubbish_is_put_aside_and_the_consumer_lives(
    rabbitmq: Broker, processes: Processes, kind: Kind
) -> None:
    queue = {Kind.MAP: "mrq.map", Kind.REDUCE: "mrq.reduce"}[kind]
    worker = processes(rabbitmq)
    worker.broker.set_credit(kind, 1)
    stranger = processes(rabbitmq, keys=SigningKeys(current="k1", secrets={"k1": b"another secret of bytes"}))
    put(rabbitmq, queue, b"what is this?")
    put(rabbitmq, queue, msgpack.packb([9, "k1", b"", b""]))
    stranger.broker.publish([message(kind=kind)])
    leader = processes(rabbitmq, leads=True)
    leader.broker.publish([message(5, kind=kind)])
    assert worker.inbox.wait(Delivered)[0].message.task.index == 5
    eventually(lambda: worker.broker.set_aside.count == 3)
    found: list[Any] = []
    eventually(lambda: found.extend(take(rabbitmq, "mrq.rubbish", 10)) or len(found) == 3)
    assert not leader.inbox.of(MessageDied)
    reasons = {headers["x-mrq-reason"].split(":")[0] for _, headers in found}
    assert reasons == {"undecodable", "unknown version", "forged"}
    assert {headers["x-mrq-queue"] for _, headers in found} == {queue}
    assert b"what is this?" in {body for body, _ in found}
    worker.inbox.stays(Delivered, 1)


def test_rubbish_among_the_dead_letters(rabbitmq: Broker, processes: Processes) -> None:
    leader = processes(rabbitmq, leads=True)
    put(rabbitmq, "mrq.dead", b"who wrote this?")
    found: list[Any] = []
    eventually(lambda: found.extend(take(rabbitmq, "mrq.rubbish", 1)) or len(found) == 1)
    eventually(lambda: leader.broker.set_aside.count == 1)
    assert found[0][0] == b"who wrote this?"
    assert "didn't come from a queue of tasks" in found[0][1]["x-mrq-reason"]


def test_only_the_leader_reads_the_dead_letters(rabbitmq: Broker, processes: Processes) -> None:
    worker, standby = processes(rabbitmq), processes(rabbitmq)
    worker.broker.set_credit(Kind.MAP, 1)
    standby.broker.publish([message(7)])
    for n in range(1, 22):
        worker.broker.give_back(worker.inbox.wait(Delivered, n)[-1].delivery)
    standby.inbox.stays(MessageDied, 0, seconds=0.3)
    standby.broker.attach(leader=standby.inbox)
    (died,) = standby.inbox.wait(MessageDied)
    assert (died.message.task, died.message.ticket) == (TaskRef("j", 0, Kind.MAP, 7), 1)
    assert died.reason == "it came back to mrq.map more than 20 times"
    standby.broker.attach()
    successor = processes(rabbitmq, leads=True)
    put(rabbitmq, "mrq.dead", b"to be read once")
    eventually(lambda: successor.broker.set_aside.count == 1)
    assert standby.broker.set_aside.count == 0
    assert not successor.inbox.of(MessageDied)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_delivery_that_outlives_the_consumer_timeout(
    private_rabbitmq: Callable[..., Broker], processes: Processes, version: str
) -> None:
    """RabbitMQ takes it back: the worker hears that all is lost, and gets it again on a new connection."""
    server = private_rabbitmq(version, consumer_timeout_s=3, channel_tick_s=1)
    worker = processes(server)
    worker.broker.set_credit(Kind.MAP, 1)
    processes(server).broker.publish([message(1)])
    first = worker.inbox.wait(Delivered)[0]
    worker.inbox.wait(BrokerLost, timeout_s=40)
    worker.inbox.wait(BrokerBack)
    worker.broker.ack(first.delivery)  # passed over
    worker.broker.set_credit(Kind.MAP, 1)
    again = worker.inbox.wait(Delivered, 2)[1]
    assert again.message == message(1)
    assert again.redelivered
    worker.broker.ack(again.delivery)
    assert len(worker.inbox.of(BrokerLost)) == 1


def test_publishing_while_blocked(private_rabbitmq: Callable[..., Broker], processes: Processes) -> None:
    """An alarm is named, deliveries and acks go on, and what waited goes out when it is over."""
    server = private_rabbitmq()
    worker, leader = processes(server), processes(server, leads=True)
    leader.broker.publish([message(i) for i in range(3)])
    worker.broker.set_credit(Kind.MAP, 2)
    first = worker.inbox.wait(Delivered, 2)
    server.container.exec("rabbitmqctl", "set_vm_memory_high_watermark", "0.00001")
    leader.broker.publish([message(3)])
    leader.wait_said("broker blocked: memory alarm")
    leader.broker.publish([message(4)])
    for each in first:
        worker.broker.ack(each.delivery)
    worker.inbox.wait(Delivered, 3)
    worker.inbox.stays(Delivered, 3, seconds=0.2)
    server.container.exec("rabbitmqctl", "set_vm_memory_high_watermark", "0.6")
    leader.wait_well()
    worker.broker.set_credit(Kind.MAP, 9)
    worker.inbox.wait(Delivered, 5)
    assert indices(worker) == set(range(5))
    assert worker.said == []


def test_a_hung_loop_gives_up_its_deliveries(
    rabbitmq: Broker, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_LOOK_S", 0.05)
    hung, other = processes(rabbitmq), processes(rabbitmq)
    other.broker.publish([message(1)])
    hung.broker.set_credit(Kind.MAP, 1)
    hung.inbox.wait(Delivered)
    hung.broker.tick()
    hung.inbox.wait(BrokerLost)
    hung.wait_said(f"(process {os.getpid()} on {os.uname().nodename}) has hung for 5 s")
    other.broker.set_credit(Kind.MAP, 1)
    assert other.inbox.wait(Delivered)[0].redelivered
    hung.inbox.stays(BrokerBack, 0, seconds=0.3)
    hung.broker.tick()
    hung.inbox.wait(BrokerBack)


def test_a_standby_needs_no_tick(
    rabbitmq: Broker, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has led, and ticked, and leads no more, isn't taken for one that hangs."""
    monkeypatch.setattr(connection_module, "_LOOK_S", 0.02)
    standby = processes(rabbitmq, leads=True)
    standby.broker.tick()
    standby.broker.attach()
    time.sleep(0.3)
    assert standby.said == []
    standby.broker.attach(leader=standby.inbox)
    put(rabbitmq, "mrq.dead", b"to be read")
    eventually(lambda: standby.broker.set_aside.count == 1)


def test_no_worker_holds_more_than_its_credit(rabbitmq: Broker, processes: Processes) -> None:
    """Ten messages, two workers with five each: both get theirs, though one asked for many before."""
    greedy, modest = processes(rabbitmq), processes(rabbitmq)
    greedy.broker.set_credit(Kind.MAP, 50)
    greedy.broker.set_credit(Kind.MAP, 5)
    greedy.inbox.stays(Delivered, 0, seconds=0.3)
    modest.broker.set_credit(Kind.MAP, 5)
    modest.inbox.stays(Delivered, 0, seconds=0.1)
    modest.broker.publish([message(i) for i in range(10)])
    greedy.inbox.wait(Delivered, 5)
    modest.inbox.wait(Delivered, 5)
    greedy.inbox.stays(Delivered, 5)
    modest.inbox.stays(Delivered, 5)


def test_thousands_go_through_each_once(rabbitmq: Broker, processes: Processes) -> None:
    """With credit that flips, everything settled, and no connection lost on the way."""
    leader, worker = processes(rabbitmq, leads=True), processes(rabbitmq)
    n, seen, credit = 3000, 0, 0
    leader.broker.publish([message(i) for i in range(n)])
    while seen < n:
        if seen // 100 >= credit // 16 or not credit:
            credit = 16 if credit != 16 else 48
            worker.broker.set_credit(Kind.MAP, credit)
        new = worker.inbox.wait(Delivered, seen + 1)[seen:]
        for each in new:
            worker.broker.ack(each.delivery)
        seen += len(new)
    assert sorted(event.message.task.index for event in worker.inbox.of(Delivered)) == list(range(n))
    assert not worker.inbox.of(BrokerLost)


def test_connections_that_break_over_and_over_lose_nothing(
    rabbitmq: Broker, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every message is acked in the end, and each settled once; copies are allowed, and come."""
    monkeypatch.setattr(connection_module, "_AGAIN", Backoff(base_s=0.02, max_s=30.0))
    leader, workers = processes(rabbitmq, leads=True), [processes(rabbitmq) for _ in range(2)]
    published, acked, heard = 0, set(), [0, 0]
    breaks = random.Random(7)
    deadline = time.monotonic() + 40
    while published < 400 or len(acked) < published:
        assert time.monotonic() < deadline, f"{published - len(acked)} of {published} never came"
        if published < 400:
            leader.broker.publish([message(published + i) for i in range(4)])
            published += 4
            if breaks.random() < 0.05:
                leader.broker.lose_connection()
        for which, worker in enumerate(workers):
            events = worker.inbox.events[heard[which] :]
            heard[which] += len(events)
            worker.broker.set_credit(Kind.MAP, breaks.choice([1, 3, 16]))
            for event in events:
                if isinstance(event, Delivered):
                    worker.broker.ack(event.delivery)
                    acked.add(event.message.task.index)
            if published < 400 and breaks.random() < 0.05:
                worker.broker.lose_connection()
        time.sleep(0.01)
    for worker in workers:
        lost, back = worker.inbox.of(BrokerLost), worker.inbox.of(BrokerBack)
        assert len(lost) > 1
        assert len(lost) - len(back) in (0, 1)
    assert not leader.inbox.of(MessageDied)


def test_close_leaves_with_everything_confirmed(rabbitmq: Broker) -> None:
    leader = Process(rabbitmq)
    leader.broker.publish([message(i) for i in range(500)])
    leader.broker.close()
    reader = Process(rabbitmq)
    reader.broker.set_credit(Kind.MAP, 500)
    assert len(reader.inbox.wait(Delivered, 500)) == 500
    reader.broker.close()
