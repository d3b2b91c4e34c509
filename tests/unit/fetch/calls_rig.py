"""Calls to a data plane's server, made by hand: signed, half open, or with rubbish for a signature."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc

from mrq.adapters.grpc import channels
from mrq.adapters.grpc.auth import CHALLENGE_KEY, Metadata, Peer, sign

KEY = b"the cluster's key"


def challenge_of(channel: Any, key: bytes | None = KEY) -> bytes:
    """What the server there wants calls to carry, as it tells whoever has the key."""
    try:
        channel.unary_unary(channels.DIAL, None, None)(b"", timeout=5, metadata=sign(key, channels.DIAL, b""))
    except grpc.RpcError as exc:
        return bytes(dict(exc.trailing_metadata() or ()).get(CHALLENGE_KEY, b""))
    raise AssertionError("a call without a challenge was taken")


def signed(
    channel: Any, method: str, body: bytes, key: bytes | None = KEY, to: Peer | None = None
) -> Metadata:
    """A call's metadata, right for the server at the channel's end if the key is."""
    return sign(key, method, body, to=to, challenge=challenge_of(channel, key))


class HalfOpen:
    """Calls of which only the head has been sent, from a connection of their own, until `close`."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address, (("grpc.use_local_subchannel_pool", 1),))
        self._over = threading.Event()
        self.calls: list[Any] = []

    def _never(self) -> Iterator[bytes]:
        self._over.wait(60)
        yield from ()

    def begin(self, method: str, metadata: Metadata = ()) -> Any:
        """The head of one call."""
        call = self.channel.stream_stream(method, None, None)(self._never(), metadata=metadata, timeout=60)
        self.calls.append(call)
        return call

    def ends(self) -> list[grpc.StatusCode]:
        """How they have ended, as far as they have."""
        return [call.code() for call in self.calls if call.done()]

    def close(self) -> None:
        self._over.set()
        for call in self.calls:
            call.cancel()
        self.channel.close()
