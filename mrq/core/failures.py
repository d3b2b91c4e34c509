"""What a task is charged for each way an attempt can end, by one table, which the docs print; and which
worker is blamed.

LOST isn't FAILED: each has a bound of its own, and what isn't the task's fault charges nothing but is still
bounded where it could repeat for ever.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mrq.core.alone import count, lost_with
from mrq.core.inform import error_info
from mrq.core.jobs import LeaderJob
from mrq.core.machine_state import State, stable_hash
from mrq.core.model import ErrorReport, Quarantine, Status, WorkerHealth
from mrq.core.orders import Notify
from mrq.core.paths import named
from mrq.core.placement import others_take
from mrq.core.tasks import LiveAttempt, TaskTable
from mrq.core.worker_table import Worker

#: Characters of a quarantine's reason, in which a task's error is told: the store has it with every beat.
_WHY_MAX: Final = 1000
#: How attempts end in good order: `mrq status` doesn't list them with what went wrong.
_NO_TROUBLE: Final = frozenset({Status.HANDED_BACK, Status.SUPERSEDED})


class Account(enum.Enum):
    """Which of a task's bounds a charge counts against."""

    FAILURES = "failures"  #: JobSpec.max_failures
    LOSSES = "losses"  #: JobSpec.max_losses: poison
    WORKER_LOSSES = "worker losses"  #: JobSpec.max_worker_losses, each boot once
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    account: Account
    blames_worker: bool  #: counts towards the worker's quarantine
    backs_off: bool  #: the next attempt waits, longer each time
    note: str


CHARGES: Final[Mapping[Status, Charge]] = {
    Status.DONE: Charge(
        account=Account.NOTHING, blames_worker=False, backs_off=False, note="the task is completed"
    ),
    Status.FAILED: Charge(
        account=Account.FAILURES,
        blames_worker=True,
        backs_off=True,
        note="the same error at the same record twice is enough; with skip_bad_records the first one "
        "charges nothing and the next attempt is careful",
    ),
    Status.TIMED_OUT: Charge(
        account=Account.FAILURES, blames_worker=True, backs_off=True, note="no progress for too long"
    ),
    Status.LOST: Charge(
        account=Account.LOSSES,
        blames_worker=True,
        backs_off=True,
        note="poison after max_losses; nothing if no executor had started, or a folder of the worker's own "
        "is gone or can't be written: then as disk_full",
    ),
    Status.WORKER_LOST: Charge(
        account=Account.WORKER_LOSSES,
        blames_worker=False,
        backs_off=False,
        note="a wide bound, counted by boot; from the second on the task runs alone on its worker, and three "
        "losses alone are poison",
    ),
    Status.UNLISTED: Charge(
        account=Account.NOTHING,
        blames_worker=False,
        backs_off=True,
        note="beats don't list it any more and no report of it is known: an executor's death would have been "
        "reported, so the store fell back behind the report or the claim; or a reduce read map outputs of "
        "which a store that was taken over knows nothing, or one that was sent back",
    ),
    Status.FETCH_FAILED: Charge(
        account=Account.NOTHING,
        blames_worker=False,
        backs_off=True,
        note="the map's output is to blame: at most 4 re-runs of one map, then the job fails by name",
    ),
    Status.PART_LOST: Charge(
        account=Account.NOTHING,
        blames_worker=False,
        backs_off=False,
        note="tried once more by another worker, where there is one; then the job begins again at its first "
        "stage, at most 4 times",
    ),
    Status.DISK_FULL: Charge(
        account=Account.NOTHING,
        blames_worker=True,
        backs_off=True,
        note="another worker is preferred; 3 in a row without progress and nowhere else to go fail the job",
    ),
    Status.HANDED_BACK: Charge(
        account=Account.NOTHING,
        blames_worker=False,
        backs_off=False,
        note="drain or shutdown, or the data plane died under a reduce that waited for it",
    ),
    Status.SUPERSEDED: Charge(
        account=Account.NOTHING,
        blames_worker=False,
        backs_off=False,
        note="another attempt won, or the job is over",
    ),
}


def charge(
    state: State,
    job: LeaderJob,
    table: TaskTable,
    index: int,
    attempt: LiveAttempt,
    status: Status,
    error: ErrorReport | None,
    *,
    started: bool,
    disk: bool = False,
    alone: bool = False,
) -> str | None:
    """Charge what the table says. Returns why the job fails, if a bound is reached."""
    rule = CHARGES[status]
    if status not in _NO_TROUBLE:
        job.errors.append(error_info(state, job, attempt, status, error))
        del job.errors[: -state.config.errors_kept]
    if rule.blames_worker:
        blame(table, index, attempt.worker)
    if status is Status.DISK_FULL or (status is Status.LOST and disk):
        return _disk_failed(state, job, table, index, attempt, status, error)
    if started and rule.account is Account.LOSSES:
        return _lost(job, table, index, error)
    if started and rule.account is Account.WORKER_LOSSES:
        bound = _worker_lost(state, job, table, index, attempt, alone=alone)
        return bound or _uncharged(state, table, index, status, error)
    if not started or rule.account is Account.NOTHING:
        return _uncharged(state, table, index, status, error)
    return _failed(job, table, index, status, error)


def _uncharged(
    state: State, table: TaskTable, index: int, status: Status, error: ErrorReport | None
) -> str | None:
    """Nobody's fault, and still not for ever."""
    trouble = table.troubled(index)
    trouble.uncharged += 1
    if trouble.uncharged < state.config.uncharged_max:
        return None
    what = f"ended {trouble.uncharged} times without a result, the last time as {status.value}"
    return _sentence(table, index, what, error)


def _failed(
    job: LeaderJob, table: TaskTable, index: int, status: Status, error: ErrorReport | None
) -> str | None:
    spec, trouble = job.spec, table.troubled(index)
    if status is Status.FAILED and spec.skip_bad_records and not trouble.careful:
        trouble.careful = True
        return None
    table.failures[index] = min(table.failures[index] + 1, 255)
    job.failures += 1
    times = table.failures[index]
    if times >= spec.max_failures:
        return _sentence(table, index, f"failed {_times(times)}", error)
    if status is Status.FAILED and error is not None:
        seen = stable_hash(repr(error.fingerprint))
        if trouble.fingerprints is None:
            trouble.fingerprints = []
        if seen in trouble.fingerprints:
            return _sentence(table, index, "failed twice with the same error at the same record", error)
        trouble.fingerprints.append(seen)
    return None


def _lost(job: LeaderJob, table: TaskTable, index: int, error: ErrorReport | None) -> str | None:
    table.losses[index] = min(table.losses[index] + 1, 255)
    job.losses += 1
    if table.losses[index] < job.spec.max_losses:
        return None
    # An executor's end is told in words ("killed by signal 9"); an error's name means that none was begun.
    began = error is None or not error.type.isidentifier()
    what = "killed its executor" if began else "couldn't be begun"
    return _sentence(table, index, f"{what} {_times(table.losses[index])}", error)


def _worker_lost(
    state: State, job: LeaderJob, table: TaskTable, index: int, attempt: LiveAttempt, *, alone: bool
) -> str | None:
    """Each boot counts once. Lost with a worker that ran nothing else, it has shown what it does."""
    trouble = table.troubled(index)
    count(state, trouble, attempt.worker, attempt.boot, alone=alone)
    job.worker_losses += 1
    lost = lost_with(trouble)
    counted = attempt.at.startswith("after ")  # a reduce says after how many records it was
    at = f", last heard of {'' if counted else 'at '}{attempt.at}" if attempt.at else ""
    if alone and trouble.lost_alone >= state.config.alone_losses_max:
        what = (
            f"took its worker down {_times(trouble.lost_alone)} while nothing else ran there{at}; "
            f"it was lost with {', '.join(lost)}. A record of it kills the whole worker, or takes more "
            "memory than the worker has"
        )
        return _sentence(table, index, what, None)
    if len(lost) < job.spec.max_worker_losses:
        return None
    boots = "boot of a worker" if len(lost) == 1 else "boots of workers"
    return _sentence(table, index, f"was lost with {len(lost)} {boots} ({', '.join(lost)}){at}", None)


def _disk_failed(
    state: State,
    job: LeaderJob,
    table: TaskTable,
    index: int,
    attempt: LiveAttempt,
    status: Status,
    error: ErrorReport | None,
) -> str | None:
    """Charges nothing, yet can't go on for ever: another worker first, then a few tries, then the end."""
    trouble = table.troubled(index)
    avoid(table, index, attempt.worker)
    trouble.disk_full = trouble.disk_full + 1 if trouble.disk_full_mark == job.completions else 1
    trouble.disk_full_mark = job.completions
    trouble.disk_full_all += 1
    elsewhere = others_take(state, job, table.kind, trouble.avoid or [])
    config = state.config
    if (trouble.disk_full >= config.disk_full_max and not elsewhere) or (
        trouble.disk_full_all >= config.disk_full_limit
    ):
        found = "the disk full" if status is Status.DISK_FULL else "no folder of its worker to write in"
        return _sentence(table, index, f"found {found} {_times(trouble.disk_full_all)}", error)
    return None


def avoid(table: TaskTable, index: int, worker: str) -> None:
    trouble = table.troubled(index)
    if trouble.avoid is None:
        trouble.avoid = []
    if worker not in trouble.avoid:
        trouble.avoid.append(worker)
        trouble.waits = 0


def blame(table: TaskTable, index: int, worker: str) -> None:
    """A task failed on a worker. Whether that is the worker's fault shows when it completes elsewhere."""
    trouble = table.troubled(index)
    if trouble.failed_on is None:
        trouble.failed_on = []
    if worker not in trouble.failed_on:
        trouble.failed_on.append(worker)


def settle_blame(state: State, table: TaskTable, index: int, winner: str) -> None:
    """A task that failed on some workers was completed by another: a strike for each of them.

    A job whose code fails everywhere strikes nobody, so it can't shut the cluster out.
    """
    trouble = table.trouble.get(index)
    if trouble is None or trouble.failed_on is None:
        return
    for name in trouble.failed_on:
        worker = state.workers.all.get(name)
        if worker is not None and name != winner:
            _strike(state, worker, table, index)
    trouble.failed_on = None


def _strike(state: State, worker: Worker, table: TaskTable, index: int) -> None:
    """Too many different tasks that failed here, and not elsewhere, quarantine a worker."""
    config, strikes, task = state.config, worker.strikes, table.name(index)
    strikes.pop(task, None)
    strikes[task] = state.now
    while (
        len(strikes) > config.quarantine_tasks or next(iter(strikes.values())) < state.now - config.strike_s
    ):
        del strikes[next(iter(strikes))]
    if len(strikes) >= config.quarantine_tasks and may_quarantine(state, worker):
        quarantine(
            state,
            worker,
            f"{len(strikes)} different tasks failed on it within {config.strike_s / 60:g} minutes and were "
            f"completed elsewhere, {table.task(index)} of job {table.job} the last"
            + _ended_as(state, worker, table, index),
        )


def _ended_as(state: State, worker: Worker, table: TaskTable, index: int) -> str:
    """What is remembered of the last end of a task on a worker; "" where nothing is."""
    job = state.jobs.get(table.job)
    for told in reversed(job.errors if job is not None else []):
        if (told.worker, told.task) == (worker.worker, str(table.task(index))):
            error = told.error
            return f", as {told.status.value}" + (f": {error.type}: {error.message}" if error else "")
    return ""


def may_quarantine(state: State, worker: Worker) -> bool:
    """Never the last worker, and never more than a share: a job's bug isn't theirs."""
    if not state.config.quarantines or worker.quarantined:
        return False
    others = len(state.workers.out - {worker.worker})
    if others == 0:
        return False
    held = (state.workers.all[name] for name in state.workers.quarantined)
    shut_out = sum(w.live is not WorkerHealth.DEAD and not w.draining for w in held)
    return shut_out + 1 <= state.config.quarantine_share * (shut_out + others + 1)


def quarantine(state: State, worker: Worker, why: str) -> None:
    """It gets no more tasks until an operator readmits it; what it runs may finish. `why` is for people, here
    and in its own log; of a long one the beginning."""
    why = why if len(why) <= _WHY_MAX else f"{why[:_WHY_MAX]} …"
    shut_out(state, worker, Quarantine(why=why, at=state.now + state.shift + state.wall))
    state.write_worker(worker)


def shut_out(state: State, worker: Worker, word: Quarantine) -> None:
    """Put a worker into a quarantine that may be older than this view of it."""
    state.workers.take_out(worker)
    worker.quarantine = word
    if word.why:
        text = f"in quarantine, no tasks until `mrq workers readmit {worker.worker}`: {word.why}"
        state.give(worker, Notify(text=text))
    state.workers.quarantined[worker.worker] = None
    state.workers.put_in(worker)


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def _sentence(table: TaskTable, index: int, what: str, error: ErrorReport | None) -> str:
    """Names the task, what it did and the last error with its record."""
    text = f"{table.task(index)} {what}"
    if error is None:
        return text
    text += f": {error.type}: {error.message}" if error.message else f": {error.type}"
    if error.path is not None:
        text += f" ({named(error.path)}" + (f", offset {error.offset})" if error.offset is not None else ")")
    return text
