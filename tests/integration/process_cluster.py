"""Masters and workers as real processes on RabbitMQ and Redis, and clients in the test's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from said import listening
from services import Broker, Redis

from mrq.core.model import WorkerHealth
from mrq.engine.engine import Engine
from mrq.engine.remote import cluster_engine
from mrq.settings import cluster as profile


class ProcessCluster:
    """Close it: it ends its processes."""

    def __init__(self, broker: Broker, server: Redis, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MRQ_")},
            "MRQ_AMQP_URL": broker.url,
            "MRQ_REDIS_URL": server.url,
            "MRQ_PREFIX": server.prefix,
            "MRQ_SHARED_ROOT": str(folder / "shared"),
            "MRQ_TIMEOUT_S": "30",
            "MRQ_TMP": str(folder),
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.clients: list[Engine] = []
        self._listening = ExitStack()
        self.said = self._listening.enter_context(listening())
        self.seen: list[tuple[object, ...]] = []
        subprocess.run(
            [sys.executable, "-m", "mrq.master", "--init"],
            env=self.environ,
            cwd=folder,
            check=True,
            timeout=60,
            capture_output=True,
        )

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._listening.close()

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], env=self.environ, cwd=self.folder, stderr=log, stdout=log
            )
        self.processes[name] = process
        return process

    def master(self, name: str = "master") -> subprocess.Popen[bytes]:
        return self.start(name, "mrq.master", "--root", str(self.folder / name))

    def worker(
        self,
        name: str,
        maps: int = 1,
        reduces: int = 1,
        *flags: str,
        module: tuple[str, ...] = ("mrq.worker",),
    ) -> subprocess.Popen[bytes]:
        slots = ("--map-slots", str(maps), "--reduce-slots", str(reduces))
        root = ("--root", str(self.folder / "workers"), "--worker-id", name)
        return self.start(name, *module, *slots, *root, "--listen", "127.0.0.1:0", *flags)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def client(self) -> Engine:
        found = profile.load(None, flags={}, env=self.environ, cwd=str(self.folder))
        engine = cluster_engine(found)
        self.clients.append(engine)
        return engine

    def kill(self, name: str) -> None:
        """As kill -9 does."""
        process = self.processes[name]
        process.send_signal(signal.SIGKILL)
        process.wait()

    def leading(self, name: str, timeout_s: float = 30.0) -> None:
        """Wait until that master leads."""
        self.until(lambda: "leading, epoch" in self.log(name), timeout_s)

    def until(self, true: Callable[[], object], timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not true():
            logs = {name: self.log(name)[-2000:] for name in self.processes}
            assert time.monotonic() < deadline, f"it didn't come about: {self.seen}, {self.said}, {logs}"
            time.sleep(0.05)

    def workers_ready(self, client: Engine, count: int) -> None:
        def ready() -> bool:
            rows = client.ask("workers")["workers"]
            self.seen = [(row.worker, row.health.value, row.trouble, row.beating) for row in rows]
            return sum(row.health is WorkerHealth.ALIVE for row in rows) >= count

        self.until(ready)


@contextmanager
def process_cluster(broker: Broker, server: Redis, folder: Path) -> Iterator[ProcessCluster]:
    made = ProcessCluster(broker, server, folder)
    try:
        yield made
    finally:
        made.close()
