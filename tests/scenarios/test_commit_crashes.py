"""The commit, stopped after every single system call and begun again."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrq.commit import claim, owner, publish
from mrq.commit.filesystem import FileSystem
from mrq.commit.manifest import Manifest, read_manifest
from mrq.commit.staging import Staging
from mrq.core.model import StagedFile
from mrq.errors import CorruptFileError, DiskFullError, MrqError, OutputError

PARTS = 3
OLD = {"part-00000": b"old 0\n", "part-00001": b"old 1\n"}
NEW = {f"part-{i:05d}": f"new {i}\n".encode() for i in range(PARTS)} | {"_bad/m-00001.jsonl": b"{}\n"}


class Crash(BaseException):
    """The machine stops here."""


class Crashing(FileSystem):
    """Stops before its nth call that changes something; a write is torn in the middle."""

    def __init__(self, at: int, swaps: bool = True) -> None:
        self.left = at
        self.swaps = swaps
        self.watch: Callable[[], None] = lambda: None

    def _step(self) -> None:
        self.watch()
        if self.left == 0:
            raise Crash
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
        if os.path.lexists(path) and not os.path.isdir(path):
            self._step()
        super().unlink(path)

    def rmdir(self, path: str) -> None:
        self._step()
        super().rmdir(path)

    def write(self, path: str, data: bytes) -> None:
        self._step()
        if self.left == 0:
            Path(path).write_bytes(data[: len(data) // 2])
        self._step()
        super().write(path, data)

    def fsync_folder(self, path: str) -> None:
        self._step()
        super().fsync_folder(path)

    def exchange(self, one: str, other: str) -> bool:
        if not self.swaps:
            return False
        self._step()
        return super().exchange(one, other)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below, but the mark."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "_SUCCESS"
    }


def stage(staging: Staging, content: dict[str, bytes] = NEW, loser: bool = True) -> tuple[StagedFile, ...]:
    """What the winning attempts (and one that lost) wrote."""
    files = []
    for i, (final, data) in enumerate(content.items()):
        name = f"attempts/r-{i:05d}.1.1.t{i}/{os.path.basename(final)}"
        path = Path(staging.folder, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        files.append(StagedFile(name=name, final=final, records=1, bytes=len(data), crc32=zlib.crc32(data)))
    if loser:
        path = Path(staging.folder, "attempts/r-00000.1.2.lost/part-00000")
        path.parent.mkdir()
        path.write_bytes(b"a loser's\n")
    return tuple(files)


def manifest(job: str, files: tuple[StagedFile, ...], finished_at: float = 2.0, **more: Any) -> Manifest:
    return Manifest(
        job=job,
        name="Test",
        code="c0de",
        parameters={"n": 3},
        inputs=("in",),
        input_files=1,
        input_bytes=10,
        format="text",
        compression=None,
        reducers=PARTS,
        counters={"lines": 4},
        parts=tuple(f for f in files if not f.final.startswith("_")),
        bad=tuple(f for f in files if f.final.startswith("_")),
        started_at=1.0,
        finished_at=finished_at,
        **more,
    )


def run_whole(out: Path, job: str, content: dict[str, bytes], overwrite: bool = False) -> Manifest:
    staging = claim.prepare(str(out), job, overwrite)
    return publish.commit(staging, manifest(job, stage(staging, content)))


def calls_of_a_commit(out: Path, overwrite: bool, swaps: bool) -> int:
    """How many points there are at which a commit can stop."""
    if overwrite:
        run_whole(out, "old", OLD)
    staging = claim.prepare(str(out), "new", overwrite)
    fs = Crashing(1000, swaps)
    publish.commit(staging, manifest("new", stage(staging)), fs=fs)
    return 1000 - fs.left


@pytest.mark.parametrize("swaps", [True, False], ids=["swap", "aside"])
@pytest.mark.parametrize("overwrite", [False, True], ids=["fresh", "overwrite"])
def test_a_crash_after_any_call_is_survived(tmp_path: Path, overwrite: bool, swaps: bool) -> None:
    count = calls_of_a_commit(tmp_path / "count", overwrite, swaps)
    assert count > 20
    for at in range(count + 1):
        base = tmp_path / str(at)
        base.mkdir()
        out = base / "out"
        if overwrite:
            run_whole(out, "old", OLD)
        staging = claim.prepare(str(out), "new", overwrite)
        plan = manifest("new", stage(staging))
        fs = Crashing(at, swaps)
        fs.watch = lambda out=out: complete_or_nothing(out, overwrite, swaps)
        if at < count:
            with pytest.raises(Crash):
                publish.commit(staging, plan, fs=fs)
        else:
            publish.commit(staging, plan, fs=fs)
        complete_or_nothing(out, overwrite, swaps)
        # The successor has another clock; what was linked before the crash counts.
        done = publish.commit(
            staging, manifest("new", plan.files, finished_at=99.0), fs=Crashing(1000, swaps)
        )
        assert tree(out) == NEW
        assert read_manifest(str(out)) == done
        assert done.finished_at in (2.0, 99.0)
        assert os.listdir(base) == ["out"], f"left behind after a crash at {at}"
        assert publish.commit(staging, plan) == done, "once more changes nothing"


def complete_or_nothing(out: Path, overwrite: bool, swaps: bool) -> None:
    """What a reader sees: the old or the new output, whole. Nothing is seen only where there was nothing,
    or for a moment where the file system can't swap folders."""
    if not out.exists():
        assert not overwrite or not swaps
        return
    found = tree(out)
    assert found == NEW or (overwrite and found == OLD)
    assert read_manifest(str(out)).job == ("new" if found == NEW else "old")


@pytest.mark.parametrize("overwrite", [False, True], ids=["fresh", "overwrite"])
def test_two_crashes_in_a_row_are_survived(tmp_path: Path, overwrite: bool) -> None:
    for first in range(0, 40, 3):
        for second in range(0, 40, 7):
            out = tmp_path / f"{first}-{second}" / "out"
            if overwrite:
                run_whole(out, "old", OLD)
            staging = claim.prepare(str(out), "new", overwrite)
            plan = manifest("new", stage(staging))
            for at in (first, second):
                try:
                    publish.commit(staging, plan, fs=Crashing(at))
                except Crash:
                    complete_or_nothing(out, overwrite, True)
            publish.commit(staging, plan)
            assert tree(out) == NEW
            assert os.listdir(out.parent) == ["out"]


def dead(staging: Staging, job: str) -> None:
    """Make the owner a process that isn't there any more."""
    path = Path(staging.folder, "job")
    path.write_bytes(path.read_bytes().replace(f'"pid": {os.getpid()}'.encode(), b'"pid": 4194303'))


@pytest.mark.parametrize("overwrite", [False, True], ids=["fresh", "overwrite"])
def test_another_job_completes_a_commit_that_was_decided(tmp_path: Path, overwrite: bool) -> None:
    for at in range(60):
        out = tmp_path / str(at) / "out"
        if overwrite:
            run_whole(out, "old", OLD)
        staging = claim.prepare(str(out), "new", overwrite)
        plan = manifest("new", stage(staging))
        try:
            publish.commit(staging, plan, fs=Crashing(at))
            return
        except Crash:
            pass
        decided = Path(staging.folder, "manifest").exists()
        if not Path(staging.folder, "job").exists():
            continue
        dead(staging, "new")
        later = claim.prepare(str(out), "later", True)
        if decided:
            assert tree(out) == NEW
            assert read_manifest(str(out)).job == "new"
        assert (later.displaces is not None) == (decided or overwrite or out.exists())
        publish.commit(later, manifest("later", stage(later, {"part-00000": b"later\n"}, loser=False)))
        assert tree(out) == {"part-00000": b"later\n"}
        assert os.listdir(out.parent) == ["out"]
    pytest.fail("the commit never got through")


def test_prepare_survives_a_crash_at_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in range(40):
        out = tmp_path / str(at) / "deep" / "out"
        try:
            claim.prepare(str(out), "first", fs=Crashing(at))
            through = True
        except Crash:
            through = False
        with monkeypatch.context() as patch:
            patch.setattr(owner, "process_start", lambda pid: "another process by now")
            staging = claim.prepare(str(out), "second")
        assert staging.job == "second"
        publish.commit(staging, manifest("second", stage(staging)))
        assert tree(out) == NEW
        assert os.listdir(out.parent) == ["out"]
        if through:
            return
    pytest.fail("prepare never got through")


def test_every_error_surfaces_and_changes_nothing_visible(tmp_path: Path) -> None:
    count = calls_of_a_commit(tmp_path / "count", True, True)

    class Failing(Crashing):
        def _step(self) -> None:
            try:
                super()._step()
            except Crash:
                self.left = 10_000
                raise OSError(28, "No space left on device", "/somewhere") from None

    failures = 0
    for at in range(count):
        out = tmp_path / str(at) / "out"
        run_whole(out, "old", OLD)
        staging = claim.prepare(str(out), "new", True)
        plan = manifest("new", stage(staging))
        message = None
        try:
            publish.commit(staging, plan, fs=Failing(at))
        except DiskFullError as exc:
            message = str(exc)
        if message is None:
            assert staging.notes, "published: what couldn't be removed is told"
        else:
            failures += 1
            assert "were free" in message
            complete_or_nothing(out, True, True)
            publish.commit(staging, plan)
            assert os.listdir(out.parent) == ["out"]
        assert tree(out) == NEW
    assert failures > 15


def test_a_winner_that_is_gone_or_torn_fails_by_name(tmp_path: Path) -> None:
    staging = claim.prepare(str(tmp_path / "out"), "new")
    files = stage(staging)
    victim = Path(staging.folder, files[1].name)
    victim.write_bytes(b"torn")
    with pytest.raises(CorruptFileError, match="should have 6 bytes and has 4"):
        publish.commit(staging, manifest("new", files))
    victim.unlink()
    with pytest.raises(CorruptFileError, match="is gone"):
        publish.commit(staging, manifest("new", files))
    assert not (tmp_path / "out").exists()
    assert not Path(staging.folder, "manifest").exists()


def test_a_destination_with_other_bytes_is_not_taken_for_done(tmp_path: Path) -> None:
    staging = claim.prepare(str(tmp_path / "out"), "new")
    files = stage(staging)
    with pytest.raises(Crash):
        publish.commit(staging, manifest("new", files), fs=Crashing(12))
    moved = Path(staging.folder, "out", files[0].final)
    assert moved.exists()
    moved.write_bytes(b"wrong\n")
    with pytest.raises(CorruptFileError, match="isn't what its attempt wrote"):
        publish.commit(staging, manifest("new", files))
    assert not (tmp_path / "out").exists()


def test_the_first_manifest_wins(tmp_path: Path) -> None:
    """A master that came back too late finds its successor's manifest and follows it."""
    staging = claim.prepare(str(tmp_path / "out"), "new")
    files = stage(staging)
    with pytest.raises(Crash):
        publish.commit(staging, manifest("new", files), fs=Crashing(6))
    assert Path(staging.folder, "manifest").exists()
    other = (files[1], *files[1:])
    done = publish.commit(staging, manifest("new", other))
    assert done.files == files
    assert tree(tmp_path / "out") == NEW


@pytest.mark.parametrize("existing", [False, True])
def test_an_output_that_appears_meanwhile_is_left_alone(tmp_path: Path, existing: bool) -> None:
    out = tmp_path / "out"
    if existing:
        run_whole(out, "old", OLD)
    staging = claim.prepare(str(out), "new", existing)
    files = stage(staging)
    if existing:
        os.rename(out, tmp_path / "away")
    out.mkdir()
    (out / "precious").write_text("x")
    with pytest.raises(OutputError, match="written by someone else while job new ran"):
        publish.commit(staging, manifest("new", files))
    assert tree(out) == {"precious": b"x"}
    # Once it is out of the way, the same commit goes through.
    (out / "precious").unlink()
    out.rmdir()
    publish.commit(staging, manifest("new", files))
    assert tree(out) == NEW


def test_errors_are_of_our_tree(tmp_path: Path) -> None:
    staging = claim.prepare(str(tmp_path / "out"), "new")
    with pytest.raises(MrqError):
        publish.commit(
            staging, manifest("new", (StagedFile(name="x", final="y", records=0, bytes=1, crc32=0),))
        )
