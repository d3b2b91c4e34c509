"""What the grid's jobs compute: plain functions, shipped beside them and used by the oracle too.

Nothing here knows of mrq: how pairs travel, and what becomes of them, is for the jobs to show and for the
oracle to say.
"""

from __future__ import annotations

import json
from collections import Counter, namedtuple
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Pair = tuple[Any, Any]


@dataclass(frozen=True)
class Conf:
    """What a case's user code needs to know."""

    form: str  #: the input format
    keys: str
    values: str
    bad: str = "none"


class Bad(Exception):
    """What bad records raise."""


Point = namedtuple("Point", "x y")

#: Keys of every type that there is; some are equal, some differ in their type alone.
MIXED = (
    None, 0, False, 0.0, -0.0, 1, True, 1.0, 2, 2.5, -3, 10**30, 1e30, float("inf"), "", "a", "é",
    "日本", "\udcff", "z" * 40, b"", b"a", b"\xff", (), ("a",), ("a", 1), ("a", True), (None,),
    (b"x", ("y", 2)), Point(1, 2), (1, 2), "a\tb", "a\nb", -(2**63), 2**63,
)  # fmt: skip
NUMBERS = (0, 1, -7, 2.5, 0.1, True, 10**25, -0.0, 1e16, 0.2, -1e16, 3)
#: Line contents, as bytes: what is no UTF-8, blanks, a lone CR, quotes.
RESTS = (
    b"plain", b"", b"tab\there", b"  blanks  ", "é ü".encode(), "日本語 🎉".encode(), b"a\rb",
    b"\xff\xfe no utf-8", b'"quoted" \\ back', b"plain", "a\u2028b\x0b".encode(), b"\x00nul",
)  # fmt: skip


def is_bad(seed: int) -> bool:
    return seed % 9 == 4


def key_of(kind: str, number: int, rest: Any) -> Any:
    if kind == "few":
        return f"w{number % 7}"
    if kind == "mixed":
        return MIXED[number * 5 % len(MIXED)]
    if kind == "rest":
        return rest
    if kind == "one":
        return "heavy"
    if kind == "tuple":
        return (f"t{number % 3}", number % 4)
    assert kind == "int"
    return number * 13 % 31 - 15


def value_of(kind: str, number: int, rest: Any, place: Any) -> Any:
    if kind == "ones":
        return 1
    if kind == "int":
        return number * 37 % 101 - 50 if number % 11 else 10**25
    if kind == "number":
        return NUMBERS[number % len(NUMBERS)]
    if kind == "atom":
        return MIXED[number * 3 % len(MIXED)]
    if kind == "rest":
        return rest
    if kind == "place":
        return place
    if kind == "large":
        return f"{number % 50:04d} é" * 300
    if kind == "pieces":
        return [number]
    assert kind == "nested"
    rows: list[Any] = [
        [number, [None, "é", rest], Point(1, b"\xff")],
        {"a": [(1, 2.5), {"b": None}], "n": number},
        Counter(x=number),
        [],
        {},
    ]
    return rows[number % len(rows)]


def pairs(conf: Conf, seed: int, rest: Any, place: Any) -> Iterator[Pair]:
    """None to three pairs of one record; a bad one raises when it has given some."""
    for at in range(seed % 4):
        value = value_of(conf.values, seed * 11 + at, rest, place)
        if conf.bad == "value" and is_bad(seed):
            value = "no number"
        yield key_of(conf.keys, seed * 5 + at, rest), value
    if conf.bad == "map" and is_bad(seed):
        raise Bad(f"record {seed}")


def of_line(conf: Conf, line: Any) -> tuple[int, Any]:
    """The seed and the rest of a line of text, or of the object of a line of JSON."""
    if conf.form == "jsonl":
        record = json.loads(line) if isinstance(line, bytes) else line
        return record["n"], record["rest"]
    seed, _, rest = line.partition(b" " if isinstance(line, bytes) else " ")
    return int(seed), rest


def lines(data: bytes) -> list[bytes]:
    """Lines without their ends, LF or CRLF; what the last one has before no LF is its own."""
    *found, last = data.split(b"\n")
    return [*(line.removesuffix(b"\r") for line in found), *([last] if last else [])]


def of_record(conf: Conf, key: Any, value: Any) -> Iterator[Pair]:
    """The pairs of one record as `map` gets it."""
    if conf.form == "whole":
        for line in lines(value):
            yield from pairs(conf, *of_line(conf, line), key)
    elif conf.form == "records":
        yield from pairs(conf, *value, key)
    else:
        yield from pairs(conf, *of_line(conf, value), key)


def of_split(conf: Conf, records: Iterable[Pair]) -> Iterator[Pair]:
    """The pairs of a whole split, and some more at its end that tell how many records there were."""
    count = 0
    for key, value in records:
        count += 1
        yield from of_record(conf, key, value)
    yield from pairs(conf, count, b"end" if conf.form == "whole" else "end", 0)


def of_block(conf: Conf, block: bytes) -> Iterator[Pair]:
    """The pairs of a block of lines."""
    for line in lines(block):
        if line.strip():
            yield from pairs(conf, *of_line(conf, line), None)


def part_of(key: Any, n: int) -> int:
    """A partition of the user's own: alike for keys that are one key."""
    if isinstance(key, tuple):
        return len(key) % n
    if isinstance(key, str | bytes):
        return len(key if isinstance(key, bytes) else key.encode("utf-8", "surrogateescape")) % n
    return int(key) % n if key is not None and abs(key) < 1e300 else 0


def refuse_key(key: Any) -> None:
    """Raises for some keys, alike for keys that are one key."""
    if part_of(key, 3) == 2:
        raise Bad(f"key {key!r}")


def weight(value: Any) -> Any:
    """A key of top and bottom: many values share one."""
    return len(repr(value)) % 5


def fold(values: Iterable[Any]) -> Any:
    """The sum of numbers, or of lists."""
    total = None
    for value in values:
        total = value if total is None else total + value
    return total


def tagged(value: Any) -> list[Any]:
    return ["tagged", value]
