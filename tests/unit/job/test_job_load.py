"""From a reference to a class, and from a class to its file."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import mrq
from mrq.errors import JobDefinitionError
from mrq.job import bundle
from mrq.job.load import from_class, load_job

JOB = """import mrq

class {name}(mrq.Job):
    def map(self, key, line):
        yield line, 1
"""


class Here(mrq.Job):
    def map(self, key: int, line: str) -> None: ...


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refused(ref: str | Path) -> str:
    with pytest.raises(JobDefinitionError) as caught:
        load_job(str(ref))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_with_one_job(tmp_path: Path) -> None:
    file = write(tmp_path / "onejob.py", JOB.format(name="One"))
    loaded = load_job(str(file))
    assert (loaded.cls.__name__, loaded.file, loaded.module, loaded.root, loaded.entry) == (
        "One",
        str(file),
        "onejob",
        str(tmp_path),
        "onejob:One",
    )
    assert load_job(f"{file}:One").cls is loaded.cls
    assert not list(tmp_path.rglob("*.pyc"))


def test_two_files_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    for folder, name in (("a", "First"), ("b", "Second")):
        text = JOB.format(name=name) + "    from samenamehelper import WHO\n"
        write(tmp_path / folder / "samename.py", text)
        write(tmp_path / folder / "samenamehelper.py", f"WHO = {name!r}\n")
    for folder, name in (("a", "First"), ("b", "Second"), ("a", "First")):
        cls = load_job(str(tmp_path / folder / "samename.py")).cls
        assert (cls.__name__, cls.WHO) == (name, name)  # type: ignore[attr-defined]


def test_an_edited_file_is_loaded_anew_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    helper = write(tmp_path / "editedhelper.py", "N = 1\n")
    file = write(
        tmp_path / "edited.py", "from editedhelper import N\n" + JOB.format(name="E") + "    n: int = N\n"
    )
    first = load_job(str(file)).cls
    assert load_job(str(file)).cls is first
    helper.write_text("N = 22\n")
    second = load_job(str(file)).cls
    assert (first().n, second().n) == (1, 22)  # type: ignore[attr-defined]


def test_what_the_program_imported_itself_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    file = write(tmp_path / "programs.py", JOB.format(name="P"))
    module = importlib.import_module("programs")
    file.write_text(file.read_text() + "# edited\n")
    assert load_job(str(file)).cls is module.P


def test_several_jobs(tmp_path: Path) -> None:
    file = write(tmp_path / "severaljobs.py", JOB.format(name="Beta") + JOB.format(name="Alpha"))
    assert refused(file).endswith("has 2 jobs: Alpha, Beta; name one, such as " + f"{file}:Alpha")
    assert load_job(f"{file}:Beta").cls.__name__ == "Beta"
    assert "has no class Bta; did you mean 'Beta'?" in refused(f"{file}:Bta")


def test_a_base_without_map_is_not_in_the_way(tmp_path: Path) -> None:
    text = "import mrq\nclass Common(mrq.Job):\n    n: int = 1\n"
    text += "class Real(Common):\n    def map(self, k, v): ...\n"
    assert load_job(str(write(tmp_path / "withbase.py", text))).cls.__name__ == "Real"


MAPS = "    def map(self, key, line):\n        yield line, 1\n"


@pytest.mark.parametrize(
    "text",
    [
        # A base with a map, what derives from it, and an abstract one.
        f"class Base(mrq.Job):\n{MAPS}\nclass Leaf(Base):\n    reduce = mrq.sum\n",
        f"class Base(mrq.Job):\n{MAPS}\nclass Middle(Base):\n    n: int = 1\n\n"
        "class Leaf(Middle):\n    n = 2\n",
        "class Base(mrq.Job, abc.ABC):\n    @abc.abstractmethod\n    def map(self, key, line): ...\n\n"
        f"class Leaf(mrq.Job):\n{MAPS}",
        "class Base(mrq.Job):\n    def map(self, key, line):\n        raise NotImplementedError\n\n"
        f"class Leaf(Base):\n{MAPS}",
    ],
)
def test_bases_and_abstract_classes_are_no_jobs(text: str, tmp_path: Path) -> None:
    file = tmp_path / "basejob.py"
    file.write_text("import abc\nimport mrq\n\n" + text)
    assert load_job(str(file)).cls.__name__ == "Leaf"
    assert load_job(f"{file}:Base").cls.__name__ == "Base"


def test_two_leaves_are_two_jobs_without_their_base(tmp_path: Path) -> None:
    file = tmp_path / "leavesjob.py"
    leaves = "class One(Base):\n    pass\n\nclass Two(Base):\n    pass\n"
    file.write_text(f"import mrq\n\nclass Base(mrq.Job):\n{MAPS}\n{leaves}")
    with pytest.raises(JobDefinitionError, match="has 2 jobs: One, Two; name one"):
        load_job(str(file))


def test_no_job_in_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "nojob.py", "class Counter:\n    pass\n")
    assert (
        "has no class that derives from mrq.Job; should Counter derive from it (class Counter(mrq.Job):)"
        in (refused(file))
    )
    assert "Counter in" in refused(f"{file}:Counter")
    assert "is not a job: it must derive from mrq.Job" in refused(f"{file}:Counter")


def test_an_imported_job_is_not_the_file_s_own(tmp_path: Path) -> None:
    write(tmp_path / "otherjob.py", JOB.format(name="Other"))
    file = write(tmp_path / "importing.py", "from otherjob import Other\n" + JOB.format(name="Own"))
    assert load_job(str(file)).cls.__name__ == "Own"
    assert load_job(f"{file}:Other").cls.__name__ == "Other"


def test_what_is_no_file(tmp_path: Path) -> None:
    write(tmp_path / "wordcount.py", JOB.format(name="W"))
    (tmp_path / "job.txt").write_text("x")
    assert f"{tmp_path} is a directory; name the job's file, such as {tmp_path}/wordcount.py" == refused(
        tmp_path
    )
    assert refused(tmp_path / "wordcont.py").endswith("wordcont.py; did you mean 'wordcount.py'?")
    assert refused(tmp_path / "zzzzz.py") == f"no such job file: {tmp_path}/zzzzz.py"
    assert "is not a Python file" in refused(tmp_path / "job.txt")
    assert "no such job file or module: nosuchmodule:X" in refused("nosuchmodule:X")
    assert "names no job" in refused("")
    assert "write file.py:Class" in refused(f"{tmp_path}/wordcount.py:")


def test_errors_in_the_file_have_their_line(tmp_path: Path) -> None:
    file = write(tmp_path / "brokenjob.py", "import mrq\n\ndef f(:\n    pass\n")
    assert refused(file) == f"{file}:3: SyntaxError: invalid syntax: `def f(:`"
    file = write(tmp_path / "importless.py", "import mrq\nimport numpyyy\n")
    here = f"on {os.uname().nodename}, where this command runs"
    told = f"{file}:2: ModuleNotFoundError: No module named 'numpyyy' {here}: `import numpyyy`"
    assert refused(file) == told
    file = write(tmp_path / "raising.py", "def f():\n    return 1 / 0\n\nX = f()\n")
    assert refused(file) == f"{file}:2: ZeroDivisionError: division by zero: `return 1 / 0`"
    file = write(tmp_path / "exiting.py", "import sys\nsys.exit('bye')\n")
    assert refused(file) == f"{file}:2: SystemExit: bye: `sys.exit('bye')`"
    file = write(tmp_path / "typo.py", "import mrq\n\nclass T(mrq.Job, sort_value=True):\n    pass\n")
    assert refused(file) == (
        f"{file}:3: T: no setting 'sort_value'; did you mean 'sort_values'?: "
        "`class T(mrq.Job, sort_value=True):`"
    )


def test_an_error_in_an_imported_file_has_that_file_s_line(tmp_path: Path) -> None:
    helper = write(tmp_path / "brokenhelper.py", "x = = 1\n")
    file = write(tmp_path / "usesbroken.py", "import brokenhelper\n" + JOB.format(name="J"))
    assert refused(file) == f"{helper}:1: SyntaxError: invalid syntax: `x = = 1`"


def test_names_that_cannot_be_imported(tmp_path: Path) -> None:
    assert "is named like one of Python's own modules (random)" in refused(
        write(tmp_path / "random.py", JOB.format(name="R"))
    )
    assert "is named like mrq's own (mrq)" in refused(write(tmp_path / "mrq.py", JOB.format(name="R")))
    assert "rename it to my_job.py" in refused(write(tmp_path / "my.job.py", JOB.format(name="R")))
    assert load_job(str(write(tmp_path / "word-count.py", JOB.format(name="D")))).entry == "word-count:D"


def test_a_job_inside_a_package(tmp_path: Path) -> None:
    write(tmp_path / "pkgofjobs" / "__init__.py", "")
    write(tmp_path / "pkgofjobs" / "util.py", "N = 3\n")
    file = write(
        tmp_path / "pkgofjobs" / "inner.py",
        "from .util import N\nfrom . import util\n" + JOB.format(name="Inner"),
    )
    loaded = load_job(str(file))
    assert (loaded.module, loaded.root, loaded.entry) == (
        "pkgofjobs.inner",
        str(tmp_path),
        "pkgofjobs.inner:Inner",
    )


def test_package_and_class_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "cwdpkg" / "__init__.py", "")
    write(tmp_path / "cwdpkg" / "job.py", JOB.format(name="Mod"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    loaded = load_job("cwdpkg.job:Mod")
    assert (loaded.cls.__name__, loaded.entry) == ("Mod", "cwdpkg.job:Mod")
    assert load_job("cwdpkg/job.py").entry == "cwdpkg.job:Mod"


def test_from_class() -> None:
    loaded = from_class(Here)
    assert (loaded.file, loaded.entry) == (os.path.abspath(__file__), "test_job_load:Here")

    class Local(mrq.Job):
        pass

    with pytest.raises(JobDefinitionError, match="is defined inside a function"):
        from_class(Local)
    made = type("Made", (mrq.Job,), {"__module__": "nowhere"})
    with pytest.raises(JobDefinitionError, match="is defined in an interactive session"):
        from_class(made)


def test_from_class_of_main(tmp_path: Path) -> None:
    """`python script.py` and `python -m package.script`: the class is in __main__, not its file's name."""
    tail = """
if __name__ == "__main__":
    from mrq.job.load import from_class
    print(from_class(M).entry, from_class(M).root)
"""
    file = write(tmp_path / "mainpkg" / "script.py", JOB.format(name="M") + tail)
    run = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=True, timeout=30)
    assert run.stdout == f"script:M {file.parent}\n"
    run = subprocess.run(
        [sys.executable, "-m", "mainpkg.script"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=tmp_path,
    )
    assert run.stdout == f"mainpkg.script:M {tmp_path}\n"


@pytest.mark.parametrize("call", ["mrq.main(G)", "refuse_while_importing('mrq.run')"])
def test_an_unguarded_run_is_refused_by_its_line(tmp_path: Path, call: str) -> None:
    text = JOB.format(name="G") + "from mrq.job.bundle import refuse_while_importing\n" + call + "\n"
    file = write(tmp_path / "unguarded.py", text)
    said = f"unguarded.py:7: `{call}` runs whenever the file is imported, and executors import it; "
    said += 'put it under `if __name__ == "__main__":`'
    assert said in refused(file)
    folder = tmp_path / "code"
    bundle.unpack(bundle.pack({"unguarded.py": str(file)}), str(folder))
    sys.modules.pop("unguarded", None)
    code = f"from mrq.job.bundle import import_entry; import_entry({str(folder)!r}, 'unguarded:G')"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert run.returncode == 1
    assert said in run.stderr
    assert bundle.IMPORTING not in os.environ


def test_a_program_that_user_code_starts_may_run_jobs(tmp_path: Path) -> None:
    """It inherits the executor's environment, but nobody imports it."""
    file = write(
        tmp_path / "program.py",
        "from mrq.job.bundle import refuse_while_importing\nrefuse_while_importing('x')\n",
    )
    env = {**os.environ, bundle.IMPORTING: "1"}
    subprocess.run([sys.executable, str(file)], check=True, timeout=30, env=env)
    code = f"import runpy; runpy.run_path({str(file)!r}, run_name='imported')"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30, env=env
    )
    assert "program.py:2: `refuse_while_importing('x')` runs whenever" in run.stderr


def test_runs_inside_an_executor_and_beside_a_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(bundle.IMPORTING, "1")

    def in_a_thread() -> None:
        try:
            bundle.refuse_while_importing("mrq.run")
        except JobDefinitionError as exc:
            said.append(str(exc))

    for value, expected in (
        ("1", ["mrq.run can't be called from code that runs in an executor"]),
        ("importing", []),
    ):
        said: list[str] = []
        monkeypatch.setenv(bundle.IMPORTING, value)
        thread = threading.Thread(target=in_a_thread)
        thread.start()
        thread.join()
        assert said == expected


def test_a_package_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "brokenpkg" / "__init__.py", "import mrq\n1 / 0\n")
    write(tmp_path / "brokenpkg" / "job.py", JOB.format(name="B"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    said = refused("brokenpkg.job:B")
    assert said == "brokenpkg/__init__.py:2: ZeroDivisionError: division by zero: `1 / 0`"
    assert "no such job file: not-a-module:B" in refused("not-a-module:B")
    assert "is named like one of Python's own modules (json)" in refused("json:B")


def test_a_fifo_is_no_job_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.py")
    assert refused(tmp_path / "fifo.py") == f"{tmp_path}/fifo.py is not a regular file"
