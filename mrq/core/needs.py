"""Does a worker have what a job's tasks need: memory, and the packages that the code imports?

Its answer is one boot's and one job's for good, so nobody can be overtaken by a change of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from mrq.core.model import Needs


def distributions(packages: Iterable[str] | None) -> frozenset[str] | None:
    """The distributions that a worker says it has, as package indexes compare names; None: it hasn't said."""
    return frozenset(map(_normal, packages)) if packages else None


@lru_cache(maxsize=4096)
def _normal(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def fits(needs: Needs, memory_bytes: int, packages: frozenset[str] | None) -> bool:
    """May a worker run it? What isn't known of it (0 bytes, None) doesn't speak against it."""
    if 0 < memory_bytes < needs.memory_bytes:
        return False
    return not needs.packages or packages is None or not lacking(needs, packages)


def lacking(needs: Needs, packages: frozenset[str]) -> list[str]:
    """The modules that a worker with these packages can't import."""
    return [module for module, wanted in needs.packages if packages.isdisjoint(map(_normal, wanted))]
