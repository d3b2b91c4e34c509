"""The built-ins by themselves: exact, and the same however values are grouped."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrq.errors import DataError
from mrq.job import builtins as b
from mrq.job.builtins import Folding

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = st.one_of(st.integers(), st.integers(-(10**400), 10**400), FLOATS, st.booleans())


def folded(fold: Folding, values: list[Any], cuts: list[int]) -> Any:
    """The result after starting and merging in some grouping."""
    places = sorted({0, len(values), *(cut % (len(values) + 1) for cut in cuts)})
    states = [fold.start(values[a:b]) for a, b in pairwise(places)]
    while len(states) > 1:
        states = [fold.merge(states[i : i + 2]) for i in range(0, len(states), 2)]
    (result,) = fold.finish([states[0]])
    return result


def exact_sum(values: list[Any]) -> int | float:
    if not any(type(v) is float for v in values):
        return sum(values)
    total = sum(map(Fraction, values))
    try:
        return float(total)
    except OverflowError:
        return math.inf if total > 0 else -math.inf


@given(st.lists(NUMBERS, min_size=1), st.lists(st.integers(0, 1000)))
def test_sum_is_exact_and_rounded_once(values: list[Any], cuts: list[int]) -> None:
    result = folded(b.sum, values, cuts)
    assert result == exact_sum(values)
    assert type(result) is type(exact_sum(values))


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.1] * 10, 1.0),
        ([1e16, 1.0, -1e16], 1.0),
        ([1e308, 1e308, -1e308], 1e308),
        ([1e308, 1e308], math.inf),
        ([-1e308, -1e308], -math.inf),
        ([2**53, 1, 1.0], float(2**53 + 2)),
        ([10**400, 1.0], math.inf),
        ([10**400, 1.0, -(10**400)], 1.0),
        ([math.inf, 1.0], math.inf),
        ([True, True, 1], 3),
        ([5e-324, 5e-324], 1e-323),
    ],
)
def test_sum_of_hard_cases(values: list[Any], wanted: Any) -> None:
    for cuts in ([], [1], [1, 2]):
        result = folded(b.sum, values, cuts)
        assert result == wanted
        assert type(result) is type(wanted)


@pytest.mark.parametrize("values", [[math.inf, -math.inf], [math.nan, 1.0], [1.0, math.inf, -math.inf]])
def test_sum_of_infinities_and_nan_is_nan(values: list[float]) -> None:
    for cuts in ([], [1], [2]):
        assert math.isnan(folded(b.sum, values, cuts))


def test_sum_never_gives_minus_zero() -> None:
    assert math.copysign(1.0, folded(b.sum, [-0.0], [])) == 1.0
    assert math.copysign(1.0, folded(b.sum, [-0.0, 0.0], [1])) == 1.0


def test_sum_refuses_what_is_no_number() -> None:
    with pytest.raises(DataError, match=r"mrq\.sum adds numbers, and got 'a'"):
        b.sum.start([1, "a"])


@given(
    st.lists(st.one_of(st.integers(), FLOATS, st.text(), st.binary(), st.none()), min_size=1),
    st.lists(st.integers(0, 1000)),
)
def test_min_and_max_go_by_the_order_of_keys(values: list[Any], cuts: list[int]) -> None:
    from mrq.codec.order import sort_key

    assert repr(folded(b.min, values, cuts)) == repr(min(values, key=sort_key))
    assert repr(folded(b.max, values, cuts)) == repr(max(values, key=sort_key))


@given(st.lists(st.sampled_from([1.0, math.nan, 0.0, 3]), min_size=1), st.lists(st.integers(0, 100)))
def test_nan_among_values_is_the_extreme(values: list[Any], cuts: list[int]) -> None:
    result = folded(b.min, values, cuts)
    assert math.isnan(result) if any(v != v for v in values) else result == min(values)


def test_text_orders_by_its_bytes_where_surrogates_stand_for_them() -> None:
    # By code points the escaped byte 0xff is below the emoji, by bytes above it.
    assert b.max.start(["\U0001f600", "\udcff"]) == "\udcff"


@given(st.lists(st.one_of(st.integers(-(10**6), 10**6), FLOATS), min_size=1), st.lists(st.integers(0, 1000)))
def test_mean_is_the_exact_sum_by_the_count_rounded_once(values: list[Any], cuts: list[int]) -> None:
    exact = sum(map(Fraction, values), Fraction()) / len(values)
    assert folded(b.mean, values, cuts) == (0.0 if exact == 0 else float(exact))


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.1, 0.8, 0.8], 0.5666666666666667),  # one ulp off if the sum is rounded first
        ([1e308] * 4, 1e308),
        ([float("inf"), 1.0], float("inf")),
        ([2**53 + 1, 0.5], (2**53 + 2) / 2),
    ],
)
def test_mean_of_hard_cases(values: list[Any], wanted: float) -> None:
    assert folded(b.mean, values, []) == wanted


@pytest.mark.parametrize("values", [[1.5] * 100, [2, 0.5], [3, 4], [0.1]])
def test_a_mean_of_what_one_float_holds_makes_no_fraction(
    values: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = float(sum(map(Fraction, values)) / len(values))
    monkeypatch.setattr("fractions.Fraction", None)
    assert folded(b.mean, values, []) == wanted


@pytest.mark.parametrize("value", [[1], {"a": 1}, (1, [2])])
def test_an_extreme_of_what_has_no_order_is_refused_even_alone(value: Any) -> None:
    with pytest.raises(
        DataError, match=r"mrq.max orders values as keys are ordered, and got .*\(list|dict|tuple"
    ):
        b.max.start([value])


def test_count_counts_and_its_merge_adds() -> None:
    assert folded(b.count, ["x", None, 3.5, []], [1, 3]) == 4


@given(st.lists(st.integers(0, 20)), st.integers(1, 5), st.integers(0, 30))
def test_top_of_tops_is_top(values: list[int], n: int, cut: int) -> None:
    top, bottom = b.top(n), b.bottom(n)
    assert isinstance(top, b.Grouping)
    assert isinstance(bottom, b.Grouping)
    halves = [*top.combine(None, iter(values[:cut])), *top.combine(None, iter(values[cut:]))]
    assert list(top.reduce(None, iter(halves))) == sorted(values, reverse=True)[:n]
    halves = [*bottom.combine(None, iter(values[:cut])), *bottom.combine(None, iter(values[cut:]))]
    assert list(bottom.reduce(None, iter(halves))) == sorted(values)[:n]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers())), st.integers(0, 30))
def test_top_by_a_key_keeps_the_first_of_equals(values: list[tuple[int, int]], cut: int) -> None:
    top = b.top(3, key=lambda value: value[0])
    assert isinstance(top, b.Grouping)
    halves = [*top.combine(None, iter(values[:cut])), *top.combine(None, iter(values[cut:]))]
    wanted = sorted(values, key=lambda value: -value[0])[:3]
    assert list(top.reduce(None, iter(halves))) == wanted


@pytest.mark.parametrize(
    ("n", "error"), [(0, ValueError), (-1, ValueError), ("3", TypeError), (True, TypeError)]
)
def test_top_refuses_a_wrong_n(n: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"mrq\.top"):
        b.top(n)


def test_builtins_show_their_names() -> None:
    assert [repr(x) for x in (b.sum, b.top(3), b.identity)] == ["mrq.sum", "mrq.top(3)", "mrq.identity"]
