"""Each step of the commit, broken on purpose: the scenario that is there for it notices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrq.commit import claim, owner, publish
from mrq.commit.filesystem import FileSystem
from mrq.commit.publish import Decided
from mrq.commit.staging import Staging
from mrq.errors import MrqError
from tests.scenarios import test_commit_crashes as crashes
from tests.scenarios import test_commit_overwrite as overwriting
from tests.scenarios import test_commit_owners as owners
from tests.scenarios import test_commit_steps as steps

Patch = pytest.MonkeyPatch
Scenario = Callable[[Path], object]


def nothing(*args: Any, **kwargs: Any) -> None:
    return None


def replaced(module: Any, name: str, by: Any) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(module, name, by)


def links_over_a_manifest(fs: FileSystem, staging: Staging, data: bytes) -> bytes:
    fs.write(staging.manifest, data)
    return data


def swaps_once(fs: FileSystem, staging: Staging, decided: Decided) -> None:
    if fs.read(staging.success) != decided.data and not fs.exchange(staging.staged, staging.output_open):
        fs.rename(staging.staged, staging.output_open)


def moves_whatever_stands_there(fs: FileSystem, staging: Staging, decided: Decided) -> None:
    fs.rename(staging.output_open, staging.old)


def removes_the_owner_first(fs: FileSystem, folder: str) -> None:
    fs.remove_tree(f"{folder}/{owner.JOB_FILE}")
    fs.remove_tree(folder)


def succeeds_without_a_link(fs: FileSystem, folder: str, former: bytes, heir: owner.Owner) -> bool:
    fs.write(f"{folder}/{owner.JOB_FILE}", heir.dump())
    return True


def removes_all(fs: FileSystem, folder: str, kept: str) -> None:
    fs.remove_tree(folder)


def crash(overwrite: bool, swaps: bool = True) -> Scenario:
    return lambda path: crashes.test_a_crash_after_any_call_is_survived(path, overwrite, swaps)


def two(overwrite: bool, swaps: bool) -> Scenario:
    return lambda path: steps.test_two_masters_at_the_same_moment(path, overwrite, swaps)


MUTANTS: dict[str, tuple[Callable[[Patch], None], Scenario]] = {
    "checks nothing": (
        replaced(publish, "check", nothing),
        crashes.test_a_winner_that_is_gone_or_torn_fails_by_name,
    ),
    "decides once more": (
        replaced(publish, "_link_manifest", links_over_a_manifest),
        owners.test_no_hard_links_is_said,
    ),
    "takes any bytes for moved": (
        replaced(publish, "intact", lambda path, file: True),
        crashes.test_a_destination_with_other_bytes_is_not_taken_for_done,
    ),
    "sets no mark": (replaced(publish, "mark", nothing), crash(False)),
    "swaps once": (replaced(publish, "swap", swaps_once), two(True, True)),
    "moves a published output aside": (
        replaced(publish, "_move_aside", moves_whatever_stands_there),
        two(True, False),
    ),
    "replaces whatever stands there": (
        replaced(publish, "_may_displace", lambda *_: True),
        lambda path: crashes.test_an_output_that_appears_meanwhile_is_left_alone(path, True),
    ),
    "doesn't find it published": (replaced(publish, "published", nothing), crash(True)),
    "doesn't find itself overtaken": (replaced(publish, "_was_overtaken", nothing), two(False, True)),
    "removes what others put there": (
        replaced(publish, "remove_result", removes_all),
        lambda path: overwriting.test_a_file_that_comes_at_any_moment_is_kept(path, True),
    ),
    "removes the owner first": (replaced(owner, "remove", removes_the_owner_first), crash(False)),
    "has two successors": (
        replaced(owner, "succeed", succeeds_without_a_link),
        owners.test_a_claim_has_one_successor,
    ),
    "throws a dead job's commit away": (
        replaced(claim, "_finish_former", nothing),
        lambda path: crashes.test_another_job_completes_a_commit_that_was_decided(path, True),
    ),
}


@pytest.mark.parametrize("name", list(MUTANTS))
def test_a_broken_step_is_noticed(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    patched, scenario = MUTANTS[name]
    patched(monkeypatch)
    with pytest.raises((AssertionError, MrqError, OSError, pytest.fail.Exception)):
        scenario(tmp_path)
