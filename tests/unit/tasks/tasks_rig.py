"""Runs the tasks of a job one by one, in this process, over input files that it writes itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import mrq
from mrq.core.model import JobSpec, Outcome, Piece, Purpose, Split, StageSpec, Status, TaskResult
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.io.output import output_format
from mrq.job.base import Job, defined
from mrq.worker import progress_page as pages
from mrq.worker.attempt_order import AttemptOrder, MapSource
from mrq.worker.tasks import run_attempt

LARGE = 64 << 20
OF_STAGE = {each.name for each in fields(StageSpec)}
#: Settings of a stage that samples keys.
SAMPLE = {"purpose": Purpose.SAMPLE, "reducers": 0}
#: How the paths of the engine's own code begin in frames. The folder of a clone may be called mrq too.
ENGINE = os.path.dirname(mrq.__file__) + os.sep


@dataclass
class Ran:
    """What a whole run left."""

    parts: list[list[tuple[Any, Any]]]
    maps: list[TaskResult]
    reduces: list[TaskResult]
    folder: Path

    @property
    def pairs(self) -> list[tuple[Any, Any]]:
        return [pair for part in self.parts for pair in part]


@dataclass
class Rig:
    """Attempts of one job in a folder of its own."""

    job: Job
    folder: Path
    reducers: int = 1
    memory: int = LARGE
    settings: dict[str, Any] = field(default_factory=dict)  #: of the job or of its only stage
    stage: dict[str, Any] = field(default_factory=dict)  #: settings of its only stage
    count: int = 0

    def spec(self) -> JobSpec:
        reducers = self.reducers if defined(type(self.job), "reduce") else 0
        stage = StageSpec(splits=(), reducers=reducers, output_format="records")
        of_stage = {name: self.settings[name] for name in self.settings.keys() & OF_STAGE}
        return replace(
            JobSpec(
                job="rig",
                name=type(self.job).__name__,
                code="0" * 64,
                entry="rig:Job",
                parameters={},
                inputs=(),
                stages=(replace(stage, **of_stage, **self.stage),),
                memory_bytes=self.memory,
                staging=str(self.folder),
                skip_bad_records=0,
            ),
            **{name: value for name, value in self.settings.items() if name not in of_stage},
        )

    def piece(self, data: bytes, name: str | None = None) -> Piece:
        """A file with these bytes."""
        self.count += 1
        path = self.folder / (name or f"input-{self.count}.txt")
        path.write_bytes(data)
        stat = path.stat()
        return Piece(
            path=path.name,
            open=str(path),
            start=0,
            length=len(data),
            size=len(data),
            mtime_ns=stat.st_mtime_ns,
        )

    def order(self, kind: Kind, index: int, **fields: Any) -> AttemptOrder:
        self.count += 1
        place = self.folder / f"attempt-{self.count}"
        (place / "scratch").mkdir(parents=True)
        pages.create(str(place / "page"))
        order = AttemptOrder(
            attempt=AttemptRef(TaskRef(self.spec().job, 0, kind, index), 1, 1, f"t{self.count}"),
            spec=self.spec(),
            maps=1,
            output_path=str(place / f"m-{index:05d}.1.1.t{self.count}"),
            staging=str(place / "staged"),
            scratch=str(place / "scratch"),
            page_path=str(place / "page"),
        )
        return replace(order, **fields)

    def run(self, order: AttemptOrder) -> Outcome:
        return run_attempt(order, self.job, pages.open_page(order.page_path))

    def map_order(self, index: int, *data: bytes, **fields: Any) -> AttemptOrder:
        pieces = tuple(self.piece(part) for part in data)
        return self.order(Kind.MAP, index, split=Split(index=index, pieces=pieces), **fields)

    def map(self, index: int, *data: bytes, **fields: Any) -> Outcome:
        """One map over files with these bytes."""
        return self.run(self.map_order(index, *data, **fields))

    def whole(self, *splits: bytes) -> Ran:
        """All maps and reduces; fails on any outcome but DONE."""
        sources, maps = [], []
        for index, data in enumerate(splits):
            order = self.map_order(index, data)
            result = done(self.run(order))
            maps.append(result)
            path = order.output_path if result.bytes_out else ""
            sources.append(MapSource(map_index=index, digest=result.digest, path=path))
        reduces = []
        if self.spec().reducers and self.spec().stage(0).purpose is Purpose.WORK:
            for partition in range(self.reducers):
                reduces.append(done(self.run(self.order(Kind.REDUCE, partition, sources=tuple(sources)))))
        return Ran([self.part(result) for result in reduces or maps], maps, reduces, self.folder)

    def part(self, result: TaskResult) -> list[tuple[Any, Any]]:
        form = output_format(self.spec().last.output_format)
        files = [file for file in result.files if file.final.startswith("part-")]
        return [pair for file in files for pair in form.read(os.path.join(self.folder, file.name))]


def done(outcome: Outcome) -> TaskResult:
    assert outcome.status is Status.DONE, outcome.error
    assert outcome.result is not None
    return outcome.result


def lines(values: Sequence[str]) -> bytes:
    return b"".join(value.encode() + b"\n" for value in values)
