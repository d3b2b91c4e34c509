"""Run a job inside a test: in the test's own process, through the real codec and the real order.

def test_words():
    assert mrq.testing.run(WordCount(), records=["a b a"]) == [("a", 2), ("b", 1)]
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from mrq.core.model import (
    AttemptId,
    JobSpec,
    Kind,
    Piece,
    Purpose,
    Split,
    TaskResult,
    task_name,
)
from mrq.io.formats import output_format
from mrq.job.base import Job, defined, parameter_values
from mrq.planning import iterable, keyed
from mrq.worker import page as pages
from mrq.worker.order import AttemptOrder, MapSource
from mrq.worker.tasks.attempt import Attempt
from mrq.worker.tasks.runner import run_task

_MEMORY: Final = 256 << 20
_TOKEN: Final = "testing"  # noqa: S105 an attempt's id, no secret
#: Records of the first map; the rest go to others, so that outputs of several maps are merged.
_MAPS: Final = 2


def run(job: Job | type[Job], records: Iterable[Any], *, reducers: int = 1, **overrides: Any) -> list[Any]:
    """(key, value) of every output record, part after part.

    `records` are what map gets as values (their keys are positions as in a text file: bytes before them),
    or tuples of (key, value). With one reducer, the default, the result is in key order. `overrides` are
    settings by name, as of `mrq.run`; the same checks run as at submit. Raises what the job's code raises, as
    it is; JobDefinitionError; DataError.
    """
    from mrq.job.arguments import check_values
    from mrq.job.check import check

    job = job() if isinstance(job, type) else job
    settings = check(type(job), {"reducers": reducers, **overrides})
    check_values(type(job), parameter_values(job))
    with tempfile.TemporaryDirectory(prefix="mrq-testing-") as folder:
        spec = JobSpec(
            job="testing",
            name=type(job).__name__,
            code="0" * 64,
            entry=f"{type(job).__module__}:{type(job).__qualname__}",
            parameters=parameter_values(job),
            inputs=("records",),
            splits=(),
            reducers=(settings.reducers or 1) if defined(type(job), "reduce") else 0,
            input_format="records",
            output_format="records",
            sort_values=settings.sort_values,
            staging=folder,
            memory_bytes=settings.memory_bytes or _MEMORY,
            skip_bad_records=0,
        )
        return list(
            _Run(job, spec, folder, settings.order == "total").results(
                list(keyed(iterable(records, "records", "[line, line]")))
            )
        )


class _Run:
    """One job over one list of records, task by task."""

    def __init__(self, job: Job, spec: JobSpec, folder: str, total: bool) -> None:
        self._job = job
        self._spec = spec
        self._folder = folder
        self._total = total
        self._count = 0

    def results(self, records: list[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        splits = [self._split(part) for part in _cut(records)]
        if self._total and self._spec.reducers > 1:
            self._sample(splits)
        parts: list[TaskResult]
        if self._spec.reducers == 0:
            parts = [self._task(Kind.MAP, i, split=split)[0] for i, split in enumerate(splits)]
        else:
            sources = []
            for i, split in enumerate(splits):
                result, path = self._task(Kind.MAP, i, split=split)
                sources.append(MapSource(map_index=i, digest=result.digest, path=path))
            reduces = range(self._spec.reducers)
            parts = [self._task(Kind.REDUCE, i, sources=tuple(sources))[0] for i in reduces]
        form = output_format("records")
        for part in parts:
            for file in part.files:
                yield from form.read(os.path.join(self._folder, file.name))

    def _sample(self, splits: list[Split]) -> None:
        from mrq.worker.tasks.sampler import boundaries

        spec = self._spec
        self._spec = replace(spec, purpose=Purpose.SAMPLE, reducers=0)
        samples = [self._task(Kind.MAP, i, split=split)[0].sample for i, split in enumerate(splits)]
        cuts = boundaries([sample for sample in samples if sample is not None], spec.reducers)
        self._spec = replace(spec, boundaries=tuple(cuts))

    def _split(self, records: list[tuple[Any, Any]]) -> Split:
        self._count += 1
        path = os.path.join(self._folder, f"input-{self._count}")
        writer = output_format("records").open(path)
        writer.write([key for key, _ in records], [value for _, value in records])
        size = writer.close().bytes
        stat = os.stat(path)
        piece = Piece(path="records", open=path, start=0, length=size, size=size, mtime_ns=stat.st_mtime_ns)
        return Split(index=self._count - 1, pieces=(piece,))

    def _task(
        self, kind: Kind, index: int, split: Split | None = None, sources: tuple[MapSource, ...] = ()
    ) -> tuple[TaskResult, str]:
        """One attempt's result and where its map output lies. Raises the user's own error."""
        self._count += 1
        place = os.path.join(self._folder, f"{task_name(kind, index)}-{self._count}")
        os.makedirs(os.path.join(place, "scratch"))
        page_path = os.path.join(place, "page")
        pages.create(page_path)
        order = AttemptOrder(
            spec=self._spec,
            kind=kind,
            index=index,
            attempt=AttemptId(generation=1, number=1, token=_TOKEN),
            maps=_MAPS,
            split=split,
            sources=sources,
            output_path=os.path.join(place, "output"),
            staging=os.path.join(place, "staged"),
            scratch=os.path.join(place, "scratch"),
            page_path=page_path,
        )
        attempt = Attempt(order, self._job, pages.open_page(page_path))
        try:
            return run_task(attempt), order.output_path
        except BaseException:
            attempt.discard()
            raise


def _cut(records: list[tuple[Any, Any]]) -> Iterator[list[tuple[Any, Any]]]:
    size = max(1, -(-len(records) // _MAPS))
    stream = iter(records)
    while part := list(islice(stream, size)):
        yield part
