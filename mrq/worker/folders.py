"""A worker's own folders: made again when they vanish, and told apart from what a job does.

Somebody clears /tmp, a disk is mounted over, an operator tidies up: an attempt then meets errors that are
neither the job's nor its input's. They are found here, on the side of the attempt (`lost`), and mended on the
side of its agent (`mend`).
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Final

from mrq.core.model import ErrorReport, Outcome, Status
from mrq.errors import WorkerFolderError
from mrq.worker.attempt_order import AttemptOrder

#: What an error of a disk is that carries no path: of a write, mostly.
_OF_A_DISK: Final = frozenset({errno.EIO, errno.ESTALE, errno.EROFS, errno.ENODEV, errno.ENXIO})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
#: A disk that is full has a name of its own, and what a process has too much of isn't the folder's fault.
_NOT_OF_A_FOLDER: Final = _FULL | {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_CAUSES_MAX: Final = 10
_OURS: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def lost(order: AttemptOrder, exc: BaseException | None, code: str = "") -> str | None:
    """Why an attempt couldn't work in its worker's folders; None where they are as they should be, and the
    error is the job's. `code` is the folder of the job's code, where that is known."""
    fetched = {source.path for source in order.sources if source.partition is not None}
    needed = (*_folders(order), *((code,) if code else ()), *fetched)
    gone = next((path for path in needed if not os.path.exists(path)), None)
    if gone is not None:
        return f"{gone}, of this worker's own folders, is gone: it was removed while the task ran"
    folders = tuple(f"{folder}/" for folder in _folders(order))
    for each in causes(exc):
        if not isinstance(each, OSError) or each.errno in _NOT_OF_A_FOLDER:
            continue
        if isinstance(each.filename, str | bytes):
            path = os.fsdecode(each.filename)
            if f"{path}/".startswith(folders):
                return f"{path}, of this worker's own folders, can't be used: {each.strerror}"
        elif each.errno in _OF_A_DISK and _is_ours(each):
            return f"the disk of this worker's own folders fails: {each.strerror}"
    return None


def outcome(why: str) -> Outcome:
    """Of an attempt that its worker's own disk failed: nothing is charged."""
    error = ErrorReport(type=WorkerFolderError.__name__, message=why)
    return Outcome(status=Status.LOST, error=error, started=False, disk=True)


def mend(folder: str, root: str) -> None:
    """Make a folder below `root`, whatever stands in its place, and make it ours to write in. Raises OSError
    where that can't be."""
    at = root
    for part in os.path.relpath(folder, root).split(os.sep):
        at = f"{at}/{part}"
        # Also a link to a folder, which isn't ours.
        if os.path.islink(at) or (os.path.lexists(at) and not os.path.isdir(at)):
            os.rename(at, f"{at}.{os.urandom(4).hex()}.aside")
            break
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        os.chmod(folder, 0o700)
    probe(folder)


def probe(folder: str) -> None:
    """Write something into a folder, and remove it. Raises OSError, but not for a disk that is full."""
    path = f"{folder}/.mrq-{os.urandom(4).hex()}"
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as exc:
        if exc.errno not in _FULL:
            raise
    with contextlib.suppress(OSError):
        os.unlink(path)


def _folders(order: AttemptOrder) -> Iterator[str]:
    for path in (order.output_path, order.log_path):
        if path:
            yield os.path.dirname(path)
    if order.scratch:
        yield order.scratch
    yield from {os.path.dirname(source.path) for source in order.sources if source.partition is not None}


def causes(exc: BaseException | None, most: int = _CAUSES_MAX) -> list[BaseException]:
    """An error and what it came from, so many at most."""
    chain: list[BaseException] = []
    while exc is not None and len(chain) < most and id(exc) not in map(id, chain):
        chain.append(exc)
        exc = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    return chain


def _is_ours(exc: BaseException) -> bool:
    """Was it raised by mrq's own code?"""
    at = exc.__traceback__
    if at is None:
        return False
    while at.tb_next is not None:
        at = at.tb_next
    return at.tb_frame.f_code.co_filename.startswith(_OURS)
