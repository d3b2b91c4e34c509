"""Parameters: from `--set name=value` by the field's annotation, and checks of values given in Python."""

from __future__ import annotations

import json
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Final

from mrq.codec.types import carried, shown
from mrq.errors import DataError, UsageError, UsageTypeError
from mrq.job.base import REQUIRED, Job, Parameter, parameter_values
from mrq.settings.checks import nearest

_TRUE: Final = ("true", "yes", "on", "1")
_FALSE: Final = ("false", "no", "off", "0")


def convert(cls: type[Job], assignments: Sequence[str] | Mapping[str, str]) -> dict[str, Any]:
    """Values of `["name=value", …]`, or of names and texts taken apart already.

    Each is converted by its parameter's annotation. Lists are `a,b,c` or JSON, dicts JSON, an optional's
    None is spelled `None`. Raises UsageError.
    """
    converted: dict[str, Any] = {}
    if isinstance(assignments, Mapping):
        assignments = [f"{name}={text}" for name, text in assignments.items()]
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UsageError(f"--set {assignment}: write --set name=value")
        parameter = cls.__mrq_parameters__.get(name)
        if parameter is None and name in vars(cls) and not callable(vars(cls)[name]):
            kind = type(vars(cls)[name]).__name__
            raise UsageError(
                f"--set {assignment}: {name} of {cls.__name__} isn't a parameter; annotate it to make it "
                f"one: {name}: {kind} = …"
            )
        if parameter is None:
            near = nearest(name, cls.__mrq_parameters__)
            raise UsageError(f"--set {assignment}: {cls.__name__} has no parameter {name!r}{near}")
        if name in converted:
            raise UsageError(f"--set {name}=… is given twice")
        hint = hint_of(parameter)
        try:
            converted[name] = _from_text(hint, text)
        except ValueError as exc:
            raise UsageError(
                f"--set {assignment}: {name} of {cls.__name__} must be {show(hint)}: {exc}"
            ) from exc
    return converted


def values(cls: type[Job], given: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter of the job made with `given`: carried values, defaults included.

    Raises UsageError, with what to add where one is missing.
    """
    missing = [
        p.name for p in cls.__mrq_parameters__.values() if p.default is REQUIRED and p.name not in given
    ]
    if missing:
        call = ", ".join(f"{name}=…" for name in missing)
        kinds = ", ".join(f"{name}: {show(hint_of(cls.__mrq_parameters__[name]))}" for name in missing)
        raise UsageTypeError(f"{cls.__name__} needs {kinds}; write `{cls.__name__}({call})`")
    try:
        made = cls(**given)
    except TypeError as exc:
        raise UsageTypeError(str(exc)) from exc
    return validate(made)


def validate(job: Job) -> dict[str, Any]:
    """The job's parameters as carried values, subclasses of carried types as their base.

    Raises UsageError for a value that can't be carried or that its annotation excludes.
    """
    cls = type(job)
    checked: dict[str, Any] = {}
    for name, value in parameter_values(job).items():
        try:
            plain = _carried(value)
        except ValueError as exc:
            raise UsageTypeError(f"parameter {name} of {cls.__name__}: {exc}") from exc
        hint = hint_of(cls.__mrq_parameters__[name])
        if not _fits(hint, plain):
            text, kind = repr(value), type(value).__name__
            short = text if len(text) <= 60 else text[:57] + "..."
            raise UsageTypeError(
                f"parameter {name} of {cls.__name__} must be {show(hint)}, not {short} ({kind})"
            )
        checked[name] = plain
    return checked


def hint_of(parameter: Parameter) -> Any:
    """The annotation as an object; Any where it names what isn't there at run time."""
    if not isinstance(parameter.annotation, str):
        return parameter.annotation
    module = sys.modules.get(parameter.owner.__module__)
    holder = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        hints = typing.get_type_hints(holder, vars(module) if module else {}, dict(vars(parameter.owner)))
    except (NameError, AttributeError, TypeError, SyntaxError):
        return Any  # such as a name that only TYPE_CHECKING imports
    return hints[parameter.name]


def show(hint: Any) -> str:
    """The annotation as its author wrote it, near enough."""
    if typing.get_origin(hint) is None and isinstance(hint, type):
        return hint.__name__
    return str(hint).replace("typing.", "").replace("NoneType", "None")


# ---- from text ----


def _from_text(hint: Any, text: str) -> Any:
    """Raises ValueError saying what is wrong with `text`."""
    simple = _SIMPLE.get(hint) if isinstance(hint, type) else None
    if simple is not None:
        return simple(text)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        with suppress(ValueError):
            return json.loads(text)
        return text
    if origin is typing.Literal:
        for choice in args:
            if str(choice) == text:
                return choice
        raise ValueError(f"one of {', '.join(map(str, args))}, not {text!r}")
    if origin in (typing.Union, types.UnionType):
        if type(None) in args and text == "None":
            return None
        problem: ValueError | None = None
        # str takes anything, so it comes last.
        for choice in sorted((a for a in args if a is not type(None)), key=lambda a: a is str):
            try:
                return _from_text(choice, text)
            except ValueError as exc:
                problem = exc
        raise problem or ValueError(f"None, not {text!r}")
    if hint is list or origin is list:
        return [_item(args[0] if args else Any, x) for x in _items(text)]
    if hint is tuple or origin is tuple:
        items = _items(text)
        if not args or (len(args) == 2 and args[1] is Ellipsis):
            return tuple(_item(args[0] if args else Any, x) for x in items)
        if len(items) != len(args):
            raise ValueError(f"{len(args)} items, not {len(items)}")
        return tuple(map(_item, args, items))
    if hint is dict or origin is dict:
        value = _json(text)
        if not isinstance(value, dict) or not _fits(hint, value):
            raise ValueError(f"write it as a JSON object of that type, not {text!r}")
        return value
    raise ValueError("a parameter of this type can't be given on the command line")


def _items(text: str) -> list[Any]:
    """The items of `a,b,c` (as text) or of a JSON list."""
    if text.lstrip().startswith("["):
        items = _json(text)
        if isinstance(items, list):
            return items
    return [x.strip() for x in text.split(",")] if text else []


def _item(hint: Any, item: Any) -> Any:
    if isinstance(item, str):
        return _from_text(hint, item)
    if isinstance(item, list):  # of a nested JSON list
        return _from_text(hint, json.dumps(item))
    if not _fits(hint, item):
        raise ValueError(f"{show(hint)}, not {item!r}")
    return item


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError(f"not JSON: {text!r}") from None


def _number(kind: Callable[[str], Any], what: str) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"{text!r} is no {what}") from None

    return convert


def _bool(text: str) -> bool:
    low = text.lower()
    if low in _TRUE or low in _FALSE:
        return low in _TRUE
    raise ValueError(f"true or false, not {text!r}")


_SIMPLE: Final[Mapping[type, Callable[[str], Any]]] = {
    int: _number(int, "whole number"),
    float: _number(float, "number"),
    bool: _bool,
    str: str,
    bytes: lambda text: text.encode("utf-8", "surrogateescape"),
}

# ---- values given in Python ----

#: Of an int that `_SUCCESS` and `--set` can say.
_INT_BITS_MAX: Final = 14_000


def _carried(value: Any) -> Any:
    """`value` as it is carried. Raises ValueError for what can't be, or an int too long to say."""
    try:
        plain = carried(value)
    except DataError as exc:
        raise ValueError(str(exc)) from exc
    for item in _items_of(plain):
        if type(item) is int and item.bit_length() > _INT_BITS_MAX:
            raise ValueError(
                f"{shown(item)} has more digits than the 4,300 that Python converts to text and back; give "
                "it as str or bytes"
            )
    return plain


def _items_of(value: Any) -> Iterator[Any]:
    """A carried value and all that is in it."""
    yield value
    inner: Iterable[Any] = value if isinstance(value, tuple | list) else ()
    if isinstance(value, dict):
        inner = chain(value, value.values())
    for item in inner:
        yield from _items_of(item)


def _fits(hint: Any, value: Any) -> bool:
    """Whether the annotation allows `value`; True for annotations that we can't judge."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str, bytes, list, dict, tuple):
        return isinstance(value, hint)
    if origin is typing.Literal:
        return value in args
    if origin in (typing.Union, types.UnionType):
        return any(_fits(a, value) for a in args)
    if origin is list:
        return isinstance(value, list) and all(_fits(args[0], x) for x in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(args[0], k) and _fits(args[1], v) for k, v in value.items()
        )
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(args) == 2 and args[1] is Ellipsis:
            return all(_fits(args[0], x) for x in value)
        return len(args) == len(value) and all(map(_fits, args, value))
    return True
