"""What the leader knows of jobs and workers, as people see it: the machine's information, and what only its
surroundings know. From any thread."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from mrq.core import events as e
from mrq.core.info import REDUCE, JobInfo
from mrq.core.model import JobSpec, JobState, Needs, WorkerHealth
from mrq.core.needs import distributions, fits, lacking
from mrq.core.refs import Kind
from mrq.core.worker_info import WorkerInfo
from mrq.master.disk_probe import DiskProbe
from mrq.master.loop import Master

T = TypeVar("T")

_TAKING: Final = (WorkerHealth.ALIVE, WorkerHealth.SUSPECT)


@dataclass(eq=False, kw_only=True)
class Views:
    """What the leader knows. `now` reads the machine's clock."""

    master: Master
    now: Callable[[], float]
    leader: str
    shares: DiskProbe
    _completed: Counter[tuple[str, str]] = field(default_factory=Counter, init=False)  #: by worker and boot
    #: What keeps the broker from taking messages; "" when it takes them.
    broker: str = field(default="", init=False)

    def completed(self, event: e.AttemptReported) -> None:
        """Count a completion that the machine accepted: reports are told again until something is written of
        them. On the loop's thread."""
        self._completed[event.worker, event.boot] += 1

    def is_active(self, job: str) -> bool:
        """Is there such a job, and not over?"""
        state = self.state(job)
        return state is not None and not state.is_over

    def state(self, job: str) -> JobState | None:
        """How far a job is; None when the machine doesn't know it."""
        return self.master.look(lambda machine: machine.state(job))

    def find(self, job: str) -> JobInfo | None:
        """A job; None when the machine doesn't know it."""
        now = self.now()
        return self.master.look(lambda machine: machine.job(job, now))

    def all(self) -> list[JobInfo]:
        """All jobs of the machine, by submission."""
        now = self.now()
        return self.master.look(
            lambda machine: [info for name in machine.jobs() if (info := machine.job(name, now))]
        )

    def under_way(self) -> list[JobInfo]:
        """Those of them that aren't over."""
        return [info for info in self.all() if not info.state.is_over]

    def jobs(self) -> list[JobInfo]:
        """All jobs of the machine as a list has them, by submission."""
        return [info.brief() for info in self.all() if self.master.spec(info.job) is not None]

    def status(self, job: str, *, tasks: bool = False) -> JobInfo | None:
        """A job by itself, its tasks listed if asked; None when the machine doesn't know it."""
        info, spec = self.find(job), self.master.spec(job)
        if info is None or spec is None:
            return None
        if tasks:
            info = replace(info, tasks=self.master.look(lambda machine: tuple(machine.tasks(job))))
        apart = self.shares.known(os.path.dirname(spec.staging)) if spec.staging else None
        notes = (str(apart),) if apart is not None else ()
        return replace(info, waits_for=self.waits_for(spec, info), notes=notes)

    def packages(self) -> list[Mapping[str, str]]:
        """Of each living worker that has said so: distribution -> version."""
        return [w.packages for w in self._workers() if w.health in _TAKING and w.packages]

    def slots(self, kind: Kind | None = None) -> int:
        """Of the workers that take tasks: all, or those for one kind of tasks."""
        there = [w for w in self._workers() if w.health is WorkerHealth.ALIVE]
        if kind is None:
            return sum(w.total_slots for w in there)
        return sum(w.map_slots if kind is Kind.MAP else w.reduce_slots for w in there)

    def waits_for(self, spec: JobSpec, info: JobInfo) -> str | None:
        """Why nothing of a job runs, in a sentence; None when something does, or it is over."""
        maps_left = not info.maps.complete
        # Reduces that wait for maps aren't what it waits for.
        if any(a.stage != REDUCE or not maps_left for a in info.attempts):
            return None
        if info.state not in (JobState.PENDING, JobState.RUNNING):
            return None
        return self.broker or why_waiting(spec, self._workers(), maps_left=maps_left)

    def healths(self) -> dict[str, WorkerHealth]:
        """What the machine thinks of each worker that it knows."""
        return {w.worker: w.health for w in self._workers()}

    def boots(self) -> dict[str, str]:
        """Of each worker whose beats come: the boot."""
        return {w.worker: w.boot for w in self._workers() if w.beating}

    def workers(self, *, everybody: bool = True) -> list[WorkerInfo]:
        """All workers that are known, dead ones for an hour, or only those that a list shows; with what they
        run and serve."""
        return [self._filled(w) for w in self._workers(whole=True, everybody=everybody)]

    def _filled(self, w: WorkerInfo) -> WorkerInfo:
        """With what the machine doesn't know of it."""
        apart = [f"{folder} isn't shared with the leader" for folder in self.shares.lacks(w.worker, w.boot)]
        done = self._completed[w.worker, w.boot]
        return replace(w, completed=done, leader=self.leader, notes=(*w.notes, *apart))

    def _workers(self, *, whole: bool = False, everybody: bool = True) -> list[WorkerInfo]:
        now = self.now()
        return self.master.look(lambda machine: machine.workers(now, whole=whole, everybody=everybody))


#: Workers without room that are told by name in one sentence.
_FULL_TOLD: Final = 3


def why_waiting(spec: JobSpec, workers: list[WorkerInfo], *, maps_left: bool = True) -> str | None:
    """Why no worker runs anything of a job, as far as the workers are the reason."""
    there = [w for w in workers if w.health is not WorkerHealth.DEAD]
    if not there:
        return "no workers yet: waiting"
    taking = [w for w in there if w.health in _TAKING]
    if not taking:
        states = sorted({w.health.value for w in there})
        return f"no worker takes tasks: all {len(there)} are {' or '.join(states)}"
    has = [distributions(w.packages) if spec.packages else None for w in taking]
    able = [
        w
        for w, packages in zip(taking, has, strict=True)
        if fits(spec.needs, w.hints.get("memory_bytes", 0), packages)
    ]
    if not able:
        return f"no worker can run {spec.job}: {_unfit(spec.needs, taking)}"
    wanted = [("map", [w.map_slots for w in able])]
    if any(stage.reducers for stage in spec.stages):
        wanted.append(("reduce", [w.reduce_slots for w in able]))
    for kind, slots in wanted:
        if not any(slots):
            return f"no worker can run {spec.job}: none of {len(able)} that it fits has a {kind} slot"
    full = [(w.worker, w.full) for w in able if w.full]
    if maps_left and len(full) == len(able):
        told = "; ".join(f"worker {name}: {text}" for name, text in full[:_FULL_TOLD])
        others = f", and {len(full) - _FULL_TOLD} more are full" if len(full) > _FULL_TOLD else ""
        return f"no worker takes maps: {told}{others}"
    return None


def _unfit(needs: Needs, taking: list[WorkerInfo]) -> str:
    """What every worker lacks, or that each lacks something."""
    memory = [w.hints.get("memory_bytes", 0) for w in taking]
    asked = f"{needs.memory_bytes >> 20:,} MiB an executor"
    if all(0 < each < needs.memory_bytes for each in memory):
        return (
            f"it asks for {asked}, and the largest worker has {max(memory) >> 20:,} MiB; ask for less "
            "(`memory`), or add a larger one"
        )
    has = [distributions(w.packages) for w in taking]
    missing = [lacking(needs, each) if each is not None else [] for each in has]
    counts = {module: sum(module not in found for found in missing) for module, _ in needs.packages}
    told = "; ".join(f"{module}: on {n} of {len(taking)} workers" for module, n in counts.items())
    if all(missing):
        return f"no worker has its packages: {told}; install them there"
    return f"no worker has both {asked} and its packages: {told}"
