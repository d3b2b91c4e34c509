"""Who may write to an OUT: living jobs, dead ones, kept ones, and what stands there already."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mrq.commit import claim, owner, publish
from mrq.commit.filesystem import FileSystem
from mrq.commit.manifest import Manifest, dump_manifest, intact, manifest_of, part_files, read_manifest
from mrq.commit.staging import Staging
from mrq.core.model import JobSpec, StagedFile, StageSpec
from mrq.errors import CorruptFileError, DiskFullError, InternalError, OutputError


def spec(out: Path, job: str = "one", **more: Any) -> JobSpec:
    return JobSpec(
        job=job, name="T", code="c", entry="m:T", parameters={}, inputs=("in",),
        stages=(StageSpec(splits=(), reducers=1),),
        output=out.name, output_open=str(out), **more,
    )  # fmt: skip


def empty_manifest(job: str) -> Manifest:
    return manifest_of(spec(Path("x"), job), (), {}, started_at=1, finished_at=2)


def finish(staging: Staging) -> None:
    publish.commit(staging, empty_manifest(staging.job))


def test_a_second_living_job_is_refused_by_the_first_ones_name(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = claim.prepare(str(out), "first")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=rf"being written by job first \(process {os.getpid()}\)"):
            claim.prepare(str(out), "second", overwrite)
    assert not out.exists()
    finish(first)
    assert os.listdir(tmp_path) == ["out"]
    with pytest.raises(
        OutputError, match="exists; choose another output, or replace it with `overwrite=True`"
    ):
        claim.prepare(str(out), "second")
    finish(claim.prepare(str(out), "second", True))
    assert read_manifest(str(out)).job == "second"


def tree(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def taken(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "x").touch()
    return path


@pytest.mark.parametrize("name", ["out", "far/away/out", "file/out", "file", "full", "empty", "held", "odd"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_check_refuses_what_a_claim_does_and_leaves_everything(
    tmp_path: Path, name: str, overwrite: bool
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    taken(tmp_path / "full")
    taken(tmp_path / ".odd.mrq")
    claim.prepare(str(tmp_path / "held"), "other")
    before = tree(tmp_path)
    told = []
    for take in (claim.check, claim.prepare):
        try:
            take(str(tmp_path / name), "one", overwrite, shown=name)
        except OutputError as exc:
            told.append(str(exc))
        else:
            told.append("")
        if take is claim.check:
            assert tree(tmp_path) == before
    assert told[0] == told[1]
    assert bool(told[0]) == (name in ("file/out", "file", "held", "odd", "full"))


def test_a_check_holds_the_inputs_that_a_claim_would_replace(tmp_path: Path) -> None:
    out = taken(tmp_path / "full")
    for take in (claim.check, claim.prepare):
        with pytest.raises(OutputError, match="holds the input"):
            take(str(out), "one", True, inputs=[str(out / "x")])


def test_a_check_finds_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    for out, named in ((Path("/proc/out"), "/proc/.out.mrq"), (Path("/proc/far/out"), "/proc/far")):
        with pytest.raises(OutputError, match=f"{named} can't be written"):
            claim.check(str(out), "one")


@pytest.mark.parametrize("decided", [False, True])
def test_a_check_takes_what_a_dead_job_left_for_what_a_claim_makes_of_it(
    tmp_path: Path, decided: bool
) -> None:
    out = tmp_path / "out"
    staging = claim.prepare(str(out), "dead")
    if decided:
        manifest = dump_manifest(empty_manifest("dead"))
        (Path(staging.folder) / "manifest").write_bytes(manifest)
    claim.abandon(staging, keep=True)
    before = tree(tmp_path)
    claim.check(str(out), "one", True)
    if decided:
        with pytest.raises(OutputError, match="exists; choose another"):
            claim.check(str(out), "one")
    else:
        claim.check(str(out), "one")
    assert tree(tmp_path) == before


def test_many_at_once_and_one_wins(tmp_path: Path) -> None:
    out, won, lost = str(tmp_path / "out"), [], []
    gate = threading.Barrier(12)

    def go(i: int) -> None:
        gate.wait()
        try:
            won.append(claim.prepare(out, f"job-{i}"))
        except OutputError as exc:
            lost.append(str(exc))

    race(go)
    assert len(won) == 1
    assert len(lost) == 11
    assert all(f"job {won[0].job} " in text for text in lost)


def race(go: Any) -> None:
    threads = [threading.Thread(target=go, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def die_holding(out: Path, job: str) -> int:
    """A process that claims OUT, writes something there, and is gone."""
    code = (
        "import sys; from mrq.commit import claim; "
        "s = claim.prepare(sys.argv[1], sys.argv[2]); open(s.folder + '/attempts/x', 'w').close(); "
        "import os; print(os.getpid(), flush=True); os._exit(9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(out), job], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 9, done.stderr
    return int(done.stdout)


def test_a_dead_owner_is_succeeded_and_it_is_said(tmp_path: Path) -> None:
    out = tmp_path / "out"
    pid = die_holding(out, "first")
    staging = claim.prepare(str(out), "second")
    assert staging.notes == [f"took over {staging.folder} from job first, which is dead (process {pid})"]
    assert os.listdir(f"{staging.folder}/attempts") == []
    with pytest.raises(OutputError, match="job second"):
        claim.prepare(str(out), "third")
    finish(staging)
    assert os.listdir(tmp_path) == ["out"]


def test_many_successors_of_a_dead_owner_and_one_wins(tmp_path: Path) -> None:
    out = tmp_path / "out"
    die_holding(out, "first")
    won, lost = [], []
    gate = threading.Barrier(12)

    def go(i: int) -> None:
        gate.wait()
        try:
            won.append(claim.prepare(str(out), f"job-{i}"))
        except OutputError as exc:
            lost.append(str(exc))

    race(go)
    assert len(won) == 1, lost
    assert all(f"job {won[0].job} " in text for text in lost), lost
    finish(won[0])
    assert os.listdir(tmp_path) == ["out"]


def test_a_claim_has_one_successor(tmp_path: Path) -> None:
    """Both have seen the same dead owner; the second comes when the first has taken the folder."""
    die_holding(tmp_path / "out", "first")
    folder = str(tmp_path / ".out.mrq")
    held = owner.holder(FileSystem(), folder)
    assert held is not None
    assert owner.succeed(FileSystem(), folder, held[0], owner.myself("second", None))
    assert not owner.succeed(FileSystem(), folder, held[0], owner.myself("third", None))
    now = owner.holder(FileSystem(), folder)
    assert now is not None
    assert now[1].job == "second"
    assert sorted(os.listdir(tmp_path)) == [".out.mrq"], "nothing is left beside it"


def test_an_owner_elsewhere_is_not_judged(tmp_path: Path) -> None:
    staging = claim.prepare(str(tmp_path / "out"), "first")
    path = Path(staging.folder, "job")
    text = path.read_text()
    path.write_text(text.replace(f'"host": "{os.uname().nodename}"', '"host": "faraway"'))
    with pytest.raises(OutputError, match=r"job first on faraway \(process \d+\), .* wait for it") as refused:
        claim.prepare(str(tmp_path / "out"), "second")
    assert "remove" not in str(refused.value), "its owner may live"


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / ".out.mrq"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="isn't a staging folder"):
        claim.prepare(str(tmp_path / "out"), "first")
    (folder / "job").write_text("shopping list")
    with pytest.raises(OutputError, match="isn't a staging folder"):
        claim.prepare(str(tmp_path / "out"), "first")
    assert (folder / "notes.txt").read_text() == "mine"


def test_abandon_leaves_nothing_not_even_parents(tmp_path: Path) -> None:
    staging = claim.prepare(str(tmp_path / "a" / "b" / "out"), "first")
    Path(staging.folder, "attempts/r-00000").mkdir()
    claim.abandon(staging)
    assert os.listdir(tmp_path) == []
    claim.abandon(staging)
    (tmp_path / "a").mkdir()
    staging = claim.prepare(str(tmp_path / "a" / "b" / "out"), "first")
    claim.abandon(staging)
    assert os.listdir(tmp_path) == ["a"]


def test_kept_for_retry_and_taken_up_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    staging = claim.prepare(str(out), "one")
    Path(staging.folder, "attempts/part").write_bytes(b"x")
    claim.abandon(staging, keep=True)
    for _ in range(4):
        claim.abandon(claim.reopen(spec(out)), keep=True)
    again = claim.reopen(spec(out))
    assert (again.folder, again.job, again.notes) == (staging.folder, "one", [])
    with pytest.raises(OutputError, match="being written by job one"):
        claim.prepare(str(out), "two")
    file = StagedFile(name="attempts/part", final="part-00000", records=1, bytes=1, crc32=0x8CDC1683)
    assert intact(f"{again.folder}/attempts/part", file)
    done = publish.commit(again, manifest_of(spec(out), (file,), {}, started_at=1, finished_at=2))
    assert part_files(str(out)) == [(str(out / "part-00000"), file)]
    # A retry of what was committed finds that out.
    once_more = claim.reopen(spec(out))
    Path(once_more.folder, "attempts/part").write_bytes(b"in vain")
    assert publish.commit(once_more, done) == done
    assert os.listdir(tmp_path) == ["out"]


def test_kept_but_taken_over_by_another_job(tmp_path: Path) -> None:
    out = tmp_path / "out"
    claim.abandon(claim.prepare(str(out), "one"), keep=True)
    two = claim.prepare(str(out), "two")
    assert two.notes == [f"took over {two.folder} from job one, which had ended"]
    with pytest.raises(OutputError, match="was taken by job two since"):
        claim.reopen(spec(out))
    claim.abandon(two)
    assert claim.reopen(spec(out)).job == "one"


def test_reopen_after_a_kill(tmp_path: Path) -> None:
    die_holding(tmp_path / "out", "one")
    staging = claim.reopen(spec(tmp_path / "out"))
    assert os.listdir(f"{staging.folder}/attempts") == ["x"]
    assert claim.reopen(spec(tmp_path / "out")) == staging
    with pytest.raises(InternalError):
        claim.reopen(replace(spec(tmp_path / "out"), output_open=None))  # no output at all


def test_abandon_leaves_a_successors_folder_alone(tmp_path: Path) -> None:
    one = claim.prepare(str(tmp_path / "out"), "one")
    claim.abandon(one, keep=True)
    two = claim.prepare(str(tmp_path / "out"), "two")
    claim.abandon(one)
    assert os.path.isdir(two.folder)
    finish(two)


class TestWhatStandsAtOut:
    def test_an_empty_directory_is_used(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        finish(claim.prepare(str(tmp_path / "out"), "one"))
        assert read_manifest(str(tmp_path / "out")).job == "one"

    def test_a_result_needs_overwrite(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        finish(claim.prepare(str(out), "one"))
        with pytest.raises(OutputError, match="exists"):
            claim.prepare(str(out), "two")
        finish(claim.prepare(str(out), "two", True))
        assert read_manifest(str(out)).job == "two"
        assert os.listdir(out) == ["_SUCCESS"]

    def test_a_file_is_never_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("x")
        for overwrite in (False, True):
            with pytest.raises(OutputError, match="isn't a directory"):
                claim.prepare(str(tmp_path / "out"), "one", overwrite)
        with pytest.raises(OutputError, match="isn't a directory"):
            claim.prepare(str(tmp_path / "out" / "below"), "one")

    def test_a_link_is_followed(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "out").symlink_to("real")
        finish(claim.prepare(str(tmp_path / "out"), "one"))
        assert (tmp_path / "out").is_symlink()
        assert read_manifest(str(tmp_path / "real")).job == "one"

    @pytest.mark.parametrize("name", ["", "/", "s3://bucket/x"])
    def test_names_that_cannot_be(self, name: str) -> None:
        with pytest.raises(OutputError):
            claim.prepare(name, "one")

    def test_what_must_not_be_replaced(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "work" / "sub").mkdir(parents=True)
        (tmp_path / "work" / "in.txt").write_text("x")
        work = str(tmp_path / "work")
        with pytest.raises(OutputError, match="holds the input"):
            claim.prepare(work, "one", True, inputs=[f"{work}/in.txt"])
        monkeypatch.chdir(tmp_path / "work" / "sub")
        with pytest.raises(OutputError, match="holds the working directory"):
            claim.prepare(work, "one", True)
        monkeypatch.chdir("/")
        monkeypatch.setenv("HOME", work)
        with pytest.raises(OutputError, match="holds your home"):
            claim.prepare(work, "one", True)
        with pytest.raises(OutputError, match="mount point"):
            claim.prepare("/proc", "one", True)

    def test_a_parent_that_cannot_be_written(self, tmp_path: Path) -> None:
        class ReadOnly(FileSystem):
            def mkdir(self, path: str) -> None:
                raise OSError(30, "Read-only file system", path)

        with pytest.raises(OutputError, match="can't be written: Read-only file system"):
            claim.prepare(str(tmp_path / "out"), "one", fs=ReadOnly())

        class Full(FileSystem):
            def write(self, path: str, data: bytes) -> None:
                raise OSError(28, "No space left on device", path)

        with pytest.raises(DiskFullError, match="were free"):
            claim.prepare(str(tmp_path / "out"), "one", fs=Full())
        assert os.listdir(tmp_path) == []


def test_reading_what_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no _SUCCESS"):
        read_manifest(str(tmp_path))
    (tmp_path / "_SUCCESS").write_bytes(b"")  # Spark's and Hadoop's mark
    with pytest.raises(CorruptFileError, match="not a manifest"):
        part_files(str(tmp_path))


def test_no_hard_links_is_said(tmp_path: Path) -> None:
    class NoLinks(FileSystem):
        def link(self, source: str, target: str) -> None:
            raise OSError(1, "Operation not permitted", source)

    staging = claim.prepare(str(tmp_path / "out"), "one")
    with pytest.raises(OutputError, match="has no hard links"):
        publish.commit(staging, empty_manifest("one"), fs=NoLinks())


# A cluster's claims.


def test_a_clusters_claim_outlives_its_master_and_is_one_jobs(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    alive = {"job-1"}
    mine = owner.Cluster("c1", lambda job: job in alive)
    first = claim.prepare(out, "job-1", cluster=mine)
    assert claim.prepare(out, "job-1", cluster=mine).folder == first.folder  # by the next leader
    with pytest.raises(OutputError, match="being written by job job-1;"):
        claim.prepare(out, "job-2", cluster=mine)
    for other in (None, owner.Cluster("c2", lambda job: True)):
        with pytest.raises(OutputError, match="job job-1 of a cluster that can't be asked"):
            claim.prepare(out, "job-3", cluster=other)
    alive.clear()  # it is over, or was never begun
    second = claim.prepare(out, "job-2", cluster=mine)
    assert second.notes == [f"took over {first.folder} from job job-1, which had ended"]


def test_a_jobs_claim_is_known_by_its_record_whatever_the_ids_of_stores_say(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    before = owner.Cluster("c1", lambda job: True)
    first = claim.prepare(out, "one", cluster=before, claim="n1")
    records = {"one": "n1"}
    alive = {"one"}
    after = owner.Cluster("c2", alive.__contains__, lambda job: records.get(job, ""))
    job = spec(tmp_path / "out", "one", claim="n1")
    assert claim.prepare(out, "one", cluster=after, claim="n1").folder == first.folder
    assert claim.reopen(job, cluster=after).folder == first.folder
    with pytest.raises(OutputError, match="being written by job one; wait for it"):
        claim.prepare(out, "two", cluster=after, claim="n2")
    claim.abandon(claim.reopen(job, cluster=after), keep=True)
    for cluster in (before, after):  # a retry, by whoever has the record
        again = claim.reopen(job, cluster=cluster)
        assert claim.reopen(job, cluster=owner.Cluster("c3", lambda job: True)).folder == again.folder
        claim.abandon(again, keep=True)
    staging = claim.reopen(job, cluster=after)
    records.clear()
    alive.clear()
    for other in ("", "n2"):  # a record of the version before, or another's of that name
        with pytest.raises(OutputError, match=r"the id c2, .* submit the job anew, to another output"):
            claim.reopen(spec(tmp_path / "out", "one", claim=other), cluster=owner.Cluster("c4", bool))
    publish.commit(staging, empty_manifest("one"))
    assert read_manifest(out).job == "one"


def test_no_message_tells_anybody_to_remove_what_an_owner_may_still_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose life can't be known: another cluster's, another machine's, one taken over again and again."""
    out = str(tmp_path / "out")
    claim.prepare(out, "one", cluster=owner.Cluster("c1", lambda job: True))
    path = tmp_path / ".out.mrq" / "job"
    told = []
    elsewhere = owner.myself("one", None).dump().replace(os.uname().nodename.encode(), b"faraway")
    for data in (path.read_bytes(), elsewhere):
        path.write_bytes(data)
        for job in ("one", "two"):
            with pytest.raises(OutputError) as refused:
                claim.prepare(out, job, True, cluster=owner.Cluster("c2", lambda job: True))
            told.append(str(refused.value))
    assert all("An output that stays claimed" in text for text in told)
    monkeypatch.setattr(owner, "_SUCCESSORS_MAX", 0)
    with pytest.raises(OutputError, match="has been taken over 0 times") as refused:
        claim.prepare(out, "two", True)
    told.append(str(refused.value))
    assert not [text for text in told if "remove" in text or "delete" in text], told
