"""The paper's jobs on a master and three workers as processes: the bytes of the embedded run."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest
from cli_runs import finish
from cluster_runs import ClusterRun, cluster_of, logs_of
from docker_run import Run
from test_paper_jobs import JOBS, ROOT, commands

COMMANDS = [(job, n) for job in JOBS for n in range(len(commands(job)))]


@pytest.fixture(scope="module")
def cluster(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRun]:
    """In a folder that looks like a clone's root, with data/ as the docstrings make it."""
    folder = tmp_path_factory.mktemp("paper")
    (folder / "workers").symlink_to(ROOT / "workers")
    subprocess.run([sys.executable, "workers/jobs/make_data.py", "data"], cwd=folder, check=True, timeout=60)
    with cluster_of(run, folder) as made:
        yield made


@pytest.fixture(autouse=True)
def _logs(cluster: ClusterRun) -> Iterator[None]:
    with logs_of(cluster):
        yield


@pytest.mark.parametrize(("job", "n"), COMMANDS, ids=[f"{job}-{n}" for job, n in COMMANDS])
def test_the_bytes_are_the_embedded_ones(cluster: ClusterRun, job: str, n: int) -> None:
    words = shlex.split(commands(job)[n])[3:]
    at = words.index("-o") + 1
    made, counters, runs = {}, {}, {}
    for where, more in (("here", ("--cluster", "local", "-j", "1")), ("there", ())):
        argv = (*words[:at], f"{where}-{job}-{n}", *words[at + 1 :], "--split-size", "30k", *more)
        runs[where] = cluster.command("submit", *argv)
    for where, process in runs.items():
        ran = finish(process)
        assert ran.code == 0, ran.err
        made[where] = cluster.shell.result(f"{where}-{job}-{n}")
        manifest = cluster.folder / f"{where}-{job}-{n}" / "_SUCCESS"
        counters[where] = json.loads(manifest.read_text())["counters"]
    assert made["there"] == made["here"]
    assert sum(map(len, made["here"].values())) > 0
    assert counters["there"] == counters["here"]


def test_every_worker_had_a_share(cluster: ClusterRun) -> None:
    cluster.mrq("submit", "wc.py", "data/books", "-o", "shares", "-R", "6", "--split-size", "2k")
    rows = cluster.ask("workers")["workers"]
    assert {row["worker"] for row in rows if row["completed"]} == {"w0", "w1", "w2"}
    assert cluster.shell.staged() == []
