"""A leadership: what the predecessor left is taken over, jobs are taken, run, committed and told of.

The order of taking over matters. The place from which events are followed is noted before anything is
loaded, so what happens meanwhile comes again as an event (and is recognised). Fences are taken before a job
is loaded, so nobody writes after the load. Workers get answers, and clients are served, only when all is
there.

It has one thread of its own, the loop's, and those of its background work. Who serves clients and watches
workers on a cluster is beside it, in `master.term`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from mrq.commit import owner
from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.ending import JobEnd
from mrq.core.machine import Machine
from mrq.core.machine_config import MachineConfig
from mrq.core.model import JobSpec, JobState, Purpose
from mrq.core.store_api import Batch, StoredJob
from mrq.errors import CorruptFileError, MrqError, OperatorError, UsageError
from mrq.master.backend import Servers
from mrq.master.background import Background
from mrq.master.disk_probe import DiskProbe, Probe
from mrq.master.finished_jobs import FinishedJobs
from mrq.master.finishing import JobFinisher
from mrq.master.job_events import JobEvents
from mrq.master.known_jobs import KnownJobs
from mrq.master.loop import Master
from mrq.master.outbox import Outbox, found_in
from mrq.master.shared import SharedRoot
from mrq.master.submissions import Submissions
from mrq.master.views import Views
from mrq.ports import Broker, Clock

if TYPE_CHECKING:
    from mrq.master.requests import RequestHandler

_LOG: Final = logging.getLogger(__name__)

#: Ends that are told again after a takeover, the latest.
_TOLD_AGAIN: Final = 200


#: Dials a worker back, some seconds long; what came of it.
Dial = Callable[[c.DialWorker], e.Event]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadershipSettings:
    """What a leadership is made with."""

    owner: str  #: one for each life of a master's process
    shared_root: str
    keep_s: float
    config: MachineConfig
    clock: Clock = field(default_factory=Clock)
    dial: Dial | None = None  #: None: workers are taken at their word
    probe: Probe | None = None  #: None: workers are taken to share every disk
    ticked: Callable[[], None] = lambda: None  #: the loop has gone round once more
    acting: Callable[[], bool] = lambda: True  #: may this master write and publish at this moment?
    fenced: Callable[[], None] = lambda: None  #: a later leader is there
    died: Callable[[BaseException], None] = lambda crash: None
    background: int = 4  #: threads for what touches disks; 0: it is done on the loop's
    cluster_claims: bool = True  #: a claim on OUT is any later leader's too; False: this process's alone
    keeps_failed: bool = True  #: failed jobs stay with the leader for `keep_s`; False: with the store alone


class Overtaken(OperatorError):
    """A later epoch than this one is in the store: the lease was of a store that lost it."""

    def __init__(self, message: str, *, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch


class Leadership:
    """Made for one epoch; `start` takes over, `halt` drops the view, and `close` ends it. Not started twice.

    `events` is where jobs' ends, notes and progress are told; `dial` begins to dial a worker back; `ticked`
    is called on the loop's thread between its steps.
    """

    def __init__(
        self,
        servers: Servers,
        broker: Broker,
        events: JobEvents,
        settings: LeadershipSettings,
        *,
        epoch: int,
        dial: Callable[[c.DialWorker], None] | None = None,
        ticked: Callable[[], None] = lambda: None,
    ) -> None:
        self.epoch = epoch
        self.stopping = threading.Event()
        self._servers = servers
        self._broker = broker
        self._events = events
        self._settings = settings
        self._dial = dial
        self._ticked = ticked
        self._epoch_s = settings.clock.time() - settings.clock.monotonic()
        #: Jobs that can't be gone on with, and whose OUT isn't let go of yet.
        self._given_up: set[str] = set()
        store_id = self._find_store()
        self.background = self.background_work(settings.background, "mrq-background")
        self.shared = SharedRoot(settings.shared_root)
        self._machine = Machine(settings.config, wall=self._epoch_s)
        self.master = self._loop(store_id)
        self.shares = DiskProbe(
            settings.probe,
            workers=lambda: self.master.look(lambda machine: machine.workers()),
            master=settings.owner,
            now=settings.clock.monotonic,
        )
        self.views = Views(
            master=self.master,
            now=settings.clock.monotonic,
            leader=f"{settings.owner} (epoch {epoch})",
            shares=self.shares,
        )
        self._archive = FinishedJobs(
            store=servers.state,
            keep_s=settings.keep_s,
            now=settings.clock.monotonic,
            epoch_s=self._epoch_s,
        )
        self.jobs = KnownJobs(self.master, self.views, self._archive, self.stopping)
        whole = owner.Cluster(store_id, self._goes_on, self._claim_of)
        self._serve_with(whole if settings.cluster_claims else None)
        self._worker_events = servers.events(self.master.sink)

    def _find_store(self) -> str:
        """The store's id. Raises UsageError for a store that was never initialised, Overtaken for one that a
        later epoch has led."""
        store_id, incarnation, _ = self._servers.state.identity()
        if not store_id:
            raise UsageError(
                "this cluster's store was never initialised: run `python -m mrq.master --init` once. If it "
                "was, its data is gone; only a master that still runs can bring it back"
            )
        self._incarnation, there = found_in(self._servers.store, incarnation)
        if there > self.epoch:
            raise Overtaken(f"epoch {there} came after {self.epoch}", epoch=there)
        return store_id

    def _loop(self, store_id: str) -> Master:
        settings = self._settings
        out = Outbox(
            self._machine,
            owner=settings.owner,
            epoch=self.epoch,
            incarnation=self._incarnation,
            store_id=store_id,
        )
        return Master(
            machine=self._machine,
            out=out,
            state=self._servers.state,
            leadership=self,
            clock=settings.clock,
        )

    def _serve_with(self, cluster: owner.Cluster | None) -> None:
        """Make those that take, finish and answer."""
        self.submits = Submissions(
            jobs=self.jobs,
            views=self.views,
            blobs=self._servers.blobs,
            shared=self.shared,
            shares=self.shares,
            cluster=cluster,
        )
        self.finisher = JobFinisher(
            master=self.master,
            submits=self.submits,
            events=self._events,
            background=self.background,
            cluster=cluster,
            shared=self.shared,
            jobs=self.jobs,
            keeps_failed=self._settings.keeps_failed,
        )

    @cached_property
    def requests(self) -> RequestHandler:
        """Who answers what is asked of this leader. Most engines of one job are asked nothing."""
        from mrq.master.requests import RequestHandler
        from mrq.master.task_logs import TaskLogs

        logs = TaskLogs(
            state=self._servers.state,
            views=self.views,
            archive=self._archive,
            master=self.master,
            stopping=self.stopping,
        )
        return RequestHandler(
            master=self.master,
            views=self.views,
            jobs=self.jobs,
            submits=self.submits,
            finisher=self.finisher,
            events=self._events,
            logs=logs,
            shared=self.shared,
        )

    def take_up(self, spec: JobSpec, code: bytes, events: Sequence[e.Event], epoch: int) -> None:
        """Go on with a job that an engine which is gone had, from what its log says (`events`). Raises
        OperatorError, InternalError."""
        self.finisher.resumed(spec.job)
        self.master.submit(spec, code, events, epoch=epoch)

    # Taking over.

    def start(self) -> None:
        """Take over, and run. Raises OperatorError, UsageError; `halt` and `close` then, all the same."""
        state, store, clock = self._servers.state, self._servers.store, self._settings.clock
        heard = state.workers()
        self._worker_events.note()
        store.lead(self.master.fence())
        self._machine.adopt_workers(heard, clock.monotonic())
        over: list[str] = []
        first: list[e.Event] = []
        recorded: list[e.Event] = []
        for job in state.jobs():
            self._settings.ticked()
            if state.state(job) in (JobState.DONE, JobState.CANCELLED):
                over.append(job)
                continue
            try:
                taken = self._fence_and_load(job)
                if taken is None:
                    continue
                stored, code = taken
                known = self._machine.adopt(stored, clock.monotonic())
            except CorruptFileError as exc:
                self._give_up(job, str(exc))
                continue
            self.master.adopt(stored.spec, self.master.fence(), code)
            if known:
                recorded += stored.recorded
            else:
                first.append(e.JobSubmitted(spec=stored.spec))
            if stored.state is JobState.FAILED:
                over.append(job)
        events = [e.Restored(), *recorded, *first]
        self._broker.attach(leader=self.master.sink)

        def hand_in(master: Master) -> None:
            for each in events:
                master.sink(each)

        self.master.start(store, self._broker, hand_in)
        self._worker_events.start()
        # The id stays as it is in the store: only a leader that has a view to write back knows better, and it
        # may have done so since this one looked.
        state.open(self._incarnation)
        self.background.do(lambda: self._remember(over))

    def _fence_and_load(self, job: str) -> tuple[StoredJob, bytes] | None:
        """A job, which nobody writes any more but this leader, and its code; None when it is gone."""
        state = self._servers.state
        stored = state.load(job)
        if stored is None:
            return None
        code = self._servers.blobs.get(stored.spec.code)
        if code is None:
            raise CorruptFileError(f"its code {stored.spec.code} isn't in the store any more")
        self._servers.store.begin(stored.spec, code, self.master.fence())
        loaded = state.load(job)
        return None if loaded is None else (loaded, code)

    def _give_up(self, job: str, why: str) -> None:
        """A job whose records can't be read: it alone fails, by that name, and what it staged goes. What is
        recorded of it stays for as long as that of others that are over."""
        known, stored = self._known_as(job)
        error = (
            f"job {known} can't be gone on with: {why}. Submit it anew: its inputs and OUT are as they were"
        )
        _LOG.error(error, extra={"job": known, "epoch": self.epoch})
        write = c.WriteJob(job=job, state=JobState.FAILED, error=error)
        store = self._servers.store
        store.write(Batch(job=job, fence=replace(self.master.fence(), seq=1), writes=(write,)))
        store.forget(job)
        if stored is not None:
            self._archive.give_up(replace(stored.spec, job=known), JobState.FAILED, error)
        self._given_up.add(known)
        self.background.do(lambda: self._let_go(known, stored, error))

    def _let_go(self, job: str, stored: StoredJob | None, error: str) -> None:
        """Let go of the OUT of a job that was given up, then tell whoever waits. A commit that was decided
        stays for whoever comes next."""
        try:
            if stored is not None:
                self.finisher.interrupt(stored.spec, keep=False)
        except MrqError as exc:
            _LOG.warning(f"what job {job} staged for its output is left: {exc}")
        self._given_up.discard(job)
        self._events.ended(_refused(job, error))

    def _give_up_showing(self, job: str, why: str) -> None:
        """A job that is over, and whose records can't be read. Its own leader may not have come to saying how
        long these are kept."""
        known, stored = self._known_as(job)
        error = f"job {known} is over, and can't be shown: {why}. What it wrote is as it was"
        _LOG.error(error, extra={"job": known, "epoch": self.epoch})
        self._servers.store.forget(job)
        if stored is not None and known == job:
            self._archive.give_up(stored.spec, stored.state, error)
        self._events.ended(_refused(known, error))

    def _known_as(self, job: str) -> tuple[str, StoredJob | None]:
        """Of a job of which not all can be read: the id by which it is known, and what can. An earlier mrq
        sampled keys in jobs of their own, with others' ids."""
        stored = None
        with contextlib.suppress(CorruptFileError):
            stored = self._servers.state.load(job)
        sampled = stored is not None and stored.spec.stages[-1].purpose is Purpose.SAMPLE
        return (job.removesuffix("-s") if sampled else job), stored

    def _remember(self, over: list[str]) -> None:
        """Jobs that are over: their rows, and their ends once more for whoever still waits."""
        for at, job in enumerate(over):
            if self.stopping.is_set():
                return
            try:
                stored = self._servers.state.load(job)
                found = self._archive.read(stored)
            except CorruptFileError as exc:
                self._give_up_showing(job, str(exc))
                continue
            if stored is None or found is None:
                continue
            spec, (machine, info) = stored.spec, found
            results = machine.results(spec.job)
            self._archive.add(info)
            if at >= len(over) - _TOLD_AGAIN:
                self.finisher.settle(spec, stored.state, stored.error, info, results)

    def known(self) -> set[str]:
        """Jobs of which something may still be wanted, by the ids that clients know. Raises OperatorError."""
        return self.submits.planned() | set(self._servers.state.jobs())

    def lead_again(self, epoch: int) -> None:
        """Nobody led while this leader was paused: go on under a (later) epoch."""
        self.epoch = epoch
        self.views.leader = f"{self._settings.owner} (epoch {epoch})"
        self.master.lead_again(epoch)

    def halt(self) -> None:
        """Begin to drop the view: take, say, write and publish nothing more. What others may go on with
        stays."""
        self.stopping.set()
        self._broker.attach(leader=None)
        self._worker_events.close()
        self.master.halt()

    def close(self) -> None:
        """After `halt`: close what is open."""
        self.shares.close()
        self.background.close()

    def background_work(self, threads: int, name: str) -> Background:
        """Threads of this leadership; whoever asks for them closes them."""
        return Background(threads, name=name, stopping=self.stopping, died=self._settings.died)

    # What the loop calls, on its thread.

    def completed(self, spec: JobSpec, event: e.AttemptReported) -> None:
        """A completion was accepted, which isn't persisted yet: count it for people."""
        self.views.completed(event)

    def commit(self, spec: JobSpec, command: c.StartCommit) -> None:
        """Publish OUT, on a thread of its own; see `JobFinisher`. Raises MrqError when it can't."""
        self._log_job(spec, "committing")
        self.finisher.commit(spec, command)

    def ended(self, spec: JobSpec, state: JobState, error: str | None) -> None:
        """The job is over; see `JobFinisher`. Called again, by `Master.fail`, from whichever thread died."""
        self._log_job(spec, state.value)
        self.finisher.ended(spec, state, error)

    def _log_job(self, spec: JobSpec, what: str) -> None:
        extra = {"job": spec.job, "epoch": self.epoch}
        _LOG.debug("job %s (%s) is %s", spec.job, spec.name, what, extra=extra)

    def stepped(self) -> None:
        """Between steps."""
        self._ticked()
        self._events.mark_dirty()

    def acting(self) -> bool:
        """Asked before every write: may this leadership write and publish at this moment?"""
        return not self.stopping.is_set() and self._settings.acting()

    def was_fenced(self) -> None:
        """A later leader is there. Called once; nothing goes out any more."""
        if not self.stopping.is_set():  # what an older term of this master is told isn't news
            self._settings.fenced()

    def dial(self, asked: c.DialWorker) -> None:
        """Begin to dial a worker, or take it at its word; the verdict comes to the loop's sink."""
        if self._dial is not None:
            self._dial(asked)
        else:
            self.master.sink(e.WorkerDialled(worker=asked.worker, boot=asked.boot))

    def _goes_on(self, job: str) -> bool:
        going = job in self.submits.planned() or self.views.is_active(job)
        return going or job in self._given_up

    def _claim_of(self, job: str) -> str:
        spec = self.master.spec(job)
        return spec.claim if spec is not None else ""


def _refused(job: str, error: str) -> JobEnd:
    """The end, for whoever waits, of a job whose records can't be read."""
    return JobEnd(job=job, state=JobState.FAILED, error=error, error_type=OperatorError.__name__)
