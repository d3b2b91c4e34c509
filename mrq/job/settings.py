"""Settings: how a job is run, as opposed to what it computes.

They are class keywords (`class Sort(mrq.Job, order="total")`), and flags or arguments of a run override them.
The table `SETTINGS` is the one list of them: a row is the keyword, the argument, the flag, its help, and the
one function that checks a value wherever it comes from, so that every side refuses it in the same words.

To add a setting: a row of `SETTINGS`, a line of `Keywords`, a field of `Settings`, a row in docs/job-guide.md
and one in docs/command-line.md. The flag, its `--no-` and every side's check follow from the row.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from mrq.config import MEMORY_BYTES_MIN
from mrq.errors import UsageError, UsageTypeError
from mrq.job import setting_checks as checks
from mrq.job.setting_checks import nearest

if TYPE_CHECKING:
    from mrq.job.base import Job


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
    max_losses: int = 3
    max_worker_losses: int = 10
    progress_timeout_s: float | None = None
    priority: int = 0
    max_running: int | None = None
    ship: tuple[str, ...] = ()  #: files and folders beside those that imports name, as given
    all_files: bool = False  #: inputs with hidden names count too
    allow_empty: bool = False  #: inputs without any file make an empty result
    as_of_now: bool = False  #: files that are still written are read to their last whole line of now


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


class Kind(enum.Enum):
    """How the command line spells a value."""

    SWITCH = ""  #: `--sort-values`, and `--no-sort-values`
    COUNT = "N"
    SIZE = "SIZE"
    TIME = "TIME"
    WORD = "WORD"
    PATHS = "PATH"  #: may be given more than once, and each counts


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: all that every side needs to know of it. The first five are the columns of `SETTINGS`."""

    name: str  #: of the class keyword and of the argument of a run
    kind: Kind
    check: Callable[[Any], Any]  #: the value that counts; raises ValueError saying what is wanted
    default: str  #: as docs and help say it
    help: str
    _: KW_ONLY
    stored: str = ""  #: the field of `Settings`, where it isn't called as the setting is
    flag: str | None = ""  #: None: there is none; "": made of the name
    short: str | None = None
    value: str = ""  #: what its value is called, where the kind doesn't say it well

    @property
    def field(self) -> str:
        """The field of `Settings`."""
        return self.stored or self.name

    @property
    def long(self) -> str | None:
        """`--split-size`."""
        return "--" + self.name.replace("_", "-") if self.flag == "" else self.flag

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
        """The value that the text of a flag means, as Python would have it; not checked."""
        with suppress(ValueError):
            return int(text) if self.kind is Kind.COUNT else text
        return text


def resolve(cls: type[Job], overrides: Mapping[str, Any] | None = None) -> Settings:
    """The class's keywords under `overrides` (same names; only those that were given).

    Raises UsageTypeError for an unknown name or a value that can't be, naming the nearest.
    """
    given = overrides or {}
    return Settings(**_fields(cls, {**cls.__mrq_settings__, **given}, given))


def check_keywords(cls: type[Job], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a class statement, if all are settings. Raises UsageTypeError, naming the nearest."""
    _fields(cls, keywords, keywords)
    settings = dict(keywords)
    if "total_order" in settings:
        settings["order"] = "total" if settings.pop("total_order") else None
    return settings


def _fields(cls: type[Job], keywords: Mapping[str, Any], together: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Settings` that keywords say; `together` are those that were given at once."""
    fields: dict[str, Any] = {}
    try:
        if "total_order" in together and "order" in together:
            raise ValueError('total_order=True and order="total" are the same; give one')
        for name, value in keywords.items():
            setting = SETTINGS.get(name)
            if setting is None:
                raise ValueError(f"no setting {name!r}{nearest(name, SETTINGS)}")
            fields[setting.field] = setting.checked(value)
    except ValueError as exc:
        raise UsageTypeError(f"{cls.__name__}: {exc}") from exc
    return fields


def recheck(job: str, fields: Mapping[str, Any]) -> None:
    """Check settings once more where they arrive, by their fields' names; other fields are passed over.

    Raises UsageError in the words of whoever made them wrong.
    """
    for row in SETTINGS.values():
        if row.field in fields and row.check is not checks.later:
            try:
                row.checked(fields[row.field])
            except ValueError as exc:
                raise UsageError(f"{job}: {exc}") from exc


#: Every setting by its name, in the order in which help has them.
SETTINGS: Final[Mapping[str, Setting]] = {
    row.name: row
    for row in (
        Setting("reducers", Kind.COUNT, checks.optional("auto", checks.partitions), "by the input's size",
                "partitions, and parts of the result; 1 to 10,000", short="-R"),
        Setting("sort_values", Kind.SWITCH, checks.boolean, "False",
                "values of a group come in order"),
        Setting("order", Kind.WORD, checks.word("total", none="hashed"), "hashed",
                "total: the parts, one after another, are in order of keys; or hashed", value="ORDER"),
        # The same for people who run mypy, which takes a class keyword `order` for the one of dataclasses.
        Setting("total_order", Kind.SWITCH, checks.total_order, "False",
                'the same as order="total"', stored="order", flag=None),
        Setting("inputs", Kind.WORD, checks.later, "none",
                "named inputs", flag=None),
        Setting("input_format", Kind.WORD, checks.word(*checks.INPUT_FORMATS), "text",
                "text, whole, jsonl or records", value="FORMAT"),
        Setting("output_format", Kind.WORD, checks.word(*checks.OUTPUT_FORMATS), "text",
                "text, lines, jsonl or records", value="FORMAT"),
        Setting("compression", Kind.WORD, checks.word(*checks.COMPRESSIONS, none="none"), "none",
                "compress the parts: gz, bz2, xz or zst; or none", flag="--compress", value="KIND"),
        Setting("encoding", Kind.WORD, checks.optional("none", checks.encoding), "utf-8",
                "of text inputs, such as latin-1; none gives map bytes", value="NAME"),
        Setting("memory", Kind.SIZE, checks.optional("auto", checks.size(MEMORY_BYTES_MIN)), "512M",
                "budget of one executor, at least 16M", stored="memory_bytes"),
        Setting("split_size", Kind.SIZE, checks.optional("auto", checks.size(1)), "by the input's size",
                "input of one map task, such as 64M", stored="split_bytes"),
        Setting("all_files", Kind.SWITCH, checks.boolean, "False",
                "read hidden files too: names that begin with _ or ."),
        Setting("allow_empty", Kind.SWITCH, checks.boolean, "False",
                "make an empty result where no file is in the inputs"),
        Setting("as_of_now", Kind.SWITCH, checks.boolean, "False",
                "read files that are still written, up to their last whole line of now"),
        Setting("max_failures", Kind.COUNT, checks.optional("auto", checks.whole(1)), "1; 4 on a cluster",
                "failures of one task that fail the job"),
        Setting("max_losses", Kind.COUNT, checks.whole(1), "3",
                "deaths of executors under one task that fail the job"),
        Setting("max_worker_losses", Kind.COUNT, checks.whole(1), "10",
                "on a cluster: deaths of whole workers under one task that fail the job"),
        Setting("skip_bad_records", Kind.COUNT, checks.whole(0), "0",
                "leave out up to N records at which the job raises"),
        Setting("progress_timeout", Kind.TIME, checks.optional("auto", checks.seconds), "600s",
                "silence that ends an attempt", stored="progress_timeout_s"),
        Setting("backups", Kind.SWITCH, checks.boolean, "True",
                "run a second attempt beside a slow one"),
        Setting("priority", Kind.COUNT, checks.whole(-1000, 1000), "0",
                "on a cluster: higher ones first, -1000 to 1000"),
        Setting("max_running", Kind.COUNT, checks.optional("none", checks.whole(1)), "none",
                "on a cluster: tasks of this job at once, at most"),
        Setting("ship", Kind.PATHS, checks.paths, "none",
                "send a file or folder too that no import statement names; may be repeated"),
    )
}  # fmt: skip
