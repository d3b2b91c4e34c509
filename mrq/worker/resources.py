"""What this process may use: cores, memory, disk, packages; and the slots that follow from it.

A container's limits are its control group's, and of the groups above it: version 2 in one tree, version 1 in
one for each controller. Inside a container the path that /proc/self/cgroup names may not be there; then the
mount itself is the container's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mrq.core.model import Slots
from mrq.io import disk
from mrq.settings.checks import MEMORY_BYTES

#: Of the memory, for executors; the rest is the agent's, the data plane's and the page cache's.
_MEMORY_SHARE: Final = 0.8
#: What an executor takes beside its budget: the interpreter and what a job imports.
_EXECUTOR_BYTES: Final = 96 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a worker may use, as its beats say it."""

    cpus: int  #: whole ones, at least 1
    memory_bytes: int  #: 0: unknown
    disk_bytes: int  #: free where its files lie


def find(folder: str, *, memory: int | None = None) -> Resources:
    """What this process may use, its files in `folder`; `memory` bytes where the operator says how many."""
    found = memory_bytes() if memory is None else memory
    return Resources(cpus=cpus(), memory_bytes=found, disk_bytes=disk.free_bytes(folder))


def slots(hints: Resources, *, maps: int | None = None, reduces: int | None = None) -> Slots:
    """Map and reduce slots: those given, else a map for each core and a reduce for every second one, as far
    as the memory goes with a job's default budget; at least one of each."""
    room = 3 * hints.cpus
    if hints.memory_bytes:
        room = int(hints.memory_bytes * _MEMORY_SHARE) // (MEMORY_BYTES + _EXECUTOR_BYTES)
    if maps is None:
        maps = max(1, min(hints.cpus, room * 2 // 3))
    if reduces is None:
        reduces = max(1, min(hints.cpus // 2, room - maps))
    return Slots(map=maps, reduce=reduces, total=maps + reduces)


def cpus(*, allowed: int | None = None, root: str = "/") -> int:
    """Whole cores: those that this process may run on (`allowed`), less where a control group has a quota."""
    found = float(allowed if allowed is not None else len(os.sched_getaffinity(0)))
    for folder in _groups("cpu", root):
        version_1 = (*_words(f"{folder}/cpu.cfs_quota_us", 1), *_words(f"{folder}/cpu.cfs_period_us", 1))
        for words in (_words(f"{folder}/cpu.max", 2), version_1):
            if len(words) == 2 and all(word.isdigit() and int(word) for word in words):
                found = min(found, int(words[0]) / int(words[1]))
    return max(1, int(found))


def memory_bytes(*, root: str = "/") -> int:
    """Bytes of memory: the machine's, less where a control group has a limit; 0 if unknown."""
    limits = []
    for words in _lines(f"{root}proc/meminfo"):
        if words[0] == "MemTotal:":
            limits.append(int(words[1]) << 10)
    for folder in _groups("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limits += [int(word) for word in _words(f"{folder}/{name}", 1) if word.isdigit()]
    return min(limits, default=0)


def _groups(controller: str, root: str) -> Iterator[str]:
    """Folders of this process's control groups that have a say in `controller`, the innermost first."""
    for line in _lines(f"{root}proc/self/cgroup"):
        _, controllers, path = " ".join(line).split(":", 2)
        if controllers == "":
            tops = [f"{root}sys/fs/cgroup", f"{root}sys/fs/cgroup/unified"]
        elif controller in controllers.split(","):
            tops = [f"{root}sys/fs/cgroup/{controllers}", f"{root}sys/fs/cgroup/{controller}"]
        else:
            continue
        for top in tops:
            inner = path.rstrip("/")
            while True:
                yield top + inner
                if not inner:
                    break
                inner = inner.rpartition("/")[0]


def _lines(path: str) -> list[list[str]]:
    try:
        with open(path) as file:
            return [line.split() for line in file if line.strip()]
    except OSError:
        return []


def _words(path: str, count: int) -> tuple[str, ...]:
    """The first words of a small file; empty where there are fewer."""
    lines = _lines(path)
    words = tuple(lines[0][:count]) if lines else ()
    return words if len(words) == count else ()


def packages() -> dict[str, str]:
    """Every installed distribution, with its version; names as their metadata have them."""
    from importlib.metadata import distributions

    found: dict[str, str] = {}
    for each in distributions():
        name = each.metadata["Name"]
        if name:  # half an installation has none
            found.setdefault(name, each.version or "")
    return dict(sorted(found.items()))
