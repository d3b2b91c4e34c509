"""A job that read standard input can be gone on with: what it read is kept with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

JOB = """
import os
import mrq

class Lines(mrq.Job):
    reduce = mrq.count
    def map(self, key, line):
        if not os.path.exists(os.environ["MENDED"]):
            raise RuntimeError("not yet")
        yield line, None
"""


def mrq(tmp_path: Path, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environ = {**os.environ, "MRQ_TMP": str(tmp_path / "tmp"), "MENDED": str(tmp_path / "mended")}
    return subprocess.run(
        [sys.executable, "-m", "mrq", *args],
        input=stdin,
        capture_output=True,
        env=environ,
        timeout=60,
        cwd=tmp_path,
    )


def test_standard_input_survives_until_the_retry(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "job.py").write_text(JOB)
    failed = mrq(tmp_path, "submit", "job.py", "-", "-o", "out", stdin=b"a\nb\na\n")
    assert failed.returncode == 1
    root = tmp_path / "tmp" / f"mrq-{os.getuid()}"
    (job,) = os.listdir(root / "jobs")
    other = mrq(tmp_path, "submit", "job.py", "job.py", "-o", "-")  # its start sweeps what nobody needs
    assert other.returncode == 1
    (tmp_path / "mended").touch()
    done = mrq(tmp_path, "retry", job)
    assert done.returncode == 0, done.stderr.decode()
    lines = [
        line for part in sorted((tmp_path / "out").glob("part-*")) for line in part.read_text().splitlines()
    ]
    assert sorted(lines) == ["a\t2", "b\t1"]
    assert mrq(tmp_path, "clean").returncode == 0
    assert not (root / "private").exists()
