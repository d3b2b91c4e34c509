"""`python -m mrq.worker` on RabbitMQ and Redis: tasks, ids, signals, restarts."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_runs import alive, wait_for
from services import Broker, Redis
from worker_runs import Servers

from mrq.core.commands import GiveOrder, WriteJob
from mrq.core.model import JobState, Status
from mrq.core.orders import DropJob
from mrq.core.refs import Kind

WORDS = (
    "class T(mrq.Job):\n    reduce = mrq.sum\n    def map(self, key, line):\n"
    "        for word in line.split(): yield word, 1\n"
)
SLOW = (
    "class T(mrq.Job):\n    reduce = mrq.sum\n    def map(self, key, line):\n"
    "        open({mark!r}, 'w').write(str(os.getpid())); time.sleep(60); yield line, 1\n"
)


@pytest.fixture
def servers(rabbitmq: Broker, redis_server: Redis, tmp_path: Path) -> Iterator[Servers]:
    made = Servers(rabbitmq, redis_server, tmp_path)
    yield made
    made.close()


def test_two_workers_map_and_one_fetches_and_reduces(servers: Servers) -> None:
    spec = servers.submit(WORDS, ["b a", "a"])
    processes = [servers.start("w1", "one"), servers.start("w2", "two")]
    servers.wait(lambda: len({beat.worker for beat in servers.beats()}) == 2)
    servers.publish(Kind.REDUCE, 0)  # which waits for its maps, in a slot of its own
    servers.publish(Kind.MAP, 0)
    servers.publish(Kind.MAP, 1)
    mapped = servers.wait(lambda: len(servers.reports()) == 2 and servers.reports())

    def phases() -> set[str]:
        return {
            line.phase
            for beat in servers.beats()
            for line in beat.running
            if line.attempt.task.kind is Kind.REDUCE
        }

    servers.wait(lambda: "shuffling" in phases())
    for report in mapped:
        servers.locate(report)
    told = servers.wait(lambda: servers.reports()[2:])[0].outcome
    assert told.result is not None, told
    assert spec.staging is not None
    assert (Path(spec.staging) / told.result.files[0].name).read_text() == "a\t2\nb\t1\n"
    first = next(beat for beat in servers.beats() if beat.worker == "w1")
    assert first.about["version"]
    assert "msgpack" in first.about["packages"]
    assert first.hints["cpus"] >= 1
    boots = {beat.worker: beat.boot for beat in servers.beats()}
    drop = DropJob(job="j")
    servers.write(
        "j",
        WriteJob(job="j", state=JobState.DONE),
        orders=tuple(GiveOrder(worker=worker, boot=boot, order=drop) for worker, boot in boots.items()),
    )
    for name in ("one/workers/w1", "two/workers/w2"):
        wait_for(lambda name=name: not os.path.exists(servers.folder / name / "jobs/j"))
    assert [servers.end(process) for process in processes] == [0, 0]
    assert sorted(servers.wait(lambda: len(servers.left()) == 2 and servers.left())) == sorted(boots.values())


def test_a_killed_worker_comes_back_at_once_and_nothing_of_it_runs_on(servers: Servers) -> None:
    mark = servers.folder / "mark"
    servers.submit(SLOW.format(mark=str(mark)), ["x"])
    first = servers.start()
    servers.publish(Kind.MAP, 0)
    servers.wait(lambda: mark.exists() and mark.read_text())
    executor = int(mark.read_text())
    boot = servers.beats()[-1].boot
    first.kill()
    first.wait()
    second = servers.start()
    newer = servers.wait(lambda: [beat.boot for beat in servers.beats() if beat.boot != boot])[0]
    assert not alive(executor)
    assert "waiting for its silence" not in servers.said(second), "it has the folder: the older boot is dead"
    lock = json.loads((servers.folder / "root/workers/w/lock").read_text())
    assert lock == {"pid": second.pid, "boot": newer}
    assert servers.end(second) == 0


def test_two_workers_with_one_id(servers: Servers) -> None:
    first = servers.start("w", "here")
    servers.wait(servers.beats)
    same_machine = servers.start("w", "here", "--timeout", "1")
    other_machine = servers.start("w", "there", "--timeout", "1")
    assert same_machine.wait(20) == other_machine.wait(20) == 1
    assert f"worker w runs on this machine already (process {first.pid}" in servers.said(same_machine)
    assert "worker w lives elsewhere (boot " in servers.said(other_machine)
    assert servers.end(first) == 0


def test_a_second_signal_stops_a_worker_that_drains(servers: Servers) -> None:
    mark = servers.folder / "mark"
    servers.submit(SLOW.format(mark=str(mark)), ["x"])
    worker = servers.start()
    servers.publish(Kind.MAP, 0)
    servers.wait(lambda: mark.exists() and mark.read_text())
    worker.send_signal(signal.SIGTERM)
    servers.wait(lambda: servers.beats()[-1].draining)
    assert worker.poll() is None
    assert servers.end(worker, signal.SIGINT) == 0
    assert [report.outcome.status for report in servers.reports()] == [Status.HANDED_BACK]
    assert not alive(int(mark.read_text()))
    assert not os.path.exists(servers.folder / "root/workers/w/jobs")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("MRQ_REDIS_URL", "redis://127.0.0.1:1/0", "Redis at 127.0.0.1:1 can't be reached"),
        ("MRQ_AMQP_URL", "amqp://127.0.0.1:1/x", "127.0.0.1:1"),
        ("MRQ_LISTEN", "192.0.2.1:1", "192.0.2.1"),
        ("MRQ_DEBUG", "fail", "MRQ_DEBUG='fail' isn't understood"),
    ],
)
def test_what_keeps_a_worker_from_starting_is_one_sentence(
    servers: Servers, name: str, value: str, sentence: str
) -> None:
    servers.environ[name] = value
    worker = servers.start("w", "root", "--timeout", "1")
    assert worker.wait(30) in (1, 2)
    said = servers.said(worker)
    assert sentence in said.splitlines()[-1]
    assert "Traceback" not in said
