"""Folders of an engine's own under MRQ_TMP: standard input put aside, records, results without OUT.

A folder is held by a lock for as long as its engine lives. What a job that is kept for `mrq retry` still
reads or writes stays; everything else of dead engines is swept at the next start.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import threading
from collections.abc import Collection
from typing import Final

from mrq.core.model import JobSpec
from mrq.errors import MrqError
from mrq.io import disk
from mrq.master.jobfolder import read_kept

_LOCK: Final = "lock"


class PrivateFolder:
    """One engine's folder, made when it is first asked for."""

    def __init__(self, root: str) -> None:
        self._root = root
        self.folder = os.path.join(root, "private", secrets.token_hex(6))
        self._lock_fd = -1
        self._making = threading.Lock()  #: jobs may be started from several threads

    @property
    def path(self) -> str:
        """The folder, locked and private. Raises DiskFullError or OutputError."""
        with self._making:
            return self._made()

    def _made(self) -> str:
        if self._lock_fd < 0:
            with disk.naming(self.folder):
                os.makedirs(self.folder, mode=0o700)
                self._lock_fd = os.open(
                    f"{self.folder}/{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
                )
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        return self.folder

    def names_of(self, spec: JobSpec) -> set[str]:
        """What a job reads and writes in here; `.NAME.mrq` is where it stages NAME."""
        inside = {
            path[len(self.folder) + 1 :] for path in _paths(spec) if path.startswith(self.folder + os.sep)
        }
        names = {path.partition(os.sep)[0] for path in inside}
        return names | {f".{name}.mrq" for name in names}

    def close(self, *, keep: bool, needed: Collection[str] = ()) -> None:
        """Remove the folder: all but what kept jobs need of it; nothing if `keep`. `sweep` does the rest."""
        if self._lock_fd < 0:
            return
        if not keep and not needed:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif not keep:
            for name in {*os.listdir(self.folder)} - {*needed, _LOCK}:
                path = os.path.join(self.folder, name)
                if os.path.isdir(path):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        os.unlink(path)
        os.close(self._lock_fd)
        self._lock_fd = -1
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(self.folder))


def sweep(root: str) -> None:
    """Remove the folders of dead engines that no kept job needs."""
    try:
        found = [entry.path for entry in os.scandir(os.path.join(root, "private")) if entry.is_dir()]
    except OSError:
        return
    dead = [(path, fd) for path in found if (fd := _lock_of_the_dead(path)) is not None]
    needed = set(_needed(root)) if dead else set()
    for path, fd in dead:
        if path not in needed:
            shutil.rmtree(path, ignore_errors=True)
        os.close(fd)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.join(root, "private"))


def _lock_of_the_dead(path: str) -> int | None:
    """The folder's lock, if nobody holds it; a folder without one is in the making."""
    try:
        fd = os.open(f"{path}/{_LOCK}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def _needed(root: str) -> list[str]:
    """Private folders that some job under `root` reads from or writes to."""
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(os.path.join(root, "jobs")):
            with contextlib.suppress(MrqError):
                found += used_by(read_kept(entry.path).target, root)
    return found


def used_by(spec: JobSpec, root: str) -> list[str]:
    """The private folders that a job's inputs and output lie in."""
    private = os.path.join(root, "private") + os.sep
    inside = [path[len(private) :] for path in _paths(spec) if path.startswith(private)]
    return list({private + path.partition(os.sep)[0] for path in inside})


def _paths(spec: JobSpec) -> list[str]:
    """Of a job's inputs and its output."""
    paths = [piece.open for split in spec.splits for piece in split.pieces]
    return paths if spec.output_open is None else [*paths, spec.output_open]
