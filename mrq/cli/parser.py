"""The parser of one command's line, made of the settings that the command takes.

It is an argparse parser without positionals: flags may stand before, between and after the words, and what
argparse doesn't know is told in our own sentences, with the nearest flag.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

from mrq.cli.command_table import Parsed, nearest_of
from mrq.errors import UsageError
from mrq.settings.table import Setting, ValueKind, Where


class _Give(argparse.Action):
    """Puts what is given of a setting into the namespace, by the setting's name."""

    def __init__(self, option_strings: Sequence[str], dest: str, *, row: Setting) -> None:
        nargs = 0 if row.kind is ValueKind.SWITCH else "?"
        super().__init__(option_strings, dest, nargs=nargs, default=argparse.SUPPRESS)
        self._row = row

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, value: Any, name: str | None = None
    ) -> None:
        """Raises UsageError for a value that is missing or can't be."""
        row = self._row
        if row.kind is ValueKind.SWITCH:
            value = name != row.off
        elif value is None:
            raise UsageError(f"{name} needs a value: {name} {row.metavar} ({row.told})")
        elif not row.where & Where.CLUSTER:  # the profile checks those, and repeats no password
            text, value = value, row.typed(value)
            if row.kind is ValueKind.PATHS:
                value = [*getattr(namespace, row.name, ()), value]
            try:
                row.checked(value)
            except ValueError as exc:
                raise UsageError(f"{row.long} {text}: {exc}") from None
        setattr(namespace, row.name, value)


def parse(flags: Sequence[Setting], argv: Sequence[str], *, listed_by: str = "mrq submit --help") -> Parsed:
    """Take a command line apart: `-o OUT`, `-oOUT`, `--output OUT`, `--output=OUT`, `-qv`; `--` ends flags.

    Of a flag that is given twice the last one counts, and so of a switch and its opposite. Raises UsageError
    for an unknown flag, a value that is missing or can't be, or one where none belongs. `listed_by` is the
    command that shows these flags.
    """
    parser = argparse.ArgumentParser(
        prog="mrq",
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
        formatter_class=partial(argparse.HelpFormatter, width=100),  # which else asks the terminal each time
    )
    by_name = {name: row for row in flags for name in row.all_names}
    for row in flags:
        parser.add_argument(*row.all_names, dest=row.name, action=_Give, row=row)
    end = argv.index("--") if "--" in argv else len(argv)
    try:
        namespace, words = parser.parse_known_args(_joined(argv[:end], by_name))
    except argparse.ArgumentError as exc:  # of `-qx`: it takes the x for a value of -q
        name = "-" + exc.message.partition("'")[2][:1]
        raise UsageError(f"there is no flag {name}{nearest_of(name, by_name, listed_by)}") from None
    for word in words:
        if word.startswith("-") and word != "-":
            name = word.partition("=")[0]
            raise UsageError(f"there is no flag {name}{nearest_of(name, by_name, listed_by)}")
    return Parsed(words=(*words, *argv[end + 1 :]), given=vars(namespace))


def _joined(argv: Sequence[str], by_name: dict[str, Setting]) -> list[str]:
    """Each value in one word with its flag: by itself argparse would take `-1` or `-dir` for a flag."""
    joined, rest = list[str](), list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        row = by_name.get(name)
        if row is not None and row.kind is ValueKind.SWITCH and equals:
            raise UsageError(f"{name} takes no value; leave out ={value}")
        takes = row is not None and row.kind is not ValueKind.SWITCH and not equals
        if takes and rest and rest[0].partition("=")[0] not in by_name:
            word = f"{name}={rest.pop(0)}"
        joined.append(word)
    return joined
