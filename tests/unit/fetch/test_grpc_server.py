"""What a data plane's server gives to whom: hostile ids, links, methods without the key, addresses."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import grpc
import pytest
from calls_rig import KEY, challenge_of, signed
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from outputs_rig import JOB, output, path_of

from mrq.adapters.grpc import channels, vitals
from mrq.adapters.grpc.auth import sign
from mrq.adapters.grpc.guard import Bounds
from mrq.adapters.grpc.peer_client import GrpcPeers, dial_back, sees
from mrq.adapters.grpc.server import FileServer
from mrq.core.backoff import Backoff
from mrq.core.model import MapLocation
from mrq.core.paths import probe_path
from mrq.core.refs import Kind, TaskRef
from mrq.errors import CorruptFileError, OperatorError, PeerUnreachableError, UsageError
from mrq.proto import files_pb2 as pb

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
QUICK = Backoff(base_s=0.01, max_s=0.01)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def server(root: Path) -> Iterator[FileServer]:
    made = FileServer(root=str(root), worker="w1", boot="b1", sentinel="s", key=KEY)
    made.start()
    yield made
    made.stop(0)


@pytest.fixture
def channel(server: FileServer) -> Iterator[Any]:
    with grpc.insecure_channel(server.address) as made:
        yield made


def ask(channel: Any, method: str, request: Any, key: bytes | None = KEY) -> Any:
    body = request.SerializeToString()
    parse = pb.SizesReply.FromString if method == channels.SIZES else None
    metadata = signed(channel, method, body, key)
    if method == channels.FETCH:
        stream = channel.unary_stream(method, None, None)(body, timeout=5, metadata=metadata)
        return b"".join(stream)
    return channel.unary_unary(method, None, parse)(body, timeout=5, metadata=metadata)


def wire(location: MapLocation, **changes: Any) -> Any:
    fields = {
        "map_index": location.map_index,
        "ticket": location.attempt.ticket,
        "number": location.attempt.number,
        "token": location.attempt.token,
        "digest": location.digest,
        **changes,
    }
    return pb.Output(**fields)


def code_of(exc: Any) -> grpc.StatusCode:
    return exc.value.code()


@pytest.mark.parametrize("method", [channels.SIZES, channels.FETCH])
@pytest.mark.parametrize(
    ("job", "changes"),
    [
        ("../job-1", {}),
        ("..", {}),
        ("", {}),
        ("job-1/maps", {}),
        ("Job-1", {}),
        ("job-1\n", {}),
        ("j" * 65, {}),
        ("job-1\0", {}),
        (JOB, {"token": "../../../../etc/passwd"}),
        (JOB, {"token": ""}),
        (JOB, {"token": "a/b"}),
        (JOB, {"token": "a.b"}),
        (JOB, {"token": "a\0"}),
        (JOB, {"token": "t" * 129}),
        (JOB, {"map_index": 2**32 - 1}),
        (JOB, {"ticket": 2**31}),
        (JOB, {"number": 2**32 - 1}),
    ],
)
def test_ids_that_are_none_are_refused(
    channel: Any, root: Path, method: str, job: str, changes: dict[str, Any]
) -> None:
    request = pb.SizesRequest if method == channels.SIZES else pb.FetchRequest
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, method, request(job=job, partition=0, outputs=[wire(output(root), **changes)]))
    assert code_of(caught) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", [channels.SIZES, channels.FETCH])
def test_no_link_is_followed(channel: Any, root: Path, tmp_path: Path, method: str) -> None:
    """A job's code may put links where it likes; they lead nowhere."""
    outside = tmp_path / "outside"
    location = output(outside)
    (root / "jobs").mkdir()
    links = [
        (root / "jobs" / JOB, outside / "jobs" / JOB),
        (root / "jobs" / JOB / "maps", outside / "jobs" / JOB / "maps"),
        (path_of(root, location), path_of(outside, location)),
    ]
    for link, target in links:
        link.symlink_to(target)
        if method == channels.SIZES:
            request = pb.SizesRequest(job=JOB, partition=0, outputs=[wire(location)])
            assert [r.found for r in ask(channel, method, request).regions] == [False]
        else:
            with pytest.raises(grpc.RpcError) as caught:
                ask(channel, method, pb.FetchRequest(job=JOB, partition=0, outputs=[wire(location)]))
            assert code_of(caught) is grpc.StatusCode.NOT_FOUND
        link.unlink()
        link.mkdir()


def test_what_isnt_a_file_holds_nobody_up(channel: Any, root: Path) -> None:
    location = output(root)
    path = path_of(root, location)
    for make in (os.mkfifo, os.mkdir):
        path.unlink()
        make(path)
        request = pb.SizesRequest(job=JOB, partition=0, outputs=[wire(location)])
        assert [r.found for r in ask(channel, channels.SIZES, request).regions] == [False]
        if path.is_dir():
            break


def test_a_file_under_anothers_name_is_not_found(server: FileServer, root: Path) -> None:
    location = output(root)
    other = replace(location, attempt=location.attempt._replace(task=TaskRef(JOB, 0, Kind.MAP, 6)))
    path_of(root, location).rename(path_of(root, other))
    peers = GrpcPeers(lambda w, b: server.address, key=KEY, again=QUICK)
    assert peers.sizes(JOB, 0, [other]) == [None]
    peers.close()


def test_outputs_are_told_apart_by_the_stage_of_their_map(server: FileServer, root: Path) -> None:
    """Attempts of two stages that are called the same in all else."""
    ours, theirs = output(root, stage=12, salt="x"), output(root, sizes=(3000,), salt="y")
    peers = GrpcPeers(lambda w, b: server.address, key=KEY)
    lengths = []
    for location in (ours, theirs):
        (info,) = peers.sizes(JOB, 0, [location])
        assert info is not None
        assert len(b"".join(peers.fetch(JOB, 0, [location]))) == info.length
        lengths.append(info.length)
    assert lengths[0] < lengths[1]
    peers.close()


def test_offsets_and_partitions_beyond_the_end(channel: Any, root: Path) -> None:
    location = output(root, sizes=(1000,))
    sizes = ask(channel, channels.SIZES, pb.SizesRequest(job=JOB, partition=0, outputs=[wire(location)]))
    length = sizes.regions[0].length
    whole = pb.FetchRequest(job=JOB, partition=0, outputs=[wire(location)], offset=length)
    assert ask(channel, channels.FETCH, whole) == b""
    for changes, code in (
        ({"offset": length + 1}, grpc.StatusCode.OUT_OF_RANGE),
        ({"offset": 2**64 - 1}, grpc.StatusCode.OUT_OF_RANGE),
        ({"partition": 1}, grpc.StatusCode.NOT_FOUND),
        ({"partition": 2**32 - 1}, grpc.StatusCode.NOT_FOUND),
    ):
        request = pb.FetchRequest(**{"job": JOB, "outputs": [wire(location)], **changes})
        with pytest.raises(grpc.RpcError) as caught:
            ask(channel, channels.FETCH, request)
        assert code_of(caught) is code
    beyond = pb.SizesRequest(job=JOB, partition=7, outputs=[wire(location)])
    assert [r.found for r in ask(channel, channels.SIZES, beyond).regions] == [False]


def test_more_outputs_than_a_call_may_name_are_refused(channel: Any, root: Path) -> None:
    location = output(root)
    request = pb.SizesRequest(job=JOB, partition=0, outputs=[wire(location)] * (channels.OUTPUTS_MAX + 1))
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, channels.SIZES, request)
    assert code_of(caught) is grpc.StatusCode.INVALID_ARGUMENT


def methods(server: FileServer) -> list[tuple[str, bool, bool]]:
    """Every method of every service, as reflection tells with the key: name, streams in, streams out."""
    method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    with grpc.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)

        def reflect(**request: Any) -> Any:
            asked = iter([reflection_pb2.ServerReflectionRequest(**request)])
            return next(
                iter(stub.ServerReflectionInfo(asked, metadata=signed(channel, method, b""), timeout=5))
            )

        found = []
        for service in reflect(list_services="").list_services_response.service:
            answer = reflect(file_containing_symbol=service.name).file_descriptor_response
            for raw in answer.file_descriptor_proto:
                described = descriptor_pb2.FileDescriptorProto.FromString(raw)
                for one in described.service:
                    if f"{described.package}.{one.name}" == service.name:
                        found += [
                            (f"/{service.name}/{m.name}", m.client_streaming, m.server_streaming)
                            for m in one.method
                        ]
        return found


@pytest.mark.parametrize("key", [None, b"another key", b""], ids=["none", "wrong", "empty"])
def test_every_method_but_healths_check_is_denied_without_the_key(
    server: FileServer, key: bytes | None
) -> None:
    """Who could watch, or ask for reflection, without the key could hold all threads."""
    every = methods(server)
    services = {name.split("/")[1] for name, _, _ in every}
    assert services == {
        channels.SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert {channels.SIZES, channels.FETCH, channels.DIAL} <= {name for name, _, _ in every}
    with grpc.insecure_channel(server.address) as channel:
        status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert status.status == SERVING
        every.remove((vitals.CHECK, False, False))
        every.append(("/mrq.v1.Files/Unheard", False, False))
        challenge = challenge_of(channel)
        for name, streams_in, streams_out in every:
            kind = f"{'stream' if streams_in else 'unary'}_{'stream' if streams_out else 'unary'}"
            request: Any = iter([b""]) if streams_in else b""
            call = getattr(channel, kind)(name, None, None)
            with pytest.raises(grpc.RpcError) as caught:
                list(call(request, timeout=5, metadata=sign(key, name, b"", challenge=challenge)))
            assert code_of(caught) is grpc.StatusCode.UNAUTHENTICATED, name


def test_what_would_stay_open_is_served_to_nobody(channel: Any) -> None:
    method = f"/{vitals.SERVICE}/Watch"
    with pytest.raises(grpc.RpcError) as caught:
        list(channel.unary_stream(method, None, None)(b"", timeout=5, metadata=signed(channel, method, b"")))
    assert code_of(caught) is grpc.StatusCode.UNIMPLEMENTED


def test_a_signature_is_of_one_request_and_one_method(channel: Any, root: Path) -> None:
    mine = pb.SizesRequest(job=JOB, partition=0, outputs=[wire(output(root))]).SerializeToString()
    other = pb.SizesRequest(job="other", partition=0).SerializeToString()
    for method, body in ((channels.SIZES, other), (channels.FETCH, mine)):
        with pytest.raises(grpc.RpcError) as caught:
            list(
                channel.unary_stream(method, None, None)(
                    body, timeout=5, metadata=signed(channel, channels.SIZES, mine)
                )
            )
        assert code_of(caught) is grpc.StatusCode.UNAUTHENTICATED


def test_health_answers_who_has_the_key_and_who_hasnt(server: FileServer, channel: Any) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", channels.SERVICE):
        request = health_pb2.HealthCheckRequest(service=service)
        for metadata in ((), sign(KEY, vitals.CHECK, request.SerializeToString())):
            assert stub.Check(request, metadata=metadata, timeout=5).status == SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="another"), timeout=5)
    assert code_of(caught) is grpc.StatusCode.NOT_FOUND
    server._health.set(serving=False)
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status == NOT_SERVING


def test_rubbish_with_a_good_signature_is_refused(channel: Any) -> None:
    for method in (channels.SIZES, channels.FETCH, channels.DIAL):
        with pytest.raises(grpc.RpcError) as caught:
            list(
                channel.unary_stream(method, None, None)(
                    b"\xff\xff", timeout=5, metadata=signed(channel, method, b"\xff\xff")
                )
            )
        assert code_of(caught) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.org:0", "*:0"])
def test_an_address_beyond_this_host_needs_a_key(root: Path, bind: str) -> None:
    with pytest.raises(UsageError, match="without a cluster key"):
        FileServer(root=str(root), worker="w", boot="b", bind=bind)


@pytest.mark.parametrize("bind", ["nonsense", ":70", "127.0.0.1:", "127.0.0.1:x", "7070"])
def test_an_address_that_is_none_is_refused(root: Path, bind: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        FileServer(root=str(root), worker="w", boot="b", bind=bind)


@pytest.mark.parametrize(
    ("bind", "key", "insecure"),
    [
        ("127.0.0.1:0", None, False),
        ("localhost:0", None, False),
        ("0.0.0.0:0", KEY, False),
        ("0.0.0.0:0", None, True),
    ],
)
def test_addresses_that_are_allowed(root: Path, bind: str, key: bytes | None, insecure: bool) -> None:
    server = FileServer(root=str(root), worker="w", boot="b", bind=bind, key=key, insecure=insecure)
    assert not server.address.endswith(":0")
    server.start()
    server.stop(0)


def test_a_port_in_use_is_named(server: FileServer, root: Path) -> None:
    with pytest.raises(OperatorError, match=f"can't listen on {server.address}"):
        FileServer(root=str(root), worker="w", boot="b", bind=server.address)


# Dialling.


def test_the_leader_dials_back(server: FileServer, root: Path) -> None:
    found = dial_back(server.address, worker="w1", boot="b1", key=KEY)
    assert (found.worker, found.boot, found.root, found.sentinel) == ("w1", "b1", str(root), "s")


def test_an_address_of_somebody_else_is_named(server: FileServer) -> None:
    with pytest.raises(OperatorError, match="worker w1 of boot b1 listens there"):
        dial_back(server.address, worker="w2", boot="b1", key=KEY)
    with pytest.raises(OperatorError, match="another cluster key"):
        dial_back(server.address, worker="w1", boot="b1", key=b"another")
    with pytest.raises(OperatorError, match="can't reach it"):
        dial_back("127.0.0.1:1", worker="w1", boot="b1", key=KEY, timeout_s=0.3)


def test_a_server_without_the_key_proves_nothing(root: Path) -> None:
    server = FileServer(root=str(root), worker="w1", boot="b1")
    server.start()
    with pytest.raises(OperatorError, match="another cluster key than the leader"):
        dial_back(server.address, worker="w1", boot="b1", key=KEY)
    assert dial_back(server.address, worker="w1", boot="b1", key=None).worker == "w1"
    server.stop(0)


# What clients make of it.


def test_busy_is_waited_for(root: Path) -> None:
    location = output(root, sizes=(20 << 20,))
    server = FileServer(root=str(root), worker="w1", boot="b1", bounds=Bounds(calls_max=1))
    server.start()
    slow = GrpcPeers(lambda w, b: server.address, tries_again=0)
    quick = GrpcPeers(lambda w, b: server.address, tries_again=0)
    chunks = slow.fetch(JOB, 0, [location])
    next(chunks)
    found: list[Any] = []
    asking = threading.Thread(target=lambda: found.extend(quick.sizes(JOB, 0, [location])))
    asking.start()
    asking.join(0.3)
    assert asking.is_alive()
    chunks.close()
    asking.join(10)
    assert found[0] is not None
    slow.close()
    quick.close()
    server.stop(0)


def test_a_dead_peer_is_unreachable(root: Path) -> None:
    location = output(root)
    peers = GrpcPeers(lambda w, b: "127.0.0.1:1", again=QUICK)
    with pytest.raises(PeerUnreachableError, match="worker w1"):
        peers.sizes(JOB, 0, [location])
    with pytest.raises(PeerUnreachableError):
        list(peers.fetch(JOB, 0, [location]))
    peers.close()
    unknown = GrpcPeers(lambda w, b: None, again=QUICK)
    with pytest.raises(PeerUnreachableError, match="isn't known"):
        unknown.sizes(JOB, 0, [location])
    unknown.close()


def test_another_key_is_said_at_once(server: FileServer, root: Path) -> None:
    peers = GrpcPeers(lambda w, b: server.address, key=b"other")
    with pytest.raises(PeerUnreachableError, match="the same on both sides"):
        peers.sizes(JOB, 0, [output(root)])
    peers.close()


def test_a_stream_resumes_where_it_broke_off(root: Path) -> None:
    """The server is stopped in the middle and comes back on another port."""
    location = output(root, sizes=(40 << 20,))
    servers = [FileServer(root=str(root), worker="w1", boot="b1", key=KEY)]
    servers[0].start()
    peers = GrpcPeers(lambda w, b: servers[-1].address, key=KEY, again=QUICK)
    (info,) = peers.sizes(JOB, 0, [location])
    assert info is not None
    chunks = peers.fetch(JOB, 0, [location])
    got = bytearray(next(chunks))
    servers[0].stop(0)
    servers.append(FileServer(root=str(root), worker="w1", boot="b1", key=KEY))
    servers[1].start()
    for chunk in chunks:
        got += chunk
    assert (len(got), crc32(bytes(got))) == (info.length, info.crc32)
    peers.close()
    servers[1].stop(0)


class _Mute:
    """A server that takes calls and says nothing."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.asked = 0
        self.server = grpc.server(ThreadPoolExecutor(4))
        handler = grpc.unary_stream_rpc_method_handler(self.fetch)
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(channels.SERVICE, {"Fetch": handler}),)
        )
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def fetch(self, request: bytes, context: Any) -> Iterator[bytes]:
        self.asked += 1
        yield b"one"
        self.over.wait(10)

    def stop(self) -> None:
        self.over.set()
        self.server.stop(0).wait()


def test_the_watchdog_runs_only_while_the_reader_wants_bytes(root: Path) -> None:
    mute = _Mute()
    peers = GrpcPeers(lambda w, b: mute.address, watchdog_s=0.2, again=QUICK)
    chunks = peers.fetch(JOB, 0, [output(root)])
    assert next(chunks) == b"one"
    time.sleep(0.6)  # longer than the watchdog's patience, which doesn't run now
    assert mute.asked == 1
    assert next(chunks) == b"one"  # it ran out, and the call was made again
    assert mute.asked == 2
    chunks.close()
    peers.close()
    mute.stop()


def test_a_damaged_region_is_sent_as_it_is_for_the_reader_to_check(server: FileServer, root: Path) -> None:
    location = output(root, sizes=(1000,))
    path = path_of(root, location)
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    peers = GrpcPeers(lambda w, b: server.address, key=KEY, again=QUICK)
    (info,) = peers.sizes(JOB, 0, [location])
    assert info is not None
    assert crc32(b"".join(peers.fetch(JOB, 0, [location]))) != info.crc32
    path.write_bytes(data[:-1])
    with pytest.raises(CorruptFileError, match="worker w1"):
        list(peers.fetch(JOB, 0, [location]))
    peers.close()


def test_whether_a_probe_is_seen_is_told_and_of_nothing_else(
    server: FileServer, channel: Any, tmp_path: Path
) -> None:
    nonce, folder = os.urandom(16), str(tmp_path)
    who = {"worker": "w1", "boot": "b1", "nonce": nonce, "timeout_s": 5.0}
    assert sees(server.address, folder=folder, key=KEY, **who) is False
    Path(probe_path(folder, nonce)).touch()
    assert sees(server.address, folder=folder, key=KEY, **who) is True
    assert sees(server.address, folder=f"{folder}/none", key=KEY, **who) is False
    assert sees(server.address, folder=folder, key=b"another", **who) is None
    assert sees(server.address, folder=folder, key=KEY, **{**who, "boot": "b2"}) is None
    assert sees("127.0.0.1:1", folder=folder, key=KEY, **{**who, "timeout_s": 0.3}) is None
    for wrong in ({"folder": b"tmp"}, {"folder": b"/tmp\0"}, {"nonce": b"../../../etc/passwd"[:3]}):
        fields = {"worker": "w1", "boot": "b1", "folder": b"/", "nonce": nonce, **wrong}
        with pytest.raises(grpc.RpcError) as caught:
            ask(channel, channels.SEES, pb.SeesRequest(**fields))
        assert code_of(caught) is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as caught:
        ask(
            channel, channels.SEES, pb.SeesRequest(worker="w1", boot="b1", folder=b"/", nonce=nonce), key=None
        )
    assert code_of(caught) is grpc.StatusCode.UNAUTHENTICATED


def test_a_disk_that_hangs_holds_up_two_threads_at_most(
    server: FileServer, channel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang, hanging = threading.Event(), threading.Semaphore(0)

    def lexists(path: object) -> bool:
        hanging.release()
        return hang.wait(20)

    monkeypatch.setattr("mrq.adapters.grpc.server.os.path.lexists", lexists)
    fields = {"worker": "w1", "boot": "b1", "folder": str(tmp_path).encode(), "nonce": os.urandom(16)}
    request = pb.SeesRequest(**fields)
    with ThreadPoolExecutor(2) as pool:
        first = [pool.submit(ask, channel, channels.SEES, request) for _ in range(2)]
        assert all(hanging.acquire(timeout=5) for _ in first)
        with pytest.raises(grpc.RpcError) as caught:
            ask(channel, channels.SEES, request)
        assert code_of(caught) is grpc.StatusCode.RESOURCE_EXHAUSTED
        hang.set()
        assert all(pb.SeesReply.FromString(each.result(5)).seen for each in first)


def test_a_region_whose_size_was_asked_is_read_as_often_as_is_asked(root: Path, channel: Any) -> None:
    location = output(root, sizes=(3000, 2000))
    (size,) = ask(
        channel, channels.SIZES, pb.SizesRequest(job=JOB, partition=1, outputs=[wire(location)])
    ).regions
    request = pb.FetchRequest(job=JOB, partition=1, outputs=[wire(location)])
    first, again = (ask(channel, channels.FETCH, request) for _ in range(2))
    assert first == again
    assert (len(first), crc32(first)) == (size.length, size.crc32)


def test_a_region_whose_size_was_asked_can_be_gone(root: Path, channel: Any) -> None:
    location = output(root)
    request = pb.FetchRequest(job=JOB, partition=0, outputs=[wire(location)])
    ask(channel, channels.SIZES, pb.SizesRequest(job=JOB, partition=0, outputs=[wire(location)]))
    path_of(root, location).unlink()
    with pytest.raises(grpc.RpcError) as exc:
        ask(channel, channels.FETCH, request)
    assert code_of(exc) is grpc.StatusCode.NOT_FOUND


def test_a_stream_that_is_left_lets_go_of_its_file(root: Path, channel: Any) -> None:
    location = output(root, sizes=(16 << 20,))
    path = str(path_of(root, location))
    body = pb.FetchRequest(job=JOB, partition=0, outputs=[wire(location)]).SerializeToString()
    stream = channel.unary_stream(channels.FETCH, None, None)(
        body, timeout=10, metadata=signed(channel, channels.FETCH, body)
    )
    next(stream)
    assert path in open_files()
    stream.cancel()
    deadline = time.monotonic() + 10
    while path in open_files():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def open_files() -> set[str]:
    """Of this process, which is the server's too."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return found
