"""A cluster's masters in virtual time: production elections, machines and outboxes around one store.

At most one is let through by the fences; the others may be dead, paused beyond their lease, or wrong about
it. A successor goes on from what the store holds, never from what its predecessor knew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from sim_checks import Broken
from twins import MemoryLease

from mrq.core import commands as c
from mrq.core import election as el
from mrq.core import events as e
from mrq.core.backoff import Retry
from mrq.core.machine import Machine
from mrq.core.model import JobSpec, WorkerHealth
from mrq.core.refs import Kind
from mrq.core.store_api import Batch, Fence, StoredJob, WriteAnswer
from mrq.errors import OperatorError
from mrq.master.outbox import SEND_AGAIN, Fenced, LedJob, Lost, Outbox, Publish, Said, found_in

if TYPE_CHECKING:
    from sim_world import World

T = TypeVar("T")

#: How often a leader looks for claims and reports whose wake-up was lost.
SWEEP_S = 5.0
LOOP_S = 0.5
#: Of the simulated store: claims on outputs name it.
STORE_ID = "sim"
CALL_TIMEOUT_S = 2.0


class Died(Exception):
    """kill -9, in the middle of a step."""


class SimStore:
    """The leader's side of the store: requests and answers get lost; what was written is looked over."""

    def __init__(self, world: World) -> None:
        self.world = world

    def lead(self, fence: Fence) -> WriteAnswer:
        return self._call(lambda: self.world.claims.lead(fence))

    def begin(self, spec: JobSpec, code: bytes, fence: Fence) -> WriteAnswer:
        return self._call(lambda: self.world.claims.begin(spec.job, fence))

    def fence(self, job: str) -> Fence | None:
        return self._call(lambda: self.world.claims.fence(job))

    def load(self, spec: JobSpec) -> StoredJob | None:
        return self._call(lambda: self.world.claims.load(spec))

    def identity(self) -> tuple[str, int, bool]:
        claims = self.world.claims
        return self._call(lambda: (claims.store_id, claims.incarnation, claims.ready))

    def write(self, batch: Batch) -> WriteAnswer:
        def execute() -> WriteAnswer:
            answer = self.world.claims.write(batch)
            if answer is WriteAnswer.WRITTEN:
                self.world.oracle.accepted(batch)
            return answer

        return self._call(execute)

    def restore(self, stored: StoredJob, code: bytes) -> WriteAnswer:
        def execute() -> WriteAnswer:
            answer = self.world.claims.restore(stored)
            if answer is WriteAnswer.WRITTEN:
                self.world.oracle.restored(stored)
            return answer

        return self._call(execute)

    def open(self, incarnation: int, store_id: str) -> None:
        def execute() -> None:
            claims = self.world.claims
            claims.store_id = store_id
            claims.open(incarnation)
            self.world.oracle.damaged = False
            self.world.faults_seen["restored"] += 1
            self.world.note("store restored", incarnation)

        self._call(execute)

    def forget(self, job: str) -> None:
        """No job is forgotten here."""

    def close(self) -> None:
        """Nothing is held open."""

    def _call(self, script: Callable[[], T]) -> T:
        world = self.world
        if world.store_away or world.rng.random() < world.faults.lost_request:
            raise OperatorError("the store can't be reached")
        answer = script()
        if world.rng.random() < world.faults.lost_reply:
            world.faults_seen["lost reply to a leader"] += 1
            raise OperatorError("the answer was lost")
        return answer


class Masters:
    """What the world knows as its leader."""

    def __init__(self, world: World, count: int) -> None:
        self.world = world
        self.lease = MemoryLease(now=lambda: world.now)
        self.store = SimStore(world)
        self.lives = 0
        self.safe_until = 0.0  #: until then the one with the view is let be: it has a store to restore
        self.masters: list[SimMaster] = []
        self._waiting: list[JobSpec] = []
        for _ in range(count):
            world.at(world.rng.uniform(0, 0.3), self.start)
        world.at(SWEEP_S, self._sweep)

    @property
    def leader(self) -> SimMaster | None:
        """The one that acts."""
        return next((m for m in self.masters if m.acting), None)

    @property
    def machine(self) -> Machine:
        """A view, for whoever wants to know what is stuck."""
        found = [m.machine for m in self.masters if m.machine is not None]
        return found[-1] if found else Machine()

    def start(self) -> None:
        """A master's process begins."""
        self.lives += 1
        self.masters = [m for m in self.masters if m.alive]
        self.masters.append(SimMaster(self, f"o{self.lives}"))

    def submit(self, spec: JobSpec) -> None:
        """A client asks until somebody has taken the job."""
        leader = self.leader
        try:
            if leader is not None and leader.submit(spec):
                return
        except OperatorError:
            pass
        self.world.at(0.5, self.submit, spec)

    def receive(self, event: object) -> None:
        """A request, or a message that died: to whoever leads; lost when nobody does."""
        leader = self.leader
        if leader is not None:
            leader.receive(event, self.world.now)

    def receive_all(self, events: tuple[object, ...], sent: float) -> None:
        """Of the store's stream: everybody with a view reads it, from where it was when that began."""
        for master in list(self.masters):
            for event in events:
                master.receive(event, sent)

    def crash_soon(self) -> None:
        """The one that acts dies some events from now, or a process stands still."""
        world = self.world
        leader = self.leader
        if leader is None or world.now < self.safe_until:
            return
        if world.rng.random() < 0.4:
            seconds = world.rng.choice((1.0, 4.0, 7.0, 12.0, 20.0))
            world.faults_seen["master paused"] += 1
            leader.pause(seconds)
        else:
            leader.crash_in = leader.crash_in or world.rng.randint(1, 12)

    def _sweep(self) -> None:
        """The store is the truth: what was recorded and not heard of is heard now."""
        world = self.world
        world.at(SWEEP_S, self._sweep)
        leader = self.leader
        if leader is None or world.store_away:
            return
        for job in list(world.claims.jobs):
            for event in world.claims.recorded(job):
                leader.receive(event, world.now)


class SimMaster:
    """One process's life."""

    def __init__(self, masters: Masters, owner: str) -> None:
        self.masters, self.world, self.owner = masters, masters.world, owner
        self.election = el.Election(el.ElectionConfig(owner=owner))
        self.machine: Machine | None = None
        self.out: Outbox | None = None
        self.alive = True
        self.paused = False
        self.crash_in = 0
        self._blind = False  #: it stood still between its look at the clock and its write
        self._crash_how = ""
        self._noted = 0.0  #: events from before aren't read
        self._epoch = 0
        self._lost = False
        self._send_at = 0.0
        self._retry = Retry(SEND_AGAIN, dice=lambda: 1.0)
        self._look_at = 0.0
        self._tick_at = float("inf")
        self._elect_at = float("inf")
        self._backlog: list[Callable[[], None]] = []
        self._loop()

    @property
    def acting(self) -> bool:
        live = self.alive and not self.paused and self.machine is not None
        return live and self.election.acting(self.world.now)

    # The process.

    def _loop(self) -> None:
        if not self.alive:
            return
        self.world.at(LOOP_S, self._loop)
        if not self.paused:
            self.feed(el.LoopTicked())
            self._send()

    def pause(self, seconds: float) -> None:
        """SIGSTOP."""
        self.paused = True
        self.world.note("master paused", self.owner, seconds)
        self.world.at(seconds, self.resume)

    def resume(self) -> None:
        """SIGCONT: it goes on where it was, and only then hears what came meanwhile."""
        if not self.paused:
            return
        self.paused = False
        waiting, self._backlog = self._backlog, []
        self._blind = self.world.rng.random() < 0.5
        self._send()
        for step in waiting:
            step()

    def die(self) -> None:
        self.alive, self.machine, self.out = False, None, None
        world = self.world
        world.faults_seen["master died"] += 1
        world.note("master dies", self.owner)
        world.at(world.rng.choice((0.5, 3.0, 12.0)), self.masters.start)

    def _when_awake(self, step: Callable[..., None], *args: Any) -> bool:
        """Does it run now? A paused process does it later, a dead one never."""
        if self.alive and self.paused:
            self._backlog.append(lambda: step(*args))
        return self.alive and not self.paused

    # The election.

    def feed(self, event: el.ElectionEvent) -> None:
        if not self._when_awake(self.feed, event):
            return
        for command in self.election.handle(event, self.world.now):
            match command:
                case el.Lead(epoch=epoch, fresh=fresh):
                    self.world.note("lead", self.owner, epoch, fresh)
                    self._lead(epoch, fresh)
                case el.StandDown():
                    self.world.note("stand down", self.owner, command.reason)
                    self.machine = self.out = None
                case el.Pause():
                    self.world.note("pause", self.owner)
                case el.ReleaseLease(epoch=epoch):
                    if not self.world.store_away:
                        self.masters.lease.release(self.owner, epoch)
                case _:
                    self._call(command)
        due = max(self.election.next_tick(), self.world.now + 0.001)
        if due < self._elect_at:
            self._elect_at = due
            self.world.at(due - self.world.now, self._elect, due)

    def _elect(self, due: float) -> None:
        """What is due in the election."""
        if due == self._elect_at and self._when_awake(self._elect, due):
            self._elect_at = float("inf")
            self.feed(el.Ticked())

    def _call(self, command: Any) -> None:
        world = self.world
        if world.rng.random() < world.faults.lost_request:
            world.at(CALL_TIMEOUT_S, self.feed, el.LeaseCallFailed(call=command.call))
        else:
            world.at(world.delay(), self._execute, command)

    def _execute(self, command: Any) -> None:
        world, lease = self.world, self.masters.lease
        answer: el.ElectionEvent = el.LeaseCallFailed(call=command.call)
        if not world.store_away:
            match command:
                case el.ViewLease(call=call):
                    answer = el.LeaseViewed(call=call, view=lease.view(), store_id=world.claims.store_id)
                case el.TakeLease(call=call, epoch_above=above, seconds=seconds):
                    answer = el.LeaseTaken(call=call, view=lease.take(self.owner, above, seconds))
                case el.RenewLease(call=call, epoch=epoch, seconds=seconds):
                    answer = el.LeaseRenewed(call=call, kept=lease.renew(self.owner, epoch, seconds))
        if isinstance(answer, el.LeaseCallFailed) or world.rng.random() < world.faults.lost_reply:
            world.at(CALL_TIMEOUT_S, self.feed, el.LeaseCallFailed(call=command.call))
        else:
            world.at(world.delay(), self.feed, answer)

    def _lead(self, epoch: int, fresh: bool) -> None:
        self._epoch = epoch
        if fresh or self.machine is None:
            self._take_over()
        else:
            self.world.faults_seen["led again"] += 1
            self._look_at = self._send_at = 0.0
            self._send()

    # Taking over.

    def _take_over(self) -> None:
        """From the store alone. When it can't be read, the lease is let go of."""
        world, store = self.world, self.masters.store
        self.machine = self.out = None
        try:
            store_id, before, _ = store.identity()
            incarnation, there = found_in(store, before)
            if there > self._epoch:
                self.feed(el.EpochSeen(epoch=there))
                return
            machine = Machine(world.plan.config, wall=1e6)
            out = Outbox(
                machine,
                owner=self.owner,
                epoch=self._epoch,
                incarnation=incarnation,
                store_id=store_id,
            )
            if store.lead(out.fence()) is WriteAnswer.FENCED:
                raise Fenced
            heard = world.claims.heard()
            self._noted = world.now
            machine.adopt_workers(heard, world.now)
            events = self._adopt(machine, out)
        except (OperatorError, Fenced):
            self.feed(el.WasFenced())
            return
        if store_id != STORE_ID:
            raise Broken(
                f"{self.owner} leads the store {store_id!r}, in which nobody knows the claims on outputs"
            )
        world.faults_seen["takeover"] += 1
        self.machine, self.out, self._lost = machine, out, False
        done = {key for key, row in world.oracle.rows.items() if row.winner is not None}
        made = self._handle(e.Restored())
        self._nothing_redone(machine, done, made)
        for event in events:
            self._handle(event)
        self._send()

    def _adopt(self, machine: Machine, out: Outbox) -> list[e.Event]:
        world, store = self.world, self.masters.store
        events: list[e.Event] = []
        for job in list(world.claims.jobs):
            spec = world.jobs[job].spec
            if store.begin(spec, b"", out.fence()) is WriteAnswer.FENCED:
                raise Fenced
            stored = store.load(spec)
            if stored is None:
                raise Broken(f"{job} was begun and isn't there")
            out.jobs[job] = LedJob(spec, b"", out.fence())
            if machine.adopt(stored, world.now):
                events += stored.recorded
            else:
                events.append(e.JobSubmitted(spec=spec))
        return events

    def _nothing_redone(self, machine: Machine, done: set[Any], made: list[c.Command]) -> None:
        """A takeover alone loses nothing that is complete, but with the disk that it lay on."""
        for x in made:
            if not isinstance(x, c.WriteTask) or x.winner is not None:
                continue
            if x.task not in done:
                continue
            job = machine._state.jobs[x.job]
            worker, boot = job.boots[job.table(x.task.kind).boot[x.task.index]]
            row = self.world.claims.workers.get(worker)
            there = row is not None and row["boot"] == boot and row["health"] != WorkerHealth.DEAD.value
            if x.task.kind is Kind.REDUCE or there:
                raise Broken(f"{x} was complete, and is done again by a takeover alone")

    # Leading.

    def submit(self, spec: JobSpec) -> bool:
        """Take a job; True once it is held. Raises OperatorError."""
        assert self.out is not None
        if spec.job in self.out.jobs:
            return True
        fence = self.out.fence()
        if self.masters.store.begin(spec, b"", fence) not in (WriteAnswer.WRITTEN, WriteAnswer.ALREADY):
            return False
        self.out.jobs[spec.job] = LedJob(spec, b"", fence)
        self.receive(e.JobSubmitted(spec=spec), self.world.now)
        return True

    def receive(self, event: object, sent: float) -> None:
        """Something happened."""
        if self.machine is None or sent < self._noted or not self._when_awake(self.receive, event, sent):
            return
        if self.crash_in:
            self.crash_in -= 1
            if not self.crash_in:
                self._crash(event)
                return
        self._handle(event)
        self._send()

    def _crash(self, event: object) -> None:
        """Before, within, or after the step: what was decided may be persisted, nothing of it published."""
        how = self.world.rng.choice(("before", "undone", "written"))
        if how != "before":
            self._handle(event)
        if how == "written":
            self._crash_how = how
            self._send()
        if self.alive:
            self.die()

    def _handle(self, event: object) -> list[c.Command]:
        assert self.machine is not None
        assert self.out is not None
        self.world.events += 1
        now = self.world.now
        made = self.machine.handle(event, now, more=True)  # type: ignore[arg-type]
        made += self.machine.handle(e.Ticked(), now)  # as a step of `master.loop` ends
        self.world.traced(type(event).__name__, made)
        self.out.add(made)
        due = self.machine.next_tick(self.world.now)
        if due < self._tick_at:
            self._tick_at = due
            self.world.at(max(due - self.world.now, 0.001), self._tick, due)
        return made

    def _tick(self, due: float) -> None:
        if due == self._tick_at and self._when_awake(self._tick, due):
            self._tick_at = float("inf")
            if self.machine is not None:
                self._handle(e.Ticked())
                self._send()

    def _send(self) -> None:
        """As `master.loop` does it."""
        world, out, store = self.world, self.out, self.masters.store
        blind = self._blind and out is not None and not out.empty
        if out is None or world.now < self._send_at or not (self.acting or blind):
            return
        self._blind = False
        try:
            if blind:
                pass
            elif not self._lost and self._epoch != out.epoch:
                out.lead_again(store, self._epoch)
            elif not self._lost and world.now >= self._look_at and not out.asking:
                self._lost = out.behind(store)
                self._look_at = world.now + 1.0
            if self._lost:
                self._restore(out)
            out.send(store, store, lambda: self.acting or blind, self._do)
            self._retry.worked()
        except OperatorError:
            self._send_at = world.now + self._retry.failed()
        except Lost:
            self._lost, self._send_at = True, world.now + self._retry.failed()
        except Fenced:
            world.faults_seen["fenced"] += 1
            self.machine = self.out = None
            self.feed(el.WasFenced())
        except Died:
            self.die()

    def _restore(self, out: Outbox) -> None:
        assert self.machine is not None
        _, incarnation, _ = self.masters.store.identity()
        made = self.machine.handle(e.StoreLost(), self.world.now)
        self.world.traced("StoreLost", made)
        out.epoch = self._epoch
        out.restore(made, max(incarnation, out.incarnation) + 1)
        self._lost = False

    def _do(self, said: Said) -> None:
        world = self.world
        if self._crash_how:
            raise Died
        match said:
            case Publish():
                for tasks in said.messages:
                    world.publish(tasks)
            case c.PlanStage():
                world.oracle.asked(said)
                seconds = world.rng.choice((0.0, 0.01, 1.0))
                world.at(seconds, self._plan, said)
            case c.StartCommit():
                world.oracle._commit(said)
                seconds = world.rng.uniform(0.01, 1.0)
                finished = e.CommitEnded(job=said.job)
                world.at(seconds, lambda: self.receive(finished, world.now))
            case c.DialWorker():
                world.at(world.rng.uniform(0.01, 0.5), self._dialled, said)
            case _:
                pass

    def _plan(self, said: c.PlanStage) -> None:
        """On a thread of the process's own: a master that stood still does it late."""
        if self._when_awake(self._plan, said):
            spec = self.world.jobs[said.job].spec
            self.receive(self.world.disk.planned(spec, said), self.world.now)

    def _dialled(self, said: c.DialWorker) -> None:
        world = self.world
        there = any(h.alive and (h.worker, h.boot) == (said.worker, said.boot) for h in world.hosts)
        if there and world.rng.random() >= world.faults.lost_request:
            world.oracle.dialled.add((said.worker, said.boot))
            self.receive(e.WorkerDialled(worker=said.worker, boot=said.boot), world.now)
        else:
            world.faults_seen["unreachable"] += 1
            self.receive(e.WorkerDialled(worker=said.worker, boot=said.boot, trouble="refused"), world.now)
