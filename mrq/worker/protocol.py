"""Frames between an agent and an executor: 4 bytes of length (little-endian), then a msgpack map.

Two pipes of their own carry them, never file descriptors 0 to 2, which belong to the user's code. The
agent's ends never block: a stopped executor must not stop the agent. The executor's ends do.

To an executor: `run` (a number, an AttemptOrder, its job's spec packed by itself, since it is the same for
many, its bundle's folder, what MRQ_DEBUG asks for, the path of the disk quota's page), several of which may
wait in the pipe. From it: `ready` once, then for each run in order `started` and `outcome`, with the
attempt's token.

A third pipe holds *permits*: the numbers of the orders. An executor reads one before it begins with an order,
and passes over the orders whose numbers it doesn't get. The agent has that pipe's end for reading, too: a
number that it reads there is of an order that hasn't begun and never will, without asking. The end of either
pipe ends the executor.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any, Final

import msgpack

from mrq.errors import InternalError

if TYPE_CHECKING:
    from mrq.core.model import JobSpec

_LENGTH: Final = struct.Struct("<I")
#: A permit. They are written and read whole: a pipe's writes up to 4 KiB are, and all are of this length.
PERMIT: Final = struct.Struct("<I")
#: A reduce over 10,000 map outputs with long paths is 3 MB; an outcome holds at most a log's tail,
#: counters and a sample of keys.
FRAME_BYTES_MAX: Final = 64 << 20
READ_BYTES: Final = 64 << 10

#: What `{"op": …}` can be.
RUN: Final = "run"
READY: Final = "ready"
STARTED: Final = "started"
OUTCOME: Final = "outcome"


class ProtocolError(InternalError):
    """What came over the pipe isn't a frame: something else wrote to it, or it was cut."""


def encode(message: dict[str, Any]) -> bytes:
    """One frame. Raises ProtocolError for what msgpack can't carry or what is too long."""
    try:
        # Paths may hold surrogates, for bytes that aren't UTF-8.
        body: bytes = msgpack.packb(message, unicode_errors="surrogatepass")
    except (TypeError, ValueError, OverflowError) as exc:
        raise ProtocolError(f"a {message.get('op')!r} frame can't be packed: {exc}") from exc
    if len(body) > FRAME_BYTES_MAX:
        raise ProtocolError(
            f"a {message.get('op')!r} frame of {len(body)} bytes is over the limit of {FRAME_BYTES_MAX}"
        )
    return _LENGTH.pack(len(body)) + body


def decode(body: bytes) -> dict[str, Any]:
    """The message in a frame's body. Raises ProtocolError."""
    try:
        message = msgpack.unpackb(body, unicode_errors="surrogatepass", strict_map_key=False)
    except Exception as exc:
        raise ProtocolError(f"a frame of {len(body)} bytes isn't msgpack: {exc}") from exc
    if not isinstance(message, dict) or not isinstance(message.get("op"), str):
        raise ProtocolError(f"a frame isn't a map with an 'op': {message!r:.80}")
    return message


def pack_spec(spec: JobSpec) -> bytes:
    """A job's spec for `run` frames."""
    from mrq.core import wire

    packed: bytes = msgpack.packb(wire.to_wire(spec), unicode_errors="surrogatepass")
    return packed


def unpack_spec(data: bytes) -> JobSpec:
    """The spec that `pack_spec` was given. Raises CorruptFileError."""
    from mrq.core import wire
    from mrq.core.model import JobSpec

    return wire.from_wire(
        JobSpec, msgpack.unpackb(data, unicode_errors="surrogatepass", strict_map_key=False)
    )


class FrameReader:
    """Cuts a stream of bytes into messages, however it arrives."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def within(self) -> bool:
        """Has a part of a frame come?"""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that `data` completes. Raises ProtocolError."""
        buffer = self._buffer
        buffer += data
        messages = []
        while len(buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer)
            if length > FRAME_BYTES_MAX:
                raise ProtocolError(
                    f"a frame claims {length} bytes, over the limit of {FRAME_BYTES_MAX}; "
                    f"it begins with {bytes(buffer[:16])!r}"
                )
            end = _LENGTH.size + length
            if len(buffer) < end:
                break
            messages.append(decode(bytes(buffer[_LENGTH.size : end])))
            del buffer[:end]
        return messages


class PipeWriter:
    """Sends frames over a pipe that doesn't block, keeping what it doesn't take yet."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waiting = bytearray()

    @property
    def waiting(self) -> bool:
        """Whether `flush` has work as soon as the pipe can be written."""
        return bool(self._waiting)

    def add(self, message: dict[str, Any]) -> None:
        """Queue a message for `flush`. Raises ProtocolError."""
        self._waiting += encode(message)

    def send(self, message: dict[str, Any]) -> None:
        """`add`, then `flush`."""
        self.add(message)
        self.flush()

    def flush(self) -> None:
        """Write what the pipe takes; a dead reader is no error: its exit tells."""
        try:
            while self._waiting:
                del self._waiting[: os.write(self._fd, self._waiting)]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._waiting.clear()


def read_available(fd: int) -> bytes | None:
    """What a non-blocking pipe holds; None at its end."""
    try:
        return os.read(fd, READ_BYTES) or None
    except BlockingIOError:
        return b""


def read_some(fd: int, reader: FrameReader) -> list[dict[str, Any]] | None:
    """Wait for bytes of a pipe that blocks: the messages that they complete; None at its end. Raises
    ProtocolError, OSError."""
    data = os.read(fd, READ_BYTES)
    if data:
        return reader.feed(data)
    if reader.within:
        raise ProtocolError("the pipe ended within a frame")
    return None


def write_all(fd: int, frames: bytes | bytearray) -> None:
    """Write frames, waiting for room. Raises OSError."""
    view = memoryview(frames)
    while view:
        view = view[os.write(fd, view) :]


def write_frame(fd: int, message: dict[str, Any]) -> None:
    """Write one message, waiting for room. Raises ProtocolError, OSError."""
    write_all(fd, encode(message))
