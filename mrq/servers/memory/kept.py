"""A memory store whose jobs outlive their process: each has a folder, with its spec, its code and its log."""

from __future__ import annotations

import threading
from collections.abc import Callable

from mrq.core.model import JobSpec, JobState
from mrq.core.store_api import Batch, Fence, WriteAnswer
from mrq.errors import MrqError
from mrq.servers.memory.jobfolder import JobFolder, KeptJob
from mrq.servers.memory.log import JobLog
from mrq.servers.memory.store import MemoryStore


class KeptStore(MemoryStore):
    """One engine's. A job that is begun gets its folder; one that is forgotten loses it, unless it failed:
    then the folder stays, for `mrq retry`.

    Where a batch can't be appended to its job's log `broken` is told of the job, once, and nothing more is
    appended for it: the job is to be ended, in memory, and the log has what came before. `left` is told of
    each job whose folder stays, `forgotten` of each that is forgotten.
    """

    def __init__(
        self,
        root: str,
        *,
        broken: Callable[[str, MrqError], None],
        left: Callable[[JobSpec], None],
        forgotten: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._root = root
        self._broken = broken
        self._left = left
        self._forgotten = forgotten
        self._folders: dict[str, JobFolder] = {}
        self._logs_of: dict[str, JobLog] = {}
        self._held = threading.Lock()  #: of both

    def begin(self, spec: JobSpec, code: bytes, fence: Fence) -> WriteAnswer:
        """Store a job whole; its folder is made first. Raises DiskFullError or OutputError."""
        if spec.job not in self.kept():
            folder = JobFolder.create(self._root, KeptJob(spec=spec), code)
            try:
                log, _ = JobLog.open(folder.path, spec)
            except BaseException:
                folder.remove()
                raise
            self.keep(spec.job, folder, log)
        return super().begin(spec, code, fence)

    def keep(self, job: str, folder: JobFolder, log: JobLog) -> None:
        """A job of this store lies in this folder, and its batches go to this log."""
        with self._held:
            self._folders[job], self._logs_of[job] = folder, log

    def kept(self) -> list[str]:
        """The jobs whose folders are held."""
        with self._held:
            return list(self._folders)

    def write(self, batch: Batch) -> WriteAnswer:
        """Append a batch to its job's log, if it has one, and only then apply it."""
        error = None
        with self._held:
            log = self._logs_of.get(batch.job)
            try:
                if log is not None:
                    log.append(batch)
            except MrqError as exc:
                error = exc
                self._logs_of.pop(batch.job).close()
        if error is not None:
            self._broken(batch.job, error)
        return super().write(batch)

    def forget(self, job: str) -> None:
        """Drop a job's records, and its folder, unless it failed."""
        spec, failed = self.job(job), self.state(job) is JobState.FAILED
        super().forget(job)
        self._forgotten(job)
        if spec is not None and failed:
            self._left(spec)
        self.let_go(job, remove=not failed)

    def let_go(self, job: str, *, remove: bool) -> None:
        """Close a job's log and folder, and remove the folder or leave it. Twice is once."""
        with self._held:
            log = self._logs_of.pop(job, None)
            if log is not None:
                log.close()
            folder = self._folders.pop(job, None)
        if folder is not None and remove:
            folder.remove()
        elif folder is not None:
            folder.close()
