"""What a failed attempt says, whatever user code does."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tasks_rig import Rig, done

import mrq
from mrq.core.model import ErrorReport, Outcome, Status
from mrq.core.refs import Kind
from mrq.worker.attempt_order import MapSource


def failed(outcome: Outcome) -> ErrorReport:
    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert outcome.result is None
    return outcome.error


def mapping(function: Callable[..., Any], *, reduce: Any = mrq.sum) -> mrq.Job:
    """A job whose map is this function."""
    return type("Mapping", (mrq.Job,), {"map": function, "reduce": reduce})()


def reducing(function: Callable[..., Any], **hooks: Any) -> mrq.Job:
    """A job that counts words with this reduce."""

    def words(self: Any, key: int, line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            yield word, 1

    return type("Reducing", (mrq.Job,), {"map": words, "reduce": function, **hooks})()


def run_reduce(job: mrq.Job, folder: Path, data: bytes = b"a b a\n", **fields: Any) -> Outcome:
    rig = Rig(job, folder)
    order = rig.map_order(0, data)
    result = done(rig.run(order))
    source = MapSource(map_index=0, digest=result.digest, path=order.output_path)
    return rig.run(rig.order(Kind.REDUCE, 0, sources=(source,), **fields))


def test_an_exception_tells_frames_record_file_and_offset(tmp_path: Path) -> None:
    def parse(line: str) -> int:
        return int(line)  # the user's own helper

    def numbers(self: Any, key: int, line: str) -> Iterator[tuple[int, int]]:
        yield parse(line), 1

    error = failed(Rig(mapping(numbers), tmp_path).map(0, b"1\n", b"2\n33\nx4\n5\n"))
    assert (error.type, error.record, error.path, error.offset) == ("ValueError", "'x4'", "input-2.txt", 5)
    assert error.message == "invalid literal for int() with base 10: 'x4'"
    frames = error.frames.splitlines()
    assert frames[0].startswith(f'  File "{__file__}", line ')
    assert "yield parse(line), 1" in error.frames
    assert "return int(line)  # the user's own helper" in error.frames
    assert "mrq/worker" not in error.frames
    assert "mrq/shuffle" not in error.frames


def test_an_input_that_cannot_be_read_blames_no_method(tmp_path: Path) -> None:
    def ones(self: Any, key: int, line: str) -> Iterator[tuple[str, int]]:
        yield line, 1

    rig = Rig(mapping(ones), tmp_path)
    order = rig.map_order(0, b"1\n", b"2\n")
    assert order.split is not None
    Path(order.split.pieces[1].open).unlink()
    error = failed(rig.run(order))
    assert (error.type, error.frames) == ("InputError", "")
    assert "can't be read: No such file" in error.message


def test_a_long_record_is_shortened(tmp_path: Path) -> None:
    def boom(self: Any, key: int, line: str) -> None:
        raise RuntimeError(line)

    error = failed(Rig(mapping(boom), tmp_path).map(0, b"y" * 5_000_000))
    assert error.record is not None
    assert len(error.record) < 1000
    assert len(error.message) < 10_000
    assert "5,000,000 characters" in error.record


SHAPES: list[tuple[Callable[[str], Any], str]] = [
    (lambda line: [line], "map yielded 'ab' (a str); it must yield pairs: `yield key, value`"),
    (lambda line: [(line, 1, 2)], "map yielded ('ab', 1, 2) (a tuple of 3)"),
    (lambda line: [[line, 1]], "map yielded ['ab', 1] (a list of 2)"),
    (lambda line: [(line,)], "(a tuple of 1)"),
    (lambda line: [None], "map yielded None"),
    (lambda line: [mrq.Pair(line, 1)], "map yielded mrq.Pair('ab', 1)"),
    (lambda line: [([line], 1)], "['ab']"),
    (lambda line: [([line], 1)], "key"),
    (lambda line: [([line], 1)], "; use tuple(x)"),
    (lambda line: line, "map returned 'ab' (a str); it must yield (`yield key, value`)"),
    (lambda line: line.encode(), "(a bytes)"),
    (lambda line: {line: 1}, "map returned {'ab': 1} (a dict)"),
    (lambda line: (line, 1), "map returned ('ab', 1) (a tuple)"),
    (lambda line: 7, "map returned 7 (a int)"),
    (lambda line: [(float("nan"), 1)], "NaN can't be a key"),
    (lambda line: [({1}, 1)], "use tuple(sorted(x))"),
]


@pytest.mark.parametrize("reduce", [mrq.sum, mrq.count, mrq.max, mrq.identity, mrq.collect, None])
@pytest.mark.parametrize(("result", "message"), SHAPES)
def test_wrong_shapes_of_map(result: Callable[[str], Any], message: str, reduce: Any, tmp_path: Path) -> None:
    def shaped(self: Any, key: int, line: str) -> Any:
        return result(line)

    error = failed(Rig(mapping(shaped, reduce=reduce), tmp_path).map(0, b"ab\n"))
    assert error.type == "DataError"
    assert message in error.message


def test_a_wrong_shape_amid_right_ones_is_found_and_shown(tmp_path: Path) -> None:
    def late(self: Any, key: int, line: str) -> Iterator[Any]:
        for number in range(100):
            yield (line, 1) if number != 57 or line != "line 70" else (line, 1, "third")

    data = b"".join(b"line %d\n" % n for n in range(100))
    error = failed(Rig(mapping(late), tmp_path).map(0, data))
    assert "('line 70', 1, 'third') (a tuple of 3)" in error.message
    assert error.record == "'line 70'"


def test_a_users_own_valueerror_is_not_taken_for_a_shape(tmp_path: Path) -> None:
    def unpacking(self: Any, key: int, line: str) -> Iterator[Any]:
        name, value = line.split()
        yield name, value

    error = failed(Rig(mapping(unpacking, reduce=mrq.identity), tmp_path).map(0, b"a b\na b c\n"))
    assert error.type == "ValueError"
    assert "name, value = line.split()" in error.frames


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("text", "reduce returned 'text' (a str); it must yield (`yield value`)"),
        (b"x", "(a bytes)"),
        ({1: 2}, "(a dict)"),
        ((1, 2), "(a tuple)"),
        (3, "(a int)"),
    ],
)
def test_wrong_returns_of_reduce(result: Any, message: str, tmp_path: Path) -> None:
    error = failed(run_reduce(reducing(lambda self, key, values: result), tmp_path))
    assert message in error.message
    assert error.record == "the group of the key 'a'"


def test_reduce_may_return_none_a_list_or_an_iterator(tmp_path: Path) -> None:
    def mixed(self: Any, key: str, values: Iterator[int]) -> Any:
        return {"a": None, "b": [1, 2], "c": iter([3])}[key]

    rig = Rig(reducing(mixed), tmp_path)
    assert rig.whole(b"a b c\n").pairs == [("b", 1), ("b", 2), ("c", 3)]


def test_pair_is_refused_in_combine(tmp_path: Path) -> None:
    def combine(self: Any, key: str, values: Iterator[int]) -> Iterator[Any]:
        yield mrq.Pair(key, sum(values))

    job = reducing(lambda self, key, values: [sum(values)], combine=combine)
    assert "combine yielded an mrq.Pair" in failed(Rig(job, tmp_path).map(0, b"a a\n")).message


def test_a_combine_that_raises_names_its_key(tmp_path: Path) -> None:
    def combine(self: Any, key: str, values: Iterator[int]) -> Iterator[int]:
        if key == "b":
            raise ValueError("bad group")
        yield sum(values)

    job = reducing(lambda self, key, values: [sum(values)], combine=combine)
    error = failed(Rig(job, tmp_path).map(0, b"a a b b c c\n"))
    assert (error.type, error.message) == ("ValueError", "bad group")
    assert error.record == "combine of the key 'b'"
    assert 'raise ValueError("bad group")' in error.frames


def test_a_partition_that_raises_names_its_key(tmp_path: Path) -> None:
    def partition(self: Any, key: str, n: int) -> int:
        return {"a": 0, "c": 1}[key]

    error = failed(Rig(reducing(mrq.sum, partition=partition), tmp_path, reducers=2).map(0, b"a b c\n"))
    assert (error.type, error.record) == ("KeyError", "partition of the key 'b'")
    assert 'return {"a": 0, "c": 1}[key]' in error.frames


def test_combine_is_never_called_for_a_single_value(tmp_path: Path) -> None:
    sizes: list[int] = []

    def combine(self: Any, key: str, values: Iterator[int]) -> Iterator[int]:
        held = list(values)
        sizes.append(len(held))
        yield sum(held)

    job = reducing(lambda self, key, values: [sum(values)], combine=combine)
    data = " ".join(f"w{n % 700}" for n in range(5000)).encode()
    ran = Rig(job, tmp_path, memory=20_000).whole(data)
    assert dict(ran.pairs) == {f"w{n}": 8 if n < 100 else 7 for n in range(700)}
    assert ran.maps[0].spills > 1
    assert min(sizes) > 1


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (SystemExit(3), "SystemExit", "the job's code called sys.exit(3)"),
        (KeyboardInterrupt(), "KeyboardInterrupt", "the job's code raised KeyboardInterrupt"),
        (MemoryError(), "MemoryError", "Python ran out of memory"),
        (GeneratorExit(), "GeneratorExit", ""),
        (StopIteration(5), "RuntimeError", "map raised StopIteration"),
        (AssertionError(), "AssertionError", ""),
    ],
)
def test_exceptions_of_every_kind(raised: BaseException, kind: str, message: str, tmp_path: Path) -> None:
    def raising(self: Any, key: int, line: str) -> list[Any]:
        raise raised

    error = failed(Rig(mapping(raising), tmp_path).map(0, b"x\n"))
    assert (error.type, error.record) == (kind, "'x'")
    assert error.message.startswith(message)
    assert "raise raised" in error.frames


def test_an_exception_whose_str_raises(tmp_path: Path) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

        __repr__ = __str__

    class Value:
        def __init__(self) -> None:
            raise Broken from Broken()

    def raising(self: Any, key: int, line: str) -> None:
        Value()

    error = failed(Rig(mapping(raising), tmp_path).map(0, b"x\n"))
    assert error.type == "Broken"
    assert "str() of it raised RuntimeError" in error.message
    assert "caused by Broken" in error.frames


def test_endless_recursion_is_told_in_few_frames(tmp_path: Path) -> None:
    def down(n: int) -> int:
        return up(n + 1)

    def up(n: int) -> int:
        return down(n + 1)

    def recursing(self: Any, key: int, line: str) -> Iterator[Any]:
        yield down(0), 1

    error = failed(Rig(mapping(recursing), tmp_path).map(0, b"x\n"))
    assert error.type == "RecursionError"
    assert "frames left out" in error.frames
    assert error.frames.count("\n") < 150


@pytest.mark.parametrize("reduce", [mrq.sum, mrq.collect, None])
@pytest.mark.parametrize(
    ("pair", "named"),
    [((float("nan"), 1), "NaN"), (("x", {1}), "set"), ((object(), 1), "object"), (("a", object()), "object")],
)
def test_what_cannot_be_carried_is_named_with_its_record(
    pair: tuple[Any, Any], named: str, reduce: Any, tmp_path: Path
) -> None:
    def yields(self: Any, key: int, line: str) -> Iterator[tuple[Any, Any]]:
        yield pair if line == "x" else (line, 1)

    job = type("Mapping", (mrq.Job,), {"map": yields, **({"reduce": reduce} if reduce else {})})()
    error = failed(Rig(job, tmp_path).map(0, b"a\nb\nx\nc\n"))
    assert named in error.message
    assert (error.record, error.offset) == ("'x'", 4)


def test_the_cause_of_our_own_message_is_not_shown(tmp_path: Path) -> None:
    error = failed(run_reduce(reducing(lambda self, key, values: [{1}]), tmp_path))
    assert "set" in error.message
    assert ", in reduce\n" in error.frames  # the method that gave it, and no frame of the engine
    assert "caused by" not in error.frames
    assert error.frames.count("File ") == 1


def test_setup_and_teardown_fail_as_themselves(tmp_path: Path) -> None:
    def broken(self: Any) -> None:
        raise OSError("no such table")

    for number, hook in enumerate(("setup", "teardown")):
        (place := tmp_path / str(number)).mkdir()
        job = reducing(mrq.sum, **{hook: broken})
        error = failed(Rig(job, place).map(0, b"x\n"))
        assert (error.message, error.record) == ("no such table", hook)


def test_teardown_runs_after_a_failure_and_does_not_hide_it(tmp_path: Path) -> None:
    calls: list[str] = []

    def teardown(self: Any) -> None:
        calls.append("teardown")
        raise OSError("second")

    def broken(self: Any, key: int, line: str) -> None:
        raise ValueError("first")

    error = failed(Rig(reducing(mrq.sum, map=broken, teardown=teardown), tmp_path).map(0, b"x\n"))
    assert (error.message, calls) == ("first", ["teardown"])


@pytest.mark.parametrize("answer", [3, -1, "0", None, 1.0, True])
def test_a_wrong_partition_is_explained(answer: Any, tmp_path: Path) -> None:
    job = reducing(mrq.sum, partition=lambda self, key, n: answer)
    error = failed(Rig(job, tmp_path, reducers=3).map(0, b"x\n"))
    assert (
        f"Reducing.partition('x', 3) returned {answer!r}; it must return an int from 0 to 2" in error.message
    )


def test_counters_must_be_counts(tmp_path: Path) -> None:
    def counting(self: Any, key: int, line: str) -> None:
        self.counters["x"] = "many"

    assert "self.counters['x'] is 'many'" in failed(Rig(mapping(counting), tmp_path).map(0, b"x\n")).message


def test_map_block_needs_lines(tmp_path: Path) -> None:
    job = reducing(mrq.sum, map=None, map_block=lambda self, block: None)
    rig = Rig(job, tmp_path, settings={"input_format": "whole"})
    assert "map_block reads whole lines" in failed(rig.map(0, b"x\n")).message


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mrq.shuffle.block import FrameWriter

    def full(self: Any, *arguments: Any) -> None:
        raise OSError(number, "No space left on device", str(tmp_path / "run"))

    monkeypatch.setattr(FrameWriter, "put", full)
    outcome = Rig(reducing(mrq.sum), tmp_path).map(0, b"x\n")
    assert outcome.status is Status.DISK_FULL
    assert outcome.error is not None
    assert str(tmp_path) in outcome.error.message
    assert "free" in outcome.error.message


def test_a_full_disk_that_only_write_notices(tmp_path: Path) -> None:
    rig = Rig(reducing(mrq.sum), tmp_path)
    order = rig.map_order(0, b"x\n")
    Path(order.output_path + ".partial").symlink_to("/dev/full")
    outcome = rig.run(order)
    assert outcome.status is Status.DISK_FULL
    assert outcome.error is not None
    assert "no space left" in outcome.error.message.lower()


class TestFetchFailures:
    """A map output that can't be read is never the reducer's fault."""

    def sources(self, rig: Rig) -> list[MapSource]:
        found = []
        for index, data in enumerate((b"a b\n", b"b c\n", b"d\n")):
            order = rig.map_order(index, data)
            result = done(rig.run(order))
            found.append(MapSource(map_index=index, digest=result.digest, path=order.output_path))
        return found

    def reasons(self, rig: Rig, sources: list[MapSource]) -> list[tuple[int, int, str]]:
        outcome = rig.run(rig.order(Kind.REDUCE, 0, sources=tuple(sources)))
        assert outcome.status is Status.FETCH_FAILED
        return [(f.map_index, f.ticket, f.reason) for f in outcome.fetch_failures]

    def test_missing_cut_and_another_digest(self, tmp_path: Path) -> None:
        rig = Rig(reducing(mrq.sum), tmp_path)
        first, second, third = self.sources(rig)
        Path(first.path).unlink()
        whole = Path(second.path).read_bytes()
        Path(second.path).write_bytes(whole[:-1])
        other = MapSource(map_index=2, digest=third.digest ^ 1, path=third.path)
        wanted = [(0, 1, "not_found"), (1, 1, "corrupt"), (2, 1, "corrupt")]
        assert self.reasons(rig, [first, second, other]) == wanted

    @pytest.mark.parametrize("reduce", [mrq.sum, mrq.identity, lambda self, key, values: [sum(values)]])
    def test_a_flipped_bit_in_a_region(self, reduce: Any, tmp_path: Path) -> None:
        rig = Rig(reducing(reduce), tmp_path)
        sources = self.sources(rig)
        data = bytearray(Path(sources[1].path).read_bytes())
        data[20] ^= 1
        Path(sources[1].path).write_bytes(data)
        assert self.reasons(rig, sources) == [(1, 1, "corrupt")]

    def test_the_digest_is_the_sum_of_what_was_consumed(self, tmp_path: Path) -> None:
        from mrq.core.digest import consumed

        rig = Rig(reducing(mrq.sum), tmp_path)
        sources = self.sources(rig)
        result = done(rig.run(rig.order(Kind.REDUCE, 0, sources=tuple(sources))))
        assert result.digest == sum(consumed(s.map_index, s.digest) for s in sources) % 2**64
        assert rig.part(result) == [("a", 1), ("b", 2), ("c", 1), ("d", 1)]
