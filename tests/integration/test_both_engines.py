"""What a submit is refused for, or told, is the same on this machine and on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_jobs import Gated, Words
from cluster_rig import Cluster, until

import mrq
from mrq.errors import OutputError
from mrq.result import JobFailed


@pytest.fixture(params=["embedded", "cluster"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs jobs with `run` and `start`."""
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))
    if request.param == "embedded":
        with mrq.local(executors=1) as made:
            yield made
    else:
        with Cluster(tmp_path) as rig:
            rig.master()
            rig.worker("w0")
            yield rig.client()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in.txt").write_text("a b\nb\n")
    return tmp_path / "in.txt"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_what_mrq_wrote_is_replaced(engine: Any, tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"isn't a finished result of mrq .* holds thesis\.txt"):
        engine.run(Words, [source], out, overwrite=True)
    assert names(out) == ["thesis.txt"]
    (out / "thesis.txt").unlink()
    for _ in range(2):
        assert dict(engine.run(Words, [source], out, reducers=1, overwrite=True)) == {"a": "1", "b": "2"}
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds notes\.txt beside the result"):
        engine.run(Words, [source], out, overwrite=True)
    assert names(out) == ["_SUCCESS", "notes.txt", "part-00000"]


def test_a_file_that_came_while_the_job_ran_isnt_lost(engine: Any, tmp_path: Path, source: Path) -> None:
    out, gate = tmp_path / "out", tmp_path / "gate"
    gate.mkdir()
    engine.run(Words, [source], out, reducers=1)
    source.write_text("wait\n")
    handle = engine.start(Gated(gate=str(gate)), [source], out, reducers=1, overwrite=True)
    until(lambda: (gate / "runs").exists())
    (out / "notes.txt").write_text("mine")
    (gate / "open").touch()
    with pytest.raises((JobFailed, OutputError), match=r"notes\.txt"):
        handle.result(30)
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "part-00000").read_text() == "a\t1\nb\t2\n"
