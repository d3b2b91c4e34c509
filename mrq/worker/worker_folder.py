"""A worker's own folder, under a lock: its files, who runs in it, and what its older boots left.

ROOT/workers/ID/
  lock            held for as long as the worker lives; says who that is
  quota           what its processes may write (`worker.quota`), where there is a quota
  children        the processes that it started: pid and start time, a line each
  sentinel        random; who reads the same here shares the disk
  jobs/, code/    what it works with; of an older boot both are removed
  trash/          what is being removed
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from mrq.core.backoff import Retry
from mrq.errors import OperatorError
from mrq.io import disk
from mrq.worker import folders

_LOG: Final = logging.getLogger(__name__)

#: Lines of `children` before those of the dead are left out.
_CHILDREN_MAX: Final = 256
#: Whoever starts beside a worker takes its lock for less than this, to see whether it is over.
_GLANCE_S: Final = 0.05
#: Workers that are over are told to the leader, so many at most.
_ENDED_MAX: Final = 256
#: The lock of a worker that lives is touched more often than this by far.
DEAD_S: Final = 600.0
#: The folders in a job's.
_OF_A_JOB: Final = ("maps", "scratch", "logs", "fetched")
#: What is removed at the start of a boot.
_OURS: Final = ("jobs", "code")


class WorkerFolder:
    """One worker's folder, locked by this process until `close`."""

    def __init__(self, path: str, lock_fd: int) -> None:
        self.path = path
        self.boot = secrets.token_hex(4)
        self.boot_before = _told(lock_fd).get("boot")  #: the last one in this folder, which is dead
        self._lock_fd = lock_fd
        self._children: list[tuple[int, str]] = []

    @classmethod
    def take(cls, root: str, worker: str, *, wait_s: float) -> WorkerFolder:
        """Lock the worker's folder, made if need be. Raises OperatorError when another process has it for
        longer than `wait_s`, and MrqError for a disk that can't be written."""
        path = f"{root}/workers/{worker}"
        until, retry = time.monotonic() + wait_s, Retry()
        with disk.naming(path):
            fd = _open_lock(path)
        while not _taken(fd, path):
            pid = _told(fd).get("pid")
            holder = f"process {pid}" if pid is not None else "another process"
            os.close(fd)
            if time.monotonic() >= until:
                raise OperatorError(
                    f"worker {worker} runs on this machine already ({holder}, in {path}); stop it, or give "
                    "this one another --worker-id"
                )
            if not retry.failures:
                _LOG.info("worker %s runs on this machine already (%s): waiting for its end", worker, holder)
            time.sleep(retry.failed())
            with disk.naming(path):
                fd = _open_lock(path)
        with disk.naming(path):
            home = cls(path, fd)
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps({"pid": os.getpid(), "boot": home.boot}).encode(), 0)
        return home

    def end_children(self) -> int:
        """Kill what an older boot started and is still there; how many that were."""
        found = 0
        for pid, started in _read_children(f"{self.path}/children"):
            if started == _start_of(pid):
                found += 1
                for kill in (os.killpg, os.kill):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        kill(pid, signal.SIGKILL)
        self._write_children(())
        return found

    def note_child(self, pid: int) -> None:
        """This boot has started a process, the leader of a group of its own. Never raises."""
        started = _start_of(pid)
        if started is None:
            return
        self._children.append((pid, started))
        if len(self._children) > _CHILDREN_MAX:
            self._children = [child for child in self._children if _start_of(child[0]) == child[1]]
            self._write_children(self._children)
            return
        with contextlib.suppress(OSError), open(f"{self.path}/children", "a") as file:
            file.write(f"{pid} {started}\n")

    def sweep(self) -> list[str]:
        """Put aside what older boots left; the folders to remove, which may take long."""
        for name in _OURS:
            self.put_aside(f"{self.path}/{name}")
        with contextlib.suppress(OSError):
            return [entry.path for entry in os.scandir(f"{self.path}/trash")]
        return []

    def put_aside(self, path: str) -> str | None:
        """Move something out of the way, to be removed later; None where there is nothing. Never raises."""
        aside = f"{self.path}/trash/{secrets.token_hex(8)}"
        try:
            os.makedirs(os.path.dirname(aside), mode=0o700, exist_ok=True)
            os.rename(path, aside)
        except FileNotFoundError:
            return None
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
            return None
        return aside

    def touch(self) -> None:
        """Show that this worker lives, to whoever looks for folders of the dead. Never raises."""
        with contextlib.suppress(OSError):
            os.utime(self._lock_fd)

    def lost(self, *, quota: bool) -> str | None:
        """Why this folder can't be worked in any more, whatever is made again below it; None where it can.
        `quota`: there is a page that its processes share."""
        if not self._is_mine():
            return f"{self.path} was removed, or is another one now"
        if quota and not os.path.isfile(f"{self.path}/quota"):
            return f"{self.path}/quota was removed, which its processes share"
        try:
            folders.probe(self.path)
        except OSError as exc:
            return f"{self.path} can't be written: {exc.strerror}"
        return None

    def linked(self) -> list[str]:
        """The folders in whose place a link stands, to whatever. What lies behind it isn't this worker's:
        nobody removes it, and it counts for no quota."""
        found = [f"{self.path}/{name}" for name in (*_OURS, "trash") if os.path.islink(f"{self.path}/{name}")]
        for job in _entries(f"{self.path}/jobs"):
            inside = [job] if job.is_symlink() else [e for e in _entries(job.path) if e.name in _OF_A_JOB]
            found += [entry.path for entry in inside if entry.is_symlink()]
        return found

    def _is_mine(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._lock_fd), os.stat(f"{self.path}/lock"))
        except OSError:
            return False

    def close(self) -> None:
        """Let go of the folder; what this boot worked with is removed."""
        if self._lock_fd < 0:
            return
        if self._is_mine():  # else another boot may work there by now
            for name in (*_OURS, "trash"):
                shutil.rmtree(f"{self.path}/{name}", ignore_errors=True)
            self._write_children(())
        os.close(self._lock_fd)
        self._lock_fd = -1

    def _write_children(self, children: Iterable[tuple[int, str]]) -> None:
        with contextlib.suppress(OSError):
            aside = f"{self.path}/.children.new"
            with open(aside, "w") as file:
                file.writelines(f"{pid} {started}\n" for pid, started in children)
            os.replace(aside, f"{self.path}/children")


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing where it is none."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def sweep_dead(root: str, *, older_s: float = DEAD_S) -> list[str]:
    """Remove the folders of workers that are gone for good: nobody has their lock, nor has touched it for so
    long. Workers in containers that were removed leave theirs on a disk that others share."""
    swept = []
    for entry, fd in _over(root):
        if time.time() - os.fstat(fd).st_mtime >= older_s:
            shutil.rmtree(entry.path, ignore_errors=True)
            swept.append(entry.name)
    return swept


def ended_beside(root: str, worker: str) -> list[tuple[str, str]]:
    """(worker, boot) of those that worked under this root before `worker` and are over, the latest first.
    Their folders are there, and nobody has their locks."""
    found: list[tuple[float, str, str]] = []
    for entry, fd in _over(root):
        boot = _told(fd).get("boot")
        if entry.name != worker and isinstance(boot, str):
            found.append((os.fstat(fd).st_mtime, entry.name, boot))
    return [(name, boot) for _, name, boot in sorted(found, reverse=True)[:_ENDED_MAX]]


def _over(root: str) -> Iterator[tuple[os.DirEntry[str], int]]:
    """The folders of workers that are over, each with its lock, which this process has meanwhile."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(f"{root}/workers")):
            with contextlib.suppress(OSError):
                fd = os.open(f"{entry.path}/lock", os.O_RDWR | os.O_CLOEXEC)
                try:
                    if _locked(fd, entry.path):
                        yield entry, fd
                finally:
                    os.close(fd)


def _open_lock(path: str) -> int:
    """The worker's lock, made if need be. Raises OSError."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    return os.open(f"{path}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _taken(fd: int, path: str) -> bool:
    """Take the lock, also where somebody has it for a moment, to see whether this worker is over."""
    if _locked(fd, path):
        return True
    time.sleep(_GLANCE_S)
    return _locked(fd, path)


def _locked(fd: int, path: str) -> bool:
    """Take the lock, unless somebody has it, or has removed it with its folder since it was opened."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), os.stat(f"{path}/lock"))
    except OSError:
        return False


def _told(fd: int) -> dict[str, Any]:
    """What the lock says of who has it, or had it last."""
    try:
        found = json.loads(os.pread(fd, 4096, 0))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _read_children(path: str) -> list[tuple[int, str]]:
    try:
        with open(path) as file:
            lines = [line.split() for line in file]
    except (OSError, ValueError):
        return []
    return [(int(line[0]), line[1]) for line in lines if len(line) == 2 and line[0].isdigit()]


def _start_of(pid: int) -> str | None:
    """When a living process was started, so that nobody else is taken for it: the kernel's own boot, and
    its clock's ticks since."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rsplit(b")", 1)[1].split()
        if fields[0] == b"Z":
            return None
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read(8)}-{fields[19].decode()}"
    except (OSError, IndexError):
        return None
