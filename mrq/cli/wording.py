"""Advice in the words of the command line.

What can be met from Python too advises in Python's words, between backticks: `overwrite=True`,
`input_format="whole"`, `Grep(pattern=…)`. Whoever typed a command is told the flags that are the same.
"""

from __future__ import annotations

import re
from typing import Final

from mrq.settings.job import SETTINGS
from mrq.settings.run import SUBMIT
from mrq.settings.table import Where

#: The settings that are arguments of a run, by their names there.
_ARGUMENTS: Final = {row.name: row for row in SUBMIT if Where.ARGUMENT in row.where}

_OPTION: Final = re.compile(r"`(\w+)=([^`=]*)`")
#: The name of a setting alone.
_NAME: Final = re.compile(r"`(\w+)`")
_QUOTES: Final = "\"'"
#: An instance to be made, with what its parameters are left out.
_INSTANCE: Final = re.compile(r"`[A-Za-z_]\w*\((\w+=…(?:, \w+=…)*)\)`")


def in_flags(text: str) -> str:
    """`overwrite=True` as `--overwrite`; what is no argument of a run stays as it is."""
    return _INSTANCE.sub(_sets, _NAME.sub(_named, _OPTION.sub(_flag, text)))


def _named(match: re.Match[str]) -> str:
    row = SETTINGS.get(match[1])
    return f"`{row.long}`" if row is not None and row.long is not None else match[0]


def _flag(match: re.Match[str]) -> str:
    row, value = _ARGUMENTS.get(match[1]), match[2]
    if row is None:
        return match[0]
    long = str(row.long)
    if value == "True":
        return f"`{long}`"
    if value == "False":
        return f"`--no-{long.removeprefix('--')}`"
    if value == "None" and row.word_for_none is not None:
        return f"`{long} {row.word_for_none}`"
    if value.startswith("["):  # a flag for each
        return "`" + " ".join(f"{long} {each.strip(_QUOTES)}" for each in value.strip("[]").split(", ")) + "`"
    return f"`{long} {value.strip(_QUOTES)}`"


def _sets(match: re.Match[str]) -> str:
    return "`" + " ".join(f"--set {each}" for each in match[1].split(", ")) + "`"
