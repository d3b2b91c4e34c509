"""Prints the measures of the house: how large mrq/ is, and how many of each kind of thing it has.

    python infra/measures.py [FOLDER]          FOLDER is a checkout; this one by default

Everything is read from the source by `ast`; nothing is imported. What each figure counts is said beside it,
so that the figures of two commits can be compared.
"""

from __future__ import annotations

import ast
import sys
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
    yield "kinds of messages (classes in unions)", str(len(messages(house)))
    yield "class names that stand twice", f"{len(twice)} ({', '.join(twice)})"
    yield "module names that stand twice", f"{len(modules)} ({', '.join(modules)})"
    yield "loose modules at the top of mrq/", f"{len(loose)} ({', '.join(loose)})"


def main() -> None:
    """Print every measure, one a line."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent
    for what, figure in measures(read(root)):
        print(f"{what}: {figure}")


if __name__ == "__main__":
    main()
