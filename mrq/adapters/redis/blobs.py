"""Blobs by content: a hash of chunks each, readable once its size is there."""

from __future__ import annotations

import hashlib
from typing import Final

from mrq.adapters.redis.connect import Connection
from mrq.adapters.redis.scripts import Call
from mrq.errors import CorruptFileError, InternalError, OperatorError, UsageError

CHUNK_BYTES: Final = 1 << 20
_ROUND_TRIP: Final = 8  #: chunks
_COMING_S: Final = 3600  #: chunks of a blob that was never finished go after it
_BYTES_MAX: Final = 512 << 20


class RedisBlobs:
    """Blobs, shared by everybody with this prefix; at most `bytes_max` each."""

    def __init__(self, connection: Connection, *, bytes_max: int = _BYTES_MAX) -> None:
        self._connection = connection
        self._keys = connection.keys
        self._bytes_max = bytes_max

    def put(self, data: bytes, *, keep_s: float | None = None) -> str:
        """Store bytes under their sha256; without `keep_s`, until a job's code is forgotten, or for ever."""
        if len(data) > self._bytes_max:
            raise UsageError(
                f"{len(data):,} bytes are more than the {self._bytes_max:,} that the cluster takes at once "
                "(blob_bytes_max); put the data where the cluster can read it, and name it as input"
            )
        digest = hashlib.sha256(data).hexdigest()
        key, keep_ms = self._keys.blob(digest), 0 if keep_s is None else max(1, int(keep_s * 1000))
        count = -(-len(data) // CHUNK_BYTES)
        if self._seal(key, count, len(data), keep_ms, known=True):
            return digest
        for _ in range(2):  # an unfinished one may expire while its chunks come again
            for first in range(0, count, _ROUND_TRIP):
                numbers = range(first, min(first + _ROUND_TRIP, count))
                view = memoryview(data)
                chunks = [x for n in numbers for x in (n, view[n * CHUNK_BYTES : (n + 1) * CHUNK_BYTES])]
                self._connection.pipeline([("HSET", key, *chunks), ("EXPIRE", key, _COMING_S, "NX")])
            if self._seal(key, count, len(data), keep_ms, known=False):
                return digest
        raise OperatorError(
            f"chunks of blob {digest} vanish from Redis at {self._connection.where} as they come"
        )

    def get(self, digest: str) -> bytes | None:
        """The bytes, verified. Raises CorruptFileError when they are others."""
        key = self._keys.blob(digest)
        size = self._connection.call("HGET", key, "size")
        if size is None:
            return None
        chunks: list[bytes] = []
        count = -(-int(size) // CHUNK_BYTES)
        for first in range(0, count, _ROUND_TRIP):
            numbers = range(first, min(first + _ROUND_TRIP, count))
            found = self._connection.call("HMGET", key, *numbers)
            if None in found:
                return None  # it expired while it was read
            chunks += found
        data = b"".join(chunks)
        if hashlib.sha256(data).hexdigest() != digest:
            raise CorruptFileError(
                f"blob {digest} in Redis at {self._connection.where} has other bytes than its name says: "
                f"delete the key {key}, and submit again"
            )
        return data

    def close(self) -> None:
        """The connection is closed by whoever made it."""

    def _seal(self, key: str, count: int, size: int, keep_ms: int, *, known: bool) -> bool:
        call = Call("blob_seal", [key], [count, size, keep_ms, int(known)])
        return bool(self._connection.run(call))


def check_code(digest: str, code: bytes) -> None:
    """Raise InternalError for a digest that isn't the code's."""
    if hashlib.sha256(code).hexdigest() != digest:
        raise InternalError(f"a bundle is named {digest}, which isn't the sha256 of its bytes")
