"""What inputs really hold, on processes with RabbitMQ and Redis between them: checksums that go with maps'
results, also to the next leader; logs that grow; what isn't text."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_jobs import Count, Gated, Words
from process_cluster import ProcessCluster, process_cluster
from services import Broker, Redis

from mrq.result import JobFailed


@pytest.fixture
def started(
    rabbitmq: Broker, redis_server: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ProcessCluster]:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))
    with process_cluster(rabbitmq, redis_server, tmp_path) as made:
        yield made


def flip(path: Path, at: int) -> None:
    """Change one bit, and let nothing else tell."""
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_inputs_are_what_they_should_be_whoever_leads(started: ProcessCluster, tmp_path: Path) -> None:
    started.master("first")
    started.leading("first")
    started.master("second")
    for number in range(2):
        started.worker(f"w{number}")
    client = started.client()
    started.workers_ready(client, 2)

    # A finished output, cut into many pieces, is read and checked.
    (tmp_path / "in.txt").write_text("wait\n" + "".join(f"x{n:05}\n" for n in range(3000)))
    client.run(Words, [tmp_path / "in.txt"], tmp_path / "words", reducers=1)
    part = tmp_path / "words/part-00000"
    options = {"split_size": 4000, "reducers": 2}
    assert (
        sum(int(n) for _, n in client.run(Count, [tmp_path / "words"], tmp_path / "good", **options)) == 3001
    )

    # A flipped bit is found by the next leader too, and a retry reads what was mended.
    flip(part, 20_000)
    (tmp_path / "gate").mkdir()
    handle = client.start(
        Gated(gate=str(tmp_path / "gate")), [tmp_path / "words"], tmp_path / "bad", **options
    )
    started.until(lambda: (tmp_path / "gate/runs").exists())
    started.kill("first")
    started.leading("second")
    (tmp_path / "gate/open").touch()
    with pytest.raises(JobFailed, match="part-00000: its bytes aren't those that its job wrote") as found:
        handle.result()
    assert not (tmp_path / "bad").exists()
    flip(part, 20_000)
    assert len(list(client.retry(found.value.job).result())) == 3001

    # What isn't text is told by the task that reads it; compressed data is read as what it is.
    (tmp_path / "utf16").write_text("a\nb\n", encoding="utf-16")
    with pytest.raises(JobFailed, match="utf16: this is UTF-16 text"):
        client.run(Count, [tmp_path / "utf16"], tmp_path / "none")
    (tmp_path / "packed").write_bytes(gzip.compress(b"a\nb\n" * 50))
    assert list(client.run(Count, [tmp_path / "packed"], tmp_path / "unpacked")) == [("records", "100")]

    # A log that grows while it is read.
    (tmp_path / "other").mkdir()
    log = tmp_path / "app.log"
    log.write_text("wait\n" + "line\n" * 2000 + "unfin")
    handle = client.start(
        Gated(gate=str(tmp_path / "other")), [log], tmp_path / "log", as_of_now=True, **options
    )
    started.until(lambda: (tmp_path / "other/runs").exists())
    with open(log, "a") as file:
        file.write("ished\nmore\n")
    (tmp_path / "other/open").touch()
    assert dict(handle.result()) == {"wait": "1", "line": "2000"}
