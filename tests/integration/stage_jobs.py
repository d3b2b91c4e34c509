"""Jobs of several stages, for `test_stages`; each with what it must give, by plain Python."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import Any

import mrq

TYPED = [
    (None, [None, True, -0.5]),
    (True, {"a": [1, {"b": b"\x00\xff"}]}),
    (10**40, "ä\udcff"),
    (-2.5, ()),
    ("", (1, ("x", None))),
    (b"\x80", b""),
    (("k", 1, (None, b"z")), 2**63),
]


class Five(mrq.Job):
    """Words; tagged; in order of typed keys; looked at; added up by length."""

    least: int = 1

    def stages(self) -> list[mrq.Stage]:
        return [
            mrq.Stage(map=self.words, combine=self.add, reduce=self.add),
            mrq.Stage(map=self.tag),
            mrq.Stage(map=self.same, reduce=mrq.identity, order="total", reducers=3),
            mrq.Stage(map=self.look),
            mrq.Stage(map=self.same, reduce=mrq.sum, reducers=2, partition=self.shard),
        ]

    def words(self, offset: int, line: str) -> Any:
        self.counters["lines"] += 1
        for word in line.split():
            yield word, 1

    def add(self, key: Any, values: Any) -> Any:
        yield sum(values)

    def tag(self, word: str, n: int) -> Any:
        self.counters["words"] += 1
        if n >= self.least:
            yield (len(word), word, None), (n, word.encode(), 2**70 + n)

    def same(self, key: Any, value: Any) -> Any:
        yield key, value

    def look(self, key: Any, value: Any) -> Any:
        length, word, nothing = key
        n, raw, big = value
        assert (type(key), type(value), nothing, raw.decode(), big) == (tuple, tuple, None, word, 2**70 + n)
        self.counters["words"] += 1
        yield length, n

    def shard(self, key: int, n: int) -> int:
        return key % n


def five(lines: list[str], least: int = 1) -> dict[int, int]:
    """What Five gives."""
    found = Counter[int]()
    for word, n in Counter(word for line in lines for word in line.split()).items():
        if n >= least:
            found[len(word)] += n
    return dict(found)


class Typed(mrq.Job):
    """Keys and values of every type, through a reduce and a map-only stage."""

    def stages(self) -> list[mrq.Stage]:
        return [
            mrq.Stage(map_split=self.all_types, reduce=mrq.identity),
            mrq.Stage(map=self.same),
            mrq.Stage(map=self.same, reduce=mrq.identity, order="total", reducers=2),
        ]

    def all_types(self, records: Any) -> Any:
        for _ in records:
            pass
        yield from TYPED

    def same(self, key: Any, value: Any) -> Any:
        yield key, value


class Sorting(mrq.Job):
    """A total order at the end, over what a stage before it sorts by its values."""

    def stages(self) -> list[mrq.Stage]:
        return [
            mrq.Stage(map=self.letters, reduce=self.longest, sort_values=True),
            mrq.Stage(map=self.turned, reduce=mrq.identity, total_order=True, reducers=3),
        ]

    def letters(self, offset: int, line: str) -> Any:
        for word in line.split():
            yield word[0], (len(word), word)

    def longest(self, letter: str, words: Any) -> Any:
        *_, last = words
        yield last

    def turned(self, letter: str, longest: tuple[int, str]) -> Any:
        yield longest[1], letter


class Nothing(mrq.Job):
    """Whose second stage gives nothing."""

    def stages(self) -> list[mrq.Stage]:
        return [
            mrq.Stage(map=self.words, reduce=mrq.sum),
            mrq.Stage(map=self.none, reduce=mrq.sum),
            mrq.Stage(map=self.words, reduce=mrq.identity, order="total"),
            mrq.Stage(map=self.words),
        ]

    def words(self, key: Any, value: Any) -> Any:
        yield value, 1

    def none(self, key: Any, value: Any) -> Any:
        return []


class Picky(mrq.Job):
    """Whose third stage raises at a word, and whose second gives what can't be a pair, if asked."""

    word: str = "bad"
    wrong: bool = False

    def stages(self) -> list[mrq.Stage]:
        return [
            mrq.Stage(map=self.words, reduce=mrq.sum),
            mrq.Stage(map=self.through),
            mrq.Stage(map=self.refuse, reduce=self.total),
        ]

    def words(self, offset: int, line: str) -> Any:
        for word in line.split():
            yield word, 1

    def through(self, word: str, n: int) -> Any:
        yield 3 if self.wrong else (word, n)

    def refuse(self, word: str, n: int) -> Any:
        self.counters["seen"] += 1
        if word == self.word:
            raise ValueError(f"{word} isn't wanted")
        yield "all", n

    def total(self, key: str, values: Any) -> Any:
        yield sum(values)


class Held(mrq.Job):
    """Says what runs, and waits in its second stage for a file."""

    marks: str

    def stages(self) -> list[mrq.Stage]:
        return [
            mrq.Stage(map=self.words, reduce=mrq.sum, reducers=2),
            mrq.Stage(map=self.wait, reduce=mrq.sum, reducers=2),
            mrq.Stage(map=self.swap, reduce=mrq.identity, order="total", reducers=2),
        ]

    def setup(self) -> None:
        name = f"{self.task.id}.{os.getpid()}.{time.time_ns()}"
        with open(os.path.join(self.marks, name), "w"):
            pass

    def words(self, offset: int, line: str) -> Any:
        for word in line.split():
            yield word, 1

    def wait(self, word: str, n: int) -> Any:
        while not os.path.exists(os.path.join(self.marks, "open")):
            self.task.progress()
            time.sleep(0.02)
        yield n, 1

    def swap(self, n: int, words: int) -> Any:
        yield words, n


class Apart(mrq.Job):
    """Two stages whose setup, and another's, keep apart what each attempt holds."""

    def stages(self) -> list[mrq.Stage]:
        return [mrq.Stage(map=self.first), mrq.Stage(map=self.second, reduce=mrq.sum)]

    def setup(self) -> None:
        assert not hasattr(self, "seen")
        self.seen: list[Any] = []

    def first(self, key: Any, line: str) -> Any:
        self.seen.append(line)
        yield line, len(self.seen)

    def second(self, line: str, n: int) -> Any:
        self.seen.append(line)
        yield self.task.id[0], 1

    def teardown(self) -> None:
        self.counters["seen"] += len(self.seen)


class Replacing(mrq.Job):
    def stages(self) -> list[mrq.Stage]:
        return [mrq.Stage(map=self.words), mrq.Stage(map=self.words)]

    def setup(self) -> None:
        self.words = print  # type: ignore[method-assign, assignment]

    def words(self, key: Any, line: Any) -> Any:
        yield line, 1
