"""What a cluster of the version before left in Redis and on its disk: masters and workers of today go on."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import pytest
from cluster_jobs import Words
from left_before import RAN_IN, unpacked
from process_cluster import ProcessCluster
from services import Broker, Redis

import mrq
from mrq.adapters.redis import packing
from mrq.core.model import JobState, WorkerHealth
from mrq.core.worker_info import WorkerInfo
from mrq.engine.engine import Engine
from mrq.errors import OutputError


class Left:
    """What a cluster of the version before left: its folder, and its keys in a Redis of today."""

    def __init__(self, server: Redis, tmp_path: Path) -> None:
        self.folder = unpacked("cluster-jobs.tar.gz", tmp_path)
        found = json.loads((self.folder / "redis.json").read_text())
        self.jobs: Mapping[str, str] = found["jobs"]  #: by what became of them
        self._changes = [
            (RAN_IN.encode(), str(self.folder).encode()),
            (found["prefix"].encode(), server.prefix.encode()),
        ]
        self._changes += self._renamed(found["keys"])
        assert all(len(was) == len(now) for was, now in self._changes)
        self.made_at: float = found["made_ms"] / 1000
        self._later_ms = time.time_ns() // 1_000_000 - found["made_ms"]
        for path in self.folder.glob(".out-*/job"):
            path.write_bytes(self._here(path.read_bytes()))
        with server.client() as client:
            for key, kind, ttl_ms, data in found["keys"]:
                name = self._here(key.encode())
                self._put(client, name, kind, data)
                if ttl_ms > 0:
                    client.pexpire(name, ttl_ms)

    def _renamed(self, keys: list[list[Any]]) -> Iterator[tuple[bytes, bytes]]:
        """Blobs are named by their bytes, which are others with other paths in them."""
        for key, _, _, data in keys:
            if ":blob:" in key:
                fields = {base64.b64decode(name): self._value(value) for name, value in data.items()}
                yield key[-64:].encode(), hashlib.sha256(fields[b"0"]).hexdigest().encode()

    def _here(self, data: bytes) -> bytes:
        for was, now in self._changes:
            data = data.replace(was, now)
        return data

    def _value(self, text: str) -> bytes:
        return self._here(base64.b64decode(text))

    def _put(self, client: Any, key: bytes, kind: str, data: Any) -> None:
        match kind:
            case "string":
                client.set(key, self._value(data))
            case "hash":
                client.hset(
                    key, mapping=self._times(key, {self._value(k): self._value(v) for k, v in data.items()})
                )
            case "list":
                client.rpush(key, *map(self._value, data))
            case "set":
                client.sadd(key, *map(self._value, data))
            case "zset":
                client.zadd(key, {self._value(member): score + self._later_ms for member, score in data})
            case "stream":
                for at, fields in data["entries"]:
                    client.xadd(key, {self._value(k): self._value(v) for k, v in fields.items()}, id=at)
                assert data["last"] == data["entries"][-1][0]
            case _:
                raise AssertionError(kind)

    def _times(self, key: bytes, fields: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """As if it had been left a moment ago."""
        if b"expires" in fields:
            fields[b"expires"] = b"%d" % (int(fields[b"expires"]) + self._later_ms)
        if key.endswith(b":workers"):
            for name, data in fields.items():
                row = msgpack.unpackb(data)
                row[7] += self._later_ms
                fields[name] = msgpack.packb(row)
        return fields


@pytest.fixture
def left(redis_server: Redis, tmp_path: Path) -> Left:
    return Left(redis_server, tmp_path)


@pytest.fixture
def cluster(
    rabbitmq: Broker, redis_server: Redis, left: Left, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ProcessCluster]:
    monkeypatch.setenv("MRQ_TMP", str(left.folder))
    made = ProcessCluster(rabbitmq, redis_server, left.folder)
    try:
        yield made
    finally:
        made.close()


def counted(out: Path) -> dict[str, int]:
    lines = [
        line.split("\t") for part in sorted(out.glob("part-*")) for line in part.read_text().splitlines()
    ]
    return {word: int(count) for word, count in lines}


def test_jobs_kept_in_redis_are_refused_by_name(cluster: ProcessCluster, left: Left) -> None:
    """Whatever they were at: those that weren't over fail alone, are listed, and let go of their OUTs."""
    client, jobs = cluster.client(), left.jobs
    cluster.master()
    cluster.worker("new", 4, 2)
    cluster.workers_ready(client, 1)
    for name in ("committing", "unfinished", "ordered", "failed"):
        with pytest.raises(
            mrq.MrqError, match=f"job {jobs[name]} can't be gone on with: .*version"
        ) as refused:
            client.handle(jobs[name]).result(30)
        assert "Submit it anew" in str(refused.value)
        with pytest.raises(mrq.MrqError, match="nothing to go on with"):
            client.retry(jobs[name])
    with pytest.raises(mrq.MrqError, match=f"job {jobs['private']} is over, and can't be shown: .*version"):
        client.handle(jobs["private"]).result(30)
    rows = {row.job: row for row in client.ask("jobs")["jobs"]}
    for name in ("committing", "unfinished", "ordered", "failed"):
        assert rows[jobs[name]].state is JobState.FAILED
        assert "version" in str(rows[jobs[name]].error)
    for name in ("unfinished", "failed"):  # nobody can go on with what they staged
        assert not (left.folder / f".out-{name}.mrq").exists()
    (left.folder / "gates/open").touch()
    client.run(Words, [left.folder / "in/unfinished"], left.folder / "out-unfinished")
    assert counted(left.folder / "out-unfinished") == {"a": 1, "once": 1, "c": 1, "d": 1, "open": 2}
    # The output of the one that was committing was certain: whoever comes next makes it visible.
    with pytest.raises(OutputError, match="exists"):
        client.run(Words, [left.folder / "in/unfinished"], left.folder / "out-committing")
    assert counted(left.folder / "out-committing") == {"m": 2, "n": 1}


def test_what_is_left_of_jobs_goes_as_that_of_other_jobs_that_are_over(
    cluster: ProcessCluster, left: Left, redis_server: Redis
) -> None:
    """Once masters of today have refused them, all keys of theirs, their code's too, expire after keep_s; so
    do those of a job that was done, when its leader died before it had said so."""
    client, jobs = cluster.client(), left.jobs
    cluster.environ["MRQ_KEEP_S"] = "3600"
    with redis_server.client() as store:
        for key in store.scan_iter(f"{redis_server.prefix}:{{{jobs['private']}}}:*", count=1000):
            assert store.persist(key)
        store.hdel(f"{redis_server.prefix}:{{{jobs['private']}}}:claims", "expires")
    cluster.master()
    with pytest.raises(mrq.MrqError, match="can't be gone on with"):
        client.handle(jobs["unfinished"]).result(30)
    with redis_server.client() as store:

        def ever() -> list[bytes]:
            """Keys of jobs that never expire."""
            names = [key for kind in ("{*", "blob:*", "users:*", "asked:*") for key in keys(kind)]
            return [name for name in names if store.pttl(name) == -1]

        def keys(pattern: str) -> list[bytes]:
            return list(store.scan_iter(f"{redis_server.prefix}:{pattern}", count=1000))

        assert any(jobs["failed"].encode() in key for key in keys("{*"))
        cluster.until(lambda: not ever())
        for name in ("unfinished", "failed", "committing", "private"):
            for key in keys(f"{{{jobs[name]}}}:*"):
                assert 0 < store.pttl(key) <= 3_600_000, key


def workers(client: Engine) -> dict[str, WorkerInfo]:
    return {row.worker: row for row in client.ask("workers")["workers"]}


def test_workers_of_the_version_before_are_listed_by_name_until_they_are_dead(
    cluster: ProcessCluster, left: Left
) -> None:
    """Their last beats, which lie in Redis, can't be read but for who they are, and they hold nobody up."""
    client = cluster.client()
    cluster.master()
    cluster.worker("new", 4, 2)
    cluster.workers_ready(client, 1)
    old = workers(client)
    assert old.pop("new").health is WorkerHealth.ALIVE
    assert len(old) == 2
    for row in old.values():
        assert row.health is WorkerHealth.JOINING
        assert f"the masters' mrq {mrq.__version__} reads {packing.VERSION}" in row.reason
        assert "start it from the same mrq as the masters" in row.reason
        assert (row.map_slots, row.reduce_slots) == (0, 0)
    cluster.until(lambda: all(workers(client)[name].health is WorkerHealth.DEAD for name in old), 60)


def test_a_worker_of_another_version_stays_joining_until_it_is_started_from_the_right_one(
    cluster: ProcessCluster, left: Left
) -> None:
    """Whether its beats can be read (`named`) or not (`unread`)."""
    client = cluster.client()
    cluster.environ["PYTHONPATH"] = str(Path(__file__).parent)
    cluster.master()
    cluster.worker("new", 4, 2)
    others = {"named": packing.VERSION, "unread": packing.VERSION - 1}
    for name, written in others.items():
        cluster.worker(name, 4, 2, module=("other_version_worker", "0.1.0", str(written)))
    reasons = {
        "named": f"it runs mrq 0.1.0 and the masters mrq {mrq.__version__}",
        "unread": f"its beats have version {packing.VERSION - 1}, and the masters' mrq {mrq.__version__}",
    }
    cluster.workers_ready(client, 1)
    cluster.until(lambda: all(name in workers(client) and workers(client)[name].reason for name in others))
    cluster.until(lambda: f"no tasks: {reasons['named']}" in cluster.log("named"))
    (left.folder / "gates/open").touch()
    client.run(Words, [left.folder / "in/unfinished"], left.folder / "out-anew")
    rows = workers(client)
    assert rows["new"].completed > 0
    shown = subprocess.run(
        [sys.executable, "-m", "mrq", "workers"],
        env=cluster.environ, cwd=cluster.folder, check=True, timeout=60, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name, reason in reasons.items():
        row = rows[name]
        assert (row.health, row.completed, row.attempts) == (WorkerHealth.JOINING, 0, ())
        assert reason in row.reason
        assert "start it from the same mrq as the masters" in row.reason
        assert row.reason in " ".join(shown.split())
        assert cluster.processes[name].poll() is None
    for name in others:
        cluster.processes[name].terminate()
        cluster.processes[name].wait(30)
        cluster.worker(name, 4, 2)
    cluster.workers_ready(client, 3)
    assert all(workers(client)[name].reason == "" for name in others)
