"""mrq from Python, as programs of their own type it: run, local, handles, results, failures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

JOBS = """
import os, threading, time, mrq

class WordCount(mrq.Job):
    longer: int = 1
    reduce = mrq.sum
    def map(self, key, line):
        for word in line.split():
            if len(word) >= self.longer:
                self.counters["words"] += 1
                yield word, 1

class Invert(mrq.Job):
    def map(self, key, value):
        yield value, key

class Slow(mrq.Job):
    def map(self, key, line):
        time.sleep(60)

class Bad(mrq.Job):
    def map(self, key, line):
        yield line, 1 / 0

class Needs(mrq.Job):
    def map(self, key, line):
        assert os.path.exists("there")
        yield line, key
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "in.txt").write_text("a b\na cc\n")
    return tmp_path


def python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """A script of the user's: `code` under the guard, after the imports."""
    body = "".join(f"    {line}\n" for line in code.strip().splitlines())
    script = f"import gc, os, threading, mrq\nfrom jobs import *\nif __name__ == '__main__':\n{body}"
    (folder / "script.py").write_text(script)
    return call(folder, "script.py")


def call(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "MRQ_TMP": str(folder / "tmp")}
    return subprocess.run(
        [sys.executable, *argv], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )


def said(folder: Path, code: str) -> list[str]:
    ran = python(folder, code)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def kept(folder: Path) -> list[str]:
    """What is left under MRQ_TMP, but for the folders themselves."""
    return sorted(os.listdir(folder / "tmp" / f"mrq-{os.getuid()}" / "jobs"))


def test_run_then_local(folder: Path) -> None:
    """`mrq.local` is the function even after `mrq.run` has imported the engine."""
    code = """
result = mrq.run(WordCount(longer=2), ["in.txt"], "out", reducers=2)
print(list(result), result.counters, len(result.parts), result.output == os.path.abspath("out"))
with mrq.local(executors=1) as m:
    print(list(m.run(WordCount(), ["in.txt"])))
    print(list(m.run(WordCount, records=["x y", "x"])))
"""
    assert said(folder, code) == [
        "[('cc', '1')] {'words': 1} 2 True",
        "[('a', 2), ('b', 1), ('cc', 1)]",
        "[('x', 2), ('y', 1)]",
    ]
    assert kept(folder) == []


def test_a_private_result_lives_as_long_as_its_result(folder: Path) -> None:
    code = """
result = mrq.run(WordCount(), ["in.txt"])
print(list(mrq.run(Invert(), result)))
where = result.output
print(os.path.isdir(where))
del result
gc.collect()
print(os.path.exists(where))
"""
    assert said(folder, code) == ["[(2, 'a'), (1, 'b'), (1, 'cc')]", "True", "False"]


def test_a_private_result_goes_with_its_engine_beside_a_job_that_is_kept(folder: Path) -> None:
    code = """
with mrq.local(executors=1) as m:
    result = m.run(WordCount(), ["in.txt"])
    try:
        m.run(Bad(), records=["x"])
    except mrq.JobFailed as exc:
        print(exc.errors[-1].type, exc.errors[-1].record, exc.job.split("-")[0])
    print(len(list(result)))
print(os.path.exists(result.output))
try:
    list(result)
except mrq.MrqError as exc:
    print(exc)
try:
    m.run(WordCount(), ["in.txt"])
except mrq.MrqError as exc:
    print(exc)
"""
    first, count, there, gone, closed = said(folder, code)
    assert (first, count, there) == ("ZeroDivisionError 'x' bad", "3", "False")
    assert "was removed with its engine" in gone
    assert closed == "this engine is closed; make another with mrq.local()"
    assert len(kept(folder)) == 1


def test_two_jobs_at_once_and_a_cancelled_one(folder: Path) -> None:
    code = """
with mrq.local(executors=2) as m:
    one, two = m.start(WordCount(), ["in.txt"], "out"), m.start(Invert(), records=["v"])
    print(len(list(one.result(30))), list(two.result(30)), one.done())
    slow = m.start(Slow(), ["in.txt"])
    print(slow.done(), slow.status().value in ("pending", "running"), one.status().value)
    slow.cancel()
    try:
        slow.result(10)
    except mrq.MrqError as exc:
        print(type(exc).__name__, slow.status().value)
    print(len(list(m.run(WordCount(), ["in.txt"]))))
"""
    assert said(folder, code) == ["3 [('v', 0)] True", "False True done", "Interrupted cancelled", "3"]
    assert kept(folder) == []


def test_leaving_an_engine_ends_its_jobs_quietly(folder: Path) -> None:
    code = """
for _ in range(5):
    with mrq.local(executors=1) as m:
        handles = [m.start(Slow(), ["in.txt"]) for _ in range(3)]
    print({h.status().value for h in handles})
"""
    ran = python(folder, code)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "{'cancelled'}\n" * 5
    assert kept(folder) == []


def test_from_a_thread(folder: Path) -> None:
    code = """
t = threading.Thread(target=lambda: print(len(list(mrq.run(WordCount(), ["in.txt"])))))
t.start()
t.join()
"""
    assert said(folder, code) == ["3"]


def test_one_engine_for_many_threads(folder: Path) -> None:
    code = """
from concurrent.futures import ThreadPoolExecutor
with mrq.local(executors=2) as m, ThreadPoolExecutor(4) as threads:
    runs = [threads.submit(m.run, WordCount(), ["in.txt"], f"out{i}") for i in range(4)]
    runs += [threads.submit(m.run, WordCount(), records=["a b c"]) for i in range(4)]
    print([len(list(run.result())) for run in runs])
"""
    assert said(folder, code) == ["[3, 3, 3, 3, 3, 3, 3, 3]"]


def test_an_uncaught_failure_shows_the_users_frames(folder: Path) -> None:
    ran = python(folder, 'mrq.run(Bad(), ["in.txt"], "out")')
    assert ran.returncode == 1
    told = ran.stderr[ran.stderr.index("JobFailed:") :]
    assert 'jobs.py", line ' in told
    assert "yield line, 1 / 0" in told
    assert "  record  'a b'" in told
    assert "  where   in.txt at byte 0" in told
    (log,) = [line.split()[-1] for line in told.splitlines() if line.startswith("  log")]
    assert os.path.isfile(log)


def test_a_retry_of_a_job_without_output_prints_it(folder: Path) -> None:
    assert python(folder, 'mrq.run(Needs(), ["in.txt"])').returncode == 1
    (folder / "there").touch()
    (job,) = kept(folder)
    ran = call(folder, "-m", "mrq", "retry", job)
    assert (ran.returncode, ran.stdout) == (0, "a b\t0\na cc\t4\n")
    assert kept(folder) == []
    assert not (folder / "tmp" / f"mrq-{os.getuid()}" / "private").exists()


def test_a_class_under_the_guard_is_refused(folder: Path) -> None:
    code = """
class Here(mrq.Job):
    def map(self, key, value):
        yield key, value
mrq.run(Here(), records=[1])
"""
    ran = python(folder, code)
    assert "script.py:4: Here is defined under" in ran.stderr
    assert "move the class to the top level" in ran.stderr


def test_without_a_file_the_way_out_is_named(folder: Path) -> None:
    code = "import mrq\nclass J(mrq.Job):\n    def map(self, k, v): yield k, v\nmrq.run(J(), records=[1])"
    ran = call(folder, "-c", code)
    assert "write the class to a file such as job.py" in ran.stderr


def test_an_unguarded_run_is_refused_by_its_line(folder: Path) -> None:
    (folder / "plain.py").write_text(
        "import mrq\nclass J(mrq.Job):\n    def map(self, k, v): yield k, v\nmrq.run(J(), records=[1])\n"
    )
    ran = call(folder, "plain.py")
    assert "plain.py:4: `mrq.run(J(), records=[1])` runs whenever the file is imported" in ran.stderr


def test_main_takes_submits_flags(folder: Path) -> None:
    with open(folder / "jobs.py", "a") as f:
        f.write("if __name__ == '__main__':\n    mrq.main(WordCount)\n")
    ran = call(folder, "jobs.py", "in.txt", "-o", "-", "-q", "--set", "longer=2")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "cc\t1\n", "")


def test_what_a_notebook_shows(folder: Path) -> None:
    code = """
result = mrq.run(Invert(), records=["<b>"] + ["x" * 500] * 30)
html = result._repr_html_()
print(html.count("<tr>"), "&lt;b&gt;" in html, "<b>" in html, "31 records" in html, len(html) < 8000)
try:
    frame = result.to_pandas()
    print(list(frame.columns), len(frame))
except mrq.MrqError as exc:
    print(exc)
"""
    first, second = said(folder, code)
    assert first == "21 True False True True"
    assert second in ("to_pandas() needs pandas; install it: pip install pandas", "['key', 'value'] 31")


def test_records_and_paths_of_all_kinds(folder: Path) -> None:
    code = """
from pathlib import Path
import mrq.testing
records = ["ab", ("k", [1]), b"c", ("x", "y", "z")]
print(mrq.testing.run(Invert, records=["v"]))
class_ = Pairs
print(list(mrq.run(class_, records=iter(records))) == mrq.testing.run(class_(), records=records))
again = mrq.run(Pairs(), records=list(mrq.run(Pairs(), records=records)))
print(list(again))
print(len(list(mrq.run(WordCount, [Path("in.txt")], Path("out")))))
"""
    with open(folder / "jobs.py", "a") as f:
        f.write("class Pairs(mrq.Job):\n    def map(self, key, value): yield None, (key, value)\n")
    first, same, again, count = said(folder, code)
    assert first == "[('v', 0)]"
    assert same == "True"
    assert again.startswith("[(None, (None, (0, 'ab'))), (None, (None, ('k', [1])))")
    assert count == "3"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("mrq.local(executors=0)", "executors must be a number from 1 to 1,024, not 0"),
        ("mrq.local(executors='2')", "executors must be a whole number from 1 to 1,024, not '2'"),
        ("mrq.run(int, ['in.txt'])", "<class 'int'> is not a job"),
        ("mrq.run(WordCount(), 'in.txt')", "inputs is a list of paths: inputs=['in.txt']"),
        ("mrq.run(WordCount())", "give inputs or records=[…], and not both"),
        ("mrq.run(WordCount(), ['in.txt'], reducer=4)", "no setting 'reducer'; did you mean 'reducers'?"),
        ("mrq.run(WordCount(), ['nope'])", "nope: no such file or directory"),
        ("mrq.run(WordCount(), ['in.txt'], '.')", "isn't a finished result of mrq"),
    ],
)
def test_wrong_calls_are_refused_by_name(folder: Path, call: str, message: str) -> None:
    (told,) = said(folder, f"try:\n    {call}\nexcept mrq.MrqError as exc:\n    print(exc)")
    assert message in told


@pytest.mark.parametrize(
    ("method", "line"),
    [
        ("def map(self, k, v): yield v", "def map(self, k, v): yield v"),
        ("def map(self, k, v): yield {1}, v", "def map(self, k, v): yield {1}, v"),
        ("def map(self, k, v): yield 1, {1}", "def map(self, k, v): yield 1, {1}"),
        ("def map(self, k, v): return 'x'", "def map(self, k, v): return 'x'"),
        (
            "def map(self, k, v): yield 1, 1\n    def reduce(self, k, vs): return 5",
            "def reduce(self, k, vs): return 5",
        ),
        (
            "def map(self, k, v): yield 1, 1\n    def reduce(self, k, vs): yield {5}",
            "def reduce(self, k, vs): yield {5}",
        ),
    ],
)
def test_a_refused_answer_names_the_method_that_gave_it(folder: Path, method: str, line: str) -> None:
    (folder / "wrong.py").write_text(f"import mrq\n\nclass Wrong(mrq.Job):\n    {method}\n")
    code = """
import wrong
try:
    mrq.run(wrong.Wrong(), records=["x"])
except mrq.JobFailed as exc:
    print(exc.errors[-1].frames)
"""
    number = 3 + method.count("\n") + 1
    name = line.split("(")[0].removeprefix("def ")
    assert said(folder, code) == [f'  File "{folder}/wrong.py", line {number}, in {name}', f"    {line}"]
