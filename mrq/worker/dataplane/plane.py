"""The agent's side of the data plane: keeps its process alive, and gathers through it.

One thread owns the process and its pipes. Calls of the agent's loop and what followers hear come to it
through an inbox, so no call blocks. What is being gathered is kept here, and where it lies in the store: when
the process dies another is started on the same port, and both are told again. What was gathered whole stays;
the rest begins anew, and after three deaths an attempt is given up without a charge.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from mrq.core import paths
from mrq.core.model import ErrorReport, Outcome, Status
from mrq.core.refs import AttemptRef
from mrq.errors import InternalError, MrqError
from mrq.io import disk
from mrq.ports import WorkerStore
from mrq.shuffle.gathered import remove
from mrq.worker import gather, protocol
from mrq.worker.dataplane import messages
from mrq.worker.dataplane.child import end, first_word, refusal, spawn
from mrq.worker.dataplane.follow import Follower
from mrq.worker.dataplane.messages import Located
from mrq.worker.dataplane.places import write_sentinel
from mrq.worker.spawn import Child

_START_S_MAX: Final = 30.0
#: Before another process is started: the first wait, the longest, and what makes the first one again.
_RESPAWN_S: Final = (0.2, 5.0)
_CALM_S: Final = 60.0
#: Between two looks whether the process says something; after so many without a word, or that it serves, that
#: is told, and after more it is ended and another is started.
_LOOK_S: Final = 1.0
_SILENT_LOOKS: Final = 10
_UNWELL_LOOKS: Final = 30
#: An attempt whose gathering has met so many deaths is given up.
_DEATHS_MAX: Final = 3
#: So many attempts that couldn't gather in a row, for no reason that the cluster knows, are no accident: the
#: next is charged, so that the job ends.
_LOST_MAX: Final = 3


def _say(text: str) -> None:
    print(f"mrq worker: {text}", file=sys.stderr, flush=True)  # noqa: T201


def _lost(why: str, *, started: bool) -> Outcome:
    """Ours to answer for; charged when it `started`."""
    error = ErrorReport(type=InternalError.__name__, message=why)
    return Outcome(status=Status.LOST, error=error, started=started)


@dataclass(slots=True)
class _Attempt:
    job: str
    message: messages.Gather
    over: bool = False  #: gathered: its file may be read
    deaths: int = 0


class DataPlane:
    """Gathers for reduces. Make it, `start` it, give it to the agent's loop; `close` it last.

    What the loop calls doesn't block, and comes from its thread only.
    """

    def __init__(
        self,
        hello: messages.Hello,
        store: WorkerStore,
        log: Callable[[str], None] = _say,
    ) -> None:
        """`hello` is for the process; the sentinel in it is written by `start`."""
        self._log = log
        self._root = hello.root
        self._store = store
        self._hello = hello
        self._sink: Callable[[object], None] = lambda event: None
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake_fd = -1
        self._closing = False
        self._broken: str | None = None  #: by a bug of ours
        self._lock = threading.Lock()  #: of the wake-up's descriptor
        self._thread = threading.Thread(target=self._run, name="mrq-dataplane", daemon=True)

        # Below, the thread's own.
        self._selector = selectors.DefaultSelector()
        self._child: Child | None = None
        self._reader = protocol.FrameReader()
        self._writer: protocol.FrameWriter | None = None
        self._started_at = 0.0
        self._respawn_at: float | None = None
        self._respawn_s = _RESPAWN_S[0]
        self._followers: dict[str, Follower] = {}  #: by job
        self._attempts: dict[str, _Attempt] = {}  #: by token
        self._lost = 0  #: in a row
        self._looked_at = 0.0
        self._silent = 0  #: looks since the process said something
        self._unwell = 0  #: looks since it said that it serves
        self._trouble = ""  #: as it was told last
        self._notify: Callable[[str], None] = lambda trouble: None

    def start(self, timeout_s: float = _START_S_MAX) -> str:
        """Start serving; where it listens, with the port that the system chose.

        Raises UsageError for an address that isn't allowed, OperatorError where it can't be served.
        """
        with disk.naming(self._root):
            os.makedirs(self._root, mode=0o700, exist_ok=True)
        self._hello = replace(self._hello, sentinel=write_sentinel(self._root))
        with contextlib.suppress(OSError):  # what an earlier life of this worker gathered
            for entry in os.scandir(f"{self._root}/jobs"):
                shutil.rmtree(f"{entry.path}/gathered", ignore_errors=True)
        try:
            child = spawn(self._hello)
        except OSError as exc:
            raise disk.named(exc, self._root) from exc
        try:
            address = first_word(child, timeout_s)
        except BaseException:
            end(child)
            raise
        self._hello = replace(self._hello, bind=address)  # the same one for those that follow
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake_fd, selectors.EVENT_READ, self._woken)
        self._adopt(child)
        self._thread.start()
        return address

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        child = self._child
        return child.pid if child is not None else None

    def watch(self, notify: Callable[[str], None]) -> None:
        """Be told what keeps it from serving, when that changes; "" for nothing. On the plane's own
        thread."""
        self._notify = notify

    def attach(self, sink: Callable[[object], None]) -> None:
        """Tell `sink` (never blocks) of Gathering, and of one Gathered or GatherFailed a token."""
        self._sink = sink

    def gather(self, attempt: AttemptRef, maps: int) -> None:
        """Begin for a reduce attempt: its partition of all maps' outputs, as they appear in the store's
        locations."""
        if self._broken is not None:
            self._sink(gather.GatherFailed(token=attempt.token, outcome=_lost(self._broken, started=True)))
            return
        begun = _Attempt(attempt.task.job, messages.Gather(attempt=attempt, maps=maps))
        self._post(lambda: self._gather(attempt.token, begun))

    def cancel(self, token: str) -> None:
        """The attempt is over, whether it still gathers or has read all: remove what was gathered. Nothing
        more is told of it; a token that isn't known is passed over."""
        self._post(lambda: self._cancel(token))

    def forget(self, job: str) -> None:
        """The job is over: cancel all that gathers for it and stop following its locations."""
        self._post(lambda: self._forget(job))

    def close(self) -> None:
        """End the process and everything else; what was gathered is removed. Twice is once."""
        self._closing = True
        self._post(lambda: None)
        if self._thread.ident is None:
            self._selector.close()
        else:
            self._thread.join()

    # The thread.

    def _post(self, what: Callable[[], None]) -> None:
        self._inbox.append(what)
        with self._lock:
            if self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)

    def _run(self) -> None:
        try:
            while not self._closing:
                now = time.monotonic()
                timeout = _LOOK_S if self._respawn_at is None else max(0.0, self._respawn_at - now)
                for key, _ in self._selector.select(timeout):
                    if key.fd in self._selector.get_map():
                        key.data()
                while self._inbox:
                    self._inbox.popleft()()
                if self._respawn_at is not None and time.monotonic() >= self._respawn_at:
                    self._respawn()
                self._look()
        except Exception as exc:
            self._broken = f"the worker's side of the data plane died: {type(exc).__name__}: {exc}"
            self._log(self._broken)
            for token, attempt in self._attempts.items():
                if not attempt.over:
                    self._sink(gather.GatherFailed(token=token, outcome=_lost(self._broken, started=True)))
            raise
        finally:
            self._end()

    def _gather(self, token: str, attempt: _Attempt) -> None:
        self._attempts[token] = attempt
        if attempt.job not in self._followers:
            self._followers[attempt.job] = Follower(attempt.job, self._store, self._located, self._log)
        self._followers[attempt.job].resume()
        self._send(attempt.message)

    def _cancel(self, token: str) -> None:
        attempt = self._attempts.pop(token, None)
        if attempt is not None:
            self._send(messages.Discard(token=token, job=attempt.job))
            if self._writer is None:
                self._remove(attempt.job, token)
            self._pause(attempt.job)

    def _forget(self, name: str) -> None:
        follower = self._followers.pop(name, None)
        if follower is not None:
            follower.stop()
        for token in [token for token, attempt in self._attempts.items() if attempt.job == name]:
            self._cancel(token)
        self._send(messages.Forget(job=name))

    def _located(self, follower: Follower, new: Located) -> None:
        """On the follower's thread."""

        def send() -> None:
            if self._followers.get(new.job) is follower:
                for message in new.in_frames():
                    self._send(message)

        self._post(send)

    def _pause(self, name: str) -> None:
        """Follow no more while nobody of the job gathers."""
        if not any(a.job == name and not a.over for a in self._attempts.values()) and name in self._followers:
            self._followers[name].pause()

    def _look(self) -> None:
        """Once a second: does the process say that it serves? Looks are counted, not seconds: where
        everything stood still, the machine slept, it isn't the process that was silent."""
        now = time.monotonic()
        if self._child is None or now < self._looked_at + _LOOK_S:
            return
        self._looked_at = now
        self._silent += 1
        if self._silent >= _SILENT_LOOKS:
            self._say_trouble(f"it has said nothing for {self._silent * _LOOK_S:.0f} s")
        if self._trouble:
            self._unwell += 1
        if self._unwell >= _UNWELL_LOOKS:
            self._died(self._trouble)

    def _say_trouble(self, trouble: str) -> None:
        first, self._trouble = bool(trouble) != bool(self._trouble), trouble
        if not trouble:
            self._unwell = 0
        if first:
            self._notify(f"the data plane doesn't serve: {trouble}" if trouble else "")

    # What the process says.

    def _hear(self, message: object) -> None:
        self._silent = 0
        match message:
            case messages.Alive(trouble=trouble):
                self._say_trouble(trouble)
            case messages.Mistaken(worker=worker, boot=boot):
                for follower in self._followers.values():
                    follower.ask_again((worker, boot))
            case messages.NotServing():
                raise refusal(message)
            case gather.Gathering() | gather.Gathered() | gather.GatherFailed():
                attempt = self._attempts.get(message.token)
                if attempt is None or attempt.over:
                    return  # cancelled meanwhile
                if isinstance(message, gather.GatherFailed):
                    self._fail(message.token, message.outcome)
                    return
                if isinstance(message, gather.Gathered):
                    attempt.over, self._lost = True, 0
                self._sink(message)
                if attempt.over:
                    self._pause(attempt.job)
            case other if not isinstance(other, messages.Ready):
                raise protocol.ProtocolError(f"an agent doesn't know {other!r}")

    def _fail(self, token: str, outcome: Outcome) -> None:
        if outcome.status is Status.LOST and not outcome.disk:
            self._lost += 1
            outcome = replace(outcome, started=self._lost >= _LOST_MAX)
        self._cancel(token)
        self._sink(gather.GatherFailed(token=token, outcome=outcome))

    # The process's life.

    def _adopt(self, child: Child) -> None:
        self._child = child
        self._reader = protocol.FrameReader()
        self._writer = protocol.FrameWriter(child.write)
        self._started_at = self._looked_at = time.monotonic()
        self._silent = self._unwell = 0
        self._selector.register(child.read, selectors.EVENT_READ, self._readable)
        self._selector.register(child.pidfd, selectors.EVENT_READ, lambda: self._died("it ended"))

    def _send(self, message: object) -> None:
        """To the process, if there is one: the next is told everything."""
        if self._writer is not None:
            self._writer.send(messages.frame(message))
            self._want_write()

    def _want_write(self) -> None:
        assert self._child is not None
        assert self._writer is not None
        wanted, there = self._writer.waiting, self._child.write in self._selector.get_map()
        if wanted and not there:
            self._selector.register(self._child.write, selectors.EVENT_WRITE, self._writable)
        elif there and not wanted:
            self._selector.unregister(self._child.write)

    def _writable(self) -> None:
        assert self._writer is not None
        self._writer.flush()
        self._want_write()

    def _readable(self) -> None:
        assert self._child is not None
        try:
            data = protocol.read_available(self._child.read)
            if data is None:
                self._died("it closed its pipe")
                return
            for frame in self._reader.feed(data):
                self._hear(messages.read(frame))
        except (MrqError, KeyError, TypeError, ValueError) as exc:
            self._died(f"{type(exc).__name__}: {exc}")

    def _died(self, why: str) -> None:
        """Start another a little later; what it gathered for is gathered again."""
        assert self._child is not None
        self._log(f"the data plane is started again: {why}")
        self._let_go()
        now = time.monotonic()
        if now - self._started_at > _CALM_S:
            self._respawn_s = _RESPAWN_S[0]
        self._respawn_at = now + self._respawn_s
        self._respawn_s = min(2 * self._respawn_s, _RESPAWN_S[1])
        for token, attempt in list(self._attempts.items()):
            if attempt.over:
                continue
            attempt.deaths += 1
            self._remove(attempt.job, token)
            if attempt.deaths >= _DEATHS_MAX:
                why = f"the data plane died {attempt.deaths} times while it gathered: {why}"
                self._fail(token, _lost(why, started=False))

    def _respawn(self) -> None:
        self._respawn_at = None
        try:
            child = spawn(self._hello)
        except OSError as exc:
            self._log(f"no data plane can be started, which is tried again in {_RESPAWN_S[1]:g} s: {exc}")
            self._respawn_at = time.monotonic() + _RESPAWN_S[1]
            return
        self._adopt(child)
        self._stop_following()  # and begin anew, so that it is told everything
        for token, attempt in self._attempts.items():
            if not attempt.over:
                self._gather(token, attempt)

    def _stop_following(self) -> None:
        while self._followers:
            self._followers.popitem()[1].stop()

    def _let_go(self) -> None:
        if self._child is not None:
            for fd in (self._child.read, self._child.write, self._child.pidfd):
                with contextlib.suppress(KeyError):
                    self._selector.unregister(fd)
            end(self._child)
            self._child = self._writer = None

    def _end(self) -> None:
        self._stop_following()
        self._let_go()
        for token, attempt in self._attempts.items():
            self._remove(attempt.job, token)
        with self._lock:
            self._selector.close()
            os.close(self._wake_fd)
            self._wake_fd = -1

    def _remove(self, job: str, token: str) -> None:
        remove(paths.gathered_path(self._root, job, token))
