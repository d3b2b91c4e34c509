"""Whether cores stood idle in a job that is done, and which setting would have used them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

from mrq.core import job_summary
from mrq.core.job_summary import Summary
from mrq.core.model import JobSpec, Split, TaskResult
from mrq.core.paths import is_url
from mrq.core.refs import Kind, TaskRef
from mrq.errors import MrqError
from mrq.io.formats import input_format
from mrq.io.streams import ByteSource, Reading

#: A stage whose longest task is shorter isn't worth a word.
_LONG_S: Final = 1.0
#: A task that takes so much longer than an even share of the work is what the others wait for.
_UNEVEN: Final = 1.5
_UNITS: Final = ((1 << 20, "M"), (1 << 10, "K"), (1, ""))

_Tasks = Mapping[int, TaskResult]


def summarize(
    spec: JobSpec,
    results: Mapping[TaskRef, TaskResult],
    seconds: float,
    attempts_failed: int,
    slots: Mapping[Kind, int],
) -> Summary:
    """The numbers of a finished job, and what they say of its cores; `slots`: tasks of each kind at once."""
    found = job_summary.summarize(spec, results, seconds, attempts_failed)
    maps = {task.index: result for task, result in results.items() if task.kind is Kind.MAP}
    reduces = {task.index: result for task, result in results.items() if task.kind is Kind.REDUCE}
    # Of several stages these results are the last one's, whose splits are nobody's files.
    idle = [] if spec.last.place else list(_of_maps(spec, maps, slots[Kind.MAP]))
    cores = slots[Kind.REDUCE]
    longest = _waited_for(reduces, cores)
    # With one group a partition there is nothing to deal out.
    if longest is not None and len(reduces) < cores and reduces[longest].groups > 1:
        few = _counted(len(reduces), "reduce")
        idle.append(f"{few} for {cores} cores: `reducers={cores}` makes one for each")
    return replace(found, idle=tuple(idle))


def _of_maps(spec: JobSpec, maps: _Tasks, slots: int) -> Iterator[str]:
    longest = _waited_for(maps, slots)
    if longest is None or maps[longest].records_in < 2 or longest >= len(spec.splits):
        return
    split = spec.splits[longest]
    path = _uncut(spec, split)
    if path is not None:
        yield (
            f"{path} can't be cut, so it is one map: {maps[longest].seconds:.1f} s while others of the "
            f"{slots} cores had nothing to do; in smaller files, or as it was before it was packed, all do"
        )
    elif len(maps) < slots:
        each = -(-sum(split.length for split in spec.splits) // slots)
        unit, name = next(unit for unit in _UNITS if each >= unit[0])
        size = f"{-(-each // unit)}{name}"  # bytes, rounded up, as settings take them
        yield f'{_counted(len(maps), "map")} for {slots} cores: `split_size="{size}"` makes one for each'


def _waited_for(tasks: _Tasks, slots: int) -> int | None:
    """The longest task, if cores waited for it; None where they didn't, or not for long."""
    longest = max(tasks, key=lambda index: tasks[index].seconds, default=None)
    if longest is None or slots < 2 or tasks[longest].seconds < _LONG_S:
        return None
    share = sum(result.seconds for result in tasks.values()) / slots
    return longest if len(tasks) < slots or tasks[longest].seconds > _UNEVEN * share else None


def _uncut(spec: JobSpec, split: Split) -> str | None:
    """The largest file of a split, if it is one that can't be cut."""
    piece = max(split.pieces, key=lambda piece: piece.length)
    if piece.length < piece.size:
        return None
    form = input_format(spec.first.input_format)
    if not form.splittable:
        return piece.path
    if is_url(piece.open):
        return None
    with (
        suppress(MrqError),
        ByteSource(piece, Reading(lines=form.lines, marks=spec.first.refuses_marks)) as source,
    ):
        return piece.path if source.compression is not None else None
    return None


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number > 1 else "")
