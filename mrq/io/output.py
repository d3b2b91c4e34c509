"""Output formats: how a part is written, and how a result is read back.

A part is written privately, in batches, and is on the disk when `close` returns. `records` is lossless;
the others are for people and other tools.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from mrq.codec.checksum import crc32
from mrq.core.model import Piece, StagedFile
from mrq.errors import CorruptFileError, DataError, InputError, InternalError, UsageError
from mrq.io import disk, render
from mrq.io.compression import codec
from mrq.io.streams import Reading

#: Keys and values of a batch as the bytes to write.
Encoder = Callable[[Sequence[Any], Sequence[Any]], bytes]

#: Bytes gathered before they are handed to the disk.
_BUFFER_BYTES: Final = 1 << 20


class PartInfo(NamedTuple):
    """What a closed part is: `bytes` and `crc32` are of the file as it lies on the disk."""

    records: int
    bytes: int
    crc32: int


class PartWriter:
    """Writes one new file; `write` any number of times, then `close` or `discard`."""

    def __init__(self, path: str, encode: Encoder, compress: str | None) -> None:
        self.path = path
        self._encode = encode
        self._compressor = None if compress is None else codec(compress).compressor()
        self._records = 0
        self._bytes = 0
        self._crc = 0
        self._held: list[bytes] = []
        self._held_bytes = 0
        with disk.naming(path):
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def write(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Add records, as parallel columns. Raises DataError, DiskFullError or OutputError.

        The file's bytes depend on the records only, not on how they were cut into calls.
        """
        if len(keys) != len(values):
            raise InternalError(f"{self.path}: {len(keys)} keys beside {len(values)} values")
        if keys:
            self._add(keys, values)
            self._records += len(keys)

    def _add(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        self._put(self._encode(keys, values))

    def _put(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= _BUFFER_BYTES:
            self._flush()

    def _flush(self, last: bool = False) -> None:
        """Hand what is held to the disk."""
        data = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held.clear()
        if self._compressor is not None:
            # In steps of one size: what a compressor makes may depend on how it was fed.
            whole = len(data) if last else len(data) - len(data) % _BUFFER_BYTES
            if whole < len(data):
                self._held.append(data[whole:])
            steps = range(0, whole, _BUFFER_BYTES)
            made = [self._compressor.compress(data[i : min(i + _BUFFER_BYTES, whole)]) for i in steps]
            if last:
                made.append(self._compressor.flush())
            data = b"".join(made)
        self._held_bytes = sum(map(len, self._held))
        self._crc = crc32(data, self._crc)
        with disk.naming(self.path, len(data)):
            disk.write_all(self._fd, data)
        self._bytes += len(data)

    def _finish(self) -> None:
        """Put what the format wants behind the last record."""

    def close(self) -> PartInfo:
        """Finish the file and make it last. Raises DiskFullError or OutputError."""
        if self._fd < 0:
            raise InternalError(f"{self.path}: closed twice")
        self._finish()
        self._flush(last=True)
        with disk.naming(self.path):
            os.fsync(self._fd)
            fd, self._fd = self._fd, -1
            os.close(fd)
            disk.fsync_folder(os.path.dirname(self.path) or ".")
        return PartInfo(self._records, self._bytes, self._crc)

    def discard(self) -> None:
        """Close and remove an unfinished file; nothing after `close`."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        os.close(fd)
        with disk.naming(self.path):
            os.unlink(self.path)


class _RecordsWriter(PartWriter):
    """Blocks with an index behind them: see `io.records`."""

    def __init__(self, path: str, compress: str | None) -> None:
        from mrq.io.records import Container

        super().__init__(path, _text, compress)
        self._container = Container(self._put)

    def _add(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        self._container.add(keys, values)

    def _finish(self) -> None:
        self._container.end()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFormat:
    """One way of writing parts."""

    name: str
    compression: str | None = None

    @property
    def suffix(self) -> str:
        """Of a part's name: ".jsonl.gz"; "" for plain text."""
        own = "" if self.name == "text" else f".{self.name}"
        return own if self.compression is None else f"{own}.{self.compression}"

    def check(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Raise DataError for records that can't be written so; carried values always can as records."""
        if self.name != "records":
            _ENCODERS[self.name](keys, values)

    def open(self, path: str) -> PartWriter:
        """A writer of a new file. Raises OutputError when it exists or can't be made, UsageError when
        the compression's package is missing."""
        if self.name == "records":
            return _RecordsWriter(path, self.compression)
        return PartWriter(path, _ENCODERS[self.name], self.compression)

    def read(self, path: str, file: StagedFile | None = None) -> Iterator[tuple[Any, Any]]:
        """(key, value) of every record of a part: exact for records, strings for text, JSON's types
        for jsonl, (None, line) for lines. Its bytes are checked against what its manifest says, `file`,
        at their end. Raises InputError or CorruptFileError."""
        piece, reading = whole_file(path, file), Reading()
        yield from _READERS[self.name](piece, reading)
        check_whole(piece, reading)


def output_format(name: str, compression: str | None = None) -> OutputFormat:
    """The format of that name. Raises UsageError for an unknown name or a missing package."""
    if name not in _READERS:
        raise UsageError(f"unknown output format {name!r}; there are {', '.join(_READERS)}")
    if compression is not None:
        codec(compression)
    return OutputFormat(name=name, compression=compression)


def part_name(index: int, form: OutputFormat) -> str:
    """`part-00003.jsonl.gz`: the final name of part 3."""
    return f"part-{index:05d}{form.suffix}"


def _text(keys: Sequence[Any], values: Sequence[Any]) -> bytes:
    """`key<TAB>value` lines; a None on either side leaves the other alone."""
    key_kinds, value_kinds = set(map(type, keys)), set(map(type, values))
    if key_kinds <= _BYTES_OR_NONE and value_kinds <= _BYTES_OR_NONE and bytes in key_kinds | value_kinds:
        return _raw(keys, values, key_kinds, value_kinds)
    no_key, no_value = type(None) in key_kinds, type(None) in value_kinds
    left, right = render.column(keys, key_kinds), render.column(values, value_kinds)
    lines: Iterator[str]
    if not no_key and not no_value:
        # Laid out and joined once: twice as fast as a string a line.
        laid = ["\t"] * (4 * len(keys))
        laid[::4], laid[2::4], laid[3::4] = left, right, "\n" * len(keys)
        return render.encode("".join(laid))
    if not no_key and len(value_kinds) == 1:
        lines = iter(left)
    elif not no_value and len(key_kinds) == 1:
        lines = iter(right)
    else:
        lines = (
            b if key is None else a if value is None else f"{a}\t{b}"
            for key, value, a, b in zip(keys, values, left, right, strict=True)
        )
    return render.encode("\n".join([*lines, ""]))


_BYTES_OR_NONE: Final = frozenset({bytes, type(None)})


def _raw(keys: Sequence[Any], values: Sequence[Any], key_kinds: set[type], value_kinds: set[type]) -> bytes:
    """Bytes go out without passing through str."""
    if len(key_kinds) == len(value_kinds) == 1:
        if value_kinds != {bytes}:
            return b"\n".join([*keys, b""])
        if key_kinds != {bytes}:
            return b"\n".join([*values, b""])
        return b"\n".join([*map(b"\t".join, zip(keys, values, strict=True)), b""])
    lines = [
        (b or b"") if a is None else a if b is None else a + b"\t" + b
        for a, b in zip(keys, values, strict=True)
    ]
    return b"\n".join([*lines, b""])


def _lines(keys: Sequence[Any], values: Sequence[Any]) -> bytes:
    """The values alone, one a line."""
    kinds = set(map(type, values))
    if kinds == {bytes}:
        return b"\n".join([*values, b""])
    return render.encode("\n".join([*render.column(values, kinds), ""]))


def _jsonl(keys: Sequence[Any], values: Sequence[Any]) -> bytes:
    """`{"key": …, "value": …}` lines, always valid UTF-8: what isn't stays escaped."""
    left, right = render.json_column(keys), render.json_column(values)
    joined = "".join([f'{{"key": {a}, "value": {b}}}\n' for a, b in zip(left, right, strict=True)])
    try:
        return joined.encode("utf-8")
    except UnicodeEncodeError:
        # They stand for bytes, which may happen to be UTF-8; the others JSON can say escaped, within quotes.
        text = render.encode(joined).decode("utf-8", "surrogateescape")
        return b"".join(b"\\u%04x" % ord(c) if "\udc80" <= c <= "\udcff" else c.encode() for c in text)


_ENCODERS: Final = {"text": _text, "lines": _lines, "jsonl": _jsonl}


def whole_file(path: str, file: StagedFile | None = None) -> Piece:
    """A piece that is the whole of a local file as it is now, or as its manifest says. Raises InputError."""
    try:
        stat = os.stat(path)
    except OSError as exc:
        raise InputError(f"{path}: can't be read: {exc.strerror}") from exc
    if file is not None and stat.st_size != file.bytes:
        raise InputError(
            f"{path}: has {stat.st_size:,} bytes, and {file.bytes:,} by the manifest of its result: it was "
            "cut or changed since; copy it again, or run its job again"
        )
    return Piece(
        path=path, open=os.path.abspath(path), start=0, length=stat.st_size, size=stat.st_size,
        mtime_ns=stat.st_mtime_ns, crc32=None if file is None else file.crc32,
    )  # fmt: skip


def check_whole(piece: Piece, reading: Reading) -> None:
    """Raise CorruptFileError unless a whole file has the bytes that its manifest says; what `reading` hasn't
    come to yet is read. Nothing to say of a file without one."""
    if piece.crc32 is not None and reading.crcs([piece]) != (piece.crc32,):
        raise CorruptFileError(
            f"{piece.path}: its bytes aren't those that its job wrote, by the checksum in the manifest of "
            "its result: it was damaged or changed since; copy it again, or run its job again"
        )


def _lines_of(piece: Piece, reading: Reading) -> Iterator[str]:
    from mrq.io.lines import line_chunks

    for _, _, data in line_chunks(piece, reading=reading):
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        if not lines[-1]:
            lines.pop()
        yield from lines


def _read_text(piece: Piece, reading: Reading) -> Iterator[tuple[Any, Any]]:
    for line in _lines_of(piece, reading):
        key, tab, value = line.partition("\t")
        yield key, value if tab else None


def _read_jsonl(piece: Piece, reading: Reading) -> Iterator[tuple[Any, Any]]:
    for line in _lines_of(piece, reading):
        try:
            record = render.loads(line)
            yield record["key"], record["value"]
        except (ValueError, KeyError, TypeError) as exc:
            raise DataError(f"{piece.path}: {line[:100]!r} isn't a record that jsonl wrote: {exc}") from exc


def _read_records(piece: Piece, reading: Reading) -> Iterator[tuple[Any, Any]]:
    from mrq.io.records import read_piece

    for _, block in read_piece(piece, reading=reading):
        yield from zip(*block.columns(), strict=True)


_READERS: Final[dict[str, Callable[[Piece, Reading], Iterator[tuple[Any, Any]]]]] = {
    "text": _read_text,
    "lines": lambda piece, reading: ((None, line) for line in _lines_of(piece, reading)),
    "jsonl": _read_jsonl,
    "records": _read_records,
}
