"""Verifies the bytes of several regions that come one after another: where each ends, and whether it is what
was promised."""

from __future__ import annotations

from collections.abc import Sequence

from mrq.codec.checksum import crc32
from mrq.errors import CorruptFileError
from mrq.shuffle.mapfile import Region


class StreamVerifier:
    """Checks a stream of regions as it comes."""

    def __init__(self, infos: Sequence[Region]) -> None:
        self._infos = infos
        self._crc = 0
        self._in_region = 0  # bytes of the current region
        #: Bytes so far.
        self.bytes = 0
        #: Of each region that has ended, whether its checksum is right.
        self.sound: list[bool] = []
        #: Bytes of all.
        self.total = sum(info.length for info in infos)
        self._end_regions()

    def feed(self, chunk: bytes) -> None:
        """The next bytes. Raises CorruptFileError when there are more than was promised."""
        if self.bytes + len(chunk) > self.total:
            raise CorruptFileError(f"more than the {self.total:,} bytes came that were promised")
        view = memoryview(chunk)
        while view:
            left = self._infos[len(self.sound)].length - self._in_region
            part = view[:left]
            self._crc = crc32(part, self._crc)
            self._in_region += len(part)
            view = view[len(part) :]
            self._end_regions()
        self.bytes += len(chunk)

    def _end_regions(self) -> None:
        """The current one, if it is complete, and empty ones after it."""
        while len(self.sound) < len(self._infos):
            info = self._infos[len(self.sound)]
            if self._in_region < info.length:
                return
            self.sound.append(self._crc == info.crc32)
            self._crc = self._in_region = 0
