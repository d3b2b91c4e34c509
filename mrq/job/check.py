"""What is refused at submit, before anything runs: each with one sentence: where, and what to write."""

from __future__ import annotations

import ast
import builtins
import inspect
import operator
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mrq.core.model import cannot_skip
from mrq.errors import JobDefinitionError
from mrq.job import arguments, dropped, source
from mrq.job.base import MAPS, METHODS, Job, defined, is_job
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
    if defined(job, "stages"):
        raise JobDefinitionError(
            f"{source.at_class(job)}{job.__name__} defines stages, which come in a later version of mrq; "
            "until then run one job after the other"
        )
    _check_map(job)
    _check_reduce(job, settings)
    _check_code(job)
    if settings.skip_bad_records and defined(job, "map_split"):
        raise JobDefinitionError(source.at(getattr(job, "map_split", None)) + cannot_skip(job.__name__))
    return settings


#: By class, what the bodies of it and its bases held when they were found good: a test runs a job often.
_GOOD: Final[dict[type[Job], list[object]]] = {}
#: Classes in that; it begins anew beyond.
_GOOD_MAX: Final = 64


def _check_code(job: type[Job]) -> None:
    """Read the methods' and the bodies' source for what can't work."""
    held = [value for base in job.__mro__ for value in vars(base).values()]
    before = _GOOD.get(job, [])
    if len(held) == len(before) and all(map(operator.is_, held, before)):
        return
    for hook, line in METHODS.items():
        if defined(job, hook) and not isinstance(getattr(job, hook), BuiltIn):
            _check_method(job, hook, line)
    for hook in ("combine", "reduce"):
        if defined(job, hook):
            _check_no_key(job, hook)
    dropped.check(job)
    arguments.check(job)
    if len(_GOOD) >= _GOOD_MAX:
        _GOOD.clear()
    _GOOD[job] = held


def _own_names(job: type[Job]) -> set[str]:
    """Names that the user's classes define, mrq.Job's own left out."""
    return {name for base in job.__mro__ if base not in (Job, object) for name in vars(base)}


# ---- which hooks there are ----


def _check_map(job: type[Job]) -> None:
    maps = [hook for hook in MAPS if defined(job, hook)]
    if len(maps) > 1:
        raise JobDefinitionError(
            f"{source.at_class(job)}{job.__name__} defines {' and '.join(maps)}; keep one of them"
        )
    if not maps:
        advice = "define `def map(self, key, line):` that yields (key, value) pairs"
        for name in _ELSEWHERE:
            if callable(getattr(job, name, None)):
                advice = f"rename {name} to map"
        raise JobDefinitionError(f"{source.at_class(job)}{job.__name__} has no map; {advice}")
    hook = getattr(job, maps[0])
    if isinstance(hook, BuiltIn):
        raise JobDefinitionError(
            f"{source.at_class(job)}{job.__name__}.{maps[0]} is a built-in reducer; {maps[0]} must be "
            "a method"
        )


def _check_reduce(job: type[Job], settings: JobSettings) -> None:
    name, where = job.__name__, source.at_class(job)
    combine = getattr(job, "combine", None)
    if not defined(job, "reduce"):
        for hook in ("combine", "partition"):
            if defined(job, hook):
                raise JobDefinitionError(
                    f"{source.at(getattr(job, hook))}{name} has {hook} and no reduce, so nothing would "
                    f"call it; add a reduce or remove {hook}"
                )
        for setting, given in (('order="total"', settings.order), ("sort_values", settings.sort_values)):
            if given:
                raise JobDefinitionError(
                    f"{where}{name} has {setting} and no reduce: without one nothing is sorted; "
                    "add `reduce = mrq.identity`"
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


def _check_method(job: type[Job], hook: str, line: str) -> None:
    static, wanted = inspect.getattr_static(job, hook), line.count(",")  # parameters after self
    where, called = source.at(static), f"{job.__name__}.{hook}"
    if not callable(getattr(job, hook)) or isinstance(static, property):
        raise JobDefinitionError(f"{where or source.at_class(job)}{called} must be a method: `{line}`")
    function = source.function_of(static)
    if function is not None and (
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    ):
        raise JobDefinitionError(
            f"{where}{called} is async, which mrq doesn't await; write `{line}` "
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
        raise JobDefinitionError(f"{where}{called}{takes} must take {count}: write `{line}`") from None


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
            f"{where}: `{wrong}`: {hook} yields values, and each goes under the group's key by itself; "
            f"write `{right}` (or `{both}` if the key belongs into the value)"
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
