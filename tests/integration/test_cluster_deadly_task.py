"""A record that takes its whole worker down, on real servers and processes: tried a few times, then named."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cluster_runs import ClusterRun, cluster_of, logs_of
from docker_run import Run

DEADLY = '''
import os, signal, time
import mrq

class Deadly(mrq.Job):
    """Kills its worker's agent at the word "bad", as a kernel without memory may."""
    reduce = mrq.sum

    def map(self, key, line):
        if line == "bad":
            time.sleep(3)  # two beats name it
            pid = os.getpid()
            while b"mrq.worker\\0--map-slots" not in open(f"/proc/{pid}/cmdline", "rb").read():
                pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
            os.kill(pid, signal.SIGKILL)
            time.sleep(60)
        yield line, 1
'''


@pytest.fixture(scope="module")
def cluster(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRun]:
    """A master and two workers."""
    with cluster_of(run, tmp_path_factory.mktemp("deadly"), workers=0) as made:
        made.workers("w0", "w1", maps=2)
        yield made


@pytest.fixture(autouse=True)
def _logs(cluster: ClusterRun) -> Iterator[None]:
    with logs_of(cluster):
        yield


@contextmanager
def started_again(cluster: ClusterRun) -> Iterator[list[str]]:
    """Workers that die are started again, as compose does; their names, one a death."""
    died: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            for name in ("w0", "w1"):
                if cluster.processes[name].poll() is not None:
                    died.append(name)
                    cluster.worker(name, maps=2)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield died
    finally:
        over.set()
        thread.join()


@pytest.mark.timeout(400)
def test_a_record_that_kills_its_worker_fails_its_job_by_name_and_no_other(cluster: ClusterRun) -> None:
    """Two workers are fewer than the ten losses that a task may have in all."""
    (cluster.folder / "deadly.py").write_text(DEADLY)
    path = cluster.shell.write("deadly-in.txt", "a\nbad\nb\n")
    words = [f"word{n}" for n in range(48)]
    with started_again(cluster) as died:
        good = cluster.held("good", words, "-R", "2")
        cluster.until(lambda: cluster.status(good)["stages"][0]["completed"] >= 1)
        bad = cluster.detached("deadly.py", path, "-o", "deadly-out", "-R", "1")
        began = time.monotonic()
        cluster.until(lambda: cluster.status(bad)["state"] == "failed", 240)
        print(f"given up after {time.monotonic() - began:.0f} s, {len(died)} deaths: {died}")
        error = str(cluster.status(bad)["error"])
        assert "m-00000 took its worker down 3 times while nothing else ran there" in error
        assert "last heard of at 'bad' (offset 2 of " in error
        assert all(name in error for name in set(died))
        assert 5 <= len(died) <= 7
        cluster.mrq("wait", good, timeout_s=120)
        cluster.alive("w0", "w1")
    assert cluster.result("good") == dict.fromkeys(words, 1)
    row = cluster.status(good)
    assert (row["state"], row["failures"], row["losses"]) == ("done", 0, 0)
    runs = [len(each) for task, each in cluster.began("good").items() if task[0] == "m"]
    print(f"the good job's maps began {sum(runs)} times, one of them {max(runs)} times")
    assert max(runs) <= 2 + len(died), "no map is lost again and again"
