"""Logs of attempts: cut when they grow, quoted at their end."""

from __future__ import annotations

import os
from pathlib import Path

from mrq.worker import attempt_logs


def test_a_short_log_stays(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * attempt_logs.LOG_BYTES_MAX)
    assert not attempt_logs.cap(str(path))
    assert path.stat().st_size == attempt_logs.LOG_BYTES_MAX


def test_a_long_log_keeps_its_head_and_its_tail_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(writer, b"first\n" + b"x" * attempt_logs.LOG_BYTES_MAX + b"\nlast\n")
    assert attempt_logs.cap(str(path))
    os.write(writer, b"later\n")
    os.close(writer)
    text = path.read_bytes()
    assert text.startswith(b"first\n")
    assert text.endswith(b"\nlast\nlater\n")
    assert b"bytes left out here]\n" in text
    assert len(text) < attempt_logs.HEAD_BYTES + attempt_logs.TAIL_BYTES + 100


def test_the_tail_is_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"line %d\n" % n for n in range(5000)))
    lines = attempt_logs.tail(str(path)).splitlines()
    assert lines == [f"line {n}" for n in range(4980, 5000)]
    assert attempt_logs.tail(str(path), bytes_max=12) == "line 4999"


def test_the_tail_from_a_position(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\nafter\n")
    assert attempt_logs.tail(str(path), start=7) == "after"


def test_one_endless_line_is_still_shown(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("é" * 10_000)
    assert len(attempt_logs.tail(str(path))) >= attempt_logs.QUOTED_BYTES_MAX // 2 - 1


def test_no_log_is_no_error(tmp_path: Path) -> None:
    path = str(tmp_path / "none")
    assert (attempt_logs.tail(path), attempt_logs.size(path), attempt_logs.cap(path)) == ("", 0, False)
    attempt_logs.remove(path)
