"""The worker's decisions: what to claim, start, kill, report and settle. Pure.

One *item* is one piece of work under one token: a delivery, or an offer of a beat's reply.

    WAITING -> ASKED -> CLAIMED -> STARTED -> ENDED -> gone
       ^---------'         '-------------------^        (the report was answered, the delivery acked)

Rules, and why:
- A token is in every beat made from the moment its claim goes out until its report was answered: two
  beats without it would mean that it is lost.
- A delivery is acked only after its report was recorded, or after the store called it obsolete or a
  duplicate; given back only before it was claimed. Either once. With the broker's connection all
  deliveries are gone, and what was claimed lives on its beats.
- A call that failed may have been executed: it is repeated under the same token until it is answered.
- A kill ends in a report like any other end, which the store calls obsolete: one way to settle.
- Nothing is claimed before the first beat was answered: so boots are heard of in order. Without an
  answered beat for 10 s nothing is claimed, for 15 s nothing is reported until a reply says what lives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from mrq.core.agent_items import Group, Item, Items, Phase, line, listed
from mrq.core.agent_words import (
    AboutChanged,
    AgentCommand,
    AgentConfig,
    AgentEvent,
    AttemptEnded,
    AttemptProgressed,
    AttemptStarted,
    BeatAnswered,
    BrokerBack,
    BrokerLost,
    Claim,
    ClaimAnswered,
    Delivered,
    DiskChanged,
    GiveBack,
    Leave,
    LeaveAtOnce,
    LeaveRequested,
    Nudged,
    Report,
    ReportAnswered,
    SendBeat,
    ServingChanged,
    Start,
    Ticked,
)
from mrq.core.events import AttemptReported
from mrq.core.model import Beat, Outcome, Status, TaskMessage, WorkerHealth
from mrq.core.needs import distributions, fits
from mrq.core.orders import Drain, DropJob, DropMaps, Kill, Notify, Offer, Order, Release, UploadLog
from mrq.core.refs import Kind
from mrq.core.store_api import Answer, ClaimRequest, ReportAnswer


class Agent(Items):
    """`handle(event, now) -> [command]`; `next_tick()` says when Ticked is wanted at the latest."""

    def __init__(self, config: AgentConfig) -> None:
        super().__init__(config)
        self.left = False
        self._serial = 0
        self._order = 0  #: orders up to this number were carried out
        self._seq = 0
        self._beat_at: float | None = None  #: when the next one is due; None before the first event
        self._beat_sent: tuple[int, float, frozenset[str]] | None = None  #: the one under way
        self._about = config.about
        self._about_from: int | None = 0  #: beats carry it from this number on, until one is answered
        self._good_at = float("-inf")  #: when the last answered beat was sent
        self._unanswered = False
        self._links_at = 0.0  #: since when all links are up
        self.drain_reason = ""  #: why the leader sent it away
        self._serving = False  #: others may need what is kept here
        self._released = False  #: the leader says that nobody does
        self._served_from: float | None = None  #: draining, and nothing but serving is left to do
        self._stop_at: float | None = None  #: leave then, whatever is left
        self._drain_until: float | None = None
        self._stopping = False
        self._memory = config.hints.get("memory_bytes", 0)
        self._packages = distributions(config.about.get("packages"))

    def handle(self, event: AgentEvent, now: float) -> list[AgentCommand]:
        """What to do about one event; `now` never runs backwards."""
        return self.handle_all((event,), now)

    def handle_all(self, events: Sequence[AgentEvent], now: float) -> list[AgentCommand]:
        """What to do about events that came together, in their order: what follows from the state is looked
        at once, so that claims and reports stand together, and short tasks cost a third less."""
        if self.left:
            return []
        if self._beat_at is None:
            self._beat_at = self._links_at = now
        self._now, self._out = now, []
        for event in events:
            _HANDLERS[type(event)](self, event)
        self._go_on()
        return self._out

    def next_tick(self) -> float:
        """The latest time for the next Ticked; `inf` when only other events matter. Not after Leave."""
        times = [self._items[token].ask_at or 0.0 for token in self._later]
        for token in self._ended:
            item = self._items[token]
            if not item.reporting and not self._paused:
                times.append(item.report_at)
        for ready in self._ready.values():
            if ready:
                times.append(self._items[ready[0]].since + self.config.ready_s_max)
        if self._behind:
            times.append(self._items[next(iter(self._behind))].since + self.config.ready_s_max)
        times.append(self._without_room_at())
        if self._offers:
            times.append(self._offer_stale_at())
        if self._beat_sent is None and self._beat_at is not None:
            times.append(self._beat_at)
        until = None if self._stopping else self._drain_until
        times.append(self._hand_over_at())
        served = None if self._served_from is None else self._served_from + self.config.serve_s_max
        times += [t for t in (self._stop_at, until, served) if t is not None]
        return min(times, default=float("inf"))

    @property
    def tokens(self) -> frozenset[str]:
        """What the next beat lists."""
        return frozenset(token for token, item in self._items.items() if listed(item))

    # Events.

    def _delivered(self, event: Delivered) -> None:
        if not self._takes(event.message.task.kind):
            self._out.append(GiveBack(delivery=event.delivery))
            return
        if not event.group or event.group != self._group[0]:
            self._group = event.group, Group(several=event.group > 0)
        self._add(event.message, self._group[1], [event.delivery], redelivered=event.redelivered)

    def _add(
        self,
        message: TaskMessage,
        group: Group,
        deliveries: list[int],
        *,
        offered: bool = False,
        redelivered: bool = False,
    ) -> None:
        self._serial += 1
        token = f"{self.config.boot}-{self._serial:x}"
        item = Item(token=token, message=message, group=group, deliveries=deliveries, offered=offered)
        item.delivered_at, item.redelivered = self._now, redelivered
        self._items[token] = item
        if message.alone:
            self._alone[token] = None
        (self._offers if offered else self._fresh).append(token)

    def _claim_answered(self, event: ClaimAnswered) -> None:
        item = self._items.get(event.token)
        if item is None or item.phase is not Phase.ASKED:
            return
        if event.answer is None:
            self._keep(item, self.config.retry_s)
            return
        item.claim_open = False
        match event.answer.answer:
            case Answer.NEW | Answer.SAME:
                assert event.answer.attempt is not None
                self._claimed(item, event.answer.attempt)
            case Answer.RESUME:
                assert event.answer.attempt is not None
                self._resume(item, event.answer.attempt)
            case Answer.OBSOLETE | Answer.DUPLICATE:
                self._settle(item)
            case Answer.HELD if not item.redelivered:
                self._settle(item)  # a copy: if its holder dies, the holder's own message comes again
            case Answer.HELD:
                item.held = event.answer
                young = self._now - self._links_at < self.config.young_links_s
                wait = self.config.held_beats * self.config.beat_interval_s
                self._keep(item, self.config.young_retry_s if young else wait)
            case Answer.NO_STORE | Answer.DECLINED:
                self._keep(item, self.config.retry_s)

    def _started(self, event: AttemptStarted) -> None:
        item = self._items.get(event.token)
        if item is not None and item.phase is Phase.STARTED:
            item.began_at = self._now
            self._begun[item.message.task.kind][item.token] = None
            self._behind.pop(item.token, None)
            item.part = item.part or ("mapping" if item.message.task.kind is Kind.MAP else "shuffling")

    def _progressed(self, event: AttemptProgressed) -> None:
        item = self._items.get(event.token)
        if item is not None and item.phase is Phase.STARTED:
            item.fraction, item.part = event.fraction, event.phase or item.part
            item.records, item.bytes, item.at = event.records, event.bytes, event.at

    def _attempt_ended(self, event: AttemptEnded) -> None:
        item = self._items.get(event.token)
        if item is None or item.phase is not Phase.STARTED:
            return
        kind, outcome = item.message.task.kind, event.outcome
        del self._running[kind][item.token]
        self._begun[kind].pop(item.token, None)
        self._behind.pop(item.token, None)
        if outcome.status is Status.DONE:
            began_at = item.since if item.began_at is None else item.began_at
            job, took, last = item.message.task.job, self._now - began_at, self._took[kind]
            self._took[kind] = job, took if last is None or last[0] != job else 0.7 * last[1] + 0.3 * took
        elif item.doomed is not None:
            outcome = Outcome(status=item.doomed, started=outcome.started or item.began_at is not None)
        self._end(item, outcome)

    def _report_answered(self, event: ReportAnswered) -> None:
        item = self._items.get(event.token)
        if item is None or not item.reporting:
            return
        item.reporting = False
        if event.answer in (None, ReportAnswer.NO_STORE):
            item.report_at = self._now + self.config.retry_s
        else:
            self._settle(item)

    def _beat_answered(self, event: BeatAnswered) -> None:
        if self._beat_sent is None or self._beat_sent[0] != event.seq:
            return
        _, sent_at, claimed = self._beat_sent
        self._beat_sent = None
        if event.reply is None:
            self._unanswered = True
            return
        self._good_at = sent_at
        if self._about_from is not None and event.seq > self._about_from:
            self._about_from = None
        if self._unanswered:
            self._unanswered, self._links_at = False, self._now
        self._health = event.reply.health
        for token in sorted(claimed - event.reply.live):
            if token in self._items:
                self._doom(self._items[token], Status.SUPERSEDED)
        for each in event.reply.orders:
            if each.number > self._order:
                self._order = each.number
                self._obey(each.order)

    def _obey(self, order: Order) -> None:
        match order:
            case Kill(token=token):
                if token in self._items:
                    self._doom(self._items[token], Status.SUPERSEDED)
            case Offer(message=message):
                if (self._has_room if message.alone else self._takes)(message.task.kind):
                    self._add(message, Group(several=False), [], offered=True)
            case DropJob(job=job):
                self._drop(job)
            case Drain(reason=reason):
                self.draining, self.drain_reason = True, reason or self.drain_reason
            case Release():
                self._released = True
            case Notify():
                pass  # `worker.runtime` hears the reply, too, and says it
            case DropMaps() | UploadLog():
                self._out.append(order)

    def _broker_lost(self, event: BrokerLost) -> None:
        self._connected = False
        for item in list(self._items.values()):
            self._bereave(item)
            if item.phase is Phase.WAITING and not item.claim_open and not item.offered:
                self._remove(item)

    def _broker_back(self, event: BrokerBack) -> None:
        self._connected = True
        self._links_at = self._now
        self._credit = {Kind.MAP: None, Kind.REDUCE: None}

    def _drain_requested(self, event: LeaveRequested) -> None:
        self.draining = True
        if event.deadline is not None:
            self._drain_until = event.deadline

    def _stop_requested(self, event: LeaveAtOnce) -> None:
        self.draining = self._stopping = True
        self._stop_at = event.deadline

    def _about_changed(self, event: AboutChanged) -> None:
        self._about, self._about_from = event.about, self._seq

    def _disk_changed(self, event: DiskChanged) -> None:
        self._disk_full = event.full

    def _serving_changed(self, event: ServingChanged) -> None:
        self._serving = event.serving

    def _nudged(self, event: Nudged) -> None:
        self._beat_at = self._now

    def _ticked(self, event: Ticked) -> None:
        """What is due follows from the time, after every event."""

    # What follows from the state, whatever the events were: looked at once after all that came together. What
    # goes back comes first, then what is asked for, so that room is given once.

    @property
    def _paused(self) -> bool:
        return self._now - self._good_at > self.config.pause_after_s

    def _go_on(self) -> None:
        if self._drain_until is not None and self._now >= self._drain_until:
            self._stopping = True
        self._return_unwanted()
        if not self.takes:
            self._hand_back_all()
        if self._hand_over_at() <= self._now:
            self._hand_over_old()
        self._ask_again()
        self._claim_fresh()
        self._start_ready()
        self._hand_back_stuck()
        self._report_ended()
        self._set_credit()
        self._beat()
        self._leave()

    def _return_unwanted(self) -> None:
        """Of a kind that isn't taken (any more): unclaimed deliveries go back, once."""
        if self._takes(Kind.MAP) and self._takes(Kind.REDUCE):
            return
        for token in [*self._offers, *self._fresh, *self._later]:
            item = self._items.get(token)
            if item is None or item.phase is not Phase.WAITING or item.claim_open:
                continue
            if not (self._has_room if item.message.alone else self._takes)(item.message.task.kind):
                self._out.extend(GiveBack(delivery=delivery) for delivery in item.deliveries)
                self._remove(item)

    def _hand_back_all(self) -> None:
        """Not taking (any more): claimed work without a slot goes back, and when stopping all of it."""
        for ready in self._ready.values():
            for token in list(ready):
                self._doom(self._items[token], Status.HANDED_BACK)
        self._hand_back_behind(float("inf"))
        for item in self._items.values():
            if item.phase is Phase.ASKED or self._stopping:
                self._doom(item, Status.HANDED_BACK)

    def _hand_back_stuck(self) -> None:
        """Taken ahead behind work that turned out long: others may have a slot for it."""
        while self._without_room_at() <= self._now:
            item = self._items[self._fresh.popleft()]
            self._out.extend(GiveBack(delivery=delivery) for delivery in item.deliveries)
            self._remove(item)
        while self._offers and self._offer_stale_at() <= self._now:
            self._remove(self._items[self._offers.popleft()])
        for ready in self._ready.values():
            while ready and self._now - self._items[ready[0]].since >= self.config.ready_s_max:
                self._doom(self._items[ready[0]], Status.HANDED_BACK)
        self._hand_back_behind(self._now - self.config.ready_s_max)

    def _hand_back_behind(self, until: float) -> None:
        """Up to then it was started behind others, and it hasn't begun."""
        while self._behind:
            token = next(iter(self._behind))
            if self._items[token].since > until:
                break
            del self._behind[token]
            self._doom(self._items[token], Status.HANDED_BACK)

    def _without_room_at(self) -> float:
        """When the delivery that waits longest for room has waited too long. While nothing may be claimed
        they are kept: given back they would come again at once."""
        while self._fresh and self._fresh[0] not in self._items:
            self._fresh.popleft()
        if not self._fresh or self._now - self._good_at > self.config.no_claims_after_s:
            return float("inf")
        item = self._items[self._fresh[0]]
        if not item.deliveries or self._room(item):
            return float("inf")
        return item.delivered_at + self.config.fresh_s_max

    def _offer_stale_at(self) -> float:
        """When the oldest offer that has had no room so far is no longer the leader's."""
        while self._offers and self._offers[0] not in self._items:
            self._offers.popleft()
        if not self._offers:
            return float("inf")
        return self._items[self._offers[0]].delivered_at + self.config.offered_s_max

    def _ask_again(self) -> None:
        if self._now - self._good_at > self.config.no_claims_after_s:
            for token in self._later:
                item = self._items[token]
                item.ask_at = max(item.ask_at or 0.0, self._now + self.config.retry_s)
            return
        for token in [t for t in self._later if (self._items[t].ask_at or 0.0) <= self._now]:
            item = self._items[token]
            # One that may be recorded is asked whatever the room: it may be ours already.
            if item.claim_open or self._may_ask(item):
                del self._later[token]
                self._ask(item)
            else:
                item.ask_at = self._now + self.config.retry_s

    def _claim_fresh(self) -> None:
        waits = self._offers or self._fresh
        if not waits or self._now - self._good_at > self.config.no_claims_after_s:
            return
        full: set[Kind] = set()
        for waiting in (self._offers, self._fresh) if self._offers else (self._fresh,):
            kept: deque[str] = deque()
            while waiting and len(full) < 2:
                token = waiting.popleft()
                item = self._items.get(token)
                if item is None:
                    continue
                if item.message.task.kind in full or not self._may_ask(item):
                    if not item.message.alone:
                        full.add(item.message.task.kind)
                    kept.append(token)
                else:
                    self._ask(item)
            waiting.extendleft(reversed(kept))

    def _ask(self, item: Item) -> None:
        self._move(item, Phase.ASKED)
        item.ask_at, item.claim_open = None, True
        held, item.held = item.held, None
        request = ClaimRequest(
            message=item.message,
            worker=self.config.worker,
            boot=self.config.boot,
            token=item.token,
            held_beat_seq=held.beat_seq if held is not None else None,
            held_token=held.attempt.token if held is not None and held.attempt is not None else None,
            fits=fits(item.message.needs, self._memory, self._packages),
        )
        self._out.append(Claim(request=request))

    def _start_ready(self) -> None:
        while True:
            heads = [self._items[ready[0]] for ready in self._ready.values() if ready]
            heads = [head for head in heads if self._may_start(head)]
            if not heads:
                return
            item = min(heads, key=lambda head: head.since)
            assert item.attempt is not None
            kind = item.message.task.kind
            self._ready[kind].popleft()
            if len(self._running[kind]) >= self._slots(kind):
                self._behind[item.token] = None
            self._running[kind][item.token] = None
            self._move(item, Phase.STARTED)
            self._out.append(Start(message=item.message, attempt=item.attempt))

    def _report_ended(self) -> None:
        if self._paused:
            return
        for token in self._ended:
            item = self._items[token]
            if item.reporting or item.report_at > self._now:
                continue
            assert item.attempt is not None and item.outcome is not None  # noqa: PT018 one invariant
            item.reporting = True
            report = AttemptReported(
                attempt=item.attempt,
                worker=self.config.worker,
                boot=self.config.boot,
                outcome=item.outcome,
            )
            self._out.append(Report(report=report))

    def _beat(self) -> None:
        if self._beat_sent is not None or self._beat_at is None or self._now < self._beat_at:
            return
        self._seq += 1
        lines = [item for item in self._items.values() if listed(item)]
        claimed = frozenset(item.token for item in lines if item.attempt is not None)
        self._beat_sent = (self._seq, self._now, claimed)
        self._beat_at = self._now + self.config.beat_interval_s
        tells = self._about_from is not None or self._seq % self.config.about_again_beats == 0
        beat = Beat(
            worker=self.config.worker,
            boot=self.config.boot,
            seq=self._seq,
            slots=self.config.slots,
            running=tuple(map(line, lines)),
            acked_order=self._order,
            draining=self.draining,
            hints=self.config.hints,
            address=self.config.address,
            about=self._about if tells else {},
        )
        self._out.append(SendBeat(beat=beat))

    def _leave(self) -> None:
        if not self.draining:
            return
        late = self._stop_at is not None and self._now >= self._stop_at
        if self._items and not late:
            self._served_from = None
            return
        if self._served_from is None:
            self._served_from = self._now
        # Keep serving for a while: the leader has what is needed here moved, or made again.
        serving = (
            self._serving
            and not self._released
            and not self._stopping
            and self._health is not WorkerHealth.DEAD
        )
        if late or not serving or self._now >= self._served_from + self.config.serve_s_max:
            self.left = True
            self._out.append(Leave())


_HANDLERS: Final[dict[type, Callable[[Agent, Any], None]]] = {
    Delivered: Agent._delivered,
    ClaimAnswered: Agent._claim_answered,
    AttemptStarted: Agent._started,
    AttemptProgressed: Agent._progressed,
    AttemptEnded: Agent._attempt_ended,
    ReportAnswered: Agent._report_answered,
    BeatAnswered: Agent._beat_answered,
    BrokerLost: Agent._broker_lost,
    BrokerBack: Agent._broker_back,
    LeaveRequested: Agent._drain_requested,
    LeaveAtOnce: Agent._stop_requested,
    AboutChanged: Agent._about_changed,
    DiskChanged: Agent._disk_changed,
    ServingChanged: Agent._serving_changed,
    Nudged: Agent._nudged,
    Ticked: Agent._ticked,
}
