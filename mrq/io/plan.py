"""From a draft to a plan: finds the inputs and cuts the splits, where the data is visible.

A draft has all that needs the user's code (`mrq.planning.draft`), and is complete without it: an embedded
run completes it in the same process, the leader of a cluster on a thread of its own.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

from mrq.commit.manifest import is_result
from mrq.core import splits as cutting
from mrq.core.model import FOLLOWS, JobSpec, Piece, Purpose, Split, StagePlan, StageSpec
from mrq.core.paths import is_url
from mrq.core.splits import InputFile
from mrq.errors import InputError, NoInputFiles
from mrq.io import vetting
from mrq.io.compression import compression_of
from mrq.io.formats import input_format
from mrq.io.inputs import Finding, few, find_all, hidden_note
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

    spec: JobSpec  #: without splits
    inputs: tuple[DraftInput, ...]
    cwd: str  #: where relative paths start, for messages
    splittable: bool  #: the input format's word
    code: bytes = b""  #: the bundle; to a cluster it travels as a blob
    version: str = ""  #: of the mrq that drafted it
    all_files: bool = False  #: hidden names count too
    as_of_now: bool = False  #: files that are still written are read to their last whole line of now
    allow_empty: bool = False  #: inputs without any file make an empty result
    #: Hidden ones that were left out where what only the client sees was sent.
    hidden_files: int = 0
    hidden_folders: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A job that can run: all that a submit sends."""

    spec: JobSpec
    code: bytes
    finding: Finding
    notes: tuple[str, ...] = ()  #: what the user may want to know: "a.gz is read as one split: …"

    @property
    def files(self) -> tuple[InputFile, ...]:
        """The files that the job reads."""
        return self.finding.files


def complete(draft: Draft, finding: Finding | None = None) -> Plan:
    """Find the inputs, or take what another machine has found so, and cut the splits.

    Raises InputError, UsageError; NoInputFiles where there is nothing to do.
    """
    spec, first = draft.spec, draft.spec.first
    found_here = finding is None
    reading = Reading(lines=True, marks=first.refuses_marks, encodings=first.input_format == "text")
    unseen = {given.open for given in draft.inputs if given.size is not None}
    if finding is None:
        finding = _find(draft)
        opens = [given.open for given in draft.inputs]
        if vetting.may_be_finished(opens, finding.files, finding.results):
            from mrq.io.finished import vouch

            args = [(given.spelled, given.open) for given in draft.inputs if not given.is_sent]
            vouched, notes = vouch(args, finding.files, finding.results)
            finding = replace(finding, files=tuple(vouched), notes=tuple(notes))
        if draft.as_of_now:
            now, notes = vetting.as_of_now(finding.files, reading, unseen)
            finding = replace(finding, files=tuple(now), notes=(*finding.notes, *notes))
    files = finding.files
    hidden = hidden_note(finding.hidden_files, finding.hidden_folders)
    if found_here and not (files or draft.allow_empty or any(map(_is_result, draft.inputs))):
        raise NoInputFiles(
            f"there is no file in {few(spec.inputs)}, so nothing was run and OUT is as it was"
            + (f"; {hidden}" if hidden else "")
            + "; `allow_empty=True` makes an empty result of that"
        )
    total = sum(file.size for file in files)
    splits = cutting.plan(files, first.split_bytes, least=first.split_bytes_min)
    if found_here and input_format(first.input_format).lines:
        files = tuple(vetting.of_text(files, splits, reading, unseen))
        finding = replace(finding, files=files)
        splits = cutting.plan(files, first.split_bytes, least=first.split_bytes_min)
    reducers = cutting.default_reducers(total) if first.reducers == FOLLOWS else first.reducers
    return Plan(
        spec=replace(spec, stages=_begun(spec, replace(first, splits=splits, reducers=reducers), files)),
        code=draft.code,
        finding=finding,
        notes=(*finding.notes, *([hidden] if hidden else []), *_whole_notes(draft, finding)),
    )


def _find(draft: Draft) -> Finding:
    """Every file that the job reads. Raises InputError."""
    found = Finding(files=())
    # Folders that only the client sees, without a file in them, are no inputs any more.
    if draft.inputs or not draft.spec.inputs:
        found = find_all(
            [given.spelled for given in draft.inputs],
            cwd=draft.cwd,
            opens=[given.open for given in draft.inputs],
            out=draft.spec.output_open,
            shown=draft.spec.output,
            splittable=draft.splittable,
            known=_known(draft),
            hidden=draft.all_files,
        )
    return replace(
        found,
        hidden_files=found.hidden_files + draft.hidden_files,
        hidden_folders=found.hidden_folders + draft.hidden_folders,
    )


def _whole_notes(draft: Draft, finding: Finding) -> Iterator[str]:
    """What is said of files that could be cut, were they not compressed."""
    whole = [file.path for file in finding.files if not file.splittable] if draft.splittable else []
    if len(whole) == 1:
        yield f"{whole[0]} is read as one split: it can't be cut"
    elif whole:
        yield f"{len(whole):,} files can't be cut, so each is read by one map whatever its size: {few(whole)}"


def _is_result(given: DraftInput) -> bool:
    """Is it a finished result of mrq? One without a part is an input like any other."""
    return not given.is_sent and not is_url(given.open) and bool(given.open) and is_result(given.open)


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
            try:
                stat = os.stat(given.open)
            except OSError as exc:
                raise InputError(
                    f"standard input was put aside in {given.open}, which can't be read: {exc.strerror}"
                ) from exc
            known[index] = InputFile(
                path="-", open=given.open, size=stat.st_size, mtime_ns=stat.st_mtime_ns, splittable=True
            )
    return known


def sample_of(stage: StageSpec) -> StageSpec:
    """What samples the keys of a stage: maps that are the same, over some of its splits."""
    return replace(stage, reducers=0, purpose=Purpose.SAMPLE)


def numbered(stages: Sequence[StageSpec]) -> tuple[StageSpec, ...]:
    """The stages of a job with their numbers: of work 0 where there is one, else from 1 on; samplings behind
    them."""
    many = sum(stage.purpose is Purpose.WORK for stage in stages)
    work, samples = count(1 if many > 1 else 0), count(many + 1 if many > 1 else 1)
    return tuple(
        replace(stage, number=next(work if stage.purpose is Purpose.WORK else samples)) for stage in stages
    )


def _begun(spec: JobSpec, first: StageSpec, files: Sequence[InputFile]) -> tuple[StageSpec, ...]:
    """The stages of a job whose first has its splits. It is sampled if there is anything to sample, and to
    cut."""
    at = spec.stages.index(spec.first)
    before, behind = spec.stages[:at], spec.stages[at + 1 :]
    if not before:
        return (first, *behind)
    if not first.splits or first.reducers < 2:
        return numbered((replace(first, plan=StagePlan()), *behind))
    return (_sample(first, before[0].number, files), replace(first, plan=None), *behind)


def _sample(stage: StageSpec, number: int, files: Sequence[InputFile]) -> StageSpec:
    """What samples the keys of a stage: the same maps over the beginnings of a fixed choice of splits."""
    chosen = _beginnings(stage.splits, stage.reducers, files)
    return replace(sample_of(stage), splits=chosen, number=number, plan=StagePlan())


def following(spec: JobSpec, place: int, parts: Sequence[InputFile]) -> StagePlan:
    """The plan of a stage that reads the parts of the one before: a function of their names and sizes. Of a
    sampling also that of the stage that it is for. Raises UsageError."""
    stage = spec.stages[place]
    if stage.purpose is Purpose.SAMPLE:
        then = following(spec, place + 1, parts)
        assert then.splits is not None
        assert then.reducers is not None
        chosen = _beginnings(then.splits, then.reducers, parts) if then.reducers > 1 else ()
        return StagePlan(splits=chosen, then=then)
    splits = cutting.plan(parts, stage.split_bytes, least=stage.split_bytes_min)
    reducers = stage.reducers
    if reducers == FOLLOWS:
        reducers = cutting.default_reducers(sum(part.size for part in parts))
    return StagePlan(splits=splits, reducers=reducers)


def _beginnings(splits: Sequence[Split], reducers: int, files: Sequence[InputFile]) -> tuple[Split, ...]:
    wanted = min(max(_SAMPLED_SPLITS_MIN, reducers), _SAMPLED_SPLITS_MAX)
    step = max(1, -(-len(splits) // wanted))
    whole = {file.open for file in files if not file.splittable}
    return tuple(
        replace(split, index=i, pieces=_beginning(split, whole)) for i, split in enumerate(splits[::step])
    )


def _beginning(split: Split, whole: Container[str]) -> tuple[Piece, ...]:
    """The first pieces of a split, about `_SAMPLED_BYTES`; a file in `whole` can't be cut."""
    pieces: list[Piece] = []
    room = _SAMPLED_BYTES
    for piece in split.pieces:
        if room <= 0:
            break
        if piece.open not in whole:
            piece = replace(piece, length=min(piece.length, room), crc32=None)
        pieces.append(piece)
        room -= piece.length
    return tuple(pieces)
