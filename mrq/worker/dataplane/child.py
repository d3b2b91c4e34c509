"""Starts the data plane's process and waits for its first word."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from typing import Final

from mrq import errors
from mrq.errors import MrqError, OperatorError
from mrq.worker import protocol
from mrq.worker.dataplane import messages
from mrq.worker.spawn import Child, start

_MODULE: Final = "mrq.worker.dataplane.__main__"
_KILL_S_MAX: Final = 5.0


#: Chunks of 1 MiB come and go: malloc must not give each back to the system, whose pages cost as much as
#: copying does. What it keeps it keeps once, not for each thread.
_ENVIRONMENT: Final = {
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    "GRPC_VERBOSITY": "ERROR",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(8 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}


def spawn(hello: messages.Hello) -> Child:
    """Start one; returns before it is ready. Raises OSError."""
    child = start(_MODULE, {**_ENVIRONMENT, **os.environ}, stdout=subprocess.DEVNULL, stderr=None)
    try:
        protocol.write_frame(child.write, messages.frame(hello))
    except BaseException:
        end(child)
        raise
    return child


def end(child: Child) -> None:
    """Kill it, if it still runs, and let go of it."""
    child.popen.kill()
    # One that hangs in a disk is ended when that answers.
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.popen.wait(_KILL_S_MAX)
    for fd in (child.read, child.write, child.life, child.pidfd):
        os.close(fd)


def first_word(child: Child, timeout_s: float) -> str:
    """Where it listens. Raises the MrqError that it was refused with, OperatorError if it says nothing."""
    reader = protocol.FrameReader()
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([child.read], [], [], left)[0]:
            break
        data = protocol.read_available(child.read)
        if data is None:
            raise OperatorError("the data plane ended before it was ready; what it said is above")
        for frame in reader.feed(data):
            match messages.read(frame):
                case messages.Ready(address=address):
                    return address
                case messages.NotServing() as refused:
                    raise refusal(refused)
    raise OperatorError(f"the data plane wasn't ready after {timeout_s:g} s")


def refusal(refused: messages.NotServing) -> MrqError:
    """Why it doesn't serve."""
    kind = getattr(errors, refused.error, OperatorError)
    made: MrqError = (kind if issubclass(kind, MrqError) else OperatorError)(refused.message)
    return made
