"""Tasks that take longer than RabbitMQ lets a delivery go unacknowledged: they end once."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from cluster_runs import ClusterRun, begin, logs_of
from docker_run import Run
from services import RABBITMQ, REDIS, broker_on, dropped, redis_on, shared, start_rabbitmq

#: RabbitMQ takes a delivery back after it, at the next tick.
CONSUMER_TIMEOUT_S = 60


@pytest.mark.timeout(300)
def test_a_task_that_outlives_the_consumer_timeout_ends_once(run: Run, tmp_path: Path) -> None:
    """A worker that is told of the timeout acknowledges before it; one that isn't loses the delivery."""
    with contextlib.ExitStack() as stack:
        rabbit = start_rabbitmq(run, RABBITMQ, consumer_timeout_s=CONSUMER_TIMEOUT_S, channel_tick_s=1)
        stack.callback(rabbit.remove)
        server = redis_on(shared(run, "redis", REDIS), REDIS)
        stack.enter_context(dropped(server))
        cluster = ClusterRun(broker_on(rabbit, RABBITMQ), server, tmp_path)
        stack.enter_context(contextlib.closing(cluster))
        begin(cluster, workers=0)
        stack.enter_context(logs_of(cluster))
        cluster.worker("told", MRQ_CONSUMER_TIMEOUT_S=f"{CONSUMER_TIMEOUT_S}s")
        cluster.worker("untold")
        cluster.alive("told", "untold")
        job = cluster.held("long", ["a go", "b go"], "-R", "1")
        cluster.until(lambda: len(cluster.began("long")) == 2 == len(cluster.attempts(job)))
        before, ran = cluster.attempts(job), cluster.began("long")
        assert sorted(worker for _, _, worker in before.values()) == ["told", "untold"]
        cluster.until(lambda: cluster.waiting("map") == 1, 120)
        assert cluster.messages("map") == 1, "the other is acknowledged"
        cluster.workers("idle")  # which gets the delivery, and finds that its attempt lives
        cluster.until(lambda: cluster.messages("map") == 0)
        assert cluster.attempts(job) == before
        cluster.open("long")
        cluster.mrq("wait", job)
        assert cluster.result("long") == {"a": 1, "b": 1}
        after = {task: each for task, each in cluster.began("long").items() if task[0] == "m"}
        assert after == ran, "nothing began again"
        assert cluster.uncharged(job)
