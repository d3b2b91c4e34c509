"""The flags of every command, as one table, and the parser that goes by it.

The parser is written by hand: it takes flags before, between and after the inputs (argparse can't, with
one-or-more positionals), its messages are sentences that name the nearest flag, and it costs a fraction of a
millisecond at start, where argparse took 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from mrq.errors import UsageError
from mrq.settings.job import SETTINGS
from mrq.settings.table import Kind

#: Of a flag's help, so that a line has 100 at most.
_HELP_COLUMNS: Final = 69
_NAME_COLUMNS: Final = 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag of a command."""

    names: tuple[str, ...]  #: the long one last
    help: str
    value: str | None = None  #: what its value is called; None: it takes none
    many: bool = False  #: may be given more than once, and each counts
    off: str | None = None  #: of a switch: the name that says the opposite
    setting: str | None = None  #: the job's setting that it is

    @property
    def key(self) -> str:
        """`split_size` of `--split-size`."""
        return self.names[-1].removeprefix("--").replace("-", "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command of `mrq`."""

    name: str
    usage: str
    help: str
    flags: tuple[Flag, ...] = ()


HELP: Final = Flag(names=("-h", "--help"), help="show this and exit")
LOG_FORMAT: Final = Flag(
    names=("--log-format",),
    value="FORMAT",
    help="how standard error is written: text for people, or json, an object a line (default: text)",
)
QUIET: Final = Flag(names=("-q", "--quiet"), help="print nothing but errors")
VERBOSE: Final = Flag(names=("-v", "--verbose"), help="say more: the plan before the run, counters after it")
JSON: Final = Flag(
    names=("--json",), help="one JSON object on standard output, everything else on standard error"
)
EXECUTORS: Final = Flag(
    names=("-j", "--executors"),
    value="N",
    help="processes that run the job's code (default: the cores); on a cluster: the job's tasks at once, "
    "at most, as --max-running",
)
RETRY_EXECUTORS: Final = replace(
    EXECUTORS, help="on this machine: processes that run the job's code (default: the cores)"
)
CLUSTER: Final = Flag(
    names=("--cluster",), value="NAME", help="a profile of mrq.toml, a Redis URL, or local: this machine"
)
TIMEOUT: Final = Flag(
    names=("--timeout",),
    value="TIME",
    help="how long to wait for a cluster to answer (default 60s)",
)
DETACH: Final = Flag(names=("--detach",), help="print the job's id and leave it running on its cluster")


_ON_OFF: Final = {"True": "on", "False": "off"}


def of_setting(name: str) -> Flag:
    """The flag of a job's setting, made of its row in `mrq.settings.job`."""
    row = SETTINGS[name]
    assert row.long is not None
    switch = row.kind is Kind.SWITCH
    return Flag(
        names=(row.long,) if row.short is None else (row.short, row.long),
        help=f"{row.help} (default: {_ON_OFF.get(row.default, row.default)})",
        value=None if switch else row.metavar,
        many=row.kind is Kind.PATHS,
        off=f"--no-{row.long.removeprefix('--')}" if switch else None,
        setting=name,
    )


SETTING_FLAGS: Final = tuple(of_setting(name) for name, row in SETTINGS.items() if row.long is not None)

SUBMIT_FLAGS: Final = (
    Flag(names=("-o", "--output"), value="OUT", help="folder of the result; - prints it"),
    Flag(names=("--overwrite",), help="replace OUT; the old one stays until the new one is complete"),
    EXECUTORS,
    Flag(names=("--set",), value="NAME=VALUE", many=True, help="a parameter of the job; may be repeated"),
    CLUSTER,
    DETACH,
    TIMEOUT,
    Flag(names=("--dry-run",), help="print splits, partitions and formats; run nothing"),
    JSON,
    LOG_FORMAT,
    QUIET,
    VERBOSE,
    HELP,
    *SETTING_FLAGS,
)

#: What a retry may set anew.
RETRY_FLAGS: Final = (
    replace(
        of_setting("skip_bad_records"), help="from now on leave out up to N records, those so far among them"
    ),
    replace(of_setting("max_failures"), help="from now on so many failures of one task fail the job"),
    replace(of_setting("memory"), help="another budget of one executor, for what runs from now on"),
    Flag(
        names=("--from",),
        value="OLD_TMP",
        help="what MRQ_TMP was when the job ran; it is moved to where MRQ_TMP is now",
    ),
)

# fmt: off
COMMANDS: Final = (
    Command(name="submit", usage="mrq submit JOB INPUT... -o OUT [flags]",
        help="Run a job.\n\n"
        "JOB is file.py, file.py:Class or package.module:Class. INPUT is a file, a folder, a glob,\n"
        "a URL, or - for standard input.",
        flags=SUBMIT_FLAGS),
    Command(name="retry", usage="mrq retry [JOB] [flags]",
        help="Go on with a job that failed or was killed, on its own stored code, keeping what is done.\n\n"
        "Without JOB, list the jobs that there are.",
        flags=(*RETRY_FLAGS, RETRY_EXECUTORS, CLUSTER, DETACH, TIMEOUT, JSON, LOG_FORMAT, QUIET, VERBOSE,
               HELP)),
    Command(name="jobs", usage="mrq jobs [flags]",
        help="List a cluster's jobs, those that are over too; on this machine, as `mrq retry`.",
        flags=(CLUSTER, TIMEOUT, JSON, LOG_FORMAT, HELP)),
    Command(name="status", usage="mrq status JOB [flags]",
        help="Show a job on a cluster: stages, tasks by state, attempts, workers, counters, errors.",
        flags=(Flag(names=("--watch",), help="show how far it is until it is over"),
               Flag(names=("--tasks",), help="list every task too"),
               CLUSTER, TIMEOUT, JSON, LOG_FORMAT, HELP)),
    Command(name="wait", usage="mrq wait JOB [flags]",
        help="Wait for a job on a cluster, as the submit that was detached would have done.",
        flags=(CLUSTER, TIMEOUT, JSON, LOG_FORMAT, QUIET, VERBOSE, HELP)),
    Command(name="cancel", usage="mrq cancel JOB [flags]",
        help="End a job on a cluster. What it had staged is removed.",
        flags=(CLUSTER, TIMEOUT, JSON, LOG_FORMAT, QUIET, HELP)),
    Command(name="logs", usage="mrq logs JOB [TASK] [flags]",
        help="Print what user code printed on a cluster: the failed attempts', or one task's (m-00042).",
        flags=(Flag(names=("--all",), help="every attempt, not only the latest of each task"),
               CLUSTER, TIMEOUT, JSON, LOG_FORMAT, HELP)),
    Command(name="workers", usage="mrq workers [WORKER] | mrq workers drain|quarantine|readmit WORKER",
        help="List a cluster's workers, show one, or change what one may do.\n\n"
        "drain: takes no more, finishes, and leaves; gets no tasks if it is started again. "
        "quarantine: gets no tasks. readmit: gets tasks again.",
        flags=(CLUSTER, TIMEOUT, JSON, LOG_FORMAT, QUIET, HELP)),
    Command(name="config", usage="mrq config [flags]",
        help="Show every setting of a cluster, and where it comes from. Passwords are left out.",
        flags=(CLUSTER, JSON, LOG_FORMAT, HELP)),
    Command(name="cat", usage="mrq cat OUT [flags]",
        help="Print a result, part after part, uncompressed; records as text.",
        flags=(HELP,)),
    Command(name="show", usage="mrq show OUT [flags]",
        help="Print a result's manifest: job, parameters, counters, parts.",
        flags=(JSON, LOG_FORMAT, HELP)),
    Command(name="clean", usage="mrq clean [JOB...] [flags]",
        help="Remove what failed and killed runs left under MRQ_TMP. Running jobs are never touched.",
        flags=(JSON, LOG_FORMAT, QUIET, HELP)),
    Command(name="help", usage="mrq help [COMMAND]",
        help="Show what a command takes.",
        flags=(HELP,)),
)
# fmt: on


def command(name: str) -> Command:
    """The command of that name. Raises UsageError, naming the nearest."""
    for each in COMMANDS:
        if each.name == name:
            return each
    raise UsageError(f"there is no command {name!r}{_nearest(name, [c.name for c in COMMANDS], 'mrq help')}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A command line, taken apart; values as typed."""

    words: tuple[str, ...]  #: what isn't a flag, in order
    values: dict[str, str]  #: flags that take a value: the last one given
    lists: dict[str, list[str]]  #: flags that may be repeated: all of them
    switches: frozenset[str]  #: flags without value


NOTHING: Final = Parsed(words=(), values={}, lists={}, switches=frozenset())


def parse(flags: Sequence[Flag], argv: Sequence[str], *, listed_by: str = "mrq submit --help") -> Parsed:
    """Take a command line apart: `-o OUT`, `-oOUT`, `--output OUT`, `--output=OUT`, `-qv`; `--` ends flags.

    Raises UsageError for an unknown flag, a missing value, or a value where none belongs. `listed_by` is the
    command that shows these flags.
    """
    by_name = {name: flag for flag in flags for name in (*flag.names, *((flag.off,) if flag.off else ()))}
    words: list[str] = []
    values: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    switches: set[str] = set()
    rest = list(argv)
    while rest:
        token = rest.pop(0)
        if token == "--":  # noqa: S105 - not a password
            words += rest
            break
        if not token.startswith("-") or token == "-":  # noqa: S105
            words.append(token)
            continue
        name, attached = _split(token, by_name)
        flag = by_name.get(name)
        if flag is None:
            raise UsageError(f"there is no flag {name}{_nearest(name, by_name, listed_by)}")
        if flag.value is None:
            switches -= {flag.key, f"no_{flag.key}"}  # of a switch and its opposite the last one counts
            switches.add(f"no_{flag.key}" if name == flag.off else flag.key)
            if attached is not None and token.startswith("--"):
                raise UsageError(f"{name} takes no value; leave out ={attached}")
            if attached is not None:  # the `v` of `-qv`
                rest.insert(0, f"-{attached}")
            continue
        if attached is None:
            if not rest or rest[0].partition("=")[0] in by_name or rest[0] == "--":
                raise UsageError(f"{name} needs a value: {name} {flag.value} ({flag.help})")
            attached = rest.pop(0)
        if flag.many:
            lists.setdefault(flag.key, []).append(attached)
        else:
            values[flag.key] = attached
    return Parsed(words=tuple(words), values=values, lists=lists, switches=frozenset(switches))


def _split(token: str, by_name: dict[str, Flag]) -> tuple[str, str | None]:
    """(name, attached value or None) of one token."""
    if token.startswith("--"):
        name, equals, value = token.partition("=")
        return name, value if equals else None
    if token[:2] in by_name:
        return token[:2], token[2:].removeprefix("=") if len(token) > 2 else None
    return token, None


def _nearest(name: str, names: Sequence[str] | dict[str, Flag], listed_by: str) -> str:
    """`; did you mean --reducers?`, or where the list is."""
    import difflib

    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f"; `{listed_by}` lists what there is"


def help_text(name: str | None = None) -> str:
    """What `mrq help` and `mrq help NAME` print."""
    if name is None:
        lines = ["mrq: MapReduce for Python", "", "usage: mrq COMMAND ...", ""]
        lines += [f"  {c.name:8} {c.help.splitlines()[0]}" for c in COMMANDS]
        lines += ["", "  mrq submit workers/jobs/wordcount.py 'books/*.txt' -o out", ""]
        lines += ["`mrq help COMMAND` shows its flags; `mrq --version` the version."]
        return "\n".join(lines) + "\n"
    return command_text(command(name))


def command_text(found: Command) -> str:
    """One command's usage, help and flags, the settings of a job after the others."""
    lines = [f"usage: {found.usage}", "", found.help, ""]
    lines += flag_lines([flag for flag in found.flags if flag.setting is None])
    settings = [flag for flag in found.flags if flag.setting is not None]
    if settings:
        lines += ["", "Settings of the job, for this run: they count before those of its class.", ""]
        lines += flag_lines(settings)
    return "\n".join(lines) + "\n"


def flag_lines(flags: Sequence[Flag]) -> list[str]:
    """Flags with their help, in two columns."""
    import textwrap

    lines: list[str] = []
    for flag in flags:
        left = ", ".join((*flag.names, flag.off) if flag.off else flag.names)
        left += f" {flag.value}" if flag.value else ""
        first, *rest = textwrap.wrap(flag.help, _HELP_COLUMNS, break_on_hyphens=False)
        if len(left) > _NAME_COLUMNS:
            lines += [f"  {left}", f"  {'':{_NAME_COLUMNS}} {first}"]
        else:
            lines.append(f"  {left:{_NAME_COLUMNS}} {first}")
        lines += [f"  {'':{_NAME_COLUMNS}} {line}" for line in rest]
    return lines
