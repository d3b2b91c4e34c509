"""What is looked at in each pair before it is carried.

A careful attempt does so, which finds a bad record while it is at hand and leaves it out; and whoever looks
for the record that an error came from.

An ordinary attempt looks at chunks and columns: what a pair holds when it is encoded, which partition its
key goes to when all are dealt out, what a built-in makes of a value when many are folded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mrq.codec.columns import encode_column
from mrq.codec.order import sort_key
from mrq.codec.types import carried, carried_key
from mrq.core.model import Purpose
from mrq.errors import DataError
from mrq.job.base import called, defined
from mrq.job.builtins import BuiltIn, Folding, WrongValue
from mrq.shuffle.collect import Sink
from mrq.shuffle.partition import Partition, by_function
from mrq.worker.tasks.attempt import Attempt
from mrq.worker.tasks.failure import shortened

Pair = tuple[Any, Any]
#: All pairs of one record -> the same as they are carried, each looked at.
Look = Callable[[Iterable[Any]], list[Pair]]


def look_of(attempt: Attempt) -> Look:
    """What an attempt's task does with each pair, pair by pair. Raises what it raises, DataError."""
    stage, reduce = attempt.stage, getattr(attempt.job, "reduce", None)
    if stage.purpose is Purpose.SAMPLE:
        return _carried
    if not stage.reducers:
        check = attempt.format.check

        def written(found: Iterable[Any]) -> list[Pair]:
            pairs = _carried(found)
            check([key for key, _ in pairs], [value for _, value in pairs])
            return pairs

        return written
    partition = users_partition(attempt)
    built_in = reduce if isinstance(reduce, BuiltIn) else None
    ordered = attempt.order.strict_order and sorts_yielded(attempt)

    def sent(found: Iterable[Any]) -> list[Pair]:
        pairs = _carried(found)
        if partition is not None:
            for key, _ in pairs:
                partition([key])
        if built_in is not None:
            for key, value in pairs:
                _look_at(attempt, built_in, key, value)
        if ordered:
            for key, value in pairs:
                check_order(key, value)
        return pairs

    return sent


def sorts_yielded(attempt: Attempt) -> bool:
    """Whether what sort_values puts in order is what the map yields: no combine of the user's made it."""
    reduce = getattr(attempt.job, "reduce", None)
    if not attempt.stage.sort_values or isinstance(reduce, Folding):
        return False
    return isinstance(reduce, BuiltIn) or not defined(type(attempt.job), "combine")


def check_order(key: Any, value: Any) -> None:
    """Raise DataError for a value that sort_values can't put in order with the others of its key."""
    if type(value) is float and value != value:
        raise DataError(
            f"NaN among the values of the key {shortened(key, 200)} has no place in the order that "
            "sort_values wants; leave it out in map, or yield None for it"
        )
    try:
        sort_key(value)
    except DataError as exc:
        raise DataError(
            f"sort_values can't order the values of the key {shortened(key, 200)}: each must be of a type "
            f"that keys may have, but {exc}"
        ) from exc


def users_partition(attempt: Attempt) -> Partition | None:
    """The job's own partition, a column at a time, where there is one and it is asked at all."""
    job, stage, reducers = attempt.job, attempt.stage, attempt.stage.reducers
    if stage.boundaries is not None or reducers < 2 or not defined(type(job), "partition"):
        return None

    def failed(key: Any) -> None:
        attempt.doing = f"{called(type(job), 'partition')} of the key {shortened(key, 200)}"

    name = f"{type(job).__name__}.{called(type(job), 'partition')}"
    return by_function(job.partition, reducers, name, failed)  # type: ignore[attr-defined]


def _carried(found: Iterable[Any]) -> list[Pair]:
    pairs = [(carried_key(key), carried(value)) for key, value in found]
    if pairs:
        encode_column([key for key, _ in pairs], keys=True)
        encode_column([value for _, value in pairs])
    return pairs


def _look_at(attempt: Attempt, built_in: BuiltIn, key: Any, value: Any) -> None:
    try:
        built_in.look(value)
    except WrongValue as exc:
        raise DataError(f"{exc} (under the key {shortened(key, 200)})") from exc
    except Exception:
        attempt.doing = f"a value of the key {shortened(key, 200)}"
        raise


class ErrorFound(Exception):
    """The error that was looked for; raised through whatever runs the map."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Looking(Sink):
    """Carries nothing, and looks at each pair by itself."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        self._look = look

    def consume(self, pairs: Iterable[Any]) -> None:
        """Look at every pair. Raises ErrorFound."""
        for pair in pairs:
            try:
                self._look((pair,))
            except Exception as exc:  # noqa: BLE001 whatever it is, it was looked for
                raise ErrorFound(exc) from None


class Counts:
    """The user's counters as they were before a record: what it counted goes with it if it is left out."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._before = self._now()

    def _now(self) -> Any:
        counters = getattr(self._attempt.job, "counters", None)
        return dict(counters) if isinstance(counters, dict) else counters

    def restore(self) -> None:
        """As before."""
        counters = getattr(self._attempt.job, "counters", None)
        if isinstance(counters, dict) and isinstance(self._before, dict):
            counters.clear()
            counters.update(self._before)


def first_half(data: bytes) -> int:
    """Where to cut whole lines in two, at the line end next to the middle; 0 for a single line."""
    middle = len(data) // 2
    cut = data.find(b"\n", middle) + 1
    if 0 < cut < len(data):
        return cut
    return data.rfind(b"\n", 0, middle) + 1
