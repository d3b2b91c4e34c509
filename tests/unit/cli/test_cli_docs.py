"""docs/command-line.md names every command and flag that there is, and no other flag."""

import re
from pathlib import Path

from mrq.cli.flags import COMMANDS

TEXT = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text(encoding="utf-8")


def test_every_command_and_flag_is_documented():
    for command in COMMANDS:
        assert f"mrq {command.name}" in TEXT
        for flag in command.flags:
            assert (
                f"`{flag.names[-1]}" in TEXT or f", `{flag.names[-1]}" in TEXT or f"{flag.names[-1]} " in TEXT
            )


def test_every_documented_flag_exists():
    known = {name for command in COMMANDS for flag in command.flags for name in flag.names} | {"--version"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", TEXT))
    assert named
    assert named <= known
