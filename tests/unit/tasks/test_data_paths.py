"""The native data path and the one in Python give the same parts, errors and counts, alone and mixed."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tasks_rig import LARGE, Rig, done

import mrq
from mrq import native
from mrq.codec.order import sort_columns
from mrq.core.model import Outcome, StagePlan, Status
from mrq.core.refs import Kind
from mrq.shuffle.block import decode
from mrq.shuffle.collect_native import NativeCollector
from mrq.worker.attempt_order import MapSource

SMALL = 3_000  #: a budget that a few dozen keys fill
FOLDS = ("count", "sum", "min", "max")

pytestmark = pytest.mark.skipif(native.loaded() is None, reason="there is no native data path here")


@contextmanager
def path(choice: str) -> Iterator[None]:
    with mock.patch.dict(os.environ, MRQ_NATIVE=choice):
        yield


class Emits(mrq.Job):
    """Yields, for each line of a split, some of what the test has put beside that split."""

    pairs: tuple[Sequence[Any], ...] = ()

    def map(self, key: int, line: str) -> Iterator[Any]:
        split, begin, end = map(int, line.split())
        self.counters["lines"] += 1
        yield from self.pairs[split][begin:end]


class Lists(Emits):
    """Shows all values of a group, in the order in which they come."""

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterator[Any]:
        yield [key, *values]


JOBS = {name: type(name.title(), (Emits,), {"reduce": getattr(mrq, name)}) for name in FOLDS}
GROUPS = {
    "lists": Lists,
    "identity": type("Identity", (Emits,), {"reduce": mrq.identity}),
    "collect": type("Collect", (Emits,), {"reduce": mrq.collect}),
    "top": type("Top", (Emits,), {"reduce": mrq.top(2)}),
}


@dataclass(frozen=True)
class Left:
    """What a run left, as far as anybody may see it."""

    errors: tuple[Any, ...]
    counts: tuple[Any, ...]
    parts: tuple[bytes, ...]


def text_of(split: int, pairs: Sequence[Any]) -> bytes:
    """Lines that stand for three pairs each."""
    return (
        b"".join(b"%d %d %d\n" % (split, at, at + 3) for at in range(0, len(pairs), 3)) or b"%d 0 0\n" % split
    )


def ran(job: mrq.Job, choices: Sequence[str], *, reducers: int, memory: int, stage: dict[str, Any]) -> Left:
    """A run of the job whose map i takes the path of choices[i], and whose reduces take the last one."""
    assert isinstance(job, Emits)
    with TemporaryDirectory() as folder:
        rig = Rig(job, Path(folder), reducers=reducers, memory=memory, stage=stage)
        sources, counts, errors = [], [], []
        for index, (choice, pairs) in enumerate(zip(choices, job.pairs, strict=True)):
            order = rig.map_order(index, text_of(index, pairs))
            with path(choice):
                outcome = rig.run(order)
            if outcome.status is not Status.DONE:
                errors.append(told(outcome))
                continue
            result = done(outcome)
            counts.append((result.records_in, result.records_emitted, result.counters, result.bytes_in))
            where = order.output_path if result.bytes_out else ""
            sources.append(MapSource(map_index=index, digest=result.digest, path=where))
        if errors:
            return Left(tuple(errors), (), ())
        parts = []
        for partition in range(reducers):
            with path(choices[-1]):
                outcome = rig.run(rig.order(Kind.REDUCE, partition, sources=tuple(sources)))
            if outcome.status is not Status.DONE:
                errors.append(told(outcome))
                continue
            result = done(outcome)
            counts.append((result.records_out, result.counters))
            parts += [(Path(folder) / file.name).read_bytes() for file in result.files]
        return Left(tuple(errors), tuple(counts), tuple(parts))


def told(outcome: Outcome) -> tuple[Any, ...]:
    error = outcome.error
    assert error is not None
    return error.type, error.message, error.record, error.offset


def agree(job: mrq.Job, *, reducers: int, memory: int, stage: dict[str, Any] | None = None) -> Left:
    """What both paths leave, and a cluster that mixes them. Fails where they differ."""
    how = {"reducers": reducers, "memory": memory, "stage": stage or {}}
    left = ran(job, ("off", "off"), **how)
    for choices in (("require", "require"), ("require", "off")):
        assert ran(job, choices, **how) == left, choices
    return left


texts = st.text(max_size=5) | st.text("aé\0\udc80\udcff\U0001f600", max_size=3)
numbers = (
    st.booleans()
    | st.integers(-3, 3)
    | st.integers(-(1 << 66), 1 << 66)
    | st.sampled_from([0.0, -0.0, 1.0, 2.5, math.inf, float(1 << 53), (1 << 53) + 1, -(1 << 63), 1e300])
    | st.floats(allow_nan=False)
)
atoms = st.none() | numbers | texts | st.binary(max_size=3)
keys = st.recursive(atoms, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
words = st.sampled_from(["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"])
ints = st.integers(-5, 5) | st.integers(-(1 << 63), (1 << 63) - 1)
bad = st.sampled_from([math.nan, "\ud800", [1], {1}, ("a", math.nan), object, bytearray(b"a")])
odd = st.sampled_from([1.5, True, None, "x", 1 << 70, math.nan, b"", (1, 2)])


def some(pair: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.lists(pair, max_size=50), st.lists(pair, max_size=10))


@pytest.mark.parametrize("fold", FOLDS)
@settings(max_examples=20)
@given(
    pairs=some(st.tuples(words, ints)) | some(st.tuples(keys, ints)) | some(st.tuples(keys, st.just(1))),
    reducers=st.integers(1, 3),
    memory=st.sampled_from([SMALL, LARGE]),
)
def test_folds_of_ints_by_keys_of_all_types(fold: str, pairs: Any, reducers: int, memory: int) -> None:
    left = agree(JOBS[fold](pairs=pairs), reducers=reducers, memory=memory)
    assert not left.errors


@pytest.mark.parametrize("fold", FOLDS)
@settings(max_examples=20)
@given(
    pairs=some(st.tuples(keys | bad, ints | odd))
    | some(st.tuples(words, ints | odd) | st.sampled_from([7, (1,)])),
    reducers=st.integers(1, 2),
    memory=st.sampled_from([SMALL, LARGE]),
)
def test_what_the_table_does_not_take(fold: str, pairs: Any, reducers: int, memory: int) -> None:
    agree(JOBS[fold](pairs=pairs), reducers=reducers, memory=memory)


values = st.recursive(
    atoms | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(texts | st.integers(0, 3), inner, max_size=2)
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("name", GROUPS)
@settings(max_examples=20)
@given(
    pairs=some(st.tuples(words, ints)) | some(st.tuples(keys, values)) | some(st.tuples(texts, texts)),
    reducers=st.integers(1, 3),
    memory=st.sampled_from([SMALL, LARGE]),
    ranged=st.booleans(),
)
def test_groups_of_values_of_all_types(
    name: str, pairs: Any, reducers: int, memory: int, ranged: bool
) -> None:
    job, stage = GROUPS[name](pairs=pairs), {}
    if ranged:
        stage["plan"] = StagePlan(boundaries=("d", "q")[: reducers - 1])
    agree(job, reducers=reducers, memory=memory, stage=stage)


@settings(max_examples=20)
@given(pairs=some(st.tuples(keys | bad, values | bad) | st.sampled_from([7, (1,), [1, 2]])))
def test_what_pairs_are_not_held(pairs: Any) -> None:
    agree(Lists(pairs=pairs), reducers=2, memory=SMALL)


@settings(max_examples=20)
@given(pairs=some(st.tuples(keys, ints)), bounds=st.lists(keys, min_size=2, max_size=2))
def test_ranges_of_keys_of_all_types(pairs: Any, bounds: list[Any]) -> None:
    ordered, _ = sort_columns(bounds, None)
    for job in (JOBS["sum"], Lists):
        agree(
            job(pairs=pairs), reducers=3, memory=LARGE, stage={"plan": StagePlan(boundaries=tuple(ordered))}
        )


def test_a_value_that_is_changed_later_is_as_it_was_yielded() -> None:
    class Reuses(Lists):
        def map(self, key: int, line: str) -> Iterator[Any]:
            row: list[int] = []
            for pair in super().map(key, line):
                row.append(pair[1])
                yield pair[0], row

    left = agree(Reuses(pairs=([("a", at) for at in range(9)], [("b", 1)])), reducers=1, memory=LARGE)
    assert not left.errors


def test_spills_and_a_change_of_path_keep_first_forms_in_order(tmp_path: Path) -> None:
    """Keys that are one are shown as the first that was emitted, whichever path or spill that was in."""
    many = [(f"word {at}", 1) for at in range(200)]
    first = [
        (1.0, 1),
        *many,
        (1, 1),
        (True, 1),
        (-0.0, 2),
        *many,
        (0, 1),
        ("x", 1 << 80),
        (2, 1),
        *many,
        (2.0, 1),
    ]
    left = agree(JOBS["sum"](pairs=(first, [(True, 5)])), reducers=1, memory=SMALL)
    assert not left.errors


def test_a_sum_beyond_64_bits_is_exact() -> None:
    top = (1 << 63) - 1
    forms = [(1.0, top), (True, 1), *((at, 1) for at in range(2, 9))]
    agree(JOBS["sum"](pairs=(forms, [(1, 1)])), reducers=1, memory=LARGE)
    left = agree(
        JOBS["sum"](pairs=([("a", top), ("a", top), ("b", 1)], [("a", top)])), reducers=1, memory=LARGE
    )
    assert not left.errors


@pytest.mark.parametrize("kind", ["iterator", "next", "generator"])
def test_an_error_is_of_the_record_at_hand(kind: str) -> None:
    class Failing(JOBS["sum"]):  # type: ignore[misc]
        how: str = kind

        def map(self, key: int, line: str) -> Any:
            pairs = list(super().map(key, line))
            if key < 50:
                return iter(pairs)
            if self.how == "next":
                next(iter(()))
            if self.how == "iterator":
                return map(itemgetter(2), pairs)
            return (1 // 0 for _ in pairs)

    pairs = [(str(at), 1) for at in range(60)]
    left = agree(Failing(pairs=(pairs, pairs)), reducers=1, memory=SMALL)
    assert len(left.errors) == 2
    assert left.errors[0][3] is not None


def test_which_collector_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A word count is native: what is compared above isn't Python twice."""
    taken: list[int] = []
    consume = NativeCollector.consume
    monkeypatch.setattr(
        NativeCollector, "consume", lambda self, pairs: (taken.append(1), consume(self, pairs))[1]
    )
    for choice, wanted in (("off", 0), ("require", 1)):
        taken.clear()
        for job in (JOBS["sum"], Lists):
            folder = tmp_path / f"{choice} {job.__name__}"
            folder.mkdir()
            with path(choice):
                done(Rig(job(pairs=([("a", 1)],)), folder).map(0, b"0 0 1\n"))
        assert len(taken) == 2 * wanted


def test_a_panic_is_a_failure_of_its_attempt_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    extension = native.loaded()
    assert extension is not None
    monkeypatch.setattr(NativeCollector, "consume", lambda self, pairs: extension.panic_now("on purpose"))
    with path("require"):
        outcome = Rig(JOBS["sum"](pairs=([("a", 1)],)), tmp_path).map(0, b"0 0 1\n")
    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert outcome.error.type == "InternalError"
    assert outcome.error.message.startswith("the native data path panicked: on purpose")


@pytest.mark.parametrize("table", ["FoldTable", "PairTable"])
def test_a_signal_is_answered_where_no_code_of_pythons_runs(table: str) -> None:
    """An endless iterator in C: nothing but the table looks whether there was a signal."""
    extension = native.loaded()
    assert extension is not None
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    made = extension.FoldTable("sum", LARGE, 1) if table == "FoldTable" else extension.PairTable(1 << 34, 1)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            made.take(zip(repeat(None), repeat(1)))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_pairs_that_cannot_be_had_leave_the_table_as_it_was() -> None:
    extension = native.loaded()
    assert extension is not None
    table = extension.FoldTable("sum", LARGE, 1)

    def pairs() -> Iterator[Any]:
        yield "a", 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        table.take(pairs())
    assert table.take(iter([("a", 1)])) is None
    table.deal()
    assert [decode(payload) for payload, _, _ in table.frames(0)] == [(["a"], [2])]
    assert table.emitted == 2
