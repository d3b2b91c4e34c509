"""From a draft to a plan: finds the inputs and cuts the splits, where the data is visible.

A draft has all that needs the user's code (`mrq.planning.draft`), and is complete without it: an embedded
run completes it in the same process, the leader of a cluster on a thread of its own.
"""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mrq.core import splits as cutting
from mrq.core.model import JobSpec, Piece, Purpose, Split
from mrq.core.splits import InputFile
from mrq.errors import InputError
from mrq.io import inputs as finding
from mrq.io import vetting
from mrq.io.compression import compression_of
from mrq.io.formats import input_format
from mrq.io.seen import Seen
from mrq.io.streams import Reading

#: A total order samples so many splits, spread evenly, and of each the beginning: enough for boundaries,
#: little beside the job, and many places rather than much of a few, for inputs that are nearly in order.
_SAMPLED_SPLITS_MIN: Final = 32
_SAMPLED_SPLITS_MAX: Final = 1024
_SAMPLED_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftInput:
    """One argument of a submit: what the user typed, and where it is opened."""

    spelled: str  #: what user code, order and output see; "-" is standard input
    open: str  #: the absolute path or pattern, or the URL; "" as long as it is a blob only
    blob: str | None = None  #: digest of its content, where only the client sees it
    #: What the client sees there, if it does, and nothing says that the cluster sees the same.
    seen: Seen | None = None
    size: int | None = None  #: bytes of what would be sent: a dry run sends nothing

    @property
    def is_sent(self) -> bool:
        """Is it what only the client sees, sent or only measured?"""
        return self.blob is not None or self.size is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """All of a submit but what must be looked for in the data; wire data."""

    spec: JobSpec  #: without splits, and with 0 reducers where their number follows from the input
    inputs: tuple[DraftInput, ...]
    cwd: str  #: where relative paths start, for messages
    map_only: bool
    total_order: bool
    splittable: bool  #: the input format's word
    split_bytes: int | None
    code: bytes = b""  #: the bundle; to a cluster it travels as a blob
    version: str = ""  #: of the mrq that drafted it


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A job that can run: all that a submit sends."""

    spec: JobSpec
    code: bytes
    files: tuple[InputFile, ...]
    notes: tuple[str, ...] = ()  #: what the user may want to know: "a.gz is read as one split: …"
    sample: JobSpec | None = None  #: to run first: finds the boundaries of a total order


def complete(draft: Draft, files: Sequence[InputFile] | None = None) -> Plan:
    """Find the inputs, or take the `files` that another machine has found so, and cut the splits.

    Raises InputError, UsageError.
    """
    spec = draft.spec
    found = files is None
    if files is None:
        files = _files(draft)
    total = sum(file.size for file in files)
    splits = cutting.plan(files, draft.split_bytes)
    if found and input_format(spec.input_format).lines:
        reading = Reading(lines=True, marks=spec.refuses_marks)
        unseen = {given.open for given in draft.inputs if given.size is not None}
        files = vetting.of_text(files, splits, reading, unseen)
        splits = cutting.plan(files, draft.split_bytes)
    reducers = 0 if draft.map_only else spec.reducers or cutting.default_reducers(total)
    spec = replace(spec, splits=splits, reducers=reducers)
    notes = [
        f"{file.path} is read as one split: it can't be cut"
        for file in files
        if not file.splittable and draft.splittable
    ]
    total_order = draft.total_order and reducers > 1 and bool(splits)
    return Plan(
        spec=spec,
        code=draft.code,
        files=tuple(files),
        notes=tuple(notes),
        sample=_sample(spec, files) if total_order else None,
    )


def _files(draft: Draft) -> list[InputFile]:
    """Every file that the job reads. Raises InputError."""
    if draft.spec.inputs and not draft.inputs:
        return []  # folders that only the client sees, without a file in them
    return finding.find(
        [given.spelled for given in draft.inputs],
        cwd=draft.cwd,
        opens=[given.open for given in draft.inputs],
        out=draft.spec.output_open,
        shown=draft.spec.output,
        splittable=draft.splittable,
        known=_known(draft),
    )


def _known(draft: Draft) -> dict[int, InputFile]:
    """What isn't looked for: standard input, where it was put aside, and what is only measured."""
    known = {}
    for index, given in enumerate(draft.inputs):
        if given.size is not None:
            known[index] = InputFile(
                path=given.spelled,
                open=given.open,
                size=given.size,
                mtime_ns=0,
                splittable=given.spelled == "-"
                or (draft.splittable and compression_of(given.spelled) is None),
            )
        elif given.spelled == "-" and given.open:
            known[index] = _standard_input(given.open)
    return known


def _standard_input(path: str) -> InputFile:
    try:
        stat = os.stat(path)
    except OSError as exc:
        raise InputError(
            f"standard input was put aside in {path}, which can't be read: {exc.strerror}"
        ) from exc
    return InputFile(path="-", open=path, size=stat.st_size, mtime_ns=stat.st_mtime_ns, splittable=True)


def _sample(spec: JobSpec, files: Sequence[InputFile]) -> JobSpec:
    """The job that samples keys: the same maps over the beginnings of a fixed choice of splits."""
    wanted = min(max(_SAMPLED_SPLITS_MIN, spec.reducers), _SAMPLED_SPLITS_MAX)
    step = max(1, -(-len(spec.splits) // wanted))
    whole = {file.open for file in files if not file.splittable}
    chosen = tuple(
        replace(split, index=i, pieces=_beginning(split, whole))
        for i, split in enumerate(spec.splits[::step])
    )
    return replace(
        spec,
        job=sample_id(spec.job),
        purpose=Purpose.SAMPLE,
        splits=chosen,
        reducers=0,
        output=None,
        output_open=None,
        staging=None,
        skip_bad_records=spec.skip_bad_records,
    )


def sample_id(job: str) -> str:
    """The id of the job that samples keys for another."""
    return f"{job}-s"


def _beginning(split: Split, whole: Container[str]) -> tuple[Piece, ...]:
    """The first pieces of a split, about `_SAMPLED_BYTES`; a file in `whole` can't be cut."""
    pieces: list[Piece] = []
    room = _SAMPLED_BYTES
    for piece in split.pieces:
        if room <= 0:
            break
        if piece.open not in whole:
            piece = replace(piece, length=min(piece.length, room))
        pieces.append(piece)
        room -= piece.length
    return tuple(pieces)
