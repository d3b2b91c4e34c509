"""Workers as real processes on RabbitMQ and Redis, led by a few lines in the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services import Broker, Redis

from mrq.adapters import rabbitmq, redis
from mrq.core.commands import GiveOrder, WriteJob, WriteLocation, WriteTask, WriteWorker
from mrq.core.events import AttemptReported, BeatReceived, WorkerLeft
from mrq.core.model import (
    JobSpec,
    JobState,
    MapLocation,
    Piece,
    Split,
    StageSpec,
    TaskMessage,
    WorkerHealth,
)
from mrq.core.refs import Kind, TaskRef
from mrq.core.store_api import Batch, Fence
from mrq.job import bundle
from mrq.settings.cluster import load

_WORKER = (sys.executable, "-m", "mrq.worker", "--map-slots", "1", "--reduce-slots", "1")
FENCE = {"incarnation": 1, "epoch": 1, "owner": "test"}


class Servers:
    """What workers connect to, and a leader that admits every worker. Close it: it ends its workers."""

    def __init__(self, broker: Broker, server: Redis, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MRQ_")},
            "MRQ_AMQP_URL": broker.url,
            "MRQ_REDIS_URL": server.url,
            "MRQ_PREFIX": server.prefix,
            "MRQ_SHARED_ROOT": str(folder),
            "MRQ_TIMEOUT_S": "20",
        }
        profile = load(None, flags={}, env=self.environ, cwd=str(folder))
        self._connection = redis.connect(server.url, prefix=server.prefix)
        self.store = redis.RedisLeaderStore(self._connection, keep_s=0)
        self.worker_store = redis.RedisWorkerStore(self._connection)
        self.blobs = redis.RedisBlobs(self._connection)
        self.store.init()
        self.store.open(1)
        self.store.lead(Fence(**FENCE, seq=0))
        self.events: list[Any] = []
        self._changed = threading.Condition()
        self._seq: dict[str, int] = {}
        self._admitted: set[str] = set()
        self._reader = redis.LeaderEvents(self._connection, self._take, recorded=self.store.recorded)
        self._reader.note()
        self._reader.start()
        self.broker = rabbitmq.connect(
            broker.url,
            keys=rabbitmq.SigningKeys(current=profile.key_id, secrets=profile.keys),
            prefix=server.prefix,
        )
        self.processes: list[subprocess.Popen[str]] = []

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._reader.close()
        self.broker.close()
        self._connection.close()

    def _take(self, event: Any) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, found: Callable[[], Any], timeout_s: float = 30.0) -> Any:
        """What `found` gives, once it gives something; workers that are new are admitted meanwhile."""
        until = time.monotonic() + timeout_s
        while True:
            self._admit()
            with self._changed:
                result = found()
                if result:
                    return result
                left = until - time.monotonic()
                assert left > 0, f"it didn't come: {self.events}; {[self.said(p) for p in self.processes]}"
                self._changed.wait(min(left, 0.2))

    def _admit(self) -> None:
        for beat in self.beats():
            if beat.boot not in self._admitted and beat.address:
                self._admitted.add(beat.boot)
                self.write("", WriteWorker(worker=beat.worker, boot=beat.boot, health=WorkerHealth.ALIVE))

    def beats(self) -> list[Any]:
        return [event.beat for event in list(self.events) if isinstance(event, BeatReceived)]

    def left(self) -> list[str]:
        """Boots that said goodbye."""
        return [event.boot for event in list(self.events) if isinstance(event, WorkerLeft)]

    def reports(self) -> list[AttemptReported]:
        told = [event for event in list(self.events) if isinstance(event, AttemptReported)]
        return list({event.attempt.token: event for event in told}.values())

    def start(self, worker: str = "w", root: str = "root", *flags: str) -> subprocess.Popen[str]:
        """One worker's process; its folder is below `root`."""
        log = open(self.folder / f"{len(self.processes)}.log", "w")  # noqa: SIM115 - the process's
        process = subprocess.Popen(
            [*_WORKER, "--worker-id", worker, "--root", str(self.folder / root), *flags],
            env=self.environ,
            cwd=self.folder,
            stderr=log,
            text=True,
        )
        log.close()
        self.processes.append(process)
        return process

    def said(self, process: subprocess.Popen[str]) -> str:
        return (self.folder / f"{self.processes.index(process)}.log").read_text()

    def end(self, process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
        """Signal it, and wait for its exit code."""
        process.send_signal(number)
        return process.wait(20)

    def write(self, job: str, *writes: Any, orders: tuple[GiveOrder, ...] = ()) -> None:
        self._seq[job] = seq = self._seq.get(job, 0) + 1
        self.store.write(Batch(job=job, fence=Fence(**FENCE, seq=seq), writes=writes, orders=orders))

    def submit(self, code: str, lines: list[str]) -> JobSpec:
        """A job `j` with a map for each line, one reduce, and nothing published yet."""
        source = self.folder / "t.py"
        source.write_text("import os, sys, time\nimport mrq\n" + code)
        pieces = []
        for index, line in enumerate(lines):
            path = self.folder / f"{index}.txt"
            path.write_text(line + "\n")
            size = path.stat().st_size
            pieces.append(Piece(path=path.name, open=str(path), start=0, length=size, size=size, mtime_ns=0))
        data = bundle.pack({"t.py": str(source)})
        spec = JobSpec(
            job="j",
            name="T",
            code=self.blobs.put(data),
            entry="t:T",
            parameters={},
            inputs=tuple(piece.path for piece in pieces),
            stages=(
                StageSpec(
                    splits=tuple(Split(index=index, pieces=(piece,)) for index, piece in enumerate(pieces)),
                    reducers=1,
                ),
            ),
            staging=str(self.folder / ".out.mrq"),
        )
        (self.folder / ".out.mrq").mkdir()
        self.store.begin(spec, data, Fence(**FENCE, seq=0))
        self.write("j", WriteJob(job="j", state=JobState.RUNNING))
        return spec

    def publish(self, kind: Kind, index: int, *, ticket: int = 1) -> None:
        self.write("j", _row(kind, index, ticket))
        message = TaskMessage(
            task=TaskRef("j", 0, kind, index),
            ticket=ticket,
        )
        self.broker.publish([message])

    def locate(self, report: AttemptReported) -> None:
        """A map is done: reduces may fetch it."""
        assert report.outcome.result is not None, report.outcome
        location = MapLocation(
            attempt=report.attempt,
            worker=report.worker,
            boot=report.boot,
            digest=report.outcome.result.digest,
            bytes=report.outcome.result.bytes_out,
        )
        done = _row(Kind.MAP, report.attempt.task.index, 0)
        self.write("j", done, WriteLocation(location=location))


def _row(kind: Kind, index: int, ticket: int) -> WriteTask:
    return WriteTask(
        task=TaskRef("j", 0, kind, index),
        primary=ticket,
        backup=0,
    )
