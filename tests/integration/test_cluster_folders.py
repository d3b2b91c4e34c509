"""Workers whose own folders vanish under a running job: nothing is charged, and the worker mends them or
leaves."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cluster_runs import ClusterRun, cluster_of, logs_of
from docker_run import Run

from mrq import health

WORKER = "solo"
FOLDERS = ("maps", "scratch", "logs", "fetched", "", "..", "../../code", "../../trash", "../../sentinel")


@pytest.fixture(scope="module")
def cluster(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRun]:
    """One worker: what it can't do nobody does."""
    with cluster_of(run, tmp_path_factory.mktemp("folders"), workers=0) as made:
        made.workers(WORKER, maps=2)
        yield made


@pytest.fixture(autouse=True)
def _logs(cluster: ClusterRun) -> Iterator[None]:
    with logs_of(cluster):
        yield


def home(cluster: ClusterRun, worker: str) -> Path:
    return cluster.folder / f"root-{worker}" / "workers" / worker


def broken(path: Path, how: str) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    if how == "file":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("in the place of a folder of ours")


def mapped(cluster: ClusterRun, name: str, job: str) -> None:
    """Until its first map is done and others run."""
    cluster.until(lambda: len(cluster.began(name)) == 3, 60)
    cluster.until(lambda: cluster.tasks(job)["m-00000"]["state"] == "completed")


@pytest.mark.parametrize("how", ["removed", "file"])
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_that_vanishes_is_made_again_and_charges_nothing(
    cluster: ClusterRun, folder: str, how: str
) -> None:
    name = f"{folder.strip('./') or 'job' + str(len(folder))}-{how}"
    job = cluster.held(name, ["a", "b go", "c go"], "-R", "2")
    mapped(cluster, name, job)
    broken((home(cluster, WORKER) / "jobs" / job / folder).resolve(), how)
    cluster.open(name)
    cluster.mrq("wait", job, timeout_s=120)
    assert cluster.result(name) == {"a": 1, "b": 1, "c": 1}
    row = cluster.status(job)
    assert (row["failures"], row["losses"], row["worker_losses"]) == (0, 0, 0), row["errors"]
    (found,) = cluster.ask("workers", worker=WORKER)["workers"]
    assert (found["health"], found["reason"]) == ("alive", "")


@pytest.mark.parametrize("folder", ["maps", "", "..", "../../code"])
def test_a_folder_that_is_moved_and_linked_is_made_again(cluster: ClusterRun, folder: str) -> None:
    """As of an operator who wants it on another disk. Nothing fails through the link, and nobody would remove
    what is written there."""
    name = f"linked-{folder.strip('./') or 'job' + str(len(folder))}"
    job = cluster.held(name, ["a", "b go", "c go"], "-R", "2")
    mapped(cluster, name, job)
    path = Path(os.path.normpath(home(cluster, WORKER) / "jobs" / job / folder))
    elsewhere = cluster.folder / f"elsewhere-{name}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    cluster.until(lambda: path.is_dir() and not path.is_symlink())
    cluster.until(lambda: f"{path}, a folder of this worker's own, was a link" in cluster.log(WORKER))
    before = sorted(elsewhere.rglob("*"))
    cluster.open(name)
    cluster.mrq("wait", job, timeout_s=120)
    assert cluster.result(name) == {"a": 1, "b": 1, "c": 1}
    row = cluster.status(job)
    assert (row["failures"], row["losses"], row["worker_losses"]) == (0, 0, 0), row["errors"]
    assert {path for path in sorted(elsewhere.rglob("*")) if path.is_file()} <= set(before)
    (found,) = cluster.ask("workers", worker=WORKER)["workers"]
    assert (found["health"], found["reason"]) == ("alive", "")


def test_a_worker_whose_home_vanishes_leaves_by_name_and_comes_back(cluster: ClusterRun) -> None:
    cluster.workers("homeless", maps=2)
    cluster.ask("quarantine", worker=WORKER)
    job = cluster.held("home", ["a", "b go", "c go"], "-R", "1")
    mapped(cluster, "home", job)
    shutil.rmtree(home(cluster, "homeless"))

    def leaves() -> bool:
        (row,) = cluster.ask("workers", worker="homeless")["workers"]
        return row["health"] == "draining" and "can't work in its own folders" in row["reason"]

    cluster.until(leaves)
    assert "then it leaves" in cluster.ask("workers", worker="homeless")["workers"][0]["ends"]
    cluster.ask("readmit", worker=WORKER)
    cluster.open("home")
    assert cluster.processes["homeless"].wait(90) == 1
    assert "this worker leaves, for it can't work in its own folders" in cluster.log("homeless")
    cluster.mrq("wait", job, timeout_s=120)
    assert cluster.result("home") == {"a": 1, "b": 1, "c": 1}
    row = cluster.status(job)
    assert (row["failures"], row["losses"], row["worker_losses"]) == (0, 0, 0), row["errors"]
    cluster.worker("homeless")
    cluster.alive("homeless")
    cluster.stop("homeless")


def test_a_data_plane_that_hangs_is_seen_by_everybody_and_started_again(cluster: ClusterRun) -> None:
    """By the operator, the container's healthcheck and the log; then it serves again."""
    pulse = cluster.folder / "pulse"
    cluster.worker("mute", MRQ_HEALTH_FILE=str(pulse))
    cluster.alive("mute")

    def row() -> Mapping[str, Any]:
        return dict(cluster.ask("workers", worker="mute")["workers"][0])

    (before,) = cluster.data_planes("mute")
    os.kill(before, signal.SIGSTOP)
    cluster.until(lambda: "the data plane doesn't serve: it has said nothing" in row()["reason"], 60)
    assert "started anew" in row()["ends"]
    assert "the data plane doesn't serve" in cluster.log("mute")
    cluster.until(lambda: "the data plane doesn't serve" in str(health.failing(pulse, now=time.time())))
    cluster.until(lambda: before not in (planes := cluster.data_planes("mute")) and planes, 90)
    cluster.until(lambda: row()["reason"] == "", 60)
    cluster.until(lambda: health.failing(pulse, now=time.time()) is None)
    cluster.stop("mute")
