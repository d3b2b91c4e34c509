"""Executors as their agent holds them: blank ones ready, warm ones kept for their code, all of them killed.

A blank executor has imported the engine and no user code. The first attempt binds it to its job's code, and
it serves every job with that code until the code is dropped, unless user code left something running in it.
A pool may be filled by another thread than the one that takes from it (the command line starts executors
before it plans), so its lists are under a lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mrq.worker import protocol
from mrq.worker.child import Child, readable
from mrq.worker.exits import Exit

if TYPE_CHECKING:
    from mrq.worker.agent_loop import AgentLoop
    from mrq.worker.attempts import Attempts

_STDERR_BYTES_MAX: Final = 4096
#: A fixed hash seed, so that iterating a set is the same in a re-run.
_ENVIRONMENT: Final = {"PYTHONHASHSEED": "0", "MRQ_EXECUTOR": "1"}
_CLOSE_TIMEOUT_S: Final = 1.0
#: Orders that wait for each other before they are sent: many are made one after another.
_UNSENT_MAX: Final = 8
#: An executor that holds more isn't kept for a code that no job uses: a new one takes 0.2 s.
_RESTING_RSS_BYTES_MAX: Final = 256 << 20


class ExecutorProcess(Child):
    """A child process that runs attempts; all but `kill` belong to the thread that took it."""

    def __init__(self) -> None:
        """Start one. Raises OSError."""
        stderr = os.memfd_create("mrq-executor-stderr")  # what it says outside attempts: a failed start
        theirs, permits = os.pipe()
        ours = [stderr, permits]
        try:
            # Its own description of the pipe's end: that it doesn't block isn't for the executor.
            ours.append(os.open(f"/proc/self/fd/{theirs}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            os.set_blocking(permits, False)
            super().__init__(
                "mrq.worker.executor", environment=_ENVIRONMENT, stdout=stderr, stderr=stderr, more=(theirs,)
            )
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            os.close(theirs)
        self._descriptors += ours
        self._stderr, self._permits, self._unread = ours
        self.code: str | None = None  #: the folder of the bundle that it has; None: blank
        self.ready = False  #: it has said so
        self.threads = False  #: user code's threads outlived the last attempt
        self._orders = 0  #: given so far
        self._unsent: list[int] = []  #: permits to be sent with them

    def order(self, message: dict[str, Any]) -> int:
        """Have an order sent by the next `flush`, or at once after some others; its number. Raises
        ProtocolError."""
        self._orders += 1
        self.send({**message, "number": self._orders})
        self._unsent.append(self._orders)
        if len(self._unsent) >= _UNSENT_MAX:
            self.flush()
        return self._orders

    def take_back(self, number: int) -> bool:
        """Keep it from beginning with an order. False: it has."""
        with contextlib.suppress(BlockingIOError):
            unread = os.read(self._unread, protocol.READ_BYTES)
            self._unsent[:0] = [permit for (permit,) in protocol.PERMIT.iter_unpack(unread)]
        if number not in self._unsent:
            return False
        self._unsent.remove(number)
        return True

    def flush(self) -> None:
        """Send what was ordered, as far as the pipe takes it."""
        super().flush()
        if self._unsent:
            permits, self._unsent = self._unsent, []
            os.write(self._permits, b"".join(map(protocol.PERMIT.pack, permits)))

    def receive(self) -> list[dict[str, Any]] | None:
        """See `Child`."""
        messages = super().receive()
        self.ready = self.ready or bool(messages)
        return messages

    def died_idle(self) -> bool:
        """Whether it came up and is dead. One that never came up is for its attempt to report."""
        if not readable(self.pidfd, 0.0):
            return False
        with contextlib.suppress(protocol.ProtocolError):
            self.receive()
        return self.ready

    def sample_rss(self) -> None:
        """Note the peak memory of the living process: its exit's figure includes ours (vfork)."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{self.pid}/status", "rb") as file:
                text = file.read()
            self.peak_rss_bytes = int(text.split(b"VmHWM:", 1)[1].split(None, 1)[0]) << 10

    def rss_bytes(self) -> int:
        """Resident memory now; 0 if unknown."""
        with (
            contextlib.suppress(OSError, ValueError, IndexError),
            open(f"/proc/{self.pid}/statm", "rb") as file,
        ):
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return 0

    def _reap(self) -> Exit:
        size = os.fstat(self._stderr).st_size
        data = os.pread(self._stderr, _STDERR_BYTES_MAX, max(0, size - _STDERR_BYTES_MAX))
        return replace(super()._reap(), words=data.decode("utf-8", "replace").strip())


class Pool:
    """The executors of one agent. Close it."""

    def __init__(self, limit: int | None = None, *, started: Callable[[int], None] | None = None) -> None:
        """`limit`: of attempts at a time; twice as many executors may live, for other codes' sake. `started`
        is told the pid of each, which leads a process group of its own."""
        self.limit = limit
        self._started = started
        self._lock = threading.Lock()
        self._idle: list[ExecutorProcess] = []
        self._taken: set[ExecutorProcess] = set()
        self._dying: list[ExecutorProcess] = []
        self._closed = False

    def __len__(self) -> int:
        """Living executors, idle and taken."""
        with self._lock:
            return len(self._idle) + len(self._taken)

    @property
    def blank(self) -> int:
        """Idle executors that may be bound to any code."""
        with self._lock:
            return sum(1 for executor in self._idle if executor.code is None)

    def attempts(self, *, loop: AgentLoop, **parts: Any) -> Attempts:
        """What runs attempts here, for an agent's loop."""
        from mrq.worker.attempts import Attempts

        return Attempts(pool=self, loop=loop, **parts)

    def prewarm(self, count: int) -> None:
        """Start blank executors until there are `count` in all. Never raises: `take` will."""
        while len(self) < count:
            try:
                executor = self._start()
            except OSError:
                return
            with self._lock:
                if not self._closed:
                    self._idle.append(executor)
                    continue
            _end([executor])
            return

    def take(self, code: str) -> ExecutorProcess:
        """A warm executor of the code, or else a blank one, bound to it. Raises OSError when none starts."""
        self._make_room(code)
        while True:
            with self._lock:
                if self._closed:
                    raise OSError(errno.ESHUTDOWN, "the executors are being ended")
                # A warm one before a blank one; the latest used, whose memory is in the caches.
                warm = [executor for executor in self._idle if executor.code == code]
                found = warm[-1:] or [executor for executor in self._idle if executor.code is None][:1]
                self._idle = [executor for executor in self._idle if executor not in found]
                self._taken.update(found)
            executor = found[0] if found else self._start()
            if not found:
                self._add(executor)
            if executor.died_idle():
                self.discard(executor)
                continue
            executor.code = code
            return executor

    def put_back(self, executor: ExecutorProcess) -> None:
        """Keep it warm for its code."""
        with self._lock:
            self._taken.discard(executor)
            self._idle.append(executor)

    def discard(self, executor: ExecutorProcess) -> None:
        """Kill it, busy or idle; its end is awaited by `reap`."""
        executor.kill()
        with self._lock:
            self._taken.discard(executor)
            if executor in self._idle:
                self._idle.remove(executor)
            if executor not in self._dying:
                self._dying.append(executor)

    def drop(self, code: str) -> None:
        """End the idle executors of a code whose folder is being removed."""
        for executor in self._idle_of(code):
            self.discard(executor)

    def release(self, code: str) -> None:
        """No job needs this code for now: its idle executors stay, but for those that hold much memory, or
        in which threads or children of the user's outlive the job."""
        idle = self._idle_of(code)
        parents = _parents(executor.pid for executor in idle)
        for executor in idle:
            heavy = executor.rss_bytes() > _RESTING_RSS_BYTES_MAX
            if heavy or executor.threads or executor.pid in parents:
                self.discard(executor)

    def reap(self) -> None:
        """Reap what has ended."""
        with self._lock:
            dying = list(self._dying)
        ended = [executor for executor in dying if executor.reap() is not None]
        if ended:
            with self._lock:
                self._dying = [executor for executor in self._dying if executor not in ended]

    def kill_all(self) -> None:
        """SIGKILL to every executor and its group, now; from any thread."""
        with self._lock:
            self._closed = True
            everybody = [*self._idle, *self._taken, *self._dying]
        for executor in everybody:
            executor.kill()

    def close(self) -> None:
        """Kill everything and wait for its end, a second at most. May be called again."""
        self.kill_all()
        with self._lock:
            everybody = [*self._idle, *self._taken, *self._dying]
            self._idle, self._taken, self._dying = [], set(), []
        _end(everybody)

    def _add(self, executor: ExecutorProcess) -> None:
        with self._lock:
            self._taken.add(executor)
            if self._closed:  # by another thread, since it was asked for
                executor.kill()

    def _idle_of(self, code: str) -> list[ExecutorProcess]:
        with self._lock:
            return [executor for executor in self._idle if executor.code == code]

    def _make_room(self, code: str) -> None:
        """End other codes' warm executors, the longest unused first, where there are too many."""
        with self._lock:
            if self.limit is None or any(executor.code in (None, code) for executor in self._idle):
                return
            excess = len(self._idle) + len(self._taken) + 1 - 2 * self.limit
            over = self._idle[: max(0, excess)]
        for executor in over:
            self.discard(executor)

    def _start(self) -> ExecutorProcess:
        executor = ExecutorProcess()
        if self._started is not None:
            self._started(executor.pid)
        return executor


def _end(executors: Iterable[ExecutorProcess]) -> None:
    until = time.monotonic() + _CLOSE_TIMEOUT_S
    for executor in executors:
        executor.kill()
        executor.wait(max(0.0, until - time.monotonic()))


def _parents(leaders: Iterable[int]) -> set[int]:
    """Those of some session leaders that aren't alone: others are in their session, or are their children."""
    wanted, found = set(leaders), set[int]()
    if not wanted:
        return found
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in wanted:
            continue
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
            fields = file.read().rsplit(b")", 1)[1].split()
            if fields[0] != b"Z":
                found |= {int(fields[1]), int(fields[3])} & wanted
    return found
