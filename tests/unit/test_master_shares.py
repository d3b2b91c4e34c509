"""Who shares a disk with the leader: asked once a folder and boot, and waited for within a bound."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mrq.core.model import WorkerHealth
from mrq.core.paths import PROBE, probe_path
from mrq.core.worker_info import WorkerInfo
from mrq.master.disk_probe import DiskProbe, WithoutDisk, nearest


def worker(name: str, boot: str = "b", health: WorkerHealth = WorkerHealth.ALIVE) -> WorkerInfo:
    return WorkerInfo(worker=name, boot=boot, health=health, address=f"{name}:1")


class World:
    """Workers, what they see, and who was asked."""

    def __init__(self) -> None:
        self.workers = [worker("w1"), worker("w2")]
        self.blind: set[str] = set()
        self.mute: set[str] = set()
        self.asked: list[str] = []
        self.time = 100.0
        self.hang = threading.Event()
        self.shares = DiskProbe(
            self.probe, workers=lambda: self.workers, master="m1", now=lambda: self.time, wait_s=0.2
        )

    def probe(self, asked: WorkerInfo, folder: str, nonce: bytes) -> bool | None:
        self.asked.append(asked.worker)
        if asked.worker in self.mute:
            self.hang.wait(10)
        return asked.worker not in self.blind and os.path.lexists(probe_path(folder, nonce))

    def takes(self) -> list[str]:
        """Who was asked since the last look."""
        asked, self.asked = sorted(set(self.asked)), []
        return asked


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.hang.set()
    made.shares.close()


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path)


def test_a_boot_is_asked_once_a_folder(world: World, folder: str) -> None:
    assert world.shares.check(folder) is None
    assert world.takes() == ["w1", "w2"]
    assert world.shares.check(folder) is None
    assert world.takes() == []
    world.workers = [worker("w1"), worker("w2", boot="later")]
    assert world.shares.check(folder) is None
    assert world.takes() == ["w2"]
    (Path(folder) / "other").mkdir()
    assert world.shares.check(f"{folder}/other") is None
    assert world.takes() == ["w1", "w2"]
    assert [name for name in os.listdir(folder) if name.startswith(PROBE)] == []


def test_who_does_not_see_it_is_named_until_it_does(world: World, folder: str) -> None:
    world.blind = {"w2"}
    apart = world.shares.check(folder)
    assert apart == WithoutDisk(folder=folder, workers=("w2",), of=2, master="m1")
    assert str(apart) == f"worker w2 doesn't share {folder} with master m1, which leads"
    assert world.asked.count("w2") == 2, "a network's disk may be late"
    assert world.shares.lacks("w2", "b") == [folder]
    assert world.shares.lacks("w1", "b") == []
    world.blind = set()
    assert world.shares.check(folder) is None
    assert world.shares.lacks("w2", "b") == []


def test_a_late_disk_is_asked_again_before_it_is_told(world: World, folder: str) -> None:
    answers = iter([False, True])
    world.workers = [worker("w1")]
    shares = DiskProbe(
        lambda *asked: next(answers), workers=lambda: world.workers, master="m1", now=lambda: 0.0
    )
    assert shares.check(folder) is None
    shares.close()


def test_many_are_counted(world: World, folder: str) -> None:
    world.workers = [worker(f"w{n}") for n in range(8)]
    world.blind = {f"w{n}" for n in range(7)}
    assert str(world.shares.check(folder)).startswith(
        "7 of 8 workers (w0, w1, w2, w3, w4 and 2 more) don't share"
    )


def test_who_does_not_answer_holds_nothing_up_and_is_asked_again_later(world: World, folder: str) -> None:
    world.mute = {"w2"}
    assert world.shares.check(folder) is None
    assert world.takes() == ["w1", "w2"]
    assert world.shares.check(folder) is None
    assert world.takes() == [], "not at every submit"
    assert world.shares.due([folder]) == []
    world.time += 31
    assert world.shares.due([folder]) == [folder]
    world.mute, world.blind = set(), {"w2"}
    assert str(world.shares.check(folder)).startswith("worker w2 doesn't share")


@pytest.mark.parametrize("health", [each for each in WorkerHealth if each is not WorkerHealth.ALIVE])
def test_who_takes_no_tasks_is_not_asked(world: World, folder: str, health: WorkerHealth) -> None:
    world.workers = [worker("w1", health=health)]
    assert world.shares.check(folder) is None
    assert world.shares.due([folder]) == []
    assert world.takes() == []


def test_who_comes_later_is_due(world: World, folder: str) -> None:
    world.workers = []
    assert world.shares.check(folder) is None
    assert world.shares.due([folder]) == []
    world.workers, world.blind = [worker("w1")], {"w1"}
    assert world.shares.due([folder]) == [folder]
    assert world.shares.known(folder) is None, "nobody was asked"
    assert world.shares.check(folder) is not None
    assert world.shares.due([folder]) == []
    world.time += 31
    assert world.shares.due([folder]) == [folder]
    world.workers = [replace(worker("w1"), health=WorkerHealth.QUARANTINED)]
    assert world.shares.known(folder) is None, "it takes no tasks"


def test_another_disk_at_the_path_is_another_folder(world: World, tmp_path: Path) -> None:
    for name in ("out", "other"):
        (tmp_path / name).mkdir()
    assert world.shares.check(f"{tmp_path}/out") is None
    (tmp_path / "out").rename(tmp_path / "old")
    (tmp_path / "other").rename(tmp_path / "out")
    world.asked.clear()
    world.blind = {"w1"}
    assert world.shares.check(f"{tmp_path}/out") is not None


def test_what_cannot_be_written_is_left_to_whoever_writes(world: World, tmp_path: Path) -> None:
    assert world.shares.check(f"{tmp_path}/none") is None
    assert world.shares.check("/proc/self") is None
    assert world.takes() == []


def test_what_a_dead_master_left_is_removed(world: World, tmp_path: Path) -> None:
    for name, at in (("old", 0), ("fresh", None)):
        (tmp_path / f"{PROBE}{name}").touch()
        if at is not None:
            os.utime(tmp_path / f"{PROBE}{name}", (at, at))
    world.shares.check(str(tmp_path))
    assert os.listdir(tmp_path) == [f"{PROBE}fresh"]


def test_without_a_probe_everybody_is_taken_to_share(folder: str) -> None:
    shares = DiskProbe(None, workers=lambda: [worker("w1")], master="m", now=lambda: 0.0)
    assert shares.check(folder) is None
    assert shares.due([folder]) == []
    shares.close()


def test_a_closed_one_asks_nobody(world: World, folder: str) -> None:
    world.shares.close()
    assert world.shares.check(folder) is None
    assert world.takes() == []


@pytest.mark.parametrize("made", [lambda path: path, lambda path: path / "a" / "b"])
def test_the_nearest_folder_that_is_there(tmp_path: Path, made: Callable[[Path], Path]) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert nearest(str(made(tmp_path / "link" / "out"))) == str(tmp_path / "real")
