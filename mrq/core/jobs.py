"""One job as the leader holds it."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mrq.core import transitions, wire
from mrq.core.digest import mix
from mrq.core.info import ErrorInfo, StageInfo
from mrq.core.model import (
    NO_LIMITS,
    JobSpec,
    JobState,
    Limits,
    Purpose,
    StagedFile,
    StagePlan,
    StageSpec,
    TaskResult,
)
from mrq.core.refs import Kind, TaskRef
from mrq.core.tasks import TaskTable
from mrq.core.worker_table import Worker

if TYPE_CHECKING:
    from mrq.core.checked import Checked

_SAMPLE_MAX: Final = 257


#: Fields of a result that are summed over winners.
SUMMED: Final = (
    "records_in",
    "bytes_in",
    "records_out",
    "bytes_out",
    "records_emitted",
    "groups",
    "spills",
    "bad_records",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A stage of work that is complete, and all that still counts of it."""

    stages: tuple[StageInfo, ...]  #: of its maps, and of its reduces if it has any
    counters: Mapping[str, int]
    bad: tuple[StagedFile, ...]  #: its files of bad records, which are still where attempts wrote them


class Durations:
    """A bounded, deterministic sample of how long a stage's attempts took; its median."""

    __slots__ = ("count", "order", "values")

    def __init__(self) -> None:
        self.count = 0
        self.order: list[float] = []  #: as they came, by place
        self.values: list[float] = []  #: the same, sorted

    def add(self, seconds: float) -> None:
        """Reservoir sampling with a hash for the dice."""
        self.count += 1
        if len(self.order) < _SAMPLE_MAX:
            self.order.append(seconds)
            insort(self.values, seconds)
            return
        place = mix(self.count) % self.count
        if place < _SAMPLE_MAX:
            del self.values[bisect_left(self.values, self.order[place])]
            self.order[place] = seconds
            insort(self.values, seconds)

    @property
    def median(self) -> float:
        """Seconds; 0 while nothing has finished."""
        return self.values[len(self.values) // 2] if self.values else 0.0


class LeaderJob:
    """All that the leader holds of one job. It is at one of its stages, whose tasks and results these are: of
    one that is complete nothing counts any more but the plan of the next, and what `passed` has of it."""

    __slots__ = (
        "accepted",
        "adopted",
        "again",
        "at",
        "backups",
        "boot_number",
        "boots",
        "checked",
        "completions",
        "counters",
        "digest_sum",
        "durations",
        "error",
        "errors",
        "excused",
        "failures",
        "finished_at",
        "history",
        "limits",
        "losses",
        "maps",
        "needs",
        "number",
        "parts_lost",
        "passed",
        "passed_record",
        "plan",
        "plan_sum",
        "reduces",
        "reruns",
        "rollbacks",
        "slowest",
        "spec",
        "stage",
        "started_at",
        "state",
        "strict_order",
        "submitted_at",
        "sums",
        "tables",
        "takers",
        "takers_at",
        "timers",
        "took",
        "totals",
        "updated_at",
        "worker_losses",
    )

    def __init__(
        self,
        spec: JobSpec,
        now: float,
        history: transitions.History,
        totals: Mapping[Kind, list[int]],
    ) -> None:
        self.spec = spec
        self.history = history
        self.totals = totals
        self.state = JobState.PENDING
        self.error: str | None = None
        self.submitted_at = self.updated_at = now
        self.started_at = self.finished_at = 0.0
        #: (worker, boot) by number; 0 is nobody.
        self.boots: list[tuple[str, str]] = [("", "")]
        self.boot_number: dict[tuple[str, str], int] = {}
        self.adopted = False  #: from a store, which may have fallen back while nobody led
        self.completions = 0
        self.failures = self.losses = self.worker_losses = self.reruns = self.rollbacks = self.backups = 0
        self.again = 0  #: how often it began again at its first stage
        self.parts_lost = 0  #: likewise, since the last retry
        self.errors: list[ErrorInfo] = []  #: the latest
        self.needs = spec.needs
        self.limits = NO_LIMITS  #: what a retry has set anew; `spec` has it
        #: Who may claim its tasks, at so many changes of the workers: kept by `core.placement`.
        self.takers: dict[Kind, tuple[Worker, ...] | None] = {}
        self.takers_at = -1
        self.timers: set[str] = set()  #: periodic timers that are armed
        self.tables: tuple[TaskTable, ...] = ()  #: the maps and the reduces
        self.forget_passed()
        self.begin(0)

    def begin(self, at: int, plan: StagePlan | None = None) -> None:
        """Come to a stage, by its place among the job's."""
        self.drop()
        self.at, stage = at, self.spec.stages[at]
        self.stage = stage if plan is None else stage.planned(plan)
        self.number = self.spec.number_of(at, self.again)  #: of this run of the stage
        self.plan, self.plan_sum = plan or StagePlan(), plan.checksum if plan is not None else 0
        self.strict_order = False  #: see `model.TaskMessage`
        self.tables = self.maps, self.reduces = (
            self._table(Kind.MAP, len(self.stage.splits)),
            self._table(Kind.REDUCE, self.stage.reducers),
        )
        self.checked: Checked | None = None  #: inputs that are parts of a finished output
        pieces = (piece for split in self.stage.splits for piece in split.pieces)
        if self.stage.purpose is Purpose.WORK and any(piece.crc32 is not None for piece in pieces):
            from mrq.core.checked import Checked

            self.checked = Checked.of(self.stage.splits)
        self.accepted = 0  #: maps that were completed at least once
        self.digest_sum = 0  #: of consumed(map, digest) over the accepted maps, mod 2**64
        self.counters: dict[str, int] = {}
        self.sums = {kind: dict.fromkeys(SUMMED, 0) for kind in Kind}
        self.slowest: dict[Kind, tuple[float, int]] = dict.fromkeys(Kind, (0.0, -1))
        self.durations = {kind: Durations() for kind in Kind}
        #: Results, and their seconds.
        self.took: dict[Kind, tuple[int, float]] = dict.fromkeys(Kind, (0, 0.0))
        #: Maps that came out differently, as was expected of them: once each.
        self.excused: set[int] = set()

    def _table(self, kind: Kind, size: int) -> TaskTable:
        return TaskTable(self.spec.job, self.number, kind, size, self.history, self.totals[kind])

    def drop(self) -> None:
        """Count none of its tasks any more."""
        for table in self.tables:
            table.drop()

    @property
    def following(self) -> StageSpec | None:
        """The stage that comes after the one that the job is at."""
        return self.spec.stages[self.at + 1] if self.at + 1 < len(self.spec.stages) else None

    @property
    def following_number(self) -> int:
        """Of the run of that stage. Raises IndexError where none follows."""
        return self.spec.number_of(self.at + 1, self.again)

    @property
    def samples(self) -> bool:
        """Is it at a sampling, of which nothing counts?"""
        return self.stage.purpose is Purpose.SAMPLE

    def take_passed(self, passed: tuple[Passed, ...]) -> None:
        """These stages are complete."""
        self.passed = passed
        self.passed_record = wire.pack([wire.to_wire(each) for each in passed]) if passed else b""

    def forget_passed(self) -> None:
        """None is."""
        self.take_passed(())

    def all_counters(self) -> dict[str, int]:
        """Those of the stages that are complete, and of the one that it is at."""
        found = dict(self.counters)
        for each in self.passed:
            for name, n in each.counters.items():
                found[name] = found.get(name, 0) + n
        return found

    @property
    def bad_records(self) -> int:
        """Likewise; a sampling's are its own."""
        here = sum(self.sums[kind]["bad_records"] for kind in Kind)
        if self.samples:
            return here
        return here + sum(stage.bad_records for each in self.passed for stage in each.stages)

    def limit(self, limits: Limits) -> None:
        """Go on under what a retry has set anew."""
        self.limits, self.spec = limits, limits.applied(self.spec)
        self.needs = self.spec.needs
        self.takers_at = -1

    def excuses(self, index: int) -> bool:
        """Whether a map may have come out differently because a retry gave it other memory, or because it
        leaves out bad records now; once a map."""
        trouble = self.maps.trouble.get(index)
        careful = trouble is not None and trouble.careful
        if (self.limits.memory_bytes is None and not careful) or index in self.excused:
            return False
        self.excused.add(index)
        return True

    def table(self, kind: Kind) -> TaskTable:
        return self.maps if kind is Kind.MAP else self.reduces

    def table_of(self, task: TaskRef) -> TaskTable | None:
        """The table that has a task; None where that isn't of the stage that the job is at."""
        if task.stage != self.number or not 0 <= task.index < len(self.table(task.kind)):
            return None
        return self.table(task.kind)

    @property
    def active(self) -> bool:
        """May its tasks be handed out and reported?"""
        return self.state in (JobState.RUNNING, JobState.PENDING)

    @property
    def shuffled(self) -> bool:
        """Do maps write for reduces, rather than parts?"""
        return self.stage.reducers > 0

    @property
    def winners(self) -> TaskTable:
        """The tasks whose files are the output."""
        return self.reduces if self.shuffled else self.maps

    def move(self, state: JobState, why: str) -> None:
        """The only place where a job's state changes. Raises IllegalTransition, changing nothing."""
        who = self.spec.job
        transitions.check(transitions.JOB, self.state, state, who, self.history.of(who))
        self.history.note(who, self.state, state, why)
        self.state = state

    def boot(self, worker: str, boot: str) -> int:
        """The number of a worker's boot."""
        key = (worker, boot)
        number = self.boot_number.get(key)
        if number is None:
            number = self.boot_number[key] = len(self.boots)
            self.boots.append(key)
        return number

    def add(self, kind: Kind, result: TaskResult, sign: int = 1) -> None:
        """Count a winner's result, or take it out again."""
        sums, (results, seconds) = self.sums[kind], self.took[kind]
        self.took[kind] = results + sign, seconds + sign * result.seconds
        for name in SUMMED:
            value = getattr(result, name)
            if value:
                sums[name] += sign * value
        for name, n in result.counters.items():
            total = self.counters.get(name, 0) + sign * n
            if total or sign > 0:
                self.counters[name] = total
            else:
                self.counters.pop(name, None)

    def files(self) -> tuple[StagedFile, ...]:
        """What belongs to OUT: the files of bad records of the stages that are complete, then those of this
        one's winners."""
        return (*(file for each in self.passed for file in each.bad), *self.winners_files())

    def parts(self) -> tuple[StagedFile, ...]:
        """Of the winners, in part order."""
        return tuple(file for file in self.winners_files() if not file.is_bad)

    def winners_files(self) -> tuple[StagedFile, ...]:
        """Of all winners, in part order; maps' bad-record files come before the reduces' files."""
        found: list[StagedFile] = []
        # With a shuffle, maps stage nothing but their bad records: mostly there is nothing to unpack.
        maps = not self.shuffled or self.sums[Kind.MAP]["bad_records"] > 0
        for table in self.tables if maps else (self.reduces,):
            for index in range(len(table)):
                result = table.result(index)
                if result is not None:
                    found.extend(result.files)
        return tuple(found)
