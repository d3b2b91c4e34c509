"""Jobs of several stages on an engine of this process: bad records of all stages, and parts that are lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mrq
from mrq.commit import between
from mrq.commit.manifest import read_manifest
from mrq.engine.engine import Engine
from mrq.io.output import output_format

WORDS = "a b c d\nb d\nd bad\nworse\n"


class Chain(mrq.Job):
    """Counts words, of which `bad` can't be counted by the first stage, and `worse` by the second."""

    def stages(self) -> list[mrq.Stage]:
        return [
            mrq.Stage(map=self.words, reduce=mrq.sum, reducers=2),
            mrq.Stage(map=self.again, reduce=mrq.sum, reducers=2),
            mrq.Stage(map=self.again, reduce=mrq.sum, reducers=1),
        ]

    def words(self, key: int, line: str) -> Iterator[tuple[str, int]]:
        self.counters["lines"] += 1
        if "bad" in line:
            raise ValueError(line)
        for word in line.split():
            yield word, 1

    def again(self, word: str, count: int) -> Iterator[tuple[str, int]]:
        self.counters["words"] += 1
        if word == "worse":
            raise ValueError(word)
        yield word, count


EXPECTED = {"a": "1", "b": "2", "c": "1", "d": "2"}


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path / "tmp"))
    (tmp_path / "in.txt").write_text(WORDS)
    with mrq.local(executors=2) as made:
        yield made


def run(engine: Engine, folder: Path, **more: Any) -> mrq.Result:
    settings = {"skip_bad_records": 2, **more}
    return engine.run(Chain(), [str(folder / "in.txt")], str(folder / "out"), **settings)


def losing(
    monkeypatch: pytest.MonkeyPatch, number: int, lose: Callable[[str], None], times: int = 1
) -> list[int]:
    """Have a part of the stage of that number lost as soon as it is kept; the numbers of all runs."""
    kept, real = [], between.keep

    def keep(staging: Any, run: int, parts: Any, **more: Any) -> Any:
        files = real(staging, run, parts, **more)
        kept.append(run)
        if (run - 1) % 3 + 1 == number and kept.count(run) == 1 and (run - 1) // 3 < times:
            lose(files[0].open)
        return files

    monkeypatch.setattr(between, "keep", keep)
    return kept


def damage(path: str) -> None:
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    Path(path).write_bytes(data)


def cut(path: str) -> None:
    os.truncate(path, os.path.getsize(path) - 1)


def change(path: str) -> None:
    """To a part as sound as it was, of the same length."""
    size, form = os.path.getsize(path), output_format("records")
    keys, values = zip(*form.read(path), strict=True)
    os.unlink(path)
    writer = form.open(path)
    writer.write(list(keys), [value + 1 for value in values])
    assert writer.close().bytes == size


def test_bad_records_of_all_stages_lie_beside_the_output(engine: Engine, tmp_path: Path) -> None:
    result = run(engine, tmp_path)
    assert dict(result) == EXPECTED
    bad = sorted(os.listdir(tmp_path / "out/_bad"))
    assert [name.split("-")[0] for name in bad] == ["m1", "m1", "m2", "m2"]
    made = read_manifest(str(tmp_path / "out"))
    assert [each["bad_records"] for each in made.stages if each["name"] == "map"] == [1, 1, 0]
    assert made.reducers == 1
    assert result.counters == {"lines": 3, "words": 8}
    assert not (tmp_path / ".out.mrq").exists()


def test_one_bad_record_more_than_all_stages_together_may_have(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(mrq.JobFailed, match="2 records are bad, more than the 1"):
        run(engine, tmp_path, skip_bad_records=1)


@pytest.mark.parametrize("lose", [os.unlink, damage, cut, change])
@pytest.mark.parametrize("number", [1, 2])
def test_a_part_that_is_lost_has_the_job_begin_again(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lose: Any, number: int
) -> None:
    kept = losing(monkeypatch, number, lose)
    result = run(engine, tmp_path)
    assert dict(result) == EXPECTED
    assert kept == [*range(1, number + 1), 4, 5]
    assert result.counters == {"lines": 3, "words": 8}, "nothing counts of what was given up"
    bad = sorted(os.listdir(tmp_path / "out/_bad"))
    assert [name.split("-")[0] for name in bad] == ["m1", "m1", "m2", "m2"], "named as in any run"


def test_parts_that_are_lost_again_and_again_fail_the_job_by_name_and_a_retry_goes_on(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = losing(monkeypatch, 1, os.unlink, times=5)
    with pytest.raises(mrq.JobFailed, match="began again at its first stage 4 times") as failed:
        run(engine, tmp_path)
    assert "stage 1/part-00000.records" in str(failed.value)
    assert kept == [1, 4, 7, 10, 13]
    assert dict(engine.retry(failed.value.job).result(60)) == EXPECTED
    assert kept[-2:] == [16, 17]


def test_a_part_that_is_gone_before_it_is_kept_has_the_job_begin_again(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, real = [], between.keep

    def keep(staging: Any, run: int, parts: Any, **more: Any) -> Any:
        runs.append(run)
        if run == 1:
            os.unlink(f"{staging.folder}/{parts[1].name}")
        return real(staging, run, parts, **more)

    monkeypatch.setattr(between, "keep", keep)
    source, out = str(tmp_path / "in.txt"), str(tmp_path / "out")
    handle = engine.start(Chain(), [source], out, skip_bad_records=2)
    assert dict(handle.result(60)) == EXPECTED
    assert runs == [1, 4, 5]
    assert any("the job begins again at its first stage" in note for note in handle.notes)
