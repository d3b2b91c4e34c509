"""A worker's disk quota: who is granted room, who isn't, and what is in use after all that."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from itertools import repeat
from pathlib import Path

import pytest

from mrq.core.model import Slots
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.errors import DiskFullError
from mrq.shuffle.fetched import FetchedWriter
from mrq.shuffle.mapfile import MapFileWriter, MapHeader, write_run
from mrq.shuffle.merge import merge
from mrq.worker import quota
from mrq.worker.disk_use import used_bytes
from mrq.worker.quota import DATA_PLANE, QuotaPage

MIB = 1 << 20
QUOTA = 16 * MIB
SLOTS = Slots(map=2, reduce=1, total=3)
HEADER = MapHeader(attempt=AttemptRef(TaskRef("j", 0, Kind.MAP, 0), 1, 1, "t"), code="c")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return quota.create(str(tmp_path), QUOTA, SLOTS)


def fill(page: QuotaPage, *, maps: bool) -> int:
    """Write files until there is no room; the bytes that they take."""
    share = page.share(maps=maps)
    folder = Path(page.path).parent
    written = 0
    while True:
        try:
            share.ask(share.grain)
        except DiskFullError:
            return written
        (folder / f"{maps}-{written}").write_bytes(bytes(share.grain))
        written += share.grain


def test_maps_leave_a_fifth_for_reduces_and_reduces_leave_the_quota(path: str) -> None:
    page = QuotaPage(path)
    maps = fill(page, maps=True)
    assert 0.7 * QUOTA < maps < 0.8 * QUOTA
    reduces = fill(page, maps=False)
    assert 0.15 * QUOTA < reduces < 0.3 * QUOTA
    assert used_bytes(str(Path(path).parent)) <= QUOTA


def test_a_refusal_says_what_there_is_and_what_to_set(path: str) -> None:
    page = QuotaPage(path)
    fill(page, maps=True)
    with pytest.raises(DiskFullError) as told:
        page.share(maps=True).ask(page.share(maps=True).grain)
    said = str(told.value)
    assert said.startswith("the disk quota of this worker is reached: ")
    assert f"of {QUOTA:,} bytes" in said
    assert "a fifth is kept for reduces" in said
    assert "--disk-quota, MRQ_DISK_QUOTA" in said


def test_what_was_removed_is_noticed_before_anybody_is_refused(path: str) -> None:
    page = QuotaPage(path)
    fill(page, maps=True)
    for file in Path(path).parent.glob("True-*"):
        file.unlink()
    assert fill(page, maps=True) > 0.7 * QUOTA


def test_processes_ask_as_one(path: str) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(Path(quota.__file__).parents[2])!r})
from mrq.errors import DiskFullError
from mrq.worker.quota import QuotaPage
share, granted = QuotaPage({path!r}).share(maps=False), 0
print("ready", flush=True)
sys.stdin.readline()
try:
    while True:
        share.ask(share.grain)
        open({path!r} + f".{{sys.argv[1]}}.{{granted}}", "wb").write(bytes(share.grain))
        granted += 1
except DiskFullError:
    print(granted * share.grain)
"""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    granted = [int(child.communicate("go\n", timeout=60)[0]) for child in children]
    assert 0.9 * QUOTA < sum(granted) <= QUOTA
    assert used_bytes(str(Path(path).parent)) <= QUOTA


def test_threads_of_a_process_ask_as_one(path: str) -> None:
    share = QuotaPage(path, DATA_PLANE).share(maps=False)
    granted: list[int] = []
    folder = Path(path).parent

    def run(name: str) -> None:
        try:
            while True:
                share.ask(share.grain)
                (folder / f"{name}-{len(granted)}").write_bytes(bytes(share.grain))
                granted.append(share.grain)
        except DiskFullError:
            return

    threads = [threading.Thread(target=run, args=(str(number),)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.9 * QUOTA < sum(granted) <= QUOTA
    assert used_bytes(str(folder)) <= QUOTA


def test_each_executor_has_a_number_of_its_own(path: str) -> None:
    code = """
import sys
from mrq.worker.quota import QuotaPage
page = QuotaPage(sys.argv[1])
print(page.holder, flush=True)
sys.stdin.readline()
"""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(quota.__file__).parents[2],
        )
        for _ in range(3)
    ]
    numbers = {child.stdout.readline() for child in children if child.stdout is not None}
    for child in children:
        child.communicate("\n", timeout=60)
    assert numbers == {"1\n", "2\n", "3\n"}


def test_every_writer_of_the_shuffle_asks(path: str, tmp_path: Path) -> None:
    page = QuotaPage(path)
    share = page.share(maps=False)
    block = [f"{number:06}" for number in range(2000)], [random.randbytes(500) for _ in range(2000)]

    def spill() -> None:
        write_run(str(tmp_path / "run"), repeat(block), share)

    def output() -> None:
        writer = MapFileWriter(str(tmp_path / "map"), HEADER, 1, share)
        try:
            writer.begin(0)
            while True:
                writer.write(*block)
        finally:
            writer.abort()

    def fetch() -> None:
        writer = FetchedWriter(str(tmp_path / "fetched"), share)
        try:
            while True:
                writer.write(writer.reserve(MIB), bytes(MIB))
        finally:
            writer.unlink()
            writer.close()

    for write in (spill, output, fetch):
        with pytest.raises(DiskFullError, match="the disk quota of this worker is reached"):
            write()
        assert used_bytes(str(tmp_path)) < MIB  # nothing stays


def test_passes_of_a_merge_ask(path: str, tmp_path: Path) -> None:
    runs = []
    for number in range(40):
        block = [f"{n:06}" for n in range(2000)], [random.randbytes(150) for _ in range(2000)]
        runs.append(write_run(str(tmp_path / f"run-{number}"), [block]))
    assert sum(run.bytes for run in runs) > 0.6 * QUOTA
    share = QuotaPage(path).share(maps=False)
    with pytest.raises(DiskFullError, match="the disk quota of this worker is reached"):
        for _ in merge(runs, memory=4 * MIB, scratch=str(tmp_path), tick=lambda: None, quota=share):
            pass
    assert not list(tmp_path.glob("merge-*"))
