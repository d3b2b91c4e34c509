"""Finds map outputs by the ids of a request, below one folder, whatever the request holds.

A region is asked for twice: how large it is, then for its bytes. What the first found in the file's footer
and index is kept for the second: a file never changes, and who reads it has the region's checksum.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from typing import Final, NamedTuple

from mrq.core import paths
from mrq.core.refs import AttemptRef
from mrq.errors import CorruptFileError, UsageError
from mrq.shuffle.mapfile import MapFile, Region

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_JOB: Final = re.compile(r"[a-z0-9-]{1,64}")
_NUMBER_MAX: Final = (1 << 31) - 1
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not blocking: a pipe in a file's place must not hold up a thread.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: Regions whose place is kept, of about half a KiB each.
_SEEN_MAX: Final = 10_000


class Outputs:
    """The map outputs below a worker's root. Thread-safe.

    Every step below the root is opened from the one before, and no link is followed: what lies outside can't
    be reached, even if somebody puts links into the folders of a job.
    """

    def __init__(self, root: str) -> None:
        """`root` must exist. Raises OSError."""
        self.root = root
        self._fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._lock = threading.Lock()
        #: Where regions lie that were asked for; the oldest is forgotten first.
        self._seen: dict[tuple[str, int, str, int], Region] = {}  #: by job, partition, file's name, digest

    @contextlib.contextmanager
    def of(self, job: str) -> Iterator[JobOutputs]:
        """Those of one job, to be used at once. Raises UsageError for an id that is none."""
        if not _JOB.fullmatch(job):
            raise UsageError(f"{job!r:.100} isn't a job's id")
        at: int | None = self._fd
        with contextlib.ExitStack() as stack:
            for part in ("jobs", job, "maps"):
                try:
                    at = os.open(part, _FOLDER, dir_fd=at)
                except OSError:
                    at = None
                    break
                stack.callback(os.close, at)
            yield JobOutputs(self, job, at)

    def remember(self, job: str, partition: int, name: str, digest: int, region: Region) -> None:
        """Where a region lies, for who asks for its bytes next."""
        with self._lock:
            self._seen[job, partition, name, digest] = region
            if len(self._seen) > _SEEN_MAX:
                del self._seen[next(iter(self._seen))]

    def recall(self, job: str, partition: int, name: str, digest: int) -> Region | None:
        """What was remembered, once."""
        with self._lock:
            return self._seen.pop((job, partition, name, digest), None)

    def close(self) -> None:
        """Open nothing more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Asked(NamedTuple):
    """A map output as a request names it. A tuple: there are two of them for each region that is sent."""

    attempt: AttemptRef  #: of a map
    digest: int


class JobOutputs:
    """The map outputs of one job. Each method raises UsageError for ids that aren't, CorruptFileError where
    there is no such file of exactly this attempt and digest, whole, or it has no such partition."""

    def __init__(self, outputs: Outputs, job: str, fd: int | None) -> None:
        """`fd` is of their folder; None where there is none."""
        self._folder = f"{paths.job_folder(outputs.root, job)}/maps"
        self._job = job
        self._fd = fd
        self._outputs = outputs

    def region(self, output: Asked, partition: int) -> Region:
        """A partition's share of an output."""
        name = _name(output.attempt)
        region = self._find(self._open(name), name, output, partition)
        self._outputs.remember(self._job, partition, name, output.digest, region)
        return region

    def open(self, output: Asked, partition: int) -> tuple[int, Region]:
        """The same, with a descriptor of its file to read its bytes from, the caller's to close."""
        name = _name(output.attempt)
        fd = self._open(name)
        try:
            region = self._outputs.recall(self._job, partition, name, output.digest)
            return fd, region or self._find(os.dup(fd), name, output, partition)
        except BaseException:
            os.close(fd)
            raise

    def _open(self, name: str) -> int:
        path = f"{self._folder}/{name}"
        if self._fd is None:
            raise CorruptFileError(f"{path}: there is no such folder; the map must run again")
        try:
            return os.open(name, _FILE, dir_fd=self._fd)
        except OSError as exc:
            raise CorruptFileError(f"{path}: {exc.strerror}; the map must run again") from exc

    def _find(self, fd: int, name: str, output: Asked, partition: int) -> Region:
        """By the file's footer and index; closes `fd`."""
        path = f"{self._folder}/{name}"
        try:
            with MapFile(path, fd=fd) as file:
                if file.header.attempt != output.attempt:
                    raise CorruptFileError(f"{path} is another attempt's, by its header; run the map again")
                if file.digest != output.digest:
                    raise CorruptFileError(
                        f"{path}: digest {file.digest:#x} where {output.digest:#x} is recorded; "
                        "run the map again"
                    )
                if partition >= file.partitions:
                    raise CorruptFileError(f"{path} has {file.partitions} partitions, and no {partition}")
                return file.entry(partition)
        except OSError as exc:
            raise CorruptFileError(f"{path}: {exc.strerror}; the map must run again") from exc


def _name(attempt: AttemptRef) -> str:
    """Of its file. Raises UsageError for ids that can name nothing but a map output."""
    task, ticket, number, token = attempt
    if not _TOKEN.fullmatch(token):
        raise UsageError(f"{token!r:.100} isn't a token")
    if not all(0 <= each <= _NUMBER_MAX for each in (task.stage, task.index, ticket, number)):
        raise UsageError(f"{attempt} has a number out of range for a stage, map, ticket or attempt")
    return str(attempt)
