"""Bad input: refused or failed in one clear sentence, with nothing lost or left; and what just works."""

import gzip
import os

import pytest
from cli_runs import Runs


@pytest.fixture
def shell(tmp_path):
    made = Runs(tmp_path)
    made.write("in.txt", "a b\nc\n")
    return made


def refused(shell, *argv, code=2, words=()):
    ran = shell.submit(*argv)
    assert ran.code == code, ran.err
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, ran.err
    for word in words:
        assert word in ran.err, ran.err
    assert "Traceback" not in ran.err
    assert "bug in mrq" not in ran.err
    return ran


def clean(shell):
    assert shell.temporary() == []
    assert shell.staged() == []


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["wc.py", "nosuch.txt", "-o", "out"], ["nosuch.txt", "no such file"]),
        (["wc.py", "no*such", "-o", "out"], ["no*such", "matches no file"]),
        (["marks", "in.txt", "-o", "out"], ["marks is a folder"]),
        (["none.py", "in.txt", "-o", "out"], ["none.py"]),
        (["wc.py", "marks/..", "-o", "marks/out"], ["inside the input directory"]),
        (["wc.py", "in.txt", "-o", "out", "--reducers", "0"], ["--reducers 0"]),
        (["wc.py", "in.txt", "-o", "out", "--reducers", "-3"], ["--reducers -3"]),
        (["wc.py", "in.txt", "-o", "out", "--reducers", "100000"], ["100000", "10,000"]),
        (["wc.py", "in.txt", "-o", "out", "--set", "most=3"], ["most", "least"]),
        (["wc.py", "in.txt", "-o", "out", "--set", "least=few"], ["least=few", "int"]),
        (["slow.py", "in.txt", "-o", "out"], ["marks", "--set marks="]),
        (["wc.py", "in.txt", "-o", "in.txt"], ["in.txt", "exists"]),
        (["wc.py", "in.txt", "-o", "in.txt/out"], ["in.txt"]),
        (["wc.py", "in.txt", "-o", "full"], ["full isn't a finished result of mrq", "holds part-00000"]),
        (["wc.py", "in.txt", "-o", "out", "--input-format", "csvv"], ["csvv"]),
    ],
)
def test_it_is_refused_before_anything_runs(shell, argv, words):
    shell.write("full/part-00000", "the earlier output")
    refused(shell, *argv, words=words)
    clean(shell)
    assert shell.result("full") == {"part-00000": b"the earlier output"}
    assert not (shell.folder / "out").exists()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("class A: pass", ["mrq.Job"]),
        ("class A(mrq.Job):\n    reduce = mrq.sum", ["map"]),
        ("class A(mrq.Job):\n    def map(self, line): yield line, 1", ["map"]),
        ("class A(mrq.Job):\n    async def map(self, key, line): yield line, 1", ["async"]),
        (
            "class A(mrq.Job):\n    def map(self, k, v): yield k, v\n    def reduce(self, k, vs): yield k, 1",
            ["yield"],
        ),
        ("class A(mrq.Job:\n    pass", ["bad.py:2"]),
        ("import nothing_of_that_name", ["nothing_of_that_name"]),
        ("class A(mrq.Job, reducer=3):\n    def map(self, k, v): yield k, v", ["reducer", "reducers"]),
        ("1 / 0", ["ZeroDivisionError"]),
        (
            "class A(mrq.Job):\n    def map(self, k, v): yield k, v\nclass B(mrq.Job):\n    map = A.map",
            ["A", "B"],
        ),
    ],
)
def test_a_job_that_cannot_run_is_refused(shell, body, words):
    shell.write("bad.py", f"import mrq\n{body}\n")
    refused(shell, "bad.py", "in.txt", "-o", "out", words=["bad.py", *words])
    clean(shell)


def test_a_bundle_that_is_too_large_names_its_largest_files(shell):
    shell.write("pack/__init__.py", "")
    for name, size in (("model.bin", 70 << 20), ("small.bin", 3 << 20)):
        (shell.folder / "pack" / name).touch()
        os.truncate(shell.folder / "pack" / name, size)
    shell.write(
        "big.py", "import mrq\nimport pack\nclass J(mrq.Job):\n    def map(self, k, v):\n        yield v, 1\n"
    )
    shell.write("a.txt", "x\n")
    ran = shell.submit("big.py", "a.txt", "-o", "out")
    assert ran.code == 2
    assert "more than the 64.0 MiB that a bundle may have" in ran.err
    assert "The largest: pack/model.bin (70.0 MiB), pack/small.bin (3.0 MiB)" in ran.err


def test_an_unreadable_file(shell):
    shell.write("secret.txt", "x")
    os.chmod(shell.folder / "secret.txt", 0)
    if os.access(shell.folder / "secret.txt", os.R_OK):  # root reads everything: a broken link then
        os.unlink(shell.folder / "secret.txt")
        os.symlink("nowhere", shell.folder / "secret.txt")
    refused(shell, "wc.py", "secret.txt", "-o", "out", words=["secret.txt"])
    clean(shell)


def test_a_truncated_gz_fails_by_name(shell):
    data = gzip.compress(os.urandom(5000).hex().encode())
    shell.write("cut.gz", data[: len(data) // 2])
    ran = refused(shell, "wc.py", "cut.gz", "-o", "out", code=1, words=["cut.gz"])
    assert "one split" in ran.err
    assert not (shell.folder / "out").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("yield {1, 2}, 1", ["set", "sorted"]),
        ("yield 1, object()", ["object"]),
        ("yield float('nan'), 1", ["NaN"]),
        ("yield 1", ["int", "pair"]),
        ("yield 1, 2, 3", ["3"]),
        ("return 'ab'", ["str"]),
    ],
)
def test_what_cannot_be_carried_fails_by_name(shell, line, words):
    head = "import mrq\nclass A(mrq.Job):\n    reduce = mrq.collect\n    def map(self, k, v):"
    shell.write("shape.py", f"{head}\n        {line}\n")
    refused(shell, "shape.py", "in.txt", "-o", "out", code=1, words=words)
    assert not (shell.folder / "out").exists()


def test_a_read_only_out(shell):
    (shell.folder / "locked").mkdir()
    os.chmod(shell.folder / "locked", 0o555)
    out = "locked/out"
    if os.access(shell.folder / "locked", os.W_OK):  # root writes everywhere but here
        out = "/sys/kernel/out"
    refused(shell, "wc.py", "in.txt", "-o", out, words=[out.split("/")[-2]])
    assert shell.temporary() == []


def test_nothing_in_is_nothing_out(shell):
    shell.write("void", b"")
    ran = shell.submit("wc.py", "void", "-o", "out")
    assert ran.code == 0, ran.err
    assert set(shell.result().values()) <= {b""}
    assert (shell.folder / "out" / "_SUCCESS").exists()


def test_odd_data_passes_unchanged(shell):
    shell.write("odd.txt", b"caf\xe9 \xff\xfe\r\nlast")
    shell.write(
        "same.py", "import mrq\nclass Same(mrq.Job):\n    def map(self, k, v):\n        yield None, v\n"
    )
    assert shell.submit("same.py", "odd.txt", "-o", "out").code == 0
    assert shell.result() == {"part-00000": b"caf\xe9 \xff\xfe\nlast\n"}


def test_mixed_keys_and_large_ints(shell):
    shell.write("mixed.py", (
        "import mrq\nclass Mixed(mrq.Job):\n    reduce = mrq.count\n    def map(self, k, v):\n"
        "        for key in (None, True, 2**100, -1.5, 'x\\ty', b'z', (1, 'a')):\n            yield key, 1\n"
    ))  # fmt: skip
    ran = shell.submit("mixed.py", "in.txt", "-o", "out", "--output-format", "jsonl", "-R", "1")
    assert ran.code == 0, ran.err
    text = shell.result()["part-00000.jsonl"].decode()
    assert len(text.splitlines()) == 7
    assert str(2**100) in text


def test_standard_input_is_named(shell):
    packed = gzip.compress(b"".join(b"%d\n" % (n * n) for n in range(20_000)))
    ran = shell.submit("wc.py", "-", "-o", "out", stdin=packed[: len(packed) // 2])
    assert ran.code == 1
    assert "standard input: the gz file ends before its data does (truncated)" in ran.err
    ran = shell.submit("wc.py", "-", "-o", "out", "--input-format", "jsonl", stdin=b"{}\n{oops\n")
    assert "standard input: the line at byte 3 isn't JSON" in ran.err
    ran = shell.submit("fails.py", "-", "-o", "out", stdin=b"1\n2\noops\n")
    assert "(standard input, offset 4)" in ran.err
    assert "where   standard input at byte 4" in ran.err
