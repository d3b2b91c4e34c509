"""Values as bytes that Lua passes on without looking: msgpack of a version and the wire form.

Names of files that aren't UTF-8 are strings with surrogates; they come back as they were.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast, get_args

import msgpack

from mrq.core import wire
from mrq.core.commands import WriteLocation
from mrq.core.model import Beat, Quarantine
from mrq.core.orders import Order
from mrq.core.refs import Kind
from mrq.core.wire import from_wire, pack_any, to_wire, unpack_any
from mrq.errors import CorruptFileError

T = TypeVar("T")

#: Of all that is stored in Redis: a change of the fields of a class that lies there is another version.
VERSION: Final = 3
#: The one before differs in orders and in where map outputs are. Whatever else it stored is read, so that
#: its jobs go on; its workers don't.
_BEFORE: Final = 2

#: Fields of an entry of the version before in a stream of map outputs.
_LOCATION_BEFORE: Final = 3

_ORDERS: Final[dict[str, type[Any]]] = {order.__name__: order for order in get_args(Order)}


def pack(value: Any) -> bytes:
    """A dataclass of the core."""
    return wire.pack([VERSION, to_wire(value)])


def unpack(cls: type[T], data: bytes) -> T:
    """The instance that `pack` was given, also of the version before. Raises CorruptFileError."""
    return from_wire(cls, _body(data, before=True))


def unpack_beat(data: bytes) -> Beat:
    """A beat that `pack` was given. Raises CorruptFileError, also for one of another version's worker."""
    return from_wire(Beat, _body(data))


def unpack_location(data: bytes) -> WriteLocation:
    """An entry of a stream of map outputs, also of the version before. Raises CorruptFileError."""
    body = _body(data, before=True)
    if isinstance(body, list) and len(body) == _LOCATION_BEFORE:
        job, location, withdrawn = body  # the job stood apart from its map and the attempt
        body = [[job, Kind.MAP.value, *location], withdrawn] if isinstance(location, list) else body
    return from_wire(WriteLocation, body)


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
    """What `pack_value` was given, also of the version before. Raises CorruptFileError."""
    try:
        return unpack_any(_body(data, before=True))
    except (TypeError, ValueError, IndexError) as exc:
        raise CorruptFileError(f"a value in Redis can't be read: {exc}") from exc


def row(data: bytes) -> list[Any]:
    """A row that scripts read and write."""
    return cast(list[Any], msgpack.unpackb(data, unicode_errors="surrogatepass"))


def quarantine(why: str = "", since_ms: int = 0) -> Quarantine:
    """As it ends a worker's row; one of an earlier mrq has neither."""
    return Quarantine(why=why, at=since_ms / 1000)


def pairs(data: bytes) -> list[bytes]:
    """Fields and values in turn, as a script packed them."""
    return cast(list[bytes], msgpack.unpackb(data, raw=True))


def pack_row(values: list[Any]) -> bytes:
    """A row for scripts: small numbers and strings."""
    return cast(bytes, msgpack.packb(values))


def _body(data: bytes, *, before: bool = False) -> Any:
    try:
        version, body = wire.unpack(data)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as exc:
        raise CorruptFileError(f"a value in Redis can't be read: {exc}") from exc
    if version != VERSION and not (before and version == _BEFORE):
        raise CorruptFileError(
            f"a value in Redis has version {version}, and this mrq reads {VERSION}: "
            "run one version of mrq everywhere, or give the new one another prefix"
        )
    return body
