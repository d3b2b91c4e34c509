"""Blocks of input records: what an input format gives to a map task.

A block keeps the raw bytes and makes keys and values only when asked: `map_block` pays for neither,
a map that ignores nothing pays once a block, at C speed (one decode, one split).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from operator import add
from typing import Any, Final

from mrq.core.paths import named
from mrq.errors import InputError, InternalError

#: Bytes of a block, about. A constant: block boundaries show in what user code may observe.
BLOCK_BYTES: Final = 1 << 20

#: Told of a line that its format can't read: (path, offset, line, error).
OnBad = Callable[[str, int, bytes, InputError], None]

_BOM: Final = b"\xef\xbb\xbf"


class RecordBlock:
    """Some consecutive records of one file, as parallel columns.

    `piece` indexes the split's pieces; `path` is the file as the user spelled it; `bytes` is what of
    the split's length it stands for. `again` makes keys and values once more where user code, which is
    handed the values themselves, could change them.
    """

    __slots__ = ("_again", "_keys", "_offsets", "_values", "bytes", "path", "piece")

    def __init__(
        self,
        piece: int,
        path: str,
        consumed: int,
        keys: list[Any] | None = None,
        values: list[Any] | None = None,
        offsets: list[int] | None = None,
        again: Callable[[], tuple[list[Any], list[Any]]] | None = None,
    ) -> None:
        self._again = again
        self.piece = piece
        self.path = path
        self.bytes = consumed
        self._keys = keys
        self._values = values
        self._offsets = offsets

    @property
    def keys(self) -> list[Any]:
        """One key a record."""
        assert self._keys is not None
        return self._keys

    @property
    def values(self) -> list[Any]:
        """One value a record."""
        assert self._values is not None
        return self._values

    @property
    def offsets(self) -> list[int]:
        """Where each record begins in its (decompressed) file, bytes."""
        return self.keys if self._offsets is None else self._offsets

    def as_read(self, index: int) -> tuple[Any, Any]:
        """One record's key and value as they were before user code had them."""
        keys, values = (self.keys, self.values) if self._again is None else self._again()
        return keys[index], values[index]

    @property
    def start(self) -> int:
        """Where the block begins in its file."""
        return int(self.offsets[0]) if self.offsets else 0

    @property
    def data_start(self) -> int:
        """Where `data` begins in its file."""
        return self.start

    @property
    def data(self) -> bytes:
        """The raw whole lines. Raises InternalError for a format that has no lines."""
        raise InternalError(f"{self.path}: map_block was given a format without lines")

    def __len__(self) -> int:
        return len(self.values)


class LineBlock(RecordBlock):
    """Whole lines. A line's key is its offset; CRLF and LF both end a line and belong to no value."""

    __slots__ = ("_data", "_encoding", "_lead", "_start")

    def __init__(
        self, piece: int, path: str, consumed: int, start: int, data: bytes, encoding: str | None
    ) -> None:
        super().__init__(piece, path, consumed)
        self._start = start
        self._encoding = encoding
        # A byte order mark belongs to the encoding, not to the first line. That line's key stays 0.
        self._lead = 3 if start == 0 and encoding == "utf-8" and data.startswith(_BOM) else 0
        self._data = data[self._lead :] if self._lead else data

    @property
    def data(self) -> bytes:
        return self._data

    @property
    def start(self) -> int:
        """Where the block begins in its file."""
        return self._start

    @property
    def data_start(self) -> int:
        """Where `data` begins: behind a byte order mark."""
        return self._start + self._lead

    @property
    def values(self) -> list[Any]:
        if self._values is None:
            self._values = self._split()
        return self._values

    @property
    def keys(self) -> list[Any]:
        if self._keys is None:
            lengths = map(len, self._data.split(b"\n"))
            self._keys = self._offsets_of(lengths)
        return self._keys

    def _split(self) -> list[Any]:
        data = self._data
        if not data:
            return []
        if data.find(b"\n", 0, -1) < 0:  # a single line: as few copies as can be, since it may be huge
            end = len(data)
            if data[-1:] == b"\n":
                end -= 2 if data[-2:] == b"\r\n" else 1
            if self._encoding is None:
                return [data[:end]]
            return [str(memoryview(data)[:end], self._encoding, "surrogateescape")]
        if b"\r" in data and b"\r\n" in data:  # one byte is found ten times as fast as two
            data = data.replace(b"\r\n", b"\n")
        encoding = self._encoding
        if encoding in _AT_ONCE:
            text = data.decode(encoding, "surrogateescape")
            lines = text.split("\n")
            if text[-1] == "\n":
                lines.pop()
            if self._keys is None and len(data) == len(self._data) == len(text) and text.isascii():
                # Nothing was replaced and characters are bytes: offsets without a second split.
                self._keys = self._offsets_of(map(len, lines), len(lines))
            return lines
        raw = data.split(b"\n")
        if data[-1:] == b"\n":
            raw.pop()
        if self._keys is None and len(data) == len(self._data):  # no end was replaced
            self._keys = self._offsets_of(map(len, raw), len(raw))
        if encoding is None:
            return raw
        # A multi-byte code could swallow a newline behind a broken lead byte; line by line it can't.
        return [line.decode(encoding, "surrogateescape") for line in raw]

    def _offsets_of(self, lengths: Any, count: int | None = None) -> list[int]:
        """Line i begins after the i lines before it and their newlines."""
        base = self._start + self._lead
        if count is None:
            count = self._data.count(b"\n") + (self._data[-1:] not in (b"\n", b""))
        keys = list(map(add, accumulate(lengths, initial=0), range(base, base + count)))
        if keys:
            keys[0] = self._start
        return keys


#: Encodings in which decoding a whole block splits it at the same newlines as its bytes.
_AT_ONCE: Final = frozenset({"utf-8", "ascii", "iso8859-1"})


class JsonBlock(LineBlock):
    """Lines that are parsed on demand; blank ones are no records."""

    __slots__ = ("_on_bad",)

    def __init__(
        self, piece: int, path: str, consumed: int, start: int, data: bytes, on_bad: OnBad | None
    ) -> None:
        super().__init__(piece, path, consumed, start, data, "utf-8")
        self._on_bad = on_bad

    @property
    def values(self) -> list[Any]:
        if self._values is None:
            self._parse()
        assert self._values is not None
        return self._values

    @property
    def keys(self) -> list[Any]:
        if self._values is None:
            self._parse()
        assert self._keys is not None
        return self._keys

    def as_read(self, index: int) -> tuple[Any, Any]:
        key = self.keys[index]
        begin = max(key - self._start - self._lead, 0)  # the first line's key leaves a byte order mark out
        end = self._data.find(b"\n", begin)
        line = self._data[begin : len(self._data) if end < 0 else end].decode("utf-8", "surrogateescape")
        return key, self._slow(key, line)

    def _parse(self) -> None:
        """Both columns in one pass, since a blank or bad line is in neither."""
        from json.decoder import JSONDecoder
        from json.scanner import make_scanner

        scan = make_scanner(JSONDecoder())  # type: ignore[arg-type]
        keys, values = [], []
        lines = self._split()
        offsets = self._offsets_of(map(len, self._data.split(b"\n")))
        for offset, line in zip(offsets, lines, strict=True):
            try:
                value, end = scan(line, 0)
            except (StopIteration, ValueError, RecursionError):
                end = -1
            if end != len(line):
                try:
                    value = self._slow(offset, line)
                except InputError as exc:
                    if self._on_bad is None:
                        raise
                    self._on_bad(self.path, offset, line.encode("utf-8", "surrogateescape"), exc)
                    continue
            if value is _BLANK:
                continue
            keys.append(offset)
            values.append(value)
        self._keys, self._values = keys, values

    def _slow(self, offset: int, line: str) -> Any:
        """The value of a line with blanks around it, or why it has none."""
        from mrq.io.render import loads

        try:
            return loads(line) if line.strip() else _BLANK
        except (ValueError, RecursionError) as exc:
            shown = line if len(line) <= 100 else line[:100] + "…"
            raise InputError(
                f"{named(self.path)}: the line at byte {offset} isn't JSON ({exc}): {shown!r}"
            ) from exc


_BLANK: Final = object()
