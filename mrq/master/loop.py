"""The master's loop: events in, decisions by `core.machine`, one persist, then publishes.

One thread owns the machine. Adapters put events into the inbox from theirs; slow work (the commit) runs
on a thread of its own and comes back as an event. For each wake-up the loop takes all that is there,
lets the machine decide, writes one batch a job to the store under the job's fence, and only then lets
anything out: an order or a message that the store doesn't know of could be lost with the leader. Where the
store or the broker is away the loop goes on deciding, and sends when they are back (`master.outbox`).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.backoff import Retry
from mrq.core.info import JobInfo
from mrq.core.machine import Machine
from mrq.core.model import JobSpec, JobState
from mrq.core.orders import Order
from mrq.core.store_api import Fence, WriteAnswer
from mrq.errors import InternalError, MrqError, OperatorError
from mrq.master.outbox import (
    AGAIN_S,
    SEND_AGAIN,
    Fenced,
    ForgetJob,
    LedJob,
    Lost,
    Outbox,
    Publish,
    Said,
    Signal,
)
from mrq.ports import Broker, Clock, LeaderState, LeaderStore

if TYPE_CHECKING:
    from mrq.master.leadership import Leadership

T = TypeVar("T")

_LOG: Final = logging.getLogger(__name__)

#: The loop looks at the clock at least this often, whatever the machine says.
_WAIT_S_MAX: Final = 1.0
#: So often at the fences.
_LOOK_S: Final = 1.0


class Master:
    """The leader of one engine or cluster. Make it, give `sink` to the adapters, `start` it, `stop` it.

    It is made for one leadership, which it asks and tells on its own thread, with the store's `state` for a
    store that loses its data. It ends by `stop`, or by itself when a later leader has fenced it.
    """

    def __init__(
        self,
        *,
        machine: Machine,
        out: Outbox,
        state: LeaderState,
        leadership: Leadership,
        clock: Clock,
    ) -> None:
        self._machine = machine
        self._clock = clock
        self._leadership = leadership
        self._store: LeaderStore
        self._broker: Broker
        self._state = state
        self._out = out
        self._look_at = 0.0  #: at the fences
        self._send_at = 0.0  #: not before: something was away
        self._retry = Retry(SEND_AGAIN)
        self._away = ""  #: what was said of it
        self._epoch = out.epoch  #: to lead under; the outbox takes it over when it can
        self._lost = False  #: the view is to be written back
        self._inbox: deque[object] = deque()
        self._wake = threading.Event()
        self._lock = threading.Lock()  #: held while the machine is touched
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._commits: list[threading.Thread] = []
        #: Set when the loop died of a bug; whoever waits for a job raises it.
        self.crash: BaseException | None = None

    def start(
        self, store: LeaderStore, broker: Broker, first: Callable[[Master], None] | None = None
    ) -> None:
        """Run the loop on a thread of its own, after `first` has put in what must be handled first.

        Raises OperatorError where the store is away, or another leads already."""
        self._store, self._broker = store, broker
        if store.lead(self._out.fence()) is WriteAnswer.FENCED:
            raise OperatorError("another master leads under a later epoch")
        if first is not None:
            first(self)
        self._thread = threading.Thread(target=self._run, name="mrq-master", daemon=True)
        self._thread.start()

    def sink(self, event: object) -> None:
        """Take an event, from any thread."""
        self._inbox.append(event)
        self._wake.set()

    def submit(
        self, spec: JobSpec, code: bytes, events: Sequence[e.Event] = (), *, epoch: int | None = None
    ) -> None:
        """Take a job, and what is already known of it; the store has it then. `epoch` is for a job that
        another engine had: a later one than that one's. Raises OperatorError, and InternalError where the
        store refuses it or the loop has died."""
        fence = self._out.fence()
        held = LedJob(spec, code, fence if epoch is None else replace(fence, epoch=epoch))
        answer = self._store.begin(spec, code, held.fence)
        if answer in (WriteAnswer.FENCED, WriteAnswer.NO_STORE):
            raise OperatorError(f"job {spec.job} can't be taken now ({answer.value}); submit it again")
        if answer not in (WriteAnswer.WRITTEN, WriteAnswer.ALREADY):
            raise InternalError(f"the store refused job {spec.job}: {answer.value}")
        if (
            answer is WriteAnswer.ALREADY
        ):  # the answer was lost, and it is asked again: batches go on counting
            held.fence = self._store.fence(spec.job) or held.fence
        self._out.jobs[spec.job] = held
        if self.crash is not None:  # `fail` sets it before it looks for jobs, so one of us sees the other
            raise InternalError(f"this engine died ({self.crash!r}); make another")
        for event in events or (e.JobSubmitted(spec=spec),):
            self.sink(event)

    def fence(self) -> Fence:
        """With which this leader takes over a job."""
        return self._out.fence()

    def adopt(self, spec: JobSpec, fence: Fence, code: bytes) -> None:
        """Hold a job that was taken over: the machine has it, or gets its submission. Before `start`. The
        code is for a store that lost it."""
        self._out.jobs[spec.job] = LedJob(spec, code, fence)

    def spec(self, job: str) -> JobSpec | None:
        """The spec of a job that is held, from any thread."""
        found = self._out.jobs.get(job)
        return None if found is None else found.spec

    def code(self, job: str) -> bytes:
        """The bundle of a job that is held, b"" where it isn't known; from any thread."""
        found = self._out.jobs.get(job)
        return b"" if found is None else found.code

    def look(self, fn: Callable[[Machine], T]) -> T:
        """What a function says of the machine while nothing changes it, from any thread."""
        with self._lock:
            return fn(self._machine)

    def later(self, fn: Callable[[], None]) -> None:
        """Call a function on the loop's thread, between steps. From any thread."""
        self.sink(fn)

    def soon(self, fn: Callable[[], None]) -> None:
        """Call a function on the loop's thread: at once where this is it, else `later`."""
        if threading.current_thread() is self._thread:
            fn()
        else:
            self.later(fn)

    def settle(self, event: e.Event) -> None:
        """Hand in an event, and wait until what followed from it is persisted. From any other thread. Raises
        OperatorError when this master leads no more."""
        self.sink(event)
        self.settled()

    def settled(self) -> None:
        """Wait until what followed from all events so far is persisted; as `settle`."""
        signal = Signal(threading.Event())
        self.sink(signal)
        while not signal.event.wait(_WAIT_S_MAX):
            if self.crash is not None or self._stopping:
                raise OperatorError("this master leads no more; ask again")

    def order(self, worker: str, boot: str, order: Order) -> None:
        """Give a worker an order, from any thread."""
        self.sink(c.GiveOrder(worker=worker, boot=boot, order=order))

    def lead_again(self, epoch: int) -> None:
        """Go on under a (later) epoch, nobody having led in between. From any thread."""

        def take() -> None:
            self._epoch = epoch
            self._look_at = self._send_at = 0.0

        self.later(take)

    def info(self, job: str) -> JobInfo | None:
        """A job as people see it, from any thread."""
        with self._lock:
            return self._machine.job(job)

    def halt(self) -> None:
        """Take no further step; the one under way may end. For `stop` to wait for."""
        self._stopping = True
        self._wake.set()

    def stop(self) -> None:
        """End the loop; waits for a commit under way."""
        self.halt()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        for thread in self._commits:
            thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._wait()
                self._step()
        except BaseException as exc:
            self.fail(exc)
            raise

    def fail(self, crash: BaseException) -> None:
        """End every job by this error, from any thread: a bug must not look like a hang."""
        self.crash = crash
        self.halt()
        said = str(crash) if isinstance(crash, MrqError) else f"a bug in mrq: {crash!r}"
        for thread in list(self._commits):
            if thread is not threading.current_thread():
                thread.join()  # it moves files that `ended` lets go of
        for held in list(self._out.jobs.values()):
            self._leadership.ended(held.spec, JobState.FAILED, said)

    def _wait(self) -> None:
        if not self._inbox:
            now = self._clock.monotonic()
            due = min(self._machine.next_tick(now) - now, _WAIT_S_MAX)
            if not self._out.empty:
                due = min(due, max(self._send_at - now, 0.0))
            if due > 0:
                self._wake.wait(due)
        self._wake.clear()

    def _step(self) -> None:
        """Everything that is in the inbox, then a tick: decide, persist, publish."""
        later: list[Callable[[], None]] = []
        with self._lock:
            now = self._clock.monotonic()
            while self._inbox:
                event = self._inbox.popleft()
                if isinstance(event, (c.GiveOrder, Signal)):
                    self._out.add([event])
                elif callable(event):
                    later.append(event)
                else:
                    made = self._machine.handle(event, now, more=True)  # type: ignore[arg-type]
                    self._note(event, made)
                    self._out.add(made)
            self._out.add(self._machine.handle(e.Ticked(), now))
        self._send(now)
        for fn in later:
            fn()
        self._leadership.stepped()

    def _note(self, event: object, made: Sequence[c.Command]) -> None:
        """Tell the leadership of a completion that the machine accepted, before anything goes out."""
        if not isinstance(event, e.AttemptReported):
            return
        for command in made:
            if isinstance(command, c.WriteTask) and command.winner == event.attempt:
                self._leadership.completed(self._out.jobs[event.attempt.task.job].spec, event)

    # What goes out.

    def _send(self, now: float) -> None:
        """All that was decided. What is away is tried again, what is lost is restored."""
        due = now >= self._look_at
        if now < self._send_at or (self._out.empty and not due) or not self._leadership.acting():
            if not self._out.empty:
                self._send_at = max(self._send_at, now + AGAIN_S)
            return
        try:
            self._catch_up(due, now)
            self._out.send(self._store, self._state, self._leadership.acting, self._do)
            if not self._out.empty:
                self._send_at = now + AGAIN_S  # the lease ran out on the way
            self._retry.worked()
            if self._away:
                self._away = ""
                _LOG.info("the store and the broker answer again", extra={"epoch": self._epoch})
        except OperatorError as exc:
            self._send_at = now + self._retry.failed()
            if not self._away and not self._stopping:
                self._away = str(exc)
                _LOG.warning("%s; trying again", exc, extra={"epoch": self._epoch})
        except Lost:
            self._lost, self._send_at = True, now + self._retry.failed()
        except Fenced:
            self._stopping = True
            self._leadership.was_fenced()

    def _catch_up(self, due: bool, now: float) -> None:
        """Look whether the store still is what it was, and see to it."""
        if not self._lost:
            if self._epoch != self._out.epoch:
                self._out.lead_again(self._store, self._epoch)
            elif due and not self._out.asking:
                self._lost = self._out.behind(self._store)
                self._look_at = now + _LOOK_S
        if self._lost:
            self._restore()

    def _restore(self) -> None:
        """Write the view into a store that lost some of it."""
        _, incarnation, _ = self._state.identity()
        _LOG.warning(
            "the store has lost what was written to it: writing it back; what ran begins again",
            extra={"epoch": self._epoch},
        )
        with self._lock:
            made = self._machine.handle(e.StoreLost(), self._clock.monotonic())
        self._out.epoch = self._epoch
        self._out.restore(made, max(incarnation, self._out.incarnation) + 1)
        self._lost = False

    def _do(self, said: Said) -> None:
        """What follows once all before it is persisted."""
        match said:
            case Publish():
                for tasks in said.messages:
                    self._broker.publish(tasks, together=True)
            case c.PlanStage():
                self._leadership.finisher.plan(said)
            case c.StartCommit():
                self._start_commit(said)
            case c.EndJob():
                held = self._out.jobs.get(said.job)
                if held is not None:
                    self._leadership.ended(held.spec, said.state, said.error)
            case c.DialWorker():
                self._leadership.dial(said)
            case ForgetJob():
                self._store.forget(said.job)
            case Signal():
                said.event.set()
            case _:
                pass

    def forget(self, name: str, *, drop_files: bool) -> None:
        """Drop an ended job from machine and store; on the loop's thread. A dead loop forgets nothing.

        With `drop_files` workers are told to delete what they have of it (those of a job that is done were).
        """
        if self.crash is not None or name not in self._out.jobs:
            return
        with self._lock:
            made = self._machine.handle(e.ForgetRequested(job=name), self._clock.monotonic())
        self._out.add(x for x in made if drop_files or not isinstance(x, c.GiveAll))
        del self._out.jobs[name]
        self._wake.set()
        if self._out.asking:  # for one of its batches, perhaps
            self._out.add([ForgetJob(name)])
            return
        try:  # at once: who asks for the job from now on is told that it is over
            self._store.forget(name)
        except OperatorError:
            self._out.add([ForgetJob(name)])

    def _start_commit(self, command: c.StartCommit) -> None:
        held = self._out.jobs.get(command.job)
        if held is None:
            return
        spec = held.spec

        def work() -> None:
            try:
                self._leadership.commit(spec, command)
            except MrqError as exc:
                self.sink(e.CommitEnded(job=command.job, error=str(exc)))
            except BaseException as exc:
                self.sink(e.CommitEnded(job=command.job, error=f"a bug in mrq: {exc!r}"))
                raise
            else:
                self.sink(e.CommitEnded(job=command.job))

        thread = threading.Thread(target=work, name=f"mrq-commit-{command.job}")
        self._commits = [*(other for other in self._commits if other.is_alive()), thread]
        thread.start()
