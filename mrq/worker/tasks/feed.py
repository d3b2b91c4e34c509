"""From blocks of records to pairs: one C-level iterator a block, so nothing of ours runs per record.

`filterfalse(partial(setitem, page, OFFSET), offsets)` stores each offset in the progress page just before
the record is handed to the user's map, and passes it on: the position is always current, for 40 ns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, compress, filterfalse
from operator import not_, setitem
from typing import Any

from mrq.errors import DataError, JobDefinitionError
from mrq.io.blocks import RecordBlock
from mrq.io.formats import input_format
from mrq.io.streams import Reading
from mrq.job.base import called as named
from mrq.job.base import defined
from mrq.shuffle.collect import Sink
from mrq.worker import progress_page as pages
from mrq.worker.tasks.attempt import Attempt
from mrq.worker.tasks.careful import Counts, ErrorFound, Look, Looking, first_half, look_of
from mrq.worker.tasks.failure import Record, too_deep
from mrq.worker.tasks.values import called, given, returning

Pair = tuple[Any, Any]
Pairs = Iterator[Pair]


class Feed:
    """Runs the user's map, map_split or map_block over the attempt's split."""

    def __init__(self, attempt: Attempt, sink: Sink) -> None:
        self._attempt = attempt
        self._sink = sink
        self._block: RecordBlock | None = None
        self._left: Iterator[Any] = iter(())  # offsets of the block that weren't handed out yet
        self._whole = False  # the block itself is the record
        form = input_format(attempt.stage.input_format)
        self._reading = Reading(
            lines=form.lines, marks=attempt.stage.refuses_marks, encodings=form.name == "text"
        )
        self.records = 0
        self.bytes = 0

    def crcs(self) -> tuple[int, ...]:
        """Of the pieces that are to be checked. Raises InputError."""
        assert self._attempt.order.split is not None
        return self._reading.crcs(self._attempt.order.split.pieces)

    def run(self) -> None:
        """Read everything. Raises what user code raises, DataError for wrong shapes, InputError."""
        attempt = self._attempt
        cls = type(attempt.job)
        attempt.at = self._record
        split = attempt.order.split
        assert split is not None
        attempt.page[pages.PHASE] = pages.MAPPING
        attempt.page[pages.TOTAL] = split.length
        if defined(cls, "map_block"):
            self._run_blocks()
        elif defined(cls, "map_split"):
            self._run_split()
        elif attempt.order.careful:
            self._run_careful()
        else:
            self._run_records()
        attempt.at = None

    def _blocks(self) -> Iterator[RecordBlock]:
        """The split's blocks, with task.path and the page following."""
        attempt = self._attempt
        stage, page = attempt.stage, attempt.page
        assert attempt.order.split is not None
        on_bad = self._on_bad if attempt.order.careful else None
        form = input_format(stage.input_format)
        for block in form.read(
            attempt.order.split,
            encoding=stage.encoding,
            tick=attempt.tick,
            on_bad=on_bad,
            reading=self._reading,
        ):
            page[pages.PIECE] = block.piece
            attempt.begin_file(block.path)
            self._left = iter(())
            self._block = block
            yield block
            self._block = None
            self.bytes += block.bytes
            page[pages.BLOCK_RECORDS] = 0
            page[pages.RECORDS] = self.records
            page[pages.BYTES] = self.bytes
            page[pages.OUT] = self._sink.emitted
        # All that begins in the split was read: that is its length, also where the record before reaches
        # beyond it and nothing begins in it.
        self.bytes = attempt.order.split.length

    def _columns(self, block: RecordBlock) -> tuple[Iterator[Any], list[Any]]:
        """Keys that store their record's position as they are handed out, and values."""
        values = block.values  # before keys: a text block makes both at once
        keys, offsets = block.keys, block.offsets
        self.records += len(values)
        page = self._attempt.page
        slot, first, last = pages.OFFSET, -1, len(values) - 1
        left: Iterator[int] = iter(offsets)
        if offsets and offsets[0] != offsets[-1]:
            first, last = offsets[0], offsets[-1] - offsets[0]
        elif offsets:  # they have one offset: then the index says how far it is
            page[pages.OFFSET], slot, left = offsets[0], pages.BLOCK_AT, iter(range(len(values)))
        page[pages.BLOCK_START], page[pages.BLOCK_SPAN], page[pages.BLOCK_AT] = first, last, 0
        page[pages.BLOCK_BYTES], page[pages.BLOCK_RECORDS] = block.bytes, len(values)
        self._left = left
        store = partial(setitem, page, slot)
        if offsets is keys and slot == pages.OFFSET:
            return filterfalse(store, left), values
        return compress(keys, map(not_, map(store, left))), values

    def _map(self) -> Callable[[Any, Any], Iterable[Any]]:
        """The job's map, checked."""
        job = self._attempt.job
        return returning(job.map, named(type(job), "map"), paired=True)  # type: ignore[attr-defined]

    def _run_records(self) -> None:
        function = self._map()
        consume = self._sink.consume
        for block in self._blocks():
            keys, values = self._columns(block)
            consume(chain.from_iterable(map(function, keys, values)))

    def _run_careful(self) -> None:
        """Record by record: output is held until the record is through; a bad one leaves none."""
        attempt, look = self._attempt, look_of(self._attempt)
        function = self._map()
        for block in self._blocks():
            keys, values = self._columns(block)
            for key, value in zip(keys, values, strict=True):
                before = Counts(attempt)
                try:
                    held = look(function(key, value))
                except Exception as exc:  # noqa: BLE001 whatever the user's code raises
                    record = self._record()
                    assert record is not None
                    before.restore()
                    attempt.skip(record, exc)
                else:
                    self._sink.consume(iter(held))

    def _on_bad(self, path: str, offset: int, line: bytes, error: Exception) -> None:
        self._attempt.skip(Record(path=path, offset=offset, key=offset, value=line), error)

    def _run_split(self) -> None:
        """map_split reads all records as one iterator of (key, value). In a careful attempt each pair is
        looked at while the record that was read last is at hand."""
        attempt = self._attempt
        name = named(type(attempt.job), "map_split")
        found = called(attempt.job.map_split, name, self._stream())  # type: ignore[attr-defined]
        pairs = iter(given(found, name, paired=True))
        if attempt.order.careful:
            look = look_of(attempt)
            pairs = chain.from_iterable(look((pair,)) for pair in pairs)
        self._sink.consume(pairs)

    def _stream(self) -> Iterator[Pair]:
        for block in self._blocks():
            keys, values = self._columns(block)
            yield from zip(keys, values, strict=True)

    def _run_blocks(self) -> None:
        """map_block gets whole lines as bytes; it returns a dict, or yields pairs."""
        attempt, sink = self._attempt, self._sink
        function = attempt.job.map_block  # type: ignore[attr-defined]
        name = named(type(attempt.job), "map_block")
        if not input_format(attempt.stage.input_format).lines:
            raise JobDefinitionError(
                f"{type(attempt.job).__name__}.{name} reads whole lines, and the input format "
                f"{attempt.stage.input_format} has none; define map, or use text or jsonl"
            )
        self._whole = True
        look = look_of(attempt)
        for block in self._blocks():
            data = block.data
            attempt.page[pages.OFFSET] = block.start
            self.records += data.count(b"\n") + (data[-1:] not in (b"\n", b""))
            if attempt.order.careful:
                self._careful_block(function, name, look, block)
                continue
            found = called(function, name, data)
            if isinstance(found, dict):
                sink.consume_mapping(found)
            else:
                sink.consume(iter(given(found, name, paired=True)))

    def _careful_block(
        self, function: Callable[[bytes], Any], name: str, look: Look, block: RecordBlock
    ) -> None:
        """Halve what raises, at line ends, until each bad line is alone."""
        attempt = self._attempt
        left = [(block.data_start, block.data)]
        while left:
            start, data = left.pop()
            before = Counts(attempt)
            try:
                found = called(function, name, data)
                held = look(found.items() if isinstance(found, dict) else given(found, name, paired=True))
            except Exception as exc:  # noqa: BLE001 whatever the user's code raises
                before.restore()
                if cut := first_half(data):
                    left += [(start + cut, data[cut:]), (start, data[:cut])]
                    continue
                line = data.removesuffix(b"\r\n").removesuffix(b"\n")
                offset = start if start > block.data_start else block.start
                attempt.skip(Record(path=block.path, offset=offset, key=offset, value=line), exc)
            else:
                self._sink.consume(iter(held))
            attempt.beat()

    def _record(self) -> Record | None:
        """The record that was handed out last; None between blocks and while held pairs are written."""
        block = self._block
        if block is None or self._sink.writing:
            return None
        if self._whole:
            offset = block.start
            return Record(path=block.path, offset=offset, key=offset, value=block.data)
        index = len(block.values) - self._left.__length_hint__() - 1  # type: ignore[attr-defined]
        if not 0 <= index < len(block.values):
            return None
        key, value = block.as_read(index)  # user code may have changed what it was given
        return Record(path=block.path, offset=block.offsets[index], key=key, value=value)


def locate(attempt: Attempt) -> None:
    """Raise the error of the first record with a pair that can't go its way, with that record at hand.

    What a pair holds is looked at many at a time, when its record is long gone: so after such an error the
    map runs over its split once more, looking at each pair by itself. Returns if it finds nothing (the job
    isn't deterministic): then the first error stands.
    """
    attempt.at, doing, attempt.doing = None, attempt.doing, None
    error: Exception | None = None
    try:
        Feed(attempt, Looking(look_of(attempt))).run()
    except ErrorFound as found:
        error = found.error
    except DataError:
        raise
    except Exception as exc:  # noqa: BLE001 not what was looked for, but for one
        error = too_deep(exc) if isinstance(exc, RecursionError) else None
    if error is not None:
        raise error  # with its own cause
    attempt.at, attempt.doing = None, doing
