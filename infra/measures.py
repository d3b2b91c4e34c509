"""Prints the measures of the house: how large mrq/ is, and how many of each kind of thing it has.

    python infra/measures.py [FOLDER]          FOLDER is a checkout; this one by default

All but the last two figures are read from the source; nothing is imported for them. The last two run a tiny
job in a process of its own. What each figure counts is said beside it, so that those of two commits can be
compared.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: Parameters of a constructor, besides self, above which it misses an object.
INIT_MAX = 8
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What was read: every module below mrq/ but the generated ones, by its path."""

    root: Path  #: of the checkout
    lines: int  #: of Python and Lua, generated ones included
    modules: dict[str, ast.Module] = field(repr=False)

    def classes(self) -> Iterator[tuple[str, ast.ClassDef]]:
        """(path, class) of every class, nested ones too."""
        for path, module in self.modules.items():
            for node in ast.walk(module):
                if isinstance(node, ast.ClassDef):
                    yield path, node

    def functions(self) -> Iterator[tuple[str, Function]]:
        """(path, function) of every function and method."""
        for path, module in self.modules.items():
            for node in ast.walk(module):
                if isinstance(node, Function):
                    yield path, node


def read(root: Path) -> House:
    """The house in a checkout. Raises OSError, SyntaxError."""
    found = sorted((root / "mrq").rglob("*.py"))
    lua = sorted((root / "mrq").rglob("*.lua"))
    return House(
        root=root,
        lines=sum(len(path.read_text().splitlines()) for path in [*found, *lua]),
        modules={
            str(path.relative_to(root)): ast.parse(path.read_text())
            for path in found
            if "_pb2" not in path.name
        },
    )


def methods(node: ast.ClassDef) -> set[str]:
    """The names of the methods that a class defines."""
    return {each.name for each in node.body if isinstance(each, Function)}


def is_protocol(node: ast.ClassDef) -> bool:
    """Whether the class is a Protocol."""
    return any(ast.unparse(base).split("[")[0].endswith("Protocol") for base in node.bases)


def body_lines(node: Function) -> int:
    """The lines of a function, its decorators and its docstring left out."""
    assert node.end_lineno is not None
    total = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        assert first.end_lineno is not None
        total -= first.end_lineno - first.lineno + 1
    return total


def parameters(node: Function) -> int:
    """How many parameters a method takes, self left out."""
    arguments = node.args
    return len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs) - 1


def implementations(house: House, protocol: ast.ClassDef) -> int:
    """How many classes define every method of a Protocol, by name; inherited methods count."""
    wanted = methods(protocol)
    by_name = {node.name: node for _, node in house.classes()}

    def has(node: ast.ClassDef, seen: frozenset[str]) -> set[str]:
        found = methods(node) | {
            target.id
            for each in node.body
            if isinstance(each, ast.AnnAssign | ast.Assign)
            for target in ([each.target] if isinstance(each, ast.AnnAssign) else each.targets)
            if isinstance(target, ast.Name)
        }
        for base in node.bases:
            name = ast.unparse(base).split("[")[0]
            if name in by_name and name not in seen:
                found |= has(by_name[name], seen | {name})
        return found

    return sum(
        1
        for _, node in house.classes()
        if not is_protocol(node) and wanted and wanted <= has(node, frozenset({node.name}))
    )


def messages(house: House) -> set[tuple[str, str]]:
    """(path, name) of every class that a union of a module (`Event = A | B | …`) names: events, commands,
    orders, requests and answers."""
    found: set[tuple[str, str]] = set()
    for path, module in house.modules.items():
        defined = {node.name for node in module.body if isinstance(node, ast.ClassDef)}
        for node in module.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp):
                names = [each.id for each in ast.walk(node.value) if isinstance(each, ast.Name)]
                found |= {(path, name) for name in names if name in defined}
    return found


def other_messages(house: House) -> dict[str, int]:
    """How many kinds of messages have no class, by who sends them."""
    found: dict[str, set[str]] = {
        "between agents and executors": set(),
        "requests": set(),
        "news of jobs": set(),
    }
    for node in ast.walk(house.modules["mrq/worker/protocol.py"]):
        value = node.value if isinstance(node, ast.AnnAssign) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            found["between agents and executors"].add(value.value)
    for node in ast.walk(house.modules["mrq/master/requests.py"]):
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
            found["requests"] |= {str(ast.literal_eval(key)) for key in node.value.keys if key is not None}
    for node in ast.walk(house.modules["mrq/remote/follow.py"]):
        if isinstance(node, ast.Compare) and ast.unparse(node.left) == "kind":
            found["news of jobs"] |= {ast.unparse(each) for each in node.comparators}
    calls = sum(path.read_text().count("\n  rpc ") for path in (house.root / "proto").rglob("*.proto"))
    return {**{family: len(names) for family, names in found.items()}, "calls of gRPC": calls}


def reading_lists(house: House) -> Iterator[tuple[str, set[str]]]:
    """(title, files) of each reading list: the files that its rows name first."""
    text = (house.root / "docs" / "architecture.md").read_text()
    section = text.partition("\n## Reading lists\n")[2].partition("\n## ")[0]
    for part in section.split("\n### ")[1:]:
        yield part.splitlines()[0], set(re.findall(r"(?m)^\| \d+ \| `([^`]+)`", part))


#: Prints the modules, and the threads, of a tiny job.
TINY = """
import sys, threading
import mrq
from tiny import Words

begun, start = [], threading.Thread.start
threading.Thread.start = lambda thread: (begun.append(thread.name), start(thread))
with mrq.local(executors=1) as engine:
    assert dict(engine.run(Words, ["in.txt"])) == {"a": 2, "b": 1}
print(*sorted(sys.modules))
print(*sorted(name.rpartition("-words-")[0] or name for name in begun))
"""
TINY_JOB = """
import mrq

class Words(mrq.Job):
    reduce = mrq.sum

    def map(self, key, line):
        for word in line.split():
            yield word, 1
"""


def tiny_job(house: House) -> tuple[list[str], list[str]]:
    """The modules that a tiny job imports into its caller's process, and the threads that it starts there."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("tiny.py", TINY_JOB), ("run.py", TINY), ("in.txt", "a b a\n")):
            Path(folder, name).write_text(text)
        env = {**os.environ, "PYTHONPATH": str(house.root.resolve()), "MRQ_TMP": folder}
        done = subprocess.run(
            [sys.executable, "run.py"], cwd=folder, env=env, capture_output=True, text=True, check=True
        )
    modules, threads = done.stdout.splitlines()
    return modules.split(), threads.split()


def measures(house: House) -> Iterator[tuple[str, str]]:
    """(what is measured, its figure)."""
    protocols = [node for _, node in house.classes() if is_protocol(node)]
    single = [node.name for node in protocols if implementations(house, node) <= 1]
    longest = max(house.functions(), key=lambda each: body_lines(each[1]))
    wide = [
        f"{path}:{node.lineno}"
        for path, node in house.functions()
        if node.name == "__init__" and parameters(node) > INIT_MAX
    ]
    where: defaultdict[str, set[str]] = defaultdict(set)
    for path, node in house.classes():
        where[node.name].add(path)
    twice = sorted(name for name, paths in where.items() if len(paths) > 1 and not name.startswith("_"))
    stems = Counter(Path(path).stem for path in house.modules)
    modules = sorted(name for name, n in stems.items() if n > 1 and not name.startswith("__"))
    loose = sorted(path for path in house.modules if path.count("/") == 1 and not path.endswith("__.py"))
    yield "lines of mrq/ (Python, Lua)", f"{house.lines:,}"
    yield "modules", str(len(house.modules))
    yield "Protocols / their methods", f"{len(protocols)} / {sum(len(methods(p)) for p in protocols)}"
    yield (
        "Protocols with at most one class that has all their methods",
        f"{len(single)} ({', '.join(single)})",
    )
    yield (
        "longest function, docstring left out",
        f"{body_lines(longest[1])} ({longest[0]}:{longest[1].lineno})",
    )
    yield f"__init__ with more than {INIT_MAX} parameters", f"{len(wide)} ({', '.join(wide)})"
    kinds = {"between machines and loops": len(messages(house)), **other_messages(house)}
    told = ", ".join(f"{n} {family}" for family, n in kinds.items())
    yield "kinds of messages", f"{sum(kinds.values())} ({told})"
    yield "class names that stand twice", f"{len(twice)} ({', '.join(twice)})"
    yield "module names that stand twice", f"{len(modules)} ({', '.join(modules)})"
    yield "loose modules at the top of mrq/", f"{len(loose)} ({', '.join(loose)})"
    lists = "; ".join(f"{title}: {len(files)}" for title, files in reading_lists(house))
    yield "files of the reading lists in docs/architecture.md", lists
    modules_of_job, threads = tiny_job(house)
    own = [name for name in modules_of_job if name.split(".")[0] == "mrq"]
    yield "modules that a tiny job imports into the caller", f"{len(modules_of_job)}, of mrq {len(own)}"
    yield "threads that it starts there", f"{len(threads)} ({', '.join(threads)})"


def main() -> None:
    """Print every measure, one a line."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent
    for what, figure in measures(read(root)):
        print(f"{what}: {figure}")


if __name__ == "__main__":
    main()
