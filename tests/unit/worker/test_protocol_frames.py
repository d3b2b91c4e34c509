"""Frames: whatever way the bytes arrive, what isn't a frame is refused by name."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrq.worker import protocol

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
messages = st.dictionaries(st.text(), values, max_size=5).map(lambda m: {**m, "op": "x"})


@given(st.lists(messages, max_size=5), st.data())
def test_messages_arrive_however_they_are_cut(sent: list[dict[str, object]], data: st.DataObject) -> None:
    stream = b"".join(map(protocol.encode, sent))
    reader = protocol.FrameReader()
    received = []
    at = 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream)))
        received += reader.feed(stream[at : at + step])
        at += step
    assert received == sent


def test_surrogates_of_odd_paths_survive() -> None:
    sent = {"op": "run", "path": "caf\udce9"}
    assert protocol.FrameReader().feed(protocol.encode(sent)) == [sent]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (struct.pack("<I", protocol.FRAME_BYTES_MAX + 1) + b"hello", "over the limit"),
        (struct.pack("<I", 1) + b"\xc1", "isn't msgpack"),
        (struct.pack("<I", 1) + b"\x01", "isn't a map with an 'op'"),
        (struct.pack("<I", 1) + b"\x80", "isn't a map with an 'op'"),
        (struct.pack("<I", 2) + b"\x80\x80", "isn't msgpack"),
    ],
)
def test_rubbish_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(protocol.ProtocolError, match=said):
        protocol.FrameReader().feed(data)


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(protocol.ProtocolError, match="'outcome' frame can't be packed"):
        protocol.encode({"op": "outcome", "x": object()})


def test_a_frame_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "FRAME_BYTES_MAX", 100)
    with pytest.raises(protocol.ProtocolError, match="over the limit of 100"):
        protocol.encode({"op": "outcome", "x": b"a" * 200})


def test_a_blocking_reader_tells_the_end_from_a_cut() -> None:
    read, write = os.pipe()
    protocol.write_frame(write, {"op": "a"})
    os.write(write, protocol.encode({"op": "b"})[:-1])
    os.close(write)
    reader = protocol.FrameReader()
    assert protocol.read_some(read, reader) == [{"op": "a"}]
    with pytest.raises(protocol.ProtocolError, match="ended within a frame"):
        protocol.read_some(read, reader)
    assert protocol.read_some(read, protocol.FrameReader()) is None
    os.close(read)


def test_a_full_pipe_takes_the_rest_later() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(read, False)
    writer = protocol.PipeWriter(write)
    sent = {"op": "run", "data": b"x" * (1 << 20)}
    writer.send(sent)
    assert writer.waiting
    reader, received = protocol.FrameReader(), []
    while not received:
        received = reader.feed(protocol.read_available(read) or b"")
        writer.flush()
    assert received == [sent]
    assert not writer.waiting
    os.close(read)
    writer.send(sent)  # nobody reads any more: its death is told elsewhere
    assert not writer.waiting
    os.close(write)
