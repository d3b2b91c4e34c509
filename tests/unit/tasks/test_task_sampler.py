"""Samples of keys, and boundaries cut from them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tasks_rig import SAMPLE, Rig

import mrq
from mrq.codec.columns import decode_column, encode_column
from mrq.codec.order import sort_key
from mrq.shuffle.partition import boundaries
from mrq.worker.tasks.sampler import SAMPLE_COST_MAX, SAMPLE_MAX, SampleSink

KEYS = st.one_of(
    st.integers(), st.text(max_size=3), st.none(), st.tuples(st.integers(0, 3), st.text(max_size=2))
)


class Numbers(mrq.Job):
    reduce = mrq.identity

    def map(self, key: int, line: str) -> Iterator[tuple[int, None]]:
        for number in range(int(line)):
            yield number, None


def sample(folder: Path, seed: int) -> list[Any]:
    rig = Rig(Numbers(), folder, settings={"seed": seed}, stage=SAMPLE)
    (result,) = rig.whole(b"50000\n").maps
    assert result.sample is not None
    assert result.records_emitted == 50_000
    return decode_column(result.sample)


def test_a_sample_is_bounded_even_and_a_function_of_the_seed(tmp_path: Path) -> None:
    places = [tmp_path / name for name in "abc"]
    for place in places:
        place.mkdir()
    first, again, other = sample(places[0], 1), sample(places[1], 1), sample(places[2], 2)
    assert first == again != other
    assert len(first) == len(set(first)) == SAMPLE_MAX
    for tenth in range(10):
        share = sum(tenth * 5000 <= key < (tenth + 1) * 5000 for key in first)
        assert 850 < share < 1150


def test_huge_keys_make_the_sample_thinner() -> None:
    sink = SampleSink("seed")
    sink.consume((f"{n:05d}" + "x" * 100_000, None) for n in range(1000))
    assert sink.emitted == 1000
    assert 10 < len(sink.keys) <= SAMPLE_COST_MAX // 100_000
    numbers = [int(key[:5]) for key in sink.keys]
    assert min(numbers) < 300
    assert max(numbers) > 700


@given(st.lists(st.lists(KEYS, max_size=50), max_size=4), st.integers(1, 12))
def test_boundaries_are_distinct_keys_in_order(samples: list[list[Any]], reducers: int) -> None:
    cuts = boundaries([encode_column(keys, keys=True) for keys in samples], reducers)
    assert len(cuts) < reducers or not cuts
    ranks = [sort_key(cut) for cut in cuts]
    assert all(a < b for a, b in pairwise(ranks))
    every = [key for keys in samples for key in keys]
    assert all(cut in every for cut in cuts)
    if every:
        assert min(map(sort_key, every)) not in ranks  # else the first partition would be empty


def test_boundaries_cut_evenly() -> None:
    assert boundaries([encode_column(list(range(100)), keys=True)], 4) == [25, 50, 75]
    assert boundaries([encode_column(["a"] * 100, keys=True)], 4) == []
    assert boundaries([], 4) == []
    assert boundaries([b""], 4) == []
