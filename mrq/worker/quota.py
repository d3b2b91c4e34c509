"""A worker's disk quota as a bound: whoever writes much below the worker's folder asks for room before.

The worker's processes share a page of 64-bit numbers, and nothing waits for a lock. In use is what was
measured last and all that was granted since: a holder adds to its own number, then looks at the sum. Two that
look at once may each miss what the other asks for, and a measurement what was granted and isn't written yet.
Both are at most a grain a writer, and the limits lie that much below the quota. Before anybody is refused the
folder is measured again: files go without being told.

The page: MEASURED, MAPS, ALL, GRAIN, QUOTA, then a number for each holder.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import threading
from functools import partial
from typing import Final

from mrq.core.model import Slots
from mrq.errors import DiskFullError
from mrq.shuffle.bounded import Quota
from mrq.worker.disk_use import MERGE_SHARE, used_bytes

#: Bytes in use when they were last measured, less all that had been granted by then.
_MEASURED: Final = 0
#: Bytes up to which maps are granted, and up to which reduces are.
_MAPS, _ALL = 1, 2
#: Bytes that are asked for at once, at most: this share of the quota, within these bounds.
_GRAIN: Final = 3
#: The quota itself, bytes.
_QUOTA: Final = 4
_GRAIN_SHARE: Final = 1024
_GRAIN_MIN, _GRAIN_MAX = 4 << 10, 256 << 10
_HEAD: Final = 5
_ITEM: Final = 8
#: The data plane, and more executors than a worker has: the last number is anybody's.
_HOLDERS: Final = 251
#: The data plane's number, and that of whoever only looks.
DATA_PLANE: Final = 0
LOOKER: Final = -1
#: Threads of one reduce's fetch that write at once.
_WRITERS: Final = 5


def create(folder: str, quota: int, slots: Slots) -> str:
    """Make the page of a worker's folder; its path. Raises OSError."""
    path = f"{folder}/quota"
    grain = max(_GRAIN_MIN, min(_GRAIN_MAX, quota // _GRAIN_SHARE))
    slack = 2 * grain * (slots.total + _WRITERS * slots.reduce)
    everybody = max(0, quota - slack)
    maps = max(0, everybody - int(quota * MERGE_SHARE))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # an older boot's
    with open(path, "xb") as file:
        for number in (used_bytes(folder), maps, everybody, grain, quota, *[0] * _HOLDERS):
            file.write(number.to_bytes(_ITEM, "little", signed=True))
    return path


class QuotaPage:
    """The page as one process holds it, for as long as that lives."""

    def __init__(self, path: str, holder: int | None = None) -> None:
        """`holder`: this process's number; by default one that no other executor has. Raises OSError."""
        self.path = path
        self._folder = os.path.dirname(path)
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._view = memoryview(mmap.mmap(self._fd, 0)).cast("q")
        self._granted = self._view[_HEAD:]
        self.holder = self._find() if holder is None else holder
        self._lock = threading.Lock()  # of this process's number

    def _find(self) -> int:
        """A number of one's own, until this process ends."""
        for holder in range(DATA_PLANE + 1, _HOLDERS - 1):
            with contextlib.suppress(OSError):
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, _ITEM, _ITEM * (_HEAD + holder))
                return holder
        return _HOLDERS - 1

    @property
    def granted(self) -> int:
        """Bytes in all, ever."""
        return sum(self._granted)

    @property
    def used(self) -> int:
        """Bytes in use, as far as is known."""
        return self._view[_MEASURED] + self.granted

    def measured(self, used: int, granted: int) -> None:
        """So many bytes are in use; `granted` was read before they were counted."""
        self._view[_MEASURED] = used - granted

    def share(self, *, maps: bool) -> Quota:
        """For writers; what `maps` write leaves room for reduces."""
        return Quota(grain=self._view[_GRAIN], ask=partial(self._ask, maps))

    def _ask(self, maps: bool, count: int) -> None:
        """Of `Quota.ask`."""
        limit = self._view[_MAPS if maps else _ALL]
        with self._lock:
            self._granted[self.holder] += count
            if self.used <= limit:
                return
            granted = self.granted
            self.measured(used_bytes(self._folder), granted - count)
            used = self.used
            if used <= limit:
                return
            self._granted[self.holder] -= count
        kept = " (a fifth is kept for reduces)" if maps else ""
        raise DiskFullError(
            f"the disk quota of this worker is reached: {used - count:,} of {self._view[_QUOTA]:,} bytes are "
            f"in use in {self._folder}, and {count:,} more were needed{kept}; give it more (--disk-quota, "
            "MRQ_DISK_QUOTA), or add workers"
        )
