"""The PeerClient's twin: map outputs read where they lie, on a disk that all workers share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mrq.core.model import MapLocation
from mrq.core.paths import job_folder
from mrq.errors import CorruptFileError
from mrq.ports import Dialled
from mrq.shuffle.mapfile import MapFile, Region


class LocalPeers:
    """A PeerClient over the map-output files under one root, which all workers of this machine share."""

    def __init__(self, root: str) -> None:
        self._root = root

    def sizes(self, job: str, partition: int, outputs: Sequence[MapLocation]) -> list[Region | None]:
        """Each output's region, by its index entry."""
        return [self._size(job, partition, output) for output in outputs]

    def fetch(
        self, job: str, partition: int, outputs: Sequence[MapLocation], offset: int = 0
    ) -> Iterator[bytes]:
        """The regions' bytes from an offset on."""
        for output in outputs:
            with self._open(job, output) as file:
                length = file.entry(partition).length
                try:
                    yield from file.raw(partition, offset)
                except OSError as exc:
                    raise CorruptFileError(f"{file.path}: {exc.strerror} in partition {partition}") from exc
                offset = max(0, offset - length)

    def dial(self, worker: str, boot: str) -> Dialled:
        """Whoever it is, it is here."""
        try:
            with open(f"{self._root}/sentinel", encoding="ascii") as file:
                sentinel = file.read()
        except OSError:
            sentinel = ""
        return Dialled(worker=worker, boot=boot, root=self._root, sentinel=sentinel)

    def close(self) -> None:
        """Nothing is held open."""

    def _size(self, job: str, partition: int, output: MapLocation) -> Region | None:
        try:
            with self._open(job, output) as file:
                return file.entry(partition)
        except CorruptFileError:
            return None

    def _open(self, job: str, output: MapLocation) -> MapFile:
        """The file of exactly this attempt and digest. Raises CorruptFileError."""
        path = f"{job_folder(self._root, job)}/maps/{output.attempt}"
        try:
            file = MapFile(path)
        except OSError as exc:
            raise CorruptFileError(f"{path}: {exc.strerror}; the map must run again") from exc
        if file.digest != output.digest:
            file.close()
            raise CorruptFileError(
                f"{path}: digest {file.digest:#x} where {output.digest:#x} is recorded; run the map again"
            )
        return file
