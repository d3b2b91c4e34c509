"""`--dry-run`: what a job would do, told without doing it."""

from __future__ import annotations

from typing import Any, Final

from mrq.cli import units
from mrq.cli.session import Session
from mrq.cli.wording import in_flags
from mrq.client import Plan
from mrq.core.model import Piece, Split

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
    partitions = f"{spec.reducers:,}, by a hash of the key"
    if not spec.reducers:
        partitions = "none: no reduce, so parts are the maps' outputs"
    elif len(spec.stages) > 1:
        splits = len(spec.stages[0].splits)
        partitions = f"{spec.reducers:,}, by ranges of keys, sampled first from {splits} splits"
    listed = spec.splits if every else spec.splits[:_LISTED]
    lines += [_split_line(split) for split in listed]
    if len(listed) < len(spec.splits):
        lines.append(f"            … and {len(spec.splits) - len(listed):,} more ({listed_by} lists all)")
    lines += [
        f"partitions  {partitions}",
        f"output      {spec.output or 'printed'}, written as {spec.last.output_format}"
        + (f", compressed with {spec.last.compression}" if spec.last.compression else ""),
        f"executors   {executors}, each with a budget of {units.size(spec.memory_bytes)}",
    ]
    lines += [f"parameter   {name} = {value!r}" for name, value in spec.parameters.items()]
    lines += [f"note        {in_flags(note)}" for note in plan.notes]
    return lines


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
    from mrq.cli.objects import Planned, PlannedFile, PlannedPiece, PlannedSplit

    spec = plan.spec
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
        partitions=spec.reducers,
        partitioned_by=None if not spec.reducers else "hash" if len(spec.stages) == 1 else "range",
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
