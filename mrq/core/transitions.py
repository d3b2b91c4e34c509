"""The one table of legal transitions of jobs, tasks and attempts; the docs' diagrams are drawn from it.

A pair (from, to) that isn't here can't happen: `check` raises IllegalTransition before anything was
changed. `make docs` draws `docs/state-machines.md` from it.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from mrq.core.model import AttemptState, JobState, MasterStanding, TaskState
from mrq.errors import IllegalTransition

S = TypeVar("S", bound=enum.Enum)

JOB: Final[Mapping[tuple[JobState, JobState], str]] = {
    (JobState.PENDING, JobState.RUNNING): "first task handed out",
    (JobState.PENDING, JobState.COMMITTING): "nothing to run, or all was recovered",
    (JobState.PENDING, JobState.FAILED): "recovered work broke a bound",
    (JobState.PENDING, JobState.CANCELLED): "cancel requested",
    (JobState.RUNNING, JobState.COMMITTING): "every winner is there",
    (JobState.RUNNING, JobState.FAILED): "a bound was reached",
    (JobState.RUNNING, JobState.CANCELLED): "cancel requested",
    (JobState.COMMITTING, JobState.DONE): "commit finished",
    (JobState.COMMITTING, JobState.FAILED): "commit failed",
    (JobState.FAILED, JobState.RUNNING): "retry requested",
    (JobState.CANCELLED, JobState.RUNNING): "retry requested",
}

TASK: Final[Mapping[tuple[TaskState, TaskState], str]] = {
    (TaskState.IDLE, TaskState.QUEUED): "published or offered",
    (TaskState.IDLE, TaskState.COMPLETED): "output recovered",
    (TaskState.QUEUED, TaskState.RUNNING): "claimed",
    (TaskState.QUEUED, TaskState.COMPLETED): "output recovered",
    (TaskState.QUEUED, TaskState.IDLE): "taken back",
    (TaskState.RUNNING, TaskState.COMPLETED): "reported done, first to finish",
    (TaskState.RUNNING, TaskState.IDLE): "failed, lost or taken back",
    (TaskState.COMPLETED, TaskState.IDLE): "output lost, or what it consumed changed",
}

#: Attempts begin as RUNNING, by a claim.
ATTEMPT: Final[Mapping[tuple[AttemptState, AttemptState], str]] = {
    (AttemptState.RUNNING, AttemptState.REPORTED): "outcome recorded",
    (AttemptState.RUNNING, AttemptState.ENDED): "its ticket ended, or worker lost",
    (AttemptState.REPORTED, AttemptState.ENDED): "its ticket ended later",
}


ELECTION: Final[Mapping[tuple[MasterStanding, MasterStanding], str]] = {
    (MasterStanding.STANDBY, MasterStanding.LEADING): "lease taken",
    (MasterStanding.LEADING, MasterStanding.PAUSED): "no good renewal for 5 s, or the lease is gone",
    (MasterStanding.PAUSED, MasterStanding.LEADING): "renewed, or taken again with nobody in between",
    (MasterStanding.LEADING, MasterStanding.STANDBY): "fenced, or a later epoch was seen",
    (MasterStanding.PAUSED, MasterStanding.STANDBY): "somebody else has led",
    (MasterStanding.STANDBY, MasterStanding.STOPPED): "stopped",
    (MasterStanding.LEADING, MasterStanding.STOPPED): "stopped: the lease is released",
    (MasterStanding.PAUSED, MasterStanding.STOPPED): "stopped: the lease is released",
}


class History:
    """The latest transitions of everything, for the message of an illegal one. Bounded."""

    __slots__ = ("lines", "now")

    def __init__(self, keep: int = 1024) -> None:
        self.now = 0.0
        self.lines: deque[tuple[float, str, str, str, str]] = deque(maxlen=keep)

    def note(self, who: str, old: enum.Enum, new: enum.Enum, why: str) -> None:
        """Remember one."""
        self.lines.append((self.now, who, old.value, new.value, why))

    def of(self, who: str) -> list[str]:
        """What is remembered of one task or job, oldest first."""
        return [f"{t:.3f} {old} -> {new}: {why}" for t, name, old, new, why in self.lines if name == who]


def check(table: Mapping[tuple[S, S], str], old: S, new: S, who: str, history: Iterable[str] = ()) -> None:
    """Raise IllegalTransition, with the history of `who`, unless (old, new) is in the table."""
    if (old, new) in table:
        return
    lines = "\n  ".join(history) or "(nothing remembered)"
    raise IllegalTransition(
        f"{who}: {old.value} -> {new.value} isn't a legal transition; nothing was changed. "
        f"Its latest history:\n  {lines}"
    )
