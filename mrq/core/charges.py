"""What a task is charged for each way an attempt can end: one table, which the docs print.

LOST isn't FAILED: each has a bound of its own, and what isn't the task's fault charges nothing but is
still bounded where it could repeat for ever.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mrq.core.model import Status


class Account(enum.Enum):
    """Which of a task's bounds a charge counts against."""

    FAILURES = "failures"  #: JobSpec.max_failures
    LOSSES = "losses"  #: JobSpec.max_losses: poison
    WORKER_LOSSES = "worker losses"  #: JobSpec.max_worker_losses, each boot once
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    account: Account
    blames_worker: bool  #: counts towards the worker's quarantine
    backs_off: bool  #: the next attempt waits, longer each time
    note: str


CHARGES: Final[Mapping[Status, Charge]] = {
    Status.DONE: Charge(
        account=Account.NOTHING, blames_worker=False, backs_off=False, note="the task is completed"
    ),
    Status.FAILED: Charge(
        account=Account.FAILURES,
        blames_worker=True,
        backs_off=True,
        note="the same error at the same record twice is enough; with skip_bad_records the first one "
        "charges nothing and the next attempt is careful",
    ),
    Status.TIMED_OUT: Charge(
        account=Account.FAILURES, blames_worker=True, backs_off=True, note="no progress for too long"
    ),
    Status.LOST: Charge(
        account=Account.LOSSES,
        blames_worker=True,
        backs_off=True,
        note="poison after max_losses; nothing if no executor had started, or a folder of the worker's own "
        "is gone or can't be written: then as disk_full",
    ),
    Status.WORKER_LOST: Charge(
        account=Account.WORKER_LOSSES,
        blames_worker=False,
        backs_off=False,
        note="a wide bound, counted by boot; from the second on the task runs alone on its worker, and three "
        "losses alone are poison",
    ),
    Status.UNLISTED: Charge(
        account=Account.NOTHING,
        blames_worker=False,
        backs_off=True,
        note="beats don't list it any more and no report of it is known: an executor's death would have been "
        "reported, so the store fell back behind the report or the claim; or a reduce read map outputs of "
        "which a store that was taken over knows nothing, or one that was sent back",
    ),
    Status.FETCH_FAILED: Charge(
        account=Account.NOTHING,
        blames_worker=False,
        backs_off=True,
        note="the map's output is to blame: at most 4 re-runs of one map, then the job fails by name",
    ),
    Status.DISK_FULL: Charge(
        account=Account.NOTHING,
        blames_worker=True,
        backs_off=True,
        note="another worker is preferred; 3 in a row without progress and nowhere else to go fail the job",
    ),
    Status.HANDED_BACK: Charge(
        account=Account.NOTHING,
        blames_worker=False,
        backs_off=False,
        note="drain or shutdown, or the data plane died under a reduce that waited for it",
    ),
    Status.SUPERSEDED: Charge(
        account=Account.NOTHING,
        blames_worker=False,
        backs_off=False,
        note="another attempt won, or the job is over",
    ),
}
