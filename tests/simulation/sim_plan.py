"""What one seed asks for: jobs, workers and which faults strike how often. Drawn once, then fixed.

Faults are drawn in a swarm: each seed has some kinds switched off and others turned up, so that no
fault hides behind a more frequent one. They strike during `chaos_s`; afterwards all is calm, so every
job must end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from mrq.core.machine_config import MachineConfig
from mrq.core.model import FOLLOWS, JobSpec, Piece, Purpose, Slots, Split, StageSpec
from mrq.core.refs import Kind, TaskRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Chances for each message, call or attempt; means for what strikes hosts and the leader."""

    loss: float
    double: float
    slow: float  #: a message takes up to `slow_s` instead of some milliseconds
    slow_s: float
    lost_request: float
    lost_reply: float  #: the call was executed
    repeated_call: float  #: executed twice, as by a client that retries
    user_failure: float
    executor_death: float
    disk_full: float
    hang: float
    fetch: float  #: for each region that a reduce fetches
    wiped: float  #: for each delivery: the queue loses it
    host_every_s: float  #: mean time between crashes, pauses, drains and lost connections; 0: never
    master_every_s: float  #: mean time between restarts of the leader; 0: never
    store_every_s: float  #: mean time between outages of the store; 0: never
    lost_every_s: float  #: mean time between losses of what the store holds; 0: never
    full_every_s: float = 0.0  #: mean time between others' filling some disks for a while; 0: never
    parts_every_s: float = 0.0  #: mean time between losses of a part between two stages; 0: never


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    spec: JobSpec
    at: float
    seconds: float  #: of one task, about
    nondeterministic: float  #: chance that a map's output differs from the others'
    poison: int | None  #: a map that always fails
    cancel_at: float | None
    deadly: tuple[Kind, int] | None = None  #: a task that takes its worker down with it, whenever it runs
    long: int | None = None  #: a map that takes a minute, among short ones
    #: Maps whose output no reduce can sort, unless they are careful; the first reduce finds that at once.
    unordered: frozenset[int] = frozenset()

    def is_first(self, task: TaskRef) -> bool:
        """Is a task of the first stage of work? What is said of single tasks here is of that one's."""
        works = [stage for stage in self.spec.stages if stage.purpose is Purpose.WORK]
        return self.spec.stage(task.stage) is works[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    seed: int
    config: MachineConfig
    workers: int
    slots: Slots
    slowness: tuple[float, ...]  #: for each worker
    memory: tuple[int, ...]  #: of each worker, as its hints say it; 0: it doesn't say
    quota: tuple[int, ...]  #: map outputs that each worker's disk has room for; 0: any number
    beat_s: float
    mortal: int | None  #: a worker that never comes back once it crashed
    jobs: tuple[JobPlan, ...]
    masters: int
    faults: Faults
    chaos_s: float
    kills: tuple[float, ...] = ()  #: when some worker is killed with -9, whatever else strikes
    rolling: bool = False  #: … one after the other, rather than any
    deliveries: int = 20  #: returns of one message before it dies
    limit_s: float = 1500.0  #: of virtual time: not over by then is a deadlock

    @property
    def embedded(self) -> bool:
        """Is it an engine of one process, whose only worker is the leader's own?"""
        return not self.config.quarantines

    def fits(self, spec: JobSpec, worker: int) -> bool:
        """Does a worker have the memory that a job asks for?"""
        return self.memory[worker] == 0 or self.memory[worker] >= spec.memory_bytes

    def ends(self, spec: JobSpec) -> bool:
        """Must the job end: is there a worker that may run it and never goes for good?"""
        return any(self.fits(spec, w) for w in range(self.workers) if w != self.mortal)


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    rng = Random(f"plan {seed}")
    embedded = rng.random() < 0.25
    config = MachineConfig.for_one_worker() if embedded else MachineConfig()
    slots = _slots(rng, embedded)
    workers = 1 if embedded else rng.randint(2, 4)
    count = rng.choice((1, 1, 1, 2, 3))
    quota, full_every_s = _disks(seed, workers, embedded)
    return Plan(
        seed=seed,
        config=config,
        workers=workers,
        slots=slots,
        slowness=tuple(rng.choice((1.0, 1.0, 1.0, 3.0, 8.0)) for _ in range(workers)),
        memory=_memory(seed, workers, embedded),
        quota=quota,
        beat_s=0.5 if embedded else 1.0,
        mortal=0 if workers > 1 and rng.random() < 0.5 else None,
        jobs=_several(
            seed,
            _sampled(
                seed,
                _unordered(
                    seed,
                    _short(
                        seed,
                        _deadly(
                            seed,
                            tuple(
                                _sized(seed, _job(rng, n, embedded)) for n in range(1 if embedded else count)
                            ),
                            embedded,
                        ),
                        embedded,
                    ),
                ),
            ),
        ),
        masters=rng.randint(1, 3),
        faults=replace(_faults(rng), full_every_s=full_every_s, parts_every_s=_parts(seed)),
        chaos_s=rng.choice((0.0, 10.0, 20.0, 30.0, 30.0)),
        deliveries=Random(f"deliveries {seed}").choice((1, 3, 20, 20)),
    )


def storm(seed: int) -> Plan:
    """Ten workers of which fifteen are killed with -9 within 20 s, while good jobs run: none may fail."""
    rng = Random(f"storm {seed}")
    slots = _slots(rng, embedded=False)
    jobs = tuple(_good(rng, n, maps=rng.choice((6, 12, 24)), reduces=rng.choice((0, 2))) for n in range(2))
    jobs = tuple(replace(job, seconds=rng.choice((0.5, 6.0, 15.0))) for job in jobs)
    rolling = rng.random() < 0.5
    first = rng.uniform(1.0, 20.0)
    kills = [first + (n * 20 / 15 if rolling else rng.uniform(0.0, 20.0)) for n in range(15)]
    return replace(
        _calm(seed, jobs, workers=10, slots=slots), masters=2, kills=tuple(sorted(kills)), rolling=rolling
    )


def chain(seed: int) -> Plan:
    """A job of two to four stages whose parts are lost now and then, while masters come and go."""
    rng = Random(f"chain {seed}")
    embedded = rng.random() < 0.4
    job = replace(_good(rng, 0, maps=rng.choice((2, 4)), reduces=rng.choice((0, 1, 2))), seconds=0.5)
    stages = _chained(rng, job.spec.stages, rng.choice((2, 3, 4)))
    job = replace(job, spec=replace(job.spec, stages=stages, backups=rng.random() < 0.5, max_failures=4))
    workers = 1 if embedded else rng.choice((1, 2, 3))
    plan = _calm(seed, (job,), workers=workers, slots=_slots(rng, embedded))
    faults = replace(
        plan.faults,
        parts_every_s=rng.choice((0.4, 1.5, 4.0)),
        master_every_s=rng.choice((0.0, 2.0, 6.0)),
        host_every_s=rng.choice((0.0, 0.0, 6.0)),
        lost_every_s=rng.choice((0.0, 0.0, 8.0)),
    )
    config = MachineConfig.for_one_worker() if embedded else MachineConfig()
    return replace(
        plan, config=config, beat_s=0.5 if embedded else 1.0, faults=faults, chaos_s=30.0, masters=2
    )


def deadly(seed: int) -> Plan:
    """Few workers, a job with a task that takes its worker down whenever it runs, and good jobs beside it."""
    rng = Random(f"deadly jobs {seed}")
    maps, reduces = rng.choice((1, 4, 12)), rng.choice((0, 1, 3))
    kind = Kind.REDUCE if reduces and rng.random() < 0.3 else Kind.MAP
    index = rng.randrange(reduces if kind is Kind.REDUCE else maps)
    bad = replace(_good(rng, 0, maps=maps, reduces=reduces), deadly=(kind, index))
    good = tuple(_good(rng, n, maps=rng.choice((3, 12)), reduces=rng.choice((0, 2))) for n in range(1, 3))
    workers = rng.choice((1, 1, 2, 3, 5))
    plan = _calm(seed, (bad, *good), workers=workers, slots=_slots(rng, embedded=False))
    return replace(plan, limit_s=max(plan.limit_s, (bad.spec.max_worker_losses + 1) * _work_s(plan)))


def _work_s(plan: Plan) -> float:
    """About how long one worker takes for all tasks of all jobs. Each worker that is taken down takes the
    outputs of its finished maps with it, so where it is the only one all of it may be done again."""
    return sum(
        job.seconds * (len(job.spec.splits) / plan.slots.map + job.spec.reducers / max(plan.slots.reduce, 1))
        for job in plan.jobs
    )


def _good(rng: Random, n: int, *, maps: int, reduces: int) -> JobPlan:
    made = _job(rng, n, embedded=False)
    spec = replace(
        made.spec,
        stages=one_stage(maps, reduces),
        max_running=rng.choice((None, None, 2)),
        memory_bytes=1,
    )
    seconds = rng.choice((0.03, 0.5, 2.0, 6.0, 15.0))
    return replace(made, spec=spec, seconds=seconds, nondeterministic=0.0, poison=None, cancel_at=None)


def _calm(seed: int, jobs: tuple[JobPlan, ...], *, workers: int, slots: Slots) -> Plan:
    return Plan(
        seed=seed,
        config=MachineConfig(),
        workers=workers,
        slots=slots,
        slowness=(1.0,) * workers,
        memory=(0,) * workers,
        quota=(0,) * workers,
        beat_s=1.0,
        mortal=None,
        jobs=jobs,
        masters=1,
        faults=calm(_faults(Random("calm"))),
        chaos_s=0.0,
    )


def _unordered(seed: int, jobs: tuple[JobPlan, ...]) -> tuple[JobPlan, ...]:
    """In one plan of ten, and by dice of their own: a job some of whose maps are sent back by its reduces."""
    rng = Random(f"unordered {seed}")
    at = rng.randrange(len(jobs))
    job = jobs[at]
    if rng.random() >= 0.1 or not (job.spec.reducers and job.spec.splits) or job.nondeterministic:
        return jobs
    maps = range(len(job.spec.splits))
    chosen = frozenset(rng.sample(maps, rng.randint(1, len(maps))))
    made = replace(job, spec=replace(job.spec, skip_bad_records=9), unordered=chosen)
    return (*jobs[:at], made, *jobs[at + 1 :])


def _deadly(seed: int, jobs: tuple[JobPlan, ...], embedded: bool) -> tuple[JobPlan, ...]:
    """In every tenth cluster a task takes its worker down. Of a generator of its own."""
    rng = Random(f"deadly {seed}")
    at = rng.randrange(len(jobs))
    spec = jobs[at].spec
    if embedded or rng.random() > 0.1 or not spec.splits:
        return jobs
    kind = Kind.REDUCE if spec.reducers and rng.random() < 0.3 else Kind.MAP
    index = rng.randrange(spec.reducers if kind is Kind.REDUCE else len(spec.splits))
    made = replace(jobs[at], deadly=(kind, index), seconds=min(jobs[at].seconds, 0.5))
    return (*jobs[:at], made, *jobs[at + 1 :])


def _slots(rng: Random, embedded: bool) -> Slots:
    if embedded:
        n = rng.randint(1, 3)
        return Slots(map=n, reduce=n, total=n)
    maps, reduces = rng.randint(1, 3), rng.randint(1, 2)
    return Slots(map=maps, reduce=reduces, total=maps + reduces)


def _job(rng: Random, n: int, embedded: bool) -> JobPlan:
    maps = rng.choice((0, 1, 2, 3, 4, 5, 6, 8, 12))
    reduces = rng.choice((0, 1, 1, 2, 2, 3))
    spec = JobSpec(
        job=f"job-{n}",
        name="Simulated",
        code="c",
        entry="m:C",
        parameters={},
        inputs=(),
        stages=one_stage(maps, reduces),
        max_failures=rng.choice((1, 2, 4, 4)),
        max_losses=rng.choice((2, 3, 3)),
        backups=rng.random() < 0.8,
        skip_bad_records=rng.choice((0, 0, 0, 5)),
        priority=rng.choice((0, 0, 1, -1)),
        max_running=rng.choice((None, None, None, 2)),
        seed=rng.getrandbits(32),
    )
    return JobPlan(
        spec=spec,
        at=0.0 if n == 0 else rng.uniform(0, 6),
        seconds=rng.choice((0.03, 0.5, 1.5, 4.0)),
        nondeterministic=rng.choice((0.0, 0.0, 0.0, 0.0, 0.2, 1.0)),
        poison=0 if maps and rng.random() < 0.04 else None,
        cancel_at=rng.uniform(0.5, 15) if rng.random() < 0.05 else None,
    )


def _memory(seed: int, workers: int, embedded: bool) -> tuple[int, ...]:
    """Every third cluster has small workers and large ones. Of a generator of its own: what else a seed
    asks for stays as it was."""
    rng = Random(f"memory {seed}")
    if embedded or rng.random() > 0.35:
        return (0,) * workers
    return tuple(rng.choice((0, 1, 1, 2, 2, 4)) for _ in range(workers))


def _disks(seed: int, workers: int, embedded: bool) -> tuple[tuple[int, ...], float]:
    """Every sixth cluster has disks that its own jobs fill, or others. Of a generator of its own, too."""
    rng = Random(f"disks {seed}")
    if embedded or rng.random() > 0.22:
        return (0,) * workers, 0.0
    tight = rng.choice(((0,), (2, 3, 5), (3, 6, 0)))
    quota = tuple(rng.choice(tight) for _ in range(workers))
    return quota, rng.choice((0.0, 5.0, 12.0)) if any(quota) else 5.0


def _short(seed: int, jobs: tuple[JobPlan, ...], embedded: bool) -> tuple[JobPlan, ...]:
    """In every third cluster there is one more job, of tasks so short that one message names several, with a
    long one among them perhaps; so is the job of every third engine. Of a generator of its own, too."""
    rng = Random(f"short {seed}")
    if rng.random() > 0.35:
        return jobs
    made = replace(_job(rng, len(jobs), embedded), seconds=rng.choice((0.001, 0.004, 0.015)))
    maps = rng.choice((24, 48, 96))
    spec = replace(made.spec, stages=one_stage(maps, made.spec.reducers), memory_bytes=1)
    long = rng.randrange(maps) if rng.random() < 0.25 else None
    deadly = (Kind.MAP, rng.randrange(maps)) if not embedded and rng.random() < 0.05 else None
    made = replace(made, spec=spec, long=long, poison=None, deadly=deadly)
    return (replace(made, spec=replace(spec, job="job-0")),) if embedded else (*jobs, made)


def _sized(seed: int, job: JobPlan) -> JobPlan:
    rng = Random(f"size {seed} {job.spec.job}")
    return replace(job, spec=replace(job.spec, memory_bytes=rng.choice((1, 1, 2, 2, 4, 8))))


def one_stage(maps: int, reduces: int) -> tuple[StageSpec, ...]:
    return (StageSpec(splits=tuple(_split(i) for i in range(maps)), reducers=reduces),)


def _sampled(seed: int, jobs: tuple[JobPlan, ...]) -> tuple[JobPlan, ...]:
    """In every fourth plan the keys of a job are sampled first. Of a generator of its own, too."""
    rng = Random(f"sampled {seed}")
    at = rng.randrange(len(jobs))
    (work,) = jobs[at].spec.stages
    if rng.random() >= 0.25 or not (work.splits and work.reducers):
        return jobs
    (sample,) = one_stage(rng.choice((1, 2, 2, 5)), 0)
    stages = replace(sample, purpose=Purpose.SAMPLE, number=1), replace(work, plan=None)
    made = replace(jobs[at], spec=replace(jobs[at].spec, stages=stages))
    return (*jobs[:at], made, *jobs[at + 1 :])


def _several(seed: int, jobs: tuple[JobPlan, ...]) -> tuple[JobPlan, ...]:
    """In every third plan a job has two to four stages, some with a sampling before. Of a generator of its
    own, too."""
    rng = Random(f"several {seed}")
    at = rng.randrange(len(jobs))
    if rng.random() >= 0.35:
        return jobs
    stages = _chained(rng, jobs[at].spec.stages, rng.choice((2, 2, 3, 4)))
    made = replace(jobs[at], spec=replace(jobs[at].spec, stages=stages))
    return (*jobs[:at], made, *jobs[at + 1 :])


def _chained(rng: Random, first: tuple[StageSpec, ...], count: int) -> tuple[StageSpec, ...]:
    """So many stages of work, the first of them as it is."""
    stages = [replace(s, number=1 if s.purpose is Purpose.WORK else 0) for s in first]
    for number in range(2, count + 1):
        reducers = rng.choice((0, 1, 1, 2, 3, FOLLOWS))
        if reducers and rng.random() < 0.2:
            stages.append(StageSpec(splits=(), reducers=0, purpose=Purpose.SAMPLE, plan=None))
        stages.append(StageSpec(splits=(), reducers=reducers, number=number, plan=None))
    free = iter(range(count + 1, 2 * count + 1))
    return tuple(s if s.number else replace(s, number=next(free)) for s in stages)


def _parts(seed: int) -> float:
    """In every other plan parts between stages are lost. Of a generator of its own, too."""
    return Random(f"parts {seed}").choice((0.0, 0.0, 0.2, 1.0))


def _split(index: int) -> Split:
    piece = Piece(path=f"in-{index}", open=f"/in-{index}", start=0, length=10, size=10, mtime_ns=0)
    return Split(index=index, pieces=(piece,))


def _faults(rng: Random) -> Faults:
    def some(*values: float) -> float:
        return rng.choice((0.0, *values))

    return Faults(
        loss=some(0.01, 0.05, 0.2),
        double=some(0.02, 0.1),
        slow=some(0.02, 0.1),
        slow_s=rng.choice((1.0, 4.0, 12.0)),
        lost_request=some(0.01, 0.1),
        lost_reply=some(0.01, 0.1),
        repeated_call=some(0.05, 0.3),
        user_failure=some(0.0, 0.03, 0.15),
        executor_death=some(0.0, 0.03, 0.1),
        disk_full=some(0.0, 0.0, 0.05),
        hang=some(0.0, 0.0, 0.03),
        fetch=some(0.02, 0.1),
        wiped=some(0.0, 0.02, 0.1),
        host_every_s=some(1.0, 3.0, 8.0),
        master_every_s=some(0.0, 4.0, 10.0),
        store_every_s=some(0.0, 0.0, 10.0),
        lost_every_s=some(0.0, 0.0, 0.0, 12.0),
    )


def calm(faults: Faults) -> Faults:
    """No fault strikes any more."""
    return Faults(**dict.fromkeys(type(faults).__dataclass_fields__, 0.0))
