"""`mrq completion SHELL`: a script that completes commands, flags and their values, for bash, zsh or fish.

It is made of the table of commands, and has all in it: to complete a word, no Python is started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from mrq.cli import failure_text
from mrq.cli.command_table import COMMANDS, PATHS, Command
from mrq.cli.console import write_out
from mrq.cli.session import Session
from mrq.errors import UsageError
from mrq.settings.table import Setting, ValueKind


def completion(session: Session) -> int:
    """Print the script. Raises UsageError for a shell that there is none for."""
    words = session.parsed.words
    if len(words) != 1 or words[0] not in _SCRIPTS:
        raise UsageError(
            f"mrq completion takes one of {', '.join(_SCRIPTS)}, not {' '.join(words) or 'none'}; "
            "for bash, add to ~/.bashrc: source <(mrq completion bash)"
        )
    write_out("".join(f"{line}\n" for line in _SCRIPTS[words[0]]()).encode())
    return failure_text.DONE


def _about(command: Command) -> str:
    """The first sentence of its help."""
    return command.help.splitlines()[0].partition(". ")[0].rstrip(".")


def _words(command: Command) -> str:
    """What may follow it, unless that is a path."""
    names = tuple(each.name for each in COMMANDS) if command.name == "help" else command.words
    return "" if names == PATHS else " ".join(names)


def _is_path(row: Setting) -> bool:
    """Whether its value is completed as a path."""
    return (row.kind in (ValueKind.PATH, ValueKind.PATHS) and row.name != "set") or row.name == "output"


def _help(row: Setting, name: str) -> str:
    """What a flag is for, or its opposite."""
    return f"not: {row.help}" if name == row.off else row.help


def _bash() -> Iterator[str]:
    names = " ".join(each.name for each in COMMANDS)
    yield "_mrq() {"
    yield "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} flags= words="
    yield "    COMPREPLY=()"
    yield f'    ((COMP_CWORD > 1)) || {{ COMPREPLY=($(compgen -W "{names}" -- "$word")); return; }}'
    yield "    case ${COMP_WORDS[1]} in"
    for each in COMMANDS:
        flags = " ".join(name for row in each.flags for name in row.all_names)
        paths = " compopt -o default;" if each.words == PATHS else ""
        yield f'    {each.name}) flags="{flags}"; words="{_words(each)}";{paths} ;;'
    yield "    esac"
    yield "    case $before in"
    rows = {row.names: row for each in COMMANDS for row in each.flags if row.kind is not ValueKind.SWITCH}
    for row in rows.values():
        end = "compopt -o default;" if _is_path(row) else "compopt +o default;"
        yield f'    {"|".join(row.names)}) flags= words="{" ".join(row.choices)}"; {end} ;;'
    yield "    esac"
    yield "    [[ $word == -* ]] && words=$flags"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$word"))'
    yield "}"
    yield "complete -F _mrq mrq"


def _zsh() -> Iterator[str]:
    def quoted(text: str) -> str:
        for mark in "\\[]:":
            text = text.replace(mark, f"\\{mark}")
        return text.replace("'", "'\\''")

    yield "#compdef mrq"
    yield "_mrq() {"
    yield "    local -a commands=("
    yield from (f"        '{each.name}:{quoted(_about(each))}'" for each in COMMANDS)
    yield "    )"
    yield "    (( CURRENT > 2 )) || { _describe command commands; return; }"
    yield "    shift words; (( CURRENT-- ))"
    yield "    case $words[1] in"
    for each in COMMANDS:
        yield f"    {each.name}) _arguments -s \\"
        for row in each.flags:
            for name in row.all_names:
                values = "_files" if _is_path(row) else f"({' '.join(row.choices)})"
                value = "" if row.kind is ValueKind.SWITCH else f":{quoted(row.metavar)}:{values}"
                others = "*" if row.kind is ValueKind.PATHS else f"({' '.join(row.all_names)})"
                yield f"        '{others}{name}[{quoted(_help(row, name))}]{value}' \\"
        words = "_files" if each.words == PATHS else f"({_words(each)})"
        yield f"        '*:word:{words}' ;;"
    yield "    esac"
    yield "}"
    yield 'if [ "$funcstack[1]" = _mrq ]; then _mrq "$@"; else compdef _mrq mrq; fi'


def _fish() -> Iterator[str]:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    yield "complete -c mrq -f"
    for each in COMMANDS:
        yield f"complete -c mrq -n __fish_use_subcommand -a {each.name} -d {quoted(_about(each))}"
        mine = f"complete -c mrq -n '__fish_seen_subcommand_from {each.name}'"
        yield f"{mine} -F" if each.words == PATHS else f"{mine} -a {quoted(_words(each))}"
        for row in each.flags:
            takes = "" if row.kind is ValueKind.SWITCH else " -r -F" if _is_path(row) else " -x"
            values = f" -a {quoted(' '.join(row.choices))}" if row.choices else ""
            short = f" -s {row.short[1:]}" if row.short else ""
            for name in row.all_names[-1 if row.off is None else -2 :]:
                yield f"{mine} -l {name[2:]}{short}{takes}{values} -d {quoted(_help(row, name))}"


_SCRIPTS: Final[Mapping[str, Callable[[], Iterator[str]]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
