"""What users of a cluster of processes see from outside: the command line, and Python."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runs import finish, gone
from cluster_jobs import Frequencies, Words
from cluster_runs import ClusterRun, cluster_of, logs_of
from docker_run import Run
from folders import below

import mrq

FAILING = """
import os
import mrq

class Failing(mrq.Job):
    marks: str
    reduce = mrq.sum

    def map(self, key, line):
        with open(os.path.join(self.marks, f"{self.task.id}.{self.task.attempt}"), "w"):
            pass
        if line == "bad" and not os.path.exists(os.path.join(self.marks, "mended")):
            print("looking at", line)
            raise ValueError("that is a bad line")
        yield line, 1
"""


ALONE = """
import os, time
import mrq

class Alone(mrq.Job):
    marks: str

    def alone(self):
        path = os.path.join(self.marks, "lock")
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        time.sleep(0.3)
        os.unlink(path)

    def map(self, key, line):
        self.alone()
        yield line, 1

    def reduce(self, key, values):
        self.alone()
        yield sum(values)
"""


@pytest.fixture(scope="module")
def cluster(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRun]:
    with cluster_of(run, tmp_path_factory.mktemp("clients")) as made:
        (made.folder / "failing.py").write_text(FAILING)
        made.shell.write("in.txt", "a b a\nb c\n")
        yield made


@pytest.fixture(autouse=True)
def _logs(cluster: ClusterRun) -> Iterator[None]:
    with logs_of(cluster):
        yield


def test_a_cluster_without_workers_waits_and_says_so(run: Run, tmp_path: Path) -> None:
    with cluster_of(run, tmp_path, workers=0) as empty:
        empty.shell.write("in.txt", "a b a\nb c\n")
        process = empty.command("submit", "wc.py", "in.txt", "-o", "first", "-R", "1")
        empty.until(empty.active)
        (job,) = empty.active()
        assert empty.status(job)["waits_for"] == "no workers yet: waiting"
        assert "no workers: start some" in empty.mrq("workers").out.decode()
        empty.workers("w0")
        ran = finish(process)
    assert ran.code == 0, ran.err
    assert "note: no workers yet: waiting" in ran.err
    assert (tmp_path / "first/part-00000").read_text() == "a\t2\nb\t2\nc\t1\n"


def test_a_detached_job_is_waited_for(cluster: ClusterRun) -> None:
    job = cluster.held("left", ["a go", "b go"], "-R", "1")
    waiting = cluster.command("wait", job)
    cluster.until(lambda: len(cluster.began("left")) == 2)
    assert waiting.poll() is None
    cluster.open("left")
    ran = finish(waiting)
    assert ran.code == 0, ran.err
    assert "done in" in ran.err
    assert cluster.result("left") == {"a": 1, "b": 1}
    assert "done in" in cluster.mrq("wait", job).err, "also once it is over"


def test_ctrl_c_of_a_submit_cancels_the_job(cluster: ClusterRun) -> None:
    path = cluster.shell.write("stop.txt", "a go\n")
    process = cluster.command("submit", "held.py", path, "-o", "stop-out", *cluster.held_flags("stop"))
    cluster.until(lambda: cluster.began("stop"))
    (job,) = cluster.active()
    pids = {pid for each in cluster.began("stop").values() for _, pid in each}
    process.send_signal(signal.SIGINT)
    ran = finish(process, timeout_s=20)
    assert ran.code == 130, ran.err
    assert f"job {job} is cancelled" in ran.err
    assert "Traceback" not in ran.err
    assert cluster.status(job)["state"] == "cancelled"
    assert gone(pids, within_s=10)
    assert not (cluster.folder / "stop-out").exists()
    assert cluster.shell.staged() == []


def test_a_retry_keeps_the_maps_that_are_complete(cluster: ClusterRun) -> None:
    inputs = [cluster.shell.write(f"fail-in/{n}.txt", f"{n}\n") for n in range(3)]
    inputs.append(cluster.shell.write("fail-in/bad.txt", "bad\n"))
    # One task at a time, the one that fails last.
    argv = ("failing.py", *inputs, "-o", "fail-out", "--max-running", "1", *cluster.held_flags("fail"))
    err = cluster.mrq("submit", *argv, expect=1).err
    assert "ValueError: that is a bad line" in err
    job = err.rsplit("mrq retry ", 1)[1].strip()
    before = {path.name for path in cluster.marks("fail").iterdir()}
    assert {name.partition(".")[0] for name in before} == {f"m-0000{n}" for n in range(4)}
    cluster.open("fail", "mended")
    cluster.mrq("retry", job)
    (again,) = {path.name for path in cluster.marks("fail").iterdir()} - before - {"mended"}
    assert again.startswith("m-00003.")
    words = b"".join(cluster.shell.result("fail-out").values()).splitlines()
    assert sorted(words) == [b"0\t1", b"1\t1", b"2\t1", b"bad\t1"]


def test_logs_of_a_failed_attempt_outlive_its_worker(cluster: ClusterRun) -> None:
    cluster.workers("lost")
    others = ("w0", "w1", "w2")
    for name in others:
        cluster.ask("quarantine", worker=name)
    path = cluster.shell.write("only-bad.txt", "bad\n")
    err = cluster.mrq("submit", "failing.py", path, "-o", "no", *cluster.held_flags("logs"), expect=1).err
    for name in others:
        cluster.ask("readmit", worker=name)
    job = err.rsplit("mrq retry ", 1)[1].strip()
    cluster.kill("lost")
    rows = cluster.mrq("logs", job, "m-00000", "--json").json["logs"]
    assert {(row["worker"], row["task"], row["status"]) for row in rows} == {("lost", "m-00000", "failed")}
    assert all("looking at bad" in row["text"] for row in rows)
    assert "looking at bad" in cluster.mrq("logs", job).out.decode()


def test_standard_input_and_a_printed_result(cluster: ClusterRun) -> None:
    ran = cluster.mrq("submit", "wc.py", "-", "-o", "-", stdin=b"x y x\n")
    assert ran.out == b"x\t2\ny\t1\n"
    assert cluster.shell.temporary() == []


def test_records_and_results_without_out_from_python(
    cluster: ClusterRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cluster.shell.environ().items():
        if name.startswith("MRQ_"):
            monkeypatch.setenv(name, value)
    with mrq.connect() as client:
        result = client.run(Words, records=["a b", "b"], reducers=2)
        assert dict(result) == {"a": 1, "b": 2}
        assert result.is_private
        assert dict(client.run(Frequencies, result)) == {1: 1, 2: 1}
    assert cluster.shell.temporary() == []


def test_what_is_refused_says_why_and_nothing_has_run(cluster: ClusterRun) -> None:
    cluster.shell.write("near/seen.txt", "x\n")
    err = cluster.mrq("submit", "wc.py", "near/far.txt", "-o", "no", expect=2).err
    assert "the cluster doesn't see" in err
    assert "seen.txt" in err
    known = str(cluster.ask("jobs")["jobs"][-1]["job"])
    for command in ("status", "wait", "cancel", "retry", "logs"):
        err = cluster.mrq(command, f"{known}x", expect=2).err
        assert f"did you mean {known!r}?" in err, command
    assert "did you mean 'w" in cluster.mrq("workers", "drain", "w9", expect=2).err
    assert not (cluster.folder / "no").exists()


def kept(cluster: ClusterRun) -> set[bytes]:
    """What Redis has for later; an answer and the mark of its request go by themselves."""
    passing = tuple(f"{cluster.server.prefix}:{name}:".encode() for name in ("answer", "asked"))
    with cluster.server.client() as client:
        keys = client.scan_iter(match=f"{cluster.server.prefix}:*", count=1000)
        return {key for key in keys if not key.startswith(passing)}


def known(cluster: ClusterRun) -> list[str]:
    return [row["job"] for row in cluster.ask("jobs")["jobs"]]


def dry(cluster: ClusterRun) -> list[Path]:
    return [path for path in below(cluster.folder) if path.name.startswith("dry")]


def test_a_dry_run_prints_what_an_embedded_one_does_and_leaves_nothing(cluster: ClusterRun) -> None:
    cluster.shell.write("dry/a.txt", "a b\n" * 1000)
    cluster.shell.write("dry/b.txt.gz", b"packed")
    before, jobs, staged = kept(cluster), known(cluster), cluster.shell.staged()
    there = dry(cluster)
    for more in ((), ("-o", "dry-far/out"), ("-v", "--json")):
        argv = (
            "submit",
            "wc.py",
            "dry",
            "-",
            "--split-size",
            "900",
            "-R",
            "2",
            "-j",
            "2",
            "--dry-run",
            *more,
        )
        ours, theirs = (
            cluster.mrq(*argv, *where, stdin=b"from here\n" * 200) for where in ((), ("--cluster", "local"))
        )
        if "--json" in more:
            named = {"engine": "cluster", "cluster": ours.json["cluster"], "job": ours.json["job"]}
            assert ours.json == {**theirs.json, **named}
            assert {"-", "dry/a.txt", "dry/b.txt.gz"} == {file["path"] for file in ours.json["files"]}
        else:
            assert ours.out == theirs.out
    assert known(cluster) == jobs
    assert kept(cluster) <= before
    assert dry(cluster) == there
    assert cluster.shell.staged() == staged
    assert cluster.shell.temporary() == []


def test_j_is_how_many_tasks_of_a_job_run_at_once(cluster: ClusterRun) -> None:
    # Each task holds a lock for a while: a second one at once would fail, and so the job.
    cluster.shell.write("alone.py", ALONE)
    inputs = [cluster.shell.write(f"alone-in/{n}.txt", f"{n}\n") for n in range(6)]
    flags = ("-R", "2", "-j", "1", "--max-failures", "1", *cluster.held_flags("alone"))
    ran = cluster.mrq("submit", "alone.py", *inputs, "-o", "alone-out", *flags)
    assert "6 maps, 2 reduces" in ran.err
    assert len(b"".join(cluster.shell.result("alone-out").values()).splitlines()) == 6
    (row,) = [row for row in cluster.ask("jobs")["jobs"] if row["name"] == "Alone"]
    assert cluster.uncharged(row["job"])


def test_a_package_that_workers_lack_is_refused(cluster: ClusterRun) -> None:
    packages = cluster.folder / "site-packages"
    (packages / "numlike").mkdir(parents=True)
    (packages / "numlike/__init__.py").write_text("")
    told = packages / "numlike-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: numlike\nVersion: 1.0\n")
    (told / "top_level.txt").write_text("numlike\n")
    source = (cluster.folder / "wc.py").read_text()
    cluster.shell.write("needs.py", source.replace("import mrq", "import mrq\nimport numlike", 1))
    cluster.until(lambda: healths(cluster) in ({"alive": 3}, {"alive": 3, "dead": 1}))
    env = {"PYTHONPATH": str(packages)}
    err = cluster.mrq("submit", "needs.py", "in.txt", "-o", "no", expect=2, env=env).err
    assert "numlike: on 0 of 3 workers" in err


def healths(cluster: ClusterRun) -> Counter[str]:
    return Counter(row["health"] for row in cluster.ask("workers")["workers"])
