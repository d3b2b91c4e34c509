"""A cluster's state in Redis through what happens to a server: restarts, wiped and rolled-back data, settings
that would lose it, logins that are refused; and what is kept of jobs that are over."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack
import pytest
from redis_states import batch, beat, claim, fence, job_spec, report, task
from services import Redis, free_ports

import mrq
from mrq.adapters.redis import (
    Connection,
    LeaderEvents,
    RedisBlobs,
    RedisClientLink,
    RedisDesk,
    RedisLeaderStore,
    RedisLease,
    RedisWorkerStore,
    connect,
    packing,
)
from mrq.adapters.redis import worker_events as events_module
from mrq.adapters.redis.connect import check
from mrq.core import wire
from mrq.core.commands import WriteJob
from mrq.core.events import AttemptClaimed, AttemptReported, BeatReceived, WorkerLeft
from mrq.core.model import Beat, JobState, Quarantine, Slots, WorkerHealth
from mrq.core.store_api import Answer, ClientRequest, WriteAnswer
from mrq.errors import CorruptFileError, InternalError, OperatorError, UsageError

DAY_MS = 24 * 3600 * 1000


@dataclass
class State:
    """One leader's and one worker's view of a store."""

    connection: Connection
    leader: RedisLeaderStore
    worker: RedisWorkerStore
    heard: list[Any] = field(default_factory=list)

    def begin(self, job: str = "j") -> None:
        spec = job_spec(job)
        assert self.leader.begin(spec, b"code", fence()) is WriteAnswer.WRITTEN

    def names(self) -> list[bytes]:
        found: list[bytes] = self.connection.call("KEYS", f"{self.connection.keys.prefix}:*")
        return found

    @contextmanager
    def events(self) -> Iterator[LeaderEvents]:
        made = LeaderEvents(self.connection, self.heard.append, recorded=self.leader.recorded)
        try:
            yield made
        finally:
            made.close()

    def wait(self, found: Callable[[], bool], timeout_s: float = 10.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not found():
            assert time.monotonic() < deadline, self.heard[-5:]
            time.sleep(0.01)


@contextmanager
def state_of(server: Redis, *, keep_s: float = 3600.0) -> Iterator[State]:
    connection = connect(server.url, prefix=server.prefix)
    leader, worker = RedisLeaderStore(connection, keep_s=keep_s), RedisWorkerStore(connection)
    try:
        yield State(connection, leader, worker)
    finally:
        connection.close()


@pytest.fixture
def state(redis_server: Redis) -> Iterator[State]:
    """An open store with job `j`, and w1 that has beaten once."""
    with state_of(redis_server) as made:
        made.leader.open(1)
        made.begin()
        made.worker.beat(beat(1))
        yield made


# Which servers are refused.


GOOD = {"redis_version": "7.0.15", "aof_enabled": 1, "maxmemory_policy": "noeviction", "role": "master"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"redis_version": "6.2.14"}, r"is version 6\.2\.14: mrq needs 7\.0"),
        ({"aof_enabled": 0}, "appendonly is no.*set `appendonly yes`"),
        (
            {"maxmemory_policy": "allkeys-lru"},
            "policy is allkeys-lru.*set `maxmemory-policy noeviction`",
        ),
        ({"appendfsync": "no"}, "appendfsync is no.*set `appendfsync everysec`"),
        ({"cluster_enabled": 1}, "Redis Cluster.*cluster-enabled no"),
        ({"role": "slave", "master_host": "r1"}, "replica: give the address of its primary, r1"),
        ({"aof_enabled": 0, "maxmemory_policy": "volatile-ttl"}, "appendonly.*; maxmemory-policy"),
    ],
)
def test_a_server_that_would_lose_data_is_refused(changes: dict[str, Any], message: str) -> None:
    check(GOOD, "h:1")
    check({**GOOD, "redis_version": "8.0.2"}, "h:1")
    with pytest.raises(OperatorError, match=message):
        check({**GOOD, **changes}, "h:1")


def test_settings_and_logins_are_checked_at_start(private_redis: Callable[..., Redis]) -> None:
    server = private_redis("8.0", "--appendonly", "no")
    admin = server.client()
    with pytest.raises(OperatorError, match="appendonly is no"):
        connect(server.url)
    admin.config_set("appendonly", "yes")
    admin.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(OperatorError, match="allkeys-lru"):
        connect(server.url, wait_s=30)  # waiting wouldn't mend it
    admin.config_set("maxmemory-policy", "noeviction")
    admin.config_set("appendfsync", "no")
    with pytest.raises(OperatorError, match="appendfsync is no"):
        connect(server.url)
    admin.config_set("appendfsync", "everysec")
    connect(server.url).close()
    admin.execute_command("ACL SETUSER", "blind", "on", ">pw", "~mrq:*", "+@all", "-info")
    admin.execute_command("ACL SETUSER", "poor", "on", ">pw", "~other:*", "+@all")
    admin.config_set("requirepass", "secret")
    login = server.url.replace("redis://", "redis://{}@").format
    for wrong in (server.url, login(":other"), login("nobody:pw"), login("blind:other")):
        with pytest.raises(OperatorError, match=r"refuses user.*check the name and password") as found:
            connect(wrong, wait_s=30)
        assert "other" not in str(found.value)
    with pytest.raises(OperatorError, match="doesn't let user blind do"):
        connect(login("blind:pw"))
    poor = connect(login("poor:pw"))
    with pytest.raises(OperatorError, match="doesn't let user poor do"):
        RedisLeaderStore(poor).open(1)
    poor.close()
    good = connect(login(":secret"))
    RedisLeaderStore(good).open(1)
    admin.config_set("maxmemory", "1mb")
    with pytest.raises(OperatorError, match="is full: raise maxmemory"):
        RedisBlobs(good).put(b"x" * (1 << 20))
    good.close()
    admin.close()


def documented_rule() -> list[str]:
    """The rights of Redis' user as docs/operations.md lists them, without name and password."""
    with open(os.path.join(os.path.dirname(__file__), "../../docs/operations.md"), encoding="utf-8") as file:
        text = file.read()
    rule = text[text.index("user mrq on >PASSWORD ") :].split("\n\n")[0]
    return rule.split()[4:]


def test_the_documented_rights_are_enough(private_redis: Callable[..., Redis]) -> None:
    server = private_redis("7.0")
    with server.client() as admin:
        admin.execute_command("ACL SETUSER", "mrq", "on", ">pw", *documented_rule())
    url = server.url.replace("redis://", "redis://mrq:pw@")
    connection = connect(url)
    state = State(connection, RedisLeaderStore(connection), RedisWorkerStore(connection))
    with state.events() as events:
        state.leader.open(1)
        state.begin()
        assert state.leader.lead(fence()) is WriteAnswer.WRITTEN
        state.worker.beat(beat(1))
        state.leader.write(batch(1, task(0), located=True))
        events.note()
        events.start()
        state.worker.claim([claim(0)])
        state.worker.report([report(0)])
        state.worker.log("j", "m-00000.1.1.t", "d")
        state.worker.leave("w1", "b1")
        state.wait(lambda: len(state.heard) == 3)
    stored = state.leader.load("j")
    assert stored is not None
    assert state.leader.restore(replace(stored, fence=fence(incarnation=2)), b"code") is WriteAnswer.WRITTEN
    assert [each.beat.worker for each in state.leader.workers()] == ["w1"]
    assert state.worker.boot("w1") is None
    assert state.worker.code(job_spec("j").code) == b"code"
    assert state.worker.locations("j", 0)[1] == []
    desk, link, lease = RedisDesk(connection), RedisClientLink(connect(url)), RedisLease(connection)
    link.send(ClientRequest(id="q", op="jobs", args={}))
    assert len(desk.requests(0)) == 1
    desk.answer("q", {})
    desk.remove("q")
    desk.tell("j", {"type": "note"})
    assert link.answer("q", 1) == {}
    assert len(link.news("j", "", 1)[1]) == 1
    assert lease.renew("a", lease.take("a", 0, 5).epoch, 5)
    assert lease.view().owner == "a"
    state.leader.forget("j")
    assert state.leader.jobs() == ["j"]
    link.close()
    connection.close()


def test_a_server_that_is_not_there_yet_is_waited_for(
    private_redis: Callable[..., Redis], caplog: pytest.LogCaptureFixture
) -> None:
    (port,) = free_ports(1)
    started = time.monotonic()
    with pytest.raises(OperatorError, match=f"127.0.0.1:{port} can't be reached"):
        connect(f"redis://127.0.0.1:{port}/0", wait_s=2)
    assert 2 <= time.monotonic() - started < 15
    (said,) = caplog.messages
    assert "can't be reached" in said
    assert re.search(r"trying again for up to [12] s", said)
    server = private_redis("8.0")
    server.container.stop()
    caplog.clear()

    class Starter(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            server.container.start()  # once: nothing else is said

    logger, starter = logging.getLogger("mrq.adapters.redis.connect"), Starter()
    logger.addHandler(starter)
    try:
        connect(server.url, wait_s=60).close()
    finally:
        logger.removeHandler(starter)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("url", ["http://h/", "h:6379", "redis://h:port/0", "redis://h:1/x"])
def test_a_url_that_is_none_of_redis(url: str) -> None:
    with pytest.raises(UsageError, match=r"redis://HOST:6379/0"):
        connect(url)


def test_a_prefix_that_cannot_be_one() -> None:
    with pytest.raises(UsageError, match=r"prefix 'a\{b' can't begin"):
        connect("redis://h/0", prefix="a{b")


# What happens to a server under way.


def test_scripts_come_again_when_the_server_forgot_them(state: State) -> None:
    state.connection.call("SCRIPT", "FLUSH")
    assert state.leader.write(batch(1, task(0), task(1))) is WriteAnswer.WRITTEN
    state.connection.call("SCRIPT", "FLUSH")
    answers = state.worker.claim([claim(0), claim(1), claim(0)])
    assert [each.answer for each in answers] == [Answer.NEW, Answer.NEW, Answer.SAME]


def test_a_restart_loses_no_event_and_no_order(private_redis: Callable[..., Redis]) -> None:
    server = private_redis("8.0")
    with state_of(server) as state, state.events() as events:
        state.leader.open(1)
        state.begin()
        state.leader.write(batch(1, *(task(index) for index in range(40))))
        events.note()
        events.start()
        for index in range(40):
            if index in (10, 25):
                server.container.restart()
            while True:
                try:
                    state.worker.beat(beat(index + 1))
                    (answer,) = state.worker.claim([claim(index)])
                    break
                except OperatorError:
                    time.sleep(0.05)
            assert answer.answer in (Answer.NEW, Answer.SAME)
        state.wait(lambda: len([e for e in state.heard if isinstance(e, AttemptClaimed)]) >= 40)
        told = [
            (e.beat.seq, 0) if isinstance(e, BeatReceived) else (e.attempt.task.index + 1, 1)
            for e in state.heard
        ]
        assert told == [(seq, kind) for seq in range(1, 41) for kind in (0, 1)]


def test_a_wiped_store_answers_nobody(private_redis: Callable[..., Redis]) -> None:
    server = private_redis("8.0")
    with state_of(server) as state, state.events() as events:
        state.leader.open(1)
        state.begin()
        state.worker.beat(beat(1))
        state.leader.write(batch(1, task(0)))
        before = state.leader.identity()[0]
        events.note()
        events.start()
        state.connection.call("FLUSHALL")
        assert state.leader.identity() == ("", 0, False)
        assert state.leader.write(batch(2, task(0))) is WriteAnswer.NO_STORE
        assert state.leader.begin(job_spec("k"), b"code", fence()) is WriteAnswer.NO_STORE
        assert state.worker.claim([claim(0)])[0].answer is Answer.NO_STORE
        assert state.worker.report([report(0)])[0].value == "no_store"
        assert state.worker.beat(beat(2)) is None
        assert state.leader.fence("j") is None
        state.leader.open(2)
        after, incarnation, ready = state.leader.identity()
        assert after not in ("", before)
        assert (incarnation, ready) == (2, True)
        reply = state.worker.beat(beat(3))
        assert reply is not None
        assert (reply.store_id, reply.incarnation) == (after, 2)
        state.wait(lambda: any(isinstance(e, BeatReceived) and e.beat.seq == 3 for e in state.heard))


def test_a_rolled_back_store_says_so(state: State) -> None:
    state.leader.write(batch(1, task(0)))
    saved = {key: state.connection.call("DUMP", key) for key in state.names()}
    state.leader.write(batch(2, task(1)))
    state.leader.write(batch(3, task(2)))
    for key, value in saved.items():
        state.connection.call("RESTORE", key, 0, value, "REPLACE")
    found = state.leader.fence("j")
    assert found is not None
    assert found.seq == 1
    assert state.leader.write(batch(4, task(3))) is WriteAnswer.ROLLED_BACK
    assert state.leader.write(batch(3, task(2))) is WriteAnswer.ROLLED_BACK
    assert state.worker.claim([claim(3)])[0].answer is Answer.OBSOLETE


# The events.


def test_events_start_where_it_was_noted(state: State) -> None:
    state.leader.write(batch(1, task(0)))
    with state.events() as events:
        events.note()
        state.worker.claim([claim(0)])
        state.worker.report([report(0)])
        state.worker.beat(beat(2))
        state.worker.leave("w1", "b1")
        events.start()
        state.wait(lambda: len(state.heard) == 5)
    kinds = [AttemptClaimed, AttemptReported, AttemptReported, BeatReceived, WorkerLeft]
    assert [type(event) for event in state.heard] == kinds


def test_what_was_trimmed_unread_is_told_by_what_is_recorded(state: State) -> None:
    state.leader.write(batch(1, task(0), task(1)))
    with state.events() as events:
        events.note()
        state.worker.claim([claim(0), claim(1)])
        state.worker.report([report(1)])
        state.connection.call("XTRIM", state.connection.keys.events, "MAXLEN", 0)
        state.worker.beat(beat(2))
        events.start()
        state.wait(lambda: sum(isinstance(event, AttemptReported) for event in state.heard) == 2)
    claimed = {event.attempt.task.index for event in state.heard if isinstance(event, AttemptClaimed)}
    assert claimed == {0, 1}


def test_ids_that_begin_anew_are_followed(state: State) -> None:
    with state.events() as events:
        events._follower.position = "99999999999999-0"  # of a store whose clock was ahead
        events.start()
        state.wait(lambda: any(isinstance(event, BeatReceived) for event in state.heard))
        state.worker.beat(beat(2))
        state.wait(lambda: state.heard[-1] == BeatReceived(beat=beat(2), health=state.heard[-1].health))


def test_what_was_read_is_trimmed_later(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = state.connection.keys.events
    state.connection.call("DEL", stream)
    for _ in range(1000):
        state.connection.call("XADD", stream, "1-*", "b", b"old", "h", "alive")
    last = state.connection.call("XADD", stream, "*", "x", b"?")
    monkeypatch.setattr(events_module, "_LOOK_S", 0.05)
    with state.events() as events:
        events.note()
        events.start()
        state.wait(lambda: state.connection.call("XLEN", stream) < 500)
        assert state.connection.call("XRANGE", stream, last, last)  # a successor may be loading
    assert state.heard == []


def test_an_event_that_cannot_be_read_is_passed_over(state: State, caplog: pytest.LogCaptureFixture) -> None:
    """Nor whose it is."""
    stream = state.connection.keys.events
    with state.events() as events:
        events.note()
        other = msgpack.packb([99, []])
        beats = [("b", other, "h", "alive")] * 3
        for fields in (*beats, ("r", b"\xc1"), ("c", b"\x90"), ("what", b"?")):
            state.connection.call("XADD", stream, "*", *fields)
        state.worker.beat(beat(2))
        events.start()
        state.wait(lambda: len(state.heard) == 1)
    assert isinstance(state.heard[0], BeatReceived)
    assert len(caplog.messages) == 4
    assert "has version 99, and doesn't say whose it is" in caplog.messages[0]


@pytest.mark.parametrize("version", [99, packing.VERSION - 1])
@pytest.mark.parametrize("fields", [3, 10, 40])
def test_a_worker_of_another_version_is_refused_by_name(state: State, version: int, fields: int) -> None:
    """A new leader finds it, and one that leads hears of it: who it is, which is all that can be read."""
    state.worker.beat(replace(beat(1, worker="w2"), about={"version": "0.0.9"}))
    body = [*wire.to_wire(beat(7, worker="w2")), *range(40)][:fields]
    data = msgpack.packb([version, body])
    state.connection.call("HSET", state.connection.keys.beats, "w2", data)
    found = {each.beat.worker: each for each in state.leader.workers()}
    assert found["w1"].refused == ""
    with state.events() as events:
        events.note()
        state.connection.call("XADD", state.connection.keys.events, "*", "b", data, "h", "alive")
        events.start()
        state.wait(lambda: len(state.heard) == 1)
    (heard,) = state.heard
    assert isinstance(heard, BeatReceived)
    for each in (found["w2"], heard):
        assert each.beat == Beat(worker="w2", boot="b1", seq=7, slots=Slots(map=0, reduce=0, total=0))
        assert each.health is WorkerHealth.ALIVE
        for words in (
            f"have version {version}",
            f"mrq {mrq.__version__}",
            f"reads {packing.VERSION}",
            "start it",
        ):
            assert words in each.refused


def test_a_request_of_another_version_is_refused(
    state: State, redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By both versions; its client, which can't read that, says so. Nothing stays of it for ever, nor of what
    nobody can read."""
    connection, here = state.connection, packing.VERSION
    link = RedisClientLink(connect(redis_server.url, prefix=redis_server.prefix))
    monkeypatch.setattr(packing, "VERSION", here - 1)
    link.send(ClientRequest(id="q", op="jobs", args={}))
    connection.call("XADD", connection.keys.requests, "*", "q", b"\xc1")
    monkeypatch.setattr(packing, "VERSION", here)
    assert RedisDesk(connection).requests(0) == []
    answer = link.answer("q", 1)
    assert answer is not None
    assert f"has version {here - 1}, and this mrq reads {here}" in answer["error"]["message"]
    assert connection.call("XLEN", connection.keys.requests) == 0
    for name in (connection.keys.asked("q"), connection.keys.answer("q")):
        assert connection.call("PTTL", name) > 0
    link.close()


def test_a_quarantine_of_the_version_before_has_no_reason(state: State) -> None:
    """Its rows end sooner."""
    state.worker.beat(beat(1))
    key = state.connection.keys.workers
    found = packing.row(state.connection.call("HGET", key, "w1"))
    found[4] = "quarantined"
    state.connection.call("HSET", key, "w1", packing.pack_row(found[:9]))
    state.worker.beat(beat(2))
    state.worker.beat(replace(beat(1), boot="b2"))
    (known,) = state.leader.workers()
    assert (known.health, known.quarantine) == (WorkerHealth.QUARANTINED, Quarantine())


# Jobs that are over.


def expiries(state: State, job: str = "j") -> dict[str, int]:
    """Milliseconds until each key of a job goes; -1: never."""
    keys = [key.decode() for key in state.names() if f"{{{job}}}" in key.decode()]
    keys.append(state.connection.keys.blob(job_spec(job).code))
    return {key: state.connection.call("PTTL", key) for key in keys}


def test_a_forgotten_job_is_kept_then_expires_with_all_its_keys(redis_server: Redis) -> None:
    with state_of(redis_server, keep_s=30 * 24 * 3600) as state:
        state.leader.open(1)
        state.begin()
        desk = RedisDesk(state.connection)
        desk.tell("j", {"type": "progress", "view": 1})
        state.worker.log("j", "m-00000.1.1.t", "d")
        state.leader.write(batch(1, task(0), located=True))
        assert set(expiries(state).values()) == {-1}
        state.leader.write(batch(2, WriteJob(job="j", state=JobState.DONE)))
        for _ in range(2):
            state.leader.forget("j")
            found = expiries(state)
            assert len(found) == 8
            assert all(29 * DAY_MS < left <= 30 * DAY_MS for left in found.values()), found
        assert state.leader.jobs() == ["j"]
        assert state.worker.job("j") == job_spec("j")
        assert not state.leader.expired("j")
        # What is written to it later doesn't outlive it, either.
        state.connection.call("DEL", state.connection.keys.locations("j"), state.connection.keys.logs("j"))
        state.leader.write(batch(3, task(1), located=True))
        state.worker.log("j", "m-00001.1.1.t", "")
        desk.tell("j", {"type": "ended", "state": "done"})
        assert all(left > 0 for left in expiries(state).values())
        # Taken up again, it is kept.
        state.leader.write(batch(4, WriteJob(job="j", state=JobState.RUNNING)))
        assert set(expiries(state).values()) == {-1}
        assert state.leader.load("j") is not None


def test_an_expired_job_is_told_from_an_unknown_one(redis_server: Redis) -> None:
    with state_of(redis_server, keep_s=0.1) as state:
        state.leader.open(1)
        for job in ("j", "k"):
            state.begin(job)
        state.leader.forget("j")
        time.sleep(0.2)
        assert state.leader.load("j") is None
        assert state.leader.jobs() == ["k"]
        assert state.leader.expired("j")
        assert not state.leader.expired("k")
        assert not state.leader.expired("never")
        assert state.worker.code(job_spec("k").code) == b"code"
        left = [key.decode() for key in state.names() if b"{j}" in key]
        assert left == []
        state.begin("j")
        assert not state.leader.expired("j")


def test_silent_workers_are_dropped_after_a_week(state: State) -> None:
    state.worker.beat(beat(1, worker="w2"))
    keys = state.connection.keys
    row = msgpack.unpackb(state.connection.call("HGET", keys.workers, "w1"))
    row[7] -= 8 * DAY_MS
    state.connection.call("HSET", keys.workers, "w1", msgpack.packb(row))
    assert [each.beat.worker for each in state.leader.workers()] == ["w2"]
    assert state.connection.call("HKEYS", keys.workers) == [b"w2"]
    assert state.connection.call("HKEYS", keys.beats) == [b"w2"]
    assert state.worker.boot("w1") is None


# What is read wrongly.


def test_a_damaged_blob_is_never_returned(state: State) -> None:
    blobs = RedisBlobs(state.connection)
    digest = blobs.put(b"data")
    key = state.connection.keys.blob(digest)
    state.connection.call("HSET", key, 0, b"date")
    with pytest.raises(CorruptFileError, match=f"blob {digest}.*delete the key {key}"):
        blobs.get(digest)
    state.connection.call("HDEL", key, 0)
    assert blobs.get(digest) is None


def test_chunks_without_an_end_are_not_a_blob(state: State) -> None:
    data = bytes(3 << 20)
    blobs = RedisBlobs(state.connection)
    key = state.connection.keys.blob(hashlib.sha256(data).hexdigest())
    state.connection.call("HSET", key, 0, bytes(1 << 20))
    assert blobs.get(hashlib.sha256(data).hexdigest()) is None
    assert blobs.get(blobs.put(data, keep_s=60)) == data
    assert 50_000 < state.connection.call("PTTL", key) <= 60_000


def test_code_under_a_wrong_name_is_refused(state: State) -> None:
    with pytest.raises(InternalError, match="isn't the sha256"):
        state.leader.begin(job_spec("k"), b"other", fence())


def test_a_request_that_cannot_be_read_is_removed(state: State, redis_server: Redis) -> None:
    keys = state.connection.keys
    state.connection.call("XADD", keys.requests, "*", "q", msgpack.packb([99, []]))
    link = RedisClientLink(connect(redis_server.url, prefix=redis_server.prefix))
    request = ClientRequest(id="q1", op="jobs", args={})
    link.send(request)
    assert RedisDesk(state.connection).requests(0) == [request]
    assert state.connection.call("XLEN", keys.requests) == 1
    link.close()


def test_a_restored_jobs_locations_come_again(state: State) -> None:
    state.leader.write(batch(1, located=True))
    at, found = state.worker.locations("j", 0)
    assert len(found) == 1
    stored = state.leader.load("j")
    assert stored is not None
    restored = replace(stored, fence=fence(incarnation=2), writes=batch(1, located=True).writes)
    assert state.leader.restore(restored, b"code") is WriteAnswer.WRITTEN
    at, found = state.worker.locations("j", at)
    assert len(found) == 1
    assert state.worker.locations("j", at) == (at, [])


def test_locations_are_waited_for(state: State) -> None:
    timer = threading.Timer(0.1, lambda: state.leader.write(batch(1, located=True)))
    timer.start()
    started = time.monotonic()
    assert len(state.worker.locations("j", 0, 20)[1]) == 1
    assert time.monotonic() - started < 15
    timer.join()
    waiting = threading.Thread(target=state.worker.locations, args=("k", 0, 60))
    waiting.start()
    time.sleep(0.05)
    state.worker.close()
    waiting.join(5)
    assert not waiting.is_alive()
