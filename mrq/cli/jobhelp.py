"""`--help` after JOB: what this job does, its parameters, and its settings as its class has them."""

from __future__ import annotations

import inspect
from dataclasses import replace

from mrq.cli.command_table import columns, flag_lines
from mrq.job.base import REQUIRED, Job
from mrq.job.parameters import hint_of, show
from mrq.settings.run import JOB, SUBMIT
from mrq.settings.table import Setting


def job_text(cls: type[Job], program: str) -> str:
    """The help of one job; `program` is what was typed up to the job: `mrq submit job.py`."""
    lines = [f"usage: {program} INPUT... -o OUT [flags]", ""]
    if cls.__doc__:
        lines += [*inspect.cleandoc(cls.__doc__).splitlines(), ""]
    parameters = cls.__mrq_parameters__.values()
    if parameters:
        lines += [f"Parameters of {cls.__name__}.", ""]
        for each in parameters:
            needed = each.default is REQUIRED
            default = "has no default" if needed else f"default: {each.default!r}"
            lines += columns(f"--set {each.name}=…", f"{show(hint_of(each))} ({default})")
        lines += [""]
    lines += ["Flags.", "", *flag_lines(row for row in SUBMIT if row not in JOB), ""]
    lines += [f"Settings of {cls.__name__}.", "", *flag_lines(_as_set(row, cls) for row in JOB)]
    return "\n".join(lines) + "\n"


def _as_set(row: Setting, cls: type[Job]) -> Setting:
    """A setting, with what the class says instead of the default of all jobs."""
    if row.name not in cls.__mrq_settings__:
        return row
    value = cls.__mrq_settings__[row.name]
    said = {True: "on", False: "off"}[value] if isinstance(value, bool) else value
    said = row.word_for_none if said is None else said
    return replace(row, help=f"{row.help} (in {cls.__name__}: {said})", default="")
