"""Whatever goes out over `core.wire` and msgpack comes back equal."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path

import msgpack
import pytest

from mrq.core import wire
from mrq.core.model import (
    AttemptId,
    ErrorReport,
    FetchFailure,
    JobSpec,
    Kind,
    Outcome,
    Piece,
    Role,
    Split,
    StagedFile,
    Status,
    TaskMessage,
    TaskResult,
)
from mrq.core.paths import attempt_name, parse_attempt_name
from mrq.core.tasks import pack_result, unpack_result
from mrq.errors import CorruptFileError, DataError

BEFORE = Path(__file__).resolve().parents[1] / "fixtures/before"
PIECE = Piece(path="a", open="/a", start=0, length=5, size=5, mtime_ns=12)
SPEC = JobSpec(
    job="j-1", name="J", code="ab", entry="m:J", parameters={"a": (1, [2, {"x": 10**30}]), "b": None},
    inputs=("a",), splits=(Split(index=0, pieces=(PIECE,)),), reducers=2,
    input_format="text", output_format="text", boundaries=(b"k", (1, "x")),
)  # fmt: skip
RESULT = TaskResult(
    records_in=1, bytes_in=2, records_out=3, bytes_out=4, digest=2**64 - 1, counters={"bad": 3},
    files=(StagedFile(name="x", final="part-00000", records=1, bytes=2, crc32=3),), sample=b"s",
)  # fmt: skip
OUTCOME = Outcome(
    status=Status.DONE, result=RESULT, error=ErrorReport(type="E", message="m", record="r", offset=3),
    fetch_failures=(FetchFailure(map_index=1, generation=2, reason="corrupt"),),
)  # fmt: skip
MESSAGE = TaskMessage(
    job="j", kind=Kind.REDUCE, index=3, generation=1, role=Role.BACKUP, role_number=2, publish_id="p"
)


@pytest.mark.parametrize("value", [SPEC, RESULT, OUTCOME, MESSAGE])
def test_round_trip_through_msgpack(value: object) -> None:
    data = msgpack.unpackb(msgpack.packb(wire.to_wire(value)))
    assert wire.from_wire(type(value), data) == value


@pytest.mark.parametrize(("name", "fields"), json.loads((BEFORE / "fields.json").read_text()).items())
def test_what_the_version_before_stored_is_read(name: str, fields: str) -> None:
    """A class's fields travel in order: what is added stands last, and has a default."""
    module, _, short = name.rpartition(".")
    now = dataclasses.fields(getattr(importlib.import_module(module), short))
    before = fields.split()
    assert [field.name for field in now][: len(before)] == before
    for field in now[len(before) :]:
        assert wire._has_default(field), field.name


@pytest.mark.parametrize("data", [None, [], ["x"] * 7, 3])
def test_anything_else_is_refused_by_name(data: object) -> None:
    with pytest.raises(CorruptFileError, match="TaskMessage"):
        wire.from_wire(TaskMessage, data)


def test_a_value_that_cannot_be_carried_is_named() -> None:
    with pytest.raises(DataError, match="set"):
        wire.pack_any({1})


@pytest.mark.parametrize("name", ["", "m-1", "x-00001.1.1.t", "m-00001.1.x.t", "m-00001.1.1.t.u"])
def test_other_names_are_not_attempts(name: str) -> None:
    assert parse_attempt_name(name) is None


def test_attempt_names_round_trip() -> None:
    attempt = AttemptId(generation=2, number=7, token="ab12")
    assert parse_attempt_name(attempt_name(Kind.MAP, 123456, attempt)) == (Kind.MAP, 123456, attempt)


def test_fields_added_since_it_was_stored_have_their_defaults() -> None:
    data = msgpack.unpackb(msgpack.packb(wire.to_wire(RESULT)))
    assert wire.from_wire(TaskResult, data[:-2]) == dataclasses.replace(RESULT, sample=None)
    assert wire.from_wire(TaskResult, data[:4]) == TaskResult(
        records_in=1, bytes_in=2, records_out=3, bytes_out=4
    )
    with pytest.raises(CorruptFileError, match="TaskResult"):
        wire.from_wire(TaskResult, data[:3])  # one without a default is missing
    with pytest.raises(CorruptFileError, match="TaskResult"):
        wire.from_wire(TaskResult, [*data, 0, 0, 0, 0])  # a later mrq stored more


def test_a_packed_result_comes_back_also_an_earlier_one() -> None:
    result = dataclasses.replace(RESULT, crcs=(1, 2**32 - 1))
    assert unpack_result(pack_result(result)) == result
    earlier = wire.pack(wire.unpack(pack_result(RESULT))[:-1])
    assert unpack_result(earlier) == RESULT
