"""Input and output formats by name: the registry, and the readers of input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from mrq.core.model import Split
from mrq.errors import UsageError
from mrq.io.blocks import BLOCK_BYTES, JsonBlock, LineBlock, OnBad, RecordBlock
from mrq.io.lines import Tick, line_chunks, line_encoding
from mrq.io.output import OUTPUT_NAMES, OutputFormat, PartInfo, PartWriter, output_format, part_name
from mrq.io.streams import Reading, Source

__all__ = [
    "INPUT_NAMES",
    "OUTPUT_NAMES",
    "InputFormat",
    "LineBlock",
    "OnBad",
    "OutputFormat",
    "PartInfo",
    "PartWriter",
    "RecordBlock",
    "input_format",
    "output_format",
    "part_name",
]


class InputFormat(Protocol):
    """Reads the records of a split."""

    name: str
    splittable: bool  #: may its uncompressed files be cut
    lines: bool  #: do its blocks have `data`, so that map_block can be used

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
        ...


class Text:
    """Lines. Key: the line's byte offset in its (decompressed) file; value: the line without its end."""

    name = "text"
    splittable = True
    lines = True

    def read(
        self,
        split: Split,
        *,
        encoding: str | None = "utf-8",
        tick: Tick | None = None,
        on_bad: OnBad | None = None,
        reading: Reading | None = None,
    ) -> Iterator[RecordBlock]:
        known = None if encoding is None else line_encoding(encoding)
        for number, piece in enumerate(split.pieces):
            for consumed, start, data in line_chunks(piece, tick, reading):
                yield LineBlock(number, piece.path, consumed, start, data, known)


class Jsonl:
    """One JSON value a line, as RFC 8259 with UTF-8 and Python's NaN and Infinity; blank lines are skipped.
    Key: the line's byte offset; value: the parsed object."""

    name = "jsonl"
    splittable = True
    lines = True

    def read(
        self,
        split: Split,
        *,
        encoding: str | None = "utf-8",
        tick: Tick | None = None,
        on_bad: OnBad | None = None,
        reading: Reading | None = None,
    ) -> Iterator[RecordBlock]:
        for number, piece in enumerate(split.pieces):
            for consumed, start, data in line_chunks(piece, tick, reading):
                yield JsonBlock(number, piece.path, consumed, start, data, on_bad)


class Whole:
    """One record a file. Key: its path as spelled; value: its bytes, decompressed."""

    name = "whole"
    splittable = False
    lines = False

    def read(
        self,
        split: Split,
        *,
        encoding: str | None = "utf-8",
        tick: Tick | None = None,
        on_bad: OnBad | None = None,
        reading: Reading | None = None,
    ) -> Iterator[RecordBlock]:
        for number, piece in enumerate(split.pieces):
            parts = []
            with Source(piece, reading) as source:
                while True:
                    if tick is not None:
                        tick()
                    data = source.read(BLOCK_BYTES)
                    if not data:
                        break
                    parts.append(data)
            value = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            yield RecordBlock(number, piece.path, piece.length, [piece.path], [value], [0])


class Records:
    """What the `records` output format wrote: typed keys and values, exactly as they were."""

    name = "records"
    splittable = True
    lines = False

    def read(
        self,
        split: Split,
        *,
        encoding: str | None = "utf-8",
        tick: Tick | None = None,
        on_bad: OnBad | None = None,
        reading: Reading | None = None,
    ) -> Iterator[RecordBlock]:
        from mrq.io.records import read_piece

        for number, piece in enumerate(split.pieces):
            for consumed, block in read_piece(piece, tick, reading):
                keys, values = block.columns()
                offsets = [block.offset] * len(keys)
                yield RecordBlock(number, piece.path, consumed, keys, values, offsets, again=block.columns)


_FORMATS: Final[dict[str, Callable[[], InputFormat]]] = {
    "text": Text,
    "jsonl": Jsonl,
    "whole": Whole,
    "records": Records,
}
INPUT_NAMES: Final = tuple(_FORMATS)


def input_format(name: str) -> InputFormat:
    """The format of that name. Raises UsageError."""
    made = _FORMATS.get(name)
    if made is None:
        raise UsageError(f"unknown input format {name!r}; there are {', '.join(INPUT_NAMES)}")
    return made()
