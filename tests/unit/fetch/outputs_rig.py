"""Map outputs on disk, and servers over them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mrq.core.model import MapLocation
from mrq.core.paths import map_output_path
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.shuffle.mapfile import MapFileWriter, MapHeader

JOB = "job-1"


def attempt(token: str = "b1-7", index: int = 5) -> AttemptRef:
    return AttemptRef(TaskRef(JOB, 0, Kind.MAP, index), 2, 3, token)


def output(
    root: Path,
    index: int = 5,
    sizes: Sequence[int] = (1000,),
    *,
    worker: str = "w1",
    boot: str = "b1",
    ticket: int = 2,
    salt: str = "",
    stage: int = 0,
) -> MapLocation:
    """One map's output with a partition of about so many bytes each."""
    who = AttemptRef(TaskRef(JOB, stage, Kind.MAP, index), ticket, 3, f"{boot}-{index}")
    path = map_output_path(str(root), who)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    header = MapHeader(attempt=who, code="c" * 64)
    writer = MapFileWriter(path, header, partitions=len(sizes))
    for partition, size in enumerate(sizes):
        if size:
            n = max(1, size // 1000)
            writer.begin(partition)
            writer.write(
                [f"{index:06d}-{i:06d}{salt}" for i in range(n)],
                [os.urandom(min(size, 1000) // 2).hex() for _ in range(n)],
            )
            writer.end()
    info = writer.finish()
    return MapLocation(attempt=who, worker=worker, boot=boot, digest=info.digest, bytes=info.bytes)


def path_of(root: Path, location: MapLocation) -> Path:
    return Path(map_output_path(str(root), location.attempt))
