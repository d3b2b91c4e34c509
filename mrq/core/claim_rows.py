"""The rows of a store's tables, and what is read out of them: the plain data under `core.claims`."""

from __future__ import annotations

from typing import Any

from mrq.core.events import AttemptClaimed
from mrq.core.exchange import ClaimRequest, Fence
from mrq.core.model import JobState, MapLocation, Role
from mrq.core.refs import AttemptRef, Kind, TaskRef

# Columns of a task row.
STATE, GENERATION, PRIMARY, BACKUP = range(4)
# Columns of an attempt row.
A_GENERATION, A_ROLE_NUMBER, A_NUMBER, A_PUBLISH, A_WORKER, A_BOOT, A_TOKEN, A_FLOOR, A_STATUS = range(9)


def task_key(task: TaskRef) -> str:
    """`m42`: the key of a task's row, among those of its job."""
    return f"{task.kind.value}{task.index}"


def attempt_key(task: TaskRef, role: Role) -> str:
    """`m42p` or `m42b`: the key of the row of whoever holds a role."""
    return f"{task_key(task)}{'p' if role is Role.PRIMARY else 'b'}"


def parse_task(job: str, key: str) -> TaskRef:
    """What `task_key` was given. Raises ValueError."""
    return TaskRef(job, 0, Kind(key[0]), int(key[1:]))


def role_of(key: str) -> Role:
    """The role in what `attempt_key` made."""
    return Role.PRIMARY if key[-1] == "p" else Role.BACKUP


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


def attempt_of(task: TaskRef, row: list[Any]) -> AttemptRef:
    """Whose row it is."""
    return AttemptRef(task, row[A_GENERATION], row[A_NUMBER], row[A_TOKEN])


def claimed(job: str, key: str, row: list[Any]) -> AttemptClaimed:
    """The event of a recorded claim."""
    return AttemptClaimed(
        attempt=attempt_of(parse_task(job, key[:-1]), row),
        role=role_of(key),
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


def location(job: str, entry: list[Any]) -> MapLocation:
    """An entry of the stream of map outputs."""
    map_index, generation, number, token, worker, boot, digest, size, _ = entry
    return MapLocation(
        attempt=AttemptRef(TaskRef(job, 0, Kind.MAP, map_index), generation, number, token),
        worker=worker,
        boot=boot,
        digest=digest,
        bytes=size,
    )
