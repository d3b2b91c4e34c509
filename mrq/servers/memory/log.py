"""A job's log: every batch that its leader has written to a store in memory, for whoever goes on with it.

    JOB/batches    frames, one after another:
        length     u32, of the payload
        crc32      u32, of the payload
        payload    a `Batch` as `core.wire` packs it, but for its orders

A batch is appended before the store applies and answers it, so nothing is published, and no order given,
that the log doesn't know of. A batch holds what Redis would have got: the tasks' rows and locations, the
leader's own records. Orders aren't kept, for the workers that they are for are gone with the process.
Claims, reports and beats aren't either: an attempt that was reported and not yet accepted runs again.

Appending is a write(2) to a file that only the job's owner has open, so of a process that dies the log has
every batch that was answered and at most a torn one after them, which `JobLog.open` cuts off. Nothing is
synced, so a power cut may cost more of the end, or some of the files that the log names: each frame is
checked by its sum, all that follows the first bad one is dropped, and what a batch says is complete counts
only where its files are found whole (`servers.memory.recovery`). So a job that is gone on with is never
wrong, only further back.

The log is replayed through the same scripts that applied it (`core.claims`): a batch that stands there
twice is known by its fence and counts once, a later epoch takes the job over, and a gap ends the replay.
What comes out is what a new leader of a cluster loads from Redis.

The log isn't compacted. A task that is completed at the first try takes two writes with their records, some
600 bytes together, and each further try as much again; tries are bounded (`core.failures`). The job's own
record is written only when it has changed, which is at failures and losses. Once the job is done the folder
goes.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from mrq.core import wire
from mrq.core.claims import Claims
from mrq.core.model import JobSpec
from mrq.core.store_api import Batch, StoredJob, WriteAnswer
from mrq.io import disk

#: Of the file in a job's folder.
NAME: Final = "batches"
_HEAD: Final = struct.Struct("<II")  # length and crc32 of the payload


def frame(batch: Batch) -> bytes:
    """A batch as the log keeps it."""
    payload = wire.pack(wire.to_wire(replace(batch, orders=()) if batch.orders else batch))
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def frames(data: bytes) -> Iterator[tuple[Batch, int]]:
    """The batches in a log, oldest first, each with where its frame ends; up to the first that isn't whole.
    Raises CorruptFileError for one that is, and holds no batch."""
    at = 0
    while at + _HEAD.size <= len(data):
        length, crc = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        payload = data[at : at + length]
        if not length or len(payload) < length or zlib.crc32(payload) != crc:
            return  # none is empty: that is what a hole of zeros looks like
        at += length
        yield wire.from_wire(Batch, wire.unpack(payload)), at


def replay(data: bytes, spec: JobSpec) -> tuple[StoredJob | None, int]:
    """A job as the store had it after the last whole batch of its log, and where that one ends; None where
    there is none. Raises CorruptFileError."""
    claims, end = Claims(store_id=""), 0
    for batch, at in frames(data):
        fence = batch.fence
        known = claims.fence(spec.job)
        if known is None or (known.incarnation, known.epoch) < (fence.incarnation, fence.epoch):
            claims.begin(spec.job, replace(fence, seq=0))
        answer = claims.write(batch) if batch.job == spec.job else WriteAnswer.ROLLED_BACK
        if answer not in (WriteAnswer.WRITTEN, WriteAnswer.ALREADY):
            break
        end = at
    return claims.load(spec) if end else None, end


class JobLog:
    """One job's log, open for appending. The folder's owner alone has it."""

    def __init__(self, path: str, fd: int, size: int) -> None:
        self.path = path
        self._fd = fd
        self._size = size

    @classmethod
    def open(cls, folder: str, spec: JobSpec) -> tuple[JobLog, StoredJob | None]:
        """The log in a job's folder, made if there is none, without its torn end; and what it says of the
        job. Raises DiskFullError, OutputError or CorruptFileError."""
        path = f"{folder}/{NAME}"
        with disk.naming(path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                with open(fd, "rb", closefd=False) as file:
                    data = file.read()
                stored, end = replay(data, spec) if data else (None, 0)
                if end < len(data):
                    os.ftruncate(fd, end)
            except BaseException:
                os.close(fd)
                raise
        return cls(path, fd, end), stored

    def append(self, batch: Batch) -> None:
        """Write a batch at the end, whole or not at all. Raises DiskFullError or OutputError."""
        data = frame(batch)
        try:
            try:
                disk.write_all(self._fd, data)
            except OSError:
                os.ftruncate(self._fd, self._size)  # half a frame would hide all that follow it
                raise
        except OSError as exc:
            raise disk.named(exc, self.path, len(data)) from exc
        self._size += len(data)

    def close(self) -> None:
        """Let go of the file, which stays. Twice is once."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
