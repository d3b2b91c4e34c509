"""The agent's rules as event scripts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mrq.core import agent_words as a
from mrq.core.agent import Agent
from mrq.core.model import Needs, Outcome, Slots, Status, TaskMessage, WorkerHealth
from mrq.core.orders import Drain, DropJob, Kill, Numbered, Offer, Release, UploadLog
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_api import Answer, BeatReply, ClaimAnswer, ReportAnswer

DONE = Outcome(status=Status.DONE)


def message(index: int = 0, kind: Kind = Kind.MAP, job: str = "j") -> TaskMessage:
    return TaskMessage(task=TaskRef(job, 0, kind, index), ticket=1)


class Script:
    """An agent with 2 map and 1 reduce slots that has had its first beat answered."""

    def __init__(self, *, slots: Slots | None = None, hello: bool = True, **config: Any) -> None:
        slots = slots or Slots(map=2, reduce=1, total=3)
        self.agent = Agent(a.AgentConfig(worker="w", boot="b", slots=slots, **config))
        self.now = 100.0
        self.beats: list[Any] = []
        self.out: list[Any] = []
        self.delivered = 0
        self.answered = True
        self.orders: tuple[Numbered, ...] = ()
        self.health = WorkerHealth.ALIVE
        self.dead: set[str] = set()
        if hello:
            self.do(a.Ticked())
            self.out.clear()

    def do(self, event: Any) -> list[Any]:
        """Hand over one event; beats are answered at once while `answered`."""
        out = list(self.agent.handle(event, self.now))
        for command in list(out):
            if isinstance(command, a.SendBeat):
                self.beats.append(command.beat)
                if self.answered:
                    live = {x.attempt.token for x in command.beat.running} - self.dead
                    reply = BeatReply(
                        orders=self.orders,
                        health=self.health,
                        live=frozenset(live),
                        store_id="s",
                        incarnation=1,
                    )
                    out += self.do(a.BeatAnswered(seq=command.beat.seq, reply=reply))
        self.out += [x for x in out if x not in self.out]
        return out

    def wait(self, seconds: float) -> list[Any]:
        """Let time pass, ticking when wanted."""
        end, out = self.now + seconds, []
        while (due := max(self.agent.next_tick(), self.now + 0.001)) <= end:
            self.now = due
            out += self.do(a.Ticked())
        self.now = end
        return out

    def deliver(self, *args: Any, **kwargs: Any) -> tuple[int, str, list[Any]]:
        """(delivery, token, commands)"""
        self.delivered += 1
        again = kwargs.pop("redelivered", False)
        out = self.do(
            a.Delivered(delivery=self.delivered, message=message(*args, **kwargs), redelivered=again)
        )
        claims = [x.request.token for x in out if isinstance(x, a.Claim)]
        return self.delivered, claims[0] if claims else "", out

    def deliver_together(self, indexes: range) -> tuple[list[int], list[str], list[Any]]:
        """The tasks of one message: (deliveries, tokens, commands)"""
        group = self.delivered + 1
        self.delivered += len(indexes)
        deliveries = list(range(group, self.delivered + 1))
        events = [
            a.Delivered(delivery=delivery, message=message(index), group=group)
            for delivery, index in zip(deliveries, indexes, strict=True)
        ]
        out = self.agent.handle_all(events, self.now)
        self.out += out
        return deliveries, [x.request.token for x in out if isinstance(x, a.Claim)], out

    def started_together(self, indexes: range) -> tuple[list[int], list[str]]:
        """The tasks of one message, all of which are with executors."""
        deliveries, tokens, _ = self.deliver_together(indexes)
        out = [x for token in tokens for x in self.answer(token, Answer.NEW)]
        assert [x.attempt.token for x in of(a.Start, out)] == tokens
        return deliveries, tokens

    def answer(self, token: str, answer: Answer, of: str | None = None, seq: int | None = None) -> list[Any]:
        attempt = AttemptRef(TaskRef("j", 0, Kind.MAP, 0), 1, 1, of or token)
        return self.do(
            a.ClaimAnswered(token=token, answer=ClaimAnswer(answer=answer, attempt=attempt, beat_seq=seq))
        )

    def started(self, index: int = 0) -> tuple[int, str]:
        """A delivery that runs."""
        delivery, token, _ = self.deliver(index)
        out = self.answer(token, Answer.NEW)
        assert [type(x) for x in out if isinstance(x, a.Start)] == [a.Start]
        return delivery, token

    def listed(self) -> set[str]:
        """What the next beat lists."""
        before = len(self.beats)
        self.wait(1.1)
        assert len(self.beats) > before
        return {x.attempt.token for x in self.beats[-1].running}


def of(kind: type, out: list[Any]) -> list[Any]:
    return [x for x in out if isinstance(x, kind)]


def test_nothing_is_claimed_before_a_beat_was_answered() -> None:
    s = Script(hello=False)
    s.answered = False
    assert of(a.SendBeat, s.do(a.Ticked()))
    assert of(a.Claim, s.deliver()[2]) == []
    reply = BeatReply(orders=(), health=WorkerHealth.ALIVE, live=frozenset(), store_id="s", incarnation=1)
    assert len(of(a.Claim, s.do(a.BeatAnswered(seq=1, reply=reply)))) == 1


def test_a_delivery_is_claimed_run_reported_and_only_then_acked() -> None:
    s = Script()
    delivery, token = s.started()
    assert of(a.Ack, s.out) == []
    (report,) = of(a.Report, s.do(a.AttemptEnded(token=token, outcome=DONE)))
    assert report.report.outcome == DONE
    assert of(a.Ack, s.out) == []
    assert of(a.Ack, s.do(a.ReportAnswered(token=token, answer=ReportAnswer.RECORDED))) == [
        a.Ack(delivery=delivery)
    ]


def test_a_token_is_listed_from_its_claim_until_its_report_was_answered() -> None:
    s = Script()
    _, token, _ = s.deliver()
    assert s.listed() == {token}
    s.answer(token, Answer.NEW)
    assert s.listed() == {token}
    s.do(a.AttemptEnded(token=token, outcome=DONE))
    assert s.listed() == {token}
    s.do(a.ReportAnswered(token=token, answer=ReportAnswer.ALREADY))
    assert s.listed() == set()


@pytest.mark.parametrize("answer", [Answer.OBSOLETE, Answer.DUPLICATE])
def test_what_the_store_needs_no_more_is_acked(answer: Answer) -> None:
    s = Script()
    delivery, token, _ = s.deliver()
    assert of(a.Ack, s.answer(token, answer)) == [a.Ack(delivery=delivery)]


def test_held_is_asked_again_after_a_beat_and_a_half_with_what_it_was_told() -> None:
    s = Script()
    s.wait(20)  # its links are old
    _, token, _ = s.deliver(redelivered=True)
    s.answer(token, Answer.HELD, of="other", seq=7)
    assert of(a.Claim, s.wait(1.4)) == []
    (again,) = of(a.Claim, s.wait(0.2))
    assert (again.request.token, again.request.held_beat_seq, again.request.held_token) == (
        token,
        7,
        "other",
    )


def test_held_waits_5_s_while_links_are_young() -> None:
    s = Script()
    _, token, _ = s.deliver(redelivered=True)
    s.answer(token, Answer.HELD, of="other", seq=7)
    assert of(a.Claim, s.wait(4.9)) == []
    assert len(of(a.Claim, s.wait(0.2))) == 1


def test_no_store_keeps_the_delivery_and_tops_the_credit_up() -> None:
    s = Script()
    _, token, _ = s.deliver()
    out = s.answer(token, Answer.NO_STORE)
    assert of(a.SetCredit, out) == [a.SetCredit(kind=Kind.MAP, credit=3)]
    assert of(a.Ack, out) + of(a.GiveBack, out) == []
    (again,) = of(a.Claim, s.wait(1.1))
    assert again.request.token == token


def test_a_failed_claim_is_repeated_under_the_same_token_and_listed_meanwhile() -> None:
    s = Script()
    _, token, _ = s.deliver()
    s.do(a.ClaimAnswered(token=token, answer=None))
    (again,) = of(a.Claim, s.wait(1.1))
    assert again.request.token == token
    assert token in s.listed()
    assert len(of(a.Start, s.answer(token, Answer.SAME))) == 1


def test_a_redelivery_to_the_same_boot_is_adopted() -> None:
    s = Script()
    _, token = s.started()
    s.do(a.BrokerLost())
    s.do(a.BrokerBack())
    delivery, second, _ = s.deliver()
    assert of(a.Start, s.answer(second, Answer.RESUME, of=token)) == []
    s.do(a.AttemptEnded(token=token, outcome=DONE))
    assert of(a.Ack, s.do(a.ReportAnswered(token=token, answer=ReportAnswer.RECORDED))) == [
        a.Ack(delivery=delivery)
    ]


def test_a_copy_of_what_runs_here_is_acked_at_once() -> None:
    """Kept beside the message that it has, it would hold a slot's credit for as long as the task runs."""
    s = Script()
    first, token = s.started()
    copy, second, _ = s.deliver()
    assert of(a.Ack, s.answer(second, Answer.RESUME, of=token)) == [a.Ack(delivery=copy)]
    s.do(a.AttemptEnded(token=token, outcome=DONE))
    assert of(a.Ack, s.do(a.ReportAnswered(token=token, answer=ReportAnswer.RECORDED))) == [
        a.Ack(delivery=first)
    ]


def test_a_copy_of_what_another_holds_is_acked_at_once() -> None:
    """Its holder has a message of its own, which comes again if it dies: nothing is taken from it because a
    beat of its is late."""
    s = Script()
    copy, token, _ = s.deliver()
    assert of(a.Ack, s.answer(token, Answer.HELD, of="other", seq=7)) == [a.Ack(delivery=copy)]
    assert of(a.Claim, s.wait(10)) == []


def test_a_resume_that_comes_after_its_report_is_acked_and_not_run_again() -> None:
    s = Script()
    _, token = s.started()
    delivery, second, _ = s.deliver()
    s.do(a.AttemptEnded(token=token, outcome=DONE))
    s.do(a.ReportAnswered(token=token, answer=ReportAnswer.RECORDED))
    out = s.answer(second, Answer.RESUME, of=token)
    assert of(a.Start, out) == []
    assert of(a.Ack, out) == [a.Ack(delivery=delivery)]


def test_a_lost_broker_does_not_stop_what_runs_and_settles_nothing_of_it() -> None:
    s = Script()
    _, token = s.started()
    assert of(Kill, s.do(a.BrokerLost())) == []
    s.do(a.AttemptEnded(token=token, outcome=DONE))
    out = s.do(a.ReportAnswered(token=token, answer=ReportAnswer.RECORDED))
    assert of(a.Ack, out) == []
    credits = of(a.SetCredit, s.do(a.BrokerBack()))
    assert {x.kind for x in credits if x.credit > 0} == {Kind.MAP, Kind.REDUCE}


def test_what_runs_without_a_delivery_takes_credit() -> None:
    s = Script()
    s.started()
    s.do(a.BrokerLost())
    assert a.SetCredit(kind=Kind.MAP, credit=1) in s.do(a.BrokerBack())


def test_a_kill_ends_in_a_report_like_any_other_end() -> None:
    s = Script()
    delivery, token = s.started()
    s.orders = (Numbered(number=1, order=Kill(token=token)),)
    assert of(Kill, s.wait(1.1)) == [Kill(token=token)]
    assert of(Kill, s.wait(3)) == []  # repeated orders, one kill
    (report,) = of(a.Report, s.do(a.AttemptEnded(token=token, outcome=Outcome(status=Status.LOST))))
    assert report.report.outcome.status is Status.SUPERSEDED
    assert of(a.Ack, s.do(a.ReportAnswered(token=token, answer=ReportAnswer.OBSOLETE))) == [
        a.Ack(delivery=delivery)
    ]
    assert s.beats[-1].acked_order == 1


def test_what_a_reply_does_not_call_live_is_killed() -> None:
    s = Script()
    _, token = s.started()
    s.dead.add(token)
    assert of(Kill, s.wait(1.1)) == [Kill(token=token)]


def test_a_claim_under_way_is_not_judged_by_a_beat() -> None:
    s = Script()
    _, token, _ = s.deliver()
    s.dead.add(token)  # the claim wasn't recorded yet when the beat was
    s.wait(1.1)
    s.dead.clear()
    assert len(of(a.Start, s.answer(token, Answer.NEW))) == 1


def test_no_answered_beat_for_10_s_no_claims_for_15_s_no_reports() -> None:
    s = Script()
    _, token = s.started()
    _, other = s.started(1)
    s.answered = False
    s.wait(9.0)
    assert of(a.Report, s.do(a.AttemptEnded(token=other, outcome=DONE)))
    s.wait(3.0)
    assert of(a.Claim, s.deliver(2)[2]) == []
    s.wait(5.0)
    assert of(a.Report, s.do(a.AttemptEnded(token=token, outcome=DONE))) == []
    s.answered = True
    out = s.do(a.BeatAnswered(seq=s.beats[-1].seq, reply=None)) + s.wait(1.1)
    assert token in {x.report.attempt.token for x in of(a.Report, out)}
    assert len(of(a.Claim, out)) == 1


def test_a_draining_worker_returns_once_what_it_did_not_claim_and_finishes_what_it_runs() -> None:
    s = Script()
    delivery, token = s.started()
    waiting, second, _ = s.deliver(1)
    s.answer(second, Answer.NO_STORE)
    out = s.do(a.LeaveRequested())
    assert of(a.GiveBack, out) == [a.GiveBack(delivery=waiting)]
    assert {x.credit for x in of(a.SetCredit, out)} == {0}
    late, _, out = s.deliver(2)
    assert of(a.GiveBack, out) == [a.GiveBack(delivery=late)]
    assert of(Kill, s.wait(30)) == []
    s.do(a.AttemptEnded(token=token, outcome=DONE))
    out = s.do(a.ReportAnswered(token=token, answer=ReportAnswer.RECORDED))
    assert out[-2:] == [a.Ack(delivery=delivery), a.Leave()]
    assert s.do(a.Ticked()) == []


def test_a_stop_kills_and_hands_back() -> None:
    s = Script()
    _, token = s.started()
    assert of(Kill, s.do(a.LeaveAtOnce(deadline=s.now + 5))) == [Kill(token=token)]
    (report,) = of(a.Report, s.do(a.AttemptEnded(token=token, outcome=Outcome(status=Status.LOST))))
    assert report.report.outcome.status is Status.HANDED_BACK
    assert of(a.Leave, s.do(a.ReportAnswered(token=token, answer=ReportAnswer.RECORDED)))


def test_a_stop_does_not_wait_beyond_its_deadline() -> None:
    s = Script()
    s.started()
    s.do(a.LeaveAtOnce(deadline=s.now + 5))
    assert of(a.Leave, s.wait(4.9)) == []
    assert of(a.Leave, s.wait(0.2))


def test_a_drain_becomes_a_stop_at_its_deadline_and_wants_no_tick_for_it_again() -> None:
    s = Script()
    _, token = s.started()
    s.do(a.LeaveRequested(deadline=s.now + 2))
    assert of(Kill, s.wait(1.9)) == []
    assert of(Kill, s.wait(0.2)) == [Kill(token=token)]
    assert s.agent.next_tick() > s.now


def test_an_offer_is_claimed_once_and_there_is_nothing_to_ack() -> None:
    s = Script()
    s.orders = (Numbered(number=1, order=Offer(message=message(4))),)
    (claim,) = of(a.Claim, s.wait(3.3))
    token = claim.request.token
    s.answer(token, Answer.NEW)
    s.do(a.AttemptEnded(token=token, outcome=DONE))
    out = s.do(a.ReportAnswered(token=token, answer=ReportAnswer.RECORDED))
    assert of(a.Ack, out) == []


def test_a_claim_says_whether_the_worker_has_what_the_task_needs() -> None:
    s = Script(hints={"memory_bytes": 2}, about={"packages": {"Foo.Bar": "1", "numpy": "2"}})
    told = []
    for needs in (
        Needs(memory_bytes=2, packages=(("bar", ("bar", "foo-bar")), ("numpy", ("numpy",)))),
        Needs(memory_bytes=3),
        Needs(packages=(("scipy", ("scipy",)),)),
    ):
        s.delivered += 1
        out = s.do(a.Delivered(delivery=s.delivered, message=replace(message(), needs=needs)))
        claim = of(a.Claim, out)[0].request
        told.append(claim.fits)
        s.answer(claim.token, Answer.OBSOLETE)
    assert told == [True, False, False]


def test_a_delivery_that_does_not_fit_is_kept_until_its_task_was_taken_back() -> None:
    s = Script(hints={"memory_bytes": 2})
    s.delivered += 1
    out = s.do(a.Delivered(delivery=1, message=replace(message(), needs=Needs(memory_bytes=3))))
    token = of(a.Claim, out)[0].request.token
    for _ in range(3):  # once a second, never back to the queue
        out = [*s.answer(token, Answer.DECLINED), *s.wait(1.0)]
        assert len(of(a.Claim, out)) == 1
        assert of(a.GiveBack, out) == []
    assert of(a.Ack, s.answer(token, Answer.OBSOLETE)) == [a.Ack(delivery=1)]


def test_an_offer_comes_before_what_the_queue_delivers() -> None:
    s = Script(slots=Slots(map=1, reduce=1, total=2))
    _, running = s.started(0)
    s.deliver(1)
    s.orders = (Numbered(number=1, order=Offer(message=message(7))),)
    s.do(a.Nudged())
    s.out.clear()
    s.do(a.AttemptEnded(token=running, outcome=DONE))
    s.do(a.ReportAnswered(token=running, answer=ReportAnswer.RECORDED))
    assert [x.request.message.task.index for x in of(a.Claim, s.out)] == [7, 1]


def test_an_offer_without_room_keeps_no_delivery_back_and_goes_when_its_leader_has_looked_again() -> None:
    s = Script(slots=Slots(map=1, reduce=1, total=2))
    s.started(0)
    s.orders = (Numbered(number=1, order=Offer(message=message(7))),)
    s.wait(1.1)
    delivery, _, _ = s.deliver(1)
    assert of(a.GiveBack, s.wait(2.0)) == [a.GiveBack(delivery=delivery)]
    assert len(s.agent._items) == 2
    s.wait(14.0)
    assert len(s.agent._items) == 1


def test_a_dropped_job_is_killed_before_its_files_go() -> None:
    s = Script()
    _, token = s.started()
    s.orders = (Numbered(number=1, order=DropJob(job="j")),)
    out = [x for x in s.wait(1.1) if isinstance(x, (Kill, DropJob))]
    assert out == [Kill(token=token), DropJob(job="j")]


def test_a_drain_order_drains() -> None:
    s = Script()
    s.orders = (Numbered(number=1, order=Drain()),)
    assert of(a.Leave, s.wait(1.1)) == [a.Leave()]


@pytest.mark.parametrize("health", [WorkerHealth.QUARANTINED, WorkerHealth.DRAINING, WorkerHealth.DEAD])
def test_a_worker_that_is_shut_out_takes_nothing_until_it_is_let_in(health: WorkerHealth) -> None:
    s = Script()
    s.health = health
    assert {x.credit for x in of(a.SetCredit, s.wait(1.1))} == {0}
    s.health = WorkerHealth.ALIVE
    assert {x.credit for x in of(a.SetCredit, s.wait(1.1))} == {1, 2}


def test_slots_by_kind_and_in_all() -> None:
    s = Script(slots=Slots(map=2, reduce=2, total=2))
    s.started(0)
    _, token = s.started(1)
    assert of(a.Claim, s.deliver(0, Kind.REDUCE)[2]) == []
    s.do(a.AttemptEnded(token=token, outcome=DONE))
    assert len(of(a.Claim, s.out)) == 3


@pytest.mark.parametrize(("seconds", "credit"), [(0.01, 4), (0.5, 4), (2.0, 2)])
def test_short_tasks_get_more_credit(seconds: float, credit: int) -> None:
    s = Script()
    _, token = s.started()
    s.now += seconds
    s.do(a.AttemptEnded(token=token, outcome=DONE))
    s.do(a.ReportAnswered(token=token, answer=ReportAnswer.RECORDED))
    given = [x.credit for x in s.out if isinstance(x, a.SetCredit) and x.kind is Kind.MAP]
    assert (given[-1] if given else 2) == credit


def after_a_short_map(seconds: float = 0.001) -> Script:
    """An agent with one map slot that has just seen a map of that length."""
    s = Script(slots=Slots(map=1, reduce=1, total=2))
    _, token = s.started()
    s.do(a.AttemptStarted(token=token))
    s.now += seconds
    s.do(a.AttemptEnded(token=token, outcome=DONE))
    s.do(a.ReportAnswered(token=token, answer=ReportAnswer.RECORDED))
    return s


def test_work_claimed_ahead_of_a_long_task_is_handed_back_unstarted() -> None:
    s = after_a_short_map(0.1)
    s.started(1)
    _, behind, _ = s.deliver(2)
    assert of(a.Start, s.answer(behind, Answer.NEW)) == []
    (report,) = of(a.Report, s.wait(6))
    outcome = report.report.outcome
    assert (report.report.attempt.token, outcome.status, outcome.started) == (
        behind,
        Status.HANDED_BACK,
        False,
    )


def test_short_maps_of_one_message_are_claimed_together_and_started_behind_one_another() -> None:
    s = after_a_short_map()
    _, tokens = s.started_together(range(1, 9))
    assert len(tokens) == 8
    _, more, _ = s.deliver_together(range(9, 17))
    assert len(more) == 8, "a second message is ahead of the slot"
    deliveries, none, _ = s.deliver_together(range(17, 25))
    assert none == [], "a third isn't"
    assert of(a.GiveBack, s.wait(1.2)) == [a.GiveBack(delivery=delivery) for delivery in deliveries]


def test_tasks_of_a_new_job_come_a_message_at_a_time() -> None:
    """How long they take isn't known here, but to the leader: together they are soon done."""
    s = Script(slots=Slots(map=1, reduce=1, total=2))
    s.started_together(range(8))
    assert s.deliver_together(range(8, 16))[1] == []


def test_each_task_of_a_message_is_reported_and_acked_by_itself() -> None:
    s = after_a_short_map()
    deliveries, tokens = s.started_together(range(1, 4))
    for delivery, token in zip(deliveries, tokens, strict=True):
        s.do(a.AttemptStarted(token=token))
        (report,) = of(a.Report, s.do(a.AttemptEnded(token=token, outcome=DONE)))
        assert report.report.attempt.token == token
        out = s.do(a.ReportAnswered(token=token, answer=ReportAnswer.RECORDED))
        assert of(a.Ack, out) == [a.Ack(delivery=delivery)]


def test_each_task_of_a_message_is_declined_by_itself() -> None:
    s = after_a_short_map()
    deliveries, (one, two), _ = s.deliver_together(range(1, 3))
    assert of(a.Start, s.answer(one, Answer.NEW))
    assert of(a.Ack, s.answer(two, Answer.DUPLICATE)) == [a.Ack(delivery=deliveries[1])]
    assert s.listed() == {one}


def test_credit_counts_messages() -> None:
    s = after_a_short_map()
    _, tokens = s.started_together(range(1, 9))
    s.do(a.BrokerLost())
    assert a.SetCredit(kind=Kind.MAP, credit=1) in s.do(a.BrokerBack()), "eight without one: a message"
    for token in tokens:
        out = ends(s, token)
        assert of(a.SetCredit, out) == ([a.SetCredit(kind=Kind.MAP, credit=2)] if token is tokens[-1] else [])
    assert (s.agent._held, s.agent._bare) == (dict.fromkeys(Kind, 0), dict.fromkeys(Kind, 0))


def test_maps_that_share_no_message_reduces_and_maps_of_another_job_wait_for_a_slot() -> None:
    s = after_a_short_map()
    s.started(1)
    _, single, _ = s.deliver(2)
    assert of(a.Start, s.answer(single, Answer.NEW)) == []
    _, reduce, _ = s.deliver(0, Kind.REDUCE)
    assert len(of(a.Start, s.answer(reduce, Answer.NEW))) == 1


def test_what_waits_behind_a_map_that_turned_out_long_goes_back_uncharged_within_the_bound() -> None:
    """One of 60 s among eight: the others are handed back, and the leader has slots for them elsewhere."""
    s = after_a_short_map()
    _, (long, *behind) = s.started_together(range(1, 9))
    s.do(a.AttemptStarted(token=long))
    assert of(Kill, s.wait(4.9)) == []
    assert of(Kill, s.wait(0.2)) == [Kill(token=token) for token in behind]
    ended = Outcome(status=Status.SUPERSEDED, started=False)
    for token in behind:
        (report,) = of(a.Report, s.do(a.AttemptEnded(token=token, outcome=ended)))
        assert (report.report.outcome.status, report.report.outcome.started) == (Status.HANDED_BACK, False)
    assert of(Kill, s.wait(60)) == []
    (report,) = of(a.Report, s.do(a.AttemptEnded(token=long, outcome=DONE)))
    assert report.report.outcome.status is Status.DONE


def test_what_starts_slowly_is_behind_nothing() -> None:
    """A new executor, or a reduce that fetches, may take longer than what waits behind others may."""
    s = after_a_short_map()
    s.started_together(range(1, 2))
    assert of(Kill, s.wait(30)) == []


def test_a_drain_hands_back_what_has_not_begun_and_finishes_the_rest() -> None:
    s = after_a_short_map()
    _, (runs, behind) = s.started_together(range(1, 3))
    s.do(a.AttemptStarted(token=runs))
    assert of(Kill, s.do(a.LeaveRequested())) == [Kill(token=behind)]


def test_a_nudge_beats_at_once_one_beat_at_a_time() -> None:
    s = Script()
    s.answered = False
    assert len(of(a.SendBeat, s.do(a.Nudged()))) == 1
    assert of(a.SendBeat, s.do(a.Nudged())) == []
    assert len(of(a.SendBeat, s.do(a.BeatAnswered(seq=s.beats[-1].seq, reply=None)))) == 1


def test_a_full_disk_takes_no_maps_and_returns_once_what_it_did_not_claim() -> None:
    s = Script()
    _, token = s.started()
    waiting, second, _ = s.deliver(1)
    s.answer(second, Answer.NO_STORE)
    out = s.do(a.DiskChanged(full=True))
    assert of(a.GiveBack, out) == [a.GiveBack(delivery=waiting)]
    assert of(a.SetCredit, out) == [a.SetCredit(kind=Kind.MAP, credit=0)]
    assert of(Kill, out) == []
    late, _, out = s.deliver(2)
    assert of(a.GiveBack, out) == [a.GiveBack(delivery=late)]
    s.orders = (Numbered(number=1, order=Offer(message=message(4))),)
    assert of(a.Claim, s.wait(3)) == []
    assert of(a.Claim, s.deliver(0, Kind.REDUCE)[2]), "reduces give room back"
    out = s.do(a.DiskChanged(full=False))
    assert [x.kind for x in of(a.SetCredit, out)] == [Kind.MAP]
    assert token in s.listed()


def test_a_claim_under_way_when_the_disk_filled_up_is_answered() -> None:
    s = Script()
    delivery, token, _ = s.deliver()
    assert of(a.GiveBack, s.do(a.DiskChanged(full=True))) == []
    s.do(a.ClaimAnswered(token=token, answer=None))
    (claim,) = of(a.Claim, s.wait(1.1))
    assert claim.request.token == token, "it may be ours already"
    assert of(a.Ack, s.answer(token, Answer.OBSOLETE)) == [a.Ack(delivery=delivery)]


def test_a_drain_serves_what_others_may_need_for_a_while() -> None:
    s = Script()
    s.do(a.ServingChanged(serving=True))
    s.orders = (Numbered(number=1, order=Drain()),)
    assert of(a.Leave, s.wait(25)) == []
    assert s.beats[-1].draining
    assert of(a.Leave, s.do(a.ServingChanged(serving=False))) == [a.Leave()]


@pytest.mark.parametrize("deadline_s", [None, 10.0, 100.0])
def test_serving_ends_at_the_drains_deadline_or_its_own(deadline_s: float | None) -> None:
    s = Script()
    s.do(a.ServingChanged(serving=True))
    s.do(a.LeaveRequested(deadline=None if deadline_s is None else s.now + deadline_s))
    until = min(30.0, deadline_s or 30.0)
    assert of(a.Leave, s.wait(until - 0.1)) == []
    assert of(a.Leave, s.wait(0.2)) == [a.Leave()]


def test_a_boot_that_was_followed_by_a_newer_one_serves_nobody() -> None:
    s = Script()
    s.do(a.ServingChanged(serving=True))
    s.health, s.orders = WorkerHealth.DEAD, (Numbered(number=1, order=Drain()),)
    assert of(a.Leave, s.wait(1.1)) == [a.Leave()]


def test_serving_ends_when_the_leader_says_that_nothing_is_needed() -> None:
    s = Script()
    s.do(a.ServingChanged(serving=True))
    s.orders = (Numbered(number=1, order=Drain(reason="another version")),)
    assert of(a.Leave, s.wait(5)) == []
    assert s.agent.drain_reason == "another version"
    s.orders = (Numbered(number=2, order=Release()),)
    assert of(a.Leave, s.wait(1.1)) == [a.Leave()]


def test_a_long_task_is_handed_over_before_the_broker_takes_it_back() -> None:
    s = Script(handover_after_s=45.0)
    delivery, token = s.started()
    assert of(a.Ack, s.wait(44.9)) == []
    assert of(a.Ack, s.wait(0.2)) == [a.Ack(delivery=delivery)]
    assert s.listed() == {token}
    s.do(a.AttemptEnded(token=token, outcome=DONE))
    assert of(a.Ack, s.do(a.ReportAnswered(token=token, answer=ReportAnswer.RECORDED))) == []


def test_what_is_kept_unclaimed_for_so_long_goes_back() -> None:
    s = Script(handover_after_s=45.0)
    delivery, token, _ = s.deliver()
    for _ in range(50):
        s.answer(token, Answer.DECLINED)
        s.wait(0.99)
    assert a.GiveBack(delivery=delivery) in s.out
    assert token not in s.listed()


def test_a_worker_with_an_address_asks_for_no_deliveries_before_it_was_let_in() -> None:
    s = Script(hello=False, address="h:1")
    s.health = WorkerHealth.JOINING
    s.do(a.Ticked())
    assert {x.credit for x in of(a.SetCredit, s.out)} == {0}
    s.health = WorkerHealth.ALIVE
    assert {x.credit for x in of(a.SetCredit, s.wait(1.1))} == {1, 2}


def test_a_log_is_uploaded_on_order_once() -> None:
    s = Script()
    s.orders = (Numbered(number=1, order=UploadLog(job="j", log="m-00000.1.1.t")),)
    assert of(UploadLog, s.wait(3.3)) == [UploadLog(job="j", log="m-00000.1.1.t")]


def test_what_a_worker_says_about_itself_is_in_its_beats_until_one_was_answered() -> None:
    s = Script(hello=False, about={"version": "1"})
    s.answered = False
    s.do(a.Ticked())
    s.do(a.BeatAnswered(seq=1, reply=None))
    s.answered = True
    s.wait(2.2)
    assert [beat.about for beat in s.beats[:3]] == [{"version": "1"}, {"version": "1"}, {}]
    s.do(a.AboutChanged(about={"version": "1", "disk": 2}))
    s.wait(2.2)
    assert [beat.about for beat in s.beats[-2:]] == [{"version": "1", "disk": 2}, {}]


def test_what_a_worker_says_about_itself_is_said_again_to_a_leader_that_missed_it() -> None:
    # Seed 6380: the store had it, the leader hadn't, and waited for ever for a worker whose disk was full.
    s = Script(hello=False, about={"full": ""}, about_again_beats=4)
    s.do(a.Ticked())
    s.do(a.AboutChanged(about={"full": "no room"}))
    s.wait(8.2)
    told = [(beat.seq, beat.about["full"]) for beat in s.beats if beat.about]
    assert told == [(1, ""), (2, "no room"), (4, "no room"), (8, "no room")]


def test_events_that_came_together_are_decided_together() -> None:
    """Claims stand together, so do reports, whatever lies between them; nothing is decided otherwise."""
    one, many = Script(), Script()
    for script in (one, many):
        script.do(a.Ticked())
    messages = [message(index) for index in range(2)]
    arrived = [a.Delivered(delivery=i, message=m) for i, m in enumerate(messages, 90)]
    single = [command for event in arrived for command in one.do(event)]
    together = many.agent.handle_all(arrived, many.now)
    assert of(a.Claim, single) == of(a.Claim, together)
    assert one.agent.tokens == many.agent.tokens


def test_short_tasks_of_one_job_say_nothing_of_another() -> None:
    """A long task of a new job isn't claimed ahead, and what was delivered ahead goes back to others."""
    s = Script(slots=Slots(map=1, reduce=1, total=1))
    for index in range(3):  # so short that many are taken ahead
        _, token = s.started(index)
        s.do(a.AttemptEnded(token=token, outcome=DONE))
        s.do(a.ReportAnswered(token=token, answer=ReportAnswer.RECORDED))
    assert max(x.credit for x in of(a.SetCredit, s.out) if x.kind is Kind.MAP) == 2
    claimed = [s.deliver(index, job="other") for index in range(3)]
    assert [bool(token) for _, token, _ in claimed] == [True, False, False]
    s.answer(claimed[0][1], Answer.NEW)
    assert [x.credit for x in of(a.SetCredit, s.out) if x.kind is Kind.MAP][-1] == 1
    out = s.wait(1.5)
    assert of(a.GiveBack, out) == [a.GiveBack(delivery=claimed[i][0]) for i in (1, 2)]
    assert of(a.GiveBack, s.wait(5)) == []


def test_a_map_isnt_claimed_ahead_of_a_reduce_that_holds_the_only_slot() -> None:
    """The reduce may wait for this very map, and the leader takes back nothing while a map is claimed."""
    s = Script(slots=Slots(map=1, reduce=1, total=1))
    _, token = s.started()
    s.do(a.AttemptEnded(token=token, outcome=DONE))  # so short that others are claimed ahead
    s.do(a.ReportAnswered(token=token, answer=ReportAnswer.RECORDED))
    _, reduce, _ = s.deliver(0, Kind.REDUCE)
    s.answer(reduce, Answer.NEW)
    delivery, claimed, _ = s.deliver(1)
    assert not claimed
    assert a.GiveBack(delivery=delivery) in s.wait(1.5)
    s.do(a.AttemptEnded(token=reduce, outcome=DONE))
    assert s.deliver(1)[1]


def alone(index: int = 7) -> Numbered:
    return Numbered(number=1, order=Offer(message=replace(message(index), alone=True)))


def ends(s: Script, token: str) -> list[Any]:
    out = s.do(a.AttemptEnded(token=token, outcome=DONE))
    return [*out, *s.do(a.ReportAnswered(token=token, answer=ReportAnswer.RECORDED))]


def test_what_is_to_run_alone_waits_for_what_runs_and_nothing_new_comes_in() -> None:
    s = Script()
    _, running = s.started(0)
    s.orders = (alone(),)
    out = s.wait(1.1)
    assert of(a.Claim, out) == []
    assert {x.credit for x in of(a.SetCredit, out)} == {0}
    delivery, _, out = s.deliver(1)  # it was on its way
    assert of(a.GiveBack, out) == [a.GiveBack(delivery=delivery)]
    out = s.do(a.AttemptEnded(token=running, outcome=DONE))
    assert of(a.Claim, out) == [], "its report isn't answered yet"
    (claim,) = of(a.Claim, s.do(a.ReportAnswered(token=running, answer=ReportAnswer.RECORDED)))
    assert claim.request.message.task.index == 7
    token = claim.request.token
    assert of(a.Start, s.answer(token, Answer.NEW))
    delivery, _, out = s.deliver(2)
    assert of(a.GiveBack, out) == [a.GiveBack(delivery=delivery)]
    assert not of(a.SetCredit, s.wait(20.0)), "however long it takes"
    out = ends(s, token)
    assert all(x.credit > 0 for x in of(a.SetCredit, out))
    assert len(of(a.SetCredit, out)) == 2
    assert of(a.Claim, s.deliver(3)[2])


def test_unclaimed_deliveries_and_offers_go_back_once_for_what_is_to_run_alone() -> None:
    s = Script(slots=Slots(map=1, reduce=1, total=2))
    s.started(0)
    delivery, _, _ = s.deliver(1)
    s.orders = (Numbered(number=1, order=Offer(message=message(5))), replace(alone(), number=2))
    out = s.wait(1.1)
    assert of(a.GiveBack, out) == [a.GiveBack(delivery=delivery)]
    assert [item.message.task.index for item in s.agent._items.values()] == [0, 7]


def test_a_claim_that_may_be_recorded_is_settled_before_anything_runs_alone() -> None:
    s = Script()
    _, token, _ = s.deliver(0)
    s.do(a.ClaimAnswered(token=token, answer=None))
    s.orders = (alone(),)
    claims = of(a.Claim, s.wait(2.3))
    assert {x.request.message.task.index for x in claims} == {0}
    s.answer(token, Answer.SAME)
    assert {x.request.message.task.index for x in of(a.Claim, ends(s, token))} == {7}


def test_an_offer_to_run_alone_that_its_leader_doesnt_renew_holds_nobody_up() -> None:
    s = Script()
    _, running = s.started(0)
    s.orders = (alone(),)
    s.wait(1.1)
    s.orders = ()
    out = s.wait(16.0)
    assert all(x.credit > 0 for x in of(a.SetCredit, out))
    assert of(a.Claim, s.deliver(1)[2])
    ends(s, running)


def test_two_that_are_to_run_alone_do_so_one_after_the_other() -> None:
    s = Script()
    s.orders = (alone(7), replace(alone(8), number=2))
    (first,) = of(a.Claim, s.wait(1.1))
    s.answer(first.request.token, Answer.NEW)
    (second,) = of(a.Claim, ends(s, first.request.token))
    assert [x.request.message.task.index for x in (first, second)] == [7, 8]


def test_a_draining_worker_takes_nothing_to_run_alone() -> None:
    s = Script()
    s.do(a.LeaveRequested())
    s.orders = (alone(),)
    assert of(a.Claim, s.wait(3.0)) == []
    assert not s.agent._items


def test_what_runs_alone_says_in_its_beats_which_record_is_at_hand() -> None:
    s = Script()
    s.orders = (alone(),)
    (claim,) = of(a.Claim, s.wait(1.1))
    token = claim.request.token
    s.answer(token, Answer.NEW)
    s.do(a.AttemptStarted(token=token))
    s.do(a.AttemptProgressed(token=token, fraction=0.5, phase="mapping", records=3, bytes=9, at="'x'"))
    s.wait(1.1)
    assert [x.at for x in s.beats[-1].running] == ["'x'"]
