"""The leader's loop in virtual time: decide, persist under the fence, publish; crash and come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim_checks import Broken

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.claims import Claims
from mrq.core.exchange import Batch, Fence, Write, WriteAnswer
from mrq.core.machine import Machine
from mrq.core.model import JobSpec, JobState
from mrq.core.orders import DropJob
from mrq.core.refs import Kind, TaskRef

if TYPE_CHECKING:
    from sim_world import World

#: How often a leader looks for claims and reports whose wake-up was lost.
SWEEP_S = 5.0


class Leader:
    """One after the other: a successor begins where the store says that the last one was."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.machine = Machine(world.plan.config)
        self.epoch = 1
        self.fences: dict[str, Fence] = {}
        self.up = True
        self._tick_at = float("inf")
        self._checkpoint: bytes | None = None  #: while a crash is near: what the store's state amounts to
        self._crash_in = 0
        self._waiting: list[JobSpec] = []
        self._journal: list[e.AttemptReported] = []  #: accepted completions, as the embedded master keeps
        world.at(SWEEP_S, self._sweep)

    def submit(self, spec: JobSpec) -> None:
        """A job arrives; it waits while no leader is there."""
        if not self.up or not self.world.claims.ready:
            if not self._waiting:
                self.world.at(0.5, self._submit_waiting)
            self._waiting.append(spec)
            return
        fence = Fence(incarnation=1, epoch=self.epoch, owner=f"o{self.epoch}", seq=0)
        if self.world.claims.begin(spec.job, fence) is not WriteAnswer.WRITTEN:
            raise Broken(f"{spec.job} couldn't begin")
        self.fences[spec.job] = fence
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
        if self._crash_in and self._checkpoint is None:
            self._checkpoint = self.machine.save()
        made = self.machine.handle(event, world.now)  # type: ignore[arg-type]
        world.traced(type(event).__name__, made)
        if self._crash_in and self._crash(made):
            return
        world.oracle.decided(event, made)
        if isinstance(event, e.AttemptReported):
            self._note(event, made)
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
        """On a cluster the store is the checkpoint, so it is as old as the last batch that was persisted.

        Events after it are forgotten, a batch that was decided and not persisted as well; or it was
        persisted, and nothing of it was published. Embedded, the checkpoint may be older than that.
        """
        world = self.world
        embedded = world.plan.config.embedded
        self._crash_in -= 1
        writes = any(isinstance(x, (c.WriteTask, c.WriteJob, c.WriteLocation)) for x in made)
        if self._crash_in and (embedded or not writes):
            return False
        saved, self._checkpoint, self._crash_in = self._checkpoint, None, 0
        assert saved is not None
        if embedded and world.oracle.over:
            return False  # a job that is done isn't taken up again
        if writes and not embedded and world.rng.random() < 0.5:
            world.oracle.decided(None, [x for x in made if not isinstance(x, c.StartCommit)])
            self._persist(made)
            saved = self.machine.save()
        if embedded:
            world.oracle.committed.clear()  # CommitFinished wasn't heard: no manifest was written
        self.up = False
        self._tick_at = float("inf")
        world.faults_seen["master restart"] += 1
        world.note("master dies")
        world.at(world.rng.choice((0.5, 3.0, 12.0)), self._come_back, saved)
        return True

    def _come_back(self, saved: bytes) -> None:
        world = self.world
        if not world.claims.ready:
            world.at(0.5, self._come_back, saved)
            return
        self.machine = Machine.load(saved, world.now, world.plan.config)
        self.up = True
        self.epoch += 1
        world.note("master is back", self.epoch)
        if world.plan.config.embedded:
            self._recover()
        else:
            for job in self.fences:
                fence = Fence(incarnation=1, epoch=self.epoch, owner=f"o{self.epoch}", seq=0)
                if world.claims.begin(job, fence) is not WriteAnswer.WRITTEN:
                    raise Broken(f"{job} couldn't be taken over")
                self.fences[job] = fence
            self.receive(e.Restored(embedded=False, incarnation=self.epoch))
            for job in self.fences:
                if self.machine.job(job) is None:  # begun, and its submission wasn't persisted
                    self.receive(e.JobSubmitted(spec=world.jobs[job].spec))
            self._replay()

    def _submit_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for spec in waiting:
            self.submit(spec)

    def _recover(self) -> None:
        """Embedded, everything else died with the master: only files and the journal are left."""
        world = self.world
        outputs: dict[tuple[str, int, str], int] = {}
        for host in world.hosts:
            outputs.update(host.outputs)
            host.die()
        for queue in world.queues.ready.values():
            queue.clear()
        world.claims = Claims(store_id=f"sim-{self.epoch}")
        world.oracle.begin_again()
        for job in self.fences:
            self.fences[job] = Fence(incarnation=1, epoch=self.epoch, owner=f"o{self.epoch}", seq=0)
            world.claims.begin(job, self.fences[job])
        world.hosts = []
        world.boot(0)
        host = world.hosts[0]
        host.outputs.update(outputs)
        self.receive(e.Restored(embedded=True, incarnation=self.epoch))
        for job in self.fences:
            self.receive(e.JobSubmitted(spec=world.jobs[job].spec))  # where the checkpoint was older
        intact = self._intact(outputs)
        for job in self.fences:
            for attempt, _ in list(self.machine.completed(job)):
                done = intact.get(attempt.task)
                if done is None or done.attempt != attempt:
                    self.receive(e.OutputMissing(attempt=attempt))
        for done in intact.values():
            assert done.outcome.result is not None
            self.receive(
                e.OutputRecovered(
                    attempt=done.attempt, worker=host.worker, boot=host.boot, result=done.outcome.result
                )
            )

    def _intact(self, outputs: dict[tuple[str, int, str], int]) -> dict[TaskRef, e.AttemptReported]:
        """The journal's latest line of each task whose files are whole; now and then one isn't."""
        found = {done.attempt.task: done for done in self._journal}
        kept = {}
        for task, done in found.items():
            shuffled = task.kind is Kind.MAP and self.world.jobs[task.job].spec.reducers
            there = not shuffled or (task.job, task.index, done.attempt.token) in outputs
            if there and self.world.rng.random() > self.world.faults.fetch:
                kept[task] = done
        return kept

    def _note(self, event: e.AttemptReported, made: list[c.Command]) -> None:
        for command in made:
            if isinstance(command, c.WriteTask) and command.winner == event.attempt:
                self._journal.append(event)

    def _perform(self, made: list[c.Command]) -> None:
        self._persist(made)
        for command in made:
            if isinstance(command, c.PublishTask):
                self.world.publish(command.message)
            elif isinstance(command, c.StartCommit):
                seconds = self.world.rng.uniform(0.01, 1.0)
                self.world.at(seconds, self.receive, e.CommitFinished(job=command.job))

    def _persist(self, made: list[c.Command]) -> None:
        """One batch a job; an answer that was lost is asked for again, with the same frozen batch."""
        writes: dict[str, list[Write]] = {}
        orders: dict[str, list[c.GiveOrder]] = {}
        for x in made:
            if isinstance(x, (c.WriteJob, c.WriteTask, c.WriteLocation)):
                writes.setdefault(x.job, []).append(x)
            elif isinstance(x, c.WriteWorker):
                if self.fences:
                    writes.setdefault(next(iter(self.fences)), []).append(x)
            elif isinstance(x, c.GiveOrder) and x.job:
                orders.setdefault(x.job, []).append(x)
            elif isinstance(x, c.GiveAll):
                assert isinstance(x.order, DropJob)
                drops = [
                    c.GiveOrder(worker=worker, boot=boot, order=x.order)
                    for worker, boot in self.machine.boots()
                ]
                orders.setdefault(x.order.job, []).extend(drops)
        for job in {**writes, **orders}:
            fence = self.fences[job]
            fence = Fence(incarnation=1, epoch=fence.epoch, owner=fence.owner, seq=fence.seq + 1)
            batch = Batch(
                job=job, fence=fence, writes=tuple(writes.get(job, ())), orders=tuple(orders.get(job, ()))
            )
            answer = self.world.claims.write(batch)
            if self.world.rng.random() < self.world.faults.lost_reply:
                answer = self.world.claims.write(batch)
                if answer is not WriteAnswer.ALREADY:
                    raise Broken(f"a batch sent again was {answer}")
            elif answer is not WriteAnswer.WRITTEN:
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
