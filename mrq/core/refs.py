"""What tasks and attempts are called: whatever is about one of them holds its reference, never the parts.

People see `m-00042` for map task 42, `m1-00042` in stage 1, and `m-00042.3.1.9f2c` for an attempt; files are
named so. They are tuples, which cost a third of a dataclass: some are made for every task and every claim.
"""

from __future__ import annotations

import enum
import re
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
_TASK: Final = re.compile(r"([mr])(\d*)-(\d+)", re.ASCII)
_ATTEMPT: Final = re.compile(r"([^.]+)\.(\d+)\.(\d+)\.([^.]*)", re.ASCII)

#: What `core.wire` carries of a task and of an attempt.
TASK_ITEMS: Final = ("job", "kind", "index")
ATTEMPT_ITEMS: Final = (*TASK_ITEMS, "attempt")


class TaskRef(NamedTuple):
    """Which task it is, of all jobs."""

    job: str  #: its id
    stage: int  #: the number of its job's stage
    kind: Kind
    index: int  # type: ignore[assignment] # not tuple's  #: among the stage's tasks of the kind

    def __str__(self) -> str:
        return f"{self.letter}-{self.index:05d}"

    @classmethod
    def named(cls, job: str, name: str) -> TaskRef | None:
        """The job's task that prints so; None for any other name."""
        found = _TASK.fullmatch(name)
        return None if found is None else cls(job, int(found[2] or 0), _KINDS[found[1]], int(found[3]))

    @property
    def letter(self) -> str:
        """How its name begins: that of its kind, and the stage's number behind it unless that is 0."""
        kind: str = self.kind.value
        return f"{kind}{self.stage}" if self.stage else kind

    def to_items(self) -> tuple[Any, ...]:
        """As `core.wire` carries it."""
        return self.job, self.letter, self.index

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
        found = _ATTEMPT.fullmatch(name)
        if found is None or (task := TaskRef.named(job, found[1])) is None:
            return None
        return cls(task, int(found[2]), int(found[3]), found[4])

    def to_items(self) -> tuple[Any, ...]:
        """As `core.wire` carries it: the task's items, and a list of what is the attempt's own."""
        return *self.task.to_items(), [self.ticket, self.number, self.token]

    @classmethod
    def of_items(cls, job: str, kind: str, index: int, own: list[Any]) -> AttemptRef:
        """The one that `to_items` was asked of. Raises KeyError, ValueError, TypeError for anything else."""
        ticket, number, token = own
        return cls(TaskRef.of_items(job, kind, index), ticket, number, token)
