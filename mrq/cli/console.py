"""Where a command prints: people read standard error, programs standard output.

A standard error that is closed or broken never ends a job. A standard output that is (`mrq cat OUT | head`)
ends the command quietly, which `mrq.cli.app` sees to.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TextIO

from mrq.errors import OperatorError

_STYLES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Console:
    """Standard error, for people. `quiet` prints errors only."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        quiet: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._stream: TextIO | None = sys.stderr if stream is None else stream
        self.quiet = quiet
        #: Held while lines or a frame are written: a cluster's news come on a thread of their own.
        self.lock = threading.RLock()
        #: Called before a line is printed: the live display takes itself away.
        self.before_line: Callable[[], None] | None = None
        terminal = False
        if self._stream is not None and environ.get("TERM", "") not in ("", "dumb"):
            with contextlib.suppress(ValueError):  # closed
                terminal = self._stream.isatty()
        self.live = terminal  #: a display may move the cursor
        self.colour = terminal and not environ.get("NO_COLOR")

    @property
    def unicode(self) -> bool:
        """Whether the stream can print more than its own code page."""
        encoding = getattr(self._stream, "encoding", None) or ""
        return encoding.lower().replace("-", "") == "utf8"

    def size(self) -> tuple[int, int]:
        """(columns, rows) of the terminal now; 80 by 24 where it doesn't say."""
        columns = lines = 0
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                columns, lines = os.get_terminal_size(self._stream.fileno())
        return columns or 80, lines or 24

    def line(self, text: str = "") -> None:
        """Print a line, unless quiet."""
        if not self.quiet:
            self._line(text)

    def error(self, text: str) -> None:
        """Print lines, quiet or not."""
        self._line(text)

    def _line(self, text: str) -> None:
        with self.lock:
            if self.before_line is not None:
                self.before_line()
            self.write(text + "\n")

    def write(self, text: str) -> None:
        """Write as it is, at once. A broken stream is given up without a word: there is nobody to tell."""
        if self._stream is None:
            return
        try:
            self._stream.write(printable(text, self._stream.encoding))
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None

    def end(self) -> None:
        """Take away whatever display is still on the screen."""
        if self.before_line is not None:
            self.before_line()
            self.before_line = None

    def style(self, text: str, *styles: str) -> str:
        """The text in a colour or weight, where the terminal shows one."""
        if not self.colour or not text:
            return text
        return f"\x1b[{';'.join(_STYLES[s] for s in styles)}m{text}\x1b[0m"


def printable(text: str, encoding: str | None) -> str:
    """The text, with what the stream's encoding doesn't have as escapes."""
    name = encoding or "utf-8"
    return text.encode(name, "backslashreplace").decode(name)


def shown(text: str) -> str:
    """A path or message from outside, for a terminal: control characters and lone bytes as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escape(c) for c in text)


def _escape(char: str) -> str:
    if 0xDC80 <= ord(char) <= 0xDCFF:  # a byte that isn't UTF-8, by surrogateescape
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def print_json(value: Any) -> None:
    """One JSON object on standard output, in UTF-8 whatever the locale; a dataclass by its fields' names."""
    import json

    data = json.dumps(value, ensure_ascii=False, indent=2, default=_plain)
    write_out(data.encode("utf-8", "backslashreplace") + b"\n")


def _plain(value: Any) -> Any:
    """What isn't JSON's by itself: dataclasses as their fields, enums as their values."""
    import dataclasses
    import enum

    if dataclasses.is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} isn't for --json")


def write_lines(lines: Iterable[str]) -> None:
    """Lines on standard output at once, in UTF-8 whatever the locale. Raises as `write_out`."""
    write_out("".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))


def write_out(data: bytes) -> None:
    """Bytes on standard output, all of them. Raises BrokenPipeError when nobody reads, else OperatorError."""
    if sys.stdout is None:
        raise BrokenPipeError("standard output is closed")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        drop_stdout()
        raise
    except OSError as exc:
        drop_stdout()
        raise OperatorError(f"standard output can't be written: {exc.strerror}") from exc


def drop_stdout() -> None:
    """Let the interpreter's own last flush go nowhere: what couldn't be written once can't be then."""
    if sys.stdout is not None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
