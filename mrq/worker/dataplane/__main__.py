"""The data plane's process, started by `plane`: where the gRPC adapter and the role meet."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import traceback
from typing import Final, NoReturn

from mrq.adapters.grpc.client import GrpcPeers
from mrq.adapters.grpc.server import FileServer
from mrq.errors import MrqError
from mrq.worker import lifeline
from mrq.worker.dataplane import messages
from mrq.worker.dataplane.process import Pipe, Process
from mrq.worker.quota import DATA_PLANE, Page

#: A thread that has bytes to pass on must not wait 5 ms for one that computes.
_SWITCH_S: Final = 0.0005
#: Connections and files at once, where the process may have so many: 1,024, a usual limit, anybody can hold.
_FILES_MAX: Final = 1 << 16


def main(arguments: list[str]) -> NoReturn:
    """Serve the pipes whose numbers are in `arguments`: read, write, life, and whether the thread that
    spawned us is its process's main one."""
    try:
        _serve(*map(int, arguments))
    except BaseException:  # noqa: BLE001 the agent's log has what it was, and the agent starts another
        traceback.print_exc()
    # Threads that still wait for peers are of no use to anybody.
    sys.stderr.flush()
    os._exit(0)


def _serve(read: int, write: int, life: int, by_prctl: int) -> None:
    lifeline.tie(life, by_prctl=bool(by_prctl))
    sys.setswitchinterval(_SWITCH_S)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the agent's to decide about
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _FILES_MAX)), hard))
    pipe = Pipe(read, write)
    hello = pipe.read()
    if not isinstance(hello, messages.Hello):
        return
    addresses: dict[tuple[str, str], str] = {}
    try:
        server = FileServer(
            root=hello.root,
            worker=hello.worker,
            boot=hello.boot,
            sentinel=hello.sentinel,
            bind=hello.bind,
            key=hello.key,
            insecure=hello.insecure,
        )
    except MrqError as exc:
        pipe.tell(messages.NotServing(error=type(exc).__name__, message=str(exc)))
        return
    server.start()
    peers = GrpcPeers(
        lambda *peer: addresses.get(peer),
        key=hello.key,
        mistaken=lambda worker, boot: pipe.tell(messages.Mistaken(worker=worker, boot=boot)),
    )

    def check() -> str:
        peers.tidy()
        return server.check()

    process = Process(
        pipe=pipe,
        root=hello.root,
        worker=hello.worker,
        check=check,
        peers=peers,
        addresses=addresses,
        quota=Page(hello.quota, DATA_PLANE).share(maps=False) if hello.quota else None,
    )
    pipe.tell(messages.Ready(address=server.address))
    gc.freeze()  # what was imported: a full collection would take 15 ms more, and hold up every stream
    process.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
