"""A job's folder on this machine: what its engine keeps, so that another can go on after a kill -9.

`spec` and `code.bundle` are written once, before anything runs, and `spec` again where a retry has set limits
anew. `batches` is the log of what the leader has decided (`servers.memory.log`). The rest is the worker's.
The folder's owner holds a lock for as long as it lives, so a folder that can be locked belongs to nobody.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
from dataclasses import dataclass
from typing import Any, Final

from mrq.codec.checksum import crc32
from mrq.core import paths, wire
from mrq.core.earlier_specs import BEFORE, spec_before
from mrq.core.model import JobSpec
from mrq.errors import CorruptFileError, InputError, OperatorError, UsageError
from mrq.io import disk
from mrq.io.temporary import make_root

_VERSION: Final = 6
#: From this one on a folder's spec has a checksum.
_SUMMED: Final = 3
#: What attempts write into. Nobody but the folder's owner makes these, so that what is removed stays so.
_PARTS: Final = ("maps", "scratch", "logs")
#: Making a job's folder takes milliseconds; on a disk that hangs, somewhat longer.
_MAKING_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptJob:
    """What a job's folder says of the job."""

    spec: JobSpec
    version: int = _VERSION  #: of the folder


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

    @classmethod
    def create(cls, root: str, kept: KeptJob, code: bytes) -> JobFolder:
        """Make the folder, with the job and its code. Raises OperatorError or DiskFullError."""
        path = paths.job_folder(root, kept.spec.job)
        folder = None
        try:
            make_root(root)
            for name in _PARTS:
                os.makedirs(f"{path}/{name}", mode=0o700)
            fd = os.open(f"{path}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            folder = cls(path, fd)
            fcntl.flock(fd, fcntl.LOCK_EX)  # waits for a moment where another start looks for leftovers
            spec = kept.spec
            told = {"pid": os.getpid(), "output": spec.output_open, "staging": spec.staging}
            os.write(fd, json.dumps(told).encode())
            folder._write_aside("code.bundle", code)
            folder._write_aside("spec", _packed(kept))
        except OSError as exc:
            if folder is not None:  # ours, and of no use
                folder.remove()
            raise disk.named(exc, path) from exc
        return folder

    @classmethod
    def reopen(cls, root: str, job: str) -> JobFolder:
        """The folder of a job that failed or was killed. Raises UsageError when there is none, or when the
        process that owns it lives; OperatorError or DiskFullError."""
        if not is_kept(root, job):
            known = sorted(os.listdir(f"{root}/jobs")) if os.path.isdir(f"{root}/jobs") else []
            have = ", ".join(known) or "none"
            raise UsageError(
                f"no job {job!r} is kept in {root}/jobs (there: {have}); if MRQ_TMP was another folder when "
                f"it ran, name that: mrq retry {job} --from OLD_TMP"
            )
        path = paths.job_folder(root, job)
        folder = cls(path, _locked(path, job))
        try:
            for part in _PARTS:
                os.makedirs(f"{path}/{part}", mode=0o700, exist_ok=True)
        except OSError as exc:
            folder.close()
            raise disk.named(exc, path) from exc
        return folder

    def kept(self) -> KeptJob:
        """The job as it was submitted. Raises CorruptFileError."""
        return read_kept(self.path)

    def keep(self, kept: KeptJob) -> None:
        """Replace what is kept: what a retry has set anew. Raises OperatorError or DiskFullError."""
        try:
            self._write_aside("spec", _packed(kept))
        except OSError as exc:
            raise disk.named(exc, self.path) from exc

    def code(self) -> bytes:
        """The job's own stored bundle."""
        return _read(f"{self.path}/code.bundle")

    def close(self) -> None:
        """Let go of the folder and leave it, for `mrq retry`."""
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
    found = [place for place in places if is_kept(place, job)]
    if not found:
        raise UsageError(f"--from {old}: no job {job!r} is kept there; it holds what MRQ_TMP was then")
    source, target = f"{found[0]}/jobs/{job}", paths.job_folder(root, job)
    if os.path.realpath(source) == os.path.realpath(target):
        return
    if os.path.lexists(target):
        raise UsageError(
            f"job {job} is kept in {root}/jobs too: leave out --from, or `mrq clean {job}` first"
        )
    fd = _locked(source, job)
    aside = f"{root}/moving-{job}"
    try:
        make_root(root)
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
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


def is_kept(root: str, job: str) -> bool:
    """Is there a folder of this job's?"""
    try:
        return job in os.listdir(f"{root}/jobs")
    except OSError:
        return False


def read_kept(path: str) -> KeptJob:
    """What is in a job's folder, locked or not, of this version or one before. Raises InputError or
    CorruptFileError."""
    packed = _read(f"{path}/spec")
    try:
        data = wire.unpack(packed)
    except Exception as exc:
        raise CorruptFileError(f"{path}/spec is damaged: {exc}") from exc
    if not isinstance(data, dict) or data.get("v") not in (_VERSION, *BEFORE):
        raise CorruptFileError(
            f"{path}/spec was written by another version of mrq, and this one reads {_VERSION}: go on with "
            "that version, or submit the job anew (its inputs and OUT are as they were)"
        )
    if data["v"] >= _SUMMED and data.pop("crc32", None) != crc32(wire.pack(data)):
        raise CorruptFileError(f"{path}/spec is damaged: its checksum is another; submit the job anew")
    stored = data.get("spec")
    # Of jobs that it can't go on with it is read what they are and where they write.
    spec = wire.from_wire(JobSpec, stored) if data["v"] == _VERSION else spec_before(data["v"], stored)
    return KeptJob(spec=spec, version=data["v"])


def refuse_other(kept: KeptJob, path: str) -> None:
    """Raise UsageError for a job that another version has kept, and this one can't go on with."""
    if kept.version != _VERSION:
        raise UsageError(
            f"job {kept.spec.job} was kept in {path} by another version of mrq (its folder has version "
            f"{kept.version}, this mrq goes on with {_VERSION}): go on with that mrq, or submit the job anew "
            f"(its inputs and OUT are as they were) and remove this one by `mrq clean {kept.spec.job}`"
        )


def _packed(kept: KeptJob) -> bytes:
    data = {"v": _VERSION, "spec": wire.to_wire(kept.spec)}
    return wire.pack({**data, "crc32": crc32(wire.pack(data))})


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as exc:
        raise InputError(f"{path} can't be read: {exc.strerror}") from exc


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
        fd = try_lock(f"{entry.path}/lock")
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


def _locked(path: str, job: str) -> int:
    """The lock of a job's folder. Raises UsageError where its owner lives."""
    fd = try_lock(f"{path}/lock")
    if fd is None:
        raise UsageError(f"job {job} is still running (process {owner(path).get('pid', '?')})")
    return fd


def try_lock(path: str, *, make: bool = True) -> int | None:
    """A lock that nobody holds any more, held by this process now; else None, also where there is no such
    file and none is to be made."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0), 0o600)
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
