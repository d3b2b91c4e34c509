"""A block: two parallel lists, keys and values; and the frames that carry blocks in files.

All that the shuffle writes, to spill it or for others, is a sequence of frames, and all that it reads is a
`Source` of blocks. A frame is a 16-byte header (length of the payload, crc32, records, cost, each a
little-endian u32) and the payload: u64 length of the encoded keys, the keys, the values. The crc covers both
parts.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from mrq.codec.checksum import crc32
from mrq.codec.columns import Buffer, decode_column, encode_column
from mrq.errors import CorruptFileError, DataError, DiskFullError
from mrq.shuffle.budget import cost

Block = tuple[list[Any], list[Any]]

#: At most this many records are in a block on disk.
BLOCK_RECORDS: Final = 4096
#: A block on disk is cut when its cost is above this, unless it is a single record.
BLOCK_COST: Final = 1 << 20

HEADER: Final = struct.Struct("<IIII")
_REST: Final = struct.Struct("<III")  # the header without the crc, which covers it
_KEYS: Final = struct.Struct("<Q")
_U32_MAX: Final = 0xFFFFFFFF
#: Read at once, header included: most blocks of words need a single read.
_READ_AHEAD: Final = 1 << 17


def decode(buf: Buffer) -> Block:
    """The block in `buf`. Raises CorruptFileError."""
    view = memoryview(buf)
    if len(view) < _KEYS.size:
        raise CorruptFileError(f"a block of {len(view)} bytes is too short")
    (length,) = _KEYS.unpack_from(view)
    keys = decode_column(view[8 : 8 + length])
    values = decode_column(view[8 + length :])
    if len(keys) != len(values):
        raise CorruptFileError(f"a block has {len(keys)} keys and {len(values)} values")
    return keys, values


@dataclass(frozen=True, slots=True)
class Frame:
    """A block that is encoded already."""

    payload: bytes
    records: int
    cost: int  #: in memory, as `budget.cost` has it


def frames(keys: Sequence[Any], values: Sequence[Any]) -> Iterator[Frame]:
    """Pairs as frames of at most BLOCK_RECORDS records and, but for single records, of at most BLOCK_COST.
    Raises DataError for what can't be carried."""
    for start in range(0, len(keys), BLOCK_RECORDS):
        end = start + BLOCK_RECORDS
        yield from _fitting(keys[start:end], values[start:end])


def _fitting(keys: Sequence[Any], values: Sequence[Any]) -> Iterator[Frame]:
    """Pairs as a frame, or as several where they cost more than a block."""
    price = cost(keys, values)
    if price > BLOCK_COST and len(keys) > 1:
        middle = len(keys) // 2
        yield from _fitting(keys[:middle], values[:middle])
        yield from _fitting(keys[middle:], values[middle:])
        return
    encoded = encode_column(keys, keys=True)
    payload = b"".join((_KEYS.pack(len(encoded)), encoded, encode_column(values)))
    yield Frame(payload, len(keys), price)


class FrameWriter:
    """Appends blocks to an open file as frames, small writes gathered into full blocks."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file = file
        self._path = path
        self._keys: list[Any] = []
        self._values: list[Any] = []
        self._cost = 0
        self.begin()

    def begin(self) -> None:
        """Start a region: the totals are of it alone."""
        self.records = 0
        self.bytes = 0  #: on disk, headers included
        self.cost = 0  #: in memory, as `budget.cost` has it
        self.block_cost = 0  #: of the most expensive block
        self.crc32 = 0  #: of all bytes of the region

    def write(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Append pairs, which must not change until `flush`. Raises DataError, DiskFullError, OSError."""
        if not self._keys and len(keys) >= BLOCK_RECORDS // 2:
            self._write_blocks(keys, values)
            return
        self._keys += keys
        self._values += values
        self._cost += cost(keys, values)
        if len(self._keys) >= BLOCK_RECORDS or self._cost >= BLOCK_COST:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered, as at the end of a region."""
        keys, values = self._keys, self._values
        self._keys, self._values, self._cost = [], [], 0
        self._write_blocks(keys, values)

    def _write_blocks(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        for frame in frames(keys, values):
            self.put(frame)

    def put(self, frame: Frame) -> None:
        """Append a frame, when nothing waits to be flushed. Raises DataError, DiskFullError, OSError."""
        payload, records, price = frame.payload, frame.records, frame.cost
        if len(payload) > _U32_MAX:
            raise DataError(f"a pair of {len(payload):,} bytes can't be carried: the limit is 4 GiB")
        stored = min(price, _U32_MAX)
        crc = crc32(payload, crc32(_REST.pack(len(payload), records, stored)))
        header = HEADER.pack(len(payload), crc, records, stored)
        try:
            self._file.write(header)
            self._file.write(payload)
        except OSError as exc:
            raise disk_error(exc, self._path, len(payload) + unwritten(self._file)) from exc
        self.records += records
        self.bytes += len(header) + len(payload)
        self.cost += price
        self.block_cost = max(self.block_cost, stored)
        self.crc32 = crc32(payload, crc32(header, self.crc32))


class Source:
    """What a merge reads: pairs in a file, or in memory."""

    records: int  #: pairs in all
    cost: int  #: bytes in memory when all of it is loaded, as `budget.cost` has it
    block_cost: int  #: bytes in memory of its most expensive block
    is_sorted: bool  #: whether the pairs come in key order

    def blocks(self) -> Iterator[Block]:
        """All pairs, block by block; each call reads from the start. Holds no descriptor between
        blocks. Raises CorruptFileError, OSError."""
        raise NotImplementedError


def unwritten(file: BinaryIO) -> int:
    """Bytes that the file's buffer holds and the disk hasn't taken."""
    try:
        return max(0, file.tell() - os.fstat(file.fileno()).st_size)
    except (OSError, ValueError):  # closed
        return 0


def disk_error(exc: OSError, path: str, needed: int) -> Exception:
    """DiskFullError where the disk or quota is full, with what was needed and what there was; else `exc`."""
    if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
        return exc
    folder = os.path.dirname(os.path.abspath(path))
    try:
        stat = os.statvfs(folder)
        free = f"{stat.f_bavail * stat.f_frsize:,} bytes were free"
    except OSError:
        free = "how much was free isn't known"
    return DiskFullError(
        f"no space left in {folder}: writing {os.path.basename(path)} needed {needed:,} more bytes "
        f"and {free}; make room, or point MRQ_TMP to a larger disk"
    )


def read_blocks(path: str, offset: int, length: int, records: int) -> Iterator[Block]:
    """The blocks of a region. Raises CorruptFileError naming file and offset, or OSError.

    The file is opened for each read and never held: any number of regions can be read side by side.
    """
    end = offset + length
    while offset < end:
        keys, values, offset = _read_frame(path, offset, end)
        records -= len(keys)
        yield keys, values
    if records:
        raise CorruptFileError(
            f"{path}: the region that ends at offset {end} has {-records:+,} records too many"
        )


def _read_frame(path: str, offset: int, end: int) -> tuple[list[Any], list[Any], int]:
    """The block at `offset` and where the next one begins."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = read_exactly(fd, path, offset, min(_READ_AHEAD, end - offset))
        if len(data) < HEADER.size:
            raise CorruptFileError(f"{path}: half a frame at offset {offset}")
        length, crc, records, price = HEADER.unpack_from(data)
        after = offset + HEADER.size + length
        if after > end:
            raise CorruptFileError(f"{path}: the frame at offset {offset} goes past the end of its region")
        if HEADER.size + length > len(data):
            payload: Buffer = read_exactly(fd, path, offset + HEADER.size, length)
        else:
            payload = memoryview(data)[HEADER.size : HEADER.size + length]
    finally:
        os.close(fd)
    if crc32(payload, crc32(_REST.pack(length, records, price))) != crc:
        raise CorruptFileError(f"{path}: wrong checksum in the frame of {length:,} bytes at offset {offset}")
    try:
        keys, values = decode(payload)
    except CorruptFileError as exc:
        raise CorruptFileError(f"{path}: frame at offset {offset}: {exc}") from exc
    if len(keys) != records:
        raise CorruptFileError(
            f"{path}: {len(keys)} records instead of {records} in the frame at offset {offset}"
        )
    return keys, values, after


def read_exactly(fd: int, path: str, offset: int, length: int) -> bytes:
    """`length` bytes at `offset`. Raises CorruptFileError where the file ends before."""
    data = os.pread(fd, length, offset)
    while len(data) < length:  # one pread returns at most 2 GiB
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            raise CorruptFileError(
                f"{path}: ends at offset {offset + len(data)}, {length - len(data):,} bytes too early"
            )
        data += more
    return data
