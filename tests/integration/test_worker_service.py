"""A worker's service over the memory twins: signals, takeovers, a full disk, logs on order."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agent_runs import wait_for
from said import listening

from mrq.core.commands import GiveOrder, WriteJob, WriteTask, WriteWorker
from mrq.core.events import AttemptReported, BeatReceived, WorkerLeft
from mrq.core.model import (
    Beat,
    JobSpec,
    JobState,
    Piece,
    Slots,
    Split,
    StageSpec,
    Status,
    TaskMessage,
    WorkerHealth,
)
from mrq.core.orders import DropJob, Order, UploadLog
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_api import Batch, Fence
from mrq.errors import OperatorError
from mrq.job import bundle
from mrq.ports import Clock
from mrq.servers.memory.queues import MemoryBroker, MemoryQueues
from mrq.servers.memory.servers import MemoryBlobs
from mrq.servers.memory.store import MemoryStore
from mrq.worker import disk_use, runtime
from mrq.worker.agent_loop import Links
from mrq.worker.resources import Resources
from mrq.worker.runtime import EXIT_DONE, EXIT_REPLACED, Service, WorkerSettings, wait_for_silence
from mrq.worker.worker_folder import WorkerFolder

WORKER = "w"


class Broker(MemoryBroker):
    """With the hook that a loop ticks."""

    ticks = 0

    def tick(self) -> None:
        self.ticks += 1


class Cluster:
    """The servers, a leader of a few lines, and one worker's service on them, which the test runs."""

    def __init__(self, folder: Path, said: list[str]) -> None:
        self.folder = folder
        self.events: list[Any] = []
        self.said = said
        self.store = MemoryStore(leader=self.events.append)
        self.broker, self.blobs = Broker(MemoryQueues()), MemoryBlobs()
        self.home = WorkerFolder.take(str(folder), WORKER, wait_s=0)
        self._seq: dict[str, int] = {}
        self.settings = WorkerSettings(
            worker=WORKER,
            slots=Slots(map=1, reduce=1, total=2),
            hints=Resources(cpus=2, memory_bytes=1 << 30, disk_bytes=1 << 30),
            address="here:1",
            drain_timeout_s=20.0,
            beat_interval_s=0.05,
            look_s=0.05,
            packages={"numpy": "2.0"},
        )
        fence = Fence(incarnation=1, epoch=1, owner="test", seq=0)
        self.store.lead(fence)

    def service(self) -> Service:
        made = Service(
            settings=self.settings,
            home=self.home,
            links=Links(store=self.store, blobs=self.blobs, broker=self.broker, data_plane=Nothing()),
            clock=Clock(),
        )
        self.store.attach(nudge=made.loop.nudge)
        return made

    def run(self, script: Callable[[], None]) -> int:
        """The service on this thread, the script beside it once the worker takes tasks; the exit code."""
        failed: list[BaseException] = []
        made = self.service()

        def play() -> None:
            try:
                wait_for(self.beats)
                self.admit()
                script()
            except BaseException as exc:
                failed.append(exc)
                made.loop.stop(1.0)

        thread = threading.Thread(target=play)
        thread.start()
        try:
            return made.run()
        finally:
            thread.join(10)
            if failed:
                raise failed[0]

    def write(self, job: str, *writes: Any, orders: tuple[Order, ...] = ()) -> None:
        self._seq[job] = seq = self._seq.get(job, 0) + 1
        fence = Fence(incarnation=1, epoch=1, owner="test", seq=seq)
        addressed = tuple(GiveOrder(worker=WORKER, boot=self.home.boot, order=order) for order in orders)
        self.store.write(Batch(job=job, fence=fence, writes=writes, orders=addressed))

    def admit(self) -> None:
        """As a leader that has dialled the address."""
        self.write("", WriteWorker(worker=WORKER, boot=self.home.boot, health=WorkerHealth.ALIVE))

    def beats(self) -> list[Beat]:
        return [event.beat for event in list(self.events) if isinstance(event, BeatReceived)]

    def reports(self) -> dict[str, AttemptReported]:
        """By token: the leader is told again until it has written what follows."""
        told = [event for event in list(self.events) if isinstance(event, AttemptReported)]
        return {event.attempt.token: event for event in told}

    def submit(self, statement: str, splits: int = 1) -> None:
        """A job `j` whose map is one statement, over one line a split; all maps are published."""
        source = self.folder / "t.py"
        source.write_text(
            "import os, sys, time\nimport mrq\nclass T(mrq.Job):\n    reduce = mrq.sum\n"
            f"    def map(self, key, line):\n        {statement}\n        yield line, 1\n"
        )
        text = self.folder / "in.txt"
        text.write_text("x\n")
        piece = Piece(path="in.txt", open=str(text), start=0, length=2, size=2, mtime_ns=0)
        code = bundle.pack({"t.py": str(source)})
        spec = JobSpec(
            job="j",
            name="T",
            code=hashlib.sha256(code).hexdigest(),
            entry="t:T",
            parameters={},
            inputs=("in.txt",),
            stages=(
                StageSpec(
                    splits=tuple(Split(index=index, pieces=(piece,)) for index in range(splits)), reducers=1
                ),
            ),
            max_failures=1,
        )
        self.store.begin(spec, code, Fence(incarnation=1, epoch=1, owner="test", seq=0))
        self.write("j", WriteJob(job="j", state=JobState.RUNNING))
        for index in range(splits):
            self.publish(index)

    def publish(self, index: int) -> None:
        row = WriteTask(
            task=TaskRef("j", 0, Kind.MAP, index),
            primary=1,
            backup=0,
        )
        self.write("j", row)
        message = TaskMessage(
            task=TaskRef("j", 0, Kind.MAP, index),
            ticket=1,
        )
        self.broker.publish([message])


class Nothing:
    """Fetches nothing."""

    def attach(self, selector: object, sink: object, notify: object) -> None:
        pass

    def watch(self, now: float) -> None:
        pass

    def fetch(self, attempt: AttemptRef, maps: int) -> None:
        raise AssertionError("there are no reduces here")

    def discard(self, attempt: AttemptRef) -> None:
        pass

    def forget(self, job: str) -> None:
        pass


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with listening() as said:
        made = Cluster(tmp_path, said)
        yield made
        made.home.close()


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_the_first_beat_says_who_it_is(cluster: Cluster) -> None:
    def script() -> None:
        wait_for(lambda: len(cluster.beats()) > 3)
        terminate()

    assert cluster.run(script) == EXIT_DONE
    first, *others = cluster.beats()
    assert first.address == "here:1"
    assert first.hints == {"cpus": 2, "memory_bytes": 1 << 30, "disk_bytes": 1 << 30}
    assert first.about["packages"] == {"numpy": "2.0"}
    assert first.about["notes"] == []
    assert not all(beat.about for beat in others), "told once, and now and then"
    assert cluster.broker.ticks > 0
    assert isinstance(cluster.events[-1], WorkerLeft)
    assert not os.path.exists(f"{cluster.home.path}/health"), "no pulse of the dead"


def test_the_pulse_beats_with_the_loop(cluster: Cluster) -> None:
    def script() -> None:
        wait_for(lambda: os.path.exists(f"{cluster.home.path}/health"))
        terminate()

    cluster.run(script)


def test_a_sigterm_finishes_what_runs(cluster: Cluster) -> None:
    mark = cluster.folder / "mark"

    def script() -> None:
        cluster.submit(f"open({str(mark)!r}, 'w'); time.sleep(0.3)", splits=2)
        wait_for(mark.exists)
        terminate()
        wait_for(lambda: len(cluster.reports()) == 1)
        cluster.write("j", WriteJob(job="j", state=JobState.DONE), orders=(DropJob(job="j"),))

    assert cluster.run(script) == EXIT_DONE
    (told,) = cluster.reports().values()
    assert told.outcome.status is Status.DONE
    assert any("SIGTERM: draining for up to 20 s" in line for line in cluster.said)


def test_a_drain_that_takes_too_long_hands_back(cluster: Cluster) -> None:
    mark = cluster.folder / "mark"
    cluster.settings = replace(cluster.settings, drain_timeout_s=0.3)

    def script() -> None:
        cluster.submit(f"open({str(mark)!r}, 'w'); time.sleep(60)")
        wait_for(mark.exists)
        terminate()

    began = time.monotonic()
    assert cluster.run(script) == EXIT_DONE
    assert time.monotonic() - began < 10
    assert [told.outcome.status for told in cluster.reports().values()] == [Status.HANDED_BACK]


def test_a_second_signal_stops_at_once(cluster: Cluster) -> None:
    mark = cluster.folder / "mark"

    def script() -> None:
        cluster.submit(f"open({str(mark)!r}, 'w'); time.sleep(60)")
        wait_for(mark.exists)
        terminate()
        wait_for(lambda: any("draining for up to" in line for line in cluster.said))
        os.kill(os.getpid(), signal.SIGINT)

    began = time.monotonic()
    assert cluster.run(script) == EXIT_DONE
    assert time.monotonic() - began < 15
    assert [told.outcome.status for told in cluster.reports().values()] == [Status.HANDED_BACK]


def test_a_drained_worker_serves_its_outputs_until_the_job_is_over(cluster: Cluster) -> None:
    def script() -> None:
        cluster.submit("pass")
        wait_for(lambda: len(cluster.reports()) == 1)
        terminate()
        wait_for(lambda: cluster.beats()[-1].draining)
        before = len(cluster.beats())
        wait_for(lambda: len(cluster.beats()) > before + 3)
        assert os.listdir(f"{cluster.home.path}/jobs/j/maps")
        cluster.write("j", WriteJob(job="j", state=JobState.DONE), orders=(DropJob(job="j"),))

    assert cluster.run(script) == EXIT_DONE
    assert isinstance(cluster.events[-1], WorkerLeft)


def test_a_newer_boot_replaces_it(cluster: Cluster) -> None:
    def script() -> None:
        cluster.store.beat(replace(cluster.beats()[-1], boot="newer", seq=1))

    assert cluster.run(script) == EXIT_REPLACED
    assert sum("a newer boot beats as worker w" in line for line in cluster.said) == 1


def test_a_full_disk_takes_no_maps_and_says_so(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    full = threading.Event()

    def measure(folder: str, quota: int | None, before: disk_use.DiskUse | None = None) -> disk_use.DiskUse:
        return disk_use.DiskUse(used=90 if full.is_set() else 10, quota=100, free=1000, full=full.is_set())

    monkeypatch.setattr(runtime.rooms, "measure", measure)

    def script() -> None:
        full.set()
        wait_for(lambda: any(beat.about.get("full") for beat in cluster.beats()))
        cluster.submit("pass")
        before = len(cluster.beats())
        wait_for(lambda: len(cluster.beats()) > before + 5)
        assert not cluster.reports()
        full.clear()
        wait_for(lambda: len(cluster.reports()) == 1)
        cluster.write("j", orders=(DropJob(job="j"),))
        terminate()

    assert cluster.run(script) == EXIT_DONE
    said = [beat.about["full"] for beat in cluster.beats() if beat.about]
    assert said[0] == ""
    assert any(text.startswith("disk quota reached: ") for text in said)
    assert "there is room on the disk again" in cluster.said


def test_logs_are_uploaded_on_order(cluster: Cluster) -> None:
    def upload(name: str) -> str:
        cluster.write("j", orders=(UploadLog(job="j", log=name),))
        wait_for(lambda: name in cluster.store.logs("j"))
        return cluster.store.logs("j")[name]

    def script() -> None:
        cluster.submit("print('said', 1 / (key + 1))")
        wait_for(lambda: len(cluster.reports()) == 1)
        (told,) = cluster.reports().values()
        name = f"m-00000.1.1.{told.attempt.token}"
        digest = upload(name)
        assert cluster.blobs.get(digest) == b"said 1.0\n", "also of an attempt that went well"
        assert upload("m-00007.1.1.x") == ""
        cluster.write("j", orders=(UploadLog(job="j", log="../../x"),))
        cluster.write("j", orders=(DropJob(job="j"),))
        wait_for(lambda: not os.path.exists(f"{cluster.home.path}/jobs/j"))
        wait_for(lambda: not os.listdir(f"{cluster.home.path}/trash"))
        terminate()

    assert cluster.run(script) == EXIT_DONE
    assert set(cluster.store.logs("j")) == {name for name in cluster.store.logs("j") if name[0] == "m"}


def test_the_log_of_a_failed_attempt_outlives_its_job(cluster: Cluster) -> None:
    def script() -> None:
        cluster.submit("print('about to fail'); raise ValueError(line)")
        wait_for(lambda: len(cluster.reports()) == 1)
        cluster.write("j", orders=(DropJob(job="j"),))
        (told,) = cluster.reports().values()
        name = f"m-00000.1.1.{told.attempt.token}"
        cluster.write("j", orders=(UploadLog(job="j", log=name),))
        wait_for(lambda: name in cluster.store.logs("j"))
        data = cluster.blobs.get(cluster.store.logs("j")[name])
        assert data is not None
        assert data.startswith(b"about to fail\n[mrq: the attempt failed: ValueError: x]")
        terminate()

    assert cluster.run(script) == EXIT_DONE


def test_what_the_loop_dies_of_is_raised(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def tick(self: Broker) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(Broker, "tick", tick)
    with pytest.raises(ZeroDivisionError, match="boom"):
        cluster.run(lambda: None)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_newcomer_waits_for_silence_elsewhere(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(wait_s: float) -> None:
        wait_for_silence(cluster.store, cluster.home, WORKER, wait_s=wait_s, clock=Clock())

    wait(0)
    other = Beat(worker=WORKER, boot="other", seq=1, slots=cluster.settings.slots)
    cluster.store.beat(other)
    with pytest.raises(OperatorError, match=r"worker w lives elsewhere \(boot other, .*--worker-id"):
        wait(0)
    monkeypatch.setattr(runtime, "SILENT_S", 0.3)
    wait(5)
    assert len([line for line in cluster.said if "waiting for its silence" in line]) == 1
    monkeypatch.setattr(runtime, "SILENT_S", 15)
    cluster.home.boot_before = "other"
    wait(0)
