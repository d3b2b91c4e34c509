"""Executors stay within their memory, whatever the data: real jobs through the command line, scaled down.

The budget is the least there is, 16 MiB, and 80 MiB beside it are the engine's; data here is several times
that. `benchmarks/memory_bound.py` does the same at full size, on more shapes.
"""

import pytest
from cli_runs import Runs

MEMORY = 16 << 20
BASE = 80 << 20
RECORD_COPIES = 4

HEAD = """
import mrq

class Shape(mrq.Job{settings}):
    def map(self, key, line):
        at = int(line) * 1000
        for i in range(at, at + 1000):
            yield {pair}
{reduce}
"""
STREAM = """
    def reduce(self, key, values):
        yield sum(1 for _ in values)
"""
ORDERED = """
    def reduce(self, key, values):
        last = -1
        for count, value in enumerate(values, 1):
            assert last <= value
            last = value
        yield count
"""
COMBINED = """
    def combine(self, key, values):
        yield sum(values)

    def reduce(self, key, values):
        yield sum(values)
"""
SCATTERED = "(i * 2654435761 & 0xffffffff)"


@pytest.fixture
def shell(tmp_path):
    return Runs(tmp_path)


def peak(shell, *argv):
    """The peak of a job that went well, and its summary."""
    ran = shell.submit("shape.py", "in.txt", "-o", "out", "--json", "-q", "-j", "1", "--memory", "16M", *argv)
    assert ran.code == 0, ran.err
    return ran.json["summary"]["peak_rss_bytes"], ran.json["summary"]


def write(shell, pairs, pair, reduce, settings=""):
    shell.write("shape.py", HEAD.format(pair=pair, reduce=reduce, settings=settings))
    shell.write("in.txt", "".join(f"{n}\n" for n in range(pairs // 1000)))


@pytest.mark.parametrize(
    ("pairs", "pair", "reduce", "settings", "out"),
    [
        (1_000_000, f"'k', str({SCATTERED})", STREAM, "", 1),
        (500_000, f"'k', {SCATTERED}", ORDERED, ", sort_values=True", 1),
        (400_000, f"str({SCATTERED}), 1", "    reduce = mrq.sum", "", 400_000),
        (400_000, f"str({SCATTERED}), 1", STREAM, "", 400_000),
        (400_000, f"str({SCATTERED}), 1", COMBINED, "", 400_000),
        (600_000, f"{SCATTERED}, 'x' * 200 + str(i)", "    reduce = mrq.identity", "", 600_000),
        (200_000, f"({SCATTERED}, str(i)), i", STREAM, "", 200_000),
        (300_000, f"({SCATTERED} if i % 2 else str(i), 'é'), i", STREAM, "", 300_000),
        (250_000, "i, {'id': i, 'name': f'name {i}', 'at': [i / 3, None]}", STREAM, "", 250_000),
    ],
    ids=[
        "one key",
        "one key, its values sorted",
        "distinct keys, folded",
        "distinct keys",
        "distinct keys, combined",
        "a partition ten times the memory",
        "tuple keys",
        "mixed tuple keys",
        "dicts",
    ],
)
def test_the_data_does_not_show_in_memory(shell, pairs, pair, reduce, settings, out):
    write(shell, pairs, pair, reduce, settings)
    found, summary = peak(shell, "-R", "1")
    assert summary["records_out"] == out
    assert summary["spills"] > 1
    assert 0 < found <= MEMORY + BASE


def test_more_map_outputs_than_descriptors(shell):
    import resource

    write(shell, 120_000, f"str({SCATTERED}), 1", STREAM)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Children inherit it; our own open files stay open.
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        found, summary = peak(shell, "-R", "1", "--split-size", "4")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert summary["maps"] > 64
    assert summary["records_out"] == 120_000
    assert 0 < found <= MEMORY + BASE


RECORD = 30_000_000


@pytest.mark.parametrize(
    ("body", "out"),
    [
        (
            "    def map(self, key, line):\n        yield 'k', line\n"
            "    def reduce(self, key, values):\n        yield sum(map(len, values))\n",
            b"k\t%d\n" % RECORD,
        ),
        ("    def map(self, key, line):\n        yield None, line\n", None),
        (
            "    def map(self, key, line):\n        for i in range(0, len(line), 10):\n"
            "            yield line[i : i + 9], 1\n    reduce = mrq.sum\n",
            b"123456789\t%d\n" % (RECORD // 10),
        ),
    ],
    ids=["as a value", "map-only", "as words"],
)
def test_one_huge_line(shell, body, out):
    shell.write("shape.py", f"import mrq\nclass Shape(mrq.Job):\n{body}")
    line = b"123456789 " * (RECORD // 10)
    shell.write("in.txt", line)
    found, _ = peak(shell, *(("-R", "1") if "reduce" in body else ()))
    assert shell.result()["part-00000"] == (line + b"\n" if out is None else out)
    assert 0 < found <= MEMORY + BASE + RECORD_COPIES * RECORD
