"""Reads other workers' map outputs over gRPC.

What can happen to a call, and what is done:

    busy (RESOURCE_EXHAUSTED)          waited for: 50 ms, growing to 2 s, with jitter; never a failure
    not there (NOT_FOUND)              CorruptFileError: the map must run again
    somebody else listens there        the line is closed, the address asked for and resolved again, and the
    call
                                       made at once, then as below
    broken off, refused, too slow      tried again where it broke off, 3 times in a row without a byte, after
                                       1 to 5 and 5 to 15 s; then PeerUnreachableError
    anything else (another key, …)     PeerUnreachableError at once, saying which

A line belongs to a boot of a worker, never to an address: a name that meant one worker may mean another after
both were started again, and a connection goes on to whoever it once reached. Lines that aren't used are
closed.

Every call has a deadline. A watchdog ends a stream that gives nothing for 30 s while its reader waits for
bytes; a reader that is busy elsewhere, with a full disk say, costs nobody anything.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import grpc

from mrq.adapters.grpc import channels
from mrq.adapters.grpc.auth import PROTOCOL, Peer, proof
from mrq.adapters.grpc.line import LEARNS_MAX, Line, refused_for
from mrq.adapters.grpc.watchdog import Watchdog
from mrq.core.backoff import Backoff, Retry
from mrq.core.model import MapLocation
from mrq.errors import CorruptFileError, OperatorError, PeerUnreachableError
from mrq.ports import Dialled
from mrq.proto import files_pb2 as pb
from mrq.shuffle.mapfile import Region

T = TypeVar("T")

_UNARY_S: Final = 30.0
_DIAL_S: Final = 10.0
#: A stream that takes longer is resumed.
_STREAM_S: Final = 600.0
WATCHDOG_S: Final = 30.0
#: Of a call that failed; so many tries more.
AGAIN: Final = Backoff(base_s=7.5, max_s=15.0, least=0.2)
TRIES_AGAIN: Final = 2
_BUSY: Final = Backoff(base_s=0.05, max_s=2.0, least=0.5)
#: A peer that is busy for so long is no longer believed.
_BUSY_S_MAX: Final = 600.0
#: A line that isn't used for so long is closed.
IDLE_S: Final = 300.0

#: It isn't who is called that answers: another boot, or one with another key or protocol.
_SOMEBODY_ELSE: Final = frozenset((grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNAUTHENTICATED))
_AGAIN: Final = frozenset(
    grpc.StatusCode[name]
    for name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED", "INTERNAL", "UNKNOWN")
)


class GrpcPeers:
    """A PeerClient. Thread-safe; lines are shared by all threads."""

    def __init__(
        self,
        address_of: Callable[[str, str], str | None],
        *,
        key: bytes | None = None,
        watchdog_s: float = WATCHDOG_S,
        again: Backoff = AGAIN,
        tries_again: int = TRIES_AGAIN,
        idle_s: float = IDLE_S,
        mistaken: Callable[[str, str], None] = lambda worker, boot: None,
    ) -> None:
        """`address_of` gives the address of a worker's boot, None while it isn't known. `mistaken` is told
        of a boot that isn't who listens at its address: that may have changed where addresses come from."""
        self.mistaken = mistaken
        self._idle_s = idle_s
        self._address_of = address_of
        self._key = key
        self.again = again
        self.tries_again = tries_again
        self._watchdog = Watchdog(watchdog_s)
        self._lines: dict[Peer, Line] = {}
        self._lock = threading.Lock()
        self.closed = threading.Event()

    def sizes(self, job: str, partition: int, outputs: Sequence[MapLocation]) -> list[Region | None]:
        """Each output's region; a call for each peer and 2,000 outputs."""
        found: dict[int, Region | None] = {}
        by_peer: dict[tuple[str, str], list[int]] = {}
        for at, output in enumerate(outputs):
            by_peer.setdefault((output.worker, output.boot), []).append(at)
        for peer, places in by_peer.items():
            for start in range(0, len(places), channels.OUTPUTS_MAX):
                some = places[start : start + channels.OUTPUTS_MAX]
                request = pb.SizesRequest(
                    job=job, partition=partition, outputs=[_output(outputs[at]) for at in some]
                )
                reply = self._unary(peer, channels.SIZES, request, pb.SizesReply.FromString)
                if len(reply.regions) != len(some):
                    raise PeerUnreachableError(
                        f"{_named(peer)} gave {len(reply.regions)} sizes, not {len(some)}"
                    )
                found.update(zip(some, map(_info, reply.regions), strict=True))
        return [found[at] for at in range(len(outputs))]

    def fetch(
        self, job: str, partition: int, outputs: Sequence[MapLocation], offset: int = 0
    ) -> Iterator[bytes]:
        """The regions of one peer's outputs, at most 2,000."""
        peer = (outputs[0].worker, outputs[0].boot)
        request = pb.FetchRequest(
            job=job, partition=partition, outputs=[_output(o) for o in outputs], offset=offset
        )
        tries = _Tries(self, peer)
        while True:
            try:
                for chunk in self._stream(peer, request):
                    request.offset += len(chunk)
                    tries.progressed()
                    yield chunk
                return
            except grpc.RpcError as exc:
                if exc.code() is grpc.StatusCode.NOT_FOUND:
                    raise CorruptFileError(f"{_named(peer)}: {exc.details()}") from exc
                tries.failed(exc)

    def dial(self, worker: str, boot: str) -> Dialled:
        """Who listens at a peer's address. Raises PeerUnreachableError, also if it is somebody else."""
        peer = (worker, boot)
        nonce = os.urandom(32)
        reply = self._unary(peer, channels.DIAL, pb.DialRequest(nonce=nonce), pb.DialReply.FromString)
        found = _dialled(self._key, nonce, reply)
        if found is None or (found.worker, found.boot) != peer:
            self.hang_up(peer)
            raise PeerUnreachableError(f"{_named(peer)} isn't who listens at its address")
        return found

    def close(self) -> None:
        """Close all lines; what is under way raises PeerUnreachableError."""
        self.closed.set()
        self._watchdog.close()
        with self._lock:
            peers = list(self._lines)  # from now on there are no new ones
        for peer in peers:
            self.hang_up(peer)

    def hang_up(self, peer: Peer) -> None:
        """Close the line to a peer, if there is one: what is under way on it breaks off, and is begun
        again."""
        with self._lock:
            line = self._lines.pop(peer, None)
        if line is not None:
            line.close()

    def close_idle(self) -> int:
        """Close lines that weren't used for long; how many are left."""
        before = time.monotonic() - self._idle_s
        with self._lock:
            idle = [peer for peer, line in self._lines.items() if not line.calls and line.used_at < before]
            closed = [self._lines.pop(peer) for peer in idle]
            left = len(self._lines)
        for line in closed:
            line.close()
        return left

    # One call.

    def _unary(self, peer: Peer, method: str, request: Any, parse: Callable[[bytes], T]) -> T:
        body = request.SerializeToString()
        tries = _Tries(self, peer)
        while True:
            try:
                with self._line(peer) as line:
                    return line.unary(method, body, parse, timeout_s=_UNARY_S)
            except grpc.RpcError as exc:
                tries.failed(exc)

    def _stream(self, peer: Peer, request: Any) -> Iterator[bytes]:
        body = request.SerializeToString()
        with self._line(peer) as line:
            for left in reversed(range(LEARNS_MAX)):
                try:
                    yield from self._read(line.begin(channels.FETCH, body, timeout_s=_STREAM_S))
                except grpc.RpcError as exc:
                    # A challenge is told instead of the first chunk, never after it.
                    if not (line.taught(exc) and left):
                        raise
                else:
                    return

    def _read(self, call: Any) -> Iterator[bytes]:
        try:
            with self._watchdog.over(call) as watched:
                while True:
                    watched.arm()
                    try:
                        chunk: bytes | None = next(call, None)
                    finally:
                        watched.disarm()
                    if chunk is None:
                        return
                    yield chunk
        finally:
            call.cancel()  # of one that has ended, it does nothing

    @contextlib.contextmanager
    def _line(self, peer: Peer) -> Iterator[Line]:
        """The line to a peer, in use. Raises _Unknown where there is no address."""
        address = self._address_of(*peer)
        if address is None:
            self.hang_up(peer)
            raise _Unknown(f"where it listens isn't known: its boot {peer[1]} is over, or the store was lost")
        with self._lock:
            if self.closed.is_set():
                raise PeerUnreachableError(f"{_named(peer)}: this data plane is closing")
            line, old = self._lines.get(peer), None
            if line is None or line.address != address:
                old, line = line, Line(address, key=self._key, to=peer)
                self._lines[peer] = line
            line.calls += 1
        if old is not None:
            old.close()
        try:
            yield line
        except ValueError as exc:  # grpc's, of a channel that another thread has closed meanwhile
            if self._lines.get(peer) is line:
                raise
            raise _Unknown("its line was closed: somebody else had answered on it") from exc
        finally:
            with self._lock:
                line.calls -= 1
                line.used_at = time.monotonic()
        self.close_idle()


class _Unknown(grpc.RpcError):  # type: ignore[misc]
    """No address, in the shape of a call that failed."""

    def code(self) -> Any:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return str(self)


class _Tries:
    """Of one call: waits before the next try, or raises."""

    def __init__(self, peers: GrpcPeers, peer: tuple[str, str]) -> None:
        self._peers = peers
        self._peer = peer
        self._retry = Retry(peers.again)
        self._busy = Retry(_BUSY)
        self._busy_since: float | None = None
        self._mistaken = False  #: somebody else has answered already

    def progressed(self) -> None:
        self._retry.worked()
        self._busy.worked()
        self._busy_since = None

    def failed(self, exc: Any) -> None:
        """Raises PeerUnreachableError."""
        code = exc.code()
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            now = time.monotonic()
            self._busy_since = self._busy_since or now
            if now - self._busy_since < _BUSY_S_MAX:
                self._wait(self._busy.failed(), exc)
                return
        if code in _SOMEBODY_ELSE:
            self._peers.hang_up(self._peer)
            self._peers.mistaken(*self._peer)
            first, self._mistaken = not self._mistaken, True
            if first:
                return  # on a new line at once
        elif code is grpc.StatusCode.UNAVAILABLE and self._retry.failures:
            self._peers.hang_up(self._peer)  # the next one resolves its name anew
        again = code in _AGAIN or code is grpc.StatusCode.FAILED_PRECONDITION
        if again and self._retry.failures < self._peers.tries_again:
            self._wait(self._retry.failed(), exc)
            return
        raise PeerUnreachableError(f"{_named(self._peer)} can't be read from: {refused_for(exc)}") from exc

    def _wait(self, seconds: float, exc: Any) -> None:
        if self._peers.closed.wait(seconds):
            raise PeerUnreachableError(f"{_named(self._peer)}: this data plane is closing") from exc


def dial_back(
    address: str, *, worker: str, boot: str, key: bytes | None, timeout_s: float = _DIAL_S
) -> Dialled:
    """Who listens at the address that a new worker advertised; waits for a server that isn't up yet.

    Raises OperatorError, ready to be shown to that worker.
    """
    nonce = os.urandom(32)
    body = pb.DialRequest(nonce=nonce).SerializeToString()
    said = f"worker {worker} advertises {address}"
    try:
        with contextlib.closing(Line(address, key=key, to=None)) as line:
            reply = line.unary(
                channels.DIAL, body, pb.DialReply.FromString, timeout_s=timeout_s, wait_for_ready=True
            )
    except grpc.RpcError as exc:
        if exc.code() is grpc.StatusCode.UNAUTHENTICATED:
            why = refused_for(exc)
            if "protocol" not in why:
                why = "what listens there has another cluster key than the leader"
            raise OperatorError(f"{said}: {why}") from exc
        raise OperatorError(
            f"{said}, and the leader can't reach it: {refused_for(exc)}; --advertise must name an address "
            "that masters and workers can dial"
        ) from exc
    if reply.protocol != PROTOCOL:
        raise OperatorError(
            f"{said}: what listens there speaks protocol {reply.protocol or 1} between workers, and the "
            f"leader {PROTOCOL}: install the same version of mrq on both"
        )
    found = _dialled(key, nonce, reply)
    if found is None:
        raise OperatorError(f"{said}, but what listens there doesn't have the leader's cluster key")
    if (found.worker, found.boot) != (worker, boot):
        raise OperatorError(
            f"{said}, but worker {found.worker} of boot {found.boot} listens there; each worker needs an "
            "address of its own"
        )
    return found


def sees(
    address: str, *, worker: str, boot: str, folder: str, nonce: bytes, key: bytes | None, timeout_s: float
) -> bool | None:
    """Does a boot of a worker see `core.paths.probe_path` of the folder and the nonce? None where it doesn't
    answer, or not within `timeout_s`."""
    request = pb.SeesRequest(worker=worker, boot=boot, folder=os.fsencode(folder), nonce=nonce)
    body = request.SerializeToString()
    try:
        with contextlib.closing(Line(address, key=key, to=(worker, boot))) as line:
            return bool(line.unary(channels.SEES, body, pb.SeesReply.FromString, timeout_s=timeout_s).seen)
    except grpc.RpcError:
        return None


def _dialled(key: bytes | None, nonce: bytes, reply: Any) -> Dialled | None:
    """Who answered; None without the key."""
    found = Dialled(
        worker=reply.worker, boot=reply.boot, root=os.fsdecode(reply.root), sentinel=reply.sentinel
    )
    return found if hmac.compare_digest(reply.proof, proof(key or b"", nonce, found)) else None


def _output(location: MapLocation) -> Any:
    task, ticket, number, token = location.attempt
    return pb.Output(
        map_index=task.index,
        ticket=ticket,
        number=number,
        token=token,
        digest=location.digest,
        stage=task.stage,
    )


def _info(region: Any) -> Region | None:
    if not region.found:
        return None
    return Region(
        path="", offset=0, length=region.length, records=region.records, crc32=region.crc32,
        cost=region.cost, block_cost=region.block_cost, is_sorted=region.sorted,
    )  # fmt: skip


def _named(peer: tuple[str, str]) -> str:
    return f"worker {peer[0]}"
