"""The key order against a comparison written from the rule alone."""

from __future__ import annotations

from fractions import Fraction
from functools import cmp_to_key
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrq.codec.columns import decode_column, encode_column
from mrq.codec.order import family, respelled, same, sort_columns, sort_key

escaped = st.binary(max_size=6).map(lambda data: data.decode("utf-8", "surrogateescape"))
text = st.one_of(st.text(max_size=4), escaped, st.sampled_from(["", "a", "\uffff", "\U00010000", "\udc80"]))
near = st.sampled_from(
    [2**53, 2**53 + 1, float(2**53), 2**70, 2.0**70, 2**70 + 1, -0.0, 0, 1, 1.0, True, False]
)
numbers = st.one_of(near, st.integers(), st.floats(allow_nan=False))
atoms = st.one_of(st.none(), numbers, text, st.binary(max_size=4))
keys = st.recursive(atoms, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)
columns = st.one_of(
    st.lists(keys, max_size=25),
    st.lists(text, max_size=25),
    st.lists(numbers, max_size=25),
    st.lists(st.tuples(text, numbers), max_size=25),
    st.lists(st.tuples(st.none(), numbers), max_size=25),
    st.lists(st.sampled_from(["b", "a", "c"]), max_size=25),
)


def rank(key: Any) -> int:
    if key is None:
        return 0
    if isinstance(key, (bool, int, float)):
        return 1
    return {str: 2, bytes: 3, tuple: 4}[type(key)]


def exactly(number: Any) -> Any:
    return number if number in (float("inf"), float("-inf")) else Fraction(number)


def compare(a: Any, b: Any) -> int:
    """None < numbers by value < str by UTF-8 bytes < bytes < tuple, element by element."""
    if rank(a) != rank(b):
        return rank(a) - rank(b)
    if a is None:
        return 0
    if rank(a) == 4:
        for x, y in zip(a, b, strict=False):
            if compare(x, y):
                return compare(x, y)
        return len(a) - len(b)
    if rank(a) == 2:
        a, b = a.encode("utf-8", "surrogateescape"), b.encode("utf-8", "surrogateescape")
    if rank(a) == 1:
        a, b = exactly(a), exactly(b)
    return (a > b) - (a < b)


def shown(pairs: list[tuple[Any, Any]]) -> list[str]:
    return [repr(pair) for pair in pairs]


@settings(max_examples=400)
@given(columns)
def test_sorted_as_the_rule_says_and_stable(column: list[Any]) -> None:
    pairs = list(zip(column, range(len(column)), strict=True))
    expected = sorted(pairs, key=cmp_to_key(lambda p, q: compare(p[0], q[0])))
    ordered, moved = sort_columns(column, list(range(len(column))))
    assert moved is not None
    assert shown(list(zip(ordered, moved, strict=True))) == shown(expected)
    alone, nothing = sort_columns(column, None)
    assert nothing is None
    assert shown(alone) == shown([key for key, _ in expected])


@settings(max_examples=400)
@given(keys, keys)
def test_sort_key_and_same_agree_with_the_rule(a: Any, b: Any) -> None:
    difference = compare(a, b)
    assert (sort_key(a) < sort_key(b)) == (difference < 0)
    assert same(a, b) == (difference == 0)
    assert same(a, a)


@pytest.mark.parametrize(
    ("a", "b"), [("\udcc3\udca9", "é"), (("x", "\udcc3\udca9"), ("x", "é")), (1, True), (-0.0, 0)]
)
def test_one_key_in_two_spellings(a: Any, b: Any) -> None:
    assert same(a, b)
    assert same(b, a)


@pytest.mark.parametrize(("a", "b"), [("a", b"a"), (0, None), ((1,), 1), ("", None), ((), ""), ("é", "e")])
def test_never_one_key(a: Any, b: Any) -> None:
    assert not same(a, b)


def test_equal_values_are_moved_with_their_keys() -> None:
    _, moved = sort_columns(["b", "a", "c"], [1, True, 1])
    assert shown(moved or []) == ["True", "1", "1"]


@settings(max_examples=200)
@given(keys, keys)
def test_keys_that_are_one_are_equal_once_respelled(a: Any, b: Any) -> None:
    assert (respelled(a) == respelled(b)) == same(a, b)
    assert repr(respelled(a)) == repr(decode_column(encode_column([a, None], keys=True))[0])


def test_families() -> None:
    assert family(["a", "é"]) == "str"
    assert family(["a", "\udcff"]) is None
    assert family([1, 2.5, True]) == "number"
    assert family([1, "a"]) is None
    assert family([(1, "a"), (2, "b")]) == ("tuple", "number", "str")
    assert family([(1,), (2, "b")]) is None
    assert family([None, None]) == "none"
    assert family([(None, 1), (None, 0)]) == ("tuple", "none", "number")


def test_subclasses_order_as_their_base() -> None:
    class Name(str):
        pass

    assert sort_columns([Name("b"), 1, "a"], None)[0] == [1, "a", "b"]
