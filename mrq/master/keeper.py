"""What a cluster's leader does with what the machine decided: commits, ends, and samplings that go on.

Called on the loop's thread; whatever touches a disk or the store's blobs is handed to `slow`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from mrq.core import commands as c
from mrq.core import wire
from mrq.core.info import JobInfo
from mrq.core.model import JobSpec, JobState, Kind, Purpose, TaskResult
from mrq.core.paths import shown_id
from mrq.errors import InternalError, MrqError, OperatorError
from mrq.io import committer, owner
from mrq.io.committer import Staging
from mrq.io.idle import summarize
from mrq.master.loop import Master
from mrq.master.news import News
from mrq.master.shared import SharedRoot
from mrq.master.submits import Submits

_AGAIN_S: Final = 1.0


class ClusterKeeper:
    """A `master.loop.Keeper`. `master`, `news` and `submits` are set before the loop starts.

    `over` is told of each job that is over, as it was last.
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
        over: Callable[[JobInfo], None],
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
        info = self.master.info(spec.job)
        if spec.purpose is Purpose.SAMPLE and state is JobState.DONE:
            samples = self.samples(spec)
            self.slow(spec, lambda: self.sampled(spec, samples))
            return
        results = self._results(spec) if state is JobState.DONE else {}
        self.slow(spec, lambda: self.settle(spec, state, error, info, results))

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
        info: JobInfo | None,
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
        if info is not None:  # of a sampling it has no output
            info = replace(info, output=target.output)
            self._over(info)
        self._tell_end(target, state, error, info, results=results)
        if not keep:
            self._forget(spec.job, drop_files=state is not JobState.DONE)

    def _goes_on(self, spec: JobSpec) -> bool:
        """Has a job that had failed been taken up again?"""
        return self.master.look(lambda machine: machine.state(spec.job)) not in (None, JobState.FAILED)

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
        info: JobInfo | None,
        *,
        results: Mapping[tuple[Kind, int], TaskResult] | None = None,
        kind: str = "",
    ) -> None:
        entry: dict[str, Any] = {"type": "ended", "state": state.value, "error": error, "error_type": kind}
        if info is not None:
            entry["info"] = wire.to_wire(info)
        if state is JobState.DONE and info is not None:
            failed = info.failures + info.losses
            took = time.time() - spec.created_at
            slots = {kind: self.submits.slots_of(kind, spec.max_running) for kind in Kind}
            entry["summary"] = wire.to_wire(summarize(spec, results or {}, took, failed, slots))
            entry["spec"] = wire.to_wire(replace(spec, splits=()))
        self.news.tell(shown_id(spec.job), entry)

    def _results(self, spec: JobSpec) -> dict[tuple[Kind, int], TaskResult]:
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
