"""What parts look like, and what comes back from them."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrq.errors import DataError, DiskFullError, InternalError, OutputError, UsageError
from mrq.io import disk
from mrq.io.output import output_format, part_name

INF, NAN = float("inf"), float("nan")


def written(path: Path, name: str, pairs: list[tuple[Any, Any]], compression: str | None = None) -> bytes:
    writer = output_format(name, compression).open(str(path))
    writer.write([k for k, _ in pairs], [v for _, v in pairs])
    info = writer.close()
    data = path.read_bytes()
    assert info == (len(pairs), len(data), zlib.crc32(data))
    return data


TEXT: list[tuple[Any, Any, bytes]] = [
    ("word", 3, b"word\t3"),
    ("word", None, b"word"),
    (None, "line", b"line"),
    (None, None, b""),
    ("", "", b"\t"),
    (b"\xff\x00", b"\xfe", b"\xff\x00\t\xfe"),
    ("caf\udce9", "ä€", b"caf\xe9\t\xc3\xa4\xe2\x82\xac"),
    (1.5, True, b"1.5\ttrue"),
    (INF, NAN, b"inf\tnan"),
    (-INF, [INF, NAN, 1.0], b"-inf\t[inf,nan,1.0]"),
    (("a", 1), {"k": [1, None]}, b'["a",1]\t{"k":[1,null]}'),
    (("ä\udcff", b"\xff"), "x", b'["\xc3\xa4\xff","\xff"]\tx'),
    (1 << 70, -(10**30), b"1180591620717411303424\t-1000000000000000000000000000000"),
    ("tab\there", "new\nline", b"tab\there\tnew\nline"),
    (1, {(1, 2): "t", b"\xff": "b", 3: "i", None: "n", True: "b", 1.5: "f"}, None),  # type: ignore[list-item]
    ("s", {"q": 'a"b\\'}, b's\t{"q":"a\\"b\\\\"}'),
    ("", None, b""),
    (False, [True, (False, None)], b"false\t[true,[false,null]]"),
]
TEXT[14] = (
    TEXT[14][0],
    TEXT[14][1],
    b'1\t{"[1,2]":"t","\xff":"b","3":"i","null":"n","true":"b","1.5":"f"}',
)


@pytest.mark.parametrize(("key", "value", "line"), TEXT)
def test_text_line_by_line(tmp_path: Path, key: Any, value: Any, line: bytes) -> None:
    assert written(tmp_path / "p", "text", [(key, value)]) == line + b"\n"


def test_text_of_a_mixed_batch_is_that_of_its_records(tmp_path: Path) -> None:
    assert written(tmp_path / "p", "text", [(k, v) for k, v, _ in TEXT]) == b"".join(
        x + b"\n" for *_, x in TEXT
    )


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=4)
)


@given(
    pairs=st.one_of(
        st.lists(st.tuples(SCALARS, SCALARS), max_size=12),
        st.tuples(
            *[st.sampled_from([st.none(), st.integers(), st.text(), st.binary(), st.floats()])] * 2
        ).flatmap(lambda kinds: st.lists(st.tuples(*kinds), max_size=12)),
    )
)
@settings(max_examples=150)
def test_fast_ways_write_what_the_slow_one_does(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[Any, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("o")
    pairs = [p for p in pairs if not any(isinstance(x, str) and not x.isascii() for x in p)]
    for name in ("text", "lines", "jsonl"):
        at_once = written(folder / f"{name}-at-once", name, pairs)
        writer = output_format(name).open(str(folder / f"{name}-each"))
        for k, v in pairs:
            writer.write([k], [v])
        writer.close()
        assert at_once == (folder / f"{name}-each").read_bytes()
    plain = b"".join(plain_line(k, v) + b"\n" for k, v in pairs)
    assert (folder / "text-each").read_bytes() == plain


def plain_line(key: Any, value: Any) -> bytes:
    """The format as its description says, and nothing clever."""

    def one(x: Any) -> bytes:
        if isinstance(x, bytes):
            return x
        if isinstance(x, str):
            return x.encode()
        return {True: b"true", False: b"false"}[x] if isinstance(x, bool) else repr(x).encode()

    return b"\t".join(one(x) for x in (key, value) if x is not None)


def test_lines_and_jsonl(tmp_path: Path) -> None:
    pairs = [("k", "v"), (1, None), (b"\xff", b"\xfe"), (("a", 2), {"x": NAN}), (None, "\udce9ä")]
    assert written(tmp_path / "l", "lines", pairs) == b'v\n\n\xfe\n{"x":nan}\n\xe9\xc3\xa4\n'
    data = written(tmp_path / "j", "jsonl", pairs)
    rows = [json.loads(line) for line in data.decode("utf-8").splitlines()]
    assert rows[0] == {"key": "k", "value": "v"}
    assert data.splitlines()[0] == b'{"key": "k", "value": "v"}'
    assert rows[2] == {"key": "\udcff", "value": "\udcfe"}
    assert rows[3]["key"] == ["a", 2]
    assert "ä".encode() in data


def test_reading_back(tmp_path: Path) -> None:
    pairs = [("k", "1\t2"), ("only", None), ("é\udcff", "x")]
    for compression in (None, "gz", "bz2", "xz", "zst"):
        text = output_format("text", compression)
        path = tmp_path / f"t{text.suffix}"
        written(path, "text", pairs, compression)
        assert list(text.read(str(path))) == pairs
    written(tmp_path / "l.lines", "lines", [(1, "a"), (2, "b")])
    assert list(output_format("lines").read(str(tmp_path / "l.lines"))) == [(None, "a"), (None, "b")]
    written(tmp_path / "j", "jsonl", [(("a", 1), {"b": [None]}), ("x", 1.5)])
    assert list(output_format("jsonl").read(str(tmp_path / "j"))) == [(["a", 1], {"b": [None]}), ("x", 1.5)]
    (tmp_path / "j").write_text('{"other": 1}\n')
    with pytest.raises(DataError, match="isn't a record that jsonl wrote"):
        list(output_format("jsonl").read(str(tmp_path / "j")))


def test_names() -> None:
    found = [
        part_name(3, output_format(n, c)) for n in ("text", "lines", "jsonl", "records") for c in (None, "gz")
    ]
    assert found == [
        "part-00003", "part-00003.gz", "part-00003.lines", "part-00003.lines.gz", "part-00003.jsonl",
        "part-00003.jsonl.gz", "part-00003.records", "part-00003.records.gz",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="text, lines, jsonl, records"):
        output_format("parquet")
    with pytest.raises(UsageError, match="gz, bz2, xz, zst"):
        output_format("text", "rar")


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize("name", ["text", "records"])
def test_compressed_bytes_depend_on_the_records_only(tmp_path: Path, name: str, compression: str) -> None:
    keys = [f"key {i * 7919 % 10007}" for i in range(60_000)]
    values = list(range(60_000))
    parts = []
    for number, step in enumerate((60_000, 997)):
        path = tmp_path / f"p{number}.{compression}"
        writer = output_format(name, compression).open(str(path))
        for at in range(0, len(keys), step):
            writer.write(keys[at : at + step], values[at : at + step])
        writer.close()
        parts.append(path.read_bytes())
        os.utime(path, (0, 0))
    assert parts[0] == parts[1]
    tool = {"gz": "gzip", "bz2": "bzip2", "xz": "xz"}.get(compression)
    if name == "text" and tool is not None:
        plain = subprocess.run([tool, "-dc", str(path)], capture_output=True, check=True, timeout=60).stdout
        assert plain == "".join(f"{k}\t{v}\n" for k, v in zip(keys, values, strict=True)).encode()


def test_gzip_says_nothing_of_time_or_name(tmp_path: Path) -> None:
    data = written(tmp_path / "p.gz", "text", [("a", 1)], "gz")
    assert data[3] == 0, "no name"
    assert data[4:8] == b"\0\0\0\0", "no time"
    assert gzip.decompress(data) == b"a\t1\n"


class Date:
    pass


@pytest.mark.parametrize("name", ["text", "jsonl", "records", "lines"])
@pytest.mark.parametrize("value", [{1, 2}, Date(), [1, {2}], 1 + 2j])
def test_what_cannot_be_written_is_named(tmp_path: Path, name: str, value: Any) -> None:
    writer = output_format(name).open(str(tmp_path / "p"))

    def write() -> None:
        writer.write(["k"], [value])
        writer.close()

    with pytest.raises(DataError, match=r"set|Date|complex"):
        write()
    writer.discard()
    assert not (tmp_path / "p").exists()


def test_surrogates_without_a_byte_are_refused_by_name(tmp_path: Path) -> None:
    writer = output_format("text").open(str(tmp_path / "p"))
    with pytest.raises(DataError, match=r"U\+D800"):
        writer.write(["a\ud800"], ["x"])
    writer.discard()


def test_ints_beyond_the_interpreters_limit(tmp_path: Path) -> None:
    big = 10**5000
    for name in ("text", "jsonl"):
        assert written(tmp_path / name, name, [(big, [big])]).count(b"0" * 5000) == 2


def test_deep_and_circular_values_are_refused(tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    writer = output_format("text").open(str(tmp_path / "p"))
    with pytest.raises(DataError, match="nested"):
        writer.write(["k"], [loop])
    writer.discard()


def test_what_is_not_carried_is_decided_where_it_is_for_every_format(tmp_path: Path) -> None:
    class Name(str):
        pass

    assert written(tmp_path / "p", "text", [("k", [Name("v"), bytearray(b"x")])]) == b'k\t["v","x"]\n'
    for name in ("text", "jsonl", "records"):
        with pytest.raises(DataError, match=r"a value of type set can't be carried: \{1\}; use sorted"):
            written(tmp_path / name, name, [(1, [{1}])])


def test_a_writer_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "p"
    writer = output_format("text").open(str(path))
    with pytest.raises(OutputError, match="File exists"):
        output_format("text").open(str(path))
    with pytest.raises(InternalError, match="2 keys beside 1 values"):
        writer.write([1, 2], [1])
    writer.write([], [])
    assert writer.close() == (0, 0, 0)
    with pytest.raises(InternalError, match="closed twice"):
        writer.close()
    writer.discard()
    assert path.exists()
    with pytest.raises(OutputError, match="No such file or directory"):
        output_format("text").open(str(tmp_path / "no" / "p"))


def test_a_full_disk_says_what_was_needed_and_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    writer = output_format("text").open(str(tmp_path / "p"))
    writer.write(["x" * 1000], [1])
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskFullError, match=r"p is full: 1,003 bytes more were needed and [\d,]+ were free"):
        writer.close()
    monkeypatch.undo()
    writer.discard()


def test_disk_errors_by_name(tmp_path: Path) -> None:
    assert isinstance(disk.named(OSError(122, "Disk quota exceeded"), str(tmp_path)), DiskFullError)
    assert "permissions" in str(disk.named(OSError(13, "Permission denied"), "/x"))
    assert isinstance(disk.named(OSError(5, "Input/output error"), "/x"), OutputError)
    assert disk.free_bytes(str(tmp_path / "not" / "there" / "yet")) > 0
