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

HEAD = """from operator import itemgetter
import mrq
N = 5
def made(n): return mrq.top(n)
class Wrong(mrq.Job):
"""
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


#: What a class of whose body `reduce = mrq.top(m)` is the end takes from a parameter on the way.
WAYS = {
    "m = n": 'reduce = mrq.top("n")',
    "m = n + 1": "return mrq.top(self.n + 1)(key, values)",
    "k = n\nk = k + 1\nm = k": "return mrq.top(self.n + 1)(key, values)",
    "k, m = 1, n": 'reduce = mrq.top("n")',
    "(k, m) = [1, n + N]": "return mrq.top(self.n + N)(key, values)",
    "k, m = divmod(10, n)": "`def reduce(self, key, values):`, which computes it from self.n",
    "k, *m = 9, n\nm = m[0]": "which computes it from self.n",
    "k = m = n": 'reduce = mrq.top("n")',
    "m: ClassVar[int] = n": 'reduce = mrq.top("n")',
    "k = [(m := n)]": 'reduce = mrq.top("n")',
    "(m := n)": 'reduce = mrq.top("n")',
    "m = 1\nm += n": "which computes it from self.n",
    "kept = {}\nkept['n'] = n\nm = kept['n']": "which computes it from self.n",
    "for m in range(1, n): pass": "which computes it from self.n",
    "m = [k for k in range(1, n)][0]": "return mrq.top([k for k in range(1, self.n)][0])(key, values)",
    "m = max(abs(n), *[1])": "return mrq.top(max(abs(self.n), *[1]))(key, values)",
    "m = 2\nif n > 2:\n    m = 5": "which computes it from self.n",
    "m = 2\nwhile m < n: m = 9": "which computes it from self.n",
    "try:\n    m = n\nfinally:\n    pass": 'reduce = mrq.top("n")',
    "with open('/dev/null') as f:\n    m = n": 'reduce = mrq.top("n")',
    "match n:\n    case k: m = k": "which computes it from self.n",
    "m = (lambda k=n: k)()": "which computes it from self.n",
    "def k(at=n): return at\nm = k()": "which computes it from self.n",
    "class K(made(n).__class__): pass\nm = 1 if K else 2": "which computes it from self.n",
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_made_from_a_default_is_refused_on_whatever_way(way: str, tmp_path: Path) -> None:
    body = "from typing import ClassVar\nn: int = 3\n" + way + "\n"
    with pytest.raises(MrqError) as caught:
        submit(tmp_path, body + "reduce = mrq.top(m)\n" + MAP, n="2")
    line = 8 + body.count("\n")
    assert f"argumentjob.py:{line - 2}: `reduce = mrq.top(m)`" in str(caught.value)
    assert "the default of the parameter n (m is made from it), whatever n is given" in str(caught.value)
    assert WAYS[way] in str(caught.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("reduce = mrq.top(m := n)\n", 'write `reduce = mrq.top("n")`'),
        ("reduce = made(n)\n", "return made(self.n)(key, values)"),
        ("k = n\nreduce = [made(k)][0]\n", "return ([made(self.n)][0])(key, values)"),
        (
            "if n > 2:\n    reduce = mrq.sum\nelse:\n    reduce = mrq.count\n",
            "reduce is chosen by the default",
        ),
        (
            "reduce = mrq.top(3, key=lambda value, at=n: value[at])\n",
            "the default of the parameter n, whatever n is given",
        ),
        ("def by(value, at=n): return at\nreduce = mrq.top(3, key=by)\n", "parameter n (by is made from it)"),
        (
            "m = n\nfrom functools import partialmethod\ndef k(self, key, values, n): yield n\n"
            "combine = partialmethod(k, n=m)\ndef reduce(self, key, values): yield 1\n",
            "`def combine(self, key, values):`, which computes it from self.n",
        ),
        (
            "m = n\ndef reduce(self, key, values, m=m): yield m\n",
            "reduce takes the default of the parameter n as a default argument (m is made from it)",
        ),
        (
            "def seen(n): return lambda method: method\n@seen(n)\ndef reduce(self, key, values): yield 1\n",
            "argumentjob.py:8: reduce takes the default of the parameter n in a decorator",
        ),
        (
            "m = n * 2\ndef reduce(self, key, values): yield self.m\n",
            "argumentjob.py:8: self.m has the default of the parameter n, whatever n is given: it is made in "
            "the body of the class (argumentjob.py:7), which runs once; make it in setup: "
            "`self.m = self.n * 2`",
        ),
        (
            "m = 1 if n else 2\ndef reduce(this, key, values):\n    return (this.m for _ in values)\n",
            "self.m",
        ),
        (
            "if n > 2: m = 1\nelse: m = 2\ndef setup(self): self.k = self.m\n",
            "make it in setup: self.m from self.n",
        ),
        (
            "def by(self, at=n): return at\ndef reduce(self, key, values): yield self.by()\n",
            "by takes the default of the parameter n as a default argument, whatever n is given; use self.n",
        ),
    ],
)
def test_a_default_reaches_no_method(body: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(MrqError) as caught:
        submit(tmp_path, "n: int = 3\n" + body + MAP, n="2")
    assert said in str(caught.value).replace(f"{tmp_path}/", "")


def test_the_module_has_another_of_that_name(tmp_path: Path) -> None:
    with pytest.raises(
        MrqError, match="has the N of its module, and not the parameter N, whatever N is given"
    ):
        submit(tmp_path, "N: int\nreduce = mrq.top(N)\n" + MAP, N="2")


ABOVE = """import mrq
class Above(mrq.Job):
    n: int = 3
    m = n + 1
    def map(self, key, line): yield line, 1
    {above}
class Beside:
    {beside}
class Below(Beside, Above):
    {below}
"""


@pytest.mark.parametrize(
    ("above", "beside", "below", "said"),
    [
        ("", "", "reduce = mrq.top(Above.m)", "parameter n (Above.m is made from it), whatever n is given"),
        ("", "", "k = Above.m; reduce = mrq.top(k)", "parameter n (k is made from it)"),
        ("", "", "k = 2 * Above.n; reduce = mrq.top(k)", "return mrq.top(2 * self.n)(key, values)"),
        ("reduce = mrq.top(m)", "", "pass", "return mrq.top(self.n + 1)(key, values)"),
        ("", "", "def reduce(self, key, values): yield self.m", "make it in setup: `self.m = self.n + 1`"),
        ("def reduce(self, key, values): yield self.m", "", "pass", "make it in setup"),
        ("", "def reduce(self, key, values): yield self.m", "pass", "make it in setup"),
        ("", "", "n = 4; k = n; reduce = mrq.top(k)", 'write `reduce = mrq.top("n")`'),
    ],
)
def test_what_a_job_above_makes_is_followed(
    above: str, beside: str, below: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "abovejob.py"
    text = ABOVE.format(above=above or "pass", beside=beside or "pass", below=below)
    file.write_text(text)
    (tmp_path / "in").write_text("x\n")
    wanted = Request(ref=f"{file}:Below", inputs=[str(tmp_path / "in")], output=str(tmp_path / "out"))
    with pytest.raises(MrqError) as caught:
        planning.draft(wanted)
    assert said in str(caught.value)


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
        "n: int = 3\nm, k = n, 4\nreduce = mrq.top(k)\n",
        "n: int = 3\nm = n\nm = 4\nreduce = mrq.top(m)\n",
        "n: int = 3\nm = n\ndel m\nfrom os import EX_OK as m\nreduce = mrq.top(m + 1)\n",
        "n: int = 3\nm: int = n\nreduce = mrq.top('m')\n",
        "n: int = 3\nreduce = mrq.top(max(n for n in (1, 2)))\n",
        "n: int = 3\nm = n\ndef reduce(self, key, values): yield 1\n",
        "n: int = 3\nm = n\ndef setup(self): self.m = self.n\ndef reduce(self, key, values): yield self.m\n",
        "made: int = 3\nk: int = 1\nreduce = mrq.top('k')\n",
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
