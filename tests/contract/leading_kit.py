"""The lease, the requests, clients' links and blobs of one store, for any number of masters and clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services import Redis
from twins import MemoryClientLink, MemoryDesk, MemoryLease, MemoryRequests

from mrq.adapters.redis import Connection, RedisBlobs, RedisClientLink, RedisDesk, RedisLease, connect
from mrq.ports import Blobs, ClientLink, Lease, RequestQueue
from mrq.servers.memory.servers import MemoryBlobs

#: Bytes that a blob may have at most here: more than two chunks.
BYTES_MAX = (2 << 20) + 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Leading:
    """Factories over one store; `lease` and `blobs` may be made several times, too."""

    lease: Callable[[], Lease]
    desk: Callable[[], RequestQueue]
    link: Callable[[], ClientLink]
    blobs: Callable[[], Blobs]
    close: Callable[[], None]


def memory_leading() -> Leading:
    lease, requests, blobs = MemoryLease(), MemoryRequests(), MemoryBlobs(bytes_max=BYTES_MAX)
    return Leading(
        lease=lambda: lease,
        desk=lambda: MemoryDesk(requests),
        link=lambda: MemoryClientLink(requests),
        blobs=lambda: blobs,
        close=lambda: None,
    )


def redis_leading(server: Redis) -> Leading:
    made: list[Connection] = []

    def connection() -> Connection:
        made.append(connect(server.url, prefix=server.prefix))
        return made[-1]

    def close() -> None:
        for each in made:
            each.close()

    return Leading(
        lease=lambda: RedisLease(connection()),
        desk=lambda: RedisDesk(connection()),
        link=lambda: RedisClientLink(connection()),
        blobs=lambda: RedisBlobs(connection(), bytes_max=BYTES_MAX),
        close=close,
    )
