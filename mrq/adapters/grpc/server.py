"""The gRPC server of a data plane: this worker's map outputs, its identity, health and reflection."""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import grpc
from grpc_reflection.v1alpha import reflection

from mrq.adapters.grpc import channels, vitals
from mrq.adapters.grpc.auth import PROTOCOL, Verifier, proof
from mrq.adapters.grpc.guard import Bounds, Guard
from mrq.adapters.grpc.outputs import Asked, Outputs
from mrq.adapters.grpc.own import Own
from mrq.core.paths import probe_path
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.errors import CorruptFileError, OperatorError, UsageError
from mrq.ports import Dialled
from mrq.proto import files_pb2 as pb
from mrq.shuffle.block import read_exactly

#: Calls that read from the disk at once, and how long another waits for its turn: that is a disk
#: that hangs.
_READS_MAX: Final = 8
_READ_WAIT_S: Final = 30.0
_NONCE: Final = (16, 64)
#: Looks at disks for `Sees`, at once, and how long another waits for its turn: a disk that hangs holds up so
#: many threads, and no more.
_LOOKS_MAX: Final = 2
_LOOK_WAIT_S: Final = 0.5
_BOUNDS: Final = Bounds()


class FileServer:
    """Serves what lies below `root`. Make it, `start` it, tell its `address`, `stop` it."""

    def __init__(
        self,
        *,
        root: str,
        worker: str,
        boot: str,
        sentinel: str = "",
        bind: str = "127.0.0.1:0",
        key: bytes | None = None,
        insecure: bool = False,
        bounds: Bounds = _BOUNDS,
    ) -> None:
        """Bind. Raises UsageError for an address beyond this host without a key, unless `insecure`, and
        OperatorError where it can't be bound."""
        host = check_bind(bind, key, insecure)
        self._outputs = Outputs(root)
        self._pool = ThreadPoolExecutor(bounds.calls_max, thread_name_prefix="mrq-serve")
        self._vitals = vitals.Vitals()
        self._guard = Guard(
            Verifier(key, (worker, boot)),
            self._vitals,
            who=f"{worker} (boot {boot})",
            open_methods=frozenset((vitals.CHECK,)),
            elsewhere=frozenset((channels.DIAL, channels.SEES)),
            bounds=bounds,
        )
        self._server = grpc.server(self._pool, interceptors=(self._guard,), options=channels.SERVER)
        me = Dialled(worker=worker, boot=boot, root=root, sentinel=sentinel)
        self._health = vitals.Health("", channels.SERVICE)
        files = _Service(self._outputs, me, key or b"").handlers()
        self._server.add_generic_rpc_handlers((files, self._health))
        names = (channels.SERVICE, vitals.SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self._own: Own | None = None
        try:
            port = self._server.add_insecure_port(bind)
        except RuntimeError as exc:
            self.stop(0)
            raise OperatorError(
                f"the data plane can't listen on {bind}: is the port in use, or the address not this host's?"
            ) from exc
        #: Where it listens, with the port that the system chose.
        self.address = f"{host}:{port}"
        self._own = Own(self.address, self._vitals, key=key, me=(worker, boot))

    def start(self) -> None:
        """Serve, from threads of its own."""
        self._server.start()
        self._health.set(serving=True)

    def check(self) -> str:
        """What is wrong with this server, as a peer would find it, in a sentence; "" where nothing is.
        Probes are told. Asked every few seconds, by one thread."""
        found = self._own.check() if self._own is not None else ""
        self._health.set(serving=not found)
        return found

    def stop(self, grace_s: float) -> None:
        """Refuse new calls, wait for those under way for so long, then break them off."""
        self._health.set(serving=False)
        self._server.stop(grace_s).wait()
        if self._own is not None:
            self._own.close()
        self._guard.close()
        self._health.close()
        self._pool.shutdown(cancel_futures=True)
        self._outputs.close()


def check_bind(bind: str, key: bytes | None, insecure: bool) -> str:
    """The host in `HOST:PORT`. Raises UsageError."""
    host, colon, port = bind.rpartition(":")
    if not (colon and host and port.isdigit()):
        raise UsageError(f"{bind!r} isn't HOST:PORT, as 0.0.0.0:7070 or [::]:7070")
    name = host.strip("[]")
    try:
        loopback = ipaddress.ip_address(name).is_loopback
    except ValueError:
        loopback = name == "localhost"
    if not loopback and key is None and not insecure:
        raise UsageError(
            f"the data plane won't listen on {bind} without a cluster key: whoever reaches it could read "
            "every job's data; set `key` in the secrets file, or say --insecure"
        )
    return host


@contextmanager
def _turn(turns: threading.Semaphore, wait_s: float, context: Any, busy: str) -> Iterator[None]:
    """A turn at a disk. Aborts where none comes."""
    if not turns.acquire(timeout=wait_s):
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, busy)
    try:
        yield
    finally:
        turns.release()


def _check_nonce(nonce: bytes, context: Any) -> None:
    least, most = _NONCE
    if not least <= len(nonce) <= most:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"a nonce has {least} to {most} bytes")


class _Service:
    """What the server answers."""

    def __init__(self, outputs: Outputs, me: Dialled, key: bytes) -> None:
        self._outputs = outputs
        self._me = me
        self._key = key
        self._looks = threading.Semaphore(_LOOKS_MAX)
        self._reads = threading.Semaphore(_READS_MAX)

    def handlers(self) -> Any:
        """What the generated code would make, but that Fetch's chunks are sent as they are."""

        def unary(behavior: Any, request: Any, reply: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(behavior, request.FromString, reply.SerializeToString)

        return grpc.method_handlers_generic_handler(
            channels.SERVICE,
            {
                "Sizes": unary(self.sizes, pb.SizesRequest, pb.SizesReply),
                "Fetch": grpc.unary_stream_rpc_method_handler(self.fetch, pb.FetchRequest.FromString),
                "Dial": unary(self.dial, pb.DialRequest, pb.DialReply),
                "Sees": unary(self.sees, pb.SeesRequest, pb.SeesReply),
            },
        )

    def dial(self, request: Any, context: Any) -> Any:
        _check_nonce(request.nonce, context)
        return pb.DialReply(
            proof=proof(self._key, request.nonce, self._me),
            worker=self._me.worker,
            boot=self._me.boot,
            root=os.fsencode(self._me.root),
            sentinel=self._me.sentinel,
            protocol=PROTOCOL,
        )

    def sees(self, request: Any, context: Any) -> Any:
        _check_nonce(request.nonce, context)
        if not request.folder.startswith(b"/") or b"\0" in request.folder:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a folder is an absolute path")
        with _turn(self._looks, _LOOK_WAIT_S, context, "earlier looks still wait for a disk"):
            return pb.SeesReply(seen=os.path.lexists(probe_path(os.fsdecode(request.folder), request.nonce)))

    def _reading(self, context: Any) -> AbstractContextManager[None]:
        return _turn(self._reads, _READ_WAIT_S, context, "busy: the disk here doesn't answer")

    def sizes(self, request: Any, context: Any) -> Any:
        try:
            with self._reading(context), self._outputs.of(request.job) as outputs:
                regions = []
                for output in _wanted(request, context):
                    try:
                        r = outputs.region(output, request.partition)
                    except (CorruptFileError, OSError):
                        regions.append(pb.Region())
                        continue
                    found = pb.Region(
                        found=True, length=r.length, records=r.records, crc32=r.crc32, cost=r.cost,
                        block_cost=r.block_cost, sorted=r.is_sorted,
                    )  # fmt: skip
                    regions.append(found)
                return pb.SizesReply(regions=regions)
        except UsageError as exc:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))

    def fetch(self, request: Any, context: Any) -> Iterator[bytes]:
        """Chunks; a turn at the disk is held while one is read, and not while it is taken."""
        chunks = self._chunks(request, context)
        while True:
            with self._reading(context):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    def _chunks(self, request: Any, context: Any) -> Iterator[bytes]:
        """Chunks of exactly CHUNK bytes but for the last: small regions go together."""
        held: list[bytes] = []
        size = 0
        skip = request.offset
        try:
            with self._outputs.of(request.job) as outputs:
                for output in _wanted(request, context):
                    fd, region = outputs.open(output, request.partition)
                    try:
                        at = min(skip, region.length)
                        skip -= at
                        while at < region.length:
                            wanted = min(channels.CHUNK - size, region.length - at)
                            held.append(read_exactly(fd, region.path, region.offset + at, wanted))
                            at += wanted
                            size += wanted
                            if size == channels.CHUNK:
                                yield b"".join(held)
                                held, size = [], 0
                    finally:
                        os.close(fd)
        except UsageError as exc:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))
        except (CorruptFileError, OSError) as exc:
            if held:
                yield b"".join(held)
            context.abort(grpc.StatusCode.NOT_FOUND, str(exc))
        if held:
            yield b"".join(held)
        if skip:
            context.abort(grpc.StatusCode.OUT_OF_RANGE, f"{request.offset} is {skip} bytes beyond the end")


def _wanted(request: Any, context: Any) -> list[Asked]:
    if len(request.outputs) > channels.OUTPUTS_MAX:
        context.abort(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{len(request.outputs)} outputs in one call; {channels.OUTPUTS_MAX} are the limit",
        )
    job = request.job
    return [
        Asked(AttemptRef(TaskRef(job, o.stage, Kind.MAP, o.map_index), o.ticket, o.number, o.token), o.digest)
        for o in request.outputs
    ]
