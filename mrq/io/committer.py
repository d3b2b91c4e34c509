"""Staging folders and the commit: performs `core.commit` on local and shared file systems.

    dirname(OUT)/.NAME.mrq/
      job               the owner (see `io.owner`)
      attempts/…        what attempts write, each in a folder of its own
      manifest          the link that decides the commit
      out/              what becomes OUT: the winners' files, _bad/, _SUCCESS
      old               the earlier output, between being displaced and being removed

A reader of OUT sees what was there before, complete, until one rename makes it the new output, complete.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from mrq.core import commit as c
from mrq.core.commit import Manifest, parse_manifest
from mrq.core.model import JobSpec, StagedFile
from mrq.core.paths import check_job_id
from mrq.errors import CorruptFileError, InternalError, MrqError, OutputError
from mrq.io import disk, owner
from mrq.io.earlier import SUCCESS, identity, refusal
from mrq.io.filesystem import FileSystem
from mrq.io.performer import MANIFEST, Performer, is_right, remove
from mrq.io.streams import is_url

__all__ = [
    "Manifest",
    "Staging",
    "abandon",
    "check",
    "commit",
    "intact",
    "manifest_of",
    "part_files",
    "parts",
    "prepare",
    "read_manifest",
    "reopen",
]

_FS: Final = FileSystem()
#: Where it stands what to do about a claim that nobody lets go of.
_GUIDE: Final = 'docs/operations.md, "An output that stays claimed"'
#: Another job may come and go between two looks; more often than this is a riot.
_TRIES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """A job's claim on an OUT, and the folder beside it."""

    output: str  #: as spelled
    output_open: str  #: absolute, links resolved
    folder: str  #: absolute: `.NAME.mrq` beside OUT
    job: str
    displaces: str | None  #: identity of the earlier output, to be replaced; None: there was none
    notes: list[str] = field(default_factory=list)  #: what the user should be told, one sentence each


def prepare(
    output: str,
    job: str,
    overwrite: bool = False,
    *,
    inputs: Sequence[str] = (),
    shown: str | None = None,
    cluster: owner.Cluster | None = None,
    claim: str = "",
    fs: FileSystem = _FS,
) -> Staging:
    """Claim OUT for a job before anything runs.

    `shown` is OUT as the user spelled it, for messages. `inputs` are the absolute paths of input files:
    refused inside an OUT that would be replaced. An empty directory may stand where OUT goes; a finished
    result there needs `overwrite`, and anything else is refused. With `cluster` the claim is that cluster's,
    and made again by its next leader it is the same one; `claim` is what the job's record holds of it. Raises
    OutputError when OUT exists, can't be made, or another living job has it; DiskFullError.
    """
    staging = _beside(output, job, shown)
    folder, parent = staging.folder, os.path.dirname(staging.output_open)
    with disk.naming(parent):
        made = _make_parents(fs, parent)
        owner.sweep(fs, folder)
    for _ in range(_TRIES):
        displaces = _displaces(fs, staging, overwrite, inputs)
        staging = replace(staging, displaces=displaces)
        me = owner.myself(job, displaces, made, cluster, claim)
        with disk.naming(folder):
            if owner.create(fs, folder, me):
                return staging
            held = owner.holder(fs, folder) if cluster is not None else None
        if held is not None and held[1].job == job and held[1].is_mine(cluster, claim):
            return replace(staging, displaces=held[1].displaces)
        if _take_over(fs, staging, me, cluster):
            return staging
    raise OutputError(f"{folder} is being fought over by several jobs; give each its own output")


def check(
    output: str,
    job: str,
    overwrite: bool = False,
    *,
    inputs: Sequence[str] = (),
    shown: str | None = None,
    cluster: owner.Cluster | None = None,
    fs: FileSystem = _FS,
) -> None:
    """Refuse an OUT as `prepare` would, and leave everything as it is. Raises OutputError, DiskFullError."""
    staging = _beside(output, job, shown)
    parent = os.path.dirname(staging.output_open)
    missing = _missing(parent)
    _displaces(fs, staging, overwrite, inputs)
    there = os.path.dirname(missing[-1]) if missing else parent
    with disk.naming(parent if missing else staging.folder), tempfile.TemporaryFile(dir=there):
        pass
    former = _former(fs, staging, cluster)
    if former is not None and not overwrite and fs.read(f"{staging.folder}/{MANIFEST}") is not None:
        raise _exists(staging)  # once the commit that its owner had decided is finished


def _beside(output: str, job: str, shown: str | None) -> Staging:
    """Where a job's OUT is staged. Raises OutputError for what can't be an OUT anywhere."""
    check_job_id(job)
    if is_url(output):
        raise OutputError(f"{output}: an output must be a path of a file system; URLs can only be read")
    target = os.path.realpath(output)
    parent, name = os.path.split(target)
    if not name or not output:
        raise OutputError(f"{output or 'an empty path'}: not a name for an output directory")
    folder = f"{parent}/.{name}.mrq".replace("//", "/")
    return Staging(output=shown or output, output_open=target, folder=folder, job=job, displaces=None)


def _missing(parent: str) -> list[str]:
    """The folders that aren't there, innermost first. Raises OutputError for a file in their place."""
    missing = []
    while not os.path.isdir(parent):
        if os.path.lexists(parent):
            raise OutputError(f"{parent} isn't a directory, so nothing can be written below it")
        missing.append(parent)
        parent = os.path.dirname(parent)
    return missing


def _make_parents(fs: FileSystem, parent: str) -> tuple[str, ...]:
    """Make missing parents; those that were made, innermost first."""
    missing = _missing(parent)
    for path in reversed(missing):
        try:
            fs.mkdir(path)
        except FileExistsError:
            missing.remove(path)
    return tuple(missing)


def _displaces(fs: FileSystem, staging: Staging, overwrite: bool, inputs: Sequence[str]) -> str | None:
    """The identity of what stands at OUT and may be replaced; None when nothing stands there."""
    out, shown = staging.output_open, staging.output
    if not os.path.lexists(out):
        return None
    if not os.path.isdir(out):
        raise OutputError(f"{shown} exists and isn't a directory; choose another output")
    if os.path.ismount(out):
        raise OutputError(f"{shown} is a mount point, which can't be renamed; choose a directory inside it")
    with disk.naming(out):
        names = fs.names(out)
    if not names:
        return None  # rename(2) replaces an empty directory in one step
    foreign = refusal(fs, out, shown)
    if not overwrite:
        raise foreign or _exists(staging)
    places = [(os.path.expanduser("~"), "your home")]
    with suppress(FileNotFoundError):  # it is gone: nothing holds it
        places.insert(0, (os.getcwd(), "the working directory"))
    for place, what in places:
        if _within(os.path.realpath(place), out):
            raise OutputError(f"{shown} holds {what} and can't be replaced; choose another output")
    for path in inputs:
        if not is_url(path) and _within(os.path.realpath(path), out):
            raise OutputError(f"{shown} holds the input {path} and can't be replaced; choose another output")
    if foreign is not None:
        raise foreign
    return identity(fs, out)


def _exists(staging: Staging) -> OutputError:
    return OutputError(f"{staging.output} exists; choose another output, or replace it with `overwrite=True`")


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _take_over(
    fs: FileSystem, staging: Staging, me: owner.Owner, cluster: owner.Cluster | None = None
) -> bool:
    """Succeed a dead owner of the staging folder; False: look again. Raises OutputError for a living one."""
    folder = staging.folder
    held = _former(fs, staging, cluster)
    if held is None:
        return False
    data, former = held
    if fs.read(f"{folder}/{MANIFEST}") is not None and former.job != me.job:
        # Its commit was decided; only finishing it leaves OUT whole.
        _finish_former(fs, staging, data, former, cluster)
        return False
    with disk.naming(folder):
        if not owner.succeed(fs, folder, data, me):
            return False
        if former.job != me.job:
            for name in fs.names(folder) or ():
                if name != owner.JOB_FILE and not name.startswith("took-"):
                    fs.remove_tree(f"{folder}/{name}")
            fs.mkdir(f"{folder}/attempts")
            staging.notes.append(
                f"took over {folder} from job {former.job}, which "
                + ("had ended" if former.released or former.cluster else f"is dead (process {former.pid})")
            )
    return True


def _former(
    fs: FileSystem, staging: Staging, cluster: owner.Cluster | None
) -> tuple[bytes, owner.Owner] | None:
    """The dead owner of the staging folder, with the bytes that say so; None when there is no such folder.
    Raises OutputError for a living one."""
    folder = staging.folder
    with disk.naming(folder):
        held = owner.holder(fs, folder)
    if held is None:
        if os.path.isdir(folder) and os.listdir(folder):
            raise OutputError(f"{folder} isn't a staging folder that mrq made; move it away")
        return None
    alive = held[1].alive(cluster)
    if alive is not False:
        _refuse(staging, held[1], alive)
    return held


def _refuse(staging: Staging, former: owner.Owner, alive: bool | None) -> None:
    if alive:
        whose = "" if former.cluster else f" (process {former.pid})"
        raise OutputError(
            f"{staging.output} is being written by job {former.job}{whose}; "
            "wait for it or choose another output"
        )
    if former.cluster and former.job == staging.job:
        raise OutputError(
            f"{staging.output} was claimed by job {former.job} as one of a cluster whose store had the id "
            f"{former.cluster}, and the job's record doesn't say that this is the same; {staging.folder} is "
            f"left as it is: submit the job anew, to another output ({_GUIDE})"
        )
    if former.cluster:
        raise OutputError(
            f"{staging.output} is being written by job {former.job} of a cluster that can't be asked from "
            f"here whether it goes on (its store has the id {former.cluster}); wait for it, cancel it there, "
            f"or choose another output ({_GUIDE})"
        )
    raise OutputError(
        f"{staging.output} is being written by job {former.job} on {former.host} (process {former.pid}), of "
        f"which this machine can't know whether it lives; wait for it, end it there, or choose another "
        f"output ({_GUIDE})"
    )


def _finish_former(
    fs: FileSystem, staging: Staging, data: bytes, former: owner.Owner, cluster: owner.Cluster | None
) -> None:
    """Complete the commit of a dead job that had decided it."""
    me = owner.myself(former.job, former.displaces, former.made, cluster, former.claim)
    with disk.naming(staging.folder):
        if not owner.succeed(fs, staging.folder, data, me):
            return
    theirs = replace(staging, job=former.job, displaces=former.displaces, notes=[])
    found = fs.read(f"{staging.folder}/{MANIFEST}")
    if found is None:
        return
    try:
        commit(theirs, parse_manifest(found), fs=fs)
    except MrqError as exc:
        raise OutputError(
            f"job {former.job} died while it committed to {staging.output}, and its commit can't be "
            f"completed: {exc}; remove {staging.folder} to give it up"
        ) from exc
    staging.notes.append(f"completed the commit of job {former.job}, which died while committing")


def reopen(spec: JobSpec, *, cluster: owner.Cluster | None = None, fs: FileSystem = _FS) -> Staging:
    """Claim OUT again for a job that goes on (`mrq retry`, a restart).

    What its attempts wrote is still there, unless another job has taken the folder over since, which is
    refused by that job's name. Raises OutputError, DiskFullError.
    """
    if spec.output_open is None:
        raise InternalError(f"job {spec.job} has no output to open again")
    target = os.path.realpath(spec.output_open)
    parent, name = os.path.split(target)
    folder = f"{parent}/.{name}.mrq".replace("//", "/")
    shown = spec.output or spec.output_open
    staging = Staging(output=shown, output_open=target, folder=folder, job=spec.job, displaces=None)
    with disk.naming(folder):
        held = owner.holder(fs, folder)
        published = fs.read(f"{target}/{SUCCESS}")
    if held is None:
        if published is not None and _job_of(published) == spec.job:
            # Committed already, as `commit` will find; until then attempts need somewhere to write.
            with disk.naming(folder):
                if owner.create(fs, folder, owner.myself(spec.job, None, cluster=cluster, claim=spec.claim)):
                    return staging
        return prepare(
            spec.output_open,
            spec.job,
            spec.overwrite,
            shown=spec.output,
            cluster=cluster,
            claim=spec.claim,
            fs=fs,
        )
    former = held[1]
    if former.job != spec.job:
        raise OutputError(
            f"{shown} was taken by job {former.job} since; the files of job {spec.job} are gone; submit anew"
        )
    staging = replace(staging, displaces=former.displaces)
    me = owner.myself(spec.job, former.displaces, former.made, cluster, spec.claim)
    if not former.is_mine(cluster, spec.claim) and not _take_over(fs, staging, me, cluster):
        raise OutputError(f"{shown}: someone else takes job {spec.job} up at this moment")
    return staging


def _job_of(manifest: bytes) -> str | None:
    try:
        return parse_manifest(manifest).job
    except CorruptFileError:
        return None


def manifest_of(
    spec: JobSpec,
    files: Sequence[StagedFile],
    counters: Mapping[str, int],
    *,
    started_at: float,
    finished_at: float,
    inputs: Sequence[str] | None = None,
) -> Manifest:
    """The manifest of a job's winners; times in seconds since the epoch."""
    opened = {piece.open: piece.size for split in spec.splits for piece in split.pieces}
    bad = tuple(file for file in files if file.final.startswith("_bad/"))
    return Manifest(
        job=spec.job,
        name=spec.name,
        code=spec.code,
        parameters=spec.parameters,
        inputs=tuple(spec.inputs if inputs is None else inputs),
        input_files=len(opened),
        input_bytes=sum(opened.values()),
        format=spec.output_format,
        compression=spec.compression,
        reducers=spec.reducers,
        counters=counters,
        parts=tuple(file for file in files if not file.final.startswith("_bad/")),
        bad=bad,
        started_at=started_at,
        finished_at=finished_at,
        version=str(getattr(sys.modules.get("mrq"), "__version__", "")),
    )


def commit(staging: Staging, manifest: Manifest, *, fs: FileSystem = _FS) -> Manifest:
    """Make the output visible. Replayable: after a crash anywhere, call it again.

    Returns the manifest that counts: the one on the disk, if an earlier call got as far as linking it.
    Raises OutputError, DiskFullError or CorruptFileError with nothing visible changed; what can't be removed
    after the output is published is said in `staging.notes`.
    """
    machine = c.Commit(replace(manifest, job=staging.job, displaces=staging.displaces))
    performer = Performer(
        fs,
        job=staging.job,
        output=staging.output,
        output_open=staging.output_open,
        folder=staging.folder,
    )
    event: c.Event = c.Begun()
    looked_again = False
    while True:
        (command,) = machine.handle(event)
        if isinstance(command, c.Finish):
            if command.warning:
                staging.notes.append(command.warning)
            return command.manifest
        if isinstance(command, c.GiveUp):
            error = performer.error
            if not looked_again and _is_gone(error) and _is_published(staging, fs):
                # A master before this one, thought dead, was committing too, and came first: what is left
                # is to find that out, and to clean up.
                looked_again, event = True, c.Begun()
                continue
            if error is not None:
                raise error
            raise OutputError(f"{staging.output}: {command.message}")
        event = performer.perform(command)


def _is_gone(error: BaseException | None) -> bool:
    """Did a step miss a file? Then somebody else may have moved it; a disk that fails is no such thing."""
    return isinstance(error, CorruptFileError) or (
        error is not None and isinstance(error.__cause__, FileNotFoundError)
    )


def _is_published(staging: Staging, fs: FileSystem) -> bool:
    """Does OUT hold this job's result?"""
    try:
        published = fs.read(f"{staging.output_open}/{SUCCESS}")
    except OSError:
        return False
    return published is not None and _job_of(published) == staging.job


def intact(path: str, file: StagedFile) -> bool:
    """Are these the bytes that the attempt wrote: length and checksum?"""
    return is_right(path, file)


def abandon(staging: Staging, *, keep: bool = False, fs: FileSystem = _FS) -> None:
    """Let go of OUT after a failure or cancel: nothing was visible, nothing is.

    `keep` leaves the staging folder, released, for `mrq retry`; so does a commit that was decided. A folder
    that another job owns by now is left alone. Raises OutputError.
    """
    with disk.naming(staging.folder):
        held = owner.holder(fs, staging.folder)
        if held is None or held[1].job != staging.job:
            return
        if keep or fs.read(f"{staging.folder}/{MANIFEST}") is not None:
            owner.release(fs, staging.folder, held[1])
            return
        remove(fs, staging.folder)
        for path in held[1].made:
            try:
                fs.rmdir(path)
            except OSError:
                break  # someone uses it by now


def read_manifest(out: str) -> Manifest:
    """What `_SUCCESS` says. Raises OutputError when OUT isn't a committed output, CorruptFileError."""
    try:
        data = _FS.read(f"{out}/{SUCCESS}")
    except OSError as exc:
        raise OutputError(f"{out}/{SUCCESS} can't be read: {exc.strerror}") from exc
    if data is None:
        raise OutputError(f"{out} isn't a finished output of mrq: there is no {SUCCESS} in it")
    try:
        return parse_manifest(data)
    except CorruptFileError as exc:
        raise CorruptFileError(f"{out}/{SUCCESS}: {exc}") from exc


def parts(out: str) -> list[str]:
    """Paths of a committed output's parts, in part order. Raises OutputError, CorruptFileError."""
    return [path for path, _ in part_files(out)]


def part_files(out: str) -> list[tuple[str, StagedFile]]:
    """The same, each with what its manifest says of it."""
    return [(os.path.join(out, part.final), part) for part in read_manifest(out).parts]
