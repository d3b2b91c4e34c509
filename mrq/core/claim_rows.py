"""The rows of a store's tables, and what is read out of them: the plain data under `core.claims`."""

from __future__ import annotations

from typing import Any

from mrq.core.events import AttemptClaimed, AttemptReported
from mrq.core.exchange import ClaimRequest, Fence, ReportRequest
from mrq.core.model import AttemptId, JobState, Kind, MapLocation, Role

# Columns of a task row.
STATE, GENERATION, PRIMARY, BACKUP = range(4)
# Columns of an attempt row.
A_GENERATION, A_ROLE_NUMBER, A_NUMBER, A_PUBLISH, A_WORKER, A_BOOT, A_TOKEN, A_FLOOR, A_STATUS = range(9)


def task_key(kind: Kind, index: int) -> str:
    """`m42`: the key of a task's row."""
    return f"{kind.value}{index}"


def attempt_key(kind: Kind, index: int, role: Role) -> str:
    """`m42p` or `m42b`: the key of the row of whoever holds a role."""
    return f"{kind.value}{index}{'p' if role is Role.PRIMARY else 'b'}"


def parse_attempt(key: str) -> tuple[Kind, int, Role]:
    """What `attempt_key` was given."""
    return Kind(key[0]), int(key[1:-1]), Role.PRIMARY if key[-1] == "p" else Role.BACKUP


def parse_task(key: str) -> tuple[Kind, int]:
    """What `task_key` was given. Raises ValueError."""
    return Kind(key[0]), int(key[1:])


def new_job(fence: Fence) -> dict[str, Any]:
    """A job's tables, empty."""
    return {
        "state": JobState.PENDING.value,
        "error": None,
        "fence": fence_row(fence),
        "tasks": {},
        "attempts": {},
        "numbers": {},
        "locations": [],
        "reports": {},
        "records": {},
        "job_record": None,
    }


def fence_row(fence: Fence) -> list[Any]:
    """[incarnation, epoch, owner, seq]"""
    return [fence.incarnation, fence.epoch, fence.owner, fence.seq]


def attempt_of(row: list[Any]) -> AttemptId:
    """Whose row it is."""
    return AttemptId(generation=row[A_GENERATION], number=row[A_NUMBER], token=row[A_TOKEN])


def claimed(job: str, key: str, row: list[Any]) -> AttemptClaimed:
    """The event of a recorded claim."""
    kind, index, role = parse_attempt(key)
    return AttemptClaimed(
        job=job,
        kind=kind,
        index=index,
        attempt=attempt_of(row),
        role=role,
        role_number=row[A_ROLE_NUMBER],
        worker=row[A_WORKER],
        boot=row[A_BOOT],
    )


def granted(request: ClaimRequest, number: int, floor: int) -> list[Any]:
    """The attempt row of a claim that is granted."""
    message = request.message
    return [
        message.generation,
        message.role_number,
        number,
        message.publish_id,
        request.worker,
        request.boot,
        request.token,
        floor,
        "",
    ]


def reported(request: ReportRequest) -> AttemptReported:
    """The event of a recorded report."""
    return AttemptReported(
        job=request.job,
        kind=request.kind,
        index=request.index,
        attempt=request.attempt,
        role=request.role,
        role_number=request.role_number,
        worker=request.worker,
        boot=request.boot,
        outcome=request.outcome,
    )


def location(entry: list[Any]) -> MapLocation:
    """An entry of the stream of map outputs."""
    map_index, generation, number, token, worker, boot, digest, size, _ = entry
    return MapLocation(
        map_index=map_index,
        attempt=AttemptId(generation=generation, number=number, token=token),
        worker=worker,
        boot=boot,
        digest=digest,
        bytes=size,
    )
