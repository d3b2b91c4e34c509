"""`mrq jobs` and `mrq status JOB`: what a cluster's leader knows of its jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mrq.cli import failure_text, objects, units
from mrq.cli.attend import watch
from mrq.cli.session import Session
from mrq.cli.tables import TextPage
from mrq.cli.wording import in_flags
from mrq.core.info import AttemptInfo, ErrorInfo, JobInfo, StageInfo, TaskInfo
from mrq.core.model import Role
from mrq.core.paths import named
from mrq.engine.engine import Engine
from mrq.handle import Handle

#: More attempts and errors than this are counted, not listed; --json has them all.
_LISTED: Final = 20


def jobs(session: Session) -> int:
    """`mrq jobs`."""
    if session.is_local():
        from mrq.cli.retry import list_kept

        return list_kept(session)
    with session.on_cluster(headline=False) as engine:
        answer = engine.ask("jobs")
    rows, now = in_order(answer["jobs"]), float(answer.get("now", 0.0))
    if session.json:
        session.answer(objects.Jobs, "listed", jobs=tuple(rows), now=now)
    else:
        page = TextPage()
        jobs_table(page, rows, now)
        page.write()
    return failure_text.DONE


def in_order(rows: list[JobInfo]) -> list[JobInfo]:
    """Those that run first, then the latest: for people and for --json alike."""
    return sorted(rows, key=lambda row: (row.state.is_over, -row.submitted_at))


def jobs_table(page: TextPage, rows: list[JobInfo], now: float) -> None:
    """Jobs, a line each."""
    if not rows:
        page.line("no jobs: none was submitted lately")
        return
    page.table(
        ("JOB", "STATE", "MAPS", "REDUCES", "RUNNING", "PRIORITY", "AGE", "TOOK", "OUT"),
        [
            (
                row.job,
                _state(row),
                _of(row.maps),
                _of(row.reduces) if row.reduces.total else "",
                _some(sum(stage.running for stage in row.stages)),
                f"{row.priority}" if row.priority else "",
                _age(row.submitted_at, now),
                _age(row.started_at, row.finished_at or now),
                row.output or "",
            )
            for row in rows
        ],
        right=("MAPS", "REDUCES", "RUNNING", "PRIORITY", "AGE", "TOOK"),
    )


def status(session: Session) -> int:
    """`mrq status JOB`."""
    (job,) = session.parsed.words
    session.refuse_local("status")
    tasks = session.has("tasks")

    def stop(session: Session, handle: Handle) -> None:
        session.fate = f"job {job} goes on"

    with session.on_cluster(headline=False) as engine:
        session.job = job
        info, now = _status(engine, job, tasks=tasks)
        if session.has("watch") and not info.state.is_over:
            if not session.json:
                _print(info, now)
            with session.signals.noting():
                watch(session, engine.handle(job), stop)
            info, now = _status(engine, job, tasks=tasks)
    session.name, session.output, session.info = info.name, info.output, info
    if session.json:
        session.answer(objects.JobStatus, "status", now=now)
    else:
        _print(info, now)
    return failure_text.DONE


def _status(engine: Engine, job: str, *, tasks: bool) -> tuple[JobInfo, float]:
    """The job, and the leader's clock."""
    asked = {"tasks": True} if tasks else {}
    answer = engine.ask("status", job=job, **asked)
    (info,) = answer["jobs"]
    return info, float(answer.get("now", 0.0))


def _print(info: JobInfo, now: float) -> None:
    page = TextPage()
    status_page(page, info, now)
    page.write()


def status_page(page: TextPage, row: JobInfo, now: float) -> None:
    """A job by itself."""
    over, took = row.state.is_over, ""
    if row.started_at:
        took = units.duration(max(0.0, (row.finished_at or now) - row.started_at))
    workers = sorted({each.worker for each in row.attempts})
    told = [
        (row.failures, "failure", "failures"),
        (row.losses, "lost executor", "lost executors"),
        (row.worker_losses, "lost worker", "lost workers"),
        (row.reruns, "task run again", "tasks run again"),
        (row.backups, "backup attempt", "backup attempts"),
    ]
    page.facts(
        [
            ("job", f"{row.job} ({row.name})"),
            ("state", row.state.value + (f", {'took' if over else 'for'} {took}" if took else "")),
            ("waits", in_flags(row.waits_for or "")),
            ("notes", in_flags("; ".join(row.notes))),
            ("error", in_flags(row.error or "")),
            ("submitted", _ago(row.submitted_at, now)),
            ("priority", f"{row.priority}" if row.priority else ""),
            ("input", ", ".join(row.inputs[:5]) + (" …" if len(row.inputs) > 5 else "")),
            ("output", row.output or "fetched by whoever submitted it"),
            ("workers", ", ".join(workers)),
            ("charged", ", ".join(units.plural(number, one, many) for number, one, many in told if number)),
        ]
    )
    page.line()
    page.table(
        ("STAGE", "TASKS", "DONE", "RUNNING", "QUEUED", "IDLE", "RECORDS", "IN", "SLOWEST"),
        [
            (
                stage.label,
                f"{stage.total:,}",
                f"{stage.completed:,}",
                f"{stage.running:,}",
                f"{stage.queued:,}",
                f"{stage.idle:,}",
                units.count(stage.records_in),
                units.size(stage.bytes_in),
                f"{stage.slowest} {units.duration(stage.slowest_s)}" if stage.slowest else "",
            )
            for stage in row.stages
        ],
        right=("TASKS", "DONE", "RUNNING", "QUEUED", "IDLE", "RECORDS", "IN"),
    )
    attempts_table(page, row.attempts, now, job=False)
    _tasks_table(page, row.tasks, now)
    _errors(page, row.errors, now)
    if row.counters:
        page.line()
        page.table(
            ("COUNTER", "VALUE"),
            [(name, f"{value:,}") for name, value in sorted(row.counters.items())],
            right=("VALUE",),
        )


def attempts_table(page: TextPage, rows: Sequence[AttemptInfo], now: float, *, job: bool) -> None:
    """Live attempts, a line each; with their job where a worker's are shown."""
    if not rows:
        return
    page.line()
    page.table(
        ("JOB", "TASK", "ATTEMPT", "WORKER", "STATE", "PHASE", "AT", "RECORDS", "IN", "FOR"),
        [
            (
                row.job if job else "",
                row.task,
                f"{row.ticket}.{row.number}" + (" backup" if row.role is Role.BACKUP else ""),
                "" if job else row.worker,
                row.state,
                row.phase,
                f"{row.fraction:.0%}" if row.phase else "",
                units.count(row.records),
                units.size(row.bytes),
                _age(row.started_at, now),
            )
            for row in rows[:_LISTED]
        ],
        right=("AT", "RECORDS", "IN", "FOR"),
    )
    if len(rows) > _LISTED:
        page.line(f"… and {len(rows) - _LISTED:,} more (--json has them all)")


def _tasks_table(page: TextPage, rows: Sequence[TaskInfo], now: float) -> None:
    """Every task, a line each, where that was asked for."""
    if not rows:
        return
    page.line()
    page.table(
        ("TASK", "STATE", "ATTEMPT", "WORKER", "FAILURES", "LOSSES", "IN", "OUT", "TOOK"),
        [
            (
                row.task,
                row.state.value,
                f"{row.ticket}.{row.number}" if row.number else "",
                row.worker,
                _some(row.failures),
                _some(row.losses),
                units.count(row.records_in),
                units.count(row.records_out),
                _age(row.started_at, row.finished_at or now),
            )
            for row in rows
        ],
        right=("FAILURES", "LOSSES", "IN", "OUT", "TOOK"),
    )


def _errors(page: TextPage, rows: Sequence[ErrorInfo], now: float) -> None:
    if not rows:
        return
    page.line()
    page.line("failed and lost attempts, the latest last")
    for row in rows[-_LISTED:]:
        error = row.error
        what = f"{error.type}: {error.message}" if error is not None else row.status.value
        page.line(f"  {row.task} attempt {row.ticket}.{row.number} on {row.worker}, {_ago(row.at, now)}")
        page.line(f"    {what.splitlines()[0]}", "red")
        if error is not None and error.path is not None:
            at = f" at byte {error.offset:,}" if error.offset is not None else ""
            page.line(f"    {named(error.path)}{at}" + (f": {error.record}" if error.record else ""))


def _state(row: JobInfo) -> str:
    """A job's state; of several stages also at which it is."""
    at = row.stages[-1].stage if row.stages and not row.state.is_over else 0
    return f"{row.state.value}, stage {at}" if at else row.state.value


def _of(stage: StageInfo) -> str:
    return f"{stage.completed:,}/{stage.total:,}"


def _some(number: int) -> str:
    return f"{number:,}" if number else ""


def _age(at: float, now: float) -> str:
    return units.age(now - at) if at and now else ""


def _ago(at: float, now: float) -> str:
    return f"{units.duration(max(0.0, now - at))} ago" if at and now else ""
