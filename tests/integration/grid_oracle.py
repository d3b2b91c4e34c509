"""What a job's answer must be, the plain way: lists, dicts and `sorted`, by the rules of the job guide.

Nothing of mrq runs here. The rules of types, equality, order, text and partitions are written down a second
time, as the documents have them.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import grid_code as code
from grid_cases import BUILT_IN, Case
from grid_jobs import SPLIT_BYTES, TOP, conf, data_of, record_of, seeds

Pair = tuple[Any, Any]
#: A record: its file's number, its key, its value, and its seed.
Record = tuple[int, Any, Any]


@dataclass
class Expected:
    """Part after part the groups of it in order, each with its records. A total order leaves open where the
    parts are cut: it is one part here."""

    parts: list[list[list[Pair]]]
    records_in: int
    counters: Counter[str] = field(default_factory=Counter)
    #: (key, value) of what was left out while mapping, in order; and how many groups were.
    bad: list[Pair] = field(default_factory=list)
    bad_groups: int = 0


# ---- types, equality, order ----


def carried(value: Any) -> Any:
    """Subclasses become their base, at any depth."""
    if isinstance(value, tuple):
        return tuple(map(carried, value))
    if isinstance(value, list):
        return list(map(carried, value))
    if isinstance(value, dict):
        return {carried(key): carried(inner) for key, inner in value.items()}
    return value


def order_of(key: Any) -> tuple[Any, ...]:
    """None < numbers by value < str by UTF-8 bytes < bytes < tuples. Keys that are one are equal here."""
    if key is None:
        return (0,)
    if isinstance(key, int | float):
        return (1, key)
    if isinstance(key, str):
        return (2, key.encode("utf-8", "surrogateescape"))
    if isinstance(key, bytes):
        return (3, key)
    return (4, tuple(map(order_of, key)))


def hash_of(key: Any) -> int:
    """The stable hash: a CRC-32 for each kind, tuples mixed from what is in them."""
    if key is None:
        return 0x6E6F6E65
    if isinstance(key, int | float):
        return zlib.crc32(struct.pack("<q", hash(key)))
    if isinstance(key, str):
        return zlib.crc32(key.encode("utf-8", "surrogateescape"))
    if isinstance(key, bytes):
        return zlib.crc32(key, 0x62)
    mixed = len(key)
    for inner in key:
        mixed = (mixed * 1000003 + hash_of(inner)) % 2**32
    return mixed


# ---- what is read ----


def maps(case: Case) -> list[list[Record]]:
    """The records of each map task: a file each, and a cut file's lines by the piece where they begin."""
    made = []
    for number, file in enumerate(seeds(case)):
        records = records_of(case, number, file)
        if case.shape != "cut":
            made.append([record for _, record in records])
            continue
        size = len(data_of(case, file))
        pieces = -(-size // SPLIT_BYTES)
        ends = [size * piece // pieces for piece in range(1, pieces + 1)]
        for start, end in zip([0, *ends], ends, strict=False):
            made.append([record for at, record in records if start <= at < end])
    return made


def records_of(case: Case, number: int, file: list[int]) -> list[tuple[int, Record]]:
    """(offset, record) of a file's records as their format has them; the key of "whole" is the number."""
    data = data_of(case, file)
    if case.input == "whole":
        return [(0, (number, number, data))]
    if case.input == "records":
        return [(0, (number, seed, record_of(case, seed))) for seed in file]
    made, at = [], 0
    for line in _lines(data):
        body = line.removesuffix(b"\r\n").removesuffix(b"\n")
        if case.input == "text" or body.strip():
            made.append((at, (number, at, _value(case, body))))
        at += len(line)
    return made


def _lines(data: bytes) -> list[bytes]:
    """Lines with their ends; LF alone ends one."""
    found = [line + b"\n" for line in data.split(b"\n")]
    found[-1] = found[-1].removesuffix(b"\n")
    return found if found[-1] else found[:-1]


def _value(case: Case, body: bytes) -> Any:
    if case.map == "map_block":
        return body
    if case.input == "jsonl":
        try:
            return json.loads(body)
        except ValueError:
            return body
    return body if case.encoding == "none" else body.decode(case.encoding, "surrogateescape")


# ---- map ----


def mapped(case: Case, task: list[Record], path_of: Any, expected: Expected) -> list[Pair]:
    """The pairs of one map task, in order."""
    asked = conf(case)
    if case.map == "map_split":
        shown = [(path_of(key) if case.input == "whole" else key, value) for _, key, value in task]
        return _given(case, code.of_split(asked, shown))
    if case.map == "map_block" and case.bad not in ("map", "value", "partition"):
        block = b"\n".join(value for _, _, value in task)
        return _given(case, code.of_block(asked, block)) if task else []
    made: list[Pair] = []
    for number, key, value in task:
        broken = case.bad == "line" and isinstance(value, bytes)
        place = path_of(key) if case.input == "whole" else key
        try:
            if case.map == "map_block":
                found = list(code.of_block(asked, value))
            elif broken:
                raise code.Bad
            else:
                found = list(code.of_record(asked, place, value))
            if any(value == "no number" for _, value in found):
                raise code.Bad
            if case.bad == "partition":
                for found_key, _ in found:
                    code.refuse_key(found_key)
        except code.Bad:
            expected.bad.append((place, value))
            continue  # and counts nothing
        if case.map == "map" and case.hooks == "yes":
            expected.counters[f"in {number}"] += 1
        made += _given(case, found)
    return made


def _given(case: Case, found: Iterable[Pair]) -> list[Pair]:
    if case.gives == "nothing":
        return []
    if case.gives == "dict":
        found = dict(found).items()
    return [(carried(key), carried(value)) for key, value in found]


# ---- reduce ----


def reduced(case: Case, key: Any, values: list[Any]) -> list[Pair]:
    """The records of one group."""
    if case.sort_values == "yes":
        values = sorted(values, key=order_of)
    if case.reduce in ("generator", "list", "iterator", "pair", "refilled", "values", "early", "unread"):
        return _by_user(case, key, values)
    results: dict[str, Any] = {
        "nothing": list,
        "identity": lambda: values,
        "collect": lambda: [values],
        "count": lambda: [len(values)],
        "sum": lambda: [_sum(values)],
        "mean": lambda: [float(Fraction(_exact(values)) / len(values))],
        "min": lambda: [min(values, key=order_of)],
        "max": lambda: [max(values, key=order_of)],
        "top": lambda: sorted(values, key=order_of, reverse=True)[:TOP],
        "bottom": lambda: sorted(values, key=order_of)[:TOP],
        "top_key": lambda: sorted(values, key=code.weight, reverse=True)[:TOP],
        "bottom_key": lambda: sorted(values, key=code.weight)[:TOP],
    }
    return [(key, value) for value in results[case.reduce.removesuffix("_named")]()]


def _by_user(case: Case, key: Any, values: list[Any]) -> list[Pair]:
    values = values if case.combine == "none" else [code.fold(values)]
    made: list[Pair] = []
    for at, value in enumerate(values):
        if case.reduce == "generator":
            made.append((key, [at, value] if case.combine == "none" else value))
        elif case.reduce == "iterator":
            made.append((key, ["tagged", value] if case.combine == "none" else value))
        elif case.reduce == "refilled":
            made.append((key, [value]))
        else:
            made.append((key, value))
        if case.reduce == "pair":
            made.append((("other", key), value))
    if case.reduce == "early":
        return made[:1]
    return [(key, "unread")] if case.reduce == "unread" else made


def _exact(values: list[Any]) -> Fraction:
    return sum(map(Fraction, values), Fraction(0))


def _sum(values: list[Any]) -> Any:
    return float(_exact(values)) if any(isinstance(value, float) for value in values) else sum(values)


# ---- the whole job ----


def expect(case: Case, inputs: list[str], tasks: list[list[Record]] | None = None) -> Expected:
    """Everything that can be told about the job's result; `tasks` where they aren't of its files."""
    tasks = maps(case) if tasks is None else tasks
    expected = Expected(parts=[], records_in=sum(map(len, tasks)))
    if case.map == "map_block" and case.input == "jsonl":
        expected.records_in = sum(data_of(case, file).count(b"\n") for file in seeds(case))
    outputs = [
        mapped(case, task, lambda key: key if inputs == [] else inputs[key], expected) for task in tasks
    ]
    runs = len(tasks)
    if case.reduce == "none":
        expected.parts = [[[pair] for pair in output] for output in outputs]
    else:
        runs += int(case.reducers)
        expected.parts = [[] for _ in range(1 if case.order == "total" else int(case.reducers))]
        groups: dict[Any, tuple[Any, list[Any]]] = {}
        for key, value in (pair for output in outputs for pair in output):
            groups.setdefault(order_of(key), (key, []))[1].append(value)
        for order in sorted(groups):
            key, values = groups[order]
            try:
                if case.bad == "reduce":
                    code.refuse_key(key)
            except code.Bad:
                expected.bad_groups += 1
                continue
            expected.counters["groups"] += 1
            expected.parts[_part(case, key)].append(reduced(case, key, values))
        if case.reduce in BUILT_IN:
            del expected.counters["groups"]
    if case.hooks == "yes":
        expected.counters["setup"] = expected.counters["teardown"] = runs
    expected.counters = Counter(
        {
            f"in {Path(inputs[int(name[3:])]).name}" if inputs and name.startswith("in ") else name: count
            for name, count in expected.counters.items()
            if count
        }
    )
    return expected


def _part(case: Case, key: Any) -> int:
    if case.order == "total":
        return 0
    n = int(case.reducers)
    return code.part_of(key, n) if case.partition == "yes" else hash_of(key) % 16777213 % n


# ---- the text formats ----


def written(form: str, pairs: Iterable[Pair]) -> bytes:
    """A part's bytes in `text`, `lines` or `jsonl`, before compression."""
    lines = []
    for key, value in pairs:
        if form == "jsonl":
            text = f'{{"key": {_json(key, True)}, "value": {_json(value, True)}}}'
            lines.append(_escaped(text))
        elif form == "lines" or key is None:
            lines.append(_text(value))
        else:
            lines.append(_text(key) if value is None else _text(key) + b"\t" + _text(value))
    return b"".join(line + b"\n" for line in lines)


def _escaped(text: str) -> bytes:
    return "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text).encode()


def _text(value: Any) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    text = value if isinstance(value, str) else _json(value, False)
    return text.encode("utf-8", "surrogateescape")


def _json(value: Any, strict: bool) -> str:
    """Compact JSON; numbers without a place in JSON as Python's json has them, or as repr has them."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, float) and not strict and not math.isfinite(value):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(_json(inner, strict) for inner in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{_json(k, strict)}:{_json(v, strict)}" for k, v in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
