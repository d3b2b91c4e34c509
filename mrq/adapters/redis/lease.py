"""Who leads: one hash, by the server's clock; the epoch in it only grows."""

from __future__ import annotations

from mrq.adapters.redis.connect import Connection
from mrq.adapters.redis.scripts import Call
from mrq.core.store_api import LeaseView


class RedisLease:
    """A Lease. Give it a connection with short timeouts: a renewal that takes seconds is of no use."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._key = connection.keys.lease

    def take(self, owner: str, epoch_above: int, seconds: float) -> LeaseView:
        """Take a lease that nobody holds."""
        found = self._connection.run(
            Call("lease_take", [self._key], [owner, epoch_above, max(1, int(seconds * 1000))])
        )
        return LeaseView(owner=found[0].decode(), epoch=int(found[1]), left_s=int(found[2]) / 1000)

    def renew(self, owner: str, epoch: int, seconds: float) -> bool:
        """Hold on to it."""
        call = Call("lease_renew", [self._key], [owner, epoch, max(1, int(seconds * 1000))])
        return bool(self._connection.run(call))

    def release(self, owner: str, epoch: int) -> None:
        """Let go of it."""
        self._connection.run(Call("lease_renew", [self._key], [owner, epoch, 0]))

    def view(self) -> LeaseView:
        """The lease as it is."""
        (owner, epoch, until), time = self._connection.pipeline(
            [("HMGET", self._key, "owner", "epoch", "until"), ("TIME",)]
        )
        left_s = int(until or 0) / 1000 - (int(time[0]) + int(time[1]) / 1e6)
        held = bool(owner) and left_s > 0
        return LeaseView(
            owner=owner.decode() if held else None, epoch=int(epoch or 0), left_s=left_s if held else 0.0
        )
