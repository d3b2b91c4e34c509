"""What is in a message: msgpack of [version, key id, HMAC, payload].

The payload is msgpack of [the wire form of a TaskMessage, positions, rows]: each row is another task's
message, which has these values at these positions and is like the first one otherwise. The HMAC-SHA256 covers
version, key id, queue and payload, each with its length, so a message can't be moved to another queue or read
under another key. Several keys are accepted, so that they can be changed one process at a time; one signs.

What comes from a queue may be anything. Decoding gives a value: the message, or why it is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

from mrq.core import wire
from mrq.core.model import TaskMessage
from mrq.errors import CorruptFileError, InternalError, UsageError

#: Of the envelope and the payload together: a change of TaskMessage's fields is another version.
VERSION: Final = 4

#: Messages carry ids only; more than this is a mistake, refused before it is sent.
BODY_BYTES_MAX: Final = 256 << 10

_KEY_BYTES_MIN: Final = 16
_KEY_ID_BYTES_MAX: Final = 255
_LENGTHS: Final = struct.Struct(">BHI")


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeys:
    """The secrets of a cluster, by id. `current` signs, all verify."""

    current: str
    secrets: Mapping[str, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if self.current not in self.secrets:
            raise UsageError(
                f"key {self.current!r} is to sign messages, but there is no secret under that id"
            )
        for name, secret in self.secrets.items():
            if len(secret) < _KEY_BYTES_MIN:
                raise UsageError(
                    f"key {name!r} has {len(secret)} bytes; use {_KEY_BYTES_MIN} or more, random"
                )
            if not 0 < len(name.encode()) <= _KEY_ID_BYTES_MAX:
                raise UsageError(f"a key's id has 1 to {_KEY_ID_BYTES_MAX} bytes, not {len(name.encode())}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A body that isn't a message for us."""

    reason: str  #: "undecodable: …", "unknown version: …" or "forged: …", fit for a header and a log line


class Messages:
    """Encodes and decodes under one set of keys. Safe to use from several threads."""

    def __init__(self, keys: SigningKeys) -> None:
        self._current = keys.current
        # Keyed once: a copy of a keyed hash costs less than keying one for each message.
        self._keyed = {name: hmac.new(secret, None, hashlib.sha256) for name, secret in keys.secrets.items()}

    def encode(self, tasks: Sequence[TaskMessage], queue: str) -> bytes:
        """The body for a queue, of one message for these tasks. Raises InternalError over BODY_BYTES_MAX."""
        first, *others = [wire.to_wire(message) for message in tasks]
        differ = [at for at, value in enumerate(first) if any(other[at] != value for other in others)]
        payload = msgpack.packb([first, differ, [[other[at] for at in differ] for other in others]])
        mac = self._mac(self._current, queue, payload)
        body: bytes = msgpack.packb([VERSION, self._current, mac, payload])
        if len(body) > BODY_BYTES_MAX:
            raise InternalError(
                f"the message of task {tasks[0].task} of job {tasks[0].task.job} has "
                f"{len(body):,} bytes; {BODY_BYTES_MAX:,} is the most. Messages carry ids only"
            )
        return body

    def decode(self, body: bytes, queue: str) -> tuple[TaskMessage, ...] | Refused:
        """Its tasks' messages, if one who has a key made it for this queue. Never raises, whatever the bytes
        are."""
        if len(body) > BODY_BYTES_MAX:
            return Refused(reason=f"undecodable: {len(body)} bytes, where {BODY_BYTES_MAX} is the most")
        envelope = _unpack(body)
        if not isinstance(envelope, list) or not envelope or type(envelope[0]) is not int:
            return Refused(reason="undecodable: not an envelope of mrq")
        if envelope[0] != VERSION:
            return Refused(
                reason=f"unknown version: {str(envelope[0])[:20]}, where this mrq speaks {VERSION}"
            )
        if len(envelope) != 4 or [type(part) for part in envelope[1:]] != [str, bytes, bytes]:
            return Refused(reason="undecodable: an envelope of other fields")
        _, key, mac, payload = envelope
        if key not in self._keyed:
            return Refused(reason=f"forged: signed under key {key[:40]!r}, which isn't known here")
        if not hmac.compare_digest(mac, self._mac(key, queue, payload)):
            return Refused(reason=f"forged: the signature doesn't fit key {key[:40]!r} and queue {queue}")
        values: Any = _unpack(payload)
        try:
            first, differ, rows = values
            tasks = [wire.from_wire(TaskMessage, first)]
            for row in rows:
                fields = list(first)
                for at, value in zip(differ, row, strict=True):
                    fields[at] = value
                tasks.append(wire.from_wire(TaskMessage, fields))
        except (
            CorruptFileError,
            TypeError,
            ValueError,
            IndexError,
        ) as exc:  # by one of ours, of other fields
            return Refused(reason=f"undecodable: {exc}")
        return tuple(tasks)

    def _mac(self, key: str, queue: str, payload: bytes) -> bytes:
        hashed = self._keyed[key].copy()
        name, where = key.encode(), queue.encode()
        hashed.update(_LENGTHS.pack(VERSION, len(name), len(where)) + name + where)
        hashed.update(payload)
        return hashed.digest()


def _unpack(data: bytes) -> object:
    """None for what isn't one msgpack value; no extension types, nothing longer than it says."""
    try:
        return msgpack.unpackb(data, strict_map_key=True, max_ext_len=0)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError):
        return None
