"""How a server is: whether it gets on with what it was asked, and the answers to health probes.

A probe has no key. So Check has threads of its own, its body must come at once, and where another probe needs
a thread the one that has waited longest is ended: who holds probes half open holds up nobody, not even other
probes.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2

from mrq.adapters.grpc.watchdog import Watchdog

SERVICE: Final = "grpc.health.v1.Health"
CHECK: Final = f"/{SERVICE}/Check"

_THREADS: Final = 4
_BODY_S: Final = 2.0


class Vitals:
    """What a server's calls do, as far as that is the server's own to do: while one waits for its caller,
    for a body or until a chunk is taken, that isn't. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._working = 0
        self._moved_at = time.monotonic()

    @contextmanager
    def working(self) -> Iterator[None]:
        """A call is in our hands."""
        with self._lock:
            if not self._working:
                self._moved_at = time.monotonic()
            self._working += 1
        try:
            yield
        finally:
            with self._lock:
                self._working -= 1
                self._moved_at = time.monotonic()

    def stuck_s(self) -> float:
        """For how long calls have been in our hands without any of them getting on; 0 while none is."""
        with self._lock:
            return time.monotonic() - self._moved_at if self._working else 0.0


class Health(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The service that probes ask: Check, without a key. `set` says what they are told.

    Watch isn't served (UNIMPLEMENTED, with which the protocol has clients do without): it would stay open.
    """

    def __init__(self, *services: str) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="mrq-health")
        self._watchdog = Watchdog(_BODY_S)
        self._lock = threading.Lock()
        self._serving = dict.fromkeys(services, False)
        self._queued = 0  #: probes that wait for a thread
        self._waiting: dict[int, Any] = {}  #: contexts of those that wait for their body, oldest first
        self._serial = 0
        check: Any = functools.partial(self._check)
        check.experimental_thread_pool = self._pool  # it runs on threads of its own
        self._handler = grpc.stream_unary_rpc_method_handler(
            check,
            request_deserializer=health_pb2.HealthCheckRequest.FromString,
            response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
        )

    def set(self, *, serving: bool) -> None:
        """What all services are."""
        with self._lock:
            self._serving = dict.fromkeys(self._serving, serving)

    def close(self) -> None:
        """Answer nobody any more."""
        self._watchdog.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def service(self, handler_call_details: Any) -> Any:
        """Of `grpc.GenericRpcHandler`: on the server's own thread."""
        if handler_call_details.method != CHECK:
            return None
        with self._lock:
            self._queued += 1
            self._make_room()
        return self._handler

    def _make_room(self) -> None:
        """End the probe that has waited longest, if another needs its thread. `_lock` is held."""
        if self._queued and len(self._waiting) >= _THREADS:
            oldest = next(iter(self._waiting))
            self._waiting.pop(oldest).cancel()

    def _check(self, requests: Iterator[Any], context: Any) -> Any:
        with self._lock:
            self._queued -= 1
            self._serial += 1
            mine = self._serial
            self._waiting[mine] = context
            self._make_room()
        try:
            with self._watchdog.over(context) as watched:
                watched.arm()
                request = next(requests, None)
        finally:
            with self._lock:
                self._waiting.pop(mine, None)
        if request is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a probe has one request")
            raise AssertionError("unreachable")
        serving = self._serving.get(request.service)
        if serving is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service here")
        status = health_pb2.HealthCheckResponse.ServingStatus
        return health_pb2.HealthCheckResponse(status=status.Value("SERVING" if serving else "NOT_SERVING"))
