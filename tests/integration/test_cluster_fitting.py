"""Workers of several sizes: a job that asks for more memory than some have runs on the others, or waits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_jobs import Gated, Words
from process_cluster import ProcessCluster, process_cluster
from services import Broker, Redis

from mrq.engine.engine import Engine

SMALL, LARGE, HUGE = (("--memory-limit", size) for size in ("1G", "4G", "2T"))


@pytest.fixture
def started(
    rabbitmq: Broker, redis_server: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ProcessCluster]:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))
    with process_cluster(rabbitmq, redis_server, tmp_path) as made:
        made.master()
        yield made


def completed(client: Engine) -> dict[str, int]:
    return {row.worker: row.completed for row in client.ask("workers")["workers"]}


def lines(tmp_path: Path, count: int = 40) -> Path:
    path = tmp_path / "in.txt"
    path.write_text("".join(f"line {number} of {count}\n" for number in range(count)))
    return path


def test_a_job_runs_only_on_workers_that_it_fits_or_waits_by_name(
    started: ProcessCluster, tmp_path: Path
) -> None:
    started.worker("small", 2, 1, *SMALL)
    started.worker("large", 1, 1, *LARGE)
    client = started.client()
    started.workers_ready(client, 2)
    source, cut = lines(tmp_path), {"split_size": 100, "reducers": 3}
    result = client.run(Words, [source], tmp_path / "large", memory="2G", **cut)
    assert result.counters["lines"] == 40
    tasks = result.summary.maps + result.summary.reduces
    assert completed(client) == {"small": 0, "large": tasks}

    handle = client.start(Words, [source], tmp_path / "huge", memory="900G", **cut)
    reason = (
        f"no worker can run {handle.job}: it asks for 921,600 MiB an executor, and the largest worker has "
        "4,096 MiB; ask for less (`memory`), or add a larger one"
    )
    started.until(lambda: client.ask("status", job=handle.job)["jobs"][0].waits_for == reason)
    started.until(lambda: f"note: {reason}" in started.said)
    shown = subprocess.run(
        [sys.executable, "-m", "mrq", "status", handle.job],
        env=started.environ,
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )
    assert reason.split(";")[0] in " ".join(shown.stdout.decode().split())
    other = client.run(Words, [source], tmp_path / "other", **cut)
    assert other.counters == result.counters
    (row,) = client.ask("status", job=handle.job)["jobs"]
    assert (row.state.value, row.maps.idle) == ("pending", result.summary.maps)

    before = completed(client)
    started.worker("huge", 2, 1, *HUGE)
    assert handle.result(60).counters == result.counters
    assert completed(client) == {**before, "huge": tasks}


def test_a_small_worker_that_joins_takes_nothing_of_what_is_on_the_queue(
    started: ProcessCluster, tmp_path: Path
) -> None:
    started.worker("large", 1, 1, *LARGE)
    client = started.client()
    started.workers_ready(client, 1)
    gate, folder = tmp_path / "gate", tmp_path / "in"
    gate.mkdir()
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.txt").write_text("wait\n" if number == 0 else f"go {number}\n")
    inputs = [folder / f"{number}.txt" for number in range(6)]
    job = Gated(gate=str(gate))
    handle = client.start(job, inputs, tmp_path / "out", split_size=5, memory="2G", reducers=1)
    started.until(lambda: (gate / "runs").exists())
    started.worker("small", 4, 1, *SMALL)
    started.workers_ready(client, 2)
    maps = client.ask("status", job=handle.job)["jobs"][0].maps
    assert (maps.running, maps.completed) == (1, 0)
    (gate / "open").touch()
    result = handle.result(60)
    assert result.summary.records_in == 6
    assert completed(client)["small"] == 0
    (row,) = client.ask("status", job=handle.job)["jobs"]
    assert (row.failures, row.losses, row.worker_losses) == (0, 0, 0)
