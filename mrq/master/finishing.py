"""What a leader does with the ends that the machine decided: of stages, of tasks' work, of jobs.

Called on the loop's thread; whatever touches a disk or the store's blobs is done in the background.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from mrq.commit import between, claim, manifest, owner, publish
from mrq.commit.staging import Staging
from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.ending import JobEnd
from mrq.core.info import JobInfo
from mrq.core.job_summary import of_stages
from mrq.core.model import JobSpec, JobState, Limits, Purpose, TaskResult
from mrq.core.refs import Kind, TaskRef
from mrq.errors import CorruptFileError, InternalError, MrqError
from mrq.io.idle import summarize
from mrq.io.plan import following
from mrq.master.background import Background
from mrq.master.job_events import JobEvents
from mrq.master.known_jobs import KnownJobs
from mrq.master.loop import Master
from mrq.master.shared import SharedRoot
from mrq.master.submissions import Submissions


@dataclass(eq=False, kw_only=True)
class JobFinisher:
    """One leadership's. With `keeps_failed` a failed job stays until `expire`, for who takes it up again."""

    master: Master
    submits: Submissions
    events: JobEvents
    background: Background
    cluster: owner.Cluster | None
    shared: SharedRoot
    jobs: KnownJobs
    keeps_failed: bool
    #: Jobs that were taken up again; seconds since the epoch.
    _resumed_at: dict[str, float] = field(default_factory=dict, init=False)
    #: Jobs of this leadership whose output is published, and whose end isn't told yet.
    published: set[str] = field(default_factory=set, init=False)
    #: While a failed job's claim is let go of, or taken again.
    _claiming: threading.Lock = field(default_factory=threading.Lock, init=False)

    def plan(self, command: c.PlanStage) -> None:
        """Keep what a stage has written, and find out what the next one needs to know of it; done again by a
        successor where this leader died on the way."""
        spec = self.master.spec(command.job)
        if spec is None:
            return

        def work() -> None:
            try:
                told: e.Event = self._planned(spec, command)
            except MrqError as exc:
                told = e.JobBroken(job=command.job, error=str(exc))
            self.master.sink(told)

        self.background.do(work)

    def _planned(self, spec: JobSpec, command: c.PlanStage) -> e.StagePlanned | e.PartsLost:
        """The plan of the next stage. Raises MrqError."""
        at = spec.index_of(command.stage)
        if spec.stage(command.complete).purpose is Purpose.SAMPLE:
            from mrq.shuffle.partition import boundaries  # few jobs need it

            found = boundaries(command.samples, command.known.reducers or spec.stages[at].reducers)
            plan = replace(command.known, boundaries=tuple(found))
        else:
            staging = _staging_of(spec)  # never made anew: the job may be over by now
            shown = f"stage {spec.stage(command.complete).number}"
            try:
                parts = between.keep(staging, command.complete, command.parts, shown=shown)
            except CorruptFileError as exc:
                self.events.note(spec.job, f"{exc}: the job begins again at its first stage")
                return e.PartsLost(job=spec.job, stage=command.complete, why=str(exc))
            plan = following(spec, at, parts)
        return e.StagePlanned(job=spec.job, stage=command.stage, plan=plan)

    def commit(self, spec: JobSpec, command: c.StartCommit) -> None:
        """Publish OUT; done again by a successor where this one died on the way."""
        staging = claim.reopen(spec, cluster=self.cluster)
        made = manifest.manifest_of(
            spec,
            command.files,
            command.counters,
            started_at=self._since(spec),
            finished_at=time.time(),
            inputs=list(spec.inputs),
            reducers=command.reducers,
            stages=command.stages,
        )
        publish.commit(staging, made)
        self.published.add(spec.job)
        for note in staging.notes:
            self.events.note(spec.job, note)

    def ended(self, spec: JobSpec, state: JobState, error: str | None) -> None:
        """The job is over, and the store knows."""
        if self.master.crash is not None:
            self.background.died(self.master.crash)
            return
        info = self.master.info(spec.job)
        results = self._results(spec) if state is JobState.DONE else {}
        self._in_background(spec, lambda: self.settle(spec, state, error, info, results))

    def settle(
        self,
        spec: JobSpec,
        state: JobState,
        error: str | None,
        info: JobInfo | None,
        results: Mapping[TaskRef, TaskResult],
    ) -> None:
        """Let go of OUT, tell whoever waits. Again is once: a successor does it for ends that it finds."""
        keep = state is JobState.FAILED
        with self._claiming:
            if keep and self._goes_on(spec):
                return  # a retry came first: its claim isn't to be let go of
            if state is not JobState.DONE:
                self._abandon(spec, keep=keep)
        if not keep:
            self.shared.drop_inputs(spec.job)
        if info is not None:
            self.jobs.archive.add(info)
        end = JobEnd(job=spec.job, state=state, error=error, info=info)
        if state is JobState.DONE and info is not None:
            slots = {kind: self.submits.slots_of(kind, spec.max_running) for kind in Kind}
            failed, took = info.failures + info.losses, time.time() - self._since(spec)
            summary = of_stages(summarize(spec, results, took, failed, slots), info.stages)
            end = replace(end, summary=summary, spec=spec.without_splits())
        if not keep or not self.keeps_failed:
            self._forget(spec.job, drop_files=not keep and state is not JobState.DONE)
        self.events.ended(end)

    def reopen(self, spec: JobSpec, limits: Limits) -> None:
        """A failed job goes on under the limits given. Raises OutputError, DiskFullError, OperatorError."""
        with self._claiming:
            claim.reopen(spec, cluster=self.cluster)
            self.resumed(spec.job)
            self.master.settle(e.RetryRequested(job=spec.job, limits=limits))

    def _abandon(self, spec: JobSpec, *, keep: bool) -> None:
        """Let go of OUT. Where that can't be done it is said, beside how the job ended."""
        try:
            claim.abandon(_staging_of(spec), keep=keep)
        except MrqError as exc:
            if self.background.stopping.is_set():
                raise  # the successor does it
            self.events.note(spec.job, f"what was staged for the output is left: {exc}")

    def resumed(self, job: str) -> None:
        """A job is taken up again: what it took counts from now on."""
        self._resumed_at[job] = time.time()

    def interrupt(self, spec: JobSpec, *, keep: bool) -> None:
        """Let go of the OUT of a job that this leader gives up on; `keep` leaves what is staged. Raises
        OutputError, OperatorError."""
        claim.abandon(_staging_of(spec), keep=keep)

    def expire(self, spec: JobSpec) -> None:
        """A failed job that nobody went on with: what was kept for a retry goes. Raises OutputError."""
        with self._claiming:
            if self._goes_on(spec):
                return
            claim.abandon(_staging_of(spec))
        self.shared.drop_inputs(spec.job)
        self._forget(spec.job, drop_files=True)

    def _in_background(self, spec: JobSpec, work: Callable[[], None]) -> None:
        """Do it beside the loop; an error there ends the job for whoever waits, by its name."""

        def named() -> None:
            try:
                work()
            except MrqError as exc:
                if self.background.stopping.is_set():
                    raise  # the successor does it
                self._tell_error(spec, type(exc).__name__, str(exc))
            except BaseException as exc:
                self._tell_error(spec, InternalError.__name__, f"a bug in mrq: {exc!r}")
                raise

        self.background.do(named)

    def _goes_on(self, spec: JobSpec) -> bool:
        """Has a job that had failed been taken up again?"""
        return self.master.look(lambda machine: machine.state(spec.job)) not in (None, JobState.FAILED)

    def _forget(self, job: str, *, drop_files: bool) -> None:
        self.published.discard(job)
        self._resumed_at.pop(job, None)
        self.master.soon(lambda: self.master.forget(job, drop_files=drop_files))

    def _tell_error(self, spec: JobSpec, kind: str, error: str) -> None:
        self.events.ended(JobEnd(job=spec.job, state=JobState.FAILED, error=error, error_type=kind))

    def _since(self, spec: JobSpec) -> float:
        """When a job was submitted, or taken up again last; seconds since the epoch."""
        return self._resumed_at.get(spec.job, spec.created_at)

    def _results(self, spec: JobSpec) -> dict[TaskRef, TaskResult]:
        return self.master.look(lambda machine: machine.results(spec.job))


def _staging_of(spec: JobSpec) -> Staging:
    """A job's claim, as far as letting go of it needs."""
    if spec.output_open is None or spec.staging is None:
        raise InternalError(f"job {spec.job} has no staging folder")
    return Staging(
        output=spec.output or spec.output_open,
        output_open=spec.output_open,
        folder=spec.staging,
        job=spec.job,
        displaces=None,
    )
