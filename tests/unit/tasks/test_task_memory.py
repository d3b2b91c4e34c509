"""Peak memory stays within the budget plus 80 MiB, plus a small multiple of the largest record.

Each case runs in a process of its own with a budget far below what the data takes, and reports VmHWM.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MIB = 1 << 20
BUDGET = 24 * MIB
SLACK = 80 * MIB

PROGRAM = '''
import json, os, sys
sys.path[:0] = [{here!r}, {root!r}]
from pathlib import Path
import mrq
from tasks_rig import Rig

class Words(mrq.Job):
    """One line says how many pairs."""
    def map(self, key, line):
        {mapping}
    reduce = {reduce}

ran = Rig(Words(), Path(sys.argv[1]), reducers={reducers}, memory={budget}).whole(*[b"{count}\\n"] * {maps})
results = [*ran.maps, *ran.reduces]
print(json.dumps([max(r.peak_rss_bytes for r in results), sum(r.spills for r in ran.maps),
                  sum(r.records_in for r in ran.reduces), sum(r.groups for r in ran.reduces)]))
'''

FEW_KEYS = "for n in range(int(line)): yield f'key {n * 7919 % 1000003}', n"
SUM = "lambda self, key, values: [sum(values)]"
#: Name -> the body of map, the reduce, how many pairs a map.
CASES = {
    "one key with many values": ("for n in range(int(line)): yield 'k', n", "mrq.identity", 700_000),
    "one key, a user's reduce": ("for n in range(int(line)): yield 'k', n", SUM, 700_000),
    "distinct keys, folded": (FEW_KEYS.replace(", n", ", 1"), "mrq.sum", 400_000),
    "distinct keys, folded floats": (FEW_KEYS.replace(", n", ", n / 3"), "mrq.sum", 400_000),
    "distinct keys, extremes": ("for n in range(int(line)): yield n, str(n)", "mrq.max", 300_000),
    "distinct keys, lists": (FEW_KEYS, SUM, 400_000),
    "mixed keys": ("for n in range(int(line)): yield (n if n % 2 else str(n)), n", "mrq.identity", 500_000),
    "values of 100 kB": ("for n in range(int(line)): yield n, str(n % 10) * 100_000", "mrq.identity", 800),
    "keys of 100 kB": ("for n in range(int(line)): yield f'{n:05d}' * 20_000, 1", "mrq.sum", 500),
    "small values, then large ones": (
        "for n in range(int(line)): yield n, 'v' * (200_000 if n > 100_000 else 5)",
        "lambda self, key, values: [len(next(values))]",
        100_500,
    ),
}


def peak(folder: Path, *, count: int = 400_000, maps: int = 2, **job: str) -> list[int]:
    here = Path(__file__).parent
    program = PROGRAM.format(
        here=str(here), root=str(here.parents[2]), budget=BUDGET, count=count, maps=maps, reducers=1, **job
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: list[int] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_budget_holds(name: str, tmp_path: Path) -> None:
    mapping, reduce, count = CASES[name]
    rss, spills, records, _ = peak(tmp_path, mapping=mapping, reduce=reduce, count=count)
    assert spills > 0, "the case is too small to show anything"
    assert records > 0
    assert rss < BUDGET + SLACK, f"{rss / MIB:.0f} MiB"


def test_one_huge_value(tmp_path: Path) -> None:
    size = 100 * MIB
    rss, _, records, groups = peak(
        tmp_path, count=size, maps=1, mapping="yield 1, 'x' * int(line); yield 2, 'y'", reduce="mrq.identity"
    )
    assert (records, groups) == (2, 2)
    assert rss < BUDGET + SLACK + 4 * size, f"{rss / MIB:.0f} MiB"
