"""Whatever goes out over `core.wire` and msgpack comes back equal."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path

import msgpack
import pytest
from earlier_spec import stored_at_5, stored_before

from mrq.core import wire
from mrq.core.earlier_specs import spec_before
from mrq.core.model import (
    ErrorReport,
    FetchFailure,
    JobSpec,
    Outcome,
    Piece,
    Purpose,
    Split,
    StagedFile,
    StagePlan,
    StageSpec,
    Status,
    TaskMessage,
    TaskResult,
)
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_rows import parse_task, task_key
from mrq.core.tasks import pack_result, unpack_result
from mrq.errors import CorruptFileError, DataError

BEFORE = Path(__file__).resolve().parents[1] / "fixtures/before"
PIECE = Piece(path="a", open="/a", start=0, length=5, size=5, mtime_ns=12)
SPEC = JobSpec(
    job="j-1", name="J", code="ab", entry="m:J", parameters={"a": (1, [2, {"x": 10**30}]), "b": None},
    inputs=("a",), stages=(
        StageSpec(splits=(), reducers=0, purpose=Purpose.SAMPLE, number=1),
        StageSpec(
            splits=(Split(index=0, pieces=(PIECE,)),), reducers=2, plan=StagePlan(boundaries=(b"k", (1, "x")))
        ),
    ),
)  # fmt: skip
RESULT = TaskResult(
    records_in=1, bytes_in=2, records_out=3, bytes_out=4, digest=2**64 - 1, counters={"bad": 3},
    files=(StagedFile(name="x", final="part-00000", records=1, bytes=2, crc32=3),), sample=b"s",
)  # fmt: skip
OUTCOME = Outcome(
    status=Status.DONE, result=RESULT, error=ErrorReport(type="E", message="m", record="r", offset=3),
    fetch_failures=(FetchFailure(map_index=1, ticket=2, reason="corrupt"),),
)  # fmt: skip
ATTEMPT = AttemptRef(TaskRef("j", 0, Kind.REDUCE, 3), 2, 7, "ab12")
MESSAGE = TaskMessage(task=TaskRef("j", 0, Kind.REDUCE, 3), ticket=1)


@pytest.mark.parametrize("value", [SPEC, RESULT, OUTCOME, MESSAGE])
def test_round_trip_through_msgpack(value: object) -> None:
    data = msgpack.unpackb(msgpack.packb(wire.to_wire(value)))
    assert wire.from_wire(type(value), data) == value


#: What is read of versions before: a job's spec, by whoever refuses the job by its name, and all in it.
STORED = {
    name: fields
    for name, fields in json.loads((BEFORE / "fields.json").read_text()).items()
    if name.rpartition(".")[2] in ("Needs", "Piece", "Split")
}


@pytest.mark.parametrize(("name", "fields"), STORED.items())
def test_what_the_version_before_stored_is_read(name: str, fields: str) -> None:
    """A class's items travel in order: what is added stands last, and has a default."""
    module, _, short = name.rpartition(".")
    now = dataclasses.fields(getattr(importlib.import_module(module), short))
    before = fields.split()
    assert [field.name for field in now][: len(before)] == before
    for field in now[len(before) :]:
        assert wire.has_default(field), field.name


@pytest.mark.parametrize(("job", "purpose"), [("j-1", "job"), ("j-1-s", "sample")])
def test_a_jobs_spec_of_the_version_before_is_read(job: str, purpose: str) -> None:
    """Sampling was a job of its own."""
    splits = (Split(index=0, pieces=(PIECE,)),)
    spec = dataclasses.replace(SPEC, stages=(StageSpec(splits=splits, reducers=2),), created_at=4.5)
    row = stored_before(dataclasses.replace(spec, job=job), purpose=purpose)
    read = StageSpec(
        splits=splits, reducers=2, purpose=Purpose.SAMPLE if purpose == "sample" else Purpose.WORK
    )
    assert spec_before(4, msgpack.unpackb(msgpack.packb(row))) == dataclasses.replace(
        spec, job=job, stages=(read,)
    )
    later = spec_before(2, [*row, False, "claim", False])
    assert later.claim == "claim", "what was added since"
    assert (later.first.refuses_marks, later.first.can_skip) == (False, False)


@pytest.mark.parametrize("left_out", [0, 1, 2, 3])
def test_a_jobs_spec_with_one_format_for_all_its_stages_is_read(left_out: int) -> None:
    formats = {
        "input_format": "jsonl", "output_format": "records", "compression": "gz", "encoding": None,
        "sort_values": True, "refuses_marks": left_out == 3, "can_skip": left_out > 0,
    }  # fmt: skip
    stages = tuple(dataclasses.replace(stage, **formats) for stage in SPEC.stages)
    spec = dataclasses.replace(SPEC, stages=stages, created_at=4.5, claim="" if left_out > 1 else "c")
    row = msgpack.unpackb(msgpack.packb(stored_at_5(spec)))
    assert spec_before(5, row[: len(row) - left_out]) == spec


@pytest.mark.parametrize("data", [None, [], ["x"] * 9, ["x"] * 40, 3])
def test_what_no_version_stored_is_refused_by_name(data: object) -> None:
    with pytest.raises(CorruptFileError):
        spec_before(4, data)
    with pytest.raises(CorruptFileError):
        spec_before(5, data)


@pytest.mark.parametrize("stage", [0, 1, 12])
def test_references_round_trip_with_their_stage(stage: int) -> None:
    attempt = ATTEMPT._replace(task=ATTEMPT.task._replace(stage=stage))
    assert AttemptRef.named("j", str(attempt)) == attempt
    assert parse_task("j", task_key(attempt.task)) == attempt.task
    assert wire.from_wire(AttemptRef, wire.unpack(wire.pack(wire.to_wire(attempt)))) == attempt
    message = dataclasses.replace(MESSAGE, task=attempt.task)
    assert wire.from_wire(TaskMessage, wire.unpack(wire.pack(wire.to_wire(message)))) == message


@pytest.mark.parametrize("row", [["j", "m"], ["j", "x", 1], ["j", "", 1], ["j", "mx", 1], ["j", 1, 1], [], 3])
def test_what_is_no_reference_is_refused_by_name(row: object) -> None:
    with pytest.raises(CorruptFileError, match="TaskRef"):
        wire.from_wire(TaskRef, row)


def test_tasks_are_in_the_order_of_their_jobs_and_stages_maps_first() -> None:
    rows = [("a", 0, Kind.MAP, 2), ("a", 0, Kind.REDUCE, 1), ("a", 1, Kind.MAP, 0), ("b", 0, Kind.MAP, 0)]
    tasks = [TaskRef(*row) for row in rows]
    tasks.reverse()
    assert sorted(tasks) == tasks[::-1]


@pytest.mark.parametrize("data", [None, [], ["x"] * 7, 3])
def test_anything_else_is_refused_by_name(data: object) -> None:
    with pytest.raises(CorruptFileError, match="TaskMessage"):
        wire.from_wire(TaskMessage, data)


def test_a_value_that_cannot_be_carried_is_named() -> None:
    with pytest.raises(DataError, match="set"):
        wire.pack_any({1})


@pytest.mark.parametrize(
    "name", ["", "m-1", "x-00001.1.1.t", "mx-00001.1.1.t", "m-00001.1.x.t", "m-00001.1.1.t.u", "m-.1.1.t"]
)
def test_other_names_are_not_attempts(name: str) -> None:
    assert AttemptRef.named("j", name) is None


def test_attempt_names_round_trip() -> None:
    attempt = AttemptRef(TaskRef("j", 0, Kind.MAP, 123456), 2, 7, "ab12")
    assert str(attempt) == "m-123456.2.7.ab12"
    assert AttemptRef.named("j", str(attempt)) == attempt


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


def test_a_packed_result_comes_back() -> None:
    result = dataclasses.replace(RESULT, crcs=(1, 2**32 - 1))
    assert unpack_result(pack_result(result)) == result
