"""A worker's folder: one process at a time, nothing of older boots, sentinels."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mrq.errors import OperatorError
from mrq.worker import worker_folder
from mrq.worker.worker_folder import WorkerFolder

HOLDER = """\
import sys, time
from mrq.worker.worker_folder import WorkerFolder
home = WorkerFolder.take(sys.argv[1], "w", wait_s=0)
child = __import__("subprocess").Popen(["sleep", "60"], start_new_session=True)
home.note_child(child.pid)
print(child.pid, flush=True)
time.sleep(60)
"""


def take(root: Path, worker: str = "w", wait_s: float = 0.0) -> WorkerFolder:
    return WorkerFolder.take(str(root), worker, wait_s=wait_s)


def running(pid: int) -> bool:
    return worker_folder._start_of(pid) is not None


def test_one_worker_of_an_id_on_a_machine(tmp_path: Path) -> None:
    first, other = take(tmp_path), take(tmp_path, "other")
    with pytest.raises(
        OperatorError, match=r"worker w runs on this machine already \(process \d+, .*--worker-id"
    ):
        take(tmp_path)
    first.close()
    again = take(tmp_path)
    assert again.boot != first.boot == again.boot_before
    assert first.boot_before is None
    assert again.path == f"{tmp_path}/workers/w"
    again.close()
    other.close()


def test_the_newcomer_waits_for_the_older_ones_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = take(tmp_path)
    threading.Timer(0.2, first.close).start()
    second = WorkerFolder.take(str(tmp_path), "w", wait_s=10)
    (said,) = caplog.messages
    assert "waiting for its end" in said
    second.close()


def test_what_a_killed_boot_started_is_ended_and_its_files_go(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    assert running(child)
    found = take(tmp_path)
    (Path(found.path) / "jobs/j/maps").mkdir(parents=True)
    (Path(found.path) / "code").mkdir()
    assert found.end_children() == 1
    deadline = time.monotonic() + 5
    while running(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert found.end_children() == 0
    assert len(found.sweep()) == 2
    assert {path.name for path in Path(found.path).iterdir()} == {"children", "lock", "trash"}
    found.close()
    assert sorted(path.name for path in Path(found.path).iterdir()) == ["children", "lock"]


def test_a_number_that_another_process_has_by_now_is_left_alone(tmp_path: Path) -> None:
    found = take(tmp_path)
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        Path(found.path, "children").write_text(f"{other.pid} 1234-1\nrubbish\n")
        assert found.end_children() == 0
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        found.close()


def test_the_list_of_children_stays_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = take(tmp_path)
    monkeypatch.setattr(worker_folder, "_CHILDREN_MAX", 3)
    for _ in range(10):
        child = subprocess.Popen(["sleep", "60"], start_new_session=True)
        found.note_child(child.pid)
        child.kill()
        child.wait()
        assert len(Path(found.path, "children").read_text().splitlines()) <= 4
    found.close()


def test_folders_of_workers_that_are_gone_for_good_are_swept(tmp_path: Path) -> None:
    living = take(tmp_path, "living")
    for name in ("young", "old"):
        take(tmp_path, name).close()
        (tmp_path / "workers" / name / "jobs").mkdir()
    for name in ("living", "old"):
        os.utime(tmp_path / "workers" / name / "lock", (1, 1))
    assert worker_folder.sweep_dead(str(tmp_path)) == ["old"]
    assert sorted(path.name for path in (tmp_path / "workers").iterdir()) == ["living", "young"]
    living.touch()
    assert (tmp_path / "workers/living/lock").stat().st_mtime > 1
    living.close()


def test_who_worked_here_before_and_is_over_is_found_by_boot(tmp_path: Path) -> None:
    living, mine = take(tmp_path, "living"), take(tmp_path, "mine")
    boots = {}
    for at, name in enumerate(("killed", "left")):
        over = take(tmp_path, name)
        boots[name] = over.boot
        os.utime(f"{over.path}/lock", (at, at))
        over.close()
    (tmp_path / "workers/strange").mkdir()
    (tmp_path / "workers/never").mkdir()
    (tmp_path / "workers/never/lock").write_text("")
    assert worker_folder.ended_beside(str(tmp_path), "mine") == [
        ("left", boots["left"]),
        ("killed", boots["killed"]),
    ]
    assert worker_folder.ended_beside(str(tmp_path / "none"), "mine") == []
    take(tmp_path, "killed").close()  # which isn't kept from its lock
    mine.close()
    assert worker_folder.ended_beside(str(tmp_path), "living")[0][0] in ("killed", "mine")
    living.close()


def test_a_worker_that_starts_takes_no_look_at_its_lock_for_another_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    take(tmp_path).close()
    fd = os.open(tmp_path / "workers/w/lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    monkeypatch.setattr(time, "sleep", lambda seconds: os.close(fd))  # the look ends meanwhile
    WorkerFolder.take(str(tmp_path), "w", wait_s=0.0).close()
    assert caplog.messages == []


def test_a_folder_that_was_swept_under_a_newcomer_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = worker_folder._open_lock

    def swept(path: str) -> int:
        fd = opened(path)
        monkeypatch.setattr(worker_folder, "_open_lock", opened)
        os.utime(f"{path}/lock", (1, 1))
        assert worker_folder.sweep_dead(str(tmp_path)) == ["w"]
        return fd

    monkeypatch.setattr(worker_folder, "_open_lock", swept)
    found = take(tmp_path, wait_s=5)
    assert os.path.exists(f"{found.path}/lock")
    found.close()


def test_a_home_that_is_lost_is_named(tmp_path: Path) -> None:
    mine = take(tmp_path)
    path = Path(mine.path)
    assert mine.lost(quota=False) is None
    assert "quota was removed" in str(mine.lost(quota=True))
    (path / "quota").touch()
    assert mine.lost(quota=True) is None
    for name in ("jobs", "code", "trash", "children", "sentinel"):  # are made again where they are needed
        assert mine.lost(quota=True) is None, name
    path.rename(tmp_path / "away")
    assert f"{path} was removed, or is another one now" in str(mine.lost(quota=False))
    (tmp_path / "away").rename(path)
    assert mine.lost(quota=False) is None
    mine.close()


def test_links_in_the_place_of_folders_are_found(tmp_path: Path) -> None:
    found = take(tmp_path)
    elsewhere, jobs = tmp_path / "elsewhere", Path(found.path, "jobs")
    for folder in (elsewhere, jobs / "good/maps", jobs / "good/scratch/t"):
        folder.mkdir(parents=True)
    assert found.linked() == []
    (jobs / "good/scratch/t/link").symlink_to(elsewhere)  # what user code makes is its own
    (jobs / "good/logs").symlink_to(elsewhere)
    (jobs / "bad").symlink_to(elsewhere)
    Path(found.path, "code").symlink_to(tmp_path / "nowhere")
    assert sorted(found.linked()) == [
        f"{found.path}/{name}" for name in ("code", "jobs/bad", "jobs/good/logs")
    ]
    found.close()


def test_what_another_boot_has_made_anew_is_left_alone(tmp_path: Path) -> None:
    old = take(tmp_path)
    Path(old.path).rename(tmp_path / "away")
    new = take(tmp_path)
    kept = Path(new.path) / "jobs/j/maps"
    kept.mkdir(parents=True)
    assert old.lost(quota=False) is not None
    old.close()
    assert kept.is_dir()
    assert new.lost(quota=False) is None
    new.close()
