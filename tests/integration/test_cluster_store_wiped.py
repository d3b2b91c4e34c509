"""Redis loses its data under a living leader, then that leader is killed: on real servers and processes.

What happens in between, step by step, is in `test_cluster_store_lost.py`, on the memory twins.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from cluster_runs import ClusterRun, begin, logs_of
from docker_run import Run
from services import RABBITMQ, REDIS, broker_on, redis_on, start_rabbitmq, start_redis

from mrq.adapters.redis import RedisLeaderStore, connect

LINES = ["a", "b", "c go"]


@pytest.fixture(scope="module")
def cluster(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRun]:
    """Two masters and three workers on servers of their own."""
    with contextlib.ExitStack() as stack:
        rabbit = start_rabbitmq(run, RABBITMQ)
        stack.callback(rabbit.remove)
        redis = start_redis(run, REDIS)
        stack.callback(redis.remove)
        folder = tmp_path_factory.mktemp("wiped")
        made = ClusterRun(broker_on(rabbit, RABBITMQ), redis_on(redis, REDIS), folder)
        stack.enter_context(contextlib.closing(made))
        begin(made, masters=2)
        yield made


@pytest.fixture(autouse=True)
def _logs(cluster: ClusterRun) -> Iterator[None]:
    with logs_of(cluster):
        yield


def half_done(cluster: ClusterRun, name: str) -> str:
    """A job of which two maps are complete and one waits for a gate; its id."""
    job = cluster.held(name, LINES, "-R", "2")
    cluster.until(
        lambda: cluster.status(job)["stages"][0]["completed"] == 2 and "m-00002" in cluster.began(name)
    )
    return job


def masters(cluster: ClusterRun) -> tuple[str, str]:
    """The one that leads, and the one that stands by and has never led, once it has seen who leads."""
    living = [name for name, each in cluster.processes.items() if name[0] == "m" and each.poll() is None]
    leader, standby = sorted(living, key=lambda name: "leading, epoch" not in cluster.log(name))
    # One that has never seen the lease takes an empty store's at once, as the first master of a cluster does.
    # Each second that its loop turns it looks at the lease, and touches its pulse.
    pulse, turns = cluster.folder / standby / "health", set[int]()

    def has_looked() -> bool:
        if pulse.exists():
            turns.add(pulse.stat().st_mtime_ns)
        return len(turns) > 3

    cluster.until(has_looked)
    return leader, standby


@pytest.mark.parametrize("initialised", [False, True], ids=["wiped", "initialised-meanwhile"])
def test_redis_loses_its_data_then_the_leader_is_killed_and_every_job_commits(
    cluster: ClusterRun, initialised: bool
) -> None:
    """Jobs of before the loss, of between the faults, and of after both."""
    tag = "init" if initialised else "wipe"
    first, second = masters(cluster)
    before = half_done(cluster, f"{tag}-before")
    connection = connect(cluster.server.url, prefix=cluster.server.prefix)
    with contextlib.closing(connection):
        store = RedisLeaderStore(connection)
        store_id = store.identity()[0]
        connection.call("FLUSHALL")
        if initialised:
            assert store.init() != store_id
        # A standby may lead for a moment, under whatever id it finds; the leader writes its own back.
        cluster.until(lambda: store.identity()[2] and store.identity()[0] == store_id)
    cluster.alive("w0", "w1", "w2")
    between = half_done(cluster, f"{tag}-between")
    cluster.kill(first)
    cluster.leading(second)
    after = half_done(cluster, f"{tag}-after")
    for name, job in (("before", before), ("between", between), ("after", after)):
        cluster.open(f"{tag}-{name}")
        cluster.mrq("wait", job)
        assert cluster.result(f"{tag}-{name}") == dict.fromkeys("abc", 1)
    assert not list(cluster.folder.glob(".*.mrq")), "no claim is left"
    cluster.master(f"m{len(cluster.processes)}")
