"""A job's spec as the versions before stored it, by the fields that they had."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

from mrq.core import wire
from mrq.core.model import JobSpec

_BEFORE: Final = Path(__file__).resolve().parent / "fixtures/before/fields.json"
_FIELDS: Final = {name: fields.split() for name, fields in json.loads(_BEFORE.read_text()).items()}


def stored_before(spec: JobSpec, *, purpose: str = "job") -> list[Any]:
    """What was stored of a job of one stage; of the sampling for one, with the purpose "sample"."""
    was = {**_named(spec.stages[-1]), **_named(spec), "purpose": purpose, "then": None, "boundaries": None}
    return [was[name] for name in _FIELDS["mrq.core.model.JobSpec"]]


def stored_at_5(spec: JobSpec) -> list[Any]:
    """What version 5 stored, whose jobs had one format to read and one to write."""
    stages = [_named(stage) for stage in spec.stages]
    was = {
        **stages[-1],
        **_named(spec),
        "can_skip": spec.can_skip,
        "stages": [
            [stage[name] for name in _FIELDS["mrq.core.model.StageSpec of version 5"]] for stage in stages
        ],
    }
    return [was[name] for name in _FIELDS["mrq.core.model.JobSpec of version 5"]]


def _named(value: Any) -> dict[str, Any]:
    """Its fields as they are stored now, by name."""
    return dict(zip([field.name for field in dataclasses.fields(value)], wire.to_wire(value), strict=True))
