"""Jobs of several stages on masters and workers as processes, some of them killed at the second stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_runs import ClusterRun, cluster_of, logs_of
from docker_run import Run

JOB = """
import os, time
import mrq

class Chain(mrq.Job):
    marks: str

    def stages(self):
        return [
            mrq.Stage(map=self.words, reduce=mrq.sum, reducers=3),
            mrq.Stage(map=self.held, reduce=self.collected, reducers=2),
            mrq.Stage(map=self.turned, reduce=mrq.identity, order="total", reducers=2),
        ]

    def setup(self):
        name = f"{self.task.id}.{self.task.attempt}.{os.getpid()}"
        with open(os.path.join(self.marks, name), "w"):
            pass

    def words(self, offset, line):
        for word in line.split():
            self.counters["words"] += 1
            yield word, 1

    def held(self, word, n):
        while not os.path.exists(os.path.join(self.marks, "go")):
            self.task.progress()
            time.sleep(0.02)
        yield (n, len(word)), word

    def collected(self, key, words):
        yield sorted(words)

    def turned(self, key, words):
        self.counters["groups"] += 1
        yield (-key[0], key[1]), " ".join(words)
"""
LINES = [f"{'abcdefg'[n % 7] * (n % 3 + 1)} {'xyz'[n % 3]} {'pq'[n % 2] * 2}" for n in range(300)]


def expected() -> list[str]:
    found: dict[tuple[int, int], list[str]] = {}
    for word, n in Counter(word for line in LINES for word in line.split()).items():
        found.setdefault((-n, len(word)), []).append(word)
    return [f"[{n},{length}]\t{' '.join(sorted(words))}" for (n, length), words in sorted(found.items())]


@pytest.fixture(scope="module")
def cluster(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRun]:
    with cluster_of(run, tmp_path_factory.mktemp("stages"), masters=2, workers=2) as made:
        made.shell.write("chain.py", JOB)
        yield made


@pytest.fixture(autouse=True)
def _logs(cluster: ClusterRun) -> Iterator[None]:
    with logs_of(cluster):
        yield


def at_its_second_stage(cluster: ClusterRun, name: str) -> str:
    """A job whose first stage is complete, and whose second waits; its id."""
    source = cluster.shell.write(f"{name}.txt", "\n".join(LINES) + "\n")
    job = cluster.detached("chain.py", source, "-o", f"{name}-out", *cluster.held_flags(name))
    cluster.until(lambda: any(task.startswith("m2-") for task in began(cluster, name)))
    return job


def began(cluster: ClusterRun, name: str) -> list[str]:
    """Tasks, as often as they have begun."""
    return sorted(path.name.split(".")[0] for path in Path(cluster.marks(name)).glob("*.*.*"))


def ends_well(cluster: ClusterRun, name: str, job: str) -> None:
    first = [task for task in began(cluster, name) if task[1] == "1"]
    cluster.open(name)
    ran = cluster.mrq("wait", job)
    parts = b"".join(cluster.shell.result(f"{name}-out").values()).decode().splitlines()
    assert parts == expected()
    assert [task for task in began(cluster, name) if task[1] == "1"] == first, "the first stage ran once"
    row = cluster.status(job)
    assert row["counters"] == {"words": 3 * len(LINES), "groups": len(expected())}
    assert [f"{stage['name']} {stage['stage']}" for stage in row["stages"]] == [
        "map 1", "reduce 1", "map 2", "reduce 2", "map 3", "reduce 3",
    ]  # fmt: skip
    assert all(f"stage {number} " in ran.err for number in (1, 2, 3))
    assert cluster.shell.staged() == [], "nothing that lay between is left"


def test_a_chain_gives_what_plain_python_does_and_shows_its_stages(cluster: ClusterRun) -> None:
    job = at_its_second_stage(cluster, "plain")
    assert f"{job}  running, stage 2 " in cluster.mrq("jobs").out.decode()
    assert {row["task"][:3] for row in cluster.status(job)["tasks"]} == {"m2-", "r2-"}
    ends_well(cluster, "plain", job)
    assert cluster.uncharged(job)


def test_a_worker_that_dies_at_the_second_stage_costs_its_own_tasks_alone(cluster: ClusterRun) -> None:
    job = at_its_second_stage(cluster, "worker")
    busy = {worker for _, _, worker in cluster.attempts(job).values()}
    cluster.kill(sorted(busy)[0])
    ends_well(cluster, "worker", job)
    cluster.workers(sorted(busy)[0])


def test_a_leader_that_dies_at_the_second_stage_is_followed_by_another(cluster: ClusterRun) -> None:
    job = at_its_second_stage(cluster, "leader")
    before = [task for task in began(cluster, "leader") if task.startswith("m2-")]
    cluster.kill("m0")
    cluster.leading("m1")
    cluster.until(lambda: cluster.status(job)["state"] == "running")
    now = [task for task in began(cluster, "leader") if task.startswith("m2-")]
    assert set(before) <= set(now)
    assert len(now) == len(set(now)), "what ran goes on, and nothing begins a second time"
    ends_well(cluster, "leader", job)
    assert cluster.uncharged(job)
