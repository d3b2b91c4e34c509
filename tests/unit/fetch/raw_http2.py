"""HTTP/2 by hand, as far as it takes to begin a gRPC call and not to go on with it."""

from __future__ import annotations

import socket

from mrq.adapters.grpc.auth import Metadata

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_HEADERS = 4


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _integer(value: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes((value,))
    out, value = bytearray((most,)), value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    out.append(value)
    return bytes(out)


def _header(name: bytes, value: bytes) -> bytes:
    """Literal, never indexed, not Huffman-coded."""
    return b"\x10" + _integer(len(name), 7) + name + _integer(len(value), 7) + value


class Connection:
    """A connection whose calls end when it does."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b""))
        self._stream = -1

    def head(self, method: str, metadata: Metadata = ()) -> int:
        """The head of a call; its stream."""
        import base64

        self._stream += 2
        block = b"".join(
            _header(name, value)
            for name, value in (
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", method.encode()),
                (b":authority", b"mrq"),
                (b"te", b"trailers"),
                (b"content-type", b"application/grpc"),
            )
        )
        for name, value in metadata:
            raw = value.encode() if isinstance(value, str) else base64.b64encode(value).rstrip(b"=")
            block += _header(name.encode(), raw)
        self._socket.sendall(_frame(_HEADERS, _END_HEADERS, self._stream, block))
        return self._stream

    def data(self, stream: int, payload: bytes) -> None:
        """A piece of a body, as it is."""
        self._socket.sendall(_frame(_DATA, 0, stream, payload))

    def close(self) -> None:
        self._socket.close()
