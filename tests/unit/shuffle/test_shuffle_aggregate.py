"""The reduce of a fold against a plain dict: singles, spills, keys that are equal and look different."""

from __future__ import annotations

import tempfile
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mrq
from mrq.codec.order import sort_key
from mrq.shuffle.aggregate import Aggregator

KEYS = st.one_of(
    st.sampled_from(["a", "b", "é", "zz", "\udcff"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3),
    st.sampled_from([b"a", b"b", b"", 1, 2, 1.0, True, 0, False, None, ("a", 1), ("a", 1.0)]),
)
BLOCKS = st.lists(
    st.one_of(
        st.lists(st.tuples(KEYS, st.just(1)), min_size=1, max_size=20),
        st.lists(st.tuples(st.text("abc", min_size=1, max_size=2), st.just(1)), min_size=1, max_size=20),
        st.lists(st.tuples(st.binary(max_size=1), st.just(1)), min_size=1, max_size=20),
        st.lists(st.tuples(KEYS, st.integers(-3, 1 << 70)), min_size=1, max_size=20),
    ),
    max_size=8,
)


def folded(
    blocks: list[list[tuple[Any, Any]]], *, fold: Any = mrq.sum, memory: int = 1 << 20
) -> tuple[list[tuple[Any, Any]], Aggregator]:
    """What an aggregator makes of blocks of pairs."""
    with tempfile.TemporaryDirectory() as scratch:
        table = Aggregator(fold, memory=memory, scratch=scratch, tick=lambda: None)
        for block in blocks:
            table.add([key for key, _ in block], [state for _, state in block])
        results = [pair for keys, values in table.results() for pair in zip(keys, values, strict=True)]
    assert table.groups == len(results)
    return results, table


def plain(blocks: list[list[tuple[Any, Any]]]) -> list[tuple[Any, Any]]:
    sums: dict[Any, Any] = {}
    for block in blocks:
        for key, state in block:
            sums[key] = sums.get(key, 0) + state
    return sorted(sums.items(), key=lambda pair: sort_key(pair[0]))


def shown(pairs: list[tuple[Any, Any]]) -> list[str]:
    return list(map(repr, pairs))  # 1, 1.0 and True differ


@given(blocks=BLOCKS)
def test_the_sums_are_those_of_a_dict_and_keys_look_as_they_came_first(
    blocks: list[list[tuple[Any, Any]]],
) -> None:
    results, table = folded(blocks)
    assert shown(results) == shown(plain(blocks))
    assert table.spills == 0


@given(blocks=BLOCKS)
def test_the_sums_are_the_same_where_each_block_is_spilled(blocks: list[list[tuple[Any, Any]]]) -> None:
    results, table = folded(blocks, memory=1)
    assert shown(results) == shown(plain(blocks))
    assert table.spills >= len(blocks) - 1


def test_singles_and_floats_of_one_key_are_added_exactly() -> None:
    blocks: list[list[tuple[Any, Any]]] = [[("a", 1), ("b", 1)], [("a", 0.5), ("c", 0.25)], [("a", 1)]]
    assert folded(blocks)[0] == [("a", 2.5), ("b", 1), ("c", 0.25)]


def test_more_singles_than_a_block_come_out_once_each_in_order() -> None:
    # 7,000 keys, some in every map: neighbours that are equal lie across the ends of blocks.
    maps = [[(f"w{n:05}", 1) for n in range(start, 7_000, step)] for start, step in ((0, 1), (0, 2), (1, 3))]
    expected = Counter(key for pairs in maps for key, _ in pairs)
    assert folded(maps)[0] == sorted(expected.items())


@pytest.mark.parametrize("maps", [1, 40])
def test_singles_are_held_within_the_budget_and_looked_up_once_they_repeat(maps: int) -> None:
    block: list[tuple[Any, Any]] = [(f"w{n:05}", 1) for n in range(4_000)]
    memory = 4_000 * 400
    results, table = folded([block] * maps, memory=memory)
    assert results == [(key, maps) for key, _ in block]
    # 40 blocks held as singles would be spilled 10 times: after the first spill they are in a table.
    assert table.spills == (0 if maps == 1 else 2)
