"""The leader's machine at scale: time per event and bytes per task, with simulated workers.

    python benchmarks/machine_scale.py [--tasks 10000,100000,1000000] [--workers 10000]

Every task is claimed and reported; every worker beats in between, listing what it runs. Only the
time inside `Machine.handle` is counted. Memory is what tracemalloc sees of the machine once all maps are
done, divided by tasks (a second run, since tracing slows everything down). `record` and `adopt` are µs of
processor time a task: to make what a store keeps of it, and to make a successor's machine from that.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import tracemalloc
from collections import deque
from dataclasses import dataclass, field

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.machine import Machine, MachineConfig
from mrq.core.model import (
    Beat,
    JobSpec,
    JobState,
    Outcome,
    RunningAttempt,
    Slots,
    Split,
    StageSpec,
    Status,
    TaskMessage,
    TaskResult,
)
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_api import Fence, StoredJob

SLOTS = Slots(map=2, reduce=1, total=3)
BEAT_EVERY = 4  # reports of all workers per beat of one


@dataclass(slots=True)
class Meter:
    """Seconds and counts by event, and the worst single one."""

    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    samples: list[float] = field(default_factory=list)

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.counts[name] = self.counts.get(name, 0) + 1
        self.samples.append(seconds)


def spec(tasks: int) -> JobSpec:
    """A job with so many maps, which share one split object: the machine keeps none of them."""
    return JobSpec(
        job="scale",
        name="Scale",
        code="c",
        entry="m:J",
        parameters={},
        inputs=(),
        stages=(StageSpec(splits=(Split(index=0, pieces=()),) * tasks, reducers=1),),
    )


class Simulation:
    """Workers that claim what is published and report it in turn."""

    def __init__(self, tasks: int, workers: int, *, timed: bool) -> None:
        self.machine = Machine(MachineConfig())
        self.meter = Meter()
        self.timed = timed
        self.now = 0.0
        self.seqs = [0] * workers
        self.running: list[dict[str, RunningAttempt]] = [{} for _ in range(workers)]
        self.published: deque[TaskMessage] = deque()
        self.names = [(f"worker-{i:05d}", f"boot-{i:05d}") for i in range(workers)]
        self.tasks = tasks

    def handle(self, event: e.Event) -> None:
        begun = time.perf_counter()
        out = self.machine.handle(event, self.now)
        if self.timed:
            self.meter.add(type(event).__name__, time.perf_counter() - begun)
        for command in out:
            if isinstance(command, c.PublishTask) and command.message.task.kind is Kind.MAP:
                self.published.append(command.message)

    def beat(self, worker: int) -> None:
        self.seqs[worker] += 1
        name, boot = self.names[worker]
        running = tuple(self.running[worker].values())
        beat = Beat(worker=name, boot=boot, seq=self.seqs[worker], slots=SLOTS, running=running)
        self.handle(e.BeatReceived(beat=beat))

    def run(self) -> None:
        """All maps, from submit to the last report."""
        workers = len(self.names)
        for worker in range(workers):
            self.beat(worker)
        # Submitting costs what there are tasks, once: not among the events.
        for command in self.machine.handle(e.JobSubmitted(spec=spec(self.tasks)), self.now):
            if isinstance(command, c.PublishTask) and command.message.task.kind is Kind.MAP:
                self.published.append(command.message)
        held: deque[tuple[int, TaskMessage, AttemptRef]] = deque()
        free = deque(worker for _ in range(SLOTS.map) for worker in range(workers))
        done = turn = 0
        while done < self.tasks:
            while free and self.published:
                worker, message = free.popleft(), self.published.popleft()
                held.append((worker, message, self._claim(worker, message, done + len(held))))
            worker, message, attempt = held.popleft()
            self._report(worker, message, attempt)
            free.append(worker)
            done += 1
            if done % BEAT_EVERY == 0:
                self.beat(turn % workers)
                turn += 1
            self.now += 1.0 / (BEAT_EVERY * workers)  # each worker beats once a second
            if done % 1000 == 0:
                self.handle(e.Ticked())

    def _claim(self, worker: int, message: TaskMessage, number: int) -> AttemptRef:
        attempt = AttemptRef(message.task, message.ticket, 1, f"{number:032x}")
        name, boot = self.names[worker]
        self.running[worker][attempt.token] = RunningAttempt(attempt=attempt, phase="mapping")
        self.handle(e.AttemptClaimed(attempt=attempt, worker=name, boot=boot))
        return attempt

    def _report(self, worker: int, message: TaskMessage, attempt: AttemptRef) -> None:
        name, boot = self.names[worker]
        del self.running[worker][attempt.token]
        result = TaskResult(
            records_in=123_456,
            bytes_in=67_108_864,
            records_out=34_567,
            bytes_out=1_234_567,
            digest=0x9E3779B97F4A7C15 ^ message.task.index,
            records_emitted=1_234_567,
            spills=2,
            counters={"lines": 123_456},
            seconds=12.5,
            peak_rss_bytes=300 << 20,
        )
        self.handle(
            e.AttemptReported(
                attempt=attempt,
                worker=name,
                boot=boot,
                outcome=Outcome(status=Status.DONE, result=result),
            )
        )


def measure(tasks: int, workers: int) -> dict[str, float]:
    """One row of the table."""
    timed = Simulation(tasks, workers, timed=True)
    gc.collect()
    gc.freeze()
    timed.run()
    gc.unfreeze()
    meter = timed.meter
    samples = sorted(meter.samples)
    row = {
        "tasks": tasks,
        "events": len(samples),
        "mean_us": sum(samples) / len(samples) * 1e6,
        "p99_us": samples[len(samples) * 99 // 100] * 1e6,
        "max_ms": samples[-1] * 1e3,
    }
    for name in ("AttemptClaimed", "AttemptReported", "BeatReceived"):
        row[name] = meter.seconds[name] / meter.counts[name] * 1e6
    return {**row, **records(timed.machine, tasks)}


def records(machine: Machine, tasks: int) -> dict[str, float]:
    """What a store keeps of finished maps, and what a successor makes of it."""
    begun = time.process_time()
    made = {f"m{i}": machine.record(TaskRef("scale", 0, Kind.MAP, i)) for i in range(tasks)}
    record_s = time.process_time() - begun
    stored = StoredJob(
        spec=spec(tasks),
        fence=Fence(incarnation=1, epoch=1, owner="o", seq=1),
        state=JobState.RUNNING,
        error=None,
        job_record=machine.job_record("scale"),
        records=made,
        recorded=(),
    )
    begun = time.process_time()
    Machine(MachineConfig()).adopt(stored, 0.0)
    adopt_s = time.process_time() - begun
    size = sum(map(len, made.values())) / tasks
    return {"record_us": record_s / tasks * 1e6, "adopt_us": adopt_s / tasks * 1e6, "record_b": size}


def memory(tasks: int, workers: int) -> float:
    """Bytes per task, workers not counted."""
    simulation = Simulation(tasks, workers, timed=False)
    for worker in range(workers):
        simulation.beat(worker)
    gc.collect()
    tracemalloc.start()
    simulation.run()
    for running in simulation.running:
        running.clear()
    simulation.published.clear()
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / tasks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", default="10000,100000,1000000")
    parser.add_argument("--workers", type=int, default=10_000)
    parser.add_argument("--no-memory", action="store_true")
    args = parser.parse_args()
    print(f"{args.workers} workers, {SLOTS.map} map slots each; times in \u00b5s per event")
    head = (
        "tasks",
        "events",
        "mean",
        "p99",
        "max ms",
        "claimed",
        "reported",
        "beat",
        "record",
        "adopt",
        "B/record",
        "B/task",
    )
    print("".join(f"{title:>10}" for title in head))
    for tasks in map(int, args.tasks.split(",")):
        row = measure(tasks, args.workers)
        cells = [f"{tasks:>10}", f"{row['events']:>10.0f}", f"{row['mean_us']:>10.1f}"]
        cells += [f"{row['p99_us']:>10.1f}", f"{row['max_ms']:>10.1f}"]
        names = ("AttemptClaimed", "AttemptReported", "BeatReceived")
        cells += [f"{row[name]:>10.1f}" for name in names]
        cells += [f"{row[name]:>10.1f}" for name in ("record_us", "adopt_us", "record_b")]
        print("".join(cells), end="", flush=True)
        print("" if args.no_memory else f"{memory(tasks, args.workers):>10.0f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
