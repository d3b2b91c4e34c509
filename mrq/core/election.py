"""Who leads: the decisions of one master about the lease. Pure; time is the master's own monotonic clock.

    STANDBY -> LEADING <-> PAUSED        (STANDBY from both, by another's epoch; STOPPED from everywhere)

The lease lasts `lease_s` from the moment at which the store renews it. Whoever holds it acts for `act_s`
from the moment at which it *asked* for its last good renewal, so it stops before the lease can be another's,
whatever the network did to the answer. Only differences of one clock are looked at: clocks that jump or
differ don't matter. A renewal goes out only while the master's loop turns: a master that hangs is no leader.

Paused is not stood down: the leader says nothing, and keeps its view until it knows. If nobody led meanwhile
(the epoch is still its own) the view is the truth and it goes on, under the next epoch where the lease had
lapsed. That matters where the store lost its data: only a leader with a view can restore it, so a
lease that is gone together with its epoch is taken by its last holder at once, and by nobody else before two
leases have passed: also not by a holder whose own lease would be over by now, as another may have led since.
A store that was never initialised (its id is "") is left alone: `init` is explicit.

The lease makes two leaders unlikely, not impossible: a process can stand still between a look at the clock
and its write. What makes them harmless is the fence of each job, by epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mrq.core.events import Ticked as Ticked
from mrq.core.model import MasterStanding
from mrq.core.store_api import LeaseView
from mrq.core.transitions import ELECTION, check


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectionConfig:
    """Times in seconds."""

    owner: str  #: one for each life of a master's process
    lease_s: float = 8.0
    act_s: float = 5.0  #: after the start of the last good renewal
    renew_s: float = 1.5  #: between renewals
    look_s: float = 1.0  #: between a standby's looks, and after a call that failed
    loop_s: float = 2.0  #: a loop that hasn't turned for so long gets no renewal
    lost_leases: float = 2.0  #: so many pass before anybody but its last holder takes a lost store


# Events. Each call is answered by exactly one of the first four, with its number.


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseViewed:
    call: int
    view: LeaseView
    store_id: str  #: "" in a store that was never initialised


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTaken:
    """The lease as it is after the attempt to take it, whoever has it."""

    call: int
    view: LeaseView


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRenewed:
    call: int
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseCallFailed:
    """The store couldn't be asked, or its answer was lost: it may have been done."""

    call: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopTicked:
    """The master's loop has gone round once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochSeen:
    """In a fence, a record or a manifest: whoever leads next must be above it."""

    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WasFenced:
    """The store refused a write: a later epoch has the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResignRequested:
    """This master ends."""


ElectionEvent = (
    LeaseViewed
    | LeaseTaken
    | LeaseRenewed
    | LeaseCallFailed
    | LoopTicked
    | EpochSeen
    | WasFenced
    | ResignRequested
    | Ticked
)


# Commands. One call at a time.


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewLease:
    """Look at the lease and at the store's id."""

    call: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeLease:
    call: int
    epoch_above: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewLease:
    call: int
    epoch: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseLease:
    """Not answered: whether it worked makes seconds of difference, no more."""

    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """Act under this epoch. `fresh`: nothing is known, load it; else nobody has led since the view was made:
    take the fences under the new epoch and go on, restoring what the store doesn't have any more."""

    epoch: int
    fresh: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Write and publish nothing until `Lead`; keep the view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandDown:
    """Somebody else leads, or this master ends: drop the view."""

    reason: str


ElectionCommand = ViewLease | TakeLease | RenewLease | ReleaseLease | Lead | Pause | StandDown


class Election:
    """`handle(event, now) -> [command]`; `next_tick()` says when Ticked is wanted at the latest."""

    def __init__(self, config: ElectionConfig) -> None:
        self.config = config
        self.standing = MasterStanding.STANDBY
        self.epoch = 0  #: the one that this master leads, or led last, under
        self._own = 0  #: the last epoch known to be one of ours, whether it was led under or lapsed before
        self._floor = 1  #: no lease of an epoch below may be gone on with: it was let go of
        self._seen = 0  #: the highest epoch seen anywhere
        self._now = 0.0
        self._out: list[ElectionCommand] = []
        self._serial = 0
        self._call: tuple[int, float] | None = None  #: number and start of the one under way
        self._next_at = float("-inf")  #: no call before
        self._looped_at = float("-inf")
        self._good_at = float("-inf")  #: start of the last good renewal
        self._lost_at: float | None = None  #: since when the store is known to be behind what was seen
        self._next: Callable[[], None] = self._view  #: the call that is due next
        self._renewing = 0  #: the epoch of the renewal under way

    def handle(self, event: ElectionEvent, now: float) -> list[ElectionCommand]:
        """What to do about one event; `now` never runs backwards."""
        self._now, self._out = now, []
        if self.standing is MasterStanding.STOPPED:
            return self._out
        led = self.standing in (MasterStanding.LEADING, MasterStanding.PAUSED)
        match event:
            case LeaseViewed():
                self._viewed(event)
            case LeaseTaken():
                self._taken(event)
            case LeaseRenewed():
                self._renewed(event)
            case LeaseCallFailed() if self._answered(event.call) is not None:
                self._wait(self.config.look_s)
            case LoopTicked():
                self._looped_at = now
            case EpochSeen():
                self._seen = max(self._seen, event.epoch)
                if led and event.epoch > self.epoch:
                    self._let_go(f"epoch {event.epoch} came after {self.epoch}")
            case WasFenced() if led:
                self._let_go("a later leader has taken the fence of a job")
            case ResignRequested() if led:
                self._out.append(ReleaseLease(epoch=self.epoch))
                self._move(MasterStanding.STOPPED, StandDown(reason="this master was stopped"))
            case ResignRequested():
                self._move(MasterStanding.STOPPED)
        self._go_on()
        return self._out

    def acting(self, now: float) -> bool:
        """May this master write and publish at this moment? Asked before each step, not once."""
        return self.standing is MasterStanding.LEADING and now - self._good_at < self.config.act_s

    def next_tick(self) -> float:
        """Not after the end."""
        if self.standing is MasterStanding.STOPPED:
            return float("inf")
        due = [] if self._call is not None or not self._loop_turns() else [self._next_at]
        if self.standing is MasterStanding.LEADING:
            due.append(self._good_at + self.config.act_s)
        return min(due, default=float("inf"))

    # Events.

    def _viewed(self, event: LeaseViewed) -> None:
        if not self._answered(event.call):
            return
        view, led = event.view, self.standing is MasterStanding.PAUSED
        mine = view.owner == self.config.owner
        behind = view.epoch < self._seen
        self._seen = max(self._seen, view.epoch)
        if led and not event.store_id:
            self._own = max(self._own, view.epoch)  # of a store without an id, only its last holder takes it
        if not behind:
            self._lost_at = None
        elif self._lost_at is None:
            self._lost_at = self._now
        if led and view.epoch > self._own and not (mine and self._nobody_before(view.epoch)):
            self._stand_down(f"epoch {view.epoch} came after {self.epoch}")
            led = False
        if mine and view.epoch >= self._floor:
            self._then(lambda: self._renew(view.epoch))  # the answer that told us so was lost
        elif mine:
            self._out.append(ReleaseLease(epoch=view.epoch))  # once more: that one was lost
            self._wait(self.config.look_s)
        elif view.owner is not None:
            if led:
                self._stand_down(f"{view.owner} leads")
            self._wait(self.config.look_s)
        elif (led and (not behind or self._holds_still())) or (
            (led or event.store_id) and not self._waits_for_holder()
        ):
            self._then(self._take)
        else:
            self._wait(self.config.look_s)

    def _nobody_before(self, epoch: int) -> bool:
        """Is it the next after our own last one? Whoever leads takes one above all that it has seen."""
        return epoch <= max(self.epoch, self._own) + 1

    def _holds_still(self) -> bool:
        """Would its own lease still run, in a store that lost nothing? Else another may have led since."""
        return self._now - self._good_at < self.config.lease_s

    def _waits_for_holder(self) -> bool:
        """Is it too early to take what the last holder may still restore?"""
        return (
            self._lost_at is not None
            and self._now - self._lost_at < self.config.lost_leases * self.config.lease_s
        )

    def _taken(self, event: LeaseTaken) -> None:
        started = self._answered(event.call)
        if started is None:
            return
        view = event.view
        self._seen = max(self._seen, view.epoch)
        if view.owner != self.config.owner:
            if self.standing is MasterStanding.PAUSED:
                self._stand_down(f"{view.owner} leads")
            self._wait(self.config.look_s)
            return
        # Of a lease that an earlier call took, whose answer was lost, some is over.
        self._lead(view.epoch, started - (self.config.lease_s - view.left_s))

    def _renewed(self, event: LeaseRenewed) -> None:
        epoch = self._renewing
        started = self._answered(event.call)
        if started is None:
            return
        if event.kept:
            self._lead(epoch, started)
            return
        if self.standing is MasterStanding.LEADING:
            self._move(MasterStanding.PAUSED, Pause())
        self._then(self._view)

    # What follows.

    def _go_on(self) -> None:
        """Do what is due, which follows from the time, after every event."""
        if self.standing is MasterStanding.LEADING and not self.acting(self._now):
            self._move(MasterStanding.PAUSED, Pause())
        if self.standing is MasterStanding.STOPPED or self._call is not None or not self._loop_turns():
            return
        if self._now >= self._next_at:
            self._next()

    def _loop_turns(self) -> bool:
        return self._now - self._looped_at <= self.config.loop_s

    def _lead(self, epoch: int, good_at: float) -> None:
        """The lease is ours: as it was, or again, or for the first time."""
        self._seen = max(self._seen, epoch)
        self._lost_at = None
        if self.standing is MasterStanding.PAUSED and not self._nobody_before(epoch):
            self._stand_down(f"others led between epochs {self.epoch} and {epoch}")
        self._own = epoch
        if self._now - good_at >= self.config.act_s:
            self._then(lambda: self._renew(epoch))  # its answer took too long
            return
        self._good_at = max(self._good_at, good_at)
        fresh = self.standing is MasterStanding.STANDBY
        self.epoch = epoch
        if self.standing is not MasterStanding.LEADING:
            self._move(MasterStanding.LEADING, Lead(epoch=epoch, fresh=fresh))
        self._wait(max(0.0, good_at + self.config.renew_s - self._now))
        self._next = lambda: self._renew(epoch)

    def _let_go(self, reason: str) -> None:
        self._out.append(ReleaseLease(epoch=self.epoch))
        self._stand_down(reason)
        self._wait(self.config.look_s)

    def _stand_down(self, reason: str) -> None:
        self._floor = max(self.epoch, self._own) + 1
        self._move(MasterStanding.STANDBY, StandDown(reason=reason))

    def _move(self, to: MasterStanding, *said: ElectionCommand) -> None:
        """The only place where the standing changes. Raises IllegalTransition."""
        check(ELECTION, self.standing, to, f"master {self.config.owner}")
        self.standing = to
        self._out.extend(said)

    # Calls.

    def _then(self, call: Callable[[], None]) -> None:
        self._next, self._next_at = call, self._now

    def _wait(self, seconds: float) -> None:
        """Go on after a while: by looking, or where it leads or led by renewing."""
        held = self.standing in (MasterStanding.LEADING, MasterStanding.PAUSED)
        self._next = (lambda: self._renew(self.epoch)) if held else self._view
        self._next_at = self._now + seconds

    def _begin(self) -> int:
        self._serial += 1
        self._call = (self._serial, self._now)
        return self._serial

    def _answered(self, call: int) -> float | None:
        """When that call began, if it is the one under way."""
        if self._call is None or self._call[0] != call:
            return None
        started, self._call = self._call[1], None
        return started

    def _view(self) -> None:
        self._out.append(ViewLease(call=self._begin()))

    def _take(self) -> None:
        above = max(self._seen, self.epoch)
        self._out.append(TakeLease(call=self._begin(), epoch_above=above, seconds=self.config.lease_s))

    def _renew(self, epoch: int) -> None:
        self._renewing = epoch
        self._out.append(RenewLease(call=self._begin(), epoch=epoch, seconds=self.config.lease_s))
