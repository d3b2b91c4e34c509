"""What a file is, by its first bytes: text, or something that would be nonsense line by line.

Compressed data is read as what it is, whatever its name; the rest is refused by name, with the command that
makes text of it. A beginning decides by itself only where honest text can't have it: where it may (PAR1, ORC,
FEA1), the file must also end as that format does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from mrq.core.paths import named


class Content(NamedTuple):
    """One kind of data that isn't lines of text."""

    what: str  #: "a Parquet file"
    mend: str = ""  #: the command that makes text of it: `FILE` is its path, `NEW` what is made
    compression: str | None = None  #: it is read as that
    is_marked: bool = False  #: only a byte order mark says it, which an encoding that is named rules out
    ends: Callable[[bytes], bool] | None = None  #: whether it also ends so; None: its beginning is enough

    def refusal(self, path: str, inside: str | None = None, encodings: bool = True) -> str:
        """The sentence for people; `inside` is the compression that it was found in, `encodings` whether one
        may be named."""
        import shlex

        if self.mend.startswith("`"):
            how = f"give {self.mend}"
        else:
            remote = path == "-" or "://" in path
            name = "FILE" if remote or inside else shlex.quote(path)
            first = "save it as a file, then " if remote else ""
            if inside:
                first = f"{first}decompress it, then "
            how = f"{first}{self.mend.replace('FILE', name)}"
        what = f"{self.what} in {inside}" if inside else self.what
        also = ' (or name an encoding, such as `encoding="latin-1"`, to take its bytes as they are)'
        how += also if self.is_marked and encodings else ""
        return f"{named(path)}: this is {what}, not lines of text: {how}"


def look(head: bytes, marks: bool = True) -> Content | None:
    """What begins with `head`, its first `streams.HEAD_BYTES` (or all there are); None for text.

    Where the answer has `ends`, it counts only if that is true of the last `streams.TAIL_BYTES`.
    Without `marks` byte order marks aren't looked at.
    """
    if head.startswith(_BEGINNINGS):
        for magic, found in _TABLE:
            if head.startswith(magic) and (marks or not found.is_marked) and _fits(magic, head):
                return found
    if head[257:262] == b"ustar" and head[262:263] in (b"\0", b" ") and b"\0" in head[:100]:
        return _TAR
    return None


def _fits(magic: bytes, head: bytes) -> bool:
    """What a magic of few bytes must be followed by."""
    if magic == b"BZh":  # a level, then the mark of a block or of the end
        return head[3:4] in b"123456789" and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90")
    if magic == b"MRQR":  # a version, then zeros
        return head[5:8] == b"\0\0\0"
    if magic == b"\xff\xff\xff\xff":  # the length of a schema, padded to 8
        length = int.from_bytes(head[4:8], "little")
        return len(head) > 8 and 0 < length < 1 << 24 and length % 8 == 0
    return True


def _footer(*magics: bytes) -> Callable[[bytes], bool]:
    """Before the magic is the length of a footer: as text, those four would be half a gigabyte or more."""
    return lambda tail: tail[-4:] in magics and int.from_bytes(tail[-8:-4], "little") < 0x09000000


def _csv(of: str, table: str) -> str:
    """The command that makes CSV of a file that pyarrow reads."""
    code = f"import sys, pyarrow.csv as c, pyarrow.{of} as f; c.write_csv({table}, sys.argv[2])"
    return f"convert it: python3 -c '{code}' FILE NEW.csv"


_ARROW: Final = _csv("feather", "f.read_table(sys.argv[1])")
_UTF16, _UTF32 = (
    Content(
        f"{name} text with a byte order mark",
        f"convert it: iconv -f {name} -t UTF-8 FILE > NEW",
        is_marked=True,
    )
    for name in ("UTF-16", "UTF-32")
)
_AVRO: Final = 'convert it: pip install fastavro; fastavro FILE > NEW.jsonl (for `input_format="jsonl"`)'
_NUMPY: Final = (
    "export it: python3 -c 'import sys, numpy; numpy.savetxt(sys.argv[2], numpy.load(sys.argv[1]))' FILE NEW"
)
_TAR: Final = Content("a tar archive", "unpack it: tar -xOf FILE > NEW")
_ZIP: Final = Content("a zip archive", "unpack it: unzip -p FILE > NEW")
_PARQUET: Final = Content(
    "a Parquet file", _csv("parquet", "f.read_table(sys.argv[1])"), ends=_footer(b"PAR1", b"PARE")
)
_ORC: Final = Content(
    "an ORC file",
    _csv("orc", "f.read_table(sys.argv[1])"),
    # A postscript: protobuf's field 8000, a string of 3 bytes, then the postscript's own length.
    ends=lambda tail: tail[-8:-1] == b"\x82\xf4\x03\x03ORC",
)
_ZST: Final = Content("zst data", compression="zst")

#: (first bytes, what they say); of two that fit, the first.
_TABLE: Final[tuple[tuple[bytes, Content], ...]] = (
    (b"\x1f\x8b\x08", Content("gz data", compression="gz")),
    (b"BZh", Content("bz2 data", compression="bz2")),
    (b"\xfd7zXZ\0", Content("xz data", compression="xz")),
    (b"\x28\xb5\x2f\xfd", _ZST),
    *((bytes([0x50 + n]) + b"\x2a\x4d\x18", _ZST) for n in range(16)),  # a frame to be skipped comes first
    (b"\xff\xfe\0\0", _UTF32),
    (b"\0\0\xfe\xff", _UTF32),
    (b"\xff\xfe", _UTF16),
    (b"\xfe\xff", _UTF16),
    (b"MRQR", Content("a file of mrq's records", '`input_format="records"`')),
    (b"PAR1", _PARQUET),
    (b"PARE", _PARQUET),
    (b"ARROW1\0\0", Content("an Arrow file", _ARROW)),
    (b"FEA1", Content("a Feather file", _ARROW, ends=_footer(b"FEA1"))),
    (
        b"\xff\xff\xff\xff",
        Content("an Arrow stream", _csv("ipc", 'f.open_stream(open(sys.argv[1], "rb")).read_all()')),
    ),
    (b"ORC", _ORC),
    (b"Obj\x01", Content("an Avro file", _AVRO)),
    (b"PK\x03\x04", _ZIP),
    (b"PK\x05\x06", _ZIP),
    (b"PK\x07\x08", _ZIP),
    (b"7z\xbc\xaf\x27\x1c", Content("a 7z archive", "unpack it: 7z e -so FILE > NEW")),
    (b"\x04\x22\x4d\x18", Content("lz4 data", "decompress it: lz4 -dc FILE > NEW")),
    (b"LZIP\x01", Content("lzip data", "decompress it: lzip -dc FILE > NEW")),
    (b"\x1f\x9d\x90", Content("data of compress", "decompress it: gzip -dc < FILE > NEW")),
    (b"SQLite format 3\0", Content("an SQLite database", "export it: sqlite3 -csv FILE QUERY > NEW")),
    (b"\x89HDF\r\n\x1a\n", Content("an HDF5 file", "export it: h5dump FILE > NEW")),
    (b"\x93NUMPY", Content("a NumPy array", _NUMPY)),
)
_BEGINNINGS: Final = tuple(magic for magic, _ in _TABLE)
