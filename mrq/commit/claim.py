"""A job's claim on an OUT: taken before anything runs, taken over from a dead job, let go of at a failure.

A claim is the staging folder beside OUT, with its owner's name in it (`commit.owner`). A job whose owner is
dead is succeeded; if it had decided its commit, that is completed first, since half of it may be visible.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from mrq.commit import owner, publish
from mrq.commit.earlier import exists, replaceable
from mrq.commit.filesystem import LOCAL, FileSystem
from mrq.commit.manifest import parse_manifest
from mrq.commit.staging import Staging
from mrq.core.model import JobSpec
from mrq.errors import InternalError, MrqError, OutputError
from mrq.io import disk

#: Where it stands what to do about a claim that nobody lets go of.
_GUIDE: Final = 'docs/operations.md, "An output that stays claimed"'
#: Another job may come and go between two looks; more often than this is a riot.
_TRIES: Final = 20


def prepare(
    output: str,
    job: str,
    overwrite: bool = False,
    *,
    inputs: Sequence[str] = (),
    shown: str | None = None,
    cluster: owner.Cluster | None = None,
    claim: str = "",
    fs: FileSystem = LOCAL,
) -> Staging:
    """Claim OUT for a job before anything runs.

    `shown` is OUT as the user spelled it, for messages. `inputs` are the absolute paths of input files:
    refused inside an OUT that would be replaced. An empty directory may stand where OUT goes; a finished
    result there needs `overwrite`, and anything else is refused. With `cluster` the claim is that cluster's,
    and made again by its next leader it is the same one; `claim` is what the job's record holds of it. Raises
    OutputError when OUT exists, can't be made, or another living job has it; DiskFullError.
    """
    staging = Staging.beside(output, job, shown)
    folder, parent = staging.folder, os.path.dirname(staging.output_open)
    with disk.naming(parent):
        made = _missing(parent)  # innermost first
        for path in reversed(made):
            try:
                fs.mkdir(path)
            except FileExistsError:
                made.remove(path)
        owner.sweep(fs, folder)
    for _ in range(_TRIES):
        displaces = replaceable(fs, staging, overwrite, inputs)
        staging = replace(staging, displaces=displaces)
        me = owner.myself(job, displaces, tuple(made), cluster, claim)
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
) -> None:
    """Refuse an OUT as `prepare` would, and leave everything as it is. Raises OutputError, DiskFullError."""
    staging = Staging.beside(output, job, shown)
    parent = os.path.dirname(staging.output_open)
    missing = _missing(parent)
    replaceable(LOCAL, staging, overwrite, inputs)
    there = os.path.dirname(missing[-1]) if missing else parent
    with disk.naming(parent if missing else staging.folder), tempfile.TemporaryFile(dir=there):
        pass
    former = _former(LOCAL, staging, cluster)
    if former is not None and not overwrite and LOCAL.read(staging.manifest) is not None:
        raise exists(staging)  # once the commit that its owner had decided is finished


def _missing(parent: str) -> list[str]:
    """The folders that aren't there, innermost first. Raises OutputError for a file in their place."""
    missing = []
    while not os.path.isdir(parent):
        if os.path.lexists(parent):
            raise OutputError(f"{parent} isn't a directory, so nothing can be written below it")
        missing.append(parent)
        parent = os.path.dirname(parent)
    return missing


def _take_over(fs: FileSystem, staging: Staging, me: owner.Owner, cluster: owner.Cluster | None) -> bool:
    """Succeed a dead owner of the staging folder; False: look again. Raises OutputError for a living one."""
    folder = staging.folder
    held = _former(fs, staging, cluster)
    if held is None:
        return False
    data, former = held
    if former.job != me.job and fs.read(staging.manifest) is not None:
        # Its commit was decided; only finishing it leaves OUT whole.
        _finish_former(fs, staging, data, former, cluster)
        return False
    with disk.naming(folder):
        if not owner.succeed(fs, folder, data, me):
            return False
        if former.job != me.job:
            for name in fs.names(folder) or ():  # what that job's attempts wrote; the names of owners stay
                if name != owner.JOB_FILE and not name.startswith(owner.TOOK):
                    fs.remove_tree(f"{folder}/{name}")
            fs.mkdir(f"{folder}/attempts")
            ended = "had ended" if former.released or former.cluster else f"is dead (process {former.pid})"
            staging.notes.append(f"took over {folder} from job {former.job}, which {ended}")
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
        raise _refusal(staging, held[1], alive)
    return held


def _refusal(staging: Staging, former: owner.Owner, alive: bool | None) -> OutputError:
    """Why a folder can't be taken whose owner lives, or may live."""
    written = f"{staging.output} is being written by job {former.job}"
    if alive:
        whose = "" if former.cluster else f" (process {former.pid})"
        return OutputError(f"{written}{whose}; wait for it or choose another output")
    if former.cluster and former.job == staging.job:
        return OutputError(
            f"{staging.output} was claimed by job {former.job} as one of a cluster whose store had the id "
            f"{former.cluster}, and the job's record doesn't say that this is the same; {staging.folder} is "
            f"left as it is: submit the job anew, to another output ({_GUIDE})"
        )
    if former.cluster:
        return OutputError(
            f"{written} of a cluster that can't be asked from here whether it goes on (its store has the id "
            f"{former.cluster}); wait for it, cancel it there, or choose another output ({_GUIDE})"
        )
    return OutputError(
        f"{written} on {former.host} (process {former.pid}), of which this machine can't know whether it "
        f"lives; wait for it, end it there, or choose another output ({_GUIDE})"
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
    found = fs.read(staging.manifest)
    if found is None:
        return
    try:
        publish.commit(theirs, parse_manifest(found), fs=fs)
    except MrqError as exc:
        raise OutputError(
            f"job {former.job} died while it committed to {staging.output}, and its commit can't be "
            f"completed: {exc}; remove {staging.folder} to give it up"
        ) from exc
    staging.notes.append(f"completed the commit of job {former.job}, which died while committing")


def reopen(spec: JobSpec, *, cluster: owner.Cluster | None = None) -> Staging:
    """Claim OUT again for a job that goes on (`mrq retry`, a restart).

    What its attempts wrote is still there, unless another job has taken the folder over since, which is
    refused by that job's name. Raises OutputError, DiskFullError.
    """
    if spec.output_open is None:
        raise InternalError(f"job {spec.job} has no output to open again")
    staging = Staging.beside(spec.output_open, spec.job, spec.output)
    with disk.naming(staging.folder):
        held = owner.holder(LOCAL, staging.folder)
        if held is None and publish.published(LOCAL, staging) is not None:
            # Committed already, as `commit` will find; until then attempts need somewhere to write.
            me = owner.myself(spec.job, None, cluster=cluster, claim=spec.claim)
            if owner.create(LOCAL, staging.folder, me):
                return staging
    if held is None:
        shown, claim = spec.output, spec.claim
        return prepare(spec.output_open, spec.job, spec.overwrite, shown=shown, cluster=cluster, claim=claim)
    former = held[1]
    if former.job != spec.job:
        raise OutputError(
            f"{staging.output} was taken by job {former.job} since; the files of job {spec.job} are gone; "
            "submit anew"
        )
    staging = replace(staging, displaces=former.displaces)
    me = owner.myself(spec.job, former.displaces, former.made, cluster, spec.claim)
    if not former.is_mine(cluster, spec.claim) and not _take_over(LOCAL, staging, me, cluster):
        raise OutputError(f"{staging.output}: someone else takes job {spec.job} up at this moment")
    return staging


def abandon(staging: Staging, *, keep: bool = False) -> None:
    """Let go of OUT after a failure or cancel: nothing was visible, nothing is.

    `keep` leaves the staging folder, released, for `mrq retry`; so does a commit that was decided. A folder
    that another job owns by now is left alone. Raises OutputError.
    """
    with disk.naming(staging.folder):
        held = owner.holder(LOCAL, staging.folder)
        if held is None or held[1].job != staging.job:
            return
        if keep or LOCAL.read(staging.manifest) is not None:
            owner.release(LOCAL, staging.folder, held[1])
            return
        owner.remove(LOCAL, staging.folder)
        for path in held[1].made:
            try:
                LOCAL.rmdir(path)
            except OSError:
                break  # someone uses it by now
