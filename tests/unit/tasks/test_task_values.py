"""`values`: one pass, while its group is reduced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tasks_rig import LARGE, Rig, lines

import mrq
import mrq.testing
from mrq.errors import DataError

LINES = ["a b", "a c"]


def run(function: Callable[[Any, str, Any], Any]) -> list[Any]:
    def words(self: Any, key: int, line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            yield word, 1

    job = type("Values", (mrq.Job,), {"map": words, "reduce": function})
    return mrq.testing.run(job(), records=LINES)


def test_len_says_that_it_is_a_stream() -> None:
    with pytest.raises(TypeError, match="one-pass stream"):
        run(lambda self, key, values: [len(values)])


def test_indexing_says_that_it_is_a_stream() -> None:
    with pytest.raises(TypeError, match="one-pass stream and can't be indexed"):
        run(lambda self, key, values: [values[0]])


def test_a_second_pass_raises() -> None:
    with pytest.raises(DataError, match="read a second time"):
        run(lambda self, key, values: [sum(values), sum(values)])


def test_next_then_the_rest_is_one_pass() -> None:
    assert run(lambda self, key, values: [next(values) * 10 + sum(values)]) == [
        ("a", 11),
        ("b", 10),
        ("c", 10),
    ]


def test_next_past_the_end_stops() -> None:
    assert run(lambda self, key, values: [sum(values), next(values, "end")])[:2] == [("a", 2), ("a", "end")]


def test_list_sorted_and_truth_work() -> None:
    def several(self: Any, key: str, values: Any) -> Iterator[Any]:
        if values:
            yield sorted(values)

    assert run(several) == [("a", [1, 1]), ("b", [1]), ("c", [1])]


@pytest.mark.parametrize("keep", [lambda v: v, iter, lambda v: (x for x in v), lambda v: map(str, v)])
def test_use_after_the_group_raises(keep: Callable[[Any], Any]) -> None:
    kept: list[Any] = []

    def keeping(self: Any, key: str, values: Any) -> Iterator[int]:
        if kept:
            list(kept.pop())
        kept.append(keep(values))
        yield 1

    with pytest.raises(DataError, match="used after its group"):
        run(keeping)


def test_what_is_kept_raises_even_after_the_last_group() -> None:
    kept: list[Any] = []

    def keeping(self: Any, key: str, values: Any) -> list[int]:
        kept.append(values)
        return [1]

    assert len(run(keeping)) == 3
    for values in kept:
        with pytest.raises(DataError, match="used after its group"):
            list(values)
        with pytest.raises(DataError, match="used after its group"):
            next(values)


GIVEN_BACK: list[Callable[[Any, str, Any], Any]] = [
    lambda self, key, values: values,
    lambda self, key, values: iter(values),
    lambda self, key, values: list(values),
    lambda self, key, values: (v for v in values),
    lambda self, key, values: map(int, values),
]


@pytest.mark.parametrize("memory", [LARGE, 30_000])
@pytest.mark.parametrize("sort_values", [False, True])
@pytest.mark.parametrize("reduce", [*GIVEN_BACK, mrq.identity])
def test_values_may_be_given_back_whatever_their_number(
    reduce: Any, sort_values: bool, memory: int, tmp_path: Path
) -> None:
    """From 16 values on, results are taken in steps; with little memory groups are read from the disk."""

    def pairs(self: Any, key: int, line: str) -> Iterator[tuple[str, int]]:
        name, n = line.split()
        for value in range(int(n)):
            yield name, value * 7 % int(n)

    hooks = {"map": pairs, "reduce": reduce}
    job = type("Given", (mrq.Job,), hooks)()
    sizes = {"a": 1, "b": 15, "c": 16, "d": 17, "e": 3001}
    rig = Rig(job, tmp_path, memory=memory, settings={"sort_values": sort_values})
    found = rig.whole(lines([f"{name} {n}" for name, n in sizes.items()])).pairs
    wanted = []
    for name, n in sizes.items():
        values = [value * 7 % n for value in range(n)]
        wanted += [(name, value) for value in (sorted(values) if sort_values else values)]
    assert found == wanted


def test_values_may_be_returned_lazily() -> None:
    assert run(lambda self, key, values: map(str, values))[:2] == [("a", "1"), ("a", "1")]
    assert run(lambda self, key, values: iter(values))[:2] == [("a", 1), ("a", 1)]


class FirstOfEquals(mrq.Job, sort_values=True):
    """Of values that the key takes for equal the first counts: in order, with sort_values."""

    reduce = mrq.top(1, key=len)

    def map(self, key, line):  # type: ignore[no-untyped-def]
        yield "k", line


def test_the_first_of_equals_is_the_first_in_order_also_where_maps_combine() -> None:
    assert mrq.testing.run(FirstOfEquals, records=["c", "a", "d", "e"]) == [("k", "a")]
