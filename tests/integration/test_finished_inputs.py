"""A finished output as the next job's input: a damaged byte is found wherever it lies, before the commit."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_jobs import Count, CountOnly, First, Strict, Words
from cluster_rig import engine_of

import mrq
from mrq.errors import MrqError
from mrq.result import JobFailed

#: Of the output that is damaged.
FORMS = [
    ("text", None),
    ("text", "gz"),
    ("jsonl", None),
    ("jsonl", "bz2"),
    ("lines", "xz"),
    ("records", None),
    ("records", "zst"),
]


@pytest.fixture(scope="module", params=["embedded", "cluster"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Runs jobs with `run`."""
    folder = tmp_path_factory.mktemp("engine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRQ_TMP", str(folder))
        with engine_of(request.param, folder) as made:
            yield made


@pytest.fixture(scope="module")
def outputs(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good outputs, one a form; each has 2,000 records in 2 parts."""
    folder = tmp_path_factory.mktemp("outputs")
    dice = random.Random(1)
    words = [f"{dice.randrange(1 << 60):x}" for _ in range(2000)]
    (folder / "in.txt").write_text("\n".join(words))
    for form, compression in FORMS:
        out = folder / f"{form}-{compression}"
        engine.run(Words, [folder / "in.txt"], out, reducers=2, output_format=form, compression=compression)
    return folder


def reading(form: str) -> str:
    return "text" if form == "lines" else form


def flip(path: Path, at: int) -> None:
    """Change one bit, and let nothing else tell."""
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def places(path: Path) -> list[int]:
    """The first byte, the last, one within, and those beside a cut."""
    size = path.stat().st_size
    return [0, size // 2, size - 1, size // 3, size // 3 - 1]


@pytest.mark.parametrize(("form", "compression"), FORMS)
def test_good_ones_are_read(engine: Any, outputs: Path, tmp_path: Path, form: str, compression: str) -> None:
    out = outputs / f"{form}-{compression}"
    for job in (Count, CountOnly, First):
        ran = engine.run(job, [out], tmp_path / job.__name__, split_size=3000, input_format=reading(form))
        found = list(ran)
        if job is not First:
            assert sum(int(count) for _, count in found) == 2000
        assert ran.summary.maps >= 2


@pytest.mark.parametrize("job", [Count, CountOnly, First])
@pytest.mark.parametrize(("form", "compression"), FORMS)
def test_a_flipped_bit_is_found(
    engine: Any, outputs: Path, tmp_path: Path, form: str, compression: str, job: type[mrq.Job]
) -> None:
    good = outputs / f"{form}-{compression}"
    (part, *_) = sorted(good.glob("part-00001*"))
    ways = [[tmp_path / "in"], [f"{tmp_path}/in/part-*"], [tmp_path / "in" / part.name]]
    for turn, at in enumerate(places(part)):
        shutil.copytree(good, tmp_path / "in")
        flip(tmp_path / "in" / part.name, at)
        out = tmp_path / f"out-{turn}"
        with pytest.raises(MrqError) as found:
            engine.run(
                job, ways[turn % 3], out, split_size=part.stat().st_size // 3 + 1, input_format=reading(form)
            )
        assert part.name in str(found.value)
        if compression is None and form == "text":
            assert "its bytes aren't those that its job wrote" in str(found.value)
        assert not out.exists()
        shutil.rmtree(tmp_path / "in")


def test_a_result_as_input_is_checked(engine: Any, outputs: Path, tmp_path: Path) -> None:
    first = engine.run(Words, [outputs / "in.txt"], reducers=2)  # private: records
    assert sum(count for _, count in engine.run(Count, first)) == 2000
    flip(Path(first.parts[1]), os.path.getsize(first.parts[1]) // 2)
    with pytest.raises(MrqError, match="part-00001"):
        engine.run(Count, first)
    with pytest.raises(MrqError, match="part-00001"):
        list(first)
    os.truncate(first.parts[1], 100)
    with pytest.raises(MrqError, match=r"part-00001.* has 100 bytes"):
        engine.run(Count, first)


def test_a_record_that_is_bad_for_its_damage_fails_the_job_all_the_same(
    engine: Any, outputs: Path, tmp_path: Path
) -> None:
    shutil.copytree(outputs / "text-None", tmp_path / "in")
    part = tmp_path / "in/part-00000"
    flip(part, part.read_bytes().rindex(b"\t"))
    with pytest.raises(JobFailed, match=r"part-00000: its bytes aren't those"):
        engine.run(Strict, [tmp_path / "in"], tmp_path / "out", skip_bad_records=5, split_size=2000)
    assert not (tmp_path / "out").exists()


def test_an_error_over_damaged_bytes_says_so(engine: Any, outputs: Path, tmp_path: Path) -> None:
    shutil.copytree(outputs / "text-None", tmp_path / "in")
    part = tmp_path / "in/part-00000"
    with pytest.raises(JobFailed, match="ValueError") as found:
        engine.run(Strict, [outputs / "in.txt"], tmp_path / "out")
    assert "checksum" not in str(found.value)  # the error of the job is its own
    flip(part, part.read_bytes().rindex(b"\t"))
    with pytest.raises(JobFailed, match=r"ValueError.*part-00000: its bytes aren't those"):
        engine.run(Strict, [tmp_path / "in"], tmp_path / "out", split_size=2000)


def test_a_job_goes_on_once_its_input_is_mended(engine: Any, outputs: Path, tmp_path: Path) -> None:
    shutil.copytree(outputs / "text-None", tmp_path / "in")
    part = tmp_path / "in/part-00001"
    flip(part, 3)
    for job, out in ((Count, tmp_path / "out"), (CountOnly, tmp_path / "only")):
        with pytest.raises(JobFailed, match="part-00001") as found:
            engine.run(job, [tmp_path / "in"], out, split_size=2000)
        flip(part, 3)
        ran = engine.retry(found.value.job).result()
        assert sum(int(count) for _, count in ran) == 2000
        flip(part, 3)
