"""The shared disk of a simulated cluster, as far as a job's stages meet there: what attempts stage, and what
lies between two stages. As `commit.between` and `io.plan.following` do it with files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.model import FOLLOWS, JobSpec, Piece, Purpose, Split, StagedFile, StagePlan


@dataclass
class Disk:
    """Files by path; of each its content, in a number that is its checksum."""

    files: dict[str, int] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)  #: parts between stages that were lost, by job

    def planned(self, spec: JobSpec, command: c.PlanStage) -> e.Event:
        """Keep a complete stage's parts, and say what follows for the next one."""
        place = spec.index_of(command.stage)
        if spec.stage(command.complete).purpose is Purpose.SAMPLE:
            # Boundaries that say which samples they were cut from.
            plan = replace(command.known, boundaries=command.samples)
            return e.StagePlanned(job=spec.job, stage=command.stage, plan=plan)
        for part in command.parts:
            kept = kept_path(spec.job, command.complete, part)
            if part.name in self.files:
                self.files[kept] = self.files.pop(part.name)
            elif self.files.get(kept) != part.crc32:
                why = f"{part.name} is gone"
                return e.PartsLost(job=spec.job, stage=command.complete, why=why)
        self._remove_before(spec.job, command.complete)
        plan = following(spec, place, command.complete, command.parts)
        return e.StagePlanned(job=spec.job, stage=command.stage, plan=plan)

    def _remove_before(self, job: str, number: int) -> None:
        begin = f"{job}/stages/"
        for path in [p for p in self.files if p.startswith(begin)]:
            if int(path[len(begin) :].split("/")[0]) < number:
                del self.files[path]

    def has(self, job: str, number: int, file: StagedFile) -> bool:
        """Is a winner's file there, where its attempt wrote it or where it is kept?"""
        return self.files.get(file.name) == file.crc32 or self._kept(job, number, file) == file.crc32

    def _kept(self, job: str, number: int, file: StagedFile) -> int | None:
        return self.files.get(kept_path(job, number, file))

    def lose_a_part(self, rng: Random, going: Mapping[str, object]) -> str:
        """One that lies between two stages of a job that isn't over is removed, damaged, or another's. Which
        of it was; "" where there is none."""
        there = [path for path in self.files if "/stages/" in path and path.split("/")[0] in going]
        if not there:
            return ""
        path, how = rng.choice(there), rng.choice(("removed", "damaged", "changed"))
        self.lost[path.split("/")[0]] += 1
        if how == "removed":
            del self.files[path]
        else:
            self.files[path] = -1 if how == "damaged" else self.files[path] ^ 1
        return f"{path} {how}"


def kept_path(job: str, number: int, part: StagedFile) -> str:
    return f"{job}/stages/{number}/{part.final}"


def following(spec: JobSpec, place: int, number: int, parts: tuple[StagedFile, ...]) -> StagePlan:
    """A map for each part; of a sampling, for some."""
    stage = spec.stages[place]
    if stage.purpose is Purpose.SAMPLE:
        then = following(spec, place + 1, number, parts)
        chosen = enumerate((then.splits or ())[::2])
        return StagePlan(splits=tuple(replace(split, index=i) for i, split in chosen), then=then)
    splits = tuple(_split(spec.job, number, index, part) for index, part in enumerate(parts))
    return StagePlan(splits=splits, reducers=len(parts) if stage.reducers == FOLLOWS else stage.reducers)


def _split(job: str, number: int, index: int, part: StagedFile) -> Split:
    path = kept_path(job, number, part)
    piece = Piece(path=path, open=path, start=0, length=1, size=1, mtime_ns=0, crc32=part.crc32)
    return Split(index=index, pieces=(piece,))
