"""A bundle that isn't what its name says is a failure by its name, on both engines, and never runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster_jobs import Broken, Words
from cluster_rig import cluster

import mrq
from mrq.errors import CorruptFileError
from mrq.job import bundle
from mrq.result import JobFailed


def others(tmp_path: Path) -> bytes:
    """A whole bundle of the same job file with other code."""
    source = tmp_path / "other.py"
    source.write_text("raise SystemExit('other code has run')\n")
    return bundle.pack({"cluster_jobs.py": str(source)})


@pytest.mark.parametrize("kind", ["another bundle", "rubbish"])
def test_tampered_code_on_a_cluster(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))
    (tmp_path / "in.txt").write_text("a\n")
    data = others(tmp_path) if kind == "another bundle" else b"rubbish"
    with cluster(tmp_path) as made:
        monkeypatch.setattr(made.servers.store, "code", lambda digest: data)
        with pytest.raises(
            JobFailed, match=r"m-00000 couldn't be begun 3 times: CorruptFileError: the code of"
        ) as failed:
            made.client().run(Words, [tmp_path / "in.txt"], tmp_path / "out")
    assert "isn't what its name says" in str(failed.value)
    assert "submit the job again" in str(failed.value)


def test_tampered_code_of_a_kept_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))
    (tmp_path / "in.txt").write_text("bad\n")
    with mrq.local(executors=1) as engine:
        with pytest.raises(JobFailed) as failed:
            engine.run(Broken(gate=str(tmp_path)), [tmp_path / "in.txt"], tmp_path / "out")
        kept = Path(engine.root) / "jobs" / failed.value.job / "code.bundle"
        right = kept.read_bytes()
        kept.write_bytes(others(tmp_path))
        with pytest.raises(
            CorruptFileError, match=r"can't go on: the code kept in .*code\.bundle isn't what was"
        ):
            engine.retry(failed.value.job)
        kept.write_bytes(right)
        (tmp_path / "mended").touch()
        assert dict(engine.retry(failed.value.job).result(30)) == {"bad": "1"}
