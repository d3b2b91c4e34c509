"""Private folders of engines that are gone: standard input put aside, records, results without OUT.

What a job that is kept for `mrq retry` still reads or writes stays; all else is swept at the next start.
"""

from __future__ import annotations

import contextlib
import os
import shutil

from mrq.core.model import JobSpec
from mrq.errors import MrqError
from mrq.io.temporary import LOCK, paths_of
from mrq.servers.memory.jobfolder import read_kept, try_lock


def sweep(root: str) -> None:
    """Remove the folders of dead engines that no kept job needs."""
    try:
        found = [entry.path for entry in os.scandir(os.path.join(root, "private")) if entry.is_dir()]
    except OSError:
        return
    # A folder without a lock is in the making.
    dead = [(path, fd) for path in found if (fd := try_lock(f"{path}/{LOCK}", make=False)) is not None]
    needed: set[str] = set()  # some job under `root` reads from these, or writes to them
    with contextlib.suppress(OSError):
        for entry in os.scandir(os.path.join(root, "jobs")) if dead else ():
            with contextlib.suppress(MrqError):
                needed.update(used_by(read_kept(entry.path).spec, root))
    for path, fd in dead:
        if path not in needed:
            shutil.rmtree(path, ignore_errors=True)
        os.close(fd)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.join(root, "private"))


def used_by(spec: JobSpec, root: str) -> list[str]:
    """The private folders that a job's inputs and output lie in."""
    private = os.path.join(root, "private") + os.sep
    inside = [path[len(private) :] for path in paths_of(spec) if path.startswith(private)]
    return list({private + path.partition(os.sep)[0] for path in inside})
