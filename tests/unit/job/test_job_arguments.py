"""`mrq.top("n")` names a parameter; what takes a parameter's default for good is refused."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

import mrq
import mrq.testing
from mrq import planning
from mrq.errors import MrqError
from mrq.planning import Request

HEAD = "from operator import itemgetter\nimport mrq\nN = 5\n\nclass Wrong(mrq.Job):\n"
MAP = "def map(self, key, line):\n    yield line, 1\n"


def submit(folder: Path, body: str, **typed: str) -> None:
    """Draft a job whose class, on line 5, has this body."""
    file = folder / "argumentjob.py"
    file.write_text(HEAD + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ") + "\n")
    (folder / "in").write_text("x\n")
    planning.draft(
        Request(ref=str(file), inputs=[str(folder / "in")], output=str(folder / "out"), typed=typed)
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "n: int = 3\nreduce = mrq.top(n)\n",
            'argumentjob.py:7: `reduce = mrq.top(n)`|reduce = mrq.top("n")',
        ),
        ("n: int = 3\nreduce = mrq.bottom(n)\n", 'write `reduce = mrq.bottom("n")`'),
        ("n: int = 3\nreduce = mrq.top(n, key=itemgetter(0))\n", 'mrq.top("n", key=itemgetter(0))'),
        ("n: int = 3\nreduce = mrq.top(n + 1)\n", "return mrq.top(self.n + 1)(key, values)`"),
        ("n: int = 3\nreduce = mrq.top(int(n))\n", "the default of the parameter n, whatever n is given"),
        (
            "field: int = 0\nreduce = mrq.top(3, key=itemgetter(field))\n",
            "key=itemgetter(self.field))(key, val",
        ),
        ('n: int = 3\nreduce = mrq.top("m")\n', "Wrong has no parameter 'm'; there are n"),
        ('number: int = 3\nreduce = mrq.top("numbr")\n', "; did you mean 'number'?"),
        (
            'n: str = "3"\nreduce = mrq.top("n")\n',
            "parameter n of Wrong is '3' (a str), and reduce = mrq.top('n')",
        ),
        (
            'n: int = 0\nreduce = mrq.top("n")\n',
            "is 0 (a int), and reduce = mrq.top('n') takes a whole number",
        ),
        (
            "n: int = 3\ndef reduce(self, key, values, n=n): yield 1\n",
            "argumentjob.py:7: reduce takes the default",
        ),
        ("n: int = 3\nif True:\n    reduce = mrq.top(n)\n", 'write `reduce = mrq.top("n")`'),
        (
            "n: int = 3\nkept = mrq.top(n)\nreduce = kept\n",
            "`kept = mrq.top(n)`|the default of the parameter n",
        ),
        (
            "n: int = 3\nkept = [mrq.top(n)]\ndef reduce(self, key, values): return self.kept[0](key, 1)\n",
            "argumentjob.py:7: `kept = [mrq.top(n)]`|mrq.top(self.n)(key, values)",
        ),
        (
            "n: int = 3\nreduce = mrq.sum if n > 2 else mrq.count\n",
            "return (mrq.sum if self.n > 2 else mrq.count)(key, values)`",
        ),
        ("reduce = mrq.top(0)\n", "keeps nothing"),
        ("reduce = mrq.top(3, key='n')\n", "key must be a function of a value"),
    ],
)
def test_refused(body: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(MrqError) as caught:
        submit(tmp_path, body + MAP)
    for part in said.split("|"):
        assert part in str(caught.value)


def test_the_default_of_a_job_above_is_refused_too(tmp_path: Path) -> None:
    file = tmp_path / "abovejob.py"
    file.write_text(
        "import mrq\nclass Above(mrq.Job):\n    n: int = 3\n    def map(self, key, line): yield line, 1\n"
        "class Below(Above):\n    reduce = mrq.top(Above.n)\n"
    )
    (tmp_path / "in").write_text("x\n")
    wanted = Request(ref=f"{file}:Below", inputs=[str(tmp_path / "in")], output=str(tmp_path / "out"))
    with pytest.raises(MrqError, match=r'abovejob.py:6: .*; write `reduce = mrq.top\("n"\)`'):
        planning.draft(wanted)


@pytest.mark.parametrize("n", ["0", "-1"])
def test_what_set_gives_is_checked(n: str, tmp_path: Path) -> None:
    with pytest.raises(MrqError, match=f"parameter n of Wrong is {n} "):
        submit(tmp_path, 'n: int = 3\nreduce = mrq.top("n")\n' + MAP, n=n)


@pytest.mark.parametrize(
    "body",
    [
        "n: int = 3\nreduce = mrq.top(N)\n",
        'n: int\nreduce = mrq.top("n")\n',
        "n = 3\nreduce = mrq.top(n)\n",
        "n: int = 3\nreduce = mrq.top(3, key=lambda n: n[0])\n",
        "n: int = 3\nreduce = mrq.sum\n",
        "n: int = 3\nkept = [N, n]\nreduce = mrq.top(N)\n",
        "n: int = 3\nreduce = mrq.top(n)\ndef reduce(self, key, values): return values\n",
        "n: int = 3\ndef reduce(self, key, values): return mrq.top(self.n)(key, values)\n",
    ],
)
def test_fine(body: str, tmp_path: Path) -> None:
    submit(tmp_path, body + MAP, **({"n": "2"} if body.startswith("n: int") else {}))


class Numbers(mrq.Job):
    n: int = 3

    def map(self, key: Any, value: Any) -> Any:
        return [("x", value)]


class Named(Numbers):
    reduce = mrq.top("n")


class Bottom(Numbers):
    reduce = mrq.bottom("n", key=lambda value: -value)


class Inside(Numbers):
    def reduce(self, key: Any, values: Any) -> Any:
        yield from mrq.top(self.n)(key, values)


@pytest.mark.parametrize("job", [Named, Bottom, Inside])
def test_n_is_what_the_parameter_says(job: type[Any]) -> None:
    records = [1, 5, 4, 2, 3]
    assert mrq.testing.run(job(n=2), records=records) == [("x", 5), ("x", 4)]
    assert mrq.testing.run(job(), records=records) == [("x", 5), ("x", 4), ("x", 3)]


def test_a_wrong_n_is_refused_in_tests_too() -> None:
    with pytest.raises(MrqError, match="parameter n of Named is 0"):
        mrq.testing.run(Named(n=0), records=[1])


@pytest.mark.parametrize("as_list", [False, True])
def test_a_built_in_that_nobody_calls_says_what_to_write(as_list: bool) -> None:
    class Uncalled(Numbers):
        def reduce(self, key: Any, values: Any) -> Any:
            return [mrq.top(self.n)] if as_list else mrq.top(self.n)

    wanted = r"yield from x\(key, values\)" if as_list else r"`return mrq.top\(3\)\(key, values\)`"
    with pytest.raises(MrqError, match=wanted):
        mrq.testing.run(Uncalled, records=[1])


@pytest.mark.parametrize(
    ("built_in", "wanted"),
    [(mrq.sum, [6]), (mrq.count, [3]), (mrq.mean, [2.0]), (mrq.max, [3]), (mrq.collect, [[1, 2, 3]])],
)
def test_a_reduce_may_call_a_built_in(built_in: Any, wanted: list[Any]) -> None:
    assert list(built_in("key", iter([1, 2, 3]))) == wanted
    assert list(mrq.identity("key", iter([1, 2, 3]))) == [1, 2, 3]
    assert list(mrq.sum("key", iter([0.1] * 5000))) == [500.0]


def test_a_built_in_called_otherwise_says_what_to_write() -> None:
    with pytest.raises(
        TypeError, match=r"mrq.sum is called with a group, as reduce is: mrq.sum\(key, values\)"
    ):
        mrq.sum([1, 2])
    with pytest.raises(TypeError, match=r"write mrq.top\(self.n\)\(key, values\)"):
        mrq.top("n")("key", [1])
