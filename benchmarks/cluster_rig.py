"""A cluster on this machine for the benchmarks: servers in containers, masters and workers as processes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

RABBITMQ = "rabbitmq:4.0"
REDIS = "redis:8.0"
START_S = 90.0


@dataclass
class Cluster:
    """What runs, and how to reach it."""

    folder: str
    env: dict[str, str]
    amqp_url: str
    redis_url: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *command: str, name: str, **extra: str) -> subprocess.Popen[bytes]:
        """A process of the cluster, its output in `folder`."""
        with open(os.path.join(self.folder, f"{name}.log"), "wb") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                env={**self.env, **extra},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def wait_for_workers(self, count: int) -> None:
        """Until that many workers take tasks."""
        until = time.monotonic() + START_S
        said = b""
        while time.monotonic() < until:
            asked = [sys.executable, "-m", "mrq", "workers", "--json"]
            done = subprocess.run(asked, env=self.env, capture_output=True, check=False)
            said = done.stdout + done.stderr
            with contextlib.suppress(ValueError):
                workers = json.loads(done.stdout or b"{}").get("workers", ())
                if sum(worker["health"] == "alive" for worker in workers) >= count:
                    return
            for process in self.processes:
                if process.poll() is not None:
                    sys.exit(f"{process.args} ended with {process.returncode}; see {self.folder}/*.log")
            time.sleep(0.2)
        sys.exit(f"the workers weren't there after {START_S:g} s: {said.decode()[-2000:]}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _container(image: str, *command: str) -> tuple[str, str]:
    """Its id and its own address: a published port would go through Docker's proxy, on the same cores."""
    run = ["docker", "run", "-d", "--rm", "--label", "mrq-bench=1", image, *command]
    container = subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()
    ask = ["docker", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container]
    return container, subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def services() -> Iterator[tuple[str, str]]:
    """URLs of a RabbitMQ and a Redis in containers of this run's own."""
    broker, amqp = _container(RABBITMQ)
    try:
        with redis_server() as url:
            yield f"amqp://guest:guest@{amqp}/%2F", url
    finally:
        subprocess.run(["docker", "rm", "-f", "-v", broker], check=False, capture_output=True)


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a Redis in a container of this run's own."""
    store, address = _container(
        REDIS, "redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--appendonly", "yes"
    )  # fmt: skip
    try:
        yield f"redis://{address}/0"
    finally:
        subprocess.run(["docker", "rm", "-f", "-v", store], check=False, capture_output=True)


@contextlib.contextmanager
def cluster(folder: str, *, workers: int = 2, slots: int = 1, apart: bool = False) -> Iterator[Cluster]:
    """A master, and workers of `slots` map and reduce slots. `apart`: no worker reads another's folder."""
    os.makedirs(folder, exist_ok=True)
    with services() as (amqp_url, redis_url):
        env = {
            **os.environ,
            "MRQ_AMQP_URL": amqp_url,
            "MRQ_REDIS_URL": redis_url,
            "MRQ_SHARED_ROOT": os.path.join(folder, "shared"),
        }
        made = Cluster(folder, env, amqp_url, redis_url)
        try:
            _retry([sys.executable, "-m", "mrq.master", "--init"], env)
            made.start("-m", "mrq.master", name="master")
            for i in range(workers):
                made.start(*worker_command(folder, i, slots), name=f"worker-{i}")
            made.wait_for_workers(workers)
            if apart:
                _put_apart(folder)
            yield made
        finally:
            stop(made.processes)


@contextlib.contextmanager
def composed(folder: str, *, workers: int = 2) -> Iterator[Callable[..., float]]:
    """The cluster of compose.yaml, of the images that are here (`make images`), in a folder of its own; its
    data lies in FOLDER/data. What it yields runs `docker compose ARGS` there and returns its seconds."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    os.makedirs(os.path.join(folder, "data"))
    shutil.copy(os.path.join(root, "compose.yaml"), folder)
    shutil.copytree(os.path.join(root, "infra"), os.path.join(folder, "infra"))
    env = {
        **os.environ,
        "MRQ_PROJECT": f"mrq-bench-{os.getpid()}",
        "MRQ_AMQP_PORT": str(free_port()),
        "MRQ_REDIS_PORT": str(free_port()),
        "PWD": folder,
    }

    def compose(*args: str) -> float:
        started = time.perf_counter()
        done = subprocess.run(
            ["docker", "compose", *args],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"docker compose {' '.join(args)}:\n{done.stderr.decode()[-3000:]}")
        return time.perf_counter() - started

    try:
        compose("up", "-d", "--wait", "--scale", f"worker={workers}")
        yield compose
    finally:
        compose("--profile", "client", "down", "-v", "--remove-orphans", "-t", "3")


def _put_apart(folder: str) -> None:
    """Change what tells that a peer's folder is the one at the same path here: as on another machine."""
    sentinels = [
        os.path.join(place, "sentinel") for place, _, names in os.walk(folder) if "sentinel" in names
    ]
    for path in sentinels:
        os.chmod(path, 0o600)
        with open(path, "w", encoding="ascii") as file:
            file.write("elsewhere")


def worker_command(folder: str, index: int, slots: int) -> Sequence[str]:
    return (
        "-m", "mrq.worker", "--worker-id", f"bench-{index}",
        "--root", os.path.join(folder, f"worker-{index}"),
        "--map-slots", str(slots), "--reduce-slots", str(slots),
        "--listen", f"127.0.0.1:{free_port()}",
    )  # fmt: skip


def _retry(command: Sequence[str], env: dict[str, str]) -> None:
    subprocess.run(command, env=env, check=True, stdin=subprocess.DEVNULL)


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    until = time.monotonic() + 10
    for process in processes:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_s(pid: int) -> float:
    """User and system seconds that a process has used."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
