"""The data plane's own process: takes what the agent says, in order, and runs fetches."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from mrq.core import paths
from mrq.core.refs import AttemptRef
from mrq.ports import LocationStore, PeerClient
from mrq.shuffle.bounded import Quota
from mrq.shuffle.fetched import remove
from mrq.worker import protocol
from mrq.worker.fetch import messages
from mrq.worker.fetch.local_outputs import LocalOutputs
from mrq.worker.fetch.location_reader import StageLocations
from mrq.worker.fetch.reduce_fetch import Budget, ReduceFetch

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
    """One thread reads and decides; fetches tell from threads of their own."""

    def __init__(
        self,
        *,
        pipe: Pipe,
        root: str,
        worker: str,
        check: Callable[[], str],
        peers: PeerClient,
        store: LocationStore,
        quota: Quota | None = None,
    ) -> None:
        """`check` says now and then what is wrong with how this process serves, "" for nothing."""
        self._quota = quota
        self._pipe = pipe
        self._root = root
        self._check = check
        self._peers = peers
        self._store = store
        self._outputs = LocalOutputs(root=root, worker=worker, peers=peers)
        self._budget = Budget()
        self._fetches: dict[str, ReduceFetch] = {}  #: by token
        self._stages: dict[tuple[str, int], StageLocations] = {}  #: by job, and number of the stage's run

    def serve(self) -> None:
        """Until the pipe ends. Raises MrqError, OSError when the agent is gone or isn't one."""
        threading.Thread(target=self._say_how_it_is, name="mrq-alive", daemon=True).start()
        while (message := self._pipe.read()) is not None:
            match message:
                case messages.BeginFetch(attempt=attempt, maps=maps):
                    self._begin(attempt, maps)
                case messages.Discard(attempt=attempt):
                    fetch = self._fetches.pop(attempt.token, None)
                    if fetch is not None:
                        fetch.cancel()
                    remove(self._path(attempt))  # also what an earlier life of this process has fetched
                case messages.Forget(job=job):
                    self._stop([key for key in self._stages if key[0] == job])
                case other:
                    raise protocol.ProtocolError(f"a data plane doesn't know {other!r}")

    def _say_how_it_is(self) -> None:
        """Again and again, as long as this process lives: silence tells, too."""
        while True:
            self._pipe.tell(messages.Alive(trouble=self._check()))
            time.sleep(_ALIVE_S)

    def _begin(self, attempt: AttemptRef, maps: int) -> None:
        fetch = self._fetches[attempt.token] = ReduceFetch(
            attempt,
            maps,
            self._path(attempt),
            peers=self._peers,
            outputs=self._outputs,
            budget=self._budget,
            tell=self._pipe.tell,
            quota=self._quota,
        )
        job, stage = attempt.task.job, attempt.task.stage
        if (job, stage) not in self._stages:
            # Those before are complete, or were given up; their numbers are lower.
            self._stop([key for key in self._stages if key[0] == job and key[1] < stage])
            self._stages[job, stage] = StageLocations(job, stage, self._store)
        self._stages[job, stage].add(fetch)

    def _stop(self, stages: list[tuple[str, int]]) -> None:
        for key in stages:
            self._stages.pop(key).stop()

    def _path(self, attempt: AttemptRef) -> str:
        return paths.fetched_path(self._root, attempt.task.job, attempt.token)
