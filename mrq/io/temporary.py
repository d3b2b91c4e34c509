"""Where an engine's temporary data lies: a root that is the user's alone, and in it a private folder for each
engine, with what its jobs read and write that isn't a file of the user's.

The private folder is locked for as long as its engine lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import threading
from typing import Final

from mrq.core.model import JobSpec
from mrq.errors import OperatorError
from mrq.io import disk

#: The name of the lock in a private folder.
LOCK: Final = "lock"


def make_root(root: str) -> None:
    """The private folder of all temporary data. Raises OperatorError if it is someone else's."""
    os.makedirs(root, mode=0o700, exist_ok=True)
    status = os.stat(root)
    if status.st_uid != os.getuid():
        raise OperatorError(f"{root} belongs to user {status.st_uid}; set MRQ_TMP to a folder of your own")
    if status.st_mode & 0o077:
        os.chmod(root, 0o700)


class PrivateFolder:
    """One engine's folder, made when it is first asked for."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.folder = os.path.join(root, "private", secrets.token_hex(6))
        self._lock_fd = -1
        self._needed: set[str] = set()
        self._making = threading.Lock()  #: jobs may be started from several threads

    @property
    def path(self) -> str:
        """The folder, locked and private. Raises DiskFullError or OutputError."""
        with self._making, disk.naming(self.folder):
            if self._lock_fd < 0:
                make_root(self.root)
                os.makedirs(self.folder, mode=0o700)
                self._lock_fd = os.open(f"{self.folder}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        return self.folder

    def need(self, spec: JobSpec) -> None:
        """A job stays for `mrq retry`: what it reads and writes in here stays too."""
        inside = {
            path[len(self.folder) + 1 :] for path in paths_of(spec) if path.startswith(self.folder + os.sep)
        }
        names = {path.partition(os.sep)[0] for path in inside}
        self._needed |= names | {f".{name}.mrq" for name in names}  # where it stages NAME

    def close(self, *, keep: bool) -> None:
        """Remove the folder, all but what is needed; nothing if `keep`. A sweep does the rest."""
        if self._lock_fd < 0:
            return
        if not keep and not self._needed:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif not keep:
            for name in {*os.listdir(self.folder)} - {*self._needed, LOCK}:
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


def paths_of(spec: JobSpec) -> list[str]:
    """Of a job's inputs and its output."""
    paths = [piece.open for split in spec.splits for piece in split.pieces]
    return paths if spec.output_open is None else [*paths, spec.output_open]
