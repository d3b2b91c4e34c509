"""The rows that the command line shows are plain maps, made of the leader's view."""

import msgpack

from mrq.core import rows
from mrq.core.jobs import JobView, RunningView, StageView, TaskError
from mrq.core.model import AttemptId, ErrorReport, JobSpec, JobState, Kind, Role, Status


def stage(total: int, completed: int) -> StageView:
    return StageView(
        total=total,
        idle=total - completed,
        queued=0,
        running=0,
        completed=completed,
        records_in=10,
        bytes_in=20,
        records_out=5,
        bytes_out=9,
        records_emitted=5,
        groups=0,
        spills=0,
        bad_records=1,
        slowest="m-00001",
        slowest_s=2.0,
        median_s=1.0,
    )


def view(**more) -> JobView:
    attempt = AttemptId(generation=1, number=2, token="t")
    running = RunningView(
        kind=Kind.REDUCE,
        index=3,
        role=Role.BACKUP,
        attempt=attempt,
        worker="w1",
        started_at=5.0,
        fraction=0.5,
        phase="shuffling",
        records=7,
        bytes=8,
    )
    error = TaskError(
        kind=Kind.MAP,
        index=0,
        attempt=attempt,
        worker="w2",
        status=Status.FAILED,
        at=4.0,
        error=ErrorReport(type="ValueError", message="no", record="'x'", path="a.txt", offset=3),
    )
    return JobView(
        job="j-1",
        name="J",
        state=JobState.RUNNING,
        error=None,
        maps=stage(4, 4),
        reduces=stage(2, 0),
        failures=1,
        losses=0,
        worker_losses=0,
        reruns=0,
        backups=1,
        running=(running,),
        errors=(error,),
        counters={"lines": 3},
        submitted_at=1.0,
        started_at=2.0,
        updated_at=3.0,
        finished_at=0.0,
        **more,
    )


SPEC = JobSpec(
    job="j-1",
    name="J",
    code="c",
    entry="m:J",
    parameters={},
    inputs=("a.txt",),
    splits=(),
    reducers=2,
    input_format="text",
    output_format="text",
    output="out",
    created_at=1001.0,
)


def test_a_status_row_is_a_plain_map_with_times_of_the_epoch():
    row = rows.status_row(SPEC, view(), epoch_s=1000.0, now=9.0)
    assert msgpack.unpackb(msgpack.packb(row)) == row
    assert (row["submitted_at"], row["started_at"], row["finished_at"], row["now"]) == (1001, 1002, 0, 1009)
    assert [(each["name"], each["completed"], each["total"]) for each in row["stages"]] == [
        ("map", 4, 4),
        ("reduce", 0, 2),
    ]
    (attempt,) = row["attempts"]
    assert (attempt["task"], attempt["state"], attempt["role"]) == ("r-00003", "running", "backup")
    (error,) = row["errors"]
    assert (error["task"], error["type"], error["at"], error["offset"]) == (
        "m-00000",
        "ValueError",
        1004.0,
        3,
    )
    assert row["workers"] == ["w1"]


def test_a_job_row_is_the_beginning_of_its_status():
    short = rows.job_row(SPEC, view(), epoch_s=0.0)
    assert short.items() <= rows.status_row(SPEC, view(), epoch_s=0.0, now=0.0).items()
    assert (short["maps_done"], short["maps"], short["running"]) == (4, 4, 1)
