"""Closed and broken streams, odd temporary folders, several jobs at once."""

import os
import signal
import subprocess
import sys

import pytest
from cli_runs import Runs, finish


@pytest.fixture
def shell(tmp_path):
    made = Runs(tmp_path)
    made.write("in.txt", "a b a\n" * 100)
    return made


def in_sh(shell, script, **env):
    return subprocess.run(
        ["bash", "-c", script.replace("MRQ", f"{sys.executable} -m mrq")],
        cwd=shell.folder, env=shell.environ(**env), capture_output=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("streams", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full", "2>&1 | true"])
def test_a_job_needs_no_streams(shell, streams):
    in_sh(shell, f"MRQ submit wc.py in.txt -o out -R 1 {streams}")
    assert shell.result() == {"part-00000": b"a\t200\nb\t100\n"}
    assert shell.temporary() == []


def test_a_full_standard_output_is_told(shell):
    ran = in_sh(shell, "MRQ submit wc.py in.txt -o - -R 1 -q > /dev/full")
    assert ran.returncode == 1
    assert b"standard output" in ran.stderr
    assert b"bug in mrq" not in ran.stderr
    assert shell.temporary() == []


def test_a_printed_result_whose_reader_goes_away(shell):
    shell.write("big.txt", "".join(f"word{n}\n" for n in range(100_000)))
    ran = in_sh(shell, "MRQ submit wc.py big.txt -o - -q | head -1; echo ${PIPESTATUS[0]}")
    assert ran.stderr == b""
    assert ran.stdout.splitlines()[1] == b"141"
    assert shell.temporary() == []


def test_a_temporary_folder_that_cannot_be_made(shell):
    ran = shell.submit("wc.py", "in.txt", "-o", "out", env={"MRQ_TMP": str(shell.folder / "in.txt")})
    assert ran.code == 1
    assert "MRQ_TMP" in ran.err
    assert "Traceback" not in ran.err
    assert "bug in mrq" not in ran.err


def test_odd_names_everywhere(shell):
    folder = "it's a \N{SNOWMAN} folder"
    shell.write(f"{folder}/in put.txt", "x\n")
    os.rename(shell.folder / "wc.py", shell.folder / "a job.py")
    env = {"MRQ_TMP": str(shell.folder / folder / "tmp dir"), "LC_ALL": "C"}
    ran = shell.submit("a job.py", f"{folder}/in put.txt", "-o", f"{folder}/o ut", env=env)
    assert ran.code == 0, ran.err
    assert b"x\t1\n" in shell.result(f"{folder}/o ut").values()


def test_a_closed_terminal_stops_the_job(shell):
    process = shell.start(
        *("submit", "slow.py", "in.txt", "-o", "out", "--set", f"marks={shell.marks}", "--set", "pause_s=5")
    )
    shell.wait_for_marks(1)
    os.killpg(process.pid, signal.SIGHUP)
    assert finish(process, timeout_s=20).code == 129
    assert shell.temporary() == []


def test_several_jobs_share_a_temporary_folder(shell):
    started = [
        shell.start("submit", "wc.py", "in.txt", "-o", f"out{n}", "-R", "1", "-j", "1") for n in range(4)
    ]
    ended = [finish(process) for process in started]
    assert [ran.code for ran in ended] == [0] * 4, [ran.err for ran in ended]
    assert all(shell.result(f"out{n}") == {"part-00000": b"a\t200\nb\t100\n"} for n in range(4))
    assert shell.temporary() == []


def test_of_two_jobs_with_one_out_the_second_is_refused(shell):
    slow = ("submit", "slow.py", "in.txt", "-o", "out", "--set", f"marks={shell.marks}")
    process = shell.start(*slow, "--set", "pause_s=5")
    shell.wait_for_marks(1)
    ran = shell.submit("wc.py", "in.txt", "-o", "out")
    assert ran.code == 2
    assert "slow-" in ran.err
    os.killpg(process.pid, signal.SIGINT)
    assert finish(process, timeout_s=20).code == 130
    assert shell.submit("wc.py", "in.txt", "-o", "out").code == 0
