"""Parameters as arguments: `mrq.top("n")` names one; `mrq.top(n)` has only its default, and is refused.

The body of a class runs once, when its file is imported, with the parameters' defaults. What is computed
there from a parameter's name is the same whatever `--set` says, without a word; so is a default argument.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, Final

from mrq.errors import JobDefinitionError, UsageError
from mrq.job import source
from mrq.job.base import Job
from mrq.job.builtins import BuiltIn, bottom, top
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
    """Refuse `n: int = 3; reduce = mrq.top(n)`, also where a class keeps a built-in under another name."""
    reduced = next((base for base in job.__mro__ if "reduce" in vars(base)), None)
    if not isinstance(inspect.getattr_static(job, "reduce", None), BuiltIn):
        reduced = None
    for owner in job.__mro__:
        if owner is Job or not getattr(owner, "__mrq_parameters__", None):
            continue
        found = source.class_of(owner)
        for made in source.inside(found[1]) if found is not None else ():
            if found is None or not isinstance(made, ast.Assign | ast.AnnAssign) or made.value is None:
                continue
            if "reduce" not in _targets(made):
                nodes = _arguments(made.value, owner)
            elif owner is reduced:
                nodes = _evaluated(made.value)
            else:
                continue  # what another class or a method takes the place of
            _check_made(owner, found[0], _targets(made), made.value, nodes)


def _check_made(
    owner: type, file: str, targets: list[str], whole: ast.expr, nodes: Iterator[ast.AST]
) -> None:
    """Refuse a statement of a class's body if one of the nodes is a parameter's default."""
    for node in nodes:
        name = _parameter_of(node, owner)
        if name is None:
            continue
        text = source.segment_of_file(file, whole)
        called = ast.unparse(_with_self(whole, owner))
        called = called if isinstance(whole, ast.Call) else f"({called})"
        right = f"`def reduce(self, key, values): return {called}(key, values)`"
        if "reduce" not in targets:
            right = f"`mrq.top(self.{name})(key, values)`, or bottom, in reduce where it is used"
        elif isinstance(whole, ast.Call) and whole.args and whole.args[0] is node and len(whole.args) == 1:
            others = any(_names(k.value, owner) for k in whole.keywords)
            if not others:
                right = f"`reduce = {_quoted(whole, name)}`"
        target = "reduce" if "reduce" in targets else next(iter(targets), "…")
        where = source.place(file, getattr(node, "lineno", whole.lineno))
        raise JobDefinitionError(
            f"{where}: `{target} = {text}` has the default of the parameter {name}, whatever {name} is "
            f"given: the body of a class runs once; write {right}"
        )


def _arguments(whole: ast.expr, owner: type) -> Iterator[ast.AST]:
    """What is evaluated for the arguments of each `mrq.top(…)` and `mrq.bottom(…)` in an expression."""
    for node in _evaluated(whole):
        made = _meant(node.func, owner) if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Call) and (made is top or made is bottom):
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                yield from _evaluated(argument)


def _meant(node: ast.expr, owner: type) -> Any:
    """What `name` or `module.name` is in the file of a class; None for anything else."""
    names = vars(sys.modules.get(owner.__module__, object))
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = names.get(node.value.id)  # nothing of the user's is run: modules may have a __getattr__
        return vars(module).get(node.attr) if isinstance(module, ModuleType) else None
    return names.get(node.id) if isinstance(node, ast.Name) else None


def _parameter_of(node: ast.AST, owner: type) -> str | None:
    """The parameter whose default an expression is: `n`, or `Base.n` where a job above has it."""
    if isinstance(node, ast.Name):
        return node.id if _is_parameter(owner, node.id) else None
    if not isinstance(node, ast.Attribute):
        return None
    meant = _meant(node.value, owner)
    above = next((base for base in owner.__mro__ if base is meant), None)
    return node.attr if node.attr in getattr(above, "__mrq_parameters__", ()) else None


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
    return any(_parameter_of(n, owner) is not None for n in _evaluated(node))


def _quoted(call: ast.Call, name: str) -> str:
    """`mrq.top("n")` for `mrq.top(n)`."""
    rest = "".join(f", {k.arg}={ast.unparse(k.value)}" for k in call.keywords)
    return f'{ast.unparse(call.func)}("{name}"{rest})'


def _with_self(node: ast.expr, owner: type) -> ast.expr:
    """The expression with `self.` before each parameter."""

    class Selves(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return _of_self(node, owner)

        def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
            made = _of_self(node, owner)
            if made is node:
                self.generic_visit(node)
            return made

        def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
            return node

    import copy

    made: ast.expr = Selves().visit(copy.deepcopy(node))
    return made


def _of_self(node: ast.Name | ast.Attribute, owner: type) -> ast.expr:
    name = _parameter_of(node, owner)
    return node if name is None else ast.Attribute(ast.Name("self", ast.Load()), name, ast.Load())


def _at(job: type[Job]) -> str:
    where = source.place_of_class(job)
    return f"{where}: " if where else ""
