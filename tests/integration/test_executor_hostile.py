"""What user code does to its process: none of it breaks or hangs the agent, and each ends under its name."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_runs import AgentRun, alive, open_fds, wait_for

from mrq.core.model import Outcome, Status
from mrq.worker import attempt_logs

LINES = ["one", "two", "three"]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[AgentRun]:
    """An agent, checked for leaks at the end."""
    before = open_fds()
    with AgentRun(tmp_path) as agent:
        yield agent
        # Whatever the test has done, the next job finds a worker that works.
        agent.add(
            "class T(mrq.Job):\n    reduce = mrq.sum\n    def map(self, k, v):\n        yield v, 1\n",
            LINES,
            job="after",
        )
        told = len(agent.reports(0))
        agent.publish(job="after")
        last = agent.reports(told + 1)[-1]
        assert (last.attempt.task.job, last.outcome.status) == ("after", Status.DONE)
    assert open_fds() == before
    assert not [name for name in agent.files() if "/scratch/" in name]


def body(statements: str) -> str:
    """A job whose map does this at the line "two"."""
    indented = "\n".join("            " + line for line in statements.splitlines())
    return (
        "class T(mrq.Job):\n    reduce = mrq.sum\n    def map(self, key, line):\n"
        f"        if line == 'two':\n{indented}\n        yield line, 1\n"
    )


def outcome(run: AgentRun, statements: str, **changes: object) -> Outcome:
    run.add(body(statements), LINES, **changes)
    run.publish()
    return run.outcome()


def failure(run: AgentRun, statements: str, status: Status, **changes: object) -> Outcome:
    """The outcome, which names the record at hand and a log that is still there."""
    told = outcome(run, statements, **changes)
    assert told.status is status, told
    assert told.error is not None
    assert (told.error.path, told.error.offset, told.error.record) == ("in.txt", 4, "'two'")
    assert told.error.log_path is not None
    assert Path(told.error.log_path).exists()
    assert not [name for name in run.files() if "/maps/" in name]
    return told


def test_sys_exit_is_a_failure(run: AgentRun) -> None:
    told = failure(run, "sys.exit(4)", Status.FAILED)
    assert told.error is not None
    assert told.error.type == "SystemExit"
    assert "sys.exit(4)" in told.error.frames


def test_os_exit_is_a_loss_with_its_code(run: AgentRun) -> None:
    told = failure(run, "print('last words')\nos._exit(3)", Status.LOST)
    assert told.error is not None
    assert told.error.type == "exit code 3"
    assert told.error.log_tail == "last words"
    assert told.error.peak_rss_bytes > 1 << 20


def test_kill_9_is_a_loss_with_its_signal(run: AgentRun) -> None:
    told = failure(run, "os.kill(os.getpid(), signal.SIGKILL)", Status.LOST)
    assert told.error is not None
    assert told.error.type == "killed by signal 9 (SIGKILL)"
    assert told.started


def test_a_crash_in_c_shows_the_users_stack(run: AgentRun) -> None:
    told = failure(run, "import ctypes\nctypes.string_at(0)", Status.LOST)
    assert told.error is not None
    assert told.error.type == "killed by signal 11 (SIGSEGV)"
    assert "j_job.py" in told.error.frames
    assert "ctypes.string_at(0)" in told.error.frames
    assert "executor.py" not in told.error.frames


def test_endless_recursion_in_python_is_a_failure(run: AgentRun) -> None:
    told = failure(run, "def f(): return f()\nf()", Status.FAILED)
    assert told.error is not None
    assert told.error.type == "RecursionError"


def test_endless_recursion_in_c_is_a_loss(run: AgentRun) -> None:
    code = "sys.setrecursionlimit(10**9)\ndef g(): return sorted([1, 2], key=lambda _: g())\ng()"
    told = failure(run, code, Status.LOST)
    assert told.error is not None
    assert told.error.type == "killed by signal 11 (SIGSEGV)"


def test_an_exception_that_cannot_be_shown_is_a_failure(run: AgentRun) -> None:
    code = (
        "class Odd(Exception):\n    def __str__(self): raise ValueError('no')\n"
        "    def __reduce__(self): raise ValueError('never')\nraise Odd(threading.Lock())"
    )
    told = failure(run, code, Status.FAILED)
    assert told.error is not None
    assert told.error.type == "Odd"


@pytest.mark.parametrize("call", ["input('?')", "breakpoint()"])
def test_asking_a_terminal_fails_by_name(run: AgentRun, call: str) -> None:
    told = failure(run, call, Status.FAILED)
    assert told.error is not None
    assert call.split("(")[0] in told.error.message
    assert "no terminal" in told.error.message


def test_closing_the_standard_descriptors_is_survived(run: AgentRun) -> None:
    code = "for fd in (0, 1, 2): os.close(fd)\nsys.stdout = sys.stderr = None"
    assert outcome(run, code).status is Status.DONE
    run.publish(ticket=2)  # the same process goes on, with streams again
    assert run.reports(2)[1].outcome.status is Status.DONE


def test_closing_every_descriptor_is_a_loss_by_name(run: AgentRun) -> None:
    told = outcome(run, "os.closerange(0, 10000)")
    assert told.status is Status.LOST
    assert told.error is not None
    assert "close file descriptors" in told.error.message


def test_writing_to_the_protocol_is_a_loss_by_name(run: AgentRun) -> None:
    code = (
        "for fd in range(3, 5000):\n    try: os.write(fd, b'rubbish' * 10)\n    except OSError: pass\n"
        "time.sleep(9)"
    )
    told = outcome(run, code)
    assert told.status is Status.LOST
    assert told.error is not None
    assert "messages can't be understood" in told.error.message


def test_a_forged_answer_is_a_loss_by_name(run: AgentRun) -> None:
    code = (
        "from mrq.worker import protocol\n"
        "frame = protocol.encode({'op': 'outcome', 'token': 'other', 'outcome': [], 'retire': False})\n"
        "for fd in range(64, 5000):\n    try: os.write(fd, frame)\n    except OSError: pass\ntime.sleep(9)"
    )
    told = outcome(run, code)
    assert told.status is Status.LOST
    assert told.error is not None
    assert "an answer about 'other'" in told.error.message


def test_a_flood_of_output_is_cut_and_its_end_is_shown(run: AgentRun) -> None:
    code = "for n in range(120000): print('x' * 80)\nprint('the end')\nraise ValueError('full')"
    told = failure(run, code, Status.FAILED)
    assert told.error is not None
    assert told.error.log_path is not None
    assert told.error.log_tail.endswith("the end")
    assert Path(told.error.log_path).stat().st_size <= attempt_logs.LOG_BYTES_MAX
    assert "bytes left out here" in Path(told.error.log_path).read_text()


def test_a_forked_child_that_comes_back_ends(run: AgentRun) -> None:
    code = "if os.fork():\n    _, status = os.wait()\n    yield 'status', os.WEXITSTATUS(status)"
    told = outcome(run, code)
    assert told.status is Status.DONE
    assert told.result is not None
    assert told.result.records_emitted == 4  # three lines and the status: the child's came nowhere
    assert told.result.records_in == 3


def test_a_forked_child_that_raises_ends(run: AgentRun) -> None:
    code = "if os.fork() == 0: raise ValueError('in the child')\nos.wait()"
    assert outcome(run, code).status is Status.DONE


def test_multiprocessing_works(run: AgentRun) -> None:
    code = (
        "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    yield 'sum', sum(pool.map(abs, [-1, -2]))"
    )
    told = outcome(run, code)
    assert told.status is Status.DONE
    assert told.result is not None
    assert told.result.records_emitted == 4


def test_children_and_threads_that_outlive_the_attempt_end_with_the_executor(
    run: AgentRun, tmp_path: Path
) -> None:
    code = (
        "own = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "child = subprocess.Popen(['sleep', '60'])\nforked = os.fork()\n"
        "if not forked:\n    time.sleep(60)\n    os._exit(0)\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        f"with open({str(tmp_path / 'pids')!r}, 'w') as file:\n"
        "    print(os.getpid(), own.pid, child.pid, forked, file=file)"
    )
    assert outcome(run, code).status is Status.DONE
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    assert all(map(alive, pids))
    run.drop()
    wait_for(lambda: not any(map(alive, pids)))


def test_children_that_hold_the_pipes_do_not_hide_a_death(run: AgentRun, tmp_path: Path) -> None:
    code = (
        "forked = os.fork()\nif not forked:\n    time.sleep(60)\n    os._exit(0)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(forked))\nos._exit(5)"
    )
    told = failure(run, code, Status.LOST)
    assert told.error is not None
    assert told.error.type == "exit code 5"
    wait_for(lambda: not alive(int((tmp_path / "pid").read_text())))


@pytest.mark.parametrize(
    "hang",
    [
        "time.sleep(60)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\nwhile True: pass",
        "os.kill(os.getpid(), signal.SIGSTOP)",
    ],
)
def test_silence_kills(run: AgentRun, hang: str) -> None:
    told = failure(run, hang, Status.TIMED_OUT, progress_timeout_s=0.7)
    assert told.error is not None
    assert told.error.type == "no progress for 0.7 s"
    if "sleep" in hang:
        assert "j_job.py" in told.error.frames
        assert "time.sleep(60)" in told.error.frames


def test_sigterm_to_itself_is_a_loss(run: AgentRun) -> None:
    told = failure(run, "os.kill(os.getpid(), signal.SIGTERM)", Status.LOST)
    assert told.error is not None
    assert told.error.type == f"killed by signal {int(signal.SIGTERM)} (SIGTERM)"


def test_sigint_is_ignored(run: AgentRun) -> None:
    assert outcome(run, "os.kill(os.getpid(), signal.SIGINT)").status is Status.DONE


def test_code_that_raises_at_import_fails_the_attempt(run: AgentRun) -> None:
    run.add("x = 1 / 0\nclass T(mrq.Job):\n    def map(self, k, v): yield k, v\n", LINES)
    run.publish()
    told = run.outcome()
    assert told.status is Status.FAILED
    assert told.error is not None
    assert told.error.type == "ZeroDivisionError"
    assert "x = 1 / 0" in told.error.frames


@pytest.mark.parametrize(("code", "kind"), [("os._exit(9)", Status.LOST), ("sys.exit(9)", Status.FAILED)])
def test_code_that_exits_at_import(run: AgentRun, code: str, kind: Status) -> None:
    run.add(f"{code}\n", LINES)
    run.publish()
    told = run.outcome()
    assert told.status is kind
    assert told.started


def test_code_that_hangs_at_import(run: AgentRun) -> None:
    run.add("time.sleep(60)\n", LINES, progress_timeout_s=0.3)
    run.publish()
    assert run.outcome().status is Status.TIMED_OUT
