"""Carries out the commands of `core.commit` on a file system, each so that it can be done again."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Sequence
from typing import Final

from mrq.core import commit as c
from mrq.core.model import StagedFile
from mrq.errors import CorruptFileError, InternalError, MrqError, OutputError
from mrq.io import disk, owner
from mrq.io.earlier import SUCCESS, identity, refusal, remove_result
from mrq.io.filesystem import FileSystem

MANIFEST: Final = "manifest"


class Performer:
    """Carries out the commands of `core.commit` for one staging folder."""

    def __init__(self, fs: FileSystem, *, job: str, output: str, output_open: str, folder: str) -> None:
        self._fs = fs
        self._job = job
        self._output = output
        self._out = output_open
        self._folder = folder
        self._staged = f"{folder}/out"
        self._old = f"{folder}/old"
        self._manifest = f"{folder}/{MANIFEST}"
        #: Why the last command failed.
        self.error: MrqError | None = None

    def perform(self, command: c.Command) -> c.Event:
        """Do it, and say what happened."""
        self.error = None
        try:
            return self._perform(command)
        except OSError as exc:
            self.error = disk.named(exc, exc.filename2 or exc.filename or self._folder)
            self.error.__cause__ = exc
        except MrqError as exc:
            self.error = exc
        return c.StepFailed(message=str(self.error))

    def _perform(self, command: c.Command) -> c.Event:
        match command:
            case c.Look():
                return c.Looked(
                    manifest=self._fs.read(self._manifest), published=self._fs.read(f"{self._out}/{SUCCESS}")
                )
            case c.CheckFiles():
                self._check(command.files)
                return c.FilesChecked()
            case c.LinkManifest():
                return c.ManifestLinked(data=self._link_manifest(command.data))
            case c.MoveFiles():
                self._move(command.files)
                return c.FilesMoved()
            case c.MarkSuccess():
                self._mark()
                return c.SuccessMarked()
            case c.Publish():
                return c.Published() if self._publish(command) else c.ExchangeRefused()
            case c.MoveAside():
                self._move_aside(command)
                return c.MovedAside()
            case c.Clean():
                self._clean(command.manifest)
                return c.Cleaned()
        raise InternalError(f"the committer knows no {type(command).__name__}")

    def _check(self, files: Sequence[StagedFile]) -> None:
        for file in files:
            size = self._fs.size(f"{self._folder}/{file.name}")
            if size != file.bytes:
                raise CorruptFileError(
                    f"{self._folder}/{file.name} should have {file.bytes} bytes and "
                    + ("is gone" if size is None else f"has {size}")
                )

    def _link_manifest(self, data: bytes) -> bytes:
        """The manifest that is there afterwards, whoever linked it."""
        # By chance, and not by process: masters in containers of their own all are process 1.
        fresh = f"{self._manifest}.{self._job}.{os.urandom(4).hex()}"
        self._fs.write(fresh, data)
        try:
            self._fs.link(fresh, self._manifest)
        except FileExistsError:
            pass
        except OSError as exc:
            if exc.errno in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise OutputError(
                    f"the file system of {self._folder} has no hard links, by which a commit is decided; "
                    "write the output to another one"
                ) from exc
            raise
        self._fs.fsync_folder(self._folder)
        self._fs.unlink(fresh)
        found = self._fs.read(self._manifest)
        if found is None:
            raise OutputError(f"{self._manifest} vanished while job {self._job} committed")
        return found

    def _move(self, files: Sequence[StagedFile]) -> None:
        """Winners to their final names; source gone and destination right = done."""
        folders = {self._staged}
        for file in files:
            inside = os.path.dirname(file.final)
            if inside:
                folders.add(f"{self._staged}/{inside}")
        for folder in sorted(folders):
            try:
                self._fs.mkdir(folder)
            except FileExistsError:
                continue
        for file in files:
            source, target = f"{self._folder}/{file.name}", f"{self._staged}/{file.final}"
            try:
                self._fs.rename(source, target)
            except FileNotFoundError:
                if not is_right(target, file):
                    raise CorruptFileError(
                        f"{source} is gone, and {target} isn't what the manifest says; "
                        "run the job again with another output"
                    ) from None
        for folder in sorted(folders, reverse=True):
            self._fs.fsync_folder(folder)

    def _mark(self) -> None:
        mark = f"{self._staged}/{SUCCESS}"
        try:
            self._fs.link(self._manifest, mark)
        except FileExistsError:
            if self._fs.read(mark) != self._fs.read(self._manifest):
                raise CorruptFileError(f"{mark} isn't this job's manifest") from None
        self._fs.fsync_folder(self._staged)
        self._fs.fsync_folder(self._folder)

    def _is_published(self, manifest: bytes) -> bool:
        return self._fs.read(f"{self._out}/{SUCCESS}") == manifest

    def _publish(self, command: c.Publish) -> bool:
        """OUT becomes the staged output; False when it needs the old one out of the way first."""
        if not self._is_published(command.manifest):
            if self._fs.names(self._out):
                self._check_displaced(command.displaces)
                if not self._fs.exchange(self._staged, self._out):
                    return False
            else:
                self._rename_to_out()
        self._fs.fsync_folder(os.path.dirname(self._out))
        self._fs.fsync_folder(self._folder)
        return True

    def _rename_to_out(self) -> None:
        try:
            self._fs.rename(self._staged, self._out)
        except OSError as exc:
            if exc.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                self._check_displaced(None)
            raise

    def _check_displaced(self, displaces: str | None) -> None:
        if displaces is None or identity(self._fs, self._out) != displaces:
            raise OutputError(
                f"{self._output} was written by someone else while job {self._job} ran; it was left as "
                f"it is, and this job's output is in {self._staged}"
            )
        refused = refusal(self._fs, self._out, self._output)
        if refused is not None:  # put there while the job ran
            raise OutputError(
                f"{refused}; it was left as it is, and the output of job {self._job} is in {self._staged}"
            )

    def _move_aside(self, command: c.MoveAside) -> None:
        """The old output out of the way, if it is the one that was recorded."""
        if self._is_published(command.manifest) or self._fs.names(self._out) is None:
            return
        self._check_displaced(command.displaces)
        self._fs.rename(self._out, self._old)
        self._fs.fsync_folder(self._folder)

    def _clean(self, manifest: bytes) -> None:
        """Remove the staging folder, the owner's file last; it may be half gone already."""
        if not self._is_published(manifest):
            raise OutputError(f"{self._out} isn't this job's output; nothing was removed")
        held = owner.holder(self._fs, self._folder)
        if held is not None and held[1].job != self._job:
            return  # another job's by now
        if held is None and self._fs.names(self._folder):
            return
        displaced = (self._staged, self._old)  # by a swap, or out of the way
        kept = [remove_result(self._fs, path, f"{self._out}.kept-{self._job}") for path in displaced]
        remove(self._fs, self._folder)
        if any(kept):
            raise OutputError(
                f"files that aren't mrq's were put into {self._output} in the moment that it was replaced; "
                f"they are kept in {' and '.join(filter(None, kept))}"
            )


def remove(fs: FileSystem, folder: str) -> None:
    """A staging folder that this process owns; its owner's file goes last."""
    for name in fs.names(folder) or ():
        if name != owner.JOB_FILE:
            fs.remove_tree(f"{folder}/{name}")
    fs.remove_tree(f"{folder}/{owner.JOB_FILE}")
    try:
        fs.rmdir(folder)
    except FileNotFoundError:
        return
    except OSError as exc:
        # Another job may have made it its own the moment that it was empty.
        if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def is_right(path: str, file: StagedFile) -> bool:
    """Has the file the length and checksum that the attempt told?"""
    crc = size = 0
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        while data := os.read(fd, 1 << 20):
            crc = zlib.crc32(data, crc)
            size += len(data)
    finally:
        os.close(fd)
    return size == file.bytes and crc == file.crc32
