"""`mrq retry`: what of a failed or killed job is still good, and the events with which its machine goes on.

What the job's log says is adopted as a new leader adopts what it finds in Redis (`core.persistence`):
tickets, attempts, charges, results. What is complete by it counts only where the disk has it: a map when
its map-output file passes its checksums and its footer names this very attempt and code; a reduce when every
file of its result lies in the staging folder, or already in OUT, with those bytes. Where the two differ, the
disk wins.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from mrq.commit import between, claim, manifest
from mrq.core import events as e
from mrq.core.checked import Checked
from mrq.core.machine import Machine
from mrq.core.machine_config import MachineConfig
from mrq.core.model import (
    NO_LIMITS,
    JobSpec,
    JobState,
    Limits,
    Purpose,
    StagedFile,
    StageSpec,
    TaskResult,
)
from mrq.core.refs import AttemptRef, Kind
from mrq.core.store_api import Fence, StoredJob
from mrq.errors import CorruptFileError, MrqError
from mrq.io import inputs
from mrq.servers.memory.jobfolder import JobFolder, KeptJob, bring, refuse_other
from mrq.servers.memory.log import JobLog
from mrq.servers.memory.private import sweep
from mrq.shuffle.mapfile import MapFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A job that can go on."""

    folder: JobFolder
    log: JobLog
    kept: KeptJob
    code: bytes
    epoch: int  #: under which its leader writes: later than whoever had it before
    events: tuple[e.Event, ...]  #: to hand the machine, in order


def recover(root: str, job: str, *, old: str | None, worker: str, boot: str, limits: Limits) -> Recovered:
    """Take the job of an engine that is gone, kept under `root`, or under `old` and moved to `root`. What its
    log and the disk say is complete is given to this worker and boot; it goes on under `limits`, which its
    folder keeps.

    Raises UsageError for a job that isn't kept or can't go on, InputError for inputs that changed,
    OutputError, DiskFullError or CorruptFileError.
    """
    if old is not None:
        bring(os.path.abspath(old), root, job)
    folder = JobFolder.reopen(root, job)
    sweep(root)  # of the engine that died: what this job doesn't need
    try:
        kept = folder.kept()
        refuse_other(kept, folder.path)
        limits.check(kept.spec)
        inputs.refuse_changed(kept.spec.job, kept.spec)
        code = folder.code()
        if hashlib.sha256(code).hexdigest() != kept.spec.code:
            raise CorruptFileError(
                f"job {kept.spec.job} can't go on: the code kept in {folder.path}/code.bundle isn't what "
                "was submitted (its sha256 is another); submit the job anew"
            )
        log, stored = JobLog.open(folder.path, kept.spec)
    except BaseException:
        folder.close()
        raise
    try:
        return _recovered(folder, log, kept, code, stored, worker=worker, boot=boot, limits=limits)
    except BaseException:
        log.close()
        folder.close()
        raise


def _recovered(
    folder: JobFolder,
    log: JobLog,
    kept: KeptJob,
    code: bytes,
    stored: StoredJob | None,
    *,
    worker: str,
    boot: str,
    limits: Limits,
) -> Recovered:
    kept = replace(kept, spec=limits.applied(kept.spec))
    spec = kept.spec
    claim.reopen(spec)
    if stored is None:
        nothing = Fence(incarnation=1, epoch=0, owner="", seq=0)
        stored = StoredJob(
            spec=spec,
            fence=nothing,
            state=JobState.PENDING,
            error=None,
            job_record=None,
            records={},
            recorded=(),
        )
    stored = replace(stored, spec=spec)
    now = time.monotonic()
    machine = Machine(MachineConfig.for_one_worker(), wall=time.time() - now)
    machine.adopt(stored, now)
    stage, completed = machine.stage(spec.job) or spec.stages[0], dict(machine.completed(spec.job))
    missing: list[e.Event] = [
        e.OutputMissing(attempt=won) for won in _missing(folder, spec, stage, completed)
    ]
    missing += _lost(spec, machine)
    if limits != NO_LIMITS:
        folder.keep(kept)
    return Recovered(
        folder=folder,
        log=log,
        kept=kept,
        code=code,
        epoch=stored.fence.epoch + 1,
        events=(
            e.JobReopened(stored=stored, worker=worker, boot=boot),  # the files are this engine's now
            *missing,
            e.RetryRequested(job=spec.job, limits=limits),
        ),
    )


def _lost(spec: JobSpec, machine: Machine) -> Iterator[e.PartsLost]:
    """Files of bad records of stages that are complete, which nobody but these stages can write again. What
    lies between two stages is found by whoever reads it."""
    for each in machine.passed(spec.job):
        gone = [file for file in each.bad if not _staged(spec, file)]
        number = machine.number(spec.job)
        if gone and number is not None:
            why = f"{gone[0].final}, of a stage that was complete, isn't on the disk any more"
            yield e.PartsLost(job=spec.job, stage=number, why=why)
            return


def _missing(
    folder: JobFolder, spec: JobSpec, stage: StageSpec, done: dict[AttemptRef, TaskResult]
) -> Iterator[AttemptRef]:
    """What is complete by the log, of the stage that the job is at, and isn't on the disk; and maps that are
    to read their input again. With all reduces there nobody reads map outputs any more."""
    maps = {won: result for won, result in done.items() if won.task.kind is Kind.MAP}
    reduces = {won: result for won, result in done.items() if won.task.kind is Kind.REDUCE}
    gone = {won for won, result in reduces.items() if not _intact(folder, spec, stage, won, result)}
    if not stage.reducers or len(reduces) - len(gone) < stage.reducers:
        gone |= {won for won, result in maps.items() if not _intact(folder, spec, stage, won, result)}
    yield from gone
    if stage.purpose is Purpose.WORK and not stage.reads_parts:
        yield from _misread(stage, {won: result for won, result in maps.items() if won not in gone})


def _misread(stage: StageSpec, maps: dict[AttemptRef, TaskResult]) -> Iterator[AttemptRef]:
    """Maps that read an input that didn't have the bytes of its manifest: it may have been mended since."""
    checked = Checked.of(stage.splits)
    if checked is None:
        return
    by_index = {won.task.index: won for won in maps}

    def result(index: int) -> TaskResult | None:
        return maps[by_index[index]] if index in by_index else None

    found = [part.maps for part in checked.wrong(result) if by_index.keys() >= set(part.maps)]
    yield from {by_index[index] for indices in found for index in indices}


def _intact(folder: JobFolder, spec: JobSpec, stage: StageSpec, won: AttemptRef, result: TaskResult) -> bool:
    try:
        if won.task.kind is Kind.MAP and stage.reducers:
            if not result.bytes_out:  # nothing was written
                return True
            with MapFile(f"{folder.path}/maps/{won}") as file:
                file.verify()
                found = (file.header.attempt, file.header.code, file.digest)
                return found == (won, spec.code, result.digest)
        return all(_staged(spec, file, won.task.stage) for file in result.files)
    except (OSError, MrqError):
        return False


def _staged(spec: JobSpec, file: StagedFile, number: int | None = None) -> bool:
    """Whether a staged file has the bytes it should, wherever the commit may have moved it by now, or whoever
    kept the parts of the run of a stage that wrote it."""
    assert spec.staging is not None
    places = [os.path.join(spec.staging, file.name), os.path.join(spec.staging, "out", file.final)]
    if number is not None:
        places.append(between.path_of(spec.staging, number, file))
    with suppress(
        OSError, MrqError
    ):  # OUT may be this very job's: killed between the last rename and the end
        if spec.output_open is not None and manifest.read_manifest(spec.output_open).job == spec.job:
            places.append(os.path.join(spec.output_open, file.final))
    return any(manifest.intact(path, file) for path in places)
