"""Folders without a file: a note, and the old result as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runs import Runs


@pytest.fixture
def shell(tmp_path: Path) -> Runs:
    made = Runs(tmp_path)
    made.write("in.txt", "a b\nb\n")
    (tmp_path / "inbox").mkdir()
    made.write("inbox/.hidden", "x\n")
    return made


def test_nothing_to_do_is_a_note_and_keeps_the_old_result(shell: Runs) -> None:
    assert shell.submit("wc.py", "in.txt", "-o", "out", "-R", "1").code == 0
    old = shell.result()
    for more in ((), ("--overwrite",), ("--dry-run",)):
        ran = shell.submit("wc.py", "inbox", "-o", "out", *more)
        assert ran.code == 0
        assert "note: there is no file in inbox, so nothing was run and OUT is as it was" in ran.err
        assert "1 hidden file was left out" in ran.err
        assert "--allow-empty" in ran.err
        assert "error" not in ran.err
    assert shell.result() == old
    ran = shell.submit("wc.py", "inbox", "-o", "none", "--json")
    assert (ran.code, ran.json["status"], ran.json["exit_code"], ran.json["error"]) == (0, "nothing", 0, None)
    assert "there is no file in inbox" in ran.json["notes"][0]
    assert not (shell.folder / "none").exists()
    ran = shell.submit("wc.py", "inbox", "-o", "-")
    assert (ran.code, ran.out) == (0, b"")


def test_what_hidden_files_do_is_said_and_can_be_changed(shell: Runs) -> None:
    shell.write("inbox/seen.txt", "y\n")
    ran = shell.submit("wc.py", "inbox", "-o", "one", "-R", "1")
    assert "note: 1 hidden file was left out (names that begin with _ or .); `--all-files`" in ran.err
    assert shell.result("one") == {"part-00000": b"y\t1\n"}
    ran = shell.submit("wc.py", "inbox", "-o", "both", "-R", "1", "--all-files", "--json")
    assert ran.json["notes"] == []
    assert shell.result("both") == {"part-00000": b"x\t1\ny\t1\n"}


def test_an_empty_result_is_made_on_demand(shell: Runs) -> None:
    (shell.folder / "empty").mkdir()
    ran = shell.submit("wc.py", "empty", "-o", "out", "--allow-empty", "-R", "1")
    assert ran.code == 0
    assert shell.result() == {"part-00000": b""}
    assert shell.submit("wc.py", "out", "-o", "next", "-R", "1").code == 0, (
        "a result of 0 records is an input"
    )
