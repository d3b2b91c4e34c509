"""What `mrq submit` was asked for, checked as far as that is cheap: no job loaded, nothing listed.

Each refusal is one sentence: what, where, what to do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mrq.cli.flags import Parsed
from mrq.cli.units import size
from mrq.config import EXECUTORS_MAX, MEMORY_BYTES_MIN, REDUCERS_MAX
from mrq.errors import UsageError

_COUNT_MAX: Final = 1 << 31
#: As of the setting `priority`.
PRIORITY_MAX: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A checked `mrq submit` command line."""

    ref: str  #: JOB as typed; "" where the class itself is given (`mrq.main`)
    inputs: tuple[str, ...]
    output: str | None  #: None: print the result (`-o -`)
    executors: int
    parameters: dict[str, str] = field(default_factory=dict)  #: `--set`, as typed
    overrides: dict[str, Any] = field(default_factory=dict)  #: settings that were given, by their names
    dry_run: bool = False
    detach: bool = False
    json: bool = False
    quiet: bool = False
    verbose: bool = False


def submit_options(parsed: Parsed, *, with_ref: bool = True) -> Options:
    """Check a command line of submit. `with_ref=False`: the job is known, all words are inputs.

    Raises UsageError.
    """
    words = list(parsed.words)
    ref = _ref(words) if with_ref else ""
    if not words:
        raise UsageError(
            "no INPUT is given: name files, folders, globs or URLs after the job, or - for standard input"
        )
    if words.count("-") > 1:
        raise UsageError("standard input (-) can be read once only; give one -")
    output, dry_run = parsed.values.get("output"), "dry_run" in parsed.switches
    if output is None and not dry_run:
        raise UsageError("where should the result go? Give -o OUT (a folder to make), or -o - to print it")
    if output == "":
        raise UsageError("-o '': OUT is empty; give a folder to make, or - to print the result")
    if output == "-" and "json" in parsed.switches:
        raise UsageError("-o - and --json both want standard output; give -o a folder, or leave out --json")
    if output == "-" and "detach" in parsed.switches:
        raise UsageError("-o - prints the result and --detach doesn't wait for it; give -o a folder")
    if "quiet" in parsed.switches and "verbose" in parsed.switches:
        raise UsageError("-q and -v contradict each other; give one")
    return Options(
        ref=ref,
        inputs=tuple(words),
        output=None if output == "-" else output,
        executors=executors(parsed),
        parameters=_parameters(parsed.lists.get("set", [])),
        overrides=_overrides(parsed),
        dry_run=dry_run,
        detach="detach" in parsed.switches,
        json="json" in parsed.switches,
        quiet="quiet" in parsed.switches,
        verbose="verbose" in parsed.switches,
    )


def _ref(words: list[str]) -> str:
    """Take JOB off the front. What is cheap to see about it is said here; loading says the rest."""
    if not words:
        raise UsageError("no JOB is given: mrq submit file.py INPUT... -o OUT")
    ref = words.pop(0)
    if os.path.isdir(ref):
        raise UsageError(
            f"{ref} is a folder; JOB is a Python file with a mrq.Job in it, such as {ref}/job.py"
        )
    path = ref.rpartition(":")[0] if ".py:" in ref else ref
    if path.endswith(".py"):
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            raise UsageError(f"there is no job file {path} (looked in {os.getcwd()})") from None
        except OSError as exc:
            raise UsageError(
                f"the job file {path} can't be reached by user {os.getuid()}: {exc.strerror}"
            ) from exc
    return ref


def executors(parsed: Parsed) -> int:
    """-j, or the cores that this process may use."""
    if "executors" not in parsed.values:
        return len(os.sched_getaffinity(0))
    return _count(parsed, "executors", "-j/--executors", 1, EXECUTORS_MAX, "executor processes")


def _parameters(pairs: Sequence[str]) -> dict[str, str]:
    """`--set name=value`, taken apart; the job converts them."""
    parameters: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair}: there is no '='; write --set {pair or 'name'}=VALUE")
        if not name.isidentifier():
            raise UsageError(f"--set {pair}: {name!r} can't be a parameter's name; write --set name=value")
        if name in parameters:
            raise UsageError(f"--set {name} is given twice; give it once")
        parameters[name] = value
    return parameters


def _overrides(parsed: Parsed) -> dict[str, Any]:
    """The settings that were given, under the names of `mrq.job.settings`."""
    made: dict[str, Any] = {}
    if "reducers" in parsed.values:
        made["reducers"] = _count(parsed, "reducers", "-R/--reducers", 1, REDUCERS_MAX, "partitions")
    if "max_failures" in parsed.values:
        made["max_failures"] = _count(parsed, "max_failures", "--max-failures", 1, _COUNT_MAX, "failures")
    if "skip_bad_records" in parsed.values:
        made["skip_bad_records"] = _count(
            parsed, "skip_bad_records", "--skip-bad-records", 0, _COUNT_MAX, "records"
        )
    if "memory" in parsed.values:
        made["memory"] = _size(parsed, "memory", "--memory", MEMORY_BYTES_MIN)
    if "split_size" in parsed.values:
        made["split_size"] = _size(parsed, "split_size", "--split-size", 1)
    if "progress_timeout" in parsed.values:
        made["progress_timeout"] = _timeout(parsed.values["progress_timeout"])
    if "max_running" in parsed.values:
        made["max_running"] = _count(parsed, "max_running", "--max-running", 1, _COUNT_MAX, "tasks")
    if "priority" in parsed.values:
        made["priority"] = _priority(parsed.values["priority"])
    for key, setting in _NAMED:
        if key in parsed.values:
            made[setting] = _name(parsed.values[key], key)
    if "no_backups" in parsed.switches:
        made["backups"] = False
    if "overwrite" in parsed.switches:
        made["overwrite"] = True
    return made


def _priority(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = PRIORITY_MAX + 1
    if not -PRIORITY_MAX <= number <= PRIORITY_MAX:
        raise UsageError(
            f"--priority {text}: give a whole number from -{PRIORITY_MAX} to {PRIORITY_MAX}; the higher first"
        )
    return number


#: Flags whose value is one of a few names, and the settings that they are.
_NAMED: Final = (
    ("input_format", "input_format"),
    ("output_format", "output_format"),
    ("compress", "compression"),
)


def _name(text: str, key: str) -> str:
    """One of the names that `mrq.io` knows; the nearest one is named otherwise."""
    from mrq.io import compression, formats
    from mrq.job.settings import nearest

    known = {
        "input_format": formats.INPUT_NAMES,
        "output_format": formats.OUTPUT_NAMES,
        "compress": compression.NAMES,
    }[key]
    if text not in known:
        flag = "--" + key.replace("_", "-")
        raise UsageError(f"{flag} {text}: there is no such name{nearest(text, known)}")
    return text


def _count(parsed: Parsed, key: str, flag: str, low: int, high: int, what: str) -> int:
    """A whole number within its bounds."""
    text = parsed.values[key]
    limits = f"from {low:,} to {high:,}" if high < _COUNT_MAX else f"at least {low:,}"
    try:
        number = int(text)
    except ValueError:
        raise UsageError(f"{flag} {text}: give a whole number of {what}, {limits}") from None
    if not low <= number <= high:
        hint = (
            "; for a map-only job leave out reduce in its class" if key == "reducers" and not number else ""
        )
        raise UsageError(f"{flag} {text}: the number of {what} must be {limits}{hint}")
    return number


def _size(parsed: Parsed, key: str, flag: str, low: int) -> int:
    """Bytes, at least `low`."""
    from mrq.job.settings import parse_size

    text = parsed.values[key]
    try:
        number = parse_size(text)
    except ValueError as exc:
        raise UsageError(f"{flag} {text}: give {exc}") from None
    if number < low:
        raise UsageError(
            f"{flag} {text} is less than the least that works, {size(low)}; give {size(low)} or more"
        )
    return number


def _timeout(text: str) -> float:
    from mrq.job.settings import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as exc:
        raise UsageError(f"--progress-timeout {text}: give {exc}") from None
    if not seconds > 0:
        raise UsageError(f"--progress-timeout {text}: give a time above 0, such as 600s")
    return seconds
