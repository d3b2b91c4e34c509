"""What the leader's machine holds, and the few moves that every rule is made of.

The rules are functions over `State` in neighbouring modules, each knowing only those before it:
state < fitting < moves < shuffle_rules < lifecycle < attempts < health < scheduler, stragglers < machine.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Final

from mrq.core import commands as c
from mrq.core.digest import MASK, mix
from mrq.core.jobs import LeaderJob
from mrq.core.machine_config import MachineConfig
from mrq.core.orders import Order
from mrq.core.refs import Kind, TaskRef
from mrq.core.tasks import COMPLETED, QUEUED, InProgress, TaskTable
from mrq.core.transitions import History
from mrq.core.worker_table import Worker, Workers

#: (due, serial, what, the task, job or worker that it is about, and two numbers)
Timer = tuple[float, int, str, TaskRef | str, int, int]
#: (due, task, ticket, which of its publications)
Unclaimed = tuple[float, TaskRef, int, int]

READY: Final = "ready"  # a backoff is over
BEAT: Final = "beat"  # a worker's beat is due
FORGET: Final = "forget"  # a dead worker may be dropped
OFFER: Final = "offer"  # an offer should have been claimed
REPUBLISH: Final = "republish"  # a returned message may be published again
STRAGGLERS: Final = {kind: f"stragglers {kind.value}" for kind in Kind}  # look for those of a kind
DIAL: Final = "dial"  # a joining worker's address may be tried again
FIT: Final = "fit"  # workers came or went: look who may run what is queued
DISKS: Final = "disks"  # workers are full: look whether anything goes on
STALL: Final = "stall"  # look for maps that wait behind waiting reduces


class State:
    """Everything that a machine holds, and the commands of the event at hand."""

    def __init__(self, config: MachineConfig) -> None:
        self.config = config
        self.now = 0.0  #: the machine's own time: the caller's minus `shift`
        self.shift = 0.0
        self.wall = 0.0  #: seconds since the epoch minus the caller's time; for records
        self.promised = float("inf")  #: when a tick was wanted last; a later one was our outage
        self.beats_from = 0.0  #: beats count as received at least then
        self.serial = 0  #: of timers
        self.history = History()
        #: Tasks of all jobs by state code.
        self.totals: dict[Kind, list[int]] = {kind: [0, 0, 0, 0] for kind in Kind}
        self.jobs: dict[str, LeaderJob] = {}
        self.active: dict[str, LeaderJob] = {}  #: those whose tasks may be handed out, by submission
        self.workers = Workers()
        self.fitted_at = -1  #: changes of the workers when queued tasks were looked over last
        self.fit_due = False  #: … and they will be again
        self.disks_watched = False  #: workers are full, which is looked at from time to time
        #: (when, WORKER/BOOT) of the boots that were lost lately; not of those that ran one task alone.
        self.lost_boots: list[tuple[float, str]] = []
        self.timers: list[Timer] = []
        #: Of published tasks, in order.
        self.unclaimed: dict[Kind, deque[Unclaimed]] = {kind: deque() for kind in Kind}
        #: The message that is being filled with a job's tasks, and how many more it may name.
        self.filling: dict[tuple[str, Kind], tuple[int, int]] = {}
        self.rate: dict[Kind, float] = dict.fromkeys(Kind, 0.0)  #: claims a second, smoothed
        self.rate_count: dict[Kind, int] = dict.fromkeys(Kind, 0)
        self.rate_from = 0.0
        self.out: list[c.Command] = []

    def next_serial(self) -> int:
        """Grows for ever."""
        self.serial += 1
        return self.serial

    def timer(self, delay: float, what: str, about: TaskRef | str, first: int = 0, second: int = 0) -> None:
        """Look at something later; whether it still matters is asked then. `first` is a task's ticket."""
        heapq.heappush(self.timers, (self.now + delay, self.next_serial(), what, about, first, second))

    def due(self) -> float:
        """When a tick is wanted, on the machine's own time."""
        due = self.timers[0][0] if self.timers else float("inf")
        for queue in self.unclaimed.values():
            if queue and queue[0][0] < due:
                due = queue[0][0]
        return due

    def in_flight(self, task: TaskRef) -> tuple[LeaderJob, TaskTable, InProgress] | None:
        """A task in progress, of the stage that its job is at; else None."""
        job = self.jobs.get(task.job)
        table = job.table_of(task) if job is not None else None
        flight = table.flights.get(task.index) if table is not None else None
        return None if job is None or table is None or flight is None else (job, table, flight)

    def worker(self, name: str, boot: str) -> Worker:
        """The worker's record, made (with a full grace) when it wasn't known. Its beats tell the rest."""
        found = self.workers.all.get(name)
        if found is None:
            found = self.workers.all[name] = Worker(worker=name, boot=boot, beat_at=self.now)
            self.timer(self.config.suspect_after_s, BEAT, name)
            self.workers.put_in(found)
        return found

    def write_worker(self, worker: Worker) -> None:
        """Persist its health."""
        self.out.append(
            c.WriteWorker(
                worker=worker.worker,
                boot=worker.boot,
                health=worker.stored,
                quarantine=worker.quarantine,
            )
        )

    def give(self, worker: Worker, order: Order, job: str = "") -> None:
        """Give a worker's boot an order, which follows from this job, if from any."""
        self.out.append(c.GiveOrder(worker=worker.worker, boot=worker.boot, order=order, job=job))

    def write_job(self, job: LeaderJob) -> None:
        """Persist its state."""
        job.updated_at = self.now
        self.out.append(c.WriteJob(job=job.spec.job, state=job.state, error=job.error))

    def write_plan(self, job: LeaderJob) -> None:
        """Persist what the stage that it is at needs to know of the one before."""
        self.out.append(c.WritePlan(job=job.spec.job, stage=job.number, plan=job.plan))

    def write_task(self, table: TaskTable, index: int) -> None:
        """Persist the leader's side of a task."""
        self.out.append(task_record(table, index))

    def backoff(self, job: LeaderJob, name: str, retries: int) -> float:
        """Seconds until retry number `retries` (from 1): exponential, with jitter by a stable hash."""
        return self.config.backoff.wait_s(retries, dice(f"{job.spec.seed}/{name}/{retries}"))


def task_record(table: TaskTable, index: int) -> c.WriteTask:
    """What the store should hold of a task."""
    flight = table.flights.get(index)
    return c.WriteTask(
        task=table.task(index),
        primary=flight.primary_ticket if flight else 0,
        backup=flight.backup_ticket if flight else 0,
        winner=table.winner(index) if table.state[index] == COMPLETED else None,
    )


def stable_hash(text: str) -> int:
    """A u64 of a string, the same in every process."""
    value = 0xCBF29CE484222325
    data = text.encode("utf-8", "surrogatepass")
    for i in range(0, len(data), 8):
        value = mix(value ^ int.from_bytes(data[i : i + 8], "little"))
    return mix(value ^ len(data))


def dice(text: str) -> float:
    """A number from 0 to 1, the same in every process: what jitter is made of here."""
    return stable_hash(text) / (MASK + 1)


def queued(state: State, kind: Kind) -> int:
    """Tasks published and not yet claimed, of all jobs."""
    return state.totals[kind][QUEUED]
