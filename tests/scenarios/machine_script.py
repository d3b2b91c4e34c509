"""A readable way to write event scripts for `core.machine`: a tiny cluster without any I/O.

`Script` keeps virtual time, lets its workers beat every second and ticks when the machine asks for it.
It follows the commands: what was published or offered can be claimed, what is killed is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.digest import MASK, consumed
from mrq.core.info import JobInfo, TaskInfo
from mrq.core.machine import Machine, MachineConfig
from mrq.core.model import (
    FOLLOWS,
    Beat,
    ErrorReport,
    FetchFailure,
    JobSpec,
    JobState,
    Outcome,
    Piece,
    Purpose,
    Role,
    RunningAttempt,
    Slots,
    Split,
    StagedFile,
    StagePlan,
    StageSpec,
    Status,
    TaskMessage,
    TaskResult,
    TaskState,
)
from mrq.core.orders import DropJob, Kill, Offer
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_rows import parse_task, task_key


def spec(
    job: str = "j",
    *,
    maps: int = 2,
    reducers: int = 1,
    sampled: int = 0,
    then: tuple[int, ...] = (),
    **more: Any,
) -> JobSpec:
    """A job of so many maps and reduces, and of so many maps before that sample its keys; or of several
    stages, where `then` says R of those that follow."""
    base: dict[str, Any] = {
        "name": "J",
        "code": "c",
        "entry": "m:J",
        "parameters": {},
        "inputs": (),
        "max_failures": 4,
    }
    stages: tuple[StageSpec, ...] = (StageSpec(splits=splits(maps), reducers=reducers),)
    if sampled:
        sample = StageSpec(splits=splits(sampled), reducers=0, purpose=Purpose.SAMPLE, number=1)
        stages = (sample, replace(stages[0], plan=None))
    if then:
        later = enumerate(then, 2)
        stages = tuple(replace(stage, number=1) for stage in stages)
        stages += tuple(StageSpec(splits=(), reducers=r, number=n, plan=None, place=n - 1) for n, r in later)
    return JobSpec(job=job, stages=stages, **{**base, **more})


def parts_read(spec: JobSpec, asked: c.PlanStage) -> StagePlan:
    """What whoever keeps parts says of the stage that follows: a map for each."""
    reducers = spec.stage(asked.stage).reducers
    found = []
    for index, part in enumerate(asked.parts):
        path = f"stages/{asked.complete}/{part.final}"
        piece = Piece(
            path=path, open=path, start=0, length=part.bytes, size=part.bytes, mtime_ns=0, crc32=part.crc32
        )
        found.append(Split(index=index, pieces=(piece,)))
    return StagePlan(splits=tuple(found), reducers=len(found) if reducers == FOLLOWS else reducers)


def splits(n: int) -> tuple[Split, ...]:
    return tuple(Split(index=i, pieces=()) for i in range(n))


def parse(task: str) -> TaskRef:
    """`m0`, `m1.0` for one of stage 1, or `other/r3`."""
    job, _, short = task.rpartition("/")
    return parse_task(job or "j", short)


def named(task: TaskRef) -> str:
    """As `parse` reads it."""
    return f"{task.job}/{task_key(task)}"


@dataclass
class Worker:
    name: str
    boot: str
    slots: Slots
    seq: int = 0
    running: dict[str, RunningAttempt] = field(default_factory=dict)
    silent: bool = False
    draining: bool = False
    memory: int = 0  #: 0: it doesn't say
    packages: tuple[str, ...] = ()  #: none: it doesn't say
    full: str | None = None  #: why it takes no maps; "": it does; None: it doesn't say
    ended: tuple[str, ...] = ()  #: boots of workers that were over when it began


def _about(worker: Worker) -> dict[str, Any]:
    """What a worker says about itself, as far as the script has told it to."""
    about: dict[str, Any] = {"full": worker.full} if worker.full is not None else {}
    if worker.packages:
        about["packages"] = dict.fromkeys(worker.packages, "1")
    if worker.ended:
        about["ended"] = [[boot.partition("-")[0], boot] for boot in worker.ended]
    return about


@dataclass(frozen=True)
class Claim:
    """One attempt as the script holds it, to report later."""

    message: TaskMessage
    attempt: AttemptRef
    worker: str
    boot: str


class Offered(NamedTuple):
    """An offer as it reaches a worker."""

    worker: str
    boot: str
    message: TaskMessage


def message_of(command: c.Command) -> TaskMessage | None:
    """What a command publishes or offers."""
    if isinstance(command, c.PublishTask):
        return command.message
    if isinstance(command, c.GiveOrder) and isinstance(command.order, Offer):
        return command.order.message
    return None


def known(machine: Machine) -> list[object]:
    """All that a machine shows and stores."""
    found: list[object] = [machine.workers(whole=True)]
    for job in machine.jobs():
        found += [machine.job(job), machine.job_record(job)]
        for task in machine.tasks(job):
            ref = TaskRef.named(job, task.task)
            assert ref is not None
            found += [task, machine.record(ref)]
    return found


class Script:
    def __init__(self, config: MachineConfig | None = None, *, now: float = 100.0) -> None:
        self.machine = Machine(config or MachineConfig())
        self.now = now
        self.workers: dict[str, Worker] = {}
        self.out: list[c.Command] = []  #: of the latest step
        self.log: list[c.Command] = []
        self.messages: dict[tuple[TaskRef, Role], TaskMessage] = {}
        self.digests: dict[tuple[str, int, int], int] = {}
        self.numbers = 0

    # Events.

    def do(self, event: e.Event) -> list[c.Command]:
        out = self.machine.handle(event, self.now)
        self.out = out
        self.log.extend(out)
        for command in out:
            m = message_of(command)
            if m is not None:
                role = self.role(m)
                assert role is not None
                self.messages[m.task, role] = m
            elif isinstance(command, c.GiveOrder) and isinstance(command.order, Kill):
                worker = self.workers.get(command.worker)
                if worker is not None and worker.boot == command.boot:
                    worker.running.pop(command.order.token, None)
        return out

    def submit(self, job: str = "j", **more: Any) -> list[c.Command]:
        return self.do(e.JobSubmitted(spec=spec(job, **more)))

    def join(
        self, *names: str, maps: int = 2, reduces: int = 2, total: int | None = None, **more: Any
    ) -> None:
        for name in names:
            slots = Slots(map=maps, reduce=reduces, total=maps + reduces if total is None else total)
            self.workers[name] = Worker(name, f"{name}-boot1", slots, **more)
            self.beat(name)

    def reboot(self, name: str) -> None:
        worker = self.workers[name]
        worker.boot = worker.boot[:-1] + str(int(worker.boot[-1]) + 1)
        worker.seq, worker.running, worker.silent = 0, {}, False
        self.beat(name)

    def beat(self, name: str) -> list[c.Command]:
        worker = self.workers[name]
        worker.seq += 1
        return self.do(
            e.BeatReceived(
                beat=Beat(
                    worker=name,
                    boot=worker.boot,
                    seq=worker.seq,
                    slots=worker.slots,
                    running=tuple(worker.running.values()),
                    draining=worker.draining,
                    hints={"memory_bytes": worker.memory} if worker.memory else {},
                    about=_about(worker),
                )
            )
        )

    def advance(self, seconds: float) -> list[c.Command]:
        """Time passes: living workers beat every second, ticks come when they are wanted."""
        end, seen = self.now + seconds, []
        while self.now < end:
            step = min(end, self.now + 1.0)
            while self.machine.next_tick(self.now) <= step:
                self.now = max(self.now, self.machine.next_tick(self.now))
                seen += self.do(e.Ticked())
            self.now = step
            for worker in self.workers.values():
                if not worker.silent:
                    seen += self.beat(worker.name)
        self.out = seen
        return seen

    def claim(self, task: str, worker: str, role: Role = Role.PRIMARY, *, tell: bool = True) -> Claim:
        """The claim script gives the role to a worker; `tell=False` loses the event."""
        message = self.messages[parse(task), role]
        assert self.role(message) is role, f"{task} isn't handed out at present"
        self.numbers += 1
        boot = self.workers[worker].boot
        token = f"t{self.numbers}"
        attempt = AttemptRef(message.task, message.ticket, self.numbers, token)
        claim = Claim(message, attempt, worker, boot)
        self.workers[worker].running[token] = RunningAttempt(attempt=attempt, phase="mapping", records=1)
        if tell:
            self.tell(claim)
        return claim

    def role(self, message: TaskMessage) -> Role | None:
        """What a message's ticket is for, at present."""
        found = self.machine._state.in_flight(message.task)
        return found[2].role_of(message.ticket) if found is not None else None

    def tell(self, claim: Claim) -> list[c.Command]:
        return self.do(
            e.AttemptClaimed(
                attempt=claim.attempt,
                worker=claim.worker,
                boot=claim.boot,
            )
        )

    def report(self, claim: Claim, outcome: Outcome) -> list[c.Command]:
        if claim.worker in self.workers:
            self.workers[claim.worker].running.pop(claim.attempt.token, None)
        return self.do(
            e.AttemptReported(
                attempt=claim.attempt,
                worker=claim.worker,
                boot=claim.boot,
                outcome=outcome,
            )
        )

    def done(self, claim: Claim, **result: Any) -> list[c.Command]:
        """The attempt did its work; a reduce consumes what the maps' digests say."""
        return self.report(claim, Outcome(status=Status.DONE, result=self.result(claim, **result)))

    def result(self, claim: Claim, **result: Any) -> TaskResult:
        m = claim.message
        row: dict[str, Any] = {"records_in": 10, "bytes_in": 100, "records_out": 6, "bytes_out": 60}
        if m.task.kind is Kind.MAP:
            row["digest"] = 1000 + m.task.index
            self.digests[m.task.job, m.task.stage, m.task.index] = result.get("digest", row["digest"])
        else:
            own = [m.task.job, m.task.stage]
            row["digest"] = sum(consumed(i, d) for (*of, i), d in self.digests.items() if of == own) & MASK
            maps = self.machine.job(m.task.job).maps  # type: ignore[union-attr]
            reducers = self.machine.job(m.task.job).reduces.total  # type: ignore[union-attr]
            share, rest = divmod(maps.records_out, reducers)
            row["records_in"] = share + (rest if m.task.index == 0 else 0)
        if m.task.kind is Kind.REDUCE or self.machine.job(m.task.job).reduces.total == 0:  # type: ignore[union-attr]
            name = f"part-{m.task.index:05d}"
            staged = StagedFile(
                name=f"attempts/{claim.attempt.token}/{name}", final=name, records=6, bytes=60, crc32=1
            )
            row["files"] = (staged,)
        stage = self.machine.stage(m.task.job)
        if m.task.kind is Kind.MAP and stage is not None and stage.reads_parts:
            row["crcs"] = tuple(piece.crc32 for piece in stage.splits[m.task.index].pieces)
        return TaskResult(**{**row, **result})

    def fail(self, claim: Claim, status: Status = Status.FAILED, message: str = "", **more: Any) -> None:
        """The attempt ended otherwise; each message is a different error."""
        fetch = more.pop("fetch", ())
        started, disk = more.pop("started", True), more.pop("disk", False)
        kind = "killed by signal 9 (SIGKILL)" if status is Status.LOST and started else "ValueError"
        error = ErrorReport(type=more.pop("type", kind), message=message or claim.attempt.token, **more)
        failures = tuple(FetchFailure(map_index=i, ticket=g, reason=r) for i, g, r in fetch)
        self.report(
            claim,
            Outcome(status=status, error=error, fetch_failures=failures, started=started, disk=disk),
        )

    def run(self, *tasks: str, worker: str) -> None:
        """Claim and finish tasks."""
        for task in tasks:
            self.done(self.claim(task, worker))

    # What can be seen.

    def of(self, kind: type, where: list[c.Command] | None = None) -> list[Any]:
        return [x for x in (self.out if where is None else where) if isinstance(x, kind)]

    def published(self, where: list[c.Command] | None = None) -> list[str]:
        """Tasks in messages of the latest step, by short name."""
        return [task_key(x.message.task) for x in self.of(c.PublishTask, where)]

    def ordered(self, kind: type, where: list[c.Command] | None = None) -> list[Any]:
        """Orders of a kind to single workers."""
        return [x for x in self.of(c.GiveOrder, where) if isinstance(x.order, kind)]

    def dropped(self, where: list[c.Command] | None = None) -> list[str]:
        """Jobs whose files every worker is to delete."""
        return [x.order.job for x in self.of(c.GiveAll, where) if isinstance(x.order, DropJob)]

    def offered(self, where: list[c.Command] | None = None) -> list[Offered]:
        return [Offered(x.worker, x.boot, x.order.message) for x in self.ordered(Offer, where)]

    def killed(self, where: list[c.Command] | None = None) -> list[str]:
        return [x.order.token for x in self.ordered(Kill, where)]

    def view(self, job: str = "j") -> JobInfo:
        found = self.machine.job(job)
        assert found is not None
        return found

    def state(self, job: str = "j") -> JobState:
        return self.view(job).state

    def task(self, task: str) -> TaskInfo:
        of = parse(task)
        return next(t for t in self.machine.tasks(of.job) if t.task == str(of))

    def winner(self, task: str) -> AttemptRef | None:
        """The attempt whose result is taken, of a completed task."""
        of = parse(task)
        return {attempt.task: attempt for attempt, _ in self.machine.completed(of.job)}.get(of)

    def is_(self, task: str, state: TaskState) -> bool:
        return self.task(task).state is state

    def error(self, job: str = "j") -> str:
        return self.view(job).error or ""
