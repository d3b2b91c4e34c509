"""Shuffle fetch between two processes, beside a bare gRPC stream of the same chunk size.

    python benchmarks/fetch.py [--mib 256] [--maps 16,2000] [--rounds 5]

For each number of maps so many files of a partition each, together --mib, are made, in --folder: in memory
(/dev/shm) by default, where a disk's own speed isn't measured. Then, in turn, with a server in a process of
its own each:

    bare      a gRPC server that yields one 1 MiB buffer again and again, a client that counts bytes: no file,
              no checksum
    to file   the same, and the client writes the bytes to a file
    fetch     one reduce's fetch through two data planes, from asking for it to "fetched": locations that are
              known already from a Redis in a container, sizes asked for, files read, streams, checksums, the
              local file written, the index on top

Goal: fetch at least 70% of bare.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import selectors
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster_rig import redis_server

from mrq.adapters.grpc import channels
from mrq.adapters.redis import RedisLeaderStore, RedisWorkerStore, connect
from mrq.core.commands import WriteLocation
from mrq.core.model import Beat, JobSpec, MapLocation, Slots, StageSpec
from mrq.core.paths import fetched_path, map_output_path
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_api import Batch, Fence
from mrq.shuffle.block import Frame
from mrq.shuffle.mapfile import MapFileWriter, MapHeader
from mrq.worker.fetch.data_plane import DataPlane
from mrq.worker.fetch.messages import Fetched, FetchProgressed, Hello

JOB = "bench"
CHUNK = channels.CHUNK
KEY = b"key"

SERVER = """
import os, sys
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
import grpc
from concurrent.futures import ThreadPoolExecutor
from mrq.adapters.grpc import channels
chunk = os.urandom(channels.CHUNK)
def fetch(request, context):
    for _ in range(int(request)):
        yield chunk
handler = grpc.unary_stream_rpc_method_handler(fetch)
server = grpc.server(ThreadPoolExecutor(8), options=channels.SERVER)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(channels.SERVICE, {"Fetch": handler}),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
sys.stdin.read()
"""

CLIENT = """
import os, sys, time
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
import grpc
from mrq.adapters.grpc import channels
port, chunks, path = sys.argv[1:]
channel = grpc.insecure_channel(f"127.0.0.1:{port}", channels.CHANNEL)
grpc.channel_ready_future(channel).result()
fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if path else -1
at, began, busy = 0, time.perf_counter(), time.process_time()
for data in channel.unary_stream(channels.FETCH, None, None)(chunks.encode()):
    if fd >= 0:
        os.pwrite(fd, data, at)
    at += len(data)
print(time.perf_counter() - began, time.process_time() - busy)
assert at == int(chunks) * channels.CHUNK
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--maps", default="16,2000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", default="/dev/shm" if os.path.isdir("/dev/shm") else None)
    args = parser.parse_args()
    for maps in map(int, args.maps.split(",")):
        folder = Path(tempfile.mkdtemp(prefix="mrq-fetch-", dir=args.folder))
        try:
            with redis_server() as url:
                run(folder, url, maps, args.mib, args.rounds)
        finally:
            shutil.rmtree(folder)


def run(folder: Path, url: str, maps: int, mib: int, rounds: int) -> None:
    rig = Rig(folder, url, maps, mib << 20)
    bare = subprocess.Popen([sys.executable, "-c", SERVER], stdin=-1, stdout=-1, text=True)
    assert bare.stdout is not None
    port = bare.stdout.readline().strip()
    chunks = str(rig.bytes // CHUNK)
    times: dict[str, list[float]] = {"bare": [], "to file": [], "fetch": []}
    cpu: dict[str, list[float]] = {name: [] for name in times}

    def timed(name: str, pids: list[int], call: Any) -> None:
        before = spent(pids)
        took = call()
        times[name].append(took if isinstance(took, float) else took[0])
        cpu[name].append(spent(pids) - before + (0.0 if isinstance(took, float) else took[1]))

    try:
        for _ in range(rounds):
            timed("bare", [bare.pid], lambda: client(port, chunks, ""))
            timed("to file", [bare.pid], lambda: client(port, chunks, f"{folder}/copy"))
            timed("fetch", [plane.pid for plane in rig.planes], rig.fetch)
    finally:
        bare.communicate("")
        rig.close()
    size = rig.bytes >> 20
    print(f"{maps} maps, {size} MiB, {rounds} rounds: MiB/s, median (least, most)")
    for name, found in times.items():
        speeds = sorted(size / seconds for seconds in found)
        busy = statistics.median(cpu[name]) * 1024 / size
        print(
            f"  {name:8} {statistics.median(speeds):7.0f}  ({speeds[0]:.0f}, {speeds[-1]:.0f})"
            f"  {busy:.2f} CPU s a GiB"
        )
    pairs = zip(times["bare"], times["fetch"], strict=True)
    ratio = statistics.median(b / f for b, f in pairs)
    print(f"  fetch is {ratio:.0%} of bare: goal 70% {'met' if ratio >= 0.7 else 'NOT met'}")


def spent(pids: list[int]) -> float:
    """CPU seconds of processes so far."""
    total = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def client(port: str, chunks: str, path: str) -> tuple[float, float]:
    """Seconds, and CPU seconds, of one stream."""
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, port, chunks, path], check=True, stdout=subprocess.PIPE, text=True
    )
    seconds, busy = map(float, done.stdout.split())
    return seconds, busy


class Rig:
    """Two data planes, and map outputs at one of them."""

    def __init__(self, folder: Path, url: str, maps: int, size: int) -> None:
        self.connection = connect(url, wait_s=30)
        leader, store = RedisLeaderStore(self.connection), RedisWorkerStore(self.connection)
        leader.init()
        leader.open(1)
        self.posted: deque[Callable[[], None]] = deque()
        self.over = False
        self.selector = selectors.DefaultSelector()
        self.wake = os.eventfd(0)
        self.selector.register(self.wake, selectors.EVENT_READ, lambda: os.eventfd_read(self.wake))
        self.done = threading.Event()
        self.last: Any = None
        self.maps = maps
        self.folder = folder
        self.planes = []
        for worker in ("w1", "w2"):
            hello = Hello(root=str(folder / worker), worker=worker, boot=worker, redis_url=url, key=KEY)
            plane = DataPlane(hello)
            slots = Slots(map=1, reduce=1, total=1)
            store.beat(Beat(worker=worker, boot=worker, seq=1, slots=slots, address=plane.start()))
            plane.attach(self.selector, self._hear)
            self.planes.append(plane)
        self.thread = threading.Thread(target=self._loop)
        self.thread.start()
        (folder / "w1" / "sentinel").write_text("not this one")  # as on another machine
        spec = JobSpec(
            job=JOB,
            name=JOB,
            code=hashlib.sha256(b"").hexdigest(),
            entry="",
            parameters={},
            inputs=(),
            stages=(StageSpec(splits=(), reducers=1),),
        )
        leader.begin(spec, b"", Fence(incarnation=1, epoch=1, owner="o", seq=0))
        locations = [output(folder / "w1", index, size // maps) for index in range(maps)]
        self.bytes = sum(location.bytes for location in locations)
        writes = tuple(WriteLocation(location=location, withdrawn=False) for location in locations)
        fence = Fence(incarnation=1, epoch=1, owner="o", seq=1)
        leader.write(Batch(job=JOB, fence=fence, writes=writes))
        self.serial = 0
        self.fetch()  # warm: locations known, connected, dialled

    def _loop(self) -> None:
        """What an agent's loop does for its data plane."""
        while not self.over:
            for key, _ in self.selector.select(0.5):
                if key.fd in self.selector.get_map():
                    key.data()
            while self.posted:
                self.posted.popleft()()

    def post(self, work: Callable[[], None]) -> None:
        self.posted.append(work)
        os.eventfd_write(self.wake, 1)

    def _hear(self, event: object) -> None:
        if not isinstance(event, FetchProgressed):
            self.last = event
            self.done.set()

    def fetch(self) -> float:
        self.serial += 1
        self.done.clear()
        token = f"t{self.serial}"
        attempt = AttemptRef(TaskRef(JOB, 0, Kind.REDUCE, 0), 1, 1, token)
        began = time.perf_counter()
        self.post(lambda: self.planes[1].fetch(attempt, self.maps))
        assert self.done.wait(120)
        seconds = time.perf_counter() - began
        assert isinstance(self.last, Fetched), self.last
        assert all(source.partition is not None for source in self.last.sources)
        self.post(lambda: self.planes[1].discard(attempt))
        # Removing it takes tens of milliseconds, which the next round must not be charged.
        while os.path.exists(fetched_path(str(self.folder / "w2"), JOB, token)):
            time.sleep(0.001)
        return seconds

    def close(self) -> None:
        self.post(lambda: setattr(self, "over", True))
        self.thread.join()
        for plane in self.planes:
            plane.close()
        self.connection.close()


def output(root: Path, index: int, size: int) -> MapLocation:
    attempt = AttemptRef(TaskRef(JOB, 0, Kind.MAP, index), 1, 1, f"w1-{index}")
    path = map_output_path(str(root), attempt)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    header = MapHeader(attempt=attempt, code="")
    writer = MapFileWriter(path, header, partitions=1)
    writer.begin(0)
    for _ in range(max(1, size // CHUNK)):
        writer.put([Frame(os.urandom(min(size, CHUNK) - 16), 1, 1)])
    writer.end()
    info = writer.finish()
    return MapLocation(attempt=attempt, worker="w1", boot="w1", digest=info.digest, bytes=info.bytes)


if __name__ == "__main__":
    main()
