"""Credit as consumers: at most so many unsettled, though a living consumer's prefetch never changes.

basic.qos holds for consumers that are made later, so a kind's credit is the sum of several consumers, each
with a prefetch of its own. More credit is one more consumer; less, some cancelled. What a cancelled
consumer delivered stays settleable, and counts until it is settled, so nothing is hoarded beyond the credit:

    prefetch of the living + unsettled of the cancelled <= credit

What is delivered is messages: one of short tasks names many, and counts as one until all of them are settled.
Each change costs the broker a command of its log, and the agent's credit may flip where tasks are short, so
(all on one channel a kind: acks then share frames, and deliveries of long tasks are acked before the broker's
timeout would close it):
- no credit cancels everything at once, and a quarter more or more is taken up at once;
- a smaller rise, and a fall to something, waits until nothing changed for `CALM_S`: what comes back
  meanwhile cost nothing, and what cancelled consumers settle is made up for in pieces;
- past `CONSUMERS_MAX` the smallest is cancelled, and its room goes into a larger one.

Pure: `next_step` says one thing to do, `done` that the broker answered. One step at a time: pika rejects what
arrives for a consumer whose cancel is waiting behind another request, over and over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CALM_S: Final = 0.1
CONSUMERS_MAX: Final = 12

#: A channel's prefetch is 16 bits, and 0 would be no bound.
PREFETCH_MAX: Final = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Consume:
    """Start a consumer of this tag with this prefetch, 1 or more."""

    tag: str
    prefetch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    tag: str


@dataclass(slots=True)
class _Consumer:
    prefetch: int
    unsettled: int = 0
    cancelled: bool = False


class Window:
    """The consumers of one kind on one channel."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._serial = 0
        self._credit = 0
        self._changed_at = 0.0  #: the credit, or the consumers
        self._consumers: dict[str, _Consumer] = {}
        self._step: Consume | Cancel | None = None  #: on its way

    @property
    def consumers(self) -> int:
        """Living ones."""
        return sum(1 for consumer in self._consumers.values() if not consumer.cancelled)

    @property
    def cancelling(self) -> bool:
        """May a message that is returned now come straight back here, though it shouldn't?"""
        return isinstance(self._step, Cancel) or (self._credit == 0 and self._living() > 0)

    def set_credit(self, credit: int, now: float) -> None:
        """From now on at most this many unsettled."""
        if credit != self._credit:
            self._credit, self._changed_at = min(credit, PREFETCH_MAX), now

    def delivered(self, tag: str) -> None:
        """A consumer has one more unsettled."""
        self._consumers[tag].unsettled += 1

    def settled(self, tag: str) -> None:
        """One less."""
        consumer = self._consumers[tag]
        consumer.unsettled -= 1
        if consumer.cancelled and not consumer.unsettled:
            del self._consumers[tag]

    def next_step(self, now: float) -> Consume | Cancel | float | None:
        """What to do now; seconds to ask again after; None when all is as it should be, or a step is open."""
        if self._step is not None:
            return None
        living = self._living()
        owed = sum(c.unsettled for c in self._consumers.values() if c.cancelled)
        wanted = max(0, self._credit - owed)
        if living == wanted:
            return None
        calm_in = self._changed_at + CALM_S - now
        if living < wanted:
            large = (wanted - living) * 4 >= self._credit
            if not large and calm_in > 0:
                return calm_in
            if self.consumers < CONSUMERS_MAX:
                self._serial += 1
                self._step = Consume(tag=f"{self._name}-{self._serial}", prefetch=wanted - living)
            else:
                self._step = Cancel(tag=min(self._by_prefetch(), key=lambda found: found[0])[1])
        else:
            if self._credit and calm_in > 0:
                return calm_in
            # The smallest that is enough, or the largest.
            enough = [found for found in self._by_prefetch() if found[0] >= living - wanted]
            self._step = Cancel(tag=(min(enough) if enough else max(self._by_prefetch()))[1])
        self._changed_at = now
        if isinstance(self._step, Consume):
            self._consumers[self._step.tag] = _Consumer(self._step.prefetch)
        return self._step

    def done(self) -> None:
        """The broker did the step. What a cancelled consumer still sent was noted before this."""
        step, self._step = self._step, None
        if isinstance(step, Cancel):
            consumer = self._consumers[step.tag]
            consumer.cancelled = True
            if not consumer.unsettled:
                del self._consumers[step.tag]

    def _living(self) -> int:
        return sum(c.prefetch for c in self._consumers.values() if not c.cancelled)

    def _by_prefetch(self) -> list[tuple[int, str]]:
        """(prefetch, tag) of each that lives."""
        return [(c.prefetch, tag) for tag, c in self._consumers.items() if not c.cancelled]
