"""A job's folder: what a kill -9 leaves can be read again, and what is damaged is never believed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mrq.core.model import JobSpec, TaskResult
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.errors import CorruptFileError, DiskFullError, OperatorError, UsageError
from mrq.master.jobfolder import Completion, JobFolder, leftovers, make_root

SPEC = JobSpec(
    job="count-1", name="Count", code="c0de", entry="count:Count", parameters={"n": 3}, inputs=("a",),
    splits=(), reducers=2, input_format="text", output_format="text", output_open="/out",
)  # fmt: skip


def completion(index: int) -> Completion:
    attempt = AttemptRef(TaskRef("count-1", 0, Kind.MAP, index), 1, 1, f"t{index}")
    result = TaskResult(records_in=index, bytes_in=2, records_out=3, bytes_out=4, counters={"odd": 1})
    return Completion(attempt=attempt, worker="local", boot="b", result=result)


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return JobFolder.create(str(tmp_path / "root"), SPEC, b"bundle")


def test_spec_and_code_come_back(folder: JobFolder, tmp_path: Path) -> None:
    folder.close()
    again = JobFolder.reopen(str(tmp_path / "root"), "count-1")
    assert again.spec() == SPEC
    assert again.code() == b"bundle"


def test_a_living_owner_keeps_the_folder(folder: JobFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"still running .process {os.getpid()}"):
        JobFolder.reopen(str(tmp_path / "root"), "count-1")
    assert leftovers(str(tmp_path / "root")) == []


def test_the_folder_of_a_killed_process_is_left_over(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    code = (
        "import os, signal, sys; sys.path.insert(0, 'tests/unit')\n"
        "from test_jobfolder import SPEC, completion, JobFolder\n"
        f"f = JobFolder.create({root!r}, SPEC, b'x'); f.append(completion(1))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, timeout=30)
    (left,) = leftovers(root)
    assert (left.job, left.output) == ("count-1", "/out")
    assert left.bytes > 0
    assert [done.attempt.task.index for done in JobFolder.reopen(root, "count-1").journal()] == [1]


def test_unknown_jobs_are_refused_with_what_there_is(folder: JobFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no job 'other'.*count-1"):
        JobFolder.reopen(str(tmp_path / "root"), "other")


def test_the_journal_gives_completions_in_order(folder: JobFolder) -> None:
    for index in range(3):
        folder.append(completion(index))
    assert list(folder.journal()) == [completion(index) for index in range(3)]


@pytest.mark.parametrize("cut", [1, 7, 9, 30])
def test_a_torn_last_line_is_dropped_for_good(folder: JobFolder, cut: int) -> None:
    folder.append(completion(0))
    whole = os.path.getsize(f"{folder.path}/journal")
    folder.append(completion(1))
    os.truncate(f"{folder.path}/journal", whole + cut)
    assert [done.attempt.task.index for done in folder.journal()] == [0]
    folder.append(completion(2))
    assert [done.attempt.task.index for done in folder.journal()] == [0, 2]


def test_a_damaged_line_ends_the_journal(folder: JobFolder) -> None:
    for index in range(2):
        folder.append(completion(index))
    with open(f"{folder.path}/journal", "r+b") as file:
        file.seek(20)
        byte = file.read(1)[0]
        file.seek(20)
        file.write(bytes([byte ^ 255]))
    assert list(folder.journal()) == []


def test_a_checkpoint_is_whole_or_absent(folder: JobFolder) -> None:
    assert folder.last_checkpoint() is None
    folder.checkpoint(b"first")
    folder.checkpoint(b"second")
    assert folder.last_checkpoint() == b"second"
    path = Path(folder.path) / "checkpoint"
    path.write_bytes(path.read_bytes()[:-2])
    assert folder.last_checkpoint() is None


def test_a_damaged_spec_is_named(folder: JobFolder) -> None:
    Path(folder.path, "spec").write_bytes(b"\xc1 rubbish")
    with pytest.raises(CorruptFileError, match="spec is damaged"):
        folder.spec()


def test_a_root_that_others_could_read_is_closed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir(mode=0o755)
    make_root(str(root))
    assert root.stat().st_mode & 0o777 == 0o700


def test_someone_elses_root_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(OperatorError, match=f"belongs to user {owner}"):
        make_root(str(tmp_path / "root"))


def test_remove_leaves_nothing(folder: JobFolder, tmp_path: Path) -> None:
    folder.append(completion(0))
    folder.remove()
    assert not os.path.exists(folder.path)


def test_the_same_id_twice_is_an_error(folder: JobFolder, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="exist"):
        JobFolder.create(str(tmp_path / "root"), replace(SPEC), b"")


def test_half_a_line_on_a_full_disk_hides_nothing_that_follows(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.append(completion(0))
    write, left = os.write, [10]

    def full(fd: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        data, left[0] = bytes(data)[: left[0]], 0
        return write(fd, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskFullError, match="is full"):
        folder.append(completion(1))
    monkeypatch.undo()
    folder.append(completion(2))
    assert [done.attempt.task.index for done in folder.journal()] == [0, 2]


def test_a_folder_that_cannot_be_made_whole_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DiskFullError, match="is full"):
        JobFolder.create(str(tmp_path / "root"), SPEC, b"bundle")
    assert os.listdir(tmp_path / "root" / "jobs") == []
