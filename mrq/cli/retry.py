"""`mrq retry` and `mrq clean`: go on with a job that failed or was killed, or give it up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrq import config
from mrq.cli import errors, leftovers, units
from mrq.cli.console import Console, print_json, shown, write_out
from mrq.cli.flags import RETRY_FLAGS, Parsed
from mrq.cli.options import executors, limits_of
from mrq.cli.signals import Signals
from mrq.errors import UsageError

if TYPE_CHECKING:
    from mrq.cli.submit import Told


def retry(parsed: Parsed, console: Console, signals: Signals, told: Told) -> int:
    """Go on with a job, or list what there is. Raises UsageError, or whatever the job raises."""
    from mrq.cli.cat import print_parts
    from mrq.cli.submit import engine_of, report, run
    from mrq.servers.memory.private import sweep

    if len(parsed.words) > 1:
        raise UsageError(f"mrq retry goes on with one job at a time; {len(parsed.words)} are given")
    json, count = "json" in parsed.switches, executors(parsed)
    if not parsed.words:
        for flag in RETRY_FLAGS:
            if flag.key in parsed.values:
                raise UsageError(f"{flag.names[-1]} is for one job: mrq retry JOB; alone it lists them")
        return list_kept(told, json=json)
    job = parsed.words[0]
    if not _is_here(parsed, job):
        from mrq.cli import remote

        return remote.retry(parsed, console, signals, told)
    limits_of(parsed)  # refuses what is no limit before anything starts
    told.job = job
    with engine_of(count, console, signals, told) as engine:
        limits, old = limits_of(parsed), parsed.values.get("from")
        result = run(lambda: engine.retry(job, limits=limits, old=old), engine, console, signals, told)
        told.output = result.output
        private = result.is_private
        if private and not json:
            print_parts(result.output, result.output_format)
        report(
            result,
            console,
            told,
            output=None if private else result.output,
            json=json,
            verbose="verbose" in parsed.switches,
        )
    if private and not json:
        sweep(config.temp_root())
    return errors.DONE


def _is_here(parsed: Parsed, job: str) -> bool:
    """Whether a job is this machine's: by --cluster, else by where it is known."""
    from mrq.cli import clusters
    from mrq.servers.memory.jobfolder import is_kept

    if (is_kept(config.temp_root(), job) or "from" in parsed.values) and "cluster" not in parsed.values:
        return True
    return clusters.is_local(parsed)


def list_kept(told: Told, *, json: bool) -> int:
    """What is kept under MRQ_TMP, on standard output."""
    from mrq.servers.memory.jobfolder import leftovers as find

    found = find(config.temp_root())
    if json:
        from mrq.cli.objects import Kept, head

        print_json(Kept(**head(told, "listed"), kept=tuple(found)))
    else:
        write_out(
            "".join(f"{line}\n" for line in leftovers.listing(found)).encode("utf-8", "backslashreplace")
        )
    return errors.DONE


def clean(parsed: Parsed, console: Console, signals: Signals, told: Told) -> int:
    """Remove leftovers: those named, or all. Raises UsageError for a name that isn't one."""
    from mrq.servers.memory.jobfolder import leftovers as find

    root = config.temp_root()
    found = find(root)
    known = {left.job: left for left in found}
    for job in parsed.words:
        if job not in known:
            have = ", ".join(known) if known else "none"
            raise UsageError(
                f"no job {shown(job)} is kept in {root}/jobs (there: {have}); `mrq retry` lists them"
            )
    chosen = [known[job] for job in dict.fromkeys(parsed.words)] if parsed.words else found
    removed = [left for left in chosen if leftovers.remove(root, left)]
    total = sum(left.bytes for left in removed)
    console.line(f"removed {units.plural(len(removed), 'job')}, {units.size(total)}, from {root}/jobs")
    if "json" in parsed.switches:
        from mrq.cli.objects import Cleaned, head

        print_json(Cleaned(**head(told, "cleaned"), removed=tuple(removed), bytes=total))
    return errors.DONE
