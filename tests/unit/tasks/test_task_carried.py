"""What was yielded counts as it was at that moment, whatever the method, the depth, and the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from tasks_rig import LARGE, SAMPLE, Rig, done, lines

import mrq
import mrq.testing
from mrq.codec.columns import decode_column
from mrq.core.model import Status, TaskResult
from mrq.core.refs import Kind
from mrq.io.output import output_format as form
from mrq.worker.attempt_order import MapSource

N = 252
NUMBERS = [str(n) for n in range(N)]
#: A budget that spills every few pairs, and one that never does.
MEMORIES = pytest.mark.parametrize("memory", [4 << 10, LARGE], ids=["spills", "fits"])


def refilled(row: Any, n: int) -> Any:
    """One list object, refilled."""
    row[:] = [n]
    return row


def grown(row: Any, n: int) -> Any:
    """A list that grows; what it has grown by is shown as its last item and its length."""
    row.append(n)
    return row


def nested(row: Any, n: int) -> Any:
    """A change three levels down, under a tuple that is new each time."""
    if not row:
        row.append({"deep": ([0],)})
    row[0]["deep"][0][0] = n
    return (row,)


def keyed(row: Any, n: int) -> Any:
    """A dict that is changed, in a list that isn't."""
    if not row:
        row.append({})
    row[0]["n"] = n
    return row


CHANGES = [refilled, grown, nested, keyed]
EACH = pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)


def frozen(change: Callable[[Any, int], Any], numbers: Iterable[int]) -> list[Any]:
    """What right answers look like: each value as it was when it was yielded."""
    import copy

    row: list[Any] = []
    return [copy.deepcopy(change(row, n)) for n in numbers]


class Changing(mrq.Job):
    """Yields one row over and over, under two keys, and clears it once it goes on."""

    change = staticmethod(refilled)

    def setup(self) -> None:
        self.row: list[Any] = []

    def given(self, n: int) -> Iterator[Any]:
        yield str(n % 2), self.change(self.row, n)
        kept = list(self.row)
        self.row.clear()  # seen by nobody else: what was yielded has been yielded
        self.row += kept


class Mapped(Changing):
    def map(self, key: int, line: str) -> Iterator[Any]:
        yield from self.given(int(line))


class Listed(Changing):
    """Returns lists whose items it keeps and changes at the next call."""

    def map(self, key: int, line: str) -> list[Any]:
        return [(str(int(line) % 2), self.change(self.row, int(line)))]


class Split(Changing):
    def map_split(self, records: Iterator[Any]) -> Iterator[Any]:
        for _, line in records:
            yield from self.given(int(line))


class Block(Changing):
    def map_block(self, block: bytes) -> Iterator[Any]:
        for line in block.split():
            yield from self.given(int(line))


class Collected:
    reduce = mrq.collect


class Passed:
    """A sort: keys hardly matter, pairs are kept as two columns."""

    reduce = mrq.identity


MAPS = [Mapped, Listed, Split, Block]
EACH_MAP = pytest.mark.parametrize("base", MAPS, ids=lambda base: base.__name__)


def changing(change: Any, *bases: type) -> Changing:
    """A job of these classes that changes its row so."""
    job: Changing = type("Changes", bases, {"change": staticmethod(change)})()
    return job


def parity(values: list[Any], which: int) -> list[Any]:
    return values[which::2]


def untupled(pairs: list[Any]) -> list[Any]:
    """Pairs as they are: what is compared has the same types, too."""
    return [(key, repr(value)) for key, value in pairs]


@MEMORIES
@EACH
@EACH_MAP
def test_rows_of_every_map_reach_reduce_as_they_were(
    base: type[Changing], change: Any, memory: int, tmp_path: Path
) -> None:
    job = changing(change, Collected, base)
    ran = Rig(job, tmp_path, memory=memory).whole(lines(NUMBERS))
    want = frozen(change, range(N))
    assert untupled(ran.pairs) == untupled([("0", parity(want, 0)), ("1", parity(want, 1))])
    assert (ran.maps[0].spills > 0) is (memory < LARGE)


@MEMORIES
@EACH
def test_rows_of_a_sort_are_as_they_were(change: Any, memory: int, tmp_path: Path) -> None:
    job = changing(change, Passed, Mapped)
    ran = Rig(job, tmp_path, memory=memory).whole(lines(NUMBERS))
    want = frozen(change, range(N))
    expected = [("0", value) for value in parity(want, 0)] + [("1", value) for value in parity(want, 1)]
    assert untupled(ran.pairs) == untupled(expected)


@pytest.mark.parametrize("output_format", ["records", "jsonl", "text", "lines"])
@EACH
@EACH_MAP
def test_rows_of_a_map_only_job_are_as_they_were(
    base: type[Changing], change: Any, output_format: str, tmp_path: Path
) -> None:
    rig = Rig(changing(change, base), tmp_path, settings={"output_format": output_format})
    found = rig.whole(lines(NUMBERS)).pairs
    expected = form(output_format).open(str(tmp_path / "expected"))
    expected.write([str(n % 2) for n in range(N)], frozen(change, range(N)))
    expected.close()
    assert found == list(form(output_format).read(str(tmp_path / "expected")))


@MEMORIES
def test_a_dict_of_map_block_that_is_kept_and_changed(memory: int, tmp_path: Path) -> None:
    class Kept(mrq.Job):
        reduce = mrq.collect

        def setup(self) -> None:
            self.found: dict[str, list[int]] = {}

        def map_block(self, block: bytes) -> dict[str, list[int]]:
            for word in block.split():
                self.found.setdefault(word.decode(), []).append(len(self.found))
            return self.found

    rig = Rig(Kept(), tmp_path, memory=memory)
    result = reduced(rig, rig.map_order(0, b"a b\n", b"a c\n", b"b\n"))
    assert rig.part(result) == [
        ("a", [[1], [1, 2], [1, 2]]),
        ("b", [[2], [2], [2, 3]]),
        ("c", [[3], [3]]),
    ]


@MEMORIES
@pytest.mark.parametrize("kind", ["min", "max"])
def test_what_a_fold_holds_is_what_was_yielded(kind: str, memory: int, tmp_path: Path) -> None:
    class Folded(mrq.Job):
        reduce = getattr(mrq, kind)

        def map_split(self, records: Iterator[Any]) -> Iterator[Any]:
            buffer = bytearray(8)
            for _, line in records:
                buffer[:] = b"%08d" % int(line)
                yield int(line) % 50, buffer
                buffer[:] = b"99999999" if kind == "max" else b"00000000"

    ran = Rig(Folded(), tmp_path, memory=memory).whole(lines(NUMBERS))
    last = [(N - 1 - k) // 50 * 50 + k for k in range(50)]
    want = last if kind == "max" else list(range(50))
    assert ran.pairs == [(k, b"%08d" % want[k]) for k in range(50)]


def test_keys_are_as_they_were_where_they_can_change(tmp_path: Path) -> None:
    class Buffers(mrq.Job):
        def setup(self) -> None:
            self.buffer = bytearray(3)

        def map(self, key: int, line: str) -> Iterator[Any]:
            self.buffer[:] = b"%03d" % int(line)
            yield self.buffer, None
            yield (memoryview(self.buffer), 1), None

    for output_format in ("records", "text"):
        folder = tmp_path / output_format
        folder.mkdir()
        rig = Rig(Buffers(), folder, settings={"output_format": output_format})
        keys = [key for key, _ in rig.whole(lines(NUMBERS)).pairs]
        if output_format == "records":
            assert keys[::2] == [b"%03d" % n for n in range(N)]
            assert keys[1::2] == [(b"%03d" % n, 1) for n in range(N)]
        else:
            assert keys[::2] == [f"{n:03d}" for n in range(N)]
            assert keys[1::2] == [f'["{n:03d}",1]' for n in range(N)]


@pytest.mark.parametrize("reduce", ["sum", "count", "max", "collect", "identity"])
def test_buffers_are_keys_by_their_bytes(reduce: str, tmp_path: Path) -> None:
    class Buffers(mrq.Job):
        def map_split(self, records: Iterator[Any]) -> Iterator[Any]:
            buffer = bytearray(1)
            for _, line in records:
                buffer[:] = line[-1].encode()
                yield buffer, 1
                buffer[:] = b"x"
                yield (memoryview(line[-1].encode()), 1.5), 1
                # Of a buffer that can change a view has no hash, which is a ValueError.
                yield memoryview(bytearray(line[-1].encode())), 1
                yield (memoryview(bytearray(line[-1].encode())), 1.5), 1

    job = type("Job", (Buffers,), {"reduce": getattr(mrq, reduce)})()
    ran = Rig(job, tmp_path).whole(lines(NUMBERS))
    assert {key for key, _ in ran.pairs} == {
        key for digit in range(10) for key in (b"%d" % digit, (b"%d" % digit, 1.5))
    }


@pytest.mark.parametrize("reduce", ["sum", "count", "max", "collect", "identity"])
@pytest.mark.parametrize(
    ("key", "use"), [([1], "tuple"), ({1: 2}, "sorted"), ({1}, "sorted"), (("a", [1]), "tuple")]
)
def test_keys_that_can_be_none_are_refused_at_their_record(
    reduce: str, key: Any, use: str, tmp_path: Path
) -> None:
    class Bad(mrq.Job):
        def map(self, offset: int, line: str) -> Iterator[Any]:
            yield (key if line == "77" else line), 1

    job = type("Job", (Bad,), {"reduce": getattr(mrq, reduce)})()
    outcome = Rig(job, tmp_path).map(0, lines(NUMBERS))
    assert outcome.status is Status.FAILED
    assert (
        f"a key of type {type(key[1] if type(key) is tuple else key).__name__} can't be"
        in outcome.error.message
    )
    assert use in outcome.error.message
    assert outcome.error.record == "'77'"


@pytest.mark.parametrize("reduce", ["collect", "identity"])
@MEMORIES
def test_keys_with_a_class_of_their_own_are_their_base(reduce: str, memory: int, tmp_path: Path) -> None:
    """However they hash and compare: the answer mustn't depend on which of them met in one table."""

    class Loud(str):
        def __eq__(self, other: object) -> bool:
            return str(self).lower() == str(other).lower()

        def __hash__(self) -> int:
            return hash(str(self).lower())

    class Keys(mrq.Job):
        def map(self, key: int, line: str) -> Iterator[Any]:
            n = int(line)
            yield Loud("ab"[n % 2] + str(n % 7)), 1
            yield Loud("AB"[n % 2] + str(n % 7)), 1

    job = type("Job", (Keys,), {"reduce": getattr(mrq, reduce)})()
    ran = Rig(job, tmp_path, memory=memory).whole(lines(NUMBERS))
    want: dict[str, int] = {}
    for n in range(N):
        for two in ("ab", "AB"):
            key = two[n % 2] + str(n % 7)
            want[key] = want.get(key, 0) + 1
    counts: dict[str, int] = {}
    for key, value in ran.pairs:
        counts[key] = counts.get(key, 0) + (len(value) if reduce == "collect" else value)
    assert counts == want


@MEMORIES
@EACH
@pytest.mark.parametrize("listed", [False, True])
def test_what_combine_yields_is_as_it_was(change: Any, memory: int, listed: bool, tmp_path: Path) -> None:
    class Combined(mrq.Job):
        """Its combine keeps one row and yields it once a value, and changes values that it was given."""

        def setup(self) -> None:
            self.row: list[Any] = []

        def map(self, key: int, line: str) -> Iterator[Any]:
            yield int(line) % 3, [int(line)]

        def combine(self, key: int, values: Iterator[Any]) -> Any:
            found = self._combine(values)
            return list(found) if listed else found

        def _combine(self, values: Iterator[Any]) -> Iterator[Any]:
            row: list[Any] = []
            for value in values:
                if listed:
                    yield value
                    continue
                row[:] = value
                yield row
                row.clear()
                value.append("changed")

        def reduce(self, key: int, values: Iterator[Any]) -> Iterator[Any]:
            yield sorted(value[0] for value in values)

    ran = Rig(Combined(), tmp_path, memory=memory).whole(lines(NUMBERS))
    assert ran.pairs == [(k, list(range(k, N, 3))) for k in range(3)]


@MEMORIES
@EACH
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("output_format", ["records", "jsonl"])
def test_results_of_reduce_are_as_they_were(
    change: Any, memory: int, paired: bool, output_format: str, tmp_path: Path
) -> None:
    class Results(mrq.Job):
        def map(self, key: int, line: str) -> Iterator[Any]:
            yield int(line) % 2, int(line)

        def reduce(self, key: int, values: Iterator[int]) -> Iterator[Any]:
            row: list[Any] = []
            pair = mrq.Pair(None, None)
            name = bytearray(3)
            for n in values:
                value = change(row, n)
                if not paired:
                    yield value
                    continue
                name[:] = b"%03d" % n
                pair.key, pair.value = name, value
                yield pair
            row.clear()
            pair.key = pair.value = "changed"

    rig = Rig(Results(), tmp_path, memory=memory, settings={"output_format": output_format})
    ran = rig.whole(lines(NUMBERS))
    want, keys = [], []
    for k in range(2):
        want += frozen(change, range(k, N, 2))
        keys += [b"%03d" % n if paired else k for n in range(k, N, 2)]
    expected = form(output_format).open(str(tmp_path / "expected"))
    expected.write(keys, want)
    expected.close()
    assert ran.pairs == list(form(output_format).read(str(tmp_path / "expected")))


def test_a_list_that_reduce_returns_may_be_kept_and_changed(tmp_path: Path) -> None:
    class Kept(mrq.Job):
        def setup(self) -> None:
            self.results: list[Any] = []

        def map(self, key: int, line: str) -> Iterator[Any]:
            yield int(line), 1

        def reduce(self, key: int, values: Iterator[int]) -> list[Any]:
            for result in self.results:
                result.append(key)
            self.results.append([key])
            return self.results

    ran = Rig(Kept(), tmp_path).whole(lines(["0", "1", "2"]))
    assert ran.pairs == [(0, [0]), (1, [0, 1]), (1, [1]), (2, [0, 1, 2]), (2, [1, 2]), (2, [2])]


def test_values_that_a_reduce_changes_are_its_own(tmp_path: Path) -> None:
    """Equal values of one block are different objects, so that a change shows in one of them alone."""

    class Changed(mrq.Job):
        def map(self, key: int, line: str) -> Iterator[Any]:
            yield int(line) % 2, [0]
            yield int(line) % 2, {"a": [0]}
            yield int(line) % 2, ([0], "x")

        def reduce(self, key: int, values: Iterator[Any]) -> Iterator[Any]:
            for value in values:
                inner = value["a"] if type(value) is dict else value[0] if type(value) is tuple else value
                inner.append(1)
                yield len(inner)

    assert {value for _, value in Rig(Changed(), tmp_path).whole(lines(NUMBERS)).pairs} == {2}


@pytest.mark.parametrize(
    ("built_in", "want"),
    [
        (mrq.collect, [(0, [[0], [1], [2]])]),
        (mrq.identity, [(0, [0]), (0, [1]), (0, [2])]),
        (mrq.top(2, key=itemgetter(0)), [(0, [2]), (0, [1])]),
        (mrq.bottom(2, key=itemgetter(0)), [(0, [0]), (0, [1])]),
    ],
)
def test_what_a_reduce_yields_to_a_built_in_is_as_it_was(built_in: Any, want: Any, tmp_path: Path) -> None:
    class Refilled(mrq.Job):
        def map(self, key: int, line: str) -> Iterator[Any]:
            yield 0, int(line)

        def rows(self, values: Iterator[int]) -> Iterator[list[int]]:
            row = [0]
            for row[0] in values:
                yield row
            row.clear()

        def reduce(self, key: int, values: Iterator[int]) -> Any:
            return built_in(key, self.rows(values))

    assert Rig(Refilled(), tmp_path).whole(lines(["0", "1", "2"])).pairs == want


@EACH
@pytest.mark.parametrize("base", [Mapped, Listed, Split], ids=lambda base: base.__name__)
def test_the_same_in_a_test(base: type[Changing], change: Any) -> None:
    job = changing(change, Collected, base)
    found = mrq.testing.run(job, records=NUMBERS)
    halves = [frozen(change, range(N // 2)), frozen(change, range(N // 2, N))]  # a map each
    want = [(str(k), [value for half in halves for value in parity(half, k)]) for k in range(2)]
    assert untupled(found) == untupled(want)


def test_records_of_a_test_may_come_from_a_buffer() -> None:
    class Same(mrq.Job):
        def map(self, key: Any, value: Any) -> Iterator[Any]:
            yield key, value

    def rows() -> Iterator[Any]:
        row = [0]
        key = bytearray(1)
        for n in range(10):
            row[0] = key[0] = n
            yield (key, row)

    assert mrq.testing.run(Same(), records=rows()) == [(bytes([n]), [n]) for n in range(10)]


def bad(rig: Rig, result: TaskResult) -> list[Any]:
    """What was kept to be read in again."""
    (file,) = (f for f in result.files if f.final.startswith("_bad/") and f.final.endswith(".records"))
    return list(form("records").read(str(rig.folder / file.name)))


def reduced(rig: Rig, order: Any, **fields: Any) -> TaskResult:
    """The only reduce over one map that ran."""
    result = done(rig.run(order))
    source = MapSource(map_index=0, digest=result.digest, path=order.output_path)
    return done(rig.run(rig.order(Kind.REDUCE, 0, sources=(source,), **fields)))


def failure_of(job: mrq.Job, folder: Path, data: bytes, **settings: Any) -> Any:
    outcome = Rig(job, folder, settings=settings).map(0, data)
    assert outcome.status is Status.FAILED
    return outcome.error


def test_an_error_shows_the_record_as_it_was_read(tmp_path: Path) -> None:
    class Breaks(mrq.Job):
        def map(self, key: int, row: Any) -> Iterator[Any]:
            row["n"] = "changed"
            yield key, row
            row.clear()
            raise ValueError("late")

    error = failure_of(Breaks(), tmp_path, b'\n{"n": 1}\r\n{"n": 2}\n', input_format="jsonl")
    assert (error.record, error.offset) == ("{'n': 1}", 1)


def test_a_record_is_mapped_again_as_it_was_read(tmp_path: Path) -> None:
    """To explain what our loop stumbled over: as the user left it, map would raise KeyError."""

    class Three(mrq.Job):
        reduce = mrq.count

        def map(self, key: int, row: Any) -> Iterator[Any]:
            n = row.pop("n")
            yield "a", 1
            yield "a", n, 3

    error = failure_of(Three(), tmp_path, b'\xef\xbb\xbf{"n": 1}\n', input_format="jsonl")
    assert "map yielded ('a', 1, 3)" in error.message
    assert error.record == "{'n': 1}"


@pytest.mark.parametrize("input_format", ["jsonl", "records"])
def test_what_is_kept_as_bad_is_the_record_as_it_was_read(input_format: str, tmp_path: Path) -> None:
    class Breaks(mrq.Job):
        def map(self, key: Any, row: Any) -> Iterator[Any]:
            row["list"].append("changed")
            yield 0, row
            row["list"].clear()
            if row["n"] == 1:
                raise ValueError("bad")

    rows = [{"n": n, "list": [n]} for n in range(3)]
    data = b'{"n": 0, "list": [0]}\n{"n": 1, "list": [1]}\n{"n": 2, "list": [2]}'
    if input_format == "records":
        writer = form("records").open(str(tmp_path / "given"))
        writer.write([0, 22, 44], rows)
        writer.close()
        data = (tmp_path / "given").read_bytes()
    rig = Rig(Breaks(), tmp_path, settings={"skip_bad_records": 1, "input_format": input_format})
    result = done(rig.run(rig.map_order(0, data, careful=True)))
    assert rig.part(result) == [(0, {"n": n, "list": [n, "changed"]}) for n in (0, 2)]
    assert bad(rig, result) == [(22, rows[1])]


def test_a_bad_group_is_kept_as_its_values_came(tmp_path: Path) -> None:
    class Breaks(mrq.Job):
        def map(self, key: int, line: str) -> Iterator[Any]:
            yield int(line) % 2, [int(line)]

        def reduce(self, key: int, values: Iterator[Any]) -> Iterator[Any]:
            row: list[Any] = []
            for value in values:
                row[:] = value
                yield row
                row.clear()
                value.clear()
                if key == 1:
                    raise ValueError("bad")

    rig = Rig(Breaks(), tmp_path, settings={"skip_bad_records": 1})
    result = reduced(rig, rig.map_order(0, b"0\n1\n2\n3\n"), careful=True)
    assert rig.part(result) == [(0, [0]), (0, [2])]
    assert bad(rig, result) == [(1, [[1], [3]])]


def test_a_sample_holds_keys_as_they_were(tmp_path: Path) -> None:
    class Buffers(mrq.Job):
        reduce = mrq.identity

        def map_split(self, records: Iterator[Any]) -> Iterator[Any]:
            buffer = bytearray(3)
            for _, line in records:
                buffer[:] = b"%03d" % int(line)
                yield buffer, None

    rig = Rig(Buffers(), tmp_path, stage=SAMPLE)
    result = done(rig.map(0, lines(NUMBERS)))
    assert result.sample is not None
    assert decode_column(result.sample) == [b"%03d" % n for n in range(N)]


@MEMORIES
def test_a_key_function_may_change_what_it_is_given(memory: int, tmp_path: Path) -> None:
    class Best(mrq.Job):
        reduce = mrq.top(2, key=lambda row: row.pop())

        def map(self, key: int, line: str) -> Iterator[Any]:
            yield 1, [0, int(line)]

    ran = Rig(Best(), tmp_path, memory=memory).whole(lines(NUMBERS))
    assert ran.pairs == [(1, [0, N - 1]), (1, [0, N - 2])]


HUGE = 10**5000


@pytest.mark.parametrize(
    ("result", "reduce", "message"),
    [
        ([(1, HUGE, 2)], None, "map yielded … (a tuple of 3)"),
        ([HUGE], None, "map yielded an int of 16,610 bits (a int)"),
        ({HUGE: 1}, None, "map returned … (a dict)"),
        ([(1, [HUGE])], mrq.sum, "mrq.sum adds numbers, and got … (list)"),
        ([(1, {HUGE})], None, "a value of type set can't be carried: …"),
    ],
)
def test_what_is_too_long_to_show_is_refused_all_the_same(
    result: Any, reduce: Any, message: str, tmp_path: Path
) -> None:
    class Gives(mrq.Job):
        def map(self, key: int, line: str) -> Any:
            return result

    job = type("Job", (Gives,), {"reduce": reduce})()
    outcome = Rig(job, tmp_path).map(0, b"x\n")
    assert outcome.status is Status.FAILED
    assert message in outcome.error.message
    assert "runner.py" not in outcome.error.frames


def test_a_partition_that_is_wrong_at_a_long_key_says_so(tmp_path: Path) -> None:
    class Parted(mrq.Job):
        reduce = mrq.count

        def map(self, key: int, line: str) -> Iterator[Any]:
            yield HUGE, 1

        def partition(self, key: Any, n: int) -> int:
            return n

    outcome = Rig(Parted(), tmp_path, reducers=2).map(0, b"x\n")
    assert outcome.status is Status.FAILED
    assert "partition(an int of 16,610 bits, 2) returned 2; it must return an int" in outcome.error.message


def test_a_parameter_that_is_too_long_is_refused_by_name() -> None:
    class Added(mrq.Job):
        n: int = 1

        def map(self, key: Any, value: Any) -> Iterator[Any]:
            yield key, self.n

    assert mrq.testing.run(Added(n=10**4000), records=["x"]) == [(0, 10**4000)]
    with pytest.raises(
        mrq.MrqError, match="parameter n of Added: an int of 16,610 bits has more digits than"
    ):
        mrq.testing.run(Added(n=HUGE), records=["x"])
