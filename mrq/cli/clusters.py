"""Which engine a command means, and a cluster's: made when it is needed, with all that it imports."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from mrq.cli.console import Console, shown
from mrq.cli.flags import Parsed
from mrq.cli.wording import in_flags
from mrq.errors import UsageError
from mrq.io.disk import working_folder

if TYPE_CHECKING:
    from mrq.cli.submit import Told
    from mrq.handle import Handle
    from mrq.io.plan import Draft, Plan
    from mrq.planning import Request
    from mrq.profile import Profile

_VARIABLES: Final = ("MRQ_CLUSTER", "MRQ_AMQP_URL", "MRQ_REDIS_URL")


class Remote(Protocol):
    """What the commands need of `mrq.cluster.ClusterEngine`."""

    def draft(self, request: Request) -> Draft:
        """What a submit sends. Raises UsageError and its kind."""
        ...

    def start_draft(self, draft: Draft, *, wait: bool = True) -> Handle:
        """Submit it. Raises what the leader refuses it with."""
        ...

    def plan_draft(self, draft: Draft) -> tuple[Plan, int]:
        """What it would run, and how many tasks the workers run at once. Raises as `start_draft`."""
        ...

    def handle(self, job: str) -> Handle:
        """Of a job that is known there."""
        ...

    def ask(self, op: str, **args: Any) -> Mapping[str, Any]:
        """The leader's answer. Raises what it refuses with, OperatorError where nobody answers."""
        ...

    def blob(self, digest: str) -> bytes | None:
        """A whole log."""
        ...

    def private_folder(self) -> str:
        """A folder that is removed with the engine."""
        ...

    def close(self, remove: bool = True) -> None:
        """Let go of connections, and of what is private."""
        ...


def is_local(parsed: Parsed) -> bool:
    """Whether this machine is meant. Nothing of a cluster is imported to find that out.

    Raises UsageError for half a cluster, and for a mrq.toml that can't be read.
    """
    name = parsed.values.get("cluster")
    if name is not None:
        return name == "local"
    from mrq import profile_find

    said = any(os.environ.get(each) for each in _VARIABLES)
    if not said and not profile_find.may_choose(os.environ, working_folder()):
        return True
    from mrq import profile

    return profile.choose(None, env=os.environ, cwd=working_folder()).name == profile.LOCAL


def profile_for(parsed: Parsed) -> Profile:
    """The settings that a command line means. Raises UsageError."""
    from mrq import profile

    given = {"timeout_s": parsed.values["timeout"]} if "timeout" in parsed.values else {}
    return profile.load(parsed.values.get("cluster"), flags=given, env=os.environ, cwd=working_folder())


def refuse_local(parsed: Parsed, command: str) -> None:
    """For commands that ask a cluster. Raises UsageError where this machine is meant."""
    if is_local(parsed):
        raise UsageError(
            f"mrq {command} asks a cluster, and none is named: give --cluster NAME, or set MRQ_AMQP_URL and "
            "MRQ_REDIS_URL; jobs on this machine are listed by `mrq retry`"
        )


@contextlib.contextmanager
def remote_of(parsed: Parsed, console: Console, told: Told, *, headline: bool = True) -> Iterator[Remote]:
    """A cluster's engine, closed in the end; `headline` says which cluster that is. Raises UsageError."""
    found = profile_for(parsed)
    where = found.state()
    told.engine, told.cluster = "cluster", found.name
    told.where = f" --cluster {found.name}" if "cluster" in parsed.values else ""
    from mrq.cluster import ClusterEngine

    if headline:
        name = f" {found.name}," if found.name != str(where) else ","
        console.line(f"cluster{name} state in {where}")

    def note(text: str) -> None:
        if text not in told.notes:
            told.notes = (*told.notes, text)
        console.line(f"note: {shown(in_flags(text))}")

    engine: Remote = ClusterEngine(found, say=console.line, note=note)
    try:
        yield engine
    finally:
        engine.close()
