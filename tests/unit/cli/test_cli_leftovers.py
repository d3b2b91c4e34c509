"""What earlier runs left: told in a line, swept by age, removed with what they staged."""

import os
import time

import pytest
from said import listening

from mrq.cli import leftovers
from mrq.cli.command_table import COMMANDS
from mrq.cli.console import Terminal
from mrq.cli.parser import parse
from mrq.cli.retry import clean
from mrq.cli.session import Session
from mrq.cli.signals import Signals
from mrq.cli.tables import TextPage
from mrq.commit import claim
from mrq.core.model import JobSpec, StageSpec
from mrq.errors import UsageError
from mrq.servers.memory.jobfolder import JobFolder, KeptJob
from mrq.servers.memory.jobfolder import leftovers as find
from mrq.settings.variables import keep_s

DAY = 24 * 3600


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MRQ_TMP", str(tmp_path / "tmp"))
    return str(tmp_path / "tmp" / f"mrq-{os.getuid()}")


def leave(root, out, job, *, age_days=0.0, alive=False):
    """A job's folder and staging as a killed run leaves them."""
    staging = claim.prepare(str(out), job, False)
    claim.abandon(staging, keep=True)
    spec = JobSpec(
        job=job, name="J", code="0" * 64, entry="j:J", parameters={}, inputs=("a",),
        stages=(StageSpec(splits=(), reducers=1),),
        output=str(out), output_open=str(out),
        staging=staging.folder,
    )  # fmt: skip
    folder = JobFolder.create(root, KeptJob(spec=spec), b"code")
    if not alive:
        folder.close()
    then = time.time() - age_days * DAY
    os.utime(folder.path, (then, then))
    return folder, staging.folder


def told(root, keep=7 * DAY):
    with listening() as said:
        leftovers.tell_and_sweep(root, keep=keep)
    return "".join(f"{line}\n" for line in said)


def test_nothing_is_said_of_nothing(root):
    assert told(root) == ""


def test_one_is_named_with_path_size_and_what_to_do(root, tmp_path):
    folder, _ = leave(root, tmp_path / "out", "j-1")
    line = told(root)
    assert line.count("\n") == 1
    for words in (folder.path, " B)", "mrq retry j-1", "mrq clean j-1"):
        assert words in line


def test_several_are_counted(root, tmp_path):
    leave(root, tmp_path / "a", "j-1")
    leave(root, tmp_path / "b", "j-2")
    line = told(root)
    assert line.count("\n") == 1
    assert "2 earlier runs" in line
    assert f"{root}/jobs" in line


def test_the_old_ones_are_swept_with_what_they_staged(root, tmp_path):
    old, old_staging = leave(root, tmp_path / "a", "j-old", age_days=8)
    new, new_staging = leave(root, tmp_path / "b", "j-new", age_days=6)
    text = told(root)
    assert f"swept {old.path}" in text
    assert [os.path.exists(p) for p in (old.path, old_staging)] == [False, False]
    assert [os.path.exists(p) for p in (new.path, new_staging)] == [True, True]


def test_a_running_job_is_never_touched(root, tmp_path):
    folder, staging = leave(root, tmp_path / "a", "j-1", age_days=100, alive=True)
    assert told(root) == ""
    assert os.path.exists(folder.path)
    assert os.path.exists(staging)
    folder.close()


def test_staging_that_another_job_took_stays(root, tmp_path):
    leave(root, tmp_path / "a", "j-1", age_days=8)
    other = claim.prepare(str(tmp_path / "a"), "j-2", False)
    assert "swept" in told(root)
    assert os.path.isdir(other.folder)
    assert find(root) == []


def test_a_damaged_folder_is_removed_all_the_same(root, tmp_path):
    folder, _ = leave(root, tmp_path / "a", "j-1", age_days=8)
    with open(f"{folder.path}/spec", "wb") as file:
        file.write(b"\xff\xff")
    told(root)
    assert not os.path.exists(folder.path)


@pytest.mark.parametrize(("text", "seconds"), [("", 7 * DAY), ("0", 0), ("1.5", 1.5 * DAY)])
def test_the_age_is_configurable(monkeypatch, text, seconds):
    monkeypatch.setenv("MRQ_KEEP_DAYS", text)
    assert keep_s() == seconds


@pytest.mark.parametrize("text", ["soon", "-1", "nan"])
def test_a_wrong_age_is_refused(monkeypatch, text):
    monkeypatch.setenv("MRQ_KEEP_DAYS", text)
    with pytest.raises(UsageError, match="MRQ_KEEP_DAYS"):
        keep_s()


def run_clean(*argv):
    flags = next(c.flags for c in COMMANDS if c.name == "clean")
    with listening() as said, Signals() as signals:
        return clean(Session(parsed=parse(flags, argv), signals=signals)), "\n".join(said)


def test_clean_removes_what_is_named(root, tmp_path):
    leave(root, tmp_path / "a", "j-1")
    leave(root, tmp_path / "b", "j-2")
    assert run_clean("j-1")[0] == 0
    assert [left.job for left in find(root)] == ["j-2"]
    code, text = run_clean()
    assert code == 0
    assert "removed 1 job" in text
    assert find(root) == []


def test_clean_refuses_what_is_not_there(root, tmp_path):
    leave(root, tmp_path / "a", "j-1")
    with pytest.raises(UsageError, match="j-1"):
        run_clean("j-2")
    assert [left.job for left in find(root)] == ["j-1"]


def listed(found, capfdbinary):
    page = TextPage(Terminal(None))
    leftovers.listing(page, found)
    page.write()
    return capfdbinary.readouterr().out.decode().splitlines()


def test_the_listing_has_the_newest_first(root, tmp_path, capfdbinary):
    leave(root, tmp_path / "a", "j-1", age_days=3)
    leave(root, tmp_path / "b", "j-2", age_days=1)
    lines = listed(find(root), capfdbinary)
    assert [line.split()[0] for line in lines[:3]] == ["JOB", "j-2", "j-1"]
    assert str(tmp_path / "b") in lines[1]
    assert listed([], capfdbinary) == ["nothing to go on with: no job that failed or was killed is kept"]
