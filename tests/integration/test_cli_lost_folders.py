"""Temporary folders that are removed under a running embedded job: made again, or a failure that says so."""

import shutil

import pytest
from cli_runs import Runs, finish

WAITS = """
import os, time
import mrq

class Waits(mrq.Job):
    marks: str
    reduce = mrq.sum

    def map(self, key, line):
        open(os.path.join(self.marks, f"{self.task.id}.{self.task.attempt}.{os.getpid()}"), "w").close()
        while not os.path.exists(os.path.join(self.marks, "go")):
            self.task.progress()
            time.sleep(0.02)
        yield line, 1
"""


@pytest.fixture
def shell(tmp_path):
    made = Runs(tmp_path)
    made.write("waits.py", WAITS)
    for name in ("a", "b"):
        made.write(f"{name}.txt", f"{name}\n")
    return made


def running(shell):
    argv = ("submit", "waits.py", "a.txt", "b.txt", "-o", "out", "-R", "1", "--split-size", "20000")
    process = shell.start(*argv, "--set", f"marks={shell.marks}")
    shell.wait_for_marks(1)
    return process


def ended(shell, process):
    (shell.marks / "go").touch()
    return finish(process)


@pytest.mark.parametrize("folder", ["maps", "scratch", "logs"])
@pytest.mark.parametrize("how", ["removed", "file"])
def test_a_folder_of_the_job_is_made_again(shell, folder, how):
    process = running(shell)
    (found,) = shell.temp.glob(f"mrq-*/jobs/*/{folder}")
    shutil.rmtree(found)
    if how == "file":
        found.write_text("in its place")
    ran = ended(shell, process)
    assert ran.code == 0, ran.err
    assert shell.result() == {"part-00000": b"a\t1\nb\t1\n"}


@pytest.mark.parametrize("folder", ["mrq-*", "mrq-*/jobs", "mrq-*/jobs/*"])
def test_a_job_whose_folder_is_removed_fails_by_that_name(shell, folder):
    process = running(shell)
    (found,) = shell.temp.glob(folder)
    shutil.rmtree(found)
    ran = ended(shell, process)
    assert ran.code == 1
    for said in ("found no folder of its worker to write in", "is gone: it was removed", "MRQ_TMP"):
        assert said in ran.err, ran.err
    assert "Traceback" not in ran.err
    assert "bug in mrq" not in ran.err
    assert shell.result() == {}


def test_code_that_is_removed_is_unpacked_again(shell):
    process = running(shell)
    (found,) = shell.temp.glob("mrq-*/private/*/code")
    shutil.rmtree(found)
    ran = ended(shell, process)
    assert ran.code == 0, ran.err
    assert shell.result() == {"part-00000": b"a\t1\nb\t1\n"}
