"""The partition hash: stable, alike for equal keys, even."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrq.codec.hashing import hash_key, partition_column
from mrq.core.digest import consumed
from mrq.errors import DataError

text = st.one_of(
    st.text(max_size=6), st.binary(max_size=6).map(lambda b: b.decode("utf-8", "surrogateescape"))
)
numbers = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False))
atoms = st.one_of(st.none(), numbers, text, st.binary(max_size=6))
keys = st.recursive(atoms, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)


def twins(key: Any) -> list[Any]:
    """Three spellings of one key."""
    if isinstance(key, tuple):
        inner = [twins(item) for item in key]
        return [tuple(spellings[i] for spellings in inner) for i in range(3)]
    if isinstance(key, (bool, int)) and abs(key) < 2**53:
        return [key, float(key), int(key)]
    if isinstance(key, float) and key.is_integer():
        return [key, int(key), -key if key == 0 else key]
    if isinstance(key, str):
        data = key.encode("utf-8", "surrogateescape")
        return [key, "".join(chr(0xDC00 + b) if b > 127 else chr(b) for b in data), key]
    return [key] * 3


@settings(max_examples=300)
@given(keys, st.integers(1, 50))
def test_equal_keys_go_to_one_partition(key: Any, n: int) -> None:
    found = partition_column(twins(key), n)
    assert len(set(found)) == 1
    assert 0 <= found[0] < n
    for twin in twins(key):
        assert partition_column([twin], n) == found[:1]


@settings(max_examples=200)
@given(st.one_of(st.lists(keys), st.lists(text), st.lists(st.tuples(text, numbers)), st.lists(st.binary())))
def test_a_column_is_its_keys_one_by_one(column: list[Any]) -> None:
    assert partition_column(column, 7) == [partition_column([key], 7)[0] for key in column]


SPREADS: list[Callable[[int], Any]] = [
    lambda i: i,
    lambda i: i * 8,
    lambda i: i * 1_000_000,
    lambda i: -i,
    lambda i: i / 4,
    lambda i: i << 40,
    lambda i: 1_700_000_000 + i * 60,
    lambda i: i * 0x9E3779B1,
    lambda i: str(i),
    lambda i: f"key{i:08d}",
    lambda i: f"user-{i}@example.com",
    lambda i: str(i).encode(),
    lambda i: (i % 50, i // 50),
    lambda i: ("a", str(i)),
    lambda i: i.to_bytes(10, "big"),
]


@pytest.mark.parametrize("n", [2, 3, 4, 7, 8, 10, 16, 64])
@pytest.mark.parametrize("spread", range(len(SPREADS)))
def test_partitions_are_even(spread: int, n: int) -> None:
    count = 20_000
    found = partition_column([SPREADS[spread](i) for i in range(count)], n)
    sizes = [found.count(i) for i in range(n)]
    expected = count / n
    # Five standard deviations of a fair die; regular keys may be more even than chance.
    assert max(sizes) < expected + 5 * expected**0.5
    assert min(sizes) > expected - 5 * expected**0.5


def test_the_hash_never_changes() -> None:
    """Fixed for ever: files of one version are read by the next."""
    known = [hash_key(key) for key in (None, 0, 1, -1, 1.5, "", "word", "é", b"word", (), (1, "a"), 10**30)]
    assert known == KNOWN


KNOWN = [
    1852796517,
    1696784233,
    2844319735,
    3991854978,
    3024080787,
    0,
    3287381265,
    235179326,
    1390299801,
    0,
    1522681082,
    3911447902,
]


def test_the_same_in_every_process() -> None:
    program = (
        "from mrq.codec.hashing import partition_column as p; from mrq.core.digest import consumed;"
        "print(p(['a', 'é', 1, 2.5, None, b'x', ('a', 1), float('inf'), 10**30], 1000), consumed(3, 4))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert len(answers) == 1


def test_keys_that_cannot_be_carried_are_refused() -> None:
    for column in ([[1]], [1, {2}], [("a", [1])], ["\ud800"]):
        with pytest.raises(DataError):
            partition_column(column, 3)


def test_consumed_is_64_bits_and_tells_maps_and_digests_apart() -> None:
    seen = {consumed(m, d) for m in range(100) for d in (*range(100), 2**64 - 1)}
    assert len(seen) == 100 * 101
    assert all(0 <= value < 2**64 for value in seen)
    assert consumed(1, 2) != consumed(2, 1)
