"""Whether what `--json` printed is an object of docs/json.md: every field, of its type, and no other."""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from typing import Any

from mrq.cli import objects
from mrq.cli.console import _plain


def checked(text: str, cls: type[objects.JsonAnswer] = objects.JsonAnswer) -> Any:
    """The one object in `text`, which is one of `cls`."""
    value = json.loads(text)
    check(value, cls, cls.__name__)
    assert value["version"] == 2
    return value


def plain(value: Any) -> Any:
    """A leader's answer as `--json` would print it."""
    return json.loads(json.dumps(value, default=_plain))


def check(value: Any, hint: Any, where: str) -> None:
    """Raise AssertionError, by the field's place, for what isn't of that type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return
    if origin in (typing.Union, types.UnionType):
        if value is not None:
            (inner,) = (each for each in args if each is not type(None))
            check(value, inner, where)
    elif origin is tuple:
        assert type(value) is list, f"{where} is {value!r}"
        for number, each in enumerate(value):
            check(each, args[0], f"{where}[{number}]")
    elif origin is not None:
        assert type(value) is dict, f"{where} is {value!r}"
        for name, each in value.items():
            check(each, args[1], f"{where}.{name}")
    elif dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        names = [field.name for field in dataclasses.fields(hint)]
        assert type(value) is dict, f"{where} is {value!r}"
        assert sorted(value) == sorted(names), where
        for name in names:
            check(value[name], hints[name], f"{where}.{name}")
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        assert value in [each.value for each in hint], f"{where} is {value!r}"
    elif hint is float:
        assert type(value) in (int, float), f"{where} is {value!r}"
    else:
        assert type(value) is hint, f"{where} is {value!r}, not {hint}"
