"""`python -m mrq.worker`: one worker of a cluster, where the role and its adapters are brought together."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from mrq import native
from mrq.cli.console import Console
from mrq.cli.roles import RoleLine, run_role
from mrq.cli.signals import Signals
from mrq.errors import UsageError
from mrq.worker.worker_folder import WorkerFolder, ended_beside, sweep_dead

if TYPE_CHECKING:
    from mrq.adapters.rabbitmq import RabbitBroker
    from mrq.core.model import Slots
    from mrq.settings.cluster import Profile
    from mrq.worker.fetch.messages import Hello

_LOG: Final = logging.getLogger("mrq.worker")

#: Of the broker's consumer timeout, after which a task's message is acknowledged.
_HANDOVER_SHARE: Final = 0.75


def main(argv: Sequence[str]) -> int:
    """Run a worker until it has drained; the exit code."""

    def serve(line: RoleLine, console: Console) -> int:
        with Signals():
            return _run(line.profile, console)

    return run_role("worker", argv, serve)


def _run(profile: Profile, console: Console) -> int:
    """Lock the worker's folder, clean it up, connect, work."""
    data_path = native.told()
    if profile.map_slots == 0 and profile.reduce_slots == 0:
        raise UsageError("--map-slots 0 --reduce-slots 0: a worker without slots runs nothing; give it one")
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:63].lstrip(
        "._-"
    )  # as far as it can be an id
    worker = profile.worker_id or host or "worker"
    home = WorkerFolder.take(profile.root, worker, wait_s=profile.timeout_s)
    console.context.update(worker=worker, boot=home.boot)
    with contextlib.closing(home):
        for note in profile.notes:
            _LOG.info(note)
        _LOG.info("data path: %s", data_path)
        ended = home.end_children()
        if ended:
            _LOG.info("ended %d processes that an older boot of this worker had left", ended)
        left = home.sweep()
        threading.Thread(target=_remove, args=(profile.root, left), name="mrq-sweep", daemon=True).start()
        return _serve(profile, worker, home)


def _serve(profile: Profile, worker: str, home: WorkerFolder) -> int:
    """Connect, and work until the end."""
    from mrq.adapters import redis
    from mrq.ports import Clock
    from mrq.worker import debug, resources
    from mrq.worker.agent_loop import Links
    from mrq.worker.fetch.data_plane import DataPlane
    from mrq.worker.runtime import Service, WorkerSettings, wait_for_silence

    switch = debug.parse(os.environ)
    _, state = profile.services()
    found = resources.find(home.path, memory=profile.memory_limit)
    slots = resources.slots(found, maps=profile.map_slots, reduces=profile.reduce_slots)
    with contextlib.ExitStack() as stack:
        connection = redis.connect(state.full(), prefix=profile.prefix, wait_s=profile.timeout_s)
        stack.callback(connection.close)
        store = redis.RedisWorkerStore(connection)
        stack.callback(store.close)
        wait_for_silence(store, home, worker, wait_s=profile.timeout_s, clock=Clock())
        page = _quota_page(profile, home, slots)
        data_plane = DataPlane(_hello(profile, worker, home, page), started=home.note_child)
        stack.callback(data_plane.close)
        address = advertised(profile.advertise, data_plane.start())
        notify: list[Callable[[str | None], None]] = [lambda line: _LOG.warning(line) if line else None]
        broker = _broker(profile, worker, lambda line: notify[-1](line))
        stack.callback(broker.close)
        blobs = redis.RedisBlobs(connection, bytes_max=profile.blob_bytes_max)
        service = Service(
            settings=WorkerSettings(
                worker=worker,
                slots=slots,
                hints=found,
                address=address,
                disk_quota=profile.disk_quota,
                quota_path=page,
                drain_timeout_s=profile.drain_timeout_s,
                handover_after_s=_HANDOVER_SHARE * profile.consumer_timeout_s,
                debug=switch,
                packages=resources.packages(),
                ended=ended_beside(profile.root, worker),
            ),
            home=home,
            links=Links(store=store, blobs=blobs, broker=broker, data_plane=data_plane),
            clock=Clock(),
        )
        notify.append(service.note)
        _LOG.info(
            f"{worker} (boot {home.boot}) at {address}, {slots.map} map and {slots.reduce} reduce slots, "
            f"files in {home.path}"
        )
        if switch is not None:
            _LOG.warning(str(switch))
        code = service.run()
        _LOG.info("ended")
        return code


def _hello(profile: Profile, worker: str, home: WorkerFolder, page: str) -> Hello:
    """All that the data plane's process is told at its start."""
    from mrq.worker.fetch.messages import Hello

    return Hello(
        root=home.path,
        worker=worker,
        boot=home.boot,
        redis_url=profile.fetch_url().full(),
        prefix=profile.prefix,
        bind=profile.listen,
        key=profile.secret_key(),
        insecure=profile.insecure,
        quota=page,
        log_format=profile.log_format,
    )


def _quota_page(profile: Profile, home: WorkerFolder, slots: Slots) -> str:
    """The path of the page of the disk's quota, made anew; "" without a quota. Raises OperatorError."""
    from mrq.io import disk
    from mrq.worker import quota

    if profile.disk_quota is None:
        return ""
    with disk.naming(home.path):
        return quota.create(home.path, profile.disk_quota, slots)


def _broker(profile: Profile, worker: str, notify: Callable[[str | None], None]) -> RabbitBroker:
    """Connects to RabbitMQ. Raises OperatorError."""
    from mrq.adapters import rabbitmq

    amqp, _ = profile.services()
    return rabbitmq.connect(
        amqp.full(),
        keys=rabbitmq.SigningKeys(current=profile.key_id, secrets=profile.keys),
        prefix=profile.prefix,
        timeout_s=profile.timeout_s,
        notify=notify,
        name=f"mrq worker {worker}",
    )


def advertised(advertise: str | None, bound: str) -> str:
    """HOST:PORT for others: as told, its port 0 being the bound one; else the bound address, by this host's
    name where that is every address."""
    host, _, port = bound.rpartition(":")
    if advertise is not None:
        told_host, _, told_port = advertise.rpartition(":")
        return f"{told_host}:{port if told_port == '0' else told_port}"
    return f"{socket.gethostname() if host in ('0.0.0.0', '[::]', '') else host}:{port}"  # noqa: S104


def _remove(root: str, folders: Sequence[str]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    sweep_dead(root)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
