"""What a finished output says of itself: the manifest, the file `_SUCCESS` in it."""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mrq.commit.filesystem import LOCAL
from mrq.core.info import StageInfo
from mrq.core.model import JobSpec, StagedFile
from mrq.errors import CorruptFileError, OutputError

SUCCESS: Final = "_SUCCESS"
MANIFEST_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What `_SUCCESS` says of a committed output."""

    job: str  #: the id
    name: str  #: of the job's class
    code: str  #: sha256 of the bundle, hex
    parameters: Mapping[str, Any]  #: as JSON has them: tuples are lists, bytes text
    inputs: tuple[str, ...]  #: as spelled
    input_files: int
    input_bytes: int
    format: str
    compression: str | None
    reducers: int
    counters: Mapping[str, int]
    parts: tuple[StagedFile, ...]  #: in part order; `final` is relative to OUT
    bad: tuple[StagedFile, ...] = ()  #: files of `_bad/`
    displaces: str | None = None  #: identity of the earlier output that this one replaces
    started_at: float = 0.0  #: seconds since the epoch
    finished_at: float = 0.0
    version: str = ""  #: of mrq
    #: Of a job of several stages what the maps and the reduces of each did, `_SUMS` of them.
    stages: tuple[Mapping[str, Any], ...] = ()

    @property
    def files(self) -> tuple[StagedFile, ...]:
        """Everything that moves to OUT."""
        return self.parts + self.bad

    @property
    def records(self) -> int:
        """Of all parts."""
        return sum(part.records for part in self.parts)

    @property
    def bytes(self) -> int:
        """Of all parts."""
        return sum(part.bytes for part in self.parts)


#: What stands in the file before its parts, in order, and how it is read; sums are only written.
_HEAD: Final[Mapping[str, Callable[[Any], Any] | None]] = {
    "job": str,
    "name": str,
    "code": str,
    "parameters": dict,
    "inputs": tuple,
    "input_files": int,
    "input_bytes": int,
    "format": str,
    "compression": lambda name: name,
    "reducers": int,
    "counters": dict,
    "records": None,
    "bytes": None,
    "displaces": lambda identity: identity,
    "started_at": float,
    "finished_at": float,
    "version": str,
}


#: What is said of each stage.
_SUMS: Final = (
    "stage",
    "name",
    "total",
    "records_in",
    "bytes_in",
    "records_out",
    "bytes_out",
    "groups",
    "bad_records",
)
#: What a file's line has -> the field of `StagedFile`.
_COLUMNS: Final = {
    "name": "final", "records": "records", "bytes": "bytes", "crc32": "crc32", "staged": "name",
}  # fmt: skip


def dump_manifest(manifest: Manifest) -> bytes:
    """The manifest as the bytes of `_SUCCESS`: JSON in ASCII, one line a part."""
    head = {"mrq_manifest": MANIFEST_VERSION} | {name: getattr(manifest, name) for name in _HEAD}
    lines = [f"{json.dumps(k)}: {json.dumps(_plain(v))}" for k, v in head.items()]
    if manifest.stages:
        rows = ",\n  ".join(map(json.dumps, manifest.stages))
        lines.append(f'"stages": [\n  {rows}\n ]')
    for name, files in (("parts", manifest.parts), ("bad", manifest.bad)):
        rows = ",\n  ".join(
            json.dumps({column: getattr(file, field) for column, field in _COLUMNS.items()}) for file in files
        )
        lines.append(f'"{name}": [\n  {rows}\n ]' if rows else f'"{name}": []')
    return ("{" + ",\n ".join(lines) + "}\n").encode("ascii")


def parse_manifest(data: bytes) -> Manifest:
    """The manifest in those bytes. Raises CorruptFileError."""
    try:
        raw = json.loads(data)
        found = raw["mrq_manifest"]
        if found != MANIFEST_VERSION:
            raise CorruptFileError(f"a manifest of version {found}; this mrq reads {MANIFEST_VERSION}")
        head = {name: read(raw[name]) for name, read in _HEAD.items() if read is not None}
        parts, bad = tuple(map(_file_of, raw["parts"])), tuple(map(_file_of, raw["bad"]))
        return Manifest(**head, parts=parts, bad=bad, stages=tuple(raw.get("stages", ())))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        raise CorruptFileError(f"not a manifest of mrq ({type(exc).__name__}: {exc})") from exc


def _file_of(row: Mapping[str, Any]) -> StagedFile:
    final, name = str(row["name"]), str(row["staged"])
    for path in (final, name):
        if path.startswith("/") or not path or ".." in path.split("/"):
            raise ValueError(f"a path that leaves its folder: {path!r}")
    numbers = {column: int(row[column]) for column in ("records", "bytes", "crc32")}
    return StagedFile(name=name, final=final, **numbers)


def _plain(value: Any) -> Any:
    """A carried value as JSON has it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, Mapping):
        return {k if isinstance(k, str) else str(_plain(k)): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def manifest_of(
    spec: JobSpec,
    files: Sequence[StagedFile],
    counters: Mapping[str, int],
    *,
    started_at: float,
    finished_at: float,
    inputs: Sequence[str] | None = None,
    reducers: int | None = None,
    stages: Sequence[StageInfo] = (),
) -> Manifest:
    """The manifest of a job's winners; times in seconds since the epoch. `reducers` is R of the last stage,
    where it isn't the spec's to say."""
    opened = {piece.open: piece.size for split in spec.splits for piece in split.pieces}
    return Manifest(
        job=spec.job,
        name=spec.name,
        code=spec.code,
        parameters=spec.parameters,
        inputs=tuple(spec.inputs if inputs is None else inputs),
        input_files=len(opened),
        input_bytes=sum(opened.values()),
        format=spec.last.output_format,
        compression=spec.last.compression,
        reducers=spec.reducers if reducers is None else reducers,
        counters=counters,
        parts=tuple(file for file in files if not file.is_bad),
        bad=tuple(file for file in files if file.is_bad),
        stages=tuple({name: getattr(stage, name) for name in _SUMS} for stage in stages),
        started_at=started_at,
        finished_at=finished_at,
        version=str(getattr(sys.modules.get("mrq"), "__version__", "")),
    )


def read_manifest(out: str) -> Manifest:
    """What `_SUCCESS` says. Raises OutputError when OUT isn't a committed output, CorruptFileError."""
    try:
        data = LOCAL.read(f"{out}/{SUCCESS}")
    except OSError as exc:
        raise OutputError(f"{out}/{SUCCESS} can't be read: {exc.strerror}") from exc
    if data is None:
        raise OutputError(f"{out} isn't a finished output of mrq: there is no {SUCCESS} in it")
    try:
        return parse_manifest(data)
    except CorruptFileError as exc:
        raise CorruptFileError(f"{out}/{SUCCESS}: {exc}") from exc


def manifest_in(data: bytes | None) -> Manifest | None:
    """The manifest in those bytes; None for what isn't one of ours."""
    try:
        return parse_manifest(data) if data else None
    except CorruptFileError:
        return None


def is_result(path: str) -> bool:
    """Is it the folder of a finished result of ours?"""
    try:
        return manifest_in(LOCAL.read(f"{path}/{SUCCESS}")) is not None
    except OSError:
        return False


def part_files(out: str) -> list[tuple[str, StagedFile]]:
    """Paths of a committed output's parts, in part order, each with what the manifest says of it. Raises
    OutputError, CorruptFileError."""
    return [(os.path.join(out, part.final), part) for part in read_manifest(out).parts]


def intact(path: str, file: StagedFile) -> bool:
    """Are these the bytes that the attempt wrote: length and checksum?"""
    crc = size = 0
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        while data := os.read(fd, 1 << 20):
            crc = zlib.crc32(data, crc)
            size += len(data)
    finally:
        os.close(fd)
    return size == file.bytes and crc == file.crc32
