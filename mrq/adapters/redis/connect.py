"""Connections to Redis: how they time out, what is tried again, which servers are refused.

Every script is idempotent, so whatever a lost connection leaves in doubt is simply executed again; a
command that isn't idempotent must not go through here. Blocking reads have connections of their own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import redis
from redis import exceptions
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.retry import Retry as RedisRetry

from mrq.adapters.redis.keys import RedisKeys
from mrq.adapters.redis.scripts import Call, script
from mrq.core.backoff import Backoff, Retry
from mrq.errors import InternalError, OperatorError, StoreRefusedError, UsageError

_LOG: Final = logging.getLogger(__name__)

_TIMEOUT_S: Final = 5.0
_TRIES_AGAIN: Final = 3
_READ_AGAIN: Final = Backoff(base_s=0.1, max_s=0.5)
_IDLE_S: Final = 15  #: a connection that was idle for longer is tried out first
_SLICE_S: Final = 1.0  #: a blocking read comes back at least this often
_OLDEST: Final = (7, 0)

#: What a closed connection may raise in a thread that was reading from it.
_CUT: Final = (exceptions.RedisError, OSError, AttributeError, ValueError, TypeError)


class Connection:
    """One process's connections to one Redis; for any number of threads."""

    def __init__(
        self, url: str, *, keys: RedisKeys, timeout_s: float = _TIMEOUT_S, again: int = _TRIES_AGAIN
    ) -> None:
        """Connects with the first call. Raises UsageError for a URL that isn't one of Redis."""
        self.keys = keys
        self._url = url
        self._timeout_s = timeout_s
        self._client = self._make(timeout_s, again)
        self._execute: Callable[..., Any] = self._client.execute_command
        kwargs = self._client.connection_pool.connection_kwargs
        self.where = f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
        self.user: str | None = kwargs.get("username")
        self.readers: set[Reader] = set()  #: that are open

    def call(self, *command: Any) -> Any:
        """One command that may be executed again. Raises OperatorError."""
        with self.translated():
            return self._execute(*command)

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Several, in one round trip. Raises OperatorError."""
        return self._good(self._send(commands))

    def run(self, call: Call) -> Any:
        """Execute a script. Raises OperatorError."""
        return self.run_all([call])[0]

    def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Execute scripts in this order, in one round trip. Raises OperatorError.

        The server may have lost its scripts (a restart); those calls come again after the others.
        """
        answers = self._send([call.command() for call in calls])
        missing = [at for at, answer in enumerate(answers) if isinstance(answer, exceptions.NoScriptError)]
        if missing:
            texts = sorted({script(calls[at].name).text for at in missing})
            loads = [("SCRIPT LOAD", text) for text in texts]
            again = self._send([*loads, *(calls[at].command() for at in missing)])[len(loads) :]
            for at, answer in zip(missing, again, strict=True):
                answers[at] = answer
        return self._good(answers)

    def _good(self, answers: list[Any]) -> list[Any]:
        """The answers, if none of them is an error."""
        for answer in answers:
            if isinstance(answer, Exception):
                with self.translated():
                    raise answer
        return answers

    def impatient(self, timeout_s: float) -> Connection:
        """Others to the same server, for calls that are of no use when they take longer; nothing is tried
        again. To be closed on their own."""
        return Connection(self._url, keys=self.keys, timeout_s=timeout_s, again=0)

    def reader(self) -> Reader:
        """Connections for blocking reads, closed with this one."""
        made = Reader(self, self._make(self._timeout_s + _SLICE_S, 0))
        self.readers.add(made)
        return made

    def close(self) -> None:
        """Close all connections; a blocked read returns."""
        for reader in list(self.readers):
            reader.close()
        self._client.close()

    def fsync(self) -> dict[str, Any]:
        """{"appendfsync": how often it is} where this user may ask; else nothing. Raises OperatorError."""
        with self.translated():
            try:
                found: dict[str, Any] = self._execute("CONFIG GET", "appendfsync")
            except exceptions.NoPermissionError:
                return {}
            return {_text(name): _text(value) for name, value in found.items()}

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Errors of the library as ours."""
        try:
            yield
        except exceptions.AuthenticationError as exc:
            raise StoreRefusedError(self._refused(exc)) from exc
        except (exceptions.ConnectionError, exceptions.TimeoutError) as exc:
            raise OperatorError(f"Redis at {self.where} can't be reached: {_clause(exc)}") from exc
        except exceptions.NoPermissionError as exc:
            raise StoreRefusedError(
                f"Redis at {self.where} doesn't let user {self.user or 'default'} do what mrq needs: {exc}; "
                "give its rule the commands and keys that docs/operations.md lists"
            ) from exc
        except exceptions.OutOfMemoryError as exc:
            raise OperatorError(
                f"Redis at {self.where} is full: raise maxmemory, or let finished jobs go sooner (--keep)"
            ) from exc
        except exceptions.ResponseError as exc:
            if str(exc).startswith(("MISCONF", "READONLY", "MASTERDOWN", "NOREPLICAS", "BUSY")):
                raise OperatorError(f"Redis at {self.where} takes no writes: {exc}") from exc
            if str(exc).startswith(("WRONGPASS", "NOAUTH", "invalid username-password")):
                raise StoreRefusedError(self._refused(exc)) from exc
            raise InternalError(f"Redis at {self.where} refuses a command of mrq: {exc}") from exc

    def _refused(self, exc: Exception) -> str:
        return (
            f"Redis at {self.where} refuses user {self.user or 'default'}: {_clause(exc)}; "
            "check the name and password in redis_url or the secrets file"
        )

    def _send(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Answers or exceptions, one for each command."""
        if not commands:
            return []
        with self.translated(), self._client.pipeline(transaction=False) as pipe:
            add: Callable[..., Any] = pipe.execute_command
            for command in commands:
                add(*command)
            return list(pipe.execute(raise_on_error=False))

    def _make(self, timeout_s: float, again: int) -> redis.Redis:
        backoff = ExponentialWithJitterBackoff(base=0.05, cap=1.0) if again else NoBackoff()
        try:
            if not urlsplit(self._url).path.strip("/").isdigit() and urlsplit(self._url).path.strip("/"):
                raise ValueError(f"database {urlsplit(self._url).path[1:]!r} isn't a number")
            return redis.Redis.from_url(
                self._url,
                protocol=2,
                socket_timeout=timeout_s,
                socket_connect_timeout=self._timeout_s,
                socket_keepalive=True,
                health_check_interval=_IDLE_S,
                retry=RedisRetry(backoff, again),
            )
        except ValueError as exc:
            raise UsageError(f"this isn't the URL of a Redis (redis://HOST:6379/0): {exc}") from exc


class Reader:
    """Blocking reads of streams; for any number of threads."""

    def __init__(self, connection: Connection, client: redis.Redis) -> None:
        self._connection = connection
        self._client = client
        self._execute: Callable[..., Any] = client.execute_command
        self._closed = threading.Event()

    def read(
        self, stream: str, after: str, wait_s: float, count: int = 1000
    ) -> list[tuple[str, dict[bytes, bytes]]]:
        """Entries after an id, waited for; nothing when closed meanwhile. Raises OperatorError."""
        deadline = time.monotonic() + wait_s
        retry = Retry(_READ_AGAIN)
        while not self._closed.is_set():
            left = deadline - time.monotonic()
            block = ("BLOCK", max(1, int(min(left, _SLICE_S) * 1000))) if left > 0 else ()
            try:
                with self._connection.translated():
                    found = self._execute("XREAD", "COUNT", count, *block, "STREAMS", stream, after)
            except OperatorError:
                if self._closed.is_set():
                    break
                if retry.failures >= _TRIES_AGAIN:
                    raise
                time.sleep(retry.failed())
                continue
            except _CUT:
                if self._closed.is_set():
                    break
                raise
            if found:
                return [(id_.decode(), fields) for id_, fields in found[0][1]]
            if left <= 0:
                break
        return []

    def close(self) -> None:
        """A blocked read returns."""
        self._closed.set()
        self._client.connection_pool.disconnect()
        self._connection.readers.discard(self)


def _clause(exc: Exception) -> str:
    """What the library says, to go on from in a sentence."""
    return str(exc).rstrip(".")


def connect(url: str, *, prefix: str = "mrq", wait_s: float = 0.0) -> Connection:
    """A connection to a Redis that was looked at. Waits up to `wait_s` for one that isn't there yet.

    Raises UsageError for a bad URL or prefix; OperatorError for a login that is refused, a server that
    would lose data, or one that doesn't come.
    """
    connection = Connection(url, keys=RedisKeys(prefix))
    deadline = time.monotonic() + wait_s
    retry = Retry()
    try:
        while True:
            try:
                check({**connection.call("INFO"), **connection.fsync()}, connection.where)
                return connection
            except StoreRefusedError:
                raise
            except OperatorError as exc:
                left = deadline - time.monotonic()
                away = isinstance(exc.__cause__, exceptions.ConnectionError | exceptions.TimeoutError)
                if left <= 0 or not away:
                    raise
                if not retry.failures:
                    _LOG.warning("%s; trying again for up to %.0f s", exc, left)
                time.sleep(min(left, retry.failed()))
    except BaseException:
        connection.close()
        raise


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def check(info: dict[str, Any], where: str) -> None:
    """Refuse a server that would lose data, or that scripts can't run on. Raises OperatorError."""
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:2]) < _OLDEST:
        raise OperatorError(f"Redis at {where} is version {version}: mrq needs 7.0 or newer")
    wrong = []
    if str(info.get("aof_enabled")) != "1":
        wrong.append(
            "appendonly is no, so a restart loses what was acknowledged: set `appendonly yes` in redis.conf, "
            "or run `CONFIG SET appendonly yes` and `CONFIG REWRITE`"
        )
    if info.get("appendfsync") == "no":
        wrong.append(
            "appendfsync is no, so a crash of its machine loses half a minute: set `appendfsync everysec`"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        wrong.append(
            f"maxmemory-policy is {policy}, which drops keys of running jobs when memory is short: "
            "set `maxmemory-policy noeviction`"
        )
    if str(info.get("cluster_enabled", 0)) == "1":
        wrong.append(
            "it is a Redis Cluster, and mrq's scripts span slots: use a single server (cluster-enabled no)"
        )
    if info.get("role", "master") != "master":
        wrong.append(
            f"it is a replica: give the address of its primary, {info.get('master_host', 'elsewhere')}"
        )
    if wrong:
        raise OperatorError(f"Redis at {where} isn't fit to keep the cluster's state: " + "; ".join(wrong))
