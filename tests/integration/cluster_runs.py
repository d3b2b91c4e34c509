"""Clusters of processes that tests break, and the command line as a user of them has it.

A test's module makes one with `cluster_of` (its own virtual host and prefix on the run's servers, or on
servers of the module's own), and `logs_of` shows what its processes said during a test that failed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pika
from cli_runs import Ran, Runs, descendants, gone
from docker_run import Run
from json_objects import plain
from process_cluster import ProcessCluster
from services import RABBITMQ, REDIS, Broker, Redis, broker_on, dropped, redis_on, shared

HELD = '''
import os, time
import mrq

class Held(mrq.Job):
    """A word and its number; a line's second word is a file that the map waits for.

    The others take a while too: of what is short, workers would claim more than they have slots.
    """
    marks: str
    reduce = mrq.sum

    def setup(self):
        print("began", self.task.id)
        name = f"{self.task.id}.{self.task.attempt}.{os.getpid()}"
        with open(os.path.join(self.marks, name), "w"):
            pass

    def map(self, key, line):
        word, *gates = line.split()
        if not gates:
            time.sleep(1)
        for gate in gates:
            while not os.path.exists(os.path.join(self.marks, gate)):
                self.task.progress()
                time.sleep(0.02)
        yield word, 1
'''


class ClusterRun(ProcessCluster):
    """Masters and workers with roots of their own, so that reduces fetch from other workers by gRPC.

    `close` ends all of them, frozen ones too, and fails where one of their processes is left.
    """

    def __init__(self, broker: Broker, server: Redis, folder: Path) -> None:
        super().__init__(broker, server, folder)
        self.broker = broker
        self.server = server
        env = {name: value for name, value in self.environ.items() if name.startswith("MRQ_")}
        self.shell = Runs(folder, {name: value for name, value in env.items() if name != "MRQ_TMP"})
        (folder / "held.py").write_text(HELD)
        self.commands: list[subprocess.Popen[bytes]] = []
        self._frozen: set[int] = set()
        self._known: set[int] = set()
        self._asks = self.client()

    # Processes.

    def worker(
        self, name: str, maps: int = 1, reduces: int = 1, root: str | None = None, **env: str
    ) -> subprocess.Popen[bytes]:
        command = (
            "mrq.worker", "--map-slots", str(maps), "--reduce-slots", str(reduces), "--worker-id", name,
            "--root", str(self.folder / f"root-{root or name}"), "--listen", "127.0.0.1:0",
        )  # fmt: skip
        before, self.environ = self.environ, {**self.environ, **env}
        try:
            return self.start(name, *command)
        finally:
            self.environ = before

    def workers(self, *names: str, **options: Any) -> None:
        """Start these workers, and wait until they take tasks."""
        for name in names:
            self.worker(name, **options)
        self.alive(*names)

    def alive(self, *names: str) -> None:
        """Wait until the boots of these workers that were started last take tasks."""
        pids = {name: str(self.processes[name].pid) for name in names}

        def ready() -> bool:
            rows = {row["worker"]: row for row in self.ask("workers")["workers"]}
            self.seen = [(row["worker"], row["health"], row["trouble"]) for row in rows.values()]
            return all(
                name in rows
                and rows[name]["health"] == "alive"
                and f"(boot {rows[name]['boot']})" in self.log(name)
                for name in pids
            )

        self.until(ready)
        for name in names:
            self._note(name)

    def tree(self, name: str) -> set[int]:
        """A process with all below it: a worker's executors and data plane."""
        pid = self.processes[name].pid
        return {pid} | descendants(pid)

    def data_planes(self, worker: str) -> list[int]:
        """The pid of a worker's data plane, if there is one."""
        found = []
        for pid in self.tree(worker):
            with contextlib.suppress(OSError):
                if b"mrq.worker.fetch" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def _note(self, name: str) -> set[int]:
        found = self.tree(name)
        self._known |= found
        return found

    def kill(self, name: str) -> None:
        """As kill -9 does, of this one process; what is below it has to end by itself."""
        below = self._note(name)
        super().kill(name)
        assert gone(below, within_s=10), f"{name} is dead and left processes"

    def freeze(self, name: str) -> None:
        """As a host that vanishes: nothing of it runs, and no connection is closed."""
        for _ in range(2):  # what it started meanwhile, too
            for pid in self._note(name) - self._frozen:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                self._frozen.add(pid)

    def thaw(self) -> None:
        for pid in self._frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._frozen.clear()

    def stop(self, *names: str, timeout_s: float = 30) -> None:
        """SIGTERM, and wait until they have ended well."""
        for name in names:
            self._note(name)
            self.processes[name].terminate()
        for name in names:
            code = self.processes[name].wait(timeout_s)
            assert code == 0, f"{name} ended with {code}: {self.log(name)[-3000:]}"

    def close(self) -> None:
        self.thaw()
        for name, process in self.processes.items():
            if process.poll() is None:
                self._note(name)
                process.terminate()
                if "worker" in process.args:  # twice: nobody waits for what it runs
                    process.terminate()
        super().close()
        assert gone(self._known, within_s=10), "processes of the cluster are left"

    # Clients.

    def mrq(self, *argv: str, expect: int = 0, **options: Any) -> Ran:
        """Run `mrq ARGV` to its end."""
        ran = self.shell.run(*argv, **options)
        assert ran.code == expect, f"mrq {' '.join(argv)}: {ran.code}\n{ran.out!r}\n{ran.err}"
        return ran

    def command(self, *argv: str) -> Any:
        """Start `mrq ARGV`; `finish` it. What a test leaves is killed."""
        self.commands.append(self.shell.start(*argv))
        return self.commands[-1]

    def ask(self, op: str, **args: Any) -> Mapping[str, Any]:
        """The answer, with jobs, workers and logs as `--json` has them."""
        answer: Mapping[str, Any] = plain(self._asks.ask(op, **args))
        return answer

    def detached(self, *argv: str) -> str:
        """Submit a job and leave it; its id."""
        return self.mrq("submit", *argv, "--detach").out.decode().strip()

    def held(self, name: str, lines: Sequence[str], *more: str) -> str:
        """Submit `Held` with a map for each line and leave it; its id. OUT is `name`-out."""
        inputs = [self.shell.write(f"{name}-in/{n:02}.txt", f"{line}\n") for n, line in enumerate(lines)]
        return self.detached("held.py", *inputs, "-o", f"{name}-out", *self.held_flags(name), *more)

    def held_flags(self, name: str) -> tuple[str, ...]:
        """A split for each input, however small; marks in a folder that is made."""
        self.marks(name).mkdir(exist_ok=True)
        return "--split-size", "20000", "--set", f"marks={self.marks(name)}"

    def marks(self, name: str) -> Path:
        return self.folder / f"{name}-marks"

    def began(self, name: str) -> dict[str, list[tuple[int, int]]]:
        """By task of `Held`: (attempt, pid of its executor) of each that has begun."""
        found: dict[str, list[tuple[int, int]]] = {}
        for path in sorted(self.marks(name).glob("?-*.*.*")):
            task, attempt, pid = path.name.split(".")
            found.setdefault(task, []).append((int(attempt), int(pid)))
        return found

    def open(self, name: str, gate: str = "go") -> None:
        (self.marks(name) / gate).touch()

    def until(self, true: Callable[[], object], timeout_s: float = 30.0) -> None:
        """Wait until it is true; a failure shows what the leader knows."""
        try:
            super().until(true, timeout_s)
        except AssertionError as exc:
            for job in self.active():
                row = self.status(job)
                exc.add_note(f"{job}: {row['state']}, {row['error']}, {row['errors']}")
                for each in (*row["tasks"], *row["attempts"]):
                    exc.add_note(f"  {[value for value in each.values() if value]}")
            for kind in ("map", "reduce"):
                row = self.broker.queue(f"{self.server.prefix}.{kind}")
                exc.add_note(
                    f"{kind}: {row.get('messages_ready')} ready, {row.get('messages_unacknowledged')} out"
                )
            raise

    def status(self, job: str) -> Mapping[str, Any]:
        (info,) = self.ask("status", job=job, tasks=True)["jobs"]
        return dict(info)

    def tasks(self, job: str) -> dict[str, Mapping[str, Any]]:
        return {row["task"]: row for row in self.status(job)["tasks"]}

    def messages(self, kind: str) -> int:
        """How many the queue has right now, with those that are out."""
        argv = ("list_queues", "--quiet", "--no-table-headers", "-p", self.broker.vhost, "name", "messages")
        said = self.broker.container.exec("rabbitmqctl", *argv)
        return int(dict(line.split() for line in said.splitlines())[f"{self.server.prefix}.{kind}"])

    def waiting(self, kind: str) -> int:
        """How many are in the queue right now and not out: in milliseconds, not rabbitmqctl's second."""
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(self.broker.url))) as connection:
            queue = f"{self.server.prefix}.{kind}"
            return int(connection.channel().queue_declare(queue, passive=True).method.message_count)

    def active(self) -> list[str]:
        """Jobs that aren't over."""
        rows = self.ask("jobs")["jobs"]
        return [row["job"] for row in rows if row["state"] not in ("done", "failed", "cancelled")]

    def attempts(self, job: str) -> dict[str, tuple[int, int, str]]:
        """By task: ticket, number and worker of the attempts that live."""
        rows = self.status(job)["attempts"]
        return {row["task"]: (row["ticket"], row["number"], row["worker"]) for row in rows}

    def result(self, name: str) -> dict[str, int]:
        """What `Held` counted."""
        lines = b"".join(self.shell.result(f"{name}-out").values()).decode().splitlines()
        made = [line.split("\t") for line in lines]
        assert len(dict(made)) == len(made), "a key in two places"
        return {word: int(count) for word, count in made}

    def uncharged(self, job: str) -> bool:
        """Nothing of the job failed or was lost."""
        row = self.status(job)
        assert not row["errors"], row["errors"]
        return row["failures"] == row["losses"] == row["worker_losses"] == 0


@contextmanager
def servers_of(run: Run) -> Iterator[tuple[Broker, Redis]]:
    """A virtual host and a prefix on the run's servers, for a module."""
    broker = broker_on(shared(run, "rabbitmq", RABBITMQ), RABBITMQ)
    server = redis_on(shared(run, "redis", REDIS), REDIS)
    with dropped(broker), dropped(server):
        yield broker, server


@contextmanager
def cluster_of(run: Run, folder: Path, *, masters: int = 1, workers: int = 3) -> Iterator[ClusterRun]:
    """Masters (`m0` leads) and workers (`w0` …) that take tasks, on the run's servers."""
    with servers_of(run) as (broker, server), contextlib.closing(ClusterRun(broker, server, folder)) as made:
        begin(made, masters=masters, workers=workers)
        yield made


def begin(made: ClusterRun, *, masters: int = 1, workers: int = 3) -> None:
    """Start them, the first master leading."""
    for number in range(masters):
        made.master(f"m{number}")
        if number == 0:
            made.leading("m0")
    made.workers(*(f"w{number}" for number in range(workers)))


@contextmanager
def logs_of(made: ClusterRun) -> Iterator[None]:
    """Print what the processes say meanwhile: pytest shows it where a test failed. A job that the test left
    is cancelled."""
    before = {name: len(made.log(name)) for name in made.processes}
    yield
    for process in made.commands:
        if process.poll() is None:
            process.kill()
            process.communicate()
    made.commands.clear()
    for job in made.active():
        made.ask("cancel", job=job, reason="its test is over")
    made.until(lambda: not made.active())
    for name in made.processes:
        said = made.log(name)[before.get(name, 0) :]
        print(f"--- {name}:\n{said[-5000:]}", file=sys.stderr)


def took(holds: Callable[[], object], cluster: ClusterRun, timeout_s: float = 30.0) -> float:
    """Wait until it holds; the seconds that it took."""
    began = time.monotonic()
    cluster.until(holds, timeout_s)
    return time.monotonic() - began
