"""The data plane's own process: takes what the agent says, in order, and runs gatherings."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from mrq.core import paths
from mrq.core.model import MapLocation
from mrq.core.refs import AttemptRef
from mrq.ports import PeerClient
from mrq.shuffle.bounded import Quota
from mrq.shuffle.gathered import remove
from mrq.worker import protocol
from mrq.worker.dataplane import messages
from mrq.worker.dataplane.gathering import Budget, Gathering
from mrq.worker.dataplane.places import Places

#: Between two looks at how the server is.
_ALIVE_S: Final = 2.0


class Pipe:
    """To and from the agent. One thread reads; `tell` may come from any."""

    def __init__(self, read: int, write: int) -> None:
        self._read = read
        self._write = write
        self._reader = protocol.FrameReader()
        self._frames: deque[dict[str, Any]] = deque()  #: that have come, and weren't read yet
        self._writing = threading.Lock()

    def read(self) -> object:
        """The next message; None at the end. Raises ProtocolError, CorruptFileError, OSError."""
        while not self._frames:
            found = protocol.read_some(self._read, self._reader)
            if found is None:
                return None
            self._frames += found
        return messages.read(self._frames.popleft())

    def tell(self, message: object) -> None:
        """Say something to the agent, if it is there: else `read` ends too."""
        with self._writing, contextlib.suppress(BrokenPipeError):
            protocol.write_frame(self._write, messages.frame(message))


class Process:
    """One thread reads and decides; gatherings tell from threads of their own."""

    def __init__(
        self,
        *,
        pipe: Pipe,
        root: str,
        worker: str,
        check: Callable[[], str],
        peers: PeerClient,
        addresses: dict[tuple[str, str], str],
        quota: Quota | None = None,
    ) -> None:
        """`check` says now and then what is wrong with how this process serves, "" for nothing. `addresses`
        gets where boots of workers listen, as the agent tells it."""
        self._quota = quota
        self._pipe = pipe
        self._root = root
        self._check = check
        self._peers = peers
        self._addresses = addresses
        self._places = Places(root=root, worker=worker, peers=peers)
        self._budget = Budget()
        self._gatherings: dict[str, tuple[str, Gathering]] = {}  #: by token, with the job
        self._jobs: dict[str, dict[int, MapLocation]] = {}

    def serve(self) -> None:
        """Until the pipe ends. Raises MrqError, OSError when the agent is gone or isn't one."""
        threading.Thread(target=self._say_how_it_is, name="mrq-alive", daemon=True).start()
        while True:
            message = self._pipe.read()
            if message is None:
                return
            self._hear(message)

    def _say_how_it_is(self) -> None:
        """Again and again, as long as this process lives: silence tells, too."""
        while True:
            self._pipe.tell(messages.Alive(trouble=self._check()))
            time.sleep(_ALIVE_S)

    def _hear(self, message: object) -> None:
        match message:
            case messages.Located():
                self._locate(message)
            case messages.Gather(attempt=attempt, maps=maps):
                self._gather(attempt, maps)
            case messages.Discard(token=token, job=job):
                self._cancel(token, job)
            case messages.Forget(job=job):
                self._forget(job)
            case other:
                raise protocol.ProtocolError(f"a data plane doesn't know {other!r}")

    def _locate(self, new: messages.Located) -> None:
        self._addresses.update(((worker, boot), address) for worker, boot, address in new.peers)
        known = self._jobs.setdefault(new.job, {})
        for attempt in new.gone:
            index = attempt.task.index
            if index in known and known[index].attempt == attempt:
                del known[index]
        known.update((location.map_index, location) for location in new.found)
        for job, gathering in self._gatherings.values():
            if job == new.job:
                gathering.locate(new.found, new.gone)

    def _gather(self, attempt: AttemptRef, maps: int) -> None:
        job, token = attempt.task.job, attempt.token
        gathering = Gathering(
            attempt,
            maps,
            paths.gathered_path(self._root, job, token),
            peers=self._peers,
            places=self._places,
            budget=self._budget,
            tell=self._pipe.tell,
            quota=self._quota,
        )
        self._gatherings[token] = job, gathering
        gathering.locate(self._jobs.get(job, {}).values(), [])

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
