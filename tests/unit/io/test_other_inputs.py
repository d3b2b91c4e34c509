"""jsonl, whole, records and compressed files as input."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mrq.core.model import Piece, Split
from mrq.errors import CorruptFileError, InputError
from mrq.io.formats import input_format
from mrq.io.output import output_format


def split_of(*paths: Path, parts: int = 1) -> list[Split]:
    """Each file cut into so many pieces, one split a piece."""
    pieces = []
    for path in paths:
        stat = path.stat()
        for i in range(parts):
            a, b = stat.st_size * i // parts, stat.st_size * (i + 1) // parts
            pieces.append(
                Piece(
                    path=path.name,
                    open=str(path),
                    start=a,
                    length=b - a,
                    size=stat.st_size,
                    mtime_ns=stat.st_mtime_ns,
                )
            )
    return [Split(index=i, pieces=(p,)) for i, p in enumerate(pieces)]


def read(name: str, splits: list[Split]) -> list[tuple[object, object]]:
    return [
        pair
        for s in splits
        for b in input_format(name).read(s)
        for pair in zip(b.keys, b.values, strict=True)
    ]


COMPRESS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("suffix", list(COMPRESS))
class TestCompressed:
    def test_reads_as_the_plain_file(self, tmp_path: Path, suffix: str) -> None:
        content = b"".join(b"%d line\r\n" % i for i in range(300_000)) + b"end"
        plain, packed = tmp_path / "t", tmp_path / f"t.{suffix}"
        plain.write_bytes(content)
        packed.write_bytes(COMPRESS[suffix](content))
        assert read("text", split_of(packed)) == read("text", split_of(plain))
        blocks = list(input_format("text").read(split_of(packed)[0]))
        assert [len(b.data) for b in blocks] == [
            len(b.data) for b in input_format("text").read(split_of(plain)[0])
        ]
        assert 0 < sum(b.bytes for b in blocks) <= packed.stat().st_size

    def test_members_in_a_row_are_one_stream(self, tmp_path: Path, suffix: str) -> None:
        packed = tmp_path / f"t.{suffix}"
        pack = COMPRESS[suffix]
        packed.write_bytes(pack(b"a\nb") + pack(b"") + pack(b"c\nd\n"))
        assert [v for _, v in read("text", split_of(packed))] == ["a", "bc", "d"]

    def test_an_empty_stream_is_an_empty_file(self, tmp_path: Path, suffix: str) -> None:
        packed = tmp_path / f"t.{suffix}"
        packed.write_bytes(COMPRESS[suffix](b""))
        assert read("text", split_of(packed)) == []

    def test_truncated_anywhere_is_named(self, tmp_path: Path, suffix: str) -> None:
        whole = COMPRESS[suffix](b"".join(b"%d\n" % (i * 7919) for i in range(3000)))
        packed = tmp_path / f"t.{suffix}"
        for size in {1, 3, 10, len(whole) // 2, len(whole) - 9, len(whole) - 4, len(whole) - 1}:
            packed.write_bytes(whole[:size])
            with pytest.raises(InputError, match=rf"t\.{suffix}: "):
                read("text", split_of(packed))

    def test_damage_and_other_content_are_named(self, tmp_path: Path, suffix: str) -> None:
        packed = tmp_path / f"t.{suffix}"
        packed.write_bytes(b"this is plain text, whatever its name says\n")
        with pytest.raises(InputError, match="damaged"):
            read("text", split_of(packed))

    def test_whole_gives_the_content(self, tmp_path: Path, suffix: str) -> None:
        packed = tmp_path / f"t.{suffix}"
        packed.write_bytes(COMPRESS[suffix](b"\0" * 3_000_000))
        assert read("whole", split_of(packed)) == [(f"t.{suffix}", b"\0" * 3_000_000)]


@pytest.mark.parametrize("form", ["text", "jsonl", "whole"])
def test_a_file_by_url_that_ends_early_is_refused(form: str, tmp_path: Path) -> None:
    """Nothing but its bytes tells that it was cut after it had been opened."""
    path = tmp_path / "x"
    path.write_bytes(b"1234567\n" * (1 << 19))
    split = split_of(path)[0]
    piece = replace(split.pieces[0], path=f"file://{path}", open=f"file://{path}")
    ticks = iter([lambda: None, lambda: os.truncate(path, 3 << 20)])

    def tick() -> None:
        next(ticks, lambda: None)()

    with pytest.raises(InputError, match=r"x: ends at byte 3,145,728, before 4,194,304; run the job again"):
        list(input_format(form).read(replace(split, pieces=(piece,)), tick=tick))


def test_an_empty_file_with_a_compressed_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.gz"
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"e\.gz"):
        read("whole", split_of(path))


def test_zeros_behind_the_last_member_are_padding(tmp_path: Path) -> None:
    path = tmp_path / "p.gz"
    path.write_bytes(gzip.compress(b"a\n") + b"\0" * 1000)
    assert [v for _, v in read("text", split_of(path))] == ["a"]
    path.write_bytes(gzip.compress(b"a\n") + b"rubbish")
    with pytest.raises(InputError, match="damaged"):
        read("text", split_of(path))


def test_whole_reads_empty_and_large_files(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "large").write_bytes(b"ab" * 2_000_000)
    assert read("whole", split_of(tmp_path / "empty", tmp_path / "large")) == [
        ("empty", b""),
        ("large", b"ab" * 2_000_000),
    ]


class TestJsonl:
    def test_values_and_offsets(self, tmp_path: Path) -> None:
        path = tmp_path / "f"
        path.write_bytes(b'{"a": 1}\n\n  [1, 2]  \r\n"\xc3\xa4"\nNaN\n 12\n1.5e3')
        found = read("jsonl", split_of(path))
        assert [k for k, _ in found] == [0, 10, 22, 27, 31, 35]
        assert [v for _, v in found[:3]] == [{"a": 1}, [1, 2], "ä"]
        assert str(found[3][1]) == "nan"
        assert [v for _, v in found[4:]] == [12, 1500.0]

    def test_cut_anywhere(self, tmp_path: Path) -> None:
        path = tmp_path / "f"
        path.write_text("".join(json.dumps({"i": i, "t": "x" * (i % 50)}) + "\n" for i in range(500)))
        assert read("jsonl", split_of(path, parts=17)) == read("jsonl", split_of(path))

    @pytest.mark.parametrize("bad", ['{"a": 1', "1,2", "[1],[2]", "nonsense", "{'a': 1}", "[" * 100_000])
    def test_a_bad_line_names_file_and_offset(self, tmp_path: Path, bad: str) -> None:
        path = tmp_path / "f"
        path.write_text(f"1\n{bad}\n3\n")
        with pytest.raises(InputError, match="f: the line at byte 2 isn't JSON"):
            read("jsonl", split_of(path))
        told: list[tuple[str, int, bytes]] = []
        (block,) = input_format("jsonl").read(
            split_of(path)[0], on_bad=lambda p, o, line, e: told.append((p, o, line))
        )
        assert (block.keys, block.values) == ([0, len(bad) + 3], [1, 3])
        assert told == [("f", 2, bad.encode())]


CARRIED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(),
    lambda inner: (
        st.tuples(inner, inner) | st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=6,
)
KEYS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(),
    lambda inner: st.tuples(inner, inner),
    max_leaves=4,
)


def typed(value: object) -> object:
    """A value with its types, so that 1, 1.0 and True are told apart."""
    if isinstance(value, tuple | list):
        return (type(value).__name__, [typed(v) for v in value])
    if isinstance(value, dict):
        return ("dict", [(typed(k), typed(v)) for k, v in value.items()])
    return (type(value).__name__, repr(value))


class TestRecords:
    @given(
        pairs=st.lists(st.tuples(KEYS, CARRIED), max_size=40), sizes=st.lists(st.integers(1, 9), max_size=30)
    )
    @settings(max_examples=60)
    def test_round_trip_is_exact(
        self, tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[object, object]], sizes: list[int]
    ) -> None:
        path = tmp_path_factory.mktemp("r") / "part"
        write(path, pairs, sizes)
        assert typed(read("records", split_of(path))) == typed(pairs)
        assert typed(list(output_format("records").read(str(path)))) == typed(pairs)

    def test_bytes_do_not_depend_on_the_batches(self, tmp_path: Path) -> None:
        pairs = [(i, "v" * (i * 37 % 4000)) for i in range(9000)]
        write(tmp_path / "a", pairs, [9000])
        write(tmp_path / "b", pairs, [1, 2, 3, 2048, 5000])
        write(tmp_path / "c", pairs, [100] * 90)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
        assert read("records", split_of(tmp_path / "a", parts=13)) == pairs
        consumed = [
            sum(b.bytes for b in input_format("records").read(s)) for s in split_of(tmp_path / "a", parts=3)
        ]
        assert sum(consumed) == (tmp_path / "a").stat().st_size

    def test_compressed_and_empty(self, tmp_path: Path) -> None:
        for compression in (None, "gz", "zst"):
            form = output_format("records", compression)
            path = tmp_path / f"p{form.suffix}"
            writer = form.open(str(path))
            writer.write([1, 2], [(1, b"x"), None])
            writer.close()
            assert read("records", split_of(path)) == [(1, (1, b"x")), (2, None)]
            path = tmp_path / f"empty{form.suffix}"
            assert form.open(str(path)).close().records == 0
            assert read("records", split_of(path)) == []

    def test_damage_is_found(self, tmp_path: Path) -> None:
        pairs = [(i, str(i)) for i in range(5000)]
        path = tmp_path / "p"
        write(path, pairs, [5000])
        whole = path.read_bytes()
        for at in (10, 40, len(whole) // 2, len(whole) - 30, len(whole) - 3):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(CorruptFileError, match="p: "):
                read("records", split_of(path))
        for size in (8, 100, len(whole) - 1):
            path.write_bytes(whole[:size])
            with pytest.raises(CorruptFileError, match="p: "):
                read("records", split_of(path))
        for other in (b"", b"plain text\n"):
            path.write_bytes(other)
            with pytest.raises(InputError, match="not a file of the records format"):
                read("records", split_of(path))


def write(path: Path, pairs: list[tuple[object, object]], sizes: list[int]) -> None:
    writer = output_format("records").open(str(path))
    at = 0
    for size in [*sizes, len(pairs)]:
        some = pairs[at : at + size]
        writer.write([k for k, _ in some], [v for _, v in some])
        at += size
    assert writer.close().records == len(pairs)
