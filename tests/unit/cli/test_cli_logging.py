"""What is logged under `mrq`: shown once, by one handler, or by whatever a program has configured."""

import dataclasses
import io
import json
import logging
import os
import subprocess
import sys
import typing

import pytest

from mrq.cli.app import run
from mrq.cli.console import CONTEXT, Console
from mrq.cli.objects import LogLine
from mrq.cli.progress import Progress
from mrq.cli.roles import run_role
from mrq.core.info import StageInfo
from mrq.errors import OperatorError

LOG = logging.getLogger("mrq.master.service")
JOB = """
import gzip, logging, sys
import mrq

class Words(mrq.Job):
    reduce = mrq.sum
    def map(self, key, line):
        for word in line.split():
            yield word, 1
"""
#: A job that has a note, run by a program.
PROGRAM = """
from job import Words, logging, mrq, sys
{configured}
if __name__ == "__main__":
    result = mrq.run(Words(), ["in.gz", "in.txt"], executors=1)
    loaded = {{name.partition(".")[0] for name in sys.modules}}
    assert "rich" not in loaded, loaded
"""
NOTE = "in.gz is read as one split"


class Stream(io.StringIO):
    encoding = "utf-8"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    import gzip

    monkeypatch.chdir(tmp_path)
    for name in ("MRQ_AMQP_URL", "MRQ_REDIS_URL", "MRQ_CLUSTER", "MRQ_LOG_FORMAT", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MRQ_TMP", str(tmp_path / "tmp"))
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "in.txt").write_text("a b\n")
    with gzip.open(tmp_path / "in.gz", "wb") as file:
        file.write(b"a b\n" * 3)
    return tmp_path


def program(folder, configured):
    (folder / "program.py").write_text(PROGRAM.format(configured=configured))
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def command(folder, code, *argv):
    """`mrq ARGV` with pipes, then some code."""
    main = f"import sys; from mrq.cli import main; assert main(sys.argv[1:]) == 0; {code}"
    done = subprocess.run(
        [sys.executable, "-c", main, *argv], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def lines_of(*logged, **context):
    stream = Stream()
    console = Console(stream, role="mrq master: ", environ={})
    console.show(json=True)
    console.context.update(context)
    with console.listening():
        for log in logged:
            log()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_program_that_configures_nothing_sees_nothing(folder):
    assert program(folder, "") == ""


def test_a_program_that_configures_logging_sees_each_note_once_and_its_way(folder):
    said = program(folder, "logging.basicConfig(level='INFO', format='%(name)s|%(message)s')")
    assert said.count(NOTE) == 1
    assert f"mrq.notes|{NOTE}" in said
    assert program(folder, "logging.basicConfig(level='WARNING')") == ""


def test_the_root_logger_is_left_alone(folder):
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    assert run(["submit", "job.py", "in.gz", "-o", "out"]) == 0
    assert (root.level, list(root.handlers)) == before
    assert not any(isinstance(each, Console) for each in logging.getLogger("mrq").handlers)
    assert logging.getLogger("mrq").propagate


def test_a_job_file_that_configures_logging_has_nothing_said_twice(folder):
    (folder / "job.py").write_text(JOB + "\nlogging.basicConfig(level='DEBUG', stream=sys.stderr)\n")
    said = command(folder, "pass", "submit", "job.py", "in.gz", "-o", "out", "-j", "1")
    for once in (f"note: {NOTE}", "embedded: 1 executor,", "done in "):
        assert said.count(once) == 1
    assert "INFO:mrq" not in said


def test_a_command_that_draws_nothing_loads_no_rich(folder):
    loaded = "assert 'rich' not in sys.modules, 'rich is there'"
    command(folder, loaded, "submit", "job.py", "in.txt", "-o", "out", "-j", "1")
    command(folder, loaded, "submit", "job.py", "in.txt", "-o", "-", "--dry-run")
    done = subprocess.run([sys.executable, "-c", f"import mrq, sys; {loaded}"], check=False)
    assert done.returncode == 0


def test_a_line_of_json_has_the_documented_fields():
    hints = typing.get_type_hints(LogLine)
    known = {"job": "j-1", "task": "m-00042", "attempt": "1.2", "worker": "w", "boot": "b", "epoch": 3}

    def failed():
        try:
            raise ZeroDivisionError("oops")
        except ZeroDivisionError:
            LOG.exception("a bug")

    full, plain, bug = lines_of(
        lambda: LOG.warning("leading, epoch %d\x1b[31m", 3, extra=known),
        lambda: LOG.info("'数据'"),
        failed,
    )
    assert set(full) | {"traceback"} == set(hints) == set(bug) | set(CONTEXT)
    assert set(plain) == {field.name for field in dataclasses.fields(LogLine) if field.default is not None}
    for line in (full, plain, bug):
        for name, value in line.items():
            assert isinstance(value, hints[name]), name
    assert (full["level"], full["logger"]) == ("warning", "mrq.master.service")
    assert full["message"] == "leading, epoch 3\x1b[31m"
    assert {name: full[name] for name in CONTEXT} == known
    assert plain["message"] == "'数据'"
    assert bug["traceback"].endswith("ZeroDivisionError: oops")
    assert len(full["time"]) == len("2026-11-30T15:09:25.123Z")


def test_what_a_process_knows_of_itself_is_in_all_its_lines():
    mine, other = lines_of(
        lambda: LOG.info("a"), lambda: LOG.info("b", extra={"worker": "x"}), worker="w", boot="b-1"
    )
    assert (mine["worker"], mine["boot"]) == ("w", "b-1")
    assert (other["worker"], other["boot"]) == ("x", "b-1")


def test_json_is_one_line_whatever_is_said_and_whatever_the_encoding():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(stream, environ={})
    console.show(json=True)
    with console.listening():
        LOG.info("two\nlines, 数, %s", os.fsdecode(b"\xff"))
    (line,) = stream.buffer.getvalue().splitlines()
    assert json.loads(line)["message"] == "two\nlines, 数, \udcff"


def test_text_begins_with_the_role_but_for_errors_and_escapes_control_characters():
    stream = Stream()
    with Console(stream, role="mrq worker: ", environ={}).listening():
        LOG.info("taking tasks\x1b[2J")
        LOG.error("error: no server")
        logging.getLogger("other").error("not ours")
    assert stream.getvalue() == "mrq worker: taking tasks\\x1b[2J\nerror: no server\n"


def test_a_command_writes_json_where_that_is_asked_for(folder, monkeypatch):
    argv = ("submit", "job.py", "in.gz", "-o", "out", "--overwrite", "-j", "1")

    def told(*more):
        return [json.loads(line) for line in command(folder, "pass", *argv, *more).splitlines()]

    lines = told("--log-format", "json", "-v")
    assert {line["level"] for line in lines} == {"info", "debug"}
    ends = {line["task"]: line for line in lines if "attempt" in line}
    assert sorted(ends) == ["m-00000", "r-00000"]
    assert {name: ends["m-00000"][name] for name in ("attempt", "worker", "message")} == {
        "attempt": "1.1",
        "worker": "local",
        "message": "m-00000 is done",
    }
    assert [line["message"].rpartition(" ")[2] for line in lines if "epoch" in line] == ["committing", "done"]
    assert all(line.keys() <= typing.get_type_hints(LogLine).keys() for line in lines)
    (note,) = (line for line in lines if line["logger"] == "mrq.notes")
    assert note["message"].startswith(NOTE)
    assert note["job"]
    assert any(line["message"].startswith("done in ") for line in lines)
    monkeypatch.setenv("MRQ_LOG_FORMAT", "json")
    assert any(line["message"].startswith("embedded: 1 executor") for line in told())
    assert "embedded: 1 executor" in command(folder, "pass", *argv, "--log-format=text").splitlines()[0]


def test_an_error_is_one_object(folder, capfd):
    assert run(["submit", "job.py", "nowhere.txt", "-o", "out", "--log-format", "json"]) == 2
    (line,) = capfd.readouterr().err.splitlines()[1:]
    assert json.loads(line)["level"] == "error"
    assert "nowhere.txt" in json.loads(line)["message"]


@pytest.mark.parametrize(("argv", "environ"), [(["--log-format", "xml"], ""), ([], "xml")])
def test_another_format_is_refused(folder, capfd, monkeypatch, argv, environ):
    monkeypatch.setenv("MRQ_LOG_FORMAT", environ)
    assert run(["submit", "job.py", "in.txt", "-o", "out", *argv]) == 2
    err = capfd.readouterr().err
    assert f"{'--log-format' if argv else 'MRQ_LOG_FORMAT'} xml: log_format must be one of text, json" in err


@pytest.mark.parametrize("asked", ["--log-format=json", "mrq.toml"])
def test_a_role_writes_json_where_its_settings_say_so(folder, capfd, asked):
    (folder / "mrq.toml").write_text('log_format = "json"\n' if asked == "mrq.toml" else "")

    def serve(line, console):
        console.context.update(worker="w1", boot="b1")
        logging.getLogger("mrq.worker").info("taking tasks")
        raise OperatorError("no server")

    argv = ["--amqp-url", "amqp://r/v", "--redis-url", "redis://q", *([asked] if asked != "mrq.toml" else [])]
    assert run_role("worker", argv, serve) == 1
    taking, error = (json.loads(line) for line in capfd.readouterr().err.splitlines())
    assert (taking["message"], taking["worker"], taking["boot"]) == ("taking tasks", "w1", "b1")
    assert (error["level"], error["message"]) == ("error", "error: no server")


def test_progress_is_lines_of_json_on_a_terminal_too():
    class Screen(Stream):
        def isatty(self):
            return True

    stream, now = Screen(), [0.0]
    console = Console(stream, environ={"TERM": "xterm"})
    console.show(json=True)
    with console.listening():
        shown = Progress(console, clock=lambda: now[0])
        for _ in range(3):
            now[0] += 2.0
            shown.update([StageInfo(name="map", total=4, completed=1, attempts=1)])
    lines = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert lines == ["map 1/4 tasks, 1 running"]
