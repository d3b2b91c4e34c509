"""The commands that ask a cluster, through the whole command line, with an engine that the test plays."""

import json
import os
import signal
import subprocess
import sys
import types
import zlib
from dataclasses import replace

import pytest

from mrq.cli.app import run
from mrq.commit.manifest import Manifest, dump_manifest
from mrq.core.info import AttemptInfo, ErrorInfo, JobInfo, StageInfo, TaskInfo
from mrq.core.model import ErrorReport, JobState, Role, StagedFile, TaskState, WorkerHealth
from mrq.core.worker_info import LogInfo, OutputInfo, WorkerInfo
from mrq.errors import Interrupted, OperatorError, OutputError, UsageError
from mrq.handle import Handle
from mrq.planning import complete
from mrq.planning import draft as make_draft
from mrq.remote.ask import retried
from mrq.result import JobFailed, Summary
from mrq.settings.job import retry_limits

TOML = """
[profiles.prod]
amqp_url = "amqp://ann:hidden-a@rabbit/"
redis_url = "redis://:hidden-r@redis:6380/1"
"""
WHERE = "cluster prod, state in redis://:***@redis:6380/1"
WC = """
import mrq
class WordCount(mrq.Job):
    reduce = mrq.sum
    def map(self, key, line):
        yield line, 1
"""


class Result:
    """What the commands need of a `mrq.result.Result`."""

    job, output, output_format = "j-1", "/data/out", "text"

    def __init__(self, private=False):
        self.parts, self.is_private = [], private
        self.counters = {"lines": 3}
        numbers = dict.fromkeys(Summary.__slots__, 0)
        others = {"largest_partition": None, "slowest_task": None, "idle": ()}
        self.summary = Summary(**{**numbers, "seconds": 1.0, "skew": 1.0, **others})


class Engine:
    """A cluster that answers as the test says."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        self.outcome = Result()
        self.state = JobState.RUNNING
        self.on_cancel = None
        self.wait_given = None
        self.closed = 0
        self.folder = ""
        self.notes = []
        self.slots = 6

    def __call__(self, profile):
        self.profile = profile
        return self

    def draft(self, request):
        self.request = request
        return make_draft(request)

    def start_draft(self, draft, *, wait=True):
        self.wait_given = wait
        self.drafted = draft
        return self.handle(draft.spec.job)

    def plan_draft(self, draft):
        self.drafted = draft
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return complete(draft), self.slots

    def handle(self, job):
        made = Handle(job, cancel=self._cancel, view=lambda job: None)
        for text in self.notes:
            made.note(text)
        if isinstance(self.outcome, Exception):
            made.finish(None, self.outcome)
        elif self.outcome is not None:
            made.finish(self.outcome, None)
        self.handed = made
        return made

    def retry(self, job, *, old=None, **overrides):
        self.ask("retry", job=job, **retried(retry_limits(overrides)))
        return self.handle(job)

    def _cancel(self, job):
        self.asked.append(("cancelled", job))
        if isinstance(self.on_cancel, OperatorError):
            raise self.on_cancel
        if self.on_cancel is not None:
            self.handed.finish(None, self.on_cancel)

    def ask(self, op, **args):
        self.asked.append((op, args))
        answer = self.answers[op]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def blob(self, digest):
        return {"d1": b"first\nall of it\n"}.get(digest)

    def private_folder(self):
        return self.folder

    def close(self, remove=True):
        self.closed += 1


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MRQ_TMP", str(tmp_path / "tmp"))
    for name in ("MRQ_AMQP_URL", "MRQ_REDIS_URL", "MRQ_CLUSTER", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "mrq.toml").write_text(TOML)
    (tmp_path / "wc.py").write_text(WC)
    (tmp_path / "in.txt").write_text("a\nb\n")
    made = Engine()
    made.folder = str(tmp_path)
    monkeypatch.setitem(sys.modules, "mrq.engine.remote", types.SimpleNamespace(cluster_engine=made))
    return made


def mrq(capfd, *argv, expect=0):
    code = run(argv)
    out, err = capfd.readouterr()
    assert code == expect, err
    assert "hidden" not in out + err
    return out, err


SUBMIT = ("submit", "wc.py", "in.txt", "-o", "out", "--cluster", "prod")


def test_a_submit_says_which_engine_and_shows_what_embedded_ones_do(engine, capfd):
    out, err = mrq(capfd, *SUBMIT, "-R", "2", "--priority", "7", "--max-running", "3", "--timeout", "5s")
    assert err.splitlines()[0] == WHERE
    assert "done in 1.00 s" in err
    assert "result  out (0 parts)" in err
    assert out == ""
    assert engine.profile.timeout_s == 5.0
    spec = engine.drafted.spec
    assert (spec.priority, spec.max_running, spec.reducers) == (7, 3, 2)
    assert engine.closed == 1


@pytest.mark.parametrize(
    ("argv", "own", "cap"),
    [
        ([], "", None),
        (["-j", "2"], "", 2),
        (["-j", "2", "--max-running", "3"], "", 2),
        (["-j", "3", "--max-running", "2"], "", 2),
        (["-j", "3"], ", max_running=2", 2),
        (["-j", "1"], ", max_running=2", 1),
    ],
)
def test_j_is_the_smaller_cap_of_tasks_at_once(engine, capfd, tmp_path, argv, own, cap):
    (tmp_path / "wc.py").write_text(WC.replace("mrq.Job", f"mrq.Job{own}"))
    mrq(capfd, *SUBMIT, *argv)
    assert engine.drafted.spec.max_running == cap


def test_a_dry_run_prints_what_an_embedded_one_does(engine, capfd):
    argv = (*SUBMIT[:-2], "-R", "2", "--split-size", "2", "--dry-run", "-j", "2")
    here = mrq(capfd, *argv, "--cluster", "local")[0]
    assert "splits      2" in here
    out, err = mrq(capfd, *argv, "--cluster", "prod")
    assert (out, err) == (here, f"{WHERE}\n")
    here = json.loads(mrq(capfd, *argv, "--cluster", "local", "--json")[0])
    there = json.loads(mrq(capfd, *argv, "--cluster", "prod", "--json")[0])
    assert (there["engine"], there["cluster"], there["status"]) == ("cluster", "prod", "planned")
    assert {**there, "engine": "embedded", "cluster": None, "job": here["job"]} == here
    assert engine.closed == 2


def test_a_dry_run_shows_what_runs_at_once(engine, capfd):
    assert "executors   6, each" in mrq(capfd, *SUBMIT, "--dry-run")[0]
    assert "executors   6, each" in mrq(capfd, *SUBMIT, "--dry-run", "-j", "9")[0]
    assert "executors   2, each" in mrq(capfd, *SUBMIT, "--dry-run", "--max-running", "2")[0]
    engine.slots = 0
    assert "executors   0, each" in mrq(capfd, *SUBMIT, "--dry-run", "-j", "2")[0]


def test_a_dry_run_that_is_refused_is_told_as_a_submit_is(engine, capfd):
    engine.outcome = OutputError("out exists; choose another output")
    out, err = mrq(capfd, *SUBMIT, "--dry-run", "--json", expect=2)
    assert "out exists" in err
    told = json.loads(out)
    assert (told["status"], told["engine"], told["job"], told["output"]) == (
        "refused",
        "cluster",
        None,
        "out",
    )


def test_the_environment_and_mrq_toml_choose_a_cluster(engine, capfd, tmp_path, monkeypatch):
    (tmp_path / "mrq.toml").write_text('cluster = "prod"\n' + TOML)
    assert mrq(capfd, *SUBMIT[:-2])[1].startswith(WHERE)
    monkeypatch.setenv("MRQ_AMQP_URL", "amqp://r")
    monkeypatch.setenv("MRQ_REDIS_URL", "redis://:hidden@other")
    assert mrq(capfd, *SUBMIT[:-2])[1].startswith("cluster, state in redis://:***@other:6379/0")
    assert mrq(capfd, *SUBMIT)[1].startswith(WHERE)
    assert mrq(capfd, *SUBMIT[:-1], "local")[1].startswith("embedded: ")
    monkeypatch.delenv("MRQ_AMQP_URL")
    err = mrq(capfd, *SUBMIT[:-2], expect=2)[1]
    assert "MRQ_REDIS_URL is set and MRQ_AMQP_URL isn't" in err
    assert len(err.splitlines()) == 1


def test_json_names_the_engine(engine, capfd):
    out, _ = mrq(capfd, *SUBMIT, "--json")
    told = json.loads(out)
    assert (told["engine"], told["cluster"], told["status"]) == ("cluster", "prod", "done")
    engine.outcome = JobFailed("m-00000 failed", job="j-1")
    told = json.loads(mrq(capfd, *SUBMIT, "--json", expect=1)[0])
    assert (told["engine"], told["status"], told["error"]["type"]) == ("cluster", "failed", "JobFailed")


def test_notes_are_printed_and_in_the_json(engine, capfd):
    engine.notes = ["a.gz is read as one split: it can't be cut", "no workers yet: waiting"] * 2
    out, err = mrq(capfd, *SUBMIT, "--json")
    assert json.loads(out)["notes"] == engine.notes[:2]
    assert err.count("note: no workers yet: waiting\n") == 2
    engine.outcome = JobFailed("m-00000 failed", job="j-1")
    assert json.loads(mrq(capfd, *SUBMIT, "--json", expect=1)[0])["notes"] == engine.notes[:2]


def test_a_failed_job_names_the_retry_that_finds_it(engine, capfd):
    engine.outcome = JobFailed("m-00000 failed", job="j-1")
    _, err = mrq(capfd, *SUBMIT, expect=1)
    assert f"mrq retry {engine.drafted.spec.job} --cluster prod" in err


def test_a_detached_job_is_left_with_its_id_printed(engine, capfd):
    engine.outcome = None
    out, err = mrq(capfd, *SUBMIT, "--detach")
    job = engine.drafted.spec.job
    assert out == f"{job}\n"
    assert f"mrq wait {job} --cluster prod" in err
    assert engine.wait_given is False
    told = json.loads(mrq(capfd, *SUBMIT, "--detach", "--json")[0])
    assert (told["status"], told["job"]) == ("submitted", engine.drafted.spec.job)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([*SUBMIT[:-2], "--detach"], "--detach leaves a job to its cluster"),
        ([*SUBMIT[:-1], "prdo"], "there is no profile 'prdo'"),
        (["status", "j-1"], "mrq status asks a cluster, and none is named"),
        (["wait", "--cluster", "prod"], "mrq wait takes one JOB; 0 are given"),
        (["workers", "drain", "--cluster", "prod"], "mrq workers drain takes one WORKER"),
        (["workers", "a", "b", "--cluster", "prod"], "mrq workers takes one WORKER, or one of drain"),
        (["jobs", "j-1", "--cluster", "prod"], "mrq jobs takes no words"),
        (["config", "x"], "mrq config takes no words"),
        (["submit", "wc.py", "a", "-o", "o", "--cluster", "amqp://u:hidden@h"], "names a RabbitMQ"),
    ],
)
def test_wrong_use_is_one_sentence(engine, capfd, argv, said):
    _, err = mrq(capfd, *argv, expect=2)
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "error", [UsageError("no job j-2; did you mean 'j-1'?"), OperatorError("nobody answers")]
)
def test_what_the_leader_refuses_is_told(engine, capfd, error):
    engine.answers["status"] = error
    code = 2 if isinstance(error, UsageError) else 1
    assert str(error) in mrq(capfd, "status", "j-2", "--cluster", "prod", expect=code)[1]


def finished(folder):
    """A finished output of one part."""
    part = StagedFile(name="p", final="part-00000", records=1, bytes=4, crc32=zlib.crc32(b"a\t1\n"))
    manifest = Manifest(
        job="j-1", name="J", code="", parameters={}, inputs=(), input_files=1, input_bytes=1, format="text",
        compression=None, reducers=1, counters={}, parts=(part,),
    )  # fmt: skip
    folder.mkdir()
    (folder / "part-00000").write_bytes(b"a\t1\n")
    (folder / "_SUCCESS").write_bytes(dump_manifest(manifest))
    return str(folder)


def test_wait_prints_a_result_without_out_and_ends_as_the_submit_would(engine, capfd, tmp_path):
    engine.outcome = Result(private=True)
    engine.outcome.output = finished(tmp_path / "out")
    out, err = mrq(capfd, "wait", "j-1", "--cluster", "prod")
    assert out == "a\t1\n"
    assert "done in" in err
    engine.outcome = Interrupted("job j-1 was cancelled")
    assert "job j-1 was cancelled" in mrq(capfd, "wait", "j-1", "--cluster", "prod", expect=1)[1]


def test_retry_goes_to_the_cluster_for_what_is_not_here(engine, capfd, tmp_path):
    engine.answers["retry"] = {"state": "running"}
    mrq(capfd, "retry", "j-1", "--cluster", "prod")
    assert engine.asked == [("retry", {"job": "j-1", "reason": "retried by the user"})]
    (tmp_path / "tmp" / f"mrq-{__import__('os').getuid()}" / "jobs" / "j-1").mkdir(parents=True)
    (tmp_path / "mrq.toml").write_text('cluster = "prod"\n' + TOML)
    mrq(capfd, "retry", "j-1", expect=2)
    assert len(engine.asked) == 1


def test_cancel_waits_until_the_job_is_over(engine, capfd):
    engine.answers["cancel"] = {"state": "running"}
    engine.outcome = Interrupted("job j-1 was cancelled")
    assert "j-1 is cancelled" in mrq(capfd, "cancel", "j-1", "--cluster", "prod")[1]
    engine.answers["cancel"] = {"state": "done"}
    out, err = mrq(capfd, "cancel", "j-1", "--cluster", "prod", "--json", expect=1)
    assert "j-1 was done already" in err
    assert (json.loads(out)["status"], json.loads(out)["exit_code"]) == ("done", 1)


def interrupt_when_waiting(monkeypatch):
    """Ctrl-C at the third look at the job."""
    wait, looks = Handle.wait, iter(range(1000))

    def waiting(self, timeout_s=None):
        if next(looks) == 2:
            signal.raise_signal(signal.SIGINT)
        return wait(self, min(timeout_s or 0, 0.01))

    monkeypatch.setattr(Handle, "wait", waiting)


@pytest.mark.parametrize(
    ("on_cancel", "fate"),
    [
        (Interrupted("cancelled"), "job {} is cancelled"),
        (None, "job {} was asked to end; `mrq status {} --cluster prod` shows when it has"),
        (OperatorError("no Redis"), "job {} goes on, since the cluster couldn't be told: no Redis"),
    ],
)
def test_ctrl_c_cancels_the_job_and_says_so(engine, capfd, monkeypatch, on_cancel, fate):
    engine.outcome, engine.on_cancel = None, on_cancel
    interrupt_when_waiting(monkeypatch)
    _, err = mrq(capfd, *SUBMIT, expect=130)
    job = engine.drafted.spec.job
    assert f"cancelling {job} (once more to leave at once)" in err
    assert f"interrupted by Ctrl-C; {fate.format(job, job)}" in err
    assert engine.asked == [("cancelled", job)]


def test_ctrl_c_leaves_a_job_that_was_only_waited_for(engine, capfd, monkeypatch):
    engine.outcome = None
    interrupt_when_waiting(monkeypatch)
    _, err = mrq(capfd, "wait", "j-1", "--cluster", "prod", expect=130)
    assert "interrupted by Ctrl-C; job j-1 goes on" in err
    assert engine.asked == []


def test_a_job_that_is_done_when_it_is_cancelled_is_done(engine, capfd, monkeypatch):
    engine.outcome = None
    interrupt_when_waiting(monkeypatch)
    monkeypatch.setattr(engine, "_cancel", lambda job: engine.handed.finish(Result(), None))
    assert "done in" in mrq(capfd, *SUBMIT)[1]


ATTEMPT = AttemptInfo(
    job="wordcount-0a1b2c3d",
    task="m-00042",
    stage="map",
    ticket=1,
    number=2,
    role=Role.BACKUP,
    worker="worker-1",
    state="running",
    phase="mapping",
    fraction=0.5,
    records=12345,
    bytes=3 << 20,
    started_at=1000.0,
)
JOB = JobInfo(
    job="wordcount-0a1b2c3d",
    name="WordCount",
    state=JobState.RUNNING,
    stages=(
        StageInfo(name="map", total=1200, completed=17, running=4, idle=1179, records_in=10**6),
        StageInfo(name="reduce", total=10, idle=10),
    ),
    output="/data/a/rather/long/path/to/the/output/of/this/job",
    submitted_at=900.0,
    started_at=901.0,
)
ERROR = ErrorInfo(
    task="m-00007",
    worker="w2",
    error=ErrorReport(type="ValueError", message="no\nmore", path="a", offset=9),
)
STATUS = replace(
    JOB,
    inputs=("/data/in",),
    attempts=(ATTEMPT,) * 25,
    errors=(ERROR,),
    counters={"lines": 3},
    failures=1,
    waits_for="no worker has numpy",
)


def status(info=STATUS):
    return {"jobs": [info], "now": 1010.0}


def test_jobs_are_whole_in_a_pipe_and_take_what_is_missing_as_zero(engine, capfd):
    done = JobInfo(job="done-1", state=JobState.DONE, submitted_at=5.0, started_at=6.0, finished_at=9.0)
    engine.answers["jobs"] = {"jobs": [done, JOB], "now": 1010.0}
    out, err = mrq(capfd, "jobs", "--cluster", "prod")
    header, first, second = out.splitlines()
    assert header.split()[:4] == ["JOB", "STATE", "MAPS", "REDUCES"]
    assert first.startswith("wordcount-0a1b2c3d  running  17/1,200     0/10")
    assert second.startswith("done-1")
    assert first.endswith(JOB.output)
    assert "\x1b" not in out
    assert err == ""
    told = json.loads(mrq(capfd, "jobs", "--cluster", "prod", "--json")[0])["jobs"]
    assert [row["job"] for row in told] == [JOB.job, "done-1"], "the order of the table"
    assert told[1]["stages"] == []
    engine.answers["jobs"] = {"jobs": []}
    assert "no jobs" in mrq(capfd, "jobs", "--cluster", "prod")[0]


def test_of_several_stages_it_is_said_which(engine, capfd):
    stages = (
        StageInfo(name="map", total=3, completed=3, stage=1),
        StageInfo(name="reduce", total=2, completed=2, stage=1),
        StageInfo(name="map", total=7, completed=1, stage=2),
    )
    job = replace(JOB, stages=stages)
    engine.answers["jobs"] = {"jobs": [job, replace(job, job="b", state=JobState.FAILED)], "now": 1010.0}
    _, first, second = mrq(capfd, "jobs", "--cluster", "prod")[0].splitlines()
    assert "running, stage 2" in first
    assert "failed  " in second
    engine.answers["status"] = status(job)
    table = [line.split() for line in mrq(capfd, "status", JOB.job, "--cluster", "prod")[0].splitlines()]
    shown = [line[:4] for line in table if line[:1] in (["map"], ["reduce"])]
    assert shown == [["map", "1", "3", "3"], ["reduce", "1", "2", "2"], ["map", "2", "7", "1"]]


def test_a_status_shows_stages_attempts_errors_and_counters(engine, capfd):
    engine.answers["status"] = status()
    out, _ = mrq(capfd, "status", JOB.job, "--cluster", "prod")
    assert max(map(len, out.splitlines())) <= 80
    for said in (
        "running, for 1 min 49 s",
        "waits      no worker has numpy",
        "charged    1 failure",
        "m-00042  1.2 backup",
        "50%",
        "… and 5 more",
        "ValueError: no",
        "a at byte 9",
        "lines        3",
    ):
        assert said in out
    told = json.loads(mrq(capfd, "status", JOB.job, "--cluster", "prod", "--json")[0])
    info = told["info"]
    assert (info["state"], told["status"], told["now"], len(info["attempts"])) == (
        "running",
        "status",
        1010,
        25,
    )
    assert (info["tasks"], engine.asked[-1]) == ([], ("status", {"job": JOB.job}))


def test_every_task_is_listed_where_that_is_asked_for(engine, capfd):
    task = TaskInfo(task="m-00003", state=TaskState.COMPLETED, number=1, ticket=2, worker="w-1", failures=1)
    engine.answers["status"] = status(replace(STATUS, tasks=(task,)))
    out, _ = mrq(capfd, "status", JOB.job, "--tasks", "--cluster", "prod")
    assert engine.asked[-1] == ("status", {"job": JOB.job, "tasks": True})
    assert "m-00003  completed  2.1      w-1            1" in out


def test_a_watched_status_is_shown_before_and_after(engine, capfd):
    engine.answers["status"] = status()
    out, _ = mrq(capfd, "status", JOB.job, "--watch", "--cluster", "prod")
    assert out.count("job        wordcount-0a1b2c3d (WordCount)") == 2


WORKER = WorkerInfo(
    worker="worker-1",
    boot="b00t",
    address="10.0.0.7:7070",
    beating=True,
    health=WorkerHealth.ALIVE,
    map_slots=2,
    reduce_slots=1,
    map_used=1,
    hints={"cpus": 2, "memory_bytes": 4 << 30, "disk_bytes": 9 << 30},
    attempts=(ATTEMPT,),
    outputs=(OutputInfo(job="j-1", task="m-00001", bytes=5 << 20),),
    outputs_count=1,
    outputs_bytes=5 << 20,
    completed=1234,
    silent_s=0.4,
    disk_used=6 << 20,
    disk_quota=1 << 30,
    version="0.2.0",
    python="3.13.1",
    packages={"numpy": "2.1"},
    debug="MRQ_DEBUG: after 3 tasks",
    leader="m1 (epoch 4)",
    full="disk quota reached: no maps",
    notes=("the broker blocks",),
)


def test_workers_are_listed_and_shown_one_by_one(engine, capfd):
    engine.answers["workers"] = {"leader": "m1 (epoch 4)", "workers": [WORKER], "now": 1010.0}
    out, _ = mrq(capfd, "workers", "--cluster", "prod")
    assert max(map(len, out.splitlines())) <= 80
    assert "leader m1 (epoch 4)" in out
    assert "worker-1  alive   1/2" in out
    out, _ = mrq(capfd, "workers", "worker-1", "--cluster", "prod")
    for said in (
        "boot b00t",
        "full       disk quota reached: no maps",
        "notes      the broker blocks",
        "2 cores, 4.0 GiB memory",
        "1,234 tasks",
        "numpy 2.1",
        "after 3 tasks",
        "m-00001",
    ):
        assert said in out
    assert engine.asked[-1] == ("workers", {"worker": "worker-1"})
    told = json.loads(mrq(capfd, "workers", "--cluster", "prod", "--json")[0])
    assert told["workers"][0]["packages"] == {"numpy": "2.1"}
    engine.answers["workers"] = {"workers": []}
    assert "no workers: start some" in mrq(capfd, "workers", "--cluster", "prod")[0]


UNWELL = WorkerInfo(
    worker="worker-2",
    health=WorkerHealth.QUARANTINED,
    since=710.0,
    reason="an operator put it there",
    ends="mrq workers readmit worker-2",
)


def test_the_living_stand_before_the_dead_and_the_latest_of_those_first(engine, capfd):
    """Also where workers are made anew under other names."""
    dead = [replace(UNWELL, worker=f"a{n}", health=WorkerHealth.DEAD, silent_s=100.0 - n) for n in range(3)]
    engine.answers["workers"] = {"leader": "m1", "workers": [*dead, UNWELL, WORKER], "now": 1010.0}
    out, _ = mrq(capfd, "workers", "--cluster", "prod")
    names = ["worker-1", "worker-2", "a2", "a1", "a0"]
    assert [line.split()[0] for line in out.splitlines()[2:7]] == names
    told = json.loads(mrq(capfd, "workers", "--cluster", "prod", "--json")[0])
    assert [row["worker"] for row in told["workers"]] == names


def test_a_worker_that_isnt_well_says_why_since_when_and_how_it_ends(engine, capfd):
    engine.answers["workers"] = {"leader": "m1", "workers": [WORKER, UNWELL], "now": 1010.0}
    out, _ = mrq(capfd, "workers", "--cluster", "prod")
    assert "worker-2 is quarantined for 5 min 0 s: an operator put it there" in out
    assert "ends: mrq workers readmit worker-2" in out
    assert "worker-1 is" not in out  # it has nothing to say
    out, _ = mrq(capfd, "workers", "worker-2", "--cluster", "prod")
    for said in ("5 min 0 s ago", "reason     an operator put it there", "ends       mrq workers readmit"):
        assert said in out, out


def test_an_order_to_a_worker_says_how_it_is_then(engine, capfd):
    engine.answers["quarantine"] = {"worker": "w1", "health": "quarantined"}
    _, err = mrq(capfd, "workers", "quarantine", "w1", "--cluster", "prod")
    assert "worker w1 is quarantined now" in err
    assert engine.asked == [("quarantine", {"worker": "w1"})]


def log(task, number, status, **more):
    return LogInfo(task=task, ticket=1, number=number, worker="w1", status=status, **more)


LOGS = [
    log("m-00000", 1, "done", tail="fine\n"),
    log("m-00001", 1, "failed", tail="first try\n", missing="worker w1 is gone"),
    log("m-00001", 2, "failed", tail="end\n", blob="d1"),
    log("m-00002", 1, "lost", tail="x\n", blob="gone"),
    log("m-00002", 2, "done", tail="well\n"),
]


def test_logs_are_those_of_failed_attempts_unless_a_task_is_named(engine, capfd):
    engine.answers["logs"] = {"logs": LOGS}
    out, err = mrq(capfd, "logs", "j-1", "--cluster", "prod")
    assert out == "first\nall of it\nx\n"
    assert "m-00001 attempt 1.2 on w1: failed" in err
    out, err = mrq(capfd, "logs", "j-1", "--all", "--cluster", "prod")
    assert out == "fine\nfirst try\nfirst\nall of it\nx\nwell\n"
    assert "the end only: worker w1 is gone" in err
    engine.answers["logs"] = {"logs": LOGS[3:]}
    assert mrq(capfd, "logs", "j-1", "m-00002", "--cluster", "prod")[0] == "well\n"
    assert engine.asked[-1] == ("logs", {"job": "j-1", "task": "m-00002"})
    told = json.loads(mrq(capfd, "logs", "j-1", "m-00002", "--json", "--cluster", "prod")[0])
    assert [(each["text"], each["whole"]) for each in told["logs"]] == [("well\n", True)]


def test_logs_of_a_good_job_that_printed_nothing_are_one_line(engine, capfd):
    engine.answers["logs"] = {"logs": [log(f"m-{n:05d}", 1, "done") for n in range(120)]}
    out, err = mrq(capfd, "logs", "j-1", "--cluster", "prod")
    assert (out, err) == ("", "120 that went well printed nothing\n")
    engine.answers["logs"]["logs"][7] = log("m-00007", 1, "done", tail="said\n")
    out, err = mrq(capfd, "logs", "j-1", "--cluster", "prod")
    assert out == "said\n"
    assert err.splitlines() == ["m-00007 attempt 1.1 on w1: done", "119 that went well printed nothing"]
    gone = "its worker kept it as long as the job ran"
    engine.answers["logs"]["logs"] = [
        *(log(f"m-{n:05d}", 1, "done", missing=gone) for n in range(120)),
        log("r-00000", 1, "done", tail="said\n", missing="worker w1 is gone"),
        log("r-00001", 1, "done"),
    ]
    out, err = mrq(capfd, "logs", "j-1", "--cluster", "prod")
    assert out == "said\n"
    assert err.splitlines() == [
        "r-00000 attempt 1.1 on w1: done",
        "the end only: worker w1 is gone",
        f"no log of 120 that went well: {gone}",
        "1 that went well printed nothing",
    ]
    err = mrq(capfd, "logs", "j-1", "r-00000", "--cluster", "prod")[1]
    assert "r-00000 attempt 1.1 on w1: done" in err
    engine.answers["logs"] = {"logs": [log("m-00003", 1, "done")]}
    assert "it printed nothing" in mrq(capfd, "logs", "j-1", "m-00003", "--cluster", "prod")[1]


def test_config_shows_settings_with_their_sources(engine, capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("MRQ_KEEP_S", "2d")
    monkeypatch.setenv("MRQ_KEP_S", "2d")
    out, err = mrq(capfd, "config", "--cluster", "prod")
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert "amqp://ann:***@rabbit:5672" in lines["amqp_url"]
    assert lines["keep_s"].endswith("MRQ_KEEP_S")
    assert "did you mean 'MRQ_KEEP_S'?" in err
    told = json.loads(mrq(capfd, "config", "--cluster", "prod", "--json")[0])
    assert told["settings"]["redis_url"] == {
        "value": "redis://:***@redis:6380/1",
        "source": f"{tmp_path}/mrq.toml:4",
    }
    assert mrq(capfd, "config")[0].startswith("jobs run on this machine")


@pytest.mark.parametrize(
    ("call", "lacks"),
    [
        ("mrq.cli.app.run(['jobs', '--cluster', 'redis://127.0.0.1:1/0'])", "redis"),
        ("mrq.cli.app.run(['submit', __file__, __file__, '-o', '-', '--cluster', 'redis://h:1/0'])", "redis"),
        (
            "mrq.cli.roles.run_role('worker', [], lambda line, console: __import__('mrq.adapters.rabbitmq'))",
            "pika",
        ),
    ],
)
def test_a_missing_extra_names_the_command_that_installs_it(call, lacks, tmp_path):
    job = tmp_path / "job.py"
    job.write_text(
        "import mrq\nclass J(mrq.Job):\n    reduce = mrq.sum\n    def map(self, key, line): yield line, 1\n"
    )
    urls = {"MRQ_AMQP_URL": "amqp://h/", "MRQ_REDIS_URL": "redis://h/"}
    code = (
        f"import sys; sys.modules['{lacks}'] = None; __file__ = {str(job)!r}; "
        f"import mrq.cli.app, mrq.cli.roles; {call}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **urls, "MRQ_TMP": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert f"error: a cluster needs {lacks}, which isn't installed" in done.stderr
    assert "pip install 'mrq-mapreduce[cluster]'" in done.stderr
    assert "Traceback" not in done.stderr
