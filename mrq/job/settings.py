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
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting: all that every side needs to know of it."""

    name: str  #: of the class keyword and of the argument of a run
    field: str  #: of `Settings`
    check: Callable[[Any], Any]  #: the value that counts; raises ValueError saying what is wanted
    kind: Kind
    default: str  #: as docs and help say it
    help: str
    flag: str | None = ""  #: None: there is none; "": made of the name
    short: str | None = None
    value: str = ""  #: what its value is called, where the kind doesn't say it well

    @property
    def long(self) -> str | None:
        """`--split-size`."""
        return "--" + self.name.replace("_", "-") if self.flag == "" else self.flag

    @property
    def word_for_none(self) -> str | None:
        """What None is called where only text can be said; None: it can't be said there."""
        return next((word for word in ("auto", "none", "hashed") if self._is_none(word)), None)

    def _is_none(self, word: str) -> bool:
        try:
            return self.check(word) is None
        except ValueError:
            return False

    def checked(self, value: Any) -> Any:
        """The value that counts. Raises ValueError with a whole sentence, the same on every side."""
        try:
            return self.check(value)
        except ValueError as exc:
            raise ValueError(f"{self.name} must be {exc}") from None

    def typed(self, text: str) -> Any:
        """The value that the text of a flag means, as Python would have it; not checked."""
        if self.kind is Kind.COUNT:
            try:
                return int(text)
            except ValueError:
                return text
        return text


def resolve(cls: type[Job], overrides: Mapping[str, Any] | None = None) -> Settings:
    """The class's keywords under `overrides` (same names; only those that were given).

    Raises UsageTypeError for an unknown name or a value that can't be, naming the nearest.
    """
    fields: dict[str, Any] = {}
    try:
        _refuse_both_orders(overrides or {})
        for name, value in {**cls.__mrq_settings__, **(overrides or {})}.items():
            setting = setting_of(name)
            fields[setting.field] = setting.checked(value)
    except ValueError as exc:
        raise UsageTypeError(f"{cls.__name__}: {exc}") from exc
    return Settings(**fields)


def check_keywords(cls: type[Job], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a class statement, if all are settings. Raises UsageTypeError, naming the nearest."""
    try:
        _refuse_both_orders(keywords)
        for name, value in keywords.items():
            setting_of(name).checked(value)
    except ValueError as exc:
        raise UsageTypeError(f"{cls.__name__}: {exc}") from exc
    settings = dict(keywords)
    if "total_order" in settings:
        settings["order"] = "total" if settings.pop("total_order") else None
    return settings


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


def setting_of(name: str) -> Setting:
    """The setting of that name. Raises ValueError, naming the nearest."""
    found = SETTINGS.get(name)
    if found is None:
        raise ValueError(f"no setting {name!r}{nearest(name, SETTINGS)}")
    return found


def _refuse_both_orders(given: Mapping[str, Any]) -> None:
    if "total_order" in given and "order" in given:
        raise ValueError('total_order=True and order="total" are the same; give one')


_ROWS: Final = (
    Setting(
        name="reducers",
        field="reducers",
        check=checks.optional("auto", checks.partitions),
        kind=Kind.COUNT,
        default="by the input's size",
        help="partitions, and parts of the result; 1 to 10,000",
        short="-R",
    ),
    Setting(
        name="sort_values",
        field="sort_values",
        check=checks.boolean,
        kind=Kind.SWITCH,
        default="False",
        help="values of a group come in order",
    ),
    Setting(
        name="order",
        field="order",
        check=checks.word("total", none="hashed"),
        kind=Kind.WORD,
        default="hashed",
        help="total: the parts, one after another, are in order of keys; or hashed",
        value="ORDER",
    ),
    # The same for people who run mypy, which takes a class keyword `order` for the one of dataclasses.
    Setting(
        name="total_order",
        field="order",
        check=checks.total_order,
        kind=Kind.SWITCH,
        default="False",
        help='the same as order="total"',
        flag=None,
    ),
    Setting(
        name="inputs",
        field="inputs",
        check=checks.later,
        kind=Kind.WORD,
        default="none",
        help="named inputs",
        flag=None,
    ),
    Setting(
        name="input_format",
        field="input_format",
        check=checks.word(*checks.INPUT_FORMATS),
        kind=Kind.WORD,
        default="text",
        help="text, whole, jsonl or records",
        value="FORMAT",
    ),
    Setting(
        name="output_format",
        field="output_format",
        check=checks.word(*checks.OUTPUT_FORMATS),
        kind=Kind.WORD,
        default="text",
        help="text, lines, jsonl or records",
        value="FORMAT",
    ),
    Setting(
        name="compression",
        field="compression",
        check=checks.word(*checks.COMPRESSIONS, none="none"),
        kind=Kind.WORD,
        default="none",
        help="compress the parts: gz, bz2, xz or zst; or none",
        flag="--compress",
        value="KIND",
    ),
    Setting(
        name="encoding",
        field="encoding",
        check=checks.optional("none", checks.encoding),
        kind=Kind.WORD,
        default="utf-8",
        help="of text inputs, such as latin-1; none gives map bytes",
        value="NAME",
    ),
    Setting(
        name="memory",
        field="memory_bytes",
        check=checks.optional("auto", checks.size(MEMORY_BYTES_MIN)),
        kind=Kind.SIZE,
        default="512M",
        help="budget of one executor, at least 16M",
    ),
    Setting(
        name="split_size",
        field="split_bytes",
        check=checks.optional("auto", checks.size(1)),
        kind=Kind.SIZE,
        default="by the input's size",
        help="input of one map task, such as 64M",
    ),
    Setting(
        name="all_files",
        field="all_files",
        check=checks.boolean,
        kind=Kind.SWITCH,
        default="False",
        help="read hidden files too: names that begin with _ or .",
    ),
    Setting(
        name="allow_empty",
        field="allow_empty",
        check=checks.boolean,
        kind=Kind.SWITCH,
        default="False",
        help="make an empty result where no file is in the inputs",
    ),
    Setting(
        name="as_of_now",
        field="as_of_now",
        check=checks.boolean,
        kind=Kind.SWITCH,
        default="False",
        help="read files that are still written, up to their last whole line of now",
    ),
    Setting(
        name="max_failures",
        field="max_failures",
        check=checks.optional("auto", checks.whole(1)),
        kind=Kind.COUNT,
        default="1; 4 on a cluster",
        help="failures of one task that fail the job",
    ),
    Setting(
        name="max_losses",
        field="max_losses",
        check=checks.whole(1),
        kind=Kind.COUNT,
        default="3",
        help="deaths of executors under one task that fail the job",
    ),
    Setting(
        name="max_worker_losses",
        field="max_worker_losses",
        check=checks.whole(1),
        kind=Kind.COUNT,
        default="10",
        help="on a cluster: deaths of whole workers under one task that fail the job",
    ),
    Setting(
        name="skip_bad_records",
        field="skip_bad_records",
        check=checks.whole(0),
        kind=Kind.COUNT,
        default="0",
        help="leave out up to N records at which the job raises",
    ),
    Setting(
        name="progress_timeout",
        field="progress_timeout_s",
        check=checks.optional("auto", checks.seconds),
        kind=Kind.TIME,
        default="600s",
        help="silence that ends an attempt",
    ),
    Setting(
        name="backups",
        field="backups",
        check=checks.boolean,
        kind=Kind.SWITCH,
        default="True",
        help="run a second attempt beside a slow one",
    ),
    Setting(
        name="priority",
        field="priority",
        check=checks.whole(-1000, 1000),
        kind=Kind.COUNT,
        default="0",
        help="on a cluster: higher ones first, -1000 to 1000",
    ),
    Setting(
        name="max_running",
        field="max_running",
        check=checks.optional("none", checks.whole(1)),
        kind=Kind.COUNT,
        default="none",
        help="on a cluster: tasks of this job at once, at most",
    ),
    Setting(
        name="ship",
        field="ship",
        check=checks.paths,
        kind=Kind.PATHS,
        default="none",
        help="send a file or folder too that no import statement names; may be repeated",
    ),
)

#: Every setting by its name.
SETTINGS: Final[Mapping[str, Setting]] = {row.name: row for row in _ROWS}
