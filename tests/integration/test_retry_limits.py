"""`mrq retry` with other limits, and from what was MRQ_TMP."""

import shlex

import pytest
from cli_runs import Runs

from mrq.servers.memory.jobfolder import read_kept

LINES = "".join(f"{n}\n" for n in range(300))


@pytest.fixture
def shell(tmp_path):
    return Runs(tmp_path)


def failed_job(shell, data, *flags):
    shell.write("numbers.txt", data)
    ran = shell.submit("fails.py", "numbers.txt", "-o", "out", *flags)
    assert ran.code == 1, ran.err
    return ran, ran.err.rsplit("mrq retry ", 1)[1].split()[0]


def test_a_retry_may_leave_bad_records_out(shell):
    ran, job = failed_job(shell, "1\ntwo\n3\nfour\n")
    assert f"mrq retry {job} --from {shell.temp} --skip-bad-records N" in ran.err
    assert shell.run("retry", job, "--skip-bad-records", "1").code == 1  # two are bad
    again = shell.run("retry", job, "--skip-bad-records", "2")
    assert again.code == 0, again.err
    assert shell.result()["part-00000"] == b"1\t1\n3\t1\n"
    assert "2 records left out" in again.err


def test_what_a_retry_sets_is_kept_for_the_next_one(shell):
    _, job = failed_job(shell, "1\ntwo\n3\nfour\n")
    (shell.folder / "numbers.txt").rename(shell.folder / "away")
    assert shell.run("retry", job, "--skip-bad-records", "2").code == 2  # its input is gone
    (shell.folder / "away").rename(shell.folder / "numbers.txt")
    assert shell.run("retry", job, "--skip-bad-records", "2", "--max-failures", "3").code == 0


def test_a_retry_may_give_other_memory_and_more_failures(shell):
    shell.write(
        "flaky.py",
        """
import os, mrq
class Flaky(mrq.Job):
    marks: str
    def map(self, key, line):
        if self.task.attempt < 3:
            raise OSError(f"try {self.task.attempt}")
        yield line, None
    def reduce(self, key, values):
        yield None
""",
    )
    shell.write("in.txt", "a\n")
    ran = shell.submit("flaky.py", "in.txt", "-o", "out", "--set", f"marks={shell.marks}")
    job = ran.err.rsplit("mrq retry ", 1)[1].split()[0]
    assert shell.run("retry", job, "--max-failures", "2", "--memory", "32M").code == 1
    (folder,) = shell.temp.glob(f"*/jobs/{job}")
    assert read_kept(str(folder)).spec.memory_bytes == 32 << 20  # also for a retry after this one
    again = shell.run("retry", job, "--max-failures", "5")
    assert again.code == 0, again.err


SPLIT = """
import mrq
class Split(mrq.Job):
    reduce = mrq.sum
    def map_split(self, records):
        for key, line in records:
            yield "n", int(line)
"""


def test_records_that_map_split_reads_cannot_be_left_out_later_either(shell):
    shell.write("split.py", SPLIT)
    shell.write("in.txt", "1\nx\n3\n")
    refused = shell.submit("split.py", "in.txt", "-o", "out", "--skip-bad-records", "1")
    assert refused.code == 2
    ran = shell.submit("split.py", "in.txt", "-o", "out")
    assert ran.code == 1
    assert "--skip-bad-records" not in ran.err
    job = ran.err.rsplit("mrq retry ", 1)[1].split()[0]
    (folder,) = shell.temp.glob(f"*/jobs/{job}")
    before = read_kept(str(folder))
    again = shell.run("retry", job, "--skip-bad-records", "1")
    assert again.code == 2
    words = refused.err.partition("Split has map_split")[2].splitlines()[0]
    assert f"error: Split has map_split{words}" in again.err.splitlines()
    assert "define map, or catch what a record raises" in words
    assert read_kept(str(folder)) == before
    assert shell.run("retry", job, "--skip-bad-records", "0").code == 1  # which asks for nothing


@pytest.mark.parametrize(
    "flag",
    [
        ("--skip-bad-records", "-1"),
        ("--memory", "1K"),
        ("--max-failures", "0"),
        ("--memory", "auto"),
        ("--max-failures", "auto"),
    ],
)
def test_what_is_no_limit_is_refused(shell, flag):
    _, job = failed_job(shell, "x\n")
    ran = shell.run("retry", job, *flag)
    assert ran.code == 2
    assert f"{flag[0]} {flag[1]}" in ran.err
    assert ran.err.startswith("error: ")  # before an engine starts


def test_a_job_goes_on_where_mrq_tmp_has_moved(shell):
    ran, job = failed_job(shell, LINES + "x\n", "--split-size", "300")
    other = shell.folder / "other"
    elsewhere = {"MRQ_TMP": str(other)}
    lost = shell.run("retry", job, env=elsewhere)
    assert lost.code == 2
    assert f"mrq retry {job} --from OLD_TMP" in lost.err
    command = next(line for line in ran.err.splitlines() if "--skip-bad-records" in line).split("mrq ", 1)[1]
    words = shlex.split(command.replace(" N", " 1"))
    again = shell.run(*words, env=elsewhere)
    assert again.code == 0, again.err
    assert (
        sum(shell.result()[name].count(b"\n") for name in shell.result() if name.startswith("part-")) == 300
    )
    assert list(other.glob("*/jobs/*")) == []
    assert list(shell.temp.glob("*/jobs/*")) == []


def test_from_names_what_is_wrong_with_it(shell):
    _, job = failed_job(shell, "x\n")
    nowhere = shell.run(
        "retry", job, "--from", str(shell.marks), env={"MRQ_TMP": str(shell.folder / "other")}
    )
    assert nowhere.code == 2
    assert f"--from {shell.marks}: no job {job!r} is kept there" in nowhere.err
    assert shell.run("retry", job, "--from", str(shell.temp), "--skip-bad-records", "1").code == 0
