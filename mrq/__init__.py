"""mrq: MapReduce for Python.

    class WordCount(mrq.Job):
        reduce = mrq.sum

        def map(self, key, line):
            for word in line.split():
                yield word, 1

    result = mrq.run(WordCount(), ["books/*.txt"], "out")

Light to import: executors pay for it at every start. `Job` and `Pair` are here at once, the rest when it is
first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrq.job.base import Job, Pair

if TYPE_CHECKING:
    from mrq import testing as testing
    from mrq.client import JobFailed, connect, local, run
    from mrq.errors import MrqError
    from mrq.job.builtins import BuiltIn, bottom, top
    from mrq.job.main import main
    from mrq.job.stages import Stage

    # One type for all, so that a subclass may exchange one reduce for another.
    collect: BuiltIn
    count: BuiltIn
    identity: BuiltIn
    max: BuiltIn
    mean: BuiltIn
    min: BuiltIn
    sum: BuiltIn

__version__ = "0.2.0"

# sum, min and max are left out: `from mrq import *` must not shadow Python's own. `mrq.sum` is there.
__all__ = [
    "Job",
    "JobFailed",
    "MrqError",
    "Pair",
    "Stage",
    "bottom",
    "collect",
    "connect",
    "count",
    "identity",
    "local",
    "main",
    "mean",
    "run",
    "testing",
    "top",
]

_HOMES = {
    "mrq.client": ("JobFailed", "connect", "local", "run"),
    "mrq.errors": ("MrqError",),
    "mrq.job.builtins": ("bottom", "collect", "count", "identity", "max", "mean", "min", "sum", "top"),
    "mrq.job.main": ("main",),
    "mrq.job.stages": ("Stage",),
}


def __getattr__(name: str) -> object:
    """PEP 562: import a public name's module when the name is first used."""
    from importlib import import_module

    if name == "testing":
        return import_module("mrq.testing")
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'mrq' has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "sum", "min", "max"})
