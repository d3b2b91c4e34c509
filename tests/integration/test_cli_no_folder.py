"""A working directory that was removed under the command is a sentence, and no bug of mrq's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import Runs

GONE = "the working directory doesn't exist any more"
SCRIPT = """
import os, sys
os.mkdir("gone")
os.chdir("gone")
os.rmdir(os.getcwd())
{then}
"""
PYTHON = """
import mrq
sys.path.insert(0, {folder!r})
import wc
for call in (lambda: mrq.run(wc.{job}, ["/etc/hosts"], "out"), lambda: mrq.connect("prod")):
    try:
        call()
    except mrq.MrqError as exc:
        print(type(exc).__name__, exc)
"""


@pytest.mark.parametrize(
    "argv",
    [
        ("submit", "{0}/wc.py", "{0}/in.txt", "-o", "{0}/out"),
        ("submit", "{0}/wc.py", "{0}/in.txt", "-o", "{0}/out", "--cluster", "local"),
        ("submit", "wc.py", "in.txt", "-o", "out"),
        ("submit", "{0}/wc.py", "{0}/in.txt", "-o", "{0}/out", "--cluster", "redis://nowhere.invalid/0"),
        ("jobs",),
        ("config",),
    ],
)
def test_a_command(tmp_path: Path, argv: tuple[str, ...]) -> None:
    shell = Runs(tmp_path)
    shell.write("in.txt", "a\n")
    words = [sys.executable, "-m", "mrq", *(word.format(tmp_path) for word in argv)]
    then = f"os.execv({sys.executable!r}, {words!r})"
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(then=then)],
        cwd=tmp_path,
        env=shell.environ(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert GONE in ran.stderr
    assert "bug" not in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "out").exists()


def test_a_program(tmp_path: Path) -> None:
    shell = Runs(tmp_path)
    job = next(line.split()[1].partition("(")[0] for line in (tmp_path / "wc.py").read_text().splitlines()
               if line.startswith("class "))  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(then=PYTHON.format(folder=str(tmp_path), job=job))],
        cwd=tmp_path,
        env=shell.environ(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert [line.startswith(f"UsageError {GONE}") for line in ran.stdout.splitlines()] == [True, True]
