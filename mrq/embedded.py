"""The embedded engine: a master and one worker in this process, executors as its children, no server.

The same machines, loops, executors and files as on a cluster, over the memory adapters. Two threads
(master, agent) do the work; whoever calls waits on a `Handle`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from mrq import config, planning
from mrq.core.model import NO_LIMITS, JobSpec, JobState, Limits, Purpose, Slots, TaskResult
from mrq.core.refs import Kind, TaskRef
from mrq.errors import InternalError, Interrupted, MrqError, OperatorError, UsageError
from mrq.handle import Handle
from mrq.master.jobfolder import JobFolder, Kept, make_root
from mrq.master.private import PrivateFolder, sweep
from mrq.planning import Path, Plan
from mrq.result import JobFailed, Result, map_results, summarize
from mrq.worker.pool import Pool

if TYPE_CHECKING:
    from mrq.commit.staging import Staging
    from mrq.core import commands as c
    from mrq.core import events as e
    from mrq.core.info import JobInfo
    from mrq.job.base import Job
    from mrq.master.loop import Master
    from mrq.master.recovery import Recovered
    from mrq.servers.memory.log import JobLog
    from mrq.worker.agent_loop import AgentLoop

__all__ = ["Engine", "Handle"]

_WORKER: Final = "local"
_CLOSED: Final = "this engine is closed; make another with mrq.local()"


@dataclass(slots=True)
class _Run:
    """What the engine keeps of a job while it runs."""

    kept: Kept
    code: bytes
    folder: JobFolder
    staging: Staging
    handle: Handle
    started_at: float  #: seconds since the epoch: of the submit, or of the retry
    broken: MrqError | None = None  #: what keeps this engine from going on with it: a full disk
    published: bool = False  #: its commit has ended well

    @property
    def spec(self) -> JobSpec:
        """Of the job that runs: the one that people know, or its sampling."""
        return self.kept.spec


def _executors(given: int | None) -> int:
    """How many executors: what was given, or the cores that this process may use. Raises UsageError."""
    if given is None:
        return len(os.sched_getaffinity(0))
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= config.EXECUTORS_MAX:
        raise UsageError(f"executors must be a number from 1 to {config.EXECUTORS_MAX:,}, not {given!r}")
    return given


class Engine:
    """A master, a worker and its executors on this machine. Close it, or use it as a context manager.

    Executors start at once, so that they are warm when the job has been planned.
    """

    def __init__(self, *, executors: int | None = None, root: str | None = None) -> None:
        self.executors = _executors(executors)
        self.root = root or config.temp_root()
        try:
            make_root(self.root)
        except OSError as exc:
            raise OperatorError(
                f"temporary data can't be kept in {self.root}: {exc.strerror}; set MRQ_TMP to a folder "
                "that can be written"
            ) from exc
        self._private = PrivateFolder(self.root)
        self._needed: set[str] = set()  #: of the private folder, by jobs that are kept for `mrq retry`
        self._boot = secrets.token_hex(4)
        self._pool = Pool()
        self._pool.prewarm(self.executors)
        from mrq.servers.memory.log import Logs  # executors start meanwhile

        self._logs = Logs(self._broken)
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()
        self._master: Master | None = None
        self._agent: AgentLoop | None = None
        self._agent_thread: threading.Thread | None = None
        self._closed = False

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def run(
        self,
        job: Job | type[Job] | str,
        inputs: Sequence[Path] | Result | None = None,
        output: Path | None = None,
        *,
        records: Iterable[Any] | None = None,
        overwrite: bool = False,
        **overrides: Any,
    ) -> Result:
        """Run a job and wait for it; as `mrq.run`."""
        handle = self.start(job, inputs, output, records=records, overwrite=overwrite, **overrides)
        try:
            return handle.result()
        except KeyboardInterrupt:
            handle.cancel()
            handle.wait(2.0)
            raise

    def start(
        self,
        job: Job | type[Job] | str,
        inputs: Sequence[Path] | Result | None = None,
        output: Path | None = None,
        *,
        records: Iterable[Any] | None = None,
        overwrite: bool = False,
        **overrides: Any,
    ) -> Handle:
        """Start a job and return its handle at once; arguments as of `run`."""
        if self._closed:
            raise UsageError(_CLOSED)
        request = planning.request_of(
            job,
            inputs,
            output,
            records=records,
            overwrite=overwrite,
            overrides=overrides,
            folder=self._private.path,
        )
        return self.start_plan(planning.plan(request))

    def start_plan(self, plan: Plan) -> Handle:
        """Start a planned job. Raises OutputError when OUT is refused, before anything runs."""
        from mrq.commit import claim

        spec = plan.spec
        if spec.output_open is None:
            spec = replace(spec, output_open=os.path.join(self._private.path, spec.job))
        assert spec.output_open is not None
        staging = claim.prepare(
            spec.output_open,
            spec.job,
            spec.overwrite,
            inputs=[file.open for file in plan.files],
            shown=spec.output,
        )
        spec = replace(spec, staging=staging.folder)
        try:
            handle = self._handle(spec.job)
            if plan.sample is not None:
                sample = replace(plan.sample, staging=None)
                self._begin(Kept(spec=sample, sampled_for=spec), plan.code, handle, staging)
            else:
                self._begin(Kept(spec=spec), plan.code, handle, staging)
        except BaseException:
            claim.abandon(staging)
            raise
        return handle

    def retry(
        self,
        job: str,
        *,
        limits: Limits = NO_LIMITS,
        old: str | None = None,
    ) -> Handle:
        """Go on with a job that failed or was killed, under other limits if some are given; `old` is what
        MRQ_TMP was then, if it was another. Raises UsageError or InputError by name."""
        from mrq.master.jobfolder import bring, refuse_other
        from mrq.master.recovery import check, recover
        from mrq.servers.memory.log import JobLog

        if self._closed:
            raise UsageError(_CLOSED)
        if old is not None:
            bring(os.path.abspath(old), self.root, job)
        folder = JobFolder.reopen(self.root, job)
        sweep(self.root)  # of the engine that died: what this job doesn't need
        try:
            kept = folder.kept()
            refuse_other(kept, folder.path)
            code = check(folder, kept, limits)
            log, stored = JobLog.open(folder.path, kept.spec)
        except BaseException:
            folder.close()
            raise
        try:
            found = recover(folder, kept, code, stored, worker=_WORKER, boot=self._boot, limits=limits)
        except BaseException:
            log.close()
            folder.close()
            raise
        handle = self._handle(found.kept.target.job)
        run = _Run(found.kept, code, folder, found.staging, handle, time.time())
        self._add(run, log, found)
        return handle

    def private_folder(self) -> str:
        """A folder of this engine's own, for what a job reads that isn't a file of the user's.

        Removed with the engine, unless a job that is kept for `retry` needs it. Raises DiskFullError or
        OutputError.
        """
        return self._private.path

    def close(self, remove: bool = True) -> None:
        """Stop everything: children are gone when this returns, within 2 s; then remove what is temporary.

        Jobs that still run end as interrupted, and what they staged is removed.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._master is not None:
            self._master.halt()
        if self._agent is not None:
            self._agent.stop(1.0)
        if self._agent_thread is not None:
            self._agent_thread.join(2.0)
        self._pool.close()
        if self._master is not None:
            self._master.stop()
        for job in list(self._runs):
            run = self._take(job)
            if run is not None:
                self._give_up(run, remove)
        self._private.close(keep=not remove, needed=self._needed)

    def close_when_collected(self, result: Result) -> None:
        """Stop now, but keep the private output for as long as its result lives."""
        private, self._private = self._private, PrivateFolder(self.root)
        self.close()
        weakref.finalize(result, private.close, keep=False)

    # What the master's loop calls (`master.loop.Keeper`), on its thread.

    def completed(self, spec: JobSpec, event: e.AttemptReported) -> None:
        """The log has it before anything follows."""

    def commit(self, spec: JobSpec, command: c.StartCommit) -> None:
        """Publish OUT."""
        from mrq.commit import publish
        from mrq.commit.manifest import manifest_of

        run = self._runs.get(spec.job)
        if run is None:
            raise OperatorError(f"job {spec.job} was given up before it could commit")
        manifest = manifest_of(
            spec,
            command.files,
            command.counters,
            started_at=run.started_at,
            finished_at=time.time(),
            inputs=list(spec.inputs),
        )
        publish.commit(run.staging, manifest)
        run.published = True

    def ended(self, spec: JobSpec, state: JobState, error: str | None) -> None:
        """The job is over: tell whoever waits, whatever else goes wrong."""
        run = self._take(spec.job)
        if run is None:
            return
        try:
            if run.broken is not None and state is not JobState.DONE:
                self._failed(run, JobState.FAILED, str(run.broken))
            elif spec.purpose is Purpose.SAMPLE and state is JobState.DONE:
                self._sampled(run)
            elif state is JobState.DONE:
                self._done(run)
            else:
                self._failed(run, state, error)
        except MrqError as exc:
            self._logs.close(spec.job)
            run.folder.close()
            run.handle.finish(None, exc)
        except BaseException as exc:
            self._logs.close(spec.job)
            run.folder.close()
            run.handle.finish(None, InternalError(f"job {spec.job} ended, and then: {exc!r}"))
            raise

    def stepped(self) -> None:
        """Nobody waits for steps."""

    def _broken(self, job: str, error: MrqError) -> None:
        """What isn't in the log can't be gone on with: this job fails, others needn't."""
        run = self._runs.get(job)
        if run is not None:
            run.broken = error
            self._ask_cancel(job, str(error))

    def _handle(self, job: str) -> Handle:
        return Handle(job, cancel=self._cancel, view=self._view)

    def _begin(self, kept: Kept, code: bytes, handle: Handle, staging: Staging) -> None:
        from mrq.servers.memory.log import JobLog

        folder = JobFolder.create(self.root, kept, code)
        try:
            log, _ = JobLog.open(folder.path, kept.spec)
        except BaseException:
            folder.remove()
            raise
        self._add(_Run(kept, code, folder, staging, handle, kept.spec.created_at), log)

    def _add(self, run: _Run, log: JobLog, found: Recovered | None = None) -> None:
        """Hand a job to the master, started if need be; if that can't be done its folder is let go of."""
        spec = run.spec
        with self._lock:
            known = not self._closed
            if known:
                self._runs[spec.job] = run
        self._logs.keep(spec.job, log)
        try:
            if found is None:
                self._start_loops(lambda master: master.submit(spec, run.code))
            else:
                events, epoch = found.events, found.epoch
                self._start_loops(lambda master: master.submit(spec, run.code, events, epoch=epoch))
        except BaseException:
            if known and self._take(spec.job) is None:
                raise  # `close` or `ended` was faster, and has seen to it
            self._logs.close(spec.job)
            if found is not None:  # as it was
                run.folder.close()
            else:
                run.folder.remove()
            raise

    def _take(self, job: str) -> _Run | None:
        """A job's run, for whoever ends it: once, from any thread."""
        with self._lock:
            return self._runs.pop(job, None)

    def _start_loops(self, first: Callable[[Master], None]) -> None:
        """Start master and agent, once; `first` is the first that the master is asked for."""
        with self._lock:
            if self._closed:
                raise UsageError(_CLOSED)
            if self._master is not None:
                first(self._master)
                return
            from mrq.adapters.memory import MemoryBroker, MemoryStore, SystemClock
            from mrq.core.machine import Machine
            from mrq.core.machine_config import MachineConfig
            from mrq.master.loop import Master
            from mrq.worker import debug
            from mrq.worker.agent_loop import AgentLoop

            clock = SystemClock()
            master = Master(
                machine=Machine(MachineConfig.for_embedded(), wall=clock.time() - clock.monotonic()),
                clock=clock,
                keeper=self,
                owner=f"{os.getpid()}",
            )
            store = MemoryStore(leader=master.sink, append=self._logs.append)
            broker = MemoryBroker()
            agent = AgentLoop(
                worker=_WORKER,
                boot=self._boot,
                slots=Slots(map=self.executors, reduce=self.executors, total=self.executors),
                broker=broker,
                store=store,
                clock=clock,
                root=self.root,
                code_root=f"{self._private.path}/code",
                pool=self._pool,
                beat_interval_s=config.EMBEDDED_BEAT_INTERVAL_S,
                debug=debug.parse(os.environ),
                makes_folders=False,
                crashed=master.fail,
            )
            broker.attach(worker=agent.sink, leader=master.sink)
            store.attach(nudge=agent.nudge)
            self._master, self._agent = master, agent
            master.start(store, broker, first)
            self._agent_thread = threading.Thread(target=agent.run, name="mrq-agent", daemon=True)
            self._agent_thread.start()

    def _cancel(self, handle: Handle) -> None:
        for name in (handle.job, f"{handle.job}-s"):
            if name in self._runs:
                self._ask_cancel(name, "cancelled by the user")

    def _ask_cancel(self, job: str, reason: str) -> None:
        from mrq.core.events import CancelRequested

        assert self._master is not None
        self._master.sink(CancelRequested(job=job, reason=reason))

    def _view(self, job: str) -> JobInfo | None:
        if self._master is None:
            return None
        return self._master.info(job) or self._master.info(f"{job}-s")

    def _sampled(self, run: _Run) -> None:
        """The samples are there: cut the key space, then start the job that they are for."""
        from mrq.commit import claim
        from mrq.worker.tasks.sampler import boundaries

        assert run.kept.sampled_for is not None
        handle = run.handle
        if handle.was_cancelled():  # too late for the samples, in time for the job
            self._failed(run, JobState.CANCELLED, None)
            return
        results = sorted(map_results(self._results(run)))
        samples = [result.sample for _, result in results if result.sample is not None]
        spec = run.kept.sampled_for
        try:
            spec = replace(spec, boundaries=tuple(boundaries(samples, spec.reducers)))
            self._begin(Kept(spec=spec), run.code, handle, run.staging)  # before the samples are let go of
        except BaseException as exc:
            with contextlib.suppress(MrqError):
                claim.abandon(run.staging)
            if self._closed:
                raise Interrupted(f"job {handle.job} was interrupted") from exc
            raise
        finally:
            self._forget(run, drop_files=False)
            run.folder.remove()
        if handle.was_cancelled():  # since we looked: it found no job that it could cancel
            self._cancel(handle)

    def _results(self, run: _Run) -> dict[TaskRef, TaskResult]:
        """What a job's completed tasks have made."""
        assert self._master is not None
        return self._master.look(lambda machine: machine.results(run.spec.job))

    def _done(self, run: _Run) -> None:
        assert self._master is not None
        view = self._master.info(run.spec.job)
        assert view is not None
        took, failed = time.time() - run.started_at, view.failures + view.losses
        summary = summarize(run.spec, self._results(run), took, failed, dict.fromkeys(Kind, self.executors))
        result = Result(spec=run.spec, counters=view.counters, summary=summary, owner=self)
        self._let_go(run, view, drop_files=False)
        run.folder.remove()
        run.handle.notes += run.staging.notes
        run.handle.finish(result, None)

    def _failed(self, run: _Run, state: JobState, error: str | None) -> None:
        from mrq.commit import claim

        assert self._master is not None
        name, cancelled = run.handle.job, state is JobState.CANCELLED
        keep = not cancelled and run.kept.sampled_for is None
        view = None
        try:
            with contextlib.suppress(MrqError):
                claim.abandon(run.staging, keep=keep)
            view = self._master.info(run.spec.job)
            if keep:
                self._needed |= self._private.names_of(run.spec)
            self._let_go(run, view, drop_files=not keep)
        finally:
            if keep:
                run.folder.close()
            else:
                run.folder.remove()
            if cancelled:
                run.handle.finish(None, Interrupted(f"job {name} was cancelled"))
            else:
                errors = tuple(told.error for told in view.errors if told.error) if view is not None else ()
                run.handle.finish(None, JobFailed(error or "the job failed", job=name, errors=errors))

    def _let_go(self, run: _Run, view: JobInfo | None, *, drop_files: bool) -> None:
        """Nothing of an ended job stays in memory."""
        assert self._agent is not None
        run.handle.seen(view)
        self._forget(run, drop_files=drop_files)
        self._agent.forget(run.spec.job)

    def _forget(self, run: _Run, *, drop_files: bool) -> None:
        """Neither master nor log know a job any more."""
        assert self._master is not None
        self._master.forget(run.spec.job, drop_files=drop_files)
        self._logs.close(run.spec.job)

    def _give_up(self, run: _Run, remove: bool) -> None:
        """A job that was still running when the engine closed."""
        from mrq.commit import claim

        if run.published:  # all but the last word: its output is there
            self._done(run)
            return
        self._logs.close(run.spec.job)
        with contextlib.suppress(MrqError):
            claim.abandon(run.staging, keep=not remove)
        if remove:
            run.folder.remove()
        else:
            run.folder.close()
        run.handle.finish(None, Interrupted(f"job {run.handle.job} was interrupted"))
