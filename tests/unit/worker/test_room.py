"""When a worker's disk is full, and when it isn't any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrq.worker import disk_use

GIB = 1 << 30


@pytest.mark.parametrize(
    ("used", "quota", "free", "was_full", "full"),
    [
        (0, 0, 100 * GIB, False, False),
        (69, 100, 100 * GIB, False, False),
        (70, 100, 100 * GIB, False, True),
        (69, 100, 100 * GIB, True, True),
        (64, 100, 100 * GIB, True, False),
        (70 * GIB, 0, 30 * GIB, False, True),  # without a quota the disk is it
        (70 * GIB, 0, 31 * GIB, False, False),
        (70 * GIB, 1000 * GIB, 30 * GIB, False, True),  # a quota that the disk hasn't got
        (0, 0, 10 << 20, False, True),  # others have filled the disk
    ],
)
def test_no_maps_are_taken_while_less_than_a_third_is_free(
    used: int, quota: int, free: int, was_full: bool, full: bool
) -> None:
    found = disk_use.judge(used, quota, free, was_full=was_full)
    assert found.full is full
    assert (found.note is not None) is full
    assert found.note is None or found.note.startswith("disk quota reached: ")
    assert found.note is None or f"until {found.needed:,} bytes more are free" in found.note


def test_what_is_said_to_be_needed_is_enough_and_not_more() -> None:
    full = disk_use.judge(70 * GIB, 100 * GIB, 900 * GIB, was_full=False)
    assert full.full
    assert full.needed == 5 * GIB + 1
    for freed, still in ((full.needed, False), (full.needed - 1, True)):
        assert disk_use.judge(70 * GIB - freed, 100 * GIB, 900 * GIB, was_full=True).full is still
    assert disk_use.judge(0, 0, 10 << 20, was_full=False).needed == (64 << 20) - (10 << 20)


def test_what_the_files_take_is_measured(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to("/")
    (tmp_path / "sparse").touch()
    assert 100_000 <= disk_use.used_bytes(str(tmp_path)) < 140_000
    found = disk_use.measure(str(tmp_path), 110_000)
    assert found.full
    assert "(--disk-quota)" in (found.note or "")
    (tmp_path / "a/b/file").unlink()
    assert not disk_use.measure(str(tmp_path), 110_000, found).full
