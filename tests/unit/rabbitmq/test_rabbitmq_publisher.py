"""Publishing on a channel that confirms, refuses and returns as it is told."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pika
import pytest

from mrq.adapters.rabbitmq import publisher as module
from mrq.adapters.rabbitmq.connection import Notices
from mrq.adapters.rabbitmq.publisher import Outgoing, Publisher
from mrq.core.model import TaskMessage
from mrq.core.refs import Kind, TaskRef


class FakeBroker:
    """Link, connection and channel in one."""

    is_open = True

    def __init__(self) -> None:
        self.sent: list[str] = []  #: bodies
        self.ids: dict[str, str] = {}  #: of the message with a body
        self.said: list[str | None] = []
        self.unroutable: list[str] = []
        self.dropped: list[str] = []
        self.timers: list[Callable[[], None]] = []
        self.publisher = Publisher(
            Notices(self.said.append), lambda tasks: self.unroutable.extend(m.task.job for m in tasks)
        )
        self.publisher.link = self  # type: ignore[assignment]

    def wake(self) -> None:
        self.publisher.woken()

    def later(self, _seconds: float, callback: Callable[[], None]) -> None:
        self.timers.append(callback)

    def drop(self, why: str) -> None:
        self.dropped.append(why)

    def connect(self) -> None:
        self.publisher.opened(self)

    def add_on_connection_blocked_callback(self, callback: Callable[..., None]) -> None:
        self.block = callback

    def add_on_connection_unblocked_callback(self, callback: Callable[..., None]) -> None:
        self.unblock = callback

    def channel(self, on_open_callback: Callable[[Any], None]) -> None:
        on_open_callback(self)

    def add_on_return_callback(self, callback: Callable[..., None]) -> None:
        self.on_return = callback

    def add_on_close_callback(self, callback: Callable[..., None]) -> None:
        self.on_close = callback

    def confirm_delivery(self, on_confirm: Callable[[Any], None], callback: Callable[[Any], None]) -> None:
        self.on_confirm = on_confirm
        callback(None)

    def basic_publish(self, exchange: str, key: str, body: bytes, properties: Any, mandatory: bool) -> None:
        assert mandatory
        assert properties.delivery_mode == 2
        self.sent.append(body.decode())
        self.ids[body.decode()] = properties.message_id

    def ack(self, tag: int, multiple: bool = False) -> None:
        self.on_confirm(SimpleNamespace(method=pika.spec.Basic.Ack(tag, multiple)))

    def nack(self, tag: int) -> None:
        self.on_confirm(SimpleNamespace(method=pika.spec.Basic.Nack(tag)))

    def give_back(self, body: str) -> None:
        self.on_return(self, None, SimpleNamespace(message_id=self.ids[body]), b"")


def out(name: str) -> Outgoing:
    message = TaskMessage(task=TaskRef(name, 0, Kind.MAP, 0), ticket=1)
    return Outgoing("mrq.tasks", "map", name.encode(), [message])


@pytest.fixture
def broker() -> FakeBroker:
    made = FakeBroker()
    made.connect()
    return made


def test_many_are_under_way_at_once_and_one_confirm_covers_them(broker: FakeBroker) -> None:
    broker.publisher.publish([out(str(i)) for i in range(5)])
    assert broker.sent == list("01234")
    broker.ack(4, multiple=True)
    assert not broker.publisher.flush(0)
    broker.ack(5)
    assert broker.publisher.flush(0)


def test_the_pipeline_is_bounded(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIPELINE_MAX", 2)
    broker.publisher.publish([out(str(i)) for i in range(5)])
    assert broker.sent == ["0", "1"]
    broker.ack(2)
    assert broker.sent == ["0", "1", "2"]


def test_what_was_unconfirmed_is_published_again_and_first(broker: FakeBroker) -> None:
    broker.publisher.publish([out("a"), out("b"), out("c")])
    broker.ack(2)
    broker.publisher.lost()
    broker.publisher.publish([out("d")])
    broker.connect()
    assert broker.sent == ["a", "b", "c", "a", "c", "d"]
    broker.ack(3, multiple=True)
    assert broker.publisher.flush(0)


def test_what_is_refused_is_tried_again_later(broker: FakeBroker) -> None:
    broker.publisher.publish([out("a")])
    broker.nack(1)
    assert broker.sent == ["a"]
    assert "refuses messages" in str(broker.said[-1])
    assert not broker.publisher.flush(0)
    broker.timers.pop()()
    assert broker.sent == ["a", "a"]
    broker.ack(2)
    assert broker.said[-1] is None
    assert broker.publisher.flush(0)


def test_what_finds_no_queue_is_told_and_all_is_declared_again(broker: FakeBroker) -> None:
    broker.publisher.publish([out("a"), out("b")])
    broker.give_back("b")
    broker.ack(2, multiple=True)
    assert broker.unroutable == ["b"]
    assert "declaring again" in broker.dropped[0]


def test_a_copy_that_finds_no_queue_is_kept(broker: FakeBroker) -> None:
    confirmed: list[int] = []
    copy = Outgoing("mrq.dead", "dead", b"rubbish", confirmed=lambda: confirmed.append(1))
    broker.publisher.publish([copy])
    broker.give_back("rubbish")
    broker.ack(1)
    assert not confirmed
    broker.publisher.lost()
    broker.connect()
    broker.timers.pop()()
    broker.ack(1)
    assert confirmed == [1]


def test_nothing_is_sent_while_blocked_and_the_alarm_is_named(broker: FakeBroker) -> None:
    broker.block(broker, SimpleNamespace(method=SimpleNamespace(reason="low on memory & disk")))
    broker.publisher.publish([out("a")])
    assert broker.sent == []
    assert broker.said == ["broker blocked: disk and memory alarm"]
    broker.unblock(broker, None)
    assert broker.sent == ["a"]
    assert broker.said[-1] is None


def test_waiting_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAITING_MAX", 3)
    broker = FakeBroker()
    broker.publisher.publish([out(str(i)) for i in range(5)])
    assert broker.publisher.dropped == 2
    assert "2 messages dropped" in str(broker.said[-1])
    broker.connect()
    assert broker.sent == ["0", "1", "2"]
