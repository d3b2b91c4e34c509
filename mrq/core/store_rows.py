"""The rows of a store's tables, and what is read out of them: the plain data under `core.claims`."""

from __future__ import annotations

from typing import Any

from mrq.core.events import AttemptClaimed
from mrq.core.model import JobState, MapLocation, Role
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_api import ClaimRequest, Fence

# Columns of a task row: its two tickets.
PRIMARY, BACKUP = range(2)
# Columns of an attempt row.
A_TICKET, A_NUMBER, A_WORKER, A_BOOT, A_TOKEN, A_FLOOR, A_STATUS = range(7)


def task_key(task: TaskRef) -> str:
    """`m42`, of stage 1 `m1.42`: the key of a task's row, among those of its job."""
    stage = f"{task.stage}." if task.stage else ""
    return f"{task.kind.value}{stage}{task.index}"


def attempt_key(task: TaskRef, role: Role) -> str:
    """`m42p` or `m42b`: the key of the row of whoever holds a role."""
    return f"{task_key(task)}{'p' if role is Role.PRIMARY else 'b'}"


def parse_task(job: str, key: str) -> TaskRef:
    """What `task_key` was given. Raises ValueError."""
    stage, _, index = key[1:].rpartition(".")
    return TaskRef(job, int(stage or 0), Kind(key[0]), int(index))


def plan_key(stage: int) -> str:
    """`plan1`: the key of the plan of a stage's run, among the leader's records of a job."""
    return f"plan{stage}"


def is_plan(key: str) -> bool:
    """Is it the key of a plan, and of no task?"""
    return key.startswith("plan")


def role_with(row: list[Any] | None, ticket: int) -> Role | None:
    """The role of a task that a ticket is for; None where it isn't a ticket of the task (any more)."""
    if row is None or ticket <= 0:
        return None
    return Role.PRIMARY if row[PRIMARY] == ticket else Role.BACKUP if row[BACKUP] == ticket else None


def is_current(task: list[Any] | None, key: str, row: list[Any]) -> bool:
    """Is what stands in the attempt row with this key claimed with a ticket of its task?"""
    return task is not None and task[PRIMARY if key[-1] == "p" else BACKUP] == row[A_TICKET] > 0


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
    return AttemptRef(task, row[A_TICKET], row[A_NUMBER], row[A_TOKEN])


def claimed(job: str, key: str, row: list[Any]) -> AttemptClaimed:
    """The event of a recorded claim."""
    return AttemptClaimed(
        attempt=attempt_of(parse_task(job, key[:-1]), row), worker=row[A_WORKER], boot=row[A_BOOT]
    )


def granted(request: ClaimRequest, number: int, floor: int) -> list[Any]:
    """The attempt row of a claim that is granted."""
    return [request.message.ticket, number, request.worker, request.boot, request.token, floor, ""]


def location(job: str, entry: list[Any]) -> MapLocation:
    """An entry of the stream of map outputs."""
    stage, map_index, ticket, number, token, worker, boot, digest, size, _ = entry
    return MapLocation(
        attempt=AttemptRef(TaskRef(job, stage, Kind.MAP, map_index), ticket, number, token),
        worker=worker,
        boot=boot,
        digest=digest,
        bytes=size,
    )
