"""A cluster in virtual time: production machines, a lossy network between them, and a seed.

One heap of (time, serial, step) runs everything, and one random generator decides all faults, so a seed
replays identically: `World(seed).run()` twice gives the same trace.
"""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from random import Random
from typing import Any

from sim_checks import Broken, Oracle
from sim_disk import Disk
from sim_host import Host
from sim_leader import Leader
from sim_masters import Masters, SimMaster
from sim_plan import JobPlan, Plan, calm, draw

from mrq.core import agent_words as a
from mrq.core import events as e
from mrq.core.claims import Claims
from mrq.core.commands import WriteTask
from mrq.core.events import AttemptClaimed, AttemptReported
from mrq.core.model import JobSpec, JobState, MapLocation, Status, TaskMessage
from mrq.core.refs import Kind
from mrq.core.store_api import ClaimAnswer, ClaimRequest, ReportAnswer
from mrq.servers.memory.queues import MemoryBroker, MemoryQueues

#: A call that isn't answered is given up after so long.
CALL_TIMEOUT_S = 2.0
#: After the last job ended, the agents must have let go of everything by then.
SETTLE_S = 25.0
#: In calm, the leader has heard of a change after so long.
BEATS_S = 5.0
#: So long after the last fault, it is seen whether what nobody fits keeps still.
WAIT_S = 40.0


class World:
    """One seed's run."""

    def __init__(self, seed: int, *, log: bool = False, plan: Plan | None = None) -> None:
        self.plan = plan or draw(seed)
        self.rng = Random(f"run {seed}")
        self.faults = self.plan.faults if self.plan.chaos_s else calm(self.plan.faults)
        self.now = 0.0
        self.trace = 0
        self.lines: list[str] | None = [] if log else None
        self.events = 0
        self.faults_seen: Counter[str] = Counter()
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0
        self._boots = 0
        self.jobs: dict[str, JobPlan] = {}
        self.oracle = Oracle()
        self.claims = Claims(store_id="sim")
        self.queues = MemoryQueues(self.plan.deliveries)
        self.publisher = MemoryBroker(self.queues)
        self.publisher.attach(leader=self.to_leader)
        self.hosts: list[Host] = []
        self.disk = Disk()
        self.oracle.lost = self.disk.lost
        self.dead: set[int] = set()  #: workers that never come back
        self.filled: set[int] = set()  #: workers whose disks others have filled
        self.oracle.no_room = self._no_room
        self.store_away = False
        self.leader: Leader | Masters
        if self.plan.embedded:
            self.leader = Leader(self)
        else:
            self.leader = Masters(self, self.plan.masters)
            self.oracle.dialled = set()

    def run(self) -> World:
        """Until every job is over and the agents have settled. Raises Broken, or what a machine raised."""
        for number in range(self.plan.workers):
            self.at(self.rng.uniform(0, 1), self.boot, number)
        for job in self.plan.jobs:
            self.jobs[job.spec.job] = job
            self.oracle.specs[job.spec.job] = job.spec
            if job.deadly is not None:
                self.oracle.deadly.add(job.spec.job)
            if job.nondeterministic:
                self.oracle.nondeterministic.add(job.spec.job)
            self.at(job.at, self.leader.submit, job.spec)
            if job.cancel_at is not None:
                self.at(job.at + job.cancel_at, self._cancel, job.spec.job)
        if self.faults.host_every_s:
            self.at(self.rng.expovariate(1 / self.faults.host_every_s), self._strike_host)
        if self.faults.master_every_s:
            self.at(self.rng.expovariate(1 / self.faults.master_every_s), self._strike_master)
        if self.faults.store_every_s:
            self.at(self.rng.expovariate(1 / self.faults.store_every_s), self._strike_store)
        if self.faults.lost_every_s:
            self.at(self.rng.expovariate(1 / self.faults.lost_every_s), self._strike_data)
        if self.faults.full_every_s:
            self.at(self.rng.expovariate(1 / self.faults.full_every_s), self._strike_disks)
        if self.faults.parts_every_s and any(job.spec.several for job in self.plan.jobs):
            self.at(self.rng.expovariate(1 / self.faults.parts_every_s), self._strike_parts)
        for at in self.plan.kills:
            self.at(at, self._kill)
        if self.plan.chaos_s:
            self.at(self.plan.chaos_s, self._calm)
        self._until(self._ended, self.plan.limit_s)
        for spec in [job.spec for job in self.plan.jobs if job.spec.job not in self.oracle.over]:
            self.faults_seen["waited for a larger worker"] += 1
            self._cancel(spec.job)
        self._until(lambda: len(self.oracle.over) == len(self.plan.jobs), self.plan.limit_s + 60.0)
        self.oracle.charged(self.leader.machine)
        self.oracle.at_end()
        self._calm()
        end = self.now + SETTLE_S
        self._until(self._settled, end)
        return self

    def at(self, delay: float, step: Callable[..., None], *args: Any) -> None:
        """Do something `delay` seconds from now."""
        self._serial += 1
        heapq.heappush(self._heap, (self.now + delay, self._serial, step, args))

    def note(self, what: str, *parts: object) -> None:
        """A line of the trace; text only when somebody reads it."""
        if self.lines is not None:
            self.lines.append(f"{self.now:9.3f} {what} {' '.join(map(str, parts))}")

    def traced(self, event: str, made: list[Any]) -> None:
        """What the leader decided goes into the trace's hash; its text into the log."""
        for command in made:
            event += type(command).__name__
            if isinstance(command, WriteTask):
                event += (
                    f"{command.task.index} {command.primary} {command.backup} {command.winner is not None}"
                )
        self.trace = zlib.crc32(event.encode(), self.trace)
        if self.lines is not None:
            self.note("leader", event if not made else "", *made)

    def delay(self) -> float:
        """How long a message takes."""
        if self.rng.random() < self.faults.slow:
            self.faults_seen["slow"] += 1
            return self.rng.uniform(0, self.faults.slow_s)
        return self.rng.uniform(0.0005, 0.02)

    def to_leader(self, *events: object) -> None:
        """One entry of the store's stream: lost, doubled, late and out of order."""
        copies = 1
        if self.rng.random() < self.faults.loss:
            copies = 0
            self.faults_seen["lost"] += 1
        elif self.rng.random() < self.faults.double:
            copies = 2
            self.faults_seen["doubled"] += 1
        for _ in range(copies):
            for event in events:
                if isinstance(event, e.MessageDied):
                    self.faults_seen["message died"] += 1
                    self.oracle.deaths[event.message.task] += 1
            if isinstance(self.leader, Masters):
                self.at(self.delay(), self.leader.receive_all, events, self.now)
            else:
                self.at(self.delay(), self.leader.receive_all, events)

    def publish(self, tasks: Sequence[TaskMessage]) -> None:
        """One message to the queues, which may lose or double it."""
        dice = self.rng.random()
        if len(tasks) > 1:
            self.faults_seen["several in a message"] += 1
        if dice < self.faults.wiped:
            self.faults_seen["wiped"] += 1
            return
        self.at(self.delay(), self._publish, tasks)
        if dice > 1 - self.faults.double:
            self.faults_seen["doubled"] += 1
            self.at(self.delay(), self._publish, tasks)

    def _publish(self, tasks: Sequence[TaskMessage]) -> None:
        self.publisher.publish(tasks, together=True)

    def call(
        self,
        script: Callable[[], tuple[Any, object | None]],
        answered: Callable[[Any], None],
        failed: Callable[[], None],
    ) -> None:
        """A worker's call of a store script: request or reply may be lost, the script may run twice."""
        if self.rng.random() < self.faults.lost_request:
            self.faults_seen["lost request"] += 1
            self.at(CALL_TIMEOUT_S, failed)
        else:
            self.at(self.delay(), self._execute, script, answered, failed)

    def _execute(
        self,
        script: Callable[[], tuple[Any, object | None]],
        answered: Callable[[Any], None],
        failed: Callable[[], None],
    ) -> None:
        if self.store_away:
            self.at(CALL_TIMEOUT_S, failed)
            return
        for _ in range(2 if self.rng.random() < self.faults.repeated_call else 1):
            answer, event = script()
            if isinstance(event, list):
                self.to_leader(*event)
            elif event is not None:
                self.to_leader(event)
        if self.rng.random() < self.faults.lost_reply:
            self.faults_seen["lost reply"] += 1
            self.at(CALL_TIMEOUT_S, failed)
        else:
            self.at(self.delay(), answered, answer)

    def claim(self, request: ClaimRequest) -> tuple[ClaimAnswer, object | None]:
        """The claim script, looked over."""
        answer, event = self.claims.claim(request)
        if event is not None:
            self.oracle.claimed(event)
            if request.message.alone:
                self.oracle.alone.setdefault(event.attempt.task, set()).add((event.worker, event.boot))
            if self.is_backup(event):
                self.faults_seen["backup claimed"] += 1
        self.oracle.answered(request, answer)
        self.note("claim", request.token, request.message.task, answer.answer)
        return answer, event

    def report(self, report: AttemptReported) -> tuple[ReportAnswer, object | None]:
        """The report script, looked over."""
        answer, event = self.claims.report(report)
        if event is not None:
            self.oracle.recorded(event)
            if self.is_backup(event) and event.outcome.status is Status.DONE:
                self.faults_seen["backup won"] += 1
        if answer is not ReportAnswer.NO_STORE:
            self.oracle.reported(report.attempt.token)
        self.note("report", report.attempt.token, report.outcome.status, answer)
        return answer, event

    def is_backup(self, event: AttemptClaimed | AttemptReported) -> bool:
        """Has its attempt the ticket of a backup?"""
        row = self.oracle.rows.get(event.attempt.task)
        return row is not None and row.backup == event.attempt.ticket

    def fate(self, job: JobPlan, message: TaskMessage) -> Status:
        """What is going to become of an attempt."""
        faults, dice = self.faults, self.rng.random()
        if (Kind.MAP, job.poison) == message.task[2:] and job.is_first(message.task):
            return Status.FAILED
        for status, chance in (
            (Status.FAILED, faults.user_failure),
            (Status.LOST, faults.executor_death),
            (Status.DISK_FULL, faults.disk_full),
            (Status.TIMED_OUT, faults.hang),
        ):
            if dice < chance:
                self.faults_seen[f"attempt {status.value}"] += 1
                return status
            dice -= chance
        return Status.DONE

    def fetch(self, reader: Host, job: str, location: MapLocation) -> int | str:
        """A map output's digest, or why it couldn't be read."""
        if self.rng.random() < self.faults.fetch:
            self.faults_seen["fetch"] += 1
            return self.rng.choice(("unreachable", "unreachable", "corrupt"))
        newer = False
        for host in self.hosts:
            if host.worker == location.worker and host.alive:
                if host.boot == location.boot:
                    if host.frozen:
                        return "unreachable"
                    key = job, location.attempt.task.stage, location.map_index, location.attempt.token
                    return host.outputs.get(key, "not_found")
                newer = True
        return "not_found" if newer else "unreachable"

    def taken_down(self, host: Host, message: TaskMessage) -> None:
        """A task kills its whole worker, which is started again."""
        self.faults_seen["taken down alone" if message.alone else "taken down"] += 1
        self.note(
            "taken down",
            host.worker,
            host.boot,
            message.task.job,
            message.task.kind.value,
            message.task.index,
        )
        host.die()
        self.at(self.rng.choice((0.5, 3.0)), self.boot, host.number)

    def _kill(self) -> None:
        """kill -9 of some worker."""
        living = [h for h in self.hosts if h.alive]
        if living:
            host = self.rng.choice(living)
            if self.plan.rolling:
                host = min(living, key=lambda h: (h.number - self.faults_seen["killed"]) % self.plan.workers)
            self.faults_seen["killed"] += 1
            self.note("killed", host.worker, host.boot)
            host.die()
            self.at(self.rng.choice((0.5, 3.0, 8.0)), self.boot, host.number)

    def boot(self, number: int) -> None:
        """Start a worker process, unless a living one has the id."""
        if number in self.dead:
            return
        if any(h.number == number and h.alive and not h.paused for h in self.hosts):
            return
        self._boots += 1
        self.hosts = [h for h in self.hosts if h.alive]
        self.hosts.append(Host(self, number, f"b{self._boots}"))
        self.note("boot", f"w{number}", f"b{self._boots}")

    def _until(self, over: Callable[[], bool], limit: float) -> None:
        heap = self._heap
        while not over():
            when, _, step, args = heapq.heappop(heap)
            if when > limit:
                raise Broken(f"no end: {self._stuck()}")
            self.now = when
            self.trace = zlib.crc32(f"{when!r} {step.__name__}".encode(), self.trace)
            step(*args)

    def _ended(self) -> bool:
        """Every job that must end is over. Those that nobody fits have waited for a while, with nothing of
        them on the way to anybody."""
        over = self.oracle.over
        for job in self.plan.jobs:
            if job.spec.job in over:
                state, _ = over[job.spec.job]
                fits = any(self.plan.fits(job.spec, w) for w in range(self.plan.workers))
                if not fits and state is not JobState.CANCELLED and job.spec.splits:
                    raise Broken(f"{job.spec.job} fits nobody and is {state}")
            elif self.plan.ends(job.spec) or self.now < self.plan.chaos_s + WAIT_S:
                return False
            elif not any(self.plan.fits(job.spec, h.number) for h in self.hosts if self._counts(h)):
                view = self.leader.machine.job(job.spec.job)
                if view is not None and view.maps.queued + view.reduces.queued:
                    raise Broken(f"{job.spec.job} fits nobody and was handed out: {view}")
        return True

    def _counts(self, host: Host) -> bool:
        """Does it live, as far as the leader may know?"""
        return host.alive or self.now < host.died + WAIT_S

    def _settled(self) -> bool:
        """No agent holds anything any more: nothing leaks, every delivery was settled."""
        return not any(h.alive and h.agent._items for h in self.hosts)

    def _stuck(self) -> str:
        views = [self.leader.machine.job(job) for job in self.jobs if job not in self.oracle.over]
        held = {h.boot: sorted(h.agent._items) for h in self.hosts if h.alive and h.agent._items}
        return f"at {self.now:.1f} s: {views}, held: {held}"

    def _cancel(self, job: str) -> None:
        self.oracle.cancelled.add(job)
        self.leader.receive(e.CancelRequested(job=job))
        self.at(3.0, self.leader.receive, e.CancelRequested(job=job))

    def _strike_host(self) -> None:
        """Something bad for a worker."""
        if self.faults.host_every_s == 0:
            return
        self.at(self.rng.expovariate(1 / self.faults.host_every_s), self._strike_host)
        living = [h for h in self.hosts if h.alive and not h.paused]
        if not living:
            return
        host = self.rng.choice(living)
        what = self.rng.choice(("crash", "pause", "zombie", "drain", "ordered drain", "broker", "quarantine"))
        self.faults_seen[what] += 1
        self.note(what, host.worker, host.boot)
        if what == "crash":
            host.die()
            if host.number == self.plan.mortal:
                self.dead.add(host.number)
            self.at(self.rng.choice((0.2, 3.0, 20.0)), self.boot, host.number)
        elif what == "pause":
            host.pause(self.rng.choice((0.5, 3.0, 7.0, 18.0)), self.rng.random() < 0.5)
        elif what == "zombie":
            host.pause(self.rng.choice((3.0, 8.0, 20.0)), self.rng.random() < 0.5)
            self.at(1.0, self.boot, host.number)
        elif what == "drain":
            if self.rng.random() < 0.5:
                host.feed(a.LeaveAtOnce(deadline=self.now + 5.0))
            else:
                host.feed(a.LeaveRequested(deadline=self.now + self.rng.choice((2.0, 30.0))))
        elif what == "ordered drain":
            self.leader.receive(e.DrainRequested(worker=host.worker))
            self.at(5.0, self.leader.receive, e.ReadmitRequested(worker=host.worker))
        elif what == "broker":
            host.broker.lose_connection()
            self.at(self.rng.uniform(0.1, 4.0), host.broker.connect_again)
        else:
            self.leader.receive(e.QuarantineRequested(worker=host.worker))
            self.at(5.0, self.leader.receive, e.ReadmitRequested(worker=host.worker))

    def _strike_master(self) -> None:
        if self.faults.master_every_s == 0:
            return
        self.at(self.rng.expovariate(1 / self.faults.master_every_s), self._strike_master)
        self.leader.crash_soon()

    def _strike_store(self) -> None:
        """It answers nobody for a while, and forgets nothing."""
        if self.faults.store_every_s == 0:
            return
        self.at(self.rng.expovariate(1 / self.faults.store_every_s) + 20.0, self._strike_store)
        self.faults_seen["store away"] += 1
        self.note("store away")
        if isinstance(self.leader, Masters):
            self.store_away = True
        else:
            self.claims.ready = False
        self.at(self.rng.choice((1.0, 6.0, 12.0, 18.0)), self._store_back)

    def _store_back(self) -> None:
        self.note("store back")
        if isinstance(self.leader, Masters):
            self.store_away = False
        else:
            self.claims.ready = True

    def _strike_disks(self) -> None:
        """Somebody else fills a disk, or all of them, for a while that calm doesn't end."""
        if self.faults.full_every_s == 0:
            return
        self.at(self.rng.expovariate(1 / self.faults.full_every_s), self._strike_disks)
        everybody = range(self.plan.workers)
        struck = everybody if self.rng.random() < 0.5 else [self.rng.choice(everybody)]
        self.filled.update(struck)
        self._look()
        self.at(self.rng.choice((3.0, 15.0, 40.0, 90.0)), self._make_room, struck)

    def _strike_parts(self) -> None:
        """A part between two stages is lost."""
        if self.faults.parts_every_s == 0:
            return
        self.at(self.rng.expovariate(1 / self.faults.parts_every_s), self._strike_parts)
        going = {name: None for name in self.jobs if name not in self.oracle.over}
        if what := self.disk.lose_a_part(self.rng, going):
            self.faults_seen["lost a part"] += 1
            self.note("lost a part", what)

    def _make_room(self, struck: Iterable[int]) -> None:
        self.filled.difference_update(struck)
        self._look()

    def _look(self) -> None:
        for host in [host for host in self.hosts if host.alive]:
            host.look()

    def _no_room(self, spec: JobSpec) -> bool:
        """Does a job find the disks full? Once all is calm: all of them, of those that take its maps."""
        fitting = [h for h in self.hosts if h.alive and self.plan.fits(spec, h.number)]
        full = [h.room.full or self.now - h.full_at < BEATS_S for h in fitting]
        if self.now < self.plan.chaos_s + WAIT_S:
            return any(full)
        takes = [h.agent.takes and self.now - h.born > WAIT_S for h in fitting]
        return any(full) and all(f for f, t in zip(full, takes, strict=True) if t)

    def _strike_data(self) -> None:
        """The store loses all it has, or its last moments, under a leader that lives."""
        masters = self.leader
        if self.faults.lost_every_s == 0 or not isinstance(masters, Masters):
            return
        self.at(self.rng.expovariate(1 / self.faults.lost_every_s) + 25.0, self._strike_data)
        leader = masters.leader
        if leader is None or leader.out is None or not leader.out.jobs:
            return
        masters.safe_until, leader.crash_in = self.now + 25.0, 0
        if self.rng.random() < 0.5:
            self.at(0.0, self._wipe, leader)
        else:
            then = deepcopy(self.claims), self.oracle.snapshot()
            self.at(self.rng.uniform(0.2, 2.0), self._roll_back, leader, then)

    def _wipe(self, leader: SimMaster) -> None:
        self.faults_seen["store wiped"] += 1
        self.oracle.damaged = True
        self.disk.lost.update(list(self.jobs))  # whoever goes on may be behind what is on the disk
        self.note("store wiped")
        self.claims = Claims(store_id="", incarnation=0, ready=False)
        self.oracle.begin_again()
        assert isinstance(self.leader, Masters)
        self.leader.lease.wipe()

    def _roll_back(self, leader: SimMaster, then: tuple[Claims, Any]) -> None:
        claims, seen = then
        gone = not leader.alive or leader.machine is None
        if gone or claims.cluster is None or self.claims.cluster is None:
            return
        if claims.cluster["fence"][:3] != self.claims.cluster["fence"][:3]:
            return  # led by another since, or restored
        self.faults_seen["store rolled back"] += 1
        self.oracle.damaged = True
        self.disk.lost.update(list(self.jobs))
        self.note("store rolled back")
        self.claims = claims
        self.oracle.roll_back(seen)

    def _calm(self) -> None:
        """No more faults; whoever is gone comes back, whoever was shut out is let in."""
        self.faults = calm(replace(self.faults))
        self.store_away = False
        if isinstance(self.leader, Masters):
            for master in self.leader.masters:
                master.resume()
        for host in list(self.hosts):
            host.resume()
            if host.alive:
                host.broker.connect_again()
        for number in range(self.plan.workers):
            self.at(0.5, self.boot, number)
        self.at(12.0, self._readmit)

    def _readmit(self) -> None:
        """The operator lets everybody in, and looks again: an order of before may have been late."""
        self.at(20.0, self._readmit)
        for number in range(self.plan.workers):
            self.leader.receive(e.ReadmitRequested(worker=f"w{number}"))
