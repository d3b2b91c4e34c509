"""Data planes as processes of their own: end to end, and when they die."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import resource
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from services import Redis

from mrq.adapters.redis import RedisLeaderStore, RedisWorkerStore, connect
from mrq.core.commands import WriteLocation
from mrq.core.model import Beat, JobSpec, MapLocation, Outcome, Slots, StageSpec, Status
from mrq.core.paths import fetched_path, map_output_path
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_api import Batch, Fence, WriteAnswer
from mrq.errors import OperatorError, UsageError
from mrq.shuffle.fetched import FetchedFile
from mrq.shuffle.mapfile import MapFile, MapFileWriter, MapHeader
from mrq.worker.attempt_order import MapSource
from mrq.worker.fetch import data_plane
from mrq.worker.fetch.data_plane import DataPlane
from mrq.worker.fetch.messages import Fetched, FetchFailed, Hello

JOB = "job-1"
KEY = b"the cluster's key"
SLOTS = Slots(map=1, reduce=1, total=1)


class Inbox:
    def __init__(self) -> None:
        self.events: list[Any] = []
        self._more = threading.Condition()

    def __call__(self, event: object) -> None:
        with self._more:
            self.events.append(event)
            self._more.notify_all()

    def end_of(self, token: str, timeout_s: float = 30) -> Any:
        def ended() -> list[Any]:
            return [e for e in self.events if isinstance(e, Fetched | FetchFailed) and e.token == token]

        with self._more:
            assert self._more.wait_for(ended, timeout_s), self.events
            return ended()[0]


class Plane:
    """A data plane with a loop of its own, on whose thread it is called, as an agent's is."""

    def __init__(self, hello: Hello) -> None:
        self.plane = DataPlane(hello)
        self.inbox = Inbox()
        self.troubles: list[str] = []
        self._posted: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ, lambda: os.eventfd_read(self._wake))
        self._over = False
        self._thread = threading.Thread(target=self._run)

    def start(self) -> str:
        address = self.plane.start()
        self.plane.attach(self._selector, self.inbox, self.troubles.append)
        self._thread.start()
        return address

    def _run(self) -> None:
        while not self._over:
            for key, _ in self._selector.select(0.05):
                if key.fd in self._selector.get_map():
                    key.data()
            while self._posted:
                self._posted.popleft()()
            self.plane.watch(time.monotonic())
        self.plane.close()

    def post(self, work: Callable[[], None]) -> None:
        self._posted.append(work)
        os.eventfd_write(self._wake, 1)

    @property
    def pid(self) -> int | None:
        return self.plane.pid

    @property
    def address(self) -> str:
        return self.plane._hello.bind

    def kill(self, number: int = signal.SIGKILL) -> int:
        pid = self.plane.pid
        assert pid is not None
        os.kill(pid, number)
        return pid

    def discard(self, token: str, partition: int = 1) -> None:
        self.post(lambda: self.plane.discard(reduce(token, partition)))

    def close(self) -> None:
        if self._thread.is_alive():
            self.post(lambda: setattr(self, "_over", True))
            self._thread.join()
        self.plane.close()


def reduce(token: str, partition: int = 1, job: str = JOB) -> AttemptRef:
    return AttemptRef(TaskRef(job, 0, Kind.REDUCE, partition), 1, 1, token)


class Cluster:
    """A Redis, and workers with a folder and a data plane each."""

    def __init__(self, tmp_path: Path, server: Redis, user: tuple[str, str] | None = None) -> None:
        self.tmp_path = tmp_path
        self.server = server
        self.login = "" if user is None else f"{user[0]}:{user[1]}@"
        self.connection = connect(server.url, prefix=server.prefix)
        self.leader = RedisLeaderStore(self.connection)
        self.store = RedisWorkerStore(self.connection)
        self.seq = 0
        self.planes: dict[str, Plane] = {}
        self.leader.init()
        self.leader.open(1)
        spec = JobSpec(
            job=JOB,
            name="Test",
            code=hashlib.sha256(b"").hexdigest(),
            entry="m:C",
            parameters={},
            inputs=(),
            stages=(StageSpec(splits=(), reducers=2),),
        )
        assert self.leader.begin(spec, b"", self.fence()) is WriteAnswer.WRITTEN

    def fence(self) -> Fence:
        return Fence(incarnation=1, epoch=1, owner="o", seq=self.seq)

    def hello(self, worker: str, **changes: Any) -> Hello:
        said: dict[str, Any] = {
            "root": str(self.root(worker)),
            "worker": worker,
            "boot": f"{worker}b",
            "redis_url": self.server.url.replace("://", f"://{self.login}"),
            "prefix": self.server.prefix,
            "key": KEY,
            **changes,
        }
        return Hello(**said)

    def start(self, worker: str, **changes: Any) -> Plane:
        hello = self.hello(worker, **changes)
        plane = Plane(hello)
        address = plane.start()
        self.planes[worker] = plane
        self.store.beat(Beat(worker=worker, boot=hello.boot, seq=1, slots=SLOTS, address=address))
        return plane

    def root(self, worker: str) -> Path:
        return self.tmp_path / worker

    def hide(self, worker: str) -> None:
        """As if its disk weren't this machine's."""
        (self.root(worker) / "sentinel").write_text("another")

    def output(self, index: int, worker: str, size: int = 10_000, ticket: int = 1) -> MapLocation:
        attempt = AttemptRef(TaskRef(JOB, 0, Kind.MAP, index), ticket, 1, f"{worker}b-{index}")
        path = map_output_path(str(self.root(worker)), attempt)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        header = MapHeader(attempt=attempt, code="c")
        writer = MapFileWriter(path, header, partitions=2)
        for partition in range(2):
            writer.begin(partition)
            n = max(1, size // 1000)
            writer.write([f"{index}-{i:06d}" for i in range(n)], [os.urandom(500).hex() for _ in range(n)])
            writer.end()
        info = writer.finish()
        return MapLocation(
            attempt=attempt,
            worker=worker,
            boot=f"{worker}b",
            digest=info.digest,
            bytes=info.bytes,
        )

    def tell(self, *locations: MapLocation, withdrawn: bool = False) -> None:
        self.seq += 1
        writes = tuple(WriteLocation(location=one, withdrawn=withdrawn) for one in locations)
        batch = Batch(job=JOB, fence=self.fence(), writes=writes)
        assert self.leader.write(batch) is WriteAnswer.WRITTEN

    def fetch(self, worker: str, token: str, maps: int, partition: int = 1) -> None:
        plane = self.planes[worker]
        plane.post(lambda: plane.plane.fetch(reduce(token, partition), maps))

    def sources(self, worker: str, token: str) -> tuple[MapSource, ...]:
        end = self.planes[worker].inbox.end_of(token)
        assert isinstance(end, Fetched), end
        return end.sources

    def failed(self, worker: str, token: str) -> Outcome:
        end = self.planes[worker].inbox.end_of(token)
        assert isinstance(end, FetchFailed), end
        return end.outcome

    def same(self, worker: str, token: str, locations: list[MapLocation], partition: int = 1) -> None:
        for source, location in zip(self.sources(worker, token), locations, strict=True):
            path = map_output_path(str(self.root(location.worker)), location.attempt)
            with MapFile(path) as file:
                wanted = list(file.entry(partition).blocks())
                if source.partition is None:
                    assert source.path == path
                    continue
            region = FetchedFile(source.path).region(source.partition, source.digest)
            assert list(region.blocks()) == wanted

    def close(self) -> None:
        for plane in self.planes.values():
            plane.close()
        self.connection.close()


@pytest.fixture
def cluster(tmp_path: Path, redis_server: Redis) -> Iterator[Cluster]:
    with contextlib.closing(Cluster(tmp_path, redis_server)) as made:
        yield made


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What data planes' agents log."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(data_plane.__name__)
    logger.addHandler(handler)
    yield told
    logger.removeHandler(handler)


def wait_for(condition: Callable[[], Any], timeout_s: float = 20) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_a_reduce_fetches_while_maps_still_end(cluster: Cluster, said: list[str]) -> None:
    cluster.start("w1")
    cluster.start("w2")
    cluster.hide("w1")
    cluster.fetch("w2", "t1", 4)
    locations = [cluster.output(i, "w1" if i % 2 else "w2") for i in range(4)]
    for location in locations:
        cluster.tell(location)
    cluster.same("w2", "t1", locations)
    sources = cluster.sources("w2", "t1")
    assert [source.partition for source in sources] == [None, 1, None, 3]
    path = Path(fetched_path(str(cluster.root("w2")), JOB, "t1"))
    assert path.exists()
    cluster.planes["w2"].discard("t1")
    wait_for(lambda: not path.exists())
    assert said == []


def test_a_shared_disk_is_recognised(cluster: Cluster) -> None:
    cluster.start("w1")
    cluster.start("w2")
    locations = [cluster.output(i, "w1") for i in range(3)]
    cluster.tell(*locations)
    cluster.fetch("w2", "t1", 3)
    cluster.same("w2", "t1", locations)
    assert all(source.partition is None for source in cluster.sources("w2", "t1"))


def test_two_reduces_and_two_jobs_side_by_side(cluster: Cluster) -> None:
    cluster.start("w1")
    cluster.start("w2")
    cluster.hide("w1")
    locations = [cluster.output(i, "w1") for i in range(3)]
    cluster.tell(*locations[:2])
    for partition in range(2):
        cluster.fetch("w2", f"t{partition}", 3, partition)
    plane = cluster.planes["w2"]
    other = reduce("other", 0, "job-2")
    plane.post(lambda: plane.plane.fetch(other, 1))
    cluster.tell(locations[2])
    for partition in range(2):
        cluster.same("w2", f"t{partition}", locations, partition)
    plane.post(lambda: plane.plane.discard(other))
    plane.post(lambda: plane.plane.forget("job-2"))
    for partition in range(2):
        plane.discard(f"t{partition}", partition)
    plane.post(lambda: plane.plane.forget(JOB))
    folder = cluster.root("w2") / "jobs" / JOB / "fetched"
    wait_for(lambda: not list(folder.iterdir()))


def test_a_withdrawn_output_is_waited_for(cluster: Cluster) -> None:
    cluster.start("w1")
    cluster.start("w2")
    cluster.hide("w1")
    old = [cluster.output(i, "w1") for i in range(2)]
    cluster.tell(old[0])
    cluster.fetch("w2", "t1", 2)
    wait_for(lambda: cluster.planes["w2"].inbox.events)
    cluster.tell(old[0], withdrawn=True)
    cluster.tell(old[1])
    new = cluster.output(0, "w2", ticket=2)
    cluster.tell(new)
    cluster.same("w2", "t1", [new, old[1]])


def test_what_is_gone_fails_the_attempt_without_a_charge(cluster: Cluster) -> None:
    cluster.start("w1")
    cluster.start("w2")
    cluster.hide("w1")
    gone = cluster.output(0, "w1")
    Path(map_output_path(str(cluster.root("w1")), gone.attempt)).unlink()
    cluster.tell(gone)
    cluster.fetch("w2", "t1", 1)
    outcome = cluster.failed("w2", "t1")
    assert (outcome.status, outcome.started) == (Status.FETCH_FAILED, False)
    assert [(f.map_index, f.reason) for f in outcome.fetch_failures] == [(0, "not_found")]


def test_a_server_that_is_killed_in_the_middle_is_fetched_from_again(
    cluster: Cluster, said: list[str]
) -> None:
    """It comes back on its port, and the stream goes on where it broke off."""
    serving = cluster.start("w1")
    cluster.start("w2")
    cluster.hide("w1")
    locations = [cluster.output(i, "w1", size=30_000_000) for i in range(2)]
    cluster.tell(*locations)
    before = serving.pid
    assert before is not None
    for attempt in range(10):  # until it is caught in the middle
        token = f"t{attempt}"
        whole = Path(fetched_path(str(cluster.root("w2")), JOB, token))
        partial = whole.with_name(f"{token}.partial")
        cluster.fetch("w2", token, 2)
        wait_for(lambda partial=partial, whole=whole: _size(partial) > 1 << 20 or whole.exists())
        os.kill(before, signal.SIGSTOP)
        if partial.exists():
            break
        os.kill(before, signal.SIGCONT)
    os.kill(before, signal.SIGKILL)
    cluster.same("w2", token, locations)
    wait_for(lambda: serving.pid not in (None, before))
    assert any("started again" in text for text in said)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_what_waits_for_a_data_plane_that_is_killed_is_handed_back(cluster: Cluster) -> None:
    """Uncharged and at once, with nothing left of it; what was fetched whole stays, and another serves."""
    cluster.start("w1")
    fetching = cluster.start("w2")
    cluster.hide("w1")
    locations = [cluster.output(i, "w1", size=30_000_000) for i in range(2)]
    cluster.tell(locations[0])
    folder = cluster.root("w2") / "jobs" / JOB / "fetched"
    cluster.fetch("w2", "t0", 1)
    cluster.same("w2", "t0", locations[:1])
    for token in ("t1", "t2"):
        cluster.fetch("w2", token, 2)
    wait_for(lambda: fetching.inbox.events[-1].token in ("t1", "t2"))
    killed = fetching.kill()
    for token in ("t1", "t2"):
        assert cluster.failed("w2", token) == Outcome(status=Status.HANDED_BACK, started=False)
    assert [path.name for path in folder.iterdir()] == ["t0"]
    cluster.fetch("w2", "t3", 2)  # claimed again, perhaps before there is another process
    cluster.tell(locations[1])
    cluster.same("w2", "t3", locations)
    assert fetching.pid not in (None, killed)
    for token in ("t0", "t3"):
        fetching.discard(token)
    wait_for(lambda: not list(folder.iterdir()))


def test_deaths_in_a_row_under_what_waits_are_charged_at_last(cluster: Cluster) -> None:
    fetching = cluster.start("w2")
    for n in range(3):
        cluster.fetch("w2", f"t{n}", 1)
        before = wait_for(lambda: fetching.pid)
        fetching.kill()
        wait_for(lambda before=before: fetching.pid not in (None, before))
    outcomes = [cluster.failed("w2", f"t{n}") for n in range(3)]
    assert [(each.status, each.started) for each in outcomes[:2]] == [(Status.HANDED_BACK, False)] * 2
    assert (outcomes[2].status, outcomes[2].started) == (Status.LOST, True)
    assert outcomes[2].error is not None
    assert "died 3 times in a row" in outcomes[2].error.message
    assert "SIGKILL" in outcomes[2].error.message
    cluster.tell(cluster.output(0, "w2"))
    cluster.fetch("w2", "t3", 1)  # it serves the next, and nothing is in a row any more
    assert len(cluster.sources("w2", "t3")) == 1
    cluster.fetch("w2", "t4", 2)
    fetching.kill()
    assert cluster.failed("w2", "t4").status is Status.HANDED_BACK


def test_a_redis_that_is_away_is_waited_for(
    tmp_path: Path, private_redis: Callable[..., Redis], said: list[str]
) -> None:
    cluster = Cluster(tmp_path, private_redis())
    with contextlib.closing(cluster):
        cluster.start("w1")
        cluster.start("w2")
        cluster.hide("w1")
        locations = [cluster.output(i, "w1") for i in range(3)]
        cluster.tell(locations[0])
        cluster.fetch("w2", "t1", 3)
        wait_for(lambda: cluster.planes["w2"].inbox.events)
        cluster.server.container.stop()
        time.sleep(2)
        cluster.server.container.start()
        cluster.tell(*locations[1:])
        cluster.same("w2", "t1", locations)
        assert said == []


FETCH_RIGHTS = runpy.run_path(str(Path(__file__).parents[2] / "infra/compose/init.py"))["REDIS_FETCH_RIGHTS"]


@pytest.fixture
def fetch_user(redis_server: Redis) -> Iterator[tuple[str, str]]:
    """A user with the rights of the one that compose.yaml's Redis has, under this test's prefix."""
    name = f"fetch-{redis_server.prefix}"
    with redis_server.client() as client:
        rights = FETCH_RIGHTS.replace("mrq:", f"{redis_server.prefix}:").split()
        client.execute_command("ACL", "SETUSER", name, "on", ">secret", *rights)
        yield name, "secret"
        client.execute_command("ACL", "DELUSER", name)


@pytest.mark.parametrize("redis_server", ["7.0", "8.0"], indirect=True)
def test_its_user_reads_locations_and_addresses_and_nothing_else(
    tmp_path: Path, redis_server: Redis, fetch_user: tuple[str, str]
) -> None:
    cluster = Cluster(tmp_path, redis_server, fetch_user)
    with contextlib.closing(cluster):
        cluster.start("w1")
        cluster.start("w2")
        cluster.hide("w1")
        locations = [cluster.output(i, "w1") for i in range(3)]
        cluster.tell(*locations[:2])
        cluster.fetch("w2", "t1", 3)
        cluster.tell(locations[2])
        cluster.same("w2", "t1", locations)
        keys = cluster.connection.keys
        streams = (keys.events, keys.news(JOB), keys.requests)
        hashes = (keys.beats, keys.workers, keys.store, keys.lease, keys.orders, keys.claims(JOB))
        refused: list[tuple[Any, ...]] = [
            *(("XREAD", "STREAMS", stream, "0-0") for stream in streams),
            *(("HGET", name, "x") for name in hashes),
            ("HGETALL", keys.addresses),
            ("HSET", keys.addresses, "w1", "elsewhere"),
            ("XADD", keys.locations(JOB), "*", "l", "x"),
            ("XRANGE", keys.locations(JOB), "-", "+"),
            ("DEL", keys.locations(JOB)),
            ("GET", keys.spec(JOB)),
            ("SET", keys.spec(JOB), "x"),
            ("XREAD", "STREAMS", f"other:{{{JOB}}}:locations", "0-0"),
            ("EVAL", "return redis.call('HGET', KEYS[1], 'w1')", 1, keys.addresses),
            ("KEYS", "*"), ("SCAN", 0), ("INFO",), ("CONFIG", "GET", "*"), ("ACL", "LIST"),
            ("CLIENT", "LIST"),
            ("PUBLISH", "x", "y"), ("FLUSHALL",), ("MULTI",),
        ]  # fmt: skip
        import redis

        url = cluster.hello("w1").redis_url
        with redis.Redis.from_url(url) as client:
            assert client.execute_command("HGET", keys.addresses, "w1")
            assert len(client.xread({keys.locations(JOB): "0-0"})[0][1]) == 3
            for command in refused:
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command)


def test_a_login_that_is_refused_is_said_at_the_start_and_ends_each_fetch_later(
    tmp_path: Path, redis_server: Redis, fetch_user: tuple[str, str]
) -> None:
    cluster = Cluster(tmp_path, redis_server, fetch_user)
    name, password = fetch_user
    with contextlib.closing(cluster), redis_server.client() as client:
        plane = cluster.start("w1")
        cluster.fetch("w1", "t1", 1)
        client.execute_command("ACL", "SETUSER", name, "resetpass", ">changed")
        client.execute_command("CLIENT", "KILL", "USER", name)
        outcome = cluster.failed("w1", "t1")
        assert (outcome.status, outcome.started) == (Status.LOST, False)
        assert outcome.error is not None
        assert "refuses user" in outcome.error.message
        with pytest.raises(OperatorError, match=f"refuses user {name}.*secrets file"):
            Plane(cluster.hello("w2")).start()
        client.execute_command("ACL", "SETUSER", name, f">{password}", "-hget")
        with pytest.raises(OperatorError, match=f"doesn't let user {name} do what mrq needs"):
            Plane(cluster.hello("w2")).start()
        client.execute_command("ACL", "SETUSER", name, "+hget")
        cluster.tell(cluster.output(0, "w1"))
        cluster.fetch("w1", "t2", 1)
        assert len(cluster.sources("w1", "t2")) == 1
        assert plane.troubles == []


def test_cancelled_in_the_middle_nothing_stays(cluster: Cluster) -> None:
    cluster.start("w1")
    cluster.start("w2")
    cluster.hide("w1")
    cluster.tell(cluster.output(0, "w1", size=30_000_000))
    cluster.fetch("w2", "t1", 2)
    folder = cluster.root("w2") / "jobs" / JOB / "fetched"
    wait_for(lambda: folder.exists() and list(folder.iterdir()))
    cluster.planes["w2"].discard("t1")
    wait_for(lambda: not list(folder.iterdir()))
    time.sleep(0.2)
    assert not list(folder.iterdir())


def test_leftovers_of_an_earlier_life_are_swept(cluster: Cluster) -> None:
    old = cluster.root("w1") / "jobs" / JOB / "fetched" / "t9"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    kept = cluster.output(0, "w1")
    cluster.start("w1")
    assert not old.exists()
    assert Path(map_output_path(str(cluster.root("w1")), kept.attempt)).exists()


def test_what_cant_be_bound_is_said_at_start(cluster: Cluster) -> None:
    address = cluster.start("w1").address
    for bind, key, error, words in (
        (address, KEY, OperatorError, "can't listen"),
        ("0.0.0.0:0", None, UsageError, "without a cluster key"),
        ("nonsense", KEY, UsageError, "HOST:PORT"),
    ):
        plane = Plane(cluster.hello("w2", bind=bind, key=key))
        with pytest.raises(error, match=words):
            plane.start()
        plane.close()


def test_it_dies_with_its_parent_even_when_it_is_stopped(tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import sys, time
        from mrq.worker.fetch.data_plane import DataPlane
        from mrq.worker.fetch.messages import Hello
        hello = Hello(root={str(tmp_path)!r}, worker="w", boot="b", redis_url="redis://127.0.0.1:1/0")
        plane = DataPlane(hello)
        plane.start()
        print(plane.pid, flush=True)
        time.sleep(60)
        """
    )
    for stopped in (False, True):
        parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        fd = os.pidfd_open(pid)
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
        parent.wait()
        parent.stdout.close()
        assert select.select([fd], [], [], 10)[0]
        os.close(fd)


def test_closing_leaves_no_process_and_no_file(cluster: Cluster) -> None:
    plane = cluster.start("w1")
    cluster.tell(replace(cluster.output(0, "w1"), worker="w2", boot="w2b"))
    cluster.fetch("w1", "t1", 1)
    pid = plane.pid
    assert pid is not None
    plane.close()
    plane.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    folder = cluster.root("w1") / "jobs" / JOB / "fetched"
    assert not folder.exists() or not list(folder.iterdir())


def test_a_data_plane_that_hangs_is_told_of_and_started_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_plane, "_SILENT_LOOKS", 3)
    monkeypatch.setattr(data_plane, "_UNWELL_LOOKS", 8)
    hanging = cluster.start("w1")
    told = hanging.troubles
    cluster.fetch("w1", "t0", 1)
    before = hanging.kill(signal.SIGSTOP)
    wait_for(lambda: told)
    assert "doesn't serve: it has said nothing for" in told[0]
    wait_for(lambda: hanging.pid not in (None, before))
    assert cluster.failed("w1", "t0") == Outcome(status=Status.HANDED_BACK, started=False)
    wait_for(lambda: told[-1] == "")  # it serves again
    cluster.start("w2")
    cluster.hide("w1")
    locations = [cluster.output(0, "w1")]
    cluster.tell(*locations)
    cluster.fetch("w2", "t1", 1)
    cluster.same("w2", "t1", locations)


def test_calls_that_are_half_open_hold_up_no_reduce(cluster: Cluster) -> None:
    """As many as there once were threads, and many more, to every method, from somebody without the key."""
    cluster.start("w1")
    cluster.start("w2")
    cluster.hide("w1")
    address = cluster.planes["w1"].address
    over = threading.Event()

    def never() -> Iterator[bytes]:
        over.wait(60)
        yield from ()

    channel = grpc.insecure_channel(address)
    calls = [
        channel.stream_stream(f"/mrq.v1.Files/{method}", None, None)(never(), timeout=60)
        for method in ("Sizes", "Fetch", "Dial", "Sees") * 20
    ]
    locations = [cluster.output(i, "w1") for i in range(3)]
    cluster.tell(*locations)
    cluster.fetch("w2", "t1", 3)
    cluster.same("w2", "t1", locations)
    over.set()
    for call in calls:
        call.cancel()
    channel.close()


def test_connections_that_nobody_uses_hold_up_no_reduce(cluster: Cluster) -> None:
    """More of them, from somebody without the key, than a shell lets a process have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = max(map(int, os.listdir("/proc/self/fd"))) + 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        cluster.start("w1")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 3 * few)), hard))
    cluster.start("w2")
    cluster.hide("w1")
    host, _, port = cluster.planes["w1"].address.rpartition(":")
    settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
    with contextlib.ExitStack() as opened:
        for _ in range(few + 50):
            opened.enter_context(socket.create_connection((host, int(port)))).sendall(settings)
        locations = [cluster.output(i, "w1") for i in range(3)]
        cluster.tell(*locations)
        cluster.fetch("w2", "t1", 3)
        cluster.same("w2", "t1", locations)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_workers_that_are_started_again_on_each_others_ports_lose_no_fetch(
    cluster: Cluster, said: list[str]
) -> None:
    cluster.start("reader")
    ports = {worker: cluster.start(worker).address for worker in ("w1", "w2")}
    done = 0
    for life in range(3):
        for worker in ports:
            cluster.hide(worker)
        locations = [
            replace(cluster.output(index, worker, ticket=life + 1), boot=f"{worker}b{life or ''}")
            for index, worker in enumerate(ports)
        ]
        cluster.tell(*locations)
        for _ in range(3):
            done += 1
            cluster.fetch("reader", f"t{done}", 2)
            cluster.same("reader", f"t{done}", locations)
        for worker in ports:
            cluster.planes[worker].close()
        ports = dict(zip(ports, reversed(ports.values()), strict=True))
        for worker, bind in ports.items():
            boot = f"{worker}b{life + 1}"
            cluster.start(worker, boot=boot, bind=bind)
    assert [text for text in said if "again" in said] == []
