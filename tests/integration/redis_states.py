"""Values to put into a store, for `test_redis_state`."""

from __future__ import annotations

import hashlib

from mrq.core.commands import WriteLocation, WriteTask
from mrq.core.events import AttemptReported
from mrq.core.model import Beat, JobSpec, MapLocation, Outcome, Slots, StageSpec, Status, TaskMessage
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_api import Batch, ClaimRequest, Fence, Write


def job_spec(job: str) -> JobSpec:
    return JobSpec(
        job=job,
        name="Test",
        code=hashlib.sha256(b"code").hexdigest(),
        entry="jobs:Test",
        parameters={},
        inputs=("in",),
        stages=(StageSpec(splits=(), reducers=2),),
    )


def fence(seq: int = 0, incarnation: int = 1) -> Fence:
    return Fence(incarnation=incarnation, epoch=1, owner="o", seq=seq)


def task(index: int) -> WriteTask:
    return WriteTask(
        task=TaskRef("j", 0, Kind.MAP, index),
        primary=1,
        backup=0,
    )


def batch(seq: int, *writes: Write, located: bool = False) -> Batch:
    if located:
        attempt = AttemptRef(TaskRef("j", 0, Kind.MAP, 0), 1, 1, "t")
        at = MapLocation(attempt=attempt, worker="w1", boot="b1", digest=1, bytes=2)
        writes = (*writes, WriteLocation(location=at))
    records = (("m0", b"record"),)
    return Batch(job="j", fence=fence(seq), writes=writes, records=records, job_record=b"job")


def beat(seq: int, worker: str = "w1") -> Beat:
    return Beat(worker=worker, boot="b1", seq=seq, slots=Slots(map=1, reduce=1, total=2))


def claim(index: int) -> ClaimRequest:
    message = TaskMessage(task=TaskRef("j", 0, Kind.MAP, index), ticket=1)
    return ClaimRequest(message=message, worker="w1", boot="b1", token=f"t{index}")


def report(index: int) -> AttemptReported:
    return AttemptReported(
        attempt=AttemptRef(TaskRef("j", 0, Kind.MAP, index), 1, 1, f"t{index}"),
        worker="w1",
        boot="b1",
        outcome=Outcome(status=Status.LOST),
    )
