"""A store that loses its data under a leader, then that leader too: every job commits, whoever leads.

On the memory twins; `test_cluster_store_wiped.py` has the same on real servers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster_jobs import Broken, Gated, SortedLate, Waiting, Words
from cluster_rig import Cluster, until

from mrq.commit import claim, owner, publish
from mrq.core.model import JobState
from mrq.errors import OutputError
from mrq.master.service import MasterService
from mrq.planning import Request
from mrq.remote import ask
from mrq.result import JobFailed

LEASE_S = 0.8


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, lease_s=LEASE_S) as cluster:
        yield cluster


def lose(made: Cluster, *, initialised: bool = False) -> None:
    """The servers come back without anything; `initialised`: an operator ran `--init` before the leader saw
    it. Returns once the leader has written its view back."""
    servers = made.servers
    servers.blobs.wipe()
    servers.lease.wipe()
    servers.store.wipe(initialised=initialised)
    until(lambda: servers.store.identity()[2])


def kill(made: Cluster) -> MasterService:
    """The leader dies, and another takes over."""
    service, thread = made.masters[-1]
    service.kill()
    thread.join(10)
    assert not thread.is_alive()
    return made.master()


def inputs(tmp_path: Path, *lines: str) -> list[Path]:
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    for number, line in enumerate(lines):
        (folder / f"{number}.txt").write_text(f"{line}\n")
    return [folder / f"{number}.txt" for number in range(len(lines))]


def began(gate: Path, count: int) -> None:
    until(lambda: (gate / "runs").exists() and len((gate / "runs").read_text().split()) >= count)


@pytest.mark.parametrize("how", ["wiped", "initialised meanwhile", "another id"])
def test_a_lost_store_and_then_another_leader_and_every_job_commits(
    made: Cluster, tmp_path: Path, how: str
) -> None:
    """Also where the id of the store is another for the successor: the jobs' records have their claims."""
    gate = tmp_path / "gate"
    gate.mkdir()
    made.master()
    for number in range(2):
        made.worker(f"w{number}", slots=2)
    client = made.client()
    job, source = Gated(gate=str(gate)), inputs(tmp_path, "wait", "go")
    before = client.start(job, source, tmp_path / "before", split_size=20_000)
    began(gate, 2)
    store_id = made.servers.store.identity()[0]
    lose(made, initialised=how == "initialised meanwhile")
    assert made.servers.store.identity()[0] == store_id, "the leader writes its id back"
    after = client.start(job, source, tmp_path / "after", split_size=20_000)
    began(gate, 5)
    if how == "another id":
        made.servers.store._claims.store_id = "another"
    kill(made)
    later = client.start(Words, source, tmp_path / "later")
    assert dict(later.result(20)) == {"go": "1", "wait": "1"}
    with pytest.raises(OutputError, match=f"being written by job {after.job}; wait for it"):
        client.run(Words, source, tmp_path / "after")
    (gate / "open").touch()
    for handle in (before, after):
        assert dict(handle.result(30)) == {"go": "1", "wait": "1"}
    assert not list(tmp_path.glob(".*.mrq")), "no claim is left"


def test_a_standby_says_why_it_does_not_lead_over_an_empty_store(made: Cluster, tmp_path: Path) -> None:
    """Its leader was killed as the store lost its data: no master leads again unless somebody says so."""
    leader = made.master()
    made.master(wait=False)
    service, thread = made.masters[0]
    assert service is leader
    service.kill()
    thread.join(10)
    servers = made.servers
    servers.blobs.wipe()
    servers.lease.wipe()
    servers.store.wipe()
    until(lambda: any("the store isn't initialised (any more), so this master waits" in x for x in made.said))
    servers.store.wipe(initialised=True)
    until(made.masters[1][0].leading.is_set)
    assert sum("isn't initialised" in said for said in made.said) == 1
    made.worker("w0")
    assert dict(made.client().run(Words, inputs(tmp_path, "a"), tmp_path / "out")) == {"a": "1"}


def test_two_losses_and_two_leaders(made: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    made.master()
    made.worker("w0", slots=2)
    client = made.client()
    handle = client.start(
        Gated(gate=str(gate)), inputs(tmp_path, "wait", "go"), tmp_path / "out", split_size=20_000
    )
    began(gate, 2)
    for times in range(2):
        lose(made, initialised=times == 1)
        kill(made)
    (gate / "open").touch()
    assert dict(handle.result(30)) == {"go": "1", "wait": "1"}


def test_a_sampling_goes_on_with_the_job_that_it_is_for(made: Cluster, tmp_path: Path) -> None:
    """What it is for was kept in the store, too."""
    gate = tmp_path / "gate"
    gate.mkdir()
    made.master()
    made.worker("w0", slots=2)
    source = inputs(tmp_path, "b", "a")
    job = SortedLate(gate=str(gate))
    handles = []
    for name, faults in (("one", (lose,)), ("both", (lose, kill)), ("turned", (kill, lose))):
        handles.append(made.client().start(job, source, tmp_path / name, reducers=2, split_size=20_000))
        began(gate, 2)
        for fault in faults:
            fault(made)
    (gate / "open").touch()
    for handle in handles:
        assert [key for key, _ in handle.result(40)] == ["a", "b"]


def test_a_commit_that_had_begun_is_finished_by_the_successor(
    made: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, committing, go = publish.commit, threading.Event(), threading.Event()

    def commit(*args: Any) -> Any:
        committing.set()
        go.wait(20)
        return real(*args)

    monkeypatch.setattr(publish, "commit", commit)
    made.master()
    made.worker("w0")
    handle = made.client().start(Words, inputs(tmp_path, "a b"), tmp_path / "out")
    assert committing.wait(20)
    lose(made)
    until(lambda: made.servers.store.state(handle.job) is JobState.COMMITTING)
    made.servers.store._claims.store_id = "another"
    service, thread = made.masters[-1]
    service.kill()  # its commit is under way, and ends only when the successor's does
    made.master()
    go.set()
    thread.join(10)
    assert dict(handle.result(20)) == {"a": "1", "b": "1"}
    assert not list(tmp_path.glob(".*.mrq"))


def test_a_failed_job_goes_on_under_another_leader(made: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    made.master()
    made.worker("w0")
    client = made.client()
    handle = client.start(Broken(gate=str(gate)), inputs(tmp_path, "bad", "good"), tmp_path / "out")
    with pytest.raises(JobFailed):
        handle.result(20)
    lose(made)
    made.servers.store._claims.store_id = "another"
    kill(made)
    (gate / "mended").touch()
    assert dict(client.retry(handle.job).result(20)) == {"bad": "1", "good": "1"}


def test_a_failed_job_that_goes_on_keeps_its_claim_whoever_still_settles_its_end(
    made: Cluster, tmp_path: Path
) -> None:
    """A successor settles the ends that it finds once more, while a retry may have come already."""
    gate = tmp_path / "gate"
    gate.mkdir()
    made.master()
    made.worker("w0")
    client = made.client()
    source = inputs(tmp_path, "bad")
    handle = client.start(Waiting(gate=str(gate)), source, tmp_path / "out")
    with pytest.raises(JobFailed):
        handle.result(20)
    (gate / "mended").touch()
    again = client.retry(handle.job)
    term = made.masters[-1][0]._term
    assert term is not None
    spec = term.leadership.master.spec(handle.job)
    assert spec is not None
    term.leadership.finisher.settle(spec, JobState.FAILED, "of before", None, {})
    term.leadership.finisher.expire(spec)
    with pytest.raises(OutputError, match=f"being written by job {handle.job}; wait for it"):
        client.run(Words, source, tmp_path / "out")
    (gate / "open").touch()
    assert dict(again.result(20)) == {"bad": "1"}


def test_a_record_of_the_version_before_is_refused_by_name_where_nothing_says_whose_the_folder_is(
    made: Cluster, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    made.master()
    made.worker("w0")
    client = made.client()
    handles = []
    source = str(inputs(tmp_path, "wait")[0])
    for name in ("kept", "other"):
        draft = client.draft(Request(ref=Gated(gate=str(gate)), inputs=[source], output=str(tmp_path / name)))
        handles.append(client.start_draft(replace(draft, spec=replace(draft.spec, claim=""))))
        began(gate, 1)
    lose(made)
    kill(made)
    path = tmp_path / ".other.mrq" / "job"
    path.write_text(path.read_text().replace("cluster-1", "of-before"))
    (gate / "open").touch()
    assert dict(handles[0].result(30)) == {"wait": "1"}, "the id is enough, where it is the same"
    with pytest.raises(
        JobFailed, match=r"the id of-before.* submit the job anew, to another output"
    ) as failed:
        handles[1].result(30)
    assert "remove" not in str(failed.value)
    assert path.exists()


def test_a_question_that_the_store_lost_is_asked_again(
    made: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "_READ_S", 0.1)
    client = made.client()
    asked = threading.Thread(target=lambda: answers.append(client.ask("jobs")))
    answers: list[Any] = []
    asked.start()
    requests = made.servers.requests
    until(lambda: requests.waiting)
    with requests.changed:
        requests.waiting.clear()
        requests.seen.clear()
    made.master()
    asked.join(10)
    assert [answer["jobs"] for answer in answers] == [[]]


def test_a_result_without_out_is_read_after_the_store_was_lost(made: Cluster, tmp_path: Path) -> None:
    made.master()
    made.worker("w0")
    client = made.client()
    result = client.run(Words, inputs(tmp_path, "a b"))
    lose(made)
    kill(made)
    term = made.masters[-1][0]._term
    assert term is not None
    term._keep_house()
    assert dict(result) == {"a": 1, "b": 1}


def test_a_claim_of_another_cluster_is_nobodys_to_judge(tmp_path: Path) -> None:
    """And no message tells anybody to remove the folder."""
    theirs = owner.Cluster("c1", lambda job: True)
    staging = claim.prepare(str(tmp_path / "out"), "one", cluster=theirs, claim="n1")
    mine = owner.Cluster("c2", lambda job: True, {"one": "n2"}.get)  # type: ignore[arg-type]
    for cluster in (None, mine):
        with pytest.raises(OutputError, match="of a cluster that can't be asked from here") as refused:
            claim.prepare(str(tmp_path / "out"), "two", True, cluster=cluster, claim="n3")
        assert "remove" not in str(refused.value)
        assert "its store has the id c1" in str(refused.value)
    assert (Path(staging.folder) / "job").exists()
