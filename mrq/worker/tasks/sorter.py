"""The values of each group in the order of keys, for `sort_values`.

A value without a place in that order fails its group, wherever it came from. Unless the job has a combine of
its own it is as a map yielded it, and only the map can tell of which record: so the reduce sends the map's
output back, and the map runs again carefully, which looks at each pair while its record is at hand.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from mrq.codec.order import same, sort_columns
from mrq.codec.types import nan_refusal
from mrq.errors import DataError
from mrq.shuffle.budget import cost
from mrq.shuffle.mapfile import Region, write_run
from mrq.shuffle.merge import merge
from mrq.worker import progress_page as pages
from mrq.worker.tasks.attempt import Attempt
from mrq.worker.tasks.careful import check_order, sorts_yielded
from mrq.worker.tasks.failure import UnreadableMapOutput, group_named, report

if TYPE_CHECKING:
    from mrq.worker.tasks.reducer import FetchedRegion

#: Values of a large group that are weighed at once.
_BATCH_RECORDS: Final = 1024


class ValueSorter:
    """Sorts the values of one group after the other; those that don't fit in `memory` on disk."""

    def __init__(self, attempt: Attempt, memory: int, regions: list[FetchedRegion]) -> None:
        self._attempt = attempt
        self._memory = memory
        self._regions = regions

    def arranged(
        self, stream: Iterable[tuple[Any, list[Any] | Iterator[Any]]]
    ) -> Iterator[tuple[Any, Iterable[Any]]]:
        """Each group with its values in order."""
        for key, group in stream:
            try:
                found = self.of(key, group, group)
            except DataError:
                self._attempt.doing = group_named(key)
                raise
            yield key, found

    def of(self, key: Any, group: Any, values: Iterable[Any]) -> Iterable[Any]:
        """The values of one group in order; `group` is a list where it lies in memory. Raises FetchFailed,
        and DataError where a combine made what can't be ordered."""
        attempt = self._attempt
        if type(group) is not list:
            return self._on_disk(key, values)
        if len(group) > 1 or (attempt.order.strict_order and sorts_yielded(attempt)):
            return self._ordered(key, list(values))
        return list(values)

    def _ordered(self, key: Any, values: list[Any]) -> list[Any]:
        try:
            if float in set(map(type, values)) and any(value != value for value in values):
                raise nan_refusal()
            return sort_columns(values, None)[0]
        except DataError:
            error = next(filter(None, (_refusal(key, value) for value in values)))
        self._send_back(key, error)
        raise error

    def _send_back(self, key: Any, error: DataError) -> None:
        """Raise FetchFailed with the maps that gave this group such values; where bad records are left out,
        with all that have such values for this partition, lest each group takes an attempt."""
        attempt = self._attempt
        if not sorts_yielded(attempt):
            return
        every = attempt.spec.skip_bad_records > 0
        failures = [
            region.failed("unordered")
            for region in self._regions
            if any(_refusal(*pair) for pair in region.pairs() if every or same(pair[0], key))
        ]
        if failures:
            raise UnreadableMapOutput(failures, report(error, record=group_named(key))) from error

    def _on_disk(self, key: Any, group: Iterable[Any]) -> Iterator[Any]:
        """A group over several blocks: sorted in pieces, merged."""
        attempt, memory = self._attempt, self._memory
        runs: list[Region] = []
        held: list[Any] = []
        weight = 0
        source = iter(group)
        while chunk := list(islice(source, _BATCH_RECORDS)):
            held += chunk
            weight += cost(chunk, ())
            if weight > memory // 2:
                runs.append(self._run(len(runs), self._ordered(key, held)))
                held, weight = [], 0
                attempt.tick()
        if not runs:
            yield from self._ordered(key, held)
            return
        if held:
            runs.append(self._run(len(runs), self._ordered(key, held)))
            held = []
        scratch = attempt.order.scratch
        merged = merge(runs, memory=memory // 2, scratch=scratch, tick=attempt.tick, quota=attempt.quota)
        for values, _ in merged:
            yield from values
        for run in runs:
            os.unlink(run.path)

    def _run(self, number: int, values: list[Any]) -> Region:
        """One piece of a group's values."""
        attempt = self._attempt
        path = f"{attempt.order.scratch}/values-{attempt.page[pages.TICKS]}-{number}"
        return write_run(path, [(values, [None] * len(values))], attempt.quota)


def _refusal(key: Any, value: Any) -> DataError | None:
    """Why a value has no place in the order."""
    try:
        check_order(key, value)
    except DataError as exc:
        return exc
    return None
