"""Processor time a word of the hot path, in one process: `python benchmarks/hot_path.py [--mb 32]`.

Makes words with a Zipf head and a unique tail from a seed, runs one map and one reduce attempt of each kind
through the real runners, and prints what each word and each key cost. No peers: see `run.py` for those.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from mrq.core.refs import TaskRef

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import mrq
from mrq.core.model import JobSpec, Piece, Split, StageSpec, TaskResult
from mrq.core.refs import AttemptRef, Kind
from mrq.job.base import Job
from mrq.worker import progress_page as pages
from mrq.worker.attempt_order import AttemptOrder, MapSource
from mrq.worker.tasks.attempt import Attempt
from mrq.worker.tasks.runner import run_task


class Words(mrq.Job):
    """The record API with a generator."""

    def map(self, key: int, line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            yield word, 1


class Fold(Words):
    """A folding built-in: added as it comes."""

    reduce = mrq.sum


class CountFold(Words):
    reduce = mrq.count


class MaxFold(Words):
    reduce = mrq.max


class Combine(Words):
    """A user's combine and reduce: a list of values a key."""

    def combine(self, key: str, values: Iterable[int]) -> Iterator[int]:
        yield sum(values)

    def reduce(self, key: str, values: Iterable[int]) -> Iterator[int]:
        yield sum(values)


class Lists(Words):
    """A user's reduce alone: lists, or pairs once keys hardly repeat."""

    def reduce(self, key: str, values: Iterable[int]) -> Iterator[int]:
        yield sum(values)


class BlockDict(mrq.Job):
    """The block API: one dict a block."""

    reduce = mrq.sum

    def map_block(self, block: bytes) -> Any:
        return Counter(block.split())


class Sort(mrq.Job):
    """100-byte records by their first ten."""

    reduce = mrq.identity

    def map(self, key: int, line: str) -> Iterator[tuple[str, str]]:
        yield line[:10], line[10:]


class Grep(mrq.Job):
    """Lines that hold a word; no reduce."""

    def map(self, key: int, line: str) -> Iterator[tuple[None, str]]:
        if "w1234 " in line:
            yield None, line


def make_words(path: str, size: int) -> int:
    """Lines of eight words, half of a Zipf head, some unique; how many words."""
    draw = random.Random(7)
    made = words = 0
    with open(path, "w") as file:
        while made < size:
            line = " ".join(
                f"u{draw.getrandbits(40):x}" if draw.random() < 0.1 else f"w{int(draw.paretovariate(0.7))}"
                for _ in range(8)
            )
            file.write(line + "\n")
            made += len(line) + 1
            words += 8
    return words


def make_records(path: str, size: int) -> int:
    """Lines of 99 characters with random keys; how many."""
    draw = random.Random(7)
    count = size // 100
    with open(path, "w") as file:
        for number in range(count):
            file.write(f"{draw.getrandbits(40):010x}{number:089d}\n")
    return count


def task(
    job: Job,
    kind: Kind,
    folder: str,
    path: str,
    memory: int,
    sources: tuple[MapSource, ...] = (),
    total: bool = False,
) -> tuple[TaskResult, str]:
    """One attempt in this process; its result and its map output."""
    number = len(os.listdir(folder))
    place = os.path.join(folder, f"a{number}")
    os.makedirs(os.path.join(place, "scratch"))
    pages.create(os.path.join(place, "page"))
    stat = os.stat(path)
    piece = Piece(
        path=path, open=path, start=0, length=stat.st_size, size=stat.st_size, mtime_ns=stat.st_mtime_ns
    )
    reducers = 1 if getattr(job, "reduce", None) is not None else 0
    spec = JobSpec(
        job="bench", name="bench", code="", entry="", parameters={}, inputs=(),
        stages=(StageSpec(splits=(), reducers=reducers),),
        memory_bytes=memory, staging=folder,
    )  # fmt: skip
    order = AttemptOrder(
        attempt=AttemptRef(TaskRef(spec.job, 0, kind, 0), 1, 1, f"t{number}"), spec=spec, maps=1,
        split=Split(index=0, pieces=(piece,)), sources=sources,
        output_path=os.path.join(place, "out"), staging=os.path.join(place, "staged"),
        scratch=os.path.join(place, "scratch"), page_path=os.path.join(place, "page"),
    )  # fmt: skip
    started = time.process_time()
    result = run_task(Attempt(order, job, pages.open_page(order.page_path)))
    # The processor's time, not the clock's: neighbours on the machine don't show.
    return replace(result, seconds=time.process_time() - started), order.output_path


def measure(job: Job, folder: str, path: str, memory: int) -> None:
    """Print one line: map ns a pair, reduce ns a consumed pair."""
    mapped, output = task(job, Kind.MAP, folder, path, memory)
    unit = mapped.records_emitted if mapped.records_emitted > mapped.records_in // 2 else mapped.records_in
    words = unit
    if isinstance(job, BlockDict):
        with open(path, "rb") as file:
            words = sum(len(line.split()) for line in file)
    line = (
        f"{type(job).__name__:10} map {mapped.seconds * 1e9 / words:6.0f} ns a word, {mapped.seconds:6.2f} s"
    )
    line += f", {mapped.records_out:>9,} pairs out, {mapped.spills} spills"
    if getattr(job, "reduce", None) is not None:
        source = MapSource(map_index=0, digest=mapped.digest, path=output)
        reduced, _ = task(job, Kind.REDUCE, folder, path, memory, (source,))
        pair = reduced.seconds * 1e9 / max(1, reduced.records_in)
        line += f"; reduce {pair:6.0f} ns a pair, {reduced.seconds:5.2f} s"
        line += f", {reduced.groups:,} groups"
    print(line, flush=True)


def main() -> None:
    """Measure every path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=32, help="megabytes of each input")
    parser.add_argument("--memory", type=int, default=512, help="budget, MiB")
    parser.add_argument("--only", help="one class's name")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mrq-bench-") as folder:
        words, records = os.path.join(folder, "words"), os.path.join(folder, "records")
        os.makedirs(work := os.path.join(folder, "work"))
        made = make_words(words, arguments.mb << 20)
        make_records(records, arguments.mb << 20)
        started = time.process_time()
        with open(words) as file:
            plain = Counter(word for line in file for word in line.split())
        took = time.process_time() - started
        print(
            f"{made:,} words, {len(plain):,} distinct; a plain Counter loop {took * 1e9 / made:.0f} ns a word"
        )
        del plain
        for job in (Fold(), CountFold(), MaxFold(), Combine(), Lists(), BlockDict(), Grep(), Sort()):
            if arguments.only in (None, type(job).__name__):
                measure(job, work, records if isinstance(job, Sort) else words, arguments.memory << 20)


if __name__ == "__main__":
    main()
