"""Unpacked bundles by digest: jobs with the same code share a folder, and with it the executors that have it.

The folder of a code that no job uses (any more) stays for the next job with it, as long as it is among the
last few; then it is removed, and whoever holds executors of it is told.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from mrq.errors import CorruptFileError, DiskFullError, InternalError, WorkerFolderError
from mrq.io import disk
from mrq.job import bundle
from mrq.worker import folders

#: Codes that no job uses and that are kept all the same.
KEPT_MAX: Final = 4

_DIGEST: Final = re.compile(r"[a-z0-9-]{1,64}")


class CodeCache:
    """The folders `root/DIGEST`; owned by one thread, but for `unpack`."""

    def __init__(self, root: str, *, dropped: Callable[[str], None], kept_max: int = KEPT_MAX) -> None:
        """`dropped` is called with the folder of a code before it is removed."""
        self._root = root
        self._dropped = dropped
        self._kept_max = kept_max
        self._used: dict[str, set[str]] = {}  #: folder -> jobs
        self._idle: OrderedDict[str, None] = OrderedDict()  #: folders, the longest unused first

    def folder(self, digest: str) -> str:
        """Where a code is, or will be. Raises InternalError for what can't be a digest."""
        if not _DIGEST.fullmatch(digest):
            raise InternalError(f"{digest!r} isn't a bundle's digest")
        return f"{self._root}/{digest}"

    def use(self, job: str, digest: str) -> str:
        """The folder of a job's code, which stays until `release`; to be filled by `unpack`."""
        folder = self.folder(digest)
        self._idle.pop(folder, None)
        self._used.setdefault(folder, set()).add(job)
        return folder

    def release(self, job: str) -> list[str]:
        """The job is over: the folders that no other job uses now. May drop the longest unused."""
        unused = [folder for folder, jobs in self._used.items() if jobs == {job}]
        for jobs in self._used.values():
            jobs.discard(job)
        for folder in unused:
            del self._used[folder]
            self._idle[folder] = None
        while len(self._idle) > self._kept_max:
            folder, _ = self._idle.popitem(last=False)
            self._dropped(folder)
            shutil.rmtree(folder, ignore_errors=True)
        return unused

    def close(self) -> None:
        """Remove everything; nothing runs on it any more."""
        self._used.clear()
        self._idle.clear()
        shutil.rmtree(self._root, ignore_errors=True)


def unpack(data: bytes, folder: str, job: str) -> None:
    """A bundle into its folder, which is named by its digest, from any thread; nothing where it is there
    already.

    Raises DiskFullError, WorkerFolderError, and CorruptFileError for what isn't the bundle of that name.
    """
    named, found = os.path.basename(folder), hashlib.sha256(data).hexdigest()
    if found != named:
        raise CorruptFileError(
            f"the code of job {job} isn't what its name says: what is kept as {named} has the sha256 "
            f"{found}; submit the job again"
        )
    try:
        folders.mend(os.path.dirname(folder), os.path.dirname(os.path.dirname(folder)))
        bundle.unpack(data, folder)
    except DiskFullError:
        raise
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk.named(exc, folder, len(data)) from exc
        raise WorkerFolderError(f"job {job}'s code can't be unpacked in {folder}: {exc.strerror}") from exc
