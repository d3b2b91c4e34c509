"""Submit refuses what a method gives and nobody would take."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from mrq.errors import JobDefinitionError
from mrq.job.check import check
from mrq.job.load import load_job

HEAD = "import functools\nimport mrq\n\nclass Wrong(mrq.Job):\n"
MAP = "def map(self, key, line):\n    yield line, 1\n"


def submit(folder: Path, body: str) -> None:
    """Load and check a job whose class, on line 4, has this body."""
    file = folder / "droppedjob.py"
    file.write_text(HEAD + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ") + "\n")
    check(load_job(str(file)).cls)


RETURNS = [
    ("map", "key, line", "yield line, 1", "[('x', 1)]", "yield from [('x', 1)]"),
    ("map", "key, line", "yield line, 1", "line, 1", "yield line, 1"),
    ("map", "key, line", "yield from []", "[(w, 1) for w in line]", "yield from [(w, 1) for w in line]"),
    ("map", "key, line", "yield line, 1", "self.rest(line)", "yield from self.rest(line)"),
    ("map_split", "records", "yield 1, 2", "last", "yield from last"),
    ("map_block", "block", "yield 1, 2", "{b'x': 1}", "yield from {b'x': 1}.items()"),
    ("combine", "key, values", "yield 1", "[2]", "yield from [2]"),
    ("reduce", "key, values", "yield 1", "[2]", "yield from [2]"),
    ("reduce", "key, values", "yield 1", "sum(values) + 1", "yield sum(values) + 1"),
    ("reduce", "key, values", "yield 1", "total", "yield total` (or `yield from total` if it holds several)"),
]


@pytest.mark.parametrize(("hook", "takes", "made", "returned", "instead"), RETURNS)
def test_a_return_beside_a_yield_is_refused_with_its_line(
    hook: str, takes: str, made: str, returned: str, instead: str, tmp_path: Path
) -> None:
    body = f"def {hook}(self, {takes}):\n    if self.task:\n        return {returned}\n    {made}\n"
    if not hook.startswith("map"):
        body += MAP
    if hook == "combine":
        body += "def reduce(self, key, values): yield 1\n"
    with pytest.raises(JobDefinitionError) as caught:
        submit(tmp_path, body)
    message = str(caught.value)
    assert f"droppedjob.py:7: `return {returned}`: {hook} yields, so Python drops what it returns" in message
    assert f"write `{instead}" in message
    assert message.endswith(" and a bare `return` after it")


@pytest.mark.parametrize("wraps", ["functools.wraps(function)", "(lambda f: f)"])
def test_a_decorated_methods_own_lines_count(wraps: str, tmp_path: Path) -> None:
    body = f"""
        def drop(function):
            @{wraps}
            def wrapper(*arguments):
                yield from function(*arguments)
            return wrapper

        @drop
        def map(self, key, line):
            yield line, 1
            return [(line, 2)]
    """
    with pytest.raises(JobDefinitionError, match=r"droppedjob.py:14: `return \[\(line, 2\)\]`"):
        submit(tmp_path, body)


ALONE = [
    ("setup", "yield 1", "setup yields, so Python makes a generator of it, and nothing in it would run"),
    ("setup", "yield from []", "keep what it makes in self"),
    ("setup", "return [1]", "`return [1]`: nothing takes what setup returns"),
    ("teardown", "yield 'x', 1", "to emit at the end of a split write `def map_split(self, records):`"),
    ("teardown", "return [('x', 1)]", "write `def map_split(self, records):`"),
    ("teardown", "return ((k, 1) for k in 'ab')", "nothing takes what teardown returns"),
    ("partition", "yield 0", "partition yields; it must return an int"),
]


@pytest.mark.parametrize(("hook", "line", "said"), ALONE)
def test_setup_and_teardown_give_nothing(hook: str, line: str, said: str, tmp_path: Path) -> None:
    takes = "self, key, n" if hook == "partition" else "self"
    with pytest.raises(JobDefinitionError) as caught:
        submit(tmp_path, MAP + f"reduce = mrq.sum\ndef {hook}({takes}):\n    {line}\n")
    assert said in str(caught.value)
    assert "droppedjob.py:" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("__post_init__", "defines __post_init__, which nothing calls"),
        (
            "mapper_final",
            "is no method of mrq's, so nothing would call it; write `def map_split(self, records):`",
        ),
        ("reducer", "nothing would call it; rename it to reduce"),
        ("mapper_init", "rename it to setup"),
        ("tearDown", "rename it to teardown"),
    ],
)
def test_methods_that_nothing_calls_are_refused(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(JobDefinitionError) as caught:
        submit(tmp_path, MAP + f"def {name}(self): pass\n")
    assert said in str(caught.value)
    assert "droppedjob.py:7: " in str(caught.value)


FINE = [
    MAP + "def setup(self):\n    return super().setup()\n",
    MAP + "def setup(self):\n    return None\n",
    MAP + "def teardown(self):\n    return self.counters.update(x=1)\n",
    MAP + "def setup(self):\n    def inner(): yield 1\n    self.inner = inner\n",
    MAP + "reduce = mrq.sum\ndef reducer(self): pass\ndef setup(self): self.reducer()\n",
    "def map(self, key, line):\n    if not line:\n        return\n    yield line, 1\n    return None\n",
    "def map(self, key, line):\n    return (yield from self.words(line))\n",
    "def map(self, key, line):\n    return [(line, 1)]\n",
    "def map(self, key, line):\n    f = lambda: [1]\n    def g():\n        return [1]\n    yield line, g()\n",
    "def map_block(self, block):\n    return {b'x': 1}\n",
]


@pytest.mark.parametrize("body", FINE)
def test_fine(body: str, tmp_path: Path) -> None:
    submit(tmp_path, body)


def test_an_abstract_class_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "abstractjob.py"
    file.write_text(
        "import abc\nimport mrq\n\nclass Base(mrq.Job, abc.ABC):\n    @abc.abstractmethod\n"
        "    def map(self, key, line): ...\n"
    )
    with pytest.raises(JobDefinitionError, match=r"Base is abstract \(map isn't defined\)"):
        check(load_job(f"{file}:Base").cls)
