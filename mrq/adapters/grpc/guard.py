"""The door of a data plane's server: who is let in, how long a call may hold what, and who is turned away.

A call's metadata is looked at before anything waits for its body, on the server's own thread; who may not
call is refused from a small pool, in no time. What is let in gets a thread, of which there is one for each
call that may be under way; what is above is told "busy", and so is a peer (by its host's address) that has
half of them. A body must come within seconds, a chunk be taken within a minute: else the call is ended, and
whoever made it in good faith makes it again, or resumes.

Only health's Check is served beside this (`vitals`).
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import grpc

from mrq.adapters.grpc.auth import AUTH_KEY, CHALLENGE_KEY, PROTOCOL, PROTOCOL_KEY, Refusal, Verifier
from mrq.adapters.grpc.vitals import Vitals
from mrq.adapters.grpc.watchdog import Watchdog

#: Threads that refuse.
_DOOR_THREADS: Final = 4

_END: Final = object()

_DENIED: Final = "this data plane wants the cluster key with every call; is `key` the same on both sides?"
_REPLAYED: Final = "this very call was made before"
_BUSY: Final = "busy: as many calls as may be are under way"
_BUSY_PEER: Final = "busy: as many calls as one peer may make are under way"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What calls may hold."""

    #: At once, each a thread; what is above is told "busy". A thread costs a call that waits, for its body or
    #: until a chunk is taken, next to nothing.
    calls_max: int = 64
    body_s: float = 5.0  #: a body comes with its call; so long takes a network in trouble
    taken_s: float = 60.0  #: a chunk of 1 MiB is taken within this, or its reader resumes later


class Guard(grpc.ServerInterceptor):  # type: ignore[misc]
    """Every method is denied but to who may call it; `open_methods` look after themselves."""

    def __init__(
        self,
        verifier: Verifier,
        vitals: Vitals,
        *,
        who: str,
        open_methods: frozenset[str],
        elsewhere: frozenset[str],
        bounds: Bounds,
    ) -> None:
        """`who` listens here, as people read it. What methods `elsewhere` do doesn't show how this server
        is."""
        self._elsewhere = elsewhere
        self._verifier = verifier
        self._vitals = vitals
        self._who = who
        self._open = open_methods
        self._bounds = bounds
        self._peer_max = max(1, bounds.calls_max // 2)
        self._watchdog = Watchdog(min(bounds.body_s, bounds.taken_s))
        self._door = ThreadPoolExecutor(_DOOR_THREADS, thread_name_prefix="mrq-door")
        self._lock = threading.Lock()
        self._calls = 0
        self._peers: Counter[str] = Counter()

    def close(self) -> None:
        """Let nobody in any more."""
        self._watchdog.close()
        self._door.shutdown(wait=False, cancel_futures=True)

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """The handler behind all checks; None for a method that there isn't, to who may ask. On the server's
        own thread."""
        method: str = details.method
        if method in self._open:
            return continuation(details)
        found = self._verifier.check(method, details.invocation_metadata)
        if isinstance(found, Refusal):
            return self._refuse(found, details.invocation_metadata)
        handler = continuation(details)
        if handler is None:
            return None
        with self._lock:
            if self._calls >= self._bounds.calls_max:
                return self._turn_away(grpc.StatusCode.RESOURCE_EXHAUSTED, _BUSY)
            self._calls += 1
        return self._let_in(handler, method, found)

    # Turned away.

    def _refuse(self, refusal: Refusal, metadata: Any) -> Any:
        code, more = grpc.StatusCode.UNAUTHENTICATED, []
        match refusal:
            case Refusal.PROTOCOL if any(name == AUTH_KEY for name, _ in metadata):
                its = next((value for name, value in metadata if name == PROTOCOL_KEY), "1")
                why = (
                    f"worker {self._who} speaks protocol {PROTOCOL} between workers, and the caller {its}: "
                    "install the same version of mrq on both"
                )
            case Refusal.STALE:
                why, more = "call again with this challenge", [(CHALLENGE_KEY, self._verifier.challenge)]
            case Refusal.ADDRESSEE:
                code, why = grpc.StatusCode.FAILED_PRECONDITION, f"worker {self._who} listens here"
            case _:
                why = _REPLAYED if refusal is Refusal.REPLAYED else _DENIED
        return self._turn_away(code, why, *more)

    def _turn_away(self, code: Any, why: str, *more: tuple[str, bytes]) -> Any:
        """A handler that refuses without waiting for a body."""

        def refuse(requests: Iterator[bytes], context: Any) -> Any:
            context.set_trailing_metadata(((PROTOCOL_KEY, str(PROTOCOL)), *more))
            context.abort(code, why)

        refuse.experimental_thread_pool = self._door  # type: ignore[attr-defined]
        return grpc.stream_stream_rpc_method_handler(refuse)

    # Let in.

    def _let_in(self, handler: Any, method: str, signed: bytes) -> Any:
        """The handler, with what is asked awaited here, and not before: a body, or a stream of requests."""
        streams = handler.response_streaming
        working: Callable[[], AbstractContextManager[None]] = nullcontext
        if handler.request_streaming:
            behavior = handler.stream_stream if streams else handler.stream_unary
            asked, parse = self._coming, handler.request_deserializer
        else:
            behavior = handler.unary_stream if streams else handler.unary_unary
            asked = functools.partial(self._request, handler.request_deserializer or bytes, method, signed)
            parse, working = None, working if method in self._elsewhere else self._vitals.working

        @functools.wraps(behavior)  # grpc reads attributes of it
        def answer(requests: Iterator[Any], context: Any) -> Any:
            with self._held(context):
                request = asked(requests, context)
                with working():
                    return behavior(request, context)

        @functools.wraps(behavior)
        def stream(requests: Iterator[Any], context: Any) -> Iterator[Any]:
            with self._held(context):
                yield from self._taken(behavior(asked(requests, context), context), context)

        if streams:
            return grpc.stream_stream_rpc_method_handler(stream, parse, handler.response_serializer)
        return grpc.stream_unary_rpc_method_handler(answer, parse, handler.response_serializer)

    @contextmanager
    def _held(self, context: Any) -> Iterator[None]:
        """One of the calls that may be under way, and of those that its peer may have."""
        host = str(context.peer()).rpartition(":")[0]
        with self._lock:
            self._peers[host] += 1
            many = self._peers[host] > self._peer_max
        try:
            if many:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, _BUSY_PEER)
            yield
        finally:
            with self._lock:
                self._calls -= 1
                self._peers[host] -= 1
                if not self._peers[host]:
                    del self._peers[host]

    def _request(
        self,
        parse: Callable[[bytes], Any],
        method: str,
        signed: bytes,
        requests: Iterator[bytes],
        context: Any,
    ) -> Any:
        """What is in the body that was signed. Aborts where it is another; the call is ended
        where none comes."""
        with self._watchdog.over(context, self._bounds.body_s) as watched:
            watched.arm()
            raw = next(requests, None)
        if raw is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a call has one request, of half a MiB at most")
        assert raw is not None
        if not hmac.compare_digest(hashlib.sha256(raw).digest(), signed):
            context.set_trailing_metadata(((PROTOCOL_KEY, str(PROTOCOL)),))
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the body isn't the one that was signed")
        try:
            return parse(raw)
        except Exception:  # noqa: BLE001 protobuf's DecodeError isn't the only one that parsers raise
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{method}: the request can't be parsed")

    def _coming(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        """A stream of requests: each must come as soon as a body."""
        with self._watchdog.over(context, self._bounds.body_s) as watched:
            while True:
                watched.arm()
                request = next(requests, None)
                watched.disarm()
                if request is None:
                    return
                yield request

    def _taken(self, answers: Iterator[Any], context: Any) -> Iterator[Any]:
        """Answers, each of which must be taken in time."""
        with self._watchdog.over(context, self._bounds.taken_s) as watched:
            while True:
                with self._vitals.working():
                    answer = next(answers, _END)
                if answer is _END:
                    return
                watched.arm()
                yield answer
                watched.disarm()
