"""A worker's disk quota on a cluster of real processes: a bound in fact, and an end by name."""

from __future__ import annotations

import gzip
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from process_cluster import ProcessCluster, process_cluster
from services import Broker, Redis

import mrq
from mrq.worker.disk_use import used_bytes

MIB = 1 << 20


JOB = """
import mrq

class Sizes(mrq.Job):
    memory = "8M"

    def map(self, key, line):
        yield line, key

    def reduce(self, key, values):
        yield len(key)
"""


@pytest.fixture
def cluster(rabbitmq: Broker, redis_server: Redis, tmp_path: Path) -> Iterator[ProcessCluster]:
    with process_cluster(rabbitmq, redis_server, tmp_path) as made:
        made.master()
        made.leading("master")
        yield made
        for name in made.processes.keys() - {"master"}:
            made.kill(name)  # a drain would wait for somebody who retries the job


class Watch:
    """The most that was seen in a folder."""

    def __init__(self, folder: Path) -> None:
        self.most = 0
        self._folder = str(folder)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.01):
            self.most = max(self.most, used_bytes(self._folder))

    def close(self) -> int:
        self._over.set()
        self._thread.join()
        return self.most


def lines(path: Path, size: int) -> None:
    """So many bytes in one split."""
    chance = random.Random(1)
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.writelines(f"{chance.randbytes(500).hex()}\n" for _ in range(size // 1001))


def job(folder: Path) -> str:
    (folder / "sizes.py").write_text(JOB)
    return str(folder / "sizes.py")


def worker(cluster: ProcessCluster, name: str, quota: int) -> Watch:
    cluster.environ["MRQ_DISK_QUOTA"] = str(quota)
    cluster.worker(name)
    return Watch(cluster.folder / "workers/workers" / name)


def test_a_map_that_would_exceed_the_quota_ends_by_name_and_within_it(
    cluster: ProcessCluster, tmp_path: Path
) -> None:
    lines(tmp_path / "in.txt.gz", 80 * MIB)
    watch = worker(cluster, "small", 64 * MIB)
    client = cluster.client()
    cluster.workers_ready(client, 1)
    with pytest.raises(mrq.JobFailed, match="found the disk full 3 times") as told:
        client.run(job(tmp_path), [str(tmp_path / "in.txt.gz")], str(tmp_path / "out"), reducers=2)
    assert "the disk quota of this worker is reached" in str(told.value)
    assert f"of {64 * MIB:,} bytes" in str(told.value)
    assert "MRQ_DISK_QUOTA" in str(told.value)
    said = [text for text in cluster.said if "worker small has too little disk for m-00000" in text]
    assert len(said) == 1, "at once, with what it had and what was needed, and once"
    assert "more were needed" in said[0]
    assert watch.close() <= 64 * MIB


def test_what_one_worker_has_no_room_for_goes_to_another(cluster: ProcessCluster, tmp_path: Path) -> None:
    lines(tmp_path / "in.txt.gz", 80 * MIB)
    small = worker(cluster, "small", 64 * MIB)
    large = worker(cluster, "large", 1024 * MIB)
    client = cluster.client()
    cluster.workers_ready(client, 2)
    client.run(job(tmp_path), [str(tmp_path / "in.txt.gz")], str(tmp_path / "out"), reducers=2)
    assert sum(part.read_text().count("\n") for part in (tmp_path / "out").glob("part-*")) == 80 * MIB // 1001
    assert small.close() <= 64 * MIB
    assert large.close() > 80 * MIB


def test_a_failing_import_on_a_worker_names_the_users_own_file(
    cluster: ProcessCluster, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    source = Path(job(tmp_path))
    there = "import os\nif 'mrq-executor' in __import__('sys').argv:\n    import nowhere_to_be_found\n"
    source.write_text(there + JOB)
    worker(cluster, "w", 64 * MIB).close()
    client = cluster.client()
    cluster.workers_ready(client, 1)
    with pytest.raises(mrq.JobFailed) as told:
        client.run(str(source), [str(tmp_path / "in.txt")], str(tmp_path / "out"))
    assert f"{source}:3" in str(told.value)
    assert "/workers/" not in str(told.value).partition("  log  ")[0]
