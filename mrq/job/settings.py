"""Settings: how a job is run, as opposed to what it computes.

They are class keywords (`class Sort(mrq.Job, order="total")`), and flags or arguments of a run override them.
The table `_CHECKS` is the one list of their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from mrq.errors import UsageError

if TYPE_CHECKING:
    from mrq.job.base import Job

REDUCERS_MAX: Final = 10_000
COMPRESSIONS: Final = ("gz", "bz2", "xz", "zst")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A job's settings, checked. None where the engine chooses."""

    sort_values: bool = False
    order: str | None = None  #: "total", or None: hashed partitions
    input_format: str | None = None
    output_format: str | None = None
    compression: str | None = None  #: of the output
    encoding: str | None = "utf-8"  #: of text inputs; None gives bytes
    reducers: int | None = None
    backups: bool = True
    skip_bad_records: int = 0
    memory_bytes: int | None = None  #: per executor
    split_bytes: int | None = None
    max_failures: int | None = None
    progress_timeout_s: float | None = None
    priority: int = 0
    max_running: int | None = None


class Keywords(TypedDict, total=False):
    """The settings as class keywords, for type checkers; `_CHECKS` is what counts."""

    sort_values: bool
    order: Literal["total"] | None
    total_order: bool
    inputs: Mapping[str, str]
    input_format: str | None
    output_format: str | None
    compression: Literal["gz", "bz2", "xz", "zst"] | None
    encoding: str | None
    reducers: int | None
    backups: bool
    skip_bad_records: int
    memory: int | str | None
    split_size: int | str | None
    max_failures: int | None
    progress_timeout: float | None
    priority: int
    max_running: int | None


def resolve(cls: type[Job], overrides: Mapping[str, Any] | None = None) -> Settings:
    """The class's keywords under `overrides` (same names; only those that were given).

    Raises UsageError for an unknown name or a value that can't be, naming the nearest.
    """
    fields: dict[str, Any] = {}
    for name, value in {**cls.__mrq_settings__, **(overrides or {})}.items():
        try:
            field, checked = _check(name, value)
        except ValueError as exc:
            raise UsageError(f"{cls.__name__}: {exc}") from exc
        fields[field] = checked
    return Settings(**fields)


def check_keywords(cls: type[Job], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a class statement, if all are settings. Raises TypeError, naming the nearest."""
    if "total_order" in keywords and "order" in keywords:
        raise TypeError(f'{cls.__name__}: total_order=True and order="total" are the same; give one')
    for name, value in keywords.items():
        try:
            _check(name, value)
        except ValueError as exc:
            raise TypeError(f"{cls.__name__}: {exc}") from exc
    settings = dict(keywords)
    if "total_order" in settings:
        settings["order"] = "total" if settings.pop("total_order") else None
    return settings


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
    import re

    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(s|m|h|d)?", text.strip().lower())
    if match is None:
        raise ValueError(f"a time such as 90, 90s, 10m or 2h, not {text!r}")
    return float(match[1]) * {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}[match[2] or "s"]


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"True or False, not {value!r}")
    return value


def _int(low: int, high: int | None = None) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"a whole number, not {value!r}")
        if value < low or (high is not None and value > high):
            limits = f"from {low:,} to {high:,}" if high is not None else f"of at least {low:,}"
            raise ValueError(f"a number {limits}, not {value:,}")
        return value

    return check


def _optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"a name, not {value!r}")
    return value


def _one_of(*names: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in names:
            raise ValueError(f"one of {', '.join(names)}, not {value!r}")
        return str(value)

    return check


def _encoding(value: Any) -> str:
    import codecs

    try:
        return codecs.lookup(_name(value)).name
    except LookupError:
        raise ValueError(f"an encoding that Python knows, not {value!r}") from None


def _order(value: Any) -> str:
    if value != "total":
        raise ValueError(f'"total" or None, not {value!r}')
    return "total"


def _total_order(value: Any) -> str | None:
    return "total" if _bool(value) else None


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"a number of seconds above 0, not {value!r}")
    return float(value)


def _later(value: Any) -> Any:
    raise ValueError("named inputs come in a later version of mrq; until then read self.task.path in map")


#: Setting -> (field of Settings, check). A check raises ValueError saying what is wanted.
_CHECKS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "sort_values": ("sort_values", _bool),
    "order": ("order", _optional(_order)),
    # The same for people who run mypy, which takes a class keyword `order` for the one of dataclasses.
    "total_order": ("order", _total_order),
    "inputs": ("inputs", _later),
    "input_format": ("input_format", _optional(_name)),
    "output_format": ("output_format", _optional(_name)),
    "compression": ("compression", _optional(_one_of(*COMPRESSIONS))),
    "encoding": ("encoding", _optional(_encoding)),
    "reducers": ("reducers", _optional(_int(1, REDUCERS_MAX))),
    "backups": ("backups", _bool),
    "skip_bad_records": ("skip_bad_records", _int(0)),
    "memory": ("memory_bytes", _optional(parse_size)),
    "split_size": ("split_bytes", _optional(parse_size)),
    "max_failures": ("max_failures", _optional(_int(1))),
    "progress_timeout": ("progress_timeout_s", _optional(_seconds)),
    "priority": ("priority", _int(-1000, 1000)),
    "max_running": ("max_running", _optional(_int(1))),
}


def _check(name: str, value: Any) -> tuple[str, Any]:
    """(field, checked value). Raises ValueError with a whole sentence."""
    known = _CHECKS.get(name)
    if known is None:
        raise ValueError(f"no setting {name!r}{nearest(name, _CHECKS)}")
    field, check = known
    if check is _later:
        check(value)
    try:
        return field, check(value)
    except ValueError as exc:
        raise ValueError(f"{name} must be {exc}") from None
