"""A job's spec as the versions before stored it, by the fields that they had."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

from mrq.core import wire
from mrq.core.model import JobSpec

_BEFORE: Final = Path(__file__).resolve().parent / "fixtures/before/fields.json"


def stored_before(spec: JobSpec, *, purpose: str = "job") -> list[Any]:
    """What was stored of a job of one stage; of the sampling for one, with the purpose "sample"."""
    now = dict(zip([field.name for field in dataclasses.fields(spec)], wire.to_wire(spec), strict=True))
    splits, reducers, *_ = wire.to_wire(spec.stages[-1])
    was = {
        **now,
        "purpose": purpose,
        "then": None,
        "splits": splits,
        "reducers": reducers,
        "boundaries": None,
    }
    return [was[name] for name in json.loads(_BEFORE.read_text())["mrq.core.model.JobSpec"].split()]
