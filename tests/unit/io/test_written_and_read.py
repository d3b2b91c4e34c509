"""What may be carried, written and read: records exactly, jsonl as `jsonl_gives` says, text as documented."""

from __future__ import annotations

import json
import math
import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mrq.codec.columns import decode_column, encode_column
from mrq.codec.digits import decimal, whole
from mrq.codec.types import DEPTH_MAX, carried, carried_key
from mrq.errors import DataError
from mrq.io.blocks import JsonBlock
from mrq.io.output import _ENCODERS, output_format
from mrq.io.render import jsonl_gives, loads

TEXT = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcb2\udcc3\udca9\udcff"), max_size=8
)
HUGE = st.builds(
    lambda digits, small, sign: sign * (10**digits + small),
    st.integers(4290, 9000),
    st.integers(0),
    st.sampled_from([1, -1]),
)
ATOMS = st.none() | st.booleans() | st.integers() | HUGE | st.floats() | TEXT | st.binary(max_size=8)
KEYS = st.recursive(
    ATOMS.filter(lambda key: key == key), lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5
)
NAMES = st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=2).map(tuple), max_leaves=3)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(NAMES, inner, max_size=4)
    ),
    max_leaves=12,
)
PAIRS = st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=6)


def exact(value: Any) -> Any:
    """Types and values at any depth; text by its bytes, floats by their sign and digits."""
    if isinstance(value, str):
        return ("str", value.encode("utf-8", "surrogateescape"))
    if isinstance(value, float):
        return ("float", repr(value))
    if isinstance(value, dict):
        return ("dict", tuple((exact(key), exact(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return (type(value).__name__, tuple(map(exact, value)))
    return (type(value).__name__, value)


def names_of(value: Any, name: Any) -> list[list[Any]]:
    """The names of each dict in a value."""
    if isinstance(value, dict):
        found = [[name(key) for key in value]]
        for item in value.values():
            found += names_of(item, name)
        return found
    if isinstance(value, list | tuple):
        return [names for item in value for names in names_of(item, name)]
    return []


def clash(pairs: list[tuple[Any, Any]], name: Any) -> bool:
    """Whether a dict of the values has two keys of one name."""
    return any(len(set(names)) < len(names) for _, value in pairs for names in names_of(value, name))


def json_of(value: Any, number: Any) -> str:
    """The documented rule, once more."""
    if isinstance(value, dict):
        names = (
            json_of(key if isinstance(key, str | bytes) else json_of(key, number), number) for key in value
        )
        return (
            "{"
            + ",".join(f"{k}:{json_of(v, number)}" for k, v in zip(names, value.values(), strict=True))
            + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ",".join(json_of(item, number) for item in value) + "]"
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(Decimal(value))
    return number(value) if isinstance(value, float) else json.dumps(value)


def json_float(value: float) -> str:
    return json.dumps(value)


def json_name(number: Any) -> Any:
    def name(key: Any) -> bytes:
        text = key if isinstance(key, str | bytes) else json_of(key, number)
        return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")

    return name


def text_of(value: Any) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    text = value if isinstance(value, str) else json_of(value, repr)
    return text.encode("utf-8", "surrogateescape")


def line_of(key: Any, value: Any) -> bytes:
    if value is None or key is None:
        return (text_of(key) or text_of(value)) + b"\n"
    return text_of(key) + b"\t" + text_of(value) + b"\n"


def columns(pairs: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [carried_key(key) for key, _ in pairs], [carried(value) for _, value in pairs]


@settings(max_examples=100)
@given(pairs=PAIRS)
@example(pairs=[(1, {"\udcc3\udca9": 1, "é": 2})])
@example(pairs=[(1, {1: 0, "1": 1, b"1": 2, 1.5: 3, "1.5": 4, None: 5, "null": 6})])
def test_records_give_equal_values_and_types(pairs: list[tuple[Any, Any]], tmp_path_factory: Any) -> None:
    keys, values = columns(pairs)
    assert exact(values) == exact([value for _, value in pairs])
    if clash(pairs, exact):
        with pytest.raises(DataError, match="stand for the same bytes"):
            encode_column(values)
        return
    path = str(tmp_path_factory.mktemp("records") / "part")
    writer = output_format("records").open(path)
    writer.write(keys, values)
    writer.close()
    assert exact(list(output_format("records").read(path))) == exact(pairs)
    assert exact(decode_column(encode_column(values))) == exact(values)  # the shuffle's way


@settings(max_examples=100)
@given(pairs=PAIRS)
@example(pairs=[(b"\xff", {1: 2, 3: "\udcb2"}), ((1, b"a"), [math.nan, -math.inf, -0.0])])
def test_jsonl_gives_what_one_function_says(pairs: list[tuple[Any, Any]]) -> None:
    keys, values = columns(pairs)
    if clash(pairs, json_name(json_float)):
        with pytest.raises(DataError, match="have one name there"):
            _ENCODERS["jsonl"](keys, values)
        return
    written = _ENCODERS["jsonl"](keys, values)
    written.decode("utf-8")  # valid, whatever was in it
    block = JsonBlock(0, "part", len(written), 0, written, None)
    want = [{"key": jsonl_gives(key), "value": jsonl_gives(value)} for key, value in pairs]
    assert exact(block.values) == exact(want)
    assert exact([block.as_read(index)[1] for index in range(len(want))]) == exact(want)


@settings(max_examples=100)
@given(pairs=PAIRS)
@example(pairs=[(None, None), (None, b"\xff"), ("a\tb", {"x": (1, b"\xfe")}), ((), [math.inf])])
def test_text_is_the_bytes_of_the_documented_rule(pairs: list[tuple[Any, Any]]) -> None:
    keys, values = columns(pairs)
    if clash(pairs, json_name(repr)):
        for name in ("text", "lines"):
            with pytest.raises(DataError, match="have one name there"):
                _ENCODERS[name](keys, values)
        return
    assert _ENCODERS["text"](keys, values) == b"".join(line_of(key, value) for key, value in pairs)
    assert _ENCODERS["lines"](keys, values) == b"".join(text_of(value) + b"\n" for _, value in pairs)


TWO_KEYS = [
    (1, "1"),
    (None, "null"),
    (True, "true"),
    (b"a", "a"),
    (1.0, "1.0"),
    (math.inf, "Infinity"),
    ((1, "x"), '[1,"x"]'),
    (("a",), (b"a",)),
    ("é", "\udcc3\udca9"),
    (b"\xff", "\udcff"),
    (10**5000, "1" + "0" * 5000),
]


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("keys", TWO_KEYS, ids=range(len(TWO_KEYS)))
def test_two_keys_with_one_name_are_refused_by_name(keys: tuple[Any, Any], deep: bool) -> None:
    value: Any = dict.fromkeys(keys, 0)
    value = {"rows": [(1, value)]} if deep else value
    for name in ("text", "lines", "jsonl"):
        if name != "jsonl" and math.inf in keys:
            continue  # text says inf
        with pytest.raises(DataError, match=r"its keys .+ and .+ have one name there.*records"):
            _ENCODERS[name]([1, 2], [value, value])


def test_keys_of_several_types_with_names_of_their_own_are_written() -> None:
    value = {1: "a", "2": "b", None: "c", 2.5: "d", "x": "e", (1, 2): "f", b"y": "g"}
    want = '{"1":"a","2":"b","null":"c","2.5":"d","x":"e","[1,2]":"f","y":"g"}'
    assert _ENCODERS["text"]([None], [value]) == want.encode() + b"\n"


@given(number=HUGE)
@example(number=10**600)
@example(number=10**1200 - 1)
@example(number=-(10**5000))
@example(number=10**2400 * (10**2400 - 1))
def test_whole_numbers_of_any_length(number: int) -> None:
    text = decimal(number)
    assert text == str(Decimal(number))
    assert whole(text) == number


@pytest.mark.parametrize("text", ["", "-", "1x", "1" * 5000 + "x", "--1"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid literal|Exceeds"):
        whole(text)


def test_the_limit_of_the_process_is_never_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """User code may convert numbers in a thread meanwhile, and counts on Python's own limit."""
    monkeypatch.setattr(sys, "set_int_max_str_digits", None)
    seen: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen.append(sys.get_int_max_str_digits())

    limit = sys.get_int_max_str_digits()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        value = {"n": [10**30_000, -(10**5000)]}
        for name in ("text", "lines", "jsonl"):
            written = _ENCODERS[name]([None], [value])
        assert loads(written.decode())["value"] == value
    finally:
        over.set()
        thread.join()
    assert set(seen) == {limit}


def test_what_lies_as_deep_as_may_be_goes_every_way_out_and_in(tmp_path: Path) -> None:
    shapes = [
        lambda inner: [inner],
        lambda inner: (inner,),
        lambda inner: {"a": inner},
        lambda inner: {"b": b"x", "a": inner},
    ]
    for number, shape in enumerate(shapes):
        value: Any = 1
        for _ in range(DEPTH_MAX):
            value = shape(value)
        assert exact(carried(value)) == exact(value)
        assert exact(decode_column(encode_column([value]))) == exact([value])
        path = str(tmp_path / f"part-{number}")
        writer = output_format("records").open(path)
        writer.write([None], [value])
        writer.close()
        assert exact(list(output_format("records").read(path))) == exact([(None, value)])
        for name in ("text", "lines", "jsonl"):
            written = _ENCODERS[name]([None], [value])
        assert exact(loads(written.decode())["value"]) == exact(jsonl_gives(value))
        with pytest.raises(DataError, match="nested too deeply"):
            carried(shape(value))
        key: Any = 1
        for _ in range(DEPTH_MAX):
            key = (key,)
        assert decode_column(encode_column([carried_key(key)], keys=True)) == [key]
        with pytest.raises(DataError, match="a key can't be carried: it is nested too deeply"):
            carried_key((key,))


@pytest.mark.parametrize("code", [0xD83D, 0xDC7F, 0xDD00, 0xDFFF])
def test_half_a_character_is_refused_by_every_format(code: int) -> None:
    bad = f"cut {chr(code)}"
    for name in ("text", "lines", "jsonl"):
        for value in (bad, [bad], {bad: 1}, {"a": {bad: 1, 2: 3}}):
            with pytest.raises(DataError, match=r"lone surrogate U\+D"):
                _ENCODERS[name]([None], [value])


def test_what_stands_for_a_byte_is_that_byte_in_text_and_an_escape_in_jsonl() -> None:
    read = loads('"byte \\udcb2"')
    assert read == "byte \udcb2"
    assert _ENCODERS["text"](["k"], [read]) == b"k\tbyte \xb2\n"
    assert _ENCODERS["lines"](["k"], [read]) == b"byte \xb2\n"
    assert _ENCODERS["jsonl"](["k"], [read]) == b'{"key": "k", "value": "byte \\udcb2"}\n'
    assert decode_column(encode_column([read])) == [read]
    # Bytes that are UTF-8 together are the character that they spell, by whatever way it came.
    assert _ENCODERS["jsonl"](["k"], ["\udcc3\udca9"]) == '{"key": "k", "value": "é"}\n'.encode()
    assert decode_column(encode_column(["\udcc3\udca9"])) == ["é"]
