"""Disk errors, named: what was needed, what there was, and what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from mrq.errors import DiskFullError, MrqError, OutputError, UsageError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def working_folder() -> str:
    """The folder that relative paths start at. Raises UsageError where it doesn't exist any more."""
    try:
        return os.getcwd()
    except FileNotFoundError as exc:
        raise UsageError(
            "the working directory doesn't exist any more: it was removed, or made anew under its name; cd "
            "to one that does (`cd .` if it is there again)"
        ) from exc


def free_bytes(path: str) -> int:
    """Bytes that this user may still write where `path` is or would be; 0 if unknown."""
    while True:
        try:
            stat = os.statvfs(path)
        except FileNotFoundError:
            parent = os.path.dirname(path)
            if parent == path:
                return 0
            path = parent
        except OSError:
            return 0
        else:
            return stat.f_bavail * stat.f_frsize


def named(exc: OSError, path: str, needed: int | None = None) -> MrqError:
    """The error to raise from `exc`, which came while writing `needed` more bytes at `path`."""
    if exc.errno in _FULL:
        want = "more room was needed" if needed is None else f"{needed:,} bytes more were needed"
        return DiskFullError(
            f"the disk of {path} is full: {want} and {free_bytes(path):,} were free ({exc.strerror}); "
            "free some space or choose another folder"
        )
    if exc.errno in _REFUSED:
        return OutputError(f"{path} can't be written: {exc.strerror}; check its permissions and the mount")
    return OutputError(f"{path} can't be written: {exc.strerror or exc}")


@contextmanager
def naming(path: str, needed: int | None = None) -> Iterator[None]:
    """Raise any OSError of the block as `named` says."""
    try:
        yield
    except OSError as exc:
        raise named(exc, path, needed) from exc


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def fsync_folder(path: str) -> None:
    """Make the folder's entries last. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
