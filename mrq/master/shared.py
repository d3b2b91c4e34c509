"""What masters and workers share on a disk: inputs that came as blobs, results of jobs without OUT.

    SHARED_ROOT/
      inputs/JOB/0/NAME      the job's first input, under its own name (its suffix says how to read it)
      results/JOB/           the committed output of a job without OUT; clients read it through the leader

Both go with their job.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from mrq.commit.manifest import part_files
from mrq.core.paths import check_job_id, is_url
from mrq.errors import InputError, OperatorError, UsageError
from mrq.io import disk, inputs, seen
from mrq.io.plan import Draft, DraftInput
from mrq.ports import Blobs

#: What one `read` answers with at most.
READ_BYTES_MAX: Final = 1 << 20
#: The part that stands for `_SUCCESS`.
_MANIFEST: Final = -1
_SHOWN: Final = 12
#: What a folder is called that a job has, as `planning.job_id` makes them.
_OURS: Final = re.compile(r"[a-z0-9-]+-[0-9a-f]{8}")


class SharedRoot:
    """One cluster's folder; any master may use it."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)

    def prepare(self) -> None:
        """Make it. Raises OperatorError, naming what to set."""
        try:
            for name in ("inputs", "results"):
                os.makedirs(f"{self.root}/{name}", exist_ok=True)
        except OSError as exc:
            raise OperatorError(
                f"the shared root {self.root} can't be made: {exc.strerror}; set MRQ_SHARED_ROOT to a folder "
                "that all masters and workers share and may write to"
            ) from exc

    def result(self, job: str) -> str:
        """Where a job without OUT commits to."""
        return f"{self.root}/results/{check_job_id(job)}"

    def materialise(self, draft: Draft, blobs: Blobs) -> Draft:
        """Blobs as files, each named in the draft. Raises UsageError for one that is gone, DiskFullError."""
        made = []
        for index, given in enumerate(draft.inputs):
            if given.blob is None:
                made.append(given)
                continue
            data = blobs.get(given.blob)
            if data is None:
                raise UsageError(f"{given.spelled}: what was sent of it isn't kept any more; submit again")
            path = self._input(draft.spec.job, index, given.spelled)
            folder = os.path.dirname(path)
            with disk.naming(path, len(data)):
                os.makedirs(folder, exist_ok=True)
                with open(f"{folder}/.new", "wb") as file:
                    file.write(data)
                os.replace(f"{folder}/.new", path)
            made.append(replace(given, open=path))
        return replace(draft, inputs=tuple(made))

    def placed(self, draft: Draft) -> Draft:
        """A dry run's, which makes no file: measured inputs, each named where it would lie."""
        job = draft.spec.job
        placed = [
            given if given.size is None else replace(given, open=self._input(job, index, given.spelled))
            for index, given in enumerate(draft.inputs)
        ]
        return replace(draft, inputs=tuple(placed))

    def _input(self, job: str, index: int, spelled: str) -> str:
        name = "stdin" if spelled == "-" else os.path.basename(spelled)
        return f"{self.root}/inputs/{check_job_id(job)}/{index}/{name}"

    def read(self, job: str, part: int, offset: int) -> tuple[bytes, int]:
        """(at most 1 MiB from `offset` on, the size) of a part of a result, or of its manifest (-1).

        Raises UsageError when there is no such result or part (any more).
        """
        folder = self.result(job)
        if not os.path.isdir(folder):
            raise UsageError(f"the result of {job} isn't kept on the cluster (any more)")
        names = [name for name, _ in part_files(folder)]
        if part != _MANIFEST and not 0 <= part < len(names):
            raise UsageError(f"the result of {job} has {len(names)} parts, so no part {part}")
        path = f"{folder}/_SUCCESS" if part == _MANIFEST else names[part]
        try:
            with open(path, "rb") as file:
                file.seek(max(0, offset))
                return file.read(READ_BYTES_MAX), os.fstat(file.fileno()).st_size
        except OSError as exc:
            raise OperatorError(f"{path} can't be read: {exc.strerror}") from exc

    def drop_inputs(self, job: str) -> None:
        """Remove what was materialised for a job that is over for good. Never raises."""
        shutil.rmtree(f"{self.root}/inputs/{check_job_id(job)}", ignore_errors=True)

    def sweep(self, known: Callable[[], Collection[str]], until: float) -> None:
        """Remove what belongs to jobs that nobody knows any more, unless it was changed after `until`, in
        seconds since the epoch: a store that lost its data knows nothing of jobs that are done, whose results
        are still read. What isn't named as a job is somebody else's, if the root is a folder that is used for
        other things too. `known` is asked after the folders were listed, so that what a new job makes
        meanwhile isn't among them. Raises OperatorError."""
        found: list[tuple[str, str]] = []
        for kind in ("inputs", "results"):
            with contextlib.suppress(OSError):
                found += [(name, f"{self.root}/{kind}/{name}") for name in os.listdir(f"{self.root}/{kind}")]
        there = known()
        for name, path in found:
            if name not in there and _OURS.fullmatch(name) and _changed_at(path) < until:
                shutil.rmtree(path, ignore_errors=True)


def _changed_at(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def unseen(draft: Draft) -> dict[int, str]:
    """The inputs that this machine doesn't see, or sees something else for: index -> what it does see."""
    found = {}
    for index, given in enumerate(draft.inputs):
        if not given.is_sent and not is_url(given.spelled):
            why = _why_unseen(given, draft.all_files)
            if why:
                found[index] = why
    return found


def _why_unseen(given: DraftInput, hidden: bool) -> str:
    """Nothing where it may be read here."""
    if given.seen is None:
        return "" if inputs.is_there(given.spelled, given.open, hidden=hidden) else _what_is_seen(given.open)
    try:
        there = seen.look(given.spelled, given.open, hidden=hidden)
    except InputError as exc:
        return f"on the cluster it can't be read: {str(exc).removeprefix(f'{given.spelled}: ')}"
    if there is None:
        return _what_is_seen(given.open)
    if there == given.seen:
        return ""
    alike = ", of other names or times" if str(there) == str(given.seen) else ""
    return (
        f"the cluster has something else at {given.open}: {there}{alike}; where you are there is {given.seen}"
    )


def _what_is_seen(path: str) -> str:
    """That it isn't there; and the nearest parent that is, with what is in it."""
    return f"the cluster doesn't see {path}; {_nearest(path)}"


def _nearest(path: str) -> str:
    parent = os.path.dirname(path) or "/"
    while not os.path.isdir(parent) and parent != "/":
        parent = os.path.dirname(parent)
    try:
        names = sorted(name for name in os.listdir(parent) if not name.startswith("."))
    except OSError as exc:
        return f"{parent} is there and can't be listed: {exc.strerror}"
    if not names:
        return f"{parent} is there, and empty"
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"{parent} is there, with {', '.join(names[:_SHOWN])}{more}"
