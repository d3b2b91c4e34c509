"""Whether splits cover what they should."""

from __future__ import annotations

from collections.abc import Sequence

from mrq.core.model import Split
from mrq.core.splits import InputFile
from mrq.errors import InternalError


def check_cover(files: Sequence[InputFile], splits: Sequence[Split]) -> None:
    """Raise InternalError unless the pieces, in order, cover every byte of every file exactly once."""
    pieces = iter([piece for split in splits for piece in split.pieces])
    for number, split in enumerate(splits):
        if split.index != number or not split.pieces:
            raise InternalError(f"split {number} has index {split.index} and {len(split.pieces)} pieces")
    for file in files:
        at = 0
        while True:
            piece = next(pieces, None)
            if piece is None or piece.open != file.open or piece.start != at:
                raise InternalError(f"{file.path}: no piece begins at byte {at}; the plan is {piece}")
            at += piece.length
            if piece.length < 0 or at > file.size:
                raise InternalError(f"{file.path}: {piece} reaches past its {file.size} bytes")
            if at == file.size:
                break
            if piece.length == 0:
                raise InternalError(f"{file.path}: an empty piece at byte {at} of {file.size}")
    extra = next(pieces, None)
    if extra is not None:
        raise InternalError(f"{extra} belongs to no file")
