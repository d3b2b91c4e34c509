"""What isn't text is read as what it is, or refused by name with what to do: never counted as lines."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shlex
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import zstandard

import mrq
from mrq.core.model import Piece, Split
from mrq.errors import InputError
from mrq.io.content import look
from mrq.io.formats import input_format
from mrq.io.output import output_format
from mrq.io.streams import TAIL_BYTES, Reading
from mrq.planning import Plan, Request, plan

TEXT = b"".join(b"line %d of a text\n" % n for n in range(400))
#: The end of an ORC file: a postscript with its magic, and its length.
ORC_END = b"\x08\x03\x10\x01\x82\xf4\x03\x03ORC\x0c"

COMPRESSORS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
}


def _zip() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a.txt", TEXT)
    return made.getvalue()


def _tar() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        info = tarfile.TarInfo("a.txt")
        info.size = len(TEXT)
        archive.addfile(info, io.BytesIO(TEXT))
    return made.getvalue()


def _records(folder: Path) -> bytes:
    path = folder / "some.records"
    writer = output_format("records").open(str(path))
    writer.write(list(range(3000)), ["x" * 9] * 3000)
    writer.close()
    return path.read_bytes()


#: What -> (its bytes, what the refusal must say).
REFUSED = {
    "utf-16-le": (b"\xff\xfe" + TEXT.decode().encode("utf-16-le"), ["UTF-16", "iconv -f UTF-16 -t UTF-8"]),
    "utf-16-be": (b"\xfe\xff" + TEXT.decode().encode("utf-16-be"), ["UTF-16", "iconv -f UTF-16 -t UTF-8"]),
    "utf-32-le": (b"\xff\xfe\0\0" + TEXT.decode().encode("utf-32-le"), ["UTF-32", "iconv -f UTF-32"]),
    "utf-32-be": (b"\0\0\xfe\xff" + TEXT.decode().encode("utf-32-be"), ["UTF-32", "iconv -f UTF-32"]),
    "parquet": (b"PAR1" + TEXT + b"\x15\x04" + (99).to_bytes(4, "little") + b"PAR1", ["Parquet", "pyarrow"]),
    "arrow": (b"ARROW1\0\0" + TEXT + b"ARROW1", ["Arrow file", "pyarrow"]),
    "arrow stream": (b"\xff\xff\xff\xff\x10\x01\0\0\x10\0\0\0" + TEXT, ["Arrow stream", "open_stream"]),
    "feather": (b"FEA1" + TEXT + (99).to_bytes(4, "little") + b"FEA1", ["Feather", "pyarrow"]),
    "orc": (b"ORC" + TEXT + ORC_END, ["ORC", "pyarrow"]),
    "avro": (b"Obj\x01\x04\x16avro.schema" + TEXT, ["Avro", "fastavro"]),
    "zip": (_zip(), ["zip archive", "unzip -p"]),
    "tar": (_tar(), ["tar archive", "tar -xOf"]),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\x04" + TEXT, ["7z"]),
    "lz4": (b"\x04\x22\x4d\x18" + TEXT, ["lz4 -dc"]),
    "lzip": (b"LZIP\x01\x0c" + TEXT, ["lzip -dc"]),
    "compress": (b"\x1f\x9d\x90" + TEXT, ["gzip -dc"]),
    "sqlite": (b"SQLite format 3\0" + TEXT, ["SQLite"]),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + TEXT, ["HDF5"]),
    "npy": (b"\x93NUMPY\x01\0" + TEXT, ["NumPy"]),
    "records": (b"MRQR\x01\0\0\0" + TEXT, ["records", 'give `input_format="records"`']),
}

#: Honest text that looks like one of them at first.
HONEST = {
    "parquet's magic": b"PAR1 is how Parquet begins, and ends:\nPAR1",
    "parquet's twice": b"PAR1\n" + TEXT + b"PAR1\n",
    "orc": b"ORCs\n" + TEXT + b"an ORC\n",
    "orc and its length": b"ORC\n" + TEXT + b"ORC\n",
    "feather": b"FEA1\n" + TEXT + b"FEA1",
    "avro": b"Object\n" + TEXT,
    "bz2": b"BZh9 is how bz2 begins\n" + TEXT,
    "records": b"MRQR and so on\n" + TEXT,
    "pk": b"PK wrote it\n" + TEXT,
    "7z": b"7z is a packer\n" + TEXT,
    "arrow": b"ARROW1\n" + TEXT,
    "lzip": b"LZIP\n" + TEXT,
    "short": b"B",
    "two": b"\x1f\x8b",
    "four bytes": b"\xff\xff\xff\xff",
    "ustar at its place": b"x" * 257 + b"ustar  x\n" + TEXT,
    "utf-8 mark": b"\xef\xbb\xbf" + TEXT,
    "in the middle": TEXT + b"PK\x03\x04" + TEXT,
}


class Lines(mrq.Job):
    """Every line."""

    def map(self, key: int, line: str) -> Iterator[tuple[None, str]]:
        yield None, line


def read(
    data: bytes, path: str, *, form: str = "text", marks: bool = True, size: int | None = None
) -> list[Any]:
    """The values of a file, read whole by a task."""
    where = path if "://" in path else os.path.abspath(path)
    piece = Piece(path=path, open=where, start=0, length=len(data), size=len(data), mtime_ns=0)
    blocks = input_format(form).read(
        Split(index=0, pieces=(piece,)), reading=Reading(lines=input_format(form).lines, marks=marks)
    )
    return [value for block in blocks for value in block.values]


@pytest.fixture(params=["path", "file", "memory"])
def put(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Writes a file and says how it is named: as a path, or by a URL."""

    def put(name: str, data: bytes) -> str:
        if request.param == "memory":
            url = f"memory://{tmp_path.name}/{name}"
            with fsspec.open(url, "wb") as file:
                file.write(data)
            return url
        (tmp_path / name).write_bytes(data)
        return f"file://{tmp_path}/{name}" if request.param == "file" else str(tmp_path / name)

    return put


def planned(*paths: str, job: type[mrq.Job] = Lines, **overrides: Any) -> Plan:
    return plan(
        Request(ref=job, inputs=paths, output="/nowhere/out", overrides={"split_size": 999, **overrides})
    )


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_it_is_refused_by_the_task_that_reads_it(name: str, form: str, put: Any) -> None:
    data, words = REFUSED[name]
    path = put("some file", data)
    with pytest.raises(InputError) as found:
        read(data, path, form=form)
    assert all(word in str(found.value) for word in (path, *words)), found.value


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_cut_is_refused_when_planning(name: str, put: Any) -> None:
    data, words = REFUSED[name]
    path = put("big", data)
    with pytest.raises(InputError) as found:
        planned(path)
    assert all(word in str(found.value) for word in (path, *words)), found.value


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("compression", [None, *COMPRESSORS])
def test_honest_text_is_read_whatever_it_begins_with(
    name: str, compression: str | None, tmp_path: Path
) -> None:
    data = HONEST[name]
    packed = COMPRESSORS[compression](data) if compression else data
    path = tmp_path / "text"
    path.write_bytes(packed)
    lines = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").split("\n")
    assert read(packed, str(path)) == (lines if lines[-1] else lines[:-1])
    planned(str(path))


@pytest.mark.parametrize("compression", COMPRESSORS)
@pytest.mark.parametrize("suffix", ["", ".log", ".gz", ".zst"])
def test_compressed_data_is_read_as_what_it_is(compression: str, suffix: str, put: Any) -> None:
    packed = COMPRESSORS[compression](TEXT)
    path = put(f"text{suffix}", packed)
    assert read(packed, path) == TEXT.decode().splitlines()


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_compressed_data_without_its_suffix_is_not_cut(compression: str, put: Any) -> None:
    path = put("text", COMPRESSORS[compression](os.urandom(5000)))
    other = put("plain", TEXT)
    found = planned(path, other)
    (pieces,) = [split.pieces for split in found.spec.splits if split.pieces[0].path == path]
    assert pieces[0].length == pieces[0].size > 5000
    assert len(found.spec.splits) > 2


def test_members_and_frames_to_be_skipped_are_read_as_one(tmp_path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    for packed in (gzip.compress(TEXT) * 2, skipped + COMPRESSORS["zst"](TEXT) + COMPRESSORS["zst"](TEXT)):
        path = tmp_path / "twice"
        path.write_bytes(packed)
        assert read(packed, str(path)) == TEXT.decode().splitlines() * 2


@pytest.mark.parametrize("compression", COMPRESSORS)
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_compressed_is_looked_at_too(name: str, compression: str, tmp_path: Path) -> None:
    data, words = REFUSED[name]
    packed = COMPRESSORS[compression](data)
    path = tmp_path / f"data.{compression}"
    path.write_bytes(packed)
    with pytest.raises(InputError) as found:
        read(packed, str(path))
    wanted = [str(path), compression, words[0]]
    assert all(word in str(found.value) for word in wanted), found.value


def test_compressed_twice_is_read_and_endlessly_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    packed = gzip.compress(bz2.compress(TEXT))
    path.write_bytes(packed)
    assert read(packed, str(path)) == TEXT.decode().splitlines()
    for _ in range(5):
        packed = gzip.compress(packed)
    path.write_bytes(packed)
    with pytest.raises(InputError, match="more than 4 times; decompress it first"):
        read(packed, str(path))


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_text_that_is_named_as_compressed_is_refused(compression: str, tmp_path: Path) -> None:
    path = tmp_path / f"text.{compression}"
    for text in (TEXT, "größer als\n".encode()):
        path.write_bytes(text)
        with pytest.raises(InputError, match=rf"not a whole .*rename it without \.{compression}"):
            read(text, str(path))


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_what_follows_compressed_data_is_named_as_that(compression: str, tmp_path: Path) -> None:
    path = tmp_path / f"text.{compression}"
    data = COMPRESSORS[compression](TEXT) + b"and so on\n"
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"what follows the end of its {compression} data") as refused:
        read(data, str(path))
    assert "plain text" not in str(refused.value)


@pytest.mark.parametrize("name", [name for name in REFUSED if name.startswith("utf")])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", None])
def test_an_encoding_that_is_named_rules_byte_order_marks_out(
    name: str, encoding: str | None, tmp_path: Path
) -> None:
    data, _ = REFUSED[name]
    path = tmp_path / "text"
    path.write_bytes(data)
    assert len(read(data, str(path), marks=False)) > 1
    named = type("Named", (Lines,), {"__module__": __name__}, encoding=encoding)
    for found in (planned(str(path), encoding=encoding), planned(str(path), job=_importable(named))):
        assert not found.spec.first.refuses_marks
        assert len(found.spec.splits) > 1
    with pytest.raises(InputError, match="iconv"):
        planned(str(path))


@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_an_encoding_is_advised_where_one_may_be_named(form: str, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(REFUSED["utf-16-le"][0])
    for more in ({"split_size": 100}, {"as_of_now": True}):
        with pytest.raises(InputError, match="iconv") as found:
            planned(str(path), input_format=form, **more)
        assert ("name an encoding" in str(found.value)) == (form == "text")


def _importable(cls: type[mrq.Job]) -> type[mrq.Job]:
    """A class as its module's own, for the loader."""
    globals()[cls.__name__] = cls
    return cls


@pytest.mark.parametrize("name", [name for name in REFUSED if not name.startswith("utf")])
def test_an_encoding_rules_nothing_else_out(name: str, tmp_path: Path) -> None:
    data, _ = REFUSED[name]
    (tmp_path / "text").write_bytes(data)
    with pytest.raises(InputError, match="not lines of text"):
        planned(str(tmp_path / "text"), encoding="latin-1")


@pytest.mark.parametrize("name", REFUSED)
def test_whole_takes_any_bytes(name: str, tmp_path: Path) -> None:
    data, _ = REFUSED[name]
    (tmp_path / "it").write_bytes(data)
    assert read(data, str(tmp_path / "it"), form="whole") == [data]
    planned(str(tmp_path / "it"), input_format="whole")


def test_our_own_records_are_told(tmp_path: Path) -> None:
    data = _records(tmp_path)
    with pytest.raises(InputError, match='give `input_format="records"`'):
        planned(str(tmp_path / "some.records"))
    with pytest.raises(InputError, match='give `input_format="records"`'):
        read(data, str(tmp_path / "some.records"))


def test_the_commands_make_text_of_it(tmp_path: Path) -> None:
    for name in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "zip", "tar"):
        data, _ = REFUSED[name]
        path = tmp_path / f"it's {name}"
        path.write_bytes(data)
        with pytest.raises(InputError) as found:
            read(data, str(path))
        command = str(found.value).partition(" it: ")[2].partition(" (or ")[0]
        command = command.replace("NEW", shlex.quote(str(tmp_path / "new")))
        subprocess.run(["sh", "-c", command], check=True, timeout=60)
        assert (tmp_path / "new").read_bytes() == TEXT


def test_only_the_first_bytes_of_what_is_cut_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(20):
        (tmp_path / f"small{n}").write_bytes(b"x\n" * 10)
    (tmp_path / "big").write_bytes(b"x\n" * 5000)
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: opened.append(os.fspath(path)) or real(path, *rest))  # type: ignore[func-returns-value]
    planned(str(tmp_path))
    assert [os.path.basename(path) for path in opened if str(tmp_path) in path] == ["big"]


def test_the_table_is_of_no_use_without_its_tail() -> None:
    for name in ("parquet", "orc", "feather"):
        data, _ = REFUSED[name]
        found = look(data[:512])
        assert found is not None
        assert found.ends is not None
        assert found.ends(data[-TAIL_BYTES:])
        assert not found.ends(data[-TAIL_BYTES - 1 : -1])
