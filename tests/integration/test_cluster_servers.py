"""RabbitMQ and Redis restarted under running jobs: what runs goes on, and the bytes are right."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from cli_runs import finish
from cluster_runs import ClusterRun, begin, logs_of
from docker_run import Run
from services import RABBITMQ, REDIS, broker_on, redis_on, start_rabbitmq, start_redis

WORKERS = ("w0", "w1", "w2")
WORDS = "abcde"


@pytest.fixture(scope="module")
def cluster(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRun]:
    """A master and three workers on servers of their own."""
    with contextlib.ExitStack() as stack:
        rabbit = start_rabbitmq(run, RABBITMQ)
        stack.callback(rabbit.remove)
        redis = start_redis(run, REDIS)
        stack.callback(redis.remove)
        folder = tmp_path_factory.mktemp("servers")
        made = ClusterRun(broker_on(rabbit, RABBITMQ), redis_on(redis, REDIS), folder)
        stack.enter_context(contextlib.closing(made))
        begin(made)
        yield made


@pytest.fixture(autouse=True)
def _logs(cluster: ClusterRun) -> Iterator[None]:
    with logs_of(cluster):
        yield


def half_done(cluster: ClusterRun, name: str) -> str:
    """A job of which two maps are complete and three run, one on each worker; its id. Whichever they are:
    what is delivered first is the broker's to say, so each waits for a gate of its own."""
    job = cluster.held(name, [f"{word} {word}" for word in WORDS], "-R", "2")
    cluster.until(lambda: len(maps(cluster, name)) == 3)
    for task in sorted(maps(cluster, name))[:2]:
        cluster.open(name, WORDS[int(task[2:])])
    cluster.until(
        lambda: cluster.status(job)["stages"][0]["completed"] == 2 and len(running(cluster, job)) == 3
    )
    cluster.until(lambda: len(maps(cluster, name)) == 5)
    return job


def open_all(cluster: ClusterRun, name: str) -> None:
    for word in WORDS:
        cluster.open(name, word)


def running(cluster: ClusterRun, job: str) -> dict[str, tuple[int, int, str]]:
    return {task: each for task, each in cluster.attempts(job).items() if task[0] == "m"}


def maps(cluster: ClusterRun, name: str) -> dict[str, list[tuple[int, int]]]:
    return {task: each for task, each in cluster.began(name).items() if task[0] == "m"}


def health(cluster: ClusterRun, worker: str) -> str:
    return str(cluster.ask("workers", worker=worker)["workers"][0]["health"])


def test_a_restart_of_rabbitmq_doesnt_restart_living_attempts(cluster: ClusterRun) -> None:
    """What wasn't acknowledged comes again, to a worker that has nothing to do: it finds that it lives."""
    job = half_done(cluster, "rabbit")
    before, ran = running(cluster, job), maps(cluster, "rabbit")
    cluster.workers("idle", maps=3)
    waiting = cluster.command("wait", job)
    said = {name: cluster.log(name).count("the connection is back") for name in WORKERS}
    cluster.broker.container.restart()
    cluster.until(lambda: all(cluster.log(n).count("the connection is back") > said[n] for n in WORKERS), 60)
    cluster.until(lambda: cluster.messages("map") == 0)
    assert running(cluster, job) == before
    open_all(cluster, "rabbit")
    ended = finish(waiting)
    assert ended.code == 0, ended.err
    assert cluster.result("rabbit") == dict.fromkeys(WORDS, 1)
    assert maps(cluster, "rabbit") == ran, "no map began again"
    assert cluster.uncharged(job)
    cluster.stop("idle")


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_restart_of_redis_loses_nothing(cluster: ClusterRun, killed: bool) -> None:
    """Killed, it may forget its last second: what ran goes on or is run again, and the bytes are right."""
    name = f"redis-{killed}".lower()
    job = half_done(cluster, name)
    before, ran = running(cluster, job), maps(cluster, name)
    waiting = cluster.command("wait", job)
    container = cluster.server.container
    if killed:
        container.kill()
        container.start()
    else:
        container.restart()
    cluster.until(lambda: {name for name in WORKERS if health(cluster, name) == "alive"} == set(WORKERS), 60)
    if not killed:
        assert running(cluster, job) == before
    open_all(cluster, name)
    ended = finish(waiting)
    assert ended.code == 0, ended.err
    assert cluster.result(name) == dict.fromkeys(WORDS, 1)
    if not killed:
        assert maps(cluster, name) == ran, "no map began again"
    assert cluster.uncharged(job)


def test_both_are_restarted_while_tasks_come_and_go(cluster: ClusterRun) -> None:
    lines = [f"word{n % 7}" for n in range(300)]
    path = cluster.shell.write("flow.txt", "".join(f"{line}\n" for line in lines))
    flags = (
        "-R",
        "2",
        "--split-size",
        "60",
        "--set",
        f"marks={cluster.shell.marks}",
        "--set",
        "pause_s=0.05",
    )
    process = cluster.command("submit", "slow.py", path, "-o", "flow-out", *flags)
    cluster.shell.wait_for_marks(6)
    cluster.broker.container.restart()
    cluster.server.container.restart()
    ran = finish(process, timeout_s=90)
    assert ran.code == 0, ran.err
    expected = {word: lines.count(word) for word in lines}
    assert cluster.result("flow") == expected
