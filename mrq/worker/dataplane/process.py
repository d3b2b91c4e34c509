"""The data plane's own process: takes what the agent says, in order, and runs gatherings."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from mrq.core import paths, wire
from mrq.core.model import MapLocation
from mrq.core.refs import AttemptRef
from mrq.ports import PeerClient
from mrq.shuffle.bounded import Quota
from mrq.shuffle.gathered import remove
from mrq.worker import protocol
from mrq.worker.dataplane import messages
from mrq.worker.dataplane.gathering import Budget, Gathering, Wanted
from mrq.worker.dataplane.places import Places

#: Between two looks at how the server is.
_ALIVE_S: Final = 2.0


class Server(Protocol):
    """What serves this worker's outputs."""

    @property
    def address(self) -> str:
        """Where it listens."""
        ...

    def check(self) -> str:
        """What is wrong with it; "" where nothing is."""
        ...


class Pipe:
    """To and from the agent. One thread reads; `tell` may come from any."""

    def __init__(self, read: int, write: int) -> None:
        self._read = read
        self._write = write
        self._writing = threading.Lock()

    def read(self) -> messages.Message | None:
        """The next message; None at the end. Raises ProtocolError, OSError."""
        return protocol.read_frame(self._read)

    def tell(self, message: messages.Message) -> None:
        """Say something to the agent, if it is there: else `read` ends too."""
        with self._writing, contextlib.suppress(BrokenPipeError):
            protocol.write_frame(self._write, message)

    def mistaken(self, worker: str, boot: str) -> None:
        """Somebody else listens at a peer's address: ask again for it."""
        self.tell({"op": messages.MISTAKEN, "worker": worker, "boot": boot})


class Addresses:
    """Where peers listen, as the agent has told. Thread-safe."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def tell(self, worker: str, boot: str, address: str) -> None:
        """That boot of that worker listens there."""
        self._known[worker, boot] = address

    def of(self, worker: str, boot: str) -> str | None:
        """None while it isn't known."""
        return self._known.get((worker, boot))


class Process:
    """One thread reads and decides; gatherings tell from threads of their own."""

    def __init__(
        self,
        *,
        pipe: Pipe,
        root: str,
        worker: str,
        server: Server,
        peers: PeerClient,
        addresses: Addresses,
        quota: Quota | None = None,
        tidy: Callable[[], object] = lambda: None,
    ) -> None:
        """`tidy` is called now and then: what peers no longer need is let go of."""
        self._tidy = tidy
        self._quota = quota
        self._pipe = pipe
        self._root = root
        self._server = server
        self._peers = peers
        self._addresses = addresses
        self._places = Places(root=root, worker=worker, peers=peers)
        self._budget = Budget()
        self._gatherings: dict[str, tuple[str, Gathering]] = {}  #: by token, with the job
        self._jobs: dict[str, dict[int, MapLocation]] = {}

    def serve(self) -> None:
        """Until the pipe ends. Raises ProtocolError, OSError when the agent is gone or isn't one."""
        self._pipe.tell({"op": messages.READY, "address": self._server.address})
        threading.Thread(target=self._say_how_it_is, name="mrq-alive", daemon=True).start()
        while True:
            message = self._pipe.read()
            if message is None:
                return
            self._hear(message)

    def _say_how_it_is(self) -> None:
        """Again and again, as long as this process lives: silence tells, too."""
        while True:
            self._pipe.tell({"op": messages.ALIVE, "trouble": self._server.check()})
            self._tidy()
            time.sleep(_ALIVE_S)

    def _hear(self, message: messages.Message) -> None:
        match message["op"]:
            case messages.LOCATIONS:
                self._locate(message)
            case messages.GATHER:
                self._gather(message)
            case messages.CANCEL:
                self._cancel(message["token"], message["job"])
            case messages.FORGET:
                self._forget(message["job"])
            case other:
                raise protocol.ProtocolError(f"a data plane doesn't know {other!r}")

    def _locate(self, message: messages.Message) -> None:
        job = message["job"]
        found, gone, peers = messages.read_locations(message)
        for peer in peers:
            self._addresses.tell(*peer)
        known = self._jobs.setdefault(job, {})
        for attempt in gone:
            index = attempt.task.index
            if index in known and known[index].attempt == attempt:
                del known[index]
        known.update((location.map_index, location) for location in found)
        for its_job, gathering in self._gatherings.values():
            if its_job == job:
                gathering.locate(found, gone)

    def _gather(self, message: messages.Message) -> None:
        attempt = wire.from_wire(AttemptRef, message["attempt"])
        job, token = attempt.task.job, attempt.token
        path = paths.gathered_path(self._root, job, token)
        wanted = Wanted(attempt=attempt, maps=message["maps"], path=path)
        gathering = Gathering(
            wanted,
            peers=self._peers,
            places=self._places,
            budget=self._budget,
            tell=self._pipe.tell,
            quota=self._quota,
        )
        self._gatherings[token] = job, gathering
        gathering.locate(list(self._jobs.get(job, {}).values()), [])

    def _cancel(self, token: str, job: str) -> None:
        """Also what an earlier life of this process has gathered."""
        _, gathering = self._gatherings.pop(token, (job, None))
        if gathering is not None:
            gathering.cancel()
        remove(paths.gathered_path(self._root, job, token))

    def _forget(self, job: str) -> None:
        for token in [token for token, (its, _) in self._gatherings.items() if its == job]:
            self._cancel(token, job)
        self._jobs.pop(job, None)
