"""What the user's methods give back, and how they stop: what only the run can show."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tasks_rig import ENGINE, Rig, done

import mrq
from mrq.core.model import ErrorReport, Outcome, Status
from mrq.core.refs import Kind
from mrq.worker.attempt_order import MapSource
from mrq.worker.tasks.values import returning, shape_of


def failed(outcome: Outcome) -> ErrorReport:
    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    return outcome.error


def words(self: Any, key: int, line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, 1


def add(self: Any, key: Any, values: Iterator[int]) -> Iterator[int]:
    yield sum(values)


def job(**hooks: Any) -> mrq.Job:
    return type("Given", (mrq.Job,), {"map": words, "reduce": add, **hooks})()


def outcome(made: mrq.Job, folder: Path, data: bytes = b"a b\na c\n", reducers: int = 1) -> Outcome:
    """Of the first task that fails, or of the last."""
    rig = Rig(made, folder, reducers=reducers)
    order = rig.map_order(0, data)
    mapped = rig.run(order)
    if mapped.status is not Status.DONE:
        return mapped
    source = MapSource(map_index=0, digest=done(mapped).digest, path=order.output_path)
    return rig.run(rig.order(Kind.REDUCE, 0, sources=(source,)))


# ---- what is returned beside a yield ----


def both(*arguments: Any) -> Iterator[Any]:
    """A generator that also returns something, for whichever method."""
    yield ("x", 1) if len(arguments) != 3 or isinstance(arguments[2], str) else 1
    result: list[Any] = [("y", 1)]
    return result


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


def delegating(*arguments: Any) -> Iterator[Any]:
    return (yield from both(*arguments))


@pytest.mark.parametrize("function", [both, decorated(both), delegating, functools.partialmethod(both)])
@pytest.mark.parametrize("hook", ["map", "map_split", "map_block", "combine", "reduce"])
def test_what_is_returned_beside_a_yield_is_refused_when_it_happens(
    hook: str, function: Any, tmp_path: Path
) -> None:
    hooks = {hook: function, **({"map": None} if hook.startswith("map_") else {})}
    error = failed(outcome(job(**hooks), tmp_path))
    assert error.type == "DataError"
    assert f"{hook} yields, so what it returned, [('y', 1)] (a list), would be dropped" in error.message


def empty() -> Iterator[Any]:
    yield from ()


@pytest.mark.parametrize("hook", ["map", "combine", "reduce"])
def test_a_generator_that_returns_none_after_all_is_fine(hook: str, tmp_path: Path) -> None:
    def rest(self: Any, *arguments: Any) -> Iterator[Any]:
        yield ("x", 1) if hook == "map" else 1
        return (yield from empty())

    assert outcome(job(**{hook: rest}), tmp_path).status is Status.DONE


def bare(self: Any, key: int, line: str) -> Iterator[Any]:
    if not line:
        return
    try:
        with memoryview(b""):
            for word in line:
                if word == "x":
                    return None
                yield word, 1
    finally:
        pass
    while True:
        if line:
            return
        yield line, 1


@pytest.mark.parametrize("function", [bare, words])
def test_a_generator_function_whose_code_settles_what_it_gives_runs_unwrapped(function: Any) -> None:
    assert shape_of(function.__code__) == (True, True)
    assert returning(function, "map", paired=True) is function


def test_a_generator_that_delegates_runs_unwrapped_where_no_pairs_are_wanted() -> None:
    assert shape_of(empty.__code__) == (True, False)
    assert returning(empty, "reduce") is empty


def some(flag: Any) -> Iterator[Any]:
    yield 1
    return flag or None


def either(flag: Any) -> Iterator[Any]:
    yield 1
    return None if flag else 1


@pytest.mark.parametrize("function", [both, delegating, some, either])
def test_other_generator_functions_are_watched(function: Any) -> None:
    assert not shape_of(function.__code__).returns_none


# ---- what a map yields, pair by pair ----


def constant(self: Any, key: int, line: str) -> Iterator[Any]:
    yield "lines", 1


def choosing(self: Any, key: int, line: str) -> Iterator[Any]:
    yield line, (1 if line else 0)


def variable(self: Any, key: int, line: str) -> Iterator[Any]:
    pair = line, 1
    yield pair


def one_of_two(self: Any, key: int, line: str) -> Iterator[Any]:
    yield (line, 1) if line else line


def other_first(self: Any, key: int, line: str) -> Iterator[Any]:
    yield line if line else (line, 1)


def triple(self: Any, key: int, line: str) -> Iterator[Any]:
    yield line, 1
    yield line, 1, 2


def listed(self: Any, key: int, line: str) -> Iterator[Any]:
    yield [line, 1]


@pytest.mark.parametrize("function", [constant, choosing])
def test_pairs_are_told_from_the_code(function: Any) -> None:
    assert shape_of(function.__code__).yields_pairs


@pytest.mark.parametrize("function", [variable, one_of_two, other_first, triple, listed, delegating])
def test_what_else_is_yielded_is_looked_at(function: Any) -> None:
    assert not shape_of(function.__code__).yields_pairs
    assert returning(function, "map", paired=True) is not function
    assert returning(function, "reduce") is function or function is delegating


NO_PAIRS: list[Any] = [
    "xy",
    b"xy",
    ["x", 1],
    {"x": 1, "y": 2},
    {"x", "y"},
    range(2),
    mrq.Pair("x", 1),
    ("x",),
    (),
]


def late(bad: Any) -> list[Any]:
    """Pairs enough for a chunk that isn't the first, and amid them what is none."""
    return [("a", 1)] * 100 + [bad] + [("a", 1)] * 100


WAYS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "generator": lambda bad: {"map": lambda self, key, line: (pair for pair in late(bad))},
    "list": lambda bad: {"map": lambda self, key, line: late(bad)},
    "iterator": lambda bad: {"map": lambda self, key, line: iter(late(bad))},
    "map": lambda bad: {"map": lambda self, key, line: map(late(bad).__getitem__, range(201))},
    "map_split": lambda bad: {"map": None, "map_split": lambda self, records: iter(late(bad))},
    "map_block": lambda bad: {"map": None, "map_block": lambda self, block: (pair for pair in late(bad))},
}


@pytest.mark.parametrize("reduce", [add, mrq.sum, mrq.count, mrq.max, mrq.identity, None])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bad", NO_PAIRS, ids=lambda bad: type(bad).__name__)
def test_what_is_no_pair_is_refused_wherever_it_comes(
    bad: Any, way: str, reduce: Any, tmp_path: Path
) -> None:
    made = job(**WAYS[way](bad), reduce=reduce)
    error = failed(Rig(made, tmp_path, reducers=1 if reduce else 0).map(0, b"line\n"))
    assert error.type == "DataError"
    method = way if way.startswith("map_") else "map"
    assert error.message.startswith(f"{method} yielded {bad!r} (a {type(bad).__name__}")
    assert "it must yield pairs: `yield key, value`" in error.message


@pytest.mark.parametrize("way", WAYS)
def test_a_tuple_of_another_class_is_a_pair_of_its_items(way: str, tmp_path: Path) -> None:
    class Word(NamedTuple):
        word: str
        count: int

    made = job(**WAYS[way](Word("b", 2)), reduce=mrq.sum)
    assert outcome(made, tmp_path, b"line\n").status is Status.DONE


@pytest.mark.parametrize("hook", ["setup", "teardown"])
@pytest.mark.parametrize(
    ("result", "said"),
    [
        (lambda: (x for x in "ab"), "nothing iterates over it"),
        (lambda: [("x", 1)], "returned [('x', 1)] (a list), which nothing takes"),
        (lambda: map(print, "ab"), "is left undone"),
    ],
)
def test_what_setup_and_teardown_give_is_refused(
    hook: str, result: Callable[[], Any], said: str, tmp_path: Path
) -> None:
    error = failed(outcome(job(**{hook: lambda self: result()}), tmp_path))
    assert said in error.message
    assert error.message.startswith(f"{hook} ")
    assert error.record == hook
    assert ("map_split" in error.message) == (hook == "teardown")


def test_setup_may_return_what_its_base_does(tmp_path: Path) -> None:
    class Base(mrq.Job):
        reduce = mrq.count

        def setup(self) -> None:
            self.words = {"a"}

        def teardown(self) -> None:
            self.counters["words"] = len(self.words)

        def map(self, key: int, line: str) -> Any:
            return [(word, 1) for word in line.split() if word in self.words]

    class Derived(Base):
        def setup(self) -> None:
            return super().setup()  # type: ignore[func-returns-value]

        def teardown(self) -> None:
            return super().teardown()  # type: ignore[func-returns-value]

    assert Rig(Derived(), tmp_path).whole(b"a b\na c\n").pairs == [("a", 2)]


@pytest.mark.parametrize("name", ["teardown", "partition", "combine", "map_split"])
def test_a_method_that_setup_assigns_and_nothing_calls_is_refused(name: str, tmp_path: Path) -> None:
    def assigns(self: Any) -> None:
        setattr(self, name, lambda *arguments: iter([("x", 1)]))

    error = failed(outcome(job(setup=assigns, combine=None), tmp_path))
    assert f"setup assigned self.{name}, and nothing calls that" in error.message
    assert ENGINE not in error.frames


def test_state_under_the_name_of_a_method_is_the_jobs_own(tmp_path: Path) -> None:
    made = job(setup=lambda self: vars(self).update(partition={}, map_split=3), combine=None)
    assert outcome(made, tmp_path, b"line\n").status is Status.DONE


# ---- StopIteration ----


def stops(*arguments: Any) -> Any:
    return next(iter(()))


ENDED = " raised StopIteration; was next() called on an empty iterator?"


@pytest.mark.parametrize("hook", ["map", "map_split", "map_block", "combine", "reduce", "setup", "teardown"])
def test_stop_iteration_of_a_method_is_named(hook: str, tmp_path: Path) -> None:
    hooks = {hook: stops, **({"map": None} if hook.startswith("map_") else {})}
    error = failed(outcome(job(**hooks), tmp_path))
    assert error.message == hook + ENDED
    assert "return next(iter(()))" in error.frames
    assert ENGINE not in error.frames


@pytest.mark.parametrize("reducers", [2, 3])
@pytest.mark.parametrize("reduce", [mrq.sum, mrq.count, mrq.max, mrq.collect, mrq.identity, add])
def test_stop_iteration_of_partition_is_named_with_its_key(
    reduce: Any, reducers: int, tmp_path: Path
) -> None:
    def partition(self: Any, key: str, n: int) -> int:
        return next(i for i, bound in enumerate("b") if key < bound)

    error = failed(outcome(job(reduce=reduce, partition=partition), tmp_path, b"a b c\n", reducers))
    assert error.message == "partition" + ENDED
    assert error.record is not None
    assert "'b'" in error.record
    assert "return next(i for i, bound" in error.frames
    assert ENGINE not in error.frames


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("built_in", [mrq.top, mrq.bottom])
@pytest.mark.parametrize("data", [b"a b\n", b"a a a\n"])
def test_stop_iteration_of_a_key_function_is_named(
    data: bytes, built_in: Callable[..., Any], n: int, tmp_path: Path
) -> None:
    error = failed(outcome(job(reduce=built_in(n, key=stops)), tmp_path, data))
    assert error.message == f"the key of mrq.{built_in.__name__}({n})" + ENDED
    assert "return next(iter(()))" in error.frames
    assert "'a'" in str(error.record)


class Odd:
    """An iterator of a user's own whose `iter()` stops."""

    def __iter__(self) -> Iterator[Any]:
        raise StopIteration

    def __next__(self) -> Any:
        return "x", 1


class Items(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise StopIteration


@pytest.mark.parametrize("made", [Odd, Items])
def test_an_iter_that_stops_loses_no_records(made: Callable[[], Any], tmp_path: Path) -> None:
    def odd(self: Any, key: int, line: str) -> Any:
        return made() if line == "b" else [(line, 1)]

    error = failed(outcome(job(map=odd), tmp_path, b"a\nb\nc\n"))
    assert "StopIteration" in error.message
    assert error.record == "'b'"


# ---- frames of the engine have no place in errors of the user's ----


def lazily(self: Any, key: Any, values: Any) -> Any:
    return map(int, ["x"])


@pytest.mark.parametrize(
    ("hooks", "said"),
    [
        ({"map": stops}, "StopIteration"),
        ({"map": lambda self, key, line: (next(iter(())) for _ in "a")}, "was next() called on an empty"),
        ({"map": lazily}, "invalid literal for int()"),
        ({"reduce": lazily}, "invalid literal for int()"),
        ({"combine": lazily}, "invalid literal for int()"),
        ({"reduce": mrq.top(1, key=itemgetter(3))}, "subscriptable"),
        ({"setup": lambda self: setattr(self, "task", 3)}, "self.task was replaced by 3"),
        ({"setup": lambda self: setattr(self, "counters", 3)}, "self.counters was replaced by 3"),
        ({"setup": lambda self: delattr(self, "task")}, "self.task was replaced by None"),
        ({"setup": lambda self: delattr(self, "counters")}, "self.counters was replaced by None"),
        ({"reduce": lambda self, key, values: [values]}, "<values: a one-pass stream>; use list(x)"),
        ({"reduce": lambda self, key, values: [values[0]]}, "can't be indexed"),
    ],
)
def test_no_frame_of_the_engine_is_shown(hooks: dict[str, Any], said: str, tmp_path: Path) -> None:
    error = failed(outcome(job(**hooks), tmp_path))
    assert said in error.message
    assert ENGINE not in error.frames


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the file can't be closed again
def test_a_closed_descriptor_is_told_as_the_jobs_doing(tmp_path: Path) -> None:
    def closes(self: Any, key: int, line: str) -> Any:
        for name in os.listdir("/proc/self/fd") if key == 0 else ():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}").startswith(str(tmp_path)):
                    os.close(int(name))

    error = failed(outcome(job(map=closes), tmp_path, b"x" * 1000 + (b"\n" + b"x" * 100_000) * 30))
    assert "was closed by the job's code" in error.message
    assert error.frames == ""


def test_an_error_of_the_engines_own_keeps_its_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr("mrq.worker.tasks.mapper.PartSink.flush", broken)
    monkeypatch.setattr("mrq.job.source.is_users", lambda file: False)
    error = failed(Rig(job(reduce=None), tmp_path).map(0, b"a\n"))
    assert f"{ENGINE}worker/tasks/mapper.py" in error.frames
