"""`mrq.testing.run`: what users' own tests call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import mrq
import mrq.testing
from mrq.errors import DataError, JobDefinitionError


class Words(mrq.Job):
    reduce = mrq.sum
    least: int = 1

    def map(self, key: Any, line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            if len(word) >= self.least:
                yield word, 1


def test_results_come_in_key_order() -> None:
    assert mrq.testing.run(Words(), records=["b a", "a c a"]) == [("a", 3), ("b", 1), ("c", 1)]


def test_parameters_are_the_instances() -> None:
    assert mrq.testing.run(Words(least=2), records=["b aa"]) == [("aa", 1)]


def test_no_records_give_no_results() -> None:
    assert mrq.testing.run(Words(), records=[]) == []


def test_keys_are_positions_unless_given() -> None:
    class Keys(mrq.Job):
        def map(self, key: Any, value: Any) -> Iterator[tuple[Any, Any]]:
            yield key, value

    assert mrq.testing.run(Keys(), records=["ab", "c", ("k", [1])]) == [(0, "ab"), (3, "c"), ("k", [1])]


def test_values_pass_through_the_real_codec() -> None:
    class Types(mrq.Job):
        reduce = mrq.collect

        def map(self, key: Any, value: Any) -> Iterator[tuple[Any, Any]]:
            yield (1, "x"), [value, (1, 2), {"a": 2**70}]

    assert mrq.testing.run(Types(), records=[None]) == [((1, "x"), [[None, (1, 2), {"a": 2**70}]])]


def test_a_users_exception_comes_out_as_it_is() -> None:
    class Broken(mrq.Job):
        def map(self, key: Any, line: str) -> Iterator[tuple[str, int]]:
            yield line, int(line)

    with pytest.raises(ValueError, match="invalid literal"):
        mrq.testing.run(Broken(), records=["1", "x"])


def test_shapes_are_checked() -> None:
    class Broken(mrq.Job):
        reduce = mrq.sum

        def map(self, key: Any, line: str) -> Iterator[Any]:
            yield line

    with pytest.raises(DataError, match="it must yield pairs"):
        mrq.testing.run(Broken(), records=["x"])


def test_the_job_is_checked_as_at_submit() -> None:
    class Empty(mrq.Job):
        pass

    with pytest.raises(JobDefinitionError, match="no map"):
        mrq.testing.run(Empty(), records=["x"])


def test_total_order_over_several_parts() -> None:
    class Ordered(mrq.Job, order="total"):
        reduce = mrq.identity

        def map(self, key: Any, line: str) -> Iterator[tuple[str, None]]:
            yield line, None

    lines = [f"{n * 37 % 100:02d}" for n in range(100)]
    assert [key for key, _ in mrq.testing.run(Ordered(), records=lines, reducers=4)] == sorted(lines)
