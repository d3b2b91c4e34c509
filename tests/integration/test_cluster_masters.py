"""Masters that are killed under a running job: another leads, and nothing that is complete is done again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from cluster_runs import ClusterRun, cluster_of, logs_of, took
from docker_run import Run

TAKEOVER_S = 15.0
LINES = ["a", "b", "c", "d go", "e go"]


@pytest.fixture(scope="module")
def cluster(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRun]:
    with cluster_of(run, tmp_path_factory.mktemp("masters"), masters=2) as made:
        yield made


@pytest.fixture(autouse=True)
def _logs(cluster: ClusterRun) -> Iterator[None]:
    with logs_of(cluster):
        yield


def half_done(cluster: ClusterRun, name: str) -> str:
    """A job of which three maps are complete and two run; its id."""
    job = cluster.held(name, LINES, "-R", "2")
    cluster.until(
        lambda: cluster.status(job)["stages"][0]["completed"] == 3 and len(maps(cluster, name)) == 5
    )
    return job


def maps(cluster: ClusterRun, name: str) -> dict[str, list[tuple[int, int]]]:
    return {task: each for task, each in cluster.began(name).items() if task[0] == "m"}


def complete(cluster: ClusterRun, job: str) -> dict[str, Mapping[str, Any]]:
    """What is complete: with ticket, attempt, worker and times."""
    found = {}
    for task, row in cluster.tasks(job).items():
        if row["state"] == "completed":
            found[task] = {
                name: row[name] for name in ("ticket", "number", "worker", "records_in", "records_out")
            }
    return found


def ends_well(cluster: ClusterRun, name: str, job: str, before: Mapping[str, Any], ran: Any) -> None:
    """Once the gate is open: with the right words, and every map begun once."""
    assert complete(cluster, job) == before
    cluster.open(name)
    cluster.mrq("wait", job)
    assert cluster.result(name) == dict.fromkeys("abcde", 1)
    assert {task: row for task, row in complete(cluster, job).items() if task in before} == before
    assert maps(cluster, name) == ran, "no map began again"
    assert cluster.uncharged(job)


def two_masters(cluster: ClusterRun) -> tuple[str, str]:
    """Who leads and who stands by; another is started where one is gone."""
    living = [name for name in masters(cluster) if cluster.processes[name].poll() is None]
    (leader,) = [name for name in living if leads(cluster, name)]
    others = [name for name in living if name != leader]
    if not others:
        others = [f"m{len(masters(cluster))}"]
        cluster.master(others[0])
        cluster.until(lambda: "standing by" in cluster.log(others[0]))
    return leader, others[0]


def masters(cluster: ClusterRun) -> list[str]:
    return [name for name in cluster.processes if name[0] == "m"]


def leads(cluster: ClusterRun, name: str) -> bool:
    return "leading, epoch" in cluster.log(name)


def test_the_standby_takes_over(cluster: ClusterRun) -> None:
    leader, standby = two_masters(cluster)
    job = half_done(cluster, "over")
    before, ran = complete(cluster, job), maps(cluster, "over")
    assert not leads(cluster, standby)
    cluster.kill(leader)
    seconds = took(lambda: leads(cluster, standby), cluster)
    print(f"taken over after {seconds:.1f} s")
    assert seconds < TAKEOVER_S
    ends_well(cluster, "over", job, before, ran)


def test_both_are_killed_and_started_again(cluster: ClusterRun) -> None:
    """No leader for a while: workers go on with what they run, and say so to whoever leads next."""
    old = two_masters(cluster)
    job = half_done(cluster, "both")
    before, ran = complete(cluster, job), maps(cluster, "both")
    for name in old:
        cluster.kill(name)
    new = ("m8", "m9")
    for name in new:
        cluster.master(name)
    seconds = took(lambda: any(leads(cluster, name) for name in new), cluster)
    print(f"led again after {seconds:.1f} s")
    ends_well(cluster, "both", job, before, ran)


def test_the_next_leader_shows_a_quarantine_with_its_reason_and_time(cluster: ClusterRun) -> None:
    leader, standby = two_masters(cluster)
    cluster.workers("shut")

    def shown() -> tuple[str, str, float]:
        (row,) = cluster.ask("workers", worker="shut")["workers"]
        return row["health"], row["reason"], row["since"]

    cluster.ask("quarantine", worker="shut")
    health, reason, since = shown()
    assert (health, reason) == ("quarantined", "an operator put it there")
    cluster.until(lambda: "quarantined: no tasks" in cluster.log("shut"))  # the store has it
    cluster.kill(leader)
    cluster.until(lambda: leads(cluster, standby))
    assert shown() == ("quarantined", reason, pytest.approx(since, abs=0.01))
    cluster.ask("readmit", worker="shut")
    cluster.alive("shut")
    cluster.stop("shut")
