"""What earlier versions stored of jobs, as far as it is still read: to refuse them by name."""

from __future__ import annotations

from typing import Any

from mrq.core import wire
from mrq.core.model import JobSpec, Purpose
from mrq.errors import CorruptFileError


def spec_before(data: Any) -> JobSpec:
    """A job's spec as versions stored it whose jobs were one stage each; also a sampling, whose id was
    that of the job that it was for, with "-s" behind it. Raises CorruptFileError."""
    try:
        job, name, purpose, _, *data = data
        code, entry, root, parameters, inputs, splits, reducers, *data = data
        *formats, _ = data[:6]
        stage = [splits, reducers, (Purpose.SAMPLE if purpose == "sample" else Purpose.WORK).value]
        row = [job, name, code, entry, root, parameters, inputs, [stage], *formats, *data[6:]]
    except (TypeError, ValueError) as exc:
        raise CorruptFileError(f"stored data isn't a job of an earlier version: {exc}") from exc
    return wire.from_wire(JobSpec, row)
