"""What one machine says of an argument, for another to compare."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrq.errors import InputError
from mrq.io.seen import look


def test_the_walk_is_bounded_and_in_order(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text("x" * number)
    first = look("in", str(tmp_path), walk_max=4)
    assert first is not None
    assert (first.files, first.bytes, first.more) == (4, 0 + 1 + 2 + 3, True)
    assert str(first).startswith("more than 4 files (the first of them 6 bytes, written until ")
    (tmp_path / "5.txt").write_text("beyond what is walked")
    assert look("in", str(tmp_path), walk_max=4) == first
    whole = look("in", str(tmp_path))
    assert whole is not None
    assert (whole.files, whole.more) == (6, False)


def test_where_a_tree_lies_does_not_matter(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    (one / "a.txt").write_text("x")
    before = look("in", str(one))
    one.rename(two)
    assert look("in", str(two)) == before
    assert look("other", str(two)) != before


def test_nothing_is_none_and_an_empty_folder_is_not(tmp_path: Path) -> None:
    assert look("no", str(tmp_path / "no")) is None
    assert look("*.txt", f"{tmp_path}/*.txt") is None
    empty = look(".", str(tmp_path))
    assert empty is not None
    assert str(empty) == "no file"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"in/dangling: can't be read: No such file"):
        look("in", str(tmp_path))
