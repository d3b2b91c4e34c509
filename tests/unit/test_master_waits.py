"""What clients are told of why their job doesn't go on, once for each change."""

from __future__ import annotations

from typing import Any

from mrq.core.info import ErrorInfo, JobInfo
from mrq.core.model import ErrorReport, Status
from mrq.master.term import Waits


def failed(worker: str, status: Status = Status.DISK_FULL, index: int = 3) -> ErrorInfo:
    error = ErrorReport(type="DiskFullError", message="60 of 64 bytes are in use, and 8 more were needed")
    return ErrorInfo(worker=worker, status=status, task=f"m-{index:05d}", error=error)


class Views:
    """What the leader knows of one job."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.errors: list[Any] = []
        self.active = True

    def under_way(self) -> list[Any]:
        return [JobInfo(job="j", errors=tuple(self.errors))] if self.active else []

    def waits_for(self, spec: object, view: object) -> str | None:
        return self.reason


def test_each_worker_without_room_is_told_once_with_what_was_needed() -> None:
    views, said = Views(), list[str]()
    waits = Waits(views, lambda job: object(), lambda job, text: said.append(f"{job}: {text}"))  # type: ignore
    waits.look()
    assert said == []
    views.errors += [failed("w1"), failed("w1", index=4), failed("w2", Status.FAILED)]
    waits.look()
    waits.look()
    views.errors.append(failed("w3", index=5))
    waits.look()
    needed = "60 of 64 bytes are in use, and 8 more were needed"
    assert said == [
        f"j: worker w1 has too little disk for m-00004: {needed}",
        f"j: worker w3 has too little disk for m-00005: {needed}",
    ]


def test_a_reason_is_told_when_it_changes_and_again_when_it_comes_back() -> None:
    views, said = Views(), list[str]()
    waits = Waits(views, lambda job: object(), lambda job, text: said.append(text))  # type: ignore
    for reason in ("no workers yet", "no workers yet", None, "no workers yet", "all drain"):
        views.reason = reason
        waits.look()
    assert said == ["no workers yet", "no workers yet", "all drain"]
