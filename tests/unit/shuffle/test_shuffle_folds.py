"""A fold from pairs to results against a plain dict: tables, spills, merges, keys that are equal and look
different."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mrq
from mrq.codec.order import sort_key
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.shuffle.collect import MapPlan, TableCollector
from mrq.shuffle.grouping import folded
from mrq.shuffle.mapfile import MapFile, MapHeader
from mrq.shuffle.merge import merge
from mrq.shuffle.partition import ByHash

HEADER = MapHeader(attempt=AttemptRef(TaskRef("folds-1", 0, Kind.MAP, 0), 1, 1, "t"), code="")
LARGE = 1 << 20
Pairs = list[tuple[Any, Any]]

KEYS = st.one_of(
    st.sampled_from(["a", "b", "é", "zz", "\udcff"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3),
    st.sampled_from([b"a", b"b", b"", 1, 2, 1.0, True, 0, False, None, ("a", 1), ("a", 1.0)]),
)
MAPS = st.lists(
    st.one_of(
        st.lists(st.tuples(KEYS, st.just(1)), min_size=1, max_size=20),
        st.lists(st.tuples(st.text("abc", min_size=1, max_size=2), st.just(1)), min_size=1, max_size=20),
        st.lists(st.tuples(st.binary(max_size=1), st.just(1)), min_size=1, max_size=20),
        st.lists(st.tuples(KEYS, st.integers(-3, 1 << 70)), min_size=1, max_size=20),
    ),
    max_size=8,
)


def results(maps: Iterable[Pairs], *, fold: Any = mrq.sum, memory: int = LARGE) -> tuple[Pairs, int]:
    """What one reduce makes of the pairs of some maps, and how often those were spilled."""
    with tempfile.TemporaryDirectory() as folder:
        sources, spills = [], 0
        for number, pairs in enumerate(maps):
            os.mkdir(scratch := f"{folder}/{number}")
            plan = MapPlan(
                partitions=1, partition=ByHash(1), memory=memory, scratch=scratch, header=HEADER, tick=list
            )
            collector = TableCollector(plan, fold=fold)
            collector.consume(iter(pairs))
            if collector.finish(f"{folder}/map-{number}").records:
                with MapFile(f"{folder}/map-{number}") as file:
                    sources.append(file.entry(0))
            assert collector.emitted == len(pairs)
            spills += collector.spills
        found: Pairs = []
        for keys, states in folded(merge(sources, memory=memory, scratch=folder, tick=list), fold):
            found += zip(keys, fold.finish(states), strict=True)
        return found, spills


def plain(maps: Iterable[Pairs]) -> Pairs:
    sums: dict[Any, Any] = {}
    for pairs in maps:
        for key, value in pairs:
            sums[key] = sums.get(key, 0) + value
    return sorted(sums.items(), key=lambda pair: sort_key(pair[0]))


def shown(pairs: Pairs) -> list[str]:
    return list(map(repr, pairs))  # 1, 1.0 and True differ


@given(maps=MAPS)
def test_the_sums_are_those_of_a_dict_and_keys_look_as_they_came_first(maps: list[Pairs]) -> None:
    found, spills = results(maps)
    assert shown(found) == shown(plain(maps))
    assert spills == 0


@given(maps=MAPS)
def test_the_sums_are_the_same_where_each_pair_is_spilled(maps: list[Pairs]) -> None:
    found, spills = results(maps, memory=1)
    assert shown(found) == shown(plain(maps))
    assert spills >= len(maps)


def test_ints_and_floats_of_one_key_are_added_exactly() -> None:
    maps: list[Pairs] = [[("a", 1), ("b", 1)], [("a", 0.5), ("c", 0.25)], [("a", 1)]]
    assert results(maps)[0] == [("a", 2.5), ("b", 1), ("c", 0.25)]
    many: Pairs = [("a", 1e300), ("a", 1), ("a", -1e300), ("a", 0.5)] * 1000
    for memory in (1, LARGE):
        assert results([many, [("a", 2)]], memory=memory)[0] == [("a", 1502.0)]


@pytest.mark.parametrize("fold", [mrq.min, mrq.max])
def test_extremes_are_the_first_of_equal_values(fold: Any) -> None:
    maps: list[Pairs] = [[("a", 1.0), ("a", True), ("b", None)], [("a", 1), ("b", "x"), ("b", b"y")]]
    for memory in (1, LARGE):
        found = dict(results(maps, fold=fold, memory=memory)[0])
        assert repr(found) == repr({"a": 1.0, "b": None if fold is mrq.min else b"y"})


def test_more_keys_than_a_block_come_out_once_each_in_order() -> None:
    # 7,000 keys, some in every map: neighbours that are equal lie across the ends of blocks.
    maps = [[(f"w{n:05}", 1) for n in range(start, 7_000, step)] for start, step in ((0, 1), (0, 2), (1, 3))]
    expected = Counter(key for pairs in maps for key, _ in pairs)
    assert results(maps)[0] == sorted(expected.items())


@pytest.mark.parametrize("value", [1, 0.5, (1, "x")])
def test_what_waits_is_merged_before_it_is_spilled(value: Any) -> None:
    """Few keys with many values never take a spill; distinct ones do."""
    fold = mrq.max if type(value) is tuple else mrq.sum
    memory = 200_000
    repeated: Pairs = [(f"w{n % 50}", value) for n in range(20_000)]
    found, spills = results([repeated], fold=fold, memory=memory)
    assert spills == 0
    assert found[0] == ("w0", value if fold is mrq.max else value * 400)
    assert results([[(f"w{n}", value) for n in range(20_000)]], fold=fold, memory=memory)[1] > 1
