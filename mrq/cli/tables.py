"""Tables on standard output, drawn by `rich`: they fit the terminal, whatever script they are in; in a file
or pipe nothing is cut and nothing coloured. What is shown is text, never rich's markup."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from mrq.cli.console import Terminal, shown, write_lines

_GAP: Final = 2
#: A column is never narrower than this, unless its words are: a table that needs more is a list of facts.
_LEAST: Final = 5
#: Columns of a file or pipe: who reads one wants it all.
_ENDLESS: Final = 1 << 30

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


class TextPage:
    """Lines and tables for standard output, gathered and then written at once."""

    def __init__(self, terminal: Terminal | None = None) -> None:
        self._terminal = terminal or Terminal(sys.stdout)
        self._width = self._terminal.size()[0] if self._terminal.live else _ENDLESS
        self._drawn: list[Any] = []

    def line(self, text: str = "", style: str = "") -> None:
        from rich.text import Text

        self._drawn.append(Text(shown(text), style))

    def facts(self, rows: Iterable[tuple[str, str]]) -> None:
        """Names and what they are, a line each; those that say nothing are left out."""
        from rich.text import Text

        told = [(name, text) for name, text in rows if text]
        width = max((len(name) for name, _ in told), default=0) + _GAP
        self._drawn += [Text.assemble((f"{name:<{width}}", "dim"), shown(text)) for name, text in told]

    def table(
        self, header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()
    ) -> None:
        """A table, its header dim; columns that are empty everywhere are left out. Where it doesn't fit, the
        widest columns give way first, the first one, of ids, never; on a terminal that is too narrow for that
        each row is a list of facts."""
        from rich.cells import cell_len
        from rich.table import Table
        from rich.text import Text

        keep = [at for at in range(len(header)) if any(row[at] for row in rows)]
        if not keep:
            return
        names = [header[at] for at in keep]
        cells = [[shown(row[at]).replace("\n", " ") for at in keep] for row in rows]
        first, *others = [max(map(cell_len, column)) for column in zip(names, *cells, strict=True)]
        if first + sum(_GAP + min(width, _LEAST) for width in others) > self._width:
            for row in cells:
                self.facts(zip(names, row, strict=True))
                self.line()
            return
        table = Table(box=None, padding=(0, 0, 0, _GAP), pad_edge=False, show_header=False)
        for name in names:
            table.add_column(justify="right" if name in right else "left", no_wrap=name == names[0])
        for row in [names, *cells]:
            styles = (("dim" if row is names else STYLES.get(cell, "")) for cell in row)
            table.add_row(
                *(
                    Text(cell, style, no_wrap=True, overflow="ellipsis")
                    for cell, style in zip(row, styles, strict=True)
                )
            )
        self._drawn.append(table)

    def write(self) -> None:
        """Raises BrokenPipeError when nobody reads."""
        write_lines(self._terminal.draw(*self._drawn, width=self._width))
