"""The source of each case's job, as a user would write it, and the files that it reads."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grid_code as code
import zstandard
from grid_cases import SKIPS, USERS, Case

from mrq.io.output import output_format

PACK = {
    "none": lambda data: data,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.compress,
}
#: Cuts the file of the shape "cut", and keeps every other file a map of its own.
SPLIT_BYTES = 20_000
#: How many records each file has.
SHAPES = {
    "files": (40, 37, 1, 44),
    "cut": (2_600,),
    "some empty": (0, 30, 0, 25, 0),
    "empty": (0,),
    "single": (1,),
}
TOP = 3
_HEAD = '''"""Jobs that were written by the grid."""

import os

import grid_code as code
import mrq

'''
_BUILT_IN = {
    "top": f"mrq.top({TOP})",
    "bottom": f"mrq.bottom({TOP})",
    "top_key": f"mrq.top({TOP}, key=code.weight)",
    "bottom_key": f"mrq.bottom({TOP}, key=code.weight)",
    "top_named": 'mrq.top("n")',
}


def conf(case: Case) -> code.Conf:
    return code.Conf(form=case.input, keys=case.keys, values=case.values, bad=case.bad)


def settings(case: Case) -> dict[str, Any]:
    """What the case asks for, but for its memory, by the names that class and call share."""
    made: dict[str, Any] = {
        "sort_values": case.sort_values == "yes",
        "order": "total" if case.order == "total" else None,
        "input_format": case.input,
        "output_format": case.output,
        "compression": None if case.compression == "none" else case.compression,
        "encoding": None if case.encoding == "none" else case.encoding,
        "split_size": SPLIT_BYTES,
        "skip_bad_records": 10_000 if case.bad in SKIPS else 0,
        "reducers": None if case.reduce == "none" and case.reducers == "1" else int(case.reducers),
    }
    defaults = {
        "sort_values": False,
        "order": None,
        "compression": None,
        "encoding": "utf-8",
        "reducers": None,
    }
    return {name: value for name, value in made.items() if value != defaults.get(name, 0)}


def source(cases: Sequence[Case]) -> str:
    """A module with the job of each case."""
    return _HEAD + "\n\n".join(map(_class, cases))


def _class(case: Case) -> str:
    given = settings(case) if case.given == "keywords" else {}
    keywords = "".join(f", {name}={value!r}" for name, value in given.items())
    lines = [f"class {case.name}(mrq.Job{keywords}):", f'    """{case}"""', ""]
    lines += [f"    conf = code.{conf(case)!r}"]
    if case.reduce == "top_named":
        lines += [f"    n: int = {TOP}"]
    if case.hooks == "yes":
        lines += _method("setup(self)", 'self.counters["setup"] += 1')
        lines += _method("teardown(self)", 'self.counters["teardown"] += 1')
    lines += _map(case)
    if case.combine != "none":
        lines += _method("combine(self, key, values)", *_COMBINE[case.combine])
    if case.partition == "yes":
        refuse = ["code.refuse_key(key)"] if case.bad == "partition" else []
        lines += _method("partition(self, key, n)", *refuse, "return code.part_of(key, n)")
    lines += _reduce(case)
    return "\n".join(lines) + "\n"


def _method(signature: str, *body: str) -> list[str]:
    return ["", f"    def {signature}:", *(f"        {line}" for line in body)]


_COMBINE = {
    "generator": ("yield code.fold(values)",),
    "list": ("return [code.fold(values)]",),
    "refilled": ("total = code.fold(values)[:]", "yield total", "total.clear()"),
}


def _map(case: Case) -> list[str]:
    found, signature = {
        "map": ("code.of_record(self.conf, key, value)", "map(self, key, value)"),
        "map_split": ("code.of_split(self.conf, records)", "map_split(self, records)"),
        "map_block": ("code.of_block(self.conf, block)", "map_block(self, block)"),
    }[case.map]
    body = {
        "generator": [f"for key, value in {found}:", "    yield key, value"],
        "list": [f"return list({found})"],
        "iterator": [f"return iter({found})"],
        "dict": [f"return dict({found})"],
        "nothing": [f"for _ in {found}:", "    pass"],
        "refilled": [
            "row, table = [], {}",
            f"for key, value in {found}:",
            "    buffer = row if isinstance(value, list) else table",
            "    buffer.clear()",
            "    row.extend(value) if buffer is row else table.update(value)",
            "    yield key, buffer",
            "row.append('changed')",
            "table['changed'] = True",
        ],
    }[case.gives]
    if case.hooks == "yes" and case.map == "map":
        body = ['self.counters["in " + os.path.basename(self.task.path)] += 1', *body]
    return _method(signature, *body)


_USERS = {
    "generator": ("for at, value in enumerate(values):", "    yield [at, value]"),
    "list": ("return list(values)",),
    "values": ("return values",),
    "iterator": ("return map(code.tagged, values)",),
    "pair": ("for value in values:", "    yield value", '    yield mrq.Pair(("other", key), value)'),
    "early": ("for value in values:", "    yield value", "    return"),
    "unread": ('yield "unread"',),
    "nothing": ("for value in values:", "    pass"),
    "refilled": ("row = []", "for value in values:", "    row[:] = [value]", "    yield row", "row.clear()"),
}
#: Where a combine may have been there before: the fold of all values.
_FOLDED = {
    **_USERS,
    "generator": ("yield code.fold(values)",),
    "list": ("return [code.fold(values)]",),
    "iterator": ("return iter([code.fold(values)])",),
    "pair": ("total = code.fold(values)", "yield total", 'yield mrq.Pair(("other", key), total)'),
    "refilled": ("row = [code.fold(values)]", "yield row", "row.clear()"),
}


def _reduce(case: Case) -> list[str]:
    if case.reduce == "none":
        return []
    if case.reduce not in USERS:
        return ["", f"    reduce = {_BUILT_IN.get(case.reduce, f'mrq.{case.reduce}')}"]
    body = (_USERS if case.combine == "none" else _FOLDED)[case.reduce]
    refuse = ["code.refuse_key(key)"] if case.bad == "reduce" else []
    return _method("reduce(self, key, values)", *refuse, 'self.counters["groups"] += 1', *body)


def write_module(folder: Path, name: str, cases: Sequence[Case]) -> Path:
    """The module, with the user's own beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(code.__file__, folder)
    path = folder / f"{name}.py"
    path.write_text(source(cases))
    return path


def seeds(case: Case) -> list[list[int]]:
    """The records of each file: numbers that say everything else about them."""
    made, at = [], 3 if case.shape == "single" else 0  # record 0 has no pair
    for count in SHAPES[case.shape]:
        made.append(list(range(at, at + count)))
        at += count
    return made


def rest_of(case: Case, seed: int) -> bytes:
    rest = code.RESTS[seed % len(code.RESTS)]
    return rest.decode("utf-8", "replace").encode() if case.input == "jsonl" else rest


def record_of(case: Case, seed: int) -> tuple[int, str]:
    """The value of a record of `records`."""
    return seed, rest_of(case, seed).decode("utf-8", "surrogateescape")


def data_of(case: Case, file: list[int]) -> bytes:
    """A file's bytes, packed or not: lines with both ends, blank ones among those of JSON."""
    lines: list[bytes] = []
    for seed in file:
        rest = rest_of(case, seed)
        if case.input == "jsonl":
            row = json.dumps({"n": seed, "rest": rest.decode()}, ensure_ascii=seed % 2 == 0).encode()
            lines.append(b"{oops\n" if case.bad == "line" and code.is_bad(seed) else row + b"\n")
            if seed % 5 == 0:
                lines.append(b" \n" if seed % 2 else b"\n")
        else:
            lines.append(b"%d %s" % (seed, rest) + (b"\r\n" if seed % 3 == 0 else b"\n"))
    data = b"".join(lines)
    return data.removesuffix(b"\n") if len(file) % 2 and case.input != "jsonl" else data


def suffix(case: Case) -> str:
    return "" if case.packed == "none" else f".{case.packed}"


def write_inputs(case: Case, folder: Path) -> list[str]:
    """The case's files, in the order in which they are read."""
    folder.mkdir(parents=True)
    made = []
    for number, file in enumerate(seeds(case)):
        path = folder / f"in-{number}{suffix(case)}"
        if case.input == "records":
            writer = output_format("records", None if case.packed == "none" else case.packed).open(str(path))
            writer.write(
                file, [(seed, rest_of(case, seed).decode("utf-8", "surrogateescape")) for seed in file]
            )
            writer.close()
        else:
            path.write_bytes(PACK[case.packed](data_of(case, file)))
        made.append(str(path))
    return made
