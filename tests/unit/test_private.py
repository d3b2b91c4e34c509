"""Private folders: held while their engine lives, kept while a kept job needs them, swept otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from test_jobfolder import SPEC

from mrq.core.model import Piece, Split, StageSpec
from mrq.io.temporary import PrivateFolder
from mrq.servers.memory.jobfolder import JobFolder, KeptJob
from mrq.servers.memory.private import sweep, used_by


def killed_engine(root: str) -> str:
    """The private folder of a process that was killed with -9."""
    code = (
        "import os, signal; from mrq.io.temporary import PrivateFolder\n"
        f"print(PrivateFolder({root!r}).path, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, timeout=30, capture_output=True, text=True
    )
    return done.stdout.strip()


def reading(path: str) -> tuple[StageSpec, ...]:
    piece = Piece(path="-", open=path, start=0, length=1, size=1, mtime_ns=0)
    return (StageSpec(splits=(Split(index=0, pieces=(piece,)),), reducers=1),)


def test_nothing_is_made_until_it_is_asked_for(tmp_path: Path) -> None:
    PrivateFolder(str(tmp_path)).close(keep=False)
    assert os.listdir(tmp_path) == []


def test_closing_removes_everything(tmp_path: Path) -> None:
    folder = PrivateFolder(str(tmp_path))
    Path(folder.path, "stdin").write_text("x")
    folder.close(keep=False)
    assert os.listdir(tmp_path) == []


def test_two_threads_may_ask_first(tmp_path: Path) -> None:
    for n in range(20):
        folder = PrivateFolder(str(tmp_path / str(n)))
        with ThreadPoolExecutor(4) as threads:
            paths = set(threads.map(lambda _, folder=folder: folder.path, range(4)))
        assert len(paths) == 1
        folder.close(keep=False)


def test_closing_spares_what_kept_jobs_need(tmp_path: Path) -> None:
    folder = PrivateFolder(str(tmp_path))
    for name in ("stdin", "job-1", ".job-1.mrq", "job-2", "records"):
        Path(folder.path, name).mkdir()
    spec = replace(SPEC, output_open=f"{folder.path}/job-1", stages=reading(f"{folder.path}/stdin"))
    folder.need(spec)
    folder.close(keep=False)
    assert sorted(os.listdir(next((tmp_path / "private").iterdir()))) == [
        ".job-1.mrq",
        "job-1",
        "lock",
        "stdin",
    ]


def test_a_living_engines_folder_is_not_swept(tmp_path: Path) -> None:
    folder = PrivateFolder(str(tmp_path))
    path = folder.path
    sweep(str(tmp_path))
    assert os.path.isdir(path)


def test_a_dead_engines_folder_is_swept(tmp_path: Path) -> None:
    path = killed_engine(str(tmp_path))
    assert os.path.isdir(path)
    sweep(str(tmp_path))
    assert not os.path.exists(path)


def test_what_a_kept_job_reads_stays_until_the_job_goes(tmp_path: Path) -> None:
    root = str(tmp_path)
    path = killed_engine(root)
    job = JobFolder.create(root, KeptJob(spec=replace(SPEC, stages=reading(f"{path}/stdin"))), b"")
    sweep(root)
    assert os.path.isdir(path)
    job.remove()
    sweep(root)
    assert not os.path.exists(path)


def test_a_private_output_counts_and_other_paths_do_not(tmp_path: Path) -> None:
    root = str(tmp_path)
    spec = replace(SPEC, output_open=f"{root}/private/ab/job-1", stages=reading("/data/x"))
    assert used_by(spec, root) == [f"{root}/private/ab"]
