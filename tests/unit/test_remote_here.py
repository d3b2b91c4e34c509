"""A client's user reads his own paths, and user code's words as they were said."""

from __future__ import annotations

from mrq.core.model import ErrorReport
from mrq.core.pathmap import PathMap
from mrq.remote.here import Here

HERE = Here(PathMap.of([("/home/me/data", "/data")], "/"))


def test_what_user_code_said_is_left_alone() -> None:
    told = "r-00000 failed 4 times, last on w1: ValueError: /data/model is missing"
    assert HERE.error(told) == told
    report = ErrorReport(type="ValueError", message="/data/model is missing")
    assert HERE.report(report) == report
    row = {"error": told, "errors": [{"type": "ValueError", "message": "/data/model"}], "notes": []}
    assert HERE.answer("status", row) == row


def test_what_mrq_says_has_this_machines_paths() -> None:
    assert HERE.error("r-00000 failed: OutputError: /data/.o.mrq isn't seen on w1") == (
        "r-00000 failed: OutputError: /home/me/data/.o.mrq isn't seen on w1"
    )
    full = ErrorReport(type="DiskFullError", message="the disk of /data/o is full")
    assert HERE.report(full).message == "the disk of /home/me/data/o is full"
    row = {
        "error": "m-00001 failed: DiskFullError: the disk of /data/o is full",
        "errors": [{"type": "DiskFullError", "message": "the disk of /data/o is full"}],
        "notes": ["worker w doesn't share /data/x with master m"],
        "output": "data/o",
    }
    assert HERE.answer("status", row) == {
        "error": "m-00001 failed: DiskFullError: the disk of /home/me/data/o is full",
        "errors": [{"type": "DiskFullError", "message": "the disk of /home/me/data/o is full"}],
        "notes": ["worker w doesn't share /home/me/data/x with master m"],
        "output": "data/o",
    }
    jobs = {"jobs": [{"error": row["error"]}, {"error": None}], "now": 1.0}
    assert HERE.answer("jobs", jobs) == {
        "jobs": [
            {"error": "m-00001 failed: DiskFullError: the disk of /home/me/data/o is full"},
            {"error": None},
        ],
        "now": 1.0,
    }
    workers = {
        "leader": "m1",
        "workers": [{"worker": "w1", "notes": ["/data/x isn't shared with the leader"]}],
    }
    assert HERE.answer("workers", workers)["workers"] == [
        {"worker": "w1", "notes": ["/home/me/data/x isn't shared with the leader"]}
    ]
    assert HERE.answer("read", {"data": b"/data"}) == {"data": b"/data"}
