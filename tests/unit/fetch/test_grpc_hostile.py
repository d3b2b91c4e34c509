"""What a data plane's server bears: calls half open, slow, endless and made again, with rubbish for a
signature."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from calls_rig import KEY, HalfOpen, challenge_of, signed
from grpc_health.v1 import health_pb2, health_pb2_grpc
from outputs_rig import JOB, output
from raw_http2 import Connection

from mrq.adapters.grpc import auth, channels, own, vitals
from mrq.adapters.grpc import server as server_module
from mrq.adapters.grpc.auth import PROTOCOL, Refusal, Verifier, sign
from mrq.adapters.grpc.guard import Bounds
from mrq.adapters.grpc.peer_client import GrpcPeers, dial_back
from mrq.adapters.grpc.server import FileServer
from mrq.core.backoff import Backoff
from mrq.core.model import MapLocation
from mrq.errors import OperatorError, PeerUnreachableError
from mrq.proto import files_pb2 as pb

CALLS = 8
METHODS = (channels.SIZES, channels.FETCH, channels.DIAL, channels.SEES, vitals.CHECK, "/mrq.v1.Files/None")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def server(root: Path) -> Iterator[FileServer]:
    made = FileServer(
        root=str(root),
        worker="w1",
        boot="b1",
        key=KEY,
        bounds=Bounds(calls_max=CALLS, body_s=0.5, taken_s=0.5),
    )
    made.start()
    yield made
    made.stop(0)


@pytest.fixture
def peers(server: FileServer) -> Iterator[GrpcPeers]:
    made = GrpcPeers(lambda w, b: server.address, key=KEY, tries_again=0)
    yield made
    made.close()


@pytest.fixture
def half(server: FileServer) -> Iterator[HalfOpen]:
    made = HalfOpen(server.address)
    yield made
    made.close()


def wait_for(condition: Callable[[], Any], timeout_s: float = 20) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def probe(server: FileServer) -> int:
    with grpc.insecure_channel(server.address) as channel:
        return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10).status


def test_calls_that_are_half_open_without_the_key_hold_nothing(
    server: FileServer, peers: GrpcPeers, half: HalfOpen, root: Path
) -> None:
    """Eight of them stopped a data plane when a body was awaited before the key was looked at."""
    location = output(root)
    for _ in range(CALLS):
        for method in METHODS:
            half.begin(method)
            half.begin(method, sign(b"another", method, b""))
    assert peers.sizes(JOB, 0, [location])[0] is not None
    assert list(peers.fetch(JOB, 0, [location]))
    assert probe(server) == health_pb2.HealthCheckResponse.SERVING
    keyless = [call for call in half.calls if call.done()]
    wait_for(lambda: len(half.ends()) >= CALLS * 2 * (len(METHODS) - 1))
    assert keyless
    assert set(half.ends()) <= {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.CANCELLED}


def test_calls_that_are_half_open_with_the_key_are_ended(
    server: FileServer, peers: GrpcPeers, half: HalfOpen, root: Path
) -> None:
    location = output(root)
    challenge = challenge_of(half.channel)
    for _ in range(3 * CALLS):
        half.begin(channels.SIZES, sign(KEY, channels.SIZES, b"never sent", challenge=challenge))
    wait_for(lambda: server._guard._calls)
    assert peers.sizes(JOB, 0, [location])[0] is not None  # it is busy for a moment, which is waited for
    wait_for(lambda: len(half.ends()) == 3 * CALLS)
    assert set(half.ends()) <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    wait_for(lambda: not server._guard._calls)


def test_a_flood_of_calls_without_the_key_leaves_nothing_behind(
    server: FileServer, peers: GrpcPeers, root: Path
) -> None:
    location = output(root)
    flood = [HalfOpen(server.address) for _ in range(8)]
    for _ in range(40):
        for each in flood:
            each.begin(channels.FETCH)
    for _ in range(20):
        assert peers.sizes(JOB, 0, [location])[0] is not None
    for each in flood:
        wait_for(lambda each=each: len(each.ends()) == 40, 60)
        assert set(each.ends()) == {grpc.StatusCode.UNAUTHENTICATED}
        each.close()
    assert (server._guard._calls, server._guard._peers) == (0, {})
    assert server.check() == ""


def test_one_peer_holds_half_of_the_calls_at_most(server: FileServer, half: HalfOpen) -> None:
    challenge = challenge_of(half.channel)
    calls = [
        half.begin(channels.DIAL, sign(KEY, channels.DIAL, b"", challenge=challenge))
        for _ in range(CALLS - 1)
    ]
    busy = wait_for(lambda: [c for c in calls if c.done() and c.code() is grpc.StatusCode.RESOURCE_EXHAUSTED])
    assert all("one peer" in call.details() for call in busy)
    wait_for(lambda: len(busy) == CALLS - 1 - CALLS // 2 or all(c.done() for c in calls))


def test_a_body_that_comes_slowly_is_not_waited_for(server: FileServer, peers: GrpcPeers, root: Path) -> None:
    location = output(root)
    with grpc.insecure_channel(server.address) as channel:
        challenge = challenge_of(channel)
    raw = Connection(server.address)
    for method in (channels.SIZES, channels.FETCH, channels.DIAL, vitals.CHECK) * CALLS:
        stream = raw.head(method, sign(KEY, method, b"x" * 100, challenge=challenge))
        raw.data(stream, b"\0" + (100).to_bytes(4, "big") + b"x" * 3)  # of a message of a hundred bytes
    assert peers.sizes(JOB, 0, [location])[0] is not None
    assert probe(server) == health_pb2.HealthCheckResponse.SERVING
    wait_for(lambda: not server._guard._calls)
    raw.close()


def test_a_body_without_end_is_refused(server: FileServer) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield bytes(1000)

    with grpc.insecure_channel(server.address) as channel:
        call = channel.stream_stream(channels.DIAL, None, None)
        with pytest.raises(grpc.RpcError) as caught:
            list(call(endless(), timeout=10, metadata=signed(channel, channels.DIAL, bytes(1000))))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # the first alone counts: no request
        huge = bytes(channels.REQUEST_MAX + 1)
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(channels.DIAL, None, None)(
                huge, timeout=10, metadata=signed(channel, channels.DIAL, huge)
            )
        assert caught.value.code() in (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.CANCELLED,
        )
    wait_for(lambda: not server._guard._calls)


def test_who_doesnt_take_what_was_asked_for_is_left(server: FileServer, root: Path) -> None:
    location = output(root, sizes=(40 << 20,))
    at_once = Backoff(base_s=0.0, max_s=0.0)
    peers = GrpcPeers(lambda w, b: server.address, key=KEY, again=at_once, tries_again=9)
    chunks = peers.fetch(JOB, 0, [location])
    got = len(next(chunks))
    wait_for(lambda: server._guard._calls)
    wait_for(lambda: not server._guard._calls)  # though nobody has read on
    for chunk in chunks:  # a reader in good faith goes on where it was
        got += len(chunk)
    (info,) = peers.sizes(JOB, 0, [location])
    assert info is not None
    assert got == info.length
    peers.close()


@pytest.mark.parametrize("method", METHODS[:4])
def test_rubbish_for_a_signature_is_refused(server: FileServer, method: str) -> None:
    with grpc.insecure_channel(server.address) as channel:
        good = dict(signed(channel, method, b""))
        fresh = good[auth.AUTH_KEY]
        assert isinstance(fresh, bytes)
        rubbish: list[dict[str, str | bytes]] = [
            {},
            {**good, auth.AUTH_KEY: b""},
            {**good, auth.AUTH_KEY: os.urandom(len(fresh))},
            {**good, auth.AUTH_KEY: fresh[:-1]},
            {**good, auth.AUTH_KEY: fresh + b"\0"},
            {**good, auth.AUTH_KEY: bytes(1 << 12)},
            {**good, auth.TO_KEY: b"w2 b1"},  # signed for whoever listens
            {**good, auth.PROTOCOL_KEY: ""},
            {**good, auth.PROTOCOL_KEY: str(auth.PROTOCOL + 1)},
        ]
        for metadata in rubbish:
            with pytest.raises(grpc.RpcError) as caught:
                list(
                    channel.unary_stream(method, None, None)(
                        b"", timeout=10, metadata=tuple(metadata.items())
                    )
                )
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_another_body_than_the_signed_one_is_refused(server: FileServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        body = pb.DialRequest(nonce=os.urandom(16)).SerializeToString()
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(channels.DIAL, None, None)(
                body, timeout=10, metadata=signed(channel, channels.DIAL, b"another")
            )
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "isn't the one that was signed" in caught.value.details()


def test_an_overheard_call_cant_be_made_again(server: FileServer, root: Path) -> None:
    body = pb.DialRequest(nonce=os.urandom(16)).SerializeToString()
    with grpc.insecure_channel(server.address) as channel:
        heard = signed(channel, channels.DIAL, body)
        call = channel.unary_unary(channels.DIAL, None, pb.DialReply.FromString)
        assert call(body, timeout=10, metadata=heard).worker == "w1"
        with pytest.raises(grpc.RpcError) as caught:
            call(body, timeout=10, metadata=heard)
        assert "made before" in caught.value.details()
    other = FileServer(root=str(root), worker="w2", boot="b2", key=KEY)
    other.start()
    with grpc.insecure_channel(other.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(channels.DIAL, None, None)(body, timeout=10, metadata=heard)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    other.stop(0)


def test_nonces_are_remembered_up_to_a_bound() -> None:
    verifier = Verifier(KEY, ("w", "b"), nonces_max=3)
    first = verifier.challenge
    heard = [sign(KEY, "m", b"", challenge=first) for _ in range(3)]
    assert [type(verifier.check("m", call)) for call in heard] == [bytes] * 3
    assert verifier.challenge != first
    assert {verifier.check("m", call) for call in heard} == {Refusal.STALE}
    call = sign(KEY, "m", b"", challenge=verifier.challenge)
    assert isinstance(verifier.check("m", call), bytes)
    assert verifier.check("m", call) is Refusal.REPLAYED
    assert verifier.check("n", sign(KEY, "m", b"", challenge=verifier.challenge)) is Refusal.KEY


def test_callers_go_on_when_the_challenge_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "Verifier", lambda key, me: Verifier(key, me, nonces_max=2))
    server = FileServer(root=str(root), worker="w1", boot="b1", key=KEY)
    server.start()
    peers = GrpcPeers(lambda w, b: server.address, key=KEY, tries_again=0)
    location = output(root)
    for _ in range(5):
        assert peers.sizes(JOB, 0, [location])[0] is not None
        assert list(peers.fetch(JOB, 0, [location]))
    peers.close()
    server.stop(0)


# Another protocol.


def test_a_caller_of_the_protocol_before_is_refused_by_name(server: FileServer) -> None:
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(channels.DIAL, None, None)(
            b"", timeout=10, metadata=((auth.AUTH_KEY, bytes(32)),)
        )
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert f"worker w1 (boot b1) speaks protocol {PROTOCOL}" in caught.value.details()
    assert "the caller 1" in caught.value.details()


class Before:
    """A server of the protocol before: it denies what isn't signed as it signed, or has no key."""

    def __init__(self, *, key: bool) -> None:
        self._key = key
        self.server = grpc.server(ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(self.dial)
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(channels.SERVICE, {"Dial": handler, "Sizes": handler}),)
        )
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def dial(self, request: bytes, context: Any) -> bytes:
        if self._key:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "this data plane wants the cluster key")
        return bytes(pb.DialReply(worker="w1", boot="b1").SerializeToString())


@pytest.mark.parametrize("key", [KEY, None], ids=["key", "none"])
def test_a_server_of_the_protocol_before_is_named(key: bytes | None, root: Path) -> None:
    before = Before(key=key is not None)
    with pytest.raises(OperatorError, match="protocol"):
        dial_back(before.address, worker="w1", boot="b1", key=key)
    if key is not None:
        peers = GrpcPeers(lambda w, b: before.address, key=key, tries_again=0)
        with pytest.raises(PeerUnreachableError, match="another protocol"):
            peers.sizes(JOB, 0, [output(root)])
        peers.close()
    before.server.stop(0).wait()


# Is it well?


def test_a_server_whose_calls_dont_get_on_says_that_it_doesnt_serve(
    server: FileServer, peers: GrpcPeers, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "STUCK_S", 0.3)
    location: MapLocation = output(root)
    hang, hanging = threading.Event(), threading.Event()

    def region(*arguments: Any) -> Any:
        hanging.set()
        hang.wait(30)
        raise OSError

    assert server.check() == ""
    monkeypatch.setattr("mrq.adapters.grpc.outputs.JobOutputs.region", region)
    asking = threading.Thread(target=lambda: peers.sizes(JOB, 0, [location]))
    asking.start()
    assert hanging.wait(10)
    found = wait_for(server.check)
    assert "haven't got on" in found
    assert probe(server) == health_pb2.HealthCheckResponse.NOT_SERVING
    hang.set()
    asking.join(10)
    assert server.check() == ""
    assert probe(server) == health_pb2.HealthCheckResponse.SERVING


def test_a_server_that_is_full_for_long_says_so(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "BUSY_S", 0.0)
    server._guard._calls = CALLS
    assert "as many calls as may be" in server.check()
    server._guard._calls = 0
    assert server.check() == ""


def test_a_server_that_doesnt_answer_itself_says_so(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "SILENT_S", 0.0)
    server._server.stop(0).wait()
    assert "hasn't answered its own calls" in server.check()


def test_a_server_that_can_take_no_connection_says_so(server: FileServer) -> None:
    """Its own line is there already; who comes now is kept waiting."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert server.check() == ""
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert "it can take no connection more (Too many open files)" in server.check()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert server.check() == ""


# Who is there?


class Names:
    """Names that are resolved when a channel is made, as gRPC does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of: dict[str, str] = {}
        self.resolved: list[str] = []
        make = grpc.insecure_channel

        def resolving(address: str, *rest: Any) -> Any:
            self.resolved.append(address)
            return make(self.of.get(address, address), *rest)

        monkeypatch.setattr("mrq.adapters.grpc.line.grpc.insecure_channel", resolving)


def test_workers_that_swap_their_addresses_lose_no_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started again in another order, each round, while names still mean what they meant before."""
    names = Names(monkeypatch)
    outputs: dict[str, MapLocation] = {}
    for worker in ("w1", "w2"):
        (tmp_path / worker).mkdir()
        outputs[worker] = replace(output(tmp_path / worker, sizes=(1000,)), worker=worker)

    def start(worker: str, boot: str, bind: str = "127.0.0.1:0") -> FileServer:
        made = FileServer(root=str(tmp_path / worker), worker=worker, boot=boot, key=KEY, bind=bind)
        made.start()
        return made

    servers = {worker: start(worker, "b0") for worker in outputs}
    meant = {f"{worker}:7070": server.address for worker, server in servers.items()}
    names.of = dict(meant)
    mistaken: list[str] = []

    def isnt_there(worker: str, boot: str) -> None:
        mistaken.append(worker)
        names.of.update(meant)  # the name server has heard of it by now

    peers = GrpcPeers(lambda worker, boot: f"{worker}:7070", key=KEY, tries_again=0, mistaken=isnt_there)

    def read(boot: str) -> None:
        for location in (replace(each, boot=boot) for each in outputs.values()):
            assert peers.dial(location.worker, boot).worker == location.worker
            assert peers.sizes(JOB, 0, [location])[0] is not None
            assert list(peers.fetch(JOB, 0, [location]))

    read("b0")
    for boot in ("b1", "b2", "b3"):
        first, second = (server.address for server in servers.values())
        for server in servers.values():
            server.stop(0)
        servers = {"w1": start("w1", boot, second), "w2": start("w2", boot, first)}
        meant = {"w1:7070": second, "w2:7070": first}
        mistaken.clear()
        read(boot)
        assert mistaken  # the first call reached somebody else, and was made again
        mistaken.clear()
        read(boot)
        assert mistaken == []
    peers.close()
    for server in servers.values():
        server.stop(0)


def test_a_line_that_reaches_somebody_else_is_closed_and_the_name_resolved_again(
    server: FileServer, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one fetch is lost: the call is made again at once on a line of its own."""
    (tmp_path / "other").mkdir()
    other = FileServer(root=str(tmp_path / "other"), worker="w2", boot="b2", key=KEY)
    other.start()
    names = Names(monkeypatch)
    names.of["w1:7070"] = server.address
    mistaken: list[tuple[str, str]] = []
    peers = GrpcPeers(
        lambda worker, boot: "w1:7070",
        key=KEY,
        tries_again=0,
        mistaken=lambda worker, boot: mistaken.append((worker, boot)),
    )
    location = output(root)
    names.of["w1:7070"] = other.address
    line = peers._line(("w1", "b1"))
    with line:  # reaches w2, as a connection does that outlives what its name meant
        pass
    names.of["w1:7070"] = server.address
    assert peers.sizes(JOB, 0, [location])[0] is not None
    assert mistaken == [("w1", "b1")]
    assert list(peers.fetch(JOB, 0, [location]))
    assert peers.dial("w1", "b1").worker == "w1"
    assert mistaken == [("w1", "b1")]  # and never again
    peers.close()
    other.stop(0)


def test_lines_that_arent_used_are_closed(server: FileServer, root: Path) -> None:
    peers = GrpcPeers(lambda w, b: server.address, key=KEY, tries_again=0, idle_s=0.2)
    peers.sizes(JOB, 0, [output(root)])
    assert peers.close_idle() == 1
    wait_for(lambda: peers.close_idle() == 0)
    assert peers.sizes(JOB, 0, [output(root)])[0] is not None
    peers.close()
