"""The agent loop with real executors: orders, warm processes, stopping, and what is left behind."""

from __future__ import annotations

import dataclasses
import errno
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from agent_runs import BOOT, WORKER, AgentRun, alive, open_fds, wait_for

from mrq.core.agent_words import AgentConfig
from mrq.core.commands import WriteLocation
from mrq.core.model import MapLocation, Slots, Status
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.errors import OperatorError
from mrq.worker import child, progress_page
from mrq.worker.debug import DebugSwitch, Fault

LINES = ["b a", "a"]
WORDS = (
    "class T(mrq.Job):\n    reduce = mrq.sum\n    def map(self, key, line):\n"
    "        for word in line.split(): yield word, 1\n"
)


def job(statement: str) -> str:
    return f"class T(mrq.Job):\n    reduce = mrq.sum\n    def map(self, key, line):\n        {statement}\n"


def test_a_map_then_a_reduce(tmp_path: Path) -> None:
    with AgentRun(tmp_path) as run:
        spec = run.add(WORDS, LINES, splits=2)
        run.publish(0)
        run.publish(1)
        maps = run.reports(2)
        for report in maps:
            assert report.outcome.result is not None
            location = MapLocation(
                attempt=report.attempt,
                worker=WORKER,
                boot=BOOT,
                digest=report.outcome.result.digest,
                bytes=report.outcome.result.bytes_out,
            )
            run.write("j", WriteLocation(location=location))
        run.publish(0, Kind.REDUCE)
        told = run.reports(3)[2].outcome
        assert told.status is Status.DONE, told
        assert told.result is not None
        assert spec.staging is not None
        (part,) = told.result.files
        assert (Path(spec.staging) / part.name).read_text() == "a\t4\nb\t2\n"
        # One empty log and one scratch folder with a blank page, for the next attempt.
        assert sorted(name.split("/")[2] for name in run.files()) == ["logs", "maps", "maps", "scratch"]
        run.drop()
        wait_for(lambda: not run.files())


def test_a_reduce_whose_maps_are_gone_says_which(tmp_path: Path) -> None:
    with AgentRun(tmp_path) as run:
        run.add(WORDS, LINES, splits=2)
        gone = AttemptRef(TaskRef("j", 0, Kind.MAP, 1), 7, 1, "gone")
        location = MapLocation(attempt=gone, worker=WORKER, boot=BOOT, digest=1, bytes=1)
        run.write("j", WriteLocation(location=location))
        run.write("j", WriteLocation(location=location, withdrawn=True))
        run.publish(0, Kind.REDUCE)
        told = run.outcome()
        assert told.status is Status.FETCH_FAILED
        assert [(f.map_index, f.ticket, f.reason) for f in told.fetch_failures] == [
            (0, 0, "not_found"),
            (1, 7, "not_found"),
        ]


def test_an_executor_stays_with_its_job(tmp_path: Path) -> None:
    with AgentRun(tmp_path) as run:
        pids = tmp_path / "pids"
        code = job(f"open({str(pids)!r}, 'a').write(f'{{os.getpid()}} '); yield line, 1")
        run.add(code, ["x"])
        for count in range(1, 4):
            run.publish(ticket=count)
            run.reports(count)
        run.add(code, ["x"], job="k")
        run.publish(job="k")
        run.reports(4)
        first, second, third, other = pids.read_text().split()
        assert first == second == third != other


def test_the_environment_of_user_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    monkeypatch.setenv("MRQ_REDIS_URL", "redis://:password@host:6379/0")
    with AgentRun(tmp_path) as run:
        facts = tmp_path / "facts"
        run.add(
            job(
                f"open({str(facts)!r}, 'w').write(repr((hash('a'), sys.flags.utf8_mode, sys.stdin.read(), "
                "os.environ['MRQ_EXECUTOR'], os.environ.get('MRQ_REDIS_URL'), os.getcwd(), "
                "sys.stdout.encoding))); yield line, 1"
            ),
            ["x"],
        )
        run.publish()
        assert run.outcome().status is Status.DONE
        environ = {**os.environ, "PYTHONHASHSEED": "0"}
        expected = subprocess.run(
            [sys.executable, "-c", "print(hash('a'))"],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        assert facts.read_text() == repr((int(expected.stdout), 1, "", "1", None, os.getcwd(), "utf-8"))


def test_print_and_logging_go_to_the_attempts_log(tmp_path: Path) -> None:
    with AgentRun(tmp_path) as run:
        code = (
            "import logging\nclass T(mrq.Job):\n    def map(self, key, line):\n        print('printed')\n"
            "        print('wrong', file=sys.stderr)\n        self.task.log.info('told')\n"
            "        logging.warning('warned')\n        subprocess.run(['echo', 'echoed'])\n"
            "        raise ValueError(line)\n"
        )
        run.add(code, ["x"])
        for count in (1, 2):  # the second in the same process
            run.publish(ticket=count)
            told = run.reports(count)[-1].outcome
            assert told.error is not None
            lines = told.error.log_tail.splitlines()
            assert [line.split()[-1] for line in lines] == [
                "printed", "wrong", "told", "WARNING:root:warned", "echoed",
            ]  # fmt: skip


def test_an_order_kills(tmp_path: Path) -> None:
    with AgentRun(tmp_path) as run:
        mark = tmp_path / "pid"
        run.add(job(f"open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(60)"), ["x"])
        run.publish()
        wait_for(lambda: mark.exists() and mark.read_text())
        run.kill(f"{BOOT}-1")
        told = run.outcome()
        assert told.status is Status.SUPERSEDED
        wait_for(lambda: not alive(int(mark.read_text())))
        assert run.files() == []  # its log neither


def test_stop_ends_everything_at_once(tmp_path: Path) -> None:
    before = open_fds()
    run = AgentRun(tmp_path, slots=2)
    mark = tmp_path / "pid"
    with run:
        code = (
            f"subprocess.Popen(['sleep', '60']); open({str(mark)!r} + str(os.getpid()), 'w'); time.sleep(60)"
        )
        run.add(job(code), ["x"], splits=2)
        run.publish(0)
        run.publish(1)
        wait_for(lambda: len(list(tmp_path.glob("pid*"))) == 2)
        pids = [int(path.name.removeprefix("pid")) for path in tmp_path.glob("pid*")]
        started = time.monotonic()
        run.loop.stop(1.0)
        assert time.monotonic() - started < 10
        assert not any(map(alive, pids))
    assert run.files() == []
    assert {report.outcome.status for report in run.reports(2)} == {Status.HANDED_BACK}
    assert open_fds() == before


def test_stop_before_run(tmp_path: Path) -> None:
    before = open_fds()
    run = AgentRun(tmp_path)
    run.pool.prewarm(1)
    run.loop.stop(1.0)
    run.loop.stop(1.0)
    run.loop.run()  # a thread that comes late
    run.loop.nudge()
    assert open_fds() == before


def test_a_store_that_is_away_is_not_charged_at_once(tmp_path: Path) -> None:
    with AgentRun(tmp_path) as run:
        run.add(WORDS, LINES)
        code = run.store.code

        def away(digest: str) -> bytes:
            raise OperatorError("the store is away")

        run.store.code = away  # type: ignore[method-assign]
        run.publish()
        told = run.outcome()
        assert (told.status, told.started) == (Status.LOST, False)
        run.store.code = code  # type: ignore[method-assign]
        run.publish(ticket=2)
        assert run.reports(2)[1].outcome.status is Status.DONE


def test_locations_are_read_again_from_a_store_that_was_written_anew(tmp_path: Path) -> None:
    with AgentRun(tmp_path) as run:
        run.add(WORDS, LINES)
        run.publish(0)
        made = run.reports(1)[0]
        assert made.outcome.result is not None
        location = MapLocation(
            attempt=made.attempt,
            worker=WORKER,
            boot=BOOT,
            digest=made.outcome.result.digest,
            bytes=1,
        )
        withdrawn = dataclasses.replace(location, attempt=made.attempt._replace(token="other"))
        for entry, gone in ((withdrawn, False), (withdrawn, True), (location, False)):
            run.write("j", WriteLocation(location=entry, withdrawn=gone))
        run.publish(0, Kind.REDUCE)
        assert run.reports(2)[1].outcome.status is Status.DONE
        known = run.loop._files._jobs["j"].runs[0]
        known.position = 99
        known.locations.clear()
        run.publish(0, Kind.REDUCE, ticket=2)
        assert run.reports(3)[2].outcome.status is Status.DONE


def test_drain_finishes_what_runs(tmp_path: Path) -> None:
    with AgentRun(tmp_path) as run:
        mark = tmp_path / "mark"
        run.add(job(f"open({str(mark)!r}, 'w'); time.sleep(0.3); yield line, 1"), ["x"])
        run.publish()
        wait_for(mark.exists)
        run.loop.drain()
        run.thread.join(5)
        assert not run.thread.is_alive()
        assert run.outcome().status is Status.DONE


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Fault.CRASH, Status.LOST), (Fault.HANG, Status.TIMED_OUT), (Fault.ERROR, Status.FAILED)],
)
def test_the_debug_switch_acts_once(tmp_path: Path, fault: Fault, status: Status) -> None:
    with AgentRun(tmp_path, debug=DebugSwitch(after=1, fault=fault)) as run:
        run.add(WORDS, LINES, progress_timeout_s=3.0)
        for count in (1, 2, 3):
            run.publish(ticket=count)
            run.reports(count)
        found = [report.outcome.status for report in run.reports(3)]
        assert found == [Status.DONE, status, Status.DONE]


def test_beats_carry_progress(tmp_path: Path) -> None:
    with AgentRun(tmp_path) as run:
        beats = []
        beat = run.store.beat

        def noted(told):  # type: ignore[no-untyped-def]
            beats.append(told)
            return beat(told)

        run.store.beat = noted  # type: ignore[method-assign]
        run.add(
            job("time.sleep(0.15) if line == '5' else self.task.progress(); yield line, 1"), list("123456")
        )
        run.publish()
        assert run.outcome().status is Status.DONE
        lines = [line for told in beats for line in told.running]
        assert any(line.phase == "mapping" for line in lines)
        assert [told.seq for told in beats] == list(range(beats[0].seq, beats[0].seq + len(beats)))


def short(special: str) -> str:
    """A job whose maps are short, but for one in which something happens."""
    return job(f"{special} if self.task.id == 'm-00003' else None; yield line, 1")


def test_what_waits_behind_an_attempt_outlives_its_executor(tmp_path: Path) -> None:
    with AgentRun(tmp_path) as run:
        run.add(short("os.kill(os.getpid(), signal.SIGKILL)"), ["x"], splits=12)
        for index in range(3):
            run.publish(index)
            run.reports(index + 1)
        run.publish_together(range(3, 12))
        told = {report.attempt.task.index: report.outcome for report in run.reports(12)}
        assert {index for index, outcome in told.items() if outcome.status is Status.LOST} == {3}
        assert {outcome.status for index, outcome in told.items() if index != 3} == {Status.DONE}


def test_what_waits_behind_a_long_attempt_is_handed_back_and_never_runs(tmp_path: Path) -> None:
    config = AgentConfig(
        worker=WORKER,
        boot=BOOT,
        slots=Slots(map=1, reduce=1, total=1),
        beat_interval_s=0.05,
        ready_s_max=0.5,
    )
    with AgentRun(tmp_path, config=config) as run:
        mark = tmp_path / "mark"
        ran = f"open({str(mark)!r}, 'a').write(self.task.id + ' ')"
        run.add(short("time.sleep(2)") + f"        {ran}\n", ["x"], splits=11)
        for index in range(3):
            run.publish(index)
            run.reports(index + 1)
        run.publish_together(range(3, 11))
        reports = run.reports(10)
        assert not mark.read_text().count("m-00003"), "the bound isn't the long one's end"
        assert [(report.attempt.task.index, report.outcome.status) for report in reports[3:]] == [
            (index, Status.HANDED_BACK) for index in range(4, 11)
        ]
        assert not any(report.outcome.started for report in reports[3:])
        assert run.reports(11)[-1].outcome.status is Status.DONE
        run.publish(4, ticket=2)
        told = {report.attempt.task.index: report.outcome.status for report in run.reports(12)}
        assert (told[3], told[4]) == (Status.DONE, Status.DONE)
        assert mark.read_text().split() == [f"m-0000{n}" for n in range(5)]
        assert not [name for name in run.files() if "m-00005" in name]


def test_an_executor_with_nothing_to_do_takes_over_what_waits_behind_a_long_attempt(tmp_path: Path) -> None:
    config = AgentConfig(
        worker=WORKER,
        boot=BOOT,
        slots=Slots(map=2, reduce=1, total=2),
        beat_interval_s=0.05,
        ready_s_max=60.0,
    )
    with AgentRun(tmp_path, config=config) as run:
        done = tmp_path / "done"
        wait = f"[time.sleep(0.01) for _ in range(3000) if not os.path.exists({str(done)!r})]"
        run.add(short(wait), ["x"], splits=11)
        for index in range(3):
            run.publish(index)
            run.reports(index + 1)
        run.publish_together(range(3, 11))
        others = run.reports(10)[3:]
        assert {report.attempt.task.index for report in others} == set(range(4, 11))
        assert {report.outcome.status for report in others} == {Status.DONE}
        done.touch()
        assert run.reports(11)[-1].outcome.status is Status.DONE


def test_a_signal_of_life_keeps_a_slow_record_alive(tmp_path: Path) -> None:
    with AgentRun(tmp_path) as run:
        code = job("[(time.sleep(0.2), self.task.progress()) for _ in range(12)]; yield line, 1")
        run.add(code, ["x"], progress_timeout_s=2.0)
        run.publish()
        assert run.outcome().status is Status.DONE


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    with AgentRun(tmp_path) as run:
        run.add(WORDS, LINES)
        monkeypatch.setattr(progress_page, "create", full)
        run.publish()
        told = run.outcome()
        assert told.status is Status.DISK_FULL
        assert told.error is not None
        assert "scratch" in told.error.message
        assert "full" in told.error.message


def test_executors_that_do_not_start_are_charged_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "BOOT", "import sys; sys.exit('no such thing')")
    with AgentRun(tmp_path) as run:
        run.add(WORDS, LINES)
        for count in (1, 2, 3):
            run.publish(ticket=count)
            run.reports(count)
        told = [report.outcome for report in run.reports(3)]
        assert [t.status for t in told] == [Status.LOST] * 3
        assert [t.started for t in told] == [False, False, True]
        assert told[0].error is not None
        assert "no such thing" in told[0].error.message


def test_damaged_code_is_named(tmp_path: Path) -> None:
    with AgentRun(tmp_path) as run:
        spec = run.add(WORDS, LINES)
        run.store._code[spec.code] = b"rubbish"
        run.publish()
        told = run.outcome()
        assert told.error is not None
        assert "code of job j isn't what its name says" in told.error.message


def test_reduce_orders_longer_than_a_pipe_arrive(tmp_path: Path) -> None:
    with AgentRun(tmp_path) as run:
        spec = run.add(WORDS, ["x"], splits=3000)
        run.publish(0)
        made = run.reports(1)[0]
        assert made.outcome.result is not None
        root = tmp_path / "tmp/jobs/j/maps"
        (whole,) = root.iterdir()
        for index in range(3000):
            attempt = AttemptRef(TaskRef("j", 0, Kind.MAP, index), *made.attempt[1:3], f"t{index}")
            location = MapLocation(
                attempt=attempt, worker=WORKER, boot=BOOT,
                digest=made.outcome.result.digest, bytes=1,
            )  # fmt: skip
            run.write("j", WriteLocation(location=location))
            os.link(whole, root / f"m-{index:05d}.{attempt.ticket}.{attempt.number}.t{index}")
        run.publish(0, Kind.REDUCE)
        told = run.reports(2)[1].outcome
        # Every file says that it is map 0's: the order arrived whole, and the reducer isn't fooled.
        assert told.status in (Status.FETCH_FAILED, Status.DONE), told
        assert spec.reducers == 1


@pytest.mark.parametrize("from_thread", [False, True])
def test_nothing_survives_a_kill_9_of_the_parent(tmp_path: Path, from_thread: bool) -> None:
    program = (
        "import sys, time, threading\nfrom mrq.worker.pool import Pool\npool = Pool()\n"
        + (
            "t = threading.Thread(target=pool.prewarm, args=(2,)); t.start(); t.join()\n"
            if from_thread
            else "pool.prewarm(2)\n"
        )
        + "print(*[e.pid for e in pool._idle], flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    select.select([parent.stdout], [], [], 10)
    pids = [int(word) for word in parent.stdout.readline().split()]
    time.sleep(0.2)
    assert len(pids) == 2
    assert all(map(alive, pids)), "the end of the thread that started them isn't the parent's end"
    parent.send_signal(signal.SIGKILL)
    parent.wait(5)
    parent.stdout.close()
    wait_for(lambda: not any(map(alive, pids)))
