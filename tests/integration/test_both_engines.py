"""What a submit is refused for, or told, is the same on this machine and on a cluster."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_jobs import Exits, Gated, Slow, Sorted, Upper, Words
from cluster_rig import Cluster, until

import mrq
from mrq.errors import NoInputFiles, OutputError, UsageError
from mrq.result import JobFailed


@pytest.fixture(params=["embedded", "cluster"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs jobs with `run` and `start`."""
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))
    if request.param == "embedded":
        with mrq.local(executors=2) as made:
            yield made
    else:
        with Cluster(tmp_path) as rig:
            rig.master()
            rig.worker("w0", slots=2)
            yield rig.client()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in.txt").write_text("a b\nb\n")
    return tmp_path / "in.txt"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_what_mrq_wrote_is_replaced(engine: Any, tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"isn't a finished result of mrq .* holds thesis\.txt"):
        engine.run(Words, [source], out, overwrite=True)
    assert names(out) == ["thesis.txt"]
    (out / "thesis.txt").unlink()
    for _ in range(2):
        assert dict(engine.run(Words, [source], out, reducers=1, overwrite=True)) == {"a": "1", "b": "2"}
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds notes\.txt beside the result"):
        engine.run(Words, [source], out, overwrite=True)
    assert names(out) == ["_SUCCESS", "notes.txt", "part-00000"]


def test_a_file_that_came_while_the_job_ran_isnt_lost(engine: Any, tmp_path: Path, source: Path) -> None:
    out, gate = tmp_path / "out", tmp_path / "gate"
    gate.mkdir()
    engine.run(Words, [source], out, reducers=1)
    source.write_text("wait\n")
    handle = engine.start(Gated(gate=str(gate)), [source], out, reducers=1, overwrite=True)
    until(lambda: (gate / "runs").exists())
    (out / "notes.txt").write_text("mine")
    (gate / "open").touch()
    with pytest.raises((JobFailed, OutputError), match=r"notes\.txt"):
        handle.result(30)
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "part-00000").read_text() == "a\t1\nb\t2\n"


def test_inputs_without_a_file_keep_an_old_result(engine: Any, tmp_path: Path, source: Path) -> None:
    out, inbox = tmp_path / "out", tmp_path / "inbox"
    (inbox / "a" / "b").mkdir(parents=True)
    (inbox / "_hidden").write_text("x\n")
    (inbox / ".dot").write_text("x\n")
    engine.run(Words, [source], out, reducers=1)
    old = (out / "part-00000").read_bytes()
    for inputs in ([inbox], [inbox / "a", inbox], [f"{inbox}/*"]):
        with pytest.raises(NoInputFiles, match=r"there is no file in .*inbox.* and OUT is as it was"):
            engine.run(Words, inputs, out, overwrite=True)
        assert (out / "part-00000").read_bytes() == old
        assert not (tmp_path / ".out.mrq").exists()
    with pytest.raises(NoInputFiles, match=r"2 hidden files were left out .*; `all_files=True` takes them"):
        engine.run(Words, [inbox], out, overwrite=True)
    assert list(engine.run(Words, [inbox], out, overwrite=True, allow_empty=True, reducers=2)) == []
    assert names(out) == ["_SUCCESS", "part-00000", "part-00001"]
    assert dict(engine.run(Words, [inbox], out, overwrite=True, all_files=True)) == {"x": "2"}


def test_an_empty_file_and_an_empty_result_are_inputs(engine: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    found = engine.run(Words, [tmp_path / "empty"], tmp_path / "one", reducers=1)
    assert list(found) == []
    assert list(engine.run(Words, [tmp_path / "one"], tmp_path / "two", reducers=1)) == []
    (tmp_path / "nothing").mkdir()
    mapped = engine.run(Upper, [tmp_path / "nothing"], tmp_path / "three", allow_empty=True)
    assert names(tmp_path / "three") == ["_SUCCESS"], "no split, no part"
    assert list(engine.run(Upper, [tmp_path / "three"], tmp_path / "four")) == []
    assert list(engine.run(Upper, mapped, tmp_path / "five")) == []


COMPUTED = """
import importlib

import mrq

class Computed(mrq.Job):
    name: str

    def map(self, key, line):
        yield None, importlib.import_module(self.name).upper(line)
"""


def test_a_module_that_no_import_names_is_shipped_or_its_absence_told(
    engine: Any, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = tmp_path / "jobs"
    (jobs / "plugins").mkdir(parents=True)
    (jobs / "computed_job.py").write_text(COMPUTED)
    (jobs / "plugins" / "loud.py").write_text("from shout import upper\n")
    (jobs / "shout.py").write_text("def upper(text):\n    return text.upper() + '!'\n")
    monkeypatch.syspath_prepend(jobs)
    sys.modules.pop("computed_job", None)  # of the other engine's test
    made = importlib.import_module("computed_job").Computed
    for name, said in (
        ("plugins.loud", 'ship it too, `ship=["plugins'),
        ("nowhere", 'is sent by `ship=["PATH"]`'),
    ):
        with pytest.raises(JobFailed) as caught:
            engine.run(made(name=name), [source], tmp_path / "out")
        assert "No module named" in str(caught.value)
        assert said in str(caught.value)
    done = engine.run(made(name="plugins.loud"), [source], tmp_path / "out", ship=[jobs / "plugins"])
    assert [text for text, _ in done] == ["A B!", "B!"]


def test_one_map_of_one_block_moves_and_the_summary_says_that_a_core_was_idle(
    engine: Any, tmp_path: Path
) -> None:
    (tmp_path / "slow.txt").write_text("".join(f"line {i:03}\n" for i in range(80)))
    handle = engine.start(Slow(seconds=0.05), [tmp_path / "slow.txt"], tmp_path / "out")
    seen: list[int] = []
    told: list[int] = []

    def look() -> bool:
        view = handle.view()
        if view is not None and view.maps.attempts:
            seen.append(view.maps.records_in)
            assert abs(view.maps.fraction - view.maps.records_in / 80) < 0.05
            assert abs(view.maps.bytes_in - view.maps.records_in * 9) <= 9
        try:
            told.append(engine.ask("status", job=handle.job)["jobs"][0].maps.records_in)
        except UsageError:  # an engine of this machine forgets a job that is over
            assert handle.wait(5)
        return bool(handle.done())

    until(look, 60)
    between = sorted({records for records in seen if 0 < records < 80})
    assert len(between) > 1, "it moves while its only block is at hand"
    assert seen == sorted(seen)
    assert {records for records in told if 0 < records < 80}, "mrq status says it too"
    summary = handle.result(30).summary
    assert summary.idle == ('1 map for 2 cores: `split_size="360"` makes one for each',)


def test_small_inputs_are_more_than_one_map(engine: Any, tmp_path: Path) -> None:
    (tmp_path / "small.txt").write_text("word and word\n" * 40_000)
    files = [tmp_path / f"{i:02}.txt" for i in range(60)]
    for file in files:
        file.write_text("word\n")
    found = engine.run(Words, [tmp_path / "small.txt"], tmp_path / "one", reducers=1)
    assert found.summary.maps == 8
    assert dict(found) == {"word": "80000", "and": "40000"}
    found = engine.run(Words, files, tmp_path / "sixty", reducers=1)
    assert found.summary.maps > 4
    assert dict(found) == {"word": "60"}
    found = engine.run(Words, [tmp_path / "small.txt"], tmp_path / "two", reducers=1, split_size="1M")
    assert found.summary.maps == 1
    sorted_ = engine.run(Sorted, [tmp_path / "small.txt", *files], tmp_path / "three", reducers=4)
    assert [key for key, _ in sorted_] == sorted(key for key, _ in sorted_)
    assert found.summary.records_in == 40_000


@pytest.mark.parametrize(("losses", "times"), [(1, "once"), (2, "2 times")])
def test_deaths_of_executors_are_borne_as_often_as_the_job_says(
    engine: Any, source: Path, losses: int, times: str
) -> None:
    with pytest.raises(JobFailed, match=rf"m-00000 killed its executor {times}: exit code 3"):
        engine.run(Exits, [source], max_losses=losses)
