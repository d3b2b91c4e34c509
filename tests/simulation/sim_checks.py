"""What must hold whatever happens; a breach raises Broken."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.machine import Machine
from mrq.core.model import FOLLOWS, JobSpec, JobState, Purpose, StagedFile, Status, TaskMessage
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_api import Answer, Batch, ClaimAnswer, ClaimRequest, StoredJob, Write

#: More attempts of one task than any plan can justify.
ATTEMPTS_MAX = 80


_OVER = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class Broken(AssertionError):
    """An invariant doesn't hold."""


@dataclass
class Staged:
    """A part as an attempt wrote it: which output of each map went in, or what a map read of parts before."""

    attempt: AttemptRef
    consumed: dict[int, int]
    read: tuple[int, ...]


@dataclass
class Oracle:
    """Knows what really happened, and compares."""

    specs: dict[str, JobSpec] = field(default_factory=dict)
    nondeterministic: set[str] = field(default_factory=set)
    deadly: set[str] = field(default_factory=set)  #: jobs with a task that takes its worker down
    alone: dict[TaskRef, set[tuple[str, str]]] = field(
        default_factory=dict
    )  #: boots that took it to run alone
    cancelled: set[str] = field(default_factory=set)
    rows: dict[TaskRef, c.WriteTask] = field(default_factory=dict)
    jobs: dict[str, JobState] = field(default_factory=dict)
    numbers: dict[TaskRef, int] = field(default_factory=dict)
    holders: dict[tuple[TaskRef, int], AttemptRef] = field(default_factory=dict)  #: of each ticket, the last
    attempts: Counter[TaskRef] = field(default_factory=Counter)
    finished: dict[str, TaskRef] = field(default_factory=dict)  #: tokens that came to DONE
    ended: Counter[tuple[TaskRef, Status]] = field(default_factory=Counter)
    fetches: Counter[tuple[str, int, int]] = field(default_factory=Counter)  #: failed ones, by stage and map
    deaths: Counter[TaskRef] = field(default_factory=Counter)  #: of messages that named it
    messages: dict[str, tuple[str, TaskMessage]] = field(default_factory=dict)  #: by whom claimed, by token
    #: What a boot may let go of: the store has heard of it from there, or wants nothing.
    settled: set[tuple[str, TaskMessage]] = field(default_factory=set)
    staged: dict[str, Staged] = field(default_factory=dict)
    samples: dict[str, bytes] = field(default_factory=dict)  #: of each attempt of a sampling, by its token
    #: By which plan a map's output of that digest was made (its checksum), and what that map read of parts.
    made_by: dict[tuple[str, int, int, int], tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    #: What the plan of a stage's run was made of: the parts that it reads, as they were written.
    parts: dict[tuple[str, int], tuple[int, ...]] = field(default_factory=dict)
    #: Of each job, how many maps the run of each stage of work had by whose parts the next one was planned.
    handed_on: dict[str, dict[int, int]] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)  #: parts that were lost, or may be, by job
    beginnings_max: int = 4  #: so often a job may begin again at its first stage; a retry forgives
    committed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    over: dict[str, tuple[JobState, str | None]] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)  #: of each epoch, whose writes were accepted
    epochs: dict[str, int] = field(default_factory=dict)  #: of each job, the last one that wrote
    issued: dict[TaskRef, int] = field(default_factory=dict)  #: the highest ticket that the store has seen
    tickets: dict[TaskRef, int] = field(default_factory=dict)  #: the highest that was ever claimed
    damaged: bool = False  #: the store has lost something, and wasn't restored yet
    no_room: Callable[[JobSpec], bool] = lambda spec: False  #: does a job find the disks full?
    dialled: set[tuple[str, str]] | None = None  #: boots that were dialled back; None: nobody is

    def claimed(self, event: e.AttemptClaimed) -> None:
        """A claim was granted: numbers only grow, attempts are bounded, the ticket was live."""
        task = event.attempt.task
        if event.attempt.number <= self.numbers.get(task, 0):
            raise Broken(f"{task}: number {event.attempt.number} after {self.numbers[task]}")
        if self.dialled is not None and (event.worker, event.boot) not in self.dialled:
            raise Broken(f"{event}: that boot was never dialled back")
        self.numbers[task] = event.attempt.number
        self.tickets[task] = max(self.tickets.get(task, 0), event.attempt.ticket)
        self.holders[task, event.attempt.ticket] = event.attempt
        self.attempts[task] += 1
        if self.attempts[task] > ATTEMPTS_MAX:
            raise Broken(f"{task}: attempt {self.attempts[task]}")
        if not self.live(event):
            raise Broken(f"{event} was granted, though the task is {self.rows.get(task)}")

    def answered(self, request: ClaimRequest, answer: ClaimAnswer) -> None:
        """The store has answered a claim."""
        if answer.answer in (Answer.OBSOLETE, Answer.DUPLICATE, Answer.RESUME, Answer.HELD):
            self.settled.add((request.boot, request.message))
        if answer.answer in (Answer.NEW, Answer.SAME):
            self.messages[request.token] = (request.boot, request.message)

    def reported(self, token: str) -> None:
        """The store has answered a report."""
        if token in self.messages:
            self.settled.add(self.messages[token])

    def acked(self, boot: str, message: TaskMessage) -> None:
        """A worker lets go of a task's message for good. Raises Broken where its report isn't recorded."""
        if (boot, message) not in self.settled:
            raise Broken(f"{message} is acknowledged, and no report of it is known")

    def live(self, event: e.AttemptClaimed | e.AttemptReported) -> bool:
        """Has its attempt a live ticket, by what the leader persisted?"""
        row = self.rows.get(event.attempt.task)
        if row is None or row.winner is not None:
            return False
        over = self.jobs.get(event.attempt.task.job) not in (None, JobState.PENDING, JobState.RUNNING)
        return event.attempt.ticket in (row.primary or None, row.backup or None) and not over

    def is_wanted(self, message: TaskMessage) -> bool:
        """Is a message's ticket live, by what the leader persisted?"""
        row = self.rows.get(message.task)
        over = self.jobs.get(message.task.job) not in (None, JobState.PENDING, JobState.RUNNING)
        return row is not None and message.ticket in (row.primary, row.backup) and not over

    def recorded(self, event: e.AttemptReported) -> None:
        """The store took a report: only of a live attempt, and of the one that holds its ticket."""
        task = event.attempt.task
        if not self.live(event) or self.holders[task, event.attempt.ticket] != event.attempt:
            row = self.rows.get(task)
            raise Broken(f"a dead attempt's report was recorded: {event}; the task is {row}")

    def decided(self, event: object, made: list[c.Command]) -> None:
        """The leader handled an event: what it is going to write, before it is written."""
        dead: TaskRef | None = None
        if isinstance(event, e.AttemptReported) and not self.live(event):
            dead = event.attempt.task
        for command in made:
            if isinstance(command, c.WriteTask):
                self._write(command, dead)
            elif isinstance(command, c.WriteJob):
                self._move(command)
            elif isinstance(command, c.PlanStage):
                self.asked(command)
            elif isinstance(command, c.StartCommit):
                self._commit(command)
            elif isinstance(command, c.EndJob):
                self._end(command)

    def accepted(self, batch: Batch) -> None:
        """The store took a batch: of one owner an epoch, and of no epoch that was over for the job."""
        fence = batch.fence
        if self.owners.setdefault(fence.epoch, fence.owner) != fence.owner:
            raise Broken(f"epoch {fence.epoch}: {self.owners[fence.epoch]} and {fence.owner} both wrote")
        if fence.epoch < self.epochs.get(batch.job, 0):
            raise Broken(f"{batch.job}: epoch {fence.epoch} wrote after {self.epochs[batch.job]}")
        self.epochs[batch.job] = fence.epoch
        self._written(batch.writes)

    def restored(self, stored: StoredJob) -> None:
        """A job was written whole into a store that lost something."""
        job = stored.spec.job
        if not self.damaged:
            raise Broken(f"{job} was restored into a store that has lost nothing")
        for table in (self.rows, self.numbers, self.issued):
            for key in [key for key in table if key.job == job]:
                del table[key]
        # What was claimed with a ticket may live on.
        self.issued.update((task, ticket) for task, ticket in self.tickets.items() if task.job == job)
        for holder in [key for key in self.holders if key[0].job == job]:
            del self.holders[holder]
        self.epochs[job] = stored.fence.epoch
        self._written(stored.writes)

    def _written(self, writes: tuple[Write, ...]) -> None:
        for write in writes:
            if isinstance(write, c.WriteTask):
                self._write(write, None)
            elif isinstance(write, c.WriteJob):
                self._move(write)
                told = c.EndJob(job=write.job, state=write.state, error=write.error)
                if write.state in _OVER and self.over.get(write.job) != (write.state, write.error):
                    self._end(told)

    def _write(self, row: c.WriteTask, dead: TaskRef | None) -> None:
        task = row.task
        spec = self.specs[task.job]
        again = (task.stage - 1) // len(spec.stages) if spec.several else 0
        if again > self.lost[task.job]:
            raise Broken(f"{task} is run again, and no part was lost: {self.lost}")
        if again > self.beginnings_max:
            raise Broken(f"{task}: the job began again {again} times")
        old = self.rows.get(task)
        had = (old.primary, old.backup) if old is not None else (0, 0)
        has, issued = (row.primary, row.backup), self.issued.get(task, 0)
        for ticket in {*has} - {*had, 0}:
            if ticket <= issued:
                raise Broken(f"{task}: ticket {ticket} was issued after {issued}: {old}, then {row}")
        if row.primary == row.backup > 0:
            raise Broken(f"{task}: one ticket for both roles: {row}")
        self.issued[task] = max(issued, *has)
        if row.winner is not None:
            if any(has):
                raise Broken(f"{task}: completed, and may be claimed: {row}")
            if self.finished.get(row.winner.token) != task:
                raise Broken(f"{task}: the winner {row.winner} never came to DONE")
            if old is not None and old.winner not in (None, row.winner):
                raise Broken(f"{task}: won by {old.winner}, then by {row.winner}")
        if task == dead and (has != had or row.winner is not None):
            raise Broken(f"{task}: the report of a dead attempt changed {old} to {row}")
        self.rows[task] = row

    def _move(self, command: c.WriteJob) -> None:
        before = self.jobs.get(command.job)
        if before is JobState.COMMITTING and command.state not in (
            JobState.COMMITTING,
            JobState.DONE,
            JobState.FAILED,
        ):
            raise Broken(f"{command.job}: {before} -> {command.state}")
        self.jobs[command.job] = command.state

    def asked(self, command: c.PlanStage) -> None:
        """The next stage is planned: of the samples of the winners, and of all of them."""
        job, complete = command.job, command.complete
        stage = self.specs[job].stage(complete)
        if stage.purpose is Purpose.SAMPLE:
            size = len(stage.splits) if stage.plan is not None else len(command.samples)
            tasks = [TaskRef(job, complete, Kind.MAP, i) for i in range(size)]
            won = [self.rows[task].winner if task in self.rows else None for task in tasks]
            found = [self.samples[each.token] if each else None for each in won]
            if found != list(command.samples) and not self.damaged:
                raise Broken(f"{command} is asked for, and the winners are {won}")
            before = self.parts.get((job, complete))
        else:
            self.handed_on.setdefault(job, {})[complete] = self._made_of(job, complete, command.parts)
            before = tuple(part.crc32 for part in command.parts)
        if before is not None:
            self.parts[job, command.stage] = before

    def _commit(self, command: c.StartCommit) -> None:
        """The winners' parts, and no others; everything counted once, of the runs that led there."""
        job = command.job
        spec = self.specs[job]
        if "sampled" in command.counters:
            raise Broken(f"{job}: what a sampling counted counts: {command.counters}")
        names = tuple(file.name for file in command.files)
        frozen = self.committed.setdefault(job, names)
        if frozen != names:
            raise Broken(f"{job}: commits {names} after {frozen}")
        numbers = {self.staged[name].attempt.task.stage for name in names if name in self.staged}
        last = max(numbers, default=None)
        if last is None:
            return  # nothing to read, and no reduce
        maps = self._made_of(job, last, command.files, command.reducers)
        if not spec.several:
            return
        again = (last - 1) // len(spec.stages)
        ran = {n: count for n, count in self.handed_on[job].items() if (n - 1) // len(spec.stages) == again}
        counted = {f"stage {spec.stage(n).number}": count for n, count in {**ran, last: maps}.items()}
        if command.counters != {name: n for name, n in counted.items() if n}:
            raise Broken(f"{job}: {command.counters} are counted, and there were {counted}")

    def _made_of(
        self, job: str, number: int, files: tuple[StagedFile, ...], reducers: int | None = None
    ) -> int:
        """Exactly one part a partition of a run of a stage, the winners', all made of the same output of each
        map, each of which read the parts that were handed on to it. How many maps it has."""
        stage = self.specs[job].stage(number)
        names = tuple(file.name for file in files)
        r = stage.reducers if reducers is None else reducers
        if r == FOLLOWS:
            r = len(self.parts[job, number])
        maps = len(self.parts[job, number]) if (job, number) in self.parts else len(stage.splits)
        kind, n = (Kind.REDUCE, r) if r else (Kind.MAP, maps)
        parts = [self.staged.get(name) for name in names]
        if [part.attempt.task.index for part in parts if part is not None] != list(range(n)):
            raise Broken(f"{job}: {n} parts are expected of stage {number}, there are {names}")
        used: dict[int, int] = {}
        for part in parts:
            assert part is not None
            index = part.attempt.task.index
            task = TaskRef(job, number, kind, index)
            winner = self.rows[task].winner if task in self.rows else None
            if self.damaged and winner is None:
                # The store answered, then lost the row, and the leader, which paused between its batch and
                # the commit, hasn't looked yet (seed 10712). It will write its view back; whoever leads after
                # it meets the manifest.
                if self.finished.get(part.attempt.token) != task:
                    raise Broken(f"{job}: part {index} is {part.attempt}'s, which never came to DONE")
            elif winner is None or winner.token != part.attempt.token:
                raise Broken(f"{job}: part {index} is {part.attempt}'s, the winner {winner}")
            if kind is Kind.REDUCE and sorted(part.consumed) != list(range(maps)):
                raise Broken(f"{job}: part {index} consumed maps {sorted(part.consumed)}")
            if kind is Kind.MAP:
                self._read_right(job, number, index, part.read)
            for index, digest in part.consumed.items():
                if used.setdefault(index, digest) != digest:
                    raise Broken(f"{job}: parts consumed different outputs of map {index}")
        plans = set()
        for index, digest in used.items():
            plan, read = self.made_by[job, number, index, digest]
            plans.add(plan)
            self._read_right(job, number, index, read)
        if len(plans) > 1:
            raise Broken(f"{job}: parts consumed outputs of maps by {len(plans)} plans of one stage")
        return maps

    def _read_right(self, job: str, number: int, index: int, read: tuple[int, ...]) -> None:
        """Did a map that counts read the part that was handed on to it, as it was written?"""
        handed = self.parts.get((job, number))
        if handed is not None and read != (handed[index],):
            raise Broken(f"{job}: map {index} of stage {number} read {read} of the parts {handed}")

    def _end(self, command: c.EndJob) -> None:
        if command.job in self.over:
            raise Broken(f"{command.job} ended twice: {self.over[command.job]}, {command}")
        self.over[command.job] = (command.state, command.error)
        if command.state is JobState.DONE and command.job not in self.committed:
            raise Broken(f"{command.job}: done without a commit")
        if command.state is JobState.CANCELLED and command.job not in self.cancelled:
            raise Broken(f"{command.job}: cancelled by nobody")
        if command.state is JobState.FAILED:
            self._justify(command.job, command.error or "")

    def _justify(self, job: str, error: str) -> None:
        """A job may fail only by a bound that was really reached."""
        spec = self.specs[job]
        match = re.search(r"\b[mr]\d*-\d{5}\b", error)
        task = (TaskRef.named(job, match[0]) if match else None) or TaskRef(job, 0, Kind.MAP, -1)

        def count(*statuses: Status) -> int:
            return sum(self.ended[task, status] for status in statuses)

        failures = count(Status.FAILED, Status.TIMED_OUT)
        if "nondeterministic" in error:
            good = job in self.nondeterministic
        elif "failed twice with the same error" in error:
            good = failures >= 2
        elif " failed " in error:
            good = failures >= spec.max_failures
        elif "killed its executor" in error or "couldn't be begun" in error:
            good = count(Status.LOST) >= spec.max_losses
        elif "began again at its first stage" in error:
            good = self.lost[job] > 4
        elif "couldn't be fetched" in error or "can't order" in error:
            good = self.fetches[job, task.stage, task.index] >= 5
        elif "found the disk full" in error:
            good = count(Status.DISK_FULL) >= 3
        elif "for want of disk" in error:
            good = self.no_room(spec)
        elif "took its worker down" in error:
            good = len(self.alone.get(task, ())) >= 3
        elif "was returned" in error:
            good = self.deaths[task] > 10
        elif "was lost with" in error:
            good = self.attempts[task] >= spec.max_worker_losses
        else:
            good = False
        if not good:
            raise Broken(f"{job} failed without cause: {error!r} ({dict(self.ended)})")

    def charged(self, machine: Machine) -> None:
        """No task was charged for more than really happened to its attempts."""
        for job in self.specs:
            for task in machine.tasks(job):
                of = TaskRef.named(job, task.task)
                assert of is not None
                ended = {status: self.ended[of, status] for status in Status}
                if task.losses > ended[Status.LOST]:
                    raise Broken(f"{job}: {task} is charged losses that weren't: {ended}")
                if task.failures > ended[Status.FAILED] + ended[Status.TIMED_OUT]:
                    raise Broken(f"{job}: {task} is charged failures that weren't: {ended}")

    def at_end(self) -> None:
        """Every job is over; of a job that is done, every task was completed, once."""
        for job, spec in self.specs.items():
            state, _ = self.over[job]
            if state is not JobState.DONE:
                continue
            if job in self.deadly:
                raise Broken(f"{job} is done, though a task of it never ends well")
            needed = [TaskRef(job, 0, Kind.REDUCE, i) for i in range(spec.reducers)]
            needed += [] if spec.reducers else [TaskRef(job, 0, Kind.MAP, i) for i in range(len(spec.splits))]
            for task in needed if not spec.several else ():
                row = self.rows.get(task)
                if row is None or row.winner is None:
                    raise Broken(f"{job}: done, and {task} is {row}")

    def snapshot(self) -> tuple[Any, ...]:
        """What is in the store, to go back to."""
        kept = (self.rows, self.jobs, self.numbers, self.holders, self.epochs, self.issued)
        return tuple(dict(each) for each in kept)

    def roll_back(self, then: tuple[Any, ...]) -> None:
        """The store lost what came after."""
        self.rows, self.jobs, self.numbers, self.holders, self.epochs, self.issued = then

    def begin_again(self) -> None:
        """Embedded, the store dies with the master: the new one knows nothing of the old one's rows."""
        self.rows.clear()
        self.jobs.clear()
        self.numbers.clear()
        self.holders.clear()
        self.issued.clear()

    def done(self, attempt: AttemptRef) -> None:
        """An attempt came to its end with a result."""
        self.finished[attempt.token] = attempt.task
