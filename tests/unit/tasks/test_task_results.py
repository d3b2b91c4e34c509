"""Whole jobs, task by task, against plain Python: any data, any budget, any number of partitions."""

from __future__ import annotations

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tasks_rig import LARGE, SAMPLE, Rig, lines

import mrq
from mrq.codec.order import sort_key
from mrq.core.model import StagePlan
from mrq.shuffle.partition import boundaries

TINY = 6_000
KEYS = st.one_of(
    st.sampled_from(["a", "b", "c", "é", "zebra"]),
    st.integers(-3, 3),
    st.sampled_from([1.0, 0.5, None, True]),
)


class Json(mrq.Job):
    """Each line is a JSON list of [key, value]."""

    def map(self, key: int, line: str) -> Iterator[tuple[Any, Any]]:
        yield from map(tuple, json.loads(line))


def jobs() -> dict[str, type[mrq.Job]]:
    """One job a built-in."""
    names = ("sum", "count", "min", "max", "mean", "collect", "identity")
    made = {name: type(name.title(), (Json,), {"reduce": getattr(mrq, name)}) for name in names}
    made["top"] = type("Top", (Json,), {"reduce": mrq.top(2)})
    made["bottom"] = type("Bottom", (Json,), {"reduce": mrq.bottom(2)})
    return made


JOBS = jobs()
REFERENCE = {
    "sum": lambda vs: [sum(vs)],
    "count": lambda vs: [len(vs)],
    "min": lambda vs: [min(vs)],
    "max": lambda vs: [max(vs)],
    "mean": lambda vs: [sum(vs) / len(vs)],
    "collect": lambda vs: [vs],
    "identity": lambda vs: vs,
    "top": lambda vs: sorted(vs, reverse=True)[:2],
    "bottom": lambda vs: sorted(vs)[:2],
}

Splits = list[list[list[tuple[Any, Any]]]]  # splits of lines of pairs
SPLITS = st.lists(
    st.lists(st.lists(st.tuples(KEYS, st.integers(-500, 500)), max_size=12), max_size=40),
    min_size=1,
    max_size=4,
)


def encoded(splits: Splits) -> list[bytes]:
    return [lines([json.dumps(line) for line in split]) for split in splits]


def grouped(splits: Splits) -> list[tuple[Any, list[Any]]]:
    """Groups in key order, with values in order of emission and the first key shown."""
    groups: dict[Any, list[Any]] = {}
    for split in splits:
        for line in split:
            for key, value in line:
                groups.setdefault(key, []).append(value)
    return sorted(groups.items(), key=lambda item: sort_key(item[0]))


def check(ran_parts: list[list[tuple[Any, Any]]], wanted: list[tuple[Any, Any]]) -> None:
    """Each part is sorted, and together they are what is wanted; looks count: 1, 1.0 and True differ."""
    for part in ran_parts:
        assert part == sorted(part, key=lambda pair: sort_key(pair[0]))
    together = sorted((p for part in ran_parts for p in part), key=lambda pair: sort_key(pair[0]))
    assert repr(together) == repr(wanted)


@pytest.mark.parametrize("memory", [TINY, LARGE])
@pytest.mark.parametrize("name", JOBS)
@settings(max_examples=12)
@given(splits=SPLITS, reducers=st.sampled_from([1, 3, 11]))
def test_builtins_match_plain_python(name: str, memory: int, splits: Splits, reducers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ran = Rig(JOBS[name](), Path(folder), reducers=reducers, memory=memory).whole(*encoded(splits))
        wanted = [(key, result) for key, values in grouped(splits) for result in REFERENCE[name](values)]
        check(ran.parts, wanted)
        emitted = sum(len(line) for split in splits for line in split)
        assert sum(result.records_emitted for result in ran.maps) == emitted
        assert sum(r.records_out for r in ran.maps) == sum(r.records_in for r in ran.reduces)
        assert sum(r.groups for r in ran.reduces) == len(grouped(splits))


class Combining(Json):
    """A user's own combine and reduce."""

    def combine(self, key: Any, values: Iterator[int]) -> Iterator[int]:
        yield sum(values)

    def reduce(self, key: Any, values: Iterator[int]) -> Iterator[int]:
        yield sum(values)


class Listing(Json):
    """A user's reduce that sees the order of values."""

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterator[list[Any]]:
        yield list(values)


class Sorted(Json, sort_values=True):
    def reduce(self, key: Any, values: Iterator[Any]) -> Iterator[list[Any]]:
        yield list(values)


@pytest.mark.parametrize("memory", [TINY, LARGE])
@settings(max_examples=20)
@given(splits=SPLITS, reducers=st.sampled_from([1, 3, 11]))
def test_users_combine_and_reduce(memory: int, splits: Splits, reducers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        groups = grouped(splits)
        for job, of in ((Combining, sum), (Listing, list)):
            (place := Path(folder) / job.__name__).mkdir()
            ran = Rig(job(), place, reducers=reducers, memory=memory).whole(*encoded(splits))
            check(ran.parts, [(key, of(values)) for key, values in groups])


@pytest.mark.parametrize("memory", [TINY, LARGE])
@settings(max_examples=20)
@given(
    splits=st.lists(
        st.lists(
            st.lists(st.tuples(KEYS, st.one_of(st.integers(), st.text(max_size=3), st.none())), max_size=9)
        ),
        min_size=1,
        max_size=3,
    )
)
def test_sort_values_orders_values_of_any_key_type(memory: int, splits: Splits) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Sorted(), Path(folder), memory=memory, settings={"sort_values": True})
        check(rig.whole(*encoded(splits)).parts, [(k, sorted(vs, key=sort_key)) for k, vs in grouped(splits)])


def test_sort_values_of_a_group_beyond_the_budget_sorts_on_disk(tmp_path: Path) -> None:
    values = [(i * 7919) % 20_011 for i in range(20_011)]
    splits = [[[("k", v)] for v in values[:9000]], [[("k", v)] for v in values[9000:]]]
    rig = Rig(Sorted(), tmp_path, memory=200_000, settings={"sort_values": True})
    assert rig.whole(*encoded(splits)).pairs == [("k", sorted(values))]


def test_nan_and_lists_have_no_place_in_sorted_values(tmp_path: Path) -> None:
    for number, (value, text) in enumerate(
        [("NaN", "NaN among the values"), ("[1]", "sort_values can't order")]
    ):
        (place := tmp_path / str(number)).mkdir()
        rig = Rig(Sorted(), place, settings={"sort_values": True})
        with pytest.raises(AssertionError, match=text):
            rig.whole(f'[["k", {value}], ["k", 1]]\n'.encode())


class Ranged(Json, order="total"):
    reduce = mrq.identity


@pytest.mark.parametrize("memory", [TINY, LARGE])
@settings(max_examples=20)
@given(splits=SPLITS, reducers=st.sampled_from([1, 2, 5]))
def test_total_order_over_the_parts(memory: int, splits: Splits, reducers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (sampled := Path(folder) / "s").mkdir()
        sampling = Rig(Ranged(), sampled, stage=SAMPLE)
        samples = [r.sample for r in sampling.whole(*encoded(splits)).maps if r.sample is not None]
        cuts = tuple(boundaries(samples, reducers))
        assert len(cuts) < max(1, reducers)
        rig = Rig(
            Ranged(),
            Path(folder),
            reducers=reducers,
            memory=memory,
            stage={"plan": StagePlan(boundaries=cuts)},
        )
        ran = rig.whole(*encoded(splits))
        assert repr(ran.pairs) == repr([(key, v) for key, values in grouped(splits) for v in values])


class Words(mrq.Job):
    reduce = mrq.sum

    def map(self, key: int, line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            yield word, 1


class Lists(mrq.Job):
    """map may be a plain function that returns a list, an iterator or None."""

    reduce = mrq.sum

    def map(self, key: int, line: str) -> Any:
        words = line.split()
        if not words:
            return None
        return [(w, 1) for w in words] if len(words) % 2 else zip(words, [1] * len(words), strict=True)


class Split(mrq.Job):
    reduce = mrq.sum

    def map_split(self, records: Iterator[tuple[int, str]]) -> Iterator[tuple[str, int]]:
        counts: Counter[str] = Counter()
        for _, line in records:
            counts.update(line.split())
        yield from counts.items()


class BlockDict(mrq.Job):
    reduce = mrq.sum

    def map_block(self, block: bytes) -> dict[bytes, int]:
        return Counter(block.split())


class BlockPairs(BlockDict):
    def map_block(self, block: bytes) -> Any:
        for word in block.split():
            yield word, 1


TEXT = [b"the cat the dog\n\na cat\n", b"", "été the x\n".encode() * 900]


@pytest.mark.parametrize("memory", [40_000, LARGE])
@pytest.mark.parametrize("job", [Words, Lists, Split, BlockDict, BlockPairs])
def test_every_way_to_write_a_map_counts_the_same_words(
    job: type[mrq.Job], memory: int, tmp_path: Path
) -> None:
    ran = Rig(job(), tmp_path, reducers=3, memory=memory).whole(*TEXT)
    wanted = Counter(word for data in TEXT for word in data.split())
    found = {key if isinstance(key, bytes) else key.encode(): value for key, value in ran.pairs}
    assert found == wanted
    assert sum(r.records_in for r in ran.maps) == sum(len(data.splitlines()) for data in TEXT)
    assert sum(r.bytes_in for r in ran.maps) == sum(map(len, TEXT))


class Sums(mrq.Job):
    """Ints of all sizes, bools, and floats, under keys that come in two looks."""

    reduce = mrq.sum

    def map(self, key: int, line: str) -> Iterator[tuple[Any, Any]]:
        number = int(line)
        yield "ints", number
        yield "big", 10**30 + number
        yield "bools", number % 2 == 0
        yield "floats", number / 10
        yield "mixed", number if number % 3 else number / 7
        yield (1 if number % 2 else 1.0), 1


@pytest.mark.parametrize("memory", [3_000, LARGE])
def test_sums_are_exact_whatever_the_spills(memory: int, tmp_path: Path) -> None:
    from fractions import Fraction

    numbers = range(1, 2001)
    data = [lines([str(n) for n in numbers[a : a + 500]]) for a in range(0, 2000, 500)]
    ran = Rig(Sums(), tmp_path, memory=memory).whole(*data)
    mixed = float(sum(Fraction(n if n % 3 else n / 7) for n in numbers))
    wanted = {
        "ints": sum(numbers),
        "big": sum(numbers) + 2000 * 10**30,
        "bools": 1000,
        "floats": float(sum(Fraction(n / 10) for n in numbers)),
        "mixed": mixed,
        1: 2000,
    }
    assert dict(ran.pairs) == wanted
    assert repr(ran.pairs[0][0]) == "1"  # first emitted as an int
    assert sum(r.records_emitted for r in ran.maps) == 6 * 2000


class Partitioned(Words):
    def partition(self, key: str, n: int) -> int:
        return len(key) % n


def test_a_users_partition_places_keys(tmp_path: Path) -> None:
    ran = Rig(Partitioned(), tmp_path, reducers=3).whole(b"a bb ccc dddd\n")
    assert ran.parts == [[("ccc", 1)], [("a", 1), ("dddd", 1)], [("bb", 1)]]


class MapOnly(mrq.Job):
    def map(self, key: int, line: str) -> Iterator[tuple[int, str]]:
        if "x" in line:
            yield key, line


def test_map_only_writes_parts_in_input_order(tmp_path: Path) -> None:
    ran = Rig(MapOnly(), tmp_path).whole(b"ax\nb\ncx\n", b"x\n", b"y\n")
    assert ran.parts == [[(0, "ax"), (5, "cx")], [(0, "x")], []]
    assert [f.final for r in ran.maps for f in r.files] == [f"part-{i:05d}.records" for i in range(3)]


class Paired(Words):
    def reduce(self, key: str, values: Iterator[int]) -> Iterator[Any]:
        yield mrq.Pair(key.upper(), sum(values))
        yield 0


def test_pair_emits_under_another_key(tmp_path: Path) -> None:
    assert Rig(Paired(), tmp_path).whole(b"b a b\n").pairs == [("A", 1), ("a", 0), ("B", 2), ("b", 0)]


class Expanding(Words):
    """One group gives many results; map gives many pairs for one record."""

    def map(self, key: int, line: str) -> Iterator[tuple[int, int]]:
        for number in range(int(line)):
            yield number % 3, number

    def reduce(self, key: int, values: Iterator[int]) -> Iterator[int]:
        yield from values


@pytest.mark.parametrize("memory", [100_000, LARGE])
def test_records_and_groups_without_end_are_cut_into_chunks(memory: int, tmp_path: Path) -> None:
    ran = Rig(Expanding(), tmp_path, memory=memory).whole(b"30000\n", b"10\n")
    wanted: dict[int, list[int]] = defaultdict(list)
    for number in [*range(30_000), *range(10)]:
        wanted[number % 3].append(number)
    assert ran.pairs == [(key, value) for key in range(3) for value in wanted[key]]
    assert (ran.maps[0].spills > 0) is (memory == 100_000)


class FirstOnly(Expanding):
    def reduce(self, key: int, values: Iterator[int]) -> Iterator[int]:
        yield next(values)


def test_a_reduce_may_stop_early(tmp_path: Path) -> None:
    assert Rig(FirstOnly(), tmp_path, memory=100_000).whole(b"30000\n").pairs == [(0, 0), (1, 1), (2, 2)]


class Distinct(Words):
    """Nearly as many keys as pairs: kept as pairs after a while."""

    def map(self, key: int, line: str) -> Iterator[tuple[str, int]]:
        for number in range(int(line)):
            yield f"k{number % 60_000}", number

    def reduce(self, key: str, values: Iterator[int]) -> Iterator[list[int]]:
        yield list(values)


@pytest.mark.parametrize("memory", [2 << 20, LARGE])
def test_distinct_keys_switch_to_pairs_and_keep_the_order_of_values(memory: int, tmp_path: Path) -> None:
    ran = Rig(Distinct(), tmp_path, reducers=2, memory=memory).whole(b"70000\n", b"5\n")
    wanted = {
        f"k{n}": [m for m in (n, n + 60_000) if m < 70_000] + ([n] if n < 5 else []) for n in range(60_000)
    }
    assert dict(ran.pairs) == wanted
    assert len(ran.pairs) == len(wanted)


def test_task_facts_follow_the_record(tmp_path: Path) -> None:
    class Where(mrq.Job):
        def setup(self) -> None:
            self.counters["setup"] += 1

        def teardown(self) -> None:
            self.counters["teardown"] += 1

        def map(self, key: int, line: str) -> Iterator[tuple[str, Any]]:
            self.counters["lines"] += 1
            yield self.task.path, (self.task.id, key, line)

    rig = Rig(Where(), tmp_path)
    result = rig.run(rig.map_order(7, b"a\nb\n", b"c\n")).result
    assert result is not None
    assert rig.part(result) == [
        ("input-1.txt", ("m-00007", 0, "a")),
        ("input-1.txt", ("m-00007", 2, "b")),
        ("input-2.txt", ("m-00007", 0, "c")),
    ]
    assert result.counters == {"setup": 1, "lines": 3, "teardown": 1}
    assert result.peak_rss_bytes > 1 << 20
    assert result.seconds > 0


def test_the_page_tells_the_position_and_the_totals(tmp_path: Path) -> None:
    from mrq.worker import progress_page as pages

    class Looking(mrq.Job):
        seen: ClassVar[list[Any]] = []

        def map(self, key: int, line: str) -> None:
            self.seen.append((key, view[pages.OFFSET], view[pages.PIECE]))

    job = Looking()
    rig = Rig(job, tmp_path)
    order = rig.map_order(0, b"a\nbcd\n", b"e\n")
    view = pages.open_page(order.page_path)
    rig.run(order)
    assert job.seen == [(0, 0, 0), (2, 2, 0), (0, 0, 1)]
    assert (view[pages.RECORDS], view[pages.BYTES], view[pages.TOTAL]) == (3, 8, 8)
    assert view[pages.PHASE] == pages.MAPPING
