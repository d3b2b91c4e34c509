"""Disks that masters, workers and clients don't share: a path that is another folder for one of them.

A tmpfs stands for the other machine's disk, in a mount namespace of that process's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runs import finish
from cluster_runs import ClusterRun, cluster_of, logs_of
from docker_run import Run

#: Starts a command for which a folder, which must be there, is another one, with a file in it.
_APART = (
    "unshare", "--mount", "sh", "-c",
    'mount -t tmpfs -o size=1m tmpfs "$0" && echo mine mine > "$0/mine.txt" && exec "$@"',
)  # fmt: skip


@pytest.fixture(scope="module")
def cluster(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRun]:
    """One master, and a worker on its disks; `apart` is a folder that others have not."""
    folder = tmp_path_factory.mktemp("apart")
    (folder / "apart").mkdir()
    if subprocess.run([*_APART, str(folder / "apart"), "true"], capture_output=True, timeout=20).returncode:
        pytest.skip("this machine allows no mounts")
    with cluster_of(run, folder, workers=1) as made:
        made.shell.write("in.txt", "a b a\nb c\n")
        yield made


@pytest.fixture(autouse=True)
def _logs(cluster: ClusterRun) -> Iterator[None]:
    with logs_of(cluster):
        yield


@pytest.fixture
def apart(cluster: ClusterRun) -> Iterator[Path]:
    """The folder, of which the second worker has another one."""
    yield cluster.folder / "apart"
    if "w1" in cluster.processes:
        cluster.stop("w1")
        del cluster.processes["w1"]
        cluster.until(lambda: [row["worker"] for row in rows(cluster) if row["health"] == "alive"] == ["w0"])


def rows(cluster: ClusterRun) -> list[dict[str, object]]:
    return list(cluster.ask("workers")["workers"])


def start_apart(cluster: ClusterRun, apart: Path) -> None:
    with open(cluster.folder / "w1.log", "ab") as log:
        cluster.processes["w1"] = subprocess.Popen(
            [
                *_APART, str(apart), sys.executable, "-m", "mrq.worker", "--map-slots", "1",
                "--reduce-slots", "1", "--worker-id", "w1", "--root", str(cluster.folder / "root-w1"),
                "--listen", "127.0.0.1:0",
            ],
            env=cluster.environ, cwd=cluster.folder, stderr=log, stdout=log,
        )  # fmt: skip
    cluster.alive("w1")


def test_an_out_that_a_worker_does_not_share_is_refused_by_its_name(cluster: ClusterRun, apart: Path) -> None:
    cluster.mrq("submit", "wc.py", "in.txt", "-o", "apart/new/first")
    start_apart(cluster, apart)
    for out, shown in (("apart/out", apart), ("apart/a/b/out", apart), ("apart/new/out", apart / "new")):
        err = cluster.mrq("submit", "wc.py", "in.txt", "-o", out, expect=2).err
        assert f"error: {out}: worker w1 doesn't share {shown} with master " in err
        assert "which leads; OUT must lie on a disk that masters and workers share" in err
    assert os.listdir(apart) == ["new"]
    assert os.listdir(apart / "new") == ["first"]
    assert cluster.active() == []
    cluster.mrq("submit", "wc.py", "in.txt", "-o", "elsewhere")
    (row,) = [row for row in rows(cluster) if row["worker"] == "w1"]
    assert row["notes"] == [f"{path} isn't shared with the leader" for path in (apart, apart / "new")]
    cluster.ask("quarantine", worker="w1")
    cluster.mrq("submit", "wc.py", "in.txt", "-o", "apart/out")
    assert (apart / "out/_SUCCESS").exists()
    cluster.ask("readmit", worker="w1")


def test_a_worker_that_comes_later_is_named_to_whoever_waits(cluster: ClusterRun, apart: Path) -> None:
    path = cluster.shell.write("late.txt", "a go\n")
    process = cluster.command("submit", "held.py", path, "-o", "apart/late", *cluster.held_flags("late"))
    cluster.until(lambda: cluster.began("late"))
    (job,) = cluster.active()
    assert cluster.status(job)["notes"] == []
    start_apart(cluster, apart)
    cluster.until(lambda: cluster.status(job)["notes"])
    (note,) = cluster.status(job)["notes"]
    assert note.startswith(f"worker w1 doesn't share {apart} with master ")
    assert f"notes      {note}" in cluster.mrq("status", job).out.decode()
    cluster.ask("quarantine", worker="w1")
    cluster.until(lambda: cluster.status(job)["notes"] == [])
    cluster.open("late")
    ran = finish(process)
    assert ran.code == 0, ran.err
    assert f"note: {note}: what they write of this job fails" in ran.err


def submit_apart(cluster: ClusterRun, apart: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """As a client on another machine."""
    return subprocess.run(
        [*_APART, str(apart), sys.executable, "-m", "mrq", "submit", *argv],
        cwd=cluster.folder,
        env=cluster.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_another_folder_at_the_clients_path_is_not_read(cluster: ClusterRun, apart: Path) -> None:
    (apart / "theirs.txt").write_text("theirs\n")
    for argument in ("apart", "apart/*", "apart/mine.txt"):
        ran = submit_apart(cluster, apart, "wc.py", argument, "-o", "-")
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout == "mine\t2\n"
    assert "theirs\t1" in submit_apart(cluster, apart, "wc.py", "apart/theirs.txt", "-o", "-").stdout
    err = submit_apart(cluster, apart, "wc.py", "apart/none.txt", "-o", "-").stderr
    assert f"apart/none.txt: the cluster doesn't see {apart}/none.txt; {apart} is there, with " in err
    assert "; and it isn't here either: no such file or directory (looked in " in err
    assert "[paths] in mrq.toml says where the cluster has folders of this machine" in err
