"""--skip-bad-records with all that it may meet: two attempts a task, and only what is bad is left out."""

import json

import pytest
from cli_runs import Runs

HEAD = """
import os, sys
import mrq

class J(mrq.Job%s):
    marks: str

    def setup(self):
        with open(os.path.join(self.marks, f"{self.task.id}.{self.task.attempt}"), "w"):
            pass
"""

MAP = """
    def map(self, key, line):
        word, _, value = line.partition(" ")
        yield word if word != "unkeyed" else [word], eval(value)
"""

PARTITION = """
    def partition(self, key, n):
        return next(i for i in range(n) if key < "zz")
"""

COMBINE = """
    def combine(self, key, values):
        yield sum(values)

    def reduce(self, key, values):
        yield sum(values)
"""

GOOD = [f"w{n % 7} {n}" for n in range(200)]
KINDS = {
    "map raises": ("", MAP + "    reduce = mrq.collect\n", ["w1 oops", "w2 1/0"]),
    "no key": ("", MAP + "    reduce = mrq.sum\n", ["unkeyed 1"]),
    "no number": ("", MAP + "    reduce = mrq.sum\n", ["w1 'x'", "w2 []"]),
    "no place": ("", MAP + PARTITION + "    reduce = mrq.sum\n", ["zzz 1", "zzz 2"]),
    "total order": (", order='total'", MAP + "    reduce = mrq.identity\n", ["unkeyed 1", "w2 1/0"]),
    "total order of sums": (", order='total'", MAP + "    reduce = mrq.sum\n", ["unkeyed 1", "w2 'x'"]),
    "combine": ("", MAP + PARTITION + COMBINE, ["zzz 1", "unkeyed 1"]),
    "sort_values": (
        ", sort_values=True",
        MAP + PARTITION + "    reduce = mrq.identity\n",
        ["zzz 1", "w1 {1}"],
    ),
    "no order": (
        ", sort_values=True",
        MAP + PARTITION + "    reduce = mrq.collect\n",
        ["w1 {}", "w2 [1]", "w3 float('nan')"],
    ),
    "map-only": (", output_format='jsonl'", MAP, ["unkeyed 1", "w1 {1}", "w1 1/0"]),
}


@pytest.fixture
def shell(tmp_path):
    return Runs(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_bad_is_left_out_in_two_attempts(shell, kind):
    keywords, body, bad = KINDS[kind]
    shell.write("j.py", HEAD % keywords + body)
    shell.write("good.txt", "\n".join(GOOD) + "\n")
    mixed = list(GOOD)
    for index, line in enumerate(bad):
        mixed.insert(index * 60 + 30, line)
    shell.write("mixed.txt", "\n".join(mixed) + "\n")
    reducers = () if kind == "map-only" else ("-R", "3")
    marks = f"marks={shell.marks}"
    ran = shell.submit("j.py", "good.txt", "-o", "good", *reducers, "--set", marks, "-q")
    assert ran.code == 0, ran.err
    for mark in shell.marks.iterdir():
        mark.unlink()
    refused = shell.submit("j.py", "mixed.txt", "-o", "no", *reducers, "--set", marks)
    assert refused.code == 1
    for line in bad:
        assert line in refused.err or "mixed.txt" in refused.err
    for mark in shell.marks.iterdir():
        mark.unlink()
    ran = shell.submit("j.py", "mixed.txt", "-o", "out", *reducers, "--set", marks, "--skip-bad-records", "3")
    assert ran.code == 0, ran.err
    found = shell.result()
    parts = {name: data for name, data in found.items() if name.startswith("part-")}
    if kind == "combine":  # floats and ints alike: what was combined is what wasn't
        assert sorted(b"".join(parts.values()).split()) == sorted(
            b"".join(shell.result("good").values()).split()
        )
    elif kind.startswith("total"):
        assert b"".join(parts[name] for name in sorted(parts)) == b"".join(
            data for _, data in sorted(shell.result("good").items())
        )
    else:
        assert parts == shell.result("good")
    kept = [json.loads(row) for name in found if name.endswith(".jsonl") and "_bad" in name
            for row in found[name].splitlines()]  # fmt: skip
    assert sorted(row["value"] for row in kept) == sorted(bad)
    assert f"{len(bad)} record" in ran.err
    attempts = [mark.name for mark in shell.marks.iterdir()]
    assert max(int(name.rsplit(".", 1)[1]) for name in attempts) <= 2


def test_a_retry_leaves_out_what_cannot_be_sorted(shell):
    head = "import mrq\nclass J(mrq.Job, sort_values=True):\n"
    shell.write("j.py", head + MAP + "    reduce = mrq.identity\n")
    shell.write("in.txt", "a 2\nb 1\nb {}\na 1\n")
    failed = shell.submit("j.py", "in.txt", "-o", "out")
    assert failed.code == 1
    assert "sort_values can't order the values of the key 'b'" in failed.err
    assert "record  'b {}'" in failed.err
    assert "where   in.txt at byte 8" in failed.err
    job = failed.err.split("mrq retry ")[1].split()[0]
    ran = shell.run("retry", job, "--skip-bad-records", "1")
    assert ran.code == 0, ran.err
    assert shell.result()["part-00000"] == b"a\t1\na\t2\nb\t1\n"


def test_map_split_with_the_setting_is_refused_at_submit(shell):
    shell.write(
        "j.py", "import mrq\nclass J(mrq.Job):\n    def map_split(self, records):\n        yield 1, 2\n"
    )
    shell.write("in.txt", "x\n")
    ran = shell.submit("j.py", "in.txt", "-o", "out", "--skip-bad-records", "1")
    assert ran.code == 2
    assert "j.py:3: J has map_split, which reads its records by itself" in ran.err
    assert shell.submit("j.py", "in.txt", "-o", "out").code == 0


def test_one_too_many_names_the_last_one(shell):
    shell.write("j.py", HEAD % "" + MAP)
    shell.write("in.txt", "a 1\nb oops\nc 1/0\n")
    ran = shell.submit(
        "j.py", "in.txt", "-o", "out", "--set", f"marks={shell.marks}", "--skip-bad-records", "1"
    )
    assert ran.code == 1
    assert "more than the 1 bad records" in ran.err
    assert "where   in.txt at byte 11" in ran.err
