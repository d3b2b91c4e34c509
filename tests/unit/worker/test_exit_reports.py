"""What a dead executor is reported as."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import pytest

from mrq.core.model import ErrorReport, JobSpec, Outcome, Piece, Split, StageSpec, Status
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.job.context import PAGE_TICKS
from mrq.worker import exits, progress_page
from mrq.worker.attempt_order import AttemptOrder
from mrq.worker.exits import Exit


def order(path: Path, kind: Kind = Kind.MAP, *, input_format: str = "text") -> AttemptOrder:
    spec = JobSpec(
        job="j", name="T", code="c", entry="m:T", parameters={}, inputs=(),
        stages=(StageSpec(splits=(), reducers=1, input_format=input_format),),
    )  # fmt: skip
    piece = Piece(path="in.txt", open=str(path), start=0, length=9, size=9, mtime_ns=0)
    split = Split(index=0, pieces=(piece,)) if kind is Kind.MAP else None
    attempt = AttemptRef(TaskRef("j", 0, kind, 0), 1, 1, "t")
    return AttemptOrder(attempt=attempt, spec=spec, maps=1, split=split)


def position(offset: int = -1, piece: int = 0, records: int = 0) -> list[int]:
    return [offset, piece, records, 0, 0, 0, 0, 0]


ERROR = ErrorReport(type="T", message="m")


def test_an_exit_says_how() -> None:
    killed = Exit(code=None, signal=9, peak_rss_bytes=1)
    assert str(killed) == "killed by signal 9 (SIGKILL)"
    assert str(Exit(code=3, signal=None, peak_rss_bytes=1)) == "exit code 3"
    assert "no exit code" in str(Exit(code=None, signal=None, peak_rss_bytes=1))
    assert str(Exit(code=None, signal=64, peak_rss_bytes=1)).startswith("killed by signal 64")


def test_an_exit_from_what_the_kernel_says() -> None:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], {})
    _, status, usage = os.wait4(pid, 0)
    assert Exit.of(status, usage.ru_maxrss << 10, 123).code == 7
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "kill -SEGV $$"], {})
    assert Exit.of(os.wait4(pid, 0)[1], 1 << 50, 123) == Exit(
        code=None, signal=signal.SIGSEGV, peak_rss_bytes=1 << 50
    )


def test_a_peak_that_is_only_ours_gives_way_to_what_was_sampled() -> None:
    assert Exit.of(0, 1, 123).peak_rss_bytes == 123
    assert Exit.of(0, 1, 0).peak_rss_bytes == 1


@pytest.mark.parametrize(
    ("content", "offset", "shown"),
    [
        (b"one\ntwo\r\nthree", 4, "'two'"),
        (b"one\ntwo\nthree", 8, "'three'"),
        (b"caf\xe9\n", 0, "'caf\ufffd'"),
        (b"x" * 9000 + b"\n", 0, "'" + "x" * 198 + "…"),
        (b"one\n", 4, None),
    ],
)
def test_the_line_at_hand_is_read_back(
    tmp_path: Path, content: bytes, offset: int, shown: str | None
) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(content)
    told = exits.with_record(ERROR, order(path), position(offset, records=2))
    assert (told.record, told.path, told.offset) == (shown, "in.txt", offset)


def test_what_is_no_line_is_named_by_its_place(tmp_path: Path) -> None:
    for name, input_format in (("in.gz", "text"), ("in", "records"), ("missing", "text")):
        told = exits.with_record(ERROR, order(tmp_path / name, input_format=input_format), position(5))
        assert (told.record, told.path, told.offset) == (None, "in.txt", 5)


def test_a_reduce_tells_how_far_it_was(tmp_path: Path) -> None:
    told = exits.with_record(ERROR, order(tmp_path, Kind.REDUCE), position(records=12))
    assert (told.record, told.path, told.offset) == ("after 12 records", None, None)


def test_before_the_first_record_there_is_none(tmp_path: Path) -> None:
    assert exits.with_record(ERROR, order(tmp_path), position()) == ERROR


def test_an_out_of_memory_kill_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Exit(code=None, signal=9, peak_rss_bytes=900 << 20)
    told = exits.lost(order(tmp_path), ended, position(), started=True, oom=True)
    assert told.error is not None
    assert "OOM killer ran" in told.error.message
    assert "900 MiB" in told.error.message
    monkeypatch.setattr(exits.resources, "memory_bytes", lambda: 1 << 30)
    told = exits.lost(order(tmp_path), ended, position(), started=True, oom=False)
    assert told.error is not None
    assert "probably the OOM killer" in told.error.message
    small = dataclasses.replace(ended, peak_rss_bytes=10 << 20)
    told = exits.lost(order(tmp_path), small, position(), started=True, oom=False)
    assert told.error is not None
    assert "OOM" not in told.error.message


def test_the_stack_of_a_crash_becomes_the_frames(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "said before\nFatal Python error: Segmentation fault\n\n"
        'Thread 0x0001 (most recent call first):\n  File "/jobs/b.py", line 1 in other\n\n'
        "Current thread 0x00007f (most recent call first):\n"
        '  File "/jobs/a.py", line 3 in inner\n  File "/jobs/a.py", line 9 in map\n'
        f'  File "{exits.__file__}", line 1 in run\n  File "<string>", line 6 in <module>\n'
        '\nThread 0x0002 (most recent call first):\n  File "/jobs/c.py", line 1 in other\n'
    )
    told = exits.with_log(Outcome(status=Status.LOST, error=ERROR), str(log))
    assert told.error is not None
    assert told.error.log_tail == "said before"
    assert told.error.frames.split("\n") == [
        '  File "/jobs/a.py", line 9, in map',
        '  File "/jobs/a.py", line 3, in inner',
    ]


def test_job_code_and_page_agree_on_the_ticks() -> None:
    assert PAGE_TICKS == progress_page.TICKS


def test_an_error_names_the_users_files_not_the_copies_that_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    frames = f'File "{tmp_path}/code/ab/job.py", line 4'
    error = ErrorReport(type="T", message="code/ab/job.py:4: runs on import", frames=frames)
    found = exits.with_source_paths(Outcome(status=Status.FAILED, error=error), f"{tmp_path}/code/ab", "/u/")
    assert found.error is not None
    assert found.error.message == "/u/job.py:4: runs on import"
    assert found.error.frames == 'File "/u/job.py", line 4'
