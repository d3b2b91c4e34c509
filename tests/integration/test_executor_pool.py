"""The pool: who is taken for what, and that nobody is left."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from agent_runs import alive, open_fds, wait_for

from mrq.worker import protocol
from mrq.worker.pool import ExecutorProcess, Pool


@pytest.fixture
def pool() -> Iterator[Pool]:
    before = open_fds()
    made = Pool()
    yield made
    made.close()
    assert open_fds() == before


def ready(executor: ExecutorProcess) -> ExecutorProcess:
    select.select([executor.read], [], [], 10)
    assert executor.receive() == [{"op": protocol.READY}]
    return executor


def test_warm_before_blank_before_new(pool: Pool) -> None:
    pool.prewarm(2)
    assert len(pool) == 2
    first, second = pool.take("a"), pool.take("b")
    third = pool.take("c")
    assert len({first.pid, second.pid, third.pid}) == 3
    assert len(pool) == 3
    for executor in (first, second, third):
        pool.put_back(executor)
    assert pool.take("b") is second
    assert pool.take("a") is first
    assert pool.take("a") not in (first, second, third)  # c's is c's


def test_prewarm_counts_who_is_there(pool: Pool) -> None:
    executor = pool.take("a")
    pool.prewarm(2)
    pool.prewarm(1)
    assert len(pool) == 2
    pool.put_back(executor)


def test_a_code_that_is_dropped_gives_up_its_executors(pool: Pool) -> None:
    executor, other = pool.take("a"), pool.take("b")
    pool.put_back(executor)
    pool.put_back(other)
    pool.release("a")
    assert pool.take("a") is executor
    pool.put_back(executor)
    pool.drop("a")
    wait_for(lambda: not alive(executor.pid))
    pool.reap()
    assert len(pool) == 1
    assert pool.take("b") is other


def test_other_jobs_executors_make_room(pool: Pool) -> None:
    pool.limit = 1
    old, middle = pool.take("a"), pool.take("b")
    pool.put_back(old)
    pool.put_back(middle)
    pool.take("c")
    wait_for(lambda: not alive(old.pid))
    assert alive(middle.pid)


def test_one_that_died_while_it_was_idle_is_passed_over(pool: Pool) -> None:
    pool.prewarm(1)
    executor = pool.take("a")
    select.select([executor.read], [], [], 10)  # it has come up; nobody has read that yet
    pool.put_back(executor)
    os.kill(executor.pid, signal.SIGKILL)
    wait_for(lambda: not alive(executor.pid))
    other = pool.take("a")
    assert other is not executor
    assert alive(other.pid)


def test_an_executor_ends_with_its_pipe(pool: Pool) -> None:
    executor = ready(pool.take("a"))
    replaced = os.dup(executor.write)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, executor.write, inheritable=False)
    os.close(null)
    os.close(replaced)
    ended = executor.wait(5)
    assert ended is not None
    assert ended.code == 0


def test_a_closed_pool_starts_nothing(pool: Pool) -> None:
    pool.prewarm(1)
    pool.close()
    with pytest.raises(OSError, match="being ended"):
        pool.take("a")
    pool.prewarm(1)
    assert len(pool) == 0


def test_closing_from_several_threads(pool: Pool) -> None:
    pool.prewarm(2)
    pids = [executor.pid for executor in pool._idle]
    threads = [threading.Thread(target=pool.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(map(alive, pids))


def test_a_child_that_somebody_else_reaps_is_still_told(pool: Pool) -> None:
    executor = pool.take("a")
    os.kill(executor.pid, signal.SIGKILL)
    os.waitpid(executor.pid, 0)
    ended = executor.wait(5)
    assert ended is not None
    assert (ended.code, ended.signal) == (None, None)


def test_an_executor_imports_little() -> None:
    """What costs much at every start isn't imported before it is needed."""
    program = "import sys, mrq.worker.executor; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {
        "argparse",
        "asyncio",
        "subprocess",
        "logging",
        "fsspec",
        "zstandard",
        "mrq.client",
        "mrq.core.agent",
    }
    assert not heavy & set(found.stdout.split())
