"""Which engine a command means, and a cluster's: made when it is needed, with all that it imports."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from mrq.cli.console import Console, shown
from mrq.cli.flags import Parsed
from mrq.cli.wording import in_flags
from mrq.errors import UsageError
from mrq.io.disk import working_folder

if TYPE_CHECKING:
    from mrq.cli.submit import Told
    from mrq.engine.engine import Engine
    from mrq.profile import Profile

_VARIABLES: Final = ("MRQ_CLUSTER", "MRQ_AMQP_URL", "MRQ_REDIS_URL")


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


def noting(console: Console, told: Told) -> Callable[[str], None]:
    """What an engine tells a job's notes: each is said as it comes, and once in what `--json` prints."""

    def note(text: str) -> None:
        if text not in told.notes:
            told.notes = (*told.notes, text)
        console.line(f"note: {shown(in_flags(text))}")

    return note


@contextlib.contextmanager
def remote_of(parsed: Parsed, console: Console, told: Told, *, headline: bool = True) -> Iterator[Engine]:
    """A cluster's engine, closed in the end; `headline` says which cluster that is. Raises UsageError."""
    found = profile_for(parsed)
    where = found.state()
    told.engine, told.cluster = "cluster", found.name
    told.where = f" --cluster {found.name}" if "cluster" in parsed.values else ""
    from mrq.engine.remote import cluster_engine

    if headline:
        name = f" {found.name}," if found.name != str(where) else ","
        console.line(f"cluster{name} state in {where}")

    engine = cluster_engine(found, say=console.line, note=noting(console, told))
    try:
        yield engine
    finally:
        engine.close()
