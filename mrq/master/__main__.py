"""`python -m mrq.master`: one master of a cluster, where the role and its adapters are brought together."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import mrq
from mrq.adapters import rabbitmq, redis
from mrq.adapters.grpc.peer_client import dial_back, sees
from mrq.cli.console import Console
from mrq.cli.roles import RoleLine, run_role
from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.backoff import Retry
from mrq.core.machine_config import MachineConfig
from mrq.errors import OperatorError, UsageError
from mrq.health import Pulse, health_file
from mrq.master.backend import Servers
from mrq.master.disk_probe import WAIT_S, Probe
from mrq.master.leadership import LeadershipSettings
from mrq.master.service import MasterService
from mrq.settings.cluster import Profile

_LOG: Final = logging.getLogger("mrq.master")

#: A call about the lease that takes longer has failed: tried twice, it still is within what a leader acts for
#: (`core.election`: renewed every 1.5 s, looked again after 1 s, acting for 5 s).
_LEASE_TIMEOUT_S: Final = 1.5


class Backend:
    """A `master.backend.Backend`: RabbitMQ and Redis."""

    def __init__(self, profile: Profile) -> None:
        """Connects to Redis. Raises OperatorError, UsageError."""
        self._profile = profile
        amqp, state = profile.services()
        self._amqp = amqp
        self.where = str(state)
        self._connection = redis.connect(state.full(), prefix=profile.prefix, wait_s=profile.timeout_s)
        self.store = redis.RedisLeaderStore(self._connection, keep_s=profile.keep_s)
        self._prompt = self._connection.impatient(_LEASE_TIMEOUT_S)
        self.lease = redis.RedisLease(self._prompt)
        self._watched = redis.RedisLeaderStore(self._prompt)
        self.servers = Servers(
            store=self.store,
            state=self.store,
            blobs=redis.RedisBlobs(self._connection),
            events=lambda sink: redis.LeaderEvents(self._connection, sink, recorded=self.store.recorded),
        )

    def store_id(self) -> str:
        """As the lease: at once, or not."""
        return self._watched.identity()[0]

    def desk(self) -> redis.RedisDesk:
        """What clients ask."""
        return redis.RedisDesk(self._connection)

    def broker(self, notify: Callable[[str | None], None]) -> rabbitmq.RabbitBroker:
        """Connects to RabbitMQ."""
        return rabbitmq.connect(
            self._amqp.full(),
            keys=rabbitmq.SigningKeys(current=self._profile.key_id, secrets=self._profile.keys),
            prefix=self._profile.prefix,
            timeout_s=self._profile.timeout_s,
            notify=notify,
            name="mrq master",
        )

    def close(self) -> None:
        """Close the connections to Redis."""
        self._prompt.close()
        self._connection.close()


def dialler(key: bytes | None) -> Callable[[c.DialWorker], e.Event]:
    """Dials a worker back; what came of it."""

    def dial(asked: c.DialWorker) -> e.Event:
        try:
            dial_back(asked.address, worker=asked.worker, boot=asked.boot, key=key)
        except OperatorError as exc:
            return e.WorkerDialled(worker=asked.worker, boot=asked.boot, trouble=str(exc))
        return e.WorkerDialled(worker=asked.worker, boot=asked.boot)

    return dial


def prober(key: bytes | None) -> Probe:
    """Asks a worker whether it sees a file."""
    return lambda worker, folder, nonce: sees(
        worker.address,
        worker=worker.worker,
        boot=worker.boot,
        folder=folder,
        nonce=nonce,
        key=key,
        timeout_s=WAIT_S,
    )


def serve(line: RoleLine, console: Console) -> int:
    """Run a master until SIGTERM or SIGINT; with `--init` make the store ready and leave."""
    profile = line.profile
    for note in profile.notes:
        _LOG.info(note)
    backend = Backend(profile)
    with contextlib.closing(backend):
        if line.init:
            store_id, _, _ = backend.store.identity()
            if store_id:
                _LOG.info("the store is initialised already, as %s", store_id)
                return 0
            _LOG.info("the store is initialised, as %s", backend.store.init())
            return 0
        _await_init(backend, profile.timeout_s)
        host = socket.gethostname()
        pulse = Pulse(health_file(Path(profile.root)))
        service = MasterService(
            backend,
            LeadershipSettings(
                owner=f"{host}-{os.getpid()}-{secrets.token_hex(3)}",
                shared_root=profile.shared_root,
                keep_s=profile.keep_s,
                config=MachineConfig(version=mrq.__version__),
                dial=dialler(profile.secret_key()),
                probe=prober(profile.secret_key()),
            ),
            pulse=pulse.tick,
        )
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda number, frame: service.stop_soon())
        threading.current_thread().name = "mrq-service"
        _LOG.info("standing by as %s, state in %s", host, profile.state())
        service.run()
        pulse.stop()
        _LOG.info("ended")
    return 0


def _await_init(backend: Backend, timeout_s: float) -> None:
    """Wait for a store that has an id. Raises UsageError when none comes: nobody gives it one unasked."""
    until, retry = time.monotonic() + timeout_s, Retry()
    while not backend.store.identity()[0]:
        if time.monotonic() > until:
            raise UsageError(
                f"the store at {backend.where} was never initialised: run `python -m mrq.master --init` "
                "once. If it was, its data is gone, and only a master that still leads can bring it back"
            )
        if not retry.failures:
            _LOG.info("the store isn't initialised yet: waiting")
        time.sleep(retry.failed())


if __name__ == "__main__":
    sys.exit(run_role("master", sys.argv[1:], serve))
