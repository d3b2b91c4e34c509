"""What agent and data plane say to each other: a dataclass each, in the frames of `worker.protocol`.

To it: `Hello` once, then `Located`, `Gather`, `Discard` and `Forget`. From it: `Ready` or `NotServing` once,
then `Alive`, `Mistaken`, and what `worker.gather` has: `Gathering`, and one `Gathered` or `GatherFailed` a
token.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from mrq.core import wire
from mrq.core.model import MapLocation
from mrq.core.refs import AttemptRef
from mrq.worker import protocol
from mrq.worker.gather import Gathered, GatherFailed, Gathering

#: Locations in one frame.
_LOCATIONS_MAX: Final = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who a data plane is, what it serves and where."""

    root: str  #: the worker's folder, its own under lock
    worker: str
    boot: str
    bind: str = "127.0.0.1:0"  #: beyond this host it needs a key, unless `insecure`
    key: bytes | None = field(default=None, repr=False)
    insecure: bool = False
    quota: str = ""  #: the path of the page of the disk's quota, if there is one
    sentinel: str = ""  #: what the file `sentinel` in the root holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """What is new of a job's map outputs."""

    job: str
    found: tuple[MapLocation, ...] = ()
    gone: tuple[AttemptRef, ...] = ()  #: before `found`
    peers: tuple[tuple[str, str, str], ...] = ()  #: worker, boot, address

    def in_frames(self) -> list[Located]:
        """The same, cut so that each goes into a frame; what is gone comes first."""
        starts = range(0, len(self.found), _LOCATIONS_MAX)
        cut = [Located(job=self.job, found=self.found[at : at + _LOCATIONS_MAX]) for at in starts]
        return [replace(self, found=()), *cut] if self.gone or self.peers else cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather:
    """Begin for a reduce attempt: its own partition of so many outputs."""

    attempt: AttemptRef
    maps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """An attempt is over: what was gathered for it goes."""

    token: str
    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """A job is over."""

    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """It serves, at an address."""

    address: str


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
class Mistaken:
    """A boot of a worker isn't who listens at its address."""

    worker: str
    boot: str


_KINDS: Final[dict[str, type[object]]] = {
    kind.__name__: kind
    for kind in (
        *(Hello, Located, Gather, Discard, Forget),
        *(Ready, NotServing, Alive, Mistaken, Gathering, Gathered, GatherFailed),
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
