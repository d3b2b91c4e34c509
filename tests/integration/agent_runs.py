"""An agent loop with real executors and a leader made of a few lines: publishes tasks, collects reports."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from folders import below

from mrq.core.agent_words import AgentConfig
from mrq.core.commands import GiveOrder, WriteJob, WriteTask
from mrq.core.events import AttemptReported
from mrq.core.model import JobSpec, JobState, Outcome, Piece, Slots, Split, StageSpec, TaskMessage
from mrq.core.orders import DropJob, Kill, Order
from mrq.core.refs import Kind, TaskRef
from mrq.core.store_api import Batch, Fence
from mrq.job import bundle
from mrq.ports import Clock
from mrq.servers.memory.queues import MemoryBroker, MemoryQueues
from mrq.servers.memory.store import MemoryStore
from mrq.worker.agent_loop import AgentLoop, Links, Storage
from mrq.worker.debug import DebugSwitch
from mrq.worker.pool import Pool

WORKER = "w"
BOOT = "b1"


class AgentRun:
    """One worker on the memory adapters; a context manager."""

    def __init__(
        self,
        folder: Path,
        *,
        slots: int = 1,
        debug: DebugSwitch | None = None,
        threaded: bool = False,
        data_plane: Any = None,
        config: AgentConfig | None = None,
    ) -> None:
        """`threaded`: the store is asked as on a cluster; `config` in place of what the rest says."""
        self.folder = folder
        self.root = folder / "tmp"
        self.events: list[Any] = []
        self._changed = threading.Condition()
        self.store = MemoryStore(leader=self._take)
        self.store.open(1)
        self.broker = MemoryBroker(MemoryQueues())
        self.pool = Pool()
        self.loop = AgentLoop(
            config=config
            or AgentConfig(
                worker=WORKER,
                boot=BOOT,
                slots=Slots(map=slots, reduce=slots, total=slots),
                beat_interval_s=0.05,
            ),
            links=Links(broker=self.broker, store=self.store, threaded=threaded, data_plane=data_plane),
            storage=Storage(root=str(self.root)),
            clock=Clock(),
            pool=self.pool,
            debug=debug,
        )
        self.broker.attach(worker=self.loop.sink)
        self.store.attach(nudge=self.loop.nudge)
        self.thread = threading.Thread(target=self.loop.run)
        self._seq: dict[str, int] = {}

    def __enter__(self) -> AgentRun:
        self.thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.loop.stop(1.0)
        self.thread.join(5)
        assert not self.thread.is_alive()
        assert self.loop.crash is None

    def _take(self, event: object) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def add(self, code: str, lines: list[str], *, splits: int = 1, job: str = "j", **changes: Any) -> JobSpec:
        """Make a job known whose class `T` is in `code`, over the same lines in each split."""
        source = self.folder / f"{job}_job.py"
        source.write_text("import os, signal, subprocess, sys, threading, time\nimport mrq\n" + code)
        data = bundle.pack({f"{job}_job.py": str(source)})
        text = self.folder / f"{job}.txt"
        text.write_text("".join(f"{line}\n" for line in lines))
        (self.folder / ".out.mrq").mkdir(exist_ok=True)
        size = text.stat().st_size
        piece = Piece(path="in.txt", open=str(text), start=0, length=size, size=size, mtime_ns=0)
        spec = JobSpec(
            job=job,
            name="T",
            code=hashlib.sha256(data).hexdigest(),
            entry=f"{job}_job:T",
            parameters={},
            inputs=("in.txt",),
            stages=(
                StageSpec(splits=tuple(Split(index=i, pieces=(piece,)) for i in range(splits)), reducers=1),
            ),
            staging=str(self.folder / ".out.mrq"),
        )
        spec = dataclasses.replace(spec, **changes)
        self.store.begin(spec, data, Fence(incarnation=1, epoch=1, owner="test", seq=0))
        self.write(job, WriteJob(job=job, state=JobState.RUNNING))
        return spec

    def write(self, job: str, *writes: Any, orders: tuple[Order, ...] = ()) -> None:
        """One batch of the leader."""
        self._seq[job] = seq = self._seq.get(job, 0) + 1
        fence = Fence(incarnation=1, epoch=1, owner="test", seq=seq)
        addressed = tuple(GiveOrder(worker=WORKER, boot=BOOT, order=order) for order in orders)
        self.store.write(Batch(job=job, fence=fence, writes=writes, orders=addressed))

    def publish(self, index: int = 0, kind: Kind = Kind.MAP, *, ticket: int = 1, job: str = "j") -> None:
        """Hand out one task."""
        self.broker.publish([self._queued(index, kind, ticket, job)])

    def publish_together(self, indexes: Sequence[int]) -> None:
        """Hand out maps in one message."""
        self.broker.publish([self._queued(index, Kind.MAP, 1, "j") for index in indexes], together=True)

    def _queued(self, index: int, kind: Kind, ticket: int, job: str) -> TaskMessage:
        self.write(
            job,
            WriteTask(
                task=TaskRef(job, 0, kind, index),
                primary=ticket,
                backup=0,
            ),
        )
        return TaskMessage(
            task=TaskRef(job, 0, kind, index),
            ticket=ticket,
        )

    def kill(self, token: str, *, job: str = "j") -> None:
        """Order an attempt's end."""
        self.write(job, orders=(Kill(token=token),))

    def drop(self, job: str = "j") -> None:
        """Order the deletion of a job's files."""
        self.write(job, orders=(DropJob(job=job),))

    def reports(self, count: int, timeout_s: float = 10.0) -> list[AttemptReported]:
        """At least `count` reports, waited for, in order."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while True:
                told = [event for event in self.events if isinstance(event, AttemptReported)]
                # The leader is told again until it has written what follows, which this one never does.
                found = list({event.attempt.token: event for event in told}.values())
                if len(found) >= count:
                    return found
                assert self.loop.crash is None
                left = until - time.monotonic()
                assert left > 0, f"{len(found)} of {count} reports came: {self.events}"
                self._changed.wait(min(left, 0.1))

    def outcome(self, timeout_s: float = 10.0) -> Outcome:
        """Of the one task that was published."""
        return self.reports(1, timeout_s)[0].outcome

    def files(self) -> list[str]:
        """Everything below the root that isn't code, relative."""
        found = [str(path.relative_to(self.root)) for path in below(self.root) if path.is_file()]
        return sorted(name for name in found if not name.startswith("code/"))


def wait_for(condition: Any, timeout_s: float = 5.0) -> None:
    """Until it holds; fails after the time."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it didn't come true in time"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether a process lives; a zombie doesn't."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rsplit(b")", 1)[1].split()[0] != b"Z"
    return False


def open_fds() -> int:
    """Of this process."""
    return len(os.listdir("/proc/self/fd"))
