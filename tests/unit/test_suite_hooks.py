"""The suite's own rules (tests/conftest.py), on small suites of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent


def suite(folder: Path, text: str) -> None:
    for name in ("conftest.py", "docker_run.py", "services.py"):
        shutil.copy(TESTS / name, folder / name)
    (folder / "integration").mkdir()
    (folder / "integration" / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")


def ran(folder: Path, *args: str, **env: str) -> tuple[int, str]:
    """Runs the suite where there is no docker: its exit code and all that it says."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    kept = {key: value for key, value in os.environ.items() if key not in ("CI", "MRQ_TESTS_RUN")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args],
        cwd=folder,
        env={**kept, "PATH": str(programs), **env},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


NEEDS = "def test_that_needs_one(rabbitmq): pass\ndef test_that_does_not(): pass\n"


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_without_docker_tests_that_need_it_are_named_and_the_rest_passes(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    suite(tmp_path, NEEDS)
    code, said = ran(tmp_path, *workers)
    assert code == 0
    assert "1 passed, 1 skipped" in said
    named = said.split("not run: they need Docker")[1]
    assert "integration/test_it.py::test_that_needs_one" in named
    assert "test_that_does_not" not in named


def test_in_ci_a_missing_docker_is_a_failure(tmp_path: Path) -> None:
    suite(tmp_path, NEEDS)
    code, said = ran(tmp_path, CI="true")
    assert code == 1
    assert "docker is not installed; where CI is set, that is a failure" in said


def test_in_ci_a_skipped_integration_test_is_a_failure(tmp_path: Path) -> None:
    suite(tmp_path, "import pytest\ndef test_a(): pytest.skip('no mood')\n")
    assert ran(tmp_path)[0] == 0
    code, said = ran(tmp_path, CI="1")
    assert code == 1
    assert "skipped, which is a failure where CI is set" in said
    assert "no mood" in said


def test_a_process_that_outlives_the_run_fails_it(tmp_path: Path) -> None:
    sleeper = "import subprocess, sys\n"
    sleeper += "def test_a():\n"
    sleeper += "    p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(8)'])\n"
    sleeper += "    p.returncode = 0  # no warning: it is forgotten on purpose\n"
    suite(tmp_path, sleeper)
    code, said = ran(tmp_path)
    assert code == 1
    assert "the run left behind:" in said
    assert "time.sleep(8)" in said


def test_a_temporary_file_that_outlives_the_run_fails_it_and_is_removed(tmp_path: Path) -> None:
    suite(tmp_path, "import tempfile\ndef test_a(): print(tempfile.mkdtemp(prefix='forgotten-'))\n")
    code, said = ran(tmp_path, "-s")
    assert code == 1
    folder = next(line for line in said.splitlines() if "/forgotten-" in line).lstrip(".")
    assert f"temporary file {folder}" in said
    assert not Path(folder).exists()
