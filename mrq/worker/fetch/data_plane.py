"""The agent's side of the data plane: keeps its process alive, and has it fetch for reduces.

What waits is all that is known here of its work: when the process dies each attempt that waits for it is
handed back, and another process is started on the same port, which begins with nothing. What was fetched
whole stays.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mrq import errors
from mrq.core import paths
from mrq.core.backoff import Backoff, Retry
from mrq.core.model import ErrorReport, Outcome, Status
from mrq.core.refs import AttemptRef
from mrq.errors import InternalError, MrqError, OperatorError
from mrq.io import disk
from mrq.shuffle.fetched import remove
from mrq.worker import protocol
from mrq.worker.child import START_S_MAX, Child, readable
from mrq.worker.fetch import messages
from mrq.worker.fetch.local_outputs import write_sentinel

_LOG: Final = logging.getLogger(__name__)

_CLOSE_S_MAX: Final = 5.0
#: Before another process is started.
_RESTART: Final = Backoff(base_s=0.2, max_s=5.0, least=0.5)
#: The death of one that lived longer is a first one again.
_STABLE_S: Final = 60.0
#: Between two looks whether the process says something; after so many without a word, or that it serves, that
#: is told, and after more it is ended and another is started.
_LOOK_S: Final = 1.0
_SILENT_LOOKS: Final = 10
_UNWELL_LOOKS: Final = 30
#: So many deaths of the process under reduces that waited, or fetches that ended for no reason that the
#: cluster knows, without one that succeeded between them, are no accident: attempts are charged, so that the
#: job ends.
_FAILURES_MAX: Final = 3

#: Chunks of 1 MiB come and go: malloc must not give each back to the system, whose pages cost as much as
#: copying does. What it keeps it keeps once, not for each thread.
_ENVIRONMENT: Final = {
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    "GRPC_VERBOSITY": "ERROR",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(8 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}


class DataPlane:
    """Fetches for reduces. Make it, `start` it, `attach` it to the agent's loop, on whose thread all else
    happens, and never blocks; `close` it last."""

    def __init__(
        self,
        hello: messages.Hello,
        *,
        started: Callable[[int], None] = lambda pid: None,
    ) -> None:
        """`hello` is for the process; the sentinel in it is written by `start`. `started` is told the pid of
        each process, which leads a process group of its own."""
        self._hello = hello
        self._started = started
        self._child: Child | None = None
        self._selector: selectors.BaseSelector | None = None
        self._sink: Callable[[object], None]
        self._notify: Callable[[str], None]
        self._waiting: dict[str, messages.BeginFetch] = {}  #: by token
        self._failures = 0  #: in a row
        self._why = ""  #: the process was killed here
        self._started_at = 0.0
        self._restart_at = 0.0
        self._deaths = Retry(_RESTART)
        self._looked_at = 0.0
        self._silent = 0  #: looks since the process said something
        self._unwell = 0  #: looks since it said that it serves
        self._trouble = ""  #: as it was told last

    def start(self, timeout_s: float = START_S_MAX) -> str:
        """Start serving; where it listens, with the port that the system chose.

        Raises UsageError for an address that isn't allowed, OperatorError where it can't be served, or the
        store refuses the login.
        """
        root = self._hello.root
        with disk.naming(root):
            os.makedirs(root, mode=0o700, exist_ok=True)
        self._hello = replace(self._hello, sentinel=write_sentinel(root))
        with contextlib.suppress(OSError):  # what an earlier life of this worker fetched
            for entry in os.scandir(f"{root}/jobs"):
                shutil.rmtree(f"{entry.path}/fetched", ignore_errors=True)
        try:
            with disk.naming(root):
                child = self._start()
            deadline = time.monotonic() + timeout_s
            while not (found := child.receive()):
                if found is None:
                    raise OperatorError("the data plane ended before it was ready; what it said is above")
                if not readable(child.read, max(0.0, deadline - time.monotonic())):
                    raise OperatorError(f"the data plane wasn't ready after {timeout_s:g} s")
            for each in found:
                self._hear(messages.read(each))
        except BaseException:
            self.close()
            raise
        return self._hello.bind

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        return self._child.pid if self._child is not None else None

    def attach(
        self,
        selector: selectors.BaseSelector,
        sink: Callable[[object], None],
        notify: Callable[[str], None] = lambda trouble: None,
    ) -> None:
        """Work by a loop's selector. `sink` is told of FetchProgressed, and of one Fetched or FetchFailed an
        attempt; `notify` of what keeps the process from serving, when that changes, "" for nothing."""
        self._selector, self._sink, self._notify = selector, sink, notify
        if self._child is not None:
            self._child.attach(selector, heard=self._readable, ended=self._ended)

    def fetch(self, attempt: AttemptRef, maps: int) -> None:
        """Begin for a reduce attempt: its partition of all maps' outputs, as they appear in the store's
        locations."""
        begun = self._waiting[attempt.token] = messages.BeginFetch(attempt=attempt, maps=maps)
        self._send(begun)

    def discard(self, attempt: AttemptRef) -> None:
        """The attempt is over, whether it still waits or has read all: remove what was fetched. Nothing more
        is told of it."""
        self._waiting.pop(attempt.token, None)
        self._send(messages.Discard(attempt=attempt))
        if self._child is None:
            self._remove(attempt)

    def forget(self, job: str) -> None:
        """The job is over, and all its attempts were discarded, or will be."""
        self._send(messages.Forget(job=job))

    def watch(self, now: float) -> None:
        """Does the process say that it serves? Looks are counted, not seconds: where everything stood still,
        the machine slept, it isn't the process that was silent. Where there is none, another is started in
        time."""
        if self._child is None:
            if now >= self._restart_at:
                self._restart()
            return
        if now < self._looked_at + _LOOK_S:
            return
        self._looked_at = now
        self._silent += 1
        if self._silent >= _SILENT_LOOKS:
            self._tell_trouble(f"it has said nothing for {self._silent * _LOOK_S:.0f} s")
        self._unwell = self._unwell + 1 if self._trouble else 0
        if self._unwell >= _UNWELL_LOOKS:
            self._kill(self._trouble)

    def close(self) -> None:
        """End the process; what was fetched for attempts that wait is removed. Twice is once."""
        if self._child is not None:
            self._child.detach()
            self._child.kill()
            self._child.wait(_CLOSE_S_MAX)  # one that hangs in a disk is ended when that answers
            self._child = None
        for begun in self._waiting.values():
            self._remove(begun.attempt)
        self._waiting.clear()

    # What the process says.

    def _send(self, message: object) -> None:
        """To the process, if there is one: the next is told what waits."""
        if self._child is not None:
            self._child.send(messages.frame(message))
            self._child.flush()

    def _readable(self) -> None:
        assert self._child is not None
        try:
            for each in self._child.receive() or ():
                self._hear(messages.read(each))
        except (MrqError, KeyError, TypeError, ValueError) as exc:
            self._kill(f"{type(exc).__name__}: {exc}")

    def _hear(self, message: object) -> None:
        self._silent = 0
        match message:
            case messages.Ready(address=address, refused=refused):
                if refused and self._selector is None:
                    raise OperatorError(refused)
                self._hello = replace(self._hello, bind=address)  # the same one for those that follow
            case messages.NotServing(error=error, message=why):
                kind = getattr(errors, error, OperatorError)
                raise (kind if issubclass(kind, MrqError) else OperatorError)(why)
            case messages.Alive(trouble=trouble):
                self._tell_trouble(trouble)
            case messages.FetchProgressed(token=token):
                if token in self._waiting:
                    self._sink(message)
            case messages.Fetched(token=token):
                if self._waiting.pop(token, None) is not None:
                    self._failures = 0
                    self._sink(message)
            case messages.FetchFailed(token=token, outcome=outcome):
                if token in self._waiting:
                    if outcome.status is Status.LOST and not outcome.disk:
                        self._failures += 1
                        outcome = replace(outcome, started=self._failures >= _FAILURES_MAX)
                    self.discard(self._waiting[token].attempt)
                    self._sink(replace(message, outcome=outcome))
            case other:
                raise protocol.ProtocolError(f"an agent doesn't know {other!r}")

    def _tell_trouble(self, trouble: str) -> None:
        if self._selector is not None and bool(trouble) != bool(self._trouble):
            self._notify(f"the data plane doesn't serve: {trouble}" if trouble else "")
        self._trouble = trouble

    # The process's life.

    def _start(self) -> Child:
        """Raises OSError."""
        environment = {name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()}
        child = self._child = Child("mrq.worker.fetch.__main__", environment=environment)
        self._started(child.pid)
        self._started_at = self._looked_at = time.monotonic()
        self._silent = self._unwell = 0
        if self._selector is not None:
            child.attach(self._selector, heard=self._readable, ended=self._ended)
        self._send(self._hello)
        return child

    def _restart(self) -> None:
        try:
            self._start()
        except OSError as exc:
            wait_s = self._deaths.failed()
            _LOG.warning("no data plane can be started, which is tried again in %.1f s: %s", wait_s, exc)
            self._restart_at = time.monotonic() + wait_s
            self._hand_back(str(exc))
            return
        for begun in self._waiting.values():
            self._send(begun)

    def _kill(self, why: str) -> None:
        assert self._child is not None
        self._why = why
        self._child.kill()

    def _ended(self) -> None:
        """Hand back what waited for the process, and start another a little later."""
        assert self._child is not None
        self._child.detach()
        ended = self._child.reap()
        why, self._why, self._child = self._why or str(ended), "", None
        _LOG.warning("the data plane is started again: %s", why)
        now = time.monotonic()
        if now - self._started_at > _STABLE_S:
            self._deaths.worked()
        self._restart_at = now + self._deaths.failed()
        self._hand_back(why)

    def _hand_back(self, why: str) -> None:
        waiting, self._waiting = self._waiting, {}
        self._failures += bool(waiting)
        outcome = Outcome(status=Status.HANDED_BACK, started=False)
        if self._failures >= _FAILURES_MAX:
            message = (
                f"the data plane died {self._failures} times in a row while reduces waited for it: {why}"
            )
            error = ErrorReport(type=InternalError.__name__, message=message)
            outcome = Outcome(status=Status.LOST, error=error)
        for token, begun in waiting.items():
            self._remove(begun.attempt)
            self._sink(messages.FetchFailed(token=token, outcome=outcome))

    def _remove(self, attempt: AttemptRef) -> None:
        remove(paths.fetched_path(self._hello.root, attempt.task.job, attempt.token))
