"""What is looked at in the files that were found, before their splits are cut."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace

from mrq.commit.manifest import SUCCESS
from mrq.core.model import Split
from mrq.core.paths import is_url
from mrq.core.splits import InputFile
from mrq.errors import InputError
from mrq.io.lines import whole_lines
from mrq.io.streams import ByteSource, Reading


def may_be_finished(opens: Sequence[str], files: Sequence[InputFile], results: Sequence[str]) -> bool:
    """Is there a mark of a finished output beside a file, or in a folder of which all was taken? URLs may
    have any."""
    folders = {os.path.dirname(file.open) for file in files}
    return (
        bool(results)
        or any(map(is_url, opens))
        or any(
            os.path.basename(folder) == "_bad" or os.path.lexists(f"{folder}/{SUCCESS}") for folder in folders
        )
    )


def of_text(
    files: Sequence[InputFile], splits: Sequence[Split], reading: Reading, unseen: Collection[str]
) -> list[InputFile]:
    """The files, those that turn out to be compressed as what can't be cut.

    Only what `splits` cut is opened: all else is looked at by the task that reads it. `unseen` aren't on this
    machine's disk, by what they are opened as. Raises InputError for what isn't text.
    """
    cut = {
        piece.open
        for split in splits
        for piece in split.pieces
        if piece.length < piece.size and piece.start == 0 and piece.open not in unseen
    }
    made = []
    for file in files:
        if file.open in cut:
            with ByteSource(file.piece(0, file.size), reading) as source:
                file = replace(file, splittable=file.splittable and source.compression is None)
        made.append(file)
    return made


def as_of_now(
    files: Sequence[InputFile], reading: Reading, unseen: Collection[str]
) -> tuple[list[InputFile], list[str]]:
    """The files, those that may be still written as far as their last whole line; and what is to be said.

    Compressed files, and parts of a finished output, are read as ever: no more is written to them. Raises
    InputError where there are only compressed ones, or for what isn't text.
    """
    found = [
        file if file.open in unseen or file.crc32 is not None else _of_now(file, reading) for file in files
    ]
    whole = [file.path for file in found if not file.splittable]
    if whole and len(whole) == len(found):
        raise InputError(
            f"{whole[0]} is compressed, and `as_of_now=True` reads the whole lines of files that are still "
            "written, which only plain text has: leave it out"
        )
    notes = []
    for only, what in (
        (True, "its only line has no end yet, so nothing of it is read"),
        (False, "its last line has no end yet, and is left out"),
    ):
        some = [file for file in found if file.unended and only == (not file.size)]
        if some:
            more = f" (as of {len(some) - 1:,} more)" if len(some) > 1 else ""
            notes.append(f"{some[0].path}: {what}{more}")
    return found, notes


def _of_now(file: InputFile, reading: Reading) -> InputFile:
    try:
        stat = os.stat(file.open)
    except OSError as exc:
        raise InputError(f"{file.path}: can't be read: {exc.strerror}") from exc
    if not file.splittable:
        return file
    size = stat.st_size
    here = replace(file, size=size, mtime_ns=stat.st_mtime_ns, inode=stat.st_ino)
    with ByteSource(here.piece(0, size), reading) as source:
        if source.compression is not None:
            return replace(file, splittable=False)
        end = whole_lines(source, size)
        return replace(here, size=end, unended=size - end, last_lines=source.last_lines(end))
