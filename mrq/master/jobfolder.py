"""A job's folder on this machine: its spec and code, its checkpoint, and the journal of what is done.

What is needed to go on after a kill -9, in the order in which it is trusted: `spec` and `code.bundle`
are written once, before anything runs; `journal` gains one checksummed line for each completion that
the machine accepted, so it is never behind the truth by more than the last line; `checkpoint` is the
machine whole, some seconds old. The folder's owner holds a lock for as long as it lives, so a folder
that can be locked belongs to nobody.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from mrq.core import paths, wire
from mrq.core.model import JobSpec, TaskResult
from mrq.core.refs import AttemptRef
from mrq.errors import CorruptFileError, InputError, OperatorError, UsageError
from mrq.io import disk

_VERSION: Final = 2
#: What attempts write into. Nobody but the folder's owner makes these, so that what is removed stays so.
_PARTS: Final = ("maps", "scratch", "logs")
_LINE: Final = struct.Struct("<II")  # length, crc32 of the payload
_LINE_BYTES_MAX: Final = 64 << 20
#: Making a job's folder takes milliseconds; on a disk that hangs, somewhat longer.
_MAKING_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One accepted completion, as the journal keeps it."""

    attempt: AttemptRef
    worker: str
    boot: str
    result: TaskResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A job folder that a dead process left behind."""

    job: str  #: its id
    path: str  #: of its folder
    bytes: int  #: of all files in there
    age_s: float  #: seconds since it was written to last
    output: str | None  #: OUT: the absolute path; null where the result was to be printed or handed over
    staging: str | None  #: the folder beside OUT with what is staged; null where there is none


class JobFolder:
    """One job's folder, locked by this process until `close` or `remove`."""

    def __init__(self, path: str, lock_fd: int) -> None:
        self.path = path
        self._lock_fd = lock_fd
        self._journal_fd: int | None = None

    @classmethod
    def create(cls, root: str, spec: JobSpec, code: bytes) -> JobFolder:
        """Make the folder with spec and code. Raises OperatorError or DiskFullError."""
        path = paths.job_folder(root, spec.job)
        folder = None
        try:
            make_root(root)
            for name in _PARTS:
                os.makedirs(f"{path}/{name}", mode=0o700)
            folder = cls(path, _take_lock(path, spec))
            folder._write_aside("code.bundle", code)
            folder._write_aside("spec", wire.pack({"v": _VERSION, "spec": wire.to_wire(spec)}))
        except OSError as exc:
            if folder is not None:  # ours, and of no use
                folder.remove()
            raise disk.named(exc, path) from exc
        return folder

    @classmethod
    def reopen(cls, root: str, job: str) -> JobFolder:
        """The folder of a job that failed or was killed. Raises UsageError when there is none, or
        when the process that owns it lives; OperatorError or DiskFullError."""
        known = sorted(os.listdir(f"{root}/jobs")) if os.path.isdir(f"{root}/jobs") else []
        if job not in known:
            have = ", ".join(known) if known else "none"
            raise UsageError(
                f"no job {job!r} is kept in {root}/jobs (there: {have}); if MRQ_TMP was another folder when "
                f"it ran, name that: mrq retry {job} --from OLD_TMP"
            )
        path = paths.job_folder(root, job)
        fd = _try_lock(path)
        if fd is None:
            raise UsageError(f"job {job} is still running (process {owner(path).get('pid', '?')})")
        folder = cls(path, fd)
        try:
            for name in _PARTS:
                os.makedirs(f"{path}/{name}", mode=0o700, exist_ok=True)
        except OSError as exc:
            folder.close()
            raise disk.named(exc, path) from exc
        return folder

    def spec(self) -> JobSpec:
        """The job as submitted. Raises CorruptFileError."""
        return read_spec(self.path)

    def keep_spec(self, spec: JobSpec) -> None:
        """Replace the job's spec: what a retry has set anew. Raises OperatorError or DiskFullError."""
        try:
            self._write_aside("spec", wire.pack({"v": _VERSION, "spec": wire.to_wire(spec)}))
        except OSError as exc:
            raise disk.named(exc, self.path) from exc

    def code(self) -> bytes:
        """The job's own stored bundle."""
        return self._read("code.bundle")

    def checkpoint(self, machine: bytes) -> None:
        """Replace the checkpoint, atomically. Raises OperatorError."""
        frame = wire.pack({"v": _VERSION, "crc": zlib.crc32(machine), "machine": machine})
        try:
            self._write_aside("checkpoint", frame)
        except OSError as exc:
            raise disk.named(exc, self.path) from exc

    def last_checkpoint(self) -> bytes | None:
        """The machine's saved bytes, or None when there are none that are whole."""
        try:
            data = _unpack(self._read("checkpoint"), f"{self.path}/checkpoint")
        except (CorruptFileError, InputError):
            return None
        machine = data.get("machine")
        if not isinstance(machine, bytes) or zlib.crc32(machine) != data.get("crc"):
            return None
        return machine

    def append(self, done: Completion) -> None:
        """Journal one accepted completion. Raises OperatorError."""
        payload = wire.pack(wire.to_wire(done)[1:])  # the folder says which job
        try:
            if self._journal_fd is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._journal_fd = os.open(f"{self.path}/journal", flags, 0o600)
            size = os.fstat(self._journal_fd).st_size
            try:
                disk.write_all(self._journal_fd, _LINE.pack(len(payload), zlib.crc32(payload)) + payload)
            except OSError:
                os.ftruncate(self._journal_fd, size)  # half a line would hide all that follow it
                raise
        except OSError as exc:
            raise disk.named(exc, self.path, len(payload)) from exc

    def journal(self) -> Iterator[Completion]:
        """What was journalled, oldest first; a torn end (the kill's) is dropped for good."""
        try:
            data = self._read("journal")
        except InputError:
            return
        at = 0
        while at + _LINE.size <= len(data):
            length, crc = _LINE.unpack_from(data, at)
            payload = data[at + _LINE.size : at + _LINE.size + length]
            if length > _LINE_BYTES_MAX or len(payload) < length or zlib.crc32(payload) != crc:
                break
            yield wire.from_wire(Completion, [os.path.basename(self.path), *wire.unpack(payload)])
            at += _LINE.size + length
        if at < len(data):
            os.truncate(f"{self.path}/journal", at)

    def close(self) -> None:
        """Let go of the folder and leave it, for `mrq retry`."""
        if self._journal_fd is not None:
            os.close(self._journal_fd)
            self._journal_fd = None
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def remove(self) -> None:
        """Delete the folder: out of the way first, as attempts that are being killed still write there."""
        aside = f"{self.path}.gone"
        try:
            os.rename(self.path, aside)
        except OSError:
            aside = self.path
        shutil.rmtree(aside, ignore_errors=True)
        self.close()

    def _read(self, name: str) -> bytes:
        return _read(f"{self.path}/{name}")

    def _write_aside(self, name: str, data: bytes) -> None:
        aside = f"{self.path}/.{name}.new"
        try:
            with open(aside, "wb") as file:
                file.write(data)
            os.replace(aside, f"{self.path}/{name}")
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(aside)
            raise


def bring(old: str, root: str, job: str) -> None:
    """Move a job's folder from what was MRQ_TMP, or the folder inside it, to `root`, where it goes on.

    Raises UsageError when there is none, or its owner lives; OperatorError or DiskFullError.
    """
    own = os.path.basename(root)
    places = (old, os.path.join(old, own), os.path.dirname(old))
    source = next((found for place in places if os.path.isdir(found := f"{place}/jobs/{job}")), None)
    if source is None or not job or "/" in job:
        raise UsageError(f"--from {old}: no job {job!r} is kept there; it holds what MRQ_TMP was then")
    target = paths.job_folder(root, job)
    if os.path.realpath(source) == os.path.realpath(target):
        return
    if os.path.lexists(target):
        raise UsageError(
            f"job {job} is kept in {root}/jobs too: leave out --from, or `mrq clean {job}` first"
        )
    fd = _try_lock(source)
    if fd is None:
        raise UsageError(f"job {job} is still running (process {owner(source).get('pid', '?')})")
    aside = f"{root}/moving-{job}"
    try:
        make_root(root)
        try:
            os.rename(source, target)
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
            shutil.rmtree(aside, ignore_errors=True)  # of a move that was killed
            shutil.copytree(source, aside, symlinks=True)
            os.rename(aside, target)
            shutil.rmtree(source, ignore_errors=True)
    except shutil.Error as exc:
        shutil.rmtree(aside, ignore_errors=True)
        raise OperatorError(f"job {job} can't be copied from {source} to {root}: {exc}") from exc
    except OSError as exc:
        shutil.rmtree(aside, ignore_errors=True)
        raise disk.named(exc, root) from exc
    finally:
        os.close(fd)


def read_spec(path: str) -> JobSpec:
    """The spec in a job's folder, locked or not. Raises InputError or CorruptFileError."""
    data = _unpack(_read(f"{path}/spec"), f"{path}/spec")
    return wire.from_wire(JobSpec, data.get("spec"))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as exc:
        raise InputError(f"{path} can't be read: {exc.strerror}") from exc


def make_root(root: str) -> None:
    """The private folder of all temporary data. Raises OperatorError if it is someone else's."""
    os.makedirs(f"{root}/jobs", mode=0o700, exist_ok=True)
    status = os.stat(root)
    if status.st_uid != os.getuid():
        raise OperatorError(f"{root} belongs to user {status.st_uid}; set MRQ_TMP to a folder of your own")
    if status.st_mode & 0o077:
        os.chmod(root, 0o700)


def leftovers(root: str) -> list[Leftover]:
    """Job folders that no living process owns, oldest first."""
    found = []
    try:
        entries = list(os.scandir(f"{root}/jobs"))
    except FileNotFoundError:
        return []
    for entry in entries:
        if _being_made(entry):
            continue
        fd = _try_lock(entry.path)
        if fd is None:
            continue
        with contextlib.suppress(OSError):
            told = owner(entry.path)
            found.append(
                Leftover(
                    job=entry.name,
                    path=entry.path,
                    bytes=_tree_bytes(entry.path),
                    age_s=max(0.0, time.time() - entry.stat().st_mtime),
                    output=told.get("output"),
                    staging=told.get("staging"),
                )
            )
        os.close(fd)
    return sorted(found, key=lambda left: -left.age_s)


def _being_made(entry: os.DirEntry[str]) -> bool:
    """A folder so young that its owner may not have locked it yet: no leftover, nobody may remove it."""
    try:
        return not os.path.exists(f"{entry.path}/spec") and time.time() - entry.stat().st_mtime < _MAKING_S
    except OSError:
        return True  # gone meanwhile


def owner(path: str) -> dict[str, Any]:
    """What the lock file says of the owner: pid, output, staging. Empty when it says nothing."""
    try:
        with open(f"{path}/lock", "rb") as file:
            told = json.loads(file.read() or b"{}")
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _take_lock(path: str, spec: JobSpec) -> int:
    fd = os.open(f"{path}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)  # waits for a moment where another start looks for leftovers
    told = {"pid": os.getpid(), "output": spec.output_open, "staging": spec.staging}
    os.write(fd, json.dumps(told).encode())
    return fd


def _try_lock(path: str) -> int | None:
    """The lock of a folder whose owner is dead, or None."""
    try:
        fd = os.open(f"{path}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def _tree_bytes(path: str) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _unpack(data: bytes, path: str) -> dict[str, Any]:
    try:
        found = wire.unpack(data)
    except Exception as exc:
        raise CorruptFileError(f"{path} is damaged: {exc}") from exc
    if not isinstance(found, dict) or found.get("v") != _VERSION:
        raise CorruptFileError(
            f"{path} was written by another version of mrq, and this one reads {_VERSION}: go on with that "
            "version, or submit the job anew (its inputs and OUT are as they were)"
        )
    return found
