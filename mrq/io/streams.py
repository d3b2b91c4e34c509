"""Opens one piece of input for reading: local or by URL, plain or compressed, as text only if it is.

`Source.read(n)` gives exactly n bytes unless the end comes first, so that what is made of a file
never depends on how the system chose to cut its answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from mrq.codec.checksum import crc32
from mrq.core.model import Piece
from mrq.core.paths import is_url, named
from mrq.errors import InputError
from mrq.io.compression import Decompressing, compression_of

if TYPE_CHECKING:
    from mrq.io.content import Content

#: Compressed data in compressed data, and so on: deeper is no honest file (some never end).
_NESTED_MAX: Final = 4
#: Bytes from the beginning, and from the end, that tell what a file is; a tar says so at byte 257.
HEAD_BYTES: Final = 512
TAIL_BYTES: Final = 16
#: Bytes of whole lines by which a file that is still written is known again.
LAST_BYTES: Final = 4 << 10
#: Bytes of a step where bytes are only summed up.
_STEP: Final = 1 << 20

#: Gives up to so many bytes; b"" only at the end.
Read = Callable[[int], bytes]
#: Schemes of URLs -> the package that serves them.
_DRIVERS: Final = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs",
    "abfss": "adlfs", "http": "aiohttp", "https": "aiohttp", "hdfs": "pyarrow", "ssh": "paramiko",
    "sftp": "paramiko", "smb": "smbprotocol", "github": "requests", "gdrive": "gdrivefs",
}  # fmt: skip


def filesystem(url: str) -> tuple[Any, str]:
    """(fsspec file system, path on it) of a URL. Raises InputError naming the package to install."""
    try:
        import fsspec
    except ImportError as exc:
        raise InputError(f"{url}: URLs need the fsspec package: pip install 'mrq-mapreduce[fsspec]'") from exc
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except ImportError as exc:
        package = _DRIVERS.get(url.partition("://")[0].lower())
        how = f"pip install {package}" if package else "install the package that serves this scheme"
        raise InputError(f"{url}: {exc}; {how}") from exc
    except ValueError as exc:
        raise InputError(f"{url}: {exc}") from exc
    return fs, path


class PieceSum:
    """The crc32 of a piece's own bytes, as they are read: of what is read around it nothing counts."""

    __slots__ = ("at", "crc32", "end")

    def __init__(self, piece: Piece) -> None:
        self.at = piece.start  #: what is before it is summed up
        self.end = piece.start + piece.length
        self.crc32 = 0

    def add(self, offset: int, data: bytes) -> None:
        """What was read at an offset of the file; what doesn't go on where the sum stands doesn't count."""
        skip = self.at - offset
        if 0 <= skip < len(data) and self.at < self.end:
            own = data if not skip and len(data) <= self.end - self.at else data[skip : self.end - offset]
            self.crc32 = crc32(own, self.crc32)
            self.at += len(own)


class Reading:
    """How a split's pieces are read: what is looked at before bytes are believed, and what is summed up."""

    def __init__(self, *, lines: bool = False, marks: bool = True, encodings: bool = True) -> None:
        self.lines = lines  #: the format takes text: what is none is refused, or decompressed
        self.encodings = encodings  #: an encoding may be named for it
        self.marks = marks  #: byte order marks count: no encoding was named
        self._sums: dict[tuple[str, int], PieceSum] = {}

    def begin(self, piece: Piece) -> PieceSum | None:
        """The sum of a piece that is opened, if it is to be checked."""
        if piece.crc32 is None:
            return None
        made = self._sums[piece.open, piece.start] = PieceSum(piece)
        return made

    def crcs(self, pieces: Iterable[Piece]) -> tuple[int, ...]:
        """Of each piece that is to be checked, in order; what wasn't read of it yet is read now.

        Raises InputError."""
        found = []
        for piece in pieces:
            if piece.crc32 is None:
                continue
            made = self._sums.get((piece.open, piece.start))
            if made is None or made.at < made.end:
                with ByteSource(piece) as source:
                    made = source.sum_up(made or PieceSum(piece))
            found.append(made.crc32)
        return tuple(found)


class ByteSource:
    """The bytes of one file, decompressed, from an offset on. Use as a context manager.

    Where lines of text are wanted, what a file is, is told by its beginning, before its suffix.
    """

    def __init__(self, piece: Piece, reading: Reading | None = None) -> None:
        self.path = named(piece.path)
        self._piece = piece
        self.compression = compression_of(piece.path if piece.path != "-" else piece.open)
        self._fd = -1
        self._file: Any = None
        self._taken = 0  # raw bytes read
        self._at = 0  # where raw bytes are read next
        self._sum = reading.begin(piece) if reading is not None else None
        self._read: Read = self._raw
        try:
            self._open(piece)
            if reading is not None and reading.lines and piece.start == 0:
                self._look(piece.size, reading)
            elif self.compression is not None:
                self._read = Decompressing(self.compression, self._raw, self.path).read
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
                    raise _changed(self.path, f"{piece.size} bytes then, {size} now")
                return
            self._fd = os.open(piece.open, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise InputError(f"{self.path}: can't be read: {exc.strerror or exc}") from exc
        self._refuse_changed()

    def _refuse_changed(self) -> None:
        """Raise InputError where the file isn't what was planned."""
        try:
            stat = os.fstat(self._fd)
        except OSError as exc:
            raise InputError(f"{self.path}: can't be read: {exc.strerror or exc}") from exc
        changed = difference(self._piece, stat)
        if changed:
            raise _changed(self.path, changed)

    def refuse_other_lines(self) -> None:
        """Raise InputError where what may still grow was cut and written anew, and is as long again: its last
        lines are others. That it is shorter is said elsewhere."""
        size, was = self._piece.size, self._piece.last_lines
        tail = self._end(size, LAST_BYTES) if self._piece.inode else b""
        if tail and len(tail) == min(size, LAST_BYTES):
            how = ""
            if not tail.endswith(b"\n"):
                how = f"no line ends at byte {size} now"
            elif was is not None and crc32(tail) != was:
                how = f"there are other lines before byte {size} now"
            if how:
                raise _changed(self.path, f"{how}: it was cut and written anew")

    def last_lines(self, size: int) -> int:
        """The checksum by which `refuse_other_lines` knows the lines that end at byte `size` again."""
        return crc32(self._end(size, LAST_BYTES))

    def _look(self, size: int, reading: Reading) -> None:
        """Read as what it is. Raises InputError for what isn't text."""
        from mrq.io import content  # here, for what plans a job mostly opens nothing

        named, self.compression = self.compression, None
        head = self._beginning()
        found = content.look(head, reading.marks)
        if found is None and named is not None:  # cut or damaged: the decoder says how
            found = content.Content(f"{named} data", compression=named)
        for _ in range(_NESTED_MAX):
            if found is None or found.compression is None:
                break
            self._read = Decompressing(found.compression, self._read, self.path).read
            self.compression = found.compression
            head = self._beginning()
            found = content.look(head, reading.marks)
        if found is None:
            return
        if found.compression is not None:
            raise InputError(
                f"{self.path}: compressed data in compressed data, more than {_NESTED_MAX} times; "
                "decompress it first"
            )
        if found.ends is None:
            raise InputError(found.refusal(self._piece.path, self.compression, reading.encodings))
        if self.compression is not None:
            self._read = _up_to_its_end(self._read, found, self._piece.path, self.compression)
        elif found.ends(self._end(size)):
            raise InputError(found.refusal(self._piece.path))

    def _beginning(self) -> bytes:
        """The first bytes, which are still to be read."""
        if self._fd >= 0 and self.compression is None:
            try:
                return os.pread(self._fd, HEAD_BYTES, 0)
            except OSError as exc:
                raise InputError(f"{self.path}: reading failed: {exc.strerror or exc}") from exc
        head = self.read(HEAD_BYTES)
        looked_at, rest = BytesIO(head), self._read
        self._read = lambda n: looked_at.read(n) or rest(n)
        return head

    def _end(self, size: int, count: int = TAIL_BYTES) -> bytes:
        """The last bytes, at most so many, of an uncompressed file, of which only the beginning was read."""
        at = max(0, size - count)
        try:
            if self._file is None:
                return os.pread(self._fd, size - at, at)
            before = self._file.tell()
            self._file.seek(at)
            tail: bytes = self._file.read(size - at)
            self._file.seek(before)
        except OSError as exc:
            raise InputError(f"{self.path}: reading failed: {exc.strerror or exc}") from exc
        return tail

    def _raw(self, n: int) -> bytes:
        try:
            data: bytes = os.read(self._fd, n) if self._file is None else self._file.read(n)
        except OSError as exc:
            raise InputError(f"{self.path}: reading failed: {exc.strerror or exc}") from exc
        if not data and n > 0 and self._at < self._piece.size:
            if self._fd >= 0:
                self._refuse_changed()  # which says more
            raise InputError(
                f"{self.path}: ends at byte {self._at:,}, before {self._piece.size:,}; run the job again"
            )
        self._taken += len(data)
        if self._sum is not None:
            self._sum.add(self._at, data)
        self._at += len(data)
        return data

    def seek(self, offset: int) -> None:
        """Go to a byte of an uncompressed file."""
        self._at = offset
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

    def skip_to(self, offset: int) -> None:
        """Go to a byte; what is passed over is summed up, where the piece is to be checked."""
        made = self._sum
        if made is not None and made.at < min(offset, made.end):
            self.sum_up(made, offset)
        self.seek(offset)

    def sum_up(self, made: PieceSum, offset: int | None = None) -> PieceSum:
        """Read what a sum lacks up to an offset, or its end, as it lies on the disk. Raises InputError."""
        upto = made.end if offset is None else min(offset, made.end)
        self.seek(made.at)
        while made.at < upto:
            at = self._at
            data = self._raw(min(_STEP, upto - at))
            if made is not self._sum:
                made.add(at, data)
        return made

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

    def __enter__(self) -> ByteSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """What changed while it was read is refused as what had changed before: a file that is cut then ends
        early, and nothing else would tell."""
        try:
            if kind is None and self._fd >= 0:
                self._refuse_changed()
        finally:
            self.close()


def _up_to_its_end(read: Read, begun: Content, path: str, compression: str) -> Read:
    """Passes on what begins as something else than text, and raises InputError if it also ends so."""
    tail = b""

    def reading(n: int) -> bytes:
        nonlocal tail
        data = read(n)
        if data:
            tail = (tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]
        elif begun.ends is not None and begun.ends(tail):
            raise InputError(begun.refusal(path, compression))
        return data

    return reading


def _changed(path: str, how: str) -> InputError:
    return InputError(f"{path}: changed since the job was planned ({how}); run the job again")


def difference(piece: Piece, stat: os.stat_result) -> str:
    """How a file of this machine differs from what was planned; "" where it may be read."""
    then, now = piece.size + piece.unended, stat.st_size
    if piece.inode:
        if stat.st_ino != piece.inode:
            return "it is another file: it was replaced or rotated"
        return f"{then} bytes then, {now} now: it was cut" if now < then else ""
    if now > then and compression_of(piece.path) is None:
        return f"{then} bytes then, {now} now; `as_of_now=True` reads text that is still written"
    if now != then:
        return f"{then} bytes then, {now} now"
    if piece.crc32 is not None:  # it may be copied again: its bytes are checked, whatever its time
        return ""
    return "same size, other time" if piece.mtime_ns and stat.st_mtime_ns != piece.mtime_ns else ""
