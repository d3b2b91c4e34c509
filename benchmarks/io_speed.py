"""Time per line of reading text, and per record of writing and reading parts, on one core.

python benchmarks/io_speed.py [megabytes]
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from mrq.core.splits import plan
from mrq.io import inputs
from mrq.io.formats import input_format
from mrq.io.output import output_format


def best(work: Callable[[], int], rounds: int = 3) -> float:
    """Nanoseconds per item of the fastest round; `work` says how many items."""
    found = []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        items = work()
        found.append((time.perf_counter_ns() - began) / items)
    return min(found)


def make(path: str, megabytes: int, words: Sequence[str], end: str) -> None:
    rng = random.Random(7)
    with open(path, "w", encoding="utf-8", newline="") as file:
        size = 0
        while size < megabytes << 20:
            line = " ".join(rng.choices(words, k=rng.randint(1, 12))) + end
            size += len(line.encode())
            file.write(line)


def reading(folder: str, megabytes: int) -> None:
    ascii_words = ["the", "of", "and", "function", "return", "x", "_private_name", "0x7f"]
    for name, words, end in (
        ("ASCII, LF", ascii_words, "\n"),
        ("ASCII, CRLF", ascii_words, "\r\n"),
        ("UTF-8, LF", [*ascii_words, "größe", "naïve", "東京"], "\n"),
    ):
        path = os.path.join(folder, "text")
        make(path, megabytes, words, end)
        splits = plan(inputs.find([path]))

        def values(splits: Any = splits) -> int:
            return sum(len(b.values) for s in splits for b in input_format("text").read(s))

        def both(splits: Any = splits) -> int:
            return sum(
                len(list(zip(b.values, b.keys, strict=True)))
                for s in splits
                for b in input_format("text").read(s)
            )

        def data(splits: Any = splits) -> int:
            return sum(b.data.count(b"\n") for s in splits for b in input_format("text").read(s))

        print(f"read text   {name:<12} values {best(values):6.0f} ns/line")
        print(f"read text   {name:<12} keys and values {best(both):6.0f} ns/line")
        print(f"read text   {name:<12} data only {best(data):6.0f} ns/line")


def writing(folder: str, records: int) -> None:
    strings = [f"word{i * 7919 % 1000003}" for i in range(records)]
    ints = list(range(records))
    raws = [s.encode() for s in strings]
    shapes: list[tuple[str, str, Sequence[Any], Sequence[Any]]] = [
        ("text", "str, int", strings, ints),
        ("text", "str, str", strings, strings),
        ("text", "str, None", strings, [None] * records),
        ("text", "bytes, bytes", raws, raws),
        ("text", "int, float", ints, [i / 7 for i in ints]),
        ("text", "str, list", strings, [[s, i] for s, i in zip(strings, ints, strict=True)]),
        ("lines", "-, str", strings, strings),
        ("jsonl", "str, int", strings, ints),
        ("records", "str, int", strings, ints),
    ]
    for name, shape, keys, values in shapes:
        form = output_format(name)
        path = os.path.join(folder, "part")

        def write(form: Any = form, keys: Any = keys, values: Any = values, path: str = path) -> int:
            if os.path.exists(path):
                os.unlink(path)
            writer = form.open(path)
            for at in range(0, records, 4096):
                writer.write(keys[at : at + 4096], values[at : at + 4096])
            return int(writer.close().records)

        def read(form: Any = form, path: str = path) -> int:
            return sum(1 for _ in form.read(path))

        print(f"write {name:<8} {shape:<14} {best(write):6.0f} ns/record, read back {best(read):6.0f}")
        os.unlink(path)


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    with tempfile.TemporaryDirectory() as folder:
        reading(folder, megabytes)
        writing(folder, megabytes * 15_000)


if __name__ == "__main__":
    main()
