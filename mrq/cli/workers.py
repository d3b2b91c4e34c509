"""`mrq workers`: who runs tasks, with what, and how it is; drain, quarantine and readmit."""

from __future__ import annotations

import logging
import time
from typing import Final

from mrq.cli import failure_text, objects, units
from mrq.cli.listing import attempts_table
from mrq.cli.session import Session
from mrq.cli.tables import TextPage
from mrq.core.model import WorkerHealth
from mrq.core.worker_info import WorkerInfo
from mrq.errors import UsageError

_LOG: Final = logging.getLogger(__name__)

ORDERS: Final = ("drain", "quarantine", "readmit")
_OUTPUTS_LISTED: Final = 10
_PACKAGES_LISTED: Final = 40
_REASONS_LISTED: Final = 20


def workers(session: Session) -> int:
    """`mrq workers [WORKER]` and `mrq workers ORDER WORKER`."""
    session.refuse_local("workers")
    words = session.parsed.words
    if words and words[0] in ORDERS:
        return _order(session)
    if len(words) > 1:
        raise UsageError(
            f"mrq workers takes one WORKER, or one of {', '.join(ORDERS)} and a WORKER; not {' '.join(words)}"
        )
    with session.on_cluster(headline=False) as engine:
        answer = engine.ask("workers", **({"worker": words[0]} if words else {}))
    rows, leader = in_order(answer["workers"]), str(answer.get("leader", ""))
    now = float(answer.get("now", 0.0))
    if session.json:
        session.answer(objects.WorkerList, "listed", leader=leader, workers=tuple(rows), now=now)
        return failure_text.DONE
    page = TextPage()
    if words:
        for row in rows:
            worker_page(page, row, now)
    else:
        workers_table(page, rows, leader, now)
    page.write()
    return failure_text.DONE


def _order(session: Session) -> int:
    order, *names = session.parsed.words
    if len(names) != 1:
        raise UsageError(f"mrq workers {order} takes one WORKER; {len(names)} are given")
    with session.on_cluster() as engine:
        answer = engine.ask(order, worker=names[0])
    worker, health = answer["worker"], answer["health"]
    _LOG.info(f"worker {worker} is {health} now")
    if session.json:
        session.answer(objects.Ordered, "ordered", worker=worker, health=health)
    return failure_text.DONE


def in_order(rows: list[WorkerInfo]) -> list[WorkerInfo]:
    """The living by name, then the dead, the latest first: for people and for --json alike."""

    def place(row: WorkerInfo) -> tuple[bool, float, str]:
        dead = row.health is WorkerHealth.DEAD
        return dead, row.silent_s * dead, row.worker

    return sorted(rows, key=place)


def workers_table(page: TextPage, rows: list[WorkerInfo], leader: str, now: float) -> None:
    """Workers, a line each, and below them why some don't simply take tasks, and how that ends."""
    if leader:
        page.line(f"leader {leader}", "dim")
    if not rows:
        page.line("no workers: start some with python -m mrq.worker, or docker compose up --scale worker=N")
        return
    page.table(
        ("WORKER", "HEALTH", "MAP", "REDUCE", "DONE", "OUTPUTS", "DISK", "BEAT", "ADDRESS"),
        [
            (
                row.worker,
                row.health.value,
                f"{row.map_used}/{row.map_slots}",
                f"{row.reduce_used}/{row.reduce_slots}",
                f"{row.completed:,}",
                units.size(row.outputs_bytes),
                units.size(row.disk_used),
                units.age(row.silent_s),
                row.address,
            )
            for row in rows
        ],
        right=("MAP", "REDUCE", "DONE", "OUTPUTS", "DISK", "BEAT"),
    )
    told = [row for row in rows if row.reason]
    if told:
        page.line()
    for row in told[:_REASONS_LISTED]:
        since = f" for {units.duration(_standing_s(row, now))}" if row.since else ""
        page.line(f"{row.worker} is {row.health.value}{since}: {row.reason}")
        page.line(f"  ends: {row.ends}")
    if len(told) > _REASONS_LISTED:
        page.line(f"… and {len(told) - _REASONS_LISTED:,} more: mrq workers WORKER says why", "dim")


def _standing_s(row: WorkerInfo, now: float) -> float:
    """For how long it has had its health, seconds."""
    return max(0.0, now - row.since) if row.since else 0.0


def worker_page(page: TextPage, row: WorkerInfo, now: float) -> None:
    """One worker by itself."""
    hints = row.hints
    told = [f"{hints['cpus']} cores"] if hints.get("cpus") else []
    told += [f"{units.size(hints['memory_bytes'])} memory"] if hints.get("memory_bytes") else []
    told += [f"{units.size(hints['disk_bytes'])} disk"] if hints.get("disk_bytes") else []
    packages = [f"{name} {version}" for name, version in sorted((row.packages or {}).items())]
    more = f", and {len(packages) - _PACKAGES_LISTED} more" if len(packages) > _PACKAGES_LISTED else ""
    since = ""
    if row.since:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.since))
        since = f"{at}, {units.duration(_standing_s(row, now))} ago"
    room = f" of {units.size(row.disk_quota)}" if row.disk_quota else ""
    free = f", {units.size(row.disk_free)} free" if row.disk_free and not room else ""
    page.facts(
        [
            ("worker", f"{row.worker}, boot {row.boot}"),
            ("address", row.address or "none"),
            ("health", row.health.value + ("" if row.beating else ", not running")),
            ("since", since),
            ("reason", row.reason),
            ("ends", row.ends),
            ("trouble", row.trouble if row.trouble != row.reason else ""),
            ("full", row.full if row.full != row.reason else ""),
            ("notes", "; ".join(row.notes)),
            ("last beat", f"{units.duration(row.silent_s)} ago"),
            ("slots", f"{row.map_slots} map, {row.reduce_slots} reduce"),
            ("hints", ", ".join(told)),
            ("completed", units.plural(row.completed, "task")),
            ("disk", f"{units.size(row.disk_used)}{room}{free}"),
            (
                "serves",
                f"{units.plural(row.outputs_count, 'map output')}, {units.size(row.outputs_bytes)}",
            ),
            ("version", f"mrq {row.version}, Python {row.python}" if row.version else ""),
            ("packages", ", ".join(packages[:_PACKAGES_LISTED]) + more),
            ("debug", row.debug),
            ("follows", row.leader),
        ]
    )
    attempts_table(page, row.attempts, now, job=True)
    if row.outputs:
        page.line()
        page.table(
            ("JOB", "MAP OUTPUT", "SIZE"),
            [(each.job, each.task, units.size(each.bytes)) for each in row.outputs[:_OUTPUTS_LISTED]],
            right=("SIZE",),
        )
        if row.outputs_count > _OUTPUTS_LISTED:
            page.line(f"… and {row.outputs_count - _OUTPUTS_LISTED:,} more")
    page.line()
