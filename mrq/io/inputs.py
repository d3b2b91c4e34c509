"""Finds the files of a job's input: files, directories, globs, standard input and URLs.

The order is that of the arguments, and inside each the order of names (by code point), so it is the
same on every machine. A file that two arguments name counts once, at its first place.
"""

from __future__ import annotations

import os
import stat as stats
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from mrq.core.model import Piece
from mrq.core.pathmap import MAGIC, split_pattern
from mrq.core.splits import InputFile
from mrq.errors import InputError
from mrq.io import disk
from mrq.io.compression import compression_of
from mrq.io.streams import filesystem, is_url

#: Names of outputs in the making, success marks, editors' and version control's files.
_HIDDEN = ("_", ".")


@dataclass(frozen=True, slots=True)
class _Output:
    path: str  #: absolute, links resolved
    shown: str  #: as the user spelled it


def find(
    args: Sequence[str],
    *,
    cwd: str | None = None,
    opens: Sequence[str] | None = None,
    out: str | None = None,
    shown: str | None = None,
    splittable: bool = True,
    known: Mapping[int, InputFile] | None = None,
) -> list[InputFile]:
    """Every file that the arguments name, once, in order.

    Relative paths start at `cwd`. `opens` says where each is opened, where that isn't the path itself: an
    absolute path or pattern that ends as the spelled one does from its first wildcard on. `out` is where
    the output will go, spelled `shown`: refused inside an input directory. `splittable` is the input
    format's; compressed files never are. `known` has the files of arguments, by index, that aren't looked
    for: what `spool` made of standard input, for "-". Raises InputError, in one sentence, for whatever can't
    be read.
    """
    base = os.getcwd() if cwd is None else os.path.abspath(cwd)
    if not args:
        raise InputError("no input was given; name files, directories, globs, URLs, or - for standard input")
    target = None
    if out is not None and not is_url(out):
        target = _Output(os.path.realpath(os.path.join(base, out)), shown or out)
    found: dict[object, InputFile] = {}
    given = known or {}
    paths = opens or [os.path.join(base, arg) for arg in args]
    for index, (arg, path) in enumerate(zip(args, paths, strict=True)):
        if index in given:
            found.setdefault(given[index].open, given[index])
        elif arg == "-":
            raise InputError("'-' stands for standard input, which isn't available here")
        elif is_url(arg):
            for file in _remote(arg, splittable):
                found.setdefault(file.open, file)
        else:
            for key, file in _local(arg, path, base, target, splittable):
                found.setdefault(key, file)
    return list(found.values())


def files_of(arg: str, path: str) -> Iterator[InputFile]:
    """The files that one argument names, which is opened as `path`, in order, found one by one. Raises as
    `find`, where there are none too."""
    for _, file in _local(arg, path, os.getcwd(), None, True):
        yield file


def is_there(arg: str, path: str) -> bool:
    """Is there anything of that name, or that matches the pattern, where `arg` is opened as `path`?"""
    if os.path.lexists(path):
        return True
    return not MAGIC.isdisjoint(arg) and next(_matches(arg, path), None) is not None


def spool(stream: BinaryIO, folder: str) -> InputFile:
    """Put standard input aside as a file in `folder`, so that it can be split and read again.

    Raises InputError, or DiskFullError when the folder's disk can't hold it.
    """
    path = os.path.join(folder, "stdin")
    size = 0
    with disk.naming(path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                data = stream.read(1 << 20)
            except OSError as exc:
                raise InputError(f"standard input can't be read: {exc.strerror}") from exc
            if not data:
                break
            with disk.naming(path, len(data)):
                disk.write_all(fd, data)
            size += len(data)
        mtime_ns = os.fstat(fd).st_mtime_ns
    finally:
        os.close(fd)
    return InputFile(path="-", open=os.path.abspath(path), size=size, mtime_ns=mtime_ns, splittable=True)


def changed(pieces: Iterable[Piece]) -> list[str]:
    """One sentence for each file that is gone or differs from what was planned; empty when none is."""
    told: dict[str, str | None] = {}
    for piece in pieces:
        if piece.open not in told:
            told[piece.open] = _difference(piece)
    return [text for text in told.values() if text is not None]


def _difference(piece: Piece) -> str | None:
    if is_url(piece.open):
        fs, path = filesystem(piece.open)
        try:
            size, mtime_ns = int(fs.info(path).get("size") or 0), 0
        except OSError as exc:
            return f"{piece.path} can't be read any more: {exc}"
    else:
        try:
            stat = os.stat(piece.open)
        except OSError as exc:
            return f"{piece.path} can't be read any more: {exc.strerror}"
        size, mtime_ns = stat.st_size, stat.st_mtime_ns
    if size != piece.size:
        return f"{piece.path} had {piece.size} bytes and has {size} now"
    if piece.mtime_ns and mtime_ns and mtime_ns != piece.mtime_ns:
        return f"{piece.path} was written again since"
    return None


_Found = Iterator[tuple[object, InputFile]]


def _local(arg: str, path: str, base: str, target: _Output | None, splittable: bool) -> _Found:
    """(identity, file) for a path or a glob."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        if not MAGIC.isdisjoint(arg):
            yield from _glob(arg, path, base, target, splittable)
            return
        raise InputError(f"{arg}: no such file or directory (looked in {base})") from None
    except OSError as exc:
        raise InputError(f"{arg}: can't be read: {exc.strerror}") from exc
    yield from _named(arg, path, stat, target, splittable)


def _named(arg: str, path: str, stat: os.stat_result, target: _Output | None, splittable: bool) -> _Found:
    """A file or directory that exists."""
    if stats.S_ISDIR(stat.st_mode):
        _refuse_inside(arg, path, target)
        yield from _walk(arg, path, splittable, {(stat.st_dev, stat.st_ino)})
    elif stats.S_ISREG(stat.st_mode):
        yield _file(arg, path, stat, splittable)
    else:
        raise InputError(f"{arg}: not a regular file or directory; pipe it in and use - for standard input")


def _refuse_inside(arg: str, path: str, target: _Output | None) -> None:
    if target is None:
        return
    real = os.path.realpath(path)
    if target.path == real or target.path.startswith(real.rstrip("/") + "/"):
        raise InputError(
            f"the output {target.shown} lies inside the input directory {arg}, and would be its own input in "
            "the next run; write it elsewhere"
        )


def _file(path: str, opened: str, stat: os.stat_result, splittable: bool) -> tuple[object, InputFile]:
    if not os.access(opened, os.R_OK):
        raise InputError(f"{path}: can't be read: permission denied")
    return (stat.st_dev, stat.st_ino, _link_name(opened, stat)), InputFile(
        path=path,
        open=os.path.normpath(opened),
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        splittable=splittable and compression_of(path) is None,
    )


def _link_name(opened: str, stat: os.stat_result) -> str:
    """Two hard links are two files; the same file by two spellings is one."""
    return os.path.realpath(opened) if stat.st_nlink > 1 else ""


def _walk(arg: str, path: str, splittable: bool, above: set[tuple[int, int]]) -> _Found:
    """Files below a directory, in order of names; links are followed, but not in circles."""
    try:
        with os.scandir(path) as listing:
            entries = sorted(listing, key=_entry_name)
    except OSError as exc:
        raise InputError(f"{arg}: the directory can't be read: {exc.strerror}") from exc
    prefix = arg if arg.endswith("/") else arg + "/"
    for entry in entries:
        name = entry.name
        if name.startswith(_HIDDEN):
            continue
        try:
            stat = entry.stat()
        except OSError as exc:
            raise InputError(f"{prefix}{name}: can't be read: {exc.strerror}") from exc
        if stats.S_ISREG(stat.st_mode):
            yield _file(prefix + name, entry.path, stat, splittable)
        elif stats.S_ISDIR(stat.st_mode):
            here = (stat.st_dev, stat.st_ino)
            if here not in above:
                yield from _walk(prefix + name, entry.path, splittable, above | {here})


def _entry_name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _glob(arg: str, opened: str, base: str, target: _Output | None, splittable: bool) -> _Found:
    """Files that match a pattern, or lie below a directory that does, in order."""
    matches = sorted(_matches(arg, opened))
    if not matches:
        raise InputError(f"{arg}: the pattern matches no file (looked in {base})")
    for match, path in matches:
        try:
            stat = os.stat(path)
        except OSError as exc:
            raise InputError(f"{match}: can't be read: {exc.strerror}") from exc
        yield from _named(match, path, stat, target, splittable)


def _matches(arg: str, opened: str) -> Iterator[tuple[str, str]]:
    """(as spelled, to open) of what a pattern matches, in no order. `**` goes through directories, whose
    files match by themselves; wildcards don't match a leading `_` or `.`."""
    import glob

    folder, pattern = split_pattern(arg)
    root = opened[: len(opened) - len(pattern)]
    if folder.strip("/"):
        folder = folder.rstrip("/") + "/"
    whole_tree = "**" in arg.split("/")
    for found in glob.iglob(pattern, root_dir=root, recursive=True):
        path = os.path.join(root, found)
        if not _hidden(folder + found, arg) and not (whole_tree and os.path.isdir(path)):
            yield folder + found, path


def _hidden(match: str, pattern: str) -> bool:
    """Does the match have a hidden name that the pattern doesn't spell itself?"""
    spelled = {part for part in pattern.split("/") if part.startswith(_HIDDEN)}
    return any(
        part.startswith(_HIDDEN) and part not in (".", "..") and not _spelled(part, spelled)
        for part in match.split("/")
    )


def _spelled(part: str, spelled: set[str]) -> bool:
    from fnmatch import fnmatchcase

    return any(fnmatchcase(part, pattern) for pattern in spelled)


def _remote(url: str, splittable: bool) -> Iterator[InputFile]:
    """Files at a URL: one, a tree, or what a pattern matches."""
    fs, path = filesystem(url)
    try:
        if not MAGIC.isdisjoint(path):
            details: dict[str, Any] = fs.glob(path, detail=True)
        elif fs.isdir(path):
            details = fs.find(path, detail=True)
        else:
            details = {path: fs.info(path)}
    except FileNotFoundError as exc:
        raise InputError(f"{url}: no such file") from exc
    except Exception as exc:
        raise InputError(f"{url}: can't be listed: {type(exc).__name__}: {exc}") from exc
    inside = path.rstrip("/") + "/"
    count = 0
    for name in sorted(details):
        info = details[name]
        below = name[len(inside) :] if name.startswith(inside) else ""
        if info.get("type") == "directory" or any(p.startswith(_HIDDEN) for p in below.split("/")):
            continue
        count += 1
        full = fs.unstrip_protocol(name)
        if info.get("size") is None:
            raise InputError(f"{full}: its size isn't known, so it can't be planned; download it first")
        yield InputFile(
            path=url if len(details) == 1 and name == path else full,
            open=full,
            size=int(info["size"]),
            mtime_ns=0,
            splittable=splittable and compression_of(name) is None,
        )
    if not count and not MAGIC.isdisjoint(path):
        raise InputError(f"{url}: the pattern matches no file")
