"""kill -9 of an engine at every batch that it logs, and around its commit: `retry` goes on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mrq
from mrq.commit import manifest, publish
from mrq.core.commands import WriteJob, WriteTask
from mrq.core.machine import Machine
from mrq.core.model import JobState
from mrq.core.refs import Kind
from mrq.engine.engine import Engine
from mrq.errors import CorruptFileError, UsageError
from mrq.servers.memory.jobfolder import leftovers, read_kept
from mrq.servers.memory.log import NAME, JobLog, frame, replay

WAIT_S = 30.0
LINES = 120
EXPECTED = {f"w{n}": str(LINES // 4) for n in range(4)}


class Marks(mrq.Job):
    """Says which attempts of maps and reduces have run."""

    marks: str

    def setup(self):  # type: ignore[no-untyped-def]
        with open(os.path.join(self.marks, f"{self.task.id}.{os.getpid()}.{time.time_ns()}"), "w"):
            pass


class Marked(Marks):
    def map(self, key, line):  # type: ignore[no-untyped-def]
        yield line.strip(), 1

    def reduce(self, word, counts):  # type: ignore[no-untyped-def]
        yield sum(counts)


class MarkedInOrder(Marked, order="total"):
    pass


class Picky(Marked):
    """Fails until the file that it is told of exists."""

    sign: str = ""

    def map(self, key, line):  # type: ignore[no-untyped-def]
        if line.startswith("w3") and not os.path.exists(self.sign):
            raise ValueError("not yet")
        yield from super().map(key, line)


class Chained(Marks):
    """Counts, and twice hands on what it has counted, the second time in the order of the words."""

    def stages(self):  # type: ignore[no-untyped-def]
        return [
            mrq.Stage(map=self.words, reduce=mrq.sum, reducers=2, split_size="100"),
            mrq.Stage(map=self.same, reduce=mrq.sum, reducers=2),
            mrq.Stage(map=self.same, reduce=mrq.sum, reducers=2, order="total"),
        ]

    def words(self, key, line):  # type: ignore[no-untyped-def]
        yield line.strip(), 1

    def same(self, word, count):  # type: ignore[no-untyped-def]
        yield word, count


JOBS: dict[str, type[Marks]] = {"plain": Marked, "ordered": MarkedInOrder, "chained": Chained}


def start(engine: Engine, folder: Path, job: str, out: str = "out") -> Any:
    made = JOBS[job](marks=str(folder / "marks"))
    settings: dict[str, Any] = {} if job == "chained" else {"reducers": 2, "split_size": "100"}
    return engine.start(made, [str(folder / "in.txt")], str(folder / out), **settings)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def child(folder: str, job: str, where: str, number: int) -> None:
    """Run a job, and be killed at the batch of that number, or where the commit is."""
    append, commit = JobLog.append, publish.commit
    seen = 0

    def killing(self: JobLog, batch: Any) -> None:
        nonlocal seen
        seen += 1
        if where == "before" and seen == number:
            die()
        if where == "torn" and seen == number:
            data = frame(batch)
            os.write(self._fd, data[: len(data) // 2])
            die()
        append(self, batch)
        if where == "after" and seen == number:
            die()
        states = [write.state for write in batch.writes if isinstance(write, WriteJob)]
        if where == "done" and JobState.DONE in states:
            die()
        if where == "mapped" and any(
            isinstance(write, WriteTask) and write.task.kind is Kind.REDUCE for write in batch.writes
        ):
            die()
        if where == "planned" and any(
            isinstance(write, WriteTask) and write.task.stage == 2 for write in batch.writes
        ):
            die()

    def killing_commit(*args: Any) -> Any:
        if where == "commit begins":
            die()
        made = commit(*args)
        if where == "commit ended":
            die()
        return made

    JobLog.append, publish.commit = killing, killing_commit  # type: ignore[method-assign, assignment]
    with mrq.local(executors=2) as engine:
        start(engine, Path(folder), job).result(WAIT_S)


def killed(folder: Path, job: str, where: str, number: int = 0) -> bool:
    """Whether the process was killed, rather than done before it came so far."""
    code = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]\n"
        f"from test_engine_killed import child; child({str(folder)!r}, {job!r}, {where!r}, {number})"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60, capture_output=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode != 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path / "tmp"))
    (tmp_path / "marks").mkdir()
    (tmp_path / "in.txt").write_text("".join(f"w{n % 4}\n" for n in range(LINES)))
    return tmp_path


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    with mrq.local(executors=2) as made:
        yield made


def complete(engine: Engine, job: str) -> set[str]:
    """Tasks that are complete by the log of a job that was killed, by the names that its attempts have."""
    found = set()
    for path in Path(engine.root, "jobs").iterdir():
        kept = read_kept(str(path))
        assert kept.spec.job == job
        data = (path / NAME).read_bytes() if (path / NAME).exists() else b""
        stored, _ = replay(data, kept.spec)
        if stored is None:
            continue
        machine = Machine()
        machine.adopt(stored, 0.0)
        found |= {str(won.task) for won, _ in machine.completed(job)}
    return found


def ran(folder: Path) -> list[str]:
    return sorted(path.name.split(".")[0] for path in (folder / "marks").iterdir())


def clear(folder: Path) -> None:
    for path in (folder / "marks").iterdir():
        path.unlink()


def gone_on_with(engine: Engine, folder: Path) -> None:
    """The one job that is kept goes on: to the right result, and nothing that was complete runs again."""
    (left,) = leftovers(engine.root)
    done = complete(engine, left.job)
    clear(folder)
    result = engine.retry(left.job).result(WAIT_S)
    assert dict(result) == EXPECTED
    assert manifest.read_manifest(str(folder / "out")).job == left.job
    assert done.isdisjoint(ran(folder)), f"{done} were complete, and {ran(folder)} ran"
    assert os.listdir(f"{engine.root}/jobs") == []
    assert not (folder / ".out.mrq").exists()


def again(folder: Path) -> None:
    """As it was before."""
    for path in sorted((folder / "out").rglob("*"), reverse=True):
        path.unlink()
    (folder / "out").rmdir()
    clear(folder)


@pytest.mark.parametrize(
    ("where", "job"),
    [("before", "plain"), ("torn", "plain"), ("after", "plain"), ("after", "ordered"), ("after", "chained")],
)
def test_at_one_batch_after_the_other(engine: Engine, folder: Path, where: str, job: str) -> None:
    number = 1
    while killed(folder, job, where, number):
        gone_on_with(engine, folder)
        again(folder)
        number += 1 if number < 3 else 3 if job == "chained" else 2
    assert number > 4


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("where", ["commit begins", "commit ended", "done"])
def test_at_the_commit(engine: Engine, folder: Path, where: str, job: str) -> None:
    assert killed(folder, job, where)
    gone_on_with(engine, folder)
    assert not [name for name in ran(folder) if name.startswith("r")]


@pytest.mark.parametrize("lost", ["removed", "damaged", "cut"])
def test_a_part_between_two_stages_that_is_lost_meanwhile_costs_the_stages_before(
    engine: Engine, folder: Path, lost: str
) -> None:
    assert killed(folder, "chained", "planned")
    (left,) = leftovers(engine.root)
    parts = sorted((folder / ".out.mrq/stages/1").iterdir())
    assert len(parts) == 2
    data = bytearray(parts[1].read_bytes())
    data[len(data) // 2] ^= 1
    if lost == "removed":
        parts[1].unlink()
    else:
        parts[1].write_bytes(data if lost == "damaged" else data[:-1])
    clear(folder)
    result = engine.retry(left.job).result(WAIT_S)
    assert dict(result) == EXPECTED
    assert {"m1-00000", "r1-00001", "m2-00000", "r3-00000"} <= set(ran(folder))
    assert not (folder / ".out.mrq").exists()


def test_killed_again_and_again(engine: Engine, folder: Path) -> None:
    """Each retry begins where the one before was killed."""
    assert killed(folder, "plain", "after", 2)
    (left,) = leftovers(engine.root)
    code = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]\n"
        f"from test_engine_killed import retrying; retrying({left.job!r}, NUMBER)"
    )
    before: set[str] = set()
    for number in (1, 2, 3):
        done = subprocess.run(
            [sys.executable, "-c", code.replace("NUMBER", str(number))], check=False, timeout=60
        )
        assert done.returncode == -signal.SIGKILL
        now = complete(engine, left.job)
        assert before <= now
        before = now
    gone_on_with(engine, folder)


def retrying(job: str, number: int) -> None:
    append, seen = JobLog.append, 0

    def killing(self: JobLog, batch: Any) -> None:
        nonlocal seen
        append(self, batch)
        seen += 1
        if seen == number:
            die()

    JobLog.append = killing  # type: ignore[method-assign]
    with mrq.local(executors=2) as engine:
        engine.retry(job).result(WAIT_S)


def test_map_outputs_that_are_gone_or_damaged_are_made_again(engine: Engine, folder: Path) -> None:
    """The disk wins over the log."""
    assert killed(folder, "plain", "mapped")
    (left,) = leftovers(engine.root)
    outputs = sorted(Path(left.path, "maps").iterdir())
    assert len(outputs) > 2
    outputs[0].unlink()
    data = bytearray(outputs[1].read_bytes())
    data[len(data) // 2] ^= 1
    outputs[1].write_bytes(data)
    clear(folder)
    assert dict(engine.retry(left.job).result(WAIT_S)) == EXPECTED
    assert {path.name.split(".")[0] for path in outputs[:2]} <= set(ran(folder))


def test_a_log_that_is_damaged_costs_what_it_had_and_no_more(engine: Engine, folder: Path) -> None:
    assert killed(folder, "plain", "mapped")
    (left,) = leftovers(engine.root)
    data = bytearray(Path(left.path, NAME).read_bytes())
    data[len(data) // 2] ^= 1
    Path(left.path, NAME).write_bytes(data)
    gone_on_with(engine, folder)


def test_a_log_that_is_gone_costs_everything(engine: Engine, folder: Path) -> None:
    assert killed(folder, "plain", "mapped")
    (left,) = leftovers(engine.root)
    Path(left.path, NAME).unlink()
    gone_on_with(engine, folder)


def test_jobs_of_one_engine_go_on_each_and_beside_others(folder: Path) -> None:
    """An engine had three jobs when it was closed without a word; another takes them up one after the other,
    while it runs one of its own."""
    code = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]\n"
        f"from test_engine_killed import three; three({str(folder)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    with mrq.local(executors=2) as engine:
        own = start(engine, folder, "plain", "own")
        handles = [engine.retry(left.job) for left in leftovers(engine.root)]
        assert len(handles) == 3
        for handle in (own, *handles):
            assert dict(handle.result(WAIT_S)) == EXPECTED
        assert os.listdir(f"{engine.root}/jobs") == []


def three(folder: str) -> None:
    append, jobs = JobLog.append, set()

    def killing(self: JobLog, batch: Any) -> None:
        append(self, batch)
        jobs.add(batch.job)
        if len(jobs) == 3:
            die()

    JobLog.append = killing  # type: ignore[method-assign]
    with mrq.local(executors=2) as engine:
        names = ("plain", "ordered", "plain")
        for handle in [start(engine, Path(folder), job, f"out{n}") for n, job in enumerate(names)]:
            handle.result(WAIT_S)


def test_a_failed_job_goes_on_in_its_own_engine_again_and_again(engine: Engine, folder: Path) -> None:
    job = Picky(marks=str(folder / "marks"), sign=str(folder / "sign"))
    with pytest.raises(mrq.JobFailed) as failed:
        engine.run(job, [str(folder / "in.txt")], str(folder / "out"), reducers=2, split_size="100")
    for _ in range(2):
        with pytest.raises(mrq.JobFailed):
            engine.retry(failed.value.job).result(WAIT_S)
    (folder / "sign").touch()
    gone_on_with(engine, folder)


def test_what_cant_go_on_is_let_go_of_as_it_was(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert killed(folder, "plain", "after", 5)
    (left,) = leftovers(engine.root)

    def no_batch(value: Any) -> Any:
        raise CorruptFileError("no Batch")

    monkeypatch.setattr("mrq.servers.memory.log.wire.unpack", no_batch)
    with pytest.raises(CorruptFileError, match="Batch"):
        engine.retry(left.job)
    monkeypatch.undo()
    monkeypatch.setenv("MRQ_TMP", str(folder / "tmp"))
    with pytest.raises(UsageError, match="no job"):
        engine.retry("other")
    gone_on_with(engine, folder)
