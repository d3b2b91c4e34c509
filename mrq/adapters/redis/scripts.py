"""The Lua scripts: named files, each with `lib.lua` before it, called by their SHA-1."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

_FOLDER: Final = os.path.join(os.path.dirname(__file__), "scripts")


class Script(NamedTuple):
    """One script as the server gets it."""

    text: str
    sha: str


@dataclass(frozen=True, slots=True)
class Call:
    """One execution: KEYS and ARGV as the script's head documents them."""

    name: str
    keys: Sequence[str]
    args: Sequence[Any]

    def command(self) -> tuple[Any, ...]:
        """As EVALSHA."""
        return ("EVALSHA", script(self.name).sha, len(self.keys), *self.keys, *self.args)


@functools.cache
def script(name: str) -> Script:
    """A script by the name of its file."""
    text = ""
    for part in ("lib", name):
        with open(os.path.join(_FOLDER, f"{part}.lua"), encoding="utf-8") as file:
            text += file.read()
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
