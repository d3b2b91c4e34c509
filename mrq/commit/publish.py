"""The commit: a reader of OUT sees what was there before, complete, and then the new output, complete.

Attempts have written their files into the staging folder, each under its own attempt's name, so that none
could spoil another's. When every task has a winner, `commit` does these steps. None remembers anything but
on the disk: each asks the disk whether it is done, and does the rest. So after a crash between any two
system calls, `commit` is called again, by whoever goes on with the job, and ends as it would have.

1. *Check* that each winner's file is there with its length. Nothing is changed. A crash: nothing happened.
2. *Decide*. The manifest, written aside, is linked as `manifest`: of any number of masters that try at one
   moment, one succeeds. Done, if there is a `manifest`: whoever wrote it, what it says counts, and not what
   this call would have written. A crash before the link changed nothing; after it, the output is certain.
3. *Move* the winners' files to their final names in `out/`. Done for a file that isn't in its attempt's
   folder any more, if that of the final name has the bytes that the manifest says. A crash: the others move
   next time.
4. *Mark* it: link the manifest as `out/_SUCCESS`. Done, if that is there and says the same. Only now are
   the folders on the disk to stay, and a folder with this mark is whole.
5. *Swap* `out/` and OUT. Done, if OUT's `_SUCCESS` is the manifest. Where nothing stands at OUT it is one
   rename; where an earlier output does, that is first looked at once more (it must be the one that was there
   when the job was submitted), and goes in the same system call, or, where the file system has none for
   that, by a rename of its own before: a crash between the two leaves OUT missing, until the commit goes on.
6. *Clean*: remove the earlier output, file by file as its manifest names them, the losers' files, and last
   the owner's file. Done, if the folder isn't this job's any more. OUT is published: what can't be removed is
   told in a note and fails nothing, and after a crash step 5 is found done.

Two masters of one job may be at it at once, when one was thought dead. A file that one misses since the
other has moved or removed it is an error only as long as OUT isn't this job's output: if it is, the steps
are begun again, and found done. One that stood still between its last look at OUT and its swap, while the
other swapped, undoes that; it looks again after its swap, and so swaps once more. Of another job's staging
folder nothing is touched: `commit.owner` says whose it is.

Steps 1 and 2 are the commit proper, and all that another kind of store would have to bring: parts under
attempts' names, and one conditional write that names the winners. Steps 3 to 6 give them the names that a
reader of a file system expects; where readers go by the manifest, they are left out.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final, NamedTuple

from mrq.commit import owner
from mrq.commit.earlier import identity, refusal, remove_result
from mrq.commit.filesystem import LOCAL, OCCUPIED, FileSystem
from mrq.commit.manifest import SUCCESS, Manifest, dump_manifest, intact, manifest_in, parse_manifest
from mrq.commit.staging import Staging
from mrq.core.model import StagedFile
from mrq.errors import CorruptFileError, MrqError, OutputError
from mrq.io import disk

#: What a master leaves in a folder that another one was just about to remove.
_FROM_ANOTHER: Final = frozenset({"manifest", "out"})
#: What link(2) says where a file system has no hard links.
_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EMLINK)


class Decided(NamedTuple):
    """The manifest that counts, and its very bytes, by which it is known at OUT."""

    manifest: Manifest
    data: bytes


def commit(staging: Staging, manifest: Manifest, *, fs: FileSystem = LOCAL) -> Manifest:
    """Make the output visible. Replayable: after a crash anywhere, call it again.

    Returns the manifest that counts: the one on the disk, if an earlier call got as far as linking it.
    Raises OutputError, DiskFullError or CorruptFileError with nothing visible changed; what can't be removed
    after the output is published is said in `staging.notes`.
    """
    ours = replace(manifest, job=staging.job, displaces=staging.displaces)
    try:
        decided = _publish(fs, staging, ours)
    except MrqError as exc:
        if not _was_overtaken(fs, staging, exc):
            raise
        decided = _publish(fs, staging, ours)  # another master of this job came first: that is found done
    try:
        with naming(staging):
            clean(fs, staging, decided)
    except MrqError as exc:
        staging.notes.append(str(exc))
    return decided.manifest


def _publish(fs: FileSystem, staging: Staging, ours: Manifest) -> Decided:
    """All steps but the last, as far as they aren't done."""
    with naming(staging):
        done = published(fs, staging)
        if done is not None:
            return done
        decided = decide(fs, staging, ours)
        try:
            move(fs, staging.folder, decided.manifest.files, staging.staged)
        except CorruptFileError as exc:
            raise CorruptFileError(f"{exc}; run the job again with another output") from None
        mark(fs, staging)
        swap(fs, staging, decided)
        return decided


def check(fs: FileSystem, staging: Staging, files: Sequence[StagedFile]) -> None:
    """Raise CorruptFileError unless every winner's file is there with its length."""
    for file in files:
        path = f"{staging.folder}/{file.name}"
        size = fs.size(path)
        if size != file.bytes:
            found = "is gone" if size is None else f"has {size}"
            raise CorruptFileError(f"{path} should have {file.bytes} bytes and {found}")


def decide(fs: FileSystem, staging: Staging, ours: Manifest) -> Decided:
    """Have a manifest in the staging folder, ours if there is none. Raises OutputError for another job's."""
    data = fs.read(staging.manifest)
    if data is None:
        try:
            check(fs, staging, ours.files)
        except CorruptFileError:
            data = fs.read(staging.manifest)
            if data is None:
                raise
            # Another master has decided since, and moved them.
        else:
            data = _link_manifest(fs, staging, dump_manifest(ours))
    try:
        found = parse_manifest(data)
    except CorruptFileError as exc:
        raise OutputError(f"{staging.output}: the manifest in the staging folder is damaged: {exc}") from exc
    if found.job != staging.job:
        raise OutputError(f"{staging.output}: job {found.job} committed to this output first")
    return Decided(found, data)


def _link_manifest(fs: FileSystem, staging: Staging, data: bytes) -> bytes:
    """The one conditional write: the manifest that is there afterwards, whoever linked it."""
    # By chance, and not by process: masters in containers of their own all are process 1.
    fresh = f"{staging.manifest}.{staging.job}.{os.urandom(4).hex()}"
    fs.write(fresh, data)
    try:
        fs.link(fresh, staging.manifest)
    except FileExistsError:
        pass
    except OSError as exc:
        if exc.errno in _NO_LINKS:
            raise OutputError(
                f"the file system of {staging.folder} has no hard links, by which a commit is decided; "
                "write the output to another one"
            ) from exc
        raise
    fs.fsync_folder(staging.folder)
    fs.unlink(fresh)
    found = fs.read(staging.manifest)
    if found is None:
        gone = FileNotFoundError(staging.manifest)
        raise OutputError(f"{staging.manifest} vanished while job {staging.job} committed") from gone
    return found


def move(fs: FileSystem, folder: str, files: Sequence[StagedFile], into: str) -> None:
    """Give the winners' files, of a staging folder, their final names below another one. Raises
    CorruptFileError for one that is at neither place."""
    folders = {into} | {os.path.dirname(f"{into}/{file.final}") for file in files}
    for made in sorted(folders):
        with suppress(FileExistsError):
            fs.mkdir(made)
    for file in files:
        source, target = f"{folder}/{file.name}", f"{into}/{file.final}"
        try:
            fs.rename(source, target)
        except FileNotFoundError:
            if not intact(target, file):
                raise CorruptFileError(
                    f"{source} is gone, and {target} isn't what its attempt wrote"
                ) from None
    for made in sorted(folders, reverse=True):
        fs.fsync_folder(made)


def mark(fs: FileSystem, staging: Staging) -> None:
    """Have the manifest in what becomes OUT. Raises CorruptFileError where another is in its place."""
    success = f"{staging.staged}/{SUCCESS}"
    try:
        fs.link(staging.manifest, success)
    except FileExistsError:
        if fs.read(success) != fs.read(staging.manifest):
            raise CorruptFileError(f"{success} isn't this job's manifest") from None
    fs.fsync_folder(staging.staged)
    fs.fsync_folder(staging.folder)


def swap(fs: FileSystem, staging: Staging, decided: Decided) -> None:
    """Make the staged output OUT. Raises OutputError, and leaves OUT alone, for what may not be replaced."""
    out = staging.output_open
    while fs.read(staging.success) != decided.data:  # asked after a swap too: two masters' undo each other
        if not fs.names(out):
            try:
                fs.rename(staging.staged, out)
            except OSError as exc:
                if exc.errno not in (*OCCUPIED, errno.ENOTDIR) or _may_displace(fs, staging, decided, None):
                    raise
        elif _may_displace(fs, staging, decided, decided.manifest.displaces) and not fs.exchange(
            staging.staged, out
        ):
            _move_aside(fs, staging, decided)
    fs.fsync_folder(os.path.dirname(out))
    fs.fsync_folder(staging.folder)


def _move_aside(fs: FileSystem, staging: Staging, decided: Decided) -> None:
    """Have the earlier output out of the way, or find that another master has published by now."""
    out = staging.output_open
    try:
        fs.rename(out, staging.old)
    except OSError:
        if fs.names(out) is None or fs.read(staging.success) == decided.data:
            return
        raise
    if fs.read(f"{staging.old}/{SUCCESS}") == decided.data:  # that was the new output already
        fs.rename(staging.old, out)
    fs.fsync_folder(staging.folder)


def _may_displace(fs: FileSystem, staging: Staging, decided: Decided, displaces: str | None) -> bool:
    """Whether what stands at OUT is the result that was recorded, with nothing beside it; False where another
    master of this job has had it out of the way since it was looked for, or put this job's output there.
    Raises OutputError for anything else."""
    if displaces is None or identity(fs, staging.output_open) != displaces:
        found = f"{staging.output} was written by someone else while job {staging.job} ran"
    else:
        refused = refusal(fs, staging.output_open, staging.output)  # put there while the job ran
        found = "" if refused is None else str(refused)
    if not found:
        return True
    if fs.read(staging.success) == decided.data or (displaces and not fs.names(staging.output_open)):
        return False
    raise OutputError(
        f"{found}; it was left as it is, and the output of job {staging.job} is in {staging.staged}"
    )


def clean(fs: FileSystem, staging: Staging, decided: Decided) -> None:
    """Remove the earlier output and the staging folder, which may be half gone already. Raises OutputError
    where files that aren't ours were kept."""
    out = staging.output_open
    if fs.read(staging.success) != decided.data:
        raise OutputError(f"{out} isn't this job's output; nothing was removed")
    held = owner.holder(fs, staging.folder)
    if held is not None and held[1].job != staging.job:
        return  # another job's by now
    if held is None and not _FROM_ANOTHER.issuperset(fs.names(staging.folder) or ()):
        return
    displaced = (staging.staged, staging.old)  # by a swap, or by a rename
    kept = [remove_result(fs, path, f"{out}.kept-{staging.job}") for path in displaced]
    owner.remove(fs, staging.folder)
    if any(kept):
        raise OutputError(
            f"files that aren't mrq's were put into {staging.output} in the moment that it was replaced; "
            f"they are kept in {' and '.join(filter(None, kept))}"
        )


def published(fs: FileSystem, staging: Staging) -> Decided | None:
    """What stands at OUT, if it is this job's output. Raises OSError."""
    data = fs.read(staging.success)
    manifest = manifest_in(data)
    if data is None or manifest is None or manifest.job != staging.job:
        return None
    return Decided(manifest, data)


def _was_overtaken(fs: FileSystem, staging: Staging, error: MrqError) -> bool:
    """Did a step miss a file since another master of this job has published? A disk that fails is no such
    thing."""
    if not isinstance(error, CorruptFileError) and not isinstance(error.__cause__, FileNotFoundError):
        return False
    try:
        return published(fs, staging) is not None
    except OSError:
        return False


@contextmanager
def naming(staging: Staging) -> Iterator[None]:
    """Raise any OSError of a step as `disk.named` says, by the path that it came from."""
    try:
        yield
    except OSError as exc:
        raise disk.named(exc, exc.filename2 or exc.filename or staging.folder) from exc
