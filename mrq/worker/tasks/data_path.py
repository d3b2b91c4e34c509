"""Which data path a task takes: the native one where it can, else the one in Python.

All else in the tasks is the same for both, and so is what comes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, Final

from mrq import native
from mrq.errors import InternalError
from mrq.job.builtins import Folding
from mrq.shuffle.collect import Collector, MapPlan, TableCollector
from mrq.shuffle.collect_native import NativeCollector
from mrq.shuffle.fold import Combine
from mrq.shuffle.partition import ByHash, Ranges
from mrq.worker.tasks.attempt import Attempt
from mrq.worker.tasks.values import fold_of

#: The built-ins whose states of ints are ints.
_FOLDED: Final = frozenset({"count", "sum", "min", "max"})


def fold_collector(attempt: Attempt, plan: MapPlan, reduce: Folding) -> Collector:
    """What a map's pairs go to where its reduce folds. Raises UsageError where MRQ_NATIVE asks for what
    isn't there."""
    fold = fold_of(reduce)
    rest = partial(TableCollector, plan, fold=fold)
    extension = _extension(attempt, plan)
    if extension is None or reduce.name not in _FOLDED:
        return rest()
    table = extension.FoldTable(reduce.name, plan.memory, plan.partitions, _boundaries(plan))
    return NativeCollector(plan, table, rest, fold)


def group_collector(attempt: Attempt, plan: MapPlan, combine: Combine | None) -> Collector:
    """What a map's pairs go to where its reduce needs the values. Raises as `fold_collector`."""
    rest = partial(TableCollector, plan, combine=combine)
    extension = _extension(attempt, plan)
    # A combine sees which pairs are spilled together.
    if extension is None or combine is not None:
        return rest()
    table = extension.PairTable(plan.memory, plan.partitions, _boundaries(plan))
    return NativeCollector(plan, table, rest)


def _extension(attempt: Attempt, plan: MapPlan) -> ModuleType | None:
    """The extension, where a map's pairs may go to a table of its."""
    # How often a partition of the user's is asked depends on when it is spilled, and may be counted; a
    # careful attempt is slow by what it looks at.
    if attempt.order.careful or not isinstance(plan.partition, ByHash | Ranges):
        return None
    plain = all(map(_fits, _boundaries(plan) or ()))
    return native.loaded() if plain else None


def _boundaries(plan: MapPlan) -> Sequence[Any] | None:
    return plan.partition.boundaries if isinstance(plan.partition, Ranges) else None


def _fits(key: Any) -> bool:
    """Whether a table takes a key that is carried: ints are of 64 bits there."""
    if type(key) is tuple:
        return all(map(_fits, key))
    return type(key) is not int or -(1 << 63) <= key < 1 << 63


@contextmanager
def panics_named() -> Iterator[None]:
    """Raise InternalError for a panic of the extension's, a mistake in it: the attempt fails by name."""
    try:
        yield
    except BaseException as exc:
        extension = native.loaded()
        if extension is None or not isinstance(exc, extension.Panic):
            raise
        raise InternalError(
            f"the native data path panicked: {exc}; this is a mistake in mrq: MRQ_NATIVE=off does without it"
        ) from None
