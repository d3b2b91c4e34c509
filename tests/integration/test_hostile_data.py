"""Hostile data through the command line: either it comes out as it went in, or one sentence says why not."""

import bz2
import gzip
import lzma
import math

import pytest
from cli_runs import Runs

from mrq.io.output import output_format

#: Lines are Python expressions of pairs; what they stand for goes through the whole engine.
JOBS = """
import mrq

class Pairs(mrq.Job):
    def map(self, key, line):
        yield eval(line)
    def reduce(self, key, values):
        yield from values

class Total(Pairs, order="total"):
    pass

class Summed(Pairs):
    reduce = mrq.sum

class MapOnly(mrq.Job):
    def map(self, key, line):
        yield eval(line)

class Emitting(mrq.Job):
    def map(self, key, line):
        yield 1, line
    def reduce(self, key, values):
        for value in values:
            yield mrq.Pair(*eval(value))

class Same(mrq.Job):
    def map(self, key, line):
        yield None, line

class ByLine(mrq.Job):
    reduce = mrq.identity
    def map(self, key, line):
        yield line, None

class AsBytes(ByLine, encoding=None):
    pass

class Nothing(mrq.Job):
    def map(self, key, line):
        return
        yield

class NothingToReduce(Nothing):
    def reduce(self, key, values):
        yield 1

class NothingToSum(Nothing):
    reduce = mrq.sum
"""

#: In key order; no two keys are equal but the three spellings of 1.
ODD = [
    (None, None),
    (-(2**200), -1),
    (-0.0, 0.0),
    (True, 1),
    (1, 2),
    (1.0, 3),
    (2**63, 0),
    (2**64, 2**200),
    (1e308, -math.inf),
    (math.inf, math.nan),
    ("", ""),
    ("caf\udce9", "\udcff"),
    ("new\nline", "a\tb"),
    ("nul\0", "\0"),
    ("tab\tin\tkey", "v\nw"),
    ("z" * 70_000, {"k": [None, True, 1.5]}),
    ("é漢😀", "é漢😀"),
    (b"by\xff\tes\n", b"\x00\xff"),
    ((), ()),
    ((1, ("a", None, b"z")), [1, {"a": (1, 2)}, {3: 4}, {(1, None): b""}]),
]


@pytest.fixture
def shell(tmp_path):
    made = Runs(tmp_path)
    made.write("odd.py", JOBS)
    return made


def submit(shell, job, *argv):
    ran = shell.submit(f"odd.py:{job}", *argv, "-o", "out", "-q", "-j", "1")
    assert ran.code == 0, ran.err
    assert ran.err == ""
    return shell.result()


def shown(pairs):
    """Every pair with the spelling of its parts, which tells 1, 1.0 and True apart; NaN is like itself."""
    return [(repr(key), repr(value)) for key, value in pairs]


def records(shell):
    parts = sorted((shell.folder / "out").glob("part-*"))
    return [pair for part in parts for pair in output_format("records").read(str(part))]


# --- what comes out as it went in


@pytest.mark.parametrize("argv", [("-R", "1"), ("-R", "3"), ("--split-size", "64", "-R", "1")])
def test_records_are_faithful(shell, argv):
    shell.write(
        "in.txt", "".join(f"{pair!r}\n".replace("inf", "math.inf").replace("nan", "math.nan") for pair in ODD)
    )
    shell.write("odd.py", "import math\n" + JOBS)
    submit(shell, "Pairs", "in.txt", "--output-format", "records", *argv)
    # Equal keys are shown as the first of them.
    expected = shown((True if key == 1 else key, value) for key, value in ODD)
    found = shown(records(shell))
    assert (found if "1" in argv else sorted(found)) == (expected if "1" in argv else sorted(expected))


def test_a_total_order_of_mixed_keys(shell):
    pairs = [pair for pair in ODD if pair[0] not in (math.inf, 1)]
    shell.write(
        "in.txt", "".join(f"{key!r}, {number}\n" for number, (key, _) in reversed(list(enumerate(pairs))))
    )
    submit(shell, "Total", "in.txt", "--output-format", "records", "-R", "4", "--split-size", "64")
    assert [value for _, value in records(shell)] == list(range(len(pairs)))


def test_text_keeps_tabs_newlines_and_bytes(shell):
    pairs = [("a\tb", "v\nw"), ("é\udcff", "\0"), (b"\xfe\t", b"\n"), ("k", 2**64)]
    shell.write("in.txt", "".join(f"{pair!r}\n" for pair in pairs))
    expected = b"a\tb\tv\nw\n" + b"k\t18446744073709551616\n" + b"\xc3\xa9\xff\t\0\n" + b"\xfe\t\t\n\n"
    assert submit(shell, "Pairs", "in.txt", "-R", "1") == {"part-00000": expected}


def test_jsonl_keeps_tabs_and_newlines(shell):
    import json

    pairs = [("a\tb", "v\nw\u2028"), ("k\r", {"x\n": [2**64, None]})]
    shell.write("in.txt", "".join(f"{pair!r}\n" for pair in pairs))
    (part,) = submit(shell, "Pairs", "in.txt", "-R", "1", "--output-format", "jsonl").values()
    assert [tuple(json.loads(line).values()) for line in part.decode().split("\n")[:-1]] == pairs


@pytest.mark.parametrize("job", ["ByLine", "AsBytes"])
def test_lines_that_are_not_utf8_come_out_sorted_and_unchanged(shell, job):
    # Shift-JIS, Latin-1, UTF-16, a lone CR, NULs, overlong and cut sequences.
    lines = [
        "日本".encode("shift-jis"),
        b"caf\xe9",
        "a".encode("utf-16"),
        b"a\rb",
        b"\0",
        b"\xc0\xaf",
        b"\xe6\x97",
    ]
    lines += [bytes([n, n]) for n in range(256) if n not in b"\n\r"]
    shell.write("in.txt", b"\n".join(lines))
    found = submit(shell, job, "in.txt", "-R", "1", "--split-size", "100")
    assert found == {"part-00000": b"".join(line + b"\n" for line in sorted(lines))}


def test_sums_of_ints_of_any_size(shell):
    numbers = [2**63 - 1, 2**63 - 1, -(2**64), 10**5000, -3, 0]
    shell.write("in.txt", "".join(f"'k', {'10**5000' if n > 2**70 else n}\n" for n in numbers))
    submit(shell, "Summed", "in.txt", "--output-format", "records")
    assert records(shell) == [("k", sum(numbers))]


@pytest.mark.parametrize("job", ["Nothing", "NothingToReduce", "NothingToSum"])
@pytest.mark.parametrize("form", ["text", "records"])
def test_a_map_that_yields_nothing(shell, job, form):
    shell.write("in.txt", "a\nb\n")
    found = submit(shell, job, "in.txt", "--output-format", form)
    assert found
    assert records(shell) == [] if form == "records" else set(found.values()) == {b""}


# --- compressed inputs


def zst(data):
    import zstandard

    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


COMPRESS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zst}
DATA = b"".join(b"line %d caf\xe9 \xff\x00 x\n" % number for number in range(5000))


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_files_are_read(shell, suffix):
    half = len(DATA) // 2
    members = COMPRESS[suffix](DATA[:half]) + COMPRESS[suffix](DATA[half:])
    shell.write(f"in.{suffix}", members)
    assert submit(shell, "Same", f"in.{suffix}", "--split-size", "1000") == {"part-00000": DATA}


def cut(data):
    return data[: len(data) // 2]


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize(
    "damage", [cut, flipped, lambda data: data + b"junk", lambda data: b"no such format"]
)
def test_damaged_compressed_files_fail_by_name(shell, suffix, damage):
    shell.write(f"in.{suffix}", damage(COMPRESS[suffix](DATA)))
    fails(shell, "Same", f"in.{suffix}", words=[f"in.{suffix}", suffix])


# --- what is refused


def fails(shell, job, *argv, words):
    ran = shell.submit(f"odd.py:{job}", *argv, "-o", "out", "-q", "-j", "1")
    assert ran.code == 1, ran.err
    first = ran.err.splitlines()[0]
    assert first.startswith("error: ")
    for word in words:
        assert word in first
    assert "bug in mrq" not in ran.err
    assert "mrq/" not in ran.err.replace(str(shell.temp), "")  # no frames of the engine
    assert "msgpack" not in ran.err
    assert not (shell.folder / "out").exists()
    return ran.err


DEEP = "__import__('functools').reduce(lambda inner, _: {}, range(3000), 1)"


@pytest.mark.parametrize("job", ["Pairs", "Summed", "Total", "MapOnly", "Emitting"])
@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("float('nan')", ["NaN"]),
        ("('a', (float('nan'),))", ["NaN"]),
        ("[1]", ["list", "tuple(x)"]),
        ("{1: 2}", ["dict", "tuple(sorted(x.items()))"]),
        ("__import__('datetime').date(2026, 1, 2)", ["date", "isoformat"]),
        ("object()", ["object"]),
        (DEEP.format("(inner,)"), ["nested"]),
    ],
)
def test_keys_that_cannot_be_carried_are_named(shell, job, key, words):
    shell.write("in.txt", f"{key}, 1\n")
    fails(shell, job, "in.txt", words=words)


@pytest.mark.parametrize("job", ["Pairs", "MapOnly", "Emitting"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{1, 2}", ["set"]),
        ("{'deep': [{'deeper': {1}}]}", ["set"]),
        ("__import__('decimal').Decimal('1.5')", ["Decimal", "str"]),
        ("lambda: 1", ["function"]),
        ("'\\ud800'", ["surrogate", "U+D800"]),
        (DEEP.format("[inner]"), ["nested"]),
    ],
)
def test_values_that_cannot_be_carried_are_named(shell, job, value, words):
    shell.write("in.txt", f"1, {value}\n")
    fails(shell, job, "in.txt", "--output-format", "records", words=words)


def test_the_record_of_a_refused_key_is_shown(shell):
    shell.write("in.txt", "'fine', 1\n" * 5000 + "float('nan'), 1\n" + "'fine', 1\n" * 5000)
    told = fails(shell, "Pairs", "in.txt", words=["NaN"])
    assert "in.txt at byte 50,000" in told
