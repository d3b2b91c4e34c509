"""One term of leadership: what the predecessor left is taken over, the machine runs, clients are served.

The order matters. The place from which events are followed is noted before anything is loaded, so what
happens meanwhile comes again as an event (and is recognised). Fences are taken before a job is loaded, so
nobody writes after the load. Workers get answers, and clients are served, only when all is there.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.machine import Machine
from mrq.core.model import JobSpec, JobState, Kind, Limits, Purpose, TaskResult
from mrq.core.paths import sample_id, shown_id
from mrq.errors import CorruptFileError, InputError, MrqError, OperatorError, UsageError
from mrq.io import committer, inputs, owner
from mrq.master.archive import Archive
from mrq.master.backend import Backend, LeaderBroker
from mrq.master.dials import DIALS_MAX, Dial, Dials
from mrq.master.keeper import ClusterKeeper
from mrq.master.logbook import Logbook
from mrq.master.loop import Master
from mrq.master.news import News
from mrq.master.office import Office, nobody
from mrq.master.outbox import found_in
from mrq.master.shared import SharedRoot
from mrq.master.shares import Shares
from mrq.master.submits import Submits
from mrq.master.term_settings import Overtaken, Settings
from mrq.master.views import Views
from mrq.master.waits import Waits
from mrq.ports import Batch, StoredJob

#: Threads for what touches disks: planning, letting go of outputs, logs.
_SLOW: Final = 4
#: Ends that are told again after a takeover, the latest.
_TOLD_AGAIN: Final = 200
#: How often it is asked why jobs wait.
_WAITS_S: Final = 2.0
#: How often what is kept for nobody is looked for.
_HOUSE_S: Final = 600.0
#: Between tries of a store that is away.
_AGAIN_S: Final = 1.0


class Term:
    """Made for one epoch; `start` takes over, `stop` drops the view. Not started twice."""

    def __init__(self, backend: Backend, broker: LeaderBroker, settings: Settings, *, epoch: int) -> None:
        self.epoch = epoch
        self._backend = backend
        self._broker = broker
        self._settings = settings
        self._pool = ThreadPoolExecutor(_SLOW, thread_name_prefix="mrq-slow")
        self._dials = ThreadPoolExecutor(DIALS_MAX, thread_name_prefix="mrq-dial")
        self._stopping = threading.Event()
        clock = settings.clock
        self._epoch_s = clock.time() - clock.monotonic()
        self._shared = SharedRoot(settings.shared_root)
        self._machine = Machine(settings.config, wall=self._epoch_s)
        store_id, incarnation, _ = backend.state.identity()
        if not store_id:
            raise UsageError(
                "this cluster's store was never initialised: run `python -m mrq.master --init` once. If it "
                "was, its data is gone; only a master that still runs can bring it back"
            )
        self._incarnation, there = found_in(backend.store, incarnation)
        if there > epoch:
            raise Overtaken(f"epoch {there} came after {epoch}", epoch=there)
        self._cluster = owner.Cluster(store_id, self._goes_on, self._claim_of)
        self._keeper = ClusterKeeper(
            cluster=self._cluster,
            shared=self._shared,
            slow=self._slow,
            over=lambda info: self._archive.add(info),
            died=settings.died,
            stopping=self._stopping,
        )
        self._master = Master(
            machine=self._machine,
            clock=clock,
            keeper=self,
            owner=settings.owner,
            incarnation=self._incarnation,
            epoch=epoch,
            records=True,
            state=backend.state,
            store_id=store_id,
            put_back=lambda job: self._submits.put_back(job),
            acting=lambda: not self._stopping.is_set() and settings.acting(),
            fenced=self._was_fenced,
            dial=self._dialler(settings.dial),
            say=settings.say,
        )
        self._keeper.master = self._master
        self._shares = Shares(
            settings.probe,
            workers=lambda: self._master.look(lambda machine: machine.workers()),
            master=settings.owner,
            now=clock.monotonic,
        )
        self._views = Views(
            look=self._master.look,
            specs=self._master.spec,
            now=clock.monotonic,
            leader=f"{settings.owner} (epoch {epoch})",
            shares=self._shares,
        )
        self._archive = Archive(
            backend.state, keep_s=settings.keep_s, now=clock.monotonic, epoch_s=self._epoch_s
        )
        self._submits = Submits(
            taking=self,
            blobs=backend.blobs,
            shared=self._shared,
            shares=self._shares,
            cluster=self._cluster,
            keep_s=settings.keep_s,
            cut=settings.cut,
        )
        self._keeper.submits = self._submits
        self._events = backend.events(self._master.sink)
        desk = backend.desk()
        self._desk = desk
        self._news = News(desk, self._views.under_way, settings.died)
        self._keeper.news = self._news
        self._logs = Logbook(
            state=backend.state,
            views=self._views,
            archive=self._archive,
            look=self._master.look,
            give=self._master.order,
        )
        self._office = Office(
            desk=desk,
            acting=self._master,
            views=self._views,
            archive=self._archive,
            submits=self._submits,
            retry=self._retry,
            logs=self._logs,
            shared=self._shared,
            slow=self._slow,
        )
        self._waits = Waits(self._views, self._master.spec, self._news.note)
        self._waits_at = 0.0
        self._apart: dict[str, str] = {}  #: what was said last of who doesn't share a job's OUT
        self._looks_for_apart = False  #: at this moment
        self._house_at = 0.0

    # Taking over.

    def start(self) -> None:
        """Take over, and serve. Raises OperatorError, UsageError; `stop` then, all the same."""
        state, store, clock = self._backend.state, self._backend.store, self._settings.clock
        self._shared.prepare()
        heard = state.workers()
        self._events.note()
        store.lead(self._master.fence())
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
                self._submits.remember(stored.spec)
                known = self._machine.adopt(stored, clock.monotonic())
            except CorruptFileError as exc:
                self._give_up(job, str(exc))
                continue
            self._master.adopt(stored.spec, self._master.fence(), code)
            if known:
                recorded += stored.recorded
            else:
                first.append(e.JobSubmitted(spec=stored.spec))
            if stored.state is JobState.FAILED:
                over.append(job)
        events = [e.Restored(embedded=False, incarnation=self.epoch), *recorded, *first]
        self._broker.attach(leader=self._master.sink)

        def hand_in(master: Master) -> None:
            for each in events:
                master.sink(each)

        self._master.start(store, self._broker, hand_in)
        self._events.start()
        # The id stays as it is in the store: only a leader that has a view to write back knows better, and it
        # may have done so since this one looked.
        state.open(self._incarnation)
        self._news.start()
        self._slow(lambda: self._remember(over))
        self._office.start()

    def _fence_and_load(self, job: str) -> tuple[StoredJob, bytes] | None:
        """A job, which nobody writes any more but this leader, and its code; None when it is gone."""
        state = self._backend.state
        stored = state.load(job)
        if stored is None:
            return None
        code = self._backend.blobs.get(stored.spec.code)
        if code is None:
            raise CorruptFileError(f"its code {stored.spec.code} isn't in the store any more")
        self._backend.store.begin(stored.spec, code, self._master.fence())
        loaded = state.load(job)
        return None if loaded is None else (loaded, code)

    def _give_up(self, job: str, why: str) -> None:
        """A job whose records can't be read: it alone fails, by that name. Its OUT is anybody's."""
        error = (
            f"job {shown_id(job)} can't be gone on with: {why}. Submit it anew: its inputs and OUT are as "
            "they were"
        )
        self._settings.say(error)
        write = c.WriteJob(job=job, state=JobState.FAILED, error=error)
        store = self._backend.store
        store.write(Batch(job=job, fence=replace(self._master.fence(), seq=1), writes=(write,)))
        store.forget(job)  # it is kept as long as others that are over
        with contextlib.suppress(CorruptFileError):
            stored = self._backend.state.load(job)
            if stored is not None:
                self._archive.give_up(replace(stored.spec, job=shown_id(job)), error)
        entry = {"type": "ended", "state": JobState.FAILED.value, "error": error}
        self._news.tell(shown_id(job), {**entry, "error_type": "OperatorError"})

    def _remember(self, over: list[str]) -> None:
        """Jobs that are over: their rows, and their ends once more for whoever still waits."""
        known = self._known()
        for at, job in enumerate(over):
            if self._stopping.is_set():
                return
            try:
                stored = self._backend.state.load(job)
            except CorruptFileError as exc:
                self._settings.say(f"job {job}, which is over, can't be shown: {exc}")
                continue
            machine = self._archive.machine_of(stored) if stored is not None else None
            info = machine.job(job) if machine is not None else None
            if stored is None or machine is None or info is None:
                continue
            spec = stored.spec
            results = machine.results(spec.job)
            if spec.purpose is Purpose.SAMPLE and stored.state is JobState.DONE:
                if shown_id(spec.job) not in known:
                    self._go_on(spec, results)
                continue
            self._archive.add(info)
            if at >= len(over) - _TOLD_AGAIN:
                self._keeper.settle(spec, stored.state, stored.error, info, results)

    def _known(self) -> set[str]:
        """Jobs of which something may still be wanted, by the ids that clients know."""
        return self._submits.planned() | {shown_id(job) for job in self._backend.state.jobs()}

    def _keep_house(self) -> None:
        """What is kept for nobody goes."""
        until = self._settings.clock.time() - self._settings.keep_s
        for name, info in self._views.all():
            spec = self._master.spec(name)
            if spec is not None and info.state is JobState.FAILED and 0 < info.finished_at < until:
                self._keeper.expire(spec)
        self._shared.sweep(self._known, until)

    def _go_on(self, spec: JobSpec, results: Mapping[tuple[Kind, int], TaskResult]) -> None:
        """A sampling that was done when its leader died."""
        found = sorted(results.items(), key=lambda pair: pair[0][1])
        samples = [result.sample for _, result in found if result.sample is not None]
        self._keeper.slow(spec, lambda: self._submits.go_on(spec, samples))

    def stop(self) -> None:
        """Drop the view: say, write and publish nothing more. What others may go on with stays."""
        self._stopping.set()
        self._logs.stop()
        self._broker.attach(leader=None)
        self._events.close()
        self._office.close()
        self._master.halt()
        self._office.join()
        self._news.stop()
        self._shares.close()
        for pool in (self._pool, self._dials):
            pool.shutdown(wait=False, cancel_futures=True)

    def _was_fenced(self) -> None:
        if not self._stopping.is_set():  # what an older term of this master is told isn't news
            self._settings.fenced()

    def lead_again(self, epoch: int) -> None:
        """Nobody led while this leader was paused: go on under a (later) epoch."""
        self.epoch = epoch
        self._views.leader = f"{self._settings.owner} (epoch {epoch})"
        self._master.lead_again(epoch)

    def _dialler(self, dial: Dial | None) -> Callable[[c.DialWorker], None]:
        """How the loop has workers dialled: without `dial` they are taken at their word."""
        if dial is None:
            return lambda asked: self._master.sink(e.WorkerReachable(worker=asked.worker, boot=asked.boot))
        dials = Dials(dial, lambda work: self._slow(work, self._dials), lambda said: self._master.sink(said))
        return dials.ask

    # Of the loop (`master.loop.Keeper`).

    def completed(self, spec: JobSpec, event: e.AttemptReported) -> None:
        """Count it for people; the store has it, with the machine's record."""
        self._views.completed(event)

    def commit(self, spec: JobSpec, command: c.StartCommit) -> None:
        """See `ClusterKeeper`."""
        self._keeper.commit(spec, command)

    def ended(self, spec: JobSpec, state: JobState, error: str | None) -> None:
        """See `ClusterKeeper`."""
        self._keeper.ended(spec, state, error)

    def checkpoint(self, master: Master) -> None:
        """Between steps."""
        self._settings.ticked()
        self._broker.tick()
        self._say_what_waits()
        if self._settings.clock.monotonic() >= self._house_at:
            self._house_at = self._settings.clock.monotonic() + _HOUSE_S
            self._slow(self._keep_house)
        self._keeper.checkpoint(master)

    def broker_says(self, trouble: str) -> None:
        """What keeps the broker from taking messages; "" once it takes them again. From any thread."""
        self._views.broker = trouble
        for _, info in self._views.under_way():
            self._news.note(info.job, trouble or "the broker takes messages again")

    def _say_what_waits(self) -> None:
        """Tell clients what keeps their jobs from going on, when that changes."""
        if (now := self._settings.clock.monotonic()) < self._waits_at:
            return
        self._waits_at = now + _WAITS_S
        self._waits.look()
        folders = {os.path.dirname(spec.staging) for spec in self._written() if spec.staging}
        if not self._looks_for_apart and self._shares.due(folders):
            self._looks_for_apart = True
            self._slow(self._look_for_apart)

    def _written(self) -> list[JobSpec]:
        """Jobs whose attempts run, or will."""
        going = (JobState.PENDING, JobState.RUNNING)
        names = self._master.look(lambda m: [name for name in m.jobs() if m.state(name) in going])
        return [spec for name in names if (spec := self._master.spec(name)) is not None]

    def _look_for_apart(self) -> None:
        """Workers, and a master, that were not there when a job was submitted, and don't share its OUT."""
        try:
            for spec in self._written():
                if spec.staging is None:
                    continue
                apart = self._shares.check(os.path.dirname(spec.staging))
                said = f"{apart}: what they write of this job fails" if apart is not None else ""
                gone = not os.path.isdir(spec.staging)
                if gone and any(each.job == spec.job for each in self._written()):
                    said = (
                        f"master {self._settings.owner}, which leads, doesn't see {spec.staging}, where the "
                        "job's output is written: it can't be committed"
                    )
                if said and self._apart.get(spec.job) != said:
                    self._news.note(shown_id(spec.job), said)
                self._apart[spec.job] = said
        finally:
            self._looks_for_apart = False

    # Of submits (`master.submits.Taking`).

    def knows(self, job: str) -> bool:
        """Is there a job, or a sampling for one, of this id?"""
        return self._views.known(job) or self._archive.state(job) is not None or self._archive.there(job)

    def take(self, spec: JobSpec, code: bytes) -> None:
        """Take a job; the store has it when this returns. Raises OperatorError when this leader is done."""
        while True:
            try:
                self._master.submit(spec, code)
                break
            except OperatorError:  # away, or the answer was lost: the same again is the same
                if self._stopping.wait(_AGAIN_S):
                    raise
        self._waits_at = 0.0

    def taken(self) -> None:
        """Wait until the machine knows what was taken: whoever asks next is told of it."""
        with contextlib.suppress(OperatorError):  # the store has it: the next leader goes on
            self._master.settled()

    def cancel(self, job: str) -> None:
        """End a job that was just taken."""
        found = self._views.active(job)
        if found is not None:
            self._master.sink(e.CancelRequested(job=found))

    def packages(self) -> list[Mapping[str, str]]:
        """Of each living worker that has said so."""
        return self._views.packages()

    def slots(self, kind: Kind | None = None) -> int:
        """Of the workers that take tasks."""
        return self._views.slots(kind)

    def _retry(self, job: str, limits: Limits) -> None:
        """Go on with a failed job under the limits given. Raises UsageError, InputError, OutputError."""
        state = self._views.state(job)
        past = self._archive.state(job) if state is None else None
        if state is None and past is None:
            known = {info.job for info in (*self._archive.jobs(), *self._views.jobs())}
            if self._archive.expired(job):
                raise UsageError(f"job {job} is over for longer than jobs are kept; submit it anew")
            raise nobody("job", job, known)
        if state in (JobState.DONE, JobState.CANCELLED):
            past = state  # and is forgotten in a moment
        if past is not None:
            raise UsageError(
                f"job {job} is {past.value}: there is nothing to go on with"
                + ("; submit it anew" if past is JobState.CANCELLED else "")
            )
        spec = self._master.spec(job)
        if spec is not None:
            limits.check(spec)
        if state is JobState.FAILED and spec is not None:
            changed = inputs.changed([piece for split in spec.splits for piece in split.pieces])
            if changed:
                more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
                raise InputError(
                    f"job {job} can't go on: its input changed since it was submitted: "
                    f"{', '.join(changed[:5])}{more}; submit it anew"
                )
            with self._keeper.claiming:
                committer.reopen(spec, cluster=self._cluster)
                self._master.settle(e.RetryRequested(job=job, limits=limits))
        self._desk.tell(job, {"type": "resumed"})

    def _goes_on(self, job: str) -> bool:
        return self._submits.is_planned(job) or self._views.active(job) is not None

    def _claim_of(self, job: str) -> str:
        spec = self._master.spec(job) or self._master.spec(sample_id(job))
        return spec.claim if spec is not None else ""

    def _slow(self, work: Callable[[], None], pool: ThreadPoolExecutor | None = None) -> None:
        """Do it on another thread. From any thread."""

        def guarded() -> None:
            try:
                work()
            except OperatorError as exc:
                if not self._stopping.is_set():
                    self._settings.say(str(exc))
            except MrqError as exc:
                self._settings.say(f"{type(exc).__name__}: {exc}")
            except BaseException as exc:
                self._settings.died(exc)
                raise

        with contextlib.suppress(RuntimeError):  # stopped meanwhile: the successor does it
            (pool or self._pool).submit(guarded)
