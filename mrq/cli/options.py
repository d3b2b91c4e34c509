"""What `mrq submit` was asked for, checked as far as that is cheap: no job loaded, nothing listed.

Each refusal is one sentence: what, where, what to do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mrq.cli.command_table import Parsed
from mrq.errors import UsageError
from mrq.io.disk import working_folder
from mrq.planning import Request
from mrq.settings.job import SETTINGS

if TYPE_CHECKING:
    from mrq.job.base import Job


def submit_request(parsed: Parsed, job: type[Job] | None = None) -> Request:
    """What a command line of submit asks for. Where `job` is known, all words are inputs.

    Raises UsageError.
    """
    words = list(parsed.words)
    ref = ref_of(words) if job is None else job
    if not words:
        raise UsageError(
            "no INPUT is given: name files, folders, globs or URLs after the job, or - for standard input"
        )
    if words.count("-") > 1:
        raise UsageError("standard input (-) can be read once only; give one -")
    given = parsed.given
    output = given.get("output")
    if output is None and "dry_run" not in given:
        raise UsageError("where should the result go? Give -o OUT (a folder to make), or -o - to print it")
    if output == "":
        raise UsageError("-o '': OUT is empty; give a folder to make, or - to print the result")
    if output == "-" and "json" in given:
        raise UsageError("-o - and --json both want standard output; give -o a folder, or leave out --json")
    if output == "-" and "detach" in given:
        raise UsageError("-o - prints the result and --detach doesn't wait for it; give -o a folder")
    compress = given.get("compression", "none")
    if output == "-" and compress != "none":
        raise UsageError(
            f"-o - prints the result as it is, and --compress {compress} packs the parts of a folder; leave "
            "it out, and pipe what is printed into a program that packs it"
        )
    if "quiet" in given and "verbose" in given:
        raise UsageError("-q and -v contradict each other; give one")
    return Request(
        ref=ref,
        inputs=tuple(words),
        output=None if output == "-" else output,
        typed=_parameters(given.get("set", ())),
        overrides={name: value for name, value in given.items() if name in SETTINGS},
        overwrite="overwrite" in given,
    )


def ref_of(words: list[str]) -> str:
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
            raise UsageError(f"there is no job file {path} (looked in {working_folder()})") from None
        except OSError as exc:
            raise UsageError(
                f"the job file {path} can't be reached by user {os.getuid()}: {exc.strerror}"
            ) from exc
    return ref


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
