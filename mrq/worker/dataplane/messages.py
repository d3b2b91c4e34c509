"""What agent and data plane say to each other, in the frames of `worker.protocol`.

To it: `hello` once (who it is and what it binds), then
    locations   job, found (locations), gone (attempts), peers (worker, boot, address)
    gather      attempt, maps
    cancel      token, job; forget: job
From it: `ready` (address) or `refused` (error, message) once, then
    alive       trouble: every two seconds; what is wrong with its serving, "" for nothing
    mistaken    worker, boot: that isn't who listens at its address
    gathering   token, fraction, bytes
    gathered    token, sources
    failed      token, outcome
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from mrq.core import wire
from mrq.core.model import MapLocation, Outcome
from mrq.core.refs import AttemptRef
from mrq.worker.order import MapSource

HELLO: Final = "hello"
LOCATIONS: Final = "locations"
GATHER: Final = "gather"
CANCEL: Final = "cancel"
FORGET: Final = "forget"
READY: Final = "ready"
REFUSED: Final = "refused"
GATHERING: Final = "gathering"
GATHERED: Final = "gathered"
FAILED: Final = "failed"
ALIVE: Final = "alive"
MISTAKEN: Final = "mistaken"

#: Locations in one frame.
_LOCATIONS_MAX: Final = 5000

Message = dict[str, Any]


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


def hello(said: Hello) -> Message:
    """The first frame."""
    return {"op": HELLO, **asdict(said)}


def read_hello(message: Message) -> Hello:
    """Raises KeyError, TypeError for what isn't one."""
    return Hello(**{name: message[name] for name in Hello.__dataclass_fields__})


def locations(
    job: str, found: list[MapLocation], gone: list[AttemptRef], peers: Iterable[tuple[str, str, str]]
) -> list[Message]:
    """Frames that tell of locations, what is gone first."""
    first: Message = {
        "op": LOCATIONS,
        "job": job,
        "found": [],
        "gone": [wire.to_wire(attempt) for attempt in gone],
        "peers": [list(peer) for peer in peers],
    }
    rest: list[Message] = []
    for at in range(0, len(found), _LOCATIONS_MAX):
        some = [wire.to_wire(location) for location in found[at : at + _LOCATIONS_MAX]]
        rest.append({"op": LOCATIONS, "job": job, "found": some, "gone": [], "peers": []})
    return [first, *rest] if first["gone"] or first["peers"] else rest


def read_locations(
    message: Message,
) -> tuple[list[MapLocation], list[AttemptRef], list[tuple[str, str, str]]]:
    """What such a frame holds. Raises CorruptFileError, KeyError, ValueError."""
    return (
        [wire.from_wire(MapLocation, data) for data in message["found"]],
        [wire.from_wire(AttemptRef, data) for data in message["gone"]],
        [(worker, boot, address) for worker, boot, address in message["peers"]],
    )


def gather(attempt: AttemptRef, maps: int) -> Message:
    """Begin for a reduce attempt: its own partition of so many outputs."""
    return {"op": GATHER, "attempt": wire.to_wire(attempt), "maps": maps}


def gathered(token: str, sources: Iterable[MapSource]) -> Message:
    """All is here."""
    return {"op": GATHERED, "token": token, "sources": [wire.to_wire(source) for source in sources]}


def read_sources(message: Message) -> tuple[MapSource, ...]:
    """The sources of a `gathered`. Raises CorruptFileError, KeyError."""
    return tuple(wire.from_wire(MapSource, data) for data in message["sources"])


def failed(token: str, outcome: Outcome) -> Message:
    """It ends before it began."""
    return {"op": FAILED, "token": token, "outcome": wire.to_wire(outcome)}


def read_outcome(message: Message) -> Outcome:
    """The outcome of a `failed`. Raises CorruptFileError, KeyError."""
    return wire.from_wire(Outcome, message["outcome"])
