"""A forked child must never come back into the engine.

`os.fork()` in user code gives a second process with the executor's whole stack: if the child returned
from the user's method it would go on with the attempt, on the same files and the same pipe. So in a child
the protocol's descriptors are turned into /dev/null at once, and a profile function watches for the moment
when a frame of the user's returns into one of ours; there the child ends. What the child does before that,
and a child that execs or exits by itself, isn't touched.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, Final

_OURS: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
#: How a child that came back ends.
EXIT_CAME_BACK: Final = 72


def guard(protocol_fds: Sequence[int]) -> None:
    """Watch over the forks of this process from now on."""

    def in_child() -> None:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for fd in protocol_fds:
            os.dup2(null, fd, inheritable=False)
        os.close(null)
        if not _in_multiprocessing():  # which never returns from its fork
            sys.setprofile(_end_at_return)

    os.register_at_fork(after_in_child=in_child)


def _in_multiprocessing() -> bool:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "multiprocessing.popen_fork":
            return True
        frame = frame.f_back
    return False


def _end_at_return(frame: FrameType, event: str, argument: Any) -> None:
    if event != "return" or frame.f_code.co_filename.startswith(_OURS):
        return
    back = frame.f_back
    if back is None or not back.f_code.co_filename.startswith(_OURS):
        return
    sys.setprofile(None)
    try:
        sys.stdout.flush()
        sys.stderr.write(
            f"mrq: process {os.getpid()}, a fork of the executor, came back from "
            f"{frame.f_code.co_name} ({frame.f_code.co_filename}) and was ended: end such a child with "
            "os._exit()\n"
        )
        sys.stderr.flush()
    finally:
        os._exit(EXIT_CAME_BACK)
