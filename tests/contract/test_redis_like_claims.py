"""The scripts against `core.claims`, difference by difference: the same calls, each perhaps several times,
give the same answers, the same events in the same order, and the same state."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import Any

import pytest
from contract_kit import SLOTS, spec
from hypothesis import given, settings
from lossy import Losses, lossy
from services import Redis
from store_calls import CALLS

from mrq.adapters.redis import Connection, RedisLeaderStore, RedisWorkerStore, connect
from mrq.adapters.redis.worker_events import decode
from mrq.core.commands import GiveOrder, WriteJob, WriteLocation, WriteTask, WriteWorker
from mrq.core.events import AttemptReported, WorkerLeft
from mrq.core.model import (
    Beat,
    JobState,
    MapLocation,
    Outcome,
    RunningAttempt,
    Status,
    TaskMessage,
    WorkerHealth,
)
from mrq.core.orders import Order
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_api import Answer, Batch, BeatReply, ClaimAnswer, ClaimRequest, Fence, StoredJob, Write
from mrq.core.store_rows import A_BOOT, A_WORKER, attempt_of, parse_task, task_key
from mrq.errors import OperatorError
from mrq.servers.memory.store import MemoryStore

FIRST = Fence(incarnation=1, epoch=1, owner="o", seq=0)
#: A store's method and its arguments.
Call = tuple[Any, ...]


def of(job: str, at: MapLocation) -> MapLocation:
    """A location as one of this job's, into whose stream it goes."""
    task = at.attempt.task._replace(job=job)
    return replace(at, attempt=at.attempt._replace(task=task))


class Calls:
    """Calls made of what was drawn, by what the twin has."""

    def __init__(self, memory: MemoryStore) -> None:
        self.memory = memory
        self.boots: dict[str, int] = {}
        self.issued: dict[tuple[str, str], int] = {}  #: the highest ticket of a task
        self.seqs: dict[tuple[str, str], int] = {}
        self.held: dict[str, tuple[int, str]] = {}  #: by token that asked: beat and holder of a HELD

    def tables(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = self.memory._claims.jobs.get(job, {"tasks": {}, "attempts": {}})
        return found

    def boot(self, worker: str, age: int) -> str:
        newest = self.boots.setdefault(worker, 1)
        if age < 0:
            newest = self.boots[worker] = newest + 1
        return f"b{newest - max(age, 0)}"

    def fence(self, job: str, step: int, epochs: int = 0) -> Fence:
        found = self.memory.fence(job) or FIRST
        return replace(found, seq=max(0, found.seq + step), epoch=found.epoch + epochs)

    def orders(self, sent: list[tuple[str, int, Order]]) -> tuple[GiveOrder, ...]:
        return tuple(
            GiveOrder(worker=worker, boot=self.boot(worker, age), order=order) for worker, age, order in sent
        )

    def rows(self, job: str, rows: list[Any]) -> list[Write]:
        """As the machine writes them: a new ticket is higher than all before it, and one that was ended, in
        this batch too, never comes again."""
        made: list[Write] = []
        written: dict[str, list[int]] = {}
        for (kind, index), primary, backup in rows:
            task = TaskRef(job, 0, kind, index)
            key = (job, task_key(task))
            tickets = list(written.get(key[1]) or self.tables(job)["tasks"].get(key[1], [0, 0]))
            for at, word in enumerate((primary, backup)):
                if word == "new":
                    tickets[at] = self.issued[key] = self.issued.get(key, 0) + 1
                elif word == "none":
                    tickets[at] = 0
            written[key[1]] = tickets
            made.append(WriteTask(task=task, primary=tickets[0], backup=tickets[1]))
        return made

    def beat(
        self,
        worker: str,
        age: int,
        step: int,
        listed: tuple[int, ...],
        acked: int,
        draining: bool,
        dialled: bool,
    ) -> Call:
        boot = self.boot(worker, age)
        seq = self.seqs[worker, boot] = max(0, self.seqs.get((worker, boot), 0) + step)
        beat = Beat(
            worker=worker,
            boot=boot,
            seq=seq,
            slots=SLOTS,
            running=tuple(self._lines(worker, boot, listed)),
            acked_order=acked,
            draining=draining,
            hints={"memory_bytes": 2**40},
            address="h:1" if dialled else "",
            about={"version": boot, "packages": {"numpy": "2"}} if seq == 1 else {},
        )
        return "beat", beat

    def _lines(self, worker: str, boot: str, listed: tuple[int, ...]) -> Iterator[RunningAttempt]:
        held = [
            (job, key, row)
            for job in self.memory.jobs()
            for key, row in self.tables(job)["attempts"].items()
            if (row[A_WORKER], row[A_BOOT]) == (worker, boot)
        ]
        for job, key, row in (held[at] for at in listed if at < len(held)):
            attempt = attempt_of(parse_task(job, key[:-1]), row)
            yield RunningAttempt(attempt=attempt, records=2**62 + 1)

    def claim(self, requests: list[Any]) -> Call:
        return "claim", [self._claim(*request) for request in requests]

    def _claim(
        self, message: TaskMessage, fits: bool, worker: str, age: int, token: str, again: bool, able: bool
    ) -> ClaimRequest:
        task = self.tables(message.task.job)["tasks"].get(task_key(message.task))
        if fits and task is not None:
            message = replace(message, ticket=task[message.ticket - 1])
        seq, holder = self.held.get(token, (None, None)) if again else (None, None)
        return ClaimRequest(
            message=message,
            worker=worker,
            boot=self.boot(worker, age),
            token=token,
            held_beat_seq=seq,
            held_token=holder,
            fits=able,
        )

    def report(
        self,
        which: int | None,
        job: str,
        attempt: AttemptRef,
        status: Status,
    ) -> Call:
        worker, boot = "w1", "b1"
        held = list(self.tables(job)["attempts"].items())
        if which is not None and held:
            key, row = held[which % len(held)]
            attempt = attempt_of(parse_task(job, key[:-1]), row)
            worker, boot = row[A_WORKER], row[A_BOOT]
        request = AttemptReported(
            attempt=attempt,
            worker=worker,
            boot=boot,
            outcome=Outcome(status=status),
        )
        return "report", [request]

    def write(
        self,
        job: str,
        step: int,
        epoch_step: int,
        rows: list[Any],
        state: JobState | None,
        locations: list[MapLocation],
        sent: list[Any],
        record: bytes | None,
    ) -> Call:
        writes = self.rows(job, rows)
        writes += [WriteLocation(location=of(job, at), withdrawn=at.map_index == 3) for at in locations]
        if state is not None:
            writes.append(
                WriteJob(job=job, state=state, error="ünfit \udcff" if state is JobState.FAILED else None)
            )
        batch = Batch(
            job=job,
            fence=self.fence(job, step, epoch_step - 1),
            writes=tuple(writes),
            orders=self.orders(sent),
            records=tuple(
                (task_key(TaskRef(job, 0, *row[0])), b"\xff\x00" + repr(row).encode()) for row in rows
            ),
            job_record=record,
        )
        return "write", batch

    def health(self, worker: str, age: int, health: WorkerHealth, step: int, sent: list[Any]) -> Call:
        write = WriteWorker(worker=worker, boot=self.boot(worker, age), health=health)
        return "write", Batch(job="", fence=self.fence("", step), writes=(write,), orders=self.orders(sent))

    def take(self, job: str, epochs: int, owner: str) -> Call:
        fence = replace(self.fence(job, 0, epochs), owner=owner)
        return ("begin", spec(job), b"code", fence) if job else ("lead", fence)

    def leave(self, worker: str, age: int) -> Call:
        return "leave", worker, self.boot(worker, age)

    def forget(self, job: str) -> Call:
        return "forget", job

    def restore(
        self, job: str, more: int, rows: list[Any], locations: list[MapLocation], record: bytes | None
    ) -> Call:
        fence = self.fence(job, 0)
        stored = StoredJob(
            spec=spec(job),
            fence=replace(fence, incarnation=fence.incarnation + more),
            state=JobState.RUNNING,
            error=None if record else "x",
            job_record=record,
            records={"m0": b"\x00", "r0": b""},
            recorded=(),
            writes=(*self.rows(job, rows), *(WriteLocation(location=of(job, at)) for at in locations)),
        )
        return "restore", stored, b"code"

    def open(self, incarnation: int) -> Call:
        return "open", incarnation


class Both:
    """The twin and the real one, to which the same is said."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.heard: list[Any] = []
        self.memory = MemoryStore(leader=self.heard.append)
        self.leader = RedisLeaderStore(connection, keep_s=0)
        self.worker = RedisWorkerStore(connection)
        self.calls = Calls(self.memory)
        self.leader.open(1)
        self.store_id = self.leader.identity()[0]
        self.same("lead", FIRST)
        for job in ("j", "k"):
            self.same("begin", spec(job), b"code", FIRST)
            rows = [((kind, index), "new", "new") for kind in Kind for index in (0, 1)]
            self.make(("write", job, 1, 1, rows, JobState.RUNNING, [], [], None), 1)
        for worker in ("w1", "w2", "w3"):
            self.make(("beat", worker, 0, 1, (), 0, False, False), 1)

    def make(self, drawn: tuple[Any, ...], times: int) -> None:
        """One call, so many times."""
        name, *parts = drawn
        method, *args = getattr(self.calls, name)(*parts)
        for _ in range(times):
            answer = self.same(method, *args)
            if method == "claim":
                for request, got in zip(args[0], answer, strict=True):
                    if got.answer is Answer.HELD:
                        self.calls.held[request.token] = (got.beat_seq, got.attempt.token)

    def same(self, method: str, *args: Any) -> Any:
        """The same call on both; what they answer is the same."""
        real = getattr(self.leader if hasattr(self.leader, method) else self.worker, method)(*args)
        expected = getattr(self.memory, method)(*args)
        if method == "beat" and real is not None:
            assert real.store_id == self.store_id
            real = replace(real, store_id="memory")
        assert real == expected, (method, args)
        return expected

    def compare(self) -> None:
        """State and events are the same."""
        assert seen(self.leader, self.worker) == seen(self.memory, self.memory)
        entries = self.connection.call("XRANGE", self.connection.keys.events, "-", "+")
        assert [decode(fields) for _, fields in entries] == self.heard


def seen(leader: Any, worker: Any) -> list[Any]:
    """All that can be asked of a store, but for times."""
    found: list[Any] = [leader.identity()[1:], leader.jobs(), leader.fence("")]
    for job in ("j", "k"):
        found += [_sorted(leader.load(job)), leader.fence(job), worker.locations(job, 0)[1], worker.job(job)]
    found.append({each.beat.worker: replace(each, age_s=0.0) for each in leader.workers()})
    for name in ("w1", "w2", "w3"):
        boot = worker.boot(name)
        found.append((boot and boot[0], worker.address(name, "b1")))
    return found


def _sorted(stored: StoredJob | None) -> StoredJob | None:
    """Without the order of a table, in which tasks have none; a claim stays before its report."""
    if stored is None:
        return None
    recorded = sorted(stored.recorded, key=lambda e: (e.attempt.task, e.attempt.ticket))
    return replace(stored, recorded=tuple(recorded))


@contextmanager
def fresh(server: Redis) -> Iterator[Connection]:
    """A connection with a prefix of its own below the test's."""
    connection = connect(server.url, prefix=f"{server.prefix}:{uuid.uuid4().hex[:8]}")
    try:
        yield connection
    finally:
        connection.close()


def run(server: Redis, examples: int) -> None:
    @settings(max_examples=examples)
    @given(drawn=CALLS)
    def the_same(drawn: list[Any]) -> None:
        with fresh(server) as connection:
            both = Both(connection)
            for call, times in drawn:
                both.make(call, times)
            both.compare()

    the_same()


def test_the_scripts_are_core_claims(redis_server: Redis) -> None:
    run(redis_server, 40)


@pytest.mark.parametrize("redis_server", ["7.0"], indirect=True)
def test_they_are_on_the_oldest_redis_as_well(redis_server: Redis) -> None:
    run(redis_server, 10)


#: What a call that comes again is answered, as what it is answered first.
FIRST_ANSWERS = {"same": "new", "already": "done", "written": "done", "recorded": "done"}


class Lost(Both):
    """To the real one everything is said several times, since its answers are lost."""

    def __init__(self, connection: Connection, losses: Losses) -> None:
        self.losses = losses
        super().__init__(connection)

    def make(self, drawn: tuple[Any, ...], times: int) -> None:
        """Once, losing an answer so many times: with five, the caller is told, and asks again himself."""
        name, *parts = drawn
        if name == "claim":
            parts = [parts[0][:1]]  # of several, the first may be answered as if it came after the last
        method, *args = getattr(self.calls, name)(*parts)
        self.losses.left = times - 1
        real = getattr(self.leader if hasattr(self.leader, method) else self.worker, method)
        try:
            answer = real(*args)
        except OperatorError:
            answer = real(*args)
        assert self.losses.left == 0
        expected = getattr(self.memory, method)(*args)
        assert first(answer) == first(expected), (method, args)

    def compare(self) -> None:
        """As ever, but that a goodbye may be heard twice."""
        assert seen(self.leader, self.worker) == seen(self.memory, self.memory)
        entries = self.connection.call("XRANGE", self.connection.keys.events, "-", "+")
        assert once([decode(fields) for _, fields in entries]) == once(self.heard)


def first(answer: Any) -> Any:
    """An answer, whether the call came for the first time or again."""
    if isinstance(answer, list):
        return [first(each) for each in answer]
    if isinstance(answer, BeatReply):
        return replace(answer, store_id="")
    if isinstance(answer, ClaimAnswer):
        word = answer.answer.value
        return FIRST_ANSWERS.get(word, word), answer.attempt, answer.beat_seq
    return FIRST_ANSWERS.get(answer.value, answer.value) if isinstance(answer, Enum) else answer


def once(events: list[Any]) -> list[Any]:
    """Without the repetitions of a goodbye."""
    return [
        event
        for at, event in enumerate(events)
        if not isinstance(event, WorkerLeft) or at == 0 or events[at - 1] != event
    ]


def test_lost_answers_leave_the_same_state(redis_server: Redis) -> None:
    lost = 0

    @settings(max_examples=10)
    @given(drawn=CALLS)
    def the_same(drawn: list[Any]) -> None:
        nonlocal lost
        prefix = f"{redis_server.prefix}:{uuid.uuid4().hex[:8]}"
        with lossy(redis_server.url, prefix) as (connection, losses):
            both = Lost(connection, losses)
            for call, times in drawn:
                both.make(call, times)
            losses.left = 0
            both.compare()
            lost += losses.lost

    the_same()
    assert lost > 50
