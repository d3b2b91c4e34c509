"""Which map outputs lie where this process can read them: its own worker's, and those on a shared disk.

A worker's root holds a file `sentinel` with a random id of its boot. A peer tells root and id when it is
dialled; where the same path holds the same id here, it is the same folder.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Iterable

from mrq.core import paths
from mrq.core.model import MapLocation
from mrq.errors import CorruptFileError
from mrq.io import disk
from mrq.ports import PeerClient
from mrq.shuffle.mapfile import MapFile

_NAME = "sentinel"


def write_sentinel(root: str) -> str:
    """Mark `root` as this boot's; the id. Raises MrqError for a folder that can't be written."""
    sentinel = secrets.token_hex(16)
    path = f"{root}/{_NAME}"
    with disk.naming(path):
        with open(f"{path}.new", "w", encoding="ascii") as file:
            file.write(sentinel)
        os.rename(f"{path}.new", path)
    return sentinel


class LocalOutputs:
    """Finds outputs that can be read here. Thread-safe; dials each peer once."""

    def __init__(self, *, root: str, worker: str, peers: PeerClient) -> None:
        self._root = root
        self._worker = worker
        self._peers = peers
        self._lock = threading.Lock()
        self._roots: dict[tuple[str, str], str | None] = {}  #: a peer's, where it is here too

    def is_own(self, worker: str) -> bool:
        """Is it this very worker, of whatever boot?"""
        return worker == self._worker

    def readable(
        self, job: str, partition: int, peer: tuple[str, str], outputs: Iterable[MapLocation]
    ) -> list[tuple[MapLocation, str, int]]:
        """Of one peer's outputs those that can be read here, each with its file and the length of the
        partition's region. Raises PeerUnreachableError."""
        root = self._root if self.is_own(peer[0]) else self._shared_root(*peer)
        found: list[tuple[MapLocation, str, int]] = []
        if root is not None:
            for output in outputs:
                path = paths.map_output_path(root, output.attempt)
                # If the file is there, whole, and the output that was accepted.
                with contextlib.suppress(OSError, CorruptFileError), MapFile(path) as file:
                    length = file.entry(partition).length
                    if file.digest == output.digest:
                        found.append((output, path, length))
        return found

    def _shared_root(self, worker: str, boot: str) -> str | None:
        with self._lock:
            if (worker, boot) in self._roots:
                return self._roots[worker, boot]
        told = self._peers.dial(worker, boot)
        shared = told.root if told.sentinel and _read(f"{told.root}/{_NAME}") == told.sentinel else None
        with self._lock:
            self._roots[worker, boot] = shared
        return shared


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 100).decode("ascii", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
