"""Whole lines of a piece of a file, each line exactly once whatever the cuts.

A line belongs to the piece in which its first byte lies: a reader that doesn't begin at byte 0 looks at
the byte before its start and skips to the next line, and one whose last line reaches beyond its end
reads on to finish it.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Final

from mrq.codec.encodings import newline_is_a_byte
from mrq.core.model import Piece
from mrq.errors import InputError, UsageError
from mrq.io.blocks import BLOCK_BYTES
from mrq.io.streams import ByteSource, Reading

Tick = Callable[[], None]
_END: Final = 1 << 62


def line_encoding(name: str) -> str:
    """The codec's canonical name, if lines can be told apart before decoding. Raises InputError."""
    try:
        found = codecs.lookup(name).name
    except LookupError as exc:
        raise UsageError(f"unknown encoding {name!r}; Python's names are meant, as 'latin-1'") from exc
    if found == "utf-8-sig":
        return "utf-8"
    if not newline_is_a_byte(found):
        raise InputError(
            f"text in {name} can't be read by lines, since a newline isn't the single byte 10 there; "
            'convert the files (iconv -t UTF-8), or read them with `input_format="whole"` and decode in map'
        )
    return found


def line_chunks(
    piece: Piece, tick: Tick | None = None, reading: Reading | None = None
) -> Iterator[tuple[int, int, bytes]]:
    """(input bytes it stands for, offset, whole lines), about BLOCK_BYTES each; a longer line comes alone."""
    if piece.length == 0:
        ByteSource(piece).close()  # an empty file is opened too: it may have grown
        return
    with ByteSource(piece, reading) as source:
        if source.compression is not None:
            left = piece.length
            for start, data in _chunks(source.read, 0, _END, _END, tick):
                took = min(source.taken(), left)
                left -= took
                yield took, start, data
            return
        source.refuse_other_lines()
        end = piece.start + piece.length
        # A line that begins exactly at the start is ours: the byte before it, a newline, tells.
        at = max(piece.start - 1, 0)
        if at:
            source.seek(at)
        reported = piece.start
        if piece.start == 0:
            chunks = _chunks(source.read, 0, end, piece.size, tick)
        else:
            skipped = _skip_line(source.read, at, end, tick)
            if skipped is None:
                return
            chunks = _chunks(source.read, skipped[0], end, piece.size, tick, skipped[1])
        for start, data in chunks:
            upto = min(start + len(data), end)
            yield upto - reported, start, data
            reported = upto
        source.refuse_other_lines()


def whole_lines(source: ByteSource, size: int) -> int:
    """Where the last line that has its end before byte `size` ends: how many bytes whole lines are."""
    at = size
    while at > 0:
        start = max(0, at - BLOCK_BYTES)
        source.seek(start)
        found = source.read(at - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        at = start
    return 0


def _skip_line(
    read: Callable[[int], bytes], at: int, end: int, tick: Tick | None
) -> tuple[int, bytes] | None:
    """(offset after the first newline, bytes read beyond it), or None when no line begins before `end`."""
    while at < end:
        if tick is not None:
            tick()
        data = read(min(BLOCK_BYTES, end - at))
        if not data:
            return None
        found = data.find(b"\n")
        if found >= 0:
            first = at + found + 1
            return None if first >= end else (first, data[found + 1 :])
        at += len(data)
    return None


def _chunks(
    read: Callable[[int], bytes], at: int, end: int, size: int, tick: Tick | None, rest: bytes = b""
) -> Iterator[tuple[int, bytes]]:
    """(offset, whole lines) that begin at or after `at` and before `end`.

    `size` is where the data ends for sure; `rest` what was read already, from `at` on, not beyond `end`.
    """
    start = at  # of what hasn't been given yet
    held = b""  # bytes from start to at, without a newline; or, once they are more than a block:
    long: BytesIO | None = None
    while True:
        if tick is not None:
            tick()
        inside = end - at
        if rest:
            data, rest, wanted = rest, b"", 0
        else:
            # Up to the end in blocks; beyond it only to finish the last line, so in smaller steps.
            wanted = min(BLOCK_BYTES, inside) if inside > 0 else BLOCK_BYTES >> 4
            data = read(wanted)
        at += len(data)
        if not data:
            if long is not None or held:
                yield start, held if long is None else long.getvalue()
            return
        if long is not None and (first := data.find(b"\n") + 1):
            # A line longer than a block comes alone, so that nothing is copied once more to split it.
            cut, rest = first, data[first:]
            at -= len(rest)
            data = data[:first]
        elif at >= size or len(data) < wanted:  # the end: no newline will follow
            cut = len(data) if inside > 0 else (data.find(b"\n") + 1 or len(data))
        else:
            cut = (data.rfind(b"\n") if inside > 0 else data.find(b"\n")) + 1
        if cut == 0:
            if long is None:
                # It grows in place and is handed out as it is: a huge line is in memory once.
                long = BytesIO()
                long.write(held)
                held = b""
            long.write(data)
            continue
        whole = data if cut == len(data) else data[:cut]
        if long is not None:
            long.write(whole)
            whole, long = long.getvalue(), None
        elif held:
            whole = held + whole
        held = data[cut:]
        begin, start = start, start + len(whole)
        yield begin, whole
        del whole
        if start >= end:
            return
