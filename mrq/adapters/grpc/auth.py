"""The cluster key on every call: who doesn't have it is denied, whatever the method but health's Check.

A call's metadata holds an HMAC over method and request, so that what is overheard can't be used for another
request. It keeps out whoever doesn't have the key; it hides nothing, and a call that was overheard can be
made again: on a network that isn't trusted, the connection must be protected as well.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc

METADATA: Final = "mrq-auth-bin"
#: What load balancers and probes ask, which have no key: does it serve?
_OPEN: Final = "/grpc.health.v1.Health/Check"
_DENIED: Final = "this data plane wants the cluster key with every call; is `key` the same on both sides?"


def digest(key: bytes, *parts: bytes) -> bytes:
    """HMAC-SHA256 over parts, none of which but the last holds a NUL."""
    return hmac.new(key, b"\0".join(parts), hashlib.sha256).digest()


def sign(key: bytes | None, method: str, request: bytes) -> tuple[tuple[str, bytes], ...]:
    """Metadata for a call; none without a key."""
    if key is None:
        return ()
    return ((METADATA, digest(key, b"mrq-call-1", method.encode(), request)),)


def proof(key: bytes, nonce: bytes, *, worker: str, boot: str, root: str, sentinel: str) -> bytes:
    """What only who has the key can answer to a nonce, with what it tells of itself."""
    told = (worker.encode(), boot.encode(), os.fsencode(root), sentinel.encode())
    return digest(key, b"mrq-dial-1", nonce.hex().encode(), *told)


class Guard(grpc.ServerInterceptor):  # type: ignore[misc]
    """Denies every call that isn't signed, but for `_OPEN`, before its request is parsed. Streams of requests
    are signed as if they were empty."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """The handler behind a check; as it was where anyone may ask; None for a method that there isn't."""
        handler = continuation(details)
        method: str = details.method
        if handler is None or method == _OPEN:
            return handler
        if handler.request_streaming:
            return self._streaming(handler, method)
        parse = handler.request_deserializer or bytes
        behavior = handler.unary_stream if handler.response_streaming else handler.unary_unary

        @functools.wraps(behavior)  # grpc reads attributes of it
        def checked(raw: bytes, context: Any, *rest: Any) -> Any:
            self._check(method, raw, context)
            try:
                request = parse(raw)
            except Exception:  # noqa: BLE001 protobuf's DecodeError isn't the only one that parsers raise
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{method}: the request can't be parsed")
            return behavior(request, context, *rest)

        make = (
            grpc.unary_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(checked, request_deserializer=None, response_serializer=handler.response_serializer)

    def _streaming(self, handler: Any, method: str) -> Any:
        behavior = handler.stream_stream if handler.response_streaming else handler.stream_unary

        @functools.wraps(behavior)
        def checked(requests: Iterator[Any], context: Any) -> Any:
            self._check(method, b"", context)
            return behavior(requests, context)

        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        return make(checked, handler.request_deserializer, handler.response_serializer)

    def _check(self, method: str, request: bytes, context: Any) -> None:
        ((_, wanted),) = sign(self._key, method, request)
        found = b""
        for name, value in context.invocation_metadata():
            if name == METADATA:
                found = value
        if not hmac.compare_digest(found, wanted):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, _DENIED)
