"""`mrq retry`: what of a failed or killed job is still good, and a machine that goes on from there.

The evidence is what lies on disk, not what the checkpoint remembers: a map counts as done when its
map-output file passes its checksums and its footer names this very attempt and code; a reduce, when every
file that its journal line names lies in the staging folder with those bytes. The checkpoint adds what
files can't say (generations, attempt numbers, charges). Where the two differ, the disk wins.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from mrq.commit import claim, manifest
from mrq.commit.staging import Staging
from mrq.core import events as e
from mrq.core.checked import Checked
from mrq.core.machine import Machine
from mrq.core.machine_config import MachineConfig
from mrq.core.model import NO_LIMITS, JobSpec, JobState, Limits, Purpose, StagedFile, TaskResult
from mrq.core.refs import Kind, TaskRef
from mrq.errors import CorruptFileError, InputError, MrqError, UsageError
from mrq.io import inputs
from mrq.master.jobfolder import Completion, JobFolder
from mrq.shuffle.mapfile import MapFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A job that can go on."""

    spec: JobSpec
    code: bytes
    staging: Staging | None
    machine: Machine | None  #: None: begin with a new one
    events: tuple[e.Event, ...]  #: to hand it, in order
    results: dict[TaskRef, TaskResult]


def recover(
    folder: JobFolder,
    *,
    worker: str,
    boot: str,
    now: float,
    restore: bool = True,
    limits: Limits = NO_LIMITS,
) -> Recovered:
    """Look through a job's folder. What is intact is given to this worker and boot; the job goes on under
    `limits`, which its folder keeps.

    Without `restore` the checkpoint is passed over: the machine that takes the job has others already.

    Raises InputError naming inputs that changed, or OutputError.
    """
    kept = folder.spec()
    limits.check(kept)
    spec = limits.applied(kept)
    if spec.purpose is Purpose.SAMPLE:
        raise UsageError(f"job {spec.job} was only sampling keys for a total order: submit the job anew")
    changed = inputs.changed([piece for split in spec.splits for piece in split.pieces])
    if changed:
        shown = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise InputError(
            f"job {spec.job} can't go on: its input changed since it was submitted: {shown}; submit it anew"
        )
    code = folder.code()
    if hashlib.sha256(code).hexdigest() != spec.code:
        raise CorruptFileError(
            f"job {spec.job} can't go on: the code kept in {folder.path}/code.bundle isn't what was "
            "submitted (its sha256 is another); submit the job anew"
        )
    staging = claim.reopen(spec)
    journalled = {done.attempt.task: done for done in folder.journal()}
    intact = {task: done for task, done in journalled.items() if _intact(folder, spec, done)}
    for task in _misread(spec, intact):
        del intact[task]
    machine = _restored(folder, spec, now) if restore else None
    events: list[e.Event] = []
    if machine is None:
        events.append(e.JobSubmitted(spec=spec))
    else:
        events += [e.Restored(embedded=True, incarnation=time.time_ns()), *_missing(machine, spec, intact)]
    events += [
        e.OutputRecovered(
            attempt=done.attempt,
            worker=worker,  # the files are this engine's now
            boot=boot,
            result=done.result,
        )
        for done in intact.values()
    ]
    state = machine.state(spec.job) if machine is not None else None
    if state in (JobState.FAILED, JobState.CANCELLED) or (state is not None and limits != NO_LIMITS):
        events.append(e.RetryRequested(job=spec.job, limits=limits))
    if limits != NO_LIMITS:
        folder.keep_spec(spec)
    return Recovered(
        spec=spec,
        code=code,
        staging=staging,
        machine=machine,
        events=tuple(events),
        results={task: done.result for task, done in intact.items()},
    )


def _restored(folder: JobFolder, spec: JobSpec, now: float) -> Machine | None:
    """The checkpoint's machine, if it is whole and holds this job alone; the journal does without it."""
    saved = folder.last_checkpoint()
    if saved is None:
        return None
    try:
        machine = Machine.load(saved, now, MachineConfig.for_embedded(), wall=time.time() - now)
    except CorruptFileError:
        return None
    return machine if machine.jobs() == [spec.job] else None


def _missing(machine: Machine, spec: JobSpec, intact: dict[TaskRef, Completion]) -> Iterator[e.Event]:
    """What the checkpoint takes for done and the disk doesn't have (in that attempt)."""
    for attempt, _ in machine.completed(spec.job):
        done = intact.get(attempt.task)
        if done is None or done.attempt != attempt:
            yield e.OutputMissing(attempt=attempt)


def _misread(spec: JobSpec, done: dict[TaskRef, Completion]) -> set[TaskRef]:
    """Maps that read an input that didn't have the bytes of its manifest: it may have been mended since."""
    checked = Checked.of(spec.splits)
    if checked is None:
        return set()

    def result(index: int) -> TaskResult | None:
        found = done.get(TaskRef(spec.job, 0, Kind.MAP, index))
        return None if found is None else found.result

    read = [{TaskRef(spec.job, 0, Kind.MAP, index) for index in part.maps} for part in checked.wrong(result)]
    return {task for tasks in read if tasks <= done.keys() for task in tasks}


def _intact(folder: JobFolder, spec: JobSpec, done: Completion) -> bool:
    try:
        if done.attempt.task.kind is Kind.MAP and spec.reducers:
            if not done.result.bytes_out:  # nothing was written
                return True
            path = f"{folder.path}/maps/{done.attempt}"
            with MapFile(path) as file:
                file.verify()
                found = (file.header.attempt, file.header.code, file.digest)
                return found == (done.attempt, spec.code, done.result.digest)
        return all(_staged(spec, file) for file in done.result.files)
    except (OSError, MrqError):
        return False


def _staged(spec: JobSpec, file: StagedFile) -> bool:
    """Whether a staged file has the bytes it should, wherever the commit may have moved it by now."""
    assert spec.staging is not None
    places = [os.path.join(spec.staging, file.name), os.path.join(spec.staging, "out", file.final)]
    if _published(spec):
        places.append(os.path.join(str(spec.output_open), file.final))
    return any(manifest.intact(path, file) for path in places)


def _published(spec: JobSpec) -> bool:
    """Whether OUT is this very job's output: killed between the last rename and the end."""
    if spec.output_open is None:
        return False
    try:
        return manifest.read_manifest(spec.output_open).job == spec.job
    except (OSError, MrqError):
        return False
