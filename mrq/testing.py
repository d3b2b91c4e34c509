"""Run a job inside a test: in the test's own process, through the real codec and the real order.

def test_words():
    assert mrq.testing.run(WordCount(), records=["a b a"]) == [("a", 2), ("b", 1)]
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from mrq.codec.types import carried, shown
from mrq.core.ending import JobEnd
from mrq.core.model import FOLLOWS, JobSpec, StageSpec
from mrq.engine.engine import Engine
from mrq.engine.local import LocalLeader
from mrq.errors import MrqError, UsageTypeError, UsageValueError
from mrq.io.output import output_format
from mrq.io.plan import Draft, DraftInput
from mrq.io.temporary import PrivateFolder
from mrq.job import bundle, parameters
from mrq.job.base import Job, called, defined, has_stages
from mrq.job.check import check
from mrq.job.stages import classes_of
from mrq.planning import draft_stages, iterable, keyed
from mrq.settings.job import resolve
from mrq.worker.attempt_order import AttemptOrder
from mrq.worker.callers import CallersPool

_MEMORY: Final = 256 << 20
_MEMORY_DISK: Final = "/dev/shm"  # noqa: S108 a folder in it is made by tempfile
#: Free bytes of it, at least.
_ROOM: Final = 1 << 30
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
    job = _instance(job)
    if reducers is not None:
        overrides["reducers"] = reducers
    settings = check(type(job), overrides)
    for name in overrides.keys() - _TRIED:
        raise UsageTypeError(
            f"mrq.testing.run can't try {name}: it takes records instead of files, and runs each task once; "
            "give it to mrq.run"
        )
    values = parameters.validate(job)
    classes = classes_of(job)
    stages = _tried(draft_stages(type(job), values, overrides), lines=defined(classes[0], "map_block"))
    # Each as it was when it came: a generator may refill what it has yielded.
    given = list(map(carried, iterable(records, "records", "[line, line]")))
    _check_records(classes[0], given)
    with tempfile.TemporaryDirectory(prefix="mrq-testing-", dir=_fast_folder()) as folder:
        spec = JobSpec(
            job="testing",
            name=type(job).__name__,
            code="",
            entry=f"{type(job).__module__}:{type(job).__qualname__}",
            parameters=values,
            inputs=("records",),
            stages=stages,
            memory_bytes=settings.memory_bytes or _MEMORY,
            skip_bad_records=settings.skip_bad_records,
        )
        found = _run(job, classes, spec, given, folder)
        last = resolve(classes[-1], overrides)
        if last.output_format is not None:
            form = output_format(last.output_format)
            form.check([key for key, _ in found], [value for _, value in found])
        return found


def _tried(stages: Sequence[StageSpec], *, lines: bool) -> tuple[StageSpec, ...]:
    """The stages of a job over records, or lines, instead of files, with one reducer where nothing says how
    many."""
    last, tried = stages[-1].place, []
    for stage in stages:
        reducers = 1 if stage.reducers == FOLLOWS else stage.reducers
        stage = replace(stage, reducers=reducers)
        if stage.place == 0:  # each file is a map
            stage = replace(stage, input_format="text" if lines else "records", split_bytes=1)
        if stage.place == last:
            stage = replace(stage, output_format="records", compression=None)
        tried.append(stage)
    return tuple(tried)


def _fast_folder() -> str | None:
    """A folder in memory, where there is one with room: what a job commits waits for a disk, and a test
    needn't. None for the usual place."""
    with contextlib.suppress(OSError):
        room = os.statvfs(_MEMORY_DISK)
        if room.f_bavail * room.f_frsize >= _ROOM and os.access(_MEMORY_DISK, os.W_OK):
            return _MEMORY_DISK
    return None


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


def _check_records(job: type[Job], records: list[Any]) -> None:
    """Raise UsageError for records that the input format of a job, or of its first stage, never gives."""
    settings = resolve(job)
    if defined(job, "map_block"):
        for record in records:
            if not isinstance(record, str | bytes):
                raise UsageTypeError(
                    f"{job.__name__}.{called(job, 'map_block')} gets whole lines: records must be lines, as "
                    f"str or bytes, not {shown(record)}"
                )
            if (b"\n" if isinstance(record, bytes) else "\n") in record:  # type: ignore[operator]
                raise UsageValueError(f"a record for map_block is one line, without its end: {shown(record)}")
        return
    wanted: type = str
    if settings.input_format == "whole" or (settings.encoding is None and settings.input_format in _TEXT):
        wanted = bytes
    elif settings.input_format != "text":
        return
    for _, value in keyed(records):
        if not isinstance(value, wanted):
            raise UsageTypeError(
                f"{job.__name__} reads {settings.input_format or 'text'}"
                f"{'' if settings.encoding else ' with encoding=None'}, so its map gets {wanted.__name__}: "
                f"records must be {wanted.__name__}, not {shown(value)}"
            )


_TEXT: Final = (None, "text")


def _run(job: Job, classes: Sequence[type[Job]], spec: JobSpec, records: list[Any], folder: str) -> list[Any]:
    """The records of a job's output, run by an engine whose only worker is the calling thread."""
    code = bundle.pack({})  # it is here already
    spec = replace(spec, code=hashlib.sha256(code).hexdigest())
    lines = spec.first.input_format == "text"
    given = records if lines else list(keyed(records))
    size = max(1, -(-len(given) // _MAPS))
    parts = [given[at : at + size] for at in range(0, len(given), size)]
    paths = [_put_aside(part, f"{folder}/records-{at}", spec) for at, part in enumerate(parts)]
    draft = Draft(
        spec=spec,
        inputs=tuple(DraftInput(spelled="records", open=path) for path in paths),
        cwd=folder,
        splittable=False,
        code=code,
        allow_empty=True,
    )
    private = PrivateFolder(f"{folder}/engine")

    def fresh(order: AttemptOrder) -> Job:
        """The job as it was given: what one attempt keeps in self the next one doesn't see."""
        made = copy.copy(job)
        if has_stages(type(job)):
            made = object.__new__(classes[order.spec.stage(order.task.stage).place])
            vars(made).update(vars(job))
        vars(made).update(copy.deepcopy(dict(spec.parameters)))
        return made

    pool = CallersPool(fresh)
    leader = _Leader(private, pool)
    with Engine(leader, private) as engine:
        leader.engine = engine
        handle = engine.start_draft(leader.complete(draft))
        pool.work()
        return list(handle.result())


class _Leader(LocalLeader):
    """Lets the caller's thread go on when the job is over."""

    def __init__(self, private: PrivateFolder, pool: CallersPool) -> None:
        super().__init__(1, private, pool)
        self._callers = pool

    def ended(self, end: JobEnd) -> None:
        """A job is over."""
        super().ended(end)
        self._callers.end()

    def _finish(self, job: str, error: MrqError) -> None:
        super()._finish(job, error)
        self._callers.end()


def _put_aside(records: list[Any], path: str, spec: JobSpec) -> str:
    """Write records where a map reads them."""
    if spec.first.input_format == "text":
        with open(path, "wb") as file:
            for record in records:
                if isinstance(record, str):
                    record = record.encode(spec.first.encoding or "utf-8", "surrogateescape")
                file.write(record + b"\n")
    else:
        writer = output_format("records").open(path)
        writer.write([key for key, _ in records], [value for _, value in records])
        writer.close()
    return path
