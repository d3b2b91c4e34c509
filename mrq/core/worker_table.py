"""What the leader knows of the workers, and which have a free slot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mrq.core.model import Quarantine, Slots, WorkerHealth
from mrq.core.needs import distributions
from mrq.core.refs import Kind, TaskRef

_NO_SLOTS: Final = Slots(map=0, reduce=0, total=0)


@dataclass(slots=True, kw_only=True)
class Worker:
    worker: str
    boot: str
    beat_at: float
    seq: int = -1  #: of the last beat
    slots: Slots = _NO_SLOTS
    address: str = ""
    hints: dict[str, int] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    packages: frozenset[str] | None = None  #: distributions that it has, of `about`; None: it hasn't said
    full: str = ""  #: why it takes no maps, of `about`
    live: WorkerHealth = WorkerHealth.ALIVE  #: ALIVE, SUSPECT or DEAD
    reached: bool = True  #: its address was dialled back, or it has none
    dial: int = 0  #: number of the last dial
    dials: int = 0  #: in a row that found nobody
    trouble: str = ""  #: why it gets no tasks though it beats
    refused: str = ""  #: why this boot never gets any: it is of another version of mrq
    released: bool = False  #: it was told that nothing of it is needed
    draining: bool = False
    quarantine: Quarantine | None = None
    seen: WorkerHealth | None = None  #: its health as `Workers.note` saw it last …
    since: float = 0.0  #: … and since when it has it
    old_boots: list[str] = field(default_factory=list)
    held: dict[str, TaskRef] = field(default_factory=dict)  #: the tasks of live attempts, by token
    used_map: int = 0
    used_reduce: int = 0
    strikes: dict[str, float] = field(default_factory=dict)  #: task -> when it failed here last
    killed: dict[str, int] = field(default_factory=dict)  #: token -> seq of the beat it was killed at
    #: What its boot was offered as one of few that may, by task, with its ticket; looked over as more is.
    offers: dict[TaskRef, int] = field(default_factory=dict)
    #: The one task, with its ticket, that it is kept for (`core.alone`).
    alone: tuple[TaskRef, int] | None = None

    @property
    def health(self) -> WorkerHealth:
        """Dead comes first, then that it leaves, then the operator's word, then the beats'."""
        if self.live is WorkerHealth.DEAD:
            return WorkerHealth.DEAD
        if self.draining:
            return WorkerHealth.DRAINING
        if self.quarantined:
            return WorkerHealth.QUARANTINED
        return self.live if self.reached and not self.refused else WorkerHealth.JOINING

    @property
    def quarantined(self) -> bool:
        """Is an operator's word out, whatever its health?"""
        return self.quarantine is not None

    @property
    def stored(self) -> WorkerHealth:
        """What the store has of it: the operator's word, which outlasts boots, leaders and this view."""
        return WorkerHealth.QUARANTINED if self.quarantined else self.health

    @property
    def takes(self) -> bool:
        """May it be given tasks?"""
        good = self.live is WorkerHealth.ALIVE and self.reached and not self.refused
        return good and not self.draining and not self.quarantined and self.alone is None

    @property
    def may_claim(self) -> bool:
        """May a claim of it be granted? The store declines no suspect: its beats may only be late."""
        good = self.live is not WorkerHealth.DEAD and self.reached and not self.refused
        return good and not self.draining and not self.quarantined

    def say(self, about: Mapping[str, Any]) -> None:
        """Take in what it says about itself."""
        self.about, self.packages = dict(about), distributions(about.get("packages"))
        self.full = str(about.get("full", ""))

    def own(self, kind: Kind) -> int:
        """Slots of the kind."""
        return self.slots.map if kind is Kind.MAP else self.slots.reduce

    def free(self, kind: Kind) -> int:
        """Slots that would take a task of the kind now."""
        if self.full and kind is Kind.MAP:
            return 0
        own = self.own(kind) - (self.used_map if kind is Kind.MAP else self.used_reduce)
        return max(0, min(own, self.slots.total - self.used_map - self.used_reduce))


class Workers:
    """All workers, with totals and the free ones kept up to date."""

    __slots__ = ("all", "capacity", "changes", "free", "kept", "noted", "out", "quarantined", "total", "used")

    def __init__(self) -> None:
        self.all: dict[str, Worker] = {}
        self.capacity = {Kind.MAP: 0, Kind.REDUCE: 0}  #: slots of workers that take tasks
        self.total = 0  #: their shared executors
        self.used = {Kind.MAP: 0, Kind.REDUCE: 0}  #: slots in use on them
        self.free: dict[Kind, dict[str, None]] = {Kind.MAP: {}, Kind.REDUCE: {}}
        self.out: set[str] = set()  #: counted in the totals
        self.quarantined: dict[str, None] = {}
        self.kept: dict[str, None] = {}  #: each for one task, that runs alone there
        self.changes = 0  #: grows whenever somebody comes, goes, or is another
        self.noted = -1  #: `changes` when `note` looked last

    def note(self, now: float) -> None:
        """Remember since when each worker has the health that it has; nothing to do where nothing changed."""
        if self.noted == self.changes:
            return
        self.noted = self.changes
        for worker in self.all.values():
            if worker.seen is not worker.health:
                worker.seen, worker.since = worker.health, now

    def refresh(self, worker: Worker) -> None:
        """Bring the free lists up to date after a change of one worker's use."""
        for kind, free in self.free.items():
            if worker.takes and worker.free(kind) > 0:
                if worker.worker not in free:
                    free[worker.worker] = None
            else:
                free.pop(worker.worker, None)

    def take_out(self, worker: Worker) -> None:
        """Leave the totals, before slots or health change."""
        self.changes += 1
        if worker.worker in self.out:
            self.out.discard(worker.worker)
            self._count(worker, -1)

    def put_in(self, worker: Worker) -> None:
        """Enter the totals again, if it takes tasks."""
        self.changes += 1
        if worker.takes and worker.worker not in self.out:
            self.out.add(worker.worker)
            self._count(worker, 1)
        self.refresh(worker)

    def _count(self, worker: Worker, sign: int) -> None:
        self.capacity[Kind.MAP] += sign * worker.slots.map
        self.capacity[Kind.REDUCE] += sign * worker.slots.reduce
        self.total += sign * worker.slots.total
        self.used[Kind.MAP] += sign * worker.used_map
        self.used[Kind.REDUCE] += sign * worker.used_reduce

    def keep(self, worker: Worker, task: tuple[TaskRef, int]) -> None:
        """It takes this task alone."""
        self.take_out(worker)
        worker.alone = task
        self.kept[worker.worker] = None
        self.put_in(worker)

    def let_go(self, worker: Worker) -> None:
        """It takes any task again."""
        self.take_out(worker)
        worker.alone = None
        self.kept.pop(worker.worker, None)
        self.put_in(worker)

    def hold(self, worker: Worker, token: str, task: TaskRef) -> None:
        """A worker claimed an attempt."""
        worker.held[token] = task
        self._use(worker, task.kind, 1)

    def release(self, worker: Worker, token: str) -> None:
        """An attempt is no longer this worker's."""
        task = worker.held.pop(token, None)
        if task is not None:
            self._use(worker, task.kind, -1)

    def _use(self, worker: Worker, kind: Kind, by: int) -> None:
        if kind is Kind.MAP:
            worker.used_map += by
        else:
            worker.used_reduce += by
        if worker.worker in self.out:
            self.used[kind] += by
        self.refresh(worker)

    def free_slots(self, kind: Kind) -> int:
        """Slots of the kind that would take a task now."""
        own = self.capacity[kind] - self.used[kind]
        return max(0, min(own, self.total - self.used[Kind.MAP] - self.used[Kind.REDUCE]))

    def pick(
        self, kind: Kind, avoid: list[str] | None, among: tuple[Worker, ...] | None = None
    ) -> Worker | None:
        """A worker with a free slot, of all or `among` some, that isn't to be avoided; it goes round."""
        free = self.free[kind]
        for name in free if among is None else [w.worker for w in among if w.worker in free]:
            if not avoid or name not in avoid:
                del free[name]
                free[name] = None
                return self.all[name]
        return None

    def other_takes(self, avoid: list[str]) -> bool:
        """Is there a worker, free or not, that takes tasks and isn't to be avoided?"""
        return len(self.out) > sum(name in self.out for name in avoid)
