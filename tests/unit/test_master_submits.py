"""What refuses a submit before it is planned, and why a job waits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mrq.core.model import JobSpec, StageSpec, WorkerHealth
from mrq.core.worker_info import WorkerInfo
from mrq.errors import UsageError
from mrq.io.plan import Draft, DraftInput
from mrq.io.seen import look
from mrq.master.shared import SharedRoot, unseen
from mrq.master.submissions import check_packages
from mrq.master.views import why_waiting

SPEC = JobSpec(
    job="j", name="T", code="c", entry="m:T", parameters={}, inputs=(),
    stages=(StageSpec(splits=(), reducers=1),),
    memory_bytes=1 << 30,
)  # fmt: skip


def draft(*given: DraftInput) -> Draft:
    return Draft(spec=SPEC, inputs=given, cwd="/", splittable=True)


def worker(
    health: WorkerHealth = WorkerHealth.ALIVE,
    *,
    maps: int = 1,
    reduces: int = 1,
    memory: int = 2 << 30,
    full: str = "",
    packages: tuple[str, ...] = (),
) -> WorkerInfo:
    return WorkerInfo(
        worker="w", boot="b", health=health, map_slots=maps, reduce_slots=reduces, total_slots=2,
        hints={"memory_bytes": memory}, full=full, packages=dict.fromkeys(packages, "1") or None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("workers", "told"),
    [
        ([{"NumPy": "2"}, {"numpy": "2"}], None),
        ([{}, {"other": "1"}], "numpy: on 0 of 2 workers"),
        ([{"numpy": "1"}, {"other": "1"}], "numpy: on 1 of 2 workers"),
        ([], None),
    ],
)
def test_packages_are_compared_with_what_workers_have(
    workers: list[Mapping[str, str]], told: str | None
) -> None:
    wanted = [("numpy", ("numpy",))]
    if told is None:
        check_packages(wanted, workers)
    else:
        with pytest.raises(UsageError, match=told):
            check_packages(wanted, workers)


def test_what_is_seen_instead_is_said(tmp_path: Path) -> None:
    (tmp_path / "there.txt").write_text("x")
    near = DraftInput(spelled="a/b", open=str(tmp_path / "a/b"))
    found = unseen(draft(near, DraftInput(spelled="t", open=str(tmp_path / "there.txt"))))
    assert found == {0: f"the cluster doesn't see {tmp_path}/a/b; {tmp_path} is there, with there.txt"}


def given(spelled: str, path: Path | str) -> DraftInput:
    """As a client sends it that sees what is there now."""
    return DraftInput(spelled=spelled, open=str(path), seen=look(spelled, str(path)))


def test_another_file_at_the_clients_path_is_not_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("four")
    sent = given("f", path)
    assert unseen(draft(sent)) == {}
    path.write_text("fives")
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    told = unseen(draft(sent))[0]
    assert told.startswith(
        f"the cluster has something else at {path}: 1 file (5 bytes, written until 2023-11-14 22:13:20 UTC); "
        "where you are there is 1 file (4 bytes, "
    )


@pytest.mark.parametrize("spelled", [".", "*", "**/*.txt", "[ab]*"])
def test_another_folder_at_the_clients_path_is_not_taken_for_it(tmp_path: Path, spelled: str) -> None:
    for name in ("a.txt", "b/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    sent = given(spelled, tmp_path if spelled == "." else f"{tmp_path}/{spelled}")
    assert unseen(draft(sent)) == {}
    stat = (tmp_path / "a.txt").stat()
    (tmp_path / "a.txt").rename(tmp_path / "a2.txt")
    assert "2 files (12 bytes, " in unseen(draft(sent))[0]
    assert ", of other names or times; where you are there is 2 files" in unseen(draft(sent))[0]
    (tmp_path / "a2.txt").rename(tmp_path / "a.txt")
    assert unseen(draft(sent)) == {}
    (tmp_path / "a.txt").write_text("b.txt")
    os.utime(tmp_path / "a.txt", ns=(0, stat.st_mtime_ns + 1))
    assert unseen(draft(sent)).keys() == {0}
    os.utime(tmp_path / "a.txt", ns=(0, stat.st_mtime_ns))
    (tmp_path / "a3.txt").touch()
    assert "3 files" in unseen(draft(sent))[0]


def test_what_the_cluster_has_is_not_taken_for_an_empty_folder_of_the_client(tmp_path: Path) -> None:
    sent = given(".", tmp_path)
    assert unseen(draft(sent)) == {}
    (tmp_path / "f").write_text("x")
    assert unseen(draft(sent))[0].endswith("; where you are there is no file")


def test_what_the_client_does_not_see_is_the_clusters(tmp_path: Path) -> None:
    sent = given("in", tmp_path / "in")
    assert sent.seen is None
    (tmp_path / "in").mkdir()
    assert unseen(draft(sent)) == {}


def test_a_pattern_is_seen_where_it_matches(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    (tmp_path / "_b.csv").touch()
    globs = [DraftInput(spelled=f"*.{x}", open=f"{tmp_path}/*.{x}") for x in ("txt", "csv")]
    assert unseen(draft(*globs)).keys() == {1}


def test_what_no_job_wants_is_swept_and_a_new_jobs_inputs_are_not(tmp_path: Path) -> None:
    shared = SharedRoot(str(tmp_path))
    shared.prepare()
    old, kept, young = "j-0000000a", "j-0000000b", "j-0000000c"
    for name in (
        f"inputs/{old}",
        f"results/{old}",
        f"results/{kept}",
        f"results/.{kept}.mrq",
        f"results/{young}",
    ):
        (tmp_path / name).mkdir()
        if not name.endswith(young):
            os.utime(tmp_path / name, (1000.0, 1000.0))

    def known() -> set[str]:
        (tmp_path / "inputs/new").mkdir()  # after the folders were listed
        return {kept}

    shared.sweep(known, until=2000.0)
    left = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert left == [f".{kept}.mrq", kept, young], "a store that lost its data doesn't know what is still read"
    assert [path.name for path in (tmp_path / "inputs").iterdir()] == ["new"]


def test_what_is_not_named_as_a_job_is_never_swept(tmp_path: Path) -> None:
    """A shared root that is somebody's folder, with inputs and results of other programs in it."""
    shared = SharedRoot(str(tmp_path))
    shared.prepare()
    for name in ("inputs/2024", "inputs/logs", "results/thesis", "results/a-b", "results/Sort-12ab34cd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").touch()
        os.utime(tmp_path / name, (1000.0, 1000.0))
    shared.sweep(set, until=2000.0)
    assert len(list(tmp_path.glob("*/*/mine.txt"))) == 5


def test_why_a_job_waits_is_said_by_name() -> None:
    assert why_waiting(SPEC, []) == "no workers yet: waiting"
    assert why_waiting(SPEC, [worker(WorkerHealth.DEAD)]) == "no workers yet: waiting"
    assert "all 1 are draining" in (why_waiting(SPEC, [worker(WorkerHealth.DRAINING)]) or "")
    assert "no worker can run j: it asks for 1,024 MiB" in (why_waiting(SPEC, [worker(memory=1 << 20)]) or "")
    assert "none of 1 that it fits has a reduce slot" in (why_waiting(SPEC, [worker(reduces=0)]) or "")
    chain = replace(SPEC, stages=(SPEC.stages[0], replace(SPEC.stages[0], number=2, reducers=0)))
    assert "none of 1 that it fits has a reduce slot" in (why_waiting(chain, [worker(reduces=0)]) or "")
    assert why_waiting(SPEC, [worker()]) is None
    full = worker(full="disk quota reached: all of it")
    assert why_waiting(SPEC, [full, worker()]) is None
    assert why_waiting(SPEC, [full], maps_left=False) is None
    assert (why_waiting(SPEC, [full] * 5) or "").endswith("all of it, and 2 more are full")
    assert why_waiting(SPEC, [full, full]) == (
        "no worker takes maps: worker w: disk quota reached: all of it; "
        "worker w: disk quota reached: all of it"
    )


def test_a_job_that_lacks_its_packages_waits_by_their_names() -> None:
    wants = replace(SPEC, packages=(("numpy", ("NumPy",)), ("cv2", ("opencv-python", "opencv.headless"))))
    bare, some, all_ = worker(packages=("x",)), worker(packages=("numpy",)), ("numpy", "opencv-headless")
    assert why_waiting(wants, [bare, some]) == (
        "no worker can run j: no worker has its packages: numpy: on 1 of 2 workers; cv2: on 0 of 2 workers; "
        "install them there"
    )
    assert why_waiting(wants, [bare, worker(packages=all_, memory=1 << 20)]) == (
        "no worker can run j: no worker has both 1,024 MiB an executor and its packages: numpy: on 1 of 2 "
        "workers; cv2: on 1 of 2 workers"
    )
    assert why_waiting(wants, [bare, worker(packages=all_)]) is None
    assert why_waiting(wants, [worker()]) is None  # it hasn't said


def test_slots_are_counted_where_the_job_fits() -> None:
    small, large = worker(memory=1 << 20), worker(reduces=0)
    assert why_waiting(SPEC, [small, large]) == (
        "no worker can run j: none of 1 that it fits has a reduce slot"
    )
