"""docs/command-line.md names every command and flag that there is, and no other flag."""

import re
from pathlib import Path

from mrq.cli.command_table import COMMANDS
from mrq.settings.job import SETTINGS

TEXT = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text(encoding="utf-8")


def test_every_command_and_flag_is_documented():
    for command in COMMANDS:
        assert f"mrq {command.name}" in TEXT
        for flag in command.flags:
            assert (
                f"`{flag.names[-1]}" in TEXT or f", `{flag.names[-1]}" in TEXT or f"{flag.names[-1]} " in TEXT
            )


def test_every_documented_flag_exists():
    known = {name for command in COMMANDS for flag in command.flags for name in flag.names}
    known |= {flag.off for command in COMMANDS for flag in command.flags if flag.off} | {"--version"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", TEXT)) - {"--no-"}  # "by `--no-…`"
    assert named
    assert named <= known


def test_every_flag_of_a_setting_is_in_its_table_with_its_default_and_its_word_for_none():
    found = _rows(TEXT, "| flag | default | None is | |")
    for row in SETTINGS.values():
        if row.long is None:
            continue
        left, default, none, _ = found.pop(row.long)
        for each in row.all_names:
            assert f"`{each}" in left
        assert _plain(default) == {"True": "on", "False": "off"}.get(row.default, row.default)
        assert row.word_for_none == (_plain(none) or None)
    assert found == {}


def test_the_guide_has_every_setting_with_its_default_and_flag():
    guide = (Path(__file__).parents[3] / "docs" / "job-guide.md").read_text(encoding="utf-8")
    found = _rows(guide, "| setting | default | flag | |")
    for name, row in SETTINGS.items():
        if row.long is None:
            continue
        _, default, flag, _ = found.pop(name)
        assert _plain(default) == row.default
        assert _plain(flag) in row.names
    assert found == {}


def _rows(text, head):
    """The rows of the table under `head`, by the last name of the first column, cell by cell."""
    lines = text[text.index(head) :].splitlines()[2:]
    rows = {}
    for line in lines[: lines.index("")]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[re.findall(r"`(?!--no-)([\w-]+)[^`]*`", cells[0])[-1]] = cells
    return rows


def _plain(cell):
    return cell.replace("`", "").replace('"', "")
