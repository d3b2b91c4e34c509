"""Runs one map attempt: with reducers into a map-output file, without into a part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mrq.codec.types import ATOMS, carried_other
from mrq.core.model import TaskResult
from mrq.errors import DataError
from mrq.io.output import PartWriter
from mrq.job.base import Pair, called, defined
from mrq.job.builtins import BuiltIn, Folding, Grouping, WrongValue
from mrq.shuffle.block import BLOCK_RECORDS
from mrq.shuffle.budget import column_cost
from mrq.shuffle.collect import Collector, MapPlan, Sink
from mrq.shuffle.fold import Combine
from mrq.shuffle.mapfile import MapHeader
from mrq.shuffle.partition import ByHash, Partition, Ranges
from mrq.worker.tasks.attempt import Attempt
from mrq.worker.tasks.careful import users_partition
from mrq.worker.tasks.data_path import fold_collector, group_collector, panics_named
from mrq.worker.tasks.failure import shortened, too_deep
from mrq.worker.tasks.feed import Feed, locate
from mrq.worker.tasks.values import Groups, returning

#: Bytes, by cost, that a map-only task gathers before it writes.
_BATCH_COST = 1 << 20


def run_map(attempt: Attempt) -> TaskResult:
    """The whole map. Raises what user code raises, and MrqErrors of the data and the disk."""
    try:
        with panics_named():
            return _map_only(attempt) if attempt.stage.reducers == 0 else _map(attempt)
    except Exception as exc:
        error = too_deep(exc) or exc if isinstance(exc, RecursionError) else exc
        if attempt.order.careful or not _is_of_another_record(attempt, error):
            if error is exc:
                raise
            raise error from None
    locate(attempt)  # here, lest what it raises be shown as caused by the first
    raise error


def _is_of_another_record(attempt: Attempt, error: Exception) -> bool:
    """Whether an error is about a pair of a record that isn't at hand any more, and that can be found."""
    if isinstance(error, WrongValue):
        return True
    if attempt.record() is not None:
        return False
    if attempt.doing is None:
        return isinstance(error, DataError)
    own = isinstance(getattr(attempt.job, "reduce", None), BuiltIn)  # its combine looks at single values
    partition = called(type(attempt.job), "partition")
    return attempt.doing.startswith(f"{partition} of") or (own and attempt.doing.startswith("combine of"))


def _map(attempt: Attempt) -> TaskResult:
    sink = _collector(attempt)
    feed = Feed(attempt, sink)
    feed.run()
    attempt.doing = None
    info = sink.finish(attempt.order.output_path)
    return attempt.result(
        records_in=feed.records,
        bytes_in=feed.bytes,
        crcs=feed.crcs(),
        records_out=info.records,
        bytes_out=info.bytes,
        digest=info.digest,
        records_emitted=sink.emitted,
        spills=sink.spills,
    )


def _map_only(attempt: Attempt) -> TaskResult:
    sink = PartSink(attempt.open_part())
    feed = Feed(attempt, sink)
    feed.run()
    sink.flush()
    info = attempt.close_part(sink.writer)
    return attempt.result(
        records_in=feed.records,
        bytes_in=feed.bytes,
        crcs=feed.crcs(),
        records_out=info.records,
        bytes_out=info.bytes,
        records_emitted=sink.emitted,
    )


def _collector(attempt: Attempt) -> Collector:
    spec, order, job = attempt.spec, attempt.order, attempt.job
    header = MapHeader(attempt=order.attempt, code=spec.code)
    plan = MapPlan(
        partitions=attempt.stage.reducers,
        partition=_partition(attempt),
        memory=spec.memory_bytes,
        scratch=order.scratch,
        header=header,
        tick=attempt.tick,
        quota=attempt.quota,
    )
    reduce = getattr(job, "reduce", None)
    if isinstance(reduce, Folding):
        return fold_collector(attempt, plan, reduce)
    # A careful attempt does without: what it raises is of no record, and the reduce can leave the group out.
    combine = None if order.careful else combiner(attempt)
    return group_collector(attempt, plan, combine)


def _partition(attempt: Attempt) -> Partition:
    stage = attempt.stage
    if stage.boundaries is not None:
        return Ranges(stage.boundaries)
    return users_partition(attempt) or ByHash(stage.reducers)


def combiner(attempt: Attempt) -> Combine | None:
    """The job's combine, or that of its built-in reduce, checked; None without one."""
    job = attempt.job
    reduce = getattr(job, "reduce", None)
    if isinstance(reduce, BuiltIn):
        if not isinstance(reduce, Grouping) or not reduce.combines:
            return None
        if attempt.stage.sort_values and reduce.counts_on_order:
            return None
        return _built_in_combine(attempt, reduce)
    if not defined(type(job), "combine"):
        return None
    name = called(type(job), "combine")
    call = returning(job.combine, name)  # type: ignore[attr-defined]
    groups = Groups()

    def combine(key: Any, group: Iterator[Any] | list[Any]) -> Iterator[Any]:
        attempt.tick()
        try:
            for value in call(key, groups.open(group)):
                if type(value) in ATOMS:
                    yield value
                    continue
                if isinstance(value, Pair):
                    raise DataError(
                        f"{name} yielded an mrq.Pair; it must yield values of the group's own key: "
                        "`yield value`"
                    )
                yield carried_other(value)
        except Exception:
            attempt.doing = f"{name} of the key {shortened(key, 200)}"
            raise

    return combine


def _built_in_combine(attempt: Attempt, reduce: Grouping) -> Combine:
    """The combine of a built-in: nobody else holds what it gives."""

    def combine(key: Any, group: Iterator[Any] | list[Any]) -> Iterable[Any]:
        attempt.tick()
        try:
            return reduce.combine(key, group)
        except Exception:
            attempt.doing = f"combine of the key {shortened(key, 200)}"
            raise

    return combine


class PartSink(Sink):
    """What a map-only task's pairs go to: its part, in input order."""

    def __init__(self, writer: PartWriter) -> None:
        super().__init__()
        self.writer = writer
        self._keys: list[Any] = []
        self._values: list[Any] = []
        self._cost = 0

    def _take(self, keys: list[Any], values: list[Any]) -> None:
        self._keys += keys
        self._values += values
        # Large ones are met one by one; a record of a pair or none adds up over blocks.
        cost = column_cost(keys) + column_cost(values)
        self._cost += cost
        self._pace(cost, len(keys), _BATCH_COST)
        if len(self._keys) >= BLOCK_RECORDS or self._cost > _BATCH_COST:
            self.flush()

    def flush(self) -> None:
        """Write what is held. Raises DataError, DiskFullError, OutputError."""
        keys, values, self._keys, self._values, self._cost = self._keys, self._values, [], [], 0
        self.writing = True
        self.writer.write(keys, values)
        self.writing = False
