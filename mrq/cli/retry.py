"""`mrq retry` and `mrq clean`: go on with a job that failed or was killed, or give it up."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from mrq.cli import failure_text, leftovers, units
from mrq.cli.console import shown
from mrq.cli.session import Session
from mrq.cli.tables import TextPage
from mrq.errors import UsageError
from mrq.settings.job import SETTINGS, retry_limits
from mrq.settings.run import RETRY_ONE
from mrq.settings.variables import temp_root

_LOG: Final = logging.getLogger(__name__)


def retry(session: Session) -> int:
    """Go on with a job, or list what there is. Raises UsageError, or whatever the job raises."""
    parsed = session.parsed
    if not parsed.words:
        for row in RETRY_ONE:
            if row.name in parsed.given:
                raise UsageError(f"{row.long} is for one job: mrq retry JOB; alone it lists them")
        return list_kept(session)
    from mrq.servers.memory.jobfolder import is_kept

    job, old = parsed.words[0], parsed.given.get("from")
    here = (is_kept(temp_root(), job) or old is not None) and "cluster" not in parsed.given
    anew = {name: value for name, value in parsed.given.items() if name in SETTINGS}
    retry_limits(anew)  # refuses what can't be before an engine starts
    if here or session.is_local():
        return _retry_here(session, job, old, anew)
    return _retry_on_cluster(session, job, anew)


def _retry_here(session: Session, job: str, old: str | None, anew: Mapping[str, Any]) -> int:
    from mrq.cli.attend import attend_here, report
    from mrq.servers.memory.private import sweep

    session.job = job
    with session.on_this_machine() as engine:
        result = attend_here(session, engine, partial(engine.retry, job, old=old, **anew))
        session.output = result.output
        report(session, result, None if result.is_private else result.output)
    if result.is_private and not session.json:
        sweep(temp_root())
    return failure_text.DONE


def _retry_on_cluster(session: Session, job: str, anew: Mapping[str, Any]) -> int:
    from mrq.cli.attend import attend_on_cluster, leave, report

    if "executors" in session.parsed.given:
        raise UsageError(
            "-j is for a retry on this machine; a cluster's job keeps what it was submitted with"
        )
    if "from" in session.parsed.given:
        raise UsageError("--from is for a retry on this machine; a cluster keeps its jobs in its store")
    with session.on_cluster() as engine:
        session.job = job
        handle = engine.retry(job, **anew)
        if session.has("detach"):
            return leave(session, handle)
        result = attend_on_cluster(session, handle)
        session.output = None if result.is_private else result.output
        report(session, result, session.output)
    return failure_text.DONE


def list_kept(session: Session) -> int:
    """What is kept under MRQ_TMP, on standard output."""
    from mrq.servers.memory.jobfolder import leftovers as find

    found = find(temp_root())
    if session.json:
        from mrq.cli.objects import KeptJobs

        session.answer(KeptJobs, "listed", kept=tuple(found))
    else:
        page = TextPage()
        leftovers.listing(page, found)
        page.write()
    return failure_text.DONE


def clean(session: Session) -> int:
    """Remove leftovers: those named, or all. Raises UsageError for a name that isn't one."""
    from mrq.servers.memory.jobfolder import leftovers as find

    root, words = temp_root(), session.parsed.words
    found = find(root)
    known = {left.job: left for left in found}
    for job in words:
        if job not in known:
            have = ", ".join(known) if known else "none"
            raise UsageError(
                f"no job {shown(job)} is kept in {root}/jobs (there: {have}); `mrq retry` lists them"
            )
    chosen = [known[job] for job in dict.fromkeys(words)] if words else found
    removed = [left for left in chosen if leftovers.remove(root, left)]
    total = sum(left.bytes for left in removed)
    _LOG.info(f"removed {units.plural(len(removed), 'job')}, {units.size(total)}, from {root}/jobs")
    if session.json:
        from mrq.cli.objects import Cleaned

        session.answer(Cleaned, "cleaned", removed=tuple(removed), bytes=total)
    return failure_text.DONE
