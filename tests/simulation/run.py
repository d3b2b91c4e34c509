"""Run many seeds on all cores: `python tests/simulation/run.py --seeds 10000`, or `--replay SEED` for one.
`--kind deadly` has tasks that take their worker down, `--kind storm` many kills in a short time.

Prints each failing seed, and at the end how many events there were, which faults struck how often, and
how fast it went. Exit code 1 if a seed failed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # tests/, where the twins are
from sim_workers import KINDS, check, world_of

CHUNK = 100


@dataclass
class Tally:
    seeds: int = 0
    events: int = 0
    virtual_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.seeds += other.seeds
        self.events += other.events
        self.virtual_s += other.virtual_s
        self.faults += other.faults
        self.ends += other.ends
        self.failed += other.failed


def run_chunk(chunk: tuple[str, int, int]) -> Tally:
    """Some seeds in this process."""
    kind, first, last = chunk
    tally = Tally()
    for seed in range(first, last):
        world = world_of(kind, seed)
        try:
            check(kind, world.run())
        except Exception as exc:
            tally.failed.append((seed, f"{type(exc).__name__}: {exc}"))
        tally.seeds += 1
        tally.events += world.events
        tally.virtual_s += world.now
        tally.faults += world.faults_seen
        tally.ends += Counter(state.value for state, _ in world.oracle.over.values())
    return tally


def replay(kind: str, seed: int) -> int:
    """One seed with its whole log."""
    world = world_of(kind, seed, log=True)
    code = 0
    try:
        check(kind, world.run())
    except Exception as exc:
        code = 1
        world.note(f"{type(exc).__name__}: {exc}")
    assert world.lines is not None
    print("\n".join(world.lines))
    print(f"plan: {world.plan}\ntrace: {world.trace:08x}, {world.events} events")
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, default="all")
    parser.add_argument("--replay", type=int)
    parser.add_argument("-j", "--processes", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    if options.replay is not None:
        return replay(options.kind, options.replay)
    last = options.first + options.seeds
    size = CHUNK if options.kind == "all" else CHUNK // 10
    chunks = [(options.kind, at, min(at + size, last)) for at in range(options.first, last, size)]
    total, begun, shown = Tally(), time.monotonic(), 0.0
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for tally in pool.imap_unordered(run_chunk, chunks):
            total.add(tally)
            for seed, why in tally.failed:
                print(f"seed {seed} failed: {why[:500]}\n  --replay {seed} shows it", flush=True)
            now = time.monotonic()
            if now - shown > 5:
                shown = now
                print(f"{total.seeds:,} of {options.seeds:,} seeds", file=sys.stderr, flush=True)
    seconds = time.monotonic() - begun
    print(
        f"{total.seeds:,} seeds, {len(total.failed)} failed; {total.events:,} events, "
        f"{total.virtual_s / 3600:,.1f} virtual hours; {seconds:.1f} s, {total.seeds / seconds:,.0f} seeds/s"
    )
    print("jobs: " + ", ".join(f"{n:,} {end}" for end, n in total.ends.most_common()))
    print("faults: " + ", ".join(f"{n:,} {fault}" for fault, n in total.faults.most_common()))
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
