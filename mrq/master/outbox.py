"""What was decided and isn't out yet: persisted batch by batch, and only then published and told.

Commands are frozen into *parcels*: one batch a job, and one for what belongs to no job, then what may go out
once all of them were answered. A batch that was sent and not answered may have been applied, so it is sent
again as it is, under the same number, until it is answered; what is decided meanwhile goes into the next
parcel. Records are made at the moment of freezing, when the machine has handled exactly what the parcel and
those before it say.

A store that lost writes (or everything) is restored by a parcel of another kind: the whole view, under the
next incarnation; see `restore`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mrq.core import commands as c
from mrq.core.backoff import Backoff
from mrq.core.machine import Machine
from mrq.core.model import JobSpec, TaskMessage
from mrq.core.store_api import Batch, Fence, StoredJob, Write, WriteAnswer
from mrq.errors import InternalError
from mrq.ports import LeaderState, LeaderStore

#: What can't go out because this master may not act is looked at again after so long.
AGAIN_S: Final = 0.25
#: Of what the store or the broker doesn't take.
SEND_AGAIN: Final = Backoff(base_s=0.25, max_s=2.0)

_GOOD: Final = (WriteAnswer.WRITTEN, WriteAnswer.ALREADY)


class Fenced(Exception):
    """A later leader has the fence: this one's view is worth nothing any more."""


class Lost(Exception):
    """The store is behind what it had answered, or empty."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Tasks whose messages may go out now: each is one message, of one task or several."""

    messages: tuple[tuple[TaskMessage, ...], ...]


@dataclass(frozen=True, slots=True)
class ForgetJob:
    """Drop a job's records in the store."""

    job: str


@dataclass(frozen=True, slots=True)
class Signal:
    """Set once all that was decided before is persisted."""

    event: threading.Event


Said = c.Command | Publish | ForgetJob | Signal

#: What a restored view has in it.
_WRITTEN: Final = (
    c.WriteJob,
    c.WritePlan,
    c.WriteTask,
    c.WriteLocation,
    c.WriteWorker,
    c.PublishTask,
    Publish,
)


@dataclass(slots=True)
class LedJob:
    """A job of this leader's."""

    spec: JobSpec
    code: bytes  #: for a store that lost it; b"": not known
    fence: Fence
    record: bytes | None = None  #: as it was sent last


@dataclass(frozen=True, slots=True)
class _Restore:
    stored: StoredJob
    code: bytes


@dataclass(frozen=True, slots=True)
class _TakeFence:
    fence: Fence
    #: Of the epoch before, of a leader that keeps its view: the store has that one until this is taken.
    before: Fence | None = None


@dataclass(frozen=True, slots=True)
class _Begin:
    spec: JobSpec
    code: bytes
    fence: Fence
    before: Fence  #: see `_TakeFence`


@dataclass(frozen=True, slots=True)
class _Open:
    incarnation: int
    store_id: str


_Item = Batch | _Restore | _TakeFence | _Begin | _Open


def found_in(store: LeaderStore, incarnation: int) -> tuple[int, int]:
    """The incarnation that whoever takes over goes on in, given the store's own, and the last epoch there.

    A leader that begins to restore a store takes this fence first and opens the store last: where it died
    between, the fences are of an incarnation that the store itself doesn't know of yet, and a successor under
    the store's own would be fenced for ever. Raises OperatorError.
    """
    fence = store.fence("")
    if fence is None:
        return max(1, incarnation), 0
    return max(1, incarnation, fence.incarnation), fence.epoch


class Outbox:
    """One leader's. Not thread-safe, but for `jobs`, which other threads may add to."""

    def __init__(
        self,
        machine: Machine,
        *,
        owner: str,
        epoch: int,
        incarnation: int,
        store_id: str = "",
    ) -> None:
        """A store that lost its data gets back the id that it had, `store_id`: claims on outputs name it."""
        self._machine = machine
        self.owner, self.epoch, self.incarnation = owner, epoch, incarnation
        self._store_id = store_id
        self.jobs: dict[str, LedJob] = {}
        self._cluster = self.fence()
        self._decided: list[Said] = []
        self._items: deque[_Item] = deque()
        self._after: deque[Said] = deque()

    def fence(self) -> Fence:
        """With which a job is begun or taken over."""
        return Fence(incarnation=self.incarnation, epoch=self.epoch, owner=self.owner, seq=0)

    def add(self, said: Iterable[Said]) -> None:
        """Decided: to go out."""
        self._decided.extend(said)

    @property
    def empty(self) -> bool:
        """Is everything out?"""
        return not (self._items or self._after or self._decided)

    @property
    def asking(self) -> bool:
        """Is an answer of the store outstanding?"""
        return bool(self._items)

    def send(
        self,
        store: LeaderStore,
        state: LeaderState | None,
        may: Callable[[], bool],
        do: Callable[[Said], None],
    ) -> None:
        """Everything, in order, for as long as `may` says so; `do` carries out what follows the answers.

        Raises OperatorError where something is away (call again later), Fenced, or Lost.
        """
        while not self.empty:
            if not self._items and not self._after:
                self._freeze()
            while self._items:
                if not may():
                    return
                self._ask(store, state, self._items[0])
                self._items.popleft()
            while self._after:
                if not may():
                    return
                do(self._after[0])
                self._after.popleft()

    def _ask(self, store: LeaderStore, state: LeaderState | None, item: _Item) -> None:
        match item:
            case Batch():
                answer = store.write(item)
            case _TakeFence():
                answer = store.lead(item.fence)
            case _Begin():
                answer = store.begin(item.spec, item.code, item.fence)
            case _Restore():
                assert state is not None
                answer = state.restore(item.stored, item.code)
            case _Open():
                assert state is not None
                state.open(item.incarnation, item.store_id)
                return
        if answer is WriteAnswer.FENCED:
            raise Fenced
        if answer in _GOOD:
            return
        if state is None:
            raise InternalError(f"the store refused {type(item).__name__}: {answer.value}")
        raise Lost

    # Freezing.

    def _freeze(self) -> None:
        decided, self._decided = self._decided, []
        writes: dict[str, list[Write | c.WritePlan]] = {}
        orders: dict[str, list[c.GiveOrder]] = {}
        words: dict[str, c.WriteWorker] = {}
        messages: list[list[TaskMessage]] = []
        filled: dict[int, list[TaskMessage]] = {}  #: those that more may travel in, by their number
        for said in decided:
            match said:
                case c.WriteJob() | c.WritePlan() | c.WriteTask() | c.WriteLocation():
                    writes.setdefault(said.job, []).append(said)
                case c.WriteWorker():
                    words[said.worker] = said
                case c.PublishTask(message=message, together=number):
                    if number in filled:
                        filled[number].append(message)
                        continue
                    messages.append([message])
                    if number:
                        filled[number] = messages[-1]
                case c.GiveOrder():
                    orders.setdefault(said.job, []).append(said)
                case c.GiveAll(order=order):
                    everybody = (
                        c.GiveOrder(worker=worker, boot=boot, order=order)
                        for worker, boot in self._machine.boots()
                    )
                    orders.setdefault("", []).extend(everybody)
                case _:
                    self._after.append(said)
        if messages:
            self._after.appendleft(Publish(tuple(map(tuple, messages))))
        for name in {**writes, **orders}:
            if name:
                self._freeze_job(name, writes.get(name, []), orders.get(name, []))
        if words or "" in orders:
            self._cluster = replace(self._cluster, seq=self._cluster.seq + 1)
            told = tuple(orders.get("", ()))
            self._items.append(Batch(job="", fence=self._cluster, writes=tuple(words.values()), orders=told))

    def _freeze_job(
        self, name: str, writes: Sequence[Write | c.WritePlan], orders: Sequence[c.GiveOrder]
    ) -> None:
        held = self.jobs.get(name)
        if held is None:
            return
        held.fence = replace(held.fence, seq=held.fence.seq + 1)
        records: tuple[tuple[str, bytes], ...] = ()
        record = None
        if self._machine.knows(name):
            records = tuple(self._machine.records(writes).items())
            record = self._machine.job_record(name)
            if record == held.record:
                record = None
            else:
                held.record = record
        batch = Batch(
            job=name,
            fence=held.fence,
            writes=_but_plans(writes),
            orders=tuple(orders),
            records=records,
            job_record=record,
        )
        self._items.append(batch)

    # A store that has lost something, and a new epoch with the same view.

    def restore(self, made: Iterable[c.Command], incarnation: int) -> None:
        """Send the whole view (what the machine said to `StoreLost`) in place of all that is under way:
        what that would have written is in it. What it would have told or begun is still to be done."""
        self.incarnation = incarnation
        kept = [x for x in (*self._after, *self._decided) if _stands(x)]
        self._items.clear()
        self._after.clear()
        self._decided = [x for x in kept if isinstance(x, (c.GiveOrder, c.GiveAll))]
        writes: dict[str, list[Write | c.WritePlan]] = {}
        for said in made:
            if isinstance(said, (c.WriteJob, c.WritePlan, c.WriteTask, c.WriteLocation)):
                writes.setdefault(said.job, []).append(said)
            else:
                self._decided.append(said)
        self._cluster = self.fence()
        self._items.append(_TakeFence(self._cluster))
        for name, held in list(self.jobs.items()):
            held.fence = self.fence()
            view = self._machine.job(name)
            if view is None:
                continue  # begun, and its submission isn't handled yet: that will write it
            held.record = self._machine.job_record(name)
            stored = StoredJob(
                spec=held.spec,
                fence=held.fence,
                state=view.state,
                error=view.error,
                job_record=held.record,
                records=self._machine.records(writes.get(name, ())),
                recorded=(),
                writes=_but_plans(writes.get(name, ())),
            )
            self._items.append(_Restore(stored, held.code))
        self._items.append(_Open(incarnation, self._store_id))
        self._after.extend(x for x in kept if not isinstance(x, (c.GiveOrder, c.GiveAll)))

    def behind(self, store: LeaderStore) -> bool:
        """Has the store lost something that it had answered? Raises Fenced, OperatorError."""
        for name, mine in self._fences():
            found = store.fence(name)
            if found is None:
                return True
            there, ours = (found.incarnation, found.epoch), (mine.incarnation, mine.epoch)
            if there > ours or (there == ours and found.owner != mine.owner):
                raise Fenced
            if there < ours or found.seq < mine.seq:
                return True
        return False

    def lead_again(self, store: LeaderStore, epoch: int) -> None:
        """Take every fence under a new epoch; nobody has led in between. What was sent and not answered is
        sent again under it, unless it was applied. Raises Fenced, Lost or OperatorError, changing nothing.
        """
        if any(isinstance(item, _Restore) for item in self._items):
            raise Lost  # half restored: begin that again
        opening = [item for item in self._items if isinstance(item, _Open)]  # its answer was lost, perhaps
        batches = {item.job: item for item in self._items if isinstance(item, Batch)}
        untaken = {
            "" if isinstance(item, _TakeFence) else item.spec.job: item.before
            for item in self._items
            if isinstance(item, _TakeFence | _Begin)
        }
        before: dict[str, Fence] = {}
        left: list[Batch] = []
        for name, mine in self._fences():
            found = store.fence(name)
            if found is None:
                raise Lost
            there, last = (found.incarnation, found.epoch), mine
            if there < (mine.incarnation, mine.epoch):  # the store was given the one before last
                last = untaken.get(name) or mine
            before[name], ours = last, (last.incarnation, last.epoch)
            if there > ours or (there == ours and found.owner != last.owner):
                raise Fenced
            batch = batches.get(name)
            if there < ours or found.seq < last.seq - bool(batch):
                raise Lost
            if batch is not None and found.seq < last.seq:
                left.append(batch)
        self.epoch = epoch
        self._cluster = self.fence()
        self._items = deque([_TakeFence(self._cluster, before[""]), *opening])
        for name, held in list(self.jobs.items()):
            last = before.get(name, held.fence)
            held.fence = self.fence()
            self._items.append(_Begin(held.spec, held.code, held.fence, last))
        for batch in left:
            fence = replace(self.fence(), seq=1)
            self._items.append(replace(batch, fence=fence))
            if batch.job:
                self.jobs[batch.job].fence = fence
            else:
                self._cluster = fence

    def _fences(self) -> list[tuple[str, Fence]]:
        return [("", self._cluster), *((name, held.fence) for name, held in list(self.jobs.items()))]


def _but_plans(writes: Iterable[Write | c.WritePlan]) -> tuple[Write, ...]:
    """What the store's tables hold of these: a plan is among the records alone."""
    return tuple(write for write in writes if not isinstance(write, c.WritePlan))


def _stands(said: Said) -> bool:
    """Is it still to be done once the whole view was written anew? Orders about attempts are out of date."""
    return not isinstance(said, _WRITTEN) and not (isinstance(said, c.GiveOrder) and said.job)
