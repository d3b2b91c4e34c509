"""Skipped records are kept, can be looked at, and can be read in again."""

from __future__ import annotations

import json
from pathlib import Path

from mrq.core.model import ErrorReport
from mrq.io.bad import BadRecords
from mrq.io.output import output_format


def test_kept_for_eyes_and_for_reading_in_again(tmp_path: Path) -> None:
    bad = BadRecords(str(tmp_path), "m-00042")
    error = ErrorReport(type="ValueError", message="no number", frames='File "job.py", line 3')
    bad.add(path="logs/a", offset=17, key=17, value="line \udcff\n", error=error)
    bad.add(path="logs/b", offset=None, key=("k", 1), value={"x": b"\xff"}, error=error)
    made = dict(bad.close())
    assert {name: info.records for name, info in made.items()} == {"m-00042.jsonl": 2, "m-00042.records": 2}
    rows = [json.loads(line) for line in (tmp_path / "m-00042.jsonl").read_text("ascii").splitlines()]
    assert rows[0] == {
        "path": "logs/a", "offset": 17, "key": "17", "value": "line \udcff\n", "error": "ValueError",
        "message": "no number", "traceback": 'File "job.py", line 3',
    }  # fmt: skip
    assert list(output_format("records").read(str(tmp_path / "m-00042.records"))) == [
        (17, "line \udcff\n"),
        (("k", 1), {"x": b"\xff"}),
    ]


def test_none_makes_no_files(tmp_path: Path) -> None:
    assert BadRecords(str(tmp_path), "m-00001").close() == []
    assert list(tmp_path.iterdir()) == []


def test_discard_removes_them(tmp_path: Path) -> None:
    bad = BadRecords(str(tmp_path), "m-00001")
    bad.add(path="a", offset=0, key=0, value="x", error=ErrorReport(type="E", message="m"))
    bad.discard()
    assert list(tmp_path.iterdir()) == []
