"""How an output becomes visible: a pure machine of steps that may each be done again.

    LOOKING -> CHECKING -> LINKING -> MOVING -> MARKING -> PUBLISHING -> CLEANING -> DONE
    PUBLISHING -> ASIDE -> PUBLISHING where two folders can't be swapped in one step

`handle(event)` answers with the one command to carry out next; the performer (`io.committer`) carries
it out and says what happened. The manifest decides: once it is linked into the staging folder its list
of files is the output, whatever the plan in memory says. Before that nothing was changed; after it every
step finds out by looking whether it was done already, so a crash at any point is followed by the same
commands again. FAILED can be left by beginning again.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mrq.core.model import StagedFile
from mrq.errors import CorruptFileError, IllegalTransition

MANIFEST_VERSION: Final = 1
_STATE_VERSION: Final = 1


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

    @property
    def files(self) -> tuple[StagedFile, ...]:
        """Everything that moves to OUT."""
        return self.parts + self.bad


def dump_manifest(manifest: Manifest) -> bytes:
    """The manifest as the bytes of `_SUCCESS`: JSON in ASCII, one line a part."""
    head = {
        "mrq_manifest": MANIFEST_VERSION,
        "job": manifest.job,
        "name": manifest.name,
        "code": manifest.code,
        "parameters": dict(manifest.parameters),
        "inputs": list(manifest.inputs),
        "input_files": manifest.input_files,
        "input_bytes": manifest.input_bytes,
        "format": manifest.format,
        "compression": manifest.compression,
        "reducers": manifest.reducers,
        "counters": dict(manifest.counters),
        "records": sum(part.records for part in manifest.parts),
        "bytes": sum(part.bytes for part in manifest.parts),
        "displaces": manifest.displaces,
        "started_at": manifest.started_at,
        "finished_at": manifest.finished_at,
        "version": manifest.version,
    }
    lines = [f"{json.dumps(k)}: {json.dumps(_plain(v))}" for k, v in head.items()]
    for name, files in (("parts", manifest.parts), ("bad", manifest.bad)):
        rows = ",\n  ".join(json.dumps(_file_row(file)) for file in files)
        lines.append(f'"{name}": [\n  {rows}\n ]' if rows else f'"{name}": []')
    return ("{" + ",\n ".join(lines) + "}\n").encode("ascii")


def parse_manifest(data: bytes) -> Manifest:
    """The manifest in those bytes. Raises CorruptFileError."""
    try:
        raw = json.loads(data)
        found = raw["mrq_manifest"]
        if found != MANIFEST_VERSION:
            raise CorruptFileError(f"a manifest of version {found}; this mrq reads {MANIFEST_VERSION}")
        return Manifest(
            job=str(raw["job"]),
            name=str(raw["name"]),
            code=str(raw["code"]),
            parameters=dict(raw["parameters"]),
            inputs=tuple(raw["inputs"]),
            input_files=int(raw["input_files"]),
            input_bytes=int(raw["input_bytes"]),
            format=str(raw["format"]),
            compression=raw["compression"],
            reducers=int(raw["reducers"]),
            counters=dict(raw["counters"]),
            parts=tuple(map(_file_of, raw["parts"])),
            bad=tuple(map(_file_of, raw["bad"])),
            displaces=raw["displaces"],
            started_at=float(raw["started_at"]),
            finished_at=float(raw["finished_at"]),
            version=str(raw["version"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        raise CorruptFileError(f"not a manifest of mrq ({type(exc).__name__}: {exc})") from exc


def _file_row(file: StagedFile) -> dict[str, Any]:
    return {
        "name": file.final,
        "records": file.records,
        "bytes": file.bytes,
        "crc32": file.crc32,
        "staged": file.name,
    }


def _file_of(row: Mapping[str, Any]) -> StagedFile:
    final, name = str(row["name"]), str(row["staged"])
    for path in (final, name):
        if path.startswith("/") or not path or ".." in path.split("/"):
            raise ValueError(f"a path that leaves its folder: {path!r}")
    return StagedFile(
        name=name,
        final=final,
        records=int(row["records"]),
        bytes=int(row["bytes"]),
        crc32=int(row["crc32"]),
    )


def _plain(value: Any) -> Any:
    """A carried value as JSON has it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, Mapping):
        return {k if isinstance(k, str) else str(_plain(k)): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


class Step(enum.Enum):
    """Where a commit stands: which command is out."""

    NEW = "new"
    LOOKING = "looking"
    CHECKING = "checking"
    LINKING = "linking"
    MOVING = "moving"
    MARKING = "marking"
    PUBLISHING = "publishing"
    ASIDE = "aside"
    CLEANING = "cleaning"
    DONE = "done"
    FAILED = "failed"


class _Bare:
    """An event or command that says all by its name; no dataclass, for 0.5 ms of every start each."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


# Events: what happened.


class Begun(_Bare):
    """Commit, or go on committing after a restart."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What lies on the disk."""

    manifest: bytes | None  #: in the staging folder
    published: bytes | None  #: OUT's `_SUCCESS`


class FilesChecked(_Bare):
    """Every staged file is there with its length."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestLinked:
    """There is a manifest; `data` is what it says, ours or not."""

    data: bytes


class FilesMoved(_Bare):
    __slots__ = ()


class SuccessMarked(_Bare):
    __slots__ = ()


class Published(_Bare):
    __slots__ = ()


class ExchangeRefused(_Bare):
    """The file system can't swap two folders in one step."""

    __slots__ = ()


class MovedAside(_Bare):
    __slots__ = ()


class Cleaned(_Bare):
    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed:
    message: str


Event = (
    Begun
    | Looked
    | FilesChecked
    | ManifestLinked
    | FilesMoved
    | SuccessMarked
    | Published
    | ExchangeRefused
    | MovedAside
    | Cleaned
    | StepFailed
)


# Commands: what to do. Each may find itself done already, and says so by the same event.


class Look(_Bare):
    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckFiles:
    files: tuple[StagedFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkManifest:
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveFiles:
    """From their attempts' folders to their final names in the staged output."""

    files: tuple[StagedFile, ...]


class MarkSuccess(_Bare):
    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Make the staged output OUT; in one step where an earlier output must go."""

    displaces: str | None
    manifest: bytes  #: OUT with this `_SUCCESS` is published already


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveAside:
    displaces: str | None
    manifest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Clean:
    """Remove the old output, losers' files and the staging folder: OUT is published."""

    manifest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    manifest: Manifest
    warning: str | None  #: the output is complete, but something couldn't be removed


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    message: str


Command = (
    Look | CheckFiles | LinkManifest | MoveFiles | MarkSuccess | Publish | MoveAside | Clean | Finish | GiveUp
)


class Commit:
    """One job's commit. `handle` takes an event and answers with commands; see the module's head."""

    def __init__(self, manifest: Manifest) -> None:
        self.step = Step.NEW
        self.manifest = manifest
        self._data = dump_manifest(manifest)
        self._history: list[str] = []

    def handle(self, event: Event, now: float = 0.0) -> list[Command]:
        """The next commands. Raises IllegalTransition, with nothing changed, for an event out of turn."""
        if isinstance(event, Begun):
            rule: Callable[[Commit, Any], list[Command]] | None = Commit._begin
            if self.step is Step.DONE:
                rule = None
        else:
            rule = _RULES.get((self.step, type(event)))
            if rule is None and isinstance(event, StepFailed) and self.step in _BUSY:
                rule = Commit._fail
        if rule is None:
            raise IllegalTransition(
                f"commit of {self.manifest.job}: {type(event).__name__} while {self.step.value}; "
                f"before: {', '.join(self._history) or 'nothing'}"
            )
        self._history.append(f"{self.step.value}/{type(event).__name__}")
        return rule(self, event)

    def save(self) -> bytes:
        """Everything, for `load`."""
        state = {"v": _STATE_VERSION, "step": self.step.value, "manifest": self._data.decode("ascii")}
        return json.dumps(state).encode("ascii")

    @classmethod
    def load(cls, data: bytes) -> Commit:
        """A machine that goes on where the saved one was; `Begun` makes it look at the disk first.
        Raises CorruptFileError."""
        try:
            state = json.loads(data)
            if state["v"] != _STATE_VERSION:
                raise ValueError(f"version {state['v']}")
            text, step = state["manifest"].encode("ascii"), Step(state["step"])
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise CorruptFileError(f"not a saved commit: {exc}") from exc
        machine = cls(parse_manifest(text))
        machine._data = text
        machine.step = step
        return machine

    def _begin(self, event: Begun) -> list[Command]:
        self.step = Step.LOOKING
        return [Look()]

    def _looked(self, event: Looked) -> list[Command]:
        if event.published is not None and self._is_mine(event.published):
            self._adopt(event.published)
            return self._clean(event)
        if event.manifest is not None:
            return self._linked(ManifestLinked(data=event.manifest))
        self.step = Step.CHECKING
        return [CheckFiles(files=self.manifest.files)]

    def _checked(self, event: FilesChecked) -> list[Command]:
        self.step = Step.LINKING
        return [LinkManifest(data=self._data)]

    def _linked(self, event: ManifestLinked) -> list[Command]:
        try:
            found = parse_manifest(event.data)
        except CorruptFileError as exc:
            return self._fail(StepFailed(message=f"the manifest in the staging folder is damaged: {exc}"))
        if found.job != self.manifest.job:
            return self._fail(StepFailed(message=f"job {found.job} committed to this output first"))
        self._adopt(event.data)
        self.step = Step.MOVING
        return [MoveFiles(files=self.manifest.files)]

    def _moved(self, event: FilesMoved) -> list[Command]:
        self.step = Step.MARKING
        return [MarkSuccess()]

    def _marked(self, event: SuccessMarked | MovedAside) -> list[Command]:
        self.step = Step.PUBLISHING
        return [Publish(displaces=self.manifest.displaces, manifest=self._data)]

    def _refused(self, event: ExchangeRefused) -> list[Command]:
        self.step = Step.ASIDE
        return [MoveAside(displaces=self.manifest.displaces, manifest=self._data)]

    def _clean(self, event: Published | Looked) -> list[Command]:
        self.step = Step.CLEANING
        return [Clean(manifest=self._data)]

    def _cleaned(self, event: Cleaned) -> list[Command]:
        self.step = Step.DONE
        return [Finish(manifest=self.manifest, warning=None)]

    def _left_over(self, event: StepFailed) -> list[Command]:
        """The output is published: what couldn't be removed is said, and fails nothing."""
        self.step = Step.DONE
        return [Finish(manifest=self.manifest, warning=event.message)]

    def _fail(self, event: StepFailed) -> list[Command]:
        self.step = Step.FAILED
        return [GiveUp(message=event.message)]

    def _is_mine(self, data: bytes) -> bool:
        try:
            return parse_manifest(data).job == self.manifest.job
        except CorruptFileError:
            return False

    def _adopt(self, data: bytes) -> None:
        """What was linked counts, not what a later incarnation would have written."""
        self._data = data
        self.manifest = parse_manifest(data)


_BUSY: Final = frozenset(Step) - {Step.NEW, Step.DONE, Step.FAILED}

#: Every legal pair but `Begun` (from anywhere but DONE) and `StepFailed` (from any step under way).
_RULES: Final[dict[tuple[Step, type], Callable[[Commit, Any], list[Command]]]] = {
    (Step.LOOKING, Looked): Commit._looked,
    (Step.CHECKING, FilesChecked): Commit._checked,
    (Step.LINKING, ManifestLinked): Commit._linked,
    (Step.MOVING, FilesMoved): Commit._moved,
    (Step.MARKING, SuccessMarked): Commit._marked,
    (Step.PUBLISHING, Published): Commit._clean,
    (Step.PUBLISHING, ExchangeRefused): Commit._refused,
    (Step.ASIDE, MovedAside): Commit._marked,
    (Step.CLEANING, Cleaned): Commit._cleaned,
    (Step.CLEANING, StepFailed): Commit._left_over,
}
