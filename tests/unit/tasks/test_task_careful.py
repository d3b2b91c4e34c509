"""skip_bad_records: bad records are left out in place, and kept to be read in again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tasks_rig import ENGINE, SAMPLE, Rig, done

import mrq
from mrq.core.model import Status, TaskResult
from mrq.core.refs import Kind
from mrq.io.output import output_format
from mrq.worker.attempt_order import MapSource


class Numbers(mrq.Job):
    """Emits before it fails: nothing of a bad record may stay."""

    reduce = mrq.sum

    def map(self, key: int, line: str) -> Iterator[tuple[str, int]]:
        yield "lines", 1
        yield "sum", int(line)


class MapOnly(Numbers):
    reduce = None


class Unkeyable(Numbers):
    def map(self, key: int, line: str) -> Iterator[Any]:
        yield (object() if line == "x" else line), 1


class Blocks(mrq.Job):
    reduce = mrq.sum

    def map_block(self, block: bytes) -> dict[str, int]:
        self.counters["blocks"] += 1
        return {"sum": sum(map(int, block.split()))}


class Groups(Numbers):
    def reduce(self, key: str, values: Iterator[int]) -> Iterator[int]:  # type: ignore[override]
        yield 0
        yield 1 // (next(values) - 1) + sum(values)


DATA = b"1\n2\nx\n4\n\xff\n"


def bad(rig: Rig, result: TaskResult, suffix: str) -> list[Any]:
    (file,) = (f for f in result.files if f.final.startswith("_bad/") and f.final.endswith(suffix))
    path = os.path.join(rig.folder, file.name)
    assert file.bytes == os.path.getsize(path)
    if suffix == ".records":
        return list(output_format("records").read(path))
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def careful(job: mrq.Job, folder: Path, data: bytes, allowed: int, **settings: Any) -> tuple[Rig, Any, Any]:
    rig = Rig(job, folder, settings={"skip_bad_records": allowed, **settings})
    order = rig.map_order(42, data, careful=True)
    return rig, rig.run(order), order


def sources(outcome: Any, order: Any) -> tuple[MapSource, ...]:
    return (MapSource(map_index=42, digest=done(outcome).digest, path=order.output_path),)


def reduced(rig: Rig, outcome: Any, order: Any) -> list[Any]:
    return rig.part(done(rig.run(rig.order(Kind.REDUCE, 0, sources=sources(outcome, order)))))


def test_bad_records_are_left_out_whole_and_kept(tmp_path: Path) -> None:
    rig, outcome, order = careful(Numbers(), tmp_path, DATA, 2)
    result = done(outcome)
    assert (result.bad_records, result.records_in, result.records_emitted) == (2, 5, 6)
    source = MapSource(map_index=42, digest=result.digest, path=order.output_path)
    reduced = done(rig.run(rig.order(Kind.REDUCE, 0, sources=(source,))))
    assert rig.part(reduced) == [("lines", 3), ("sum", 7)]
    assert bad(rig, result, ".records") == [(4, "x"), (8, "\udcff")]
    rows = bad(rig, result, ".jsonl")
    assert [(row["path"], row["offset"]) for row in rows] == [("input-1.txt", 4), ("input-1.txt", 8)]
    assert all("int(line)" in row["traceback"] for row in rows)
    assert [f.final for f in result.files] == ["_bad/m-00042.jsonl", "_bad/m-00042.records"]


def test_one_too_many_fails_clearly(tmp_path: Path) -> None:
    _, outcome, _ = careful(Numbers(), tmp_path, DATA, 1)
    assert outcome.status is Status.FAILED
    assert "m-00042 alone has more than the 1 bad records" in outcome.error.message
    assert "caused by ValueError" in outcome.error.frames


def test_map_only_jobs_skip_too(tmp_path: Path) -> None:
    rig, outcome, _ = careful(MapOnly(), tmp_path, DATA, 2)
    assert rig.part(done(outcome)) == [
        ("lines", 1),
        ("sum", 1),
        ("lines", 1),
        ("sum", 2),
        ("lines", 1),
        ("sum", 4),
    ]


def test_what_cannot_be_carried_is_a_bad_record(tmp_path: Path) -> None:
    rig, outcome, _ = careful(Unkeyable(), tmp_path, DATA, 1)
    assert bad(rig, done(outcome), ".records") == [(4, "x")]


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("lead", [b"", BOM])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_bad_block_is_halved_until_its_bad_lines_are_alone(lead: bytes, end: bytes, tmp_path: Path) -> None:
    lines = [b"%d" % n for n in range(300)]
    for index in (0, 1, 150, 298, 299):
        lines[index] = b"bad%d\r" % index
    data = lead + b"\n".join(lines) + end
    rig, outcome, order = careful(Blocks(), tmp_path, data, 5)
    kept = bad(rig, done(outcome), ".records")
    last = b"bad299" if end else b"bad299\r"  # without a newline behind it, it's no part of a line's end
    assert [value for _, value in kept] == [b"bad0", b"bad1", b"bad150", b"bad298", last]
    offsets = [0 if value == b"bad0" else data.index(value) for _, value in kept]
    assert [key for key, _ in kept] == offsets
    assert [row["offset"] for row in bad(rig, done(outcome), ".jsonl")] == offsets
    total = sum(n for n in range(300) if n not in (0, 1, 150, 298, 299))
    assert reduced(rig, outcome, order) == [("sum", total)]
    assert done(outcome).counters == {"blocks": done(outcome).counters["blocks"]}


def test_what_a_half_of_a_block_counted_in_vain_is_forgotten(tmp_path: Path) -> None:
    _, outcome, _ = careful(Blocks(), tmp_path, b"1\nx\n3\n4\n", 1)
    # The blocks 1, 3 and 4; x, and the larger ones with it, count for nothing.
    assert done(outcome).counters == {"blocks": 3}


def test_lines_of_map_block_needn_t_be_what_the_format_says(tmp_path: Path) -> None:
    rig, outcome, order = careful(Blocks(), tmp_path, b"1\n2 3\nx\n4\n", 1, input_format="jsonl")
    assert bad(rig, done(outcome), ".records") == [(6, b"x")]
    assert reduced(rig, outcome, order) == [("sum", 10)]


def pairs_of(self: Any, key: int, line: str) -> Iterator[Any]:
    """`word:value`, the value as Python writes it."""
    word, _, value = line.partition(":")
    yield word, eval(value)


#: What is found out when many pairs are looked at: a hook, and a bad value for it.
FOLDS: list[tuple[Any, str]] = [
    (mrq.sum, "'text'"),
    (mrq.sum, "[1]"),
    (mrq.mean, "None"),
    (mrq.min, "[2]"),
    (mrq.max, "{'a': 1}"),
    (mrq.max, "(1, [2])"),
    (mrq.top(2, key=lambda value: value + 0), "'text'"),
    (mrq.top(2), "[1]"),
    (mrq.bottom(2, key=lambda value: next(iter(()) if value == "text" else iter([value]))), "'text'"),
]
GOOD_LINES = [f"w{n % 3}:{n}" for n in range(12)]


@pytest.mark.parametrize("memory", [64 << 20, 2000])
@pytest.mark.parametrize(("reduce", "value"), FOLDS)
@pytest.mark.parametrize("place", [0, 5, 12])
def test_a_value_that_a_built_in_cannot_take_is_a_bad_record(
    place: int, reduce: Any, value: str, memory: int, tmp_path: Path
) -> None:
    job = type("Folds", (mrq.Job,), {"map": pairs_of, "reduce": reduce})()
    data = "\n".join([*GOOD_LINES[:place], f"w1:{value}", *GOOD_LINES[place:]]).encode()
    rig = Rig(job, tmp_path, memory=memory, settings={"skip_bad_records": 1})
    ordinary = rig.map(42, data)
    assert ordinary.status is Status.FAILED
    assert ordinary.error is not None
    offset = data.index(f"w1:{value}".encode())
    assert (ordinary.error.path, ordinary.error.offset) == ("input-1.txt", offset)
    assert "w1" in ordinary.error.message + str(ordinary.error.record)
    assert ENGINE not in ordinary.error.frames
    order = rig.map_order(42, data, careful=True)
    outcome = rig.run(order)
    assert bad(rig, done(outcome), ".records") == [(offset, f"w1:{value}")]
    (place_clean := tmp_path / "clean").mkdir()
    clean = Rig(job, place_clean).whole("\n".join(GOOD_LINES).encode())
    assert reduced(rig, outcome, order) == clean.pairs


@pytest.mark.parametrize("reduce", [mrq.sum, mrq.collect, mrq.identity])
@pytest.mark.parametrize("reducers", [2, 3])
@pytest.mark.parametrize("answer", ["stop", "raise", -1, "'0'", None])
def test_a_key_that_partition_cannot_place_is_a_bad_record(
    answer: Any, reducers: int, reduce: Any, tmp_path: Path
) -> None:
    def partition(self: Any, key: str, n: int) -> Any:
        if key != "bad":
            return len(key) % n
        if answer == "stop":
            raise StopIteration
        return {}["key"] if answer == "raise" else answer

    job = type("Parts", (mrq.Job,), {"map": pairs_of, "reduce": reduce, "partition": partition})()
    rig = Rig(job, tmp_path, reducers=reducers, settings={"skip_bad_records": 2})
    data = b"a:1\nbad:2\nccc:3\nbad:4\n"
    ordinary = rig.map(42, data)
    assert ordinary.error is not None
    assert (ordinary.error.path, ordinary.error.offset) == ("input-1.txt", 4)
    assert "'bad'" in ordinary.error.message + str(ordinary.error.record)
    outcome = rig.run(rig.map_order(42, data, careful=True))
    assert bad(rig, done(outcome), ".records") == [(4, "bad:2"), (16, "bad:4")]


def test_a_combine_that_raises_is_left_to_the_reduce(tmp_path: Path) -> None:
    def add(self: Any, key: str, values: Iterator[int]) -> Iterator[int]:
        yield sum(values)

    job = type("Adds", (mrq.Job,), {"map": pairs_of, "combine": add, "reduce": add})()
    rig = Rig(job, tmp_path, settings={"skip_bad_records": 1})
    data = b"a:1\na:2\nb:'x'\nb:3\n"
    assert rig.map(42, data).status is Status.FAILED
    order = rig.map_order(42, data, careful=True)
    outcome = rig.run(order)
    assert done(outcome).bad_records == 0
    reducing = rig.run(rig.order(Kind.REDUCE, 0, sources=sources(outcome, order), careful=True))
    assert rig.part(done(reducing)) == [("a", 3)]
    assert bad(rig, done(reducing), ".records") == [("b", ["x", 3])]


def many(self: Any, key: int, line: str) -> Iterator[Any]:
    for word in ("a", "b", "c"):
        for n in range(500):
            yield word, [n] if word == "b" and n == 400 and line == "bad" else n


def listed(self: Any, key: str, values: Iterator[Any]) -> list[Any]:
    return list(values)


@pytest.mark.parametrize("memory", [64 << 20, 30_000])
def test_a_group_that_cannot_be_sorted_after_a_combine_is_left_out(memory: int, tmp_path: Path) -> None:
    job = type("Sorts", (mrq.Job,), {"map": many, "combine": listed, "reduce": listed})()
    settings = {"skip_bad_records": 1, "sort_values": True}
    rig = Rig(job, tmp_path, memory=memory, settings=settings)
    order = rig.map_order(42, b"bad\n")
    outcome = rig.run(order)
    ordinary = rig.run(rig.order(Kind.REDUCE, 0, sources=sources(outcome, order)))
    assert ordinary.status is Status.FAILED
    assert ordinary.error is not None
    assert ordinary.error.record == "the group of the key 'b'"
    found = rig.run(rig.order(Kind.REDUCE, 0, sources=sources(outcome, order), careful=True))
    assert {key for key, _ in rig.part(done(found))} == {"a", "c"}
    assert bad(rig, done(found), ".records") == [("b", [*range(400), [400], *range(401, 500)])]


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("memory", [64 << 20, 30_000])
@pytest.mark.parametrize("reduce", [mrq.identity, mrq.collect, mrq.top(9, key=str), listed])
def test_a_map_whose_values_cannot_be_sorted_is_sent_back(
    reduce: Any, memory: int, careful: bool, tmp_path: Path
) -> None:
    job = type("Sorts", (mrq.Job,), {"map": many, "reduce": reduce})()
    settings = {"skip_bad_records": 1 if careful else 0, "sort_values": True}
    rig = Rig(job, tmp_path, memory=memory, settings=settings)
    found = []
    for index, data in enumerate((b"x\n", b"x\nbad\n", b"x\n")):
        order = rig.map_order(index, data)
        found.append(MapSource(map_index=index, digest=done(rig.run(order)).digest, path=order.output_path))
    sent = rig.run(rig.order(Kind.REDUCE, 0, sources=tuple(found), careful=careful))
    assert sent.status is Status.FETCH_FAILED
    assert [(f.map_index, f.reason) for f in sent.fetch_failures] == [(1, "unordered")]
    assert sent.error is not None
    assert "sort_values can't order the values of the key 'b'" in sent.error.message
    again = rig.run(rig.map_order(1, b"x\nbad\n", careful=True, strict_order=True))
    if careful:
        assert bad(rig, done(again), ".records") == [(2, "bad")]
        return
    assert again.error is not None
    assert "sort_values can't order the values of the key 'b'" in again.error.message
    assert (again.error.offset, again.error.record) == (2, "'bad'")
    assert "many" in again.error.frames


def test_all_maps_with_such_values_are_sent_back_at_once_where_they_are_left_out(tmp_path: Path) -> None:
    def each(self: Any, key: int, line: str) -> Iterator[Any]:
        yield line, None
        yield line, {} if line in "bd" else float("nan") if line == "e" else 1

    job = type("Sorts", (mrq.Job,), {"map": each, "reduce": listed})()
    for allowed, wanted in ((0, [0]), (9, [0, 2, 3])):
        settings = {"skip_bad_records": allowed, "sort_values": True}
        rig = Rig(job, tmp_path / str(allowed), settings=settings)
        rig.folder.mkdir()
        found = []
        for index, data in enumerate((b"a\nb\n", b"c\n", b"d\n", b"e\n")):
            order = rig.map_order(index, data)
            found.append(
                MapSource(map_index=index, digest=done(rig.run(order)).digest, path=order.output_path)
            )
        sent = rig.run(rig.order(Kind.REDUCE, 0, sources=tuple(found)))
        assert [f.map_index for f in sent.fetch_failures] == wanted


@pytest.mark.parametrize("value", [{}, [1], ("x", []), float("nan")])
def test_a_value_alone_with_its_key_needs_no_order_unless_another_has_none(
    value: Any, tmp_path: Path
) -> None:
    def each(self: Any, key: int, line: str) -> Iterator[Any]:
        yield line, value

    job = type("Sorts", (mrq.Job,), {"map": each, "reduce": mrq.identity})()
    rig = Rig(job, tmp_path, settings={"sort_values": True, "skip_bad_records": 1})
    order = rig.map_order(42, b"a\nb\n", careful=True)
    given = sources(rig.run(order), order)
    for careful in (False, True):
        found = rig.run(rig.order(Kind.REDUCE, 0, sources=given, careful=careful))
        assert repr(rig.part(done(found))) == repr([("a", value), ("b", value)])
    strict = rig.run(rig.order(Kind.REDUCE, 0, sources=given, strict_order=True))
    assert [f.reason for f in strict.fetch_failures] == ["unordered"]
    again = rig.run(rig.map_order(42, b"a\n", careful=True, strict_order=True))
    assert bad(rig, done(again), ".records") == [(0, "a")]


class Reads(mrq.Job, sort_values=True):
    reduce = mrq.collect

    def map_split(self, records: Iterator[tuple[int, str]]) -> Iterator[Any]:
        for _, line in records:
            yield "k", {} if line == "bad" else line


def test_a_careful_map_split_names_the_record_that_it_read_last(tmp_path: Path) -> None:
    rig = Rig(Reads(), tmp_path, settings={"sort_values": True})
    outcome = rig.run(rig.map_order(42, b"x\nbad\ny\n", careful=True, strict_order=True))
    assert outcome.error is not None
    assert (outcome.error.offset, outcome.error.record) == (2, "'bad'")
    assert done(rig.run(rig.map_order(42, b"x\ny\n", careful=True, strict_order=True))).records_emitted == 2


def test_a_careful_reduce_leaves_out_no_group_for_a_file_that_is_gone(tmp_path: Path) -> None:
    """The blocks of a large group are read while it is reduced."""

    class Counts(Numbers):
        def map(self, key: int, line: str) -> Iterator[tuple[str, int]]:
            return (("k", n) for n in range(30_000))

        def reduce(self, key: str, values: Iterator[int]) -> Iterator[int]:
            next(values)
            with open(order.output_path, "r+b") as file:
                file.truncate(file.seek(0, 2) // 2)
            yield 1 + sum(1 for _ in values)

    rig = Rig(Counts(), tmp_path, settings={"skip_bad_records": 1})
    order = rig.map_order(42, b"x\n")
    given = sources(rig.run(order), order)
    outcome = rig.run(rig.order(Kind.REDUCE, 0, sources=given, careful=True))
    assert [(f.map_index, f.reason) for f in outcome.fetch_failures] == [(42, "corrupt")]


@pytest.mark.parametrize("job_format", ["text", "lines", "jsonl"])
def test_what_the_output_cannot_say_is_a_bad_record(job_format: str, tmp_path: Path) -> None:
    class MapOnly(mrq.Job):
        def map(self, key: int, line: str) -> Iterator[Any]:
            yield line, {1: "a", "1": "b"} if line == "bad" else {1: "a"}

    settings = {"skip_bad_records": 1, "output_format": job_format}
    rig = Rig(MapOnly(), tmp_path, settings=settings)
    outcome = rig.run(rig.map_order(42, b"x\nbad\ny\n", careful=True))
    ordinary = rig.map(42, b"x\nbad\ny\n")
    if ordinary.status is Status.DONE:
        assert done(outcome).bad_records == 0
    else:
        assert ordinary.error is not None
        assert ordinary.error.offset == 2
        assert bad(rig, done(outcome), ".records") == [(2, "bad")]


def test_half_an_emoji_is_left_out_and_kept_as_json(tmp_path: Path) -> None:
    class Text(mrq.Job):
        reduce = mrq.count

        def map(self, key: int, row: Any) -> Iterator[Any]:
            yield row["text"], None

    data = b'{"text": "fine"}\n{"text": "cut \\ud83d"}\n{"text": "fine"}\n'
    rig, outcome, order = careful(Text(), tmp_path, data, 1, input_format="jsonl")
    assert bad(rig, done(outcome), ".records") == [(17, b'{"text": "cut \\ud83d"}')]
    assert "\\ud83d" in json.dumps(bad(rig, done(outcome), ".jsonl"))
    assert reduced(rig, outcome, order) == [("fine", 2)]


def test_counts_of_a_bad_record_go_with_it(tmp_path: Path) -> None:
    class Counting(Numbers):
        def map(self, key: int, line: str) -> Iterator[tuple[str, int]]:
            self.counters["seen"] += 1
            yield "sum", int(line)

    _, outcome, _ = careful(Counting(), tmp_path, DATA, 2)
    assert done(outcome).counters == {"seen": 3}


def test_counts_of_a_bad_group_go_with_it(tmp_path: Path) -> None:
    class Counting(Groups):
        def reduce(self, key: str, values: Iterator[int]) -> Iterator[int]:  # type: ignore[override]
            self.counters["groups"] += 1
            for value in values:
                self.counters["values"] += 1
                yield 1 // (value - 7)

    rig, outcome, order = careful(Counting(), tmp_path, b"1\n7\n2\n", 1)
    reducing = rig.run(rig.order(Kind.REDUCE, 0, sources=sources(outcome, order), careful=True))
    assert (done(reducing).bad_records, done(reducing).counters) == (1, {"groups": 1, "values": 3})


def test_a_sample_of_keys_leaves_bad_records_out(tmp_path: Path) -> None:
    class Sorted(mrq.Job):
        reduce = mrq.identity

        def map(self, key: int, line: str) -> Iterator[Any]:
            yield [line] if line == "x" else line, 1

    rig = Rig(Sorted(), tmp_path, settings={"skip_bad_records": 1}, stage=SAMPLE)
    ordinary = rig.map(42, b"a\nx\nb\n")
    assert ordinary.error is not None
    assert (ordinary.error.offset, ordinary.error.record) == (2, "'x'")
    result = done(rig.run(rig.map_order(42, b"a\nx\nb\n", careful=True)))
    assert (result.bad_records, result.records_out) == (1, 2)


def test_lines_that_are_no_json_are_bad_records(tmp_path: Path) -> None:
    class Rows(mrq.Job):
        def map(self, key: int, row: Any) -> Iterator[Any]:
            yield key, row["n"]

    rig, outcome, _ = careful(Rows(), tmp_path, b'{"n": 1}\n{oops\n{"m": 2}\n', 2, input_format="jsonl")
    assert rig.part(done(outcome)) == [(0, 1)]
    assert bad(rig, done(outcome), ".records") == [(9, b"{oops"), (15, {"m": 2})]


@pytest.mark.parametrize("allowed", [1, 0])
def test_a_bad_group_is_left_out_whole(allowed: int, tmp_path: Path) -> None:
    rig = Rig(Groups(), tmp_path, settings={"skip_bad_records": allowed})
    order = rig.map_order(0, b"2\n3\n")
    result = done(rig.run(order))
    source = MapSource(map_index=0, digest=result.digest, path=order.output_path)
    outcome = rig.run(rig.order(Kind.REDUCE, 3 - 3, sources=(source,), careful=True))
    if not allowed:
        assert outcome.status is Status.FAILED
        return
    assert rig.part(done(outcome)) == [("sum", 0), ("sum", 4)]
    assert bad(rig, done(outcome), ".records") == [("lines", [1, 1])]
