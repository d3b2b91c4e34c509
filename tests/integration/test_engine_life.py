"""One engine, many jobs: nothing stays of those that are over; nothing that goes wrong looks like a hang."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mrq
from mrq.commit import claim, manifest, publish
from mrq.core.commands import PlanStage, WriteJob
from mrq.core.model import JobState
from mrq.core.store_api import Batch
from mrq.core.store_rows import plan_key
from mrq.engine.engine import Engine
from mrq.engine.local import LocalLeader
from mrq.errors import DiskFullError, InternalError, Interrupted, MrqError, UsageError
from mrq.io import disk
from mrq.master.finishing import JobFinisher
from mrq.master.known_jobs import KnownJobs
from mrq.servers.memory.log import JobLog

WAIT_S = 30.0


class Words(mrq.Job):
    def map(self, key, line):  # type: ignore[no-untyped-def]
        for word in line.split():
            yield word, 1

    def reduce(self, word, counts):  # type: ignore[no-untyped-def]
        yield sum(counts)


class Ordered(Words, order="total"):
    pass


class Picky(Words):
    """Fails until the file that it is told of exists."""

    sign: str = ""

    def map(self, key, line):  # type: ignore[no-untyped-def]
        if not os.path.exists(self.sign):
            raise ValueError("not yet")
        yield from super().map(key, line)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path / "tmp"))
    with mrq.local(executors=2) as made:
        yield made


@pytest.fixture
def text(tmp_path: Path) -> list[str]:
    path = tmp_path / "text"
    path.write_text("a b c\n" * 3000)
    return [str(path)]


def held(engine: Engine) -> list[int]:
    """What leader, machine, store and agent hold of jobs."""
    leader = led(engine)
    assert leader._leadership is not None
    master, agent, store = leader._leadership.master, leader._agent, leader._store
    return [
        len(leader._handles), len(store.kept()), len(leader._leadership._servers.blobs._kept),
        len(master._out.jobs), len(master._machine.jobs()), len(store._specs),
        len(store._code), len(store._claims.jobs), len(agent._files._jobs),
        len(agent._attempts._scratches._free),
    ]  # fmt: skip


def led(engine: Engine) -> LocalLeader:
    assert isinstance(engine.leader, LocalLeader)
    return engine.leader


def kept(engine: Engine) -> list[str]:
    return sorted(os.listdir(f"{engine.root}/jobs"))


def settle(engine: Engine) -> None:
    """Until the agent has heard of everything, and the leadership has put everything away."""
    for _ in range(100):
        if not any(held(engine)) and not kept(engine):
            return
        threading.Event().wait(0.05)


def test_nothing_of_jobs_that_are_over_stays_in_memory(
    engine: Engine, text: list[str], tmp_path: Path
) -> None:
    for turn in range(3):
        engine.run(Words(), text, str(tmp_path / f"out{turn}"), reducers=2)
        engine.run(Ordered(), text, str(tmp_path / f"ordered{turn}"), reducers=2)
        with pytest.raises(mrq.JobFailed):
            engine.run(Picky(sign="/no/such"), text, str(tmp_path / f"bad{turn}"), reducers=2)
    settle(engine)
    assert held(engine) == [0] * 10
    assert len(kept(engine)) == 3  # those that failed, for a retry


def test_a_view_outlives_its_job(engine: Engine, text: list[str], tmp_path: Path) -> None:
    handle = engine.start(Words(), text, str(tmp_path / "out"), reducers=2)
    assert handle.wait(WAIT_S)
    settle(engine)
    view = handle.view()
    assert view is not None
    assert (view.maps.completed, view.reduces.completed) == (1, 2)


def test_a_retry_beside_other_jobs_goes_on_with_what_is_done(
    engine: Engine, text: list[str], tmp_path: Path
) -> None:
    sign = tmp_path / "sign"
    with pytest.raises(mrq.JobFailed) as failed:
        engine.run(Picky(sign=str(sign)), text, str(tmp_path / "out"), reducers=2)
    other = engine.start(Words(), text, str(tmp_path / "other"), reducers=2)
    sign.touch()
    again = engine.retry(failed.value.job)
    assert dict(again.result(WAIT_S)) == dict(other.result(WAIT_S)) == {"a": "3000", "b": "3000", "c": "3000"}
    assert kept(engine) == []


def test_a_job_that_runs_is_not_retried(engine: Engine, text: list[str], tmp_path: Path) -> None:
    handle = engine.start(Words(), text, str(tmp_path / "out"), reducers=2, split_size="1K")
    with pytest.raises(UsageError, match="still running"):
        engine.retry(handle.job)
    handle.result(WAIT_S)


@pytest.mark.parametrize("job", [Words, Ordered])
@pytest.mark.parametrize("after", [0.0, 0.15, 0.35])
def test_a_cancel_at_any_moment_ends_the_job_and_leaves_nothing(
    engine: Engine, text: list[str], tmp_path: Path, job: type[mrq.Job], after: float
) -> None:
    out = tmp_path / "out"
    handle = engine.start(job(), text, str(out), reducers=2, split_size="2K")
    handle.wait(after)
    handle.cancel()
    try:
        handle.result(WAIT_S)
    except Interrupted:
        assert not out.exists()
    else:
        assert manifest.read_manifest(str(out)).job == handle.job
    settle(engine)
    assert kept(engine) == []
    assert not (tmp_path / ".out.mrq").exists()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cancel_between_the_samples_and_the_job_counts(
    engine: Engine, text: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    plan = JobFinisher.plan

    def plan_and_cancel(self: JobFinisher, command: PlanStage) -> None:
        if when == "before":
            self.jobs.take_back(command.job)
        plan(self, command)
        if when == "after":
            self.jobs.take_back(command.job)

    monkeypatch.setattr(JobFinisher, "plan", plan_and_cancel)
    handle = engine.start(Ordered(), text, str(tmp_path / "out"), reducers=2, split_size="2K")
    with pytest.raises(Interrupted):
        handle.result(WAIT_S)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["handle", "info", "next_tick"])
def test_a_bug_in_the_master_fails_every_job_by_name(
    engine: Engine, text: list[str], tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    handles = [
        engine.start(job(), text, str(tmp_path / job.__name__), reducers=2, split_size="1K")
        for job in (Words, Ordered)
    ]
    leadership = led(engine)._leadership
    assert leadership is not None
    master = leadership.master

    def boom(*args: Any) -> Any:
        raise ZeroDivisionError("boom")

    setattr(master if where == "info" else master._machine, where, boom)
    for handle in handles:
        with pytest.raises(MrqError, match="boom"):
            handle.result(WAIT_S)
    with pytest.raises(InternalError, match=r"boom.*make another"):
        engine.start(Words(), text, str(tmp_path / "later"), reducers=2)
    assert not (tmp_path / "later").exists()
    assert not (tmp_path / ".later.mrq").exists()


def test_a_log_on_a_full_disk_fails_its_job_alone(
    engine: Engine, text: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = JobLog.append

    def full(self: JobLog, batch: Batch) -> None:
        if batch.job.startswith("words-") and batch.fence.seq > 1:
            raise DiskFullError(f"the disk of {self.path} is full")
        append(self, batch)

    monkeypatch.setattr(JobLog, "append", full)
    one = engine.start(Words(), text, str(tmp_path / "one"), reducers=2)
    two = engine.start(Ordered(), text, str(tmp_path / "two"), reducers=2)
    with pytest.raises(mrq.JobFailed, match=r"the disk of .* is full"):
        one.result(WAIT_S)
    assert len(list(two.result(WAIT_S))) == 3
    monkeypatch.undo()
    monkeypatch.setenv("MRQ_TMP", str(tmp_path / "tmp"))
    assert dict(engine.retry(one.job).result(WAIT_S)) == {"a": "3000", "b": "3000", "c": "3000"}


@pytest.mark.parametrize("state", [JobState.COMMITTING, JobState.DONE])
def test_a_log_that_is_full_at_the_end_fails_nothing(
    engine: Engine, text: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: JobState
) -> None:
    append = JobLog.append

    def full(self: JobLog, batch: Batch) -> None:
        if any(isinstance(write, WriteJob) and write.state is state for write in batch.writes):
            raise DiskFullError(f"the disk of {self.path} is full")  # nothing will be retried
        append(self, batch)

    monkeypatch.setattr(JobLog, "append", full)
    handle = engine.start(Words(), text, str(tmp_path / "out"), reducers=1)
    assert len(list(handle.result(WAIT_S))) == 3


def test_a_bug_in_the_agent_fails_every_job_by_name(
    engine: Engine, text: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    handle = engine.start(Words(), text, str(tmp_path / "out"), reducers=2, split_size="1K")

    def boom(*args: Any) -> Any:
        raise ZeroDivisionError("boom")

    agent = led(engine)._agent
    monkeypatch.setattr(agent._machine, "handle_all", boom)
    with pytest.raises(mrq.JobFailed, match="boom"):
        handle.result(WAIT_S)
    with pytest.raises(InternalError, match="boom"):
        engine.start(Words(), text, str(tmp_path / "later"), reducers=2)


def test_an_engine_closed_under_a_commit_keeps_what_was_published(
    engine: Engine, text: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = threading.Event(), threading.Event()
    commit = publish.commit

    def slow(*args: Any) -> Any:
        reached.set()
        assert go_on.wait(WAIT_S)
        return commit(*args)

    monkeypatch.setattr(publish, "commit", slow)
    handle = engine.start(Words(), text, str(tmp_path / "out"), reducers=2)
    assert reached.wait(WAIT_S)
    threading.Timer(0.2, go_on.set).start()
    engine.close()
    assert len(list(handle.result(0))) == 3
    assert kept(engine) == []


def test_what_ends_a_job_may_fail_without_a_hang(
    engine: Engine, text: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: Any, **kwargs: Any) -> Any:
        raise disk.named(OSError(errno.EACCES, "no"), "/somewhere")

    monkeypatch.setattr(manifest, "manifest_of", refused)
    monkeypatch.setattr(claim, "abandon", refused)
    handle = engine.start(Words(), text, str(tmp_path / "out"), reducers=2)
    with pytest.raises(mrq.JobFailed, match="/somewhere can't be written"):
        handle.result(WAIT_S)


def test_a_disk_that_is_full_between_the_samples_and_the_job_ends_it_by_name(
    engine: Engine, text: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = JobLog.append

    def full(self: JobLog, batch: Batch) -> None:
        if any(key == plan_key(0) for key, _ in batch.records):
            raise DiskFullError(f"the disk of {self.path} is full")
        append(self, batch)

    monkeypatch.setattr(JobLog, "append", full)
    handle = engine.start(Ordered(), text, str(tmp_path / "out"), reducers=2)
    with pytest.raises(mrq.JobFailed, match=r"the disk of .* is full"):
        handle.result(WAIT_S)
    monkeypatch.undo()
    settle(engine)
    assert kept(engine) == [handle.job]
    assert len(list(engine.retry(handle.job).result(WAIT_S))) == 3
    settle(engine)
    assert held(engine) == [0] * 10
    assert kept(engine) == []
    assert not (tmp_path / ".out.mrq").exists()
    assert len(list(engine.run(Words(), text, str(tmp_path / "other"), reducers=2))) == 3


def test_what_interrupts_a_submit_takes_the_job_back(
    engine: Engine, text: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: KnownJobs) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(KnownJobs, "taken", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.start(Words(), text, str(tmp_path / "out"), reducers=2, split_size="1K")
    settle(engine)
    assert kept(engine) == []
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.mrq").exists()


def test_a_closed_engine_refuses(engine: Engine, text: list[str], tmp_path: Path) -> None:
    engine.close()
    with pytest.raises(UsageError, match="closed"):
        engine.start(Words(), text, str(tmp_path / "out"))
    with pytest.raises(UsageError, match="closed"):
        engine.retry("words-1")
