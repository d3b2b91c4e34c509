"""Every Broker: at least once, credit kept, each delivery settled once."""

from __future__ import annotations

import pytest
from contract_kit import BrokerFactory, message

from mrq.core.agent_words import BrokerBack, BrokerLost, Delivered
from mrq.core.events import MessageDied
from mrq.core.refs import Kind, TaskRef
from mrq.errors import InternalError, OperatorError


def test_nothing_is_delivered_without_credit(brokers: BrokerFactory) -> None:
    one = brokers.connect()
    one.broker.publish([message(0)])
    one.inbox.stays(Delivered, 0)
    one.broker.set_credit(Kind.MAP, 1)
    (delivered,) = one.inbox.wait(Delivered)
    assert delivered.message == message(0)
    assert not delivered.redelivered


def test_messages_wait_for_a_consumer(brokers: BrokerFactory) -> None:
    leader = brokers.connect()
    leader.broker.publish([message(i) for i in range(3)])
    worker = brokers.connect()
    worker.broker.set_credit(Kind.MAP, 3)
    assert {d.message.task.index for d in worker.inbox.wait(Delivered, 3)} == {0, 1, 2}


def test_credit_bounds_what_is_unsettled(brokers: BrokerFactory) -> None:
    one = brokers.connect()
    one.broker.set_credit(Kind.MAP, 2)
    one.broker.publish([message(i) for i in range(5)])
    first = one.inbox.wait(Delivered, 2)[0]
    one.inbox.stays(Delivered, 2)
    one.broker.ack(first.delivery)
    one.inbox.wait(Delivered, 3)
    one.inbox.stays(Delivered, 3)


def test_kinds_have_credit_of_their_own(brokers: BrokerFactory) -> None:
    one = brokers.connect()
    one.broker.set_credit(Kind.REDUCE, 1)
    one.broker.publish([message(0), message(1, kind=Kind.REDUCE)])
    assert one.inbox.wait(Delivered)[0].message.task.kind is Kind.REDUCE
    one.inbox.stays(Delivered, 1)


def test_less_credit_takes_nothing_back(brokers: BrokerFactory) -> None:
    one, two = brokers.connect(), brokers.connect()
    one.broker.set_credit(Kind.MAP, 2)
    one.broker.publish([message(0), message(1)])
    first, second = one.inbox.wait(Delivered, 2)
    one.broker.set_credit(Kind.MAP, 0)
    two.broker.set_credit(Kind.MAP, 2)
    two.inbox.stays(Delivered, 0)
    one.broker.ack(first.delivery)
    one.broker.give_back(second.delivery)
    two.inbox.wait(Delivered, 1)
    one.inbox.stays(Delivered, 2)


def test_negative_credit_is_refused(brokers: BrokerFactory) -> None:
    with pytest.raises(InternalError, match="0 is the least"):
        brokers.connect().broker.set_credit(Kind.MAP, -1)


def test_what_was_acked_never_comes_back(brokers: BrokerFactory) -> None:
    one, two = brokers.connect(), brokers.connect()
    one.broker.set_credit(Kind.MAP, 1)
    one.broker.publish([message(0)])
    one.broker.ack(one.inbox.wait(Delivered)[0].delivery)
    one.broker.close()
    two.broker.set_credit(Kind.MAP, 1)
    two.inbox.stays(Delivered, 0)


def test_what_was_given_back_goes_to_another_marked(brokers: BrokerFactory) -> None:
    one, two = brokers.connect(), brokers.connect()
    one.broker.set_credit(Kind.MAP, 1)
    one.broker.publish([message(0)])
    delivered = one.inbox.wait(Delivered)[0]
    one.broker.set_credit(Kind.MAP, 0)
    two.broker.set_credit(Kind.MAP, 1)
    one.broker.give_back(delivered.delivery)
    (again,) = two.inbox.wait(Delivered)
    assert again.message == message(0)
    assert again.redelivered
    assert again.delivery != delivered.delivery


@pytest.mark.parametrize("first", ["ack", "give_back"])
@pytest.mark.parametrize("second", ["ack", "give_back"])
def test_settling_twice_is_refused(brokers: BrokerFactory, first: str, second: str) -> None:
    one = brokers.connect()
    one.broker.set_credit(Kind.MAP, 1)
    one.broker.publish([message(0)])
    delivery = one.inbox.wait(Delivered)[0].delivery
    one.broker.set_credit(Kind.MAP, 0)
    getattr(one.broker, first)(delivery)
    with pytest.raises(InternalError, match="settled before or never made"):
        getattr(one.broker, second)(delivery)


def test_settling_what_was_never_delivered_is_refused(brokers: BrokerFactory) -> None:
    with pytest.raises(InternalError):
        brokers.connect().broker.ack(12345)


def test_one_cannot_settle_anothers_delivery(brokers: BrokerFactory) -> None:
    one, two = brokers.connect(), brokers.connect()
    one.broker.set_credit(Kind.MAP, 1)
    one.broker.publish([message(0)])
    delivery = one.inbox.wait(Delivered)[0].delivery
    with pytest.raises(InternalError):
        two.broker.ack(delivery)


def test_closing_returns_what_is_unsettled(brokers: BrokerFactory) -> None:
    one, two = brokers.connect(), brokers.connect()
    one.broker.set_credit(Kind.MAP, 2)
    one.broker.publish([message(0), message(1)])
    one.inbox.wait(Delivered, 2)
    two.broker.set_credit(Kind.MAP, 2)
    one.broker.close()
    again = two.inbox.wait(Delivered, 2)
    assert {d.message.task.index for d in again} == {0, 1}
    assert all(d.redelivered for d in again)


def test_a_closed_broker_refuses_everything_but_close(brokers: BrokerFactory) -> None:
    one = brokers.connect()
    one.broker.close()
    one.broker.close()
    with pytest.raises(OperatorError):
        one.broker.publish([message(0)])
    with pytest.raises(OperatorError):
        one.broker.set_credit(Kind.MAP, 1)
    with pytest.raises(OperatorError):
        one.broker.ack(1)
    with pytest.raises(OperatorError):
        one.broker.give_back(1)


def test_a_lost_connection_is_told_once_and_requeues(brokers: BrokerFactory) -> None:
    one, two = brokers.connect(), brokers.connect()
    one.broker.set_credit(Kind.MAP, 1)
    one.broker.publish([message(0)])
    delivery = one.inbox.wait(Delivered)[0].delivery
    two.broker.set_credit(Kind.MAP, 1)
    brokers.lose(one)
    one.inbox.wait(BrokerLost)
    assert two.inbox.wait(Delivered)[0].redelivered
    one.broker.ack(delivery)  # it was on its way when the connection broke: passed over
    with pytest.raises(InternalError):
        one.broker.ack(delivery)
    one.inbox.stays(BrokerLost, 1)


def test_a_new_connection_has_no_credit(brokers: BrokerFactory) -> None:
    one = brokers.connect()
    one.broker.set_credit(Kind.MAP, 5)
    brokers.lose(one)
    brokers.restore(one)
    one.inbox.wait(BrokerBack)
    one.broker.publish([message(0)])
    one.inbox.stays(Delivered, 0)
    one.broker.set_credit(Kind.MAP, 1)
    one.inbox.wait(Delivered)


def test_a_message_that_keeps_coming_back_dies_by_name(brokers: BrokerFactory) -> None:
    one = brokers.connect()
    one.broker.set_credit(Kind.MAP, 1)
    one.broker.publish([message(3)])
    for n in range(1, 22):
        one.broker.give_back(one.inbox.wait(Delivered, n)[-1].delivery)
    (died,) = one.inbox.wait(MessageDied)
    assert (died.message.task, died.message.ticket) == (TaskRef("j", 0, Kind.MAP, 3), 1)
    assert "came back" in died.reason
    one.inbox.stays(Delivered, 21)


def test_tasks_of_one_message_come_together_and_count_as_one_until_all_are_settled(
    brokers: BrokerFactory,
) -> None:
    one = brokers.connect()
    one.broker.set_credit(Kind.MAP, 1)
    tasks = [message(i) for i in range(3)]
    one.broker.publish(tasks, together=True)
    one.broker.publish([message(3)])
    came = one.inbox.wait(Delivered, 3)
    assert [d.message for d in came] == tasks
    assert len({d.delivery for d in came}) == 3
    assert len({d.group for d in came}) == 1
    assert came[0].group
    for delivered in came:
        one.inbox.stays(Delivered, 3)
        one.broker.ack(delivered.delivery)
    last = one.inbox.wait(Delivered, 4)[-1]
    assert (last.message, last.group) == (message(3), 0)


def test_one_of_several_tasks_is_given_back_by_itself(brokers: BrokerFactory) -> None:
    one, two = brokers.connect(), brokers.connect()
    one.broker.set_credit(Kind.MAP, 1)
    one.broker.publish([message(i) for i in range(3)], together=True)
    first, second, third = one.inbox.wait(Delivered, 3)
    one.broker.set_credit(Kind.MAP, 0)
    two.broker.set_credit(Kind.MAP, 5)
    one.broker.give_back(second.delivery)
    (again,) = two.inbox.wait(Delivered)
    assert (again.message, again.group) == (message(1), 0)
    with pytest.raises(InternalError):
        one.broker.ack(second.delivery)
    one.broker.ack(first.delivery)
    one.broker.ack(third.delivery)
    one.broker.close()
    two.inbox.stays(Delivered, 1)


def test_a_message_of_several_tasks_comes_back_whole(brokers: BrokerFactory) -> None:
    """What was settled of it comes, too: its claim is answered as any copy's."""
    one, two = brokers.connect(), brokers.connect()
    one.broker.set_credit(Kind.MAP, 1)
    one.broker.publish([message(i) for i in range(3)], together=True)
    one.broker.ack(one.inbox.wait(Delivered, 3)[0].delivery)
    two.broker.set_credit(Kind.MAP, 1)
    brokers.lose(one)
    again = two.inbox.wait(Delivered, 3)
    assert [d.message.task.index for d in again] == [0, 1, 2]
    assert all(d.redelivered for d in again)


def test_a_message_of_several_tasks_that_keeps_coming_back_dies_task_by_task(
    brokers: BrokerFactory,
) -> None:
    leader = brokers.connect()
    leader.broker.publish([message(i) for i in range(2)], together=True)
    for _ in range(21):
        worker = brokers.connect()
        worker.broker.set_credit(Kind.MAP, 1)
        worker.inbox.wait(Delivered, 2)
        worker.broker.attach()
        worker.broker.close()
    died = leader.inbox.wait(MessageDied, 2)
    assert [d.message for d in died] == [message(0), message(1)]
    assert all("came back" in d.reason for d in died)
