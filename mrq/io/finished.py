"""Inputs that are (in) a finished output of mrq: what its manifest says of them is checked.

Sizes, and parts that are missing, before anything runs; each part's checksum as its bytes are read
(`Piece.crc32`, `core.checked`). A `_SUCCESS` that isn't a manifest of ours means nothing.
"""

from __future__ import annotations

import os
import stat as stats
from collections.abc import Container, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from mrq.commit.manifest import SUCCESS, Manifest, parse_manifest
from mrq.core.model import StagedFile
from mrq.core.pathmap import split_pattern
from mrq.core.paths import is_url
from mrq.core.splits import InputFile
from mrq.errors import CorruptFileError, InputError
from mrq.io.inputs import few
from mrq.io.streams import filesystem

#: What every manifest of ours begins with.
_BEGINNING: Final = b'{"mrq_manifest": '
#: A larger one would say of more than a million parts.
_MANIFEST_BYTES_MAX: Final = 256 << 20
_AGAIN: Final = (
    "copy it again, or run the job again that made it; to read what is there as it is, move its _SUCCESS away"
)


class FinishedOutput(NamedTuple):
    """A folder with a manifest of ours."""

    folder: str  #: as it is opened: absolute, or a URL
    manifest: Manifest
    files: dict[str, StagedFile]  #: parts and bad records, by their names below the folder


def vouch(
    args: Sequence[tuple[str, str]], files: Sequence[InputFile], results: Sequence[str] = ()
) -> tuple[list[InputFile], list[str]]:
    """Check found files against the manifests beside them: the files, each that one names marked with its
    checksum; and what the user may want to know, one sentence each.

    `args` are (as spelled, as opened); `results` folders that have a `_SUCCESS`, also those without a file.
    Raises InputError for a part that is missing where its folder or a pattern was given, or that hasn't the
    size that it should.
    """
    known = _Known()
    meanings = [means for arg in args if (means := _meaning(*arg)) is not None]
    made: list[InputFile] = []
    extras: dict[str, list[str]] = {}
    for file in files:
        whole = known.of(file.open)
        if whole is None:
            made.append(file)
            continue
        name = file.open[len(whole.folder) + 1 :]
        entry = whole.files.get(name)
        if entry is None:
            made.append(file)
            if any(each.covers(file.open) for each in meanings):  # not one that the user named
                extras.setdefault(whole.folder, []).append(file.path)
            continue
        if file.size != entry.bytes:
            raise InputError(
                f"{file.path}: has {file.size:,} bytes, and {entry.bytes:,} by the {SUCCESS} beside it: it "
                f"was cut or changed since job {whole.manifest.job} wrote it; {_AGAIN}"
            )
        made.append(replace(file, crc32=entry.crc32))
    there = {file.open for file in made}
    for folder in results:
        known.look(folder)
    for means in meanings:
        if not means.pattern:
            folder = means.root.rstrip("/")
            known.look(folder)
            whole = known.look(_parent(folder)) if not is_url(folder) else None
            if whole is not None and folder[len(whole.folder) + 1 :] in whole.files:
                raise InputError(
                    f"{means.spelled.rstrip('/')}: is a folder, and a part of the result of job "
                    f"{whole.manifest.job} by the {SUCCESS} beside it; {_AGAIN}"
                )
        for whole in filter(None, known.folders.values()):
            _refuse_missing(whole, means, there)
    notes = [
        f"{few(paths)}: read too, though the {SUCCESS} of that folder doesn't name "
        f"{'it' if len(paths) == 1 else 'them'}"
        for paths in extras.values()
    ]
    return made, [*known.notes, *notes]


def damaged(path: str) -> str:
    """The sentence for a part whose bytes fail the checksum in its manifest."""
    return (
        f"{path}: its bytes aren't those that its job wrote, by the checksum in the {SUCCESS} beside it: it "
        f"was damaged or changed since; {_AGAIN}"
    )


class _Known:
    """The folders that were looked into: each once."""

    def __init__(self) -> None:
        self.folders: dict[str, FinishedOutput | None] = {}
        self.notes: list[str] = []

    def of(self, path: str) -> FinishedOutput | None:
        """The finished output that a file lies in: in its folder, or in one of its own inside it."""
        folder = _parent(path)
        found = self.look(folder)
        if found is None and folder:
            above = _parent(folder)
            # Only `_bad` is made by us; what else lies in there is told by an output that is known already.
            found = self.look(above) if folder.endswith("/_bad") else self.folders.get(above)
        return found

    def look(self, folder: str) -> FinishedOutput | None:
        """The finished output that a folder is."""
        if folder in self.folders or not folder:
            return self.folders.get(folder)
        path = f"{folder}/{SUCCESS}"
        data = _remote(path) if is_url(folder) else _local(path)
        found = None
        try:
            manifest = parse_manifest(data) if data is not None else None
        except CorruptFileError as exc:
            self.notes.append(f"{path} is {exc}: the files beside it aren't checked")
        else:
            if manifest is not None:
                found = FinishedOutput(folder, manifest, {file.final: file for file in manifest.files})
        self.folders[folder] = found
        return found


def _parent(path: str) -> str:
    """The folder of a path or URL; "" where there is none."""
    parent = path.rpartition("/")[0]
    return parent if not is_url(path) or is_url(parent) else ""


def _local(path: str) -> bytes | None:
    """The manifest's bytes; None for what isn't one of ours: empty, another's, huge, not a file."""
    try:
        # A pipe or a device of that name mustn't be waited for.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        stat = os.fstat(fd)
        if not stats.S_ISREG(stat.st_mode) or stat.st_size > _MANIFEST_BYTES_MAX:
            return None
        if os.pread(fd, len(_BEGINNING), 0) != _BEGINNING:
            return None
        parts = []
        while data := os.read(fd, 1 << 20):
            parts.append(data)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(fd)


def _remote(url: str) -> bytes | None:
    """The same by URL. A web server isn't asked: it answers anything, and knows no folders."""
    if url.startswith(("http://", "https://")):
        return None
    try:
        fs, path = filesystem(url)
        if not fs.isfile(path) or fs.size(path) > _MANIFEST_BYTES_MAX:
            return None
        with fs.open(path, "rb") as file:
            head: bytes = file.read(len(_BEGINNING))
            return head + file.read() if head == _BEGINNING else None
    except Exception:  # noqa: BLE001 drivers raise what they like; without a manifest there is nothing to check
        return None


class _Meaning(NamedTuple):
    """What a folder or a pattern stands for."""

    spelled: str  #: of its root
    root: str  #: what all its files begin with, as they are opened
    pattern: tuple[str, ...]  #: below the root; () is everything

    def covers(self, path: str) -> bool:
        """Would a file there be found?"""
        return path.startswith(self.root) and _matches(path[len(self.root) :].split("/"), self.pattern)


def _meaning(spelled: str, opened: str) -> _Meaning | None:
    """None for a file: of that nothing can be missing."""
    if spelled == "-" or not opened:
        return None
    if is_url(opened):
        try:
            fs, path = filesystem(opened)
            root, pattern = split_pattern(path)
            shown: str = fs.unstrip_protocol(root).rstrip("/") + "/"
            found = _Meaning(shown, shown, _parts(pattern)) if pattern or fs.isdir(path) else None
        except Exception:  # noqa: BLE001 as `_remote`
            return None
        return found
    root, pattern = split_pattern(spelled)
    if os.path.isdir(opened):
        root, pattern = spelled.rstrip("/") + "/", ""
    elif not pattern or os.path.lexists(opened):
        return None
    folder = os.path.normpath(opened[: len(opened) - len(pattern)] or ".")
    return _Meaning(spelled=root, root=folder.rstrip("/") + "/", pattern=_parts(pattern))


def _parts(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.split("/")) if pattern else ()


def _matches(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Does the pattern match the path, or a folder above it? With `**` folders don't match by themselves."""
    if not pattern:
        return True
    if "**" not in pattern:
        return len(names) >= len(pattern) and all(map(fnmatchcase, names, pattern))
    if pattern[0] == "**":
        if len(pattern) == 1:
            return True
        return any(_matches(names[at:], pattern[1:]) for at in range(len(names)))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and _matches(names[1:], pattern[1:])


def _refuse_missing(whole: FinishedOutput, means: _Meaning, there: Container[str]) -> None:
    """Raise InputError for a part that is meant and isn't there."""
    if not f"{whole.folder}/".startswith(means.root):
        return
    for part in whole.manifest.parts:
        path = f"{whole.folder}/{part.final}"
        # By another spelling of its folder a file counts once: then it is there, and not among those found.
        if path in there or not means.covers(path) or (not is_url(path) and os.path.isfile(path)):
            continue
        raise InputError(
            f"{means.spelled}{path[len(means.root) :]}: is missing, and a part of the result of job "
            f"{whole.manifest.job} by the {SUCCESS} of its folder; {_AGAIN}"
        )
