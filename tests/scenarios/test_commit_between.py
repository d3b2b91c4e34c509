"""What lies between two stages: kept by whoever comes, and removed once it was read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_commit_crashes import Crash, Crashing, stage

from mrq.commit import between, claim
from mrq.commit.staging import Staging
from mrq.core.splits import InputFile
from mrq.errors import CorruptFileError, OutputError

CONTENT = {f"part-{i:05d}.records": b"part %d" % i for i in range(3)}


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return claim.prepare(str(tmp_path / "out"), "job-1")


def kept(staging: Staging) -> dict[str, bytes]:
    folder = Path(staging.folder, "stages")
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def keep(staging: Staging, number: int, parts: object, **more: object) -> list[InputFile]:
    return between.keep(staging, number, parts, shown="stage 1", **more)  # type: ignore[arg-type]


def test_the_winners_parts_are_found_under_their_names_with_their_checksums(staging: Staging) -> None:
    parts = stage(staging, CONTENT)
    files = keep(staging, 1, parts)
    assert kept(staging) == {f"1/{name}": data for name, data in CONTENT.items()}
    assert [(f.path, f.size, f.crc32, f.splittable) for f in files] == [
        (f"stage 1/{part.final}", part.bytes, part.crc32, True) for part in parts
    ]
    assert [Path(f.open).read_bytes() for f in files] == list(CONTENT.values())


def test_stopped_before_any_call_and_begun_again_it_ends_the_same(tmp_path: Path) -> None:
    at, ended = 0, False
    while not ended:
        staging = claim.prepare(str(tmp_path / f"out{at}"), "job-1")
        Path(staging.folder, "stages/1").mkdir(parents=True)
        Path(staging.folder, "stages/1/part-00000.records").write_bytes(b"read by now")
        parts = stage(staging, CONTENT)
        try:
            keep(staging, 2, parts, fs=Crashing(at))
            ended = True
        except Crash:
            keep(staging, 2, parts)
        assert kept(staging) == {f"2/{name}": data for name, data in CONTENT.items()}
        at += 1
    assert at > 10


def test_only_what_runs_of_lower_numbers_wrote_is_removed(staging: Staging) -> None:
    """A leader that stood still comes late, with a stage that was left long ago."""
    first = stage(staging, CONTENT)
    keep(staging, 1, first)
    second = stage(staging, {"part-00000.records": b"2"}, loser=False)
    keep(staging, 2, second)
    assert list(kept(staging)) == ["2/part-00000.records"]
    with pytest.raises(CorruptFileError, match="is gone"):
        keep(staging, 1, first)
    assert kept(staging) == {"2/part-00000.records": b"2"}


@pytest.mark.parametrize("how", ["removed", "damaged", "cut"])
def test_a_part_that_is_lost_is_told_by_name(staging: Staging, how: str) -> None:
    parts = stage(staging, CONTENT)
    keep(staging, 1, parts)
    path = Path(staging.folder, "stages/1/part-00001.records")
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(b"pArt 1" if how == "damaged" else b"part")
    with pytest.raises(CorruptFileError, match=r"attempts/r-00001.1.1.t1/part-00001.records is gone"):
        keep(staging, 1, parts)


def test_a_folder_that_is_another_jobs_by_now_is_left_alone(staging: Staging) -> None:
    parts = stage(staging, CONTENT)
    claim.abandon(staging, keep=True)
    other = claim.prepare(staging.output_open, "job-2")
    with pytest.raises(OutputError, match="isn't job job-1's any more"):
        keep(staging, 1, parts)
    assert os.listdir(f"{other.folder}/attempts") == []
    assert not os.path.exists(f"{other.folder}/stages")
