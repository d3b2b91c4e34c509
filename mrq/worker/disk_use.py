"""How much of its disk a worker uses, and whether there is room for more map outputs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from mrq.io import disk

#: Of what the files may take, kept for fetched regions and for merges: reduces give room back.
MERGE_SHARE: Final = 0.2
#: No more maps are taken while less than this is free: those that run need room to end.
_TAKE_SHARE: Final = 0.3
#: Once full, maps are taken again when this share is free: not at every output that goes.
_AGAIN_SHARE: Final = 0.35
#: A disk with less than this is full, whatever the quota.
_FREE_MIN_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUse:
    """One measurement."""

    used: int  #: bytes of the worker's files
    quota: int  #: bytes that they may take; 0: the disk
    free: int  #: bytes on the disk
    full: bool = False  #: no more maps

    @property
    def note(self) -> str | None:
        """What to tell people while it is full."""
        if not self.full:
            return None
        until = f"no maps are taken until {self.needed:,} bytes more are free"
        if self.quota and self.quota <= self.used + self.free:
            return (
                f"disk quota reached: {self.used:,} of {self.quota:,} bytes are used, and the rest is kept "
                f"for what runs and for reduces; {until} (--disk-quota)"
            )
        return (
            f"disk quota reached: the disk has {self.free:,} bytes left beside the {self.used:,} that are "
            f"used here, which is kept for what runs and for reduces; {until}"
        )

    @property
    def needed(self) -> int:
        """Bytes that must become free before maps are taken again."""
        limit = min(self.quota, self.used + self.free) if self.quota else self.used + self.free
        return max(int(limit * _AGAIN_SHARE) + 1 - (limit - self.used), _FREE_MIN_BYTES - self.free, 0)


def measure(folder: str, quota: int | None, before: DiskUse | None = None) -> DiskUse:
    """How it stands now; `before` is the measurement before this one."""
    return judge(
        used_bytes(folder), quota or 0, disk.free_bytes(folder), was_full=bool(before and before.full)
    )


def judge(used: int, quota: int, free: int, *, was_full: bool) -> DiskUse:
    """Whether there is room for more, which takes more room than it took to be full."""
    limit = min(quota, used + free) if quota else used + free
    left = limit - used
    full = left <= limit * (_AGAIN_SHARE if was_full else _TAKE_SHARE) or free < _FREE_MIN_BYTES
    return DiskUse(used=used, quota=quota, free=free, full=full)


def used_bytes(folder: str) -> int:
    """What the files below a folder take on the disk."""
    total = 0
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:  # removed meanwhile
            continue
    return total
