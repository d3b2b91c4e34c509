"""`--set name=value` by annotation, and what parameters may hold."""

from __future__ import annotations

import datetime
import enum
import re
from collections import Counter, namedtuple
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Optional

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrq.codec.types import carried
from mrq.errors import UsageError
from mrq.job import parameters
from mrq.job.base import Job, parameter_values

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]


class Many(Job):
    plain = 5
    whole: int = 1
    real: float = 1.0
    flag: bool = False
    text: str = ""
    raw: bytes = b""
    words: list[str] = []  # noqa: RUF012
    numbers: list[int] = []  # noqa: RUF012
    pair: tuple[str, int] = ("", 0)
    row: tuple[float, ...] = ()
    maybe: int | None = None
    old: Optional[float] = None  # noqa: UP045 - the old spelling must work too
    level: Literal["low", "high", 3] = "low"
    either: int | str = 0
    table: dict[str, int] = {}  # noqa: RUF012
    anything: Any = None
    loose: list = []  # type: ignore[type-arg]  # noqa: RUF012
    unknown: Unknown = 0
    nested: list[tuple[str, int]] = []  # noqa: RUF012


class Needy(Job):
    pattern: str
    count: int


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("whole=12", 12),
        ("whole=-1_000", -1000),
        ("whole=123456789012345678901234567890", 123456789012345678901234567890),
        ("real=2", 2.0),
        ("real=1e-3", 0.001),
        ("flag=true", True),
        ("flag=No", False),
        ("flag=1", True),
        ("text=a=b", "a=b"),
        ("text=", ""),
        ("text=None", "None"),
        ("raw=caf\udce9", b"caf\xe9"),
        ("words=a,b, c", ["a", "b", "c"]),
        ("words=", []),
        ('words=["a,b", "c"]', ["a,b", "c"]),
        ("numbers=1,2", [1, 2]),
        ("numbers=[1, 2]", [1, 2]),
        ("pair=a,2", ("a", 2)),
        ("row=1,2.5", (1.0, 2.5)),
        ("maybe=None", None),
        ("maybe=7", 7),
        ("old=.5", 0.5),
        ("level=high", "high"),
        ("level=3", 3),
        ("either=5", 5),
        ("either=five", "five"),
        ('table={"a": 1}', {"a": 1}),
        ("anything=[1]", [1]),
        ("anything=x", "x"),
        ('nested=[["a", 1], ["b", 2]]', [("a", 1), ("b", 2)]),
        ("unknown=x", "x"),
    ],
)
def test_converted_by_annotation(assignment: str, value: object) -> None:
    (got,) = parameters.convert(Many, [assignment]).values()
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("whole=x", "whole of Many must be int: 'x' is no whole number"),
        ("whole=1.5", "'1.5' is no whole number"),
        ("real=fast", "real of Many must be float: 'fast' is no number"),
        ("flag=maybe", "flag of Many must be bool: true or false, not 'maybe'"),
        ("numbers=1,b", "numbers of Many must be list[int]: 'b' is no whole number"),
        ('numbers=[1, "b"]', "'b' is no whole number"),
        ("numbers=[1.5]", "int, not 1.5"),
        ("pair=a", "pair of Many must be tuple[str, int]: 2 items, not 1"),
        ("maybe=x", "maybe of Many must be int | None: 'x' is no whole number"),
        ("level=middle", "one of low, high, 3, not 'middle'"),
        ("table=1", "write it as a JSON object"),
        ('table={"a": "b"}', "write it as a JSON object of that type"),
        ("table={", "not JSON: '{'"),
        ("wole=1", "Many has no parameter 'wole'; did you mean 'whole'?"),
        ("plain=1", "plain of Many isn't a parameter; annotate it to make it one: plain: int = …"),
        ("whole", "write --set name=value"),
        ("=3", "write --set name=value"),
    ],
)
def test_wrong_values_say_what_is_wanted(assignment: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parameters.convert(Many, [assignment])
    assert said in str(caught.value)
    assert assignment in str(caught.value)


def test_twice_and_taken_apart() -> None:
    with pytest.raises(UsageError, match="given twice"):
        parameters.convert(Many, ["whole=1", "whole=2"])
    assert parameters.convert(Many, {"whole": "1", "text": "a=b"}) == {"whole": 1, "text": "a=b"}


def test_a_type_without_a_text_form_is_refused() -> None:
    class Dated(Job):
        since: datetime.date = datetime.date(2026, 1, 1)

    with pytest.raises(
        UsageError, match="since of Dated must be date: a parameter of this type can't be given"
    ):
        parameters.convert(Dated, ["since=2026-01-01"])


def test_missing_required_parameters_name_the_flag() -> None:
    with pytest.raises(UsageError) as caught:
        parameters.values(Needy, {"count": 1})
    assert str(caught.value) == "Needy needs pattern: str; write `Needy(pattern=…)`"
    with pytest.raises(
        UsageError, match="Needy needs pattern: str, count: int; write `Needy\\(pattern=…, count=…\\)`"
    ):
        parameters.values(Needy, {})
    assert parameters.values(Needy, {"pattern": "x", "count": 2}) == {"pattern": "x", "count": 2}
    assert parameter_values(Needy(pattern="x", count=2)) == {"pattern": "x", "count": 2}


class Color(enum.IntEnum):
    RED = 1


Point = namedtuple("Point", "x y")


class Text(str):
    """Reads otherwise than it is, and is equal to nothing else."""

    def __str__(self) -> str:
        return "something else"

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return 7


class Number(int):
    def __int__(self) -> int:
        return 99


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({1, 2}, "a value of type set can't be carried: {1, 2}; use sorted(x), a list"),
        (
            datetime.date(2026, 1, 1),
            "of type datetime.date can't be carried: datetime.date(2026, 1, 1); use .isof",
        ),
        (Decimal("1.5"), "use str(x)"),
        (Color.RED, "Color can't be carried: <Color.RED: 1>; use its .value"),
        (re.compile("x+"), "of type re.Pattern can't be carried: re.compile('x+'); use x.pattern"),
        ([1, {"a": object()}], "use None, bool, int, float, str, bytes or a tuple of them, list or dict"),
        ({"a": 1, Text("a"): 2}, "two of its keys become 'a'"),
        (nested(300), "it is nested too deeply (more than 200 levels), or holds itself"),
        (nested(100_000), "it is nested too deeply"),
        ([1, {"a": (2, {1 << 20_000: 3})}], "has more digits than the 4,300 that Python converts to text"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_values_that_cannot_be_carried(value: object, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parameters.validate(Many(anything=value))
    assert said in str(caught.value)
    assert "parameter anything of Many" in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        Text("a"),
        Number(3),
        [Text("a"), {Text("b"): Number(4)}],
        bytearray(b"x"),
        {"a": (bytearray(b"x"), memoryview(b"y"))},
        float("nan"),
        numpy.float64(1.5),
        [numpy.str_("a"), numpy.bool_(True)],
        1 << 13_000,
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_is_carried_is_what_one_function_says(value: object) -> None:
    found, wanted = parameters.validate(Many(anything=value))["anything"], carried(value)
    assert (repr(found), type(found)) == (repr(wanted), type(wanted))


def test_subclasses_become_their_base() -> None:
    made = parameters.validate(Many(anything=[Point(1, 2), Counter("aab")]))
    assert made["anything"] == [(1, 2), {"a": 2, "b": 1}]
    assert [type(x) for x in made["anything"]] == [tuple, dict]


@pytest.mark.parametrize(
    "wrong",
    [{"whole": "5"}, {"whole": True}, {"numbers": ["a"]}, {"level": "mid"}, {"row": [1.0]}, {"pair": ("a",)}],
)
def test_values_that_the_annotation_excludes(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=f"parameter {name} of Many must be "):
        parameters.validate(Many(**wrong))


@pytest.mark.parametrize("right", [{"real": 5}, {"maybe": None}, {"unknown": object}, {"loose": [1, "a"]}])
def test_values_that_the_annotation_allows(right: dict[str, Any]) -> None:
    if right.get("unknown") is object:
        right = {"unknown": "x"}
    (name,) = right
    assert parameters.validate(Many(**right))[name] == right[name]


_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
_carried = st.recursive(
    _scalars,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=80)
@given(_carried)
def test_carried_values_pass_unchanged(value: object) -> None:
    got = parameters.validate(Many(anything=value))["anything"]
    assert got == value
    assert type(got) is type(value)


@settings(max_examples=80)
@given(st.integers(), st.floats(allow_nan=False), st.text(), st.lists(st.integers()))
def test_text_forms_read_back(whole: int, real: float, text: str, numbers: list[int]) -> None:
    got = parameters.convert(
        Many, [f"whole={whole}", f"real={real}", f"text={text}", f"numbers={','.join(map(str, numbers))}"]
    )
    assert got == {"whole": whole, "real": real, "text": text, "numbers": numbers}
