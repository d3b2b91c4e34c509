"""The commit's steps: what each changes, what it finds done, and two masters at them at the same moment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mrq.commit import claim, publish
from mrq.commit.manifest import Manifest, dump_manifest, read_manifest
from mrq.commit.staging import Staging
from mrq.errors import CorruptFileError, OutputError
from tests.scenarios.test_commit_crashes import (
    NEW,
    OLD,
    Crash,
    Crashing,
    manifest,
    run_whole,
    stage,
    tree,
)


class Recording(Crashing):
    """Notes every change, with the staging folder as S."""

    def __init__(self, swaps: bool, base: Path) -> None:
        super().__init__(1000, swaps)
        self.base = str(base)
        self.calls: list[str] = []

    def _note(self, call: str, *paths: str) -> None:
        shown = [os.path.relpath(path, self.base).replace(".out.mrq", "S") for path in paths]
        self.calls.append(re.sub(r"manifest\.new\.[0-9a-f]{8}", "fresh", " ".join([call, *shown])))

    def mkdir(self, path: str) -> None:
        self._note("mkdir", path)
        super().mkdir(path)

    def rename(self, source: str, target: str) -> None:
        self._note("rename", source, target)
        super().rename(source, target)

    def link(self, source: str, target: str) -> None:
        self._note("link", source, target)
        super().link(source, target)

    def write(self, path: str, data: bytes) -> None:
        self._note("write", path)
        super().write(path, data)

    def fsync_folder(self, path: str) -> None:
        self._note("fsync", path)
        super().fsync_folder(path)

    def exchange(self, one: str, other: str) -> bool:
        self._note("exchange", one, other)
        return super().exchange(one, other)

    def unlink(self, path: str) -> None:
        self._note("unlink", path)
        super().unlink(path)

    def rmdir(self, path: str) -> None:
        self._note("rmdir", path)
        super().rmdir(path)


#: The steps before the swap, of two parts.
STEPS = [
    "write S/fresh", "link S/fresh S/manifest", "fsync S", "unlink S/fresh",
    "mkdir S/out", "rename S/attempts/r-00000.1.1.t0/part-00000 S/out/part-00000",
    "rename S/attempts/r-00001.1.1.t1/part-00001 S/out/part-00001", "fsync S/out",
    "link S/manifest S/out/_SUCCESS", "fsync S/out", "fsync S",
]  # fmt: skip
SWAPS = {
    "fresh": ["rename S/out out"],
    "swap": ["exchange S/out out"],
    "aside": ["exchange S/out out", "rename out S/old", "fsync S", "rename S/out out"],
}


@pytest.mark.parametrize("way", list(SWAPS))
def test_the_clear_way(tmp_path: Path, way: str) -> None:
    out = tmp_path / "out"
    if way != "fresh":
        run_whole(out, "old", OLD)
    staging = claim.prepare(str(out), "new", way != "fresh")
    fs = Recording(way != "aside", tmp_path)
    publish.commit(staging, manifest("new", stage(staging, OLD)), fs=fs)
    expected = [*STEPS, *SWAPS[way], "fsync .", "fsync S"]
    assert fs.calls[: len(expected)] == expected
    assert {call.split()[0] for call in fs.calls[len(expected) :]} == {"unlink", "rmdir"}, "cleaning up"


def staged(tmp_path: Path) -> tuple[Staging, Manifest]:
    staging = claim.prepare(str(tmp_path / "out"), "new")
    return staging, manifest("new", stage(staging))


def test_a_published_output_only_needs_cleaning(tmp_path: Path) -> None:
    staging, plan = staged(tmp_path)
    fs = Crashing(19)
    with pytest.raises(Crash):
        publish.commit(staging, plan, fs=fs)
    assert tree(tmp_path / "out") == NEW
    assert os.path.isdir(staging.folder)
    again = Recording(True, tmp_path)
    done = publish.commit(staging, manifest("new", (), finished_at=99.0), fs=again)
    assert (done.files, done.finished_at) == (plan.files, 2.0), "what was linked counts"
    assert {call.split()[0] for call in again.calls} == {"unlink", "rmdir"}
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (dump_manifest(manifest("other", ())), "out: job other committed to this output first"),
        (b"{", "out: the manifest in the staging folder is damaged: not a manifest of mrq"),
    ],
)
def test_a_manifest_that_is_not_this_jobs_ends_it(tmp_path: Path, data: bytes, told: str) -> None:
    """FAILED is left by beginning again."""
    staging, plan = staged(tmp_path)
    path = Path(staging.manifest)
    path.write_bytes(data)
    with pytest.raises(OutputError, match=told):
        publish.commit(staging, plan)
    assert not os.path.lexists(staging.output_open)
    path.unlink()
    publish.commit(staging, plan)
    assert tree(tmp_path / "out") == NEW


def test_another_jobs_output_is_not_taken_for_ours(tmp_path: Path) -> None:
    staging, plan = staged(tmp_path)
    other = dump_manifest(manifest("other", ()))
    Path(staging.output_open).mkdir()
    Path(staging.success).write_bytes(other)
    with pytest.raises(OutputError, match="written by someone else while job new ran"):
        publish.commit(staging, plan)
    assert Path(staging.success).read_bytes() == other


def test_a_mark_that_says_something_else_is_not_taken_for_done(tmp_path: Path) -> None:
    staging, plan = staged(tmp_path)
    with pytest.raises(Crash):
        publish.commit(staging, plan, fs=Crashing(14))
    mark = Path(staging.staged, "_SUCCESS")
    assert mark.exists()
    mark.unlink()
    mark.write_bytes(dump_manifest(manifest("other", ())))
    with pytest.raises(CorruptFileError, match="isn't this job's manifest"):
        publish.commit(staging, plan)
    assert not os.path.lexists(staging.output_open)


def test_a_folder_that_is_another_jobs_by_now_is_left_alone(tmp_path: Path) -> None:
    """A master that comes back when all is over, and the next job of that OUT runs."""
    staging, plan = staged(tmp_path)
    done = publish.commit(staging, plan)
    later = claim.prepare(staging.output, "later", True)
    stage(later)
    before = tree(Path(later.folder))
    assert publish.commit(staging, plan) == done
    assert tree(Path(later.folder)) == before


def test_a_decided_commit_is_not_thrown_away_when_its_job_is_given_up(tmp_path: Path) -> None:
    staging, plan = staged(tmp_path)
    with pytest.raises(Crash):
        publish.commit(staging, plan, fs=Crashing(9))
    claim.abandon(staging)
    later = claim.prepare(staging.output, "later", True)
    assert later.notes == ["completed the commit of job new, which died while committing"]
    assert tree(tmp_path / "out") == NEW


class Quick(Crashing):
    """As a file system whose disk is never waited for."""

    def write(self, path: str, data: bytes) -> None:
        self._step()
        Path(path).write_bytes(data)

    def fsync_folder(self, path: str) -> None:
        self._step()
        os.stat(path)


class Meanwhile(Quick):
    """Does something the moment before its nth call, be that a change or a look."""

    def __init__(self, at: int, swaps: bool, then: Callable[[], object]) -> None:
        super().__init__(1000, swaps)
        self.at = at
        self.then = then

    def _step(self) -> None:
        super()._step()
        if 1000 - self.left == self.at:
            self.then()

    def read(self, path: str) -> bytes | None:
        self._step()
        return super().read(path)

    def size(self, path: str) -> int | None:
        self._step()
        return super().size(path)

    def names(self, path: str) -> list[str] | None:
        self._step()
        return super().names(path)


def prepared(out: Path, overwrite: bool) -> tuple[Staging, Manifest]:
    fs = Quick(10_000)
    if overwrite:
        old = claim.prepare(str(out), "old", fs=fs)
        publish.commit(old, manifest("old", stage(old, OLD)), fs=fs)
    staging = claim.prepare(str(out), "new", overwrite, fs=fs)
    return staging, manifest("new", stage(staging))


@pytest.mark.parametrize(
    ("overwrite", "swaps"), [(False, True), (True, True), (True, False)], ids=["fresh", "swap", "aside"]
)
def test_two_masters_at_the_same_moment(tmp_path: Path, overwrite: bool, swaps: bool) -> None:
    """One stands still before any of its calls, and there the other commits, wholly or up to a crash before
    any of its own changes. Then the first goes on, and finds its way: the output is there, and nothing beside
    it."""
    for first in range(1, 81):
        for second in (*range(first % 6, 36, 6), 1000):
            base = tmp_path / f"{first}-{second}"
            staging, plan = prepared(base / "out", overwrite)

            def other(staging: Staging = staging, plan: Manifest = plan, second: int = second) -> None:
                with suppress(Crash):
                    publish.commit(staging, plan, fs=Quick(second, swaps))

            publish.commit(staging, plan, fs=Meanwhile(first, swaps, other))
            assert tree(base / "out") == NEW, (first, second)
            assert read_manifest(str(base / "out")).job == "new"
            assert (os.listdir(base), staging.notes) == (["out"], []), (first, second)
