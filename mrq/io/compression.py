"""Compressed streams, by the suffix of a file: gz, bz2, xz and zst, read and written.

Members that follow one another in a file (as `cat a.gz b.gz` makes them) are read as one. What ends
before its compressed stream does is an error, never a short file. What is written depends on the data
only: no time, no file name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from mrq.errors import InputError, UsageError

SUFFIXES: Final = {".gz": "gz", ".bz2": "bz2", ".xz": "xz", ".zst": "zst"}
#: Compressed bytes looked at in one step. Small, so that what they may grow to stays bounded.
_STEP: Final = 32 << 10


def compression_of(path: str) -> str | None:
    """ "gz" for `a/b.txt.gz`, None for what isn't compressed."""
    dot = path.rfind(".")
    return None if dot < 0 else SUFFIXES.get(path[dot:].lower())


class Codec(NamedTuple):
    """What a library has for one compression; it is imported when this is asked for."""

    compressor: Callable[[], Any]  #: makes a fresh one, with `compress` and `flush`
    decoder: Callable[[], Any]  #: makes one in the shape of bz2's and lzma's
    errors: tuple[type[Exception], ...]  #: what a decoder raises for damaged data


def codec(name: str) -> Codec:
    """Raises UsageError for an unknown name or a missing package."""
    if name == "gz":
        import zlib

        return Codec(lambda: zlib.compressobj(6, zlib.DEFLATED, 31), _Gz, (zlib.error,))
    if name == "bz2":
        import bz2

        return Codec(lambda: bz2.BZ2Compressor(9), bz2.BZ2Decompressor, (OSError, ValueError))
    if name == "xz":
        import lzma

        return Codec(lambda: lzma.LZMACompressor(preset=6), lzma.LZMADecompressor, (lzma.LZMAError,))
    if name != "zst":
        raise UsageError(f"unknown compression {name!r}; there are {', '.join(SUFFIXES.values())}")
    try:
        import zstandard
    except ImportError as exc:
        raise UsageError(".zst files need the zstandard package: pip install 'mrq-mapreduce[zstd]'") from exc
    return Codec(lambda: zstandard.ZstdCompressor(level=3).compressobj(), _Zst, (zstandard.ZstdError,))


class Decompressing:
    """Reads a compressed stream: `read(n)` gives up to n bytes, b"" at the end.

    `raw(n)` reads the compressed bytes; `path` is for messages. Raises InputError for a truncated or
    damaged stream.
    """

    def __init__(self, name: str, raw: Callable[[int], bytes], path: str) -> None:
        self._name = name
        self._raw = raw
        self._path = path
        self._input = b""
        self._engine: Any = None
        self._codec = codec(name)
        self._ended = False
        self._members = 0
        self._out = b""
        self._at = 0

    def read(self, n: int) -> bytes:
        """Up to `n` bytes; less only when the decoder gave less, b"" only at the end."""
        while self._at >= len(self._out):
            if self._ended:
                return b""
            self._out, self._at = self._more(n), 0
        if self._at == 0 and len(self._out) <= n:
            found, self._out = self._out, b""
            return found
        found = self._out[self._at : self._at + n]
        self._at += len(found)
        return found

    def _more(self, n: int) -> bytes:
        """What one step of the decoder gives; sets `_ended` at the end of the last member."""
        if self._engine is None and not self._next_member():
            return b""
        data = b""
        if self._engine.needs_input:
            data = self._input or self._raw(_STEP)
            self._input = b""
            if not data:
                raise InputError(
                    f"{self._path}: the {self._name} file ends before its data does (truncated); "
                    "copy or download it again"
                )
        try:
            found: bytes = self._engine.decompress(data, n)
        except self._codec.errors as exc:
            why = ""
            if self._members > 1:
                why = f"; what follows the end of its {self._name} data is damaged, or doesn't belong to it"
            # Hardly any compressed data begins without a control character.
            elif data and not any(byte < 32 and byte not in b"\t\n\v\f\r\x1b" for byte in data[:64]):
                why = f"; if it is plain text, rename it without .{self._name}"
            raise InputError(
                f"{self._path}: not a whole {self._name} file, or a damaged one: {exc}{why}"
            ) from exc
        if self._engine.eof:
            self._input = self._engine.unused_data
            self._engine = None
        return found

    def _next_member(self) -> bool:
        """Begin the next member, or find that there is none."""
        while True:
            if not self._input:
                self._input = self._raw(_STEP)
            if not self._input:
                if self._members == 0:
                    raise InputError(
                        f"{self._path}: an empty file isn't a {self._name} file; remove or rename it"
                    )
                self._ended = True
                return False
            if self._members == 0 or self._name == "zst":
                break
            # Zeros after the last member are padding (tapes, block devices), not data.
            self._input = self._input.lstrip(b"\0")
            if self._input:
                break
        self._members += 1
        self._engine = self._codec.decoder()
        return True


class _Gz:
    """zlib's decoder in the shape of bz2's and lzma's."""

    def __init__(self) -> None:
        import zlib

        self._zlib = zlib.decompressobj(31)
        self.needs_input = True

    def decompress(self, data: bytes, n: int) -> bytes:
        found = self._zlib.decompress(self._zlib.unconsumed_tail + data, n)
        # A full answer may have more behind it even when no input is left over.
        self.needs_input = not self._zlib.unconsumed_tail and len(found) < n
        return found

    def __getattr__(self, name: str) -> Any:
        """`eof` and `unused_data` are zlib's own."""
        return getattr(self._zlib, name)


class _Zst:
    """zstandard's decoder in the shape of bz2's and lzma's; it knows no limit of one step's output."""

    needs_input = True

    def __init__(self) -> None:
        import zstandard

        self._zst = zstandard.ZstdDecompressor().decompressobj()

    def decompress(self, data: bytes, n: int) -> bytes:
        found: bytes = self._zst.decompress(data)
        return found

    def __getattr__(self, name: str) -> Any:
        """`eof` and `unused_data` are zstandard's own."""
        return getattr(self._zst, name)
