"""One worker process: the production agent, with executors that only pretend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sim_checks import Broken, Staged
from twins import LosingBroker

from mrq.core import agent_words as a
from mrq.core.agent import Agent
from mrq.core.digest import MASK, mix
from mrq.core.digest import consumed as consumed_by
from mrq.core.model import (
    ErrorReport,
    FetchFailure,
    MapLocation,
    Outcome,
    Purpose,
    StagedFile,
    StageSpec,
    Status,
    TaskMessage,
    TaskResult,
)
from mrq.core.orders import DropJob, DropMaps, Kill
from mrq.core.paths import staged_folder
from mrq.core.persistence import planned
from mrq.core.refs import AttemptRef, Kind
from mrq.worker.disk_use import DiskUse, judge

if TYPE_CHECKING:
    from sim_world import World

#: From a change of what is kept to a look at the disk.
LOOK_S = 0.7
#: Bytes of one map output, and of a disk that others leave to us.
OUTPUT_BYTES = 1 << 30
DISK_BYTES = 1 << 40
#: Of a task that turns out long among short ones, and how long others may be behind it.
LONG_S = 60.0
BEHIND_S_MAX = 6.0


@dataclass
class Running:
    """One executor at work."""

    message: TaskMessage
    attempt: AttemptRef
    seconds: float
    fate: Status
    over: bool = False
    began: bool = False
    behind: bool = False  #: its executor works on another
    waits: float = 0.0  #: so long
    position: int = 0
    incarnation: int = 0
    known: dict[int, MapLocation] = field(default_factory=dict)
    consumed: dict[int, int] = field(default_factory=dict)
    plan: int = 0  #: the checksum of the stage's plan, by which it works
    stage: StageSpec | None = None  #: with that plan


class Host:
    """A worker's boot."""

    def __init__(self, world: World, worker: int, boot: str) -> None:
        self.world = world
        self.number = worker
        self.worker = f"w{worker}"
        self.boot = boot
        self.slowness = world.plan.slowness[worker]
        self.agent = Agent(
            a.AgentConfig(
                worker=self.worker,
                boot=boot,
                slots=world.plan.slots,
                hints={"memory_bytes": world.plan.memory[worker]},
                about={"full": ""},
                beat_interval_s=world.plan.beat_s,
                address="" if world.plan.embedded else f"{self.worker}:1",
            )
        )
        self.alive = True
        self.died = float("inf")
        self.paused = False
        self.frozen = False  #: its executors are paused, too
        self.backlog: list[a.AgentEvent] = []
        self.running: dict[str, Running] = {}
        self.plans: dict[tuple[str, int], StageSpec] = {}  #: (job, number of a stage's run)
        self.outputs: dict[tuple[str, int, int, str], int] = {}  #: (job, stage, map, token) -> digest
        self.serving = False
        self.room = DiskUse(used=0, quota=0, free=DISK_BYTES)
        self.full_at = float("-inf")  #: when it was full last, if it isn't
        self.born = world.now
        self._fifo = 0.0
        self._tick_at = float("inf")
        self.broker = LosingBroker(world.queues)
        self.broker.attach(worker=self._from_broker)
        self.feed(a.Ticked())
        self.look()

    def feed(self, event: a.AgentEvent) -> None:
        """Something happened; a paused process hears of it later."""
        if not self.alive:
            return
        if self.paused:
            self.backlog.append(event)
            return
        self.world.events += 1
        for command in self.agent.handle(event, self.world.now):
            _DO[type(command)](self, command)
        if self.alive:
            due = max(self.agent.next_tick(), self.world.now + 0.001)
            if due < self._tick_at:
                self._tick_at = due
                self.world.at(due - self.world.now, self._tick, due)

    def die(self) -> None:
        """kill -9 of the whole process tree; its files are lost."""
        self.alive, self.died = False, self.world.now
        self.running.clear()
        self.outputs.clear()
        self.world.at(self.world.rng.uniform(0, 3), self.broker.close)

    def pause(self, seconds: float, frozen: bool) -> None:
        """SIGSTOP, of the agent alone or of all. Long enough, and the broker gives up on it."""
        self.paused, self.frozen = True, frozen
        if seconds > 5:
            self.world.at(4.0, self.broker.lose_connection)
            self.world.at(seconds + 0.3, self.broker.connect_again)
        self.world.at(seconds, self.resume)

    def resume(self) -> None:
        """SIGCONT: everything that came meanwhile, at once."""
        if self.paused:
            self.paused = self.frozen = False
            waiting, self.backlog = self.backlog, []
            for event in waiting:
                self.feed(event)
            self.feed(a.Ticked())

    def _tick(self, due: float) -> None:
        if due == self._tick_at:
            self._tick_at = float("inf")
            self.feed(a.Ticked())

    def _from_broker(self, event: object) -> None:
        """In order, as from one connection."""
        world = self.world
        self._fifo = max(self._fifo, world.now + world.delay())
        world.at(self._fifo - world.now, self.feed, event)

    # Commands.

    def _claim(self, command: a.Claim) -> None:
        token, request = command.request.token, command.request
        self.world.call(
            lambda: self.world.claim(request),
            lambda answer: self.feed(a.ClaimAnswered(token=token, answer=answer)),
            lambda: self.feed(a.ClaimAnswered(token=token, answer=None)),
        )

    def _report(self, command: a.Report) -> None:
        token, report = command.report.attempt.token, command.report
        self.world.call(
            lambda: self.world.report(report),
            lambda answer: self.feed(a.ReportAnswered(token=token, answer=answer)),
            lambda: self.feed(a.ReportAnswered(token=token, answer=None)),
        )

    def _beat(self, command: a.SendBeat) -> None:
        beat = command.beat
        self.world.call(
            lambda: self.world.claims.beat(beat),
            lambda reply: self.feed(a.BeatAnswered(seq=beat.seq, reply=reply)),
            lambda: self.feed(a.BeatAnswered(seq=beat.seq, reply=None)),
        )

    def _settle(self, command: a.Ack | a.GiveBack) -> None:
        if isinstance(command, a.Ack):
            found = self.broker._unsettled.get(command.delivery)
            if found is not None:
                self.world.oracle.acked(self.boot, found[1])
            self.broker.ack(command.delivery)
        else:
            self.world.faults_seen["given back"] += 1
            self.broker.give_back(command.delivery)

    def _set_credit(self, command: a.SetCredit) -> None:
        self.broker.set_credit(command.kind, command.credit)

    def _drop(self, command: DropJob) -> None:
        self.outputs = {key: d for key, d in self.outputs.items() if key[0] != command.job}
        self._serving()

    def _drop_maps(self, command: DropMaps) -> None:
        job, stage = command.job, command.stage
        self.outputs = {key: d for key, d in self.outputs.items() if key[0] != job or key[1] > stage}
        self._serving()

    def look(self) -> None:
        """At the disk, as `worker.runtime` does."""
        world, before = self.world, self.room.full
        quota, free = world.plan.quota[self.number], 0 if self.number in world.filled else DISK_BYTES
        used = len(self.outputs) * OUTPUT_BYTES
        self.room = judge(used, quota * OUTPUT_BYTES, free, was_full=before)
        if before:
            self.full_at = world.now
        if self.room.full is not before:
            world.faults_seen["disk filled" if self.room.full else "room again"] += 1
            world.note("disk", self.worker, self.boot, self.room.full)
            self.feed(a.DiskChanged(full=self.room.full))
            self.feed(a.AboutChanged(about={"full": self.room.note or ""}))

    def _serving(self) -> None:
        """What is kept here has changed: is there room, and are there outputs that others may need?"""
        if self.world.plan.quota[self.number]:
            self.world.at(LOOK_S, self.look)
        if not self.world.plan.embedded and bool(self.outputs) is not self.serving:
            self.serving = bool(self.outputs)
            self.world.at(0.0, self.feed, a.ServingChanged(serving=self.serving))

    def _leave(self, command: a.Leave) -> None:
        world, worker, boot = self.world, self.worker, self.boot
        world.call(lambda: (None, world.claims.leave(worker, boot)), lambda _: None, lambda: None)
        self.world.note("leaves", worker, boot)
        self.die()
        self.broker.close()
        world.at(world.rng.uniform(0.5, 10), world.boot, self.number)

    def _start(self, command: a.Start) -> None:
        world, message = self.world, command.message
        job = world.jobs[message.task.job]
        if not world.plan.fits(job.spec, self.number):
            raise Broken(f"{self.worker} runs {message.task.job}, which it has no room for")
        beside = [each.message for each in self.running.values()]
        if beside and (message.alone or any(each.alone for each in beside)):
            raise Broken(f"{self.worker} runs {message} beside {beside}, and one of them is to run alone")
        fate = world.fate(job, message)
        seconds = job.seconds * self.slowness * world.rng.uniform(0.5, 1.5)
        if (Kind.MAP, job.long) == message.task[2:] and job.is_first(message.task):
            seconds = LONG_S
        if fate is not Status.DONE:
            seconds *= world.rng.random()
        made = Running(message, command.attempt, seconds, fate)
        made.stage, made.plan = self._plan(message)
        self.running[command.attempt.token] = made
        if made.plan != message.plan:
            world.faults_seen["no plan"] += 1
            if world.oracle.is_wanted(message):
                raise Broken(f"{message} is handed out, and its plan isn't in the store")
            world.at(0.0, self._end, made, Outcome(status=Status.LOST, started=False))
            return
        world.at(world.rng.uniform(0, 0.05), self._begin, made)

    def _plan(self, message: TaskMessage) -> tuple[StageSpec | None, int]:
        """As a worker's `JobFiles`: the store is asked once more where another plan is known. The stage with
        its plan, and that one's checksum; None and 0 where it isn't known."""
        task, jobs = message.task, self.world.claims.jobs
        spec = self.world.jobs[task.job].spec
        if spec.stage(task.stage).plan is not None:
            return spec.stage(task.stage), 0
        known = self.plans.get((task.job, task.stage))
        if (known is None or known.plan is None or known.plan.checksum != message.plan) and task.job in jobs:
            known = planned(spec, task.stage, jobs[task.job]["records"].get).stage(task.stage)
            self.plans[task.job, task.stage] = known
        return (None, 0) if known is None or known.plan is None else (known, known.plan.checksum)

    def _kill(self, command: Kill) -> None:
        made = self.running.get(command.token)
        if made is None:
            return  # it ended while the agent was paused: that waits in the backlog
        if made.behind and not made.began:
            self.world.faults_seen["taken back"] += 1
            self._end(made, Outcome(status=Status.SUPERSEDED, started=False))
            return
        status = self.world.rng.choice((Status.SUPERSEDED, Status.LOST))
        self.world.at(self.world.rng.uniform(0, 0.2), self._end, made, Outcome(status=status))

    # Executors.

    def _later(self, step: Callable[..., None], *args: Any) -> bool:
        """A frozen executor goes on when it is resumed."""
        if self.alive and self.frozen:
            self.world.at(0.5, step, *args)
            return True
        return not self.alive

    def _begin(self, made: Running) -> None:
        if made.over or self._later(self._begin, made):
            return
        kind, slots = made.message.task.kind, self.world.plan.slots
        others = [each for each in self.running.values() if each.message.task.kind is kind]
        busy = sum(each.began for each in others)
        made.behind = busy >= (slots.map if kind is Kind.MAP else slots.reduce)
        if made.behind or any(not each.began for each in others[: others.index(made)]):  # in their order
            made.waits += 0.0 if self.paused else 0.02
            if made.waits > BEHIND_S_MAX:
                raise Broken(f"{made.attempt} waits behind others for {made.waits:.1f} s")
            self.world.at(0.02, self._begin, made)
            return
        made.began = True
        self.feed(a.AttemptStarted(token=made.attempt.token))
        if made.message.task.kind is Kind.MAP or made.fate is not Status.DONE:
            self.world.at(made.seconds, self._finish, made)
        else:
            self._shuffle(made)

    def _shuffle(self, made: Running) -> None:
        """Follow the locations and fetch what is there; go on when every map's output is."""
        if made.over or self._later(self._shuffle, made):
            return
        job, world = made.message.task.job, self.world
        if made.incarnation != world.claims.incarnation:  # begin again: it is another list
            made.incarnation, made.position = world.claims.incarnation, 0
            made.known.clear()
        made.position, entries = world.claims.locations(job, made.position)
        task = made.message.task
        for location, withdrawn in entries:
            if location.attempt.task.stage != task.stage:
                continue
            if withdrawn:
                made.known.pop(location.map_index, None)
            else:
                made.known[location.map_index] = location
        for index in sorted(made.known):
            if index in made.consumed:
                continue
            found = world.fetch(self, job, made.known[index])
            if isinstance(found, str):
                ticket = made.known[index].attempt.ticket
                failure = FetchFailure(map_index=index, ticket=ticket, reason=found)
                world.oracle.fetches[job, task.stage, index] += 1
                outcome = Outcome(status=Status.FETCH_FAILED, fetch_failures=(failure,))
                world.at(0.05, self._end, made, outcome)
                return
            made.consumed[index] = found
        assert made.stage is not None
        if len(made.consumed) == len(made.stage.splits):
            failures = self._cannot_sort(made)
            if failures:
                outcome = Outcome(status=Status.FETCH_FAILED, fetch_failures=failures)
                world.at(made.seconds / 2, self._end, made, outcome)
                return
            world.at(made.seconds, self._finish, made)
        else:
            world.at(0.4, self._shuffle, made)

    def _cannot_sort(self, made: Running) -> tuple[FetchFailure, ...]:
        """Of maps that weren't careful. Once one is found, values that are alone with their key count too."""
        task, world = made.attempt.task, self.world
        job = world.jobs[task.job]
        if not job.is_first(task):
            return ()
        found = [i for i in job.unordered if made.consumed[i] == mix(i + 1 + made.plan)]
        if not found or (task.index and not made.message.strict_order):
            return ()
        for index in found:
            world.oracle.fetches[task.job, task.stage, index] += 1
        world.faults_seen["unordered"] += 1
        return tuple(
            FetchFailure(
                map_index=i,
                ticket=made.known[i].attempt.ticket if i in made.known else 0,
                reason="unordered",
            )
            for i in found
        )

    def _finish(self, made: Running) -> None:
        if made.over or self._later(self._finish, made):
            return
        task = made.attempt.task
        job = self.world.jobs[task.job]
        if job.deadly == (task.kind, task.index) and job.is_first(task):
            self.world.taken_down(self, made.message)
            return
        if made.fate is Status.DONE:
            read = self._read(made)
            if read is None:
                self.world.faults_seen["part lost"] += 1
                self._end(made, Outcome(status=Status.PART_LOST))
                return
            self._end(made, Outcome(status=Status.DONE, result=self._result(made, read)))
            return
        offset = self.world.rng.randrange(3)
        error = ErrorReport(type="ValueError", message="simulated", path="in", offset=offset)
        self._end(made, Outcome(status=made.fate, error=error))

    def _read(self, made: Running) -> tuple[int, ...] | None:
        """Of the parts of the stage before that a map reads: what is in them. None where one is gone, or can
        be seen to be damaged; what is another's in its place can't."""
        task, stage = made.attempt.task, made.stage
        if task.kind is not Kind.MAP or stage is None or not stage.reads_parts:
            return ()
        pieces = stage.splits[task.index].pieces
        found = [self.world.disk.files.get(piece.open, -1) for piece in pieces]
        return None if -1 in found else tuple(found)

    def _result(self, made: Running, read: tuple[int, ...]) -> TaskResult:
        world, attempt, task, stage = self.world, made.attempt, made.attempt.task, made.stage
        assert stage is not None
        several = world.jobs[task.job].spec.several
        counters = {f"stage {stage.number}": 1} if several and task.kind is Kind.MAP else {}
        world.oracle.done(attempt)
        shares = [1 + i % 3 for i in range(len(stage.splits))]  # records of each map for each reduce
        if stage.purpose is Purpose.SAMPLE:
            sample = b"%d" % task.index
            if world.rng.random() < world.jobs[task.job].nondeterministic:
                sample += b" %d" % len(world.oracle.finished)
            world.oracle.samples[attempt.token] = sample
            return TaskResult(
                records_in=5,
                bytes_in=9,
                records_out=5,
                bytes_out=9,
                counters={"sampled": 1},
                sample=sample,
                seconds=made.seconds,
            )
        unordered = world.jobs[task.job].unordered if world.jobs[task.job].is_first(task) else ()
        if task.kind is Kind.MAP and stage.reducers:
            digest = mix(task.index + 1 + made.plan + sum(read))
            if made.message.careful and task.index in unordered:
                digest = mix(-task.index - 1 & MASK)
            if world.rng.random() < world.jobs[task.job].nondeterministic:
                digest = mix(digest + len(world.oracle.finished))
            self.outputs[task.job, task.stage, task.index, attempt.token] = digest
            world.oracle.made_by[task.job, task.stage, task.index, digest] = made.plan, read
            self._serving()
            emitted = shares[task.index] * stage.reducers
            return TaskResult(
                records_in=5,
                bytes_in=10,
                records_out=emitted,
                bytes_out=100,
                digest=digest,
                seconds=made.seconds,
                counters=counters,
                crcs=read,
            )
        name = f"{task.job}/{staged_folder(attempt)}"
        world.oracle.staged[name] = Staged(attempt, dict(made.consumed), read)
        content = mix(task.index + 1 + sum(made.consumed.values()) + sum(read)) >> 32
        if several and world.rng.random() < world.jobs[task.job].nondeterministic:
            content = mix(content + len(world.oracle.finished)) >> 32
        world.disk.files[name] = content
        file = StagedFile(name=name, final=f"part-{task.index}", records=1, bytes=1, crc32=content)
        total = sum(consumed_by(index, digest) for index, digest in made.consumed.items())
        return TaskResult(
            records_in=sum(shares) if task.kind is Kind.REDUCE else 5,
            bytes_in=10,
            records_out=1,
            bytes_out=1,
            digest=total & (1 << 64) - 1,
            files=(file,),
            seconds=made.seconds,
            counters=counters,
            crcs=read,
        )

    def _end(self, made: Running, outcome: Outcome) -> None:
        if made.over or self._later(self._end, made, outcome):
            return
        made.over = True
        self.world.oracle.ended[made.attempt.task, outcome.status] += 1
        self.running.pop(made.attempt.token, None)
        self.feed(a.AttemptEnded(token=made.attempt.token, outcome=outcome))


_DO: dict[type, Callable[[Host, Any], None]] = {
    a.Claim: Host._claim,
    a.Report: Host._report,
    a.SendBeat: Host._beat,
    a.Ack: Host._settle,
    a.GiveBack: Host._settle,
    a.SetCredit: Host._set_credit,
    DropJob: Host._drop,
    DropMaps: Host._drop_maps,
    a.Leave: Host._leave,
    a.Start: Host._start,
    Kill: Host._kill,
}
