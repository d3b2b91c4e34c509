"""Runs one reduce attempt: verified map outputs in, one part out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat
from operator import ne
from typing import Any, Final

from mrq.codec.order import same
from mrq.codec.types import ATOMS, NoneType, carried, carried_key, carried_other
from mrq.core.digest import consumed
from mrq.core.model import FetchFailure, TaskResult
from mrq.core.refs import AttemptRef
from mrq.errors import CorruptFileError, DataError
from mrq.io.output import PartWriter
from mrq.job.base import Pair, called
from mrq.job.builtins import BuiltIn, Folding, Grouping, identity
from mrq.shuffle import block as blocks
from mrq.shuffle.block import Block
from mrq.shuffle.budget import column_cost
from mrq.shuffle.fetched import FetchedFile
from mrq.shuffle.grouping import folded, groups
from mrq.shuffle.mapfile import NOTHING, MapFile, Region
from mrq.shuffle.merge import merge
from mrq.worker import progress_page as pages
from mrq.worker.attempt_order import MapSource
from mrq.worker.tasks.attempt import Attempt
from mrq.worker.tasks.careful import Counts
from mrq.worker.tasks.failure import Record, UnreadableMapOutput, group_named
from mrq.worker.tasks.sorter import ValueSorter
from mrq.worker.tasks.values import Groups, fold_of, returning

_DIGEST_BITS: Final = 64
#: Results gathered before they are written: this many at most, or this many bytes by cost.
_BATCH_RECORDS: Final = 1024
_BATCH_COST: Final = 1 << 20
#: Values of a bad group that are kept beside it.
_BAD_VALUES_MAX: Final = 1000

#: Of a file that was a map's output, or lay in one's folder.
_GONE: Final = (FileNotFoundError, NotADirectoryError, PermissionError, IsADirectoryError)


def run_reduce(attempt: Attempt) -> TaskResult:
    """The whole reduce. Raises what user code raises, FetchFailed, and MrqErrors of the data and the disk."""
    attempt.page[pages.PHASE] = pages.SHUFFLING
    regions, digest = open_sources(attempt)
    attempt.page[pages.TOTAL] = sum(region.bytes for region in regions)
    attempt.page[pages.PHASE] = pages.REDUCING
    out = Output(attempt)
    reduce = getattr(attempt.job, "reduce", None)
    if isinstance(reduce, Folding):
        found = _fold(attempt, reduce, regions, out)
    else:
        found = _reduce(attempt, identity if reduce is None else reduce, regions, out)
    out.flush()
    attempt.doing = None
    info = attempt.close_part(out.writer)
    return attempt.result(
        records_in=sum(region.records for region in regions),
        bytes_in=sum(region.bytes for region in regions),
        records_out=info.records,
        bytes_out=info.bytes,
        digest=digest,
        groups=found,
    )


def open_sources(attempt: Attempt) -> tuple[list[FetchedRegion], int]:
    """This partition's regions in map order, and the sum over the digests of their maps' indices.

    Raises FetchFailed with all that are missing, damaged or not what the leader accepted.
    """
    found: list[FetchedRegion] = []
    failures: list[FetchFailure] = []
    fetched: dict[str, FetchedFile] = {}
    total = 0
    for source in attempt.order.sources:
        try:
            found.append(FetchedRegion(attempt, source, _region(attempt, source, fetched)))
        except _GONE:
            failures.append(_failure(source, "not_found"))
        except CorruptFileError:
            failures.append(_failure(source, "corrupt"))
        else:
            total += consumed(source.map_index, source.digest)
        attempt.tick()
    if failures:
        raise UnreadableMapOutput(failures)
    return found, total % (1 << _DIGEST_BITS)


def _region(attempt: Attempt, source: MapSource, fetched: dict[str, FetchedFile]) -> Region:
    """Where a source's pairs lie. Raises FileNotFoundError, CorruptFileError."""
    if not source.path:
        return NOTHING
    if source.partition is not None:
        if source.path not in fetched:
            fetched[source.path] = FetchedFile(source.path)
        return fetched[source.path].region(source.partition, source.digest)
    with MapFile(source.path) as file:
        if file.digest != source.digest or file.header.attempt.task.index != source.map_index:
            raise CorruptFileError(f"{source.path} isn't the output that was accepted")
        return file.entry(attempt.order.task.index)


def _failure(source: MapSource, reason: str) -> FetchFailure:
    """By the ids in the file's name: what is missing can't say itself which ticket it was made with."""
    if source.partition is not None:
        return FetchFailure(map_index=source.map_index, ticket=source.ticket, reason=reason)
    named = AttemptRef.named("", source.path.rsplit("/", 1)[-1])
    ticket = named.ticket if named is not None else 0
    return FetchFailure(map_index=source.map_index, ticket=ticket, reason=reason)


class FetchedRegion(blocks.Source):
    """One map output's region: damage is reported as a fetch failure, and reading moves the page."""

    def __init__(self, attempt: Attempt, source: MapSource, region: Region) -> None:
        self._page = attempt.page
        self._source = source
        self._region = region
        self.records = region.records
        self.bytes = region.bytes
        self.cost = region.cost
        self.block_cost = region.block_cost
        self.is_sorted = region.is_sorted

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """Its pairs, one by one. Raises FetchFailed."""
        for block in self.blocks():
            yield from zip(*block, strict=True)

    def failed(self, reason: str) -> FetchFailure:
        """That this output can't be used."""
        return _failure(self._source, reason)

    def blocks(self) -> Iterator[Block]:
        """Its pairs, block by block. Raises FetchFailed."""
        page = self._page
        share = self.bytes // max(1, self.records)
        try:
            for keys, values in self._region.blocks():
                page[pages.RECORDS] += len(keys)
                page[pages.BYTES] += share * len(keys)
                yield keys, values
        except CorruptFileError as exc:
            raise UnreadableMapOutput([self.failed("corrupt")]) from exc
        except _GONE as exc:
            raise UnreadableMapOutput([self.failed("not_found")]) from exc


class Output:
    """Gathers results as two columns and writes them in batches."""

    def __init__(self, attempt: Attempt) -> None:
        self.writer: PartWriter = attempt.open_part()
        self.keys: list[Any] = []
        self.values: list[Any] = []
        self.limit = 16  #: results to gather, by what one has cost so far
        self._page = attempt.page
        self._beat = attempt.beat
        self._collect = attempt.collect
        self._attempt = attempt

    def _find(self, keys: list[Any], values: list[Any]) -> None:
        """Tell which record can't be written: another group may be at hand by now."""
        check = self._attempt.format.check
        for key, value in zip(keys, values, strict=True):
            try:
                check([key], [value])
            except DataError:
                self._attempt.doing = group_named(key)
                return

    def flush(self) -> None:
        """Write what is held. Raises DataError, DiskFullError, OutputError."""
        keys, values = self.keys, self.values
        self.keys, self.values = [], []
        if not keys:
            return
        self.write(keys, values)
        self._collect()
        fits = _BATCH_COST * len(keys) // (column_cost(values) + column_cost(keys) + 1)
        self.limit = max(1, min(self.limit * 2, fits, _BATCH_RECORDS))

    def write(self, keys: list[Any], values: list[Any]) -> None:
        """Write a block at once. Raises DataError, having said whose group the result is of."""
        try:
            self.writer.write(keys, values)
        except DataError:
            self._find(keys, values)
            raise
        self._page[pages.OUT] += len(keys)
        self._beat()


def _fold(attempt: Attempt, reduce: Folding, regions: list[FetchedRegion], out: Output) -> int:
    """Groups of a built-in that folds."""
    fold = fold_of(reduce)
    found = 0
    for keys, states in folded(_merged(attempt, regions, attempt.spec.memory_bytes, attempt.beat), fold):
        found += len(keys)
        out.write(keys, fold.finish(states))
    return found


def _merged(
    attempt: Attempt, regions: list[FetchedRegion], memory: int, tick: Callable[[], None]
) -> Iterator[Block]:
    """All pairs of the regions in key order."""
    return merge(regions, memory=memory, scratch=attempt.order.scratch, tick=tick, quota=attempt.quota)


def _reduce(attempt: Attempt, reduce: Any, regions: list[FetchedRegion], out: Output) -> int:
    """Groups of a reduce that reads values."""
    spec, stage, order = attempt.spec, attempt.stage, attempt.order
    memory = spec.memory_bytes // 2 if stage.sort_values else spec.memory_bytes
    tick = attempt.beat if isinstance(reduce, BuiltIn) else attempt.tick  # only user code makes cycles
    merged = _merged(attempt, regions, memory, tick)
    if isinstance(reduce, Grouping) and reduce.passes and not stage.sort_values and not order.careful:
        return _pass(merged, out)
    stream: Iterator[tuple[Any, Iterable[Any]]] = groups(merged)
    function = reduce.reduce if isinstance(reduce, BuiltIn) else attempt.job.reduce  # type: ignore[attr-defined]
    name = called(type(attempt.job), "reduce")
    attempt.at = None
    sorter = ValueSorter(attempt, memory, regions) if stage.sort_values else None
    if order.careful:
        return _reduce_careful(attempt, returning(function, name), stream, out, sorter)
    if sorter is not None:
        stream = sorter.arranged(groups(merged))
    if isinstance(reduce, Grouping):
        return _built_in_groups(attempt, function, stream, out)
    return _reduce_groups(attempt, returning(function, name), stream, out)


def _pass(merged: Iterator[Block], out: Output) -> int:
    """Every pair as it came, under its group's first key; how many groups."""
    found = 0
    last: Any = None
    for keys, values in merged:
        begins = not (found and same(keys[0], last))
        found += begins + sum(map(ne, keys, islice(keys, 1, None)))
        if not (begins and set(map(type, keys)) <= _ALIKE):
            keys = _first_of_equals(keys, last, begins)
        last = keys[-1]
        out.write(keys, values)
    return found


#: Keys of these types that are equal look the same.
_ALIKE: Final = frozenset({str, bytes, int, type(None)})


def _first_of_equals(keys: list[Any], last: Any, begins: bool) -> list[Any]:
    shown = keys[0] if begins else last
    result = []
    for key in keys:
        if key != shown:
            shown = key
        result.append(shown)
    return result


def _reduce_groups(
    attempt: Attempt,
    function: Callable[..., Iterable[Any]],
    stream: Iterable[tuple[Any, Iterable[Any]]],
    out: Output,
) -> int:
    """The loop over the groups of a user's reduce, the hottest code of it.

    Each result is made what is carried before the next is pulled: user code may change it after that.
    """
    opened = Groups()
    open_values = opened.open
    count = 0
    key: Any = None
    attempt.at = lambda: Record(path=None, offset=None, key=key, value=None)
    kind: type = NoneType  # a plain type, of what came last
    atoms = ATOMS
    add_key, add_value, room = out.keys.append, out.values.append, out.limit
    for key, group in stream:
        count += 1
        for value in function(key, open_values(group)):
            if type(value) is kind:
                add_value(value)
                add_key(key)
            elif type(value) is tuple or type(value) is list:
                if type(value) is list:
                    value = value.copy()
                for item in value:
                    if type(item) not in atoms:
                        value = carried_other(value)
                        break
                add_value(value)
                add_key(key)
            elif type(value) in atoms:
                kind = type(value)
                add_value(value)
                add_key(key)
            elif type(value) is dict:
                add_value(carried_other(value))
                add_key(key)
            else:
                pair_key, pair_value = carried_result(key, value)
                add_value(pair_value)
                add_key(pair_key)
            room -= 1
            if not room:
                out.flush()
                add_key, add_value, room = out.keys.append, out.values.append, out.limit
    opened.close()
    return count


def carried_result(key: Any, value: Any) -> tuple[Any, Any]:
    """The key and value that are carried for what reduce yielded for a group. Raises DataError."""
    if isinstance(value, Pair):
        return carried_key(value.key), carried(value.value)
    return key, carried(value)


def _built_in_groups(
    attempt: Attempt,
    function: Callable[..., Iterable[Any]],
    stream: Iterable[tuple[Any, Iterable[Any]]],
    out: Output,
) -> int:
    """The loop over the groups of a built-in: nobody else holds what it gives."""
    key: Any = None
    attempt.at = lambda: Record(path=None, offset=None, key=key, value=None)
    count = 0
    keys, values, limit = out.keys, out.values, out.limit
    for key, group in stream:
        count += 1
        found = iter(function(key, group))
        before = len(values)
        values.extend(islice(found, limit))
        keys.extend(repeat(key, len(values) - before))
        while len(values) >= limit:
            out.flush()
            keys, values, limit = out.keys, out.values, out.limit
            values.extend(islice(found, limit))
            keys.extend(repeat(key, len(values)))
    return count


def _reduce_careful(
    attempt: Attempt,
    function: Callable[..., Iterable[Any]],
    stream: Iterable[tuple[Any, Iterable[Any]]],
    out: Output,
    sorter: ValueSorter | None,
) -> int:
    """Group by group: output is held until the group is through; a bad one leaves none."""
    from mrq.codec.columns import encode_column

    opened = Groups()
    count = 0
    for key, group in stream:
        count += 1
        kept: list[Any] = []
        source = iter(group)
        before = Counts(attempt)
        try:
            arranged: Iterable[Any] = _keeping(source, kept)
            if sorter is not None:
                arranged = sorter.of(key, group, arranged)
            given = function(key, opened.open(arranged))
            results = [carried_result(key, value) for value in given]
            keys, values = [result[0] for result in results], [result[1] for result in results]
            if results:
                encode_column(keys, keys=True)
                encode_column(values)
                attempt.format.check(keys, values)
        except Exception as exc:  # noqa: BLE001 whatever the user's code raises
            before.restore()
            kept.extend(islice(source, _BAD_VALUES_MAX - len(kept)))
            attempt.skip(Record(path=None, offset=None, key=key, value=kept), exc)
            continue
        out.keys.extend(keys)
        out.values.extend(values)
        if len(out.values) >= out.limit:
            out.flush()
    opened.close()
    return count


def _keeping(group: Iterable[Any], kept: list[Any]) -> Iterator[Any]:
    """The group's values; the first of them stay in `kept`, as they were before the user had them."""
    for value in group:
        if len(kept) < _BAD_VALUES_MAX:
            kept.append(carried(value))
        yield value
