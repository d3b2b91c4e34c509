"""A fetched file: one partition's regions of many maps, in map-output format.

Partition i of the file is map i's region. Regions are placed as their bytes come, in any order and from
several threads; the index says where each lies, so a reader goes through them in map order. The header
keeps the digest of each map's own index: what its region was verified against. A map that isn't fetched has
an empty entry and the digest 0.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from mrq.errors import CorruptFileError
from mrq.shuffle.block import disk_error
from mrq.shuffle.bounded import Quota
from mrq.shuffle.mapfile import MapFile, MapHeader, Region, pack_ending, pack_entry

_DIGEST: Final = 8


def _aside(path: str) -> str:
    return f"{path}.partial"


def remove(path: str) -> None:
    """A fetched file, finished or not, if it is there."""
    for name in (_aside(path), path):
        with contextlib.suppress(OSError):
            os.unlink(name)


class FetchedWriter:
    """Writes one file beside its final place. Every method may come from any thread."""

    def __init__(self, path: str, quota: Quota | None = None) -> None:
        """Begin. Raises DiskFullError, OSError."""
        self.path = path
        self._aside = _aside(path)
        self._quota = quota
        self._lock = threading.Lock()
        self._end = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(self._aside, flags, 0o600)
        except OSError as exc:
            raise disk_error(exc, path, 0) from exc

    def reserve(self, length: int) -> int:
        """Where the next `length` bytes go."""
        with self._lock:
            at = self._end
            self._end += length
            return at

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put bytes where there was room reserved. Raises DiskFullError, OSError."""
        view = memoryview(data)
        try:
            self._write(offset, view)
        except OSError as exc:
            raise disk_error(exc, self.path, len(view)) from exc

    def _write(self, offset: int, view: memoryview) -> None:
        while view:
            part = view
            if self._quota is not None:
                part = view[: self._quota.grain]
                self._quota.ask(len(part))
            done = os.pwrite(self._fd, part, offset)
            view, offset = view[done:], offset + done

    def finish(self, header: MapHeader, regions: Sequence[tuple[Region, int] | None]) -> None:
        """Write index and footer and rename into place; `regions` are all partitions', each with the digest
        of its map's index. Raises DiskFullError, OSError."""
        empty = pack_entry(0, 0, 0, 0, 0, 0, 1)
        entries, digests = bytearray(), bytearray()
        for found in regions:
            if found is None:
                entries += empty
                digests += bytes(_DIGEST)
                continue
            r, digest = found
            entries += pack_entry(
                r.offset, r.length, r.records, r.cost, r.block_cost, r.crc32, int(r.is_sorted)
            )
            digests += digest.to_bytes(_DIGEST, "little")
        ending, _ = pack_ending(bytes(entries), replace(header, sources=bytes(digests)), self._end)
        try:
            self._write(self._end, memoryview(ending))
            os.rename(self._aside, self.path)
        except OSError as exc:
            raise disk_error(exc, self.path, len(ending)) from exc

    def unlink(self) -> None:
        """Remove what was written, finished or not; writes that are under way go nowhere."""
        remove(self.path)

    def close(self) -> None:
        """Let go of the file, once nobody writes any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class FetchedFile:
    """Reads one: its regions by map, its index read at once.

    Raises FileNotFoundError where there is none and CorruptFileError where it isn't whole.
    """

    def __init__(self, path: str) -> None:
        with MapFile(path) as file:
            self._sources = file.header.sources
            self._regions = file.entries()
        if len(self._sources) != _DIGEST * len(self._regions):
            raise CorruptFileError(f"{path} isn't a fetched file")
        self.path = path

    def region(self, partition: int, digest: int) -> Region:
        """The region that a map with this digest gave. Raises CorruptFileError."""
        at = partition * _DIGEST
        found = self._sources[at : at + _DIGEST]
        if not 0 <= partition < len(self._regions) or int.from_bytes(found, "little") != digest:
            raise CorruptFileError(f"{self.path}: region {partition} isn't of the accepted output")
        return self._regions[partition]
