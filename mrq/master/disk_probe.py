"""Which workers share an output's disk with this master: asked of their data planes, by a file that it makes.

The file's name is random, so no other disk has it, and no cache of a network's disk can say that it isn't
there. It is made in the folder that OUT will lie in, or in the nearest above that exists: nothing is made for
an OUT that is refused. What a boot shares is remembered by folder, so a warm cluster's submit asks nobody.

A worker that doesn't answer in time isn't known: it holds nothing up, and is asked again later. So is one
that registers while jobs run (`Term`); what it doesn't share is then said by name, and its attempts fail by
theirs.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from mrq.core.model import WorkerHealth
from mrq.core.paths import PROBE, probe_path
from mrq.core.worker_info import WorkerInfo

#: A worker has so long to answer: about two beats.
WAIT_S: Final = 2.0
#: Who doesn't see the file is asked once more after this: not every network's disk is prompt.
_AGAIN_S: Final = 0.3
#: Who shares nothing, or doesn't answer, is asked again after so long, while nobody submits.
_REST_S: Final = 30.0
_THREADS: Final = 8
#: Folders of which it is remembered who shares them.
_FOLDERS_MAX: Final = 1000
#: A probe's file that is older was left by a master that died.
_LEFT_S: Final = 3600.0
_NAMED: Final = 5

_Boot = tuple[str, str]  #: a worker's id and boot


#: (worker, folder, nonce) -> whether this boot of the worker sees `core.paths.probe_path` of the folder and
#: the nonce; None where there is no answer within WAIT_S. Called on several threads.
Probe = Callable[[WorkerInfo, str, bytes], bool | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WithoutDisk:
    """Workers that don't share a folder with this master."""

    folder: str
    workers: tuple[str, ...]
    of: int  #: that take tasks
    master: str

    def __str__(self) -> str:
        names, count = ", ".join(self.workers[:_NAMED]), len(self.workers)
        more = f" and {count - _NAMED} more" if count > _NAMED else ""
        who = (
            f"{count} of {self.of} workers ({names}{more}) don't" if count > 1 else f"worker {names} doesn't"
        )
        return f"{who} share {self.folder} with master {self.master}, which leads"


@dataclass(slots=True)
class _Folder:
    """Who shares a folder, as far as was asked."""

    id: tuple[int, int]  #: device and inode: another disk that is mounted there is another folder
    shared: set[_Boot] = field(default_factory=set)
    refused: dict[_Boot, float] = field(default_factory=dict)  #: and when it said so


@dataclass(eq=False)
class DiskProbe:
    """What one leader knows. Its methods may be called from several threads at once.

    Without `probe` workers are taken to share everything.
    """

    probe: Probe | None
    workers: Callable[[], Sequence[WorkerInfo]]
    master: str
    now: Callable[[], float]
    wait_s: float = WAIT_S
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _folders: dict[str, _Folder] = field(default_factory=dict, init=False)
    _silent: dict[_Boot, float] = field(default_factory=dict, init=False)  #: and when it was asked

    def __post_init__(self) -> None:
        self._pool = None
        if self.probe is not None:  # else nobody needs threads, nor waits for the import
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="mrq-shares")

    def close(self) -> None:
        """Ask nobody any more."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def check(self, folder: str) -> WithoutDisk | None:
        """Who doesn't share a folder that exists, asked where it isn't known; None where nobody is known not
        to. Takes up to twice the time to answer."""
        workers = self._asked()
        open_ = self._open(folder, workers)
        if open_:
            with contextlib.suppress(OSError):  # whoever writes there next says what is wrong
                self._ask(folder, open_)
        return self.known(folder, workers)

    def known(self, folder: str, workers: Sequence[WorkerInfo] | None = None) -> WithoutDisk | None:
        """The same as far as it is known."""
        there = self._asked() if workers is None else workers
        with self._lock:
            known = self._folders.get(folder)
            apart = (
                () if known is None else tuple(sorted(w.worker for w in there if _boot(w) in known.refused))
            )
        if not apart:
            return None
        return WithoutDisk(folder=folder, workers=apart, of=len(there), master=self.master)

    def due(self, folders: Iterable[str]) -> list[str]:
        """Of these folders, those of which there is somebody to be asked who hasn't been lately. Touches no
        disk."""
        boots, since = [_boot(w) for w in self._asked()], self.now() - _REST_S
        with self._lock:
            return [folder for folder in folders if any(self._is_due(folder, each, since) for each in boots)]

    def _is_due(self, folder: str, boot: _Boot, since: float) -> bool:
        known, asked_at = self._folders.get(folder), self._silent.get(boot)
        if known is not None:
            if boot in known.shared:
                return False
            asked_at = known.refused.get(boot, asked_at)
        return asked_at is None or asked_at <= since

    def lacks(self, worker: str, boot: str) -> list[str]:
        """Folders that a worker is known not to share."""
        with self._lock:
            return sorted(path for path, known in self._folders.items() if (worker, boot) in known.refused)

    def _asked(self) -> list[WorkerInfo]:
        """Workers that take tasks, and can be asked."""
        if self.probe is None:
            return []
        return [w for w in self.workers() if w.health is WorkerHealth.ALIVE and w.address]

    def _open(self, folder: str, workers: Sequence[WorkerInfo]) -> list[WorkerInfo]:
        """Of these, who isn't known to share it, and wasn't silent just now."""
        try:
            stat = os.stat(folder)
        except OSError:
            return []
        since, boots = self.now() - _REST_S, {_boot(w) for w in workers}
        with self._lock:
            self._silent = {each: at for each, at in self._silent.items() if each in boots and at > since}
            known = self._folders.get(folder)
            if known is None or known.id != (stat.st_dev, stat.st_ino):
                if len(self._folders) >= _FOLDERS_MAX:
                    self._folders.clear()
                known = self._folders[folder] = _Folder((stat.st_dev, stat.st_ino))
            known.shared &= boots
            known.refused = {each: at for each, at in known.refused.items() if each in boots}
            return [w for w in workers if _boot(w) not in known.shared and _boot(w) not in self._silent]

    def _ask(self, folder: str, workers: Sequence[WorkerInfo]) -> None:
        """Note what they say. Raises OSError where the file can't be made."""
        with _made(folder) as nonce:
            said = self._put(workers, folder, nonce)
            again = [w for w in workers if said[_boot(w)] is False]
            if again:
                time.sleep(_AGAIN_S)
                said.update((each, True) for each, yes in self._put(again, folder, nonce).items() if yes)
        at = self.now()
        with self._lock:
            known = self._folders.get(folder)
            for each, answer in said.items():
                if answer is None:
                    self._silent[each] = at
                elif known is not None:
                    known.refused.pop(each, None)
                    if answer:
                        known.shared.add(each)
                    else:
                        known.refused[each] = at

    def _put(self, workers: Sequence[WorkerInfo], folder: str, nonce: bytes) -> dict[_Boot, bool | None]:
        """Everybody's answer."""
        from concurrent.futures import wait

        assert self.probe is not None
        assert self._pool is not None
        said: dict[_Boot, bool | None] = {_boot(w): None for w in workers}
        asked = {}
        with contextlib.suppress(RuntimeError):  # closed: nobody answers
            for w in workers:
                asked[self._pool.submit(self.probe, w, folder, nonce)] = _boot(w)
        done, late = wait(asked, timeout=self.wait_s)
        for each in late:
            each.cancel()
        return said | {asked[each]: each.result() for each in done if not each.cancelled()}


def nearest(output: str) -> str:
    """The folder that OUT will lie in, links resolved, or the nearest above it that exists."""
    folder = os.path.dirname(os.path.realpath(output))
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


@contextlib.contextmanager
def _made(folder: str) -> Iterator[bytes]:
    """The nonce of a file that is there meanwhile. Raises OSError."""
    for name in os.listdir(folder):
        path = f"{folder}/{name}"
        if name.startswith(PROBE):
            with contextlib.suppress(OSError):
                if time.time() - os.lstat(path).st_mtime > _LEFT_S:
                    os.unlink(path)
    nonce = secrets.token_bytes(16)
    path = probe_path(folder, nonce)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    try:
        yield nonce
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _boot(worker: WorkerInfo) -> _Boot:
    return worker.worker, worker.boot
