"""Files whose names aren't UTF-8: they go through records, logs, drafts and news, and come back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cluster_jobs import Broken, Gated, Sorted, Words
from cluster_rig import Cluster, cluster, until

import mrq
from mrq.client import JobFailed
from mrq.core.model import JobState

NAME = os.fsdecode(b"caf\xe9.txt")


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    folder = tmp_path / "gate"
    folder.mkdir()
    return folder


def test_embedded_it_runs_fails_by_name_and_is_retried(tmp_path: Path, gate: Path) -> None:
    source, out = tmp_path / NAME, tmp_path / os.fsdecode(b"out-\xff")
    source.write_text("good\nbad\n")
    with mrq.local() as engine:
        with pytest.raises(JobFailed, match="can't read 'bad'") as failed:
            engine.run(Broken(gate=str(gate)), [source], out)
        assert failed.value.errors[-1].path == str(source)
        (gate / "mended").touch()
        engine.retry(failed.value.job).result(20)
    assert (out / "part-00000").read_text() == "bad\t1\ngood\t1\n"


def test_on_a_cluster_it_runs_fails_by_name_and_is_retried(tmp_path: Path, gate: Path) -> None:
    source, out = tmp_path / NAME, tmp_path / os.fsdecode(b"out-\xff")
    source.write_text("good\nbad\n")
    with cluster(tmp_path) as made:
        client = made.client()
        with pytest.raises(JobFailed, match="can't read 'bad'") as failed:
            client.run(Broken(gate=str(gate)), [source], out)
        assert failed.value.errors[-1].path == str(source)
        assert client.ask("status", job=failed.value.job)["jobs"][0].state is JobState.FAILED
        (gate / "mended").touch()
        client.retry(failed.value.job).result(20)
        assert (out / "part-00000").read_text() == "bad\t1\ngood\t1\n"
        keys = [key for key, _ in client.run(Sorted, [source], split_size=8, reducers=2)]
        assert keys == ["bad", "good"]
        assert dict(client.run(Words, [source])) == {"good": 1, "bad": 1}


def test_a_takeover_goes_on_with_it(tmp_path: Path, gate: Path) -> None:
    source, out = tmp_path / NAME, tmp_path / os.fsdecode(b"out-\xff")
    source.write_text("wait\n")
    with Cluster(tmp_path, lease_s=1.0) as made:
        first = made.master()
        made.worker("w0")
        made.master(wait=False)
        handle = made.client().start(Gated(gate=str(gate)), [source], out)
        until(lambda: (gate / "runs").exists())
        first.kill()
        assert made.masters[1][0].leading.wait(10), made.said
        (gate / "open").touch()
        assert dict(handle.result(20)) == {"wait": "1"}
        assert (gate / "runs").read_text().split() == ["m-00000"]
