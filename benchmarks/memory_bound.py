"""Peak memory of executors against what mrq promises: `python benchmarks/memory_bound.py [--scale 1.0]`.

Runs real jobs through the command line on hostile shapes of data, one executor each, and prints what the
largest task's process took at most (VmHWM, as the executor itself reads it) beside the bound: the budget
(`--memory`) plus 80 MiB plus a small multiple of the largest single record. Exits with 1 if any is over.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

_ROOT: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

#: What an executor may take beside its budget, bytes.
BASE_BYTES: Final = 80 << 20
#: How many times the largest single record may be there at once: read, decoded, encoded, framed.
RECORD_COPIES: Final = 4

#: A job file: `n` lines of input times `each` pairs a line is what map yields.
_HEAD: Final = """
import mrq

class Shape(mrq.Job{settings}):
    n: int
    each: int = 1000

    def map(self, key, line):
        at = int(line) * self.each
        for i in range(at, at + self.each):
            yield {pair}
"""
_STREAM: Final = """
    def reduce(self, key, values):
        count = 0
        for value in values:
            count += 1
        yield count
"""
_ORDERED: Final = """
    def reduce(self, key, values):
        count, last = 0, None
        for value in values:
            assert last is None or last <= value
            count, last = count + 1, value
        yield count
"""
_COMBINED: Final = """
    def combine(self, key, values):
        yield sum(values)

    def reduce(self, key, values):
        yield sum(values)
"""
_LAST: Final = """
    def reduce(self, key, values):
        for value in values:
            size = len(value)
        yield size
"""
_COMMON: Final = ("shape.py", "in.txt", "-o", "out", "--json", "-q", "-j", "1")
_SCATTERED: Final = "(i * 2654435761 & 0xffffffff)"


def _reduce(name: str) -> str:
    return f"    reduce = mrq.{name}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One kind of hostile data."""

    name: str
    pairs: int  #: at scale 1
    pair: str = "i, 1"
    reduce: str = ""
    settings: str = ""
    options: tuple[str, ...] = ()
    map: str | None = None  #: a whole map method instead of `pair`
    record_bytes: int = 0  #: the largest single record, at scale 1
    descriptors: int | None = None  #: `ulimit -n`
    check: Callable[[dict[str, Any], int], bool] | None = field(default=None)


def _groups(expected: Callable[[int], int]) -> Callable[[dict[str, Any], int], bool]:
    return lambda summary, pairs: summary["records_out"] == expected(pairs)


_ALL = _groups(lambda pairs: pairs)
_ONE = _groups(lambda _: 1)

SHAPES: Final = (
    Shape(name="one key, a reduce that streams", pairs=10_000_000, pair="'k', i", reduce=_STREAM, check=_ONE),
    Shape(
        name="one key, strings", pairs=10_000_000, pair=f"'k', str({_SCATTERED})", reduce=_STREAM, check=_ONE
    ),
    Shape(
        name="one key, sort_values",
        pairs=10_000_000,
        pair=f"'k', {_SCATTERED}",
        reduce=_ORDERED,
        settings=", sort_values=True",
        check=_ONE,
    ),
    Shape(name="one key, mrq.sum", pairs=10_000_000, pair="'k', i", reduce=_reduce("sum"), check=_ONE),
    Shape(
        name="one key, mrq.sum of floats",
        pairs=10_000_000,
        pair="'k', i * 0.1",
        reduce=_reduce("sum"),
        check=_ONE,
    ),
    Shape(name="one key, combine", pairs=10_000_000, pair="'k', i", reduce=_COMBINED, check=_ONE),
    Shape(
        name="distinct keys, mrq.sum",
        pairs=10_000_000,
        pair=f"str({_SCATTERED}), 1",
        reduce=_reduce("sum"),
        check=_ALL,
    ),
    Shape(
        name="distinct keys, mrq.sum of floats",
        pairs=10_000_000,
        pair=f"str({_SCATTERED}), 0.1",
        reduce=_reduce("sum"),
        check=_ALL,
    ),
    Shape(
        name="distinct keys, mrq.max",
        pairs=10_000_000,
        pair=f"str({_SCATTERED}), i",
        reduce=_reduce("max"),
        check=_ALL,
    ),
    Shape(
        name="distinct keys, a user's reduce",
        pairs=10_000_000,
        pair=f"str({_SCATTERED}), 1",
        reduce=_STREAM,
        check=_ALL,
    ),
    Shape(
        name="distinct keys, combine",
        pairs=10_000_000,
        pair=f"str({_SCATTERED}), 1",
        reduce=_COMBINED,
        check=_ALL,
    ),
    Shape(
        name="distinct keys, R=1000",
        pairs=10_000_000,
        pair=f"str({_SCATTERED}), 1",
        reduce=_STREAM,
        options=("-R", "1000"),
        check=_ALL,
    ),
    Shape(
        name="pairs of keys, combine",
        pairs=10_000_000,
        pair=f"str({_SCATTERED} % 5000000), 1",
        reduce=_COMBINED,
    ),
    Shape(
        name="a partition ten times the memory",
        pairs=7_000_000,
        pair=f"{_SCATTERED}, 'x' * 90 + str(i)",
        reduce=_reduce("identity"),
        check=_ALL,
    ),
    Shape(
        name="a partition ten times the memory, total",
        pairs=7_000_000,
        pair=f"{_SCATTERED}, 'x' * 90 + str(i)",
        reduce=_reduce("identity"),
        settings=", order='total'",
        options=("-R", "4"),
        check=_ALL,
    ),
    Shape(name="tuple keys", pairs=10_000_000, pair=f"({_SCATTERED}, str(i)), i", reduce=_STREAM, check=_ALL),
    Shape(
        name="tuple keys of mixed types",
        pairs=2_000_000,
        pair=f"({_SCATTERED} if i % 2 else str({_SCATTERED}), 'é', i % 7), i",
        reduce=_STREAM,
        check=_ALL,
    ),
    Shape(
        name="tuple keys, mrq.sum",
        pairs=10_000_000,
        pair=f"({_SCATTERED}, str(i)), i",
        reduce=_reduce("sum"),
        check=_ALL,
    ),
    Shape(
        name="mixed keys",
        pairs=4_000_000,
        reduce=_STREAM,
        check=_ALL,
        pair=f"({_SCATTERED}, str({_SCATTERED}), float(i) + .5, str(i).encode())[i % 4], i",
    ),
    Shape(
        name="keys beyond ASCII",
        pairs=4_000_000,
        reduce=_STREAM,
        check=_ALL,
        pair=f"'слово' + str({_SCATTERED}), i",
    ),
    Shape(
        name="keys that aren't UTF-8",
        pairs=4_000_000,
        reduce=_STREAM,
        check=_ALL,
        pair=f"'\\udce9' + str({_SCATTERED}), i",
    ),
    Shape(
        name="records of dicts",
        pairs=2_000_000,
        check=_ALL,
        reduce=_STREAM,
        pair=f"{_SCATTERED}, {{'id': i, 'name': 'name %d' % i, 'tags': ['a', str(i)], 'at': {{'x': i / 3}}}}",
    ),
    Shape(
        name="records of dicts, identity",
        pairs=2_000_000,
        check=_ALL,
        reduce=_reduce("identity"),
        pair=f"{_SCATTERED}, {{'id': i, 'name': 'name %d' % i, 'tags': ['a', str(i)], 'at': {{'x': i / 3}}}}",
        settings=", output_format='jsonl'",
    ),
    Shape(
        name="map-only dicts",
        pairs=2_000_000,
        check=_ALL,
        settings=", output_format='records'",
        pair="i, {'id': i, 'name': 'name %d' % i, 'tags': ['a', str(i)], 'at': {'x': i / 3}}",
    ),
    Shape(
        name="lists of a few numbers",
        pairs=4_000_000,
        check=_ALL,
        reduce=_STREAM,
        pair=f"{_SCATTERED}, [i, i / 7, None, -i]",
    ),
    Shape(
        name="ints beyond 64 bits",
        pairs=4_000_000,
        check=_ALL,
        reduce=_STREAM,
        pair=f"{_SCATTERED} << 90, i << 200",
    ),
    Shape(
        name="values of 1 MB",
        pairs=1_000,
        pair="i % 3, 'v' * 1_000_000",
        reduce=_LAST,
        record_bytes=1_000_000,
    ),
    Shape(
        name="one value of 100 MB",
        pairs=1,
        reduce=_LAST,
        record_bytes=100_000_000,
        check=_ONE,
        pair="'k', 'v' * int(100_000_000 * SCALE)",
    ),
    Shape(
        name="bytes of 100 MB among others",
        pairs=100_000,
        reduce=_LAST,
        record_bytes=100_000_000,
        pair="i % 9, b'v' * (int(100_000_000 * SCALE) if i == 500 else 100)",
    ),
    Shape(
        name="a 200 MB single line, as key",
        pairs=1,
        reduce=_reduce("count"),
        record_bytes=200_000_000,
        check=_ONE,
        map="    def map(self, key, line):\n        yield line, 1\n",
    ),
    Shape(
        name="a 200 MB single line, map-only",
        pairs=1,
        record_bytes=200_000_000,
        check=_ONE,
        map="    def map(self, key, line):\n        yield None, line\n",
    ),
    Shape(
        name="a 200 MB single line of words",
        pairs=1,
        reduce=_reduce("sum"),
        record_bytes=200_000_000,
        map="    def map(self, key, line):\n        for at in range(0, len(line), 9):\n"
        "            yield line[at : at + 8], 1\n",
    ),
    Shape(
        name="many maps, few descriptors",
        pairs=4_000_000,
        reduce=_STREAM,
        check=_ALL,
        descriptors=64,
        pair=f"str({_SCATTERED}), 1",
        options=("--split-size", "60"),
    ),
    Shape(
        name="many maps, one key",
        pairs=4_000_000,
        reduce=_STREAM,
        check=_ONE,
        descriptors=64,
        pair="'k', str(i)",
        options=("--split-size", "60"),
    ),
)


def write_inputs(shape: Shape, folder: str, scale: float) -> int:
    """The job file and its input; how many pairs map will yield."""
    pairs = max(1, int(shape.pairs * scale)) if shape.pairs > 1 else 1
    each = min(pairs, 1000)
    head = _HEAD.format(settings=shape.settings, pair=shape.pair.replace("SCALE", repr(scale)))
    if shape.map is not None:
        head = head[: head.index("    def map")] + shape.map
    with open(os.path.join(folder, "shape.py"), "w") as file:
        file.write(head + shape.reduce)
    with open(os.path.join(folder, "in.txt"), "w") as file:
        if "single line" in shape.name:
            words = "".join(f"{n * 2654435761 & 0xFFFFFFFF:08x} " for n in range(100_000))
            size = int(shape.record_bytes * scale)
            for _ in range(size // len(words)):
                file.write(words)
            file.write(words[: size % len(words)])
        else:
            for number in range(pairs // each):
                file.write(f"{number}\n")
    return pairs // each * each


def run(shape: Shape, memory: str, scale: float) -> tuple[dict[str, Any] | str, float]:
    """One job in folders of its own: its summary, or what went wrong, and seconds."""
    with tempfile.TemporaryDirectory(prefix="mrq-memory-") as folder:
        pairs = write_inputs(shape, folder, scale)
        descriptors = shape.descriptors

        def limit() -> None:
            if descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        options = shape.options if "-R" in shape.options or not shape.reduce else ("-R", "1", *shape.options)
        parameters = ("--set", f"n={pairs}", "--set", f"each={min(pairs, 1000)}")
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "mrq.submit", *_COMMON, "--memory", memory, *parameters, *options],
            cwd=folder,
            env={**os.environ, "MRQ_TMP": folder, "PYTHONPATH": _ROOT},
            stdout=subprocess.PIPE,
            preexec_fn=limit,
        )
        took = time.perf_counter() - started
        result = json.loads(done.stdout)
        if done.returncode != 0:
            return f"FAILED: {result['error']['message']}", took
        summary: dict[str, Any] = result["summary"]
        if shape.check is not None and not shape.check(summary, pairs):
            return f"WRONG ANSWER: {summary}", took
        return summary, took


def bytes_of(size: str) -> int:
    """`64M` as bytes."""
    return int(size[:-1]) << {"K": 10, "M": 20, "G": 30}[size[-1].upper()]


def bound_bytes(shape: Shape, memory: str, scale: float) -> int:
    """What an executor may take at most."""
    return bytes_of(memory) + BASE_BYTES + RECORD_COPIES * int(shape.record_bytes * scale)


def main() -> None:
    """Run every shape and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the data, 1.0 for what is promised")
    parser.add_argument("--memory", default="64M", help="budget of an executor")
    parser.add_argument("--only", help="shapes whose name has this in it")
    arguments = parser.parse_args()
    bad = 0
    print(f"{'shape':42} {'pairs':>10} {'seconds':>8} {'spills':>6} {'peak MiB':>8} {'bound':>6}")
    for shape in SHAPES:
        if arguments.only and arguments.only not in shape.name:
            continue
        summary, took = run(shape, arguments.memory, arguments.scale)
        if isinstance(summary, str):
            print(f"{shape.name:42} {summary}", flush=True)
            bad += 1
            continue
        peak = summary["peak_rss_bytes"]
        bound = bound_bytes(shape, arguments.memory, arguments.scale)
        verdict = "OK" if 0 < peak <= bound else "OVER"
        bad += verdict != "OK"
        pairs = max(summary["shuffled_records"], summary["records_out"])
        print(
            f"{shape.name:42} {pairs:>10,} {took:>8.1f} {summary['spills']:>6} "
            f"{peak / 2**20:>8.0f} {bound / 2**20:>6.0f} {verdict}",
            flush=True,
        )
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
