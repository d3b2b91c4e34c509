"""What a value of a setting must be: one function each, the same for every side that a value may come from.

A check takes the value as Python has it, or as text where the command line can only say text (`"512M"`,
`"10m"`, `"none"`), and returns the value that counts. It raises ValueError saying what is wanted: "a size of
at least 16M, not '1K'".
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

#: The budget of an executor: the default and the least.
MEMORY_BYTES: Final = 512 << 20
MEMORY_BYTES_MIN: Final = 16 << 20
REDUCERS_MAX: Final = 10_000
EXECUTORS_MAX: Final = 1024
#: Of counts, so that they travel in four bytes.
COUNT_MAX: Final = 1_000_000_000
SIZE_MAX: Final = 1 << 50
SECONDS_MAX: Final = 365 * 86400.0
COMPRESSIONS: Final = ("gz", "bz2", "xz", "zst")
#: As `mrq.io` has them; here, where executors can look without loading it.
INPUT_FORMATS: Final = ("text", "jsonl", "whole", "records")
OUTPUT_FORMATS: Final = ("text", "lines", "jsonl", "records")


def nearest(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the names that there are."""
    import difflib

    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are {', '.join(known)}" if known else "; there are none"


def parse_size(value: Any) -> int:
    """Bytes of 65536, "64k", "512M", "2GiB". Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str):
        text = value.strip().lower().removesuffix("b").removesuffix("i")
        scale = {"k": 10, "m": 20, "g": 30, "t": 40}.get(text[-1:], 0)
        try:
            size = int(float(text[:-1] if scale else text) * (1 << scale))
        except (ValueError, OverflowError):
            raise ValueError(f"a size such as 512M or 2G, not {value!r}") from None
    else:
        raise ValueError(f"a size such as 512M or 2G, not {value!r}")
    if size <= 0:
        raise ValueError(f"a size above 0, not {value!r}")
    return size


def parse_duration(text: str) -> float:
    """Seconds of "90", "90s", "10m", "1.5h" or "7d". Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(s|m|h|d)?", text.strip().lower())
    if match is None:
        raise ValueError(f"a time such as 90, 90s, 10m or 7d, not {text!r}")
    return float(match[1]) * {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}[match[2] or "s"]


# ---- the checks ----


def boolean(value: Any) -> bool:
    """True or False, and nothing that only counts as one of them."""
    if not isinstance(value, bool):
        raise ValueError(f"True or False, not {value!r}")
    return value


def switch(value: Any) -> bool:
    """`boolean`, in the words of mrq.toml and of variables."""
    if not isinstance(value, bool):
        raise ValueError(f"true or false, not {value!r}")
    return value


def whole(low: int, high: int = COUNT_MAX) -> Callable[[Any], int]:
    """A whole number from `low` to `high`."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"a whole number from {low:,} to {high:,}, not {value!r}")
        if not low <= value <= high:
            raise ValueError(f"a number from {low:,} to {high:,}, not {value}")
        return value

    return check


#: Processes that run a job's code.
executors: Final = whole(1, EXECUTORS_MAX)


def partitions(value: Any) -> int:
    """How many parts; 0, which elsewhere means a map-only job, is told apart."""
    if value == 0 and not isinstance(value, bool):
        raise ValueError(f"a number from 1 to {REDUCERS_MAX:,}, not 0: a map-only job is one without reduce")
    return whole(1, REDUCERS_MAX)(value)


def size(low: int) -> Callable[[Any], int]:
    """Bytes, at least `low`."""

    def check(value: Any) -> int:
        found = parse_size(value)
        if found < low:
            raise ValueError(f"a size of at least {_bytes(low)}, not {value!r}")
        if found > SIZE_MAX:
            raise ValueError(f"a size of at most {_bytes(SIZE_MAX)}, not {value!r}")
        return found

    return check


#: The budget of an executor.
memory: Final = size(MEMORY_BYTES_MIN)


def _bytes(bytes_: int) -> str:
    """16777216 as `16M`."""
    for scale, letter in ((40, "T"), (30, "G"), (20, "M"), (10, "K")):
        if bytes_ >= 1 << scale:
            return f"{bytes_ >> scale}{letter}"
    return f"{bytes_}"


def seconds(value: Any) -> float:
    """A time above 0, as a number of seconds or with its unit."""
    found = _seconds(value)
    if not 0 < found <= SECONDS_MAX:
        raise ValueError(f"a time above 0 and of at most 365d, not {value!r}")
    return found


def seconds_from(low: int) -> Callable[[Any], float]:
    """A time of at least `low` seconds."""

    def check(value: Any) -> float:
        found = _seconds(value)
        if not low <= found < float("inf"):
            raise ValueError(f"at least {low} s, not {value!r}")
        return found

    return check


def _seconds(value: Any) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a time such as 90, 90s, 10m or 7d, not {value!r}")
    return float(value)


def optional(word: str, check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`check`, where None may be said too, and `word` is what it is called where only text can be said."""
    return lambda value: None if value is None or (isinstance(value, str) and value == word) else check(value)


class OneOf:
    """The check of one of `names`, or None; `none` is what None is called where only text can be said."""

    def __init__(self, *names: str, none: str | None = None) -> None:
        self.known = names if none is None else (*names, none)
        self._none = none

    def __call__(self, value: Any) -> str | None:
        """The name. Raises ValueError."""
        if value is None:
            return None
        if not isinstance(value, str) or value not in self.known:
            close = nearest(value, self.known) if isinstance(value, str) else ""
            hint = close if "did you mean" in close else ""
            raise ValueError(f"one of {', '.join(self.known)}, not {value!r}{hint}")
        return None if value == self._none else value


#: How standard error is written.
log_format: Final = OneOf("text", "json")


def encoding(value: Any) -> str:
    """The canonical name of an encoding in which lines can be told apart before they are decoded."""
    import codecs

    from mrq.codec.encodings import newline_is_a_byte

    try:
        found = codecs.lookup(value).name
        "".encode(found)  # codecs that aren't of text, such as rot13, can't
    except (LookupError, TypeError, ValueError):
        raise ValueError(f"an encoding that Python knows, such as latin-1, not {value!r}") from None
    if found == "utf-8-sig":
        return "utf-8"  # in which a byte order mark is left out anyway
    if not newline_is_a_byte(found):
        raise ValueError(
            f"one in which a newline is the single byte 10, so that lines can be told apart, not {value!r}: "
            'convert the files (iconv -t UTF-8), or read them with `input_format="whole"` and decode in map'
        )
    return found


def total_order(value: Any) -> str | None:
    """The `order` that True or False stands for."""
    return "total" if boolean(value) else None


def paths(value: Any) -> tuple[str, ...]:
    """Paths, as they were given."""
    if not isinstance(value, list | tuple):
        raise ValueError(f'a list of paths, such as ["plugins"], not {value!r}')
    made = tuple(os.fspath(path) if isinstance(path, os.PathLike) else path for path in value)
    for path in made:
        if not isinstance(path, str) or not path:
            raise ValueError(f'a list of paths, such as ["plugins"], not one with {path!r}')
    return made


def later(value: Any) -> Any:
    """Of a setting whose name is taken already."""
    raise ValueError(
        "left out: named inputs come in a later version of mrq; until then read self.task.path in map"
    )


# ---- of clusters ----

_NAME: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,62}"


def name(*, dots: bool) -> Callable[[Any], str]:
    """What a worker, or what names of keys and queues begin with, is called."""

    def check(value: Any) -> str:
        letters = "'.', '_' and '-'" if dots else "'_' and '-'"
        wanted = f"at most 63 letters, digits, {letters}, beginning with a letter or digit"
        found = _text(value, wanted)
        if not re.fullmatch(_NAME, found) or ("." in found and not dots):
            raise ValueError(f"{wanted}, not {value!r}")
        return found

    return check


def path(value: Any) -> str:
    """A path, as it is written."""
    return _text(value, "a path in quotes")


def path_map(value: Any) -> tuple[tuple[str, str], ...]:
    """(folder here as it is written, the same on the cluster), of a table."""
    wanted = 'a table such as [paths] with "./data" = "/data", or as a variable "./data=/data,…"'
    if not isinstance(value, dict):
        raise ValueError(f"{wanted}, not {value!r}")
    for here, there in value.items():
        if not (here and isinstance(there, str) and there.startswith("/")):
            raise ValueError(f"{wanted}, the cluster's side absolute; not {here!r} and {there!r}")
    return tuple((here, os.path.normpath(there)) for here, there in value.items())


def address(value: Any) -> str:
    """HOST:PORT."""
    host, _, port = _text(value, "HOST:PORT").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"HOST:PORT, not {value!r}")
    return str(value)


def _text(value: Any, wanted: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{wanted}, not {value!r}")
    return value
