"""Which data path a task takes: the native one where it can, else the one in Python.

All else in the tasks is the same for both, and so is what comes out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mrq import native
from mrq.errors import InternalError
from mrq.job.builtins import Folding
from mrq.shuffle.collect import Collector, FoldCollector, MapPlan
from mrq.shuffle.collect_native import NativeFoldCollector
from mrq.shuffle.partition import ByHash, Ranges
from mrq.worker.tasks.attempt import Attempt
from mrq.worker.tasks.values import fold_of

#: The built-ins whose states of ints are ints.
_FOLDED: Final = frozenset({"count", "sum", "min", "max"})


def fold_collector(attempt: Attempt, plan: MapPlan, reduce: Folding) -> Collector:
    """What a map's pairs go to where its reduce folds. Raises UsageError where MRQ_NATIVE asks for what
    isn't there."""
    extension = native.loaded()
    fold = fold_of(reduce)
    # How often a partition of the user's is asked depends on when it is spilled, and may be counted; a
    # careful attempt is slow by what it looks at.
    ours = isinstance(plan.partition, ByHash | Ranges) and not attempt.order.careful
    if extension is None or not ours or reduce.name not in _FOLDED:
        return FoldCollector(plan, fold)
    return NativeFoldCollector(plan, fold, extension.FoldTable(reduce.name, plan.memory))


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
