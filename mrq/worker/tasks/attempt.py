"""One attempt's surroundings: what it was ordered, where it stands, what it stages and counts."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from mrq.core.model import ErrorReport, StagedFile, TaskResult
from mrq.core.paths import staged_folder
from mrq.errors import CorruptFileError, JobError, OperatorError, OutputError
from mrq.io.output import OutputFormat, PartInfo, PartWriter, output_format, part_name
from mrq.job.base import Job
from mrq.job.context import Task, bind
from mrq.shuffle.bounded import Quota
from mrq.worker import folders
from mrq.worker import progress_page as pages
from mrq.worker.attempt_order import AttemptOrder
from mrq.worker.tasks.failure import Record, UnreadableMapOutput, disk_full, report, shortened

#: Blocks between two collections of the youngest garbage, while automatic collection is off.
_COLLECT_EVERY: Final = 8
#: Errors of disks, and of what lies on them, whatever record or group is at hand.
_NO_RECORDS: Final = (UnreadableMapOutput, OperatorError, CorruptFileError)


class Attempt:
    """What the runners of maps, reduces and samples share."""

    def __init__(
        self, order: AttemptOrder, job: Job, page: memoryview[int], quota: Quota | None = None
    ) -> None:
        self.order = order
        self.spec = order.spec
        self.stage = order.spec.stage(order.task.stage)
        self.job = job
        self.page = page
        self.quota = quota  #: of the disk, for all but what is staged
        #: Tells the record at hand; set by the runner while there is one.
        self.at: Callable[[], Record | None] | None = None
        #: What is at hand when it isn't a record: "the group of key 'a'".
        self.doing: str | None = None
        self._files: list[StagedFile] = []
        self._writers: list[PartWriter] = []
        self._bad: Any = None
        self.bad_records = 0
        self._blocks = 0
        seed, number = self.spec.seed, order.attempt.number
        self.name = str(self.spec.named(order.task))  #: for user code and files, however often it began again
        self._task = Task(id=self.name, attempt=number, seed=seed, page=page)
        bind(job, self._task)

    def tick(self) -> None:
        """A sign of life, where user code has run; now and then also a collection of garbage."""
        self.beat()
        self.collect()

    def beat(self) -> None:
        """A sign of life."""
        self.page[pages.TICKS] += 1

    def collect(self) -> None:
        """Now and then, a collection of the youngest garbage: user code may have made some that is cyclic."""
        self._blocks += 1
        if self._blocks % _COLLECT_EVERY == 0:
            gc.collect(0)

    def begin_file(self, path: str) -> None:
        """Tell the job which file the records at hand are of. Raises JobError where it took the name."""
        task = getattr(self.job, "task", None)
        if task is not self._task:
            raise JobError(
                f"self.task was replaced by {shortened(task, 80)}; task is the engine's name "
                "(self.task.id, .path, .rng): keep your own under another one"
            )
        self._task.path = path

    def record(self) -> Record | None:
        """The record at hand, if there is one."""
        return self.at() if self.at is not None else None

    @property
    def folder(self) -> str:
        """The folder of its own in the job's staging folder, made when first asked for.

        The staging folder itself is its master's to make: where it isn't seen, OUT isn't shared, or the job
        is over. Raises OutputError, OSError.
        """
        order = self.order
        folder = order.staging
        staging = self.spec.staging
        if staging and not os.path.isdir(staging):
            raise OutputError(
                f"{staging} isn't seen on {os.uname().nodename}, where {self.name} runs: the output must lie "
                "on a disk that masters and workers share"
            )
        if folder:
            os.makedirs(folder, exist_ok=True)
            return folder
        folder = self.spec.staging or order.scratch
        for part in staged_folder(order.attempt).split("/"):
            folder = os.path.join(folder, part)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)  # never what is above: a job that is over stays removed
        return folder

    def open_part(self) -> PartWriter:
        """The writer of this task's part. Raises OutputError, DiskFullError, OSError."""
        form = self.format
        writer = form.open(os.path.join(self.folder, part_name(self.order.task.index, form)))
        self._writers.append(writer)
        return writer

    def close_part(self, writer: PartWriter) -> PartInfo:
        """Finish the part and stage it. Raises DiskFullError, OutputError."""
        info = writer.close()
        name = part_name(self.order.task.index, self.format)
        self._stage(name, name, info)
        return info

    @property
    def format(self) -> OutputFormat:
        """What parts are written in."""
        return output_format(self.stage.output_format, self.stage.compression)

    def _stage(self, name: str, final: str, info: PartInfo) -> None:
        path = os.path.join(self.folder, name)
        base = self.spec.staging
        relative = os.path.relpath(path, base) if base else name
        self._files.append(
            StagedFile(name=relative, final=final, records=info.records, bytes=info.bytes, crc32=info.crc32)
        )

    def skip(self, record: Record, exc: BaseException) -> None:
        """Leave out a bad record. Raises JobError when it is one too many; the error itself where none may be
        left out, and where it isn't the record's."""
        if isinstance(exc, _NO_RECORDS) or disk_full(exc) or folders.lost(self.order, exc) is not None:
            raise exc
        self.bad_records += 1
        self.doing = None
        allowed = self.spec.skip_bad_records
        if not allowed:
            self.at = lambda: record
            raise exc
        if self.bad_records > allowed:
            self.at = lambda: record
            raise JobError(
                f"{self.name} alone has more than the {allowed} bad records that skip_bad_records allows; "
                f"the last one: {type(exc).__name__}"
            ) from exc
        if self._bad is None:
            from mrq.io.bad import BadRecords

            self._bad = BadRecords(self.folder, self.name)
        self._bad.add(
            path=record.path or "",
            offset=record.offset,
            key=record.key,
            value=record.value,
            error=self._named_as_shipped(report(exc, at=record)),
        )

    def _named_as_shipped(self, error: ErrorReport) -> ErrorReport:
        """The error with the user's own files in its frames, not the copies that run and are removed."""
        name = type(self.job).__module__
        file = getattr(sys.modules.get(name), "__file__", None)
        if not self.spec.source_root or not file:
            return error
        stem = file.removesuffix(".py").removesuffix("/__init__")
        code = stem.removesuffix(name.replace(".", "/"))
        if code == stem:
            return error
        own = self.spec.source_root.rstrip("/") + "/"
        return replace(error, frames=error.frames.replace(f'"{code}', f'"{own}'))

    def discard(self) -> None:
        """Give up what was begun. Never raises: the attempt failed already, its folder is removed anyway."""
        for writer in [*self._writers, *([self._bad] if self._bad is not None else [])]:
            try:
                writer.discard()
            except Exception:  # noqa: BLE001, S112 see above
                continue

    def result(self, **fields: Any) -> TaskResult:
        """The result with what every task reports. Raises DiskFullError, OutputError."""
        if self._bad is not None:
            for name, info in self._bad.close():
                self._stage(name, f"_bad/{name}", info)
            self._bad = None
        return TaskResult(
            counters=self.counters(), files=tuple(self._files), bad_records=self.bad_records, **fields
        )

    def counters(self) -> dict[str, int]:
        """The user's counts. Raises JobError for a name or a count that can't be one."""
        return counters_of(self.job)


def counters_of(job: Job) -> dict[str, int]:
    """The user's counts. Raises JobError for a name that isn't str or a count that isn't an int."""
    found: dict[str, int] = {}
    counters = getattr(job, "counters", None)
    if not isinstance(counters, dict):
        raise JobError(
            f"self.counters was replaced by {shortened(counters, 80)}; counters is the engine's name "
            '(self.counters["unparsable"] += 1): keep your own under another one'
        )
    for name, count in counters.items():
        if not isinstance(name, str) or not isinstance(count, int):
            raise JobError(
                f"self.counters[{name!r}] is {count!r}; names must be str and counts whole numbers: "
                'self.counters["unparsable"] += 1'
            )
        found[str(name)] = int(count)
    return found
