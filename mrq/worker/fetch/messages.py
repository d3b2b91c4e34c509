"""What agent and data plane say to each other: a dataclass each, in the frames of `worker.protocol`.

To it: `Hello` once, then `BeginFetch`, `Discard` and `Forget`. From it: `Ready` or `NotServing` once, then
`Alive`, `FetchProgressed`, and one `Fetched` or `FetchFailed` an attempt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from mrq.core import wire
from mrq.core.model import Outcome
from mrq.core.refs import AttemptRef
from mrq.worker import protocol
from mrq.worker.attempt_order import MapSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who a data plane is, what it serves and where, and how it reads the store."""

    root: str  #: the worker's folder, its own under lock
    worker: str
    boot: str
    #: With the password of a user, who needs to read locations and addresses only.
    redis_url: str = field(repr=False)
    prefix: str = "mrq"  #: of the keys there
    bind: str = "127.0.0.1:0"  #: beyond this host it needs a key, unless `insecure`
    key: bytes | None = field(default=None, repr=False)
    insecure: bool = False
    quota: str = ""  #: the path of the page of the disk's quota, if there is one
    log_format: str = "text"  #: of its standard error, which is the agent's
    sentinel: str = ""  #: what the file `sentinel` in the root holds


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginFetch:
    """Begin for a reduce attempt: its own partition of so many map outputs, as they appear in the store."""

    attempt: AttemptRef
    maps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """An attempt is over: what was fetched for it goes."""

    attempt: AttemptRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """A job is over."""

    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """It serves, at an address."""

    address: str
    refused: str = ""  #: why the store doesn't let it read, if it doesn't


@dataclass(frozen=True, slots=True, kw_only=True)
class NotServing:
    """It doesn't serve."""

    error: str  #: the name of a class of `mrq.errors`
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """Said every two seconds."""

    trouble: str  #: what is wrong with its serving, "" for nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchProgressed:
    """How far an attempt's fetch is."""

    token: str
    fraction: float  #: of all maps, 0 to 1
    bytes: int  #: that were fetched or found


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """All of an attempt's regions are on this machine; its file stays until it is discarded."""

    token: str
    sources: tuple[MapSource, ...]  #: every map's, in map order


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchFailed:
    """An attempt ends before it began; nothing of it is left. Its outcome is FETCH_FAILED with what couldn't
    be read, DISK_FULL, HANDED_BACK, or LOST where fetching itself failed."""

    token: str
    outcome: Outcome


_KINDS: Final[dict[str, type[object]]] = {
    kind.__name__: kind
    for kind in (
        *(Hello, BeginFetch, Discard, Forget),
        *(Ready, NotServing, Alive, FetchProgressed, Fetched, FetchFailed),
    )
}


def frame(message: object) -> dict[str, Any]:
    """A message as a frame."""
    return {"op": type(message).__name__, "fields": wire.to_wire(message)}


def read(found: dict[str, Any]) -> object:
    """The message in a frame. Raises ProtocolError, CorruptFileError, KeyError for what isn't one."""
    kind = _KINDS.get(found["op"])
    if kind is None:
        raise protocol.ProtocolError(f"agent and data plane don't say {found['op']!r}")
    return wire.from_wire(kind, found["fields"])
