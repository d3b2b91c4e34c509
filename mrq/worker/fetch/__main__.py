"""The data plane's process, started by `data_plane`: where the adapters and the role meet."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import sys
from typing import Final, NoReturn

from mrq.adapters.grpc.peer_client import GrpcPeers
from mrq.adapters.grpc.server import FileServer
from mrq.adapters.redis.connect import Connection
from mrq.adapters.redis.keys import RedisKeys
from mrq.adapters.redis.locations import RedisLocations
from mrq.cli.console import Console
from mrq.errors import MrqError, OperatorError, StoreRefusedError
from mrq.worker import lifeline
from mrq.worker.fetch import messages
from mrq.worker.fetch.location_reader import Addresses
from mrq.worker.fetch.process import Pipe, Process
from mrq.worker.quota import DATA_PLANE, QuotaPage

_LOG: Final = logging.getLogger("mrq.worker.fetch")

#: A thread that has bytes to pass on must not wait 5 ms for one that computes.
_SWITCH_S: Final = 0.0005
#: Connections and files at once, where the process may have so many: 1,024, a usual limit, anybody can hold.
_FILES_MAX: Final = 1 << 16

#: What the store may take to say whether it lets us read.
_ASK_S: Final = 2.0


def main(arguments: list[str]) -> NoReturn:
    """Serve the pipes whose numbers are in `arguments`: read, write, life, and whether the thread that
    spawned us is its process's main one."""
    console = Console(role="mrq worker: ")
    with console.listening():
        try:
            _serve(console, *map(int, arguments))
        except BaseException:  # noqa: BLE001 the agent's log has what it was, and the agent starts another
            _LOG.exception("the data plane's process died")
    # Threads that still wait for peers are of no use to anybody.
    sys.stderr.flush()
    os._exit(0)


def _serve(console: Console, read: int, write: int, life: int, by_prctl: int) -> None:
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
    console.show(json=hello.log_format == "json")
    console.context.update(worker=hello.worker, boot=hello.boot)
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
    connection = Connection(hello.redis_url, keys=RedisKeys(hello.prefix))
    addresses = Addresses(RedisLocations(connection))
    peers = GrpcPeers(addresses.of, key=hello.key, mistaken=addresses.forget)

    def check() -> str:
        peers.close_idle()
        return server.check()

    process = Process(
        pipe=pipe,
        root=hello.root,
        worker=hello.worker,
        check=check,
        peers=peers,
        store=RedisLocations(connection),
        quota=QuotaPage(hello.quota, DATA_PLANE).share(maps=False) if hello.quota else None,
    )
    pipe.tell(messages.Ready(address=server.address, refused=_refused(hello, connection)))
    gc.freeze()  # what was imported: a full collection would take 15 ms more, and hold up every stream
    process.serve()


def _refused(hello: messages.Hello, connection: Connection) -> str:
    """Why the store doesn't let us read what we need, "" where it does, or is away for now."""
    asked = connection.impatient(_ASK_S)
    store = RedisLocations(asked)
    try:
        store.address(hello.worker, hello.boot)
        store.locations(hello.worker, 0)  # a job's, of whatever name
    except StoreRefusedError as exc:
        return str(exc)
    except OperatorError:
        return ""
    finally:
        asked.close()
    return ""


if __name__ == "__main__":
    main(sys.argv[1:])
