"""A merge's peak memory stays within its budget, in a process of its own, whatever the data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BUDGET_MIB = 24

PROGRAM = """
import pickle, random, sys
from mrq.codec.order import sort_columns
from mrq.shuffle.merge import merge
from mrq.shuffle.mapfile import write_run

folder, shape, budget = sys.argv[1], sys.argv[2], int(sys.argv[3]) << 20
rng = random.Random(1)
SHAPES = {
    "words": lambda: (f"w{rng.randrange(10**9):09}", 1),
    "records": lambda: (rng.randbytes(10), rng.randbytes(90)),
    "numbers": lambda: (rng.randrange(1 << 50), rng.random()),
    "mixed keys": lambda: ((rng.randrange(1 << 50), f"k{rng.randrange(10**8)}")[rng.randrange(2)], None),
    "one key": lambda: ("k", f"v{rng.randrange(10**9):09}"),
    "tuples": lambda: ((f"h{rng.randrange(999)}", rng.randrange(10**6)), (rng.randrange(10**6), "x")),
}

def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10

runs = []
while sum(run.cost for run in runs) < 2 * budget:
    pairs = [SHAPES[shape]() for _ in range(8000)]
    ordered = sort_columns([k for k, _ in pairs], [v for _, v in pairs])
    runs.append(write_run(f"{folder}/{len(runs)}", [ordered]))
records = sum(run.records for run in runs)
half = runs[: len(runs) // 2 - 1]
del pairs, ordered
base = None
for sources in (half, runs):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    base = base or peak()
    seen = sum(len(keys) for keys, _ in merge(sources, memory=budget, scratch=folder, tick=lambda: None))
    whole = seen == sum(run.records for run in sources)
    print(whole, sum(run.cost for run in sources) > budget, peak() - base)
"""


@pytest.mark.parametrize("shape", ["words", "records", "numbers", "mixed keys", "one key", "tuples"])
def test_peak_memory_is_the_budget(tmp_path: Path, shape: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), shape, str(BUDGET_MIB)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded, stepwise = [line.split() for line in done.stdout.splitlines()]
    assert loaded[:2] == ["True", "False"]
    assert stepwise[:2] == ["True", "True"]
    for peak in (loaded[2], stepwise[2]):
        assert int(peak) <= (BUDGET_MIB + 4) << 20
