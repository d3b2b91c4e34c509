"""Finds the files that one path or pattern names, whatever links lie in the way.

Links make a tree a graph: `again -> .` alone gives every file endless names. So the search visits each pair
of a real folder and what is left of the pattern once, nearest names first, those that lead through no link
before all others. Every file is found under its shortest name then, through a link only where there is no
other; and a search of folders that link to each other costs what there is, not what can be spelled.

Without links a folder has one name, and what is found, and in which order, is what `glob` and a walk in order
of names find.
"""

from __future__ import annotations

import errno
import os
import re
import stat as stats
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappop, heappush
from operator import attrgetter
from typing import Final, NamedTuple

from mrq.core.pathmap import MAGIC, split_pattern
from mrq.errors import InputError

#: Names of outputs in the making, success marks, editors' and version control's files.
HIDDEN: Final = ("_", ".")
#: Hidden names that a result of mrq's, and many another's, has.
MARKS: Final = ("_SUCCESS", "_bad")
#: What is left of a pattern where all below a folder is wanted.
_ALL: Final = -1
#: What a name that can't be there is refused with.
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})


class Candidate(NamedTuple):
    """Something to look at next; they are looked at in this order."""

    through_link: bool  #: does its name lead through a link?
    depth: int  #: parts of its name
    kind: int  #: a folder to match in, a folder of which all is wanted, a file
    match: str  #: what the pattern, or the argument, has matched: with a slash where that is a folder
    below: str  #: the rest of the name, "\0" for "/": sorts as a walk goes
    path: str  #: to open
    left: int  #: index of the pattern's part that comes next; `_ALL`


_FOLDER, _TREE, _FILE = range(3)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that an argument names."""

    name: str  #: as the user would spell it
    path: str  #: to open
    stat: os.stat_result
    order: tuple[str, str]  #: files sort by it


class Search:
    """One argument's files. `opened` is where the argument, a path or pattern, is opened.

    `entered(name, path)` is told of each folder of which all is taken, and of each such link in it: it may
    raise. `hidden`: names that begin with `_` or `.` count as others do.
    """

    def __init__(
        self,
        arg: str,
        opened: str,
        *,
        hidden: bool = False,
        entered: Callable[[str, str], None] = lambda name, path: None,
    ) -> None:
        self._arg = arg
        self.opened = opened
        self._hidden = hidden
        self._entered = entered
        self._heap: list[Candidate] = []
        self._seen: set[tuple[int, int, int]] = set()
        #: Did the pattern, or the path, match anything, an empty folder too?
        self.matched = False
        #: What was left out because its name is hidden, by path: is it a folder?
        self.left_out: dict[str, bool] = {}
        #: Folders of which all is taken, and that have a `_SUCCESS`, as they are opened.
        self.results: list[str] = []
        folder, pattern = split_pattern(arg)
        #: The parts of the pattern; the last is "" where it ends with a slash.
        self._parts = [part for part in pattern.split("/") if part]
        if pattern.endswith("/"):
            self._parts.append("")
        self._spelled = [_matcher(part) for part in arg.split("/") if part.startswith(HIDDEN)]
        self._whole_tree = "**" in arg.split("/")
        self._start = (folder.rstrip("/") + "/" if folder.strip("/") else folder), pattern

    def run(self) -> Iterator[FoundFile]:
        """The files, each real one once, the nearest first; sorted by `order` they are in order of names.

        Raises InputError for what can't be read, and for links that lead nowhere.
        """
        folder, pattern = self._start
        root = self.opened[: len(self.opened) - len(pattern)]
        if not self._parts or os.path.lexists(self.opened):  # a name that is there is no pattern
            self._whole_tree = False
            self._take(Candidate(False, 0, _FILE, self._arg, "", self.opened, _ALL))
        elif os.path.isdir(root):
            heappush(self._heap, Candidate(False, 0, _FOLDER, folder, "", root, 0))
        real: set[object] = set()
        while self._heap:
            each = heappop(self._heap)
            name = _name(each)
            stat = _stat(name, each.path)
            here = (stat.st_dev, stat.st_ino, each.left)
            some: Iterable[FoundFile]
            if each.kind == _FILE:
                some = (FoundFile(name, each.path, stat, (each.match, each.below)),)
            elif here in self._seen:
                continue
            else:
                self._seen.add(here)
                some = self._walk(each) if each.kind == _TREE else self._match(each)
            for found in some:
                key = identity(found.path, found.stat)
                if key not in real:
                    real.add(key)
                    yield found

    def _take(self, match: Candidate) -> None:
        """Something that the pattern matches to its end: a file, or a folder with all below it."""
        stat = _stat(match.match, match.path)
        is_folder = stats.S_ISDIR(stat.st_mode)
        if is_folder and self._whole_tree:
            return
        self.matched = True
        if is_folder:
            heappush(self._heap, match._replace(kind=_TREE, left=_ALL))
        elif stats.S_ISREG(stat.st_mode):
            heappush(self._heap, match)
        else:
            raise InputError(
                f"{match.match}: not a regular file or directory; pipe it in and use - for standard input"
            )

    def _match(self, folder: Candidate) -> Iterator[FoundFile]:
        """What the next part of the pattern matches in a folder."""
        part, last = self._parts[folder.left], folder.left + 1 == len(self._parts)
        any_depth = part == "**"
        if any_depth and not last:
            heappush(self._heap, folder._replace(left=folder.left + 1))
        elif not part:  # a pattern that ends with a slash: folders only
            self._take(folder._replace(kind=_FILE))
            return
        elif MAGIC.isdisjoint(part):
            self._literal(folder, part, last=last)
            return
        entries, matches = _listed(_name(folder), folder.path), _matcher(part)
        for entry in entries:
            if matches(entry.name) is None:
                continue
            is_folder = _is_folder(entry)
            if not (last or is_folder) or not self._shown(entry, part, entries, last=last):
                continue
            below = _beneath(folder, entry.name, entry.path, through=entry.is_symlink())
            if is_folder and (any_depth or not last):
                left = folder.left if any_depth else folder.left + 1
                heappush(self._heap, below._replace(match=below.match + "/", left=left))
            elif not any_depth or below.through_link:
                self._take(below._replace(kind=_FILE))
            else:
                stat = _stat(below.match, below.path)
                if not stats.S_ISREG(stat.st_mode):
                    self._take(below._replace(kind=_FILE))  # refuses it
                self.matched = True
                yield FoundFile(below.match, below.path, stat, (below.match, ""))

    def _literal(self, folder: Candidate, part: str, *, last: bool) -> None:
        """A part without wildcards needn't be listed."""
        path = os.path.join(folder.path, part)
        try:
            is_link = stats.S_ISLNK(os.lstat(path).st_mode)
        except OSError as exc:
            if exc.errno in _NOT_THERE:
                return
            raise InputError(f"{folder.match}{part}: can't be read: {exc.strerror}") from exc
        below = _beneath(folder, part, path, through=is_link)
        if last:
            self._take(below._replace(kind=_FILE))
        elif os.path.isdir(path):
            heappush(self._heap, below._replace(match=below.match + "/", left=folder.left + 1))

    def _walk(self, folder: Candidate) -> Iterator[FoundFile]:
        """Files in a folder of which all is wanted; those that are reached through links wait their turn."""
        name = _name(folder)
        if not folder.below or os.path.islink(folder.path):
            self._entered(name, folder.path)
        prefix = name if name.endswith("/") else name + "/"
        entries = _listed(name, folder.path)
        if _is_result(entries):
            self.results.append(os.path.normpath(folder.path))
        for entry in entries:
            if entry.name.startswith(HIDDEN) and not self._hidden:
                self._leave_out(entry, entries)
                continue
            stat = _stat(prefix + entry.name, entry.path, entry)
            through = folder.through_link or entry.is_symlink()
            below, depth = f"{folder.below}{entry.name}", folder.depth + 1
            if stats.S_ISDIR(stat.st_mode):
                if (stat.st_dev, stat.st_ino, _ALL) not in self._seen:
                    inner = Candidate(through, depth, _TREE, folder.match, below + "\0", entry.path, _ALL)
                    heappush(self._heap, inner)
            elif stats.S_ISREG(stat.st_mode) and through:
                file = Candidate(through, depth, _FILE, folder.match, below, entry.path, _ALL)
                heappush(self._heap, file)
            elif stats.S_ISREG(stat.st_mode):
                yield FoundFile(prefix + entry.name, entry.path, stat, (folder.match, below))

    def _shown(
        self, entry: os.DirEntry[str], part: str, beside: Sequence[os.DirEntry[str]], *, last: bool
    ) -> bool:
        """May a wildcard match this name? Hidden ones only where the pattern spells such."""
        name = entry.name
        if self._hidden or not name.startswith(HIDDEN):
            return True
        if (name[0] == "_" or part[0] == ".") and any(spelled(name) for spelled in self._spelled):
            return True
        if not (last and self._whole_tree and part != "**" and _is_folder(entry)):
            self._leave_out(entry, beside)
        return False

    def _leave_out(self, entry: os.DirEntry[str], beside: Sequence[os.DirEntry[str]]) -> None:
        """Count a hidden name; the marks of a result, which never are data, don't count."""
        if entry.name not in MARKS or not _is_result(beside):
            self.left_out[entry.path] = _is_folder(entry)


def is_hidden(name: str, pattern: str) -> bool:
    """Has a name a hidden part, from the first wildcard of the pattern on or below that path, which the
    pattern doesn't spell itself?"""
    folder, wildcards = split_pattern(pattern)
    inside = folder if wildcards else folder.rstrip("/") + "/"
    if not name.startswith(inside):
        return False
    spelled = [_matcher(part) for part in wildcards.split("/") if part.startswith(HIDDEN)]
    return any(
        part.startswith(HIDDEN) and not any(matches(part) for matches in spelled)
        for part in name[len(inside) :].split("/")
    )


def identity(path: str, stat: os.stat_result) -> tuple[int, int, str]:
    """The same file by two names is one; two hard links are two."""
    return stat.st_dev, stat.st_ino, os.path.realpath(path) if stat.st_nlink > 1 else ""


def _name(each: Candidate) -> str:
    """As the user would spell it."""
    if not each.below:
        return each.match
    between = "" if each.match.endswith("/") else "/"
    return each.match + between + each.below.replace("\0", "/").rstrip("/")


def _beneath(folder: Candidate, name: str, path: str, *, through: bool) -> Candidate:
    """A name in a folder that is being matched in."""
    return Candidate(
        folder.through_link or through, folder.depth + 1, _FOLDER, folder.match + name, "", path, folder.left
    )


def _listed(name: str, path: str) -> list[os.DirEntry[str]]:
    """A folder's entries in order of names. Raises InputError."""
    try:
        with os.scandir(path) as listing:
            return sorted(listing, key=attrgetter("name"))
    except OSError as exc:
        raise InputError(f"{name or '.'}: the directory can't be read: {exc.strerror}") from exc


def _is_result(entries: Sequence[os.DirEntry[str]]) -> bool:
    """Does a folder that holds these say that it is finished?"""
    return any(entry.name == MARKS[0] for entry in entries)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """A folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _stat(name: str, path: str, entry: os.DirEntry[str] | None = None) -> os.stat_result:
    """What a name leads to. Raises InputError."""
    try:
        return os.stat(path) if entry is None else entry.stat()
    except OSError as exc:
        if os.path.islink(path) and exc.errno in _NOT_THERE:
            raise InputError(
                f"{name}: can't be read: {exc.strerror}: it is a link to {os.readlink(path)}; "
                "mend or remove it"
            ) from exc
        raise InputError(f"{name}: can't be read: {exc.strerror}") from exc


@lru_cache
def _matcher(part: str) -> Callable[[str], re.Match[str] | None]:
    from fnmatch import translate

    return re.compile(translate(part)).match
