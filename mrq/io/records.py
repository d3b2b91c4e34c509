"""The `records` format: typed keys and values, exactly as they were, in the shuffle's codec.

    header   magic "MRQR", u8 version, 3 zero bytes
    block*   u32 records, u32 key bytes, u32 value bytes, u32 crc32 of the payload; payload: keys, values
    end      a block header of which `records` is 0xFFFFFFFF and the rest zero
    index    u64 offset of each block
    trailer  u64 offset of the end mark, u64 blocks, u32 crc32 of the index, magic "RQRM"

All numbers little-endian. The index lets a file be split: a block belongs to the piece in which its
first byte lies. A compressed file is read from front to back and needs no trailer.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from mrq.codec.columns import decode_column, encode_column
from mrq.core.model import Piece
from mrq.core.paths import named
from mrq.errors import CorruptFileError, DataError, InputError
from mrq.io.streams import ByteSource, Reading

VERSION: Final = 1
_HEADER: Final = b"MRQR" + bytes([VERSION, 0, 0, 0])
_BLOCK: Final = struct.Struct("<IIII")
_TRAILER: Final = struct.Struct("<QQI4s")
_END_MAGIC: Final = b"RQRM"
_END_MARK: Final = 0xFFFFFFFF
#: A block is closed by the record that reaches either bound; both depend on the records only.
BLOCK_RECORDS: Final = 2048
BLOCK_COST_BYTES: Final = 1 << 20


class Container:
    """Makes the file's bytes and hands them to `put`, block by block."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put
        self._keys: list[Any] = []
        self._values: list[Any] = []
        self._cost = 0
        self._offsets = array("Q")
        self._at = len(_HEADER)
        put(_HEADER)

    def add(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Add records; complete blocks go out. Raises DataError."""
        at = 0
        while at < len(keys):
            upto = min(len(keys), at + BLOCK_RECORDS - len(self._keys))
            some_keys, some_values = keys[at:upto], values[at:upto]
            costs = list(map(int.__add__, map(cost, some_keys), map(cost, some_values)))
            total = self._cost + sum(costs)
            if total >= BLOCK_COST_BYTES:
                upto, total = at, self._cost
                for one in costs:
                    upto += 1
                    total += one
                    if total >= BLOCK_COST_BYTES:
                        break
                some_keys, some_values = keys[at:upto], values[at:upto]
            self._keys.extend(some_keys)
            self._values.extend(some_values)
            self._cost = total
            at = upto
            if len(self._keys) >= BLOCK_RECORDS or total >= BLOCK_COST_BYTES:
                self._block()

    def _block(self) -> None:
        keys, values = encode_column(self._keys, keys=True), encode_column(self._values)
        if max(len(keys), len(values)) > 0xFFFFFFFF:
            raise DataError("a single record of more than 4 GiB can't be written; cut it into parts")
        crc = zlib.crc32(values, zlib.crc32(keys))
        self._offsets.append(self._at)
        self._put(_BLOCK.pack(len(self._keys), len(keys), len(values), crc))
        self._put(keys)
        self._put(values)
        self._at += _BLOCK.size + len(keys) + len(values)
        self._keys, self._values, self._cost = [], [], 0

    def end(self) -> None:
        """Put the last block, the index and the trailer."""
        if self._keys:
            self._block()
        index = struct.pack(f"<{len(self._offsets)}Q", *self._offsets)
        trailer = _TRAILER.pack(self._at, len(self._offsets), zlib.crc32(index), _END_MAGIC)
        self._put(_BLOCK.pack(_END_MARK, 0, 0, 0) + index + trailer)


def cost(value: Any) -> int:
    """About the bytes of a value, from the value alone."""
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value)
    if kind is list or kind is tuple:
        return 8 + sum(map(cost, value))
    if kind is dict:
        return 8 + sum(map(cost, value)) + sum(map(cost, value.values()))
    return value.bit_length() // 8 if kind is int else 8


class Block(NamedTuple):
    """A block as it lies in the file, its checksum verified."""

    path: str  #: as spelled
    offset: int  #: in the decompressed file, bytes
    records: int
    keys: bytes
    values: bytes

    def columns(self) -> tuple[list[Any], list[Any]]:
        """Keys and values, new objects each time. Raises CorruptFileError."""
        keys, values = decode_column(self.keys), decode_column(self.values)
        if len(keys) != self.records or len(values) != self.records:
            raise CorruptFileError(
                f"{self.path}: the block at byte {self.offset} doesn't hold {self.records} records"
            )
        return keys, values


def read_piece(
    piece: Piece, tick: Callable[[], None] | None = None, reading: Reading | None = None
) -> Iterator[tuple[int, Block]]:
    """(input bytes it stands for, block) of every block that begins in the piece.

    Raises InputError for another kind of file, CorruptFileError for a damaged one.
    """
    with ByteSource(piece, reading) as source:
        head = source.read(len(_HEADER))
        if head[:4] != _HEADER[:4]:
            raise InputError(
                f"{named(piece.path)}: not a file of the records format (it begins with {head[:4]!r}); "
                "choose another `input_format`"
            )
        if head != _HEADER:
            raise InputError(
                f"{named(piece.path)}: records of version {head[4:5]!r}; this mrq reads version {VERSION}"
            )
        if source.compression is not None:
            left = piece.length
            for _, block in _blocks(source, len(_HEADER), None, named(piece.path), tick):
                took = min(source.taken(), left)
                left -= took
                yield took, block
            return
        offsets, end_mark = _index(source, piece)
        stop = piece.start + piece.length
        mine = [offset for offset in offsets if piece.start <= offset < stop]
        if not mine:
            return
        source.skip_to(mine[0])
        at = piece.start
        for number, (size, block) in enumerate(_blocks(source, mine[0], len(mine), named(piece.path), tick)):
            offset = block.offset
            if offset != mine[number] or offset + size > end_mark:
                raise CorruptFileError(
                    f"{named(piece.path)}: the block at byte {offset} isn't where its index says"
                )
            upto = stop if number == len(mine) - 1 else offset + size
            yield upto - at, block
            at = upto


def _index(source: ByteSource, piece: Piece) -> tuple[list[int], int]:
    """(offset of every block, offset of the end mark)."""
    try:
        source.seek(max(0, piece.size - _TRAILER.size))
        end_mark, count, crc, magic = _TRAILER.unpack(source.read(_TRAILER.size))
        start = end_mark + _BLOCK.size
        if magic != _END_MAGIC or start + 8 * count + _TRAILER.size != piece.size:
            raise ValueError("no trailer")
        source.seek(start)
        data = source.read(8 * count)
        if zlib.crc32(data) != crc:
            raise ValueError("its index fails its checksum")
        return list(struct.unpack(f"<{count}Q", data)), end_mark
    except (struct.error, ValueError) as exc:
        raise CorruptFileError(f"{named(piece.path)}: a truncated or damaged records file: {exc}") from exc


def _blocks(
    source: ByteSource, at: int, count: int | None, path: str, tick: Callable[[], None] | None
) -> Iterator[tuple[int, Block]]:
    """(size, block) of `count` blocks from here on, or all up to the end mark."""
    while count is None or count > 0:
        if tick is not None:
            tick()
        head = source.read(_BLOCK.size)
        if len(head) < _BLOCK.size:
            raise CorruptFileError(f"{path}: the records file ends at byte {at}, before its end mark")
        records, key_bytes, value_bytes, crc = _BLOCK.unpack(head)
        if records == _END_MARK:
            return
        payload = source.read(key_bytes + value_bytes)
        if len(payload) < key_bytes + value_bytes or zlib.crc32(payload) != crc:
            raise CorruptFileError(f"{path}: the block at byte {at} is truncated or fails its checksum")
        size = _BLOCK.size + len(payload)
        yield size, Block(path, at, records, payload[:key_bytes], payload[key_bytes:])
        at += size
        if count is not None:
            count -= 1
