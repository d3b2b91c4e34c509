"""`--overwrite` replaces what mrq wrote, and never takes anything else along."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mrq.commit import claim, publish
from mrq.commit.filesystem import FileSystem
from mrq.errors import OutputError
from tests.scenarios.test_commit_crashes import NEW, OLD, Crash, Crashing, manifest, run_whole, stage, tree

HADOOP = {"_SUCCESS": b"", "part-r-00000": b"a\t1\n"}


def fill(folder: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def everything(folder: Path) -> list[str]:
    """Every name below a folder, links not followed."""
    return sorted(
        os.path.relpath(os.path.join(base, name), folder)
        for base, folders, names in os.walk(folder)
        for name in folders + names
    )


def later_manifest(out: Path) -> None:
    """As a later version of mrq might write it."""
    mark = out / "_SUCCESS"
    mark.write_text(mark.read_text().replace('"mrq_manifest": 1', '"mrq_manifest": 2'))


def to_a_link(out: Path) -> None:
    (out.parent / "away").mkdir()
    (out / "_bad/m-00001.jsonl").rename(out.parent / "away" / "m-00001.jsonl")
    (out / "_bad").rmdir()
    (out / "_bad").symlink_to("../away")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda out: fill(out, {"a.txt": b"x"}), "a.txt"),
        (lambda out: fill(out, {".hidden": b"x"}), ".hidden"),
        (lambda out: fill(out, {"deep/down/a.txt": b"x"}), "deep/down/a.txt"),
        (lambda out: fill(out, {"_bad/mine.txt": b"x"}), "_bad/mine.txt"),
        (lambda out: (out / "empty").mkdir(), "empty/"),
        (lambda out: (out / "link").symlink_to("part-00000"), "link"),
        (lambda out: (out / "away").symlink_to(".."), "away"),
        (to_a_link, "_bad"),
        (lambda out: fill(out, {f"{i}.csv": b"x" for i in range(10)}), "0.csv, 1.csv, 2.csv and 7 more file"),
        (lambda out: (out / "part-00001").unlink() or fill(out, {"part-00001/a": b"x"}), "part-00001/a"),
        (lambda out: (out / "_SUCCESS").unlink(), "isn't a finished result of mrq .there is no _SUCCESS"),
        (lambda out: (out / "_SUCCESS").write_text(""), "its _SUCCESS isn't a manifest"),
        (lambda out: (out / "_SUCCESS").write_text('{"job": 1}'), "its _SUCCESS isn't a manifest"),
        (later_manifest, "its _SUCCESS isn't a manifest"),
    ],
)
def test_what_mrq_did_not_write_is_never_replaced(
    tmp_path: Path, change: Callable[[Path], object], named: str
) -> None:
    out = tmp_path / "out"
    run_whole(out, "old", OLD | {"_bad/m-00001.jsonl": b"{}\n"})
    change(out)
    before = everything(tmp_path)
    for take in (claim.check, claim.prepare):
        with pytest.raises(OutputError, match=named) as told:
            take(str(out), "new", True, shown="here/out")
        assert str(told.value).startswith("here/out ")
        with pytest.raises(OutputError, match=named):
            take(str(out), "new", False, shown="here/out")
        assert everything(tmp_path) == before


@pytest.mark.parametrize("link", [False, True], ids=["folder", "link"])
def test_another_systems_result_is_kept(tmp_path: Path, link: bool) -> None:
    out = fill(tmp_path / "hadoop", HADOOP)
    if link:
        out = tmp_path / "link"
        out.symlink_to("hadoop")
    with pytest.raises(OutputError, match="part-r-00000"):
        claim.prepare(str(out), "new", True)
    assert tree(tmp_path / "hadoop") == {"part-r-00000": b"a\t1\n"}


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda out: out.write_text("x"), "isn't a directory"),
        (lambda out: out.symlink_to("out"), "isn't a directory"),
        (lambda out: os.mkfifo(out), "isn't a directory"),
    ],
)
def test_what_is_no_folder_is_never_replaced(
    tmp_path: Path, make: Callable[[Path], object], named: str
) -> None:
    out = tmp_path / "out"
    make(out)
    with pytest.raises(OutputError, match=named):
        claim.prepare(str(out), "new", True)
    assert os.path.lexists(out)


def test_a_damaged_result_of_ours_can_be_replaced(tmp_path: Path) -> None:
    """A part that is gone or torn is no reason to keep it: nothing that is anybody else's would be lost."""
    out = tmp_path / "out"
    run_whole(out, "old", OLD)
    (out / "part-00000").unlink()
    (out / "part-00001").write_bytes(b"torn")
    run_whole(out, "new", NEW, overwrite=True)
    assert tree(out) == NEW


@pytest.mark.parametrize("swaps", [True, False], ids=["swap", "aside"])
def test_a_file_that_came_while_the_job_ran_stops_its_commit(tmp_path: Path, swaps: bool) -> None:
    out = tmp_path / "out"
    run_whole(out, "old", OLD)
    staging = claim.prepare(str(out), "new", True)
    files = stage(staging)
    (out / "notes.txt").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"notes\.txt beside .* output of job new is in .*/out$"):
        publish.commit(staging, manifest("new", files), fs=Crashing(1000, swaps))
    assert tree(out) == OLD | {"notes.txt": b"mine"}
    (out / "notes.txt").unlink()
    publish.commit(staging, manifest("new", files), fs=Crashing(1000, swaps))
    assert tree(out) == NEW
    assert os.listdir(tmp_path) == ["out"]


class Late(Crashing):
    """Somebody puts a file into the old output the moment before the nth change."""

    def __init__(self, at: int, swaps: bool, old: Path) -> None:
        super().__init__(1000, swaps)
        self.at = at
        self.old = old
        self.came = False

    def _step(self) -> None:
        super()._step()
        if 1000 - self.left == self.at:
            # Whoever is in the folder stays in it, wherever it is moved to.
            with suppress(FileNotFoundError):  # the old folder is gone: nothing can be put into it
                (self.old / "late.txt").write_bytes(b"mine")
                self.came = True


@pytest.mark.parametrize("swaps", [True, False], ids=["swap", "aside"])
def test_a_file_that_comes_at_any_moment_is_kept(tmp_path: Path, swaps: bool) -> None:
    """Into the old folder, by whoever has it open: before, while and after it is replaced."""
    kept = refused = 0
    for at in range(1, 60):
        base = tmp_path / str(at)
        out = base / "out"
        run_whole(out, "old", OLD)
        staging = claim.prepare(str(out), "new", True)
        plan = manifest("new", stage(staging))
        held = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
        fs = Late(at, swaps, Path(f"/proc/self/fd/{held}"))
        said = None
        try:
            publish.commit(staging, plan, fs=fs)
        except OutputError as exc:
            said = str(exc)
        os.close(held)
        if said is not None:
            assert "late.txt" in said
            assert tree(out) == OLD | {"late.txt": b"mine"}
            refused += 1
            continue
        assert tree(out) == NEW
        if fs.came:
            assert (base / "out.kept-new" / "late.txt").read_bytes() == b"mine"
            assert [str(base / "out.kept-new") in note for note in staging.notes] == [True]
            assert sorted(os.listdir(base)) == ["out", "out.kept-new"]
            kept += 1
    assert kept > 3
    assert refused > 5


@pytest.mark.parametrize("swaps", [True, False], ids=["swap", "aside"])
def test_what_came_late_survives_a_crash_too(tmp_path: Path, swaps: bool) -> None:
    """Crash after any call, with a file in the displaced folder; the successor keeps it."""
    found = 0
    for at in range(60):
        base = tmp_path / str(at)
        out = base / "out"
        run_whole(out, "old", OLD)
        staging = claim.prepare(str(out), "new", True)
        plan = manifest("new", stage(staging))
        held = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
        fs = Crashing(at, swaps)
        fs.watch = lambda held=held, out=out: _late(held, out)
        with suppress(Crash):
            publish.commit(staging, plan, fs=fs)
        os.close(held)
        publish.commit(staging, plan, fs=FileSystem())
        assert tree(out) == NEW
        if (base / "out.kept-new").exists():
            found += 1
            assert (base / "out.kept-new" / "late.txt").read_bytes() == b"mine"
    assert found > 5


def _late(held: int, out: Path) -> None:
    """Put a file into the old folder once it isn't OUT any more."""
    old = Path(f"/proc/self/fd/{held}")
    if not os.path.samefile(old, out) if out.exists() else True:
        with suppress(FileNotFoundError):  # gone by then
            (old / "late.txt").write_bytes(b"mine")


def test_a_free_name_is_found_for_what_is_kept(tmp_path: Path) -> None:
    from mrq.commit.earlier import remove_result

    (tmp_path / "kept").mkdir()
    folder = fill(tmp_path / "old", {"x": b"1"})
    assert remove_result(FileSystem(), str(folder), str(tmp_path / "kept")) == str(tmp_path / "kept-2")
    assert tree(tmp_path / "kept-2") == {"x": b"1"}


def test_nothing_outside_is_removed_through_a_link(tmp_path: Path) -> None:
    from mrq.commit.earlier import remove_result

    out = tmp_path / "out"
    run_whole(out, "old", NEW)
    to_a_link(out)
    remove_result(FileSystem(), str(out), str(tmp_path / "kept"))
    assert tree(tmp_path / "away") == {"m-00001.jsonl": b"{}\n"}
    assert (tmp_path / "kept" / "_bad").is_symlink()
