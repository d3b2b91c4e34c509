"""A whole cluster in one process, on the memory twins: masters, workers with real executors, clients."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from said import listening
from twins import Blobs, MemoryClientLink, MemoryCluster, Store

from mrq.client import local
from mrq.core.election import ElectionConfig
from mrq.core.machine_config import MachineConfig, ReduceStart
from mrq.core.model import Slots
from mrq.core.store_api import StoredJob, WriteAnswer
from mrq.engine.engine import Engine
from mrq.engine.remote import cluster_engine
from mrq.errors import OperatorError
from mrq.master.disk_probe import Probe
from mrq.master.leadership import LeadershipSettings
from mrq.master.service import MasterService
from mrq.ports import Clock
from mrq.servers.memory.queues import MemoryBroker
from mrq.settings import cluster as profile
from mrq.worker.agent_loop import AgentLoop, Links, Storage
from mrq.worker.pool import Pool

#: As on a cluster, but quicker to notice a death, and reduces read where maps wrote.
CONFIG = MachineConfig(
    reduce_start=ReduceStart.AFTER_MAPS, suspect_after_s=1.0, dead_after_s=2.0, republish_after_s=2.0
)


class _Store(Store):
    """Keeps what is forgotten, as Redis does for a while, and a restored job's code among the blobs."""

    blobs: Blobs

    def restore(self, stored: StoredJob, code: bytes) -> WriteAnswer:
        self.blobs.put(code)
        return super().restore(stored, code)

    def forget(self, job: str) -> None:
        """Kept."""


def servers_of_a_cluster() -> MemoryCluster:
    """What RabbitMQ and Redis would hold."""
    blobs = Blobs()
    store = _Store(ready=False, store_id="cluster-1")
    store.blobs = blobs
    return MemoryCluster(store, blobs)


class Cluster:
    """Masters, workers and clients; a context manager that leaves nothing running."""

    def __init__(
        self,
        folder: Path,
        *,
        config: MachineConfig = CONFIG,
        lease_s: float = 2.0,
        probe: Probe | None = None,
    ) -> None:
        self.folder = folder
        self.probe = probe
        self.servers = servers_of_a_cluster()
        self.config = config
        self.lease_s = lease_s
        self._listening = contextlib.ExitStack()
        self.said = self._listening.enter_context(listening())
        self.masters: list[tuple[MasterService, threading.Thread]] = []
        self.workers: dict[str, tuple[AgentLoop, threading.Thread]] = {}
        self._clients: list[Engine] = []
        self._pools: list[Pool] = []

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for client in self._clients:
            client.close()
        for worker in list(self.workers):
            self.stop_worker(worker)
        for service, _ in self.masters:
            service.stop()
        for _, thread in self.masters:
            thread.join(10)
            assert not thread.is_alive()
        self._listening.close()

    def master(self, *, wait: bool = True) -> MasterService:
        """One more; the first leads."""
        share = 1 / 8 * self.lease_s
        service = MasterService(
            self.servers,
            LeadershipSettings(
                owner=f"master-{len(self.masters)}",
                shared_root=str(self.folder / "shared"),
                keep_s=3600.0,
                config=self.config,
                probe=self.probe,
            ),
            election=ElectionConfig(
                owner=f"master-{len(self.masters)}",
                lease_s=8 * share,
                act_s=5 * share,
                renew_s=share,
                look_s=share,
            ),
        )

        def run() -> None:
            try:
                service.run()
            except Exception as exc:
                self.said.append(f"master died: {traceback.format_exc()}")
                if not isinstance(exc, OperatorError):
                    raise

        thread = threading.Thread(target=run, name=f"master-{len(self.masters)}")
        thread.start()
        self.masters.append((service, thread))
        if wait:
            assert service.leading.wait(10), self.said
        return service

    def worker(self, name: str, *, slots: int = 1, **about: Any) -> AgentLoop:
        """One more, with map and reduce slots of its own."""
        from mrq.core.agent_words import AgentConfig

        pool, broker, store = Pool(), MemoryBroker(self.servers.queues), self.servers.store
        pool.prewarm(slots)
        loop = AgentLoop(
            config=AgentConfig(
                worker=name,
                boot=os.urandom(4).hex(),
                slots=Slots(map=slots, reduce=slots, total=slots),
                beat_interval_s=0.2,
                **about,
            ),
            links=Links(broker=broker, store=store),
            storage=Storage(root=str(self.folder / "tmp")),
            clock=Clock(),
            pool=pool,
        )
        broker.attach(worker=loop.sink)
        store.attach(nudge=loop.nudge)
        thread = threading.Thread(target=loop.run, name=f"agent-{name}")
        thread.start()
        self.workers[name] = (loop, thread)
        return loop

    def stop_worker(self, name: str) -> None:
        loop, thread = self.workers.pop(name)
        loop.stop(1.0)
        thread.join(10)
        assert not thread.is_alive()

    def client(self, paths: tuple[tuple[str, str], ...] = (), *, timeout_s: float = 20.0) -> Engine:
        """One more client."""
        urls = {"MRQ_AMQP_URL": "amqp://nowhere/", "MRQ_REDIS_URL": "redis://nowhere/0"}
        made = profile.load(None, flags={}, env=urls, cwd=str(self.folder))
        made = replace(made, paths=paths, timeout_s=timeout_s, blob_bytes_max=1 << 20)
        engine = cluster_engine(
            made, connect=lambda profile: (MemoryClientLink(self.servers.requests), self.servers.blobs)
        )
        self._clients.append(engine)
        return engine


def until(true: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait for something that other threads do."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it didn't come about"
        time.sleep(0.01)


@contextlib.contextmanager
def cluster(folder: Path, *, workers: int = 1, **more: Any) -> Iterator[Cluster]:
    """One master that leads, and workers."""
    with Cluster(folder, **more) as made:
        made.master()
        for number in range(workers):
            made.worker(f"w{number}")
        yield made


@contextlib.contextmanager
def engine_of(kind: str, folder: Path) -> Iterator[Any]:
    """An engine that runs jobs with `run` and `start`: "embedded", or of a "cluster" with one worker."""
    if kind == "embedded":
        with local(executors=2) as made:
            yield made
        return
    with Cluster(folder) as rig:
        rig.master()
        rig.worker("w0")
        yield rig.client()
