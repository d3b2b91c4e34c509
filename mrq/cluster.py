"""The cluster's engine as a client holds it: the same methods as the embedded one, over the store alone.

A submit is a draft (`mrq.planning.draft`), with the bundle and what only this client sees as blobs; the
leader completes it where the data is. What follows comes as the job's news. Nothing here polls.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import mrq
from mrq import config, planning
from mrq.core import wire
from mrq.core.ending import JobEnd
from mrq.core.info import JobInfo
from mrq.core.model import NO_LIMITS, JobSpec, Limits
from mrq.core.pathmap import PathMap
from mrq.errors import InputError, MrqError, OperatorError, UsageError
from mrq.extra import needing_extra
from mrq.handle import Handle
from mrq.io.inputs import Finding
from mrq.io.plan import Draft, Plan, complete
from mrq.job import packages
from mrq.master.jobfolder import make_root
from mrq.master.private import PrivateFolder
from mrq.planning import Path, Request
from mrq.ports import Blobs, ClientLink
from mrq.remote import ship
from mrq.remote.ask import Asker, retried
from mrq.remote.fetch import fetch
from mrq.remote.follow import Follower
from mrq.remote.here import Here
from mrq.result import Result

if TYPE_CHECKING:
    from mrq.job.base import Job
    from mrq.profile import Profile

    #: (profile, what to say meanwhile) -> the connections of a client.
    Connect = Callable[[Profile, Callable[[str], None]], tuple[ClientLink, Blobs]]

__all__ = ["ClusterEngine", "Handle"]

#: A task's charged failures on a cluster: more than one, since machines differ.
MAX_FAILURES: Final = 4
_CLOSED: Final = "this connection to the cluster is closed; make another with mrq.connect()"


class ClusterEngine:
    """A cluster, as one client sees it. Close it, or use it as a context manager; jobs go on without it.

    `say` is told what the user may want to know meanwhile: that no master answers, that the store is away;
    `note` is told jobs' notes, or `say` too. `connect` makes the connections, when they are first needed.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        say: Callable[[str], None] | None = None,
        note: Callable[[str], None] | None = None,
        connect: Connect | None = None,
    ) -> None:
        self.name = profile.name
        self.root = config.temp_root()
        self._profile = profile
        self._paths = PathMap.of(profile.paths, "/")
        self._here = Here(self._paths)
        self._say = say or (lambda text: None)
        self._tell_note = note or (lambda text: self._say(f"note: {text}"))
        self._connect = connect or _connect
        self._private = PrivateFolder(self.root)
        self._followers: dict[str, Follower] = {}
        self._lock = threading.Lock()
        self._made: tuple[Asker, Blobs] | None = None
        self._closed = False

    def __enter__(self) -> ClusterEngine:
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
        """Run a job on the cluster and wait for it; as `mrq.run`."""
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
        """Start a job and return its handle as soon as the cluster has taken it; arguments as of `run`."""
        if records is not None:
            make_root(self.root)
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
        made = planning.draft(request, self._paths, max_failures=MAX_FAILURES)
        spec = replace(made.spec, packages=packages.required(made.code))
        made = replace(made, spec=spec, version=mrq.__version__)
        return ship.seen(made, self._paths)

    def start_draft(self, draft: Draft, *, wait: bool = True) -> Handle:
        """Submit a draft. Raises what the cluster refuses it for, before anything runs.

        Without `wait` nobody here follows the job. Whatever is raised meanwhile, by a signal too, takes the
        job back.
        """
        asker, blobs = self._connected()
        spec = draft.spec
        blobs.put(draft.code, keep_s=ship.KEEP_S)
        draft = self._with_unseen(draft, blobs)
        try:
            answer = self._offer("submit", draft, blobs)
            handle = self._handle(spec.job)
            for note in answer["notes"]:
                self._note(note)
            if wait:
                self._follow(handle, spec)
        except UsageError:
            raise  # refused: there is nothing to take back
        except BaseException:
            with contextlib.suppress(OperatorError):
                asker.tell("cancel", job=spec.job, reason="taken back before it was followed")
            raise
        return handle

    def plan_draft(self, draft: Draft) -> tuple[Plan, int]:
        """What a submit of the draft would run, and how many tasks the workers run at once by now. Nothing
        runs, and nothing is sent. Raises what the cluster would refuse it for."""
        answer = self._offer("plan", self._with_unseen(draft, None), None)
        plan = complete(draft, wire.from_wire(Finding, answer["finding"]))
        there = plan.spec.output_open
        here = there and (self._paths.to_client(there) or there)
        return replace(plan, spec=replace(plan.spec, output_open=here)), int(answer["slots"])

    def handle(self, job: str) -> Handle:
        """The handle of a job that is known on the cluster: its news are followed from where it went on last.

        Raises UsageError naming the nearest.
        """
        self.ask("status", job=job)
        handle = self._handle(job)
        self._follow(handle)
        return handle

    def retry(
        self,
        job: str,
        *,
        limits: Limits = NO_LIMITS,
    ) -> Handle:
        """Go on with a job that failed, under other limits if some are given. Raises UsageError or InputError
        by name."""
        self.ask("retry", job=job, **retried(limits))
        return self.handle(job)

    def ask(self, op: str, **args: Any) -> Mapping[str, Any]:
        """Ask the leader anything else: jobs, status, workers, logs … (docs/protocol.md); what it says of
        jobs are `JobInfo` (`mrq.core.info`), of workers and logs `WorkerInfo` and `LogInfo`
        (`mrq.core.worker_info`).

        Raises the error that it answers, OperatorError when nobody does.
        """
        try:
            return self._here.answer(self._connected()[0].ask(op, **args))
        except MrqError as exc:
            exc.args = (self._here.text(str(exc)),)
            raise

    def blob(self, digest: str) -> bytes | None:
        """Bytes that the cluster keeps under a digest, of a log say; None when they are gone."""
        return self._connected()[1].get(digest)

    def private_folder(self) -> str:
        """A folder of this engine's own: what a job reads from it is sent. Removed with the engine."""
        make_root(self.root)
        return self._private.path

    def close(self, remove: bool = True) -> None:
        """Close connections and remove what is temporary; jobs go on, and nobody here waits for them."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._made is not None:
            asker, blobs = self._made
            asker.closed.set()
            asker.link.close()
            for follower in list(self._followers.values()):
                follower.join()
            blobs.close()
        self._private.close(keep=not remove)

    def _connected(self) -> tuple[Asker, Blobs]:
        """Who asks, and the blobs; connected with the first call. Raises OperatorError."""
        with self._lock:
            if self._closed:
                raise UsageError(_CLOSED)
            if self._made is None:
                link, blobs = self._connect(self._profile, self._say)
                self._made = Asker(link, timeout_s=self._profile.timeout_s, say=self._say), blobs
            return self._made

    def _with_unseen(self, draft: Draft, blobs: Blobs | None) -> Draft:
        """With what the cluster can't see for certain sent; without `blobs` only measured."""
        unseen = ship.unseen_at_once(draft, self._private.folder)
        return ship.ship(draft, unseen, blobs, bytes_max=self._profile.blob_bytes_max) if unseen else draft

    def _offer(self, op: str, draft: Draft, blobs: Blobs | None) -> Mapping[str, Any]:
        """The leader's answer to a draft, once it has what it doesn't see. Raises what it refuses it for."""
        answer = self._ask_of(op, draft)
        if answer.get("unseen"):
            unseen = dict(zip(answer["unseen"], answer["why"], strict=True))
            draft = ship.ship(draft, unseen, blobs, bytes_max=self._profile.blob_bytes_max)
            answer = self._ask_of(op, draft)
            if answer.get("unseen"):
                raise InputError(f"{draft.inputs[answer['unseen'][0]].spelled}: {answer['why'][0]}")
        return answer

    def _ask_of(self, op: str, draft: Draft) -> Mapping[str, Any]:
        return self.ask(op, draft=wire.to_wire(replace(draft, code=b"")))

    def _handle(self, job: str) -> Handle:
        return Handle(job, cancel=self._cancel, view=self._view)

    def _follow(self, handle: Handle, spec: JobSpec | None = None) -> None:
        follower = Follower(
            self._connected()[0],
            handle,
            lambda end: self._result(end, spec),
            note=self._note,
            here=self._here,
            patience_s=self._profile.timeout_s,
        )
        self._followers[handle.job] = follower
        follower.start()

    def _note(self, text: str) -> None:
        self._tell_note(self._here.text(text))

    def _cancel(self, handle: Handle) -> None:
        self._connected()[0].tell("cancel", job=handle.job, reason="cancelled by the user")

    def _view(self, job: str) -> JobInfo | None:
        follower = self._followers.get(job)
        return follower.last if follower is not None else None

    def _result(self, end: JobEnd, spec: JobSpec | None) -> Result:
        """The result of a job that is done: its OUT as this client reaches it, or a copy."""
        stored = end.spec
        assert stored is not None
        assert end.info is not None
        assert end.summary is not None
        there = str(stored.output_open)
        if stored.output is None:
            self.private_folder()
            here = os.path.join(self._private.path, end.job)
            fetch(self._connected()[0], end.job, here)
        else:
            here = self._paths.to_client(there) or there
        output = spec.output if spec is not None else stored.output
        return Result(
            spec=replace(stored, output_open=here, output=output),
            counters=end.info.counters,
            summary=end.summary,
            owner=self,
        )


def _connect(profile: Profile, say: Callable[[str], None]) -> tuple[ClientLink, Blobs]:
    with needing_extra():
        from mrq.adapters.redis import RedisBlobs, RedisClientLink, connect

    connection = connect(profile.state().full(), prefix=profile.prefix, wait_s=profile.timeout_s, say=say)
    return RedisClientLink(connection), RedisBlobs(connection)
