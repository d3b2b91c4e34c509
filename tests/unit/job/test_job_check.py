"""What submit refuses, by sentence and line."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

import mrq
from mrq.errors import JobDefinitionError, MrqError
from mrq.job.base import defined
from mrq.job.check import check
from mrq.job.load import load_job

GOOD = "def map(self, key, line):\n    yield line, 1\n"


def submit(folder: Path, body: str, keywords: str = "") -> None:
    """Write a job file whose class has `body`, load and check it. The class is on line 3."""
    text = "import mrq\n\nclass Wrong(mrq.Job" + (f", {keywords}" if keywords else "") + "):\n"
    file = folder / "wrongjob.py"
    file.write_text(text + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ") + "\n")
    check(load_job(str(file)).cls)


@pytest.mark.parametrize(
    ("body", "keywords", "line", "said"),
    [
        (
            "x = 1",
            "",
            3,
            "Wrong has no map; define `def map(self, key, line):` that yields (key, value) pairs",
        ),
        ("def mapper(self, key, line): yield 1, 2", "", 3, "has no map; rename mapper to map"),
        ("def map(self, line): yield 1, 2", "", 4, "Wrong.map(self, line) must take 2 parameters after self"),
        ("def map(self, a, b, c): yield 1, 2", "", 4, "write `def map(self, key, value):`"),
        ("def map(key, line): yield 1, 2", "", 4, "must take 2 parameters after self"),
        ("async def map(self, k, v): yield 1, 2", "", 4, "Wrong.map is async, which mrq doesn't await"),
        ("async def map(self, k, v): return []", "", 4, "write `def map(self, key, value):`"),
        ("map = 3", "", 3, "Wrong.map must be a method"),
        ("map = mrq.sum", "", 3, "Wrong.map is a built-in reducer; map must be a method"),
        (
            "def map(self, k, v): yield 1, 2\ndef map_block(self, block): yield 1, 2",
            "",
            3,
            "defines map and map_block; keep one of them",
        ),
        ("def map_block(self, key, block): yield 1, 2", "", 4, "must take 1 parameter after self"),
        (GOOD + "def reduce(self, values): yield 1", "", 6, "write `def reduce(self, key, values):`"),
        (GOOD + "def reduce(self, k, values, more): yield 1", "", 6, "must take 2 parameters after"),
        (GOOD + "async def reduce(self, k, values): yield 1", "", 6, "Wrong.reduce is async"),
        (
            GOOD + "reduce = mrq.count\ndef combine(self, key): yield 1",
            "",
            7,
            "has a combine beside a built-in reduce, which brings its own; remove combine",
        ),
        (
            GOOD + "def reduce(self, k, v): yield 1\ndef combine(self, v): yield 1",
            "",
            7,
            "write `def combine(self, key, values):`",
        ),
        (GOOD + "def combine(self, k, v): yield 1", "", 6, "has combine and no reduce"),
        (GOOD + "def partition(self, k, n): return 0", "", 6, "has partition and no reduce"),
        (GOOD, 'order="total"', 3, 'has order="total" and no reduce'),
        (GOOD, "sort_values=True", 3, "has sort_values and no reduce"),
        (
            GOOD + "reduce = mrq.identity\ndef partition(self, k): return 0",
            "",
            7,
            "write `def partition(self, key, n):`",
        ),
        (
            GOOD + "reduce = mrq.identity\ndef partition(self, k, n): return 0",
            'order="total"',
            7,
            'has partition and order="total", which partitions by ranges of keys; keep one',
        ),
        (GOOD + "reduce = sum", "", 3, "reduce = sum is Python's own sum; write reduce = mrq.sum"),
        (GOOD + "reduce = len", "", 3, "reduce = len is Python's own len"),
        (GOOD + "reduce = mrq.top", "", 3, "reduce = mrq.top must be called, such as reduce = mrq.top(10)"),
        (GOOD + "reduce = 5", "", 3, "Wrong.reduce must be a method"),
        (
            GOOD + "def reduce(self, k, v): yield 1\ncombine = mrq.sum",
            "",
            3,
            "Wrong.combine must be a method, such as",
        ),
        (GOOD + "def setup(self, x): pass", "", 6, "must take self alone: write `def setup(self):`"),
        (GOOD + "def __init__(self): pass", "", 3, "defines __init__, but executors make the instances"),
        (GOOD + "def stages(self): return []", "", 6, "Wrong defines stages and map, so it isn't clear"),
    ],
)
def test_refused(tmp_path: Path, body: str, keywords: str, line: int, said: str) -> None:
    with pytest.raises(JobDefinitionError) as caught:
        submit(tmp_path, body, keywords)
    message = str(caught.value)
    assert said in message
    assert f"wrongjob.py:{line}: " in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("hook", "statement", "corrected"),
    [
        ("reduce", "yield key, sum(values)", "`yield sum(values)` (or `yield [key, sum(values)]`"),
        ("reduce", "yield (key, sum(values))", "`yield sum(values)`"),
        ("reduce", "yield key, max(values)", ": `yield key, max(values)`: reduce yields values"),
        ("reduce", "yield key, 1, 2", "`yield 1, 2`"),
        ("combine", "yield key, sum(values)", "combine yields values"),
        ("reduce", "for v in values:\n        if v:\n            yield key, v", "`yield v`"),
        ("reduce", "return [(key, sum(values))]", "`sum(values)` (or `[key, sum(values)]`"),
        ("reduce", "return [(key, v) for v in values]", "`(key, v)`: reduce yields values"),
        ("reduce", "return ((key, v) for v in values)", "write `v`"),
        ("reduce", "x = yield (key,\n               len(list(values)))", "`yield len(list(values))`"),
    ],
)
def test_yielding_the_key_is_refused_with_the_corrected_line(
    tmp_path: Path, hook: str, statement: str, corrected: str
) -> None:
    before = GOOD if hook == "reduce" else GOOD + "def reduce(self, k, v): return v\n"
    with pytest.raises(JobDefinitionError) as caught:
        submit(tmp_path, before + f"def {hook}(self, key, values):\n" + textwrap.indent(statement, "    "))
    message = str(caught.value)
    assert corrected in message
    line = 4 + before.count("\n") + 1 + (2 if "yield key, v" in statement else 0)
    assert f"wrongjob.py:{line}: " in message


@pytest.mark.parametrize(
    "body",
    [
        "yield [key, sum(values)]",
        "yield sum(values), key",
        "yield word, 1",
        "yield mrq.Pair(key, 1)",
        "yield {key: 1}",
        "def inner():\n    yield key, 1\nyield list(inner())",
        "yield (key,)",
        "return values",
        "yield",
    ],
)
def test_other_ways_to_use_the_key_are_fine(tmp_path: Path, body: str) -> None:
    submit(tmp_path, GOOD + "def reduce(self, key, values):\n    word = 1\n" + textwrap.indent(body, "    "))


def test_a_decorated_method_is_looked_at_by_its_own_lines(tmp_path: Path) -> None:
    body = (
        "def twice(f):\n"
        "    import functools\n"
        "    @functools.wraps(f)\n"
        "    def again(*args):\n"
        "        yield from f(*args)\n"
        "    return again\n"
        "def map(self, key, line): yield line, 1\n"
        "@twice\n"
        "def reduce(self, key, values):\n"
        "    yield key, 1\n"
    )
    with pytest.raises(JobDefinitionError, match=r"wrongjob\.py:13: `yield key, 1`"):
        submit(tmp_path, body)


@pytest.mark.parametrize(
    "body",
    [
        GOOD + "reduce = mrq.sum",
        GOOD + "reduce = mrq.top(3)",
        "def map(self, *record): yield 1, 2",
        "def map(self, key, line, extra=None): yield 1, 2",
        "@staticmethod\ndef map(key, line): yield 1, 2",
        "@classmethod\ndef map(cls, key, line): yield 1, 2",
        "def map_split(self, records): yield 1, 2",
        "def map_block(self, block): return {}",
        GOOD + "def setup(self): pass\ndef teardown(self): pass",
        GOOD + "combine = None\nreduce = mrq.sum",
    ],
)
def test_accepted(tmp_path: Path, body: str) -> None:
    submit(tmp_path, body)


def test_what_is_no_job_class() -> None:
    class Plain:
        pass

    class Right(mrq.Job):
        def map(self, key: int, line: str) -> None:
            pass

    for thing, said in (
        (Plain, r"Plain is not a job: write `class Plain\(mrq.Job\):`"),
        (mrq.Job, "mrq.Job is the base: subclass it"),
        (Right(), "is an instance; the class Right is needed"),
        (7, "7 is not a job"),
    ):
        with pytest.raises(JobDefinitionError, match=said):
            check(thing)
    check(Right)
    assert not defined(Right, "reduce")


def test_overrides_are_checked_with_the_class() -> None:
    class Parted(mrq.Job):
        reduce = mrq.identity

        def map(self, key: int, line: str) -> None:
            pass

        def partition(self, key: str, n: int) -> int:
            return 0

    assert check(Parted, {"reducers": 3}).reducers == 3
    with pytest.raises(MrqError, match="keep one of them"):
        check(Parted, {"order": "total"})


def test_a_class_found_good_is_looked_at_again_once_a_method_of_it_or_of_its_base_is_another() -> None:
    class Base(mrq.Job):
        def map(self, key, line):
            yield line, 1

    class Derived(Base):
        reduce = mrq.sum

    check(Derived)
    check(Derived)
    Base.map = lambda self: iter(())
    with pytest.raises(JobDefinitionError, match=r"Derived\.map\(self\) must take 2 parameters after self"):
        check(Derived)
    Base.map = lambda self, key, line: iter(())
    check(Derived)
