"""Files under a quota: they ask for room before they write, a buffer at a time."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Literal

#: Of every file that is written here.
_BUFFER_BYTES: Final = 1 << 18
#: What even a small file takes.
_BLOCK_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What bounds what is written, by any thread."""

    grain: int  #: bytes that are asked for, and then written, at once, at most
    ask: Callable[[int], None]  #: room for so many bytes more. Raises DiskFullError where there is none


def create(path: str, mode: Literal["wb", "xb"], quota: Quota | None) -> BinaryIO:
    """A buffered file to write, under the quota if there is one. Raises DiskFullError, OSError."""
    if quota is None:
        return open(path, mode, buffering=_BUFFER_BYTES)
    quota.ask(min(quota.grain, _BLOCK_BYTES))
    return io.BufferedWriter(_Bounded(path, mode, quota), _BUFFER_BYTES)


class _Bounded(io.FileIO):
    def __init__(self, path: str, mode: str, quota: Quota) -> None:
        super().__init__(path, mode)
        self._quota = quota

    def write(self, data: Any) -> int:
        """As much as may be asked for at once; the caller writes the rest. Raises DiskFullError, OSError."""
        part = memoryview(data).cast("B")[: self._quota.grain]
        self._quota.ask(len(part))
        return super().write(part)
