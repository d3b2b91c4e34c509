"""The worker's loop: drives `core.agent.Agent` and does what it says.

One thread owns the machine, the executors and everything else here. Adapters, from their threads, put
events into `sink`, which only enqueues and wakes the loop. A wake-up takes all that is there: what executors
said, what adapters said, then a tick; each event's commands are carried out before the next event, and the
answers of the store come back in as events: the loop waits for nothing but its selector and its own disk.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mrq.core import agent_words as a
from mrq.core.agent import Agent
from mrq.core.model import Outcome
from mrq.core.orders import DropJob, DropMaps, Kill, UploadLog
from mrq.core.refs import Kind
from mrq.errors import InternalError, MrqError
from mrq.ports import Blobs, Broker, Clock, WorkerStore
from mrq.worker import attempt_logs
from mrq.worker.calls import CallerDied, Calls, JobFound, ThreadedCalls
from mrq.worker.code_cache import CodeCache
from mrq.worker.debug import DebugSwitch
from mrq.worker.fetch.messages import Fetched, FetchFailed, FetchProgressed
from mrq.worker.job_files import JobFiles
from mrq.worker.launch_queue import LaunchQueue
from mrq.worker.pool import Pool

if TYPE_CHECKING:
    from mrq.worker.fetch.data_plane import DataPlane
    from mrq.worker.runtime import Service

#: The loop looks at the clock and at the pages at least this often.
_WAIT_S_MAX: Final = 0.5
#: Blank executors are started anew this long after the last change, not in a run's last moments.
_REFILL_AFTER_S: Final = 0.5
#: What `stop` waits beyond its deadline before it kills by itself.
_STOP_SLACK_S: Final = 0.25
#: How long a log stays that was uploaded because somebody asked for it.
_LOG_KEEP_S: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class _Post:
    work: Callable[[], None]


#: Events of the inbox that the loop itself handles.
_OURS: Final = (_Post, JobFound, FetchProgressed, Fetched, FetchFailed, CallerDied)


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """What connects a worker with its cluster; closed by whoever made them, the broker by the loop."""

    broker: Broker
    store: WorkerStore
    threaded: bool = True  #: the store may be slow or away; False: it answers at once, on the loop's thread
    #: For logs, on order; where there are blobs, those of attempts that went well stay while their job runs.
    blobs: Blobs | None = None
    data_plane: DataPlane | None = None  #: None: reduces read map outputs where they lie


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Where a worker keeps its files."""

    root: str  #: the folder of all temporary data (`mrq.settings.variables`)
    code_root: str | None = None  #: of its own for jobs' code, removed at the end; None: in `root`
    #: Moves a folder out of the way and says where to: it is then deleted in the background. None: at once.
    put_aside: Callable[[str], str | None] | None = None
    quota: str = ""  #: the path of the page of the disk's quota (`worker.quota`), "" without one
    #: False: a job's folder is its engine's to make, and a job without one is over.
    makes_folders: bool = True


class AgentLoop:
    """One worker. Make it, give `sink` to the adapters, `run` it on a thread of its own, `stop` it.

    `crashed` is called, on the loop's thread, if the loop dies of a bug: whoever waits for its work must be
    told.
    """

    def __init__(
        self,
        *,
        config: a.AgentConfig,
        links: Links,
        storage: Storage,
        clock: Clock,
        pool: Pool | None = None,
        watcher: Service | None = None,
        debug: DebugSwitch | None = None,
        crashed: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._machine, self._config, self._links = Agent(config), config, links
        self._calls = ThreadedCalls(links.store) if links.threaded else Calls(links.store)
        self._clock = clock
        self._pool = pool if pool is not None else Pool()
        self._codes = CodeCache(storage.code_root or f"{storage.root}/code", dropped=self._pool.drop)
        self._put_aside = storage.put_aside
        self._files = JobFiles(
            root=storage.root,
            store=links.store,
            codes=self._codes,
            remove=None if storage.put_aside is None else self._remove,
            makes=storage.makes_folders,
        )
        self._pool.limit = config.slots.total
        self._outputs: set[str] = set()  #: jobs whose map outputs may be here, for others to fetch
        self._watcher = watcher
        self._crashed = crashed
        self._refill_at: float | None = None

        self._inbox: deque[object] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._awake = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_fd, selectors.EVENT_READ, self._woken)
        self._attempts = self._pool.attempts(
            loop=self,
            slots=config.slots,
            selector=self._selector,
            now=clock.monotonic,
            keep_logs=links.blobs is not None,
            quota=storage.quota,
        )
        self._launches = LaunchQueue(
            files=self._files,
            calls=self._calls,
            attempts=self._attempts,
            data_plane=links.data_plane,
            debug=debug,
            loop=self,
        )
        self._attach()
        self._watch_at = 0.0
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._lock = threading.Lock()  #: of the wake-up's descriptor, and of the first and last moment
        #: Set when the loop died of a bug.
        self.crash: BaseException | None = None

    def _attach(self) -> None:
        """Have what the store answers and the data plane says come to the loop."""
        # Answers that are given on the loop's own thread needn't wake it.
        self._calls.attach(self.sink if self._links.threaded else self._inbox.append)
        if self._links.data_plane is not None:
            notify = self._watcher.serves if self._watcher is not None else lambda trouble: None
            self._links.data_plane.attach(self._selector, self.sink, notify)

    def sink(self, event: object) -> None:
        """Take an event of `core.agent`, from any thread; never blocks."""
        self._inbox.append(event)
        if not self._awake:
            self._awake = True
            with self._lock:
                if self._wake_fd >= 0:
                    os.eventfd_write(self._wake_fd, 1)

    def post(self, work: Callable[[], None]) -> None:
        """Do something on the loop's thread. From any thread."""
        self.sink(_Post(work))

    def nudge(self) -> None:
        """Orders are waiting in the store: beat now. From any thread."""
        self.sink(a.Nudged())

    def forget(self, job: str) -> None:
        """Let go of a job that is over; its files stay, and its executors for the next job with its code.
        From any thread."""
        self.post(lambda: self._let_go(job, self._files.forget))

    def run(self) -> None:
        """Work until stopped or drained. Everything is cleaned up when this returns."""
        with self._lock:
            if self._over.is_set():  # stopped before it began
                return
            self._thread = threading.current_thread()
        try:
            self._decide((a.Ticked(),))
            while not self._machine.left:
                self._wait()
                self._step()
                if self._watcher is not None:
                    self._watcher.ticked()
        except BaseException as exc:
            self.crash = exc
            if self._crashed is not None:
                self._crashed(exc)
            raise
        finally:
            self._close()

    def drain(self, deadline_s: float | None = None) -> None:
        """Take nothing more, finish what runs, then end; after `deadline_s` hand it back. From any thread."""
        deadline = None if deadline_s is None else self._clock.monotonic() + deadline_s
        self.sink(a.LeaveRequested(deadline=deadline))

    def stop(self, deadline_s: float = 1.0) -> None:
        """Kill every child, hand everything back and clean up, in about `deadline_s`. From any thread;
        the children are gone when it returns."""
        self.sink(a.LeaveAtOnce(deadline=self._clock.monotonic() + deadline_s))
        with self._lock:
            never_ran = self._thread is None
            if never_ran:
                self._over.set()
        if never_ran:
            self._close()
        elif self._thread is not threading.current_thread() and not self._over.wait(
            deadline_s + _STOP_SLACK_S
        ):
            self._pool.kill_all()  # the loop is held up, by a disk say: at least nothing runs on

    # What `attempts` and `launch_queue` call, on the loop's thread.

    def began(self, token: str) -> None:
        """User code has begun."""
        self._inbox.append(a.AttemptStarted(token=token))

    def ended(self, token: str, outcome: Outcome) -> None:
        """An attempt that was started is over."""
        self._launches.over(token)
        self._inbox.append(a.AttemptEnded(token=token, outcome=outcome))

    def progressed(self, event: a.AttemptProgressed) -> None:
        """How far an attempt is."""
        self._inbox.append(event)

    def mend(self, job: str) -> str | None:
        """Make a job's folders again; why that can't be, which isn't a job's affair: this worker's then."""
        why = self._files.mend(job)
        if why is not None and self._watcher is not None:
            self._watcher.unfit(why)
        return why

    # The loop.

    def _wait(self) -> None:
        now = self._clock.monotonic()
        due = min(self._machine.next_tick(), self._watch_at, now + _WAIT_S_MAX)
        timeout = 0.0 if self._inbox else max(0.0, due - now)
        for key, _ in self._selector.select(timeout):
            if key.fd in self._selector.get_map():  # an earlier callback may have taken it out
                key.data()

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)

    def _step(self) -> None:
        # Cleared before the inbox is read: what comes later wakes the loop again.
        self._awake = False
        self._drain_inbox()
        now = self._clock.monotonic()
        if now >= min(self._watch_at, self._machine.next_tick()):
            self._watch_at = min(self._attempts.watch(now), now + _WAIT_S_MAX)
            self._drain_inbox()
        if self._links.data_plane is not None:
            self._links.data_plane.watch(now)
        self._decide((a.Ticked(),))
        if self._machine.draining:
            self._launches.hand_back()
        self._drain_inbox()
        self._attempts.flush()
        self._refill(now)

    def _drain_inbox(self) -> None:
        """Everything that waits; the machine's own events that stand together go to it together."""
        while self._inbox:
            together: list[a.AgentEvent] = []
            while self._inbox and not isinstance(self._inbox[0], _OURS):
                together.append(self._inbox.popleft())  # type: ignore[arg-type]
            if together:
                self._decide(together)
            else:
                self._hear(self._inbox.popleft())

    def _decide(self, events: Sequence[a.AgentEvent]) -> None:
        if self._watcher is not None:
            for event in events:
                if isinstance(event, a.BeatAnswered):
                    self._watcher.heard(event.reply)
        self._perform(self._machine.handle_all(events, self._clock.monotonic()))

    def _hear(self, event: object) -> None:
        """What isn't for the machine."""
        match event:
            case _Post(work=work):
                work()
            case JobFound():
                self._launches.found(event)
            case FetchProgressed() | Fetched() | FetchFailed():
                self._launches.heard(event)
            case CallerDied(error=error):
                raise InternalError(f"a thread of the agent died: {error!r}") from error

    def _perform(self, commands: Sequence[a.AgentCommand]) -> None:
        """Carry out, in order; claims and reports that stand together go in one call."""
        claims: list[a.Claim] = []
        reports: list[a.Report] = []
        for command in commands:
            if claims and not isinstance(command, a.Claim):
                self._calls.claim([claim.request for claim in claims])
                claims = []
            if reports and not isinstance(command, a.Report):
                self._calls.report([report.report for report in reports])
                reports = []
            match command:
                case a.Claim():
                    claims.append(command)
                case a.Report():
                    reports.append(command)
                case a.Start(message=message):
                    self._launches.start(command)
                    if message.task.kind is Kind.MAP:
                        self._serve(message.task.job, True)
                case Kill(token=token):
                    self._launches.kill(token)
                case a.Ack(delivery=delivery):
                    self._links.broker.ack(delivery)
                case a.GiveBack(delivery=delivery):
                    self._links.broker.give_back(delivery)
                case a.SetCredit(kind=kind, credit=credit):
                    self._links.broker.set_credit(kind, credit)
                case a.SendBeat(beat=beat):
                    self._calls.beat(beat)
                case DropJob(job=job):
                    self._let_go(job, self._files.drop)
                case DropMaps(job=job, stage=stage):
                    self._files.drop_maps(job, stage)
                case UploadLog(job=job, log=log):
                    self._upload(job, log)
                case a.Leave():
                    self._calls.leave(self._config.worker, self._config.boot)
        if claims:
            self._calls.claim([claim.request for claim in claims])
        if reports:
            self._calls.report([report.report for report in reports])

    def _let_go(self, job: str, forget: Callable[[str], list[str]]) -> None:
        """Of a job that is over; `forget` gives the codes that nobody needs now."""
        self._launches.forget(job)
        self._attempts.forget(job)
        for code in forget(job):
            self._pool.release(code)
        self._serve(job, False)

    def _serve(self, job: str, serving: bool) -> None:
        """Note a job whose map outputs others may want; the machine hears of the first and the last."""
        before = bool(self._outputs)
        if serving:
            self._outputs.add(job)
        else:
            self._outputs.discard(job)
        if self._links.data_plane is not None and before != bool(self._outputs):
            self._inbox.append(a.ServingChanged(serving=bool(self._outputs)))

    def _remove(self, folder: str) -> None:
        assert self._put_aside is not None
        aside = self._put_aside(folder)
        if aside is not None:
            self._calls.in_background(lambda: shutil.rmtree(aside, ignore_errors=True))

    def _upload(self, job: str, name: str) -> None:
        """Put an attempt's log where whoever asks can read it, and say so."""
        path, store, blobs = self._files.log_path(job, name), self._links.store, self._links.blobs
        if path is None or blobs is None:
            return

        def upload() -> None:
            data = attempt_logs.read(path)
            with contextlib.suppress(MrqError):  # the store is away: whoever waits for it asks again
                store.log(job, name, blobs.put(data, keep_s=_LOG_KEEP_S) if data is not None else "")

        self._calls.in_background(upload)

    def _refill(self, now: float) -> None:
        """Replace executors that ended, once it is calm; while nothing runs also those that stay with a code
        that no job may ask for again."""
        wanted = self._config.slots.total
        if not len(self._attempts):
            wanted += min(len(self._pool) - self._pool.blank, self._config.slots.total)
        if self._machine.draining or len(self._pool) >= wanted:
            self._refill_at = None
        elif self._refill_at is None:
            self._refill_at = now + _REFILL_AFTER_S
        elif now >= self._refill_at:
            self._refill_at = None
            self._pool.prewarm(wanted)

    def _close(self) -> None:
        self._attempts.close()
        self._pool.close()
        self._calls.close()
        self._codes.close()
        with contextlib.suppress(MrqError):
            self._links.broker.close()
        with self._lock:
            self._selector.close()
            if self._wake_fd >= 0:
                os.close(self._wake_fd)
                self._wake_fd = -1
        self._over.set()
