"""A successor's machine, made from what a store holds, knows what the one that never stopped knows."""

from __future__ import annotations

import cProfile
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_chaos import JOBS, STEPS, Chaos, check
from machine_script import Script, parse, spec

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.info import JobInfo, StageInfo, TaskInfo
from mrq.core.machine import Machine, MachineConfig
from mrq.core.model import Beat, JobSpec, JobState, Status, TaskState, WorkerHealth
from mrq.core.refs import Kind, TaskRef
from mrq.core.store_api import Fence, StoredJob, StoredWorker
from mrq.core.tasks import FailureHistory
from mrq.errors import CorruptFileError

#: The successor's clock is this far ahead of its predecessor's.
AHEAD = 5000.0
#: Calls of functions that a finished task's record may take, to make and to adopt.
LIMIT_MADE, LIMIT_READ = 30, 45

#: What isn't written with every change: see `core.persistence`.
LOST = {"deaths", "unreachable", "unreachable_all", "disk_full", "disk_full_mark", "waits"}
TIMES = {"queued_at", "started_at", "updated_at", "finished_at", "submitted_at"}


class Store:
    """What a store holds after each step, batches being written at once."""

    def __init__(self) -> None:
        self.specs: dict[str, JobSpec] = {}
        self.records: dict[str, dict[str, bytes]] = {}
        self.job_records: dict[str, bytes] = {}
        self.jobs: dict[str, c.WriteJob] = {}

    def write(self, machine: Machine, made: list[c.Command]) -> None:
        for x in made:
            if isinstance(x, c.WriteTask | c.WritePlan):
                self.records.setdefault(x.job, {}).update(machine.records([x]))
            elif isinstance(x, c.WriteJob):
                self.jobs[x.job] = x
        for job in machine.jobs():
            self.job_records[job] = machine.job_record(job)

    def stored(self, machine: Machine, job: str) -> StoredJob:
        """With the claims of what runs, which are the scripts' to write."""
        found = machine._state.jobs[job]
        recorded = [
            e.AttemptClaimed(
                attempt=attempt.ref,
                worker=attempt.worker,
                boot=attempt.boot,
            )
            for table in (found.maps, found.reduces)
            for flight in table.flights.values()
            for attempt in flight.attempts()
        ]
        return StoredJob(
            spec=self.specs[job],
            fence=Fence(incarnation=1, epoch=1, owner="o", seq=1),
            state=self.jobs[job].state,
            error=self.jobs[job].error,
            job_record=self.job_records[job],
            records=dict(self.records.get(job, {})),
            recorded=tuple(recorded),
        )


def heard(machine: Machine) -> list[StoredWorker]:
    found = []
    for w in machine._state.workers.all.values():
        beat = Beat(worker=w.worker, boot=w.boot, seq=w.seq, slots=w.slots, draining=w.draining)
        found.append(StoredWorker(beat=beat, health=w.health, age_s=0.0, quarantine=w.quarantine))
    return found


def successor(store: Store, machine: Machine, now: float) -> Machine:
    made = Machine(machine._state.config, wall=1e9 - AHEAD)
    made.adopt_workers(heard(machine), now + AHEAD)
    for job in machine.jobs():
        assert made.adopt(store.stored(machine, job), now + AHEAD)
    return made


def same_task(old: TaskInfo, new: TaskInfo) -> None:
    running = old.state is TaskState.RUNNING
    for f in fields(TaskInfo):
        was, now = getattr(old, f.name), getattr(new, f.name)
        if f.name in TIMES:
            # Of one that runs the successor knows that it does, not since when.
            if not running or f.name == "queued_at":
                assert now == pytest.approx(was, abs=0.002), f.name
        else:
            assert now == was, f.name


def same_stage(old: StageInfo, new: StageInfo) -> None:
    # Medians are of other samples; the slowest ever may have been put back since; how far attempts are their
    # workers say again.
    cut: dict[str, Any] = {"median_s": 0.0, "slowest": None, "slowest_s": 0.0}
    cut |= {"attempts": 0, "fraction": 0.0, "records_in": 0, "bytes_in": 0}
    assert replace(new, **cut) == replace(old, **cut)


def same_job(old: JobInfo, new: JobInfo) -> None:
    for was, now in zip(old.stages, new.stages, strict=True):
        same_stage(was, now)
    for f in fields(JobInfo):
        was, now = getattr(old, f.name), getattr(new, f.name)
        if f.name in TIMES and f.name != "updated_at":
            assert now == pytest.approx(was, abs=0.002)
        elif f.name == "counters":
            assert {k: v for k, v in now.items() if v} == {k: v for k, v in was.items() if v}
        elif f.name == "attempts":
            assert {x.token for x in now} == {x.token for x in was}
        elif f.name not in ("stages", "updated_at"):
            assert now == was, f.name


def same_insides(old: Machine, new: Machine, name: str) -> None:
    was, now = old._state.jobs[name], new._state.jobs[name]
    assert (now.accepted, now.digest_sum) == (was.accepted, was.digest_sum)
    assert (now.sums, list(new.completed(name))) == (was.sums, list(old.completed(name)))
    for kind in Kind:
        before, after = was.table(kind), now.table(kind)
        assert after.digest.tolist() == before.digest.tolist()
        assert after.results == before.results
        holders = [
            (job.boots[b] if t else None)
            for job, table in ((was, before), (now, after))
            for b, t in zip(table.boot, table.token, strict=True)
        ]
        assert holders[: len(before)] == holders[len(before) :]
        for index, flight in before.flights.items():
            other = after.flights[index]
            for part in ("primary_ticket", "backup_ticket", "offered_to", "last_number"):
                assert getattr(other, part) == getattr(flight, part), part
        for index in {*before.trouble, *after.trouble}:
            a, b = before.trouble.get(index, FailureHistory()), after.trouble.get(index, FailureHistory())
            for part in set(FailureHistory.__slots__) - LOST:
                assert getattr(b, part) == getattr(a, part), (index, part)


@given(steps=STEPS, cut=st.integers(0, 60), embedded=st.booleans())
@settings(max_examples=250)
def test_a_successor_knows_what_its_predecessor_had_written(steps, cut, embedded):
    config = MachineConfig.for_one_worker() if embedded else MachineConfig()
    chaos, now, store = Chaos(), 50.0, Store()
    whole, other = Machine(config, wall=1e9), None
    for i, name in enumerate(JOBS):
        store.specs[name] = spec(name, maps=4, reducers=2, priority=i, skip_bad_records=2 * i)
        made = whole.handle(e.JobSubmitted(spec=store.specs[name]), now)
        store.write(whole, made)
        chaos.see(made)
    for at, step in enumerate([*steps, None]):
        if at == min(cut, len(steps)):
            other = successor(store, whole, now)
            for name in JOBS:
                same_job(whole.job(name), other.job(name))
                for old, new in zip(whole.tasks(name), other.tasks(name), strict=True):
                    same_task(old, new)
                same_insides(whole, other, name)
            check(other)
            done = {won.task for name in JOBS for won, _ in other.completed(name)}
            redone = {
                x.task
                for x in other.handle(e.Restored(), now + AHEAD)
                if isinstance(x, c.WriteTask) and x.winner is None
            }
            gone = {w.boot for w in whole._state.workers.all.values() if w.live is WorkerHealth.DEAD}
            assert not [task for task in done & redone if not _lost_with(whole, task, gone)]
            check(other)
        if step is None:
            break
        now += step[5]
        event = chaos.event(step)
        made = whole.handle(event, now)
        store.write(whole, made)
        chaos.see(made)
        if other is not None:  # it goes on, and whatever comes is legal
            chaos.see(other.handle(event, now + AHEAD))
            check(other)


def _lost_with(machine: Machine, task: TaskRef, gone: set[str]) -> bool:
    """A map's output is on the disk of a boot that isn't its worker's any more."""
    job = machine._state.jobs[task.job]
    worker, boot = job.boots[job.table(task.kind).boot[task.index]]
    known = machine._state.workers.all.get(worker)
    return task.kind is Kind.MAP and (boot in gone or (known is not None and known.boot != boot))


def cut(s: Script, store: Store) -> None:
    """The leader dies; another goes on from the store."""
    old = s.machine
    s.now += 3.0
    stored = [store.stored(old, job) for job in old.jobs()]
    s.machine = Machine(MachineConfig(), wall=1e9)
    s.machine.adopt_workers(heard(old), s.now)
    for job in stored:
        s.machine.adopt(job, s.now)
    s.do(e.Restored())
    for job in stored:
        for event in job.recorded:
            s.do(event)


class Kept(Script):
    """A script whose steps are stored."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.machine = Machine(MachineConfig(), wall=1e9)

    def do(self, event: e.Event) -> list[c.Command]:
        if isinstance(event, e.JobSubmitted):
            self.store.specs[event.spec.job] = event.spec
        out = super().do(event)
        self.store.write(self.machine, out)
        return out


def test_takeover_what_ran_runs_on_what_was_queued_is_published_again_nothing_complete_is_redone():
    s = Kept()
    s.join("w1", "w2")
    s.submit(maps=3, reducers=2)
    s.run("m0", worker="w1")
    running = s.claim("m1", "w2")
    before = {x.message for x in s.of(c.PublishTask, s.log)}
    s.log.clear()
    cut(s, s.store)
    assert set(s.published(s.log)) & {"m0", "m1", "m2"} == {"m2"}
    # With the ticket that it had: whoever claims it from the message of before meanwhile loses nothing.
    (copy,) = (x.message for x in s.of(c.PublishTask, s.log) if x.message.task == parse("m2"))
    assert copy in before
    s.done(running)
    s.run("m2", "r0", "r1", worker="w1")
    assert s.state() is JobState.COMMITTING


def test_takeover_a_claim_of_a_boot_that_is_gone_is_put_back_at_once():
    s = Kept()
    s.join("w1", "w2")
    s.submit(maps=1, reducers=1)
    s.claim("m0", "w1")
    stored = s.store.stored(s.machine, "j")
    s.workers["w1"].boot = "w1-boot2"  # it came back while nobody led
    beats = [
        replace(each, beat=replace(each.beat, boot=s.workers[each.beat.worker].boot))
        for each in heard(s.machine)
    ]
    s.machine = Machine(MachineConfig(), wall=1e9)
    s.machine.adopt_workers(beats, s.now)
    s.machine.adopt(stored, s.now)
    s.do(e.Restored())
    for event in stored.recorded:
        s.do(event)
    assert s.task("m0").ticket == 2


def test_takeover_maps_on_a_boot_that_is_gone_run_again():
    s = Kept()
    s.join("w1", "w2")
    s.submit(maps=2, reducers=1)
    s.run("m0", worker="w1")
    s.run("m1", worker="w2")
    stored = s.store.stored(s.machine, "j")
    s.workers["w1"].boot = "w1-boot2"
    beats = [
        replace(each, beat=replace(each.beat, boot=s.workers[each.beat.worker].boot))
        for each in heard(s.machine)
    ]
    s.machine = Machine(MachineConfig(), wall=1e9)
    s.machine.adopt_workers(beats, s.now)
    s.machine.adopt(stored, s.now)
    s.do(e.Restored())
    assert not s.is_("m0", TaskState.COMPLETED)
    assert s.is_("m1", TaskState.COMPLETED)


def test_takeover_a_worker_in_quarantine_stays_there_and_a_silent_one_has_a_full_grace():
    s = Kept()
    s.join("w1", "w2")
    s.do(e.QuarantineRequested(worker="w2"))
    s.submit(maps=1)
    s.claim("m0", "w1")
    s.workers["w1"].silent = s.workers["w2"].silent = True
    s.advance(13)
    cut(s, s.store)
    assert {w.worker: w.health for w in s.machine.workers()}["w2"] is WorkerHealth.QUARANTINED
    s.advance(14)
    assert s.is_("m0", TaskState.RUNNING)
    s.advance(2)
    assert not s.is_("m0", TaskState.RUNNING)


def test_takeover_a_backup_that_was_offered_and_never_claimed_is_taken_back():
    s = Kept()
    s.join("w1", "w2", maps=8)
    s.submit(maps=8, reducers=1)
    late = s.claim("m7", "w1")
    s.run(*(f"m{i}" for i in range(7)), worker="w2")
    s.advance(8)
    assert s.offered(s.log)
    assert s.machine._state.jobs["j"].maps.flights[7].backup_ticket == 2
    cut(s, s.store)
    s.advance(11)
    flight = s.machine._state.jobs["j"].maps.flights[7]
    assert flight.backup_ticket in (0, 3)  # taken back, and perhaps offered anew
    s.done(late)
    assert s.is_("m7", TaskState.COMPLETED)


def test_takeover_each_value_that_cannot_be_ordered_still_counts():
    s = Kept()
    s.join("w1")
    s.submit(maps=1, reducers=1, skip_bad_records=1)
    s.run("m0", worker="w1")
    s.fail(s.claim("r0", "w1"), Status.FETCH_FAILED, fetch=[(0, 1, "unordered")])
    cut(s, s.store)
    m0 = s.claim("m0", "w1")
    assert (m0.message.careful, m0.message.strict_order) == (True, True)
    s.done(m0, digest=7)
    assert s.claim("r0", "w1").message.strict_order


def test_takeover_charges_are_kept_and_forgiven_ones_stay_forgiven():
    s = Kept()
    s.join("w1")
    s.submit(maps=1, reducers=0, max_failures=2)
    s.fail(s.claim("m0", "w1"))
    cut(s, s.store)
    assert s.task("m0").failures == 1
    s.advance(2)
    s.fail(s.claim("m0", "w1"))
    assert s.state() is JobState.FAILED
    s.do(e.RetryRequested(job="j"))
    cut(s, s.store)
    assert (s.task("m0").failures, s.view().failures) == (0, 0)
    s.advance(2)
    s.run("m0", worker="w1")
    assert s.state() is JobState.COMMITTING


def test_takeover_while_a_job_commits_asks_for_the_same_commit():
    s = Kept()
    s.join("w1")
    s.submit()
    s.run("m0", "m1", "r0", worker="w1")
    (first,) = s.of(c.StartCommit)
    cut(s, s.store)
    assert s.of(c.StartCommit, s.log)[1:] == [first]


def test_a_job_that_was_begun_and_never_written_is_to_be_submitted():
    stored = StoredJob(
        spec=spec(),
        fence=Fence(incarnation=1, epoch=1, owner="o", seq=0),
        state=JobState.PENDING,
        error=None,
        job_record=None,
        records={},
        recorded=(),
    )
    assert not Machine(MachineConfig()).adopt(stored, 0.0)


@pytest.mark.parametrize(
    "damage", [b"", b"\x91\x01", msgpack.packb([9] * 16), msgpack.packb([1, 1] + [0] * 14)]
)
def test_records_that_cannot_be_read_are_refused_and_leave_no_trace(damage):
    s = Kept()
    s.join("w1")
    s.submit(maps=2)
    stored = s.store.stored(s.machine, "j")
    made = Machine(MachineConfig())
    with pytest.raises(CorruptFileError, match="job j"):
        made.adopt(replace(stored, records={**stored.records, "m0": damage}), s.now)
    assert made.jobs() == []
    assert all(not any(counts) for counts in made._state.totals.values())


def test_a_finished_tasks_record_is_small_and_made_and_read_in_few_steps():
    """In bytes, and in calls of functions; benchmarks/machine_scale.py measures the time."""
    s = Kept()
    s.join("w1", maps=2000)
    s.submit(maps=1000, reducers=1)
    s.run(*(f"m{i}" for i in range(1000)), worker="w1")
    sizes = [len(data) for key, data in s.store.records["j"].items() if key[0] == "m"]
    assert sum(sizes) / len(sizes) < 200
    made = calls(lambda: [s.machine.record(parse(f"m{index}")) for index in range(1000)])
    stored = s.store.stored(s.machine, "j")
    read = calls(lambda: Machine(MachineConfig()).adopt(stored, s.now))
    print(f"{made / 1000:.1f} calls to make a record, {read / 1000:.1f} to adopt one")
    assert made / 1000 < LIMIT_MADE
    assert read / 1000 < LIMIT_READ


def calls(work: Callable[[], object]) -> int:
    """How many calls of functions, ours and Python's own, some work takes."""
    profile = cProfile.Profile()
    profile.runcall(work)
    return sum(entry.callcount for entry in profile.getstats())


def test_a_claim_with_another_ticket_is_nobodys():
    s = Kept()
    s.join("w1")
    s.submit(maps=1)
    held = s.claim("m0", "w1")
    stored = s.store.stored(s.machine, "j")
    (claim,) = stored.recorded
    wrong = replace(claim, attempt=claim.attempt._replace(ticket=2))
    made = Machine(MachineConfig())
    made.adopt_workers(heard(s.machine), s.now)
    made.adopt(replace(stored, recorded=(wrong,)), s.now)
    assert next(t for t in made.tasks("j")).state is TaskState.QUEUED
    assert held.attempt.ticket == 1
