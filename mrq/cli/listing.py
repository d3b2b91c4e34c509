"""`mrq jobs` and `mrq status JOB`: what a cluster's leader knows of its jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mrq.cli import errors, units
from mrq.cli.clusters import Remote, is_local, refuse_local, remote_of
from mrq.cli.console import Console, print_json
from mrq.cli.flags import Parsed
from mrq.cli.signals import Signals
from mrq.cli.submit import Told, head, watch
from mrq.cli.tables import Page
from mrq.cli.wording import in_flags
from mrq.core.rows import AttemptRow, ErrorRow, JobRow, StatusRow, TaskRow, filled
from mrq.errors import UsageError

if TYPE_CHECKING:
    from mrq.handle import Handle

#: More attempts and errors than this are counted, not listed; --json has them all.
_LISTED: Final = 20
_OVER: Final = ("done", "failed", "cancelled")


def jobs(parsed: Parsed, console: Console, signals: Signals, told: Told) -> int:
    """`mrq jobs`."""
    if parsed.words:
        raise UsageError(f"mrq jobs takes no words, not {parsed.words[0]!r}; mrq status {parsed.words[0]}?")
    if is_local(parsed):
        from mrq.cli.retry import list_kept

        return list_kept("json" in parsed.switches)
    with remote_of(parsed, console, told, headline=False) as engine:
        answer = engine.ask("jobs")
    rows = in_order([filled(JobRow, row) for row in answer["jobs"]])
    if "json" in parsed.switches:
        print_json(
            {**head(told, "listed", errors.DONE), "jobs": rows, "now": answer.get("now"), "error": None}
        )
    else:
        page = Page()
        jobs_table(page, rows, float(answer.get("now", 0.0)))
        page.write()
    return errors.DONE


def in_order(rows: list[JobRow]) -> list[JobRow]:
    """Those that run first, then the latest: for people and for --json alike."""
    return sorted(rows, key=lambda row: (row["state"] in _OVER, -row["submitted_at"]))


def jobs_table(page: Page, rows: list[JobRow], now: float) -> None:
    """Jobs, a line each."""
    if not rows:
        page.line("no jobs: none was submitted lately")
        return
    page.table(
        ("JOB", "STATE", "MAPS", "REDUCES", "RUNNING", "PRIORITY", "AGE", "TOOK", "OUT"),
        [
            (
                row["job"],
                row["state"],
                _of(row["maps_done"], row["maps"]),
                _of(row["reduces_done"], row["reduces"]) if row["reduces"] else "",
                f"{row['running']:,}" if row["running"] else "",
                f"{row['priority']}" if row["priority"] else "",
                _age(row["submitted_at"], now),
                _age(row["started_at"], row["finished_at"] or now),
                row["output"] or "",
            )
            for row in rows
        ],
        right=("MAPS", "REDUCES", "RUNNING", "PRIORITY", "AGE", "TOOK"),
    )


def status(parsed: Parsed, console: Console, signals: Signals, told: Told) -> int:
    """`mrq status JOB`."""
    if len(parsed.words) != 1:
        raise UsageError(f"mrq status takes one JOB; {len(parsed.words)} are given; `mrq jobs` lists them")
    refuse_local(parsed, "status")
    job, json, tasks = parsed.words[0], "json" in parsed.switches, "tasks" in parsed.switches
    with remote_of(parsed, console, told, headline=False) as engine:
        told.job = job
        row = _status(engine, job, tasks=tasks)
        if "watch" in parsed.switches and row["state"] not in _OVER:
            if not json:
                _print(row)
            _watch(engine, job, console, signals, told)
            row = _status(engine, job, tasks=tasks)
    told.name, told.output = row["name"], row["output"]
    if json:
        print_json({**head(told, "status", errors.DONE), **row, "status": "status", "error": row["error"]})
    else:
        _print(row)
    return errors.DONE


def _status(engine: Remote, job: str, *, tasks: bool) -> StatusRow:
    asked = {"tasks": True} if tasks else {}
    return filled(StatusRow, engine.ask("status", job=job, **asked))


def _watch(engine: Remote, job: str, console: Console, signals: Signals, told: Told) -> None:
    """Follow the job's news until it is over."""

    def stop(handle: Handle) -> None:
        told.fate = f"job {job} goes on"

    with signals.noting():
        watch(engine.handle(job), console, signals, stop=stop)


def _print(row: StatusRow) -> None:
    page = Page()
    status_page(page, row)
    page.write()


def status_page(page: Page, row: StatusRow) -> None:
    """A job by itself."""
    now = row["now"]
    over, took = row["state"] in _OVER, _took(row, now)
    page.facts(
        [
            ("job", f"{row['job']} ({row['name']})"),
            ("state", row["state"] + (f", {'took' if over else 'for'} {took}" if took else "")),
            ("waits", in_flags(row["waits_for"] or "")),
            ("notes", in_flags("; ".join(row["notes"]))),
            ("error", in_flags(row["error"] or "")),
            ("submitted", _ago(row["submitted_at"], now)),
            ("priority", f"{row['priority']}" if row["priority"] else ""),
            ("input", ", ".join(row["inputs"][:5]) + (" …" if len(row["inputs"]) > 5 else "")),
            ("output", row["output"] or "fetched by whoever submitted it"),
            ("workers", ", ".join(row["workers"])),
            ("charged", _charges(row)),
        ]
    )
    page.line()
    page.table(
        ("STAGE", "TASKS", "DONE", "RUNNING", "QUEUED", "IDLE", "RECORDS", "IN", "SLOWEST"),
        [
            (
                stage["name"],
                f"{stage['total']:,}",
                f"{stage['completed']:,}",
                f"{stage['running']:,}",
                f"{stage['queued']:,}",
                f"{stage['idle']:,}",
                units.count(stage["records_in"]),
                units.size(stage["bytes_in"]),
                f"{stage['slowest']} {units.duration(stage['slowest_s'])}" if stage["slowest"] else "",
            )
            for stage in row["stages"]
        ],
        right=("TASKS", "DONE", "RUNNING", "QUEUED", "IDLE", "RECORDS", "IN"),
    )
    attempts_table(page, row["attempts"], now, job=False)
    _tasks_table(page, row["tasks"], now)
    _errors(page, row["errors"], now)
    if row["counters"]:
        page.line()
        page.table(
            ("COUNTER", "VALUE"),
            [(name, f"{value:,}") for name, value in sorted(row["counters"].items())],
            right=("VALUE",),
        )


def attempts_table(page: Page, rows: list[AttemptRow], now: float, *, job: bool) -> None:
    """Live attempts, a line each; with their job where a worker's are shown."""
    if not rows:
        return
    page.line()
    page.table(
        ("JOB", "TASK", "ATTEMPT", "WORKER", "STATE", "PHASE", "AT", "RECORDS", "IN", "FOR"),
        [
            (
                row["job"] if job else "",
                row["task"],
                f"{row['generation']}.{row['number']}" + (" backup" if row["role"] == "backup" else ""),
                "" if job else row["worker"],
                row["state"],
                row["phase"],
                f"{row['fraction']:.0%}" if row["phase"] else "",
                units.count(row["records"]),
                units.size(row["bytes"]),
                _age(row["started_at"], now),
            )
            for row in rows[:_LISTED]
        ],
        right=("AT", "RECORDS", "IN", "FOR"),
    )
    if len(rows) > _LISTED:
        page.line(f"… and {len(rows) - _LISTED:,} more (--json has them all)")


def _tasks_table(page: Page, rows: list[TaskRow], now: float) -> None:
    """Every task, a line each, where that was asked for."""
    if not rows:
        return
    page.line()
    page.table(
        ("TASK", "STATE", "ATTEMPT", "WORKER", "FAILURES", "LOSSES", "IN", "OUT", "TOOK"),
        [
            (
                row["task"],
                row["state"],
                f"{row['generation']}.{row['number']}" if row["number"] else "",
                row["worker"],
                f"{row['failures']:,}" if row["failures"] else "",
                f"{row['losses']:,}" if row["losses"] else "",
                units.count(row["records_in"]),
                units.count(row["records_out"]),
                _age(row["started_at"], row["finished_at"] or now),
            )
            for row in rows
        ],
        right=("FAILURES", "LOSSES", "IN", "OUT", "TOOK"),
    )


def _errors(page: Page, rows: list[ErrorRow], now: float) -> None:
    if not rows:
        return
    page.line()
    page.line("failed and lost attempts, the latest last")
    for row in rows[-_LISTED:]:
        what = f"{row['type']}: {row['message']}" if row["type"] else row["status"]
        page.line(
            f"  {row['task']} attempt {row['generation']}.{row['number']} on {row['worker']}, "
            f"{_ago(row['at'], now)}"
        )
        page.line(f"    {what.splitlines()[0]}", "red")
        if row["path"] is not None:
            at = f" at byte {row['offset']:,}" if row["offset"] is not None else ""
            page.line(f"    {row['path']}{at}" + (f": {row['record']}" if row["record"] else ""))


def _charges(row: StatusRow) -> str:
    told = [
        (row["failures"], "failure", "failures"),
        (row["losses"], "lost executor", "lost executors"),
        (row["worker_losses"], "lost worker", "lost workers"),
        (row["reruns"], "task run again", "tasks run again"),
        (row["backups"], "backup attempt", "backup attempts"),
    ]
    return ", ".join(units.plural(number, one, many) for number, one, many in told if number)


def _of(done: int, total: int) -> str:
    return f"{done:,}/{total:,}"


def _age(at: float, now: float) -> str:
    return units.age(now - at) if at and now else ""


def _ago(at: float, now: float) -> str:
    return f"{units.duration(max(0.0, now - at))} ago" if at and now else ""


def _took(row: JobRow, now: float) -> str:
    if not row["started_at"]:
        return ""
    return units.duration(max(0.0, (row["finished_at"] or now) - row["started_at"]))
