"""Starts our child processes: exec, never fork, each in a session and process group of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A started process, as its parent holds it; every descriptor is the parent's to close."""

    popen: subprocess.Popen[bytes]
    pidfd: int  #: readable when the process has ended, whoever else holds its pipes
    read: int  #: frames from it; doesn't block
    write: int  #: frames to it; doesn't block
    life: int  #: never written to: the kernel kills the process's group when this closes

    @property
    def pid(self) -> int:
        return self.popen.pid


@dataclass(frozen=True, slots=True, kw_only=True)
class Process(Child):
    """A started executor."""

    stderr: int  #: what it said outside attempts: a failed start
    permits: int  #: numbers of orders, each of which it takes before it begins with one; doesn't block
    unread: int  #: the other end: a number that is read here is one that it can't take any more


#: What user code has no use for: it would only end in a log.
_PRIVATE: Final = frozenset({"MRQ_AMQP_URL", "MRQ_REDIS_URL", "MRQ_SECRETS_FILE"})


def environment() -> dict[str, str]:
    """Ours without what holds passwords, with a fixed hash seed, so that iterating a set is the same in a
    re-run."""
    ours = {name: value for name, value in os.environ.items() if name not in _PRIVATE}
    return {**ours, "PYTHONHASHSEED": "0", "MRQ_EXECUTOR": "1"}


def spawn() -> Process:
    """Start an executor; returns before it is ready. Raises OSError (no memory, no processes, no files)."""
    stderr = os.memfd_create("mrq-executor-stderr")
    theirs, permits = os.pipe()
    ours = [stderr, permits]
    try:
        # Its own description of the pipe's end: that it doesn't block isn't for the executor.
        ours.append(os.open(f"/proc/self/fd/{theirs}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        os.set_blocking(permits, False)
        child = start("mrq.worker.executor", environment(), stdout=stderr, stderr=stderr, more=(theirs,))
    except BaseException:
        for fd in ours:
            os.close(fd)
        raise
    finally:
        os.close(theirs)
    return Process(
        popen=child.popen,
        pidfd=child.pidfd,
        read=child.read,
        write=child.write,
        life=child.life,
        stderr=stderr,
        permits=permits,
        unread=ours[-1],
    )


def start(
    module: str,
    environment: Mapping[str, str],
    *,
    stdout: int,
    stderr: int | None,
    more: Sequence[int] = (),
) -> Child:
    """Start `main` of a module of ours. Its arguments are the numbers of its pipes (read, write, life),
    whether it may be tied to the thread that starts it (`lifeline.tie`), and those of `more` pipes. Raises
    OSError."""
    ours: list[int] = []
    theirs: list[int] = []
    try:
        for child_reads in (True, False, True):
            reading, writing = os.pipe()  # closed on exec, both
            ours.append(writing if child_reads else reading)
            theirs.append(reading if child_reads else writing)
        write, read, life = ours
        # PDEATHSIG is sent when the *thread* that spawned ends: only the main one lives as long as we do.
        by_prctl = threading.get_native_id() == os.getpid()
        numbers = (*theirs, int(by_prctl), *more)
        popen = subprocess.Popen(
            [sys.executable, "-X", "utf8", "-P", "-c", BOOT, PACKAGE, module, *map(str, numbers)],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(*theirs, *more),
            start_new_session=True,
            env=environment,
        )
        try:
            pidfd = os.pidfd_open(popen.pid)
        except OSError:
            popen.kill()
            popen.wait()
            raise
    except BaseException:
        for fd in ours:
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return Child(popen=popen, pidfd=pidfd, read=read, write=write, life=life)
