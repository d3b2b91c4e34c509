"""Message bodies: what one process signs another reads, and anything else is refused with its reason."""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrq.adapters.rabbitmq.envelopes import BODY_BYTES_MAX, Messages, Refused, SigningKeys
from mrq.core.model import TaskMessage
from mrq.core.refs import Kind, TaskRef
from mrq.errors import InternalError, UsageError

QUEUE = "mrq.map"
OLD, NEW = b"an old secret of 32 bytes, say..", b"a new secret of 32 bytes, say..."
OURS = Messages(SigningKeys(current="old", secrets={"old": OLD}))
#: The fields of `task()`.
FIRST = ["j", "m", 3, 1, None, False, [0, []], None, False, False, 0]


def task(**changes: Any) -> TaskMessage:
    fields: dict[str, Any] = {
        "task": TaskRef("j", 0, Kind.MAP, 3),
        "ticket": 1,
    }
    return TaskMessage(**{**fields, **changes})


def refused(body: bytes, queue: str = QUEUE, by: Messages = OURS) -> str:
    read = by.decode(body, queue)
    assert isinstance(read, Refused)
    return read.reason


def signed(payload: bytes, *, version: int = 4, key: str = "old", secret: bytes = OLD) -> bytes:
    """By the format as it is documented, not by the code under test."""
    name, queue = key.encode(), QUEUE.encode()
    covered = struct.pack(">BHI", version, len(name), len(queue)) + name + queue + payload
    mac = hmac.new(secret, covered, hashlib.sha256).digest()
    return msgpack.packb([version, key, mac, payload])


messages = st.builds(
    TaskMessage,
    task=st.builds(
        TaskRef,
        job=st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=64),
        stage=st.integers(0, 3),
        kind=st.sampled_from(Kind),
        index=st.integers(0, 2**31),
    ),
    ticket=st.integers(0, 2**63 - 1),
    not_worker=st.none() | st.text(max_size=64),
    careful=st.booleans(),
)


@given(st.lists(messages, min_size=1, max_size=5))
def test_what_was_encoded_is_read(tasks: list[TaskMessage]) -> None:
    assert OURS.decode(OURS.encode(tasks, QUEUE), QUEUE) == tuple(tasks)


def test_the_format_is_as_documented() -> None:
    assert OURS.encode([task()], QUEUE) == signed(msgpack.packb([FIRST, [], []]))


def test_what_tasks_have_in_common_is_said_once() -> None:
    tasks = [task(), *(task(task=TaskRef("j", 0, Kind.MAP, i)) for i in (4, 5))]
    assert OURS.encode(tasks, QUEUE) == signed(msgpack.packb([FIRST, [2], [[4], [5]]]))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_reason(body: bytes) -> None:
    assert refused(body).startswith(("undecodable: ", "unknown version: ", "forged: "))


@given(st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    body = bytearray(OURS.encode([task()], QUEUE))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    refused(bytes(body))


def test_a_message_of_another_queue_is_forged() -> None:
    assert "forged" in refused(OURS.encode([task()], "mrq.reduce"))


def test_another_secret_under_the_same_id_is_forged() -> None:
    theirs = Messages(SigningKeys(current="old", secrets={"old": NEW}))
    assert refused(theirs.encode([task()], QUEUE)).startswith("forged: the signature")


def test_a_key_that_nobody_knows_is_forged() -> None:
    theirs = Messages(SigningKeys(current="new", secrets={"new": NEW}))
    assert refused(theirs.encode([task()], QUEUE)) == "forged: signed under key 'new', which isn't known here"


def test_the_key_id_is_covered() -> None:
    """Two ids with one secret: a body signed under one isn't valid under the other."""
    both = Messages(SigningKeys(current="a", secrets={"a": OLD, "b": OLD}))
    version, _, mac, payload = msgpack.unpackb(both.encode([task()], QUEUE))
    assert "forged" in refused(msgpack.packb([version, "b", mac, payload]), by=both)


def test_keys_change_one_process_at_a_time() -> None:
    knows_both = Messages(SigningKeys(current="old", secrets={"old": OLD, "new": NEW}))
    signs_new = Messages(SigningKeys(current="new", secrets={"old": OLD, "new": NEW}))
    for writer, reader in ((OURS, signs_new), (knows_both, signs_new), (signs_new, knows_both)):
        assert reader.decode(writer.encode([task()], QUEUE), QUEUE) == (task(),)


def test_an_unknown_version_is_named() -> None:
    assert refused(msgpack.packb([7, "old", b"", b""])) == "unknown version: 7, where this mrq speaks 4"


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1",
        b"",
        *map(
            msgpack.packb,
            (
                ["j", "m"],
                [0] * 10,
                [["j", "m"], [], []],
                [FIRST, [2], [[4, 5]]],
                [FIRST, [2, 99], [[4, 5]]],
                [FIRST, ["2"], [[4]]],
                [FIRST, [2], [4]],
                [FIRST, [], 7],
            ),
        ),
    ],
)
def test_a_signed_body_of_other_fields_is_undecodable(payload: bytes) -> None:
    assert refused(signed(payload)).startswith("undecodable")


@pytest.mark.parametrize(
    "body",
    [
        msgpack.packb([4, "old", b"mac"]),
        msgpack.packb([4, b"old", b"mac", b"payload"]),
        msgpack.packb([True, "old", b"mac", b"payload"]),
        msgpack.packb({"version": 1}),
        msgpack.packb([4, "old", msgpack.ExtType(5, b"x"), b"payload"]),
        b"\x91" * 5000,
        b"\xdd\xff\xff\xff\xff",
    ],
)
def test_envelopes_of_other_shapes_are_undecodable(body: bytes) -> None:
    assert refused(body).startswith("undecodable")


def test_a_body_over_the_limit_isnt_even_looked_at() -> None:
    assert refused(b"\x00" * (BODY_BYTES_MAX + 1)).startswith("undecodable: 262145 bytes")


def test_a_message_over_the_limit_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InternalError, match="262,144 is the most"):
        OURS.encode([task(not_worker="w" * BODY_BYTES_MAX)], QUEUE)


def test_a_secret_is_never_shown() -> None:
    assert "secret" not in repr(SigningKeys(current="old", secrets={"old": OLD}))[4:].replace("secrets", "")


@pytest.mark.parametrize(
    ("current", "secrets", "says"),
    [
        ("new", {"old": OLD}, "no secret under that id"),
        ("old", {"old": b"short"}, "has 5 bytes"),
        ("", {"": OLD}, "1 to 255 bytes"),
        ("k" * 256, {"k" * 256: OLD}, "1 to 255 bytes"),
    ],
)
def test_bad_keys_are_refused(current: str, secrets: dict[str, bytes], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        SigningKeys(current=current, secrets=secrets)
