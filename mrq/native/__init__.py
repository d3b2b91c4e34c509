"""Which data path runs: the native one, of the extension `mrq._native`, or the one in Python.

The crates beside this file are what the extension is built of; `make` builds it where cargo is. Whoever moves
data asks `loaded()`, and goes on in Python where there is none. Both paths give the same parts, errors and
counters, and read each other's map outputs.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Final

from mrq.errors import UsageError
from mrq.settings.variables import NATIVE, Native, native

#: What Python and the extension say to each other; `INTERFACE` of the extension must be the same.
INTERFACE: Final = 4


def loaded() -> ModuleType | None:
    """The extension, None where the path in Python is to run. Raises UsageError where MRQ_NATIVE is
    `require` and it can't be used, or no word that it may be."""
    choice = native()
    if choice is Native.OFF:
        return None
    module, why = _found()
    if module is None and choice is Native.REQUIRE:
        raise UsageError(
            f"{NATIVE}=require, but the native data path can't be used: {why}; build it with `make` in a "
            f"clone where cargo is, or unset {NATIVE}"
        )
    return module


def check() -> None:
    """Raise UsageError, before anything runs, for what `loaded` would raise it for. Loads nothing that may be
    missing: executors do."""
    if native() is Native.REQUIRE:
        loaded()


def told() -> str:
    """Which path runs, and why, for people. Raises UsageError as `loaded`."""
    if loaded() is not None:
        return "native data path"
    return f"pure Python: {f'{NATIVE}=off' if native() is Native.OFF else _found()[1]}"


@cache
def _found() -> tuple[ModuleType | None, str]:
    """The extension, or why it can't be used."""
    if sys.implementation.name != "cpython":
        return None, f"the native data path is for CPython, and this is {sys.implementation.name}"
    try:
        module = import_module("mrq._native")
    except ModuleNotFoundError:
        return None, "the native data path isn't built"
    except ImportError as exc:
        return None, f"the native data path can't be loaded ({exc})"
    number = getattr(module, "INTERFACE", None)
    if number != INTERFACE:
        return None, (
            f"the native data path is stale: its interface is {number}, and {INTERFACE} is wanted; run `make`"
        )
    return module, ""
