"""An engine on this machine: a leadership over memory servers and one worker, in this process.

The only module that brings master and worker together. The leadership and the agent's loop have a thread
each; executors are child processes, started with the engine, so that they are warm when the first job is
planned. Whoever calls plans and submits on a thread of his own, and waits on a handle.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from mrq import native
from mrq.core.ending import JobEnd
from mrq.core.info import JobInfo
from mrq.core.model import JobState, Limits, Slots
from mrq.core.pathmap import PathMap
from mrq.engine.engine import Engine
from mrq.errors import Interrupted, MrqError, OperatorError, UsageError, UsageTypeError, UsageValueError
from mrq.handle import Handle
from mrq.io.plan import Draft, Plan
from mrq.io.temporary import PrivateFolder, make_root
from mrq.result import JobFailed, Result
from mrq.settings import checks
from mrq.settings.variables import temp_root
from mrq.worker.pool import Pool

if TYPE_CHECKING:
    from mrq.master.leadership import Leadership, LeadershipSettings
    from mrq.servers.memory.kept import KeptStore
    from mrq.worker.agent_loop import AgentLoop

_WORKER: Final = "local"
#: The agent shares the leader's process: a faster beat than a worker's costs nothing and shows progress.
_BEAT_INTERVAL_S: Final = 0.2


def local_engine(*, executors: int | None = None, root: str | None = None) -> Engine:
    """An engine whose executors stay warm between runs. Raises UsageError, and OperatorError where temporary
    data can't be kept."""
    count, root = executors_of(executors), root or temp_root()
    native.check()
    try:
        make_root(root)
    except OSError as exc:
        raise OperatorError(
            f"temporary data can't be kept in {root}: {exc.strerror}; set MRQ_TMP to a folder "
            "that can be written"
        ) from exc
    private = PrivateFolder(root)
    leader = LocalLeader(count, private)
    leader.engine = Engine(leader, private)
    return leader.engine


def executors_of(given: int | None) -> int:
    """How many executors: what was given, or the cores that this process may use. Raises UsageValueError
    and UsageTypeError."""
    if given is None:
        return len(os.sched_getaffinity(0))
    try:
        return checks.executors(given)
    except ValueError as exc:
        wrong = UsageValueError if type(given) is int else UsageTypeError
        raise wrong(f"executors must be {exc}") from None


class LocalLeader:
    """An `engine.Leader`, which says what its methods do, and what its leadership tells jobs' events to
    (`master.job_events.JobEvents`)."""

    name = "local"
    defaults: Mapping[str, Any] = {"max_failures": 1}
    paths: PathMap | None = None
    closed = "this engine is closed; make another with mrq.local()"
    engine: Engine

    def __init__(self, executors: int, private: PrivateFolder, pool: Pool | None = None) -> None:
        self.executors = executors
        self._private = private
        self._boot = secrets.token_hex(4)
        self._pool = pool if pool is not None else Pool()
        self._pool.prewarm(executors)
        self._handles: dict[str, list[Handle]] = {}  #: of jobs that aren't over
        self._lock = threading.RLock()
        self._leadership: Leadership | None = None
        self._store: KeptStore
        self._agent: AgentLoop
        self._agent_thread: threading.Thread
        self._closed = False

    # What the engine asks for.

    def complete(self, draft: Draft) -> Draft:
        """With a place for the output, where none was named."""
        spec = draft.spec
        if spec.output_open is None:
            spec = replace(spec, output_open=os.path.join(self._private.path, spec.job))
        return replace(draft, spec=spec)

    def plan(self, draft: Draft) -> tuple[Plan, int]:
        from mrq.io.plan import complete

        return complete(draft), self.executors

    def submit(self, draft: Draft, handle: Handle, *, wait: bool) -> Sequence[str]:
        """The job is followed anyway, as it ends with this process."""
        leadership = self._started()
        with self._following(handle):
            notes = leadership.submits.begin(draft)
            leadership.jobs.taken()
        return notes

    def follow(self, handle: Handle) -> None:
        """A job of this engine's that isn't over."""
        with self._lock:
            there = self._handles.get(handle.job)
            if there is None:
                raise UsageError(
                    f"this engine runs no job {handle.job!r}; the handle that started one says how it ended"
                )
            there.append(handle)

    def retry(self, handle: Handle, limits: Limits, old: str | None) -> None:
        from mrq.servers.memory.recovery import recover

        leadership = self._started()
        found = recover(
            self._private.root, handle.job, old=old, worker=_WORKER, boot=self._boot, limits=limits
        )
        spec = found.kept.spec
        self._store.keep(spec.job, found.folder, found.log)
        try:
            with self._following(handle):
                leadership.take_up(spec, found.code, found.events, found.epoch)
        except BaseException:
            self._store.let_go(spec.job, remove=False)
            raise

    def cancel(self, job: str) -> None:
        if self._leadership is not None:
            with contextlib.suppress(OperatorError):  # the engine is being closed: it ends anyway
                self._leadership.jobs.cancel(job, "cancelled by the user")

    def view(self, job: str) -> JobInfo | None:
        """A job as it is now; None once it is over."""
        return self._leadership.views.find(job) if self._leadership is not None else None

    def ask(self, op: str, **args: Any) -> Mapping[str, Any]:
        return self._started().requests.handle(op, args)

    def blob(self, digest: str) -> bytes | None:
        """No log is put away here: all lie in the job's folder."""
        return None

    def close(self, *, remove: bool) -> None:
        """Stop everything: children are gone when this returns, within 2 s. Jobs that still run end as
        interrupted; with `remove` what they staged, and their folders, go."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        leadership = self._leadership
        if leadership is not None:
            leadership.halt()
            self._agent.stop(1.0)
            self._agent_thread.join(2.0)
        self._pool.close()
        if leadership is not None:
            leadership.master.stop()
            leadership.close()
            for job in self._store.kept():
                self._give_up(leadership, job, remove=remove)
        for job in list(self._handles):  # whatever kept its end from being told: nobody waits for ever
            self._finish(job, Interrupted(f"job {job} was interrupted"))

    # What the leadership tells.

    def note(self, job: str, text: str) -> None:
        """A sentence for whoever waits for a job."""
        for handle in self._handles.get(job, ()):
            handle.note(text)

    def resumed(self, job: str) -> None:
        """Whoever took it up again has its handle."""

    def ended(self, end: JobEnd) -> None:
        """A job is over."""
        with self._lock:
            handles = self._handles.pop(end.job, ())
        for handle in handles:
            handle.end(end, self._result)

    def mark_dirty(self) -> None:
        """Handles look by themselves."""

    def _result(self, end: JobEnd) -> Result:
        assert end.spec is not None
        return Result.of(end, end.spec, self.engine)

    def _broken(self, job: str, error: MrqError) -> None:
        """What isn't in the log can't be gone on with: this job fails, others needn't."""
        from mrq.core.events import JobBroken

        assert self._leadership is not None
        self._leadership.master.sink(JobBroken(job=job, error=str(error)))

    def _died(self, crash: BaseException) -> None:
        """The leader's loop, or the agent's, has died: every job ends by that."""
        assert self._leadership is not None
        said = str(crash) if isinstance(crash, MrqError) else f"a bug in mrq: {crash!r}"
        for job in self._store.kept():
            self._let_go(self._leadership, job, remove=False)
        for job in list(self._handles):
            self._finish(job, JobFailed(said, job=job))

    def _give_up(self, leadership: Leadership, job: str, *, remove: bool) -> None:
        """A job that was still running when the engine was closed."""
        spec = leadership.master.spec(job)
        if spec is not None and job in leadership.finisher.published:  # all but the last word
            leadership.finisher.ended(spec, JobState.DONE, None)
            self._store.let_go(job, remove=True)
            return
        self._let_go(leadership, job, remove=remove)
        self._finish(job, Interrupted(f"job {job} was interrupted"))

    def _let_go(self, leadership: Leadership, job: str, *, remove: bool) -> None:
        """Of a job that isn't over: its output, and its folder, which without `remove` stay for a retry."""
        spec = leadership.master.spec(job)
        if spec is not None:
            with contextlib.suppress(MrqError):
                leadership.finisher.interrupt(spec, keep=not remove)
            if not remove:
                self._private.need(spec)
        self._store.let_go(job, remove=remove)

    def _finish(self, job: str, error: MrqError) -> None:
        with self._lock:
            handles = self._handles.pop(job, ())
        for handle in handles:
            handle.finish(None, error, self.view(job))

    @contextlib.contextmanager
    def _following(self, handle: Handle) -> Iterator[None]:
        """Tell the handle how its job ends. Whatever is raised meanwhile, by a signal too, takes it back."""
        with self._lock:
            self._handles[handle.job] = [handle]
        try:
            yield
        except BaseException:
            with self._lock:
                self._handles.pop(handle.job, None)
            assert self._leadership is not None
            self._leadership.jobs.take_back(handle.job)
            raise

    # Master and worker.

    def _started(self) -> Leadership:
        """The leadership; it and the agent are started with the first job."""
        with self._lock:
            if self._closed:
                raise UsageError(self.closed)
            if self._leadership is None:
                self._leadership = self._start()
            return self._leadership

    def _start(self) -> Leadership:
        from mrq.core.agent_words import AgentConfig
        from mrq.master.backend import Servers
        from mrq.master.leadership import Leadership
        from mrq.ports import Clock
        from mrq.servers.memory.kept import KeptStore
        from mrq.servers.memory.queues import MemoryBroker, MemoryQueues
        from mrq.servers.memory.servers import MemoryBlobs, MemoryEvents
        from mrq.worker import debug
        from mrq.worker.agent_loop import AgentLoop, Links, Storage

        blobs, queues = MemoryBlobs(), MemoryQueues()
        self._store = KeptStore(
            self._private.root,
            broken=self._broken,
            left=self._private.need,
            forgotten=lambda job: self._agent.forget(job),
        )
        servers = Servers(
            store=self._store, state=self._store, blobs=blobs, events=partial(MemoryEvents, self._store)
        )
        leadership = Leadership(servers, MemoryBroker(queues), self, self._settings(), epoch=1)
        broker = MemoryBroker(queues)
        self._agent = AgentLoop(
            config=AgentConfig(
                worker=_WORKER,
                boot=self._boot,
                slots=Slots(map=self.executors, reduce=self.executors, total=self.executors),
                beat_interval_s=_BEAT_INTERVAL_S,
            ),
            links=Links(broker=broker, store=self._store, threaded=False),
            storage=Storage(
                root=self._private.root, code_root=f"{self._private.path}/code", makes_folders=False
            ),
            clock=Clock(),
            pool=self._pool,
            debug=debug.parse(os.environ),
            crashed=leadership.master.fail,
        )
        broker.attach(worker=self._agent.sink)
        self._store.attach(nudge=self._agent.nudge)
        leadership.start()
        self._agent_thread = threading.Thread(target=self._agent.run, name="mrq-agent", daemon=True)
        self._agent_thread.start()
        return leadership

    def _settings(self) -> LeadershipSettings:
        from mrq.core.machine_config import MachineConfig
        from mrq.master.leadership import LeadershipSettings

        return LeadershipSettings(
            owner=f"{os.getpid()}",
            shared_root=f"{self._private.folder}/shared",
            keep_s=0.0,
            config=MachineConfig.for_one_worker(),
            died=self._died,
            background=0,
            cluster_claims=False,
            keeps_failed=False,
        )
