"""What a job was, in a few lines at its end."""

from __future__ import annotations

from mrq.cli import units
from mrq.cli.console import Console, shown
from mrq.cli.wording import in_flags
from mrq.core.summary import Summary


def summary_lines(summary: Summary, *, output: str | None, parts: int) -> list[str]:
    """The summary, a line each; the first one says it all in short. `output` is None for a printed result."""
    head = (
        f"done in {units.duration(summary.seconds)}: "
        f"{units.plural(summary.records_in, 'record')} ({units.size(summary.bytes_in)}) in, "
        f"{units.plural(summary.records_out, 'record')} ({units.size(summary.bytes_out)}) out"
    )
    tasks = units.plural(summary.maps, "map")
    tasks += f", {units.plural(summary.reduces, 'reduce')}" if summary.reduces else ", no reduce"
    if summary.slowest_task:
        tasks += f"; the slowest was {summary.slowest_task} with {units.duration(summary.slowest_seconds)}"
    rows = [("tasks", tasks), *(("idle", shown(in_flags(text))) for text in summary.idle)]
    if summary.reduces > 1 and summary.skew > 0:
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


def print_summary(console: Console, summary: Summary, *, output: str | None, parts: int) -> None:
    """Print it, the head line standing out."""
    head, *rest = summary_lines(summary, output=output, parts=parts)
    console.line(console.style(head, "green"))
    for line in rest:
        console.line(line)


def counter_lines(counters: dict[str, int]) -> list[str]:
    """The job's own counters, by name."""
    width = max(map(len, counters), default=0)
    return [f"  {shown(name):<{width}}  {value:,}" for name, value in sorted(counters.items())]
