"""What a job was, in a few lines at its end."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from mrq.cli import units
from mrq.cli.console import shown
from mrq.cli.wording import in_flags
from mrq.core.info import StageInfo
from mrq.core.job_summary import Summary

_LOG: Final = logging.getLogger(__name__)


def summary_lines(
    summary: Summary, *, output: str | None, parts: int, stages: Sequence[StageInfo] = ()
) -> list[str]:
    """The summary, a line each; the first one says it all in short. `output` is None for a printed result;
    of several `stages` each has a line."""
    head = (
        f"done in {units.duration(summary.seconds)}: "
        f"{units.plural(summary.records_in, 'record')} ({units.size(summary.bytes_in)}) in, "
        f"{units.plural(summary.records_out, 'record')} ({units.size(summary.bytes_out)}) out"
    )
    tasks = units.plural(summary.maps, "map")
    tasks += f", {units.plural(summary.reduces, 'reduce')}" if summary.reduces else ", no reduce"
    if summary.slowest_task:
        tasks += f"; the slowest was {summary.slowest_task} with {units.duration(summary.slowest_seconds)}"
    rows = [*_stage_rows(stages), ("tasks", tasks)]
    rows += [("idle", shown(in_flags(text))) for text in summary.idle]
    if summary.reduces > 1 and summary.largest_partition is not None:
        rows.append(("skew", f"the largest partition is {summary.skew:.2f} times the mean"))
    spills = f"{units.plural(summary.spills, 'sorted run')} written to disk" if summary.spills else "none"
    rows.append(("spills", spills))
    if summary.attempts_failed:
        rows.append(("retried", units.plural(summary.attempts_failed, "failed or lost attempt")))
    if summary.bad_records:
        where = f", kept in {shown(output)}/_bad" if output else ""
        rows.append(("bad", f"{units.plural(summary.bad_records, 'record')} left out{where}"))
    if output is not None:
        rows.append(("result", f"{shown(output)} ({units.plural(parts, 'part')})"))
    return [head, *(f"  {name:<7} {text}" for name, text in rows)]


def _stage_rows(stages: Sequence[StageInfo]) -> Iterator[tuple[str, str]]:
    """What each of several stages read and wrote, and by how many tasks."""
    for number, found in groupby(stages, key=lambda stage: stage.stage):
        maps, *reduces = found
        if number:
            tasks = units.plural(maps.total, "map")
            tasks += f", {units.plural(reduces[0].total, 'reduce')}" if reduces else ""
            out = reduces[0] if reduces else maps
            records = f"{units.plural(maps.records_in, 'record')} in, {out.records_out:,} out"
            yield f"stage {number}", f"{tasks}; {records}"


def print_summary(
    summary: Summary, *, output: str | None, parts: int, stages: Sequence[StageInfo] = ()
) -> None:
    """Print it, the head line standing out."""
    head, *rest = summary_lines(summary, output=output, parts=parts, stages=stages)
    _LOG.info(head, extra={"style": "green"})
    _LOG.info("\n".join(rest))


def counter_lines(counters: dict[str, int]) -> list[str]:
    """The job's own counters, by name."""
    from rich.cells import cell_len, set_cell_size

    named = sorted((shown(name), value) for name, value in counters.items())
    width = max((cell_len(name) for name, _ in named), default=0)
    return [f"  {set_cell_size(name, width)}  {value:,}" for name, value in named]
