"""NumPy's scalars are Python's wherever they are yielded, and its arrays are refused by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tasks_rig import ENGINE, Rig, done, lines

import mrq
from mrq.codec.columns import encode_column
from mrq.codec.types import carried, carried_key
from mrq.core.model import Status
from mrq.errors import DataError

SCALARS = [
    (np.int8(-1), -1),
    (np.uint64(2**64 - 1), 2**64 - 1),
    (np.bool_(True), True),
    (np.float16(0.5), 0.5),
    (np.float32(0.1), 0.10000000149011612),
    (np.float64(0.1), 0.1),
    (np.str_("s"), "s"),
    (np.bytes_(b"b"), b"b"),
]
EACH_SCALAR = pytest.mark.parametrize(("scalar", "plain"), SCALARS, ids=lambda value: type(value).__name__)

REFUSED = [
    (np.arange(3), "numpy.ndarray", ".tolist()"),
    (np.array([7]), "numpy.ndarray", ".tolist()"),
    (np.array(7), "numpy.ndarray", ".tolist()"),
    (np.array("text"), "numpy.ndarray", ".tolist()"),
    (np.array(None), "numpy.ndarray", ".tolist()"),
    (np.zeros((1, 1)), "numpy.ndarray", ".tolist()"),
    (np.ma.masked, "MaskedConstant", ".tolist()"),
    (np.ma.array([1], mask=[True]), "MaskedArray", ".tolist()"),
    (np.rec.array([(1, 2.5)], dtype="i8,f8"), "recarray", ".tolist()"),
    (np.rec.array([(1, 2.5)], dtype="i8,f8")[0], "numpy.record", ".item()"),
    (np.void(b"ab"), "numpy.void", ".item()"),
    (np.zeros(1, dtype="i8,f8")[0], "numpy.void", ".item()"),
    (np.datetime64("2024-01-01"), "numpy.datetime64", "str(x)"),
    (np.datetime64(1, "ns"), "numpy.datetime64", "str(x)"),
    (np.timedelta64(1, "s"), "numpy.timedelta64", "seconds"),
    (np.timedelta64(1, "ns"), "numpy.timedelta64", "seconds"),
    (np.longdouble(1), "numpy.longdouble", "float(x)"),
    (np.complex64(1), "numpy.complex64", "(x.real, x.imag)"),
    (np.complex128(1), "numpy.complex128", "(x.real, x.imag)"),
    (np.clongdouble(1), "numpy.clongdouble", "(x.real, x.imag)"),
]
EACH_REFUSED = pytest.mark.parametrize(
    ("value", "named", "use"), REFUSED, ids=[f"{i}-{named}" for i, (_, named, _) in enumerate(REFUSED)]
)


def exactly(found: Any, plain: Any) -> bool:
    return type(found) is type(plain) and bool(found == plain)


@EACH_SCALAR
def test_scalars_become_python_s_at_any_depth(scalar: Any, plain: Any) -> None:
    assert exactly(carried(scalar), plain)
    assert exactly(carried_key(scalar), plain)
    assert exactly(carried_key(("k", (scalar,)))[1][0], plain)
    found = carried([{"a": (scalar, [scalar])}])
    assert exactly(found[0]["a"][0], plain)
    assert exactly(found[0]["a"][1][0], plain)
    (name,) = carried({scalar: 1})
    assert exactly(name, plain)
    (name,) = carried([{(scalar, "x"): 1}])[0]
    assert exactly(name[0], plain)


@EACH_REFUSED
def test_what_is_no_value_of_python_is_refused_by_name(value: Any, named: str, use: str) -> None:
    for inside in (value, [value], (1, value), {"a": [value]}, [[(value,)]]):
        for ask in (carried, lambda given: encode_column([given])):
            with pytest.raises(DataError) as caught:
                ask(inside)
            assert f"a value of type {named}" in str(caught.value) or f".{named} can't" in str(caught.value)
            assert use in str(caught.value)
    for inside in (value, (value,)):
        with pytest.raises(DataError, match="a key of type"):
            carried_key(inside)


def test_two_names_that_become_one_are_refused() -> None:
    class Apart(str):
        __hash__ = object.__hash__

        def __eq__(self, other: object) -> bool:
            return self is other

    with pytest.raises(DataError, match="two of its keys become 'a'"):
        carried({"a": 1, Apart("a"): 2})
    with pytest.raises(DataError, match="two of its keys become 'a'"):
        carried([{Apart("a"): 1, "a": 2}])


def test_a_nan_of_numpy_is_no_key() -> None:
    for key in (np.float32("nan"), ("a", (np.float64("nan"),))):
        with pytest.raises(DataError, match="NaN can't be a key"):
            carried_key(key)


class Gives(mrq.Job):
    """Yields what it is given from the method that it is told."""

    value: Any


class Mapped(Gives):
    def map(self, key: int, line: str) -> Iterator[Any]:
        yield "k", self.value


class Keyed(Gives):
    def map(self, key: int, line: str) -> Iterator[Any]:
        yield ("k", self.value), 1


class Split(Gives):
    def map_split(self, records: Iterator[Any]) -> Iterator[Any]:
        for _ in records:
            yield "k", self.value


class Block(Gives):
    def map_block(self, block: bytes) -> dict[str, Any]:
        return {"k": self.value}


class Grouped(Mapped):
    def reduce(self, key: str, values: Iterator[Any]) -> Iterator[Any]:
        yield list(values)


class Combined(Gives):
    def map(self, key: int, line: str) -> Iterator[Any]:
        yield "k", 1

    def combine(self, key: str, values: Iterator[Any]) -> Iterator[Any]:
        yield self.value

    def reduce(self, key: str, values: Iterator[Any]) -> Iterator[Any]:
        yield list(values)


class Reduced(Gives):
    def map(self, key: int, line: str) -> Iterator[Any]:
        yield "k", 1

    def reduce(self, key: str, values: Iterator[Any]) -> Iterator[Any]:
        yield self.value


class Listed(Reduced):
    def reduce(self, key: str, values: Iterator[Any]) -> list[Any]:
        return [self.value]


class Paired(Reduced):
    def reduce(self, key: str, values: Iterator[Any]) -> Iterator[Any]:
        yield mrq.Pair("p", self.value)


class PairedKey(Reduced):
    def reduce(self, key: str, values: Iterator[Any]) -> Iterator[Any]:
        yield mrq.Pair((self.value,), 1)


def with_reduce(reduce: Any) -> Callable[..., Gives]:
    return type(f"With{reduce.name}", (Mapped,), {"reduce": reduce})


WAYS = [Mapped, Keyed, Split, Block, Grouped, Combined, Reduced, Listed, Paired, PairedKey]
WAYS += [with_reduce(reduce) for reduce in (mrq.identity, mrq.collect, mrq.min, mrq.top(2))]
EACH_WAY = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@pytest.mark.parametrize("output_format", ["text", "lines", "jsonl", "records"])
@EACH_WAY
def test_arrays_are_refused_by_every_method_and_format(way: Any, output_format: str, tmp_path: Path) -> None:
    for number, value in enumerate((np.array([7]), np.void(b"ab"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        rig = Rig(way(value=value), folder, settings={"output_format": output_format})
        with pytest.raises(AssertionError) as caught:
            rig.whole(lines(["x", "y", "z"]))
        error = caught.value.args[0]
        assert "can't be carried" in str(error)
        assert type(value).__name__ in str(error)
        assert "Traceback" not in str(error)
        assert ENGINE not in error.frames


@pytest.mark.parametrize("output_format", ["text", "lines", "jsonl", "records"])
@EACH_WAY
def test_scalars_come_out_as_python_s(way: Any, output_format: str, tmp_path: Path) -> None:
    parts = []
    for number, value in enumerate((np.float32(0.1), 0.10000000149011612)):
        folder = tmp_path / str(number)
        folder.mkdir()
        rig = Rig(way(value=value), folder, settings={"output_format": output_format})
        parts.append(repr(rig.whole(lines(["x", "y", "z"])).parts))
    assert parts[0] == parts[1]


@pytest.mark.parametrize("reduce", [mrq.sum, mrq.mean], ids=repr)
def test_folds_add_scalars_and_no_arrays(reduce: Any, tmp_path: Path) -> None:
    for number, value in enumerate((np.int64(2), np.float64(2), np.float32(2), np.uint8(2))):
        folder = tmp_path / str(number)
        folder.mkdir()
        ran = Rig(with_reduce(reduce)(value=value), folder).whole(lines(["x", "y"]))
        assert ran.pairs == [("k", 4 if reduce is mrq.sum else 2.0)]
    outcome = Rig(with_reduce(reduce)(value=np.array(2)), tmp_path).map(0, lines(["x", "y"]))
    assert outcome.status is Status.FAILED
    assert "numpy.ndarray can't be carried" in outcome.error.message


def test_a_record_that_yields_an_array_can_be_skipped(tmp_path: Path) -> None:
    class Some(mrq.Job):
        def map(self, key: int, line: str) -> Iterator[Any]:
            yield line, np.array([1]) if line == "bad" else np.int64(1)

    rig = Rig(Some(), tmp_path, settings={"skip_bad_records": 1})
    result = done(rig.run(rig.map_order(0, lines(["a", "bad", "b"]), careful=True)))
    assert rig.part(result) == [("a", 1), ("b", 1)]


def test_an_array_that_is_refilled_as_a_row_is_yielded_as_a_list(tmp_path: Path) -> None:
    class Rows(mrq.Job):
        def map_split(self, records: Iterator[Any]) -> Iterator[Any]:
            row = np.zeros(2)
            for _, line in records:
                row[0] = int(line)
                yield int(line), row.tolist()
                yield row[0], [row[0], (row[1],)]

    found = Rig(Rows(), tmp_path).whole(lines(["1", "2"])).pairs
    assert found == [(n, value) for n in (1, 2) for value in ([float(n), 0.0], [float(n), (0.0,)])]


def test_mrq_imports_no_numpy_of_its_own() -> None:
    import subprocess

    code = (
        "import sys, mrq, mrq.engine.local, mrq.testing, mrq.worker.tasks.mapper, mrq.worker.tasks.reducer\n"
        "from mrq.codec.types import carried\n"
        "carried([bytearray(b'x'), {1: (2, [3])}])\n"
        "sys.exit('numpy' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_parameters_are_scalars_and_no_arrays() -> None:
    import mrq.testing

    class Takes(mrq.Job):
        n: int

        def map(self, key: Any, value: Any) -> Iterator[Any]:
            yield key, self.n

    assert mrq.testing.run(Takes(n=np.int64(7)), records=["x"]) == [(0, 7)]  # type: ignore[arg-type]
    for value in (np.array(7), np.array([7]), np.void(b"7"), np.timedelta64(7, "ns")):
        with pytest.raises(mrq.MrqError, match=r"parameter n of Takes: .* can't be carried"):
            mrq.testing.run(Takes(n=value), records=["x"])
