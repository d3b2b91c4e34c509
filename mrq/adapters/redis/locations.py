"""Where map outputs lie and where workers listen: all that a data plane reads of the state, and may read."""

from __future__ import annotations

from typing import Final

from mrq.adapters.redis.connect import Connection
from mrq.adapters.redis.packing import row, unpack
from mrq.core.commands import WriteLocation
from mrq.core.model import MapLocation

#: A position in the stream of locations is incarnation and number in one.
_NUMBER_BITS: Final = 32


class RedisLocations:
    """A LocationStore, by XREAD of `Keys.locations` and HGET of `Keys.addresses` alone: the data plane's user
    of Redis has the right to these two and no other. Raises OperatorError when the store can't be reached,
    and StoreRefusedError when it refuses that user."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._keys = connection.keys
        self._reader = connection.reader()

    def locations(
        self, job: str, after: int, wait_s: float = 0.0
    ) -> tuple[int, list[tuple[MapLocation, bool]]]:
        """Entries after a position. When a leader has restored the job, all entries come again."""
        entry = f"{after >> _NUMBER_BITS}-{after & ((1 << _NUMBER_BITS) - 1)}"
        found = self._reader.read(self._keys.locations(job), entry, wait_s)
        writes = [unpack(WriteLocation, fields[b"l"]) for _, fields in found]
        if found:
            incarnation, _, number = found[-1][0].partition("-")
            after = (int(incarnation) << _NUMBER_BITS) + int(number)
        return after, [(write.location, write.withdrawn) for write in writes]

    def address(self, worker: str, boot: str) -> str | None:
        """Where a boot listens, while it is its worker's."""
        found = self._connection.call("HGET", self._keys.addresses, worker)
        if found is None:
            return None
        its, address = row(found)
        return (address or None) if its == boot else None

    def close(self) -> None:
        """A blocked `locations` returns. The connection is closed by whoever made it."""
        self._reader.close()
