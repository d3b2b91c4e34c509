"""`mrq logs JOB [TASK]`: what user code printed, from whichever worker ran it."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from typing import Final

from mrq.cli import failure_text, objects
from mrq.cli.console import shown, write_lines
from mrq.cli.session import Session
from mrq.core.worker_info import LogInfo
from mrq.engine.engine import Engine

_LOG: Final = logging.getLogger(__name__)


def logs(session: Session) -> int:
    """Print logs on standard output, what is known of each on standard error."""
    words = session.parsed.words
    session.refuse_local("logs")
    job, *task = words
    with session.on_cluster(headline=False) as engine:
        session.job = job
        answer = engine.ask("logs", job=job, **({"task": task[0]} if task else {}))
        chosen = chosen_of(answer["logs"], named=bool(task), every=session.has("all"))
        if session.json:
            session.answer(objects.Logs, "logs", logs=tuple(_read(engine, log) for log in chosen))
            return failure_text.DONE
        if not chosen:
            _LOG.info(f"nothing was printed by {task[0] if task else 'any attempt'} of {job}")
        silent = Counter[str]()  # by why there is nothing
        for log in (_read(engine, log) for log in chosen):
            if log.text or log.status != "done" or task:
                _print(log)
            else:
                silent["" if log.whole else log.missing] += 1
        for why, count in silent.items():
            _LOG.info(
                f"no log of {count:,} that went well: {why}"
                if why
                else f"{count:,} that went well printed nothing"
            )
    return failure_text.DONE


def chosen_of(logs: list[LogInfo], *, named: bool, every: bool) -> list[LogInfo]:
    """The attempts that are meant: the latest of each task; of the failed ones where no task was named and
    some failed; or all."""
    if every:
        return logs
    latest: dict[str, LogInfo] = {}
    for log in logs:
        before = latest.get(log.task)
        if before is None or _order(log) >= _order(before):
            latest[log.task] = log
    if named:
        return list(latest.values())
    failed: dict[str, LogInfo] = {}
    for log in logs:
        if log.status not in ("done", "running", "superseded", "handed_back"):
            failed[log.task] = log
    return list(failed.values() or latest.values())


def _order(log: LogInfo) -> tuple[int, int]:
    return log.ticket, log.number


def _read(engine: Engine, log: LogInfo) -> LogInfo:
    """With its text, as far as there is one."""
    data = engine.blob(log.blob) if log.blob is not None else None
    if data is not None:
        return replace(log, text=data.decode("utf-8", "surrogateescape"), whole=True)
    return replace(log, text=log.tail, whole=not log.missing)


def _print(log: LogInfo) -> None:
    """One attempt's log, a headline before it."""
    attempt = f"attempt {log.ticket}.{log.number}"
    _LOG.info(f"{log.task} {attempt} on {log.worker}: {log.status}", extra={"style": "bold"})
    if not log.whole:
        what = "the end only" if log.text else "there is no log of it"
        _LOG.info(f"{what}: {log.missing}" if log.missing else what)
    elif not log.text:
        _LOG.info("it printed nothing")
    write_lines(map(shown, log.text.splitlines()))
