"""Values as bytes that Lua passes on without looking: msgpack of a version and the wire form.

Names of files that aren't UTF-8 are strings with surrogates; they come back as they were.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast, get_args

import msgpack

import mrq
from mrq.core import wire
from mrq.core.earlier_specs import BEFORE, spec_before
from mrq.core.model import Beat, JobSpec, Quarantine, Slots
from mrq.core.orders import Order
from mrq.core.wire import from_wire, pack_any, to_wire, unpack_any
from mrq.errors import CorruptFileError

T = TypeVar("T")

#: Of all that is stored in Redis: a change of the fields of a class that lies there is another version.
VERSION: Final = 6

#: How a value of this version begins.
_OURS: Final = wire.pack([VERSION, None])[:2]

_ORDERS: Final[dict[str, type[Any]]] = {order.__name__: order for order in get_args(Order)}


def pack(value: Any) -> bytes:
    """A dataclass of the core."""
    return wire.pack([VERSION, to_wire(value)])


def unpack(cls: type[T], data: bytes) -> T:
    """The instance that `pack` was given. Raises CorruptFileError, also for another version's."""
    return from_wire(cls, _body(data))


def unpack_beat(data: bytes) -> tuple[Beat, str]:
    """A beat, and "". Of another version's only who beats is read, with which that of each version begins: a
    beat without slots, and why its worker is refused. Raises CorruptFileError."""
    version, body = _opened(data)
    if version == VERSION:
        return from_wire(Beat, body), ""
    match body:
        case [str(worker), str(boot), int(seq), *_]:
            why = (
                f"it runs another version of mrq: its beats have version {version}, and the masters' mrq "
                f"{mrq.__version__} reads {VERSION}; start it from the same mrq as the masters"
            )
            return Beat(worker=worker, boot=boot, seq=seq, slots=Slots(map=0, reduce=0, total=0)), why
    raise CorruptFileError(f"a beat in Redis has version {version}, and doesn't say whose it is")


def request_id(data: bytes) -> str:
    """Of a client's request of another version, which begins as that of each version does, its id. Raises
    CorruptFileError."""
    match _opened(data):
        case (_, [str(request), *_]):
            return request
    raise CorruptFileError("a request in Redis has no id")


def unpack_spec(data: bytes) -> JobSpec:
    """A job's spec that `pack` was given, also of versions before, so that a leader can say by its name that
    a job of theirs can't go on. Raises CorruptFileError."""
    if is_ours(data):
        return unpack(JobSpec, data)
    version, body = _opened(data)
    return spec_before(version, body) if version in BEFORE else from_wire(JobSpec, _body(data))


def pack_order(order: Order) -> bytes:
    """An order, with its kind."""
    return wire.pack([VERSION, [type(order).__name__, to_wire(order)]])


def unpack_order(data: bytes) -> Order:
    """What `pack_order` was given. Raises CorruptFileError, also for another version's."""
    name, body = _body(data)
    if name not in _ORDERS:
        raise CorruptFileError(f"an order in Redis is of kind {name!r}, which this mrq doesn't know")
    return cast(Order, from_wire(_ORDERS[name], body))


def pack_value(value: Any) -> bytes:
    """Any carried value."""
    return wire.pack([VERSION, pack_any(value)])


def unpack_value(data: bytes) -> Any:
    """What `pack_value` was given. Raises CorruptFileError, also for another version's."""
    try:
        return unpack_any(_body(data))
    except (TypeError, ValueError, IndexError) as exc:
        raise CorruptFileError(f"a value in Redis can't be read: {exc}") from exc


def is_ours(data: bytes) -> bool:
    """Was a value packed by this version?"""
    return data.startswith(_OURS)


def row(data: bytes) -> list[Any]:
    """A row that scripts read and write."""
    return cast(list[Any], msgpack.unpackb(data, unicode_errors="surrogatepass"))


def quarantine(why: str = "", since_ms: int = 0) -> Quarantine:
    """As it ends a worker's row."""
    return Quarantine(why=why, at=since_ms / 1000)


def pairs(data: bytes) -> list[bytes]:
    """Fields and values in turn, as a script packed them."""
    return cast(list[bytes], msgpack.unpackb(data, raw=True))


def pack_row(values: list[Any]) -> bytes:
    """A row for scripts: small numbers and strings."""
    return cast(bytes, msgpack.packb(values))


def _opened(data: bytes) -> tuple[Any, Any]:
    """A value's version and its body."""
    try:
        version, body = wire.unpack(data)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as exc:
        raise CorruptFileError(f"a value in Redis can't be read: {exc}") from exc
    return version, body


def _body(data: bytes, versions: tuple[int, ...] = (VERSION,)) -> Any:
    version, body = _opened(data)
    if version not in versions:
        raise CorruptFileError(
            f"a value in Redis has version {version}, and this mrq reads {VERSION}: "
            "run one version of mrq everywhere, or give the new one another prefix"
        )
    return body
