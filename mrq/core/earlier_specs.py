"""What earlier versions stored of jobs, as far as it is still read: to refuse them by name.

Numbers of versions are those of what is stored in Redis, and of a job's folder, which are the same.
"""

from __future__ import annotations

from typing import Any, Final

from mrq.core import wire
from mrq.core.model import JobSpec, Purpose
from mrq.errors import CorruptFileError

#: Whose jobs were one stage each, and samplings jobs of their own.
_ONE_STAGE: Final = (2, 3, 4)
#: Of these a job's spec is read.
BEFORE: Final = (*_ONE_STAGE, 5)


def spec_before(version: int, data: Any) -> JobSpec:
    """A job's spec as a version in `BEFORE` stored it. Of a sampling the id was that of the job that it was
    for, with "-s" behind it. Raises CorruptFileError."""
    try:
        row = _without_stages(data) if version in _ONE_STAGE else list(data)
        row = _with_formats(row)
    except (TypeError, ValueError) as exc:
        raise CorruptFileError(f"stored data isn't a job of version {version}: {exc}") from exc
    return wire.from_wire(JobSpec, row)


def _without_stages(data: Any) -> list[Any]:
    """As version 5 stored it. Raises TypeError, ValueError."""
    job, name, purpose, _, *data = data
    code, entry, root, parameters, inputs, splits, reducers, *data = data
    *formats, _ = data[:6]
    stage = [splits, reducers, (Purpose.SAMPLE if purpose == "sample" else Purpose.WORK).value]
    return [job, name, code, entry, root, parameters, inputs, [stage], *formats, *data[6:]]


def _with_formats(row: list[Any]) -> list[Any]:
    """A spec of version 5, whose formats were the job's, with them in each of its stages. Raises TypeError,
    ValueError."""
    *head, stages, read, written, compression, encoding, sort_values = row[:13]
    rest, last = row[13:_LAST], row[_LAST:]
    defaults: list[Any] = [True, "", True]
    refuses_marks, claim, can_skip = last + defaults[len(last) :]
    formats = [read, written, compression, encoding, refuses_marks, sort_values, can_skip]
    named = [[*stage, *_STAGE_DEFAULTS[len(stage) - 2 :], 0, *formats] for stage in stages]
    return [*head, named, *rest, *([claim] if last else [])]


#: Where a spec of version 5 ends with whether it refuses marks, its claim and whether it can skip.
_LAST: Final = 29
#: Of a stage, behind its splits and its number of reducers: its purpose, number and plan.
_STAGE_DEFAULTS: Final = (Purpose.WORK.value, 0, [None])
