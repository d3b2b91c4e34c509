"""Data planes as processes of their own: end to end, and when they die."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from mrq.core.commands import WriteLocation
from mrq.core.exchange import Batch, Fence, WriteAnswer
from mrq.core.model import Beat, JobSpec, MapLocation, Slots, Status
from mrq.core.paths import gathered_path, map_output_path
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.errors import OperatorError, UsageError
from mrq.servers.memory.store import MemoryStore
from mrq.shuffle.gathered import GatheredFile
from mrq.shuffle.mapfile import MapFile, MapFileWriter, MapHeader
from mrq.worker import gather
from mrq.worker.dataplane import plane as plane_module
from mrq.worker.dataplane.messages import Hello
from mrq.worker.dataplane.plane import DataPlane
from mrq.worker.order import MapSource

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
            return [
                e
                for e in self.events
                if isinstance(e, gather.Gathered | gather.GatherFailed) and e.token == token
            ]

        with self._more:
            assert self._more.wait_for(ended, timeout_s), self.events
            return ended()[0]


class Cluster:
    """A store, and workers with a folder and a data plane each."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.store = MemoryStore()
        self.seq = 0
        self.planes: dict[str, DataPlane] = {}
        self.inboxes: dict[str, Inbox] = {}
        self.said: list[str] = []
        spec = JobSpec(
            job=JOB,
            name="Test",
            code="c",
            entry="m:C",
            parameters={},
            inputs=(),
            splits=(),
            reducers=2,
            input_format="text",
            output_format="text",
        )
        assert self.store.begin(spec, b"", self.fence()) is WriteAnswer.WRITTEN

    def fence(self) -> Fence:
        return Fence(incarnation=1, epoch=1, owner="o", seq=self.seq)

    def start(self, worker: str, **changes: Any) -> DataPlane:
        said: dict[str, Any] = {
            "root": str(self.root(worker)),
            "worker": worker,
            "boot": f"{worker}b",
            "key": KEY,
            **changes,
        }
        plane = DataPlane(hello=Hello(**said), store=self.store, log=self.said.append)
        self.inboxes[worker] = Inbox()
        plane.attach(self.inboxes[worker])
        address = plane.start()
        self.planes[worker] = plane
        boot = said["boot"]
        self.store.beat(Beat(worker=worker, boot=boot, seq=1, slots=SLOTS, address=address))
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
        assert self.store.write(batch) is WriteAnswer.WRITTEN

    def gather(self, worker: str, token: str, maps: int, partition: int = 1) -> None:
        self.planes[worker].gather(AttemptRef(TaskRef(JOB, 0, Kind.REDUCE, partition), 1, 1, token), maps)

    def sources(self, worker: str, token: str) -> tuple[MapSource, ...]:
        end = self.inboxes[worker].end_of(token)
        assert isinstance(end, gather.Gathered), end
        return end.sources

    def same(self, worker: str, token: str, locations: list[MapLocation], partition: int = 1) -> None:
        for source, location in zip(self.sources(worker, token), locations, strict=True):
            path = map_output_path(str(self.root(location.worker)), location.attempt)
            with MapFile(path) as file:
                wanted = list(file.blocks(partition))
                if source.partition is None:
                    assert source.path == path
                    continue
            region = GatheredFile(source.path).region(source.partition, source.digest)
            assert list(region.blocks()) == wanted

    def close(self) -> None:
        for plane in self.planes.values():
            plane.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.close()


def wait_for(condition: Callable[[], Any], timeout_s: float = 20) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_a_reduce_gathers_while_maps_still_end(cluster: Cluster) -> None:
    cluster.start("w1")
    cluster.start("w2")
    cluster.hide("w1")
    cluster.gather("w2", "t1", 4)
    locations = [cluster.output(i, "w1" if i % 2 else "w2") for i in range(4)]
    for location in locations:
        cluster.tell(location)
    cluster.same("w2", "t1", locations)
    sources = cluster.sources("w2", "t1")
    assert [source.partition for source in sources] == [None, 1, None, 3]
    path = Path(gathered_path(str(cluster.root("w2")), JOB, "t1"))
    assert path.exists()
    cluster.planes["w2"].cancel("t1")
    wait_for(lambda: not path.exists())
    assert cluster.said == []


def test_a_shared_disk_is_recognised(cluster: Cluster) -> None:
    cluster.start("w1")
    cluster.start("w2")
    locations = [cluster.output(i, "w1") for i in range(3)]
    cluster.tell(*locations)
    cluster.gather("w2", "t1", 3)
    cluster.same("w2", "t1", locations)
    assert all(source.partition is None for source in cluster.sources("w2", "t1"))


def test_two_reduces_and_two_jobs_side_by_side(cluster: Cluster) -> None:
    cluster.start("w1")
    cluster.start("w2")
    cluster.hide("w1")
    locations = [cluster.output(i, "w1") for i in range(3)]
    cluster.tell(*locations[:2])
    for partition in range(2):
        cluster.gather("w2", f"t{partition}", 3, partition)
    cluster.planes["w2"].gather(AttemptRef(TaskRef("job-2", 0, Kind.REDUCE, 0), 1, 1, "other"), 1)
    cluster.tell(locations[2])
    for partition in range(2):
        cluster.same("w2", f"t{partition}", locations, partition)
    cluster.planes["w2"].forget("job-2")
    cluster.planes["w2"].forget(JOB)
    folder = cluster.root("w2") / "jobs" / JOB / "gathered"
    wait_for(lambda: not list(folder.iterdir()))


def test_a_withdrawn_output_is_waited_for(cluster: Cluster) -> None:
    cluster.start("w1")
    cluster.start("w2")
    cluster.hide("w1")
    old = [cluster.output(i, "w1") for i in range(2)]
    cluster.tell(old[0])
    cluster.gather("w2", "t1", 2)
    wait_for(lambda: cluster.inboxes["w2"].events)
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
    cluster.gather("w2", "t1", 1)
    end = cluster.inboxes["w2"].end_of("t1")
    assert isinstance(end, gather.GatherFailed)
    assert (end.outcome.status, end.outcome.started) == (Status.FETCH_FAILED, False)
    assert [(f.map_index, f.reason) for f in end.outcome.fetch_failures] == [(0, "not_found")]


def test_a_server_that_is_killed_in_the_middle_is_fetched_from_again(cluster: Cluster) -> None:
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
        whole = Path(gathered_path(str(cluster.root("w2")), JOB, token))
        partial = whole.with_name(f"{token}.partial")
        cluster.gather("w2", token, 2)
        wait_for(lambda partial=partial, whole=whole: _size(partial) > 1 << 20 or whole.exists())
        os.kill(before, signal.SIGSTOP)
        if partial.exists():
            break
        os.kill(before, signal.SIGCONT)
    os.kill(before, signal.SIGKILL)
    cluster.same("w2", token, locations)
    wait_for(lambda: serving.pid not in (None, before))
    assert any("started again" in text for text in cluster.said)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_a_gatherer_that_is_killed_in_the_middle_gathers_again(cluster: Cluster) -> None:
    cluster.start("w1")
    gathering = cluster.start("w2")
    cluster.hide("w1")
    locations = [cluster.output(i, "w1", size=30_000_000) for i in range(2)]
    cluster.tell(locations[0])
    whole = cluster.root("w2") / "jobs" / JOB / "gathered" / "t0"
    cluster.gather("w2", "t0", 1)
    cluster.same("w2", "t0", locations[:1])
    cluster.gather("w2", "t1", 2)
    assert gathering.pid is not None
    os.kill(gathering.pid, signal.SIGKILL)
    cluster.tell(locations[1])
    cluster.same("w2", "t1", locations)
    assert whole.exists()  # what was gathered whole stays
    gathering.cancel("t0")
    wait_for(lambda: not whole.exists())


def test_an_attempt_that_kills_the_data_plane_is_given_up(cluster: Cluster) -> None:
    gathering = cluster.start("w2")
    cluster.gather("w2", "t1", 1)
    wait_for(lambda: "t1" in gathering._attempts)  # a death before it is known isn't its own
    for _ in range(3):
        pid = wait_for(lambda: gathering.pid)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: gathering.pid != pid)
    end = cluster.inboxes["w2"].end_of("t1")
    assert isinstance(end, gather.GatherFailed)
    assert (end.outcome.status, end.outcome.started) == (Status.LOST, False)
    assert end.outcome.error is not None
    assert "died 3 times" in end.outcome.error.message
    wait_for(lambda: gathering.pid)
    cluster.tell(cluster.output(0, "w2"))
    cluster.gather("w2", "t2", 1)  # it serves the next
    assert len(cluster.sources("w2", "t2")) == 1


def test_cancelled_in_the_middle_nothing_stays(cluster: Cluster) -> None:
    cluster.start("w1")
    cluster.start("w2")
    cluster.hide("w1")
    cluster.tell(cluster.output(0, "w1", size=30_000_000))
    cluster.gather("w2", "t1", 2)
    folder = cluster.root("w2") / "jobs" / JOB / "gathered"
    wait_for(lambda: folder.exists() and list(folder.iterdir()))
    cluster.planes["w2"].cancel("t1")
    wait_for(lambda: not list(folder.iterdir()))
    time.sleep(0.2)
    assert not list(folder.iterdir())


def test_leftovers_of_an_earlier_life_are_swept(cluster: Cluster) -> None:
    old = cluster.root("w1") / "jobs" / JOB / "gathered" / "t9"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    kept = cluster.output(0, "w1")
    cluster.start("w1")
    assert not old.exists()
    assert Path(map_output_path(str(cluster.root("w1")), kept.attempt)).exists()


def test_what_cant_be_bound_is_said_at_start(cluster: Cluster) -> None:
    address = cluster.start("w1")._hello.bind
    for bind, key, error, words in (
        (address, KEY, OperatorError, "can't listen"),
        ("0.0.0.0:0", None, UsageError, "without a cluster key"),
        ("nonsense", KEY, UsageError, "HOST:PORT"),
    ):
        hello = Hello(root=str(cluster.root("w2")), worker="w2", boot="b", bind=bind, key=key)
        plane = DataPlane(hello=hello, store=cluster.store)
        with pytest.raises(error, match=words):
            plane.start()
        plane.close()


def test_it_dies_with_its_parent_even_when_it_is_stopped(tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import sys, time
        from mrq.servers.memory.store import MemoryStore
        from mrq.worker.dataplane.messages import Hello
        from mrq.worker.dataplane.plane import DataPlane
        plane = DataPlane(hello=Hello(root={str(tmp_path)!r}, worker="w", boot="b"), store=MemoryStore())
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
    cluster.gather("w1", "t1", 1)
    pid = plane.pid
    assert pid is not None
    plane.close()
    plane.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    folder = cluster.root("w1") / "jobs" / JOB / "gathered"
    assert not folder.exists() or not list(folder.iterdir())


def test_a_data_plane_that_hangs_is_told_of_and_started_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane_module, "_SILENT_LOOKS", 3)
    monkeypatch.setattr(plane_module, "_UNWELL_LOOKS", 2)
    hanging = cluster.start("w1")
    told: list[str] = []
    hanging.watch(told.append)
    before = hanging.pid
    assert before is not None
    os.kill(before, signal.SIGSTOP)
    wait_for(lambda: told)
    assert "doesn't serve: it has said nothing for" in told[0]
    wait_for(lambda: hanging.pid not in (None, before))
    wait_for(lambda: told[-1] == "")  # it serves again
    cluster.start("w2")
    cluster.hide("w1")
    locations = [cluster.output(0, "w1")]
    cluster.tell(*locations)
    cluster.gather("w2", "t1", 1)
    cluster.same("w2", "t1", locations)


def test_calls_that_are_half_open_hold_up_no_reduce(cluster: Cluster) -> None:
    """As many as there once were threads, and many more, to every method, from somebody without the key."""
    cluster.start("w1")
    cluster.start("w2")
    cluster.hide("w1")
    address = cluster.planes["w1"]._hello.bind
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
    cluster.gather("w2", "t1", 3)
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
    host, _, port = cluster.planes["w1"]._hello.bind.rpartition(":")
    settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
    with contextlib.ExitStack() as opened:
        for _ in range(few + 50):
            opened.enter_context(socket.create_connection((host, int(port)))).sendall(settings)
        locations = [cluster.output(i, "w1") for i in range(3)]
        cluster.tell(*locations)
        cluster.gather("w2", "t1", 3)
        cluster.same("w2", "t1", locations)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_workers_that_are_started_again_on_each_others_ports_lose_no_fetch(cluster: Cluster) -> None:
    cluster.start("reader")
    ports = {worker: cluster.start(worker)._hello.bind for worker in ("w1", "w2")}
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
            cluster.gather("reader", f"t{done}", 2)
            cluster.same("reader", f"t{done}", locations)
        for worker in ports:
            cluster.planes[worker].close()
        ports = dict(zip(ports, reversed(ports.values()), strict=True))
        for worker, bind in ports.items():
            boot = f"{worker}b{life + 1}"
            cluster.start(worker, boot=boot, bind=bind)
    assert [said for said in cluster.said if "again" in said] == []
