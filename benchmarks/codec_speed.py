"""Nanoseconds an item of the codec, the partitioner, the sort and the merge. Runs alone, in seconds:

    python benchmarks/codec_speed.py [records]

The best of three runs a line; other load on the machine shows.
"""

from __future__ import annotations

import gc
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from mrq.codec.columns import decode_column, encode_column
from mrq.codec.hashing import partition_column
from mrq.codec.order import sort_columns, sort_pairs
from mrq.shuffle.block import BLOCK_RECORDS
from mrq.shuffle.budget import cost
from mrq.shuffle.mapfile import Region, write_run
from mrq.shuffle.merge import merge

RUNS = 16
PARTITIONS = 16


def columns(n: int) -> dict[str, tuple[list[Any], list[Any]]]:
    """Named pairs of columns, seeded."""
    rng = random.Random(7)
    words = [f"word{int(rng.paretovariate(0.5)) % 1_000_000_007}" for _ in range(n)]
    mixed: list[Any] = [(i, f"k{i}", i / 3, None)[i % 4] for i in range(n)]
    return {
        "str -> int 1": (words, [1] * n),
        "str -> int": (words, [rng.randrange(100_000) for _ in range(n)]),
        "bytes 10 -> bytes 90": (
            [rng.randbytes(10) for _ in range(n)],
            [rng.randbytes(90) for _ in range(n)],
        ),
        "int -> float": ([rng.randrange(1 << 40) for _ in range(n)], [rng.random() for _ in range(n)]),
        "(str, int) -> (int, str)": (
            [(word, i % 10) for i, word in enumerate(words)],
            [(i, word) for i, word in enumerate(words)],
        ),
        "mixed -> dict": (mixed, [{"a": i, "b": [str(i)]} for i in range(n)]),
        "str -> [tuple]": (words, [[(i, "x")] for i in range(n)]),
    }


def best(function: Callable[[], object], n: int, runs: int = 3) -> float:
    """The fastest of some runs, in ns an item."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times) / n * 1e9


def in_blocks(column: Sequence[Any]) -> list[Sequence[Any]]:
    return [column[at : at + BLOCK_RECORDS] for at in range(0, len(column), BLOCK_RECORDS)]


def write_runs(keys: list[Any], values: list[Any], folder: str) -> list[Region]:
    runs = []
    size = len(keys) // RUNS + 1
    for at in range(0, len(keys), size):
        ordered = sort_pairs(keys[at : at + size], values[at : at + size])
        runs.append(write_run(f"{folder}/{len(runs)}.run", [ordered]))
    return runs


def measure(name: str, keys: list[Any], values: list[Any]) -> None:
    n = len(keys)
    key_blocks, value_blocks = in_blocks(keys), in_blocks(values)
    encoded_keys = [encode_column(block, keys=True) for block in key_blocks]
    encoded_values = [encode_column(block) for block in value_blocks]
    numbers = {
        "part": best(lambda: [partition_column(block, PARTITIONS) for block in key_blocks], n),
        "enc k": best(lambda: [encode_column(block, keys=True) for block in key_blocks], n),
        "dec k": best(lambda: [decode_column(data) for data in encoded_keys], n),
        "enc v": best(lambda: [encode_column(block) for block in value_blocks], n),
        "dec v": best(lambda: [decode_column(data) for data in encoded_values], n),
        "cost": best(lambda: [cost(k, v) for k, v in zip(key_blocks, value_blocks, strict=True)], n),
        "sort": best(lambda: sort_columns(keys, values), n),
    }
    folder = tempfile.mkdtemp(prefix="mrq-codec-speed-")
    try:
        runs = write_runs(keys, values, folder)
        total = sum(run.cost for run in runs)

        def drain(memory: int) -> None:
            for _ in merge(runs, memory=memory, scratch=folder, tick=lambda: None):
                pass

        numbers["merge"] = best(lambda: drain(total), n, 2)
        numbers["m/3"] = best(lambda: drain(total // 3), n, 2)
        numbers["B/rec"] = sum(run.bytes for run in runs) / n
        numbers["cost/r"] = total / n
    finally:
        shutil.rmtree(folder)
    print(f"{name:26}" + "".join(f"{number:8.1f}" for number in numbers.values()), flush=True)


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 400_000
    gc.disable()
    head = "part", "enc k", "dec k", "enc v", "dec v", "cost", "sort", "merge", "m/3", "B/rec", "cost/r"
    print(f"{f'{n:,} records, ns an item':26}" + "".join(f"{name:>8}" for name in head))
    for name, (keys, values) in columns(n).items():
        measure(name, keys, values)


if __name__ == "__main__":
    main()
