"""A thousand seeds of simulated chaos, and that a seed replays identically."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sim_plan
from sim_world import World

from mrq.core.model import Slots

SEEDS = 1000
CHUNK = 50


def run_seeds(first: int, last: int) -> None:
    for seed in range(first, last):
        try:
            World(seed).run()
        except Exception as exc:
            exc.add_note(f"seed {seed}: replay with  python tests/simulation/run.py --replay {seed}")
            raise


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_seeds(first: int) -> None:
    run_seeds(first, first + CHUNK)


@pytest.mark.parametrize(
    ("seed", "found"),
    [
        (1618, "the last holder of a wiped store took its own lapsed lease for another's, and let go"),
        (20133, "the answer to `open` was lost as the epoch changed, and the store was restored once more"),
        (
            20698,
            "a leader died restoring, between its first fence and `open`: its successors were all fenced",
        ),
        (51, "a map was offered again and again to a worker whose disk was full, beside one that had room"),
        (4143, "a map claimed ahead of a reduce that waited for it kept the only slot from it"),
        (4536, "a reduce that began after the maps held the only slot, and a map had to run again"),
        (6380, "the leader missed the beat that said that a disk was full, and waited for ever for room"),
        (30115, "a report that the store forgot was charged as the death of an executor"),
        (
            7310871,
            "a reduce waited for maps that no disk had room for, in the slot of one that would make some",
        ),
        (7310553, "attempts that couldn't be begun failed a job as they may, which the checks didn't know"),
        (92425, "a reduce had read outputs that the store forgot, and its digest failed the job"),
    ],
)
def test_seeds_that_once_failed(seed: int, found: str) -> None:
    run_seeds(seed, seed + 1)


@pytest.mark.parametrize("seed", [3, 17, 74, 163, 427])
def test_a_seed_replays_identically(seed: int) -> None:
    one, two = World(seed).run(), World(seed, log=True).run()
    assert (one.trace, one.events, one.now) == (two.trace, two.events, two.now)
    assert one.trace != World(seed + 1).run().trace


def test_a_seed_replays_identically_in_another_process() -> None:
    script = "from sim_world import World; print([World(s).run().trace for s in (5, 31, 101)])"
    here = Path(__file__).parent
    traces = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{here}:{here.parent}"},
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for hash_seed in ("0", "1", "4242")
    }
    assert len(traces) == 1


def test_the_others_of_a_message_dont_wait_for_one_that_takes_a_minute() -> None:
    """Slots are free elsewhere: they are done there within the bound of what hasn't begun, 5 s."""
    for seed in range(20):
        plan = sim_plan.storm(seed)
        job = replace(plan.jobs[0], seconds=0.004, long=12)
        stages = sim_plan.one_stage(48, 0)
        job = replace(job, spec=replace(job.spec, stages=stages, backups=False, max_running=None))
        slots = Slots(map=1, reduce=1, total=2)
        world = World(seed, plan=replace(plan, jobs=(job,), workers=2, slots=slots, kills=())).run()
        assert world.faults_seen["several in a message"]
        began = min(task.queued_at for task in world.leader.machine.tasks(job.spec.job))
        took = {task.task: task.finished_at - began for task in world.leader.machine.tasks(job.spec.job)}
        assert took.pop("m-00012") > 60
        assert max(took.values()) < 8, took


def test_every_fault_strikes_and_jobs_still_get_done() -> None:
    struck: set[str] = set()
    ends: set[str] = set()
    for seed in range(5000, 5150):
        world = World(seed).run()
        struck |= set(world.faults_seen)
        ends |= {state.value for state, _ in world.oracle.over.values()}
    assert struck >= {
        "lost",
        "doubled",
        "slow",
        "lost request",
        "lost reply",
        "wiped",
        "crash",
        "pause",
        "zombie",
        "drain",
        "ordered drain",
        "broker",
        "quarantine",
        "master restart",
        "store away",
        "fetch",
        "given back",
        "attempt failed",
        "attempt lost",
        "attempt disk_full",
        "attempt timed_out",
        "disk filled",
        "room again",
    }
    assert ends == {"done", "failed", "cancelled"}
