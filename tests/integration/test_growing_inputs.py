"""Logs that are written while a job reads them: to their last whole line of then, or refused by name."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_jobs import Gated, Needs, Words
from cluster_rig import engine_of, until

from mrq.errors import UsageError
from mrq.result import JobFailed


@pytest.fixture(scope="module", params=["embedded", "cluster"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("engine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRQ_TMP", str(folder))
        with engine_of(request.param, folder) as made:
            yield made


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "gate").mkdir()
    path = tmp_path / "app.log"
    path.write_text("wait 1\n" + "".join(f"line {n}\n" for n in range(2000)) + "an unfin")
    return path


def append(path: Path, text: str = "ished line\nnew\n") -> None:
    time.sleep(0.01)  # another time of writing
    with open(path, "a") as file:
        file.write(text)


def test_growth_while_the_job_runs_is_not_read(engine: Any, log: Path, tmp_path: Path) -> None:
    job = Gated(gate=str(tmp_path / "gate"))
    handle = engine.start(job, [log], tmp_path / "out", as_of_now=True, split_size=1000)
    until(lambda: (tmp_path / "gate/runs").exists())
    for _ in range(3):
        append(log)
    (tmp_path / "gate/open").touch()
    found = [key for key, _ in handle.result()]
    assert len(found) == 2001
    assert not any("unfin" in key or key == "new" for key in found)


def test_without_it_growth_is_refused_and_the_flag_is_named(engine: Any, log: Path, tmp_path: Path) -> None:
    job = Gated(gate=str(tmp_path / "gate"))
    handle = engine.start(job, [log], tmp_path / "out", split_size=1000)
    until(lambda: (tmp_path / "gate/runs").exists())
    append(log)
    (tmp_path / "gate/open").touch()
    with pytest.raises(JobFailed, match=r"app\.log: changed since .*`as_of_now=True`"):
        handle.result()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["rotated", "cut"])
def test_a_rotated_or_cut_log_fails_the_job(engine: Any, log: Path, tmp_path: Path, how: str) -> None:
    job = Gated(gate=str(tmp_path / "gate"))
    handle = engine.start(job, [log], tmp_path / "out", as_of_now=True, split_size=1000)
    until(lambda: (tmp_path / "gate/runs").exists())
    if how == "rotated":
        os.rename(log, tmp_path / "app.log.1")
        log.write_bytes((tmp_path / "app.log.1").read_bytes())
    else:
        os.truncate(log, log.stat().st_size - 1)
    (tmp_path / "gate/open").touch()
    with pytest.raises(JobFailed, match="replaced or rotated" if how == "rotated" else "it was cut"):
        handle.result()
    assert not (tmp_path / "out").exists()


def test_a_retry_reads_what_was_there(engine: Any, log: Path, tmp_path: Path) -> None:
    with pytest.raises(JobFailed) as found:
        engine.run(
            Needs(there=str(tmp_path / "there")), [log], tmp_path / "out", as_of_now=True, split_size=1000
        )
    append(log)
    (tmp_path / "there").touch()
    ran = engine.retry(found.value.job).result()
    assert sum(int(count) for _, count in ran) == 2001


def test_a_retry_refuses_a_log_that_was_rotated(engine: Any, log: Path, tmp_path: Path) -> None:
    with pytest.raises(JobFailed) as found:
        engine.run(Needs(there=str(tmp_path / "there")), [log], tmp_path / "out", as_of_now=True)
    os.rename(log, tmp_path / "app.log.1")
    log.write_bytes((tmp_path / "app.log.1").read_bytes())
    (tmp_path / "there").touch()
    with pytest.raises((UsageError, JobFailed), match="replaced or rotated"):
        engine.retry(found.value.job).result()


def test_only_one_line_without_an_end(engine: Any, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("no end yet")
    ran = engine.run(Words, [tmp_path / "log"], tmp_path / "out", as_of_now=True)
    assert list(ran) == []
