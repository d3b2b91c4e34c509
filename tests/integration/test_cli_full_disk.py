"""A full disk, for temporary data and for the output: named, with the earlier output intact.

A small tmpfs stands for the disk, in a mount namespace of the test's own, so that nothing stays mounted.
Where the machine allows no mounts at all, a limit on the size of files stands for it.
"""

import os
import re
import subprocess
import sys

import pytest
from cli_runs import Runs

#: Starts a command with a tmpfs of 3 MiB on a folder, which must be there.
_ON_TMPFS = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=3m tmpfs "$0" && exec "$@"']


@pytest.fixture
def shell(tmp_path):
    made = Runs(tmp_path)
    made.write("in.txt", "".join(f"word{n * 7919 % 400_000} x{n}\n" for n in range(400_000)))
    (tmp_path / "small").mkdir()
    made.write("little.txt", "earlier\n")
    assert made.submit("wc.py", "little.txt", "-o", "earlier", "-R", "1").code == 0
    return made


def mounts_work(folder):
    made = subprocess.run([*_ON_TMPFS, str(folder), "true"], capture_output=True, timeout=20)
    return made.returncode == 0


def submit_on(shell, *argv, env=None):
    """Submit with `small` as a disk of 3 MiB. Says afterwards what lay in `small/out`."""
    small = str(shell.folder / "small")
    command = [sys.executable, "-m", "mrq", "submit", *argv]
    look = f"ls -A {small}/out; head -c 99 {small}/out/part-00000"
    after = f'"$@"; code=$?; ({look}) 2>/dev/null; exit $code'
    before = f"cp -r {shell.folder}/earlier {small}/out; "
    inside = ["sh", "-c", before + after, "sh", *command]
    return subprocess.run(
        [*_ON_TMPFS, small, *inside],
        cwd=shell.folder,
        env=shell.environ(**(env or {})),
        capture_output=True,
        timeout=110,
    )


def told(ran, *words):
    text = ran.stderr.decode(errors="replace")
    assert ran.returncode == 1, text
    assert "Traceback" not in text
    assert "bug in mrq" not in text
    for word in words:
        assert word in text, text


def test_no_room_for_temporary_data(shell):
    if not mounts_work(shell.folder / "small"):
        return limited(shell)
    ran = submit_on(shell, "wc.py", "in.txt", "-o", "out", env={"MRQ_TMP": str(shell.folder / "small")})
    told(ran, "small/", "full")
    needed = re.search(r"needed ([\d,]+) more bytes and [\d,]+ bytes were free", ran.stderr.decode())
    assert needed
    assert int(needed[1].replace(",", "")) > 10_000  # what waits in buffers too
    assert not (shell.folder / "out").exists()
    return None


def test_no_room_for_the_output(shell):
    if not mounts_work(shell.folder / "small"):
        return limited(shell)
    ran = submit_on(shell, "wc.py", "in.txt", "-o", "small/out", "--overwrite")
    told(ran, "small/", "full")
    assert ran.stdout.decode().split() == ["_SUCCESS", "part-00000", "earlier", "1"]
    return None


def limited(shell):
    """No mounts here: no file may grow beyond 1 MiB instead."""
    import resource

    process = subprocess.run(
        [sys.executable, "-m", "mrq", "submit", "wc.py", "in.txt", "-o", "out"],
        cwd=shell.folder, env=shell.environ(), capture_output=True, timeout=110,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )  # fmt: skip
    told(process, "mrq-")
    assert not (shell.folder / "out").exists()
    assert os.listdir(shell.folder / "small") == []
