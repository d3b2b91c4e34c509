"""Parameters as arguments: `mrq.top("n")` names one; `mrq.top(n)` has only its default, and is refused.

The body of a class runs once, when its file is imported, with the parameters' defaults. What is computed
there from a parameter's name is the same whatever `--set` says, without a word; so is a default argument.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mrq.errors import JobDefinitionError, UsageError
from mrq.job import source
from mrq.job.base import Job
from mrq.job.builtins import BuiltIn
from mrq.job.setting_checks import nearest

_WITH_ARGUMENTS: Final = ("map", "map_split", "map_block", "combine", "reduce", "partition")


def check(job: type[Job]) -> None:
    """Raise JobDefinitionError where a built-in names no parameter, or takes the default of one silently."""
    reduce = inspect.getattr_static(job, "reduce", None)
    if isinstance(reduce, BuiltIn):
        named, declared = reduce.parameter, job.__mrq_parameters__
        if named is not None and named not in declared:
            raise JobDefinitionError(
                f"{_at(job)}reduce = {reduce!r}: {job.__name__} has no parameter {named!r}"
                f"{nearest(named, declared)}"
            )
        _check_taken(job)
    for hook in _WITH_ARGUMENTS:
        _check_defaults(job, hook)


def check_values(job: type[Job], values: Mapping[str, Any]) -> None:
    """Raise UsageError for a parameter's value that a built-in can't take as its argument."""
    reduce = inspect.getattr_static(job, "reduce", None)
    if not isinstance(reduce, BuiltIn) or reduce.parameter is None:
        return
    name = reduce.parameter
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(
            f"parameter {name} of {job.__name__} is {value!r} (a {type(value).__name__}), and "
            f"reduce = {reduce!r} takes a whole number of at least 1 from it"
        )


def _check_taken(job: type[Job]) -> None:
    """Refuse `n: int = 3; reduce = mrq.top(n)`."""
    owner = next(base for base in job.__mro__ if "reduce" in vars(base))
    found = source.class_of(owner)
    if found is None:
        return
    file = found[0]
    made = [node for node in found[1].body if "reduce" in _targets(node)]
    if not made or not isinstance(made[-1], ast.Assign | ast.AnnAssign) or made[-1].value is None:
        return
    whole = made[-1].value
    for node in _evaluated(whole):
        if not isinstance(node, ast.Name) or not _is_parameter(owner, node.id):
            continue
        text = source.segment_of_file(file, whole)
        right = f"def reduce(self, key, values): return {_with_self(whole, owner)}(key, values)"
        if isinstance(whole, ast.Call) and whole.args and whole.args[0] is node and len(whole.args) == 1:
            others = any(_names(k.value, owner) for k in whole.keywords)
            if not others:
                right = f"reduce = {_quoted(whole)}"
        raise JobDefinitionError(
            f"{source.place(file, node.lineno)}: `reduce = {text}` has the default of the parameter "
            f"{node.id}, whatever {node.id} is given: the body of a class runs once; write `{right}`"
        )


def _check_defaults(job: type[Job], hook: str) -> None:
    """Refuse `def reduce(self, key, values, n=n)`."""
    function = source.function_of(inspect.getattr_static(job, hook, None))
    owner = next((base for base in job.__mro__ if hook in vars(base)), None)
    tree = source.tree_of(function) if function is not None else None
    if tree is None or owner is None:
        return
    for default in (*tree.args.defaults, *tree.args.kw_defaults):
        for node in _evaluated(default) if default is not None else ():
            if isinstance(node, ast.Name) and _is_parameter(owner, node.id):
                assert function is not None
                where = source.place(function.__code__.co_filename, node.lineno)
                raise JobDefinitionError(
                    f"{where}: {hook} takes the default of the parameter {node.id} as a default argument, "
                    f"whatever {node.id} is given; use self.{node.id} inside instead"
                )


def _targets(node: ast.stmt) -> list[str]:
    """The names that a statement of a class's body binds, as far as matters here."""
    found: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        found = node.targets
    elif isinstance(node, ast.AnnAssign):
        found = [node.target]
    elif isinstance(node, ast.FunctionDef):
        return [node.name]
    return [target.id for target in found if isinstance(target, ast.Name)]


def _evaluated(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of an expression that are evaluated with it: those inside lambdas are later."""
    if isinstance(node, ast.Lambda):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _evaluated(child)


def _is_parameter(owner: type, name: str) -> bool:
    """Whether the name in the class's own body is a parameter's: inherited ones aren't seen there."""
    declared: Mapping[str, Any] = getattr(owner, "__mrq_parameters__", {})
    return name in declared and name in vars(owner)


def _names(node: ast.AST, owner: type) -> bool:
    return any(isinstance(n, ast.Name) and _is_parameter(owner, n.id) for n in _evaluated(node))


def _quoted(call: ast.Call) -> str:
    """`mrq.top("n")` for `mrq.top(n)`."""
    name = call.args[0]
    assert isinstance(name, ast.Name)
    rest = "".join(f", {k.arg}={ast.unparse(k.value)}" for k in call.keywords)
    return f'{ast.unparse(call.func)}("{name.id}"{rest})'


def _with_self(node: ast.expr, owner: type) -> str:
    """The expression's source with `self.` before each parameter."""

    class Selves(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            if not _is_parameter(owner, node.id):
                return node
            return ast.Attribute(ast.Name("self", ast.Load()), node.id, ast.Load())

        def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
            return node

    import copy

    return ast.unparse(Selves().visit(copy.deepcopy(node)))


def _at(job: type[Job]) -> str:
    where = source.place_of_class(job)
    return f"{where}: " if where else ""
