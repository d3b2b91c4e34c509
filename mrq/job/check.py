"""What is refused at submit, before anything runs: each with one sentence: where, and what to write."""

from __future__ import annotations

import ast
import builtins
import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from mrq.core.model import cannot_skip
from mrq.errors import JobDefinitionError
from mrq.job import arguments, dropped, source, stages
from mrq.job.base import MAPS, METHODS, Job, called, def_of, defined, has_stages, is_job, title
from mrq.job.builtins import BuiltIn
from mrq.settings.job import JobSettings, resolve

#: What users of other systems call our map, told only where it is missing.
_ELSEWHERE: Final = ("mapper", "Map", "flat_map", "map_fn", "do_map")


def check(
    cls: object, overrides: Mapping[str, Any] | None = None, defaults: Mapping[str, Any] | None = None
) -> JobSettings:
    """Refuse what can't be run; the settings with `overrides`, and above `defaults`, if all is well.

    Raises JobDefinitionError for the class, UsageError for the settings.
    """
    if isinstance(cls, Job):
        raise JobDefinitionError(f"{cls!r} is an instance; the class {type(cls).__name__} is needed here")
    if cls is Job:
        raise JobDefinitionError("mrq.Job is the base: subclass it and define map")
    if not is_job(cls):
        what = getattr(cls, "__name__", None) or repr(cls)
        name = what if what.isidentifier() else "MyJob"
        raise JobDefinitionError(f"{what} is not a job: write `class {name}(mrq.Job):`")
    job = cls
    settings = resolve(job, overrides, defaults)
    if "__init__" in _own_names(job) or "__new__" in _own_names(job):
        raise JobDefinitionError(
            f"{source.at_class(job)}{job.__name__} defines __init__, but executors make the instances; "
            "annotate parameters on the class (name: int = 3) and do the rest in `def setup(self):`"
        )
    if inspect.isabstract(job):
        missing = ", ".join(sorted(getattr(job, "__abstractmethods__", ())))
        raise JobDefinitionError(
            f"{source.at_class(job)}{job.__name__} is abstract ({missing} isn't defined); "
            "name a class that derives from it"
        )
    if has_stages(job):
        stages.check_method(job)
        _check_settings(job, overrides or {})
    else:
        _check_stage(job, settings)
    _check_code(job)
    return settings


def check_stages(
    make: Callable[[], Job], overrides: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> list[tuple[type[Job], JobSettings]]:
    """What each stage of a job runs as, with the settings that count in it; of a job without `stages`, which
    was checked, its class alone. `make` makes the job. Raises JobDefinitionError, UsageError."""
    found = stages.settled(make)
    if found[0].__mrq_stage__ is None:
        return [(found[0], resolve(found[0], overrides, defaults))]
    checked: list[tuple[type[Job], JobSettings]] = []
    for cls in found:
        settings = resolve(cls, stages.overrides_of(cls, overrides), defaults)
        _check_stage(cls, settings)
        _check_code(cls)
        checked.append((cls, settings))
    return checked


def _check_stage(job: type[Job], settings: JobSettings) -> None:
    """Refuse methods and settings that don't go together in one stage, or in a job that has no more."""
    _check_map(job)
    _check_reduce(job, settings)
    if settings.skip_bad_records and defined(job, "map_split"):
        raise JobDefinitionError(source.at(getattr(job, "map_split", None)) + cannot_skip(title(job)))


def _check_settings(job: type[Job], overrides: Mapping[str, Any]) -> None:
    """Refuse settings of a job with stages that it has to give to one of them."""
    for name in ("order", "sort_values", "total_order"):
        value = {**job.__mrq_settings__, **overrides}.get(name)
        if value and value != "hashed":
            said = f"{name}={value!r}".replace("'", '"')
            out = f"leave out `{said}`" if name in overrides else "leave it out of the class"
            raise JobDefinitionError(
                f"{source.at_class(job)}{job.__name__} has stages, and {said} doesn't say of which; {out}, "
                f"and give it to a stage: `mrq.Stage(…, {said})`"
            )


#: By class, and of one that a stage runs as by the stage's methods, what the bodies of it and its bases held
#: when they were found good: a test runs a job often.
_GOOD: Final[dict[tuple[type, str], list[object]]] = {}
#: Classes in that; it begins anew beyond.
_GOOD_MAX: Final = 64


def _check_code(job: type[Job]) -> None:
    """Read the methods' and the bodies' source for what can't work."""
    of = job.__mrq_stage__
    classes = job.__mro__ if of is None else job.__mro__[1:]
    key, held = (
        (classes[0], stages.said_of(job)),
        [value for base in classes for value in vars(base).values()],
    )
    before = _GOOD.get(key, [])
    if len(held) == len(before) and all(map(operator.is_, held, before)):
        return
    _check_methods(job)
    if of is None:
        dropped.check_never_called(job)
    if len(_GOOD) >= _GOOD_MAX:
        _GOOD.clear()
    _GOOD[key] = held


def _check_methods(job: type[Job]) -> None:
    for hook in METHODS:
        if defined(job, hook) and not isinstance(getattr(job, hook), BuiltIn):
            _check_method(job, hook)
    for hook in ("combine", "reduce"):
        if defined(job, hook):
            _check_no_key(job, hook)
    dropped.check(job)
    arguments.check(job)


def _at(job: type[Job]) -> str:
    """Where a job, or one of its stages, is defined."""
    return job.__mrq_stage__.where if job.__mrq_stage__ is not None else source.at_class(job)


def _own_names(job: type[Job]) -> set[str]:
    """Names that the user's classes define, mrq.Job's own left out."""
    return {name for base in job.__mro__ if base not in (Job, object) for name in vars(base)}


# ---- which hooks there are ----


def _check_map(job: type[Job]) -> None:
    maps, name, where = [hook for hook in MAPS if defined(job, hook)], title(job), _at(job)
    if len(maps) > 1:
        has = "has" if job.__mrq_stage__ is not None else "defines"
        raise JobDefinitionError(f"{where}{name} {has} {' and '.join(maps)}; keep one of them")
    if not maps:
        advice = "define `def map(self, key, line):` that yields (key, value) pairs"
        for other in _ELSEWHERE:
            if callable(getattr(job, other, None)):
                advice = f"rename {other} to map"
        if job.__mrq_stage__ is not None:
            advice = "name a method in it: `mrq.Stage(map=self.NAME, …)`"
        raise JobDefinitionError(f"{where}{name} has no map; {advice}")
    hook = getattr(job, maps[0])
    if isinstance(hook, BuiltIn):
        raise JobDefinitionError(f"{where}{name}.{maps[0]} is a built-in reducer; {maps[0]} must be a method")


def _check_reduce(job: type[Job], settings: JobSettings) -> None:
    name, where = title(job), _at(job)
    combine = getattr(job, "combine", None)
    if not defined(job, "reduce"):
        for hook in ("combine", "partition"):
            if defined(job, hook):
                raise JobDefinitionError(
                    f"{source.at(getattr(job, hook))}{name} has {hook} and no reduce, so nothing would "
                    f"call it; add a reduce or remove {hook}"
                )
        add = "reduce=mrq.identity" if job.__mrq_stage__ is not None else "reduce = mrq.identity"
        for setting, given in (('order="total"', settings.order), ("sort_values", settings.sort_values)):
            if given:
                raise JobDefinitionError(
                    f"{where}{name} has {setting} and no reduce: without one nothing is sorted; add `{add}`"
                )
        return
    _check_built_in(job)
    if combine is not None and isinstance(getattr(job, "reduce", None), BuiltIn):
        raise JobDefinitionError(
            f"{source.at(combine) or where}{name} has a combine beside a built-in reduce, which brings its "
            "own; remove combine"
        )
    if isinstance(combine, BuiltIn):
        raise JobDefinitionError(
            f"{where}{name}.combine must be a method, such as "
            "`def combine(self, key, values): yield sum(values)`"
        )
    if settings.order == "total" and defined(job, "partition"):
        raise JobDefinitionError(
            f'{source.at(getattr(job, "partition", None))}{name} has partition and order="total", which '
            "partitions by ranges of keys; keep one of them"
        )


def _check_built_in(job: type[Job]) -> None:
    """`reduce = sum` is Python's own, and `reduce = mrq.top` lacks its n."""
    for hook in ("reduce", "combine"):
        value = inspect.getattr_static(job, hook, None)
        name = getattr(value, "__name__", "")
        if value is None or isinstance(value, BuiltIn):
            continue
        if getattr(builtins, name, None) is value:
            ours = f"mrq.{name}" if name in ("sum", "min", "max") else "a method or a built-in of mrq"
            raise JobDefinitionError(
                f"{source.at_class(job)}{hook} = {name} is Python's own {name}; write {hook} = {ours}"
            )
        if getattr(value, "__module__", "").startswith("mrq."):
            raise JobDefinitionError(
                f"{source.at_class(job)}{hook} = mrq.{name} must be called, such as {hook} = mrq.{name}(10)"
            )


# ---- each method ----


def _check_method(job: type[Job], hook: str) -> None:
    static, line = inspect.getattr_static(job, hook), def_of(job, hook)
    wanted = line.count(",")  # parameters after self
    where, name = source.at(static), f"{job.__name__}.{called(job, hook)}"
    if not callable(getattr(job, hook)) or isinstance(static, property):
        raise JobDefinitionError(f"{where or source.at_class(job)}{name} must be a method: `{line}`")
    function = source.function_of(static)
    if function is not None and (
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    ):
        raise JobDefinitionError(
            f"{where}{name} is async, which mrq doesn't await; write `{line}` "
            "(with asyncio.run inside, if need be)"
        )
    if function is None:
        return  # a callable object: its call will tell
    bound = 0 if isinstance(static, staticmethod) else 1
    try:
        inspect.signature(function).bind(*[None] * (wanted + bound))
    except TypeError:
        takes = "(" + ", ".join(map(str, inspect.signature(function).parameters.values())) + ")"
        count = f"{wanted} parameter{'s' if wanted != 1 else ''} after self" if wanted else "self alone"
        raise JobDefinitionError(f"{where}{name}{takes} must take {count}: write `{line}`") from None


def _check_no_key(job: type[Job], hook: str) -> None:
    """Refuse `yield key, …`: what reduce and combine yield are values, written under the group's key."""
    static = inspect.getattr_static(job, hook)
    function = source.function_of(static)
    if function is None:
        return
    tree, file = source.tree_of(function), function.__code__.co_filename
    arguments = [] if tree is None else [*tree.args.posonlyargs, *tree.args.args]
    place = 0 if isinstance(static, staticmethod) else 1
    if tree is None or len(arguments) <= place:
        return
    key = arguments[place].arg
    for made, verb in _made(tree):
        first = made.elts[0] if made.elts else None
        if not isinstance(first, ast.Name) or first.id != key or len(made.elts) < 2:
            continue
        rest = ", ".join(source.segment(file, x) for x in made.elts[1:])
        where = source.place(file, made.lineno)
        wrong = f"{key}, {rest}"
        if verb == "yield":
            right, both = f"yield {rest}", f"yield [{key}, {rest}]"
            wrong = f"yield {wrong}"
        else:
            right, both = rest if len(made.elts) == 2 else f"({rest})", f"[{key}, {rest}]"
            wrong = f"({wrong})"
        raise JobDefinitionError(
            f"{where}: `{wrong}`: {called(job, hook)} yields values, and each goes under the group's key by "
            f"itself; write `{right}` (or `{both}` if the key belongs into the value)"
        )


def _made(tree: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[ast.Tuple, str]]:
    """Tuples that the function itself yields, or returns in a list or a comprehension."""
    for node in source.inside(tree):
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
            yield node.value, "yield"
        elif isinstance(node, ast.Return):
            value = node.value
            items: list[ast.expr] = []
            if isinstance(value, ast.List):
                items = value.elts
            elif isinstance(value, ast.ListComp | ast.GeneratorExp):
                items = [value.elt]
            for item in items:
                if isinstance(item, ast.Tuple):
                    yield item, "return"
