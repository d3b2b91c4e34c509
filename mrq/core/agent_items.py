"""The agent's pieces of work: each item's phases, and the counts that depend on them."""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from mrq.core.agent_words import Ack, AgentCommand, AgentConfig, GiveBack, SetCredit
from mrq.core.model import Outcome, RunningAttempt, Status, TaskMessage, WorkerHealth
from mrq.core.orders import DropJob, Kill
from mrq.core.refs import AttemptRef, Kind
from mrq.core.store_api import ClaimAnswer

#: Settled tokens that are remembered: a claim's answer may name one that was reported meanwhile.
_SETTLED_KEPT: Final = 1024


class Phase(enum.Enum):
    WAITING = "waiting"  # to be claimed, now or at `ask_at`
    ASKED = "asked"
    CLAIMED = "claimed"  # ours, without a slot yet
    STARTED = "started"
    ENDED = "ended"  # with an outcome, until its report is answered


@dataclass(slots=True, eq=False)
class Group:
    """The items of one message, as far as they are here: room and credit count messages, since short tasks
    share one."""

    several: bool  #: it names more than one task: they are short
    held: int = 0  #: items ASKED, CLAIMED or STARTED
    bare: int = 0  #: … of them without a delivery


@dataclass(slots=True, kw_only=True)
class Item:
    token: str
    message: TaskMessage
    group: Group
    deliveries: list[int] = field(default_factory=list)  #: unsettled
    delivered_at: float = 0.0  #: the oldest of them
    offered: bool = False
    redelivered: bool = False  #: somebody had it before, who may have died
    phase: Phase = Phase.WAITING
    ask_at: float | None = None  #: while WAITING: kept, to be asked again then
    claim_open: bool = False  #: a claim went out and wasn't answered: it may be recorded
    held: ClaimAnswer | None = None
    attempt: AttemptRef | None = None
    since: float = 0.0  #: of the phase
    began_at: float | None = None  #: user code began
    doomed: Status | None = None  #: what a death on our order is reported as
    killed: bool = False
    outcome: Outcome | None = None
    report_at: float = 0.0  #: not before
    reporting: bool = False  #: a report is under way
    fraction: float = 0.0
    part: str = ""  #: phase of the work, as shown
    records: int = 0
    bytes: int = 0
    at: str = ""


HELD: Final = frozenset({Phase.ASKED, Phase.CLAIMED, Phase.STARTED})


def listed(item: Item) -> bool:
    """Is it in the beats: claimed, or perhaps claimed?"""
    return item.phase is not Phase.WAITING or item.claim_open


def line(item: Item) -> RunningAttempt:
    """One line of a beat; number 0 where the claim wasn't answered yet."""
    message = item.message
    attempt = item.attempt
    if attempt is None:
        attempt = AttemptRef(message.task, message.ticket, 0, item.token)
    return RunningAttempt(
        attempt=attempt,
        fraction=item.fraction,
        phase=item.part if item.phase is not Phase.CLAIMED else "",
        records=item.records,
        bytes=item.bytes,
        at=item.at,
    )


class Items:
    """What the agent has, and the steps of one item. `_out` collects the commands of an event."""

    def __init__(self, config: AgentConfig) -> None:
        self.config = config
        self._now = 0.0
        self._out: list[AgentCommand] = []
        self._items: dict[str, Item] = {}
        self._fresh: deque[str] = deque()  #: WAITING, to be claimed as soon as there is room
        self._offers: deque[str] = deque()  #: … offered to this worker alone: they come first
        self._later: dict[str, None] = {}  #: WAITING with `ask_at`
        self._alone: dict[str, None] = {}  #: those that run alone, from the offer to the report's answer
        self._ready: dict[Kind, deque[str]] = {Kind.MAP: deque(), Kind.REDUCE: deque()}
        self._ended: dict[str, None] = {}
        self._running: dict[Kind, dict[str, None]] = {Kind.MAP: {}, Kind.REDUCE: {}}  #: STARTED
        self._begun: dict[Kind, dict[str, None]] = {Kind.MAP: {}, Kind.REDUCE: {}}  #: … whose user code runs
        self._behind: dict[str, None] = {}  #: … that wait behind others of their message; oldest first
        self._group = (
            0,
            Group(several=False),
        )  #: the last one, by the broker's number: its items come together
        self._held = {Kind.MAP: 0, Kind.REDUCE: 0}  #: messages with an item ASKED, CLAIMED or STARTED
        self._bare = {Kind.MAP: 0, Kind.REDUCE: 0}  #: … of them without a delivery
        #: Seconds a task, of the job that ended one last: others' say nothing of a job that is new.
        self._took: dict[Kind, tuple[str, float] | None] = {Kind.MAP: None, Kind.REDUCE: None}
        self._settled: OrderedDict[str, None] = OrderedDict()
        self._hand_over_from = 0.0  #: no delivery is too old before it
        self.draining = False
        # With an address it takes nothing, not even to give it back, before the leader has reached it.
        self._health = WorkerHealth.JOINING if config.address else WorkerHealth.ALIVE
        self._disk_full = False
        self._connected = True
        self._credit: dict[Kind, int | None] = {Kind.MAP: None, Kind.REDUCE: None}

    def _move(self, item: Item, phase: Phase) -> None:
        """The only place where a phase changes: keeps the counts."""
        by = (phase in HELD) - (item.phase in HELD)
        if by:
            self._count(item, by, 0 if item.deliveries else by)
        item.phase, item.since = phase, self._now

    def _count(self, item: Item, held: int, bare: int) -> None:
        """More or fewer of a group's items are held, or are without a delivery."""
        group, kind = item.group, item.message.task.kind
        was, was_bare = group.held > 0, 0 < group.held == group.bare
        group.held += held
        group.bare += bare
        self._held[kind] += (group.held > 0) - was
        self._bare[kind] += (0 < group.held == group.bare) - was_bare

    def _keep(self, item: Item, seconds: float) -> None:
        """Nothing to do with it now: ask again later."""
        if not item.deliveries and not item.claim_open and not item.offered:
            self._remove(item)  # its delivery was lost with the connection: others have it
            return
        self._move(item, Phase.WAITING)
        item.ask_at = self._now + seconds
        self._later[item.token] = None

    def _claimed(self, item: Item, attempt: AttemptRef) -> None:
        item.attempt = attempt
        self._move(item, Phase.CLAIMED)
        if item.doomed is not None:
            self._end(item, Outcome(status=item.doomed, started=False))
        else:
            self._ready[item.message.task.kind].append(item.token)

    def _resume(self, item: Item, attempt: AttemptRef) -> None:
        """Our own boot holds it under another token: the delivery becomes that one's, if it has none."""
        if attempt.token in self._settled:
            self._settle(item)
            return
        other = self._items.get(attempt.token)
        deliveries = item.deliveries
        self._bereave(item)
        self._remove(item)
        if other is None:
            other = Item(token=attempt.token, message=item.message, group=item.group, deliveries=deliveries)
            other.delivered_at = item.delivered_at
            self._items[other.token] = other
            self._claimed(other, attempt)
            return
        if other.deliveries:  # a copy: kept beside it, it would take the place of another task
            self._out.extend(Ack(delivery=delivery) for delivery in deliveries)
            return
        if other.phase in HELD and deliveries:
            self._count(other, 0, -1)
        other.delivered_at, other.deliveries = item.delivered_at, deliveries

    def _bereave(self, item: Item) -> None:
        """Its deliveries are settled, lost or another's: what is claimed lives on its beats."""
        if item.phase in HELD and item.deliveries:
            self._count(item, 0, 1)
        item.deliveries = []

    def _doom(self, item: Item, status: Status) -> None:
        """End it on order: at once, or as soon as the pending claim or the executor has answered."""
        if item.phase is Phase.ENDED:
            return
        if item.doomed is None:
            item.doomed = status
        if item.phase is Phase.CLAIMED:
            self._ready[item.message.task.kind].remove(item.token)
            self._end(item, Outcome(status=item.doomed, started=False))
        elif item.phase is Phase.STARTED and not item.killed:
            item.killed = True
            self._out.append(Kill(token=item.token))

    def _hand_over_at(self) -> float:
        """When a delivery is next too old to be kept unsettled."""
        after = self.config.handover_after_s
        if after is None:
            return float("inf")
        if self._now >= self._hand_over_from:
            # What comes later is younger. Of one that was asked for the answer says whether it is ours.
            soon = self._now + self.config.retry_s
            times = [
                max(item.delivered_at + after, soon if item.phase is Phase.ASKED else 0.0)
                for item in self._items.values()
                if item.deliveries
            ]
            self._hand_over_from = min(times, default=self._now + after)
        return self._hand_over_from

    def _hand_over_old(self) -> None:
        until = self._now - (self.config.handover_after_s or 0.0)
        for item in list(self._items.values()):
            if item.deliveries and item.delivered_at <= until and item.phase is not Phase.ASKED:
                self._hand_over(item)

    def _hand_over(self, item: Item) -> None:
        """The broker would take its deliveries back soon: settle them. What is claimed lives on its beats;
        what isn't goes back now, while that is ours to do."""
        if item.phase is Phase.WAITING and not item.claim_open:
            self._out.extend(GiveBack(delivery=delivery) for delivery in item.deliveries)
            self._remove(item)
            return
        self._out.extend(Ack(delivery=delivery) for delivery in item.deliveries)
        self._bereave(item)

    def _drop(self, job: str) -> None:
        for item in list(self._items.values()):
            if item.message.task.job == job:
                self._doom(item, Status.SUPERSEDED)
        self._out.append(DropJob(job=job))

    def _end(self, item: Item, outcome: Outcome) -> None:
        self._move(item, Phase.ENDED)
        item.outcome = outcome
        self._ended[item.token] = None

    def _settle(self, item: Item) -> None:
        """The store knows all about it: ack, forget."""
        self._out.extend(Ack(delivery=delivery) for delivery in item.deliveries)
        self._remove(item)
        self._settled[item.token] = None
        if len(self._settled) > _SETTLED_KEPT:
            self._settled.popitem(last=False)

    def _remove(self, item: Item) -> None:
        self._move(item, Phase.ENDED)
        self._ended.pop(item.token, None)
        self._later.pop(item.token, None)
        self._behind.pop(item.token, None)
        self._alone.pop(item.token, None)
        del self._items[item.token]

    # Capacity.

    @property
    def takes(self) -> bool:
        """May new work come in?"""
        return not self.draining and self._health in (WorkerHealth.ALIVE, WorkerHealth.SUSPECT)

    def _takes(self, kind: Kind) -> bool:
        """May new work of the kind come in? Nothing may beside a task that is to run alone: so its turn comes
        once what is here has ended."""
        return self._has_room(kind) and not self._alone

    def _has_room(self, kind: Kind) -> bool:
        return self.takes and not (kind is Kind.MAP and self._disk_full)

    def _may_ask(self, item: Item) -> bool:
        """May it be claimed now?"""
        if not item.message.alone:
            return not self._alone and self._room(item)
        others = (each for each in self._items.values() if each is not item)
        return all(each.phase is Phase.WAITING and not each.claim_open for each in others)

    def _set_credit(self) -> None:
        if not self._connected:
            return
        for kind in Kind:
            credit = 0
            if self._takes(kind):
                later = [self._items[t] for t in self._later]
                kept = len({id(item.group) for item in later if item.message.task.kind is kind})
                ahead = self._ahead(kind, self._next_job(kind))
                window = self._left(kind) * ahead
                credit = max(0, window - self._bare[kind]) + min(kept, self.config.topped_up_max)
            if credit != self._credit[kind]:
                self._credit[kind] = credit
                self._out.append(SetCredit(kind=kind, credit=credit))

    def _next_job(self, kind: Kind) -> str:
        """Whose deliveries are to be expected: the job that waits for room, or else the last one."""
        for token in self._fresh:
            item = self._items.get(token)
            if item is not None and item.message.task.kind is kind:
                return item.message.task.job
        last = self._took[kind]
        return last[0] if last is not None else ""

    def _slots(self, kind: Kind) -> int:
        return self.config.slots.map if kind is Kind.MAP else self.config.slots.reduce

    def _ahead(self, kind: Kind, job: str) -> int:
        """Messages a slot, by how long the job's tasks take, those that run now included."""
        last = self._took[kind]
        if last is None or last[0] != job:
            return 1
        took = last[1]
        for token in self._begun[kind]:
            took = max(took, self._now - (self._items[token].began_at or 0.0))
        return self.config.ahead if took < self.config.short_s else 1

    def _may_start(self, item: Item) -> bool:
        """Is there a slot, or for a map that shares its message a place behind others of its job: an executor
        that goes on by itself needn't wait for us."""
        kind, job = item.message.task.kind, item.message.task.job
        running, slots = len(self._running[kind]), self._slots(kind)
        if running < slots:
            return sum(min(len(self._running[k]), self._slots(k)) for k in Kind) < self.config.slots.total
        if kind is not Kind.MAP or not item.group.several:
            return False
        return self._items[next(iter(self._running[kind]))].message.task.job == job

    def _room(self, item: Item) -> bool:
        """May it be claimed? A message's tasks are, together. Where kinds share slots, nothing ahead of what
        the other kind holds: a reduce that waits for a map would keep it from starting, and the leader, to
        whom a claimed map is one that runs, would not take the reduce back."""
        kind = item.message.task.kind
        if item.group.held:
            return True
        return self._held[kind] < self._left(kind) * self._ahead(kind, item.message.task.job)

    def _left(self, kind: Kind) -> int:
        """Slots for tasks of the kind, when what the other kind holds is taken off those that they share."""
        other = Kind.REDUCE if kind is Kind.MAP else Kind.MAP
        held = max(self._held[other], len(self._running[other]))
        return min(self._slots(kind), self.config.slots.total - min(held, self._slots(other)))
