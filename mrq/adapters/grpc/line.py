"""A line to who listens at an address: a channel, and the challenge that the server there has told."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import grpc

from mrq.adapters.grpc import channels
from mrq.adapters.grpc.auth import CHALLENGE_KEY, PROTOCOL, PROTOCOL_KEY, Metadata, Peer, sign

T = TypeVar("T")

#: Times that a call is begun: once more where the line is new, and where the challenge has just changed.
LEARNS_MAX: Final = 4


class Line:
    """Signs calls for one server. Thread-safe. `to` is whom the calls are for; None: whoever listens."""

    def __init__(self, address: str, *, key: bytes | None, to: Peer | None) -> None:
        self.address = address
        self._key = key
        self._to = to
        self._challenge = b""
        self._channel = grpc.insecure_channel(address, channels.CHANNEL)
        self.calls = 0  #: under way; its owner counts
        self.used_at = time.monotonic()

    def unary(
        self,
        method: str,
        body: bytes,
        parse: Callable[[bytes], T],
        *,
        timeout_s: float,
        wait_for_ready: bool = False,
    ) -> T:
        """One answer. Raises grpc.RpcError."""
        call = self._channel.unary_unary(method, None, parse)
        for left in reversed(range(LEARNS_MAX)):
            try:
                metadata = self._metadata(method, body)
                answer: T = call(body, timeout=timeout_s, metadata=metadata, wait_for_ready=wait_for_ready)
                return answer
            except grpc.RpcError as exc:
                if not (self.taught(exc) and left):
                    raise
        raise AssertionError("unreachable")

    def begin(self, method: str, body: bytes, *, timeout_s: float) -> Any:
        """A call whose answer is a stream. Where it raises RpcError when it is read, and that has `taught` a
        challenge, it may be begun again at once."""
        return self._channel.unary_stream(method, None, None)(
            body, timeout=timeout_s, metadata=self._metadata(method, body)
        )

    def taught(self, exc: Any) -> bool:
        """Take in the challenge that a refusal has told; False where it told none."""
        told = trailing(exc).get(CHALLENGE_KEY)
        if exc.code() is not grpc.StatusCode.UNAUTHENTICATED or not isinstance(told, bytes) or not told:
            return False
        self._challenge = told
        return True

    def close(self) -> None:
        """Close the channel; what is under way raises RpcError, cancelled."""
        self._channel.close()

    def _metadata(self, method: str, body: bytes) -> Metadata:
        return sign(self._key, method, body, to=self._to, challenge=self._challenge)


def trailing(exc: Any) -> dict[str, str | bytes]:
    """The metadata that came with a refusal."""
    found = exc.trailing_metadata() if hasattr(exc, "trailing_metadata") else None
    return dict(found or ())


def refused_for(exc: Any) -> str:
    """Why a server refused a call, where its own words don't say it: it speaks another protocol."""
    if exc.code() is grpc.StatusCode.UNAUTHENTICATED and PROTOCOL_KEY not in trailing(exc):
        return (
            f"it speaks another protocol between workers than this one ({PROTOCOL}): is the same version of "
            "mrq installed on both?"
        )
    return str(exc.details() or exc.code().name)
