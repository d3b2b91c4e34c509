"""All state of a cluster in Redis: LeaderStore, LeaderState, WorkerStore, Lease, Desk, ClientLink and Blobs.

`connect` first; what is made over a connection is closed before it.
"""

from mrq.adapters.redis.blobs import RedisBlobs
from mrq.adapters.redis.connect import Connection, connect
from mrq.adapters.redis.desk import RedisClientLink, RedisDesk
from mrq.adapters.redis.events import LeaderEvents
from mrq.adapters.redis.keys import Keys
from mrq.adapters.redis.leader import KEEP_S, RedisLeaderStore
from mrq.adapters.redis.lease import RedisLease
from mrq.adapters.redis.worker import RedisWorkerStore

__all__ = [
    "KEEP_S",
    "Connection",
    "Keys",
    "LeaderEvents",
    "RedisBlobs",
    "RedisClientLink",
    "RedisDesk",
    "RedisLeaderStore",
    "RedisLease",
    "RedisWorkerStore",
    "connect",
]
