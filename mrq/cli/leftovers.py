"""What failed and killed runs left under MRQ_TMP: told at start, listed, swept by age, removed on request."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mrq.cli import units
from mrq.errors import MrqError, UsageError

if TYPE_CHECKING:
    from mrq.cli.tables import TextPage
    from mrq.servers.memory.jobfolder import Leftover

_LOG: Final = logging.getLogger(__name__)


def tell_and_sweep(root: str, *, keep: float) -> None:
    """Remove what is older than `keep` seconds, and say in one line what there is still."""
    from mrq.servers.memory.jobfolder import leftovers
    from mrq.servers.memory.private import sweep

    if not os.path.isdir(os.path.join(root, "jobs")):
        return
    sweep(root)
    found = leftovers(root)
    old = [left for left in found if left.age_s > keep]
    for left in old:
        if remove(root, left):
            _LOG.info(f"swept {left.path} ({units.size(left.bytes)}), left {units.duration(left.age_s)} ago")
    kept = [left for left in found if left not in old]
    total = units.size(sum(left.bytes for left in kept))
    if len(kept) == 1:
        job = kept[0].job
        line = (
            f"kept from an earlier run: {kept[0].path} ({total}); `mrq retry {job}` goes on with it, "
            f"`mrq clean {job}` removes it"
        )
        _LOG.info(line, extra={"style": "yellow"})
    elif kept:
        line = (
            f"kept from {len(kept)} earlier runs: {root}/jobs ({total}); `mrq retry` lists them, "
            "`mrq clean` removes them"
        )
        _LOG.info(line, extra={"style": "yellow"})


def listing(page: TextPage, found: Sequence[Leftover]) -> None:
    """The table of `mrq retry` without a job, newest first."""
    if not found:
        page.line("nothing to go on with: no job that failed or was killed is kept")
        return
    page.table(
        ("JOB", "AGE", "SIZE", "OUT"),
        [
            (left.job, units.duration(left.age_s), units.size(left.bytes), left.output or "-")
            for left in sorted(found, key=lambda each: each.age_s)
        ],
        right=("SIZE",),
    )
    page.line()
    page.line("`mrq retry JOB` goes on with one, `mrq clean JOB` removes it")


def remove(root: str, left: Leftover) -> bool:
    """Remove a job's folder and what it staged beside OUT. False if its owner came back meanwhile."""
    from mrq.commit import claim
    from mrq.servers.memory.jobfolder import JobFolder
    from mrq.servers.memory.private import sweep

    try:
        folder = JobFolder.reopen(root, left.job)
    except UsageError:
        return False
    # A folder that can't be read any more is removed all the same; what belongs to others stays.
    with contextlib.suppress(MrqError):
        spec = folder.kept().spec
        if spec.staging is not None and os.path.isdir(spec.staging):
            claim.abandon(claim.reopen(spec))
    folder.remove()
    sweep(root)
    return True
