"""Where an executor's standard streams go: to /dev/null, and during an attempt to its log."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any, Final, NoReturn

_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class Capture:
    """Descriptors 0 to 2 and `sys.std*` of this process."""

    def __init__(self, high: int) -> None:
        """`high`: a free descriptor number, out of reach of user code that closes low ones."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._null = os.dup2(null, high, inheritable=False)
        #: The log at hand, for tracebacks that C code writes when the process dies.
        self.fd = os.dup2(null, high + 1, inheritable=False)
        os.close(null)
        self._folder = "/"
        with contextlib.suppress(FileNotFoundError):  # it was removed under a job that runs
            self._folder = os.getcwd()
        self._streams: tuple[io.TextIOWrapper, ...] = ()

    def begin(self, path: str) -> None:
        """Send everything to the log at `path`. Raises OSError."""
        _flush()
        with contextlib.suppress(OSError):
            os.chdir(self._folder)  # the attempt before may have left it
        fd = os.open(path, _APPEND, 0o600)
        os.dup2(fd, self.fd, inheritable=False)
        os.close(fd)
        # 0 to 2 anew, whatever user code has done to them, and streams on them.
        os.dup2(self._null, 0)
        os.dup2(self.fd, 1)
        os.dup2(self.fd, 2)
        if not _as_made(self._streams):
            self._streams = (
                _stream(0, "r", "surrogateescape"),
                _stream(1, "w", "surrogateescape"),
                _stream(2, "w", "backslashreplace"),
            )
        sys.stdin, sys.stdout, sys.stderr = self._streams
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = self._streams  # type: ignore[misc]

    def end(self) -> None:
        """Flush, and let go of the log."""
        _flush()
        for fd in (1, 2):
            os.dup2(self._null, fd)
        os.dup2(self._null, self.fd, inheritable=False)


def refuse_prompts() -> None:
    """Make `breakpoint()` and `input()` fail by name: nobody sits at an executor."""
    import builtins

    def refused_breakpoint(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(
            "breakpoint() in an executor has no terminal; run the job in your own process: mrq.testing.run(…)"
        )

    def refused_input(prompt: object = "", /) -> NoReturn:
        raise RuntimeError(
            "input() in an executor has no terminal; pass what it would ask for as a parameter of the job"
        )

    sys.breakpointhook = refused_breakpoint
    builtins.input = refused_input


def _stream(fd: int, mode: str, errors: str) -> io.TextIOWrapper:
    # A line a write: what a sudden death leaves in a buffer is lost.
    file = open(fd, mode + "b", closefd=False)  # noqa: SIM115 - lives as long as sys.stdout
    return io.TextIOWrapper(file, "utf-8", errors, line_buffering=True)


def _as_made(streams: tuple[io.TextIOWrapper, ...]) -> bool:
    """Are there streams, not closed or detached by user code, and as they were?"""
    try:
        for stream, errors in zip(streams[1:], ("surrogateescape", "backslashreplace"), strict=False):
            stream.reconfigure(encoding="utf-8", errors=errors, newline=None, line_buffering=True)
        return bool(streams) and not any(stream.closed for stream in streams)
    except Exception:  # noqa: BLE001 user code may have done anything to them
        return False


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, replaced, or its disk is full
            stream.flush()
