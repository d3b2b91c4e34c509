"""What user code printed: tails that came with reports, whole logs that workers put away on an order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from mrq.core.jobs import JobView, TaskView
from mrq.core.model import AttemptId, JobState, Kind, Status, TaskState, WorkerHealth, task_name
from mrq.core.paths import attempt_name
from mrq.core.rows import LogRow
from mrq.errors import UsageError
from mrq.master.archive import Archive
from mrq.master.views import Views
from mrq.ports import LeaderState, Order, UploadLog

#: How long workers may take to put their logs away.
_WAIT_S: Final = 5.0
_LOOK_S: Final = 0.1
#: Whole logs that are ordered for one question; of more attempts only the tails are shown.
_ORDERED_MAX: Final = 64

#: (worker, boot, order) -> ordered with the worker's next beat.
Give = Callable[[str, str, Order], None]


class Logbook:
    """Answers `mrq logs`. `look` as of `Views`."""

    def __init__(
        self,
        *,
        state: LeaderState,
        views: Views,
        archive: Archive,
        look: Callable[[Callable[[Any], Any]], Any],
        give: Give,
    ) -> None:
        self._state = state
        self._views = views
        self._archive = archive
        self._look = look
        self._give = give
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Wait for no more logs."""
        self._stopped.set()

    def rows(self, job: str, task: object = None) -> list[LogRow] | None:
        """A row for each attempt that is known, of one task or all; None for an unknown job.

        Raises UsageError for a task that the job doesn't have.
        """
        known = self._known(job)
        if known is None:
            return None
        view, tasks = known
        if task is not None and not any(task_name(each.kind, each.index) == task for each in tasks):
            raise UsageError(f"job {job} has no task {task!r}{_names(view)}")
        found: dict[str, tuple[LogRow, str]] = {}  #: by the attempt's name; with its worker's boot
        for told in view.errors:
            tail = told.error.log_tail if told.error is not None else ""
            row = _row(told.kind, told.index, told.attempt, told.worker, told.status.value, tail)
            found[attempt_name(told.kind, told.index, told.attempt)] = row, ""
        for each in tasks:
            at = each.attempt
            if at is None or (task is not None and task_name(each.kind, each.index) != task):
                continue
            status = Status.DONE.value if each.state is TaskState.COMPLETED else "running"
            row = _row(each.kind, each.index, at, each.worker or "", status, "")
            found[attempt_name(each.kind, each.index, at)] = row, each.boot or ""
        wanted = {n: pair for n, pair in found.items() if task is None or pair[0]["task"] == task}
        return self._whole(view, wanted)

    def _known(self, job: str) -> tuple[JobView, list[TaskView]] | None:
        """A job and its tasks, from the machine or from what the store keeps of it."""
        view = self._views.view(job)
        if view is not None:
            name = view.job
            tasks: list[TaskView] = self._look(lambda machine: list(machine.tasks(name)))
            return view, tasks
        stored = self._state.load(job)
        machine = self._archive.machine_of(stored) if stored is not None else None
        past = machine.job(job) if machine is not None else None
        return None if machine is None or past is None else (past, list(machine.tasks(job)))

    def _whole(self, view: JobView, found: dict[str, tuple[LogRow, str]]) -> list[LogRow]:
        """The rows, with whole logs where their workers are there to put them away."""
        job = view.job
        alive = {
            w["worker"]: w["boot"]
            for w in self._views.workers()
            if w["running"] and w["health"] != WorkerHealth.DEAD.value
        }
        put = dict(self._state.logs(job))
        ordered: set[str] = set()
        for name, (row, _) in found.items():
            boot = alive.get(row["worker"])
            if boot is None:
                row["missing"] = f"worker {row['worker']} is gone" if row["worker"] else "nobody has it"
            elif len(ordered) >= _ORDERED_MAX:
                row["missing"] = f"more than {_ORDERED_MAX} logs: name a task for the whole of its own"
            elif not put.get(name) or row["status"] == "running":
                self._give(row["worker"], boot, UploadLog(job=job, log=name))
                ordered.add(name)
        fresh = self._wait(job, ordered, put)
        for name, (row, _) in found.items():
            digest = fresh.get(name)
            row["blob"] = digest or None
            if digest:
                row["missing"] = ""
            elif not row["missing"] and view.state is JobState.DONE:
                row["missing"] = "its worker kept it as long as the job ran"
            elif digest is None and not row["missing"]:
                row["missing"] = f"worker {row['worker']} hasn't sent it"
        return [row for row, _ in found.values()]

    def _wait(self, job: str, ordered: set[str], before: dict[str, str]) -> dict[str, str]:
        """What is put away once every ordered log is, or the time is over."""
        found = before
        for _ in range(int(_WAIT_S / _LOOK_S)):
            if all(name in found for name in ordered):
                break
            if self._stopped.wait(_LOOK_S):
                break
            found = dict(self._state.logs(job))
        return found


def _names(view: JobView) -> str:
    """What a job's tasks are called."""
    named = [
        f"{task_name(kind, 0)} to {task_name(kind, total - 1)}" if total > 1 else task_name(kind, 0)
        for kind, total in ((Kind.MAP, view.maps.total), (Kind.REDUCE, view.reduces.total))
        if total
    ]
    return f"; it has {' and '.join(named)}" if named else ""


def _row(kind: Kind, index: int, attempt: AttemptId, worker: str, status: str, tail: str) -> LogRow:
    return LogRow(
        task=task_name(kind, index),
        generation=attempt.generation,
        number=attempt.number,
        worker=worker,
        status=status,
        tail=tail,
        blob=None,
        missing="",
    )
