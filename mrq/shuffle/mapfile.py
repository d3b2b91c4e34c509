"""The map-output file: what one map attempt leaves for all reducers.

    regions   one a partition that has records, each a sequence of frames (`shuffle.block`)
    index     one entry of 56 bytes a partition, empty ones included
    header    msgpack: who wrote it
    footer    48 bytes: magic, version, header length, index offset, partitions, index crc, digest, own crc

An entry carries its own crc, so one `pread` tells where a region lies and that the answer is sound. The
digest is of the index alone (lengths, records, checksums), so an attempt that makes the same output again
has the same digest; attempt numbers and tokens are only in the header. Written aside and renamed into
place with no fsync: a host that dies re-runs the map, and the checksums find what is torn. A map that yields
nothing leaves no file: nobody reads an output of 0 bytes.

What is spilled has the same format: a map's spill is a whole map output, a *run* of a merge one of a single
sorted partition (`write_run`). So there is one way to write pairs, and a `Region` is what is read of either.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any, BinaryIO, Final

import msgpack

from mrq.codec.checksum import crc32
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.errors import CorruptFileError, DiskFullError, InternalError
from mrq.shuffle.block import (
    Block,
    Frame,
    FrameWriter,
    Source,
    disk_error,
    read_blocks,
    read_exactly,
    unwritten,
)
from mrq.shuffle.bounded import Quota, create

MAGIC: Final = b"MRQMAPS\n"
#: Also of gathered files. In 1 the header had a task's generation where the ticket is; in 2 no stage.
VERSION: Final = 3

_ENTRY: Final = struct.Struct(
    "<QQQQQIIII"
)  # offset, length, records, cost, block cost, crc, flags, 0, own crc
_FOOTER: Final = struct.Struct("<8sIIQIIQII")  # …, digest, 0, own crc
_SORTED: Final = 1
CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MapHeader:
    """Who wrote a map-output file."""

    attempt: AttemptRef  #: of the map; of a fetched file the reduce's, whose kind isn't written
    code: str  #: sha256 of the bundle, hex
    #: Of a fetched file (`shuffle.fetched`): the digest of each partition's map, 8 bytes each.
    sources: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapFileInfo:
    """What a finished file holds."""

    digest: int  #: u64 over the index: equal for equal content
    bytes: int  #: of all regions
    records: int
    cost: int  #: in memory, of all regions


@dataclass(frozen=True, slots=True, kw_only=True)
class Region(Source):
    """One map output's share for one partition."""

    path: str
    offset: int
    length: int
    records: int
    crc32: int
    cost: int
    block_cost: int
    is_sorted: bool

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        return self.length

    def blocks(self) -> Iterator[Block]:
        return read_blocks(self.path, self.offset, self.length, self.records)


def pack_entry(*fields: int) -> bytes:
    """An index entry: offset, length, records, cost, block cost, crc, flags (1: sorted by key)."""
    body = _ENTRY.pack(*fields, 0, 0)[:-4]
    return body + crc32(body).to_bytes(4, "little")


def pack_ending(index: bytes, header: MapHeader, offset: int) -> tuple[bytes, int]:
    """All that follows the regions, which end at `offset`, and the digest of the index."""
    digest = int.from_bytes(hashlib.blake2b(index, digest_size=8).digest(), "little")
    task, *own = header.attempt
    fields = [task.job, task.stage, task.index, *own, header.code]
    head = msgpack.packb([*fields, header.sources] if header.sources else fields)
    count = len(index) // _ENTRY.size
    footer = (VERSION, len(head), offset, count, crc32(index), digest, crc32(head), 0)
    tail = _FOOTER.pack(MAGIC, *footer)[:-4]
    return index + head + tail + crc32(tail).to_bytes(4, "little"), digest


@cache
def empty_digest(partitions: int) -> int:
    """The digest of an output without a record, of which there is no file."""
    return pack_ending(pack_entry(0, 0, 0, 0, 0, 0, _SORTED) * partitions, _NOBODY, 0)[1]


_NOBODY: Final = MapHeader(attempt=AttemptRef(TaskRef("", 0, Kind.MAP, 0), 0, 0, ""), code="")
#: What a reader finds in such an output.
NOTHING: Final = Region(path="", offset=0, length=0, records=0, crc32=0, cost=0, block_cost=0, is_sorted=True)


class MapFileWriter:
    """Writes one file, partitions in ascending order; those that are left out are empty."""

    def __init__(self, path: str, header: MapHeader, partitions: int = 0, quota: Quota | None = None) -> None:
        """Begin beside `path`, an index of at least `partitions` entries. Raises DiskFullError, OSError."""
        self._path = path
        self._aside = f"{path}.partial"
        self._header = header
        try:
            self._file: BinaryIO = create(self._aside, "wb", quota)
        except OSError as exc:
            raise disk_error(exc, path, 0) from exc
        self._frames = FrameWriter(self._file, path)
        self._partitions = partitions
        self._index = bytearray()
        self._next = 0  # the lowest partition that may still begin
        self._current: int | None = None
        self._flags = 0
        self._offset = self._records = self._cost = 0

    def begin(self, partition: int, *, sorted: bool = True) -> None:
        """Start a partition's region. Raises InternalError when it isn't this one's turn."""
        if self._current is not None or partition < self._next:
            raise InternalError(
                f"{self._path}: partition {partition} begun while {self._current} is open "
                f"and {self._next} is the next that may be"
            )
        self._current = partition
        self._flags = _SORTED if sorted else 0
        self._frames.begin()

    def write(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Append pairs that don't change any more. Raises DataError, DiskFullError, OSError."""
        if self._current is None:
            raise InternalError(f"{self._path}: pairs written outside a partition")
        self._frames.write(keys, values)

    def put(self, frames: Iterable[Frame]) -> None:
        """Append encoded blocks, where `write` isn't used. Raises DataError, DiskFullError, OSError."""
        if self._current is None:
            raise InternalError(f"{self._path}: frames written outside a partition")
        for frame in frames:
            self._frames.put(frame)

    def end(self) -> int:
        """End the region; how many records it has. Raises DataError, DiskFullError, OSError."""
        if self._current is None:
            raise InternalError(f"{self._path}: no partition to end")
        f = self._frames
        f.flush()
        self._skip_to(self._current)
        self._index += pack_entry(
            self._offset, f.bytes, f.records, f.cost, f.block_cost, f.crc32, self._flags
        )
        self._offset += f.bytes
        self._records += f.records
        self._cost += f.cost
        self._next, self._current = self._current + 1, None
        return f.records

    def _skip_to(self, partition: int) -> None:
        """Index entries for the empty partitions before this one."""
        while len(self._index) < partition * _ENTRY.size:
            self._index += pack_entry(self._offset, 0, 0, 0, 0, 0, _SORTED)

    def finish(self) -> MapFileInfo:
        """Write index and footer and rename into place. Raises DiskFullError, OSError."""
        if self._current is not None:
            raise InternalError(f"{self._path}: finished inside partition {self._current}")
        self._skip_to(self._partitions)
        ending, digest = pack_ending(bytes(self._index), self._header, self._offset)
        try:
            self._file.write(ending)
            self._file.flush()
            self._file.close()
            os.rename(self._aside, self._path)
        except OSError as exc:
            raise disk_error(exc, self._path, unwritten(self._file)) from exc
        return MapFileInfo(digest=digest, bytes=self._offset, records=self._records, cost=self._cost)

    def abort(self) -> None:
        """Remove what was written; for a writer that won't finish."""
        with contextlib.suppress(OSError, DiskFullError):  # closing flushes, which fails again on a full disk
            self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._aside)


def write_run(path: str, blocks: Iterable[Block], quota: Quota | None = None) -> Region:
    """Blocks in key order as a file of their own. Raises DataError, DiskFullError, OSError."""
    writer = MapFileWriter(path, _NOBODY, 1, quota)
    try:
        writer.begin(0)
        for keys, values in blocks:
            writer.write(keys, values)
        writer.end()
        writer.finish()
    except BaseException:
        writer.abort()
        raise
    with MapFile(path) as file:
        return file.entry(0)


class MapFile:
    """Reads a map-output file; a context manager that holds one descriptor.

    Raises FileNotFoundError where there is none and CorruptFileError where it isn't whole.
    """

    def __init__(self, path: str, *, fd: int | None = None) -> None:
        """`fd`: the file, opened by somebody who didn't trust the path; it is taken over."""
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if fd is None else fd
        try:
            self._read_footer()
        except BaseException:
            os.close(self._fd)
            raise

    def _read_footer(self) -> None:
        size = os.lseek(self._fd, 0, os.SEEK_END)
        if size < _FOOTER.size:
            raise CorruptFileError(f"{self.path}: {size} bytes are too few for a map-output file")
        at = size - _FOOTER.size
        data = self._read(at, _FOOTER.size)
        magic, version, header_length, index, partitions, crc, digest, header_crc, own = _FOOTER.unpack(data)
        if magic != MAGIC or crc32(data[:-4]) != own:
            raise CorruptFileError(f"{self.path}: no sound footer at offset {at}: cut off, or no such file")
        if version != VERSION:
            raise CorruptFileError(
                f"{self.path}: a map output of version {version}; this mrq reads version {VERSION}, "
                "and its map has to run again"
            )
        if index + partitions * _ENTRY.size + header_length != at:
            raise CorruptFileError(
                f"{self.path}: the footer at offset {at} doesn't fit a file of {size:,} bytes"
            )
        header = self._read(at - header_length, header_length)
        if crc32(header) != header_crc:
            raise CorruptFileError(
                f"{self.path}: wrong checksum in the header at offset {at - header_length}"
            )
        try:
            job, stage, index_of_map, ticket, number, token, code, *rest = msgpack.unpackb(header)
        except (ValueError, TypeError) as exc:
            raise CorruptFileError(f"{self.path}: the header isn't of a map-output file: {exc}") from exc
        #: Who wrote it.
        self.header = MapHeader(
            attempt=AttemptRef(TaskRef(job, stage, Kind.MAP, index_of_map), ticket, number, token),
            code=code,
            sources=rest[0] if rest else b"",
        )
        #: u64 over the index.
        self.digest: int = digest
        self.partitions: int = partitions
        #: Bytes of all regions.
        self.bytes: int = index
        self._index_crc: int = crc

    def entry(self, partition: int) -> Region:
        """A partition's region: one read. Raises CorruptFileError; InternalError for no such partition."""
        if not 0 <= partition < self.partitions:
            raise InternalError(f"{self.path}: no partition {partition} of {self.partitions}")
        at = self.bytes + partition * _ENTRY.size
        return self._region(self._read(at, _ENTRY.size), at)

    def _read(self, at: int, length: int) -> bytes:
        return read_exactly(self._fd, self.path, at, length)

    def _region(self, data: bytes, at: int) -> Region:
        offset, length, records, price, block_cost, crc, flags, _, own = _ENTRY.unpack(data)
        if crc32(data[:-4]) != own or offset + length > self.bytes:
            raise CorruptFileError(f"{self.path}: wrong checksum in the index entry at offset {at}")
        return Region(
            path=self.path,
            offset=offset,
            length=length,
            records=records,
            crc32=crc,
            cost=price,
            block_cost=block_cost,
            is_sorted=bool(flags & _SORTED),
        )

    def entries(self) -> list[Region]:
        """All regions, in partition order, by one read. Raises CorruptFileError."""
        index = self._read(self.bytes, self.partitions * _ENTRY.size)
        if crc32(index) != self._index_crc:
            raise CorruptFileError(f"{self.path}: wrong checksum in the index at offset {self.bytes}")
        places = range(0, len(index), _ENTRY.size)
        return [self._region(index[at : at + _ENTRY.size], self.bytes + at) for at in places]

    def raw(self, partition: int, offset: int = 0, chunk: int = CHUNK) -> Iterator[bytes]:
        """The bytes of a region from `offset` within it, at most `chunk` at a time: what a fetch
        sends and goes on with after a break. Raises CorruptFileError, OSError."""
        region = self.entry(partition)
        while offset < region.length:
            data = self.part(region, offset, min(chunk, region.length - offset))
            yield data
            offset += len(data)

    def part(self, region: Region, offset: int, length: int) -> bytes:
        """Bytes of a region from `offset` within it. Raises CorruptFileError, OSError."""
        return self._read(region.offset + offset, length)

    def verify(self) -> MapFileInfo:
        """Read the whole file against its checksums. Raises CorruptFileError, OSError."""
        regions = self.entries()
        expected = 0
        for partition, region in enumerate(regions):
            if region.offset != expected:
                raise CorruptFileError(f"{self.path}: partition {partition} isn't at offset {expected}")
            expected += region.length
            crc = 0
            for data in self.raw(partition):
                crc = crc32(data, crc)
            if crc != region.crc32:
                raise CorruptFileError(
                    f"{self.path}: wrong checksum in partition {partition}, "
                    f"{region.length:,} bytes at offset {region.offset}"
                )
        if expected != self.bytes:
            raise CorruptFileError(f"{self.path}: regions of {expected:,} bytes, not {self.bytes:,}")
        return MapFileInfo(
            digest=self.digest,
            bytes=self.bytes,
            records=sum(region.records for region in regions),
            cost=sum(region.cost for region in regions),
        )

    def close(self) -> None:
        """Let go of the file; regions that were handed out can still be read."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> MapFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
