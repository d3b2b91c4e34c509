"""What the client sends beside a draft: inputs that only it sees, and the names of the packages it needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from mrq.codec.checksum import crc32
from mrq.core.pathmap import PathMap, split_pattern
from mrq.core.paths import is_url
from mrq.core.splits import InputFile
from mrq.errors import InputError, UsageError
from mrq.io import finished
from mrq.io import inputs as finding
from mrq.io import seen as looking
from mrq.io.inputs import Finding
from mrq.io.plan import Draft, DraftInput
from mrq.ports import Blobs

#: Inputs are kept by the store this long for a submit that hasn't come yet; the leader then has them.
KEEP_S: Final = 3600.0
#: More files than this aren't sent one by one.
_FILES_MAX: Final = 1000


def seen(draft: Draft, paths: PathMap) -> Draft:
    """The draft with what this machine sees of inputs whose path no `[paths]` maps: on the cluster something
    else may lie there. Raises InputError for what is here and can't be read."""
    made = []
    for given in draft.inputs:
        folder = os.path.abspath(split_pattern(given.spelled)[0])
        if given.spelled != "-" and not is_url(given.spelled) and paths.to_cluster(folder) is None:
            try:
                found = looking.look(given.spelled, given.open, hidden=draft.all_files)
            except InputError as exc:
                raise InputError(
                    f"{exc}; so whether the cluster has the same there can't be known: if it does, say so in "
                    "[paths]"
                ) from exc
            given = replace(given, seen=found)
        made.append(given)
    return replace(draft, inputs=tuple(made))


def unseen_at_once(draft: Draft, folder: str) -> dict[int, str]:
    """Inputs that the cluster can't see for certain: standard input, and what lies in `folder`."""
    inside = folder.rstrip("/") + "/" if folder else ""
    return {
        index: ""
        for index, given in enumerate(draft.inputs)
        if not given.is_sent and (given.spelled == "-" or (inside and given.open.startswith(inside)))
    }


def ship(draft: Draft, unseen: Mapping[int, str], blobs: Blobs | None, *, bytes_max: int) -> Draft:
    """Put the files of the inputs with these indices as blobs, and name them in the draft. Without `blobs`,
    for a dry run, they are only measured.

    Raises UsageError where they aren't here either, or are larger than `bytes_max` together; `unseen` has
    what the cluster said of each, "" where it wasn't asked.
    """
    made: list[DraftInput] = []
    hidden_files, hidden_folders = draft.hidden_files, draft.hidden_folders
    there = set[str]()  # a file that two arguments name counts once, as `finding.find` has it
    room = bytes_max
    for index, given in enumerate(draft.inputs):
        if index not in unseen:
            made.append(given)
            continue
        why = unseen[index] and f"{given.spelled}: {unseen[index]}; "
        found = _files(draft, given, why)
        hidden_files += found.hidden_files
        hidden_folders += found.hidden_folders
        for file in found.files:
            spelled, path = file.path, file.open
            if (real := os.path.realpath(path)) in there:
                continue
            there.add(real)
            data = _read(spelled, path, room, bytes_max, why)
            if file.crc32 is not None and crc32(data) != file.crc32:
                raise InputError(finished.damaged(spelled))
            room -= len(data)
            blob = blobs.put(data, keep_s=KEEP_S) if blobs is not None else None
            size = len(data) if blobs is None else None
            made.append(DraftInput(spelled=spelled, open="", blob=blob, size=size))
            if len(made) > _FILES_MAX:
                raise UsageError(
                    f"{why}more than {_FILES_MAX:,} files aren't sent one by one: put them where the cluster "
                    "sees them (see [paths])"
                )
    return replace(draft, inputs=tuple(made), hidden_files=hidden_files, hidden_folders=hidden_folders)


def _files(draft: Draft, given: DraftInput, why: str) -> Finding:
    """The files here that an argument names."""
    if given.spelled == "-":
        if not given.open:
            raise InputError("'-' stands for standard input, which isn't available here")
        size = os.stat(given.open).st_size
        return Finding(files=(InputFile(path="-", open=given.open, size=size, mtime_ns=0, splittable=True),))
    try:
        found = finding.find_all(
            [given.spelled], cwd=draft.cwd, splittable=draft.splittable, hidden=draft.all_files
        )
    except InputError as exc:
        if not why:
            raise
        here = str(exc).removeprefix(f"{given.spelled}: ")
        raise InputError(
            f"{why}and it isn't here either: {here}; [paths] in mrq.toml says where the cluster has folders "
            "of this machine"
        ) from exc
    args = [(given.spelled, os.path.join(draft.cwd, given.spelled))]
    return replace(found, files=tuple(finished.vouch(args, found.files, found.results)[0]))


def _read(spelled: str, path: str, room: int, bytes_max: int, why: str) -> bytes:
    """A file's bytes, if there is room for them."""
    try:
        with open(path, "rb") as file:
            data = file.read(room + 1)
    except OSError as exc:
        raise InputError(f"{spelled}: can't be read: {exc.strerror}") from exc
    if len(data) > room:
        size = os.stat(path).st_size
        raise UsageError(
            f"{why}{spelled} ({size:,} bytes) would have to be sent, and all that is sent may have "
            f"{bytes_max:,} bytes (blob_bytes_max); put it where the cluster sees it (see [paths])"
        )
    return data
