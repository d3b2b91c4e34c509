"""What is looked at in the files that were found, before their splits are cut."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from mrq.core.model import Piece, Split
from mrq.core.splits import InputFile
from mrq.io.streams import Reading, Source


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
    return [
        replace(file, splittable=False) if file.open in cut and _compression(file, reading) else file
        for file in files
    ]


def _compression(file: InputFile, reading: Reading) -> str | None:
    whole = Piece(
        path=file.path, open=file.open, start=0, length=file.size, size=file.size, mtime_ns=file.mtime_ns
    )
    with Source(whole, reading) as source:
        return source.compression
