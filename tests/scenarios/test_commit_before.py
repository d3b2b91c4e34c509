"""Staging folders that the version before left in the middle of a commit: today's code goes on with each."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Final

import pytest

from mrq.commit import claim, owner, publish
from mrq.commit.manifest import Manifest, read_manifest
from mrq.errors import OutputError
from tests.scenarios.test_commit_crashes import NEW, OLD, manifest, stage, tree
from tests.scenarios.test_commit_owners import spec

FOLDERS: Final = Path(__file__).resolve().parents[1] / "fixtures/before/staging-folders.tar.gz"
#: Where each stopped, and what a reader saw of OUT.
STAGES: Final = {
    "claimed": OLD,
    "linked": OLD,
    "half-moved": OLD,
    "marked": OLD,
    "swapped": NEW,
    "aside": None,
    "published-aside": NEW,
    "half-cleaned": NEW,
}
every_stage = pytest.mark.parametrize("name", list(STAGES))


@pytest.fixture
def out(name: str, tmp_path: Path) -> Path:
    """OUT, beside the folder of job new, whose process died with an earlier boot of this machine."""
    with tarfile.open(FOLDERS) as archive:
        archive.extractall(tmp_path, filter="data")
    path = tmp_path / name / ".out.mrq" / "job"
    path.write_text(path.read_text().replace('"host": "vm"', f'"host": "{os.uname().nodename}"'))
    found = tmp_path / name / "out"
    assert (tree(found) if found.exists() else None) == STAGES[name]
    return found


def plan(out: Path) -> Manifest:
    """What the job that goes on knows of its winners; their files are where they are."""
    elsewhere = claim.prepare(str(out.parent / "elsewhere/out"), "new")
    made = manifest("new", stage(elsewhere), finished_at=99.0)
    claim.abandon(elsewhere)
    return made


@every_stage
def test_the_job_goes_on(name: str, out: Path) -> None:
    staging = claim.reopen(spec(out, "new", overwrite=True))
    done = publish.commit(staging, plan(out))
    assert tree(out) == NEW
    assert read_manifest(str(out)) == done
    assert done.finished_at == (99.0 if name == "claimed" else 2.0), "what was linked counts"
    assert (os.listdir(out.parent), staging.notes) == (["out"], [])


@every_stage
def test_another_job_takes_the_output(name: str, out: Path) -> None:
    staging = claim.prepare(str(out), "later", True)
    folder = f"{out.parent}/.out.mrq"
    if name == "claimed":
        (note,) = staging.notes
        assert note.startswith(f"took over {folder} from job new, which is dead (process ")
        assert tree(out) == OLD
    else:
        assert staging.notes == ["completed the commit of job new, which died while committing"]
        assert tree(out) == NEW
    publish.commit(staging, manifest("later", stage(staging, {"part-00000": b"later\n"})))
    assert tree(out) == {"part-00000": b"later\n"}
    assert os.listdir(out.parent) == ["out"]


@every_stage
def test_a_job_that_may_not_replace_it_is_refused_once_it_is_whole(name: str, out: Path) -> None:
    with pytest.raises(OutputError, match="exists; choose another output"):
        claim.prepare(str(out), "later")
    if name == "aside":
        assert tree(out) == NEW, "nothing stood at OUT: the commit was completed first"
    else:
        assert tree(out) == STAGES[name]


@every_stage
def test_its_owner_is_read(name: str, out: Path) -> None:
    held = owner.holder(claim.LOCAL, f"{out.parent}/.out.mrq")
    assert held is not None
    assert (held[1].job, held[1].alive()) == ("new", False)
    assert (held[1].displaces or "").startswith("manifest:")
