"""The master's loop and a store that is away, behind, wiped, or another's: step by step, on the twins."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from machine_script import spec
from twins import Store as TwinStore

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.backoff import Retry
from mrq.core.machine import Machine, MachineConfig
from mrq.core.model import (
    Beat,
    JobSpec,
    JobState,
    Outcome,
    RunningAttempt,
    Slots,
    Status,
    TaskMessage,
    TaskResult,
    TaskState,
)
from mrq.core.orders import Drain, Numbered
from mrq.core.refs import AttemptRef, Kind
from mrq.core.store_api import Answer, AttemptReported, Batch, ClaimRequest, Fence, WriteAnswer
from mrq.errors import OperatorError
from mrq.master.loop import Master
from mrq.master.outbox import SEND_AGAIN, Outbox, found_in
from mrq.servers.memory.queues import MemoryBroker, MemoryQueues

SLOTS = Slots(map=4, reduce=2, total=6)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class Store(TwinStore):
    """The twin, with a network between."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.lose_replies = 0
        self.lose_opens = 0
        self.batches: list[Batch] = []

    def write(self, batch: Batch) -> WriteAnswer:
        if self.away:
            raise OperatorError("the store can't be reached")
        self.batches.append(batch)
        answer = super().write(batch)
        if self.lose_replies:
            self.lose_replies -= 1
            raise OperatorError("the answer was lost")
        return answer

    def fence(self, job: str) -> Fence | None:
        if self.away:
            raise OperatorError("the store can't be reached")
        return super().fence(job)

    def open(self, incarnation: int, store_id: str = "") -> None:
        super().open(incarnation, store_id)
        if self.lose_opens:
            self.lose_opens -= 1
            raise OperatorError("the answer was lost")

    def rewind(self, job: str) -> None:
        """As a server that comes back without its last batch."""
        self._claims.jobs[job]["fence"][3] -= 1


class Leads:
    """What a master asks and tells; the rig has it."""

    def __init__(self, rig: Rig, owner: str) -> None:
        self.rig, self.owner = rig, owner

    def acting(self) -> bool:
        return self.rig.may

    def was_fenced(self) -> None:
        self.rig.fenced.append(self.owner)

    def dial(self, asked: c.DialWorker) -> None:
        self.rig.dialled.append(asked)

    def completed(self, spec: JobSpec, event: e.AttemptReported) -> None:
        """The store has it."""

    def commit(self, spec: JobSpec, command: c.StartCommit) -> None:
        self.rig.commits.append(spec.job)

    def ended(self, spec: JobSpec, state: JobState, error: str | None) -> None:
        self.rig.ends.append((spec.job, state, error))

    def stepped(self) -> None:
        """Nobody waits for steps."""


class Rig:
    """One worker's doings by hand, and masters one after the other."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = Store()
        self.broker = MemoryBroker(MemoryQueues())
        self.inbox: list[Any] = []
        self.ends: list[tuple[str, JobState, str | None]] = []
        self.commits: list[str] = []
        self.fenced: list[str] = []
        self.may = True
        self.dialled: list[c.DialWorker] = []
        self.seq = 0
        self.running: dict[str, RunningAttempt] = {}
        self.tokens = 0
        self.broker.attach(worker=self.inbox.append)
        self.broker.set_credit(Kind.MAP, 100)
        self.broker.set_credit(Kind.REDUCE, 100)
        self.lead(1)

    def lead(self, epoch: int) -> None:
        """A master of its own for this epoch, that takes over what is there."""
        owner = f"o{epoch}"
        machine = Machine(MachineConfig(), wall=0.0)
        self.master = Master(
            machine=machine,
            out=Outbox(machine, owner=owner, epoch=epoch, incarnation=1),
            state=self.store,
            leadership=Leads(self, owner),
            clock=self.clock,
        )
        master = self.master
        master._retry = Retry(SEND_AGAIN, dice=lambda: 1.0)  # the whole of each wait
        master._store, master._broker = self.store, self.broker
        self.store._followers[:] = [master.sink]
        assert self.store.lead(master.fence()) is WriteAnswer.WRITTEN
        master._machine.adopt_workers(self.store.workers(), self.clock.now)
        events: list[e.Event] = [e.Restored()]
        for job in self.store.jobs():
            found = self.store.job(job)
            assert found is not None
            assert self.store.begin(found, b"code", master.fence()) is WriteAnswer.WRITTEN
            stored = self.store.load(job)
            assert stored is not None
            master.adopt(stored.spec, master.fence(), b"code")
            assert master._machine.adopt(stored, self.clock.now)
            events += stored.recorded
        for event in events:
            master.sink(event)
        self.step()

    def step(self, seconds: float = 0.0) -> None:
        self.clock.now += seconds
        self.master._step()

    def beat(self, worker: str = "w", **more: Any) -> None:
        self.seq += 1
        lines = tuple(self.running.values())
        beat = Beat(worker=worker, boot="b", seq=self.seq, slots=SLOTS, running=lines, **more)
        self.reply = self.store.beat(beat)
        self.step()

    def messages(self) -> list[TaskMessage]:
        found = [event.message for event in self.inbox if hasattr(event, "message")]
        self.inbox.clear()
        return found

    def claim(self, message: TaskMessage) -> AttemptRef:
        self.tokens += 1
        token = f"t{self.tokens}"
        (answer,) = self.store.claim([ClaimRequest(message=message, worker="w", boot="b", token=token)])
        assert answer.answer is Answer.NEW, answer
        assert answer.attempt is not None
        self.running[token] = RunningAttempt(attempt=answer.attempt)
        self.step()
        return answer.attempt

    def done(self, message: TaskMessage, attempt: AttemptRef) -> None:
        result = TaskResult(
            records_in=1, bytes_in=1, records_out=1, bytes_out=1, digest=7 + message.task.index
        )
        outcome = Outcome(status=Status.DONE, result=result)
        request = AttemptReported(
            attempt=attempt,
            worker="w",
            boot="b",
            outcome=outcome,
        )
        self.running.pop(attempt.token, None)
        self.store.report([request])
        self.step()

    def submit(self, maps: int = 2) -> list[TaskMessage]:
        self.beat()
        self.master.submit(spec(maps=maps), b"code")
        self.step()
        return [m for m in self.messages() if m.task.kind is Kind.MAP]

    def states(self) -> list[TaskState]:
        return [task.state for task in self.master._machine.tasks("j") if task.stage == "map"]


def test_a_store_that_is_away_gets_the_same_batch_again_and_nothing_is_published_before_its_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    r = Rig()
    r.beat()
    r.master.submit(spec(maps=2), b"code")
    r.store.away = True
    r.step()
    assert r.messages() == []
    r.beat()  # goes on deciding meanwhile
    r.step(0.5)
    assert r.messages() == []
    r.store.away = False
    r.step(0.5)
    assert sorted(m.task.index for m in r.messages()) == [0, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "the store can't be reached; trying again",
        "the store and the broker answer again",
    ]
    assert all(record.__dict__["epoch"] == 1 for record in caplog.records)


def test_a_batch_whose_answer_was_lost_is_sent_again_as_it_was_and_later_events_go_into_the_next() -> None:
    r = Rig()
    first, second = r.submit()
    r.claim(first)
    attempt = r.claim(second)
    r.store.lose_replies = 1
    r.store.batches.clear()
    r.done(second, attempt)
    r.step(0.1)  # too early for the next try
    (sent,) = [b for b in r.store.batches if b.job == "j"]
    r.step(0.3)
    again = [b for b in r.store.batches if b.job == "j"]
    assert again[0] == again[1] == sent
    assert r.store.fence("j") == again[-1].fence
    stored = r.store.load("j")
    assert stored is not None
    assert set(stored.records) >= {"m0", "m1"}


def test_a_leader_that_is_fenced_writes_and_publishes_nothing_more_and_says_so() -> None:
    r = Rig()
    messages = r.submit()
    old = r.master
    assert r.store.begin(spec(maps=2), b"code", Fence(incarnation=1, epoch=9, owner="x", seq=0)) is (
        WriteAnswer.WRITTEN
    )
    attempt = r.claim(messages[0])
    r.done(messages[0], attempt)
    assert r.fenced == ["o1"]
    assert old._stopping
    assert r.ends == []
    fence = r.store.fence("j")
    assert fence is not None
    assert fence.epoch == 9


def test_a_leader_that_only_reads_learns_that_it_was_fenced_within_a_second() -> None:
    r = Rig()
    r.submit()
    r.store.lead(Fence(incarnation=1, epoch=2, owner="x", seq=0))
    r.step(1.1)
    assert r.fenced == ["o1"]


def test_nothing_goes_out_while_the_lease_is_unsure() -> None:
    r = Rig()
    r.beat()
    r.may = False
    r.master.submit(spec(maps=2), b"code")
    r.store.batches.clear()
    r.step()
    r.step(2.0)
    assert r.store.batches == []
    assert r.messages() == []
    r.may = True
    r.step(0.5)
    assert len(r.messages()) >= 2


@pytest.mark.parametrize("initialised", [False, True])
def test_a_wiped_store_is_written_back_and_the_job_goes_on(initialised: bool) -> None:
    r = Rig()
    first, second = r.submit()
    attempt = r.claim(first)
    r.done(first, attempt)
    running = r.claim(second)
    r.store.wipe(initialised=initialised)
    assert not r.store.identity()[2]
    r.step(1.1)
    store_id, incarnation, ready = r.store.identity()
    assert ready
    assert store_id
    assert incarnation == 2
    stored = r.store.load("j")
    assert stored is not None
    assert set(stored.records) >= {"m0", "m1"}
    assert r.states() == [TaskState.COMPLETED, TaskState.QUEUED]
    position, entries = r.store.locations("j", 0)
    assert [(at.map_index, withdrawn) for at, withdrawn in entries] == [(0, False)]
    assert position == 1
    r.beat()
    assert r.reply is not None
    assert r.reply.live == frozenset()  # what ran has ended
    assert running.token not in r.reply.live
    r.running.clear()
    (again,) = [m for m in r.messages() if m.task.kind is Kind.MAP]
    assert (again.task.index, again.ticket) == (1, 2)
    r.done(again, r.claim(again))
    assert r.states() == [TaskState.COMPLETED] * 2


def test_a_store_that_came_back_without_its_last_batch_is_written_back() -> None:
    r = Rig()
    first, _ = r.submit()
    r.done(first, r.claim(first))
    r.store.rewind("j")
    r.step(1.1)
    fence = r.store.fence("j")
    assert fence is not None
    assert fence.incarnation == 2
    assert r.states() == [TaskState.COMPLETED, TaskState.QUEUED]
    assert r.ends == []


def test_a_restoring_leader_whose_store_goes_away_goes_on_where_it_was() -> None:
    r = Rig()
    r.submit()
    r.store.wipe()
    real, tries = r.store.restore, []

    def restore(stored: Any, code: bytes) -> WriteAnswer:
        tries.append(stored)
        answer = real(stored, code)
        if len(tries) == 1:
            raise OperatorError("the answer was lost")
        return answer

    r.store.restore = restore  # type: ignore[method-assign]
    r.step(1.1)
    r.step(1.0)
    assert tries[0] == tries[1]
    assert r.store.identity()[2]
    assert "j" in r.store.jobs()


def test_a_later_epoch_with_the_same_view_keeps_what_runs() -> None:
    r = Rig()
    first, second = r.submit()
    attempt = r.claim(first)
    r.master.lead_again(5)
    r.step()
    r.step()
    fence = r.store.fence("j")
    assert fence is not None
    assert (fence.incarnation, fence.epoch) == (1, 5)
    assert r.states() == [TaskState.RUNNING, TaskState.QUEUED]
    r.done(first, attempt)
    assert r.states() == [TaskState.COMPLETED, TaskState.QUEUED]
    assert second.ticket
    r.step(1.1)
    assert r.fenced == []


def test_a_batch_that_was_under_way_when_the_epoch_changed_is_applied_once() -> None:
    for applied in (True, False):
        r = Rig()
        first, _ = r.submit()
        attempt = r.claim(first)
        if applied:
            r.store.lose_replies = 1
        else:
            r.store.away = True
        r.done(first, attempt)
        r.store.away = False
        r.master.lead_again(5)
        r.step(1.0)
        r.step(1.0)
        _, entries = r.store.locations("j", 0)
        assert len(entries) == 1
        stored = r.store.load("j")
        assert stored is not None
        assert stored.fence.epoch == 5


@pytest.mark.parametrize("applied", [True, False])
def test_epochs_that_nothing_was_sent_under_are_no_loss(applied: bool) -> None:
    """The store answers questions and takes nothing as the leader comes back twice: found by seed 6550."""
    r = Rig()
    first, _ = r.submit()
    attempt = r.claim(first)
    r.store.lose_replies, r.store.away = (1, False) if applied else (0, True)
    r.done(first, attempt)
    r.store.away = False
    tried: list[int] = []

    def lead(fence: Fence) -> WriteAnswer:
        tried.append(fence.epoch)
        raise OperatorError("the store can't be reached")

    r.store.lead = lead  # type: ignore[method-assign]
    for epoch in (5, 6, 7):
        r.master.lead_again(epoch)
        r.step(0.1)
        r.step(2.0)
    assert tried == [5, 6, 7]
    del r.store.lead
    r.step(2.0)
    _, entries = r.store.locations("j", 0)
    assert len(entries) == 1
    fence = r.store.fence("j")
    assert fence is not None
    assert (fence.incarnation, fence.epoch) == (1, 7), "nothing was restored"
    assert r.states()[0] is TaskState.COMPLETED
    assert r.fenced == []


def test_an_open_whose_answer_was_lost_as_the_epoch_changed_is_no_loss() -> None:
    r = Rig()
    first, _ = r.submit()
    r.store.rewind("j")
    r.store.lose_opens = 1
    r.step(1.1)
    assert r.store.identity()[1] == 2
    r.master.lead_again(5)
    r.step(1.1)
    r.step(1.1)
    fence = r.store.fence("j")
    assert fence is not None
    assert (fence.incarnation, fence.epoch) == (2, 5)
    assert first.ticket == 1
    assert [m.ticket for m in r.messages() if m.task.index == 0] == [2]


def test_a_successor_of_a_leader_that_died_restoring_goes_on_above_its_fences() -> None:
    r = Rig()
    r.submit()
    r.store.lead(Fence(incarnation=2, epoch=3, owner="dead", seq=0))  # and no more than that
    assert found_in(r.store, r.store.identity()[1]) == (2, 3)
    assert found_in(TwinStore(), 0) == (1, 0)


def test_takeover_by_another_master_goes_on_from_the_records() -> None:
    r = Rig()
    first, second = r.submit(maps=3)[:2]
    r.done(first, r.claim(first))
    attempt = r.claim(second)
    r.lead(2)
    assert r.states() == [TaskState.COMPLETED, TaskState.RUNNING, TaskState.QUEUED]
    assert [m.task.index for m in r.messages() if m.task.kind is Kind.MAP] == [2]
    r.done(second, attempt)
    assert r.states()[1] is TaskState.COMPLETED


def test_a_joining_worker_is_dialled_even_without_any_job_and_its_health_is_written() -> None:
    r = Rig()
    r.beat(address="h:1")
    assert r.dialled == [c.DialWorker(worker="w", boot="b", address="h:1")]
    r.master.sink(e.WorkerDialled(worker="w", boot="b"))
    r.step()
    assert [each.beat.worker for each in r.store.workers() if each.health.value == "alive"] == ["w"]


def test_an_order_and_an_operators_word_go_out_without_any_job() -> None:
    r = Rig()
    r.beat()
    r.master.order("w", "b", Drain(reason="now"))
    r.step()
    r.beat()
    assert r.reply is not None
    assert r.reply.orders == (Numbered(number=1, order=Drain(reason="now")),)


def test_settle_returns_once_what_followed_is_persisted_and_fails_when_nobody_leads() -> None:
    r = Rig()
    r.submit()
    done: list[object] = []

    def ask() -> None:
        try:
            r.master.settle(e.CancelRequested(job="j"))
            done.append(r.store.load("j").state)  # type: ignore[union-attr]
        except OperatorError as exc:
            done.append(exc)

    for wanted in (JobState.CANCELLED, OperatorError):
        thread = threading.Thread(target=ask)
        thread.start()
        for _ in range(200):
            if done:
                break
            if wanted is JobState.CANCELLED:
                r.step()
            else:
                r.master.halt()
            thread.join(0.02)
        thread.join()
        (found,) = done
        done.clear()
        assert found is wanted or isinstance(found, OperatorError)


def test_what_is_known_of_a_job_travels_only_when_it_has_changed() -> None:
    r = Rig()
    first, second = r.submit()
    r.store.batches.clear()
    r.done(first, r.claim(first))
    r.done(second, r.claim(second))
    assert all(b.job_record is None for b in r.store.batches if b.job == "j")
    assert all(len(b.records) >= 1 for b in r.store.batches if b.job == "j" and b.writes)
