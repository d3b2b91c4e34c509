"""Parameters as arguments: `mrq.top("n")` names one; `mrq.top(n)` has only its default, and is refused.

The body of a class runs once, when its file is imported, with the parameters' defaults. What is computed
there from a parameter's name is the same whatever `--set` says, without a word. `class_body` says what that
is; refused is what reaches the job: as one of its methods, as a built-in, or read by a method through self.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from mrq.errors import JobDefinitionError, UsageValueError
from mrq.job import source
from mrq.job.base import HOOKS, METHODS, Job, called, def_of, title
from mrq.job.builtins import BuiltIn, bottom, top
from mrq.job.class_body import (
    Bodies,
    Body,
    Function,
    Made,
    Use,
    bodies,
    evaluated,
    meant,
    provider_of,
)
from mrq.settings.checks import nearest


def check(job: type[Job]) -> None:
    """Raise JobDefinitionError where a built-in names no parameter, or a default is there for good."""
    reduce = inspect.getattr_static(job, "reduce", None)
    if isinstance(reduce, BuiltIn):
        named, declared = reduce.parameter, job.__mrq_parameters__
        if named is not None and named not in declared:
            raise JobDefinitionError(
                f"{source.at_class(job)}reduce = {reduce!r}: {title(job)} has no parameter {named!r}"
                f"{nearest(named, declared)}"
            )
    if job.__mrq_parameters__:
        _Check(job).run()


def check_values(job: type[Job], values: Mapping[str, Any]) -> None:
    """Raise UsageError for a parameter's value that a built-in can't take as its argument."""
    reduce = inspect.getattr_static(job, "reduce", None)
    if not isinstance(reduce, BuiltIn) or reduce.parameter is None:
        return
    name = reduce.parameter
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageValueError(
            f"parameter {name} of {title(job)} is {value!r} (a {type(value).__name__}), and "
            f"reduce = {reduce!r} takes a whole number of at least 1 from it"
        )


@lru_cache(maxsize=1)
def _bodies_of(job: type[Job]) -> Bodies:
    """The bodies of a job's class and its bases: read once for all its stages."""
    return bodies(job)


class _Check:
    """Refuses what one job would have of a parameter's default, whatever the parameter is given."""

    def __init__(self, job: type[Job]) -> None:
        self._job = job
        of = job.__mrq_stage__
        self._whole = of is None  #: else the class's own bodies were looked at already
        self._bodies: Bodies = _bodies_of(job if of is None else job.__mro__[1])
        #: How each method of mrq's begins, by what the job calls it.
        self._lines = {called(job, hook): def_of(job, hook) for hook in METHODS}

    def run(self) -> None:
        for body in self._bodies.values() if self._whole else ():
            for made in body.made:  # `kept = mrq.top(n)`, whatever becomes of it
                if not made.names or set(made.names) & set(HOOKS):
                    continue  # of a method's name only what is there at the end counts
                for node in _arguments(made, body.owner):
                    use = next((use for use in made.uses if use.node is node), None)
                    if use is not None:
                        self._refuse(body, made.names[0], made, use)
        for name in self._lines:
            provider = self._bodies.get(provider_of(self._job, name) or Job)
            if provider is not None:
                for made in provider.bound.get(name, ()):
                    self._check_made(provider, name, made)
        if self._whole:
            self._check_read()

    def _check_made(self, body: Body, name: str, made: Made) -> None:
        for use in made.uses:
            self._refuse(body, name, made, use)
        choice = made.chosen_by
        if choice is not None:
            raise JobDefinitionError(
                f"{source.place(body.file, made.statement.lineno)}: {name} is chosen by the default of the "
                f"parameter {choice.parameter}{_through(choice)}, whatever {choice.parameter} is given: the "
                f"body of a class runs once; write `{self._lines.get(name, 'def …(self):')}`, which asks for "
                f"self.{choice.parameter}"
            )

    def _check_read(self) -> None:
        """Refuse `limit = 2 * width` in the body where a method reads `self.limit`."""
        read: dict[str, str] = {}
        kept: set[str] = set()
        for body in self._bodies.values():
            for method in body.methods():
                if provider_of(self._job, method.name) is not body.owner:
                    continue
                for node in _of_self(method):
                    if isinstance(node.ctx, ast.Load):
                        read.setdefault(node.attr, source.place(body.file, node.lineno))
                    else:
                        kept.add(node.attr)  # setup makes its own
        for name, where in read.items():
            provider = self._bodies.get(provider_of(self._job, name) or Job)
            if provider is None or name in kept or name in self._lines or name not in provider.origin:
                continue
            for made in provider.bound[name]:
                if isinstance(made.statement, Function):
                    self._check_made(provider, name, made)
                elif made.uses or made.chosen_by:
                    parameter = provider.origin[name]
                    right = f"self.{name} from self.{parameter}"
                    if made.in_method is not None and made.chosen_by is None:
                        right = f"`self.{name} = {ast.unparse(made.in_method)}`"
                    raise JobDefinitionError(
                        f"{where}: self.{name} has the default of the parameter {parameter}, whatever "
                        f"{parameter} is given: it is made in the body of the class "
                        f"({source.place(provider.file, made.statement.lineno)}), which runs once; make it "
                        f"in setup: {right}"
                    )

    def _refuse(self, body: Body, name: str, made: Made, use: Use) -> None:
        """Raise JobDefinitionError for what a name is bound to."""
        where = source.place(body.file, getattr(use.node, "lineno", made.statement.lineno))
        has = f"the default of the parameter {use.parameter}"
        if isinstance(use.node, ast.Name) and use.node.id not in {*vars(body.owner), *body.bound}:
            has = f"the {use.parameter} of its module, and not the parameter {use.parameter}"
        whatever = f"{_through(use)}, whatever {use.parameter} is given"
        if isinstance(made.statement, Function):
            decorators = [node for each in made.statement.decorator_list for node in evaluated(each)]
            how = "in a decorator" if use.node in decorators else "as a default argument"
            raise JobDefinitionError(
                f"{where}: {name} takes {has} {how}{whatever}; use self.{use.parameter} inside instead"
            )
        text = source.line_text(body.file, made.statement.lineno)
        if made.value is not None:
            text = f"{name} = {source.segment(body.file, made.value)}"
        raise JobDefinitionError(
            f"{where}: `{text}` has {has}{whatever}: the body of a class runs once; "
            f"write {self._instead(body, name, made, use)}"
        )

    def _instead(self, body: Body, name: str, made: Made, use: Use) -> str:
        """What to write for what the body of the class makes."""
        if name not in self._lines:
            return f"`mrq.top(self.{use.parameter})(key, values)`, or bottom, in reduce where it is used"
        call = made.in_method
        if call is None or not isinstance(inspect.getattr_static(self._job, name), BuiltIn):
            return f"`{self._lines[name]}`, which computes it from self.{use.parameter}"
        if not isinstance(call, ast.Call):
            return f"`{self._lines[name]} return ({ast.unparse(call)})(key, values)`"
        alone = len(call.args) == len(made.uses) == 1 and ast.unparse(call.args[0]) == f"self.{use.parameter}"
        if alone and meant(call.func, body.owner) in (top, bottom):
            rest = "".join(f", {k.arg}={ast.unparse(k.value)}" for k in call.keywords)
            return f'`reduce = {ast.unparse(call.func)}("{use.parameter}"{rest})`'
        return f"`{self._lines[name]} return {ast.unparse(call)}(key, values)`"


def _arguments(made: Made, owner: type) -> Iterator[ast.AST]:
    """What is evaluated for the arguments of each `mrq.top(…)` and `mrq.bottom(…)` in a statement."""
    for node in (node for expression in made.evaluated for node in evaluated(expression)):
        called = meant(node.func, owner) if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Call) and (called is top or called is bottom):
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                yield from evaluated(argument)


def _of_self(method: Function) -> Iterator[ast.Attribute]:
    """`self.name`, wherever it is in a method."""
    arguments = [*method.args.posonlyargs, *method.args.args]
    for node in ast.walk(method) if arguments else ():
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
            continue
        if node.value.id == arguments[0].arg:
            yield node


def _through(use: Use) -> str:
    """` (m is made from it)`, where the source doesn't name the parameter itself."""
    name = ast.unparse(use.node)
    return "" if name.rpartition(".")[2] == use.parameter else f" ({name} is made from it)"
