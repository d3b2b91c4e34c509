"""Answers of Redis that are lost after the call was carried out, as when a connection breaks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import Connection as Plain
from redis import exceptions

from mrq.adapters.redis import Connection, connect

#: As many as the client makes up for by itself, and one more.
AGAIN = 3


class Losses:
    """How many answers to scripts are still to be lost, and how many were."""

    def __init__(self) -> None:
        self.left = 0
        self.lost = 0


def losing(losses: Losses) -> type[Plain]:
    """A class of connections that lose answers to scripts."""

    class Losing(Plain):
        def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            sent = b"".join(command) if isinstance(command, list) else command
            super().send_packed_command(command, check_health)  # which may connect, by sending more
            self.calls_script = b"EVALSHA" in sent

        def read_response(self, *args: Any, **kwargs: Any) -> Any:
            answer = super().read_response(*args, **kwargs)
            if self.calls_script and losses.left and not isinstance(answer, exceptions.NoScriptError):
                losses.left -= 1
                losses.lost += 1
                self.disconnect()
                raise exceptions.ConnectionError("the answer was lost")
            return answer

    return Losing


@contextmanager
def lossy(url: str, prefix: str) -> Iterator[tuple[Connection, Losses]]:
    """A connection, and what its answers are lost by."""
    losses = Losses()
    connection = connect(url, prefix=prefix)
    connection._client.connection_pool.disconnect()
    connection._client.connection_pool.connection_class = losing(losses)
    connection._client.connection_pool.reset()
    try:
        yield connection, losses
    finally:
        connection.close()
