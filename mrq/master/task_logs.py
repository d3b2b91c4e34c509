"""What user code printed: tails that came with reports, whole logs that workers put away on an order."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from mrq.core.info import ErrorInfo, JobInfo, TaskInfo
from mrq.core.model import JobState, Status, TaskState
from mrq.core.orders import UploadLog
from mrq.core.worker_info import LogInfo
from mrq.errors import UsageError
from mrq.master.finished_jobs import FinishedJobs
from mrq.master.loop import Master
from mrq.master.views import Views
from mrq.ports import LeaderState

#: How long workers may take to put their logs away.
_WAIT_S: Final = 5.0
_LOOK_S: Final = 0.1
#: Whole logs that are ordered for one question; of more attempts only the tails are shown.
_ORDERED_MAX: Final = 64


@dataclass(eq=False, kw_only=True)
class TaskLogs:
    """Answers `mrq logs`."""

    state: LeaderState
    views: Views
    archive: FinishedJobs
    master: Master
    stopping: threading.Event

    def logs(self, job: str, task: object = None) -> list[LogInfo] | None:
        """The log of each attempt that is known, of one task or all, its end only; None for an unknown job.

        Raises UsageError for a task that the job doesn't have.
        """
        known = self._known(job)
        if known is None:
            return None
        info, tasks = known
        if task is not None and not any(each.task == task for each in tasks):
            raise UsageError(f"job {job} has no task {task!r}{_names(tasks)}")
        found: dict[str, LogInfo] = {}  #: by the attempt's name
        for told in info.errors:
            tail = told.error.log_tail if told.error is not None else ""
            found[_name(told)] = _log(told, told.status.value, tail)
        for each in tasks:
            if each.number:
                status = Status.DONE.value if each.state is TaskState.COMPLETED else "running"
                found[_name(each)] = _log(each, status)
        wanted = {log: each for log, each in found.items() if task is None or each.task == task}
        return self._whole(job, info.state, wanted)

    def _known(self, job: str) -> tuple[JobInfo, list[TaskInfo]] | None:
        """A job and its tasks: from the machine or from what the store keeps of it."""
        info = self.views.find(job)
        if info is not None:
            return info, self.master.look(lambda machine: list(machine.tasks(job)))
        past = self.archive.read(self.state.load(job))
        return None if past is None else (past[1], list(past[0].tasks(job)))

    def _whole(self, job: str, state: JobState, found: Mapping[str, LogInfo]) -> list[LogInfo]:
        """With whole logs where their workers are there to put them away."""
        boots = self.views.boots()
        put = dict(self.state.logs(job))
        ordered: set[str] = set()
        missing: dict[str, str] = {}
        for name, log in found.items():
            boot = boots.get(log.worker)
            if boot is None:
                missing[name] = f"worker {log.worker} is gone" if log.worker else "nobody has it"
            elif len(ordered) >= _ORDERED_MAX:
                missing[name] = f"more than {_ORDERED_MAX} logs: name a task for the whole of its own"
            elif not put.get(name) or log.status == "running":
                self.master.order(log.worker, boot, UploadLog(job=job, log=name))
                ordered.add(name)
        fresh = self._wait(job, ordered, put)
        made = []
        for name, log in found.items():
            digest, why = fresh.get(name), missing.get(name, "")
            if digest:
                why = ""
            elif not why and state is JobState.DONE:
                why = "its worker kept it as long as the job ran"
            elif not why and digest is None:
                why = f"worker {log.worker} hasn't sent it"
            made.append(replace(log, blob=digest or None, missing=why))
        return made

    def _wait(self, job: str, ordered: set[str], before: dict[str, str]) -> dict[str, str]:
        """What is put away once every ordered log is, or the time is over."""
        found = before
        for _ in range(int(_WAIT_S / _LOOK_S)):
            if all(name in found for name in ordered):
                break
            if self.stopping.wait(_LOOK_S):
                break
            found = dict(self.state.logs(job))
        return found


def _names(tasks: Iterable[TaskInfo]) -> str:
    """What a job's tasks are called."""
    stages: dict[str, list[str]] = {}
    for each in tasks:
        stages.setdefault(each.stage, []).append(each.task)
    told = [f"{names[0]} to {names[-1]}" if len(names) > 1 else names[0] for names in stages.values()]
    return f"; it has {' and '.join(told)}" if told else ""


def _name(of: ErrorInfo | TaskInfo) -> str:
    """The attempt's name, as its `core.refs.AttemptRef` prints."""
    return f"{of.task}.{of.ticket}.{of.number}.{of.token}"


def _log(of: ErrorInfo | TaskInfo, status: str, tail: str = "") -> LogInfo:
    return LogInfo(
        task=of.task,
        ticket=of.ticket,
        number=of.number,
        token=of.token,
        worker=of.worker,
        status=status,
        tail=tail,
    )
