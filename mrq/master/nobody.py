"""The refusal of a name that nobody has, with the nearest that somebody has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mrq.errors import UsageError
from mrq.job.setting_checks import nearest

#: More names than this aren't listed in an error.
_NAMED: Final = 8


def nobody(what: str, name: str, known: Iterable[str]) -> UsageError:
    """The refusal of a name that isn't known, with the nearest that is."""
    from difflib import get_close_matches

    names = sorted(known)
    if len(names) > _NAMED and not get_close_matches(name, names, n=1, cutoff=0.5):
        return UsageError(f"there is no {what} {name!r}; of {len(names):,} others `mrq {what}s` has the list")
    if not names:
        return UsageError(f"there is no {what} {name!r}, and no other one is known")
    return UsageError(f"there is no {what} {name!r}{nearest(name, names)}")
