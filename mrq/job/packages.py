"""Which third-party packages a bundle can't do without: what a submit compares with what workers have."""

from __future__ import annotations

import ast
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping

from mrq.errors import JobDefinitionError
from mrq.job import imports, source


def required(code: bytes) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(module, distributions that have it), for every module that the bundle's files import and that is
    installed here. Imports that the code itself can do without (in a `try`, for type checkers) don't count.
    """
    found: set[str] = set()
    try:
        with source.ONE_BY_ONE, zipfile.ZipFile(io.BytesIO(code)) as archive:
            entries = archive.namelist()
            for name in entries:
                if name.endswith(".py"):
                    found.update(_top_levels(ast.parse(archive.read(name))))
    except (zipfile.BadZipFile, SyntaxError, ValueError) as exc:
        raise JobDefinitionError(f"the job's code can't be read back from its bundle: {exc}") from exc
    own = {name.partition("/")[0].removesuffix(".py") for name in entries}
    names = {name for name in found - own if not imports.is_python_s_or_ours(name)}
    if not names:
        return ()
    from importlib.metadata import packages_distributions

    known: Mapping[str, list[str]] = packages_distributions()
    return tuple((name, tuple(sorted(set(known[name])))) for name in sorted(names) if name in known)


def _top_levels(node: ast.AST) -> Iterator[str]:
    """Top-level names of the absolute imports in `node`, but for those that may fail or don't run there."""
    inside: Iterable[ast.AST]
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
        return
    if isinstance(node, ast.ImportFrom):
        if node.level == 0 and node.module:
            yield node.module.partition(".")[0]
        return
    if isinstance(node, ast.Try | ast.TryStar):
        inside = (*node.orelse, *node.finalbody)
    elif isinstance(node, ast.If) and _elsewhere(node.test):
        inside = node.orelse
    else:
        inside = ast.iter_child_nodes(node)
    for part in inside:
        yield from _top_levels(part)


def _elsewhere(test: ast.expr) -> bool:
    """`if TYPE_CHECKING` and `if __name__ == …`: not for workers."""
    if isinstance(test, ast.Compare):
        return isinstance(test.left, ast.Name) and test.left.id == "__name__"
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"
