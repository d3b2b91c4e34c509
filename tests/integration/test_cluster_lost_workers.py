"""Workers that are killed, vanish, drain: what they held is run by others, and nobody is charged wrongly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster_runs import ClusterRun, cluster_of, logs_of, took
from docker_run import Run

BEAT_S = 1.0
DEAD_S = 15.0


@pytest.fixture(scope="module")
def cluster(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRun]:
    """A master and one worker; those that are lost are the tests' own."""
    with cluster_of(run, tmp_path_factory.mktemp("lost"), workers=0) as made:
        made.workers("w0", maps=2)
        yield made


@pytest.fixture(autouse=True)
def _logs(cluster: ClusterRun) -> Iterator[None]:
    with logs_of(cluster):
        yield


def held_by(cluster: ClusterRun, name: str, worker: str, *, maps: int) -> str:
    """Submit `Held` so that `worker` runs all its maps; its id."""
    takes_none(cluster, "w0")
    job = cluster.held(name, [f"a{n} go" for n in range(maps)], "-R", "2")
    cluster.until(lambda: len(cluster.began(name)) == maps)
    cluster.until(lambda: list(cluster.attempts(job).values()) == [(1, 1, worker)] * maps)
    cluster.ask("readmit", worker="w0")
    return job


def takes_none(cluster: ClusterRun, worker: str) -> None:
    """Quarantine a worker, and wait until it knows: what it gave back would come out of order."""
    told = cluster.log(worker).count("quarantined: no tasks")
    cluster.ask("quarantine", worker=worker)
    cluster.until(lambda: cluster.log(worker).count("quarantined: no tasks") > told)


def health(cluster: ClusterRun, worker: str) -> str:
    return str(cluster.ask("workers", worker=worker)["workers"][0]["health"])


def test_a_worker_that_comes_back_by_another_name_takes_the_row_of_the_old_one(cluster: ClusterRun) -> None:
    """As a container that is made anew: another name, the same volume."""

    def listed() -> list[tuple[str, str]]:
        return [(row["worker"], row["health"]) for row in cluster.ask("workers")["workers"]]

    cluster.workers("old")
    cluster.stop("old")
    cluster.until(lambda: ("old", "dead") in listed())
    cluster.workers("elsewhere")
    assert ("old", "dead") in listed()
    cluster.workers("new", root="old")
    assert {name for name, _ in listed()} == {"w0", "elsewhere", "new"}
    assert cluster.ask("workers", worker="old")["workers"][0]["silent_s"] < 60
    assert health(cluster, "old") == "dead"
    cluster.stop("new", "elsewhere")


def test_a_worker_that_vanishes_is_given_up_when_its_beats_are(cluster: ClusterRun) -> None:
    """Its connections stay open, as those of a host without power do: only its silence tells."""
    cluster.workers("frozen")
    job = held_by(cluster, "freeze", "frozen", maps=1)
    cluster.freeze("frozen")
    seconds = took(lambda: cluster.attempts(job).get("m-00000", (0, 0, ""))[2] == "w0", cluster, 40)
    print(f"a vanished worker's task runs elsewhere after {seconds:.1f} s")
    assert DEAD_S - 2 * BEAT_S < seconds < DEAD_S + 8 * BEAT_S
    cluster.open("freeze")
    cluster.mrq("wait", job)
    assert cluster.result("freeze") == {"a0": 1}
    assert cluster.status(job)["worker_losses"] == 1
    cluster.thaw()  # it comes back, has lost what it ran, and takes tasks again
    cluster.alive("frozen")
    cluster.until(lambda: not cluster.ask("workers", worker="frozen")["workers"][0]["attempts"])
    cluster.stop("frozen")


def test_a_killed_worker_s_tasks_are_run_again_in_two_beats(cluster: ClusterRun) -> None:
    """The broker sees the connection end and gives its messages to others at once.

    After the test above `w0` has had its connection for so long that it needn't wait for others to reconnect.
    """
    cluster.workers("killed", maps=2)
    job = held_by(cluster, "kill", "killed", maps=2)
    cluster.kill("killed")
    seconds = took(lambda: [each[2] for each in cluster.attempts(job).values()] == ["w0", "w0"], cluster)
    print(f"a killed worker's task runs elsewhere after {seconds:.1f} s")
    rows = cluster.mrq("status", job, "--json").json
    assert [
        (each["task"], each["worker"], each["ticket"], each["number"])
        for each in rows["info"]["attempts"]
        if each["stage"] == "map"
    ] == [("m-00000", "w0", 1, 2), ("m-00001", "w0", 1, 2)]
    cluster.open("kill")
    cluster.mrq("wait", job)
    assert cluster.result("kill") == {"a0": 1, "a1": 1}
    tasks, row = cluster.tasks(job), cluster.status(job)
    assert {task: (each["worker"], each["number"]) for task, each in tasks.items() if task[0] == "m"} == {
        "m-00000": ("w0", 2),
        "m-00001": ("w0", 2),
    }
    assert (row["failures"], row["losses"]) == (0, 0)
    assert row["worker_losses"] == 2, "counted, a task each"
    assert sorted(each["status"] for each in row["errors"]) == ["worker_lost", "worker_lost"]
    assert seconds < 8 * BEAT_S


def test_a_drained_worker_finishes_and_goes(cluster: ClusterRun) -> None:
    """By `mrq workers drain`, and by SIGTERM: what it runs ends there, what it made is still read."""
    cluster.workers("drained", "ended", maps=2)  # room for all four, in whatever order they come
    takes_none(cluster, "w0")
    lines = ["a0", "a1", "b0 go", "b1 go"]
    job = cluster.held("drain", lines, "-R", "3")
    cluster.until(lambda: sorted(cluster.began("drain")) == [f"m-0000{n}" for n in range(4)])
    cluster.ask("readmit", worker="w0")
    cluster.until(lambda: [each["state"] for each in cluster.tasks(job).values()].count("completed") == 2)
    assert "is draining now" in cluster.mrq("workers", "drain", "drained").err
    cluster.processes["ended"].terminate()
    cluster.until(lambda: health(cluster, "drained") == health(cluster, "ended") == "draining")
    cluster.open("drain")
    cluster.mrq("wait", job)
    assert cluster.result("drain") == {"a0": 1, "a1": 1, "b0": 1, "b1": 1}
    assert cluster.uncharged(job)
    rows = {row["worker"]: row["completed"] for row in cluster.ask("workers")["workers"]}
    assert rows["drained"] + rows["ended"] >= 4, "what ran went on to its end where it was"
    for name in ("drained", "ended"):
        assert cluster.processes[name].wait(30) == 0
    for name in ("drained", "ended"):  # as compose does, and systemd may
        cluster.worker(name)
    cluster.until(lambda: (health(cluster, "drained"), health(cluster, "ended")) == ("quarantined", "alive"))
