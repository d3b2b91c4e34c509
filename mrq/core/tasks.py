"""The tasks of one stage as columns, with a small object only for those in progress or in trouble.

A million tasks fit in some 300 bytes each: state, last ticket, charges, four timestamps, the winner and
its packed result. An `InProgress` exists while a task is queued or running; a `FailureHistory` once something
went wrong with it. Completed maps are chained per worker boot, so that a death costs what it destroys.
"""

from __future__ import annotations

import heapq
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

from mrq.core import transitions, wire
from mrq.core.model import AttemptState, Role, StagedFile, TaskResult, TaskState
from mrq.core.refs import AttemptRef, Kind, TaskRef

IDLE: Final = 0
QUEUED: Final = 1
RUNNING: Final = 2
COMPLETED: Final = 3
STATES: Final = (TaskState.IDLE, TaskState.QUEUED, TaskState.RUNNING, TaskState.COMPLETED)
CODES: Final = {state: code for code, state in enumerate(STATES)}
#: The transition table by codes: LEGAL[old * 4 + new].
LEGAL: Final = bytes((old, new) in transitions.TASK for old in STATES for new in STATES)

RESULT_FIELDS: Final = tuple(f.name for f in fields(TaskResult))


@dataclass(slots=True, kw_only=True)
class LiveAttempt:
    """One claimed attempt that is live."""

    ref: AttemptRef
    role: Role
    worker: str
    boot: str
    claimed_at: float
    updated_at: float
    floor: int  #: beats up to this number may have begun before the claim
    misses: int = 0  #: beats above the floor that didn't list it
    fraction: float = 0.0
    phase: str = ""
    records: int = 0
    bytes: int = 0
    state: AttemptState = AttemptState.RUNNING
    at: str = ""  #: the record at hand, of one that runs alone

    def move(self, state: AttemptState) -> None:
        """Raises IllegalTransition for a pair that the table doesn't have."""
        transitions.check(transitions.ATTEMPT, self.state, state, f"attempt {self.ref.token}")
        self.state = state


@dataclass(slots=True, kw_only=True)
class InProgress:
    """What a task in progress has besides its columns."""

    primary_ticket: int  #: 0: it was ended, and the backup goes on
    backup_ticket: int = 0  #: 0: no backup is authorised
    publishes: int = 0  #: of the primary's ticket, by this leader
    offered_to: str | None = None  #: the worker that the primary was offered to
    primary: LiveAttempt | None = None
    backup: LiveAttempt | None = None
    backup_offered_to: str | None = None
    last_number: int = 0  #: the highest attempt number seen
    alone: bool = False  #: its worker runs nothing else beside it (`core.alone`)

    @property
    def fetches(self) -> bool:
        """Of a reduce: as far as is known, no attempt has all that it reads."""
        return all(attempt.phase != "reducing" for attempt in self.attempts())

    def role_of(self, ticket: int) -> Role | None:
        """What a live ticket is for; None for any other."""
        if ticket <= 0:
            return None
        if ticket == self.primary_ticket:
            return Role.PRIMARY
        return Role.BACKUP if ticket == self.backup_ticket else None

    def held_as(self, role: Role) -> LiveAttempt | None:
        """The live attempt with a role."""
        return self.primary if role is Role.PRIMARY else self.backup

    def attempt(self, token: str) -> LiveAttempt | None:
        """The live attempt with a token."""
        return next((each for each in self.attempts() if each.ref.token == token), None)

    def attempts(self) -> list[LiveAttempt]:
        """The claimed attempts that are live."""
        return [a for a in (self.primary, self.backup) if a is not None]


@dataclass(slots=True, kw_only=True)
class FailureHistory:
    """What went wrong with one task; forgiven by a retry."""

    retries: int = 0  #: that backed off, for the exponent
    fingerprints: list[int] | None = None  #: hashes of errors seen
    workers_lost: list[str] | None = None  #: WORKER/BOOT, of each boot that it was lost with
    avoid: list[str] | None = None  #: workers not to give it to again
    failed_on: list[str] | None = None  #: workers to be blamed if it completes elsewhere
    waits: int = 0  #: times it waited for a worker that isn't avoided
    uncharged: int = 0  #: attempts that ended and counted against no other bound
    disk_full: int = 0  #: in a row without progress of the job
    disk_full_all: int = 0
    disk_full_mark: int = -1  #: completions of the job at the last one
    careful: bool = False  #: looks at each record; it failed with skip_bad_records, or is to name a record
    fetch_reruns: int = 0  #: of a map
    unreachable: list[int] | None = None  #: distinct reducers that couldn't reach this map's output
    unreachable_all: int = 0
    deaths: int = 0  #: of messages
    lost_alone: int = 0  #: boots that it was lost with while nothing else ran there
    beside: list[str] | None = None  #: WORKER/BOOT where it was ended as it ran beside others
    misses_part: str | None = None  #: the worker that couldn't read what a stage before wrote


def pack_result(result: TaskResult) -> bytes:
    """A result in some 60 bytes: fields in order."""
    r = result
    files = [[f.name, f.final, f.records, f.bytes, f.crc32] for f in r.files]
    row = (
        r.records_in,
        r.bytes_in,
        r.records_out,
        r.bytes_out,
        r.digest,
        r.records_emitted,
        r.groups,
        r.spills,
        {k: v if -(1 << 63) <= v < 1 << 64 else str(v) for k, v in r.counters.items()},
        files,
        r.bad_records,
        r.seconds,
        r.peak_rss_bytes,
        r.sample,
        r.crcs,
    )
    return wire.pack(row)


def unpack_result(data: bytes) -> TaskResult:
    """The result that `pack_result` was given."""
    row: dict[str, Any] = dict(zip(RESULT_FIELDS, wire.unpack(data), strict=True))
    row["counters"] = {k: int(v) for k, v in row["counters"].items()}
    row["files"] = tuple(
        StagedFile(name=name, final=final, records=records, bytes=size, crc32=crc)
        for name, final, records, size, crc in row["files"]
    )
    row["crcs"] = tuple(row["crcs"])
    return TaskResult(**row)


def packed_bytes_out(data: bytes) -> int:
    """`bytes_out` of a packed result, without making the rest."""
    size: int = wire.unpack(data)[3]
    return size


def zeros(code: str, n: int) -> array[Any]:
    """A column of n zeros."""
    return array(code, bytes(n * array(code).itemsize))


#: (name, array code); every column starts at zero.
COLUMNS: Final = (
    ("ticket", "I"),  # the last one that was issued; they only grow
    ("failures", "B"),
    ("losses", "B"),
    ("queued_at", "d"),
    ("started_at", "d"),
    ("updated_at", "d"),
    ("finished_at", "d"),
    ("boot", "I"),  # where the winner ran: index into the job's boots; 0 none
    ("winner_ticket", "I"),
    ("winner_number", "I"),
    ("digest", "Q"),  # of the accepted result, kept while the task is idle again
    ("next", "i"),
    ("prev", "i"),
)


class TaskTable:
    """All tasks of one kind of one stage of a job."""

    __slots__ = (
        "boot",
        "counts",
        "cursor",
        "digest",
        "failures",
        "finished_at",
        "flights",
        "heads",
        "history",
        "job",
        "kind",
        "losses",
        "next",
        "prev",
        "queued_at",
        "results",
        "returned",
        "running",
        "stage",
        "started_at",
        "state",
        "ticket",
        "token",
        "totals",
        "trouble",
        "updated_at",
        "winner_number",
        "winner_ticket",
    )

    ticket: array[int]
    failures: array[int]
    losses: array[int]
    queued_at: array[float]
    started_at: array[float]
    updated_at: array[float]
    finished_at: array[float]
    boot: array[int]
    winner_ticket: array[int]
    winner_number: array[int]
    digest: array[int]
    next: array[int]
    prev: array[int]

    def __init__(
        self, job: str, stage: int, kind: Kind, n: int, history: transitions.History, totals: list[int]
    ):
        self.job = job
        self.stage = stage
        self.kind = kind
        self.history = history
        self.totals = totals  #: tasks of all jobs by state, shared between tables
        self.state = bytearray(n)
        for name, code in COLUMNS:
            setattr(self, name, zeros(code, n))
        self.token: list[str | None] = [None] * n
        #: Packed; a map's stays while it is idle again: it is the accepted one.
        self.results: list[bytes | None] = [None] * n
        self.counts = [n, 0, 0, 0]
        totals[IDLE] += n
        self.cursor = 0  #: idle tasks from here on were never handed out (since the last retry)
        self.returned: list[int] = []  #: a heap of idle tasks to hand out before those
        self.flights: dict[int, InProgress] = {}
        self.running: OrderedDict[int, None] = OrderedDict()  #: with an attempt, by first claim
        self.trouble: dict[int, FailureHistory] = {}
        self.heads: dict[int, int] = {}  #: boot -> first completed map there

    def __len__(self) -> int:
        return len(self.state)

    def task(self, index: int) -> TaskRef:
        """What it is called elsewhere."""
        return TaskRef(self.job, self.stage, self.kind, index)

    def name(self, index: int) -> str:
        return f"{self.job}/{self.task(index)}"

    def move(self, index: int, new: int, why: str) -> None:
        """The only place where a task's state changes. Raises IllegalTransition, changing nothing."""
        old = self.state[index]
        name = self.name(index)
        if not LEGAL[old * 4 + new]:
            transitions.check(transitions.TASK, STATES[old], STATES[new], name, self.history.of(name))
        self.state[index] = new
        self.counts[old] -= 1
        self.counts[new] += 1
        self.totals[old] -= 1
        self.totals[new] += 1
        self.history.note(name, STATES[old], STATES[new], why)

    def troubled(self, index: int) -> FailureHistory:
        """The task's trouble, made when there was none."""
        found = self.trouble.get(index)
        if found is None:
            found = self.trouble[index] = FailureHistory()
        return found

    @property
    def done(self) -> bool:
        """Is every task completed?"""
        return self.counts[COMPLETED] == len(self.state)

    @property
    def in_progress(self) -> int:
        return self.counts[QUEUED] + self.counts[RUNNING]

    def winner(self, index: int) -> AttemptRef | None:
        """The attempt whose result was accepted last."""
        token = self.token[index]
        if token is None:
            return None
        return AttemptRef(self.task(index), self.winner_ticket[index], self.winner_number[index], token)

    def result(self, index: int) -> TaskResult | None:
        """The accepted result."""
        packed = self.results[index]
        return None if packed is None else unpack_result(packed)

    # Completed maps of one boot, as a doubly linked list through the columns (index + 1; 0 ends).

    def link(self, index: int, boot: int) -> None:
        """Chain a completed map to the boot whose disk holds its output."""
        head = self.heads.get(boot, 0)
        self.boot[index] = boot
        self.next[index], self.prev[index] = head, 0
        if head:
            self.prev[head - 1] = index + 1
        self.heads[boot] = index + 1

    def unlink(self, index: int) -> None:
        """Take a map out of its boot's chain."""
        before, after, boot = self.prev[index], self.next[index], self.boot[index]
        if before:
            self.next[before - 1] = after
        elif self.heads.get(boot) == index + 1:
            if after:
                self.heads[boot] = after
            else:
                del self.heads[boot]
        if after:
            self.prev[after - 1] = before
        self.next[index] = self.prev[index] = 0

    def held_by(self, boot: int) -> Iterator[int]:
        """The completed maps chained to a boot; the list is taken before any is unlinked."""
        found, at = [], self.heads.get(boot, 0)
        while at:
            found.append(at - 1)
            at = self.next[at - 1]
        return iter(sorted(found))

    def charged(self) -> list[int]:
        """Tasks with failures or losses."""
        return [i for i, pair in enumerate(zip(self.failures, self.losses, strict=True)) if any(pair)]

    def forgive(self) -> None:
        """A retry: charges are forgotten, everything idle may be handed out again."""
        n = len(self.state)
        self.failures, self.losses = zeros("B", n), zeros("B", n)
        self.trouble.clear()
        self.cursor, self.returned = 0, []

    def drop(self) -> None:
        """Leave the shared totals."""
        for code, n in enumerate(self.counts):
            self.totals[code] -= n

    def recount(self) -> None:
        """States were set by other means than `move`."""
        self.drop()
        self.counts = [self.state.count(code) for code in range(4)]
        for at, n in enumerate(self.counts):
            self.totals[at] += n

    def ready(self) -> bool:
        """Is there an idle task to hand out now?"""
        while self.returned and self.state[self.returned[0]] != IDLE:
            heapq.heappop(self.returned)
        if self.returned:
            return True
        at = self.state.find(IDLE, self.cursor)
        self.cursor = len(self.state) if at < 0 else at
        return at >= 0

    def give(self, index: int) -> None:
        """An idle task may be handed out."""
        heapq.heappush(self.returned, index)

    @property
    def backed_up(self) -> int:
        """Tasks with a backup that is authorised. Looks only at the oldest that run."""
        n = 0
        for index in self.running:
            flight = self.flights[index]
            if not flight.backup_ticket and not flight.alone:
                break
            n += bool(flight.backup_ticket)
        return n

    def take(self) -> int:
        """The idle task to hand out next: what came back first, then the others in order."""
        if self.returned:
            return heapq.heappop(self.returned)
        self.cursor += 1
        return self.cursor - 1
