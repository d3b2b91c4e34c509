"""A master: stands by until it may lead, leads as long as it may, stands by again.

The main thread makes and drops terms of leadership; the lease has a thread of its own, which asks the store
and tells `core.election` what it says. Standing by, everything is imported and connected: to lead is to load.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mrq.core import election as el
from mrq.core.model import MasterStanding
from mrq.errors import OperatorError
from mrq.master.backend import Backend
from mrq.master.leadership import LeadershipSettings, Overtaken
from mrq.master.term import Term

_Call = el.ViewLease | el.TakeLease | el.RenewLease

_LOG: Final = logging.getLogger(__name__)

#: The lease's thread goes round at least this often.
_ROUND_S: Final = 0.5


class MasterService:
    """One master. `run` it on a thread of its own; `stop` it from any."""

    def __init__(
        self,
        backend: Backend,
        settings: LeadershipSettings,
        *,
        pulse: Callable[[], None] = lambda: None,
        election: el.ElectionConfig | None = None,
    ) -> None:
        """`pulse` is called as the master's loop goes round; `election` is its owner's by default."""
        self._backend = backend
        self._settings = replace(
            settings,
            ticked=self._turned,
            acting=self._acting,
            fenced=lambda: self._tell(el.WasFenced()),
            died=self._died,
        )
        self._owner = settings.owner
        self._clock = settings.clock
        self._pulse = pulse
        self._election = el.Election(election or el.ElectionConfig(owner=settings.owner))
        self._lock = threading.Lock()  #: of the election machine
        self._inbox: deque[el.ElectionEvent] = deque()
        self._wake_lease = threading.Event()
        self._orders: deque[el.ElectionCommand] = deque()
        self._wake = threading.Event()
        self._term: Term | None = None
        self._stopping = False
        self._killed = False
        self._looped = False  #: since the election was told last
        self._bare = False  #: the store has no id, which was said
        self._crash: BaseException | None = None
        self.leading = threading.Event()  #: set while clients are served

    def run(self) -> None:
        """Until stopped. Raises the error that ended it: the process should exit and be started again."""
        self._broker = self._backend.broker(self._broker_says)
        lease = threading.Thread(target=self._guard_lease, name="mrq-lease", daemon=True)
        lease.start()
        try:
            while not self._stopping and self._crash is None:
                self._wake.wait(_ROUND_S)
                self._wake.clear()
                if self._term is None:
                    self._turned()
                    self._broker.tick()
                while self._orders:
                    self._carry_out(self._orders.popleft())
        finally:
            self._drop()
            if not self._killed:
                self._tell(el.ResignRequested())
            lease.join()
            self._broker.close()
        if self._crash is not None:
            raise self._crash

    def stop(self) -> None:
        """Let go of the lease, so that another takes over at once, and end. From any thread."""
        self._stopping = True
        self._wake.set()

    def stop_soon(self) -> None:
        """As `stop`, within half a second: for a signal's handler, which may not take a lock."""
        self._stopping = True

    def kill(self) -> None:
        """End without letting go of anything, as kill -9 does: what follows is then the lease's to show."""
        self._killed = True
        self.stop()

    # The lease, on its own thread.

    def _guard_lease(self) -> None:
        """Without this thread a master neither leads nor stands by: it ends, by what ended the thread."""
        try:
            self._keep_lease()
        except BaseException as exc:
            self._died(exc)
            raise

    def _keep_lease(self) -> None:
        calls: deque[_Call] = deque()
        while not self._killed:
            while calls:
                self._inbox.append(self._ask(calls.popleft()))
            if not self._inbox:
                due = self._election.next_tick() - self._clock.monotonic()
                self._wake_lease.wait(max(0.0, min(due, _ROUND_S)))
            self._wake_lease.clear()
            for command in self._decide():
                match command:
                    case el.ViewLease() | el.TakeLease() | el.RenewLease():
                        calls.append(command)
                    case el.ReleaseLease(epoch=epoch):
                        with contextlib.suppress(OperatorError):
                            self._backend.lease.release(self._owner, epoch)
                    case _:
                        self._orders.append(command)
                        self._wake.set()
            if self._election.standing is MasterStanding.STOPPED:
                return

    def _decide(self) -> list[el.ElectionCommand]:
        """All that has come in, then the time."""
        now, made = self._clock.monotonic(), list[el.ElectionCommand]()
        with self._lock:
            if self._looped:
                self._looped = False
                made += self._election.handle(el.LoopTicked(), now)
            while self._inbox:
                made += self._election.handle(self._inbox.popleft(), now)
            return [*made, *self._election.handle(el.Ticked(), now)]

    def _ask(self, command: _Call) -> el.ElectionEvent:
        """Ask the store."""
        lease, owner, call = self._backend.lease, self._owner, command.call
        try:
            match command:
                case el.ViewLease():
                    store_id = self._backend.store_id()
                    self._note_bare(not store_id and self._term is None)
                    return el.LeaseViewed(call=call, view=lease.view(), store_id=store_id)
                case el.TakeLease(epoch_above=above, seconds=seconds):
                    return el.LeaseTaken(call=call, view=lease.take(owner, above, seconds))
                case el.RenewLease(epoch=epoch, seconds=seconds):
                    return el.LeaseRenewed(call=call, kept=lease.renew(owner, epoch, seconds))
        except OperatorError:
            return el.LeaseCallFailed(call=call)

    def _note_bare(self, bare: bool) -> None:
        """Say once that nobody but a leader of before can lead over this store."""
        if bare and not self._bare:
            _LOG.warning(
                "the store isn't initialised (any more), so this master waits: a master that led over it "
                "before brings its data back. If there is none left: `python -m mrq.master --init`"
            )
        self._bare = bare

    def _tell(self, event: el.ElectionEvent) -> None:
        self._inbox.append(event)
        self._wake_lease.set()

    def _acting(self) -> bool:
        with self._lock:
            return self._election.acting(self._clock.monotonic())

    def _turned(self) -> None:
        """The loop of whatever this master is has gone round once more."""
        self._looped = True
        self._pulse()

    # Terms, on the main thread.

    def _carry_out(self, order: el.ElectionCommand) -> None:
        match order:
            case el.Lead(epoch=epoch, fresh=fresh):
                if not fresh and self._term is not None:
                    self._term.leadership.lead_again(epoch)
                    _LOG.info("leading on, epoch %d", epoch, extra={"epoch": epoch})
                else:
                    self._drop()
                    self._lead(epoch)
            case el.Pause():
                _LOG.warning("the lease can't be renewed: saying nothing until it is")
            case el.StandDown(reason=reason):
                self._drop()
                _LOG.info("standing by: %s", reason)
            case _:
                pass

    def _lead(self, epoch: int) -> None:
        began = self._clock.monotonic()
        try:
            self._term = Term(self._backend, self._broker, self._settings, epoch=epoch)
            self._term.start()
        except OperatorError as exc:
            _LOG.warning("couldn't take over: %s", exc, extra={"epoch": epoch})
            self._drop()
            if isinstance(exc, Overtaken):
                self._tell(el.EpochSeen(epoch=exc.epoch))  # the next one is above it
            self._tell(el.WasFenced())  # lets go of the lease; whoever can reach the store takes it
            return
        self.leading.set()
        took_s = self._clock.monotonic() - began
        _LOG.info("leading, epoch %d, after %.2f s", epoch, took_s, extra={"epoch": epoch})

    def _drop(self) -> None:
        self.leading.clear()
        if self._term is not None:
            self._term.stop()
            self._term = None

    def _died(self, crash: BaseException) -> None:
        self._crash = self._crash or crash
        self._wake.set()

    def _broker_says(self, trouble: str | None) -> None:
        """What keeps the broker from taking messages; None once it takes them again. From its threads."""
        _LOG.warning(trouble) if trouble else _LOG.info("the broker takes messages again")
        term = self._term
        if term is not None:
            term.broker_says(trouble or "")
