"""Tables on standard output: they fit the terminal; in a file or pipe nothing is cut and nothing coloured."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import Final

from mrq.cli.console import Console, shown, write_lines

WIDTH: Final = 80
_GAP: Final = "  "
#: A column is never narrower than this, whatever the table's width.
_LEAST: Final = 6

#: What states and healths look like.
STYLES: Final = {
    "done": "green",
    "alive": "green",
    "running": "cyan",
    "committing": "cyan",
    "failed": "red",
    "dead": "red",
    "cancelled": "yellow",
    "suspect": "yellow",
    "draining": "yellow",
    "quarantined": "yellow",
    "joining": "yellow",
    "paused": "yellow",
}


class Page:
    """Lines for standard output, gathered and then written at once."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(sys.stdout)
        self._lines: list[str] = []

    @property
    def width(self) -> int | None:
        """The terminal's columns, at least 80; None elsewhere: who reads a file or a pipe wants it all."""
        return max(WIDTH, self._console.size()[0]) if self._console.live else None

    def line(self, text: str = "", *styles: str) -> None:
        self._lines.append(self._console.style(shown(text), *styles))

    def facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names and what they are, a line each; those that say nothing are left out."""
        told = [(name, text) for name, text in rows if text]
        width = max((len(name) for name, _ in told), default=0)
        for name, text in told:
            self._lines.append(f"{self._console.style(f'{name:<{width}}', 'dim')}{_GAP}{shown(text)}")

    def table(
        self, header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()
    ) -> None:
        """A table, its header dim; columns that are empty everywhere are left out."""
        keep = [at for at in range(len(header)) if any(row[at] for row in rows)]
        names = [header[at] for at in keep]
        cells = [[shown(row[at]).replace("\n", " ") for at in keep] for row in rows]
        widths = [max(len(c) for c in column) for column in zip(names, *cells, strict=True)]
        if self.width is not None:
            widths = fitted(widths, self.width)
        for number, row in enumerate([names, *cells]):
            parts = []
            for at, cell in enumerate(row):
                text = cut(cell, widths[at])
                last = at == len(row) - 1
                padded = (
                    text.rjust(widths[at]) if names[at] in right else text if last else text.ljust(widths[at])
                )
                if number == 0:
                    padded = self._console.style(padded, "dim")
                elif cell in STYLES:
                    padded = self._console.style(padded, STYLES[cell])
                parts.append(padded)
            self._lines.append(_GAP.join(parts).rstrip())

    def write(self) -> None:
        """Raises BrokenPipeError when nobody reads."""
        write_lines(self._lines)


def fitted(widths: Sequence[int], room: int) -> list[int]:
    """The columns' widths so that they fit: the widest give way first, the first one, of ids, never."""
    made = list(widths)
    over = sum(made) + len(_GAP) * (len(made) - 1) - room
    while over > 0 and len(made) > 1:
        widest = max(range(1, len(made)), key=lambda at: made[at])
        if made[widest] <= _LEAST:
            break
        made[widest] -= 1
        over -= 1
    return made


def cut(text: str, width: int) -> str:
    """The text in at most so many columns."""
    return text if len(text) <= width else text[: width - 1] + "…"
