"""A job's folder: what a kill -9 leaves can be read again, and what is damaged is never believed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from earlier_spec import stored_at_5, stored_before

from mrq.codec.checksum import crc32
from mrq.core import wire
from mrq.core.model import JobSpec, Purpose, StageSpec
from mrq.errors import CorruptFileError, DiskFullError, OperatorError, UsageError
from mrq.servers.memory.jobfolder import (
    JobFolder,
    KeptJob,
    bring,
    is_kept,
    leftovers,
    make_root,
    refuse_other,
)

SPEC = JobSpec(
    job="count-1", name="Count", code="c0de", entry="count:Count", parameters={"n": 3}, inputs=("a",),
    stages=(StageSpec(splits=(), reducers=2),), output_open="/out",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return JobFolder.create(str(tmp_path / "root"), KeptJob(spec=SPEC), b"bundle")


def test_spec_and_code_come_back(folder: JobFolder, tmp_path: Path) -> None:
    folder.close()
    again = JobFolder.reopen(str(tmp_path / "root"), "count-1")
    assert again.kept() == KeptJob(spec=SPEC)
    assert again.code() == b"bundle"


def test_a_living_owner_keeps_the_folder(folder: JobFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"still running .process {os.getpid()}"):
        JobFolder.reopen(str(tmp_path / "root"), "count-1")
    assert leftovers(str(tmp_path / "root")) == []


def test_the_folder_of_a_killed_process_is_left_over(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    code = (
        "import os, signal, sys; sys.path[:0] = ['tests', 'tests/unit']\n"
        "from test_jobfolder import SPEC, JobFolder, KeptJob\n"
        f"JobFolder.create({root!r}, KeptJob(spec=SPEC), b'x')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, timeout=30)
    (left,) = leftovers(root)
    assert (left.job, left.output) == ("count-1", "/out")
    assert left.bytes > 0
    assert JobFolder.reopen(root, "count-1").code() == b"x"


def test_unknown_jobs_are_refused_with_what_there_is(folder: JobFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no job 'other'.*count-1"):
        JobFolder.reopen(str(tmp_path / "root"), "other")


def test_a_damaged_spec_is_named(folder: JobFolder) -> None:
    Path(folder.path, "spec").write_bytes(b"\xc1 rubbish")
    with pytest.raises(CorruptFileError, match="spec is damaged"):
        folder.kept()


def test_no_flipped_bit_of_a_spec_is_believed(folder: JobFolder) -> None:
    folder.keep(KeptJob(spec=replace(SPEC, job="count-2", code="\udcff")))
    path = Path(folder.path, "spec")
    data = path.read_bytes()
    assert folder.kept().spec.job == "count-2"
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises((CorruptFileError, UsageError)):  # it may read as of version 2, which is refused
            refuse_other(folder.kept(), folder.path)


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
    folder.remove()
    assert not os.path.exists(folder.path)


def test_the_same_id_twice_is_an_error(folder: JobFolder, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="exist"):
        JobFolder.create(str(tmp_path / "root"), KeptJob(spec=SPEC), b"")


def test_a_folder_that_cannot_be_made_whole_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DiskFullError, match="is full"):
        JobFolder.create(str(tmp_path / "root"), KeptJob(spec=SPEC), b"bundle")
    assert os.listdir(tmp_path / "root" / "jobs") == []


def test_a_job_is_brought_from_what_was_mrq_tmp(tmp_path: Path) -> None:
    JobFolder.create(str(tmp_path / "old"), KeptJob(spec=SPEC), b"bundle").close()
    bring(str(tmp_path / "old"), str(tmp_path / "root"), "count-1")
    assert is_kept(str(tmp_path / "root"), "count-1")
    assert [left.job for left in leftovers(str(tmp_path / "root"))] == ["count-1"]
    assert JobFolder.reopen(str(tmp_path / "root"), "count-1").kept() == KeptJob(spec=SPEC)


def test_what_a_retry_sets_is_kept(folder: JobFolder) -> None:
    folder.keep(KeptJob(spec=replace(SPEC, memory_bytes=7)))
    assert folder.kept().spec.memory_bytes == 7


#: What a job was for by what its stage is for.
_STAGES = {"job": "work", "sample": "sample"}


@pytest.mark.parametrize("version", [2, 3, 4, 5])
@pytest.mark.parametrize(("job", "purpose"), [("count-1", "job"), ("count-1-s", "sample")])
def test_a_folder_of_a_version_before_is_read_and_refused_by_name(
    folder: JobFolder, version: int, job: str, purpose: str
) -> None:
    """By the name of its folder, also where that is of the sampling for a job."""
    spec = replace(SPEC, job=job)
    if version == 5:
        spec = replace(spec, stages=(replace(SPEC.stages[0], purpose=Purpose(_STAGES[purpose])),))
    row = stored_at_5(spec) if version == 5 else stored_before(spec, purpose=purpose)
    data = {"v": version, "spec": row}
    path = Path(folder.path, "spec")
    path.write_bytes(wire.pack({**data, "crc32": crc32(wire.pack(data))} if version > 2 else data))
    kept = folder.kept()
    stage = replace(SPEC.stages[0], purpose=Purpose(_STAGES[purpose]))
    assert kept == KeptJob(spec=replace(SPEC, job=job, stages=(stage,)), version=version)
    refused = rf"job {job} .* has version {version}, .* with 6.*mrq clean {job}`"
    with pytest.raises(UsageError, match=refused):
        refuse_other(kept, folder.path)
    path.write_bytes(wire.pack({"v": 1, "spec": row}))
    with pytest.raises(CorruptFileError, match="another version"):
        folder.kept()
