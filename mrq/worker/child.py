"""A child process of ours, an executor or the data plane: started by exec, never by fork, in a session and
process group of its own, spoken to by frames over pipes that don't block, killed with its group."""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from mrq.worker import protocol
from mrq.worker.exits import Exit

PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

#: Imports this very mrq, wherever it lies, without putting its parent folder on the user's sys.path, and runs
#: `main` of a module of it. Arguments: PACKAGE, the module, then main's own.
BOOT: Final = """\
import sys, importlib, importlib.util as u
s = u.spec_from_file_location("mrq", sys.argv[1] + "/__init__.py", submodule_search_locations=[sys.argv[1]])
m = sys.modules["mrq"] = u.module_from_spec(s)
s.loader.exec_module(m)
importlib.import_module(sys.argv[2]).main(sys.argv[3:])
"""

#: From a start to a child's first word: a new process on a machine that is busy.
START_S_MAX: Final = 60.0
#: What no child has a use for: it holds passwords.
_PRIVATE: Final = frozenset({"MRQ_AMQP_URL", "MRQ_REDIS_URL", "MRQ_SECRETS_FILE"})


class Child:
    """A started process, as its parent holds it. All but `kill` belong to the thread that took it; its
    descriptors are closed by `reap`."""

    def __init__(
        self,
        module: str,
        *,
        environment: Mapping[str, str],
        stdout: int = subprocess.DEVNULL,
        stderr: int | None = None,
        more: Sequence[int] = (),
    ) -> None:
        """Start `main` of a module of ours; returns before it is ready. It has our environment, without what
        holds passwords and with `environment`. Its arguments are the numbers of its pipes (read, write,
        life), whether it may be tied to the thread that starts it (`lifeline.tie`), and those of `more`
        pipes. Raises OSError: no memory, no processes, no files."""
        ours: list[int] = []
        theirs: list[int] = []
        try:
            for child_reads in (True, False, True):
                reading, writing = os.pipe()  # closed on exec, both
                ours.append(writing if child_reads else reading)
                theirs.append(reading if child_reads else writing)
            # PDEATHSIG is sent when the *thread* that spawned ends: only the main one lives as long as we do.
            by_prctl = threading.get_native_id() == os.getpid()
            numbers = (*theirs, int(by_prctl), *more)
            public = {name: value for name, value in os.environ.items() if name not in _PRIVATE}
            self.popen = subprocess.Popen(
                [sys.executable, "-X", "utf8", "-P", "-c", BOOT, PACKAGE, module, *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(*theirs, *more),
                start_new_session=True,
                env={**public, **environment},
            )
            try:
                self.pidfd = os.pidfd_open(self.popen.pid)
            except OSError:
                self.popen.kill()
                self.popen.wait()
                raise
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self.write, self.read, life = ours
        os.set_blocking(self.read, False)
        os.set_blocking(self.write, False)
        #: Of the last, `life`, nothing is ever written to: the kernel kills the process's group when it
        #: closes.
        self._descriptors = [self.pidfd, self.read, self.write, life]
        self.peak_rss_bytes = 0  #: as last sampled
        self._reader = protocol.FrameReader()
        self._writer = protocol.PipeWriter(self.write)
        self._selector: selectors.BaseSelector | None = None
        self._exit: Exit | None = None
        self._killed = False
        self._ending = threading.Lock()  #: of kill and reap: once reaped, the pid may be anyone's

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def alive(self) -> bool:
        """Whether it hasn't been killed or seen dead."""
        return self._exit is None and not self._killed

    def attach(
        self, selector: selectors.BaseSelector, *, heard: Callable[[], None], ended: Callable[[], None]
    ) -> None:
        """Call `heard` when there is something to `receive`, and `ended` when the process has ended, whoever
        else holds its pipes; what `flush` couldn't write is written when there is room."""
        self._selector = selector
        selector.register(self.read, selectors.EVENT_READ, heard)
        selector.register(self.pidfd, selectors.EVENT_READ, ended)

    def detach(self) -> None:
        """Undo `attach`."""
        if self._selector is not None:
            for fd in (self.read, self.pidfd, self.write):
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(fd)
        self._selector = None

    def send(self, message: dict[str, Any]) -> None:
        """Have a message written by the next `flush`. Raises ProtocolError."""
        self._writer.add(message)

    def flush(self) -> None:
        """Write what was sent, as far as the pipe takes it."""
        self._writer.flush()
        if self._selector is not None and self.alive:
            wanted, there = self._writer.waiting, self.write in self._selector.get_map()
            if wanted and not there:
                self._selector.register(self.write, selectors.EVENT_WRITE, self.flush)
            elif there and not wanted:
                self._selector.unregister(self.write)

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that are there; None at the pipe's end, of which nothing more is heard: the process's
        end follows, or user code has closed it. Raises ProtocolError."""
        data = protocol.read_available(self.read)
        if data is not None:
            return self._reader.feed(data)
        if self._selector is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(self.read)
        return None

    def kill(self) -> None:
        """SIGKILL to its process group, and to descendants that have left it. From any thread."""
        with self._ending:
            if self._exit is None:
                self._kill()

    def _kill(self) -> None:
        self._killed = True
        strays = _descendants(self.pid)
        # The group's id can't be another's: the process isn't reaped.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid in strays:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def reap(self) -> Exit | None:
        """How it ended, its group killed and its descriptors closed; None while it lives."""
        with self._ending:
            if self._exit is None and readable(self.pidfd, 0.0):
                self._exit = self._reap()
            return self._exit

    def _reap(self) -> Exit:
        self._kill()  # what it leaves behind
        try:
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:  # somebody waits for every child, or SIGCHLD is ignored
            ended = Exit(code=None, signal=None, peak_rss_bytes=self.peak_rss_bytes)
        else:
            ended = Exit.of(status, usage.ru_maxrss << 10, self.peak_rss_bytes)
        self.popen.returncode = ended.code or 0  # it needn't wait, nor warn
        for fd in self._descriptors:
            os.close(fd)
        return ended

    def wait(self, timeout_s: float) -> Exit | None:
        """`reap`, after waiting for the end."""
        if self._exit is None:
            readable(self.pidfd, timeout_s)
        return self.reap()


def readable(fd: int, timeout_s: float) -> bool:
    """Wait until a descriptor can be read; whether it can."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def _descendants(pid: int) -> list[int]:
    """Children of children, as the kernel lists them, for those that made a session of their own."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{thread}/children", "rb") as file:
                    children = [int(word) for word in file.read().split()]
                found += children
                waiting += children
    return found
