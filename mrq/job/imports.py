"""Which of the user's own files a job needs: its imports, followed without running anything.

*Local* is what Python would find under the *root*: the folder of the job file, or the folder above its
outermost package. The standard library, mrq itself and installed packages are not.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Final

from mrq.errors import JobDefinitionError
from mrq.job import source

_SUFFIXES: Final = (".py", *EXTENSION_SUFFIXES)
_INSTALLED: Final = frozenset(("site-packages", "dist-packages"))
_NOT_DATA: Final = (".pyc", ".pyo", ".swp", "~")


def module_of(file: str) -> tuple[str, str]:
    """(dotted module name, root) of a file: `pkg.job` where its folder is a package, else its stem."""
    folder, name = os.path.split(os.path.abspath(file))
    parts = [name.removesuffix(".py")]
    while os.path.isfile(os.path.join(folder, "__init__.py")) and os.path.dirname(folder) != folder:
        folder, package = os.path.split(folder)
        parts.insert(0, package)
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    return ".".join(parts), folder


@dataclass(slots=True)
class LocalFiles:
    """The closure of one job file. `files` maps names inside the bundle to paths."""

    root: str
    files: dict[str, str] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)  #: dotted name -> path, of those reached
    packages: set[str] = field(default_factory=set)  #: outermost packages, taken whole


def follow(file: str, module: str, root: str, ship: Sequence[str] = ()) -> LocalFiles:
    """Everything local that `file` imports, at any depth and inside functions too, with whole packages.

    And the files and folders of `ship` (absolute), with what their own modules import: what lies below the
    root keeps its place, anything else is found by its own name.

    Raises JobDefinitionError, with its line, for a file that isn't Python, and for a path that isn't there or
    can't be shipped under its name.
    """
    found = LocalFiles(root)
    _follow(found, [(module, file)])
    for path in ship:
        _ship(found, path)
    return found


def _ship(found: LocalFiles, path: str) -> None:
    """Add a file or a folder that no import statement names."""
    if not os.path.exists(path):
        raise JobDefinitionError(f"{path}, which should be shipped with the job, isn't there")
    inside = path.startswith(found.root.rstrip(os.sep) + os.sep)
    root = found.root if inside else os.path.dirname(path)
    files = list(_files_below(path)) if os.path.isdir(path) else [path]
    top = os.path.relpath(path, root).split(os.sep)[0].removesuffix(".py")
    if is_python_s_or_ours(top):
        raise JobDefinitionError(
            f"{path} can't be shipped: executors would find it in the place of Python's own {top}; rename it"
        )
    of_it = LocalFiles(root, files={_name_in_bundle(root, each): each for each in files})
    # An extension module is found by its file alone.
    names = [os.path.relpath(each, root).removesuffix(".py") for each in files if each.endswith(".py")]
    modules = [name.removesuffix("/__init__").replace(os.sep, ".") for name in names]
    _follow(of_it, list(zip(modules, (each for each in files if each.endswith(".py")), strict=True)))
    for name, file in of_it.files.items():
        if os.path.realpath(found.files.setdefault(name, file)) != os.path.realpath(file):
            raise JobDefinitionError(
                f"{file} can't be shipped: {found.files[name]} is {name} to executors already; rename one"
            )


def _follow(found: LocalFiles, waiting: list[tuple[str, str]]) -> None:
    """Add modules, and all that they import."""
    root = found.root
    while waiting:
        name, path = waiting.pop()
        if name in found.modules:
            continue
        found.modules[name] = path
        # Its file, or the whole of the outermost package that it lies in.
        folder = root
        for part in name.split("."):
            folder = os.path.join(folder, part)
            if os.path.isfile(os.path.join(folder, "__init__.py")):
                if folder not in found.packages:
                    found.packages.add(folder)
                    for inner in _files_below(folder):
                        found.files[_name_in_bundle(root, inner)] = inner
                break  # what follows adds only a module that a symlinked folder holds
        found.files[_name_in_bundle(root, path)] = path
        if path.endswith(".py"):
            package = name if os.path.basename(path) == "__init__.py" else name.rpartition(".")[0]
            # A package's own __init__ runs first, and may import what its modules don't.
            parts = name.split(".")
            parents = (".".join(parts[:i]) for i in range(1, len(parts)))  # `a.b.c` -> `a`, `a.b`
            wanted = [*parents, *_imported(path, package)]
            waiting.extend(hit for target in wanted for hit in _resolve(root, target))


def _name_in_bundle(root: str, path: str) -> str:
    return os.path.relpath(path, root).replace(os.sep, "/")


def _files_below(folder: str) -> Iterator[str]:
    """Files of a package: code and data, without caches and hidden names."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__pycache__")
        for name in sorted(names):
            path = os.path.join(here, name)
            if not name.startswith(".") and not name.endswith(_NOT_DATA) and os.path.isfile(path):
                yield path


def _imported(path: str, package: str) -> Iterator[str]:
    """Dotted names that a file's import statements may mean, wherever they stand."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".") if package else []
                above = above[: len(above) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            if base:
                yield base
            for alias in node.names:  # each may be a submodule or just a name
                yield f"{base}.{alias.name}" if base else alias.name


def parse(path: str) -> ast.Module:
    """The syntax tree of a file. Raises JobDefinitionError with the line for one that isn't Python."""
    try:
        with open(path, "rb") as f:
            return ast.parse(f.read(), path)
    except SyntaxError as exc:
        raise JobDefinitionError(source.describe_import_error(exc, path)) from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise JobDefinitionError(f"{source.short_path(path)}: {exc}") from exc


def _resolve(root: str, name: str) -> list[tuple[str, str]]:
    """(module, file) of `name` and its parents, as far as they are local files."""
    hits: list[tuple[str, str]] = []
    folder = root
    parts = name.split(".")
    if is_python_s_or_ours(parts[0]):
        return hits
    for i, part in enumerate(parts):
        init = os.path.join(folder, part, "__init__.py")
        plain = next((p for s in _SUFFIXES if os.path.isfile(p := os.path.join(folder, part + s))), None)
        path = init if os.path.isfile(init) else plain
        folder = os.path.join(folder, part)
        if path is None:
            if os.path.isdir(folder):
                continue  # a namespace package has no file of its own
            break
        if not _INSTALLED.isdisjoint(os.path.relpath(path, root).split(os.sep)):
            break  # in a virtual environment below the root, say
        hits.append((".".join(parts[: i + 1]), path))
        if path == plain:
            break
    return hits


def is_python_s_or_ours(name: str) -> bool:
    """Whether a top-level module is the standard library's or mrq's."""
    return name in sys.stdlib_module_names or name == "mrq"
