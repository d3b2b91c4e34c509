"""Jobs of several stages, on this machine and on a cluster, against plain Python."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_rig import Cluster, until
from stage_jobs import TYPED, Apart, Five, Held, Nothing, Picky, Replacing, Sorting, Typed, five

import mrq
from mrq.codec.order import sort_key
from mrq.errors import JobError
from mrq.result import JobFailed
from mrq.servers.memory.jobfolder import leftovers

HERE = Path(__file__).parent
LINES = [f"w{n % 7} word{n % 31:02} {'x' * (n % 5 + 1)}" for n in range(400)]


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
            for name in ("w0", "w1"):
                rig.worker(name, slots=1)
            yield rig.client()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in.txt").write_text("\n".join(LINES) + "\n")
    return tmp_path / "in.txt"


def staged(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_chain_of_five_gives_what_plain_python_does(engine: Any, tmp_path: Path, source: Path) -> None:
    handle = engine.start(Five(least=12), [source], tmp_path / "out", split_size="2K")
    result = handle.result(60)
    assert {int(key): int(value) for key, value in result} == five(LINES, 12)
    words = {word for line in LINES for word in line.split()}
    often = [word for word in words if sum(line.split().count(word) for line in LINES) >= 12]
    assert result.counters == {"lines": len(LINES), "words": len(words) + len(often)}
    assert len(result.parts) == 2
    assert staged(tmp_path) == [], "what lay between the stages is gone"
    stages = handle.view().stages
    labels = [stage.label for stage in stages]
    assert labels == ["map 1", "reduce 1", "map 2", "map 3", "reduce 3", "map 4", "map 5", "reduce 5"]
    assert all(stage.complete for stage in stages)
    assert stages[0].records_in == result.summary.records_in == len(LINES)
    assert stages[2].records_in == len(words)
    assert result.summary.maps == sum(stage.total for stage in stages if stage.name == "map")
    assert result.summary.reduces == sum(stage.total for stage in stages if stage.name == "reduce")
    assert result.summary.records_out == len(five(LINES, 12))


def test_the_same_in_a_test_and_with_one_reducer_everywhere(engine: Any) -> None:
    tried = mrq.testing.run(Five(), LINES)
    assert dict(tried) == five(LINES)
    assert dict(engine.run(Five(), records=LINES)) == five(LINES)
    assert dict(engine.run(Five(), records=LINES, reducers=1, compression="gz")) == five(LINES)


def test_types_pass_between_stages(engine: Any) -> None:
    wanted = sorted(TYPED, key=lambda pair: sort_key(pair[0]))
    found = list(engine.run(Typed(), records=["once"]))
    assert found == wanted
    assert [(type(key), type(value)) for key, value in found] == [(type(k), type(v)) for k, v in wanted]
    assert mrq.testing.run(Typed, ["once"]) == wanted


def test_a_total_order_at_the_end(engine: Any, tmp_path: Path, source: Path) -> None:
    longest: dict[str, tuple[int, str]] = {}
    for word in (word for line in LINES for word in line.split()):
        longest[word[0]] = max(longest.get(word[0], (0, "")), (len(word), word))
    wanted = sorted((word, letter) for letter, (_, word) in longest.items())
    assert list(engine.run(Sorting(), [source], tmp_path / "out")) == wanted
    assert mrq.testing.run(Sorting(), LINES) == wanted


def test_a_stage_may_give_nothing(engine: Any, tmp_path: Path, source: Path) -> None:
    result = engine.run(Nothing(), [source], tmp_path / "out")
    assert list(result) == []
    assert (tmp_path / "out/_SUCCESS").exists()
    assert mrq.testing.run(Nothing, LINES) == []
    assert list(engine.run(Nothing(), records=[])) == []


def test_what_a_later_stage_raises_is_told_with_its_own_method(engine: Any, tmp_path: Path) -> None:
    with pytest.raises(JobFailed) as caught:
        engine.run(Picky(), records=["a bad b"], output=tmp_path / "out")
    error = caught.value.errors[-1]
    assert (error.type, error.message) == ("ValueError", "bad isn't wanted")
    assert ", in refuse\n" in error.frames
    assert "raise ValueError" in error.frames
    assert error.record == "('bad', 1)"
    assert "m3-" in str(caught.value)
    with pytest.raises(JobFailed) as caught:
        engine.run(Picky(wrong=True), records=["a b"], output=tmp_path / "out")
    error = caught.value.errors[-1]
    assert error.message == "through yielded 3 (a int); it must yield pairs: `yield key, value`"
    assert ", in through\n" in error.frames
    with pytest.raises(ValueError, match="bad isn't wanted"):
        mrq.testing.run(Picky, ["a bad"])


def test_bad_records_of_a_later_stage_are_left_out_and_kept(engine: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = engine.run(Picky(), records=["a bad b bad"], output=out, skip_bad_records=1)
    assert dict(result) == {"all": "2"}
    assert result.counters == {"seen": 2}, "what the bad one counted goes with it"
    assert result.summary.bad_records == 1
    kept = sorted((out / "_bad").iterdir())
    assert [path.name.partition(".")[0] for path in kept] == ["m3-00000"] * len(kept)
    assert any(b"bad" in path.read_bytes() for path in kept)
    assert mrq.testing.run(Picky, ["a bad b"], skip_bad_records=1) == [("all", 2)]


def test_each_attempt_of_each_stage_has_a_job_of_its_own(engine: Any) -> None:
    result = engine.run(Apart(), records=["a", "b", "c"])
    assert list(result) == [("m", 3)]
    assert result.counters == {"seen": 6}
    assert mrq.testing.run(Apart, ["a", "b", "c"]) == [("m", 3)]


def test_a_job_that_is_at_its_second_stage_shows_both(engine: Any, tmp_path: Path, source: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    handle = engine.start(Held(marks=str(marks)), [source], tmp_path / "out", split_size="2K")
    until(lambda: any(path.name.startswith("m2-") for path in marks.iterdir()))
    until(lambda: (view := handle.view()) is not None and view.stages[-1].stage == 2)
    stages = handle.view().stages
    assert [stage.label for stage in stages][:3] == ["map 1", "reduce 1", "map 2"]
    assert [stage.complete for stage in stages][:3] == [True, True, False]
    (marks / "open").touch()
    handle.result(60)


def killed_at_its_second_stage(folder: Path, source: Path) -> str:
    """Kill an engine there; the job's id."""
    code = (
        f"import sys; sys.path[:0] = [{str(HERE)!r}]\n"
        "import mrq; from stage_jobs import Held\n"
        "if __name__ == '__main__':\n"
        f"    mrq.run(Held(marks={str(folder / 'marks')!r}), [{str(source)!r}], {str(folder / 'out')!r},"
        " executors=2, split_size='2K')\n"
    )
    (folder / "marks").mkdir()
    (folder / "program.py").write_text(code)
    env = {**os.environ, "MRQ_TMP": str(folder)}
    with subprocess.Popen([sys.executable, str(folder / "program.py")], env=env) as program:
        until(lambda: any(path.name.startswith("m2-") for path in (folder / "marks").iterdir()))
        program.send_signal(signal.SIGKILL)
    (left,) = leftovers(str(folder / f"mrq-{os.getuid()}"))
    return left.job


def test_kill_and_retry_go_on_at_the_stage_where_it_was(tmp_path: Path, source: Path) -> None:
    job = killed_at_its_second_stage(tmp_path, source)
    marks = tmp_path / "marks"
    before = {path.name for path in marks.iterdir()}
    (marks / "open").touch()
    ran = subprocess.run(
        [sys.executable, "-m", "mrq", "retry", job, "--json"],
        env={**os.environ, "MRQ_TMP": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    again = {path.name.split(".")[0] for path in marks.iterdir() if path.name not in {*before, "open"}}
    assert not any(name.startswith(("m1-", "r1-", "m-", "r-")) for name in again), "that one was complete"
    assert {name[:2] for name in again} == {"m2", "r2", "m4", "m3", "r3"}
    labels = [f"{stage['name']} {stage['stage']}" for stage in told["info"]["stages"]]
    assert labels == ["map 1", "reduce 1", "map 2", "reduce 2", "map 3", "reduce 3"]
    counts = list(Counter(word for line in LINES for word in line.split()).values())
    wanted = sorted((counts.count(n), n) for n in set(counts))
    parts = "".join((tmp_path / "out" / name).read_text() for name in ("part-00000", "part-00001"))
    assert sorted(tuple(map(int, line.split("\t"))) for line in parts.splitlines()) == wanted


def test_setup_may_not_replace_what_a_stage_has(engine: Any) -> None:
    with pytest.raises(JobFailed, match=r"setup assigned self\.words, which stage 1 of Replacing has as its"):
        engine.run(Replacing(), records=["a"])
    with pytest.raises(JobError, match="choose another name"):
        mrq.testing.run(Replacing, ["a"])


def cli(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mrq", *words],
        env={**os.environ, "MRQ_TMP": str(folder)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_dry_run_tells_every_stage(tmp_path: Path, source: Path) -> None:
    words = (
        "submit",
        f"{HERE}/stage_jobs.py:Five",
        str(source),
        "-o",
        f"{tmp_path}/out",
        "-R",
        "9",
        "--dry-run",
    )
    ran = cli(*words, folder=tmp_path)
    assert [line.split(None, 2)[1:] for line in ran.stdout.splitlines() if line.startswith("stage")] == [
        ["1", "map=words, combine=add, reduce=add: 9, by a hash of the key"],
        ["2", "map=tag: no reduce"],
        ["3", "map=same, reduce=mrq.identity: 3, by ranges of keys, sampled first"],
        ["4", "map=look: no reduce"],
        ["5", "map=same, reduce=mrq.sum, partition=shard: 2, by a hash of the key"],
    ]
    told = json.loads(cli(*words, "--json", folder=tmp_path).stdout)
    assert [(stage["partitions"], stage["partitioned_by"]) for stage in told["stages"]] == [
        (9, "hash"), (0, None), (3, "range"), (0, None), (2, "hash"),
    ]  # fmt: skip
    assert (told["partitions"], told["partitioned_by"]) == (2, "hash")
    more = json.loads(cli(*words[:-3], "--dry-run", "--json", folder=tmp_path).stdout)
    assert more["stages"][0]["partitions"] == 1


def test_a_flag_that_a_stage_has_to_say_is_refused_as_a_flag(tmp_path: Path, source: Path) -> None:
    ran = cli(
        "submit", f"{HERE}/stage_jobs.py:Five", str(source), "-o", "-", "--sort-values", folder=tmp_path
    )
    assert ran.returncode == 2
    assert "leave out `--sort-values`, and give it to a stage: `mrq.Stage(…, sort_values=True)`" in ran.stderr


def test_a_retry_may_leave_out_what_a_later_stage_raises_at(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a bad b\n")
    out = tmp_path / "out"
    job = f"{HERE}/stage_jobs.py:Picky"
    ran = cli("submit", job, f"{tmp_path}/words.txt", "-o", str(out), folder=tmp_path)
    assert ran.returncode == 1
    assert "m3-00000 failed once: ValueError: bad isn't wanted" in ran.stderr
    assert "  record  ('bad', 1)\n" in ran.stderr
    assert f'File "{HERE}/stage_jobs.py", line ' in ran.stderr
    found = re.search(r"mrq retry (\S+) .*--skip-bad-records N", ran.stderr)
    assert found is not None, ran.stderr
    ran = cli("retry", found[1], "--skip-bad-records", "1", folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert (out / "part-00000").read_text() == "all\t2\n"
    assert re.search(r"stage 3 +1 map, 1 reduce; 3 records in, 1 out", ran.stderr)


def commands(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.startswith(("    mrq ", "    python "))]


def test_the_page_about_stages_runs_as_it_is_written(tmp_path: Path) -> None:
    root = HERE.parents[1]
    page = (root / "docs/stages.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(# (\S+\.py)\n.*?)```", page, flags=re.DOTALL):
        (tmp_path / block[1]).write_text(block[0], encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.md").write_text("To be or not to be\n\nthe bee 1\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith("MRQ_")}
    env |= {"PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "MRQ_TMP": str(tmp_path / "tmp")}
    said = []
    for line in commands(page):
        ran = subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert ran.returncode == 0, f"{line}\n{ran.stdout}\n{ran.stderr}"
        said.append(ran.stdout + ran.stderr)
    rows = [json.loads(line) for line in (tmp_path / "longest/part-00000.jsonl").read_text().splitlines()]
    assert rows == [
        {"key": 2, "value": [[2, "be"], [2, "to"]]},
        {"key": 3, "value": [[1, "bee"], [1, "not"]]},
    ]
    assert re.search(r"stage 1 +1 map, 1 reduce; 3 records in, \d+ out", said[0]), said[0]
    assert "stage 1     map=words, reduce=mrq.sum: " in said[1]
    assert "stage 2     map=by_length, reduce=best: 1, by a hash of the key" in said[1]
    assert "1 passed" in said[2]
