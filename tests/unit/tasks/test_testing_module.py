"""`mrq.testing.run`: what users' own tests call."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

import mrq
import mrq.testing
from mrq import planning
from mrq.errors import DataError, JobDefinitionError, JobError, UsageError, UsageTypeError


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
    found = mrq.testing.run(Keys(), records=["é", b"xyz", "\udcff", 5, "d"])
    assert [key for key, _ in found] == [0, 3, 7, 9, 10]  # in bytes, as in a file of UTF-8


class Table:
    """As pandas has it: going through it gives the names of its columns."""

    def __iter__(self) -> Iterator[str]:
        return iter(["a", "b"])


Table.__name__ = "DataFrame"


TAKEN_APART = [
    ("abc", "and not one text: {what}=['abc']"),
    ("x" * 1000, "and not one text: {what}=['xxxxxxxxxx"),
    (b"abc", "and not one text: {what}=[b'abc']"),
    (bytearray(b"abc"), "and not one text"),
    (memoryview(b"abc"), "and not one text"),
    ({"a": 1}, "and of a dict it would be the names alone: give its .items() or .values()"),
    (Table(), 'and of a DataFrame it would be the names alone: give its .to_dict("records")'),
    (3, "not 3"),
]


def request(**given: Any) -> Any:
    return planning.request_of(
        Words,
        **{"inputs": None, "records": None, **given},
        output="out",
        overwrite=False,
        overrides={},
        folder="",
    )


@pytest.mark.parametrize(
    ("given", "said"), TAKEN_APART, ids=[type(given).__name__ for given, _ in TAKEN_APART]
)
def test_what_would_be_taken_apart_is_no_list(given: Any, said: str) -> None:
    for call in (lambda: mrq.testing.run(Words, given), lambda: request(records=given)):
        with pytest.raises(UsageTypeError) as caught:
            call()
        assert "records is a list" in str(caught.value)
        assert said.format(what="records") in str(caught.value)
        assert len(str(caught.value)) < 200
    with pytest.raises(UsageTypeError, match="inputs is a list"):
        request(inputs=given)


@pytest.mark.parametrize("job", ["job.py:Words", int, 3])
def test_what_is_no_job_is_named(job: Any) -> None:
    with pytest.raises(UsageError, match=r"is not a job: mrq\.testing\.run takes a class"):
        mrq.testing.run(job, ["a"])


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


@pytest.mark.parametrize("reduce", [mrq.sum, mrq.collect, mrq.identity, mrq.top(1)])
@pytest.mark.parametrize("records", [["", ""], ["", "a"], ["a", ""], ["", "", "a"]])
def test_a_map_that_yields_nothing_is_fine(records: list[str], reduce: Any) -> None:
    job = type("Quiet", (Words,), {"reduce": reduce})
    wanted = [("a", [1] if reduce is mrq.collect else 1)] if "a" in records else []
    assert mrq.testing.run(job(), records=records) == wanted
    assert mrq.testing.run(job(), records=records, reducers=3) == wanted
    assert mrq.testing.run(job(), records=records, reducers=3, **TOTAL) == wanted


TOTAL: dict[str, Any] = {"order": "total"}


def test_map_block_gets_whole_lines() -> None:
    class Block(mrq.Job):
        reduce = mrq.sum

        def map_block(self, block: bytes) -> dict[bytes, int]:
            assert block.endswith(b"\n")
            return dict.fromkeys(block.split(), 1)

    assert mrq.testing.run(Block(), records=["a b", b"a c", "\udcff"]) == [
        (b"a", 1),
        (b"b", 1),
        (b"c", 1),
        (b"\xff", 1),
    ]
    with pytest.raises(UsageError, match="records must be lines, as str or bytes, not"):
        mrq.testing.run(Block(), records=[(1, "a")])
    with pytest.raises(UsageError, match="is one line, without its end"):
        mrq.testing.run(Block(), records=["a\nb"])
    with pytest.raises(UsageError, match="map_block takes lines of bytes"):
        mrq.testing.run(type("Wrong", (Block,), {}, input_format="whole")(), records=["a"])


class Numbers(mrq.Job, skip_bad_records=2):
    reduce = mrq.sum

    def map(self, key: Any, line: str) -> Iterator[tuple[str, int]]:
        yield "sum", int(line)


def test_bad_records_are_left_out_up_to_the_bound() -> None:
    assert mrq.testing.run(Numbers(), records=["1", "x", "2", "y", "3"]) == [("sum", 6)]
    with pytest.raises(JobError, match="more than the 2"):
        mrq.testing.run(Numbers(), records=["x", "1", "y", "z"])
    with pytest.raises(ValueError, match="invalid literal"):
        mrq.testing.run(Numbers(), records=["1", "x"], skip_bad_records=0)


@pytest.mark.parametrize(
    ("keywords", "record", "said"),
    [
        ({"encoding": None}, "text", "with encoding=None, so its map gets bytes"),
        ({"input_format": "text"}, b"bytes", "reads text, so its map gets str"),
        ({"input_format": "text"}, 3, "records must be str, not 3"),
        ({"input_format": "whole"}, "text", "reads whole, so its map gets bytes"),
    ],
)
def test_records_that_the_input_format_never_gives_are_refused(
    keywords: dict[str, Any], record: Any, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        mrq.testing.run(type("Reads", (Words,), {}, **keywords)(), records=[record])


@pytest.mark.parametrize("name", ["input_format", "encoding", "split_size", "max_failures", "max_running"])
def test_settings_that_cannot_be_tried_are_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=f"mrq.testing.run can't try {name}"):
        mrq.testing.run(Words(), records=["a"], **{name: None})


def test_what_the_output_format_cannot_say_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, keys: Any, values: Any) -> None:
        raise DataError(f"{self.name} has no word for {keys[0]}")

    monkeypatch.setattr("mrq.io.output.OutputFormat.check", refuse)
    with pytest.raises(DataError, match="jsonl has no word for a"):
        mrq.testing.run(Words(), records=["a"], output_format="jsonl")
    assert mrq.testing.run(Words(), records=["a"]) == [("a", 1)]
    with pytest.raises(UsageError, match="output_format must be one of"):
        mrq.testing.run(Words(), records=["a"], output_format="parquet!")


def test_parameters_are_checked_and_copied() -> None:
    class Listing(mrq.Job):
        names: list[str] = []  # noqa: RUF012 a parameter's default, copied for each instance
        reduce = mrq.count

        def setup(self) -> None:
            assert not self.names
            assert not hasattr(self, "seen")
            self.names.append("x")
            self.seen = True

        def map(self, key: Any, line: str) -> Iterator[Any]:
            yield line, None

    job = Listing()
    assert mrq.testing.run(job, records=["a", "b", "a"]) == [("a", 2), ("b", 1)]
    assert job.names == []
    with pytest.raises(UsageError, match="parameter names of Listing must be list"):
        mrq.testing.run(Listing(names=3), records=["a"])  # type: ignore[arg-type]


def test_what_a_test_puts_into_the_job_stays() -> None:
    class Asking(mrq.Job):
        def map(self, key: Any, line: str) -> Iterator[Any]:
            yield line, self.service(line)  # type: ignore[attr-defined]

    job = Asking()
    vars(job)["service"] = str.upper
    assert mrq.testing.run(job, records=["a"]) == [("a", "A")]


class Counted(mrq.Job):
    """Counts on the map side and on the reduce side, and refuses a count that isn't one."""

    wrong: bool = False

    def map(self, key: Any, line: str) -> Iterator[tuple[str, int]]:
        self.counters["lines"] += 1
        yield line, 1

    def reduce(self, key: str, values: Iterator[int]) -> Iterator[int]:
        self.counters["groups"] = "many" if self.wrong else self.counters["groups"] + 1  # type: ignore[assignment]
        yield sum(values)


def test_counters_are_there_and_checked() -> None:
    assert mrq.testing.run(Counted(), records=["a", "b", "a"]) == [("a", 2), ("b", 1)]
    with pytest.raises(JobError, match=r"self\.counters\['groups'\] is 'many'"):
        mrq.testing.run(Counted(wrong=True), records=["a"])


def test_a_debugger_and_coverage_see_user_code_on_the_callers_thread() -> None:
    seen: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, arg: Any) -> None:
        if frame.f_code in (Counted.map.__code__, Counted.reduce.__code__):
            seen.add((frame.f_code.co_name, threading.get_ident()))

    before, threads = (sys.gettrace(), threading.gettrace()), threading.active_count()
    sys.settrace(trace)
    threading.settrace(trace)
    try:
        mrq.testing.run(Counted(), records=["a", "b"])
    finally:
        sys.settrace(before[0])
        threading.settrace(before[1])  # type: ignore[arg-type]
    assert seen == {("map", threading.get_ident()), ("reduce", threading.get_ident())}
    assert threading.active_count() == threads
