"""Refuses, at submit, what a method gives and nobody would take: Python itself drops it without a word.

What the source doesn't show (`return (yield from f())`, methods without source) is refused by
`worker.tasks.values` when it happens.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import FunctionType
from typing import Final

from mrq.errors import JobDefinitionError
from mrq.job import source
from mrq.job.base import MAPS, Job, called, defined

#: Names of other systems for our methods, which nothing would call -> what to write.
_ELSEWHERE: Final[Mapping[str, str]] = {
    "reducer": "rename it to reduce",
    "combiner": "rename it to combine",
    "partitioner": "rename it to partition",
    "mapper_init": "rename it to setup",
    "reducer_init": "rename it to setup",
    "combiner_init": "rename it to setup",
    "setUp": "rename it to setup",
    "set_up": "rename it to setup",
    "tearDown": "rename it to teardown",
    "tear_down": "rename it to teardown",
    "mapper_final": "write `def map_split(self, records):`, which yields what comes last behind its loop",
    "reducer_final": "rename it to teardown, which can't emit, or let a second job do that",
    "combiner_final": "rename it to teardown, which can't emit",
}
_INSTEAD: Final[Mapping[str, str]] = {
    "setup": "write it without `yield`, and keep what it makes in self",
    "teardown": "to emit at the end of a split write `def map_split(self, records):`, which yields what "
    "comes last behind its loop",
}


def check(job: type[Job]) -> None:
    """Raise JobDefinitionError for what would be dropped, with its line."""
    for hook in (*MAPS, "combine", "reduce"):  # whose results count, as a generator's or as a list
        function, name = _function(job, hook), called(job, hook)
        if function is not None and defined(job, hook):
            for each in filter(inspect.isgeneratorfunction, (function, *_decorated(name, function))):
                for value, text, where in _returned(each):
                    raise JobDefinitionError(
                        f"{where}: `return {text}`: {name} yields, so Python drops what it returns; "
                        f"write {_yielded(hook, value, text)} and a bare `return` after it"
                    )
    for hook in ("setup", "teardown"):  # which are called for what they do
        function = _function(job, hook)
        if function is not None and defined(job, hook):
            _check_alone(hook, function)
    partition = _function(job, "partition")
    if partition is not None and inspect.isgeneratorfunction(partition):
        raise JobDefinitionError(
            f"{source.at(partition)}{called(job, 'partition')} yields; it must return an int from 0 to n-1: "
            "write `return …`"
        )


def _function(job: type[Job], name: str) -> FunctionType | None:
    """The Python function that is the method of that name, as it is written."""
    return source.function_of(inspect.getattr_static(job, name, None))


def _decorated(hook: str, function: FunctionType) -> Iterator[FunctionType]:
    """The method of that name that a decorator without functools.wraps calls."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # of a name that isn't bound yet
            inner = cell.cell_contents
            if isinstance(inner, FunctionType) and inner.__name__ == hook:
                yield inner


def _returned(function: FunctionType) -> Iterator[tuple[ast.expr, str, str]]:
    """(what, its text, where) of each `return` that certainly, or most likely, gives something; what `yield`
    gives only the run shows."""
    tree, file = source.tree_of(function), function.__code__.co_filename
    for node in source.inside(tree) if tree is not None else ():
        if not isinstance(node, ast.Return) or isinstance(node.value, ast.Yield | ast.YieldFrom):
            continue
        if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            text = source.segment(file, node.value)
            shown = text if len(text) <= 80 else text[:77] + "…"
            yield node.value, shown, source.place(file, node.lineno)


def _yielded(hook: str, value: ast.expr, text: str) -> str:
    """The statement that gives what was to be returned."""
    if isinstance(value, ast.List | ast.ListComp | ast.GeneratorExp | ast.Set | ast.SetComp):
        return f"`yield from {text}`"
    if isinstance(value, ast.Tuple):
        return f"`yield {text}`"
    if hook == "map_block" and isinstance(value, ast.Dict | ast.DictComp):
        return f"`yield from {text}.items()`"
    if hook.startswith("map"):
        return f"`yield from {text}`"
    if isinstance(value, ast.Constant | ast.BinOp | ast.UnaryOp | ast.JoinedStr | ast.Dict | ast.Compare):
        return f"`yield {text}`"
    return f"`yield {text}` (or `yield from {text}` if it holds several)"


def _check_alone(hook: str, function: FunctionType) -> None:
    """Refuse a setup or teardown that yields, which would never run, or that returns something."""
    if inspect.isgeneratorfunction(function):
        tree, file = source.tree_of(function), function.__code__.co_filename
        made = [n for n in source.inside(tree) if isinstance(n, ast.Yield | ast.YieldFrom)] if tree else []
        where = f"{source.place(file, made[0].lineno)}: " if made else source.at(function)
        raise JobDefinitionError(
            f"{where}{hook} yields, so Python makes a generator of it, and nothing in it would run; "
            f"{_INSTEAD[hook]}"
        )
    for value, text, where in _returned(function):
        if isinstance(value, _DISPLAYS):
            raise JobDefinitionError(
                f"{where}: `return {text}`: nothing takes what {hook} returns; {_INSTEAD[hook]}"
            )


#: What is plainly something; of a call or a name only the run shows whether it is None.
_DISPLAYS: Final = (
    *(ast.List, ast.Tuple, ast.Dict, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
    *(ast.Constant, ast.JoinedStr),
)


def check_never_called(job: type[Job]) -> None:
    """Refuse methods under the names of other systems, unless the job's own code names them."""
    if "__post_init__" in {name for base in job.__mro__ for name in vars(base)}:
        raise JobDefinitionError(
            f"{source.at(_function(job, '__post_init__'))}{job.__name__} defines __post_init__, which "
            "nothing calls: a job isn't a dataclass; do that in `def setup(self):`, which each attempt calls "
            "first"
        )
    for name, advice in _ELSEWHERE.items():
        function = _function(job, name)
        if function is None or _is_named(job, name):
            continue
        raise JobDefinitionError(
            f"{source.at(function)}{job.__name__}.{name} is no method of mrq's, so nothing would call it; "
            f"{advice}"
        )


def _is_named(job: type[Job], name: str) -> bool:
    """Whether the files of the job's classes use an attribute or a variable of that name."""
    modules = {inspect.getmodule(base) for base in job.__mro__}
    files = [str(getattr(module, "__file__", None) or "") for module in modules]
    for file in files:
        tree = source.tree_of_file(file) if file and source.is_users(file) else None
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.Attribute) and node.attr == name:
                return True
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
                return True
    return False
