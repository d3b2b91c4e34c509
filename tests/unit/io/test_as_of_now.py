"""Files that are still written, read to the last whole line of their size at planning."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from covers import check_cover
from hypothesis import given, settings
from hypothesis import strategies as st

import mrq
from mrq.core.model import Piece
from mrq.core.splits import InputFile
from mrq.errors import InputError, UsageError
from mrq.io import inputs, vetting
from mrq.io.formats import input_format
from mrq.io.streams import Reading
from mrq.planning import Plan, Request, plan


class Lines(mrq.Job):
    """Every line."""

    def map(self, key: int, line: str) -> Iterator[tuple[None, str]]:
        yield None, line


class Now(Lines, as_of_now=True):
    """The same, by its class."""


def planned(*args: object, job: type[mrq.Job] = Now, **overrides: Any) -> Plan:
    return plan(Request(ref=job, inputs=list(map(str, args)), output="/nowhere/out", overrides=overrides))


def read(made: Plan, form: str = "text") -> list[Any]:
    """What the maps get, split by split."""
    reading = Reading(lines=True)
    return [
        value
        for split in made.spec.splits
        for block in input_format(form).read(split, reading=reading)
        for value in block.values
    ]


def append(path: Path, data: bytes) -> None:
    time.sleep(0.01)  # another time of writing
    with open(path, "ab") as file:
        file.write(data)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_bytes(b"one\ntwo\nthr")
    return path


@settings(max_examples=60, deadline=None)
@given(
    content=st.lists(st.sampled_from([b"\n", b"a", b"bcd", b"\r\n", b"\xff"]), max_size=30).map(b"".join),
    more=st.lists(st.sampled_from([b"\n", b"e"]), max_size=5).map(b"".join),
    split_size=st.integers(1, 20),
)
def test_whole_lines_of_then_whatever_came_later(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, more: bytes, split_size: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(content)
    file = InputFile(path="log", open=str(path), size=0, mtime_ns=1, splittable=True)
    (found,), _ = vetting.as_of_now([file], Reading(lines=True), ())
    whole = content[: content.rfind(b"\n") + 1]
    assert (found.size, found.unended) == (len(whole), len(content) - len(whole))
    with open(path, "ab") as out:
        out.write(more)
    from mrq.core import splits as cutting

    splits = cutting.plan([found], split_size)
    check_cover([found], splits)
    values = [v for split in splits for block in input_format("text").read(split) for v in block.values]
    assert values == [
        line.decode("utf-8", "surrogateescape").removesuffix("\r") for line in whole.split(b"\n")[:-1]
    ]


@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_growth_and_another_time_are_borne(tmp_path: Path, form: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"1\n2\n3")
    made = planned(path, input_format=form, split_size=2)
    append(path, b"4\n5\n")
    assert read(made, form) == (["1", "2"] if form == "text" else [1, 2])
    assert inputs.changed([piece for split in made.spec.splits for piece in split.pieces]) == []
    assert read(planned(path, input_format=form), form) == (
        ["1", "2", "34", "5"] if form == "text" else [1, 2, 34, 5]
    )


def test_a_long_last_line_is_looked_for_from_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"short\n" + b"x" * (5 << 20))
    made = planned(path)
    assert read(made) == ["short"]
    assert made.notes == (f"{path}: its last line has no end yet, and is left out",)


@pytest.mark.parametrize("content", [b"no end yet", b"", b"\n"])
def test_what_has_no_whole_line_has_no_record(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    made = planned(path)
    append(path, b" but now\n")
    assert read(made) == ([""] if content == b"\n" else [])
    said = (f"{path}: its only line has no end yet, so nothing of it is read",)
    assert made.notes == (said if content == b"no end yet" else ())


def test_lines_without_an_end_are_one_note(tmp_path: Path) -> None:
    for n in range(5):
        (tmp_path / f"{n}.log").write_bytes(b"a\nb")
    assert planned(tmp_path).notes == (
        f"{tmp_path}/0.log: its last line has no end yet, and is left out (as of 4 more)",
    )


def _rotate(path: Path) -> None:
    path.rename(path.with_suffix(".1"))
    path.write_bytes(b"another\n" * 9)


def _replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes() + b"more\n")
    os.replace(other, path)


REFUSED = {
    "rotated": (_rotate, "it was replaced or rotated"),
    "replaced by a copy that has more": (_replace, "it was replaced or rotated"),
    "cut": (lambda path: os.truncate(path, 4), "11 bytes then, 4 now: it was cut"),
    "cut within the line without an end": (lambda path: os.truncate(path, 10), "11 bytes then, 10 now"),
    "emptied": (lambda path: os.truncate(path, 0), "it was cut"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("split_size", [1, 1000])
def test_a_shorter_or_another_file_is_refused(log: Path, name: str, split_size: int) -> None:
    made = planned(log, split_size=split_size)
    change, words = REFUSED[name]
    change(log)
    with pytest.raises(InputError, match=rf"app\.log: changed since the job was planned .*{words}"):
        read(made)
    (told,) = inputs.changed([piece for split in made.spec.splits for piece in split.pieces])
    assert words in told


@pytest.mark.parametrize("split_size", [4, 1000])
@pytest.mark.parametrize("content", [b"anothr\n" * 3, b"anotherfile\n", b"another one is written on"])
def test_one_that_was_cut_and_is_as_long_again_is_refused(log: Path, content: bytes, split_size: int) -> None:
    made = planned(log, split_size=split_size)
    with open(log, "r+b") as file:  # as logrotate's copytruncate, and whoever goes on to write
        file.truncate(0)
        file.write(content)
    with pytest.raises(InputError, match=r"app\.log: changed since .*no line ends at byte 8 now: it was cut"):
        read(made)


@pytest.mark.parametrize("split_size", [4, 1000])
@pytest.mark.parametrize("content", [b"ONE\nTWO\n", b"one\nTWO\nthree\n", b"n\ne\nt\no\nmore"])
def test_so_is_one_in_which_a_line_ends_at_the_very_place(log: Path, content: bytes, split_size: int) -> None:
    made = planned(log, split_size=split_size)
    with open(log, "r+b") as file:
        file.truncate(0)
        file.write(content.ljust(11, b"+"))
    with pytest.raises(
        InputError, match=r"app\.log: changed since .*other lines before byte 8 now: it was cut"
    ):
        read(made)


@pytest.mark.parametrize("size", [8, 4096, 4104, 1 << 20])
def test_a_long_one_is_known_by_its_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"1234567\n" * (size // 8) + b"unended")
    made = planned(path, split_size="64K")
    append(path, b" no more\nand on\n")
    assert len(read(made)) == size // 8
    with open(path, "r+b") as file:
        file.seek(max(0, size - 4096))
        file.write(b"X")
    with pytest.raises(InputError, match=f"other lines before byte {size} now"):
        read(made)


def _cut(file: BinaryIO) -> None:
    file.truncate(3 << 20)


def _regrow(file: BinaryIO) -> None:
    file.truncate(0)
    file.write(b"765432\n" * (1 << 20))


@pytest.mark.parametrize("form", ["text", "jsonl"])
@pytest.mark.parametrize(
    ("change", "as_of_now", "words"),
    [
        (_cut, False, "3145728 now"),
        (_cut, True, "3145728 now: it was cut"),
        (_regrow, False, "7340032 now"),
        (_regrow, True, "no line ends at byte 4194304 now: it was cut and written anew"),
    ],
)
def test_what_changes_while_it_is_read_is_refused(
    tmp_path: Path, form: str, change: Callable[[BinaryIO], None], as_of_now: bool, words: str
) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"1234567\n" * (1 << 19))
    made = planned(path, as_of_now=as_of_now, input_format=form, split_size="64M")
    blocks = (block for split in made.spec.splits for block in input_format(form).read(split))
    next(blocks)
    with open(path, "r+b") as file:
        change(file)
    with pytest.raises(InputError, match=rf"log: changed since the job was planned .*{words}"):
        list(blocks)


def test_what_grows_while_it_is_read_is_read_as_of_then(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"1234567\n" * (1 << 19))
    made = planned(path, split_size="64M")
    blocks = (block for split in made.spec.splits for block in input_format("text").read(split))
    found = len(next(blocks))
    append(path, b"more\n")
    assert found + sum(map(len, blocks)) == 1 << 19


def test_a_file_that_is_gone_is_refused(log: Path) -> None:
    made = planned(log)
    log.unlink()
    with pytest.raises(InputError, match="No such file"):
        read(made)


def test_without_it_the_refusal_names_it(log: Path) -> None:
    made = planned(log, as_of_now=False)
    append(log, b"ee\n")
    with pytest.raises(InputError, match="11 bytes then, 14 now; `as_of_now=True` reads text that is still"):
        read(made)
    (told,) = inputs.changed([piece for split in made.spec.splits for piece in split.pieces])
    assert "`as_of_now=True`" in told


def test_it_is_no_advice_for_what_it_cannot_help(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"a\n"))
    made = planned(path, job=Lines)
    append(path, gzip.compress(b"b\n"))
    with pytest.raises(InputError) as found:
        read(made)
    assert "as_of_now" not in str(found.value)


@pytest.mark.parametrize("name", ["a.gz", "a.log"])
def test_compressed_files_are_refused_and_beside_logs_read_as_ever(
    tmp_path: Path, log: Path, name: str
) -> None:
    packed = tmp_path / name
    packed.write_bytes(gzip.compress(b"older\n"))
    with pytest.raises(InputError, match=rf"{name} is compressed, and `as_of_now=True`"):
        planned(packed)
    made = planned(packed, log)
    append(log, b"ee\n")
    assert read(made) == ["older", "one", "two"]
    append(packed, b"x")
    with pytest.raises(InputError, match="changed since"):
        read(made)


@pytest.mark.parametrize("form", ["whole", "records"])
def test_formats_without_lines_are_refused(log: Path, form: str) -> None:
    with pytest.raises(UsageError, match=f"input format {form} has none"):
        planned(log, input_format=form)


def test_standard_input_and_urls_are_refused(log: Path) -> None:
    with pytest.raises(UsageError, match="standard input is read to its end"):
        planned("-")
    with pytest.raises(UsageError, match=r"file://.*: `as_of_now=True` reads files on a disk"):
        planned(f"file://{log}")


def test_what_is_not_text_is_refused_when_planning(tmp_path: Path) -> None:
    (tmp_path / "u").write_bytes("a\n".encode("utf-16"))
    with pytest.raises(InputError, match="iconv"):
        planned(tmp_path / "u")
    assert len(planned(tmp_path / "u", encoding="latin-1").files) == 1


def test_pieces_of_jobs_that_were_kept_are_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a\n")
    piece = Piece(path="x", open=str(path), start=0, length=2, size=2, mtime_ns=path.stat().st_mtime_ns)
    assert inputs.changed([piece]) == []
    append(path, b"b\n")
    assert len(inputs.changed([piece])) == 1
