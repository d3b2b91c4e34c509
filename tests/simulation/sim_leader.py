"""The embedded engine's leader in virtual time: decide, write and log, publish; killed, and gone on with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim_checks import Broken

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.claims import Claims
from mrq.core.machine import Machine
from mrq.core.model import JobSpec, JobState, TaskMessage, TaskResult
from mrq.core.orders import DropJob, DropMaps
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_api import Batch, Fence, StoredJob, Write, WriteAnswer
from mrq.servers.memory.log import frame, replay

if TYPE_CHECKING:
    from sim_host import Host
    from sim_world import World


def run_of(spec: JobSpec, number: int) -> tuple[int, int]:
    """How often a job had begun again when a run of that number began, and which stage it is of, by place."""
    place = spec.index_of(number)
    return (number - spec.stages[place].number) // len(spec.stages), place


#: How often a leader looks for claims and reports whose wake-up was lost.
SWEEP_S = 5.0


class Leader:
    """One after the other: a successor begins where the log of its job says that the last one was."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.machine = Machine(world.plan.config)
        self.epoch = 1
        self.fences: dict[str, Fence] = {}
        self.up = True
        self._tick_at = float("inf")
        self._crash_in = 0
        self._waiting: list[JobSpec] = []
        self._logs: dict[str, bytearray] = {}
        self._kept: dict[str, int] = {}  #: of each log, what no power cut takes any more
        self._sure: set[TaskRef] = set()  #: what was complete when a leader died, and its log wasn't cut
        world.at(SWEEP_S, self._sweep)

    def submit(self, spec: JobSpec) -> None:
        """A job arrives; it waits while no leader is there."""
        if not self.up or not self.world.claims.ready:
            if not self._waiting:
                self.world.at(0.5, self._submit_waiting)
            self._waiting.append(spec)
            return
        self._logs[spec.job] = bytearray()
        self._begin(spec.job)
        self.receive(e.JobSubmitted(spec=spec))

    def receive_all(self, events: tuple[object, ...]) -> None:
        """What belongs together."""
        for event in events:
            self.receive(event)

    def receive(self, event: object) -> None:
        """Something happened; nobody hears it while no leader is there."""
        if not self.up:
            return
        world = self.world
        if not world.claims.ready:  # the batch under way can't be written: everything waits
            world.at(0.5, self.receive, event)
            return
        world.events += 1
        if self._crash_in and not self._kept:
            self._kept = {job: len(log) for job, log in self._logs.items()}
        made = self.machine.handle(event, world.now)  # type: ignore[arg-type]
        world.traced(type(event).__name__, made)
        if self._crash_in and self._crash(made):
            return
        world.oracle.decided(event, made)
        self._perform(made)
        due = self.machine.next_tick(world.now)
        if due < self._tick_at:
            self._tick_at = due
            world.at(max(due - world.now, 0.001), self._tick, due)

    def crash_soon(self) -> None:
        """Some events from now, the leader is gone."""
        if self.up and not self._crash_in:
            self._crash_in = self.world.rng.randint(1, 12)

    def _tick(self, due: float) -> None:
        if due == self._tick_at:
            self._tick_at = float("inf")
            self.receive(e.Ticked())

    def _crash(self, made: list[c.Command]) -> bool:
        """The engine dies: what was decided isn't logged, or it is and nothing of it was published. Where the
        power went as well, the log ends anywhere between where it did some events ago and now, torn."""
        world, rng = self.world, self.world.rng
        self._crash_in -= 1
        if self._crash_in:
            return False
        kept, self._kept = self._kept, {}
        if world.oracle.over:
            return False  # a job that is done isn't taken up again
        lost = rng.random()
        if lost < 0.25:
            world.oracle.decided(None, [x for x in made if not isinstance(x, c.StartCommit)])
            self._persist(made)
        elif lost < 0.75:
            for job, log in self._logs.items():
                del log[rng.randint(kept.get(job, 0), len(log)) :]
            world.disk.lost.update(list(self._logs))  # the disk may be ahead of what the log says
        rows = world.oracle.rows.items() if not 0.25 <= lost < 0.75 else ()
        self._sure = {task for task, row in rows if row.winner is not None}
        world.oracle.committed.clear()  # CommitEnded wasn't heard: no manifest was written
        self.up = False
        self._tick_at = float("inf")
        world.faults_seen["master restart"] += 1
        world.note("master dies")
        world.at(rng.choice((0.5, 3.0, 12.0)), self._come_back)
        return True

    def _come_back(self) -> None:
        """Everything else died with the master: only files and logs are left."""
        world = self.world
        if not world.claims.ready:
            world.at(0.5, self._come_back)
            return
        self.machine = Machine(world.plan.config)
        self.up = True
        self.epoch += 1
        world.note("master is back", self.epoch)
        outputs: dict[tuple[str, int, int, str], int] = {}
        for host in world.hosts:
            outputs.update(host.outputs)
            host.die()
        for queue in world.queues.ready.values():
            queue.clear()
        world.claims = Claims(store_id=f"sim-{self.epoch}")
        world.oracle.begin_again()
        world.oracle.beginnings_max += 4
        world.hosts = []
        world.boot(0)
        host = world.hosts[0]
        host.outputs.update(outputs)
        for job in self.fences:
            self._reopen(job, host)

    def _reopen(self, job: str, host: Host) -> None:
        spec, log = self.world.jobs[job].spec, self._logs[job]
        stored, end = replay(bytes(log), spec)
        del log[end:]
        self._begin(job, (stored.fence.epoch if stored is not None else 0) + 1)
        if stored is None:
            self.receive(e.JobSubmitted(spec=spec))
            return
        missing = self._missing(stored, host)
        done = {won.task for won, _ in self._completed(stored)}
        machine = Machine(self.world.plan.config)
        machine.adopt(stored, self.world.now)
        at = machine._state.jobs[job]
        ahead = {
            task for task in self._sure if task.job == job and run_of(spec, task.stage) >= (at.again, at.at)
        }
        if forgotten := ahead - done:
            raise Broken(f"{forgotten} were complete, and the log doesn't know")
        self.receive(e.JobReopened(stored=stored, worker=host.worker, boot=host.boot))
        if lost := done - {won.task for won, _ in self.machine.completed(job)}:
            raise Broken(f"{lost} are complete by the log, and done again by a restart alone")
        for each in missing:
            self.receive(each)
        self.receive(e.RetryRequested(job=job))

    def _missing(self, stored: StoredJob, host: Host) -> list[e.OutputMissing]:
        """What is complete by the log, and not on the disk; now and then a file is damaged."""
        found = []
        machine = Machine(self.world.plan.config)
        machine.adopt(stored, self.world.now)
        stage = machine.stage(stored.spec.job)
        assert stage is not None
        for won, result in self._completed(stored):
            task = won.task
            if task.kind is Kind.MAP and stage.reducers:
                there = (task.job, task.stage, task.index, won.token) in host.outputs
            else:
                there = all(self.world.disk.has(task.job, task.stage, file) for file in result.files)
            if not there or self.world.rng.random() <= self.world.faults.fetch:
                found.append(e.OutputMissing(attempt=won))
        return found

    def _completed(self, stored: StoredJob) -> list[tuple[AttemptRef, TaskResult]]:
        machine = Machine(self.world.plan.config)
        machine.adopt(stored, self.world.now)
        return list(machine.completed(stored.spec.job))

    def _begin(self, job: str, epoch: int = 1) -> None:
        fence = Fence(incarnation=1, epoch=epoch, owner=f"o{self.epoch}", seq=0)
        if self.world.claims.begin(job, fence) is not WriteAnswer.WRITTEN:
            raise Broken(f"{job} couldn't begin")
        self.fences[job] = fence

    def _submit_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for spec in waiting:
            self.submit(spec)

    def _perform(self, made: list[c.Command]) -> None:
        self._persist(made)
        messages: dict[int, list[TaskMessage]] = {}
        for command in made:
            if isinstance(command, c.PublishTask):
                number = command.together or -len(messages) - 1
                messages.setdefault(number, []).append(command.message)
            elif isinstance(command, c.PlanStage):
                seconds = self.world.rng.choice((0.0, 0.01, 1.0))
                self.world.at(seconds, self._plan, command, self.machine)
            elif isinstance(command, c.StartCommit):
                seconds = self.world.rng.uniform(0.01, 1.0)
                self.world.at(seconds, self.receive, e.CommitEnded(job=command.job))
        for tasks in messages.values():
            self.world.publish(tasks)

    def _plan(self, command: c.PlanStage, machine: Machine) -> None:
        if self.up and machine is self.machine:  # else it died with its leader
            spec = self.world.jobs[command.job].spec
            self.receive(self.world.disk.planned(spec, command))

    def _persist(self, made: list[c.Command]) -> None:
        """One batch a job, logged and then applied; an answer that was lost is asked for again, with the same
        frozen batch."""
        writes: dict[str, list[Write | c.WritePlan]] = {}
        orders: dict[str, list[c.GiveOrder]] = {}
        for x in made:
            if isinstance(x, (c.WriteJob, c.WritePlan, c.WriteTask, c.WriteLocation)):
                writes.setdefault(x.job, []).append(x)
            elif isinstance(x, c.WriteWorker):
                if self.fences:
                    writes.setdefault(next(iter(self.fences)), []).append(x)
            elif isinstance(x, c.GiveOrder) and x.job:
                orders.setdefault(x.job, []).append(x)
            elif isinstance(x, c.GiveAll):
                assert isinstance(x.order, (DropJob, DropMaps))
                drops = [
                    c.GiveOrder(worker=worker, boot=boot, order=x.order)
                    for worker, boot in self.machine.boots()
                ]
                orders.setdefault(x.order.job, []).extend(drops)
        for job in {**writes, **orders}:
            self._write(job, tuple(writes.get(job, ())), tuple(orders.get(job, ())))

    def _write(
        self, job: str, writes: tuple[Write | c.WritePlan, ...], orders: tuple[c.GiveOrder, ...]
    ) -> None:
        fence = self.fences[job]
        fence = Fence(incarnation=1, epoch=fence.epoch, owner=fence.owner, seq=fence.seq + 1)
        batch = Batch(
            job=job,
            fence=fence,
            writes=tuple(x for x in writes if not isinstance(x, c.WritePlan)),
            orders=orders,
            records=tuple(self.machine.records(writes).items()),
            job_record=self.machine.job_record(job),
        )
        again = self.world.rng.random() < self.world.faults.lost_reply
        for _ in range(2 if again else 1):
            self._logs[job] += frame(batch)
            answer = self.world.claims.write(batch)
        if answer is not (WriteAnswer.ALREADY if again else WriteAnswer.WRITTEN):
            raise Broken(f"batch {fence} was {answer}")
        self.fences[job] = fence

    def _sweep(self) -> None:
        """The store is the truth: what was recorded and not heard of is heard now."""
        self.world.at(SWEEP_S, self._sweep)
        if self.up:
            self._replay()

    def _replay(self) -> None:
        for job in self.fences:
            if self.world.oracle.jobs.get(job) in (JobState.PENDING, JobState.RUNNING):
                for event in self.world.claims.recorded(job):
                    self.receive(event)
