"""All state of a cluster in Redis: what `mrq.ports` calls LeaderStore, LeaderState, WorkerStore,
LocationStore, Lease, RequestQueue, ClientLink and Blobs.

`connect` first; what is made over a connection is closed before it.
"""

from mrq.adapters.redis.blobs import RedisBlobs as RedisBlobs
from mrq.adapters.redis.connect import Connection as Connection
from mrq.adapters.redis.connect import connect as connect
from mrq.adapters.redis.keys import RedisKeys as RedisKeys
from mrq.adapters.redis.leader import KEEP_S as KEEP_S
from mrq.adapters.redis.leader import RedisLeaderStore as RedisLeaderStore
from mrq.adapters.redis.lease import RedisLease as RedisLease
from mrq.adapters.redis.locations import RedisLocations as RedisLocations
from mrq.adapters.redis.request_queue import RedisClientLink as RedisClientLink
from mrq.adapters.redis.request_queue import RedisDesk as RedisDesk
from mrq.adapters.redis.worker import RedisWorkerStore as RedisWorkerStore
from mrq.adapters.redis.worker_events import LeaderEvents as LeaderEvents
