"""Where mrq.toml lies, and whether it may choose a cluster: asked at every start, so light to import."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from typing import Final

FILE: Final = "mrq.toml"


def find(env: Mapping[str, str], cwd: str) -> list[str]:
    """The mrq.toml files that count, the first before the second: the nearest upwards, the user's own."""
    found = []
    folder = os.path.abspath(cwd)
    while True:
        path = os.path.join(folder, FILE)
        if os.path.isfile(path) and _is_trusted(path):
            found.append(path)
            break
        parent = os.path.dirname(folder)
        if parent == folder:
            break
        folder = parent
    home = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME") or os.path.expanduser("~"), ".config")
    own = os.path.join(home, "mrq", FILE)
    if own not in found and os.path.isfile(own):
        found.append(own)
    return found


def _is_trusted(path: str) -> bool:
    """Not a file that somebody else put into a folder for everybody, such as /tmp."""
    try:
        owner, folder = os.stat(path).st_uid, os.stat(os.path.dirname(path))
    except OSError:
        return False
    return owner in (0, os.getuid()) or not folder.st_mode & stat.S_IWOTH


def may_choose(env: Mapping[str, str], cwd: str) -> bool:
    """Whether some mrq.toml could name a default cluster: cheaper than reading it as TOML (8 ms)."""
    for path in find(env, cwd):
        try:
            with open(path, "rb") as file:
                if re.search(rb"(?m)^[ \t]*[\"']?cluster[\"']?[ \t]*=", file.read()):
                    return True
        except OSError:
            return True  # reading it properly says why not
    return False
