"""The machine's view as rows for people: jobs, one job's status, workers. From any thread."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from mrq.core import events as e
from mrq.core.jobs import JobView, TaskView
from mrq.core.machine import Machine
from mrq.core.machine_config import MachineConfig
from mrq.core.model import (
    Beat,
    JobSpec,
    JobState,
    Kind,
    Needs,
    Purpose,
    TaskState,
    WorkerHealth,
    task_name,
)
from mrq.core.needs import fits, lacking
from mrq.core.rows import (
    AttemptRow,
    JobRow,
    OutputRow,
    StatusRow,
    TaskRow,
    WorkerRow,
    attempt_row,
    job_row,
    status_row,
)
from mrq.core.standing import listed, standing
from mrq.core.workers import WorkerView
from mrq.io.plan import sample_id
from mrq.master.shares import Shares
from mrq.master.submits import shown_id

T = TypeVar("T")

_ACTIVE: Final = frozenset({JobState.PENDING, JobState.RUNNING, JobState.COMMITTING})
#: Outputs of one worker that are listed, the largest; all are counted.
_OUTPUTS_SHOWN: Final = 20
#: A worker not heard of for longer shows its attempts as paused.
_PAUSED_S: Final = 15.0


def task_row(task: TaskView, epoch_s: float) -> TaskRow:
    """A task as a row."""
    result, at = task.result, task.attempt
    return TaskRow(
        task=task_name(task.kind, task.index),
        state=task.state.value,
        generation=task.generation,
        number=at.number if at is not None else 0,
        worker=task.worker or "",
        failures=task.failures,
        losses=task.losses,
        started_at=task.started_at and task.started_at + epoch_s,
        finished_at=task.finished_at and task.finished_at + epoch_s,
        records_in=result.records_in if result is not None else 0,
        records_out=result.records_out if result is not None else 0,
    )


@dataclass(slots=True)
class _Heard:
    """What a worker's boot has said, as far as this leader has heard."""

    boot: str
    beat: Beat | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


class Views:
    """Rows of what the leader knows. `look` runs a function on the machine while nothing changes it."""

    def __init__(
        self,
        *,
        look: Callable[[Callable[[Machine], Any]], Any],
        specs: Callable[[str], JobSpec | None],
        epoch_s: float,
        now: Callable[[], float],
        leader: str,
        shares: Shares,
        config: MachineConfig,
    ) -> None:
        """`epoch_s` is what makes seconds since the epoch of the machine's clock, which `now` reads."""
        self._look = look
        self._specs = specs
        self._epoch_s = epoch_s
        self._now = now
        self.leader = leader
        self._shares = shares
        self._config = config
        self._heard: dict[str, _Heard] = {}
        self._completed: Counter[tuple[str, str]] = Counter()  #: by worker and boot
        self.broker = ""  #: what keeps the broker from taking messages; "" when it takes them

    def hear(self, event: object) -> None:
        """Take note of what workers say, before the machine does. From any thread, one at a time."""
        if isinstance(event, e.BeatReceived):
            beat = event.beat
            heard = self._of(beat.worker, beat.boot)
            heard.beat = replace(beat, about={})
            heard.about = dict(beat.about) or heard.about

    def completed(self, event: e.AttemptReported) -> None:
        """Count a completion that the machine accepted: reports are told again until something is written of
        them. On the loop's thread."""
        self._completed[event.worker, event.boot] += 1

    def _of(self, worker: str, boot: str) -> _Heard:
        heard = self._heard.get(worker)
        if heard is None or heard.boot != boot:
            heard = self._heard[worker] = _Heard(boot)
        return heard

    def known(self, job: str) -> bool:
        """Is there a job, or a sampling for one, of this id?"""
        found: bool = self._look(lambda machine: any(machine.knows(name) for name in _names(job)))
        return found

    def active(self, job: str) -> str | None:
        """The id of what of a job is under way: itself or its sampling."""
        found: str | None = self._look(
            lambda machine: next(
                (name for name in _names(job) if (v := machine.job(name)) and v.state in _ACTIVE), None
            )
        )
        return found

    def state(self, job: str) -> JobState | None:
        """How far a job is."""
        view = self.view(job)
        if view is None:
            return None
        sampling = view.job != job and view.state is JobState.DONE
        return JobState.RUNNING if sampling else view.state

    def view(self, job: str) -> JobView | None:
        """The job's view, or as long as that runs its sampling's."""
        found: JobView | None = self._look(
            lambda machine: next((v for name in _names(job) if (v := machine.job(name))), None)
        )
        return found

    def under_way(self) -> list[tuple[str, JobView]]:
        """(id that clients know, view) of all jobs that aren't over."""
        views: list[JobView] = self._look(lambda m: [v for job in m.jobs() if (v := m.job(job)) is not None])
        return [(shown_id(view.job), view) for view in views if view.state in _ACTIVE]

    def jobs(self) -> list[JobRow]:
        """All jobs of the machine, by submission."""
        views: list[JobView] = self._look(lambda m: [v for job in m.jobs() if (v := m.job(job)) is not None])
        rows = []
        for view in views:
            spec = self._specs(view.job)
            if spec is not None:
                rows.append(job_row(_shown(spec), view, epoch_s=self._epoch_s))
        return rows

    def status(self, job: str, *, tasks: bool = False) -> StatusRow | None:
        """A job by itself, with a row for each task if asked; None when the machine doesn't know it."""
        view = self.view(job)
        spec = self._specs(view.job) if view is not None else None
        if view is None or spec is None:
            return None
        listed: list[TaskView] = self._look(lambda machine: list(machine.tasks(view.job))) if tasks else []
        reason = self.waits_for(spec, view)
        row = status_of(_shown(spec), view, listed, epoch_s=self._epoch_s, now=self._now(), waits_for=reason)
        apart = self._shares.known(os.path.dirname(spec.staging)) if spec.staging else None
        row["notes"] = [str(apart)] if apart is not None else []
        return row

    def packages(self) -> list[Mapping[str, str]]:
        """Of each living worker that has said so: distribution -> version."""
        alive = {w.worker for w in self._alive()}
        return [
            heard.about["packages"]
            for worker, heard in self._heard.items()
            if worker in alive and heard.about.get("packages")
        ]

    def slots(self, kind: Kind | None = None) -> int:
        """Of the workers that take tasks: all, or those for one kind of tasks."""
        there = [w.slots for w in self._all_workers() if w.health is WorkerHealth.ALIVE]
        if kind is None:
            return sum(each.total for each in there)
        return sum(each.map if kind is Kind.MAP else each.reduce for each in there)

    def waits_for(self, spec: JobSpec, view: JobView | None = None) -> str | None:
        """Why nothing of a job runs, in a sentence; None when something does, or it is over."""
        maps_left = view is None or view.maps.completed < view.maps.total
        # Reduces that wait for maps aren't what it waits for.
        runs = view is not None and any(r.kind is Kind.MAP or not maps_left for r in view.running)
        if runs or (view is not None and view.state not in (JobState.PENDING, JobState.RUNNING)):
            return None
        return self.broker or why_waiting(_shown(spec), self._all_workers(), maps_left=maps_left)

    def health(self, worker: str) -> WorkerHealth | None:
        """What the machine thinks of a worker."""
        return next((w.health for w in self._all_workers() if w.worker == worker), None)

    def workers(self, *, everybody: bool = True) -> list[WorkerRow]:
        """All workers that are known, dead ones for an hour; or only those that a list shows."""
        outputs: dict[str, list[OutputRow]] = self._look(_outputs)
        views: list[JobView] = self._look(lambda m: [v for job in m.jobs() if (v := m.job(job)) is not None])
        attempts: dict[str, list[AttemptRow]] = {}
        workers = self._all_workers()
        if not everybody:
            workers = listed(workers, now=self._now(), config=self._config)
        paused = {w.worker for w in workers if self._now() - w.last_beat > _PAUSED_S}
        for view in views:
            for each in view.running:
                row = attempt_row(
                    shown_id(view.job), each, epoch_s=self._epoch_s, paused=each.worker in paused
                )
                attempts.setdefault(each.worker, []).append(row)
        return [self._worker(w, attempts.get(w.worker, []), outputs.get(w.worker, [])) for w in workers]

    def _worker(self, view: WorkerView, attempts: list[AttemptRow], outputs: list[OutputRow]) -> WorkerRow:
        heard = self._heard.get(view.worker) or _Heard(view.boot)
        about = heard.about if heard.boot == view.boot else {}
        silent = max(0.0, self._now() - view.last_beat)
        stands = standing(view, silent_s=silent, config=self._config)
        largest = sorted(outputs, key=lambda row: -row["bytes"])[:_OUTPUTS_SHOWN]
        return WorkerRow(
            worker=view.worker,
            boot=view.boot,
            address=view.address,
            running=silent <= _PAUSED_S and view.health is not WorkerHealth.DEAD,
            health=view.health.value,
            since=view.since + self._epoch_s,
            reason=stands.reason,
            ends=stands.ends,
            map_slots=view.slots.map,
            reduce_slots=view.slots.reduce,
            hints=dict(view.hints),
            attempts=attempts,
            outputs=largest,
            outputs_count=len(outputs),
            outputs_bytes=sum(row["bytes"] for row in outputs),
            completed=self._completed[view.worker, view.boot],
            last_beat_s=silent,
            trouble=view.trouble,
            full=str(about.get("full", "")),
            notes=[
                *about.get("notes", ()),
                *(
                    f"{folder} isn't shared with the leader"
                    for folder in self._shares.lacks(view.worker, view.boot)
                ),
            ],
            disk_used=int(about.get("disk_used", 0)),
            disk_quota=int(about.get("disk_quota", 0)),
            disk_free=int(about.get("disk_free", 0)),
            version=str(about.get("version", "")),
            python=str(about.get("python", "")),
            packages=dict(about.get("packages", {})),
            debug=str(about.get("debug", "")),
            leader=self.leader,
        )

    def _all_workers(self) -> list[WorkerView]:
        found: list[WorkerView] = self._look(lambda machine: machine.workers())
        return found

    def _alive(self) -> list[WorkerView]:
        return [w for w in self._all_workers() if w.health in (WorkerHealth.ALIVE, WorkerHealth.SUSPECT)]


def status_of(
    spec: JobSpec,
    view: JobView,
    tasks: list[TaskView],
    *,
    epoch_s: float,
    now: float,
    waits_for: str | None = None,
) -> StatusRow:
    """A job as a row, with a row for each of `tasks`."""
    row = status_row(spec, view, epoch_s=epoch_s, now=now, waits_for=waits_for)
    row["tasks"] = [task_row(task, epoch_s) for task in tasks]
    return row


#: Workers without room that are told by name in one sentence.
_FULL_TOLD: Final = 3


def why_waiting(spec: JobSpec, workers: list[WorkerView], *, maps_left: bool = True) -> str | None:
    """Why no worker runs anything of a job, as far as the workers are the reason."""
    there = [w for w in workers if w.health is not WorkerHealth.DEAD]
    if not there:
        return "no workers yet: waiting"
    taking = [w for w in there if w.health in (WorkerHealth.ALIVE, WorkerHealth.SUSPECT)]
    if not taking:
        states = sorted({w.health.value for w in there})
        return f"no worker takes tasks: all {len(there)} are {' or '.join(states)}"
    able = [w for w in taking if fits(spec.needs, w.hints.get("memory_bytes", 0), w.packages)]
    if not able:
        return f"no worker can run {spec.job}: {_unfit(spec.needs, taking)}"
    wanted = [("map", [w.slots.map for w in able])]
    if spec.reducers:
        wanted.append(("reduce", [w.slots.reduce for w in able]))
    for kind, slots in wanted:
        if not any(slots):
            return f"no worker can run {spec.job}: none of {len(able)} that it fits has a {kind} slot"
    full = [(w.worker, str(w.about["full"])) for w in able if w.about.get("full")]
    if maps_left and len(full) == len(able):
        told = "; ".join(f"worker {name}: {text}" for name, text in full[:_FULL_TOLD])
        others = f", and {len(full) - _FULL_TOLD} more are full" if len(full) > _FULL_TOLD else ""
        return f"no worker takes maps: {told}{others}"
    return None


def _unfit(needs: Needs, taking: list[WorkerView]) -> str:
    """What every worker lacks, or that each lacks something."""
    memory = [w.hints.get("memory_bytes", 0) for w in taking]
    asked = f"{needs.memory_bytes >> 20:,} MiB an executor"
    if all(0 < has < needs.memory_bytes for has in memory):
        return (
            f"it asks for {asked}, and the largest worker has {max(memory) >> 20:,} MiB; ask for less "
            "(`memory`), or add a larger one"
        )
    missing = [lacking(needs, w.packages) if w.packages is not None else [] for w in taking]
    counts = {module: sum(module not in found for found in missing) for module, _ in needs.packages}
    told = "; ".join(f"{module}: on {n} of {len(taking)} workers" for module, n in counts.items())
    if all(missing):
        return f"no worker has its packages: {told}; install them there"
    return f"no worker has both {asked} and its packages: {told}"


def _outputs(machine: Machine) -> dict[str, list[OutputRow]]:
    """By worker, the map outputs that reduces still need."""
    found: dict[str, list[OutputRow]] = {}
    for job in machine.jobs():
        view = machine.job(job)
        if view is None or not view.reduces.total or view.state not in _ACTIVE:
            continue
        for task in machine.tasks(job):
            if task.kind is Kind.MAP and task.state is TaskState.COMPLETED and task.worker:
                size = task.result.bytes_out if task.result is not None else 0
                row = OutputRow(job=job, task=task_name(task.kind, task.index), bytes=size)
                found.setdefault(task.worker, []).append(row)
    return found


def _names(job: str) -> tuple[str, str]:
    return job, sample_id(job)


def _shown(spec: JobSpec) -> JobSpec:
    """With the id that clients know, of a sampling too."""
    return replace(spec, job=shown_id(spec.job)) if spec.purpose is Purpose.SAMPLE else spec
