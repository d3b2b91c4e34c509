"""What a command is told beside the settings of a job: where to run, where to, and how much to say.

Those that programs have too are arguments of `mrq.run` under the same names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from mrq.settings import checks
from mrq.settings.job import SETTINGS
from mrq.settings.table import Setting, ValueKind, Where

_BOTH: Final = Where.SUBMIT | Where.ARGUMENT


def _switch(name: str, help: str, where: Where = Where.SUBMIT, short: str | None = None) -> Setting:
    return Setting(
        name=name, kind=ValueKind.SWITCH, check=checks.boolean, help=help, where=where, short=short
    )


def _value(
    name: str,
    kind: ValueKind,
    check: Callable[[Any], Any],
    help: str,
    where: Where = Where.SUBMIT,
    **more: Any,
) -> Setting:
    return Setting(name=name, kind=kind, check=check, help=help, where=where, **more)


# fmt: off
OUTPUT: Final = _value("output", ValueKind.WORD, str, "folder of the result; - prints it",
    _BOTH, short="-o", value="OUT")
OVERWRITE: Final = _switch("overwrite", "replace OUT; the old one stays until the new one is complete", _BOTH)
EXECUTORS: Final = _value("executors", ValueKind.COUNT, checks.executors,
    "processes that run the job's code (default: the cores); on a cluster: the job's tasks at once, "
    "at most, as --max-running", _BOTH, short="-j")
SET: Final = _value("set", ValueKind.PATHS, tuple,
    "a parameter of the job; may be repeated", value="NAME=VALUE")
CLUSTER: Final = _value("cluster", ValueKind.WORD, str,
    "a profile of mrq.toml, a Redis URL, or local: this machine", value="NAME")
DETACH: Final = _switch("detach", "print the job's id and leave it running on its cluster")
TIMEOUT: Final = _value("timeout_s", ValueKind.TIME, checks.seconds_from(0),
    "how long to wait for a cluster to answer (default 60s)", Where.CLIENT)
DRY_RUN: Final = _switch("dry_run", "print splits, partitions and formats; run nothing")
JSON: Final = _switch("json", "one JSON object on standard output, everything else on standard error")
LOG_FORMAT: Final = _value("log_format", ValueKind.WORD, checks.log_format,
    "how standard error is written: text for people, or json, an object a line",
    value="FORMAT", default="text")
QUIET: Final = _switch("quiet", "print nothing but errors", short="-q")
VERBOSE: Final = _switch("verbose", "say more: the plan before the run, counters after it", short="-v")
HELP: Final = _switch("help", "show this and exit", short="-h")

#: The settings of a job that have a flag.
JOB: Final = tuple(row for row in SETTINGS.values() if row.long is not None)

SUBMIT: Final = (
    OUTPUT, OVERWRITE, EXECUTORS, SET, CLUSTER, DETACH, TIMEOUT, DRY_RUN, JSON, LOG_FORMAT, QUIET, VERBOSE,
    HELP, *JOB,
)

#: What a retry may set anew of its job.
_ANEW: Final = {
    "skip_bad_records": "from now on leave out up to N records, those so far among them",
    "max_failures": "from now on so many failures of one task fail the job",
    "memory": "another budget of one executor, for what runs from now on",
}
RETRY_ONE: Final = (
    *(replace(SETTINGS[name], help=help, default="") for name, help in _ANEW.items()),
    _value("from", ValueKind.PATH, str,
        "what MRQ_TMP was when the job ran; it is moved to where MRQ_TMP is now",
        Where.RETRY, value="OLD_TMP"),
)
RETRY: Final = (
    *RETRY_ONE,
    replace(EXECUTORS, help="on this machine: processes that run the job's code (default: the cores)"),
    CLUSTER, DETACH, TIMEOUT, JSON, LOG_FORMAT, QUIET, VERBOSE, HELP,
)
WATCH: Final = _switch("watch", "show how far it is until it is over")
TASKS: Final = _switch("tasks", "list every task too")
ALL: Final = _switch("all", "every attempt, not only the latest of each task")
INIT: Final = _switch("init", "make an empty Redis this cluster's store, and end; one that is stays as it is")
# fmt: on
