"""Advice is in the words of whoever reads it: Python where programs meet it too, flags in shells."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import mrq
from mrq.settings.run import SUBMIT

ROOT = Path(mrq.__file__).parent
#: Of a shell: nobody meets them from Python.
SHELL = (
    "job/parameters.py",  # of `--set`: parameters that come as text were typed
    "cli/",
    "proto/",
    "job/main.py",
    "submit.py",
    "worker/__main__.py",
    "master/__main__.py",
)
#: Those that a command names which is quoted whole (`mrq submit …`), and those of servers, are no advice.
COMMAND = re.compile(r"(?:mrq|python -m mrq\.\w+) [^;,.]*")
FLAG = re.compile(r"(?<![\w-])(-R|-j|-o|--[a-z][a-z-]+)\b")


def said(path: Path) -> Iterator[tuple[int, str]]:
    """The strings of a module that aren't docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
            docs |= {id(v) for v in node.values}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


def test_what_programs_meet_advises_no_flag_of_submit():
    flags = {name for flag in SUBMIT for name in flag.all_names}
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        inside = path.relative_to(ROOT).as_posix()
        if inside.startswith(SHELL):
            continue
        for line, text in said(path):
            named = set(FLAG.findall(COMMAND.sub("", text))) & flags
            if named - {"--cluster", "--timeout"} and not inside.startswith("settings/"):
                found.append(f"{inside}:{line}: {text}")
    assert found == []


def test_it_would_be_found(tmp_path):
    (tmp_path / "m.py").write_text(
        '"""--overwrite"""\nx = f"give --overwrite to {y}"\nz = "mrq submit --overwrite"\n'
    )
    texts = [text for _, text in said(tmp_path / "m.py")]
    assert "give --overwrite to …" in texts
    assert FLAG.findall(COMMAND.sub("", texts[texts.index("give --overwrite to …")])) == ["--overwrite"]
    assert FLAG.findall(COMMAND.sub("", "mrq submit --overwrite")) == []
    assert "--overwrite" not in texts
