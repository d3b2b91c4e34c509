"""Inputs that aren't text, as users give them: refused with the command that mends it, or read so."""

import gzip
import os

import pytest
from cli_runs import Runs

UTF16 = "a b\nb\n".encode("utf-16")


@pytest.fixture
def shell(tmp_path):
    return Runs(tmp_path)


def refused(shell, *argv, code, stdin=None):
    ran = shell.submit("wc.py", *argv, "-o", "out", stdin=stdin)
    assert ran.code == code, ran.err
    assert "byte order mark" in ran.err
    assert "iconv -f UTF-16 -t UTF-8" in ran.err
    assert "Traceback" not in ran.err
    assert not (shell.folder / "out").exists()


def test_standard_input_is_looked_at(shell):
    refused(shell, "-", code=1, stdin=UTF16)  # by the task that reads it
    refused(shell, "-", "--split-size", "5", code=2, stdin=UTF16)  # before it is cut
    packed = gzip.compress(b"a b\nb\n" + os.urandom(2000).hex().encode() + b"\n")
    for more in ([], ["--split-size", "100"]):
        ran = shell.submit("wc.py", "-", "-o", "-", *more, stdin=packed)
        assert ran.code == 0, ran.err
        assert {b"a\t1", b"b\t2"} <= set(ran.out.split(b"\n"))


@pytest.mark.parametrize(
    ("body", "settings"),
    [
        ("def map_block(self, block): yield block, 1", ""),
        ("def map_split(self, records): yield 1, sum(1 for _ in records)", ""),
        ("def map(self, key, value): yield value, 1", ', input_format="jsonl"'),
        ("def map(self, key, value): yield value, 1", ', order="total", reducers=3'),
        ("def map(self, key, value): yield value, 1", ", skip_bad_records=5"),
    ],
)
def test_it_is_refused_however_lines_are_read(shell, body, settings):
    shell.write("job.py", f"import mrq\nclass J(mrq.Job{settings}):\n    reduce = mrq.count\n    {body}\n")
    shell.write("good.txt", "1\n2\n")
    shell.write("bad.txt", UTF16)
    ran = shell.submit("job.py", "good.txt", "bad.txt", "-o", "out")
    assert ran.code == 1, ran.err
    assert "bad.txt: this is UTF-16 text" in ran.err
    assert ("--encoding latin-1" in ran.err) == ("jsonl" not in settings)  # which would be refused itself
    assert not (shell.folder / "out").exists()


def test_an_encoding_takes_its_bytes_as_they_are(shell):
    shell.write(
        "job.py",
        "import mrq\nclass J(mrq.Job, encoding='latin-1'):\n"
        "    def map(self, key, line): yield key, len(line)\n",
    )
    shell.write("in.txt", UTF16)
    ran = shell.submit("job.py", "in.txt", "-o", "-")
    assert (ran.code, ran.out) == (0, b"0\t8\n9\t3\n13\t1\n"), ran.err


def test_advice_is_in_flags_wherever_it_is_said(shell):
    shell.write("in.txt", b"MRQR\x01\0\0\0")
    ran = shell.submit("wc.py", "in.txt", "-o", "out")
    assert ran.code == 1
    assert "give `--input-format records`" in ran.err
    assert "input_format=" not in ran.err
