"""What people are shown, as the machine makes it, and how it travels between versions."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgpack
import pytest

from mrq.core import events as e
from mrq.core import info, wire, worker_info
from mrq.core.info import AttemptInfo, JobInfo, StageInfo
from mrq.core.machine import Machine
from mrq.core.model import (
    Beat,
    ErrorReport,
    JobSpec,
    JobState,
    Outcome,
    Piece,
    Purpose,
    Role,
    RunningAttempt,
    Slots,
    Split,
    StagePlan,
    StageSpec,
    Status,
    TaskResult,
    TaskState,
    WorkerHealth,
)
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.worker_info import WorkerInfo
from mrq.errors import CorruptFileError

#: What makes seconds since the epoch of the clock of these tests.
WALL = 1e9
PIECE = Piece(path="a", open="/a", start=0, length=10, size=10, mtime_ns=1)
SPEC = JobSpec(
    job="j-1", name="J", code="c", entry="m:J", parameters={}, inputs=("a",),
    stages=(StageSpec(splits=tuple(Split(index=index, pieces=(PIECE,)) for index in range(2)), reducers=1),),
    output="out", priority=3, created_at=WALL + 1,
)  # fmt: skip
CLASSES = [
    each
    for each in (vars(info) | vars(worker_info)).values()
    if isinstance(each, type) and issubclass(each, info.Info) and each is not info.Info
]


def attempt(number: int = 1) -> AttemptRef:
    return AttemptRef(TaskRef(SPEC.job, 0, Kind.MAP, number - 1), 1, number, f"t{number}")


def running(index: int, **more: Any) -> RunningAttempt:
    return RunningAttempt(attempt=attempt(index + 1), **more)


def beat(*lines: RunningAttempt, seq: int = 1, **about: Any) -> e.BeatReceived:
    made = Beat(
        worker="w", boot="b", seq=seq, slots=Slots(map=2, reduce=1, total=3), running=lines,
        hints={"cpus": 2}, about=about,
    )  # fmt: skip
    return e.BeatReceived(beat=made)


@pytest.fixture
def machine() -> Machine:
    """Two maps, the first of which is half done, the second one claimed and not begun."""
    made = Machine(wall=WALL)
    made.handle(beat(version="1.2", full="it is", packages={"NumPy": "2"}, notes=["odd"]), 10.0)
    made.handle(e.JobSubmitted(spec=SPEC), 11.0)
    for index in range(2):
        made.handle(
            e.AttemptClaimed(attempt=attempt(index + 1), worker="w", boot="b"),
            12.0,
        )
    half = running(0, fraction=0.5, phase="mapping", records=7, bytes=70)
    made.handle(beat(half, running(1), seq=2), 13.0)
    return made


def the(machine: Machine, **more: Any) -> JobInfo:
    found = machine.job("j-1", **more)
    assert found is not None
    return found


def report(machine: Machine, index: int, outcome: Outcome) -> None:
    event = e.AttemptReported(attempt=attempt(index + 1), worker="w", boot="b", outcome=outcome)
    machine.handle(event, 14.0)


def test_a_job_says_what_it_is_and_how_far_in_seconds_since_the_epoch(machine: Machine) -> None:
    job = the(machine)
    assert (job.job, job.name, job.state, job.priority) == ("j-1", "J", JobState.RUNNING, 3)
    assert (job.inputs, job.output) == (("a",), "out")
    assert (job.submitted_at, job.started_at, job.finished_at) == (WALL + 1, WALL + 11, 0.0)
    assert [(each.name, each.total) for each in job.stages] == [("map", 2), ("reduce", 1)]
    assert (job.maps.running, job.maps.attempts, job.maps.completed) == (2, 1, 0)
    assert (job.maps.records_in, job.maps.bytes_in, job.maps.fraction) == (7, 70, 0.25)
    assert [(each.task, each.state, each.phase) for each in job.attempts] == [
        ("m-00000", "running", "mapping"),
        ("m-00001", "waiting", ""),
    ]
    first = job.attempts[0]
    assert (first.job, first.stage, first.worker, first.role) == ("j-1", "map", "w", Role.PRIMARY)
    assert (first.ticket, first.number, first.token, first.started_at) == (1, 1, "t1", WALL + 12)
    assert not job.tasks, "they are listed only where that is asked for"


def test_attempts_of_a_worker_that_isnt_heard_of_are_paused(machine: Machine) -> None:
    assert [each.state for each in the(machine, now=27.0).attempts] == ["running", "waiting"]
    assert [each.state for each in the(machine, now=29.0).attempts] == ["paused"] * 2


def test_what_went_wrong_is_told_whole(machine: Machine) -> None:
    error = ErrorReport(type="ValueError", message="no", record="'x'", path="a", offset=3, log_tail="said")
    report(machine, 0, Outcome(status=Status.FAILED, error=error))
    job = the(machine)
    assert (job.state, job.failures, job.maps.failed) == (JobState.FAILED, 1, 1)
    (told,) = job.errors
    assert (told.task, told.stage, told.worker, told.status) == ("m-00000", "map", "w", Status.FAILED)
    assert (told.ticket, told.number, told.token, told.at) == (1, 1, "t1", WALL + 14)
    assert told.error == error
    brief = job.brief()
    assert (brief.attempts, brief.errors, dict(brief.counters)) == ((), (), {})
    assert (brief.stages, brief.error, brief.failures) == (job.stages, job.error, 1)


def test_a_sampling_is_shown_by_itself_until_the_job_goes_on() -> None:
    machine = Machine()
    sample = StageSpec(splits=SPEC.splits, reducers=0, purpose=Purpose.SAMPLE, number=1)
    work = dataclasses.replace(SPEC.stages[0], plan=None)
    machine.handle(e.JobSubmitted(spec=dataclasses.replace(SPEC, stages=(sample, work))), 1.0)
    job = machine.job("j-1")
    assert job is not None
    assert (job.job, [each.name for each in job.stages]) == ("j-1", ["sample"])
    assert [task.task for task in machine.tasks("j-1")] == ["m1-00000", "m1-00001"]
    machine = Machine()
    nothing = dataclasses.replace(sample, splits=())
    machine.handle(e.JobSubmitted(spec=dataclasses.replace(SPEC, stages=(nothing, work))), 1.0)
    machine.handle(e.StagePlanned(job="j-1", stage=0, plan=StagePlan(boundaries=())), 2.0)
    job = machine.job("j-1")
    assert job is not None
    assert [each.name for each in job.stages] == ["map", "reduce"]
    assert [task.task for task in machine.tasks("j-1")] == ["m-00000", "m-00001", "r-00000"]


def test_a_worker_says_how_it_is_and_as_a_whole_what_it_runs(machine: Machine) -> None:
    (worker,) = machine.workers(now=15.0)
    assert (worker.worker, worker.boot, worker.health) == ("w", "b", WorkerHealth.ALIVE)
    assert (worker.map_slots, worker.reduce_slots, worker.total_slots) == (2, 1, 3)
    assert (worker.map_used, worker.reduce_used, dict(worker.hints)) == (2, 0, {"cpus": 2})
    assert (worker.version, worker.full, worker.notes) == ("1.2", "it is", ("odd",))
    assert (worker.packages, worker.reason) == ({"NumPy": "2"}, "it is")
    assert (worker.beat_at, worker.silent_s, worker.beating) == (WALL + 13, 2.0, True)
    assert not worker.attempts
    (whole,) = machine.workers(whole=True)
    assert whole.attempts == the(machine).attempts
    assert not machine.workers(now=40.0)[0].beating


def test_what_a_worker_serves_is_counted_as_long_as_reduces_need_it(machine: Machine) -> None:
    result = TaskResult(records_in=1, bytes_in=2, records_out=3, bytes_out=40, seconds=1.5)
    report(machine, 0, Outcome(status=Status.DONE, result=result))
    (worker,) = machine.workers(whole=True)
    assert [(each.job, each.task, each.bytes) for each in worker.outputs] == [("j-1", "m-00000", 40)]
    assert (worker.outputs_count, worker.outputs_bytes) == (1, 40)
    first, second, reduce = machine.tasks("j-1")
    assert (first.task, first.stage, first.state) == ("m-00000", "map", TaskState.COMPLETED)
    assert (first.ticket, first.number, first.token, first.worker, first.boot) == (1, 1, "t1", "w", "b")
    assert (first.records_out, first.bytes_out, first.seconds) == (3, 40, 1.5)
    assert (first.started_at, first.finished_at) == (WALL + 12, WALL + 14)
    assert (second.state, second.token, second.records_out) == (TaskState.RUNNING, "t2", 0)
    assert (reduce.task, reduce.number, reduce.worker, reduce.finished_at) == ("r-00000", 0, "", 0.0)
    machine.handle(e.CancelRequested(job="j-1"), 15.0)
    assert not machine.workers(whole=True)[0].outputs


def test_all_of_it_travels(machine: Machine) -> None:
    report(machine, 0, Outcome(status=Status.FAILED, error=ErrorReport(type="E", message="m")))
    job = dataclasses.replace(
        the(machine), tasks=tuple(machine.tasks("j-1")), counters={"big": 2**70}, notes=("so",)
    )
    for value in (job, *machine.workers(whole=True)):
        assert wire.from_wire(type(value), msgpack.unpackb(msgpack.packb(wire.to_wire(value)))) == value


@pytest.mark.parametrize("cls", CLASSES)
def test_a_reader_of_another_version_gets_on(cls: type[Any]) -> None:
    """What the sender lacks is zero; what it has more than is known here is left out."""
    zero = cls()
    data = wire.to_wire(zero)
    for known in range(len(data) + 1):
        assert wire.from_wire(cls, data[:known]) == zero
    assert wire.from_wire(cls, [*data, "new", 3]) == zero


def test_what_is_no_information_is_refused() -> None:
    for data in (None, 3, ["j"] * 7):
        with pytest.raises(CorruptFileError, match="JobInfo"):
            wire.from_wire(JobInfo, data)


def test_the_zeros_are_whole() -> None:
    assert (JobInfo().maps, JobInfo().reduces) == (StageInfo(name="map"), StageInfo(name="reduce"))
    assert StageInfo().complete
    assert (AttemptInfo().state, WorkerInfo().packages) == ("", None)
