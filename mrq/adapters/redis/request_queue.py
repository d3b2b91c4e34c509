"""What clients ask of the leader, its answers, and the news of jobs: streams, read with blocking reads."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping
from typing import Any, Final, cast

from mrq.adapters.redis.connect import Connection
from mrq.adapters.redis.packing import is_ours, pack, pack_value, request_id, unpack, unpack_value
from mrq.adapters.redis.scripts import Call
from mrq.adapters.redis.stream_reader import Follower
from mrq.core.answers import error_answer
from mrq.core.store_api import ClientRequest
from mrq.errors import CorruptFileError, OperatorError

_ANSWER_KEPT_S: Final = 600
_MARK_KEPT_S: Final = 3600
_PROGRESS_KEPT: Final = 64
_NEWS_KEPT_S: Final = 24 * 3600  #: of a job that never began


class RedisDesk:
    """A RequestQueue: each leader makes its own, and is given all requests that weren't removed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._keys = connection.keys
        self._follower = Follower(connection, self._keys.requests)

    def requests(self, wait_s: float) -> list[ClientRequest]:
        """New requests, oldest first; one of another version, that can't be read, is refused and removed."""
        found = []
        for entry, fields in self._follower.read(wait_s):
            try:
                found.append(unpack(ClientRequest, fields[b"q"]))
            except CorruptFileError as exc:
                with contextlib.suppress(CorruptFileError):
                    # Its client can't read the answer, and says so by both versions.
                    request = request_id(fields[b"q"])
                    self.answer(request, error_answer(exc))
                    self.remove(request)
                self._connection.call("XDEL", self._keys.requests, entry)
        return found

    def answer(self, request: str, answer: Mapping[str, Any]) -> None:
        """Answer; the first one counts."""
        args = [pack_value(dict(answer)), _ANSWER_KEPT_S * 1000]
        self._connection.run(Call("answer", [self._keys.answer(request)], args))

    def remove(self, request: str) -> None:
        """What it asked for is persisted."""
        keys = [self._keys.requests, self._keys.asked(request)]
        self._connection.run(Call("settle", keys, [_MARK_KEPT_S * 1000]))

    def tell(self, job: str, entry: Mapping[str, Any]) -> None:
        """Append to a job's news."""
        progress = int(entry.get("type") == "progress")
        args = [secrets.token_hex(8), pack_value(dict(entry)), progress, _PROGRESS_KEPT, _NEWS_KEPT_S * 1000]
        keys = [self._keys.news(job), self._keys.progress(job), self._keys.claims(job)]
        self._connection.run(Call("tell", keys, args))

    def close(self) -> None:
        """A blocked `requests` returns. The connection is closed by whoever made it."""
        self._follower.close()


class RedisClientLink:
    """A ClientLink: each client makes its own, over a connection of its own that is closed with it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._keys = connection.keys
        self._reader = connection.reader()
        self._closed = False

    def send(self, request: ClientRequest) -> None:
        """Ask, once for each id."""
        self._check()
        keys = [self._keys.requests, self._keys.asked(request.id)]
        self._connection.run(Call("ask", keys, [pack(request)]))

    def answer(self, request: str, wait_s: float) -> Mapping[str, Any] | None:
        """The answer, waited for."""
        self._check()
        found = self._reader.read(self._keys.answer(request), "0-0", wait_s)
        self._check()
        return cast(Mapping[str, Any], unpack_value(found[0][1][b"a"])) if found else None

    def news(self, job: str, after: str, wait_s: float) -> tuple[str, list[Mapping[str, Any]]]:
        """A job's news after a position, but for what another version said."""
        self._check()
        found = self._reader.read(self._keys.news(job), after or "0-0", wait_s)
        self._check()
        return (found[-1][0] if found else after), [
            unpack_value(fields[b"e"]) for _, fields in found if is_ours(fields[b"e"])
        ]

    def close(self) -> None:
        """A blocked call raises OperatorError."""
        self._closed = True
        self._connection.close()

    def _check(self) -> None:
        if self._closed:
            raise OperatorError("this connection to the cluster is closed")
