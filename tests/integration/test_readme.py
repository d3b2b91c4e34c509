"""Every command of the README's own example runs as it is written, by somebody who ran `make demo` before."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = README[README.index("## The API in one example") : README.index("## How it works")]


def commands(text: str) -> list[str]:
    """The lines to be copied: indented, and in no block of Python."""
    plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [line.strip() for line in plain.splitlines() if re.match(r"    [a-z]", line)]


def test_where_mrq_lies_is_said_before_it_is_used() -> None:
    lines = commands(README)
    first = next(n for n, line in enumerate(lines) if re.match(r"mrq |python ", line))
    assert "source .venv/bin/activate" in lines[:first]
    assert "make demo" in lines[first - 2] or any(line.startswith("make demo") for line in lines[:first])


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the example needs of a fresh clone, with the files that it says to write."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mrq.toml", tmp_path)
    for block in re.findall(r"```python\n(# (\S+\.py)\n.*?)```", EXAMPLE, flags=re.DOTALL):
        (tmp_path / block[1]).write_text(block[0], encoding="utf-8")
    return tmp_path


def test_the_commands_of_the_example_run_as_written(clone: Path) -> None:
    lines = commands(EXAMPLE)
    assert [line.split()[0] for line in lines] == ["mrq", "mrq", "python"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("MRQ_")}
    env |= {"PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "MRQ_TMP": str(clone / "tmp")}
    said = []
    for line in lines:
        ran = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=clone, env=env, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert ran.returncode in (0, 141), f"{line}\n{ran.stderr}"
        said.append(ran.stdout)
    counted = dict(line.split("\t") for line in said[1].splitlines())
    assert len(counted) == 10
    words = [word for path in sorted((clone / "docs").rglob("*.md")) for word in path.read_text().split()]
    assert all(words.count(word) == int(n) for word, n in counted.items())
    assert said[2].splitlines()[1] == str(sum(len(word) >= 4 for word in words))
