"""The engine that a program holds: jobs are submitted, followed and taken up again through it.

A submit is a *draft* (`mrq.planning.draft`): all that needs the user's code. The engine's *leader* completes
it where the data is, and runs it: one in this process (`engine.local`), or a cluster's (`engine.remote`).
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import mrq
from mrq import planning
from mrq.core.info import JobInfo
from mrq.core.model import Limits
from mrq.core.pathmap import PathMap
from mrq.errors import UsageError
from mrq.handle import Handle
from mrq.io.plan import Draft, Plan
from mrq.io.temporary import PrivateFolder
from mrq.job.base import Job
from mrq.planning import Path, Request
from mrq.result import Result
from mrq.settings.job import retry_limits

__all__ = ["Engine", "Handle", "Leader"]

# What is logged is shown to whoever configures logging for it.
logging.getLogger("mrq").addHandler(logging.NullHandler())


class Leader(Protocol):
    """Who takes an engine's jobs and answers its questions. From any thread."""

    name: str  #: of the cluster's profile, or of this machine
    defaults: Mapping[str, Any]  #: settings of jobs that say nothing else, by name
    paths: PathMap | None  #: where the leader opens what is spelled here; None: as it is
    closed: str  #: what an engine that was closed says

    def complete(self, draft: Draft) -> Draft:
        """A draft with what this leader wants to know beside."""
        ...

    def plan(self, draft: Draft) -> tuple[Plan, int]:
        """What a submit of the draft would run, and how many tasks the workers run at once by now."""
        ...

    def submit(self, draft: Draft, handle: Handle, *, wait: bool) -> Sequence[str]:
        """Take a job, and bring its handle up to date from then on, with `wait`; notes on it. Raises what it
        is refused for; whatever else is raised meanwhile takes it back."""
        ...

    def follow(self, handle: Handle) -> None:
        """Bring the handle of a job that is known up to date. Raises UsageError, naming the nearest."""
        ...

    def retry(self, handle: Handle, limits: Limits, old: str | None) -> None:
        """Go on with a job that failed, and follow it. Raises UsageError or InputError by name."""
        ...

    def cancel(self, job: str) -> None:
        """Ask for a job's end."""
        ...

    def view(self, job: str) -> JobInfo | None:
        """A job as it was last heard of."""
        ...

    def ask(self, op: str, **args: Any) -> Mapping[str, Any]:
        """The answer to a question; see `Engine.ask`."""
        ...

    def blob(self, digest: str) -> bytes | None:
        """Bytes that are kept under a digest; None when they are gone."""
        ...

    def close(self, *, remove: bool) -> None:
        """End what this process does for it."""
        ...


class Engine:
    """Runs jobs. Close it, or use it as a context manager. From any thread.

    `mrq.local` makes one on this machine, `mrq.connect` one of a cluster.
    """

    def __init__(self, leader: Leader, private: PrivateFolder) -> None:
        self.leader = leader
        self.name = leader.name
        self.root = private.root
        self._private = private
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
        """Start a job and return its handle as soon as it is taken; arguments as of `run`."""
        if self._closed:
            raise UsageError(self.leader.closed)
        request = planning.request_of(
            job,
            inputs,
            output,
            records=records,
            overwrite=overwrite,
            overrides=overrides,
            folder=self._private.path if records is not None else "",
        )
        return self.start_draft(self.draft(request))

    def draft(self, request: Request) -> Draft:
        """What is to be submitted. Raises UsageError and its kind before anything is sent."""
        leader = self.leader
        made = planning.draft(request, leader.paths, defaults=leader.defaults)
        return leader.complete(replace(made, version=mrq.__version__))

    def plan_draft(self, draft: Draft) -> tuple[Plan, int]:
        """What a submit of the draft would run, and how many tasks the workers run at once by now. Nothing
        runs, and nothing is sent. Raises what a submit would be refused for."""
        return self.leader.plan(draft)

    def start_draft(self, draft: Draft, *, wait: bool = True) -> Handle:
        """Submit a draft. Raises what it is refused for, before anything runs.

        Without `wait` nobody here follows the job. Whatever is raised meanwhile, by a signal too, takes the
        job back.
        """
        handle = self._handle(draft.spec.job)
        for text in self.leader.submit(draft, handle, wait=wait):
            handle.note(text)
        return handle

    def handle(self, job: str) -> Handle:
        """The handle of a job that is known. Raises UsageError naming the nearest."""
        handle = self._handle(job)
        self.leader.follow(handle)
        return handle

    def retry(self, job: str, *, old: str | None = None, **overrides: Any) -> Handle:
        """Go on with a job that failed or, on this machine, was killed; `overrides` are settings by name that
        a retry may set anew (`memory="1G"`), `old` is what MRQ_TMP was then, if it was another. Raises
        UsageError or InputError by name."""
        handle = self._handle(job)
        self.leader.retry(handle, retry_limits(overrides), old)
        return handle

    def ask(self, op: str, **args: Any) -> Mapping[str, Any]:
        """Ask the leader anything else: jobs, status, workers, logs … (docs/protocol.md); what it says of
        jobs are `JobInfo` (`mrq.core.info`), of workers and logs `WorkerInfo` and `LogInfo`
        (`mrq.core.worker_info`).

        Raises the error that it answers, OperatorError when nobody does.
        """
        return self.leader.ask(op, **args)

    def blob(self, digest: str) -> bytes | None:
        """Bytes that are kept under a digest, of a log say; None when they are gone."""
        return self.leader.blob(digest)

    def private_folder(self) -> str:
        """A folder of this engine's own, for what a job reads that isn't a file of the user's.

        Removed with the engine, unless a job that is kept for `retry` needs it. Raises DiskFullError or
        OutputError.
        """
        return self._private.path

    def close(self, remove: bool = True) -> None:
        """Let go of everything. On this machine what runs is stopped within 2 s, its jobs end as interrupted,
        and what is temporary is removed, unless `remove` is False; jobs of a cluster go on. May be called
        again."""
        self._closed = True
        self.leader.close(remove=remove)
        self._private.close(keep=not remove)

    def close_when_collected(self, result: Result) -> None:
        """Close now, but keep the private output for as long as its result lives."""
        self._closed = True
        self.leader.close(remove=True)
        weakref.finalize(result, self._private.close, keep=False)

    def _handle(self, job: str) -> Handle:
        return Handle(job, cancel=self.leader.cancel, view=self.leader.view)
