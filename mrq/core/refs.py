"""What tasks and attempts are called: whatever is about one of them holds its reference, never the parts.

People see `m-00042` for map task 42 and `m-00042.3.1.9f2c` for an attempt of it; files are named so. They are
tuples, which cost a third of a dataclass: some are made for every task and every claim.
"""

from __future__ import annotations

import enum
from typing import Any, Final, NamedTuple


class Kind(enum.Enum):
    """What a task does."""

    MAP = "m"
    REDUCE = "r"

    # Members are single objects; Enum's own hash is a Python call, and the machines look up by kind.
    __hash__ = object.__hash__

    def __lt__(self, other: Kind) -> bool:
        """Maps come before reduces."""
        return self is Kind.MAP and other is Kind.REDUCE


_KINDS: Final = {kind.value: kind for kind in Kind}


#: What `core.wire` carries of a task and of an attempt.
TASK_ITEMS: Final = ("job", "kind", "index")
ATTEMPT_ITEMS: Final = (*TASK_ITEMS, "attempt")


def task_name(kind: Kind, index: int) -> str:
    """`m-00042` for map task 42."""
    return f"{kind.value}-{index:05d}"


class TaskRef(NamedTuple):
    """Which task it is, of all jobs."""

    job: str  #: its id
    stage: int  #: of the job; 0, and in no name or key, as long as a job has its maps and its reduces alone
    kind: Kind
    index: int  # type: ignore[assignment] # not tuple's  #: among the stage's tasks of the kind

    def __str__(self) -> str:
        return task_name(self.kind, self.index)

    def to_items(self) -> tuple[Any, ...]:
        """As `core.wire` carries it. The stage, unless it is the first, stands behind the kind's letter."""
        kind: str = self.kind.value
        return self.job, f"{kind}{self.stage}" if self.stage else kind, self.index

    @classmethod
    def of_items(cls, job: str, kind: str, index: int) -> TaskRef:
        """The one that `to_items` was asked of. Raises KeyError, ValueError, TypeError for anything else."""
        known = _KINDS.get(kind)
        if known is not None:
            return cls(job, 0, known, index)
        return cls(job, int(kind[1:]), _KINDS[kind[:1]], index)


class AttemptRef(NamedTuple):
    """Which attempt it is, everywhere: in reports, beats, fetches, paths."""

    task: TaskRef
    ticket: int  #: that it was claimed with: the leader's leave to run the task once
    number: int  #: grows with each claim of the task
    token: str  #: of who claimed it

    def __str__(self) -> str:
        return f"{self.task}.{self.ticket}.{self.number}.{self.token}"

    @classmethod
    def named(cls, job: str, name: str) -> AttemptRef | None:
        """The job's attempt that prints so; None for any other name."""
        parts = name.split(".")
        if len(parts) != 4 or len(parts[0]) < 3 or parts[0][1] != "-" or parts[0][0] not in _KINDS:
            return None
        index, ticket, number = parts[0][2:], parts[1], parts[2]
        if not all(digits.isascii() and digits.isdigit() for digits in (index, ticket, number)):
            return None
        task = TaskRef(job, 0, _KINDS[parts[0][0]], int(index))
        return cls(task, int(ticket), int(number), parts[3])

    def to_items(self) -> tuple[Any, ...]:
        """As `core.wire` carries it: the task's items, and a list of what is the attempt's own."""
        return *self.task.to_items(), [self.ticket, self.number, self.token]

    @classmethod
    def of_items(cls, job: str, kind: str, index: int, own: list[Any]) -> AttemptRef:
        """The one that `to_items` was asked of. Raises KeyError, ValueError, TypeError for anything else."""
        ticket, number, token = own
        return cls(TaskRef.of_items(job, kind, index), ticket, number, token)
