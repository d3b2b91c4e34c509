"""Run a job inside a test: in the test's own process, through the real codec and the real order.

def test_words():
    assert mrq.testing.run(WordCount(), records=["a b a"]) == [("a", 2), ("b", 1)]
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from mrq.codec.types import carried, shown
from mrq.core.model import JobSpec, Piece, Purpose, Split, TaskResult
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.errors import JobError, UsageError, UsageTypeError
from mrq.io.formats import output_format
from mrq.job.base import Job, defined
from mrq.job.settings import Settings
from mrq.planning import iterable, keyed
from mrq.worker import page as pages
from mrq.worker.order import AttemptOrder, MapSource
from mrq.worker.tasks.attempt import Attempt
from mrq.worker.tasks.runner import run_task

_MEMORY: Final = 256 << 20
_TOKEN: Final = "testing"  # noqa: S105 an attempt's id, no secret
#: Records of the first map; the rest go to others, so that outputs of several maps are merged.
_MAPS: Final = 2


#: Settings that count here. All others say how files are read or written, or how attempts are run again.
_TRIED: Final = frozenset(
    {"reducers", "sort_values", "order", "total_order", "output_format", "memory", "skip_bad_records"}
)


def run(
    job: Job | type[Job], records: Iterable[Any], *, reducers: int | None = None, **overrides: Any
) -> list[Any]:
    """(key, value) of every output record, part after part.

    `records` are what map gets as values (their keys are positions as in a text file: bytes before them),
    or tuples of (key, value); for `map_block` lines, as str or bytes. With one reducer, the default where
    there is a reduce, the result is in key order. `overrides` are settings by name, as of `mrq.run`; the same
    checks run as at submit.
    Each attempt gets a copy of the job as it was given, as executors make a new one.

    Raises what the job's code raises, as it is; JobDefinitionError; DataError; UsageError for what can't be
    tried here.
    """
    from mrq.job import parameters
    from mrq.job.arguments import check_values
    from mrq.job.check import check
    from mrq.planning import check_formats, check_reducers

    job = _instance(job)
    if reducers is not None or defined(type(job), "reduce"):
        overrides["reducers"] = 1 if reducers is None else reducers
    settings = check(type(job), overrides)
    for name in overrides.keys() - _TRIED:
        raise UsageError(
            f"mrq.testing.run can't try {name}: it takes records instead of files, and runs each task once; "
            "give it to mrq.run"
        )
    check_formats(type(job), settings, overrides)
    check_reducers(type(job), settings, overrides)
    values = parameters.validate(job)
    check_values(type(job), values)
    # Each as it was when it came: a generator may refill what it has yielded.
    given = list(map(carried, iterable(records, "records", "[line, line]")))
    _check_records(type(job), settings, given)
    with tempfile.TemporaryDirectory(prefix="mrq-testing-") as folder:
        spec = JobSpec(
            job="testing",
            name=type(job).__name__,
            code="0" * 64,
            entry=f"{type(job).__module__}:{type(job).__qualname__}",
            parameters=values,
            inputs=("records",),
            splits=(),
            reducers=(settings.reducers or 1) if defined(type(job), "reduce") else 0,
            input_format="text" if defined(type(job), "map_block") else "records",
            encoding=settings.encoding,
            output_format="records",
            sort_values=settings.sort_values,
            staging=folder,
            memory_bytes=settings.memory_bytes or _MEMORY,
            skip_bad_records=settings.skip_bad_records,
        )
        found = list(_Run(job, spec, folder, settings.order == "total").results(given))
        if settings.output_format is not None:
            form = output_format(settings.output_format)
            form.check([key for key, _ in found], [value for _, value in found])
        return found


def _instance(given: Any) -> Job:
    """The job, made of its class where that is given. Raises UsageTypeError for what is neither."""
    job = given() if isinstance(given, type) and issubclass(given, Job) else given
    if not isinstance(job, Job):
        name = given.__name__ if isinstance(given, type) else type(given).__name__
        raise UsageTypeError(
            f"{name} is not a job: mrq.testing.run takes a class that derives from mrq.Job, or one of its "
            f"instances, not {given!r}"
        )
    return job


def _check_records(job: type[Job], settings: Settings, records: list[Any]) -> None:
    """Raise UsageError for records that the job's own input format never gives."""
    if defined(job, "map_block"):
        for record in records:
            if not isinstance(record, str | bytes):
                raise UsageError(
                    f"{job.__name__}.map_block gets whole lines: records must be lines, as str or bytes, not "
                    f"{shown(record)}"
                )
            if (b"\n" if isinstance(record, bytes) else "\n") in record:  # type: ignore[operator]
                raise UsageError(f"a record for map_block is one line, without its end: {shown(record)}")
        return
    wanted: type = str
    if settings.input_format == "whole" or (settings.encoding is None and settings.input_format in _TEXT):
        wanted = bytes
    elif settings.input_format != "text":
        return
    for _, value in keyed(records):
        if not isinstance(value, wanted):
            raise UsageError(
                f"{job.__name__} reads {settings.input_format or 'text'}"
                f"{'' if settings.encoding else ' with encoding=None'}, so its map gets {wanted.__name__}: "
                f"records must be {wanted.__name__}, not {shown(value)}"
            )


_TEXT: Final = (None, "text")


class _Run:
    """One job over one list of records, task by task."""

    def __init__(self, job: Job, spec: JobSpec, folder: str, total: bool) -> None:
        self._job = job
        self._spec = spec
        self._folder = folder
        self._total = total
        self._count = 0

    def results(self, records: list[Any]) -> Iterator[tuple[Any, Any]]:
        lines = self._spec.input_format == "text"
        splits = [self._split(part) for part in _cut(records if lines else list(keyed(records)))]
        if self._total and self._spec.reducers > 1:
            self._sample(splits)
        parts: list[TaskResult]
        maps: list[TaskResult] = []
        if self._spec.reducers == 0:
            parts = [self._task(Kind.MAP, i, split=split)[0] for i, split in enumerate(splits)]
        else:
            sources = []
            for i, split in enumerate(splits):
                result, path = self._task(Kind.MAP, i, split=split)
                maps.append(result)
                # A map that yields nothing writes no file.
                path = path if result.bytes_out else ""
                sources.append(MapSource(map_index=i, digest=result.digest, path=path))
            reduces = range(self._spec.reducers)
            parts = [self._task(Kind.REDUCE, i, sources=tuple(sources))[0] for i in reduces]
        bad = sum(part.bad_records for part in [*maps, *parts])
        if bad > self._spec.skip_bad_records:
            raise JobError(f"{bad} records are bad, more than the {self._spec.skip_bad_records} allowed")
        form = output_format("records")
        for part in parts:
            for file in part.files if part.records_out else ():
                if file.final.startswith("_bad/"):
                    continue
                yield from form.read(os.path.join(self._folder, file.name))

    def _sample(self, splits: list[Split]) -> None:
        from mrq.worker.tasks.sampler import boundaries

        spec = self._spec
        self._spec = replace(spec, purpose=Purpose.SAMPLE, reducers=0)
        samples = [self._task(Kind.MAP, i, split=split)[0].sample for i, split in enumerate(splits)]
        cuts = boundaries([sample for sample in samples if sample is not None], spec.reducers)
        self._spec = replace(spec, boundaries=tuple(cuts))

    def _split(self, records: list[Any]) -> Split:
        """A file with these records, as one split."""
        self._count += 1
        path = os.path.join(self._folder, f"input-{self._count}")
        if self._spec.input_format == "text":
            with open(path, "wb") as file:
                file.writelines(self._line(record) for record in records)
        else:
            writer = output_format("records").open(path)
            writer.write([key for key, _ in records], [value for _, value in records])
            writer.close()
        stat = os.stat(path)
        size = stat.st_size
        piece = Piece(path="records", open=path, start=0, length=size, size=size, mtime_ns=stat.st_mtime_ns)
        return Split(index=self._count - 1, pieces=(piece,))

    def _line(self, record: str | bytes) -> bytes:
        if isinstance(record, str):
            record = record.encode(self._spec.encoding or "utf-8", "surrogateescape")
        return record + b"\n"

    def _task(
        self,
        kind: Kind,
        index: int,
        split: Split | None = None,
        sources: tuple[MapSource, ...] = (),
        *,
        careful: bool = False,
    ) -> tuple[TaskResult, str]:
        """One task's result and where its map output lies. Raises the user's own error."""
        self._count += 1
        task = TaskRef(self._spec.job, 0, kind, index)
        place = os.path.join(self._folder, f"{task}-{self._count}")
        os.makedirs(os.path.join(place, "scratch"))
        page_path = os.path.join(place, "page")
        pages.create(page_path)
        order = AttemptOrder(
            attempt=AttemptRef(task, 1, 1, _TOKEN),
            spec=self._spec,
            maps=_MAPS,
            split=split,
            sources=sources,
            output_path=os.path.join(place, "output"),
            staging=os.path.join(place, "staged"),
            scratch=os.path.join(place, "scratch"),
            page_path=page_path,
            careful=careful,
        )
        attempt = Attempt(order, self._fresh(), pages.open_page(page_path))
        try:
            return run_task(attempt), order.output_path
        except BaseException as exc:
            attempt.discard()
            if careful or not self._spec.skip_bad_records or not isinstance(exc, Exception):
                raise
        return self._task(kind, index, split, sources, careful=True)

    def _fresh(self) -> Job:
        """The job as it was given: what one attempt keeps in self the next one doesn't see."""
        fresh = copy.copy(self._job)
        vars(fresh).update(copy.deepcopy(dict(self._spec.parameters)))
        return fresh


def _cut(records: list[Any]) -> Iterator[list[Any]]:
    size = max(1, -(-len(records) // _MAPS))
    stream = iter(records)
    while part := list(islice(stream, size)):
        yield part
