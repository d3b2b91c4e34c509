"""Jobs on a master and three workers as processes: side by side, shuffling early, cancelled, with rubbish."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import msgpack
import pytest
from cli_runs import gone, runs
from cluster_runs import ClusterRun, cluster_of, logs_of, took
from docker_run import Run
from rabbitmq_runs import put

CANCEL_S = 3.0
#: From the death of a data plane until its reduce fetches again, here or elsewhere.
AGAIN_S = 20.0

SORTS = """
import mrq

class Sorts(mrq.Job, sort_values=True):
    reduce = mrq.collect

    def map(self, key, line):
        word, value = line.split()
        yield word, eval(value)
"""


@pytest.fixture(scope="module")
def cluster(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRun]:
    with cluster_of(run, tmp_path_factory.mktemp("work")) as made:
        yield made


@pytest.fixture(autouse=True)
def _logs(cluster: ClusterRun) -> Iterator[None]:
    with logs_of(cluster):
        yield


def test_reduces_start_before_maps_end_and_fetch_as_they_go(cluster: ClusterRun) -> None:
    job = cluster.held("early", ["a", "b", "c one", "d two"], "-R", "1")

    def shuffling() -> tuple[float, float]:
        """How far the reduce is: the share of maps that it has, and bytes."""
        for row in cluster.status(job)["attempts"]:
            if (row["task"], row["phase"]) == ("r-00000", "shuffling"):
                return row["fraction"], row["bytes"]
        return 0.0, 0

    def maps_done() -> int:
        return int(cluster.status(job)["stages"][0]["completed"])

    cluster.until(lambda: maps_done() == 2 and shuffling()[1] > 0 and shuffling()[0] >= 0.5)
    half = shuffling()
    cluster.open("early", "one")
    cluster.until(lambda: shuffling()[0] >= 0.75)
    assert shuffling()[1] > half[1]
    assert maps_done() == 3, "the last map runs, and the reduce has all the others"
    assert "r-00000" not in cluster.began("early"), "no executor waits with it"
    cluster.open("early", "two")
    cluster.mrq("wait", job)
    assert cluster.result("early") == dict.fromkeys("abcd", 1)
    assert cluster.uncharged(job)
    assert cluster.tasks(job)["r-00000"]["number"] == 1


def test_a_reduce_under_a_data_plane_that_dies_goes_back_uncharged(cluster: ClusterRun) -> None:
    """At once, to be claimed again, and what comes out are the bytes of an undisturbed run."""
    cluster.mrq("wait", cluster.held("calm", ["a", "b", "c", "d"], "-R", "1"))
    job = cluster.held("killed", ["a", "b", "c one", "d two"], "-R", "1")

    def fetching() -> tuple[int, str]:
        """The number and worker of the reduce's attempt that has two maps of four, if there is one."""
        for row in cluster.status(job)["attempts"]:
            if (row["task"], row["phase"]) == ("r-00000", "shuffling") and row["fraction"] >= 0.5:
                return row["number"], row["worker"]
        return 0, ""

    cluster.until(lambda: fetching()[0] == 1)
    (pid,) = cluster.data_planes(fetching()[1])
    os.kill(pid, signal.SIGKILL)
    seconds = took(lambda: fetching()[0] == 2, cluster)
    print(f"a dead data plane's reduce has as much as before after {seconds:.1f} s")
    assert seconds < AGAIN_S
    cluster.open("killed", "one")
    cluster.open("killed", "two")
    cluster.mrq("wait", job)
    assert cluster.shell.result("killed-out") == cluster.shell.result("calm-out")
    assert cluster.uncharged(job)


def test_two_jobs_at_once(cluster: ClusterRun) -> None:
    """One may run two tasks at once: the other has the third slot, and ends first."""
    lines = [f"a{n} go" for n in range(4)]
    left = cluster.held("left", lines, "-R", "2", "--max-running", "2")
    cluster.until(lambda: len(cluster.began("left")) == 2)
    right = cluster.held("right", lines, "-R", "2")
    cluster.until(lambda: cluster.began("right"))
    assert len(cluster.began("left")) == 2
    listed = cluster.mrq("jobs", "--json").json["jobs"]
    assert {row["job"] for row in listed if any(each["running"] for each in row["stages"])} == {left, right}
    cluster.open("right")
    cluster.mrq("wait", right)
    assert cluster.status(left)["state"] == "running"
    cluster.open("left")
    cluster.mrq("wait", left)
    for name, job in (("left", left), ("right", right)):
        assert cluster.result(name) == {f"a{n}": 1 for n in range(4)}
        assert cluster.uncharged(job)


def test_a_cancelled_job_is_gone_at_once_and_its_out_is_as_it_was(cluster: ClusterRun) -> None:
    before = cluster.shell.write("before.txt", "what was here before\n")
    cluster.mrq("submit", "wc.py", before, "-o", "old-out", "-R", "1", "-q")
    old = cluster.shell.result("old-out")
    inputs = [cluster.shell.write(f"old-in/{n}.txt", f"a{n} go\n") for n in range(3)]
    job = cluster.detached("held.py", *inputs, "-o", "old-out", "--overwrite", *cluster.held_flags("old"))
    cluster.until(lambda: len(cluster.began("old")) == 3)
    pids = {pid for each in cluster.began("old").values() for _, pid in each}
    assert all(map(runs, pids))
    began = time.monotonic()
    err = cluster.mrq("cancel", job).err
    told = time.monotonic() - began
    assert gone(pids, within_s=10)
    ended = time.monotonic() - began
    print(f"cancelled after {told:.1f} s, executors gone after {ended:.1f} s")
    assert f"{job} is cancelled" in err
    assert ended < told + CANCEL_S
    assert cluster.status(job)["state"] == "cancelled"
    assert cluster.shell.result("old-out") == old
    assert cluster.shell.staged() == []
    cluster.until(lambda: not any(row["attempts"] for row in cluster.ask("workers")["workers"]))
    err = cluster.mrq("wait", job, expect=1).err
    assert "was cancelled" in err


def test_rubbish_on_every_queue_harms_nobody(cluster: ClusterRun) -> None:
    job = cluster.held("rubbish", ["a", "b go", "c go", "d"], "-R", "2")
    cluster.until(lambda: len(cluster.began("rubbish")) >= 2)
    forged = msgpack.packb([1, "1", b"x" * 32, msgpack.packb({"job": job})])
    for queue in ("map", "reduce", "dead"):
        for body in (b"", b"what is this?", msgpack.packb([9, "1", b"", b""]), forged):
            put(cluster.broker, f"{cluster.server.prefix}.{queue}", body)
    seconds = took(lambda: aside(cluster) >= 12, cluster)
    print(f"rubbish is put aside after {seconds:.1f} s")
    cluster.open("rubbish")
    cluster.mrq("wait", job)
    assert cluster.result("rubbish") == dict.fromkeys("abcd", 1)
    assert cluster.uncharged(job)
    assert {row["health"] for row in cluster.ask("workers")["workers"]} == {"alive"}


def aside(cluster: ClusterRun) -> int:
    found = cluster.broker.queue(f"{cluster.server.prefix}.rubbish")
    return int(found.get("messages", 0))


def test_a_value_that_cannot_be_sorted_sends_its_map_back(cluster: ClusterRun) -> None:
    """From other workers, whose outputs are fetched first: the record is named, or left out."""
    (cluster.folder / "sorts.py").write_text(SORTS)
    lines = ("a 2", "a 1", "b 1", "b {}", "a None", "b 0")
    paths = [cluster.shell.write(f"sorts-in/{n}.txt", f"{line}\n") for n, line in enumerate(lines)]
    flags = ("-R", "3", "--split-size", "20000")
    ran = cluster.mrq("submit", "sorts.py", *paths, "-o", "sorts-no", *flags, expect=1)
    assert "sort_values can't order the values of the key 'b'" in ran.err
    assert "record  'b {}'" in ran.err
    assert f"where   {paths[3]} at byte 0" in ran.err
    ran = cluster.mrq("submit", "sorts.py", *paths, "-o", "sorts-out", *flags, "--skip-bad-records", "1")
    assert "1 record left out" in ran.err
    found = b"".join(data for name, data in cluster.shell.result("sorts-out").items() if "part" in name)
    assert sorted(found.splitlines()) == [b"a\t[null,1,2]", b"b\t[0,1]"]


STAGES = """
import glob, os, time
import mrq

class Stages(mrq.Job):
    folder: str = ""

    def stages(self):
        return [
            mrq.Stage(map=self.words, reduce=mrq.sum, reducers=3),
            mrq.Stage(map=self.waits, reduce=mrq.sum, reducers=3),
            mrq.Stage(map=self.swap, reduce=mrq.collect, order="total", sort_values=True, reducers=2),
        ]

    def words(self, key, line):
        for word in line.split():
            yield word, 1

    def waits(self, word, count):
        while self.folder and not glob.glob(f"{self.folder}/go"):
            time.sleep(0.05)
        yield word, count

    def swap(self, word, count):
        yield count, word
"""


def staged(cluster: ClusterRun) -> tuple[list[str], bytes]:
    """Inputs of a job of three stages, and what comes out."""
    (cluster.folder / "stages.py").write_text(STAGES)
    paths = [cluster.shell.write(f"stages-in/{n}.txt", "a b c d\n" * n + "b d\nd\n") for n in range(1, 7)]
    return paths, b'21\t["a","c"]\n27\t["b"]\n33\t["d"]\n'


def written(cluster: ClusterRun, out: str) -> bytes:
    return b"".join(data for name, data in sorted(cluster.shell.result(out).items()) if "part" in name)


def test_a_job_of_three_stages_hands_its_parts_on_over_the_shared_disk(cluster: ClusterRun) -> None:
    """Reduces of each stage fetch what maps of theirs left on other workers."""
    paths, expected = staged(cluster)
    ran = cluster.mrq("submit", "stages.py", *paths, "-o", "stages-out", "--split-size", "10")
    assert written(cluster, "stages-out") == expected, ran.err
    assert not (cluster.folder / ".stages-out.mrq").exists()


def test_a_part_between_two_stages_that_is_gone_has_the_job_begin_again(cluster: ClusterRun) -> None:
    paths, expected = staged(cluster)
    gate = cluster.folder / "gate"
    gate.mkdir()
    flags = ("--split-size", "10", "--set", f"folder={gate}")
    job = cluster.detached("stages.py", *paths, "-o", "stages-lost", *flags)
    kept = cluster.folder / ".stages-lost.mrq/stages/1"
    cluster.until(lambda: any(row["task"].startswith("m2-") for row in cluster.status(job)["attempts"]))
    for part in kept.iterdir():
        part.write_bytes(part.read_bytes()[:-1])
    (gate / "go").touch()
    cluster.mrq("wait", job)
    assert written(cluster, "stages-lost") == expected
    status = cluster.status(job)
    assert status["failures"] == status["losses"] == 0
    assert {each["status"] for each in status["errors"]} == {"part_lost"}


SHORT = """
import glob, os, time
import mrq

class Short(mrq.Job):
    marks: str
    reduce = mrq.count

    def map(self, key, line):
        word = line.strip()
        until = time.monotonic() + 60
        while word == "long" and len(glob.glob(f"{self.marks}/*")) < 299:
            assert time.monotonic() < until, "others wait behind this one"
            self.task.progress()
            time.sleep(0.02)
        if word != "long":
            open(f"{self.marks}/{word}", "w").close()
        yield self.task.id, word
"""


def test_no_short_task_waits_behind_a_long_one_of_its_message(cluster: ClusterRun) -> None:
    """The long one ends only after all others have: also those that its own message names."""
    (cluster.folder / "short.py").write_text(SHORT)
    marks = cluster.marks("short")
    marks.mkdir()
    words = [f"w{n:03}\n" for n in range(299)]
    words.insert(200, "long\n")  # by then it is known how short the tasks are
    source = cluster.shell.write("short-in.txt", "".join(words))
    flags = ("-R", "1", "--split-size", "5", "--set", f"marks={marks}")
    job = cluster.detached("short.py", source, "-o", "short-out", *flags)
    cluster.mrq("wait", job)
    found = b"".join(cluster.shell.result("short-out").values())
    assert found == b"".join(b"m-%05d\t1\n" % n for n in range(300))
    assert cluster.uncharged(job)
    given_back = [row["task"] for row in cluster.tasks(job).values() if row["number"] > 1]
    print(f"given back: {given_back}")
    assert given_back, "nothing waited behind the long one"
