"""A cluster's leader, as a client reaches it: over the store alone.

A submit is a draft, with the bundle and what only this client sees as blobs; the leader completes it where
the data is. What follows comes as the job's events. Nothing here polls.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mrq.adapters.extra import needing_extra
from mrq.core import wire
from mrq.core.ending import JobEnd
from mrq.core.info import JobInfo
from mrq.core.model import JobSpec, Limits
from mrq.core.pathmap import PathMap
from mrq.engine.engine import Engine
from mrq.errors import InputError, MrqError, OperatorError, UsageError, UsageTypeError
from mrq.handle import Handle
from mrq.io.inputs import Finding
from mrq.io.plan import Draft, Plan, complete
from mrq.io.temporary import PrivateFolder
from mrq.job import packages
from mrq.ports import Blobs, ClientLink
from mrq.remote import ship
from mrq.remote.ask import Asker, retried
from mrq.remote.fetch import fetch
from mrq.remote.follow import JobFollower
from mrq.remote.here import Here
from mrq.result import Result
from mrq.settings.cluster import Profile
from mrq.settings.variables import temp_root

#: Makes the connections of a client.
Connect = Callable[[Profile], tuple[ClientLink, Blobs]]


def cluster_engine(profile: Profile, *, connect: Connect | None = None) -> Engine:
    """An engine whose jobs a cluster runs; they go on when it is closed. `connect` makes the connections,
    when they are first needed."""
    private = PrivateFolder(temp_root())
    return Engine(RemoteLeader(profile, private, connect=connect or _connect), private)


class RemoteLeader:
    """An `engine.Leader`, which says what its methods do: one client's way to it."""

    closed = "this connection to the cluster is closed; make another with mrq.connect()"

    def __init__(self, profile: Profile, private: PrivateFolder, *, connect: Connect) -> None:
        self.name = profile.name
        # More failures than one, since machines differ.
        self.defaults: Mapping[str, Any] = {"max_failures": 4, **profile.job}
        self.paths: PathMap | None = PathMap.of(profile.paths, "/")
        self._profile = profile
        self._private = private
        self._here = Here(self.paths)
        self._connect = connect
        self._followers: dict[str, JobFollower] = {}
        self._lock = threading.Lock()
        self._made: tuple[Asker, Blobs] | None = None
        self._closed = False

    def complete(self, draft: Draft) -> Draft:
        """With the packages that its code imports, and what this client sees of its inputs."""
        spec = replace(draft.spec, packages=packages.required(draft.code))
        return ship.seen(replace(draft, spec=spec), self._map)

    def submit(self, draft: Draft, handle: Handle, *, wait: bool) -> Sequence[str]:
        asker, blobs = self._connected()
        spec = draft.spec
        blobs.put(draft.code, keep_s=ship.KEEP_S)
        draft = self._with_unseen(draft, blobs)
        try:
            notes = self._offer("submit", draft, blobs)["notes"]
            if wait:
                self._follow(handle, spec)
        except UsageError:
            raise  # refused: there is nothing to take back
        except BaseException:
            with contextlib.suppress(OperatorError):
                asker.tell("cancel", job=spec.job, reason="taken back before it was followed")
            raise
        return [self._here.text(text) for text in notes]

    def plan(self, draft: Draft) -> tuple[Plan, int]:
        answer = self._offer("plan", self._with_unseen(draft, None), None)
        plan = complete(draft, wire.from_wire(Finding, answer["finding"]))
        there = plan.spec.output_open
        here = there and (self._map.to_client(there) or there)
        return replace(plan, spec=replace(plan.spec, output_open=here)), int(answer["slots"])

    def follow(self, handle: Handle) -> None:
        """Its events are followed from where it went on last."""
        self.ask("status", job=handle.job)
        self._follow(handle, None)

    def retry(self, handle: Handle, limits: Limits, old: str | None) -> None:
        if old is not None:
            raise UsageTypeError("a cluster keeps its jobs in its store, not in MRQ_TMP; leave out `old`")
        self.ask("retry", job=handle.job, **retried(limits))
        self.follow(handle)

    def cancel(self, job: str) -> None:
        """Ask for a job's end. Raises OperatorError."""
        self._connected()[0].tell("cancel", job=job, reason="cancelled by the user")

    def view(self, job: str) -> JobInfo | None:
        follower = self._followers.get(job)
        return follower.last if follower is not None else None

    def ask(self, op: str, **args: Any) -> Mapping[str, Any]:
        try:
            return self._here.answer(self._connected()[0].ask(op, **args))
        except MrqError as exc:
            exc.args = (self._here.text(str(exc)),)
            raise

    def blob(self, digest: str) -> bytes | None:
        return self._connected()[1].get(digest)

    def close(self, *, remove: bool) -> None:
        """Close the connections; jobs go on, and nobody here waits for them."""
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

    @property
    def _map(self) -> PathMap:
        assert self.paths is not None
        return self.paths

    def _connected(self) -> tuple[Asker, Blobs]:
        """Who asks, and the blobs; connected with the first call. Raises OperatorError."""
        with self._lock:
            if self._closed:
                raise UsageError(self.closed)
            if self._made is None:
                link, blobs = self._connect(self._profile)
                self._made = Asker(link, timeout_s=self._profile.timeout_s), blobs
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

    def _follow(self, handle: Handle, spec: JobSpec | None) -> None:
        asker, _ = self._connected()
        result_of = partial(self._result, spec=spec)
        follower = JobFollower(asker, handle, result_of, self._here, self._profile.timeout_s)
        self._followers[handle.job] = follower
        follower.start()

    def _result(self, end: JobEnd, spec: JobSpec | None) -> Result:
        """The result of a job that is done: its OUT as this client reaches it, or a copy."""
        stored = end.spec
        assert stored is not None
        there = str(stored.output_open)
        if stored.output is None:
            here = os.path.join(self._private.path, end.job)
            fetch(self._connected()[0], end.job, here)
        else:
            here = self._map.to_client(there) or there
        output = spec.output if spec is not None else stored.output
        return Result.of(end, replace(stored, output_open=here, output=output), self)


def _connect(profile: Profile) -> tuple[ClientLink, Blobs]:
    with needing_extra():
        from mrq.adapters.redis import RedisBlobs, RedisClientLink, connect

    connection = connect(profile.state().full(), prefix=profile.prefix, wait_s=profile.timeout_s)
    return RedisClientLink(connection), RedisBlobs(connection)
