"""Attempts' logs: files that user code writes to directly, read back for errors and kept small."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from typing import Final

#: A log longer than this is cut: its first MiB and its last quarter stay.
LOG_BYTES_MAX: Final = 4 << 20
HEAD_BYTES: Final = 1 << 20
TAIL_BYTES: Final = 256 << 10
#: What an error quotes.
QUOTED_BYTES_MAX: Final = 4096
QUOTED_LINES_MAX: Final = 20
#: Of one job's attempts that went well, on one worker.
KEPT_BYTES_MAX: Final = 64 << 20


def cap(path: str) -> bool:
    """Cut the middle out of a log that has grown too long; whether it had. Never raises.

    Its writers append (O_APPEND), so they go on at the new end. What they write between the reading of
    the tail and the cut is lost: some lines of a flood.
    """
    if size(path) <= LOG_BYTES_MAX:
        return False
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        long = os.fstat(fd).st_size
        tail = os.pread(fd, TAIL_BYTES, long - TAIL_BYTES)
        dropped = long - HEAD_BYTES - len(tail)
        os.ftruncate(fd, HEAD_BYTES)
        os.pwrite(fd, f"\n[mrq: {dropped:,} bytes left out here]\n".encode() + tail, HEAD_BYTES)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def size(path: str) -> int:
    """Bytes in a log; 0 where there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def last_lines(text: str) -> str:
    """The end of a text, as short as an error quotes it."""
    return "\n".join(text[-QUOTED_BYTES_MAX:].splitlines()[-QUOTED_LINES_MAX:])


def tail(
    path: str, *, start: int = 0, bytes_max: int = QUOTED_BYTES_MAX, lines_max: int = QUOTED_LINES_MAX
) -> str:
    """The last lines of a log from `start` on, for an error; "" where there are none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        end = os.fstat(fd).st_size
        begin = max(start, end - bytes_max)
        data = os.pread(fd, max(end - begin, 0), begin)
    except OSError:
        return ""
    finally:
        os.close(fd)
    lines = data.decode("utf-8", "replace").splitlines()
    if begin > start and len(lines) > 1:
        lines = lines[1:]  # the first is cut
    return "\n".join(lines[-lines_max:])


def append(path: str, text: str) -> None:
    """Add our own word to a log, on a line of its own. Never raises."""
    with contextlib.suppress(OSError), open(path, "a+b") as file:
        if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            text = "\n" + text
        file.write(text.encode("utf-8", "backslashreplace"))


def read(path: str) -> bytes | None:
    """A whole log; None where there is none. One that grew beyond the limit meanwhile lacks its beginning."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - LOG_BYTES_MAX))
            return file.read(LOG_BYTES_MAX)
    except OSError:
        return None


def remove(path: str) -> None:
    """Delete a log that nobody will ask for."""
    with contextlib.suppress(OSError):
        os.unlink(path)


class KeptLogs:
    """Logs of attempts that went well, for as long as their job runs: the latest, as far as they fit."""

    def __init__(self, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._jobs: dict[str, deque[tuple[str, int]]] = {}

    def keep(self, job: str, path: str) -> None:
        """Keep a log that is closed, unless it is empty; the oldest of the job give way."""
        taken = size(path)
        if not taken:
            remove(path)
            return
        kept = self._jobs.setdefault(job, deque())
        kept.append((path, taken))
        total = sum(taken for _, taken in kept)
        while total > self._bytes_max:
            oldest, taken = kept.popleft()
            remove(oldest)
            total -= taken

    def forget(self, job: str) -> None:
        """Remove those of a job that is over."""
        for path, _ in self._jobs.pop(job, ()):
            remove(path)
