"""What a cluster's leader does with what the machine decided: commits, ends, and samplings that go on.

Called on the loop's thread; whatever touches a disk or the store's blobs is handed to `slow`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from mrq.core import commands as c
from mrq.core import wire
from mrq.core.jobs import JobView, TaskView
from mrq.core.model import JobSpec, JobState, Kind, Purpose, TaskResult
from mrq.errors import InternalError, MrqError, OperatorError
from mrq.io import committer, owner
from mrq.io.committer import Staging
from mrq.io.idle import summarize
from mrq.master.loop import Master
from mrq.master.news import News
from mrq.master.shared import SharedRoot
from mrq.master.submits import Submits, shown_id

#: Attempts' tracebacks that the end of a failed job carries.
_ERRORS: Final = 20
_AGAIN_S: Final = 1.0


class ClusterKeeper:
    """A `master.loop.Keeper`. `master`, `news` and `submits` are set before the loop starts.

    `over` is told of a job (as clients know it) that is over, with its spec and last view.
    """

    master: Master
    news: News
    submits: Submits

    def __init__(
        self,
        *,
        cluster: owner.Cluster,
        shared: SharedRoot,
        slow: Callable[[Callable[[], None]], None],
        over: Callable[[JobSpec, JobView | None], None],
        died: Callable[[BaseException], None],
        stopping: threading.Event,
    ) -> None:
        self._cluster = cluster
        self._shared = shared
        self._slow = slow
        self._over = over
        self._died = died
        self._stopping = stopping
        #: Held while a failed job's claim is let go of, or taken again.
        self.claiming = threading.Lock()

    def commit(self, spec: JobSpec, command: c.StartCommit) -> None:
        """Publish OUT; done again by a successor where this one died on the way."""
        staging = committer.reopen(spec, cluster=self._cluster)
        manifest = committer.manifest_of(
            spec,
            command.files,
            command.counters,
            started_at=spec.created_at,
            finished_at=time.time(),
            inputs=list(spec.inputs),
        )
        committer.commit(staging, manifest)
        for note in staging.notes:
            self.news.note(spec.job, note)

    def ended(self, spec: JobSpec, state: JobState, error: str | None) -> None:
        """The job is over, and the store knows."""
        if self.master.crash is not None:
            self._died(self.master.crash)
            return
        view = self.master.view(spec.job)
        if spec.purpose is Purpose.SAMPLE and state is JobState.DONE:
            samples = self.samples(spec)
            self.slow(spec, lambda: self.sampled(spec, samples))
            return
        results = self._results(spec) if state is JobState.DONE else {}
        self.slow(spec, lambda: self.settle(spec, state, error, view, results))

    def slow(self, spec: JobSpec, work: Callable[[], None]) -> None:
        """Do it on another thread; an error there ends the job for whoever waits, by its name."""

        def named() -> None:
            try:
                work()
            except MrqError as exc:
                if self._stopping.is_set():
                    raise  # the successor does it
                self._tell_end(spec, JobState.FAILED, str(exc), None, kind=type(exc).__name__)
            except BaseException as exc:
                self._tell_end(spec, JobState.FAILED, f"a bug in mrq: {exc!r}", None, kind="InternalError")
                raise

        self._slow(named)

    def checkpoint(self, master: Master) -> None:
        """The store is the checkpoint; clients may want to see what has changed."""
        self.news.stir()

    def samples(self, spec: JobSpec) -> list[bytes]:
        """What the sampling's maps have sampled, in order."""
        results = sorted(self._results(spec).items(), key=lambda item: item[0][1])
        return [result.sample for _, result in results if result.sample is not None]

    def sampled(self, spec: JobSpec, samples: list[bytes]) -> None:
        """Go on with the job that was sampled for, as soon as the store takes it."""
        while True:
            try:
                self.submits.go_on(spec, samples)
                break
            except OperatorError:
                if self._stopping.wait(_AGAIN_S) or not self.submits.is_kept(spec):
                    raise
        self._forget(spec.job, drop_files=True)

    def settle(
        self,
        spec: JobSpec,
        state: JobState,
        error: str | None,
        view: JobView | None,
        results: Mapping[tuple[Kind, int], TaskResult],
    ) -> None:
        """Let go of OUT, tell whoever waits. Again is once: a successor does it for ends that it finds."""
        target = self.submits.sampled_for(spec) if spec.purpose is Purpose.SAMPLE else spec
        keep = state is JobState.FAILED and target is spec
        with self.claiming:
            if state is JobState.FAILED and self._goes_on(spec):
                return  # a retry came first: its claim isn't to be let go of
            if state is not JobState.DONE:
                committer.abandon(_staging_of(target), keep=keep)
        if not keep:
            self._shared.drop_inputs(target.job)
        self._tell_end(target, state, error, view, results=results)
        self._over(replace(target, splits=()), view)
        if not keep:
            self._forget(spec.job, drop_files=state is not JobState.DONE)

    def _goes_on(self, spec: JobSpec) -> bool:
        """Has a job that had failed been taken up again?"""
        view = self.master.view(spec.job)
        return view is not None and view.state is not JobState.FAILED

    def _forget(self, job: str, *, drop_files: bool) -> None:
        self.submits.settled(job)
        self.master.later(lambda: self.master.forget(job, drop_files=drop_files))

    def expire(self, spec: JobSpec) -> None:
        """A failed job that nobody went on with: what was kept for a retry goes. Raises OutputError."""
        with self.claiming:
            if self._goes_on(spec):
                return
            committer.abandon(_staging_of(spec))
        self._shared.drop_inputs(spec.job)
        self._forget(spec.job, drop_files=True)

    def _tell_end(
        self,
        spec: JobSpec,
        state: JobState,
        error: str | None,
        view: JobView | None,
        *,
        results: Mapping[tuple[Kind, int], TaskResult] | None = None,
        kind: str = "",
    ) -> None:
        entry: dict[str, Any] = {"type": "ended", "state": state.value, "error": error, "error_type": kind}
        if view is not None:
            entry["view"] = wire.to_wire(view)
            entry["counters"] = dict(view.counters)
            errors = [told.error for told in view.errors if told.error is not None]
            entry["errors"] = [wire.to_wire(each) for each in errors[-_ERRORS:]]
        if state is JobState.DONE and view is not None:
            failed = view.failures + view.losses
            took = time.time() - spec.created_at
            slots = {kind: self.submits.slots_of(kind, spec.max_running) for kind in Kind}
            entry["summary"] = asdict(summarize(spec, results or {}, took, failed, slots))
            entry["spec"] = wire.to_wire(replace(spec, splits=()))
            entry["output"] = spec.output_open
        self.news.tell(shown_id(spec.job), entry)

    def _results(self, spec: JobSpec) -> dict[tuple[Kind, int], TaskResult]:
        def all_of(tasks: list[TaskView]) -> dict[tuple[Kind, int], TaskResult]:
            return {(task.kind, task.index): task.result for task in tasks if task.result is not None}

        return all_of(self.master.look(lambda machine: list(machine.tasks(spec.job))))


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
