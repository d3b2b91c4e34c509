"""The cost of blocks is a function of the data, additive, and no less than what objects take."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mrq.shuffle.budget import PAIR, SLOT, column_cost, cost

atoms = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.binary(max_size=20)
)
values = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=5), st.integers()), inner, max_size=4),
    ),
    max_leaves=8,
)


def size(value: Any) -> int:
    """What CPython says that an object and all in it take; shared small ints, None and bools nothing."""
    if value is None or isinstance(value, bool) or (isinstance(value, int) and -5 <= value <= 256):
        return 0
    inner = 0
    if isinstance(value, (list, tuple)):
        inner = sum(map(size, value))
    if isinstance(value, dict):
        inner = sum(map(size, value)) + sum(map(size, value.values()))
    return sys.getsizeof(value) + inner


@settings(max_examples=300)
@given(st.lists(values, min_size=1, max_size=20))
@example(column=["\x80"])
@example(column=[()] + [(1000, 2000, 3000)] * 19)
@example(column=[(1000,)] + [(1000, "abc", 3000)] * 19)
@example(column=[1000] + [True, 2000] * 5)
def test_no_less_than_what_objects_take(column: list[Any]) -> None:
    # A dict of 1 to 4 items has a table for 5 or more: allowed for by the tenth.
    assert column_cost(column) * 1.1 + 200 * str(column).count("{") >= sum(map(size, column)) + SLOT * len(
        column
    )


@settings(max_examples=200)
@given(st.lists(st.text(max_size=9), max_size=20), st.lists(st.text(max_size=9), max_size=20))
def test_more_costs_more(a: list[str], b: list[str]) -> None:
    assert column_cost(a + b) >= max(column_cost(a), column_cost(b))


def test_pairs_cost_their_columns_and_a_constant() -> None:
    assert cost(["a", "b"], [1, 2]) == column_cost(["a", "b"]) + column_cost([1, 2]) + 2 * PAIR
    assert cost([], []) == 0


@pytest.mark.parametrize(
    "column",
    [
        ["word"] * 1000,
        list(range(10**6, 10**6 + 1000)),
        [b"x" * 90] * 1000,
        [(i + 1000, "abc") for i in range(1000)],
        [[1.5, 2.5]] * 1000,
        ["я" * 30 for _ in range(1000)],
        [None] * 1000,
        [{"a": 1, "b": [1]} for _ in range(1000)],
    ],
)
def test_not_far_above_what_objects_take(column: list[Any]) -> None:
    assert column_cost(column) <= 2 * (sum(map(size, column)) + 2 * SLOT * len(column))


@pytest.mark.parametrize("make", [tuple, list])
def test_rows_cost_what_their_items_cost(make: Any) -> None:
    """Containers are opened for a whole column at once."""
    rows = [make((number, "abc", 1.5)) for number in range(1000, 1064)]
    empty = [make(()) for _ in rows]
    assert column_cost(rows) - column_cost(empty) == column_cost([item for row in rows for item in row])


def test_what_compares_strangely_has_a_cost() -> None:
    """Costs are taken of what users yield, before it is refused: `==` may do anything."""

    class Array:
        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth of an array is ambiguous")

        __hash__ = None  # type: ignore[assignment]

    for column in ([Array()], [Array(), 1], [1, Array(), 1], [None, Array(), None]):
        assert cost(["k"] * len(column), column) > 0
