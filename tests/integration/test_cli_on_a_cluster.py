"""The command line against a whole cluster in this process: what users see of real masters and workers."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_rig import Cluster, cluster, until
from json_objects import checked
from twins import MemoryClientLink

import mrq.engine.remote
from mrq.cli import objects
from mrq.cli.app import run

JOB = """
import os, time
import mrq

class Words(mrq.Job):
    gate: str = ""
    reduce = mrq.sum

    def map(self, key, line):
        self.counters["lines"] += 1
        if line == "bad":
            print("looking at", line)
            raise ValueError("that is a bad line")
        while self.gate and not os.path.exists(self.gate):
            self.task.progress()
            time.sleep(0.01)
        for word in line.split():
            yield word, 1
"""
CHAIN = """
import os, time
import mrq

class Chain(mrq.Job):
    gate: str
    bad: str = ""

    def stages(self):
        return [mrq.Stage(map=self.words, reduce=mrq.sum), mrq.Stage(map=self.swap, reduce=mrq.collect)]

    def words(self, key, line):
        for word in line.split():
            yield word, 1

    def swap(self, word, n):
        self.counters["words"] += 1
        if word == self.bad:
            raise ValueError("no " + word)
        while not os.path.exists(self.gate):
            self.task.progress()
            time.sleep(0.01)
        yield n, word
"""
URLS = {"MRQ_AMQP_URL": "amqp://u:hidden@rabbit/", "MRQ_REDIS_URL": "redis://:hidden@redis/0"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in URLS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "words.py").write_text(JOB)
    (tmp_path / "in.txt").write_text("a b a\nb c\n" * 50)
    return tmp_path


def reach(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        mrq.engine.remote,
        "_connect",
        lambda profile: (MemoryClientLink(servers.requests), servers.blobs),
    )


@pytest.fixture
def one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with cluster(folder) as made:
        reach(made.servers, monkeypatch)
        yield made


class Shell:
    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *argv: str, expect: int = 0) -> tuple[str, str]:
        code = run(argv)
        out, err = self._capfd.readouterr()
        assert code == expect, err
        assert "hidden" not in out + err
        assert "Traceback" not in err
        return out, err


@pytest.fixture
def shell(capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capfd)


def test_each_of_several_stages_is_shown_and_waited_for(one: Cluster, shell: Shell, folder: Path) -> None:
    (folder / "chain.py").write_text(CHAIN)
    gate = folder / "gate"
    job = shell("submit", "chain.py", "in.txt", "-o", "out", "--set", f"gate={gate}", "--detach")[0].strip()
    until(lambda: "running, stage 2" in shell("jobs")[0])
    rows = [line.split() for line in shell("status", job)[0].splitlines()]
    shown = [row[:5] for row in rows if row[:1] in (["map"], ["reduce"])]
    assert shown[:2] == [["map", "1", "1", "1", "0"], ["reduce", "1", "1", "1", "0"]]
    assert shown[2][:3] == ["map", "2", "1"]
    told = checked(shell("status", job, "--json", "--tasks")[0], objects.JobStatus)
    assert [(each["name"], each["stage"]) for each in told["info"]["stages"]][:3] == [
        ("map", 1), ("reduce", 1), ("map", 2),
    ]  # fmt: skip
    assert told["info"]["tasks"][0]["task"] == "m2-00000"
    gate.touch()
    _, err = shell("wait", job)
    assert re.search(r"stage 1 +1 map, 1 reduce; 100 records in, 3 out", err)
    assert re.search(r"stage 2 +1 map, 1 reduce; 3 records in, 2 out", err)
    assert words(folder, "out") == {"part-00000": b'50\t["c"]\n100\t["a","b"]\n'}
    assert json.loads((folder / "out/_SUCCESS").read_text())["counters"] == {"words": 3}


def test_a_stage_that_failed_is_gone_on_with(one: Cluster, shell: Shell, folder: Path) -> None:
    (folder / "chain.py").write_text(CHAIN)
    (folder / "gate").touch()
    sets = ("--set", f"gate={folder / 'gate'}", "--set", "bad=b")
    _, err = shell("submit", "chain.py", "in.txt", "-o", "out", *sets, expect=1)
    assert "ValueError: no b" in err
    assert ", in swap" in err
    found = re.search(r"mrq retry (\S+) ", err)
    assert found is not None, err
    shell("retry", found[1], "--skip-bad-records", "1")
    assert words(folder, "out") == {"part-00000": b'50\t["c"]\n100\t["a"]\n'}


def words(folder: Path, out: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / out).glob("part-*")}


def test_the_same_bytes_and_words_as_on_this_machine(one: Cluster, shell: Shell, folder: Path) -> None:
    flags = ("-R", "2", "-j", "1", "-v")
    _, here = shell("submit", "words.py", "in.txt", "-o", "here", *flags, "--cluster", "local")
    _, err = shell("submit", "words.py", "in.txt", "-o", "there", *flags)
    lines = err.splitlines()
    plan = [
        line
        for line in here.splitlines()
        if line.startswith(("job  ", "input  ", "splits  ", "partitions  "))
    ]
    assert len(plan) == 4
    assert set(plan) <= set(lines)
    assert lines[0] == "cluster, state in redis://:***@redis:6379/0"
    assert any(line.startswith("done in ") for line in lines)
    assert "  result  there (2 parts)" in lines
    assert "  lines  100" in lines
    assert words(folder, "there") == words(folder, "here")
    out, _ = shell("cat", "there")
    assert sorted(out.splitlines()) == ["a\t100", "b\t100", "c\t50"]


def test_standard_input_and_a_printed_result(one: Cluster, shell: Shell, folder: Path) -> None:
    out, err = shell("submit", "words.py", "in.txt", "-o", "-")
    assert sorted(out.splitlines()) == ["a\t100", "b\t100", "c\t50"]
    assert "result" not in err


@pytest.mark.parametrize("more", [("-o", "out"), (), ("-v", "--compress", "gz")])
def test_a_dry_run_prints_the_same_as_on_this_machine(
    one: Cluster, shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    (folder / "typed").write_bytes(b"d e\n" * 40)
    (folder / "b.gz").write_bytes(b"packed")

    def dry(*argv: str) -> str:
        with (folder / "typed").open() as typed:
            monkeypatch.setattr("sys.stdin", typed)
            return shell("submit", "words.py", "*.txt", "-", "b.gz", *more, "--dry-run", "-j", "1", *argv)[0]

    for flags in (("--split-size", "20"), ("-R", "3")):
        here = dry("--cluster", "local", *flags)
        assert "in.txt" in here
        assert dry(*flags) == here
        there = json.loads(dry("--json", *flags))
        assert there["engine"] == "cluster"
        there.update(engine="embedded", cluster=None, job="")
        assert there == {**json.loads(dry("--cluster", "local", "--json", *flags)), "job": ""}
    assert json.loads(shell("jobs", "--json")[0])["jobs"] == []
    assert not (folder / "out").exists()
    assert not list(folder.glob("*.mrq"))


def test_a_detached_job_is_seen_waited_for_and_known_when_it_is_over(
    one: Cluster, shell: Shell, folder: Path
) -> None:
    gate = folder / "gate"
    out, _ = shell("submit", "words.py", "in.txt", "-o", "out", "--detach", "--set", f"gate={gate}")
    job = out.strip()
    listed = json.loads(shell("jobs", "--json")[0])["jobs"]
    assert [row["job"] for row in listed] == [job]
    until(lambda: json.loads(shell("status", job, "--json")[0])["info"]["attempts"])
    until(lambda: json.loads(shell("workers", "--json")[0])["workers"][0]["attempts"])
    out, _ = shell("status", job)
    assert f"{job} (Words)" in out
    assert "m-00000" in out
    (worker,) = json.loads(shell("workers", "--json")[0])["workers"]
    assert (worker["worker"], worker["attempts"][0]["job"]) == ("w0", job)
    assert "m-00000" in shell("workers", "w0")[0]
    gate.touch()
    _, err = shell("wait", job)
    assert "done in" in err
    assert "done" in shell("status", job)[0]
    assert job in shell("jobs")[0]
    _, err = shell("cancel", job, expect=1)
    assert f"{job} was done already" in err


def told(shell: Shell, cls: type[objects.JsonAnswer], *argv: str, expect: int = 0) -> Any:
    """What a command prints with --json, which is an object of docs/json.md."""
    made = checked(shell(*argv, "--json", expect=expect)[0], cls)
    assert made["exit_code"] == expect
    return made


def same(info: dict[str, Any]) -> Any:
    """Of a job what both engines must say alike: all but names, times and who ran what."""
    timed = ("slowest", "slowest_s", "median_s", "attempts")
    stages = [{name: each for name, each in stage.items() if name not in timed} for stage in info["stages"]]
    names = ("name", "state", "priority", "inputs", "counters", "attempts", "tasks", "reruns", "backups")
    return stages, {name: info[name] for name in names}


def test_json_is_as_documented_and_a_job_the_same_on_both_engines(
    one: Cluster, shell: Shell, folder: Path
) -> None:
    (folder / "bad.txt").write_text("a\nbad\n")
    seen = []
    for engine, flags in (("embedded", ("--cluster", "local")), ("cluster", ())):
        submit = ("submit", "words.py", "in.txt", "-R", "2", "-j", "1", *flags)
        told(shell, objects.Planned, *submit, "-o", engine, "--dry-run")
        done = told(shell, objects.Finished, *submit, "-o", engine)
        assert (done["engine"], done["status"], done["error"]) == (engine, "done", None)
        assert (done["info"]["job"], done["info"]["output"]) == (done["job"], engine)
        assert done["info"]["submitted_at"] <= done["info"]["started_at"] <= done["info"]["finished_at"]
        assert abs(done["info"]["finished_at"] - time.time()) < 60
        seen.append(same(done["info"]))
        refused = told(shell, objects.JsonAnswer, *submit, "-o", engine, expect=2)
        assert (refused["status"], refused["info"]) == ("refused", None)
        failed = told(
            shell, objects.JsonAnswer, "submit", "words.py", "bad.txt", "-o", "no", *flags, expect=1
        )
        assert (failed["status"], failed["info"]["state"]) == ("failed", "failed")
        assert failed["error"]["attempts"] == [each["error"] for each in failed["info"]["errors"]]
        again = told(shell, objects.JsonAnswer, "retry", failed["job"], *flags, expect=1)
        assert again["info"]["job"] == failed["job"]
        told(shell, objects.Config, "config", *flags)
    assert seen[0] == seen[1]
    for command in (("retry", "--cluster", "local"), ("jobs", "--cluster", "local")):
        assert len(told(shell, objects.KeptJobs, *command)["kept"]) == 1
    assert told(shell, objects.Cleaned, "clean")["bytes"] > 0


def test_json_of_the_commands_of_a_cluster_is_as_documented(one: Cluster, shell: Shell, folder: Path) -> None:
    gate = folder / "gate"
    argv = (
        "submit",
        "words.py",
        "in.txt",
        "-o",
        "out",
        "-R",
        "1",
        "--set",
        f"gate={gate}",
        "--split-size",
        "100",
    )
    job = told(shell, objects.JsonAnswer, *argv, "--detach")["job"]
    until(lambda: told(shell, objects.JobStatus, "status", job)["info"]["attempts"])
    shown = told(shell, objects.JobStatus, "status", job, "--tasks")
    assert (shown["info"]["state"], shown["status"]) == ("running", "status")
    assert len(shown["info"]["tasks"]) == sum(stage["total"] for stage in shown["info"]["stages"])
    assert abs(shown["now"] - time.time()) < 60
    until(lambda: told(shell, objects.WorkerList, "workers")["workers"][0]["attempts"])
    (worker,) = told(shell, objects.WorkerList, "workers", "w0")["workers"]
    assert worker["attempts"][0]["task"] in [each["task"] for each in shown["info"]["attempts"]]
    (listed,) = told(shell, objects.Jobs, "jobs")["jobs"]
    assert (listed["job"], listed["attempts"]) == (job, [])
    assert listed["stages"][0]["running"]
    gate.touch()
    assert told(shell, objects.Finished, "wait", job)["info"]["state"] == "done"
    assert told(shell, objects.Logs, "logs", job, "--all")["logs"]
    late = told(shell, objects.JsonAnswer, "cancel", job, expect=1)
    assert (late["status"], late["error"]) == ("done", None)
    gate.unlink()
    other = told(shell, objects.JsonAnswer, *argv, "--detach", "--overwrite")["job"]
    ended = told(shell, objects.JsonAnswer, "cancel", other)
    assert ended["status"] == "cancelled"
    ordered = told(shell, objects.Ordered, "workers", "quarantine", "w0")
    assert (ordered["worker"], ordered["health"]) == ("w0", "quarantined")
    (worker,) = told(shell, objects.WorkerList, "workers")["workers"]
    assert (worker["health"], worker["reason"]) == ("quarantined", "an operator put it there")
    assert 0 <= told(shell, objects.WorkerList, "workers")["now"] - worker["since"] < 60
    told(shell, objects.Ordered, "workers", "readmit", "w0")
    unknown = told(shell, objects.JsonAnswer, "status", "nope", expect=2)
    assert unknown["error"]["type"] == "UsageError"


def test_unknown_names_are_told_with_the_nearest(one: Cluster, shell: Shell, folder: Path) -> None:
    out, _ = shell("submit", "words.py", "in.txt", "-o", "out", "--detach")
    job = out.strip()
    for command in ("status", "wait", "cancel", "retry", "logs"):
        _, err = shell(command, f"{job}x", expect=2)
        assert f"did you mean {job!r}?" in err, command
        assert len(err.splitlines()) <= 2
    _, err = shell("workers", "w1", expect=2)
    assert "did you mean 'w0'?" in err
    shell("wait", job)


def test_a_failed_job_shows_its_frames_its_logs_and_how_to_go_on(
    one: Cluster, shell: Shell, folder: Path
) -> None:
    (folder / "in.txt").write_text("a\nbad\n")
    _, err = shell("submit", "words.py", "in.txt", "-o", "out", expect=1)
    assert "ValueError: that is a bad line" in err
    assert 'raise ValueError("that is a bad line")' in err
    job = err.rsplit("mrq retry ", 1)[1].strip()
    out, _ = shell("logs", job)
    assert "looking at bad" in out
    assert "that is a bad line" in shell("status", job)[0]
    _, err = shell("retry", job, "-j", "1", expect=2)
    assert "-j is for a retry on this machine" in err
    _, err = shell("retry", job, expect=1)
    assert "that is a bad line" in err
    _, err = shell("retry", job, "--from", "/tmp", expect=2)  # which means this machine
    assert f"no job {job!r} is kept there" in err
    _, err = shell("retry", job, "--skip-bad-records", "1", "--memory", "20M")
    assert "1 record left out" in err
    assert b"".join(words(folder, "out").values()) == b"a\t1\n"


def test_a_retry_leaves_no_record_out_that_map_split_reads(one: Cluster, shell: Shell, folder: Path) -> None:
    (folder / "split.py").write_text(
        "import mrq\nclass Split(mrq.Job):\n    def map_split(self, records):\n"
        "        for key, line in records:\n            yield int(line), 1\n"
    )
    (folder / "in.txt").write_text("1\nbad\n")
    _, err = shell("submit", "split.py", "in.txt", "-o", "out", expect=1)
    assert "--skip-bad-records" not in err
    job = err.rsplit("mrq retry ", 1)[1].strip()
    _, err = shell("retry", job, "--skip-bad-records", "1", expect=2)
    assert (
        "Split has map_split, which reads its records by itself, so skip_bad_records can't leave one" in err
    )
    assert "failed" in shell("status", job)[0]


def test_ctrl_c_cancels_the_job_and_nothing_is_left(one: Cluster, shell: Shell, folder: Path) -> None:
    client, main = one.client(), threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        until(lambda: any(row.maps.running for row in client.ask("jobs")["jobs"]))
        signal.pthread_kill(main, signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    _, err = shell(
        "submit", "words.py", "in.txt", "-o", "out", "--set", f"gate={folder / 'never'}", expect=130
    )
    watcher.join()
    # It may run before the answer to its submit has come back: then that is taken back, which cancels it too.
    assert re.search(r"job words-\w+ (is cancelled|was taken back)", err)
    assert not (folder / "out").exists()
    until(lambda: [row.state.value for row in client.ask("jobs")["jobs"]] == ["cancelled"])


def test_a_cluster_without_workers_says_so_and_waits(
    shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Cluster(folder) as made:
        reach(made.servers, monkeypatch)
        made.master()
        out, err = shell("submit", "words.py", "in.txt", "-o", "out", "--detach")
        job = out.strip()
        assert "no workers yet" in err + shell("status", job)[0]
        assert "no workers: start some" in shell("workers")[0]
        made.worker("w0")
        shell("wait", job)
    assert (folder / "out" / "_SUCCESS").exists()


def test_nobody_answers(shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Cluster(folder) as made:
        reach(made.servers, monkeypatch)
        _, err = shell("jobs", "--timeout", "1s", expect=1)
    assert "no master answers yet: waiting" in err
    assert "no master has answered within 1 s" in err


def test_drain_and_quarantine(one: Cluster, shell: Shell) -> None:
    until(lambda: json.loads(shell("workers", "--json")[0])["workers"])
    assert "worker w0 is quarantined now" in shell("workers", "quarantine", "w0")[1]
    assert "quarantined" in shell("workers")[0]
    assert "worker w0 is alive now" in shell("workers", "readmit", "w0")[1]
