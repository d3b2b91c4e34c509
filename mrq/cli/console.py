"""Where a command prints: people read standard error, programs standard output.

What people are told is logged under `mrq`, and `Console` is the one handler of it. A standard error that is
closed or broken never ends a job. A standard output that is (`mrq cat OUT | head`) ends the command quietly,
which `mrq.cli.app` sees to.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TextIO

from mrq.errors import OperatorError

_STYLES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_ERROR: Final = "error: "
#: What a record may say of where it belongs (`extra`), and each line of JSON then has.
CONTEXT: Final = ("job", "task", "attempt", "worker", "boot", "epoch")


class Terminal:
    """What a stream can show."""

    def __init__(self, stream: TextIO | None, environ: Mapping[str, str] = os.environ) -> None:
        self._stream = stream
        terminal = False
        if stream is not None and environ.get("TERM", "") not in ("", "dumb"):
            with contextlib.suppress(ValueError):  # closed
                terminal = stream.isatty()
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

    def draw(self, *what: Any, width: int) -> list[str]:
        """What `rich` can draw, as lines of so many columns at most. Imports it: only who draws pays."""
        from io import StringIO

        from rich.console import Console as Drawing
        from rich.text import Text

        out = StringIO()
        drawing = Drawing(file=out, color_system="standard" if self.colour else None, width=width)
        for each in what:
            drawing.print(each, soft_wrap=isinstance(each, Text))
        return [line.rstrip() for line in out.getvalue().splitlines()]


class Console(logging.Handler):
    """Shows people, on standard error, what is logged under `mrq`: as text, or as a line of JSON each
    (`mrq.cli.objects.LogLine`). `quiet` shows errors only; `role` is what a line of text begins with.
    """

    def __init__(
        self, stream: TextIO | None = None, *, role: str = "", environ: Mapping[str, str] = os.environ
    ) -> None:
        super().__init__(logging.INFO)
        self._stream: TextIO | None = sys.stderr if stream is None else stream
        self._role = role
        self.terminal = Terminal(self._stream, environ)
        self.json = False
        self.context: dict[str, Any] = {}  #: what all lines of JSON have
        #: Called before a line is printed: the live display takes itself away.
        self.before_line: Callable[[], None] | None = None

    def show(self, *, quiet: bool = False, json: bool = False) -> None:
        """Go by what the command line asks for. JSON has more lines, on each attempt's end and each job's."""
        self.setLevel(logging.ERROR if quiet else logging.DEBUG if json else logging.INFO)
        logger = logging.getLogger("mrq")
        if self in logger.handlers:
            logger.setLevel(self.level)
        self.json = json
        self.terminal.live = self.terminal.live and not json

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within: what is logged under `mrq` is shown here and nowhere else, so nothing is shown twice
        whatever a job's own file does about logging. Then logging is as it was."""
        logger = logging.getLogger("mrq")
        level, propagate = logger.level, logger.propagate
        logger.addHandler(self)
        logger.setLevel(self.level)
        logger.propagate = False
        try:
            yield
        finally:
            self.end()
            logger.removeHandler(self)
            logger.setLevel(level)
            logger.propagate = propagate

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within: nobody else prints."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, above the live display if there is one."""
        if self.before_line is not None:
            self.before_line()
        self.write(self.format(record) + "\n")

    def format(self, record: logging.LogRecord) -> str:
        """The record as it is printed: for people, or one line of JSON."""
        text = record.getMessage()
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        if self.json:
            from json import dumps

            at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            known = {name: vars(record)[name] for name in CONTEXT if name in vars(record)}
            line = {
                "time": f"{at}.{int(record.msecs):03d}Z",
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": text,
                **self.context,
                **known,
                **({"traceback": trace} if trace else {}),
            }
            return dumps(line, ensure_ascii=not self.terminal.unicode)
        if record.name == "mrq.notes":
            from mrq.cli.wording import in_flags

            text = f"note: {in_flags(text)}"
        text = shown(f"{text}\n{trace}" if trace else text)
        if text.startswith(_ERROR):
            return self._styled(_ERROR, "red", "bold") + text.removeprefix(_ERROR)
        style = getattr(record, "style", None)
        return self._role + (self._styled(text, style) if style else text)

    def _styled(self, text: str, *styles: str) -> str:
        if not self.terminal.colour:
            return text
        return f"\x1b[{';'.join(_STYLES[s] for s in styles)}m{text}\x1b[0m"

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
