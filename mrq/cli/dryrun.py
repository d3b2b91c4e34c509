"""`--dry-run`: what a job would do, told without doing it."""

from __future__ import annotations

from typing import Any, Final

from mrq.cli import units
from mrq.cli.session import Session
from mrq.cli.wording import in_flags
from mrq.client import Plan
from mrq.core.model import FOLLOWS, JobSpec, Piece, Purpose, Split, StageSpec

#: Splits that are listed one by one, unless all are asked for.
_LISTED: Final = 20


def plan_lines(plan: Plan, *, executors: int, every: bool = False, listed_by: str = "-v") -> list[str]:
    """The plan for people: files, splits, partitions, formats, notes. `listed_by`: the flags that list every
    split, where it isn't asked for."""
    spec = plan.spec
    total = sum(split.length for split in spec.splits)
    largest = max((split.length for split in spec.splits), default=0)
    files = units.plural(len(plan.files), "file")
    lines = [
        f"job         {spec.name}, code {spec.code[:12]}",
        f"input       {files}, {units.size(total)}, as {spec.first.input_format}",
        f"splits      {len(spec.splits):,}" + (f", the largest {units.size(largest)}" if spec.splits else ""),
    ]
    listed = spec.splits if every else spec.splits[:_LISTED]
    lines += [_split_line(split) for split in listed]
    if len(listed) < len(spec.splits):
        lines.append(f"            … and {len(spec.splits) - len(listed):,} more ({listed_by} lists all)")
    work = [stage for stage in spec.stages if stage.purpose is Purpose.WORK]
    if len(work) == 1:
        lines.append(f"partitions  {_partitions(spec, spec.last)}")
    else:
        lines += [f"stage {at:<5} {stage.said}: {_parts(spec, stage)}" for at, stage in enumerate(work, 1)]
    lines += [
        f"output      {spec.output or 'printed'}, written as {spec.last.output_format}"
        + (f", compressed with {spec.last.compression}" if spec.last.compression else ""),
        f"executors   {executors}, each with a budget of {units.size(spec.memory_bytes)}",
    ]
    lines += [f"parameter   {name} = {value!r}" for name, value in spec.parameters.items()]
    lines += [f"note        {in_flags(note)}" for note in plan.notes]
    return lines


def sample_before(spec: JobSpec, stage: StageSpec) -> StageSpec | None:
    """What samples the keys of a stage; None where they are hashed."""
    at = spec.stages.index(stage)
    before = spec.stages[at - 1] if at else None
    return before if before is not None and before.purpose is Purpose.SAMPLE else None


def _parts(spec: JobSpec, stage: StageSpec) -> str:
    """The partitions of one of several stages, as a phrase."""
    if not stage.reducers:
        return "no reduce"
    return f"partitions {_partitions(spec, stage)}" if stage.reducers == FOLLOWS else _partitions(spec, stage)


def _partitions(spec: JobSpec, stage: StageSpec) -> str:
    if not stage.reducers:
        return "none: no reduce, so parts are the maps' outputs"
    many = f"{stage.reducers:,}"
    if stage.reducers == FOLLOWS:
        many = f"as many as stage {stage.place}'s output asks for"
    sample = sample_before(spec, stage)
    if sample is None:
        return f"{many}, by a hash of the key"
    splits = f" from {len(sample.splits)} splits" if stage.place == 0 else ""
    return f"{many}, by ranges of keys, sampled first{splits}"


def _split_line(split: Split) -> str:
    first = split.pieces[0]
    more = len(split.pieces) - 1
    where = _piece(first) if not more else f"{_piece(first)} and {units.plural(more, 'more piece')}"
    return f"  m-{split.index:05d}   {units.size(split.length):>9}  {where}"


def _piece(piece: Piece) -> str:
    if piece.start == 0 and piece.length >= piece.size:
        return piece.path
    return f"{piece.path} from {piece.start:,} to {piece.start + piece.length:,}"


def print_plan(session: Session, plan: Plan, *, executors: int) -> None:
    """The plan for programs."""
    from mrq.cli.objects import Planned, PlannedFile, PlannedPiece, PlannedSplit, PlannedStage

    spec = plan.spec
    stages = tuple(
        PlannedStage(
            methods=stage.said,
            partitions=None if stage.reducers == FOLLOWS else stage.reducers,
            partitioned_by="range" if sample_before(spec, stage) else "hash" if stage.reducers else None,
        )
        for stage in spec.stages
        if stage.purpose is Purpose.WORK
    )
    last = stages[-1]
    session.answer(
        Planned,
        "planned",
        code=spec.code,
        parameters=_plain(dict(spec.parameters)),
        files=tuple(
            PlannedFile(path=file.path, bytes=file.size, splittable=file.splittable) for file in plan.files
        ),
        splits=tuple(
            PlannedSplit(
                index=split.index,
                bytes=split.length,
                pieces=tuple(PlannedPiece(path=p.path, start=p.start, length=p.length) for p in split.pieces),
            )
            for split in spec.splits
        ),
        partitions=last.partitions,
        partitioned_by=last.partitioned_by,
        stages=stages,
        input_format=spec.first.input_format,
        output_format=spec.last.output_format,
        compression=spec.last.compression,
        executors=executors,
        memory_bytes=spec.memory_bytes,
    )


def _plain(value: Any) -> Any:
    """What JSON can say; the rest as Python writes it."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)
