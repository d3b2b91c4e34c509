"""What is printed for people who look for a flag: of a command, of a job, of a plan."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mrq
from mrq.cli.app import run
from mrq.cli.command_table import COMMANDS
from mrq.cli.roles import role_command

JOB = '''
from __future__ import annotations

import mrq

class Sessions(mrq.Job, sort_values=True, total_order=True, memory="64M", encoding=None, backups=False):
    """Sessions of a web log.

    A new one after `gap_s` seconds of silence.
    """

    gap_s: int = 1800
    robots: list[str] = ["bot"]
    pattern: str | None
    reduce = mrq.identity

    def map(self, key, line):
        yield line, 1

if __name__ == "__main__":
    mrq.main(Sessions)
'''
SAYS = (
    "Sessions of a web log.\n\nA new one after `gap_s` seconds of silence.\n",
    "--set gap_s=…                int (default: 1800)",
    "--set robots=…               list[str] (default: ['bot'])",
    "--set pattern=…              str | None (has no default)",
    "come in order (in Sessions: on)",
    "(in Sessions: total)",
    "(in Sessions: 64M)",
    "(in Sessions: none)",
    "(in Sessions: off)",
    "text, lines, jsonl or records (default: text)",
    "--dry-run",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MRQ_TMP", str(tmp_path / "tmp"))
    (tmp_path / "s.py").write_text(JOB)
    return tmp_path


@pytest.mark.parametrize(
    "argv", [["s.py", "--help"], ["-h", "s.py:Sessions", "-R", "3"], ["s.py", "in.txt", "--help"]]
)
def test_help_after_a_job_is_the_job_s(
    argv: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["submit", *argv]) == 0
    out = " ".join(capsys.readouterr().out.split(" "))
    told = " ".join(out.split())
    assert told.startswith("usage: mrq submit s.py")
    for words in SAYS:
        assert words in out or " ".join(words.split()) in told


def test_help_of_a_job_file_that_runs_itself(folder: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(mrq.__file__).parent.parent)}
    made = subprocess.run(
        [sys.executable, "s.py", "--help"], capture_output=True, text=True, check=False, timeout=60, env=env
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("usage: python s.py INPUT... -o OUT [flags]\n\nSessions of a web log.")
    assert "--set gap_s=…                int (default: 1800)" in made.stdout


def test_help_of_a_job_that_is_none_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["submit", "nope.py", "--help"]) == 2
    assert "no job file nope.py" in capsys.readouterr().err


def test_an_unknown_flag_is_pointed_to_a_page_that_lists_flags(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in COMMANDS:
        argv = [command.name, "--xyzzy"]
        assert run(argv) == 2
        err = capsys.readouterr().err
        page = err.partition("`")[2].partition("`")[0]
        assert page.startswith("mrq ")
        assert run(page.split()[1:]) == 0
        out = capsys.readouterr().out
        assert all(name in out for flag in command.flags for name in flag.names)
    assert run(["xyzzy"]) == 2
    assert "`mrq help` lists what there is" in capsys.readouterr().err


def test_an_unknown_flag_of_a_role_too(capsys: pytest.CaptureFixture[str]) -> None:
    from mrq.cli.roles import run_role

    for role in ("master", "worker"):
        assert run_role(role, ["--xyzzy"], lambda line: 0) == 2
        assert f"`python -m mrq.{role} --help` lists" in capsys.readouterr().err
        assert run_role(role, ["--help"], lambda line: 1) == 0
        out = capsys.readouterr().out
        assert all(flag.names[-1] in out for flag in role_command(role).flags)


def test_a_plan_names_the_flags_that_list_every_split(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "in.txt").write_text("a\n" * 30)
    job = ["submit", "s.py", "in.txt", "--set", "pattern=x", "--split-size", "2"]
    assert run([*job, "--dry-run"]) == 0
    assert "… and 10 more (-v lists all)" in capsys.readouterr().out
    assert run([*job, "--dry-run", "-v"]) == 0
    out = capsys.readouterr().out
    assert "m-00029" in out
    assert "lists all" not in out
    assert run([*job, "-o", "out", "-v", "--order", "hashed", "-j", "1"]) == 0
    assert "… and 10 more (--dry-run -v lists all)" in capsys.readouterr().err
