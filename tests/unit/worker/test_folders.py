"""A worker's own folders: told apart from what a job does, and made again whatever stands in their place."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mrq.core.model import JobSpec, StageSpec
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.worker import folders
from mrq.worker.attempt_order import AttemptOrder, MapSource


@pytest.fixture
def order(tmp_path: Path) -> AttemptOrder:
    for name in ("maps", "logs", "scratch/t"):
        (tmp_path / name).mkdir(parents=True)
    spec = JobSpec(
        job="j", name="J", code="c", entry="m:J", parameters={}, inputs=(),
        stages=(StageSpec(splits=(), reducers=1),),
    )  # fmt: skip
    return AttemptOrder(
        attempt=AttemptRef(TaskRef(spec.job, 0, Kind.MAP, 0), 1, 1, "t"),
        spec=spec,
        maps=1,
        split=None,
        sources=(),
        output_path=str(tmp_path / "maps/m"),
        staging="",
        scratch=str(tmp_path / "scratch/t"),
        log_path=str(tmp_path / "logs/t.log"),
        page_path=str(tmp_path / "scratch/t/page"),
        careful=False,
    )


def error(code: int, path: str | None = None) -> OSError:
    return OSError(code, os.strerror(code), path) if path is not None else OSError(code, os.strerror(code))


def test_what_a_job_raises_is_the_jobs(order: AttemptOrder, tmp_path: Path) -> None:
    assert folders.lost(order, ValueError("no")) is None
    assert folders.lost(order, error(errno.ENOENT, str(tmp_path / "input.txt"))) is None
    assert folders.lost(order, error(errno.ENOENT, f"{tmp_path}/mapsies/x")) is None
    assert folders.lost(order, error(errno.EIO)) is None  # raised by nobody of ours
    for what_a_process_has_too_much_of in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        assert folders.lost(order, error(what_a_process_has_too_much_of, order.log_path)) is None
    assert folders.lost(order, error(errno.ENOSPC, order.output_path)) is None  # has a name of its own


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EROFS, errno.EIO])
def test_what_a_folder_of_ours_raises_is_ours(order: AttemptOrder, code: int) -> None:
    for path in (order.output_path, f"{order.scratch}/run-1", order.log_path):
        found = folders.lost(order, error(code, path))
        assert found is not None
        assert path in found
    behind = RuntimeError("the writer failed")
    behind.__cause__ = error(code, order.output_path)
    assert folders.lost(order, behind) is not None


@pytest.mark.parametrize("name", ["maps", "logs", "scratch/t"])
def test_a_folder_that_is_gone_is_named_whatever_was_raised(
    order: AttemptOrder, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).rmdir()
    found = folders.lost(order, KeyError("x"))
    assert found is not None
    assert f"{tmp_path}/{name}" in found
    assert "is gone" in found


def test_what_was_gathered_and_the_code_are_ours_too(order: AttemptOrder, tmp_path: Path) -> None:
    (tmp_path / "fetched").mkdir()
    path = tmp_path / "fetched/t"
    source = MapSource(map_index=0, digest=1, path=str(path), partition=0, ticket=1)
    with_sources = replace(order, sources=(source,))
    assert str(path) in str(folders.lost(with_sources, None))
    path.touch()
    assert folders.lost(with_sources, None) is None
    assert str(tmp_path / "code") in str(folders.lost(order, None, str(tmp_path / "code")))
    # A map's own output is for whoever reads it to report, as a failed fetch.
    where_it_lies = MapSource(map_index=0, digest=1, path=str(tmp_path / "maps/none"))
    assert folders.lost(replace(order, sources=(where_it_lies,)), None) is None


@pytest.mark.parametrize("way", ["nothing", "file", "file above", "dangling link", "link", "link above"])
def test_a_folder_is_made_whatever_stands_in_its_place(tmp_path: Path, way: str) -> None:
    folder, elsewhere = tmp_path / "jobs/j/maps", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "theirs").touch()
    match way:
        case "file":
            folder.parent.mkdir(parents=True)
            folder.write_text("kept aside")
        case "file above":
            (tmp_path / "jobs").write_text("kept aside")
        case "dangling link":
            folder.parent.mkdir(parents=True)
            folder.symlink_to(tmp_path / "nowhere")
        case "link":
            folder.parent.mkdir(parents=True)
            folder.symlink_to(elsewhere)
        case "link above":
            (tmp_path / "jobs").symlink_to(elsewhere)
    folders.mend(str(folder), str(tmp_path))
    assert list(folder.iterdir()) == []
    if way.startswith("file"):
        (aside,) = tmp_path.rglob("*.aside")
        assert aside.read_text() == "kept aside"
    assert [path.name for path in elsewhere.iterdir()] == ["theirs"]


def test_a_folder_that_nobody_may_write_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user sees it who may not do everything, as root may."""
    folder = tmp_path / "maps"
    folder.mkdir(mode=0o500)
    monkeypatch.setattr(os, "access", lambda path, mode: bool(os.stat(path).st_mode & 0o200))
    folders.mend(str(folder), str(tmp_path))
    assert folder.stat().st_mode & 0o777 == 0o700


def test_what_cant_be_written_is_said() -> None:
    with pytest.raises(OSError, match="/proc"):
        folders.mend("/proc/maps", "/proc")
