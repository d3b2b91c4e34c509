"""`--help` after JOB: what this job does, its parameters, and its settings as its class has them."""

from __future__ import annotations

import inspect
from dataclasses import replace

from mrq.cli.flags import SUBMIT_FLAGS, Flag, flag_lines
from mrq.job.base import REQUIRED, Job
from mrq.job.parameters import hint_of, show
from mrq.settings.job import SETTINGS


def job_text(cls: type[Job], program: str) -> str:
    """The help of one job; `program` is what was typed up to the job: `mrq submit job.py`."""
    lines = [f"usage: {program} INPUT... -o OUT [flags]", ""]
    if cls.__doc__:
        lines += [*inspect.cleandoc(cls.__doc__).splitlines(), ""]
    parameters = cls.__mrq_parameters__.values()
    if parameters:
        rows = []
        for each in parameters:
            needed = each.default is REQUIRED
            default = "has no default" if needed else f"default: {each.default!r}"
            rows.append(Flag(names=(f"--set {each.name}=…",), help=f"{show(hint_of(each))} ({default})"))
        lines += [f"Parameters of {cls.__name__}.", "", *flag_lines(rows), ""]
    others = [flag for flag in SUBMIT_FLAGS if flag.setting is None]
    lines += ["Flags.", "", *flag_lines(others), ""]
    lines += [f"Settings of {cls.__name__}.", ""]
    lines += flag_lines([_as_set(flag, cls) for flag in SUBMIT_FLAGS if flag.setting is not None])
    return "\n".join(lines) + "\n"


def _as_set(flag: Flag, cls: type[Job]) -> Flag:
    """A setting's flag, with what the class says instead of the default of all jobs."""
    row = SETTINGS[flag.setting or ""]
    if row.name not in cls.__mrq_settings__:
        return flag
    value = cls.__mrq_settings__[row.name]
    said = {True: "on", False: "off"}[value] if isinstance(value, bool) else value
    return replace(
        flag, help=f"{row.help} (in {cls.__name__}: {row.word_for_none if said is None else said})"
    )
