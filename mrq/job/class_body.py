"""What a class's body makes from parameters' defaults, told from its source.

The body runs once, when its file is imported: what it computes from `n` has the default of the parameter n,
whatever n is given later. So its statements are read in the order in which Python runs them, and each name
is followed that is made from a parameter: by `m = n`, `a, m = 1, n`, `(m := n)`, a loop, a default argument
or a decorator, or in an `if` that asks for n. Only names are followed: what is appended to a list and taken
out again, read with `vars()`, or computed outside of the class can't be told from here.
"""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeAlias

from mrq.job import source
from mrq.job.base import Job

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_Comprehension: TypeAlias = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """An expression that has a parameter's default."""

    node: ast.AST
    parameter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a statement of the body binds, and from what."""

    names: tuple[str, ...]
    statement: ast.stmt
    value: ast.expr | None  #: what is assigned to the names; None where no single expression is
    in_method: ast.expr | None  #: that as a method would write it, `self.n + 1`; None where it can't be told
    evaluated: tuple[ast.expr, ...]  #: all that the body evaluates for it
    uses: tuple[Use, ...]  #: the defaults in that
    chosen_by: Use | None  #: the default that decides whether the statement runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The body of one of a job's classes, read to its end."""

    owner: type
    file: str
    tree: ast.ClassDef
    made: list[Made] = field(default_factory=list)  #: in the order of the source
    bound: dict[str, list[Made]] = field(default_factory=dict)  #: by name, what may have bound it last
    origin: dict[str, str] = field(default_factory=dict)  #: by name, the parameter that it is made from
    in_method: dict[str, ast.expr] = field(default_factory=dict)  #: by name, what a method would write for it

    def methods(self) -> Iterator[Function]:
        """Functions that are defined in the body, also those under an `if`."""
        for node in (self.tree, *source.inside(self.tree)):
            for child in ast.iter_child_nodes(node):
                if isinstance(child, Function):
                    yield child


Bodies: TypeAlias = Mapping[type, Body]


def bodies(job: type[Job]) -> Bodies:
    """The bodies of a job's class and its bases by class, as far as their source is there."""
    found: dict[type, Body] = {}
    for owner in reversed(job.__mro__):
        if owner is Job or owner.__module__.partition(".")[0] in sys.stdlib_module_names:
            continue
        place = source.class_of(owner)
        if place is not None:
            body = found[owner] = Body(owner=owner, file=place[0], tree=place[1])
            _Reader(job, body, found).read(body.tree.body, None, once=True)
    return found


def provider_of(cls: type, name: str) -> type | None:
    """The class that an attribute of `cls` comes from."""
    return next((base for base in cls.__mro__ if name in vars(base)), None)


def parameter_of(node: ast.AST, body: Body, job: type[Job], known: Bodies) -> str | None:
    """The parameter whose default an expression has: `n`, a name that is made from it, or `Base.n`."""
    if isinstance(node, ast.Name):
        if not isinstance(node.ctx, ast.Load):
            return None
        return node.id if is_parameter(node.id, body.owner) else body.origin.get(node.id)
    above = meant(node.value, body.owner) if isinstance(node, ast.Attribute) else None
    if not isinstance(node, ast.Attribute) or above not in job.__mro__:
        return None
    if node.attr in getattr(above, "__mrq_parameters__", ()):
        return node.attr
    provider = provider_of(above, node.attr)
    return known[provider].origin.get(node.attr) if provider is not None and provider in known else None


def is_parameter(name: str, owner: type) -> bool:
    """Whether who writes the name in a class's body means a parameter.

    One that has no value there, for it is inherited or required, is the module's own of that name.
    """
    if name not in getattr(owner, "__mrq_parameters__", ()):
        return False
    if name in vars(owner):
        return True
    other = vars(sys.modules.get(owner.__module__, object)).get(name)
    return other is not None and not callable(other) and not isinstance(other, ModuleType)


def meant(node: ast.expr, owner: type) -> Any:
    """What `name` or `module.name` is in the file of a class; None for anything else."""
    names = vars(sys.modules.get(owner.__module__, object))
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = names.get(node.value.id)  # nothing of the user's is run: modules may have a __getattr__
        return vars(module).get(node.attr) if isinstance(module, ModuleType) else None
    return names.get(node.id) if isinstance(node, ast.Name) else None


def evaluated(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of an expression that are evaluated at once and see the names of the class.

    Of a lambda these are its defaults, of a comprehension its first iterable.
    """
    yield node
    inner: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.Lambda):
        inner = _defaults(node.args)
    elif isinstance(node, _Comprehension):
        inner = (node.generators[0].iter,)
    for child in inner:
        yield from evaluated(child)


class _Reader:
    """Fills a body, statement by statement."""

    def __init__(self, job: type[Job], body: Body, known: Bodies) -> None:
        self._job = job
        self._body = body
        self._known = known

    def read(self, statements: Sequence[ast.stmt], chosen_by: Use | None, *, once: bool) -> None:
        """`once`: whether each of these runs, and once."""
        for statement in statements:
            own = tuple(_own(statement))
            for node in [node for expression in own for node in evaluated(expression)]:
                if isinstance(node, ast.NamedExpr):
                    self._bind(((node.target.id,), node.value, ()), statement, chosen_by, once=False)
            for binding in _bindings(statement):
                self._bind(binding, statement, chosen_by, once=once and not isinstance(statement, ast.For))
            blocks = tuple(_blocks(statement))
            always = isinstance(statement, ast.With)
            uses = self._uses(own) if blocks and not always else ()
            for block in blocks:
                self.read(block, chosen_by or next(iter(uses), None), once=once and always)

    def _bind(self, binding: _Binding, statement: ast.stmt, chosen_by: Use | None, *, once: bool) -> None:
        body = self._body
        named, value, others = binding
        names, bound_to = tuple(named), tuple(others) if value is None else (value, *others)
        uses = self._uses(bound_to)
        in_method: ast.expr | None = None
        if uses and value is not None:
            rewriting = _InMethod(self._job, body, self._known)
            rewritten: ast.expr = rewriting.visit(copy.deepcopy(value))
            in_method = rewritten if rewriting.complete else None
        made = Made(
            names=names,
            statement=statement,
            value=value,
            in_method=in_method,
            evaluated=bound_to,
            uses=uses,
            chosen_by=chosen_by,
        )
        body.made.append(made)
        for name in names:
            if once:
                body.bound[name] = []
                body.origin.pop(name, None)
            body.bound.setdefault(name, []).append(made)
            use = uses[0] if uses else chosen_by
            if use is not None and not is_parameter(name, body.owner):
                body.origin[name] = use.parameter
            if made.in_method is not None and len(body.bound[name]) == 1 and chosen_by is None:
                body.in_method[name] = made.in_method
            else:
                body.in_method.pop(name, None)

    def _uses(self, expressions: Iterable[ast.expr]) -> tuple[Use, ...]:
        return tuple(
            Use(node=node, parameter=name)
            for expression in expressions
            for node in evaluated(expression)
            if (name := parameter_of(node, self._body, self._job, self._known)) is not None
        )


class _InMethod(ast.NodeTransformer):
    """Puts `self.` before each parameter, and for a name that is made from one what it is made by."""

    def __init__(self, job: type[Job], body: Body, known: Bodies) -> None:
        self.complete = True  #: whether all could be replaced
        self._job = job
        self._body = body
        self._known = known

    def visit_Name(self, node: ast.Name) -> ast.expr:
        body = self._body
        if is_parameter(node.id, body.owner):
            return _self(node.id)
        if node.id not in body.bound:
            return node
        if node.id not in body.origin:
            return _self(node.id)
        self.complete = self.complete and node.id in body.in_method
        return body.in_method.get(node.id, node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        name = parameter_of(node, self._body, self._job, self._known)
        if name is None:
            self.generic_visit(node)
            return node
        self.complete = self.complete and name == node.attr
        return _self(name)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.expr:
        made: ast.expr = self.visit(node.value)
        return made

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        self.complete = self.complete and not any(_defaults(node.args))
        return node


def _self(name: str) -> ast.expr:
    return ast.Attribute(ast.Name("self", ast.Load()), name, ast.Load())


#: Names, what they are bound to where that is a single expression, and what else is evaluated for them.
_Binding: TypeAlias = tuple[Iterable[str], ast.expr | None, Iterable[ast.expr]]


def _bindings(statement: ast.stmt) -> Iterator[_Binding]:
    """What a statement binds by itself; what the statements inside it bind is theirs."""
    match statement:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield from _assigned(target, value)
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            yield from _assigned(target, value)
        case ast.AugAssign(target=target, value=value):
            before = [ast.Name(name, ast.Load()) for name in _names(target)]
            yield _names(target), None, (value, *before)
        case ast.For(target=target, iter=value):
            yield _names(target), None, (value,)
        case ast.With(items=items):
            for item in items:
                if item.optional_vars is not None:
                    yield _names(item.optional_vars), None, (item.context_expr,)
        case ast.Match(subject=subject, cases=cases):
            captured = [node for case in cases for node in ast.walk(case.pattern)]
            yield [n for node in captured if (n := getattr(node, "name", None))], None, (subject,)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield [statement.name], None, _own(statement)
        case ast.Delete(targets=targets):
            yield [name for target in targets for name in _names(target)], None, ()
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield [(n.asname or n.name).partition(".")[0] for n in names], None, ()


def _assigned(target: ast.expr, value: ast.expr) -> Iterator[_Binding]:
    """`a, b = 1, n` item by item; where the items can't be told apart each name has all."""
    if isinstance(target, ast.Name):
        yield [target.id], value, ()
        return
    if not isinstance(target, ast.Tuple | ast.List):
        before = [ast.Name(name, ast.Load()) for name in _names(target)]
        yield _names(target), None, (value, *before)  # after `kept["n"] = n`
        return
    items = value.elts if isinstance(value, ast.Tuple | ast.List) else []
    starred = any(isinstance(item, ast.Starred) for item in (*target.elts, *items))
    if starred or len(items) != len(target.elts):
        yield _names(target), None, (value,)
        return
    for inner, item in zip(target.elts, items, strict=True):
        yield from _assigned(inner, item)


def _names(target: ast.expr) -> list[str]:
    if isinstance(target, ast.Tuple | ast.List):
        return [name for inner in target.elts for name in _names(inner)]
    if isinstance(target, ast.Starred | ast.Attribute | ast.Subscript):
        return _names(target.value)
    return [target.id] if isinstance(target, ast.Name) else []


def _own(statement: ast.stmt) -> Iterator[ast.expr]:
    """The expressions that a statement evaluates by itself: of `if` the condition, of `def` the defaults."""
    if isinstance(statement, Function):
        yield from statement.decorator_list
        yield from _defaults(statement.args)
        return
    for node in ast.iter_child_nodes(statement):
        if isinstance(node, ast.expr):
            yield node
        elif isinstance(node, ast.withitem):
            yield node.context_expr
        elif isinstance(node, ast.keyword):
            yield node.value
        elif isinstance(node, ast.match_case) and node.guard is not None:
            yield node.guard


def _defaults(arguments: ast.arguments) -> Iterator[ast.expr]:
    yield from arguments.defaults
    yield from (default for default in arguments.kw_defaults if default is not None)


def _blocks(statement: ast.stmt) -> Iterator[Sequence[ast.stmt]]:
    """The statements inside another one, block by block."""
    if isinstance(statement, Function | ast.ClassDef):
        return
    for part in (statement, *getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        for name in ("body", "orelse", "finalbody"):
            if block := getattr(part, name, None):
                yield block
