"""A job's settings: how it is run, as opposed to what it computes.

They are class keywords (`class Sort(mrq.Job, order="total")`); flags and arguments of a run count before
those, and what a cluster's profile says counts where neither says anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from mrq.errors import UsageError, UsageTypeError
from mrq.settings import checks
from mrq.settings.checks import nearest, optional
from mrq.settings.table import Setting, ValueKind, Where, rows_of, setting

if TYPE_CHECKING:
    from mrq.core.model import Limits
    from mrq.job.base import Job

#: Of settings that say how a cluster runs jobs, and nothing of what comes out.
_PROFILE: Final = Where.JOB | Where.FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """The settings of a job, checked, and the table of them. None where the engine chooses."""

    # fmt: off
    reducers: int | None = setting(ValueKind.COUNT, None, optional("auto", checks.partitions),
        "partitions, and parts of the result; 1 to 10,000", said="by the input's size", short="-R")
    sort_values: bool = setting(ValueKind.SWITCH, False, checks.boolean,
        "values of a group come in order")
    order: str | None = setting(ValueKind.WORD, None, checks.OneOf("total", none="hashed"),
        "total: the parts, one after another, are in order of keys; or hashed",
        said="hashed", value="ORDER")
    input_format: str | None = setting(ValueKind.WORD, None, checks.OneOf(*checks.INPUT_FORMATS),
        "text, whole, jsonl or records", said="text", value="FORMAT")
    output_format: str | None = setting(ValueKind.WORD, None, checks.OneOf(*checks.OUTPUT_FORMATS),
        "text, lines, jsonl or records", said="text", value="FORMAT")
    compression: str | None = setting(ValueKind.WORD, None, checks.OneOf(*checks.COMPRESSIONS, none="none"),
        "compress the parts: gz, bz2, xz or zst; or none", said="none", flag="--compress", value="KIND")
    encoding: str | None = setting(ValueKind.WORD, "utf-8", optional("none", checks.encoding),
        "of text inputs, such as latin-1; none gives map bytes", value="NAME")
    memory_bytes: int | None = setting(ValueKind.SIZE, None, optional("auto", checks.memory),
        "budget of one executor, at least 16M", said="512M", name="memory", where=_PROFILE | Where.RETRY)
    split_bytes: int | None = setting(ValueKind.SIZE, None, optional("auto", checks.size(1)),
        "input of one map task, such as 64M", said="by the input's size", name="split_size", where=_PROFILE)
    all_files: bool = setting(ValueKind.SWITCH, False, checks.boolean,
        "read hidden files too: names that begin with _ or .")
    allow_empty: bool = setting(ValueKind.SWITCH, False, checks.boolean,
        "make an empty result where no file is in the inputs")
    as_of_now: bool = setting(ValueKind.SWITCH, False, checks.boolean,
        "read files that are still written, up to their last whole line of now")
    max_failures: int | None = setting(ValueKind.COUNT, None, optional("auto", checks.whole(1)),
        "failures of one task that fail the job", said="1; 4 on a cluster", where=_PROFILE | Where.RETRY)
    max_losses: int = setting(ValueKind.COUNT, 3, checks.whole(1),
        "deaths of executors under one task that fail the job", where=_PROFILE)
    max_worker_losses: int = setting(ValueKind.COUNT, 10, checks.whole(1),
        "on a cluster: deaths of whole workers under one task that fail the job", where=_PROFILE)
    skip_bad_records: int = setting(ValueKind.COUNT, 0, checks.whole(0),
        "leave out up to N records at which the job raises", where=Where.JOB | Where.RETRY)
    progress_timeout_s: float | None = setting(ValueKind.TIME, None, optional("auto", checks.seconds),
        "silence that ends an attempt", said="600s", name="progress_timeout", where=_PROFILE)
    backups: bool = setting(ValueKind.SWITCH, True, checks.boolean,
        "run a second attempt beside a slow one", where=_PROFILE)
    priority: int = setting(ValueKind.COUNT, 0, checks.whole(-1000, 1000),
        "on a cluster: higher ones first, -1000 to 1000", where=_PROFILE)
    max_running: int | None = setting(ValueKind.COUNT, None, optional("none", checks.whole(1)),
        "on a cluster: tasks of this job at once, at most", said="none", where=_PROFILE)
    #: Beside those that imports name, as they were given.
    ship: tuple[str, ...] = setting(ValueKind.PATHS, (), checks.paths,
        "send a file or folder too that no import statement names; may be repeated",
        said="none", value="PATH")
    # fmt: on


#: Names of class keywords and arguments that have no field of their own.
_OTHERS: Final = (
    # The same for people who run mypy, which takes a class keyword `order` for the one of dataclasses.
    Setting(
        name="total_order",
        kind=ValueKind.SWITCH,
        check=checks.total_order,
        help='the same as order="total"',
        where=Where.KEYWORD | Where.ARGUMENT,
        default="False",
        field="order",
        flag=None,
    ),
    Setting(
        name="inputs",
        kind=ValueKind.WORD,
        check=checks.later,
        help="named inputs",
        where=Where.KEYWORD | Where.ARGUMENT,
        flag=None,
    ),
)

#: Every setting by its name, in the order in which help has them.
SETTINGS: Final[Mapping[str, Setting]] = {**rows_of(JobSettings), **{row.name: row for row in _OTHERS}}


class Keywords(TypedDict, total=False):
    """The settings as class keywords, for type checkers; `SETTINGS` is what counts."""

    sort_values: bool
    order: Literal["total", "hashed"] | None
    total_order: bool
    inputs: Mapping[str, str]
    input_format: str | None
    output_format: str | None
    compression: Literal["gz", "bz2", "xz", "zst", "none"] | None
    encoding: str | None
    reducers: int | None
    backups: bool
    skip_bad_records: int
    memory: int | str | None
    split_size: int | str | None
    max_failures: int | None
    max_losses: int
    max_worker_losses: int
    progress_timeout: float | str | None
    priority: int
    max_running: int | None
    ship: Sequence[str]
    all_files: bool
    allow_empty: bool
    as_of_now: bool


def resolve(
    cls: type[Job], overrides: Mapping[str, Any] | None = None, defaults: Mapping[str, Any] | None = None
) -> JobSettings:
    """The class's keywords under `overrides` and above `defaults` (same names; only those that were given).

    Raises UsageTypeError for an unknown name or a value that can't be, naming the nearest.
    """
    return layered(cls.__name__, defaults or {}, cls.__mrq_settings__, overrides or {})


def layered(who: str, defaults: Mapping[str, Any], *layers: Mapping[str, Any]) -> JobSettings:
    """What layers of settings say together, each counting before those that it follows.

    Where a layer leaves a setting to the engine (`auto`), what counts is what the engine's `defaults` say.
    Raises UsageTypeError, which begins with `who` says so.
    """
    chosen, given = _fields(who, defaults), dict[str, Any]()
    for layer in layers:
        given |= _fields(who, layer)
    for name in defaults:
        row = SETTINGS[name]
        if given.get(row.field, row) is None and row.word_for_none == "auto":
            del given[row.field]
    return JobSettings(**{**chosen, **given})


def check_keywords(cls: type[Job], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a class statement, if all are settings. Raises UsageTypeError, naming the nearest."""
    _fields(cls.__name__, keywords)
    settings = dict(keywords)
    if "total_order" in settings:
        settings["order"] = "total" if settings.pop("total_order") else None
    return settings


def _fields(who: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `JobSettings` that keywords say which were given at once."""
    fields: dict[str, Any] = {}
    try:
        if "total_order" in given and "order" in given:
            raise ValueError('total_order=True and order="total" are the same; give one')
        for name, value in given.items():
            row = SETTINGS.get(name)
            if row is None:
                raise ValueError(f"no setting {name!r}{nearest(name, SETTINGS)}")
            fields[row.field] = row.checked(value)
    except ValueError as exc:
        raise UsageTypeError(f"{who}: {exc}") from exc
    return fields


def retry_limits(overrides: Mapping[str, Any]) -> Limits:
    """What a retry sets anew, of settings by name. Raises UsageTypeError for what it can't."""
    from mrq.core.model import Limits  # which takes 30 ms: every command loads this module

    rows = {name: row for name, row in SETTINGS.items() if Where.RETRY in row.where}
    made: dict[str, Any] = {}
    for name, value in overrides.items():
        if name not in rows:
            raise UsageTypeError(f"a retry can't set {name!r}{nearest(name, rows)}")
        row = rows[name]
        try:
            made[row.field] = row.checked(value)
        except ValueError as exc:
            raise UsageTypeError(str(exc)) from exc
        if made[row.field] is None:
            raise UsageTypeError(
                f"`{name}={value}`: only a submit can choose; leave it out, and the job keeps what it has"
            )
    return Limits(**made)


def recheck(job: str, fields: Mapping[str, Any]) -> None:
    """Check settings once more where they arrive, by their fields' names; other fields are passed over.

    Raises UsageError in the words of whoever made them wrong.
    """
    for row in SETTINGS.values():
        if row.field in fields:
            try:
                row.checked(fields[row.field])
            except ValueError as exc:
                raise UsageError(f"{job}: {exc}") from exc
