"""A client's user reads his own paths, and user code's words as they were said."""

from __future__ import annotations

from mrq.core.info import ErrorInfo, JobInfo
from mrq.core.model import ErrorReport
from mrq.core.pathmap import PathMap
from mrq.core.worker_info import WorkerInfo
from mrq.remote.here import Here

HERE = Here(PathMap.of([("/home/me/data", "/data")], "/"))


def test_what_user_code_said_is_left_alone() -> None:
    told = "r-00000 failed 4 times, last on w1: ValueError: /data/model is missing"
    assert HERE.error(told) == told
    report = ErrorReport(type="ValueError", message="/data/model is missing")
    assert HERE.report(report) == report
    job = JobInfo(error=told, errors=(ErrorInfo(error=report),))
    assert HERE.answer({"jobs": [job]}) == {"jobs": [job]}


def test_what_mrq_says_has_this_machines_paths() -> None:
    assert HERE.error("r-00000 failed: OutputError: /data/.o.mrq isn't seen on w1") == (
        "r-00000 failed: OutputError: /home/me/data/.o.mrq isn't seen on w1"
    )
    full = ErrorReport(type="DiskFullError", message="the disk of /data/o is full")
    assert HERE.report(full).message == "the disk of /home/me/data/o is full"
    job = JobInfo(
        error="m-00001 failed: DiskFullError: the disk of /data/o is full",
        errors=(ErrorInfo(error=full), ErrorInfo()),
        notes=("worker w doesn't share /data/x with master m",),
        output="data/o",
    )
    (told,) = HERE.answer({"jobs": [job], "now": 1.0})["jobs"]
    assert told.error == "m-00001 failed: DiskFullError: the disk of /home/me/data/o is full"
    assert told.errors == (ErrorInfo(error=HERE.report(full)), ErrorInfo())
    assert told.notes == ("worker w doesn't share /home/me/data/x with master m",)
    assert (told.output, HERE.job(JobInfo())) == ("data/o", JobInfo())
    worker = WorkerInfo(worker="w1", notes=("/data/x isn't shared with the leader",))
    assert HERE.answer({"leader": "m1", "workers": [worker]}) == {
        "leader": "m1",
        "workers": [WorkerInfo(worker="w1", notes=("/home/me/data/x isn't shared with the leader",))],
    }
    assert HERE.answer({"data": b"/data"}) == {"data": b"/data"}
