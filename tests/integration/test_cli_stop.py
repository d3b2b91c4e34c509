"""Ctrl-C, SIGTERM and kill -9: what is gone afterwards, what is kept, and how it goes on."""

import os
import signal
import time

import pytest
from cli_runs import Runs, descendants, finish, gone

LINES = [f"word{n % 7}" for n in range(400)]
EXPECTED = sorted(f"{word}\t{LINES.count(word)}" for word in set(LINES))


@pytest.fixture
def shell(tmp_path):
    made = Runs(tmp_path)
    made.write("in.txt", "".join(f"{line}\n" for line in LINES))
    return made


def start_slow(shell, *more, pause_s=0.05):
    """A job of 40 and more maps that says when its tasks start."""
    return shell.start(
        *("submit", "slow.py", "in.txt", "-o", "out", "-j", "2", "-R", "2", "--split-size", "60"),
        *("--set", f"marks={shell.marks}", "--set", f"pause_s={pause_s}", *more),
    )


def lines_of(shell, out="out"):
    parts = [data for name, data in shell.result(out).items() if name.startswith("part-")]
    return sorted(b"".join(parts).decode().splitlines())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_stops_cleanly(shell, number, code):
    process = start_slow(shell, pause_s=5)
    shell.wait_for_marks(2)
    children = descendants(process.pid)
    assert len(children) >= 2
    began = time.monotonic()
    os.killpg(process.pid, number)
    ran = finish(process, timeout_s=20)
    took = time.monotonic() - began
    assert ran.code == code, ran.err
    assert took < 2.0 + 1.0, f"took {took:.1f} s"  # two of ours, one for a busy machine
    assert gone(children, 0.5)
    assert shell.temporary() == []
    assert shell.staged() == []
    assert not (shell.folder / "out").exists()
    assert "interrupted" in ran.err
    assert "Traceback" not in ran.err


def test_an_earlier_output_survives_ctrl_c(shell):
    assert shell.submit("wc.py", "in.txt", "-o", "out", "-q").code == 0
    before = shell.result()
    process = start_slow(shell, "--overwrite", "--json", pause_s=5)
    shell.wait_for_marks(1)
    os.killpg(process.pid, signal.SIGINT)
    ran = finish(process, timeout_s=20)
    assert ran.code == 130
    assert (ran.json["status"], ran.json["exit_code"]) == ("interrupted", 130)
    assert shell.result() == before
    assert shell.temporary() == []


def test_the_second_signal_kills_at_once(shell):
    process = start_slow(shell, pause_s=5)
    shell.wait_for_marks(2)
    children = descendants(process.pid)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    ran = finish(process, timeout_s=20)
    assert ran.code == 130
    assert gone(children)
    assert "Traceback" not in ran.err


def test_user_code_that_ignores_signals_and_forks_is_gone_too(shell):
    shell.write(
        "stubborn.py",
        """
import os, signal, subprocess, time
import mrq

class Stubborn(mrq.Job):
    marks: str

    def map(self, key, line):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "300"])
        with open(os.path.join(self.marks, str(child.pid)), "w"):
            pass
        while True:
            try:
                time.sleep(300)
            except BaseException:
                pass
""",
    )
    process = shell.start(
        "submit", "stubborn.py", "in.txt", "-o", "out", "-j", "1", "--set", f"marks={shell.marks}"
    )
    (mark,) = shell.wait_for_marks(1)
    children = descendants(process.pid) | {int(mark)}
    os.killpg(process.pid, signal.SIGINT)
    ran = finish(process, timeout_s=20)
    assert ran.code == 130, ran.err
    assert gone(children)
    assert shell.temporary() == []


def test_ctrl_c_while_the_job_is_imported(shell):
    shell.write(
        "import_forever.py",
        f"""
import time
import mrq
open({str(shell.marks / "importing")!r}, "w").close()
time.sleep(300)
""",
    )
    process = shell.start("submit", "import_forever.py", "in.txt", "-o", "out")
    shell.wait_for_marks(1)
    children = descendants(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    ran = finish(process, timeout_s=20)
    assert ran.code == 130, ran.err
    assert "Traceback" not in ran.err
    assert gone(children)
    assert shell.temporary() == []


def test_ctrl_c_while_standard_input_is_read(shell):
    read, write = os.pipe()
    process = shell.start("submit", "wc.py", "-", "-o", "out", stdin=read)
    os.close(read)
    os.write(write, b"some words\n")
    deadline = time.monotonic() + 20
    while not shell.temporary():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    ran = finish(process, timeout_s=20)
    os.close(write)
    assert ran.code == 130, ran.err
    assert "Traceback" not in ran.err
    assert shell.temporary() == []


def test_a_job_that_was_killed_goes_on_where_it_was(shell):
    process = start_slow(shell, pause_s=0.02)
    shell.wait_for_marks(9)
    children = descendants(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    finish(process, timeout_s=20)
    assert gone(children), "executors end with their parent"
    assert not (shell.folder / "out").exists()
    before = {name.split(".")[0] for name in os.listdir(shell.marks)}
    listed = shell.run("retry", "--json").json["kept"]
    assert len(listed) == 1
    assert listed[0]["bytes"] > 0
    again = shell.run("retry", listed[0]["job"])
    assert again.code == 0, again.err
    assert lines_of(shell) == EXPECTED
    runs = [name.split(".")[0] for name in os.listdir(shell.marks)]
    repeated = {task for task in before if runs.count(task) > 1}
    assert len(repeated) <= 4, f"{repeated} of {before} ran again: at most what was running, two a slot"
    assert shell.temporary() == []
    assert shell.staged() == []
    assert shell.run("retry", listed[0]["job"]).code == 2


def test_inputs_that_changed_are_refused_by_name(shell):
    process = start_slow(shell)
    shell.wait_for_marks(4)
    os.kill(process.pid, signal.SIGKILL)
    finish(process, timeout_s=20)
    shell.write("in.txt", "something else\n")
    (left,) = shell.run("retry", "--json").json["kept"]
    ran = shell.run("retry", left["job"])
    assert ran.code == 2
    assert "in.txt" in ran.err
    assert shell.run("clean").code == 0
    assert shell.temporary() == []
    assert shell.staged() == []


def test_a_job_that_runs_cannot_be_retried_or_cleaned(shell):
    process = start_slow(shell, pause_s=5)
    shell.wait_for_marks(1)
    (job,) = os.listdir(next(shell.temp.iterdir()) / "jobs")
    ran = shell.run("retry", job)
    assert ran.code == 2
    assert "still running" in ran.err
    assert b"nothing to go on with" in shell.run("retry").out
    assert "removed 0 jobs" in shell.run("clean").err
    other = shell.submit("wc.py", "in.txt", "-o", "out")
    assert other.code == 2
    assert job in other.err
    os.killpg(process.pid, signal.SIGTERM)
    assert finish(process, timeout_s=20).code == 143
