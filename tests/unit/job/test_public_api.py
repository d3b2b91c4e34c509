"""`import mrq`: what it offers, how little it loads, and what mypy makes of a job."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import mrq

HEAVY = (
    "argparse",
    "asyncio",
    "dataclasses",
    "inspect",
    "logging",
    "zipfile",
    "random",
    "msgpack",
    "json",
    "rich",
)


def test_star_import_spares_python_s_own() -> None:
    assert not {"sum", "min", "max"} & set(mrq.__all__)
    assert sorted(mrq.__all__) == mrq.__all__
    assert repr(mrq.sum) == "mrq.sum"
    assert repr(mrq.min) == "mrq.min"
    assert "sum" in dir(mrq)


def test_every_name_resolves() -> None:
    for name in mrq.__all__:
        assert getattr(mrq, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'mrq' has no attribute 'summ'"):
        _ = mrq.summ  # type: ignore[attr-defined]


def test_the_version_is_the_distribution_s() -> None:
    assert mrq.__version__ == version("mrq-mapreduce")


def test_importing_mrq_loads_little() -> None:
    """Executors pay for every import at every start. (-S and -I: without what site brings along.)"""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(mrq.__file__).parent.parent)!r}); import mrq\n"
        "class J(mrq.Job):\n    n: int = 1\nJ()\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert run.stdout == "[]\n"


def test_a_class_with_settings_loads_little_more() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(mrq.__file__).parent.parent)!r}); import mrq\n"
        "class J(mrq.Job, sort_values=True, memory='64M'):\n    n: int = 1\nJ()\n"
        f"print([m for m in {HEAVY!r} + ('tempfile',) if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert run.stdout == "['dataclasses', 'inspect']\n"


TYPED = """
from collections.abc import Iterator
import mrq

class Grep(mrq.Job, sort_values=True, total_order=True):
    pattern: str
    invert: bool = False
    reduce = mrq.identity

    def map(self, key: int, line: str) -> list[tuple[str, None]]:
        self.counters["lines"] += 1
        return [(line, None)] if (self.pattern in line) != self.invert else []

class Total(Grep):
    reduce = mrq.sum

class Chain(mrq.Job):
    n: int = 3

    def stages(self) -> list[mrq.Stage]:
        return [
            mrq.Stage(map=self.words, combine=self.add, reduce=self.add, reducers=4, sort_values=True),
            mrq.Stage(map=self.words, reduce=mrq.top(self.n), order="total", output_format="jsonl"),
        ]

    def words(self, key: int, line: str) -> Iterator[tuple[str, int]]:
        yield line, 1

    def add(self, key: str, values: Iterator[int]) -> Iterator[int]:
        yield sum(values)

Grep(pattern="x")
Total(pattern="x", invert=True)
Chain(n=4)
"""

UNTYPED = """
import mrq

class Grep(mrq.Job):
    pattern: str

Grep()
Grep(pattern=3)
Grep(patern="x")
Grep("x")

class Wrong(mrq.Job, sort_value=True):
    pass

class Wrong2(mrq.Job, reducers="4"):
    pass

mrq.Stage(map=3)
mrq.Stage(memory="64M")
"""


@pytest.mark.slow
def test_jobs_pass_mypy_strict_without_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "typed_job.py").write_text(TYPED)
    (tmp_path / "untyped_job.py").write_text(UNTYPED)
    root = Path(mrq.__file__).parent.parent
    run = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary"),
            f"--cache-dir={root / '.mypy_cache'}",
            *("typed_job.py", "untyped_job.py"),
        ],
        env={**os.environ, "MYPYPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        cwd=tmp_path,
    )
    lines = [line.split(":", 2)[1] for line in run.stdout.splitlines() if line.startswith("untyped_job.py")]
    assert sorted(set(lines)) == ["10", "12", "15", "18", "19", "7", "8", "9"], run.stdout + run.stderr
    assert not re.search(r"(?m)^typed_job\.py", run.stdout), run.stdout


def test_a_client_of_a_cluster_loads_neither_master_nor_worker() -> None:
    code = (
        "import sys, mrq\n"
        "with mrq.connect('redis://127.0.0.1:1/0') as engine:\n"
        "    assert type(engine).__name__ == 'Engine'\n"
        "print([m for m in sys.modules if m.startswith(('mrq.master', 'mrq.worker', 'mrq.servers'))])"
    )
    env = {**os.environ, "MRQ_AMQP_URL": "amqp://127.0.0.1:1/"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60)
    assert done.stdout == "[]\n", done.stderr
