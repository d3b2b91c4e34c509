"""What follows from the agent's state, whatever the event was: claims, starts, reports, beats.

Looked at once after all events that came together (`core.agent`), in one order: what goes back first, then
what is asked for, so that room is given once.
"""

from __future__ import annotations

from collections import deque

from mrq.core.agent_items import Item, Items, Phase, line, listed
from mrq.core.agent_words import AgentConfig, Claim, GiveBack, Leave, Report, SendBeat, Start
from mrq.core.events import AttemptReported
from mrq.core.exchange import ClaimRequest
from mrq.core.model import Beat, Status, WorkerHealth
from mrq.core.needs import distributions, fits
from mrq.core.refs import Kind


class Following(Items):
    """The items, with what the worker knows of its links, and `_go_on`."""

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
