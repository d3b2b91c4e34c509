"""Keys that are equal to one that came before: whether they are refused doesn't depend on what that was."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy
import pytest

import mrq
import mrq.testing
from mrq.errors import DataError
from mrq.shuffle.collect import MapPlan, TableCollector


class Level(enum.IntEnum):
    ONE = 1


class Odd(int):
    """Not equal to what it is carried as."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Odd)

    def __hash__(self) -> int:
        return 5


REDUCES = {
    "sum": mrq.sum,
    "count": mrq.count,
    "mean": mrq.mean,
    "max": mrq.max,
    "collect": mrq.collect,
    "identity": mrq.identity,
    "top": mrq.top(2),
}
#: How values are yielded: what the loops that add tell apart.
VALUES: dict[str, Callable[[int], Any]] = {"one": lambda _: 1, "int": lambda at: at + 300, "float": float}
REFUSED = {
    "Decimal": Decimal(1),
    "Fraction": Fraction(1),
    "IntEnum": Level.ONE,
    "complex": 1 + 0j,
    "timedelta64": numpy.timedelta64(1, "s"),
    "in a tuple": ("a", Decimal(1)),
    "deeper": (("a", Decimal(1)), 2),
    "enum in a tuple": (Level.ONE,),
}
EQUAL = {"in a tuple": ("a", 1), "deeper": (("a", 1), 2), "enum in a tuple": (1,)}


def job(reduce: str, keys: list[Any], value: Callable[[int], Any]) -> type[mrq.Job]:
    """A job of one map that yields these keys."""

    def of_record(self: mrq.Job, key: Any, line: Any) -> Iterator[tuple[Any, Any]]:
        for at, each in enumerate(keys):
            yield each, value(at)

    return type("Equal", (mrq.Job,), {"map": of_record, "reduce": REDUCES[reduce]})


def before(other: Any, first: str) -> list[Any]:
    """Keys that come before: none, an equal one, or an equal one among others."""
    filling = {
        "nothing": [],
        "equal": [other],
        "texts": ["a", "b", other, "a"],
        "tuples": [("a",), other, "b"],
    }
    return filling[first] + ["c"] * (first != "nothing")


@pytest.mark.parametrize("first", ["nothing", "equal", "texts", "tuples"])
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("reduce", REDUCES)
def test_what_cannot_be_a_key_is_refused_whatever_came_before(
    reduce: str, kind: str, value: str, first: str
) -> None:
    keys = [*before(EQUAL.get(kind, 1), first), REFUSED[kind]]
    with pytest.raises(DataError, match=r"a key of type .* can't be carried"):
        mrq.testing.run(job(reduce, keys, VALUES[value]), records=["x"])


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("fold", [mrq.sum, mrq.count])
@pytest.mark.parametrize("numbers", [False, True])
def test_it_is_refused_in_a_dict_of_a_later_block_too(fold: Any, kind: str, numbers: bool) -> None:
    plan = MapPlan(partitions=1, partition=None, memory=1 << 20, scratch="", header=None, tick=list)  # type: ignore[arg-type]
    collector = TableCollector(plan, fold=fold)
    collector.consume_mapping({EQUAL.get(kind, 1): 300, "a": 7})
    collector.consume_mapping(dict.fromkeys(range(9) if numbers else "ab", 300))
    with pytest.raises(DataError, match=r"a key of type .* can't be carried"):
        collector.consume_mapping({"a": 1, REFUSED[kind]: 1, "b": 1})


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("reduce", REDUCES)
@pytest.mark.parametrize(
    "keys",
    [
        [1, True, 1.0, numpy.int64(1), numpy.float64(1), Odd(1)],
        [True, 1, numpy.bool_(True), 1.0],
        [1.0, 1, True],
        [Odd(1), 1, Odd(1)],
        [("a", 1), ("a", True), ("a", 1.0), ("a", numpy.int64(1)), ("a", Odd(1))],
    ],
    ids=str,
)
def test_what_is_equal_is_one_key_shown_as_the_first(reduce: str, value: str, keys: list[Any]) -> None:
    found = mrq.testing.run(job(reduce, ["c", *keys], VALUES[value]), records=["x"])
    first = int(keys[0]) if isinstance(keys[0], Odd) else keys[0]
    shown = [repr(key) for key, _ in found if key != "c"]
    assert set(shown) == {repr(first)}
    if reduce == "count":
        assert [n for key, n in found if key != "c"] == [len(keys)]
    if reduce == "sum":
        wanted = sum(VALUES[value](at + 1) for at in range(len(keys)))
        assert [n for key, n in found if key != "c"] == [wanted]


def test_it_holds_after_a_spill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mrq.testing, "_MEMORY", 24 << 10)

    class Spilling(mrq.Job):
        reduce = mrq.sum
        last: bool = False

        def map_split(self, records: Any) -> Iterator[tuple[Any, int]]:
            for _ in records:
                for at in range(3000):
                    yield at, 1
                    yield f"word {at}", 1
                yield Decimal(2999) if self.last else 2999, 1

    sums = dict(mrq.testing.run(Spilling, records=["x"]))
    assert (sums[2999], sums[0], sums["word 7"], len(sums)) == (2, 1, 1, 6000)
    with pytest.raises(DataError, match=r"decimal\.Decimal can't be carried"):
        mrq.testing.run(Spilling(last=True), records=["x"])
