"""Masters and workers as processes of their own, on RabbitMQ and Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster_jobs import Gated, Words
from process_cluster import ProcessCluster, process_cluster
from services import Broker, Redis

import mrq
from mrq.result import Result

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def started(
    rabbitmq: Broker, redis_server: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ProcessCluster]:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))
    with process_cluster(rabbitmq, redis_server, tmp_path) as made:
        yield made


def parts(result: Result) -> list[bytes]:
    return [Path(part).read_bytes() for part in result.parts]


def gated(tmp_path: Path) -> tuple[Path, list[Path]]:
    """A gate, and four inputs of `Gated`, a split each; the last waits for the gate."""
    gate, folder = tmp_path / "gate", tmp_path / "in"
    gate.mkdir()
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.txt").write_text("wait\n" if number == 3 else f"go {number}\n")
    return gate, [folder / f"{number}.txt" for number in range(4)]


def ran(gate: Path) -> list[str]:
    return (gate / "runs").read_text().split() if (gate / "runs").exists() else []


def test_word_count_on_a_master_and_three_workers_is_the_embedded_one(
    started: ProcessCluster, tmp_path: Path
) -> None:
    started.master()
    for number in range(3):
        started.worker(f"w{number}")
    client = started.client()
    started.workers_ready(client, 3)
    job, source = ROOT / "workers/jobs/wordcount.py", ROOT / "mrq"
    options = {"reducers": 4, "split_size": 200_000}
    embedded = mrq.run(str(job), [source], tmp_path / "here", **options)
    result = client.run(str(job), [source], tmp_path / "there", **options)
    assert parts(result) == parts(embedded)
    assert result.counters == embedded.counters
    rows = client.ask("workers")["workers"]
    assert sum(row.completed for row in rows) == result.summary.maps + result.summary.reduces
    assert client.ask("status", job=result.job)["jobs"][0].state.value == "done"
    (tmp_path / "small.txt").write_text("a b a\n")
    for number in range(12):
        small = client.run(Words, [tmp_path / "small.txt"], tmp_path / f"small{number}", reducers=1)
        assert parts(small) == [b"a\t2\nb\t1\n"]


def test_the_leading_master_is_killed_and_nothing_is_done_twice(
    started: ProcessCluster, tmp_path: Path
) -> None:
    started.master("first")
    started.leading("first")
    started.master("second")
    started.worker("w0", maps=2)
    client = started.client()
    started.workers_ready(client, 1)
    gate, inputs = gated(tmp_path)
    handle = client.start(Gated(gate=str(gate)), inputs, tmp_path / "out", split_size=20_000, reducers=2)
    started.until(lambda: len(ran(gate)) == 4)
    started.kill("first")
    began = time.monotonic()
    started.leading("second")
    took = time.monotonic() - began
    (gate / "open").touch()
    result = handle.result(40)
    assert took < 15
    assert sorted(ran(gate)) == [f"m-0000{n}" for n in range(4)]
    assert result.summary.records_in == 4
    print(f"taken over after {took:.1f} s")


def test_a_stopped_master_hands_over_at_once(started: ProcessCluster, tmp_path: Path) -> None:
    first = started.master("first")
    started.leading("first")
    started.master("second")
    started.until(lambda: "standing by" in started.log("second"))
    first.terminate()
    assert first.wait(10) == 0
    started.leading("second", 5)


@pytest.mark.parametrize("what", ["redis", "rabbitmq"])
def test_a_restarted_server_stops_no_job(
    what: str,
    private_rabbitmq: Callable[..., Broker],
    private_redis: Callable[..., Redis],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))
    broker, server = private_rabbitmq("4.0"), private_redis("8.0")
    with process_cluster(broker, server, tmp_path) as made:
        made.master()
        made.worker("w0", maps=2)
        client = made.client()
        made.workers_ready(client, 1)
        gate, inputs = gated(tmp_path)
        handle = client.start(Gated(gate=str(gate)), inputs, tmp_path / "out", split_size=20_000)
        made.until(lambda: len(ran(gate)) == 4)
        (broker if what == "rabbitmq" else server).container.restart()
        (gate / "open").touch()
        result = handle.result(80)
        assert sorted(ran(gate)) == [f"m-0000{n}" for n in range(4)]
        assert result.summary.records_in == 4
        assert client.run(Words, inputs, tmp_path / "after").summary.maps == 2  # 80 KB
