"""Executors stay with the code, from job to job of one engine or worker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_runs import AgentRun, alive, wait_for

import mrq
from mrq.core.model import Status
from mrq.engine.engine import Engine


class Pids(mrq.Job):
    """Says which process ran it, and how many jobs this module has seen there."""

    def map(self, key, line):  # type: ignore[no-untyped-def]
        global _seen
        _seen += 1
        yield os.getpid(), _seen


class Other(Pids):
    pass


_seen = 0


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path / "tmp"))
    with mrq.local(executors=1) as made:
        yield made


@pytest.fixture
def text(tmp_path: Path) -> list[str]:
    path = tmp_path / "text"
    path.write_text("a\n")
    return [str(path)]


def ran(engine: Engine, job: mrq.Job, text: list[str]) -> tuple[int, int]:
    ((pid, seen),) = engine.run(job, text, output_format="records")
    return pid, seen


def test_jobs_with_the_same_code_share_executors(engine: Engine, text: list[str]) -> None:
    found = [ran(engine, Pids(), text), ran(engine, Pids(), text), ran(engine, Other(), text)]
    assert len({pid for pid, _ in found}) == 1
    assert [seen for _, seen in found] == [1, 2, 3], "modules are kept between jobs"


def test_code_that_was_edited_gets_a_new_process(engine: Engine, text: list[str], tmp_path: Path) -> None:
    job = tmp_path / "edited.py"
    code = "import os, mrq\nclass T(mrq.Job):\n    def map(self, key, line):\n        yield os.getpid(), {}\n"
    job.write_text(code.format(1))
    ((first, one),) = engine.run(str(job), text, output_format="records")
    job.write_text(code.format(2))
    ((second, two),) = engine.run(str(job), text, output_format="records")
    assert (one, two) == (1, 2)
    assert first != second


def test_the_engine_leaves_no_code(engine: Engine, text: list[str], tmp_path: Path) -> None:
    engine.run(Pids(), text, str(tmp_path / "out"))
    assert list((tmp_path / "tmp").rglob("code/*/*.py"))
    engine.close()
    assert not list((tmp_path / "tmp").rglob("*.py"))


def test_codes_beyond_the_last_few_give_up_their_executors(tmp_path: Path) -> None:
    with AgentRun(tmp_path) as run:
        pids = tmp_path / "pids"
        for number in range(6):
            code = f"class T(mrq.Job):\n    def map(self, key, line):\n        open({str(pids)!r}, 'a')"
            run.add(code + ".write(f'{os.getpid()} '); yield line, 1", ["x"], job=f"j{number}")
            run.publish(job=f"j{number}")
            run.reports(number + 1)
            run.drop(f"j{number}")
        first, second, *_ = map(int, pids.read_text().split())
        wait_for(lambda: not alive(first) and not alive(second))
        wait_for(lambda: len(list((run.root / "code").iterdir())) == 4)
    assert not (run.root / "code").exists()


@pytest.mark.parametrize(
    "left", ["threading.Thread(target=time.sleep, args=(60,)).start()", "type(self).x = bytearray(300 << 20)"]
)
def test_what_a_job_leaves_in_an_executor_ends_with_the_job(tmp_path: Path, left: str) -> None:
    with AgentRun(tmp_path) as run:
        pids = tmp_path / "pids"
        code = f"class T(mrq.Job):\n    def map(self, key, line):\n        open({str(pids)!r}, 'a')"
        run.add(code + f".write(f'{{os.getpid()}} ')\n        {left}\n        yield line, 1", ["x"])
        for count in (1, 2):
            run.publish(ticket=count)
            assert run.reports(count)[-1].outcome.status is Status.DONE
        first, second = map(int, pids.read_text().split())
        assert first == second
        assert alive(first), "the job isn't over"
        run.drop()
        wait_for(lambda: not alive(first))


def test_blank_executors_wait_beside_those_of_other_codes(tmp_path: Path) -> None:
    with AgentRun(tmp_path, slots=1) as run:
        run.add("class T(mrq.Job):\n    def map(self, key, line): yield line, 1\n", ["x"])
        run.publish()
        run.reports(1)
        assert len(run.pool) == 1
        wait_for(lambda: run.pool.blank == 1)
        assert len(run.pool) == 2
