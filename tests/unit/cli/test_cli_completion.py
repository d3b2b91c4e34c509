"""Scripts that complete, for bash, zsh and fish: made of the table of commands, so all of it is in them."""

import shlex
import shutil
import subprocess

import pytest

from mrq.cli.app import run
from mrq.cli.command_table import COMMANDS

SHELLS = ("bash", "zsh", "fish")


def script(shell, capfd):
    assert run(["completion", shell]) == 0
    return capfd.readouterr().out


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_flag_and_choice_is_in_it(shell, capfd):
    text = script(shell, capfd)
    for command in COMMANDS:
        assert command.name in text
        for row in command.flags:
            for name in row.all_names:
                assert (f"-l {name[2:]} " if shell == "fish" and name.startswith("--") else name[1:]) in text
            assert " ".join(row.choices) in text


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_can_read_it(shell, capfd):
    text = script(shell, capfd)
    if shutil.which(shell):  # only bash is everywhere
        subprocess.run([shell, "-n"], input=text, text=True, check=True, timeout=20)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("su", "submit"),
        ("submit --ord", "--order"),
        ("submit in.txt --order ''", "total hashed"),
        ("submit --order=x in.txt --no-b", "--no-backups"),
        ("retry --re", ""),
        ("status --w", "--watch"),
        ("workers d", "drain"),
        ("help ca", "cancel cat"),
        ("completion ''", "bash zsh fish"),
        ("submit -R ''", ""),
    ],
)
def test_bash_completes(line, found, capfd):
    words = ["mrq", *shlex.split(line)]
    asked = f"{script('bash', capfd)}\ncompopt() {{ :; }}\nCOMP_WORDS=({' '.join(map(shlex.quote, words))})\n"
    asked += f'COMP_CWORD={len(words) - 1}\n_mrq\necho "${{COMPREPLY[*]}}"\n'
    made = subprocess.run(["bash"], input=asked, capture_output=True, text=True, check=True, timeout=20)
    assert (made.stdout, made.stderr) == (found + "\n", "")


def test_another_shell_is_refused_by_name(capfd):
    for argv in (["completion"], ["completion", "tcsh"], ["completion", "bash", "zsh"]):
        assert run(argv) == 2
        assert "mrq completion takes one of bash, zsh, fish, not" in capfd.readouterr().err
