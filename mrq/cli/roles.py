"""What `python -m mrq.master` and `python -m mrq.worker` take: a flag for each of their settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from mrq.cli.command_table import Command, command_text
from mrq.cli.parser import parse
from mrq.errors import MrqError, UsageError
from mrq.io.disk import working_folder
from mrq.settings.cluster import KEYS, Profile, load
from mrq.settings.run import CLUSTER, HELP, INIT
from mrq.settings.table import Where

if TYPE_CHECKING:
    from mrq.cli.console import Console

Role = Literal["master", "worker"]

_HELP: Final = {
    "master": "Lead the cluster, or stand by until the leader is gone. Any number may run.",
    "worker": "Run tasks of the cluster's jobs.",
}


def role_command(role: Role) -> Command:
    """A role's flags: one for each setting that it reads."""
    wanted = Where.MASTER if role == "master" else Where.WORKER
    flags = tuple(row for row in KEYS.values() if wanted in row.where)
    cluster = replace(CLUSTER, help="a profile of mrq.toml")
    return Command(
        name=role,
        usage=f"python -m mrq.{role} [flags]",
        help=f"{_HELP[role]}\n\nEvery flag may also be an environment variable, or stand in mrq.toml.",
        flags=(cluster, *flags, *([INIT] if role == "master" else []), HELP),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleLine:
    """A role's command line, taken apart."""

    profile: Profile
    init: bool = False  #: of a master: make the store ready, and end


def line_of(role: Role, argv: Sequence[str]) -> RoleLine | None:
    """What a role's command line asks for; None where it asked for help, which is printed.

    Raises UsageError, also where one of the two servers isn't set.
    """
    from mrq.cli.console import write_out

    command = role_command(role)
    parsed = parse(command.flags, argv, listed_by=f"python -m mrq.{role} --help")
    if parsed.given.get("help"):
        write_out(command_text(command).encode())
        return None
    if parsed.words:
        raise UsageError(f"mrq.{role} takes flags only, not {parsed.words[0]!r}; --help lists them")
    flags = {name: str(value) for name, value in parsed.given.items() if name in KEYS}
    found = load(parsed.given.get("cluster"), flags=flags, env=os.environ, cwd=working_folder())
    found.services()
    return RoleLine(profile=found, init="init" in parsed.given)


def run_role(role: Role, argv: Sequence[str], serve: Callable[[RoleLine, Console], int]) -> int:
    """`python -m mrq.ROLE`: take the command line apart, `serve`, and return the exit code.

    What it logs, and what is raised, become sentences on standard error, as of every command.
    """
    from mrq.adapters.extra import needing_extra
    from mrq.cli import failure_text
    from mrq.cli.console import Console

    console = Console(role=f"mrq {role}: ")
    with console.listening():
        try:
            with needing_extra():
                line = line_of(role, argv)
                if line is None:
                    return failure_text.DONE
                console.show(json=line.profile.log_format == "json")
                return serve(line, console)
        except (Exception, KeyboardInterrupt) as exc:  # noqa: BLE001 - all are told, and the process ends
            if isinstance(exc, MrqError):
                failure_text.print_error(exc)
            elif not isinstance(exc, KeyboardInterrupt | BrokenPipeError):
                failure_text.print_bug(exc)
            return failure_text.exit_code(exc)
