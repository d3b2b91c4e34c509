"""The native data path and the one in Python give the same parts, errors and counts, alone and mixed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from mrq.core.model import Outcome, Status
from mrq.core.refs import Kind
from mrq.shuffle.collect_native import NativeFoldCollector
from mrq.worker.order import MapSource

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


JOBS = {name: type(name.title(), (Emits,), {"reduce": getattr(mrq, name)}) for name in FOLDS}


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


def ran(job: mrq.Job, choices: Sequence[str], *, reducers: int, memory: int) -> Left:
    """A run of the job whose map i takes the path of choices[i], and whose reduces take the last one."""
    assert isinstance(job, Emits)
    with TemporaryDirectory() as folder:
        rig = Rig(job, Path(folder), reducers=reducers, memory=memory)
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


def agree(job: mrq.Job, *, reducers: int, memory: int) -> Left:
    """What both paths leave, and a cluster that mixes them. Fails where they differ."""
    left = ran(job, ("off", "off"), reducers=reducers, memory=memory)
    for choices in (("require", "require"), ("require", "off"), ("off", "require")):
        assert ran(job, choices, reducers=reducers, memory=memory) == left, choices
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
    return st.tuples(st.lists(pair, max_size=60), st.lists(pair, max_size=20))


@pytest.mark.parametrize("fold", FOLDS)
@settings(max_examples=40)
@given(
    pairs=some(st.tuples(words, ints)) | some(st.tuples(keys, ints)) | some(st.tuples(keys, st.just(1))),
    reducers=st.integers(1, 3),
    memory=st.sampled_from([SMALL, LARGE]),
)
def test_folds_of_ints_by_keys_of_all_types(fold: str, pairs: Any, reducers: int, memory: int) -> None:
    left = agree(JOBS[fold](pairs=pairs), reducers=reducers, memory=memory)
    assert not left.errors


@pytest.mark.parametrize("fold", FOLDS)
@settings(max_examples=40)
@given(
    pairs=some(st.tuples(keys | bad, ints | odd))
    | some(st.tuples(words, ints | odd) | st.sampled_from([7, (1,)])),
    reducers=st.integers(1, 2),
    memory=st.sampled_from([SMALL, LARGE]),
)
def test_what_the_table_does_not_take(fold: str, pairs: Any, reducers: int, memory: int) -> None:
    agree(JOBS[fold](pairs=pairs), reducers=reducers, memory=memory)


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


def test_a_sum_beyond_64_bits_goes_on_in_python() -> None:
    top = (1 << 63) - 1
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
    consume = NativeFoldCollector.consume
    monkeypatch.setattr(
        NativeFoldCollector, "consume", lambda self, pairs: (taken.append(1), consume(self, pairs))[1]
    )
    for choice, wanted in (("off", 0), ("require", 1)):
        taken.clear()
        with path(choice):
            (tmp_path / choice).mkdir()
            done(Rig(JOBS["sum"](pairs=([("a", 1)],)), tmp_path / choice).map(0, b"0 0 1\n"))
        assert len(taken) == wanted


def test_a_panic_is_a_failure_of_its_attempt_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    extension = native.loaded()
    assert extension is not None
    monkeypatch.setattr(NativeFoldCollector, "consume", lambda self, pairs: extension.panic_now("on purpose"))
    with path("require"):
        outcome = Rig(JOBS["sum"](pairs=([("a", 1)],)), tmp_path).map(0, b"0 0 1\n")
    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert outcome.error.type == "InternalError"
    assert outcome.error.message.startswith("the native data path panicked: on purpose")
