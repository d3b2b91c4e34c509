"""What a worker keeps on disk for its jobs, and the orders that are made of it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from mrq.core import paths
from mrq.core.model import FetchFailure, JobSpec, MapLocation, StageSpec, TaskMessage
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.errors import DiskFullError, MrqError, OperatorError, WorkerFolderError
from mrq.io import disk
from mrq.ports import WorkerStore
from mrq.worker import code_cache, folders
from mrq.worker.attempt_order import AttemptOrder, MapSource
from mrq.worker.code_cache import CodeCache

#: What a job's folder holds that is this worker's; the rest (spec, log, lock) is the master's, and logs
#: stay for whoever looks for what failed.
_OURS: Final = ("maps", "fetched", "scratch")
#: Jobs that are over whose failed attempts' logs stay on a worker of a cluster.
_LOGS_KEPT: Final = 50
#: What attempts write into.
_FOLDERS: Final = ("maps", "scratch", "logs")
#: What is made again on a worker that has its folder for itself.
_MENDED: Final = (*_FOLDERS, "fetched")


class MissingMaps(MrqError):
    """A reduce was started whose map outputs aren't all there (any more)."""

    def __init__(self, failures: tuple[FetchFailure, ...]) -> None:
        super().__init__(f"{len(failures)} map outputs aren't there")
        self.failures = failures


class CodeMissing(MrqError):
    """The store knows the job and not its code: asking again is of no use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedJob:
    """A job as the store has it, its code unpacked."""

    spec: JobSpec
    code: str  #: the folder
    stage: int  #: the run of a stage whose plan is in the spec, if it is known: its number


@dataclass(slots=True)
class _Run:
    """A run of a stage."""

    stage: StageSpec
    spec: JobSpec  #: without splits
    plan: int  #: the plan's checksum
    locations: dict[int, MapLocation] = field(default_factory=dict)  #: by map index
    withdrawn: dict[int, int] = field(default_factory=dict)  #: map index -> the ticket of the one that was
    position: int = 0  #: in the stream of locations

    @classmethod
    def of(cls, spec: JobSpec, number: int) -> _Run | None:
        """That of a number, if its plan is in the spec."""
        stage = spec.stage(number)
        if stage.plan is None:
            return None
        return cls(stage=stage, spec=spec.without_splits(), plan=stage.plan.checksum)

    def limited(self, message: TaskMessage) -> JobSpec:
        """The spec under the limits that a retry may have set since it was read: the message has them."""
        spec, skip = self.spec, message.skip_bad_records
        skip = spec.skip_bad_records if skip is None else skip
        memory = message.needs.memory_bytes or spec.memory_bytes
        if (skip, memory) != (spec.skip_bad_records, spec.memory_bytes):
            self.spec = replace(spec, skip_bad_records=skip, memory_bytes=memory)
        return self.spec


@dataclass(slots=True)
class _Job:
    spec: JobSpec  #: as submitted
    code: str  #: the folder
    runs: dict[int, _Run] = field(default_factory=dict)  #: by number

    def run(self, message: TaskMessage) -> _Run | None:
        """The run of the stage that a task is of, by the plan that its message is of; None where that isn't
        known. A store that fell back may have had another plan."""
        number = message.task.stage
        found = self.runs.get(number)
        if found is None and (made := _Run.of(self.spec, number)) is not None:
            found = self.runs[number] = made
        return found if found is not None and message.plan in (0, found.plan) else None


@dataclass(eq=False, kw_only=True)
class JobFiles:
    """The jobs that this worker knows; owned by one thread, but for `find`.

    `remove` deletes a folder, at once by default. With it the root is this worker's alone, and logs of jobs
    that are over go in the end. Without `makes` a job's folder is its engine's to make and remove: a job
    without one is over.
    """

    root: str
    store: WorkerStore
    codes: CodeCache
    remove: Callable[[str], None] | None = None
    makes: bool = True
    #: Of jobs that are over: folders, oldest first.
    _logs: OrderedDict[str, None] = field(default_factory=OrderedDict, init=False)
    _jobs: dict[str, _Job] = field(default_factory=dict, init=False)

    def __contains__(self, job: str) -> bool:
        return job in self._jobs

    @property
    def jobs(self) -> list[str]:
        """Those that aren't forgotten."""
        return list(self._jobs)

    def find(self, job: str, stage: int) -> FetchedJob | None:
        """Ask the store for a job, with the plan of a run of a stage, and unpack its code, from any thread;
        None when the job is over.

        Raises DiskFullError, and MrqError for code that is damaged or a store that's away.
        """
        spec = self.store.job(job, stage)
        if spec is None:
            return None
        folder = paths.job_folder(self.root, job)
        if not (self.makes or os.path.isdir(folder)):
            if job in self._jobs:
                raise WorkerFolderError(_removed(folder))
            return None
        code = self.codes.folder(spec.code)
        if not os.path.isdir(code):
            data = self.store.code(spec.code)
            if data is None:
                raise CodeMissing(f"job {job}'s code {spec.code} isn't in the store; submit the job again")
            code_cache.unpack(data, code, job)
        return FetchedJob(spec=spec, code=code, stage=stage)

    def add(self, found: FetchedJob) -> bool:
        """Make the job known; False where its code was removed meanwhile: find it again. Raises MrqError."""
        spec = found.spec
        self.codes.use(spec.job, spec.code)
        if not os.path.isdir(found.code):
            return False
        folder = paths.job_folder(self.root, spec.job)
        if self.makes:
            try:
                for part in _FOLDERS:
                    os.makedirs(f"{folder}/{part}", mode=0o700, exist_ok=True)
            except OSError as exc:
                named = disk.named(exc, folder)
                if isinstance(named, DiskFullError):
                    raise named from exc
                why = self.mend(spec.job)
                if why is not None:
                    raise WorkerFolderError(why) from exc
        self._logs.pop(folder, None)  # it goes on
        before = self._jobs.get(spec.job)
        runs = dict(before.runs) if before is not None else {}
        if (run := _Run.of(spec, found.stage)) is not None:
            runs[found.stage] = run
        self._jobs[spec.job] = _Job(spec=spec, code=found.code, runs=runs)
        return True

    def ready(self, message: TaskMessage) -> bool:
        """Is a task's job known, with the plan that its message is of, and its code still unpacked? Else the
        job is to be looked up."""
        known = self._jobs.get(message.task.job)
        return known is not None and known.run(message) is not None and os.path.isdir(known.code)

    def mend(self, job: str) -> str | None:
        """Make a job's folders again that have vanished, or can't be written; why that can't be."""
        folder = paths.job_folder(self.root, job)
        if not os.path.isdir(self.root):
            return _removed(self.root)
        if not self.makes and not os.path.isdir(folder):
            return _removed(folder)
        try:
            for part in _MENDED if self.makes else _FOLDERS:
                folders.mend(f"{folder}/{part}", self.root)
        except OSError as exc:
            return f"{exc.filename or folder} can't be made again: {exc.strerror}"
        return None

    def maps(self, message: TaskMessage) -> int:
        """How many map tasks the stage has that a known job's task is of."""
        run = self._jobs[message.task.job].run(message)
        return len(run.stage.splits) if run is not None else 0

    def order(
        self, message: TaskMessage, attempt: AttemptRef, sources: tuple[MapSource, ...] | None = None
    ) -> tuple[AttemptOrder, str]:
        """The order of a known job's attempt and the folder of its code. A reduce without `sources` reads the
        map outputs where the store's locations say that they lie. Raises MissingMaps, OperatorError."""
        task, job = attempt.task, self._jobs[attempt.task.job]
        run = job.run(message)
        if run is None:  # it was persisted before the message was sent
            raise OperatorError(f"what {task} of job {task.job} needs to know isn't in the store any more")
        spec, stage = run.limited(message), run.stage
        if sources is None:
            sources = self._sources(task, run) if task.kind is Kind.REDUCE else ()
        scratch = paths.scratch_path(self.root, attempt)
        writes_map = task.kind is Kind.MAP and stage.reducers > 0
        order = AttemptOrder(
            attempt=attempt,
            spec=spec,
            maps=len(stage.splits),
            split=stage.splits[task.index] if task.kind is Kind.MAP else None,
            sources=sources,
            output_path=paths.map_output_path(self.root, attempt) if writes_map else "",
            staging=f"{spec.staging}/{paths.staged_folder(attempt)}" if spec.staging else "",
            scratch=scratch,
            log_path=paths.log_path(self.root, attempt),
            page_path=f"{scratch}/page",
            careful=message.careful,
            strict_order=message.strict_order,
            alone=message.alone,
        )
        return order, job.code

    def forget(self, job: str) -> list[str]:
        """Keep no more in memory of a job that is over; the folders of code that no job uses now."""
        self._jobs.pop(job, None)
        return self.codes.release(job)

    def drop(self, job: str) -> list[str]:
        """`forget`, and delete what the job left here. Never raises."""
        unused = self.forget(job)
        folder = paths.job_folder(self.root, job)
        remove = self.remove or partial(shutil.rmtree, ignore_errors=True)
        for name in _OURS:
            remove(f"{folder}/{name}")
        with contextlib.suppress(OSError):
            os.rmdir(f"{folder}/logs")  # if nothing is in it
        with contextlib.suppress(OSError):
            os.rmdir(folder)  # if it is ours alone
        if self.remove is not None and os.path.isdir(folder):
            self._logs[folder] = None
            self._logs.move_to_end(folder)
            while len(self._logs) > _LOGS_KEPT:
                remove(self._logs.popitem(last=False)[0])
        return unused

    def drop_maps(self, job: str, stage: int) -> None:
        """Delete the map outputs of a job's stages up to the run of that number. Never raises."""
        folder, known = f"{paths.job_folder(self.root, job)}/maps", self._jobs.get(job)
        if known is not None:
            known.runs = {number: run for number, run in known.runs.items() if number > stage}
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                attempt = AttemptRef.named(job, name)
                if attempt is not None and attempt.task.stage <= stage:
                    with contextlib.suppress(OSError):
                        os.unlink(f"{folder}/{name}")

    def _sources(self, task: TaskRef, run: _Run) -> tuple[MapSource, ...]:
        """Every map's output, in map order. Raises MissingMaps."""
        missing = self._follow(task, run)
        if missing:  # the stream may be another one, of a store that was written anew
            run.position, run.locations = 0, {}
            missing = self._follow(task, run)
        if missing:
            raise MissingMaps(
                tuple(
                    FetchFailure(map_index=i, ticket=run.withdrawn.get(i, 0), reason="not_found")
                    for i in missing
                )
            )
        found = [run.locations[index] for index in range(len(run.stage.splits))]
        return tuple(
            MapSource(  # there is no file of an output of 0 bytes
                map_index=index,
                digest=each.digest,
                path=paths.map_output_path(self.root, each.attempt) if each.bytes else "",
            )
            for index, each in enumerate(found)
        )

    def _follow(self, task: TaskRef, run: _Run) -> list[int]:
        """Read on in the stream of locations; the maps of a reduce's stage that have none."""
        run.position, entries = self.store.locations(task.job, run.position)
        for location, withdrawn in entries:
            if location.attempt.task.stage != task.stage:
                continue
            index = location.map_index
            if not withdrawn:
                run.locations[index] = location
            else:
                run.withdrawn[index] = location.attempt.ticket
                if index in run.locations and run.locations[index].attempt == location.attempt:
                    del run.locations[index]
        return [index for index in range(len(run.stage.splits)) if index not in run.locations]

    def log_path(self, job: str, name: str) -> str | None:
        """Where the log of an attempt of that name is, or would be; None for what is no such name."""
        if AttemptRef.named(job, name) is None or "/" in name:
            return None
        return f"{paths.job_folder(self.root, job)}/logs/{name}.log"


def _removed(folder: str) -> str:
    return (
        f"{folder} is gone: it was removed, or its disk went away, while a job ran in it; leave what lies "
        "below MRQ_TMP (or a worker's --root) alone while something runs"
    )
