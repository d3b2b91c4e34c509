"""Jobs for the cluster's tests, in a file of their own: a bundle takes the whole of its file's imports."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator

import mrq


class Words(mrq.Job):
    reduce = mrq.sum

    def map(self, key: int, line: str) -> Iterator[tuple[str, int]]:
        self.counters["lines"] += 1
        for word in line.split():
            yield word, 1


class Sorted(mrq.Job, order="total"):
    reduce = mrq.identity

    def map(self, key: int, line: str) -> Iterator[tuple[str, None]]:
        yield line, None


class SortedLate(mrq.Job, order="total"):
    """Sampling and maps alike wait for a file, once they have left a mark."""

    gate: str
    reduce = mrq.identity

    def map(self, key: int, line: str) -> Iterator[tuple[str, None]]:
        if key == 0:
            with open(os.path.join(self.gate, "runs"), "a") as file:
                file.write(f"{self.task.id}\n")
            while not os.path.exists(os.path.join(self.gate, "open")):
                time.sleep(0.02)
        yield line, None


class Upper(mrq.Job):
    def map(self, key: int, line: str) -> Iterator[tuple[None, str]]:
        yield None, line.upper()


class Frequencies(mrq.Job):
    """Of what `Words` counted: how many words there are of each count."""

    reduce = mrq.sum

    def map(self, word: str, count: int) -> Iterator[tuple[int, int]]:
        yield count, 1


class Paths(mrq.Job):
    """The path of each record's file, as user code sees it."""

    reduce = mrq.count

    def map(self, key: int, line: str) -> Iterator[tuple[str, int]]:
        yield self.task.path, 1


class Gated(mrq.Job):
    """Maps that wait for a file; each leaves a mark of having run."""

    gate: str
    reduce = mrq.sum

    def map(self, key: int, line: str) -> Iterator[tuple[str, int]]:
        if key == 0:
            with open(os.path.join(self.gate, "runs"), "a") as file:
                file.write(f"{self.task.id}\n")
            while line.startswith("wait") and not os.path.exists(os.path.join(self.gate, "open")):
                self.task.progress()
                time.sleep(0.01)
        yield line, 1


class Broken(mrq.Job):
    """Fails until a file says otherwise."""

    gate: str
    reduce = mrq.sum

    def map(self, key: int, line: str) -> Iterator[tuple[str, int]]:
        if "bad" in line and not os.path.exists(os.path.join(self.gate, "mended")):
            print("about to fail")
            raise ValueError(f"can't read {line!r}")
        yield line, 1


class Waiting(mrq.Job):
    """Fails until a file says otherwise, and then waits for another one."""

    gate: str
    reduce = mrq.sum

    def map(self, key: int, line: str) -> Iterator[tuple[str, int]]:
        if not os.path.exists(os.path.join(self.gate, "mended")):
            raise ValueError(f"can't read {line!r}")
        while not os.path.exists(os.path.join(self.gate, "open")):
            self.task.progress()
            time.sleep(0.02)
        yield line, 1


class Chatty(mrq.Job):
    def map(self, key: int, line: str) -> Iterator[tuple[None, str]]:
        print("said by user code")
        yield None, line


class Count(mrq.Job):
    """How many records there are, whatever they are."""

    reduce = mrq.count

    def map(self, key: object, value: object) -> Iterator[tuple[str, int]]:
        yield "records", 1


class CountOnly(mrq.Job):
    """The same without a reduce: a part a map."""

    def map_split(self, records: Iterator[tuple[object, object]]) -> Iterator[tuple[str, int]]:
        yield "records", sum(1 for _ in records)


class First(mrq.Job):
    """The first record of each split: most aren't read."""

    def map_split(self, records: Iterator[tuple[object, object]]) -> Iterator[tuple[object, object]]:
        yield from itertools.islice(records, 1)


class Strict(mrq.Job):
    """Refuses what isn't `text<TAB>number`."""

    reduce = mrq.sum

    def map(self, key: int, line: str) -> Iterator[tuple[str, int]]:
        word, _, count = line.partition("\t")
        yield word.encode("ascii").decode(), int(count)


class Needs(mrq.Job):
    """Fails as long as a file isn't there."""

    there: str
    reduce = mrq.sum

    def map(self, key: int, line: str) -> Iterator[tuple[str, int]]:
        assert os.path.exists(self.there)
        yield line, 1


class Slow(mrq.Job):
    """Takes its time over each record."""

    seconds: float
    reduce = mrq.sum

    def map(self, key: int, line: str) -> Iterator[tuple[str, int]]:
        time.sleep(self.seconds)
        yield line, 1


class Exits(mrq.Job):
    """Takes its executor down at the first record."""

    def map(self, key: int, line: str) -> Iterator[tuple[str, int]]:
        os._exit(3)
        yield line, 1


class Chain(mrq.Job):
    """Counts words, and hands the counts on twice."""

    def stages(self):  # type: ignore[no-untyped-def]
        first = mrq.Stage(map=self.words, reduce=mrq.sum, reducers=2)
        return [first, *(mrq.Stage(map=self.same, reduce=mrq.sum, reducers=2) for _ in range(2))]

    def words(self, key, line):  # type: ignore[no-untyped-def]
        for word in line.split():
            yield word, 1

    def same(self, word, count):  # type: ignore[no-untyped-def]
        yield word, count
