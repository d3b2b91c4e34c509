"""`mrq logs JOB [TASK]`: what user code printed, from whichever worker ran it."""

from __future__ import annotations

from mrq.cli import errors
from mrq.cli.clusters import Remote, refuse_local, remote_of
from mrq.cli.console import Console, print_json, shown, write_out
from mrq.cli.flags import Parsed
from mrq.cli.signals import Signals
from mrq.cli.submit import Told, head
from mrq.core.rows import LogRow, filled
from mrq.errors import UsageError


def logs(parsed: Parsed, console: Console, signals: Signals, told: Told) -> int:
    """Print logs on standard output, what is known of each on standard error."""
    if not 1 <= len(parsed.words) <= 2:
        raise UsageError(f"mrq logs takes a JOB and at most one TASK; {len(parsed.words)} words are given")
    refuse_local(parsed, "logs")
    job, *task = parsed.words
    json = "json" in parsed.switches
    with remote_of(parsed, console, told, headline=False) as engine:
        told.job = job
        answer = engine.ask("logs", job=job, **({"task": task[0]} if task else {}))
        rows = [filled(LogRow, row) for row in answer["logs"]]
        chosen = chosen_of(rows, named=bool(task), every="all" in parsed.switches)
        if json:
            texts = [_object(engine, row) for row in chosen]
            print_json({**head(told, "logs", errors.DONE), "logs": texts, "error": None})
            return errors.DONE
        if not chosen:
            console.line(f"nothing was printed by {task[0] if task else 'any attempt'} of {job}")
        silent = 0
        for row in chosen:
            silent += not _print(engine, row, console, named=bool(task))
        if silent:
            console.line(f"{silent:,} that went well printed nothing")
    return errors.DONE


def chosen_of(rows: list[LogRow], *, named: bool, every: bool) -> list[LogRow]:
    """The attempts that are meant: the latest of each task; of the failed ones where no task was named and
    some failed; or all."""
    if every:
        return rows
    latest: dict[str, LogRow] = {}
    for row in rows:
        before = latest.get(row["task"])
        if before is None or _order(row) >= _order(before):
            latest[row["task"]] = row
    if named:
        return list(latest.values())
    failed: dict[str, LogRow] = {}
    for row in rows:
        if row["status"] not in ("done", "running", "superseded", "handed_back"):
            failed[row["task"]] = row
    return list(failed.values() or latest.values())


def _order(row: LogRow) -> tuple[int, int]:
    return row["generation"], row["number"]


def _print(engine: Remote, row: LogRow, console: Console, *, named: bool) -> bool:
    """One attempt's log, a headline before it; False where there is nothing to say: it went well, printed
    nothing, and wasn't asked for by name."""
    text, whole = _text(engine, row)
    if not text and whole and row["status"] == "done" and not named:
        return False
    attempt = f"attempt {row['generation']}.{row['number']}"
    console.line(console.style(f"{row['task']} {attempt} on {row['worker']}: {row['status']}", "bold"))
    if not whole:
        what = "the end only" if text else "there is no log of it"
        console.line(f"{what}: {row['missing']}" if row["missing"] else what)
    elif not text:
        console.line("it printed nothing")
    lines = "".join(f"{shown(line)}\n" for line in text.splitlines())
    write_out(lines.encode("utf-8", "backslashreplace"))
    return True


def _text(engine: Remote, row: LogRow) -> tuple[str, bool]:
    """(text, whether that is all of it)."""
    if row["blob"] is not None:
        data = engine.blob(row["blob"])
        if data is not None:
            return data.decode("utf-8", "surrogateescape"), True
    return row["tail"], not row["missing"]


def _object(engine: Remote, row: LogRow) -> dict[str, object]:
    text, whole = _text(engine, row)
    return {**row, "text": text, "whole": whole}
