"""A job's log: what was answered is read again after any end of the process, and nothing that is damaged."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_jobfolder import SPEC

from mrq.core.commands import GiveOrder, WriteJob, WriteTask
from mrq.core.model import JobState
from mrq.core.orders import DropJob
from mrq.core.refs import Kind, TaskRef
from mrq.core.store_api import Batch, Fence, StoredJob, WriteAnswer
from mrq.errors import CorruptFileError, DiskFullError, MrqError, OutputError
from mrq.servers.memory.jobfolder import JobFolder
from mrq.servers.memory.kept import KeptStore
from mrq.servers.memory.log import NAME, JobLog, frame, frames, replay

FENCE = Fence(incarnation=1, epoch=1, owner="o", seq=0)


def batch(seq: int, *, epoch: int = 1, owner: str = "o", job: str = SPEC.job) -> Batch:
    """The batch that queues task `seq`."""
    row = WriteTask(
        task=TaskRef(job, 0, Kind.MAP, seq),
        primary=epoch,
        backup=0,
    )
    return Batch(
        job=job,
        fence=replace(FENCE, seq=seq, epoch=epoch, owner=owner),
        writes=(row, WriteJob(job=job, state=JobState.RUNNING)),
        records=((f"m{seq}", b"record %d" % seq),),
        job_record=b"job %d" % seq,
    )


def written(folder: Path, *batches: Batch) -> bytes:
    """The log of these batches, as it lies on the disk."""
    log, _ = JobLog.open(str(folder), SPEC)
    for each in batches:
        log.append(each)
    log.close()
    return (folder / NAME).read_bytes()


def store_with(
    folder: Path, log: Any, *, broken: Callable[[str, MrqError], None] = lambda job, error: None
) -> KeptStore:
    """A store whose job lies in a folder, with its log."""
    store = KeptStore(str(folder), broken=broken, left=lambda spec: None, forgotten=lambda job: None)
    store.keep(SPEC.job, JobFolder(str(folder), -1), log)
    store.begin(SPEC, b"code", FENCE)
    return store


def read(folder: Path) -> StoredJob | None:
    log, stored = JobLog.open(str(folder), SPEC)
    log.close()
    return stored


def tasks(stored: StoredJob | None) -> list[str]:
    return [] if stored is None else sorted(stored.records)


def test_an_empty_log_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    assert (tmp_path / NAME).read_bytes() == b""
    assert read(tmp_path) is None


def test_what_is_read_is_what_the_store_held(tmp_path: Path) -> None:
    log, _ = JobLog.open(str(tmp_path), SPEC)
    store = store_with(tmp_path, log)
    order = GiveOrder(worker="w", boot="b", order=DropJob(job=SPEC.job))
    for seq in (1, 2, 3):
        assert store.write(replace(batch(seq), orders=(order,))) is WriteAnswer.WRITTEN
    log.close()
    assert read(tmp_path) == store.load(SPEC.job)


def test_a_batch_is_in_the_log_before_it_is_applied(tmp_path: Path) -> None:
    seen = []

    class Log:
        def append(self, each: Batch) -> None:
            seen.append((each, store.fence(SPEC.job)))

    store = store_with(tmp_path, Log())
    store.write(batch(1))
    assert seen == [(batch(1), FENCE)]


def test_a_log_that_is_torn_at_any_byte_has_what_was_whole(tmp_path: Path) -> None:
    data = written(tmp_path, *map(batch, (1, 2, 3)))
    ends = [end for _, end in frames(data)]
    assert ends[-1] == len(data)
    for cut in range(len(data) + 1):
        (tmp_path / NAME).write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends)
        assert tasks(read(tmp_path)) == [f"m{seq}" for seq in range(1, whole + 1)]
        assert os.path.getsize(tmp_path / NAME) == max([0, *(end for end in ends if end <= cut)])


def test_after_a_torn_end_the_log_goes_on(tmp_path: Path) -> None:
    data = written(tmp_path, batch(1), batch(2))
    (tmp_path / NAME).write_bytes(data[:-1])
    written(tmp_path, replace(batch(2), job_record=b"another"))
    stored = read(tmp_path)
    assert stored is not None
    assert (tasks(stored), stored.job_record) == (["m1", "m2"], b"another")


def test_a_flipped_bit_anywhere_ends_the_log_there(tmp_path: Path) -> None:
    data = written(tmp_path, *map(batch, (1, 2, 3)))
    ends = [end for _, end in frames(data)]
    for at in range(len(data)):
        for bit in (1, 128):
            damaged = bytearray(data)
            damaged[at] ^= bit
            stored, end = replay(bytes(damaged), SPEC)
            before = sum(end <= at for end in ends)
            assert tasks(stored) == [f"m{seq}" for seq in range(1, before + 1)]
            assert end == max([0, *ends[:before]])


@pytest.mark.parametrize("hole", [1, 8, 64, 4096])
def test_a_hole_of_zeros_is_no_batch(tmp_path: Path, hole: int) -> None:
    """As a power cut may leave where the file had grown and its blocks weren't written."""
    data = written(tmp_path, batch(1), batch(2))
    (tmp_path / NAME).write_bytes(data + bytes(hole))
    assert tasks(read(tmp_path)) == ["m1", "m2"]
    assert (tmp_path / NAME).read_bytes() == data
    first = next(end for _, end in frames(data))
    (tmp_path / NAME).write_bytes(data[:first] + bytes(len(data) - first))
    assert tasks(read(tmp_path)) == ["m1"]


def test_a_batch_that_stands_there_twice_counts_once(tmp_path: Path) -> None:
    once, again = batch(1), replace(batch(1), records=(("m1", b"other"), ("m9", b"more")))
    written(tmp_path, once, again, batch(2))
    stored = read(tmp_path)
    assert stored is not None
    assert stored.records == {"m1": b"record 1", "m2": b"record 2"}
    assert stored.fence == replace(FENCE, seq=2)


def test_a_gap_ends_the_log(tmp_path: Path) -> None:
    data = written(tmp_path, batch(1), batch(3), batch(4))
    assert tasks(read(tmp_path)) == ["m1"]
    assert len((tmp_path / NAME).read_bytes()) < len(data)


def test_a_log_that_doesnt_begin_with_the_first_batch_says_nothing(tmp_path: Path) -> None:
    written(tmp_path, batch(2), batch(3))
    assert read(tmp_path) is None


def test_a_later_epoch_takes_the_job_over(tmp_path: Path) -> None:
    written(tmp_path, batch(1), batch(2), batch(1, epoch=2, owner="p"), batch(2, epoch=2, owner="p"))
    stored = read(tmp_path)
    assert stored is not None
    assert stored.fence == replace(FENCE, epoch=2, owner="p", seq=2)
    assert stored.records["m1"] == b"record 1"


def test_an_earlier_epoch_writes_nothing_any_more(tmp_path: Path) -> None:
    written(tmp_path, batch(1), batch(1, epoch=2, owner="p"), batch(2), batch(2, epoch=2, owner="p"))
    stored = read(tmp_path)
    assert stored is not None
    assert (stored.fence.seq, tasks(stored)) == (1, ["m1"])


def test_a_batch_of_another_job_ends_the_log(tmp_path: Path) -> None:
    written(tmp_path, batch(1), batch(2, job="other"), batch(2))
    assert tasks(read(tmp_path)) == ["m1"]


def test_a_whole_frame_that_is_no_batch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of mrq wrote it: nobody may go on as though there were nothing."""
    data = written(tmp_path, batch(1))
    monkeypatch.setattr("mrq.servers.memory.log.wire.to_wire", lambda value: ["no", "batch"])
    (tmp_path / NAME).write_bytes(data + frame(batch(2)))
    monkeypatch.undo()
    with pytest.raises(CorruptFileError, match="Batch"):
        read(tmp_path)


def full_after(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """A disk with so much room."""
    write, left = os.write, [room]

    def limited(fd: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        data = bytes(data)[: left[0]]
        left[0] -= len(data)
        return write(fd, data)

    monkeypatch.setattr(os, "write", limited)


@pytest.mark.parametrize("room", [0, 1, 8, 9, 50])
def test_half_a_frame_on_a_full_disk_hides_nothing_that_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    log, _ = JobLog.open(str(tmp_path), SPEC)
    log.append(batch(1))
    full_after(monkeypatch, room)
    with pytest.raises(DiskFullError, match="is full"):
        log.append(batch(2))
    monkeypatch.undo()
    log.append(batch(2))
    log.close()
    assert tasks(read(tmp_path)) == ["m1", "m2"]


def test_of_a_job_that_cant_be_logged_somebody_is_told_once_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, MrqError]] = []
    other = replace(SPEC, job="other")
    (tmp_path / "other").mkdir()
    log, _ = JobLog.open(str(tmp_path), SPEC)
    store = store_with(tmp_path, log, broken=lambda job, error: told.append((job, error)))
    log, _ = JobLog.open(str(tmp_path / "other"), other)
    store.keep(other.job, JobFolder(str(tmp_path / "other"), -1), log)
    store.begin(other, b"", FENCE)
    store.write(batch(1))
    full_after(monkeypatch, 20)
    assert store.write(batch(2)) is WriteAnswer.WRITTEN
    monkeypatch.undo()
    assert store.write(batch(3)) is WriteAnswer.WRITTEN, "it ends in memory"
    store.write(batch(1, job="other"))
    assert [(job, type(error)) for job, error in told] == [(SPEC.job, DiskFullError)]
    assert tasks(read(tmp_path)) == ["m1"]
    log, stored = JobLog.open(str(tmp_path / "other"), other)
    log.close()
    assert tasks(stored) == ["m1"]
    store.let_go("other", remove=False)
    store.let_go("other", remove=False)
    store.write(batch(2, job="other"))


def test_a_batch_of_no_job_is_nobodys(tmp_path: Path) -> None:
    log, _ = JobLog.open(str(tmp_path), SPEC)
    store = store_with(tmp_path, log, broken=lambda job, error: pytest.fail(f"{job}: {error}"))
    store.write(replace(batch(1), job=""))
    log.close()
    assert read(tmp_path) is None


def test_a_log_in_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=f"{NAME} can't be written"):
        JobLog.open(str(tmp_path / "gone"), SPEC)


@pytest.mark.parametrize("after", [0, 1, 40])
def test_a_process_that_is_killed_leaves_every_batch_that_was_answered(tmp_path: Path, after: int) -> None:
    code = (
        "import sys; sys.path[:0] = ['tests/unit', 'tests']\n"
        "from test_memory_log import *\n"
        f"log, _ = JobLog.open({str(tmp_path)!r}, SPEC)\n"
        f"store = store_with(Path({str(tmp_path)!r}), log)\n"
        "for seq in range(1, 100_000):\n"
        "    assert store.write(batch(seq)) is WriteAnswer.WRITTEN\n"
        "    print(seq, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(after + 1):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        told = [int(line) for line in process.stdout if line.endswith("\n")]
    stored = read(tmp_path)
    assert stored is not None
    assert stored.fence.seq >= max([after + 1, *told])


def test_two_processes_one_after_the_other_and_one_that_thinks_it_lives(tmp_path: Path) -> None:
    """The folder's lock keeps a second one away; without it, what the first still appends would be fenced."""
    first, _ = JobLog.open(str(tmp_path), SPEC)
    first.append(batch(1))
    second, stored = JobLog.open(str(tmp_path), SPEC)
    assert stored is not None
    second.append(batch(1, epoch=2, owner="p"))
    first.append(batch(2))
    first.close()
    second.close()
    found = read(tmp_path)
    assert found is not None
    assert found.fence == replace(FENCE, epoch=2, owner="p", seq=1)


def test_closing_twice_is_once(tmp_path: Path) -> None:
    log, _ = JobLog.open(str(tmp_path), SPEC)
    log.close()
    log.close()
