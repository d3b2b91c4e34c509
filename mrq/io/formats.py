"""Input formats by name: how the records of a split are read. Output formats are in `io.output`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from mrq.core.model import Split
from mrq.errors import UsageError
from mrq.io.blocks import BLOCK_BYTES, JsonBlock, LineBlock, OnBad, RecordBlock
from mrq.io.lines import Tick, line_chunks, line_encoding
from mrq.io.streams import ByteSource, Reading


class _How(NamedTuple):
    """How a split is read: what `InputFormat.read` was given."""

    encoding: str | None
    tick: Tick | None
    on_bad: OnBad | None
    reading: Reading | None


@dataclass(frozen=True, slots=True)
class InputFormat:
    """One way of reading the records of a split."""

    name: str
    splittable: bool  #: may its uncompressed files be cut
    lines: bool  #: do its blocks have `data`, so that map_block can be used
    blocks: Callable[[Split, _How], Iterator[RecordBlock]]  #: reads them

    def read(
        self,
        split: Split,
        *,
        encoding: str | None = "utf-8",
        tick: Tick | None = None,
        on_bad: OnBad | None = None,
        reading: Reading | None = None,
    ) -> Iterator[RecordBlock]:
        """Blocks in input order. `tick` is called before every read, as a sign of life. `reading` has `lines`
        as the format has.

        Raises InputError for a file that is gone, changed, damaged, or isn't of this format.
        """
        return self.blocks(split, _How(encoding, tick, on_bad, reading))


def _text(split: Split, how: _How) -> Iterator[RecordBlock]:
    """Lines. Key: the line's byte offset in its (decompressed) file; value: the line without its end."""
    known = None if how.encoding is None else line_encoding(how.encoding)
    for number, piece in enumerate(split.pieces):
        for consumed, start, data in line_chunks(piece, how.tick, how.reading):
            yield LineBlock(number, piece.path, consumed, start, data, known)


def _jsonl(split: Split, how: _How) -> Iterator[RecordBlock]:
    """One JSON value a line, as RFC 8259 with UTF-8 and Python's NaN and Infinity; blank lines are skipped.
    Key: the line's byte offset; value: the parsed object."""
    for number, piece in enumerate(split.pieces):
        for consumed, start, data in line_chunks(piece, how.tick, how.reading):
            yield JsonBlock(number, piece.path, consumed, start, data, how.on_bad)


def _whole(split: Split, how: _How) -> Iterator[RecordBlock]:
    """One record a file. Key: its path as spelled; value: its bytes, decompressed."""
    for number, piece in enumerate(split.pieces):
        parts = []
        with ByteSource(piece, how.reading) as source:
            while True:
                if how.tick is not None:
                    how.tick()
                data = source.read(BLOCK_BYTES)
                if not data:
                    break
                parts.append(data)
        value = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        yield RecordBlock(number, piece.path, piece.length, [piece.path], [value], [0])


def _records(split: Split, how: _How) -> Iterator[RecordBlock]:
    """What the `records` output format wrote: typed keys and values, exactly as they were."""
    from mrq.io.records import read_piece

    for number, piece in enumerate(split.pieces):
        for consumed, block in read_piece(piece, how.tick, how.reading):
            keys, values = block.columns()
            offsets = [block.offset] * len(keys)
            yield RecordBlock(number, piece.path, consumed, keys, values, offsets, again=block.columns)


_FORMATS: Final = {
    "text": InputFormat("text", splittable=True, lines=True, blocks=_text),
    "jsonl": InputFormat("jsonl", splittable=True, lines=True, blocks=_jsonl),
    "whole": InputFormat("whole", splittable=False, lines=False, blocks=_whole),
    "records": InputFormat("records", splittable=True, lines=False, blocks=_records),
}


def input_format(name: str) -> InputFormat:
    """The format of that name. Raises UsageError."""
    found = _FORMATS.get(name)
    if found is None:
        raise UsageError(f"unknown input format {name!r}; there are {', '.join(_FORMATS)}")
    return found
