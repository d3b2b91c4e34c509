"""Opens one piece of input for reading: local or by URL, plain or compressed.

`Source.read(n)` gives exactly n bytes unless the end comes first, so that what is made of a file
never depends on how the system chose to cut its answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from mrq.core.model import Piece
from mrq.errors import InputError
from mrq.io.compression import Decompressing, compression_of


def is_url(path: str) -> bool:
    """Does fsspec have to open it? `s3://bucket/key` yes, `/data/a`, `C:/x` and `a://` no."""
    scheme, found, rest = path.partition("://")
    return bool(found and rest) and scheme.isascii() and scheme.replace("+", "").replace("-", "").isalnum()


def filesystem(url: str) -> tuple[Any, str]:
    """(fsspec file system, path on it) of a URL. Raises InputError naming the package to install."""
    try:
        import fsspec
    except ImportError as exc:
        raise InputError(f"{url}: URLs need the fsspec package: pip install 'mrq-mapreduce[fsspec]'") from exc
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except ImportError as exc:
        raise InputError(f"{url}: {exc}; {_driver(url)}") from exc
    except ValueError as exc:
        raise InputError(f"{url}: {exc}") from exc
    return fs, path


def _driver(url: str) -> str:
    package = {
        "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs",
        "abfss": "adlfs", "http": "aiohttp", "https": "aiohttp", "hdfs": "pyarrow", "ssh": "paramiko",
        "sftp": "paramiko", "smb": "smbprotocol", "github": "requests", "gdrive": "gdrivefs",
    }.get(url.partition("://")[0].lower())  # fmt: skip
    return f"pip install {package}" if package else "install the package that serves this scheme"


class Source:
    """The bytes of one file, decompressed, from an offset on. Use as a context manager."""

    def __init__(self, piece: Piece) -> None:
        self.path = piece.path
        self.compression = compression_of(piece.path if piece.path != "-" else piece.open)
        self._fd = -1
        self._file: Any = None
        self._taken = 0  # raw bytes read
        self._open(piece)
        self._read: Callable[[int], bytes] = self._raw
        if self.compression is not None:
            try:
                self._read = Decompressing(self.compression, self._raw, piece.path).read
            except BaseException:
                self.close()
                raise

    def _open(self, piece: Piece) -> None:
        try:
            if is_url(piece.open):
                fs, path = filesystem(piece.open)
                self._file = fs.open(path, "rb")
                size = getattr(self._file, "size", None)
                if size is not None and size != piece.size:
                    raise InputError(_changed(piece, size))
                return
            self._fd = os.open(piece.open, os.O_RDONLY | os.O_CLOEXEC)
            stat = os.fstat(self._fd)
        except OSError as exc:
            raise InputError(f"{piece.path}: can't be read: {exc.strerror or exc}") from exc
        if stat.st_size != piece.size or (piece.mtime_ns and stat.st_mtime_ns != piece.mtime_ns):
            self.close()
            raise InputError(_changed(piece, stat.st_size))

    def _raw(self, n: int) -> bytes:
        try:
            data: bytes = os.read(self._fd, n) if self._file is None else self._file.read(n)
        except OSError as exc:
            raise InputError(f"{self.path}: reading failed: {exc.strerror or exc}") from exc
        self._taken += len(data)
        return data

    def seek(self, offset: int) -> None:
        """Go to a byte of an uncompressed file."""
        if self._file is None:
            os.lseek(self._fd, offset, os.SEEK_SET)
        else:
            self._file.seek(offset)

    def read(self, n: int) -> bytes:
        """The next n bytes, fewer only at the end."""
        data = self._read(n)
        if len(data) == n or not data:
            return data
        parts = [data]
        left = n - len(data)
        while left and (data := self._read(left)):
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def taken(self) -> int:
        """Raw bytes read since the last call: progress through a compressed file."""
        taken, self._taken = self._taken, 0
        return taken

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _changed(piece: Piece, size: int) -> str:
    if size != piece.size:
        return (
            f"{piece.path}: changed since the job was planned ({piece.size} bytes then, {size} now); "
            "run the job again"
        )
    return f"{piece.path}: changed since the job was planned (same size, other time); run the job again"
