"""Every line exactly once, whatever the content and the cuts."""

from __future__ import annotations

import itertools
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrq.core.model import Piece, Split
from mrq.errors import InputError, UsageError
from mrq.io import blocks, lines
from mrq.io.formats import input_format


def piece(path: Path, start: int = 0, length: int | None = None) -> Piece:
    stat = path.stat()
    return Piece(
        path=path.name,
        open=str(path),
        start=start,
        length=stat.st_size - start if length is None else length,
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
    )


def cut(path: Path, cuts: list[int]) -> list[Split]:
    size = path.stat().st_size
    edges = [0, *sorted({c % (size + 1) for c in cuts} - {0, size}), size]
    return [
        Split(index=i, pieces=(piece(path, a, b - a),)) for i, (a, b) in enumerate(itertools.pairwise(edges))
    ]


def reference(content: bytes) -> list[tuple[int, bytes]]:
    """(offset, line) by the plainest reading: up to each newline, one CR before it dropped."""
    found, at = [], 0
    while at < len(content):
        end = content.find(b"\n", at)
        if end < 0:
            found.append((at, content[at:]))
            break
        line = content[at:end]
        found.append((at, line[:-1] if line.endswith(b"\r") else line))
        at = end + 1
    return found


CONTENT = st.lists(
    st.sampled_from(
        [
            b"\n",
            b"\r\n",
            b"\r",
            b"a",
            b"word word",
            "ä€𝄞".encode(),
            b"\xff",
            b"\xe2\x82",
            b"\0",
            b"\t",
            b"x" * 70,
        ]
    ),
    max_size=60,
).map(b"".join)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lines")


@given(
    content=CONTENT,
    cuts=st.lists(st.integers(0, 10_000), max_size=6),
    block=st.sampled_from([16, 64, 1 << 20]),
)
@settings(max_examples=300)
def test_each_line_once_whatever_the_cuts(folder: Path, content: bytes, cuts: list[int], block: int) -> None:
    path = folder / "t"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", block)
        for encoding in (None, "utf-8", "latin-1"):
            found: list[tuple[int, bytes]] = []
            raw = b""
            for split in cut(path, cuts):
                consumed = 0
                for b in input_format("text").read(split, encoding=encoding):
                    assert len(b.keys) == len(b.values) == len(b)
                    how = "utf-8" if encoding is None else encoding
                    values = [
                        v if isinstance(v, bytes) else v.encode(how, "surrogateescape") for v in b.values
                    ]
                    found.extend(zip(b.keys, values, strict=True))
                    raw += b.data
                    consumed += b.bytes
                assert consumed <= split.length
            assert found == reference(content)
            assert raw == content


def test_keys_do_not_depend_on_which_column_is_asked_first(tmp_path: Path) -> None:
    for content in (b"a\nbb\r\n\xc3\xa4\nccc", b"plain\nascii\n", b"\n\n\n", b"x"):
        path = tmp_path / "f"
        path.write_bytes(content)
        split = Split(index=0, pieces=(piece(path),))
        keys_first = [(b.keys, b.values) for b in input_format("text").read(split)]
        values_first = [(b.values, b.keys)[::-1] for b in input_format("text").read(split)]
        assert keys_first == values_first
        assert [tuple(x) for pair in keys_first for x in zip(*pair, strict=True)] == [
            (o, v.decode()) for o, v in reference(content)
        ]


def test_a_byte_order_mark_is_no_text_but_keeps_offsets(tmp_path: Path) -> None:
    path = tmp_path / "bom"
    path.write_bytes(b"\xef\xbb\xbfone\ntwo\n")
    split = Split(index=0, pieces=(piece(path),))
    (block,) = input_format("text").read(split)
    assert (block.values, block.keys, block.data) == (["one", "two"], [0, 7], b"one\ntwo\n")
    (block,) = input_format("text").read(split, encoding=None)
    assert block.values[0] == b"\xef\xbb\xbfone"
    path.write_bytes(b"\xef\xbb\xbf")
    (block,) = input_format("text").read(Split(index=0, pieces=(piece(path),)))
    assert (block.values, block.keys, len(block)) == ([], [], 0)


def test_several_files_in_a_split_know_their_own_names(tmp_path: Path) -> None:
    for name, text in (("a", "1\n2"), ("b", ""), ("c", "3\n")):
        (tmp_path / name).write_text(text)
    split = Split(index=0, pieces=tuple(piece(tmp_path / n) for n in "abc"))
    assert [(b.piece, b.path, b.values) for b in input_format("text").read(split)] == [
        (0, "a", ["1", "2"]),
        (2, "c", ["3"]),
    ]


def test_block_boundaries_depend_on_the_data_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "big"
    path.write_bytes(b"".join(b"%07d some words here\n" % i for i in range(150_000)))
    split = Split(index=0, pieces=(piece(path),))
    whole = [b.data for b in input_format("text").read(split)]
    read = os.read
    monkeypatch.setattr(os, "read", lambda fd, n: read(fd, min(n, 100_000)))
    assert [b.data for b in input_format("text").read(split)] == whole
    assert len(whole) > 2
    assert b"".join(whole) == path.read_bytes()


def test_a_huge_line_takes_a_small_multiple_of_itself(tmp_path: Path) -> None:
    size = 30 << 20
    path = tmp_path / "huge"
    path.write_bytes(b"x" * size + b"\nnext\n")
    tracemalloc.start()
    try:
        found = []
        for block in input_format("text").read(Split(index=0, pieces=(piece(path),))):
            found.extend(map(len, block.values))
            del block
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == [size, 4]
    assert peak < 2.2 * size


def test_a_huge_line_over_many_splits_belongs_to_the_first(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    path.write_bytes(b"a\n" + b"x" * 5_000_000 + b"\nlast")
    found = [
        (s.index, len(v))
        for s in cut(path, [1_000_000, 2_000_000, 3_000_000, 4_999_999])
        for b in input_format("text").read(s)
        for v in b.values
    ]
    assert found == [(0, 1), (0, 5_000_000), (4, 4)]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-le", "utf-7", "cp037", "iso2022_jp", "hz"])
def test_encodings_without_a_newline_byte_are_refused_by_name(encoding: str) -> None:
    with pytest.raises(InputError, match=encoding):
        list(input_format("text").read(Split(index=0, pieces=()), encoding=encoding))


def test_unknown_names_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="klingon"):
        list(input_format("text").read(Split(index=0, pieces=()), encoding="klingon"))
    with pytest.raises(UsageError, match="text, jsonl"):
        input_format("txt")


@pytest.mark.parametrize("encoding", ["shift_jis", "gb18030", "big5", "euc_jp", "cp1252", "koi8_r"])
def test_other_encodings_by_name(tmp_path: Path, encoding: str) -> None:
    text = {"cp1252": "café €", "koi8_r": "привет"}.get(encoding, "日本")
    path = tmp_path / "f"
    path.write_bytes(f"{text}\r\nplain\n{text}".encode(encoding) + b"\x81\nafter\n")
    (block,) = input_format("text").read(Split(index=0, pieces=(piece(path),)), encoding=encoding)
    assert len(block.values) == 4
    assert block.values[0] == text
    assert block.values[1] == "plain"
    assert block.values[3] == "after"
    assert block.keys == [o for o, _ in reference(path.read_bytes())]


def test_a_changed_or_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one\n")
    split = Split(index=0, pieces=(piece(path),))
    path.write_bytes(b"one\ntwo\n")
    with pytest.raises(InputError, match=r"f: changed since .*4 bytes then, 8 now"):
        list(input_format("text").read(split))
    path.write_bytes(b"two\n")
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match="same size"):
        list(input_format("text").read(split))
    path.unlink()
    with pytest.raises(InputError, match="f: can't be read"):
        list(input_format("text").read(split))
    empty = tmp_path / "e"
    empty.touch()
    split = Split(index=0, pieces=(piece(empty),))
    assert list(input_format("text").read(split)) == []
    empty.write_bytes(b"grown\n")
    with pytest.raises(InputError, match="changed"):
        list(input_format("text").read(split))


def test_ticks_come_with_every_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * (5 << 20))
    ticks = []
    list(input_format("text").read(Split(index=0, pieces=(piece(path),)), tick=lambda: ticks.append(1)))
    assert len(ticks) >= 5
    assert blocks.BLOCK_BYTES == 1 << 20


def test_rows_between_a_huge_line_and_the_end_of_a_split(tmp_path: Path) -> None:
    """A line longer than a block is given alone, also when more follows it in the same read."""
    path = tmp_path / "f"
    content = b"first\n" + b"x" * (5 << 20) + b"\nshort\n" + b"y" * (3 << 20) + b"\r\nlast"
    path.write_bytes(content)
    for cuts in ([], [5 << 20], [(5 << 20) + 8], [(5 << 20) + 7, 6 << 20]):
        read = [b for s in cut(path, cuts) for b in input_format("text").read(s)]
        assert [(k, len(v)) for b in read for k, v in zip(b.keys, b.values, strict=True)] == [
            (o, len(v)) for o, v in reference(content)
        ]
        assert b"".join(b.data for b in read) == content
