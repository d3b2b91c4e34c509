"""What a successor makes of a leader that died at the worst moment, on the memory twins."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster_jobs import Chain, Gated, Words
from cluster_rig import Cluster, until

from mrq.commit import between, publish
from mrq.commit.filesystem import FileSystem
from mrq.commit.manifest import read_manifest
from mrq.core.model import JobState
from mrq.core.store_api import ClientRequest
from mrq.core.wire import to_wire
from mrq.errors import OperatorError, UsageError
from mrq.planning import Request

LEASE_S = 0.8


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))


class Killed(BaseException):
    """The end of a thread of a process that isn't there any more."""


class Killing(FileSystem):
    """Calls `kill` in place of its nth call that changes something, and whatever comes after."""

    def __init__(self, at: int, kill: Callable[[], None]) -> None:
        self.left, self._kill = at, kill

    def _step(self) -> None:
        if self.left == 0:
            self._kill()
            raise Killed
        self.left -= 1

    def mkdir(self, path: str) -> None:
        self._step()
        super().mkdir(path)

    def rename(self, source: str, target: str) -> None:
        self._step()
        super().rename(source, target)

    def link(self, source: str, target: str) -> None:
        self._step()
        super().link(source, target)

    def unlink(self, path: str) -> None:
        self._step()
        super().unlink(path)

    def rmdir(self, path: str) -> None:
        self._step()
        super().rmdir(path)

    def write(self, path: str, data: bytes) -> None:
        self._step()
        super().write(path, data)

    def fsync_folder(self, path: str) -> None:
        self._step()
        super().fsync_folder(path)

    def exchange(self, one: str, other: str) -> bool:
        self._step()
        return super().exchange(one, other)


def steps_of_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path) -> int:
    counted = Killing(10_000, lambda: None)
    real = publish.commit
    with Cluster(tmp_path) as made, monkeypatch.context() as patch:
        patch.setattr(publish, "commit", lambda *args: real(*args, fs=counted))
        made.master()
        made.worker("w0")
        out = tmp_path / "counted"
        made.client().run(Words, [source], out, reducers=2)
        made.client().run(Words, [source], out, reducers=2, overwrite=True)
    return 10_000 - counted.left


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_leader_killed_at_any_step_of_a_commit_is_succeeded_and_out_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in.txt"
    source.write_text("a b\nb\n")
    total = steps_of_a_commit(tmp_path, monkeypatch, source)
    assert total > 8
    real = publish.commit
    killing: list[Killing] = []

    def commit(*args: Any) -> Any:
        return real(*args, fs=killing.pop()) if killing else real(*args)

    monkeypatch.setattr(publish, "commit", commit)
    with Cluster(tmp_path, lease_s=LEASE_S) as made:
        made.master()
        made.worker("w0")
        client = made.client()
        for at in range(0, total // 2 + 1, 2):
            first, thread = made.masters[-1]

            def kill(first: Any = first, thread: Any = thread) -> None:
                first.kill()
                thread.join(10)
                assert not thread.is_alive()

            source.write_text(f"a b\nb {at}\n")  # so that the output is another each time
            killing.append(Killing(at, kill))
            handle = client.start(Words, [source], tmp_path / "out", reducers=2, overwrite=True)
            thread.join(10)
            died = not thread.is_alive()
            if died:
                made.master()
            killing.clear()
            assert dict(handle.result(20)) == {"a": "1", "b": "2", str(at): "1"}, f"killed at step {at}"
            assert read_manifest(str(tmp_path / "out")).job == handle.job
            assert client.ask("status", job=handle.job)["jobs"][0].state is JobState.DONE
            assert not [name for name in os.listdir(tmp_path) if name.endswith(".mrq")], f"step {at}"
            if not died:
                assert at > 8
                break


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_leader_killed_at_any_step_between_two_stages_is_succeeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it keeps what the first stage, or the second, has written: once more, and nothing is redone."""
    source = tmp_path / "in.txt"
    source.write_text("a b\nb\n")
    real = between.keep
    killing: list[Killing | None] = []

    def keep(*args: Any, **more: Any) -> Any:
        fs = killing.pop(0) if killing else None
        return real(*args, **more, fs=fs or FileSystem())

    monkeypatch.setattr(between, "keep", keep)
    with Cluster(tmp_path, lease_s=LEASE_S) as made:
        made.master()
        made.worker("w0")
        client = made.client()
        for at in range(0, 30, 3):
            first, thread = made.masters[-1]

            def kill(first: Any = first, thread: Any = thread) -> None:
                first.kill()
                thread.join(10)
                assert not thread.is_alive()

            source.write_text(f"a b\nb {at}\n")
            killing[:] = [*([None] if at % 2 else []), Killing(at, kill)]
            handle = client.start(Chain, [source], tmp_path / "out", overwrite=True)
            thread.join(10)
            died = not thread.is_alive()
            if died:
                made.master()
            assert dict(handle.result(20)) == {"a": "1", "b": "2", str(at): "1"}, f"killed at step {at}"
            (info,) = client.ask("status", job=handle.job)["jobs"]
            assert (info.reruns, info.errors) == (0, ())
            labels = [f"{kind} {stage}" for stage in (1, 2, 3) for kind in ("map", "reduce")]
            assert [each.label for each in info.stages if each.complete] == labels
            assert not [name for name in os.listdir(tmp_path) if name.endswith(".mrq")], f"step {at}"
            if not died:
                assert at > 9
                break


def test_a_submit_that_comes_again_to_a_successor_is_answered_even_of_a_job_that_is_over(
    tmp_path: Path,
) -> None:
    source = tmp_path / "in.txt"
    source.write_text("a\n")
    with Cluster(tmp_path, lease_s=LEASE_S) as made:
        first = made.master()
        made.worker("w0")
        client = made.client()
        draft = client.draft(Request(ref=Words, inputs=[str(source)], output=str(tmp_path / "out")))
        handle = client.start_draft(draft)
        handle.result(20)
        request = ClientRequest(id="again", op="submit", args={"draft": to_wire(draft)})
        first.kill()
        with made.servers.requests.changed:  # it was persisted, and not answered
            made.servers.requests.waiting["again"] = (made.servers.requests.next_serial(), request)
        made.master()
        until(lambda: "again" in made.servers.requests.answers)
        assert made.servers.requests.answers["again"][1] == {"job": handle.job, "notes": []}


def test_a_job_whose_records_cannot_be_read_fails_alone_and_is_found_by_name(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    source = tmp_path / "in.txt"
    source.write_text("wait\n")
    with Cluster(tmp_path, lease_s=LEASE_S) as made:
        first = made.master()
        made.worker("w0", slots=2)
        client = made.client()
        torn = client.start(Gated(gate=str(gate)), [source], tmp_path / "torn")
        good = client.start(Gated(gate=str(gate)), [source], tmp_path / "good")
        until(lambda: (gate / "runs").exists() and len((gate / "runs").read_text().split()) == 2)
        first.kill()
        made.masters[0][1].join(10)
        made.servers.store._claims.jobs[torn.job]["records"]["m0"] = b"\xc1"
        made.master()
        (gate / "open").touch()
        assert dict(good.result(20)) == {"wait": "1"}
        with pytest.raises(OperatorError, match="can't be gone on with: the records of job"):
            torn.result(20)
        (row,) = client.ask("status", job=torn.job)["jobs"]
        assert (row.state, "can't be read" in str(row.error)) == (JobState.FAILED, True)
        states = {row.job: row.state.value for row in client.ask("jobs")["jobs"]}
        assert states == {torn.job: "failed", good.job: "done"}
        with pytest.raises(UsageError, match="nothing to go on with"):
            client.retry(torn.job)
        assert made.servers.store.state(torn.job) is JobState.FAILED


def test_a_job_that_is_not_kept_any_more_is_told_from_an_unknown_one(tmp_path: Path) -> None:
    with Cluster(tmp_path) as made:
        made.master()
        client = made.client()
        made.servers.store._gone.append("words-1")
        for op in ("status", "logs", "cancel", "retry"):
            with pytest.raises(UsageError, match=r"job words-1 is over for longer than jobs are kept"):
                client.ask(op, job="words-1")
        with pytest.raises(UsageError, match="there is no job"):
            client.ask("status", job="words-2")
