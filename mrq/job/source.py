"""Where in the user's code something is: `file:line`, the source line, the syntax tree of a method."""

from __future__ import annotations

import ast
import linecache
import os
import threading
import traceback
from collections.abc import Iterator
from functools import lru_cache
from types import FunctionType, TracebackType
from typing import Any, Final

from mrq.errors import MrqError

_CYTHON: Final = (".pyx", ".pxd", ".pxi")
#: Held by what reads source, in whichever thread: `linecache` loses entries that it has just found, and
#: Python 3.11's `ast.parse` counts its depth for all threads together (SystemError: AST constructor
#: recursion depth mismatch). Reentrant: a job's module runs while it is loaded.
ONE_BY_ONE: Final = threading.RLock()

_OURS: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def place(file: str, line: int) -> str:
    """`jobs/wordcount.py:12`, relative where the file is below the current folder."""
    return f"{short_path(file)}:{line}"


def short_path(file: str) -> str:
    """The path as people name it: relative below the current folder, else absolute."""
    try:
        relative = os.path.relpath(file)
    except (OSError, ValueError):
        return file
    return file if relative.startswith("..") else relative


def function_of(hook: Any) -> FunctionType | None:
    """The Python function behind a method, decorated or static ones too; None for anything else."""
    hook = getattr(hook, "__func__", hook)
    while hasattr(hook, "__wrapped__"):
        hook = hook.__wrapped__
    return hook if isinstance(hook, FunctionType) else None


def at(hook: Any) -> str:
    """`file:line: ` of a method's `def`, for a message to begin with; "" where there is no source."""
    function = function_of(hook)
    return f"{place(function.__code__.co_filename, def_line(function))}: " if function is not None else ""


def def_line(function: FunctionType) -> int:
    """The line of `def` itself, not of its decorators."""
    node = tree_of(function)
    return node.lineno if node is not None else function.__code__.co_firstlineno


def line_text(file: str, line: int) -> str:
    """One source line, stripped; "" where there is none."""
    linecache.checkcache(file)
    return linecache.getline(file, line).strip()


def tree_of(function: FunctionType) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The syntax tree of a function, with the file's own line numbers; None without its source."""
    tree = tree_of_file(function.__code__.co_filename)
    first = function.__code__.co_firstlineno  # of the first decorator, if there is one
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function.__name__:
            top = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first in (top, node.lineno):
                return node
    return None


def class_of(cls: type) -> tuple[str, ast.ClassDef] | None:
    """The file of a class and its syntax tree; None without source."""
    import inspect

    try:
        file = inspect.getsourcefile(cls)
    except TypeError:
        return None
    tree = tree_of_file(file) if file is not None else None
    if tree is None:
        return None
    found = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == cls.__name__]
    if len(found) > 1:  # which of them takes `inspect` 20 ms to say
        try:
            line = inspect.getsourcelines(cls)[1]
        except (OSError, TypeError):
            return None
        found = [n for n in found if line in (n.lineno, *(d.lineno for d in n.decorator_list))]
    return (str(file), found[0]) if found else None


def at_class(cls: type) -> str:
    """`file:line: ` of a class, for a message to begin with; "" where there is no source."""
    found = class_of(cls)
    return f"{place(found[0], found[1].lineno)}: " if found is not None else ""


def tree_of_file(file: str) -> ast.Module | None:
    """The syntax tree of a source file as it is now; None where there is none."""
    linecache.checkcache(file)
    return _parsed("".join(linecache.getlines(file)))


@lru_cache(maxsize=4)
def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return None


def inside(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node below, without those of nested functions and classes, in the order of the source."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        yield node
        yield from inside(node)


def segment(file: str, node: ast.expr) -> str:
    """The source text of an expression in a file, on one line."""
    text = ast.get_source_segment("".join(linecache.getlines(file)), node)
    return " ".join((text if text is not None else ast.unparse(node)).split())


def describe_import_error(exc: BaseException, file: str) -> str:
    """One sentence for what importing the user's code raised: where, the source line, and what."""
    if isinstance(exc, SyntaxError) and exc.filename:
        text = (exc.text or line_text(exc.filename, exc.lineno or 0)).strip()
        return f"{place(exc.filename, exc.lineno or 0)}: {type(exc).__name__}: {exc.msg}: `{text}`"
    frame = user_frame(exc.__traceback__)
    said = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    if isinstance(exc, MrqError):
        said = str(exc)  # ours says all by itself
    elif isinstance(exc, ModuleNotFoundError):
        in_executor = os.environ.get("MRQ_EXECUTOR") == "1"
        machine = "which runs a worker's executor" if in_executor else "where this command runs"
        said += f" on {os.uname().nodename}, {machine}"
    if frame is None:
        return f"{short_path(file)}: {said}"
    return f"{place(*frame)}: {said}: `{line_text(*frame)}`"


def user_frame(trace: TracebackType | None) -> tuple[str, int] | None:
    """(file, line) of the innermost frame that is neither mrq's nor the import system's nor a library's."""
    found: tuple[str, int] | None = None
    for frame, line in traceback.walk_tb(trace):
        file = frame.f_code.co_filename
        if is_users(file):
            found = (file, line)
    return found


def is_users(file: str) -> bool:
    """Whether a code object's file is the user's: not mrq's, not generated, not installed."""
    if file.startswith("<") or os.path.abspath(file).startswith(_OURS):
        return False
    if file.endswith(_CYTHON) and not os.path.isabs(file):  # named as when a library was built
        return False
    parts = file.split(os.sep)
    if "site-packages" in parts or "dist-packages" in parts:
        return False
    return not file.startswith(os.path.dirname(os.__file__) + os.sep)
