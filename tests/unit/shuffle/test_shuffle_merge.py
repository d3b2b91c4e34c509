"""The merge is a stable sort of the concatenation, whatever the blocks, the memory and the passes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrq.codec.order import sort_key
from mrq.errors import CorruptFileError, DataError
from mrq.shuffle import block, merge
from mrq.shuffle.budget import cost
from mrq.shuffle.mapfile import write_run


@dataclass
class Listed:
    """A source in memory, cut into blocks wherever the test likes."""

    parts: list[tuple[list[Any], list[Any]]]
    is_sorted: bool = True
    opened: int = 0

    @property
    def records(self) -> int:
        return sum(len(keys) for keys, _ in self.parts)

    @property
    def bytes(self) -> int:
        return self.records

    @property
    def cost(self) -> int:
        return sum(cost(*part) for part in self.parts)

    @property
    def block_cost(self) -> int:
        return max((cost(*part) for part in self.parts), default=0)

    def blocks(self) -> Iterator[tuple[list[Any], list[Any]]]:
        self.opened += 1
        yield from self.parts


few = st.sampled_from(["a", "b", "c", "d"])
text = st.one_of(
    st.text(max_size=3), st.binary(max_size=3).map(lambda b: b.decode("utf-8", "surrogateescape"))
)
numbers = st.sampled_from([0, 1, 1.0, True, 2, 2**53, 2.0**53, -1])
key_kinds = [
    few,
    text,
    numbers,
    st.none(),
    st.binary(max_size=2),
    st.tuples(few, numbers),
    st.one_of(st.none(), numbers, text, st.binary(max_size=2), st.tuples(text), st.tuples(few, numbers)),
]


@st.composite
def sources(draw: st.DrawFn) -> list[Listed]:
    kind = draw(st.sampled_from(key_kinds))
    result = []
    for number in range(draw(st.integers(0, 7))):
        keys = draw(st.lists(kind, max_size=25))
        is_sorted = draw(st.booleans())
        if is_sorted:
            keys.sort(key=sort_key)
        cuts = sorted({0, len(keys), *draw(st.lists(st.integers(0, len(keys)), max_size=6))})
        values = [(number, position) for position in range(len(keys))]
        parts = [(keys[a:b], values[a:b]) for a, b in itertools.pairwise(cuts)]
        result.append(Listed(parts, is_sorted))
    return result


def flat(blocks: Any) -> list[tuple[str, Any]]:
    """Pairs with the key's spelling, which tells 1, 1.0 and True apart."""
    return [(repr(k), v) for keys, values in blocks for k, v in zip(keys, values, strict=True)]


@settings(max_examples=500)
@given(
    sources(),
    st.sampled_from([1, 300, 2000, 1 << 30]),
    st.integers(1, 9),
    st.integers(2, 4),
    st.sampled_from([1, 1000, 1 << 20]),
)
def test_merge_is_a_stable_sort_of_the_concatenation(
    tmp_path_factory: pytest.TempPathFactory,
    given_: list[Listed],
    memory: int,
    records: int,
    fan_in: int,
    buffer: int,
) -> None:
    scratch = tmp_path_factory.mktemp("merge")
    parts = [part for source in given_ for part in source.parts]
    pairs = [pair for keys, values in parts for pair in zip(keys, values, strict=True)]
    expected = [(repr(k), v) for k, v in sorted(pairs, key=lambda pair: sort_key(pair[0]))]
    with (
        patch.object(block, "BLOCK_RECORDS", records),
        patch.multiple(merge, FAN_IN_MAX=fan_in, _BUFFER_COST=buffer),
    ):
        merged = merge.merge(given_, memory=memory, scratch=str(scratch), tick=lambda: None)
        found = flat(merged)
    assert [v for _, v in found] == [v for _, v in expected]
    if not any("udc" in key for key, _ in expected):
        # (Escaped bytes that spell UTF-8 come back from a pass as characters: the same key all the same.)
        assert found == expected
    assert os.listdir(scratch) == []


def runs(folder: Path, columns: list[tuple[list[Any], list[Any]]]) -> list[Any]:
    made = []
    for number, (keys, values) in enumerate(columns):
        made.append(write_run(str(folder / f"run-{number}"), [(keys, values)]))
    return made


def test_many_runs_in_little_memory(tmp_path: Path) -> None:
    columns = []
    for number in range(150):
        keys = sorted(f"k{(number * 7919 + i * 31) % 997:03d}" for i in range(200))
        columns.append((keys, [(number, i) for i in range(200)]))
    given_ = runs(tmp_path, columns)
    before = set(os.listdir(tmp_path))
    pairs = [pair for keys, values in columns for pair in zip(keys, values, strict=True)]
    expected = sorted(pairs, key=lambda pair: pair[0])
    ticks = itertools.count()

    def tick() -> None:
        next(ticks)

    for memory in (100_000, 500_000, 1 << 30):
        merged = merge.merge(given_, memory=memory, scratch=str(tmp_path), tick=tick)
        found = [pair for keys, values in merged for pair in zip(keys, values, strict=True)]
        assert found == expected
        assert set(os.listdir(tmp_path)) == before
    assert next(ticks) >= 3 * len(expected) // block.BLOCK_RECORDS


class Counting(Listed):
    """Counts the blocks that were asked for."""

    asked: int = 0

    def blocks(self) -> Iterator[tuple[list[Any], list[Any]]]:
        for part in self.parts:
            self.asked += 1
            yield part


def test_one_key_with_many_values_streams_source_by_source() -> None:
    """While the first source's values come out, the others hold a block and wait."""
    parts = [(["k"] * 100, list(range(100)))] * 50
    given_ = [Counting(parts), Counting(parts), Counting(parts)]
    memory = sum(source.cost for source in given_) // 20
    merged = merge.merge(given_, memory=memory, scratch="/nonexistent", tick=lambda: None)
    seen = 0
    most = 0
    for keys, _ in merged:
        seen += len(keys)
        held = 100 * sum(source.asked for source in given_) - seen
        most = max(most, held)
    assert seen == 3 * 50 * 100
    assert most <= 15_000 // 20 + 300
    assert given_[0].asked == 50


def test_a_merge_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    given_ = [Listed([([1, 2], ["a", "b"])], is_sorted=False) for _ in range(9)]
    merged = merge.merge(given_, memory=1, scratch=str(tmp_path), tick=lambda: None)
    next(merged)
    assert os.listdir(tmp_path) != []
    merged.close()
    assert os.listdir(tmp_path) == []


def test_a_tick_that_raises_leaves_nothing(tmp_path: Path) -> None:
    given_ = [Listed([([1, 2], ["a", "b"])] * 3) for _ in range(9)]
    left = iter(range(12))

    def tick() -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(merge.merge(given_, memory=1, scratch=str(tmp_path), tick=tick))
    assert os.listdir(tmp_path) == []


def test_damage_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    given_ = runs(tmp_path, [([i], [i]) for i in range(6)])
    path = tmp_path / "run-4"
    data = bytearray(path.read_bytes())
    data[given_[4].bytes - 1] ^= 1
    path.write_bytes(data)
    before = sorted(os.listdir(tmp_path))
    for memory in (1, 1 << 30):
        with pytest.raises(CorruptFileError, match="run-4"):
            list(merge.merge(given_, memory=memory, scratch=str(tmp_path), tick=lambda: None))
        assert sorted(os.listdir(tmp_path)) == before


def test_no_sources_and_empty_ones_give_nothing(tmp_path: Path) -> None:
    for given_ in ([], [Listed([])], [Listed([]), Listed([([], [])])]):
        assert list(merge.merge(given_, memory=1, scratch=str(tmp_path), tick=lambda: None)) == []


def test_what_an_unsorted_source_cannot_spill_is_refused(tmp_path: Path) -> None:
    given_ = [Listed([([1, float("nan")], [1, 2])], is_sorted=False), Listed([([1], [1])])]
    with pytest.raises(DataError, match="NaN"):
        list(merge.merge(given_, memory=1, scratch=str(tmp_path), tick=lambda: None))
    assert os.listdir(tmp_path) == []


def test_few_sources_too_many_cost_one_small_merge(tmp_path: Path) -> None:
    """One source above the limit doesn't rewrite everything."""
    given_ = [Listed([([i], [i])]) for i in range(10)]
    with patch.object(merge, "FAN_IN_MAX", 9):
        found = flat(merge.merge(given_, memory=given_[0].cost * 9, scratch=str(tmp_path), tick=lambda: None))
    assert [v for _, v in found] == list(range(10))
