"""What is known of a setting, on whichever side it is given.

A table is a dataclass whose fields are made by `setting`: the field has the type and the default of what
counts, and its `Setting` says how people write it. `rows_of` lists them. To add a setting, add a field: its
flag, its variable, every side's check, the docs and the completion follow. Type checkers want a job's in
`job.Keywords` too.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any

from mrq.settings.checks import OneOf


class ValueKind(enum.Enum):
    """How text spells a value, and what that is called in help where a setting has no better word."""

    SWITCH = ""
    COUNT = "N"
    SIZE = "SIZE"
    TIME = "TIME"
    WORD = "WORD"
    PATH = "PATH"  #: a relative one starts where it is written: at its file's folder, or at the current one
    PATHS = "PATH…"  #: a flag may be given more than once, and each counts
    PATH_MAP = "HOST=CLUSTER,…"


class Where(enum.Flag):
    """Where a setting may be set."""

    KEYWORD = enum.auto()  #: a keyword of the job's class
    ARGUMENT = enum.auto()  #: an argument of `mrq.run` and of an engine
    SUBMIT = enum.auto()  #: a flag of `mrq submit`
    RETRY = enum.auto()  #: a flag of `mrq retry`
    FILE = enum.auto()  #: mrq.toml, in a profile or above all of them
    VARIABLE = enum.auto()  #: the environment
    CLIENT = enum.auto()  #: as the two above, for commands and programs that ask a cluster
    MASTER = enum.auto()  #: as those two and a flag of `python -m mrq.master`
    WORKER = enum.auto()  #: as those two and a flag of `python -m mrq.worker`
    JOB = KEYWORD | ARGUMENT | SUBMIT
    ROLES = MASTER | WORKER
    CLUSTER = CLIENT | MASTER | WORKER


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting."""

    kind: ValueKind
    check: Callable[[Any], Any]  #: the value that counts; raises ValueError saying what is wanted
    help: str
    where: Where
    name: str = ""  #: of the keyword and the argument, or in mrq.toml
    default: str = ""  #: as people write it; "": the help says it, or there is none
    field: str = ""  #: of the dataclass
    flag: str | None = ""  #: None: there is none; "": made of the name
    short: str | None = None
    value: str = ""  #: what its value is called, where the kind doesn't say it well

    @property
    def long(self) -> str | None:
        """`--split-size` of split_size, `--keep` of keep_s, as a flag's value carries its unit."""
        return "--" + self.name.removesuffix("_s").replace("_", "-") if self.flag == "" else self.flag

    @property
    def names(self) -> tuple[str, ...]:
        """Its flags, the long one last."""
        return tuple(name for name in (self.short, self.long) if name is not None)

    @property
    def off(self) -> str | None:
        """Of a job's switch: the flag that says the opposite."""
        takes = self.kind is ValueKind.SWITCH and Where.KEYWORD in self.where and self.long is not None
        return f"--no-{str(self.long).removeprefix('--')}" if takes else None

    @property
    def all_names(self) -> tuple[str, ...]:
        """Its flags, the opposite too."""
        return (*self.names, *((self.off,) if self.off else ()))

    @property
    def metavar(self) -> str:
        """What its value is called; "" where a flag takes none."""
        return self.value or self.kind.value

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it may be, where those are few."""
        return self.check.known if isinstance(self.check, OneOf) else ()

    @property
    def env(self) -> str:
        """`MRQ_KEEP_S` of keep_s."""
        return f"MRQ_{self.name.upper()}"

    @property
    def told(self) -> str:
        """The help of its flag, with the default."""
        said = {"True": "on", "False": "off"}.get(self.default, self.default)
        return f"{self.help} (default: {said})" if said else self.help

    @property
    def word_for_none(self) -> str | None:
        """What None is called where only text can be said; None: it can't be said there."""
        for word in ("auto", "none", "hashed"):
            with suppress(ValueError):
                if self.check(word) is None:
                    return word
        return None

    def checked(self, value: Any) -> Any:
        """The value that counts. Raises ValueError with a whole sentence, the same on every side."""
        try:
            return self.check(value)
        except ValueError as exc:
            raise ValueError(f"{self.name} must be {exc}") from None

    def typed(self, text: str) -> Any:
        """The value that the text of a flag or variable means, as Python would have it; not checked."""
        if self.kind is ValueKind.COUNT:
            with suppress(ValueError):
                return int(text)
        if self.kind is ValueKind.SWITCH:
            known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
            return known.get(text.lower(), text)
        if self.kind is ValueKind.PATH_MAP and "=" in text:
            return dict(pair.partition("=")[::2] for pair in text.split(","))
        return text


def setting(
    kind: ValueKind,
    default: Any,
    check: Callable[[Any], Any],
    help: str,
    *,
    said: str | None = None,
    where: Where = Where.JOB,
    **more: Any,
) -> Any:
    """A field that is a `Setting`, called as the field is where `more` gives no name.

    `default`: the value, or a function that makes it; `said`: how people write it.
    """
    row = Setting(
        kind=kind, check=check, help=help, where=where, default=str(default) if said is None else said, **more
    )
    if callable(default):
        return field(default_factory=default, metadata={"setting": row})
    return field(default=default, metadata={"setting": row})


def rows_of(table: Any) -> Mapping[str, Setting]:
    """The settings of a table by their names, in its order, which is that of help."""
    rows = [
        replace(row, name=row.name or each.name, field=each.name)
        for each in fields(table)
        if (row := each.metadata.get("setting")) is not None
    ]
    return {row.name: row for row in rows}
