"""Following one stream from a position, also across a server that lost entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mrq.adapters.redis.connect import Connection
from mrq.adapters.redis.scripts import Call

#: Before the first entry.
START: Final = "0-0"


class Follower:
    """A position in a stream. For one thread; `close` from any."""

    def __init__(self, connection: Connection, stream: str, after: str = START) -> None:
        self.position = after
        self._connection = connection
        self._stream = stream
        self._reader = connection.reader()

    def read(self, wait_s: float, count: int = 1000) -> list[tuple[str, dict[bytes, bytes]]]:
        """What came after the position, waited for, which moves behind it. Raises OperatorError.

        A server that lost what it had gives out ids anew, and they may be lower: then it starts again.
        """
        found = self._reader.read(self._stream, self.position, wait_s, count)
        if found:
            self.position = found[-1][0]
        elif self.position != START:
            last = extent(self._connection, self._stream).last
            if order(last) < order(self.position):
                self.position = START
        return found

    def close(self) -> None:
        """A blocked read returns."""
        self._reader.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How far a stream has come."""

    last: str  #: id given out last; START where there is no stream
    added: int  #: entries ever
    length: int
    now_ms: int  #: by the server's clock


def extent(connection: Connection, stream: str) -> Extent:
    """As the stream is now. Raises OperatorError."""
    last, added, length, now_ms = connection.run(Call("extent", [stream], []))
    return Extent(last=last.decode(), added=added, length=length, now_ms=now_ms)


def order(entry: str) -> tuple[int, int]:
    """An id as what it is compared by."""
    first, _, second = entry.partition("-")
    return int(first), int(second or 0)
