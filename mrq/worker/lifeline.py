"""How a child dies with its parent, even when it is stopped, or busy in C code."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def tie(life: int, *, by_prctl: bool) -> None:
    """Have the kernel kill this process's group when the other end of the pipe `life` closes.

    `by_prctl`: also when the thread that started us ends; only where that is its process's main one.
    """
    fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
    if by_prctl:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    # It may have died before we asked: then its end is closed already, and no signal will come.
    os.set_blocking(life, False)
    with contextlib.suppress(BlockingIOError):
        if not os.read(life, 1):
            os._exit(0)
