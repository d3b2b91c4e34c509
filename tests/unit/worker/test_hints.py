"""Cores and memory under control groups of both versions, and the slots that follow."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from mrq.core.model import Slots
from mrq.worker import resources
from mrq.worker.resources import Resources

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1 kB\n"
GIB = 1 << 30


class Machine:
    """Files of /proc and /sys below a folder."""

    def __init__(self, folder: Path) -> None:
        self.root = f"{folder}/"
        self._folder = folder
        self.write("proc/meminfo", MEMINFO)

    def write(self, path: str, text: str) -> None:
        (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self._folder / path).write_text(text)

    def found(self, allowed: int = 8) -> tuple[int, int]:
        return resources.cpus(allowed=allowed, root=self.root), resources.memory_bytes(root=self.root)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_limits_it_is_the_machine(machine: Machine) -> None:
    assert machine.found() == (8, 16000000 << 10)
    machine.write("proc/self/cgroup", "0::/\n")
    machine.write("sys/fs/cgroup/cpu.max", "max 100000\n")
    machine.write("sys/fs/cgroup/memory.max", "max\n")
    assert machine.found() == (8, 16000000 << 10)


def test_a_container_of_version_2(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/\n")
    machine.write("sys/fs/cgroup/cpu.max", "250000 100000\n")
    machine.write("sys/fs/cgroup/memory.max", f"{2 * GIB}\n")
    assert machine.found() == (2, 2 * GIB)
    assert machine.found(allowed=1) == (1, 2 * GIB)


def test_the_narrowest_of_nested_groups(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/user.slice/mrq.service\n")
    machine.write("sys/fs/cgroup/user.slice/cpu.max", "300000 100000\n")
    machine.write("sys/fs/cgroup/user.slice/mrq.service/cpu.max", "max 100000\n")
    machine.write("sys/fs/cgroup/user.slice/memory.max", f"{4 * GIB}\n")
    machine.write("sys/fs/cgroup/user.slice/mrq.service/memory.max", f"{3 * GIB}\n")
    assert machine.found() == (3, 3 * GIB)


def test_a_container_of_version_1_sees_its_group_as_the_root(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "5:memory:/docker/c0\n3:cpu,cpuacct:/docker/c0\n1:name=systemd:/x\n")
    machine.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000\n")
    machine.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{GIB}\n")
    assert machine.found() == (1, GIB)


def test_version_1_without_limits(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "5:memory:/\n3:cpu:/\n")
    machine.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    machine.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert machine.found() == (8, 16000000 << 10)


@pytest.mark.parametrize(
    ("cpus", "memory", "maps", "reduces"),
    [
        (8, 64 * GIB, 8, 4),
        (8, 0, 8, 4),
        (1, 64 * GIB, 1, 1),
        (8, 4 * GIB, 3, 2),
        (8, GIB, 1, 1),
        (2, 8 * GIB, 2, 1),
    ],
)
def test_slots_by_cores_and_memory(cpus: int, memory: int, maps: int, reduces: int) -> None:
    found = resources.slots(Resources(cpus=cpus, memory_bytes=memory, disk_bytes=0))
    assert found == Slots(map=maps, reduce=reduces, total=maps + reduces)


def test_slots_that_were_given_are_taken(machine: Machine) -> None:
    small = Resources(cpus=1, memory_bytes=GIB, disk_bytes=0)
    assert resources.slots(small, maps=9, reduces=3) == Slots(map=9, reduce=3, total=12)


def test_this_process_has_some(tmp_path: Path) -> None:
    found = asdict(resources.find(str(tmp_path)))
    assert found["cpus"] >= 1
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 64 << 20 < found["memory_bytes"] <= physical
    assert found["disk_bytes"] > 0


def test_an_operators_word_on_memory_is_taken(tmp_path: Path) -> None:
    assert resources.find(str(tmp_path), memory=64 * GIB).memory_bytes == 64 * GIB
