"""Where a path of the client's lies on the cluster: the `[paths]` of a profile, as a pure function.

User code, order and output see paths as the user spelled them; only what is opened differs.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass

#: What makes a part of a path a pattern.
MAGIC = frozenset("*?[")

#: Where a path begins in a sentence, and where the name of a folder ends: at the next part, or with the path,
#: after which the sentence may end too.
_BEFORE = r"(?<![\w./~-])"
_AFTER = r"(?![\w~-]|\.\w)"


@dataclass(frozen=True, slots=True)
class PathMap:
    """Pairs (folder here, folder on the cluster), absolute, normalised; the longest that fits counts."""

    pairs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]], base: str) -> PathMap:
        """Of pairs as a profile has them; relative folders start at `base`, the profile's own."""
        made = [
            (posixpath.normpath(posixpath.join(base, here)), posixpath.normpath(there))
            for here, there in pairs
        ]
        return cls(tuple(sorted(made, key=lambda pair: (-len(pair[0]), pair[0]))))

    def to_cluster(self, path: str) -> str | None:
        """An absolute, normalised path as the cluster opens it; None where no pair fits."""
        return _moved(path, self.pairs)

    def to_client(self, path: str) -> str | None:
        """The way back."""
        back = [(there, here) for here, there in self.pairs]
        return _moved(path, sorted(back, key=lambda pair: -len(pair[0])))

    def in_text(self, text: str) -> str:
        """A sentence of the cluster's in which its paths that a pair has are this machine's. Those that begin
        as this machine's folders do are taken for its own."""
        back = {here: here for here, _ in self.pairs} | {there: here for here, there in self.pairs}
        back.pop("/", None)
        if not back:
            return text
        folders = "|".join(map(re.escape, sorted(back, key=len, reverse=True)))
        return re.sub(rf"{_BEFORE}(?:{folders}){_AFTER}", lambda found: back[found[0]], text)


def _moved(path: str, pairs: Iterable[tuple[str, str]]) -> str | None:
    for source, target in pairs:
        if path == source:
            return target
        inside = source.rstrip("/") + "/"
        if path.startswith(inside):
            return posixpath.join(target, path[len(inside) :])
    return None


def split_pattern(spelled: str) -> tuple[str, str]:
    """(folder, pattern) of a glob: what comes before its first part with a wildcard, with the slash, and the
    rest; ("data/", "*/x.txt") of `data/*/x.txt`. The pattern is "" where there is no wildcard."""
    at = 0
    for part in spelled.split("/"):
        if not MAGIC.isdisjoint(part):
            return spelled[:at], spelled[at:]
        at += len(part) + 1
    return spelled, ""
