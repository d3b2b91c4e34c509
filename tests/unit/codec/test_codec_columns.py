"""Columns: lossless for what is carried, refused by name for the rest."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import math
import struct
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrq.codec.columns import decode_column, encode_column
from mrq.codec.types import base_of, carried_key
from mrq.errors import CorruptFileError, DataError

#: Text as it comes from files: any characters, and bytes that are no UTF-8 escaped as surrogates.
escaped = st.binary(max_size=12).map(lambda data: data.decode("utf-8", "surrogateescape"))
text = st.one_of(st.text(max_size=12), escaped, st.sampled_from(["", "\0", "a\0b", "é", "\udcff"]))
ints = st.one_of(
    st.integers(-200, 200), st.integers(), st.sampled_from([2**63, 2**64, -(2**63) - 1, 1 << 5000])
)
atoms = st.one_of(st.none(), st.booleans(), ints, st.floats(), text, st.binary(max_size=12))
keys = st.recursive(atoms, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)
values = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
    ),
    max_leaves=12,
)
columns = st.one_of(
    st.lists(values, max_size=20),
    *(st.lists(strategy, max_size=20) for strategy in (text, ints, st.floats(), st.booleans(), st.binary())),
    st.lists(st.tuples(text, ints), max_size=20),
    st.lists(st.lists(st.tuples(text, values), max_size=3), max_size=20),
    st.tuples(values, st.integers(1, 20)).map(lambda pair: [pair[0]] * pair[1]),
)


def exact(value: Any) -> Any:
    """A form whose `==` tells types, the sign of zero and NaN's bits apart, and text by its bytes."""
    if type(value) is float:
        return ("float", struct.pack("<d", value))
    if type(value) is str:
        return ("str", value.encode("utf-8", "surrogateescape"))
    if isinstance(value, (tuple, list)):
        return (type(value).__name__, [exact(item) for item in value])
    if type(value) is dict:
        return ("dict", [(exact(k), exact(v)) for k, v in value.items()])
    return (type(value).__name__, value)


@settings(max_examples=400)
@given(columns)
def test_round_trip(column: list[Any]) -> None:
    assert exact(decode_column(encode_column(column))) == exact(column)


@settings(max_examples=200)
@given(st.lists(keys, max_size=20))
def test_keys_round_trip_unless_they_hold_nan(column: list[Any]) -> None:
    def has_nan(key: Any) -> bool:
        return (
            any(map(has_nan, key)) if isinstance(key, tuple) else isinstance(key, float) and math.isnan(key)
        )

    if any(map(has_nan, column)):
        with pytest.raises(DataError, match="NaN can't be a key"):
            encode_column(column, keys=True)
    else:
        assert exact(decode_column(encode_column(column, keys=True))) == exact(column)


@pytest.mark.parametrize(
    "column",
    [
        [1, 1.0, True],
        [True] * 5,
        [0.0, -0.0],
        [-0.0] * 3,
        [(1,), (1.0,), (True,)],
        [(1, [2]), (1, (2,))],
        [(), (1,), ()],
        [()] * 3,
        [[], [(1, 2)], [(3, 4), (5,)]],
        [[(1, 2)], [3, (4,)], []],
        [{(1, "a"): {"x": (1 << 70, b"\0")}}],
        [math.inf, -math.inf],
        [1 << 64, -(1 << 64), 0],
        [b"", b"\0"],
        ["a" * 100_000, "\udc80" * 3],
    ],
)
def test_types_stay_what_they_are(column: list[Any]) -> None:
    assert exact(decode_column(encode_column(column))) == exact(column)


def test_a_constant_column_is_tiny() -> None:
    assert len(encode_column([1] * 100_000)) < 16
    assert len(encode_column(["word"] * 100_000)) < 16
    assert len(encode_column([("a", i) for i in range(100)])) < 200


def test_text_is_carried_as_its_bytes() -> None:
    assert decode_column(encode_column(["\udcc3\udca9", "x"])) == ["é", "x"]
    assert decode_column(encode_column(["\udcff" + "é", "x"])) == ["\udcff" + "é", "x"]


class Point(NamedTuple):
    x: int
    y: str


class Name(str):
    def __str__(self) -> str:
        return "not this"


class Count(int):
    pass


def test_subclasses_become_their_base() -> None:
    given_ = [Point(1, "a"), collections.Counter("aab"), Name("n"), Count(3), collections.OrderedDict(a=1)]
    assert exact(decode_column(encode_column(given_))) == exact(
        [(1, "a"), {"a": 2, "b": 1}, "n", 3, {"a": 1}]
    )
    nested = [[Point(1, "a"), {Name("k"): Count(2)}], Point(2, Name("b"))]
    assert exact(decode_column(encode_column(nested))) == exact([[(1, "a"), {"k": 2}], (2, "b")])
    assert exact(decode_column(encode_column([Name("k")] * 2, keys=True))) == exact(["k", "k"])
    assert exact(carried_key((Name("k"), Count(1)))) == exact(("k", 1))
    assert base_of(bytearray(b"x")) == b"x"


def numpy_scalar(item: Any) -> Any:
    """What NumPy's scalars look like from outside, so that the test needs no NumPy."""
    generic = type(
        "generic", (), {"__module__": "numpy", "item": lambda self: item, "__repr__": lambda s: "np"}
    )
    return type("int64", (generic,), {"__module__": "numpy"})()


def test_numpy_scalars_pass_through_item() -> None:
    assert exact(decode_column(encode_column([numpy_scalar(5), numpy_scalar(2.5)]))) == exact([5, 2.5])
    assert exact(decode_column(encode_column([[numpy_scalar(True)]]))) == exact([[True]])
    assert exact(decode_column(encode_column([numpy_scalar(5)], keys=True))) == exact([5])
    with pytest.raises(DataError, match=r"datetime\.date .*isoformat"):
        encode_column([numpy_scalar(datetime.date(2026, 1, 1))])


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Thing:
    x: int = 1


REFUSED = [
    (datetime.datetime(2026, 1, 2), "datetime.datetime", "isoformat()"),
    (datetime.timedelta(1), "datetime.timedelta", "total_seconds()"),
    ({1, 2}, "set", "sorted(x)"),
    (frozenset({1}), "frozenset", "sorted(x)"),
    (decimal.Decimal("1.5"), "decimal.Decimal", "str(x)"),
    (Color.RED, "Color", ".value"),
    (Level.LOW, "Level", ".value"),
    (1 + 2j, "complex", "x.real"),
    (Thing(), "Thing", "asdict"),
    (object(), "object", "None, bool, int"),
    ((i for i in ()), "generator", "list(x)"),
]


@pytest.mark.parametrize(("value", "named", "use"), REFUSED)
def test_refused_by_name_with_the_conversion(value: Any, named: str, use: str) -> None:
    for column in ([value], ["ok", value], [[value]], [("a", value)], [{"k": value}], [[(1, value)]]):
        with pytest.raises(DataError) as caught:
            encode_column(column)
        assert named in str(caught.value)
        assert use in str(caught.value)
        assert "a value of type" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "use"),
    [([1], "tuple(x)"), ({}, "tuple(sorted(x.items()))"), (([1],), "tuple(x)"), ((1, {1}), "sorted(x)")],
)
def test_keys_are_refused_as_keys(key: Any, use: str) -> None:
    for column in ([key], [1, key], [key, ()], [("a", key)]):
        with pytest.raises(DataError) as caught:
            encode_column(column, keys=True)
        assert "a key of type" in str(caught.value)
        assert use in str(caught.value)


@pytest.mark.parametrize(
    "column", [[math.nan], [1, math.nan], [(1, math.nan)], [(1, (math.nan,)), ()], ["a", math.nan]]
)
def test_nan_is_a_value_and_no_key(column: list[Any]) -> None:
    assert exact(decode_column(encode_column(column))) == exact(column)
    with pytest.raises(DataError, match="NaN can't be a key"):
        encode_column(column, keys=True)


@pytest.mark.parametrize("bad", [chr(0xD800), "a" + chr(0xDFFF), chr(0xDC7F), chr(0xDD00) + "b"])
def test_surrogates_that_stand_for_no_byte_are_refused(bad: str) -> None:
    for column in ([bad], ["a", bad], [bad, 1], [(bad, 1), ("x", 2)], [bad + "\0", "c"]):
        for is_key in (True, False):
            with pytest.raises(DataError, match=r"lone surrogate U\+D") as caught:
                encode_column(column, keys=is_key)
            assert ("a key" if is_key else "a value") in str(caught.value)


def test_what_is_nested_without_end_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(DataError, match="nested too deeply"):
        encode_column([loop])


def test_a_repr_that_raises_does_not_hide_the_refusal() -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(DataError, match="Shy"):
        encode_column([Shy()])


@pytest.mark.parametrize("data", [b"", b"q", b"s\xff", b"m\xc1", b"c\x01", b"t\x01\0\0\0\x02\0\0\0"])
def test_damaged_columns_raise_by_name(data: bytes) -> None:
    with pytest.raises(CorruptFileError):
        decode_column(data)
