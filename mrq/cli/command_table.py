"""The commands of `mrq`, as one table: what each is for, the settings that it takes, and what runs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mrq.errors import UsageError
from mrq.settings import run
from mrq.settings.run import CLUSTER, HELP, JSON, LOG_FORMAT, QUIET, TIMEOUT, VERBOSE
from mrq.settings.table import Setting, Where

#: Of a flag's help, so that a line has 100 at most.
_HELP_COLUMNS: Final = 69
_NAME_COLUMNS: Final = 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A command line, taken apart."""

    words: tuple[str, ...] = ()  #: what isn't a flag, in order
    #: What was given, by the settings' names: of a switch whether it is on, of what may be repeated all of
    #: them, of a job's setting what the text means, else the text.
    given: Mapping[str, Any] = field(default_factory=dict)


#: Of a command that takes paths.
PATHS: Final = ("PATH",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command of `mrq`."""

    name: str
    usage: str
    help: str
    flags: tuple[Setting, ...] = (HELP,)
    run: str = ""  #: module and function that takes a session, imported when it is asked for
    takes: tuple[int, int, str] = (0, 1 << 20, "words")  #: words at least, at most, and how that is said
    hint: str = ""  #: beside that
    words: tuple[str, ...] = ()  #: that may follow, for completion; PATHS: paths

    def check(self, parsed: Parsed) -> None:
        """Raise UsageError for a number of words that it doesn't take."""
        (least, most, said), words = self.takes, parsed.words
        if not least <= len(words) <= most:
            given = f", not {' '.join(words)!r}" if words else "; 0 are given"
            raise UsageError(f"mrq {self.name} takes {said}{given}{self.hint}")


# fmt: off
COMMANDS: Final = (
    Command(name="submit", usage="mrq submit JOB INPUT... -o OUT [flags]",
        help="Run a job.\n\n"
        "JOB is file.py, file.py:Class or package.module:Class. INPUT is a file, a folder, a glob,\n"
        "a URL, or - for standard input.",
        flags=run.SUBMIT, words=PATHS),
    Command(name="retry", usage="mrq retry [JOB] [flags]", run="mrq.cli.retry:retry",
        takes=(0, 1, "one JOB at a time"),
        help="Go on with a job that failed or was killed, on its own stored code, keeping what is done.\n\n"
        "Without JOB, list the jobs that there are.",
        flags=run.RETRY),
    Command(name="jobs", usage="mrq jobs [flags]", run="mrq.cli.listing:jobs",
        takes=(0, 0, "no words"), hint="; `mrq status JOB` shows one",
        help="List a cluster's jobs, those that are over too; on this machine, as `mrq retry`.",
        flags=(CLUSTER, TIMEOUT, JSON, LOG_FORMAT, HELP)),
    Command(name="status", usage="mrq status JOB [flags]", run="mrq.cli.listing:status",
        takes=(1, 1, "one JOB"), hint="; `mrq jobs` lists them",
        help="Show a job on a cluster: stages, tasks by state, attempts, workers, counters, errors.",
        flags=(run.WATCH, run.TASKS, CLUSTER, TIMEOUT, JSON, LOG_FORMAT, HELP)),
    Command(name="wait", usage="mrq wait JOB [flags]", run="mrq.cli.attend:wait",
        takes=(1, 1, "one JOB"), hint="; `mrq jobs` lists them",
        help="Wait for a job on a cluster, as the submit that was detached would have done.",
        flags=(CLUSTER, TIMEOUT, JSON, LOG_FORMAT, QUIET, VERBOSE, HELP)),
    Command(name="cancel", usage="mrq cancel JOB [flags]", run="mrq.cli.attend:cancel",
        takes=(1, 1, "one JOB"), hint="; `mrq jobs` lists them",
        help="End a job on a cluster. What it had staged is removed.",
        flags=(CLUSTER, TIMEOUT, JSON, LOG_FORMAT, QUIET, HELP)),
    Command(name="logs", usage="mrq logs JOB [TASK] [flags]", run="mrq.cli.logs:logs",
        takes=(1, 2, "a JOB and at most one TASK"),
        help="Print what user code printed on a cluster: the failed attempts', or one task's (m-00042).",
        flags=(run.ALL, CLUSTER, TIMEOUT, JSON, LOG_FORMAT, HELP)),
    Command(name="workers", usage="mrq workers [WORKER] | mrq workers drain|quarantine|readmit WORKER",
        run="mrq.cli.workers:workers", words=("drain", "quarantine", "readmit"),
        help="List a cluster's workers, show one, or change what one may do.\n\n"
        "drain: takes no more, finishes, and leaves; gets no tasks if it is started again. "
        "quarantine: gets no tasks. readmit: gets tasks again.",
        flags=(CLUSTER, TIMEOUT, JSON, LOG_FORMAT, QUIET, HELP)),
    Command(name="config", usage="mrq config [flags]", run="mrq.cli.settings:config",
        takes=(0, 0, "no words"), hint="; --cluster names a profile",
        help="Show every setting of a cluster, and where it comes from. Passwords are left out.",
        flags=(CLUSTER, JSON, LOG_FORMAT, HELP)),
    Command(name="cat", usage="mrq cat OUT [flags]", run="mrq.cli.cat:cat", words=PATHS,
        takes=(1, 1, "one OUT"),
        help="Print a result, part after part, uncompressed; records as text."),
    Command(name="show", usage="mrq show OUT [flags]", run="mrq.cli.cat:show", words=PATHS,
        takes=(1, 1, "one OUT"),
        help="Print a result's manifest: job, parameters, counters, parts.",
        flags=(JSON, LOG_FORMAT, HELP)),
    Command(name="clean", usage="mrq clean [JOB...] [flags]", run="mrq.cli.retry:clean",
        help="Remove what failed and killed runs left under MRQ_TMP. Running jobs are never touched.",
        flags=(JSON, LOG_FORMAT, QUIET, HELP)),
    Command(name="completion", usage="mrq completion bash|zsh|fish", run="mrq.cli.completion:completion",
        help="Print a script that completes commands, flags and values: source <(mrq completion bash)",
        words=("bash", "zsh", "fish")),
    Command(name="help", usage="mrq help [COMMAND]",
        help="Show what a command takes."),
)
# fmt: on


def command(name: str) -> Command:
    """The command of that name. Raises UsageError, naming the nearest."""
    for each in COMMANDS:
        if each.name == name:
            return each
    names = [each.name for each in COMMANDS]
    raise UsageError(f"there is no command {name!r}{nearest_of(name, names, 'mrq help')}")


def nearest_of(name: str, names: Iterable[str], listed_by: str) -> str:
    """`; did you mean --reducers?`, or which command lists them."""
    import difflib

    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f"; `{listed_by}` lists what there is"


def help_text(name: str | None = None) -> str:
    """What `mrq help` and `mrq help NAME` print."""
    if name is None:
        lines = ["mrq: MapReduce for Python", "", "usage: mrq COMMAND ...", ""]
        lines += [f"  {c.name:10} {c.help.splitlines()[0]}" for c in COMMANDS]
        lines += ["", "  mrq submit workers/jobs/wordcount.py 'books/*.txt' -o out", ""]
        lines += ["`mrq help COMMAND` shows its flags; `mrq --version` the version."]
        return "\n".join(lines) + "\n"
    return command_text(command(name))


def command_text(found: Command) -> str:
    """One command's usage, help and flags, those of a job's settings in a paragraph of their own."""
    settings = [row for row in found.flags if found.name == "submit" and Where.KEYWORD in row.where]
    lines = [f"usage: {found.usage}", "", found.help, ""]
    lines += flag_lines(row for row in found.flags if row not in settings)
    if settings:
        lines += ["", "Settings of the job, for this run: they count before those of its class.", ""]
        lines += flag_lines(settings)
    return "\n".join(lines) + "\n"


def flag_lines(rows: Iterable[Setting]) -> list[str]:
    """Flags with their help, in two columns."""
    return [line for row in rows for line in columns(f"{', '.join(row.all_names)} {row.metavar}", row.told)]


def columns(left: str, text: str) -> list[str]:
    """A flag, or what is typed after one, and its help in the column beside it."""
    import textwrap

    first, *rest = textwrap.wrap(text, _HELP_COLUMNS, break_on_hyphens=False)
    left = left.rstrip()
    head = [f"  {left:{_NAME_COLUMNS}} {first}"]
    if len(left) > _NAME_COLUMNS:
        head = [f"  {left}", f"  {'':{_NAME_COLUMNS}} {first}"]
    return head + [f"  {'':{_NAME_COLUMNS}} {line}" for line in rest]
