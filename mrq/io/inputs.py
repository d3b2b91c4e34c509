"""Finds the files of a job's input: files, directories, globs, standard input and URLs.

The order is that of the arguments, and inside each the order of names (by code point), so it is the
same on every machine. A file that two arguments name counts once, at its first place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, BinaryIO, Final

from mrq.core.model import JobSpec, Piece
from mrq.core.pathmap import MAGIC
from mrq.core.paths import is_url
from mrq.core.splits import InputFile
from mrq.errors import InputError
from mrq.io import disk
from mrq.io.compression import compression_of
from mrq.io.search import MARKS, Search, identity, is_hidden
from mrq.io.streams import difference, filesystem

#: Paths that a sentence names.
_NAMED: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the arguments of a submit name; wire data."""

    files: tuple[InputFile, ...]  #: each once, in order
    #: Names that begin with `_` or `.`, and so were left out.
    hidden_files: int = 0
    hidden_folders: int = 0  #: with all that is in them
    results: tuple[str, ...] = ()  #: folders of which all was taken, and that have a `_SUCCESS`
    notes: tuple[str, ...] = ()  #: what the user may want to know, one sentence each


def find_all(
    args: Sequence[str],
    *,
    cwd: str | None = None,
    opens: Sequence[str] | None = None,
    out: str | None = None,
    shown: str | None = None,
    splittable: bool = True,
    known: Mapping[int, InputFile] | None = None,
    hidden: bool = False,
) -> Finding:
    """Every file that the arguments name, once, in order.

    Relative paths start at `cwd`. `opens` says where each is opened, where that isn't the path itself: an
    absolute path or pattern that ends as the spelled one does from its first wildcard on. `out` is where
    the output will go, spelled `shown`: refused inside an input directory. `splittable` is the input
    format's; compressed files never are. `known` has the files of arguments, by index, that aren't looked
    for: what `spool` made of standard input, for "-". `hidden`: files with hidden names count too. Raises
    InputError, in one sentence, for whatever can't be read.
    """
    base = os.getcwd() if cwd is None else os.path.abspath(cwd)
    if not args:
        raise InputError("no input was given; name files, directories, globs, URLs, or - for standard input")
    target = os.path.realpath(os.path.join(base, out)) if out is not None and not is_url(out) else None

    def entered(name: str, path: str) -> None:
        """Of each folder that is taken whole: the output mustn't lie in it."""
        real = os.path.realpath(path) if target is not None else ""
        if target is not None and (target == real or target.startswith(real.rstrip("/") + "/")):
            raise InputError(
                f"the output {shown or out} lies inside the input directory {name}, and would be its own "
                "input in the next run; write it elsewhere"
            )

    files: dict[object, InputFile] = {}
    left_out: dict[str, bool] = {}
    results: dict[str, None] = {}
    given = known or {}
    paths = opens or [os.path.join(base, arg) for arg in args]
    for index, (arg, path) in enumerate(zip(args, paths, strict=True)):
        if index in given:
            files.setdefault(given[index].open, given[index])
        elif arg == "-":
            raise InputError("'-' stands for standard input, which isn't available here")
        elif is_url(arg):
            for file in _remote(arg, splittable, hidden, left_out):
                files.setdefault(file.open, file)
        else:
            search = Search(arg, path, hidden=hidden, entered=entered)
            for _, key, file in sorted(_local(arg, search, base, splittable), key=itemgetter(0)):
                files.setdefault(key, file)
            left_out |= search.left_out
            results |= dict.fromkeys(search.results)
    hidden_files, hidden_folders = _counts(left_out)
    return Finding(
        files=tuple(files.values()),
        hidden_files=hidden_files,
        hidden_folders=hidden_folders,
        results=tuple(results),
    )


def _counts(left_out: Mapping[str, bool]) -> tuple[int, int]:
    """(files, folders) of what was left out, by path: is it a folder?"""
    folders = sum(left_out.values())
    return len(left_out) - folders, folders


def files_of(arg: str, path: str, *, hidden: bool = False) -> Iterator[InputFile]:
    """The files that one argument names, which is opened as `path`, found one by one: in an order of their
    own, the nearest first. Raises as `find`, where there are none too."""
    for _, _, file in _local(arg, Search(arg, path, hidden=hidden), os.getcwd(), True):
        yield file


def is_there(arg: str, path: str, *, hidden: bool = False) -> bool:
    """Is there anything of that name, or that matches the pattern, where `arg` is opened as `path`?"""
    if os.path.lexists(path):
        return True
    if MAGIC.isdisjoint(arg):
        return False
    search = Search(arg, path, hidden=hidden)
    try:
        return next(search.run(), None) is not None or search.matched
    except InputError:
        return True  # something that can't be read


def few(paths: Sequence[str]) -> str:
    """`a, b, c and 7 more`: the first of some paths."""
    more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
    return f"{', '.join(paths[:_NAMED])}{more}"


def hidden_note(files: int, folders: int) -> str:
    """`2 hidden files and 1 hidden folder were left out: …`; "" for none."""
    counted = [
        f"{count:,} hidden {noun}{'s' if count > 1 else ''}"
        for count, noun in ((files, "file"), (folders, "folder"))
        if count
    ]
    if not counted:
        return ""
    counted[-1] += " was" if files + folders == 1 else " were"
    return f"{' and '.join(counted)} left out (names that begin with _ or .); `all_files=True` takes them too"


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


def refuse_changed(job: str, spec: JobSpec) -> None:
    """Raise InputError where a job's inputs aren't what they were when it was submitted."""
    found = changed([piece for split in spec.splits for piece in split.pieces])
    if found:
        shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise InputError(
            f"job {job} can't go on: its input changed since it was submitted: {shown}; submit it anew"
        )


def _difference(piece: Piece) -> str | None:
    if is_url(piece.open):
        fs, path = filesystem(piece.open)
        try:
            size = int(fs.info(path).get("size") or 0)
        except OSError as exc:
            return f"{piece.path} can't be read any more: {exc}"
        differs = f"{piece.size} bytes then, {size} now" if size != piece.size else ""
    else:
        try:
            stat = os.stat(piece.open)
        except OSError as exc:
            return f"{piece.path} can't be read any more: {exc.strerror}"
        differs = difference(piece, stat)
    return f"{piece.path} ({differs})" if differs else None


_Found = Iterator[tuple[tuple[str, str], object, InputFile]]


def _local(arg: str, search: Search, base: str, splittable: bool) -> _Found:
    """(where it sorts, identity, file) for a path or a glob, the nearest first."""
    is_pattern = not MAGIC.isdisjoint(arg)
    try:
        os.stat(search.opened)
    except FileNotFoundError:
        if not is_pattern and not os.path.islink(search.opened):
            raise InputError(f"{arg}: no such file or directory (looked in {base})") from None
    except OSError as exc:
        if not os.path.islink(search.opened):  # else the search says where it leads
            raise InputError(f"{arg}: can't be read: {exc.strerror}") from exc
    for found in search.run():
        if not os.access(found.path, os.R_OK):
            raise InputError(f"{found.name}: can't be read: permission denied")
        file = InputFile(
            path=found.name,
            open=os.path.normpath(found.path),
            size=found.stat.st_size,
            mtime_ns=found.stat.st_mtime_ns,
            splittable=splittable and compression_of(found.name) is None,
        )
        yield found.order, identity(found.path, found.stat), file
    if is_pattern and not search.matched:
        hidden = hidden_note(*_counts(search.left_out))
        raise InputError(
            f"{arg}: the pattern matches no file (looked in {base})" + (f"; {hidden}" if hidden else "")
        )


def _remote(url: str, splittable: bool, hidden: bool, left_out: dict[str, bool]) -> Iterator[InputFile]:
    """Files at a URL: one, a tree, or what a pattern matches; `left_out` is told of hidden ones."""
    fs, path = filesystem(url)
    try:
        here = "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
        if here:  # on this machine: links are followed as everywhere
            search = Search(path, path, hidden=hidden)
            if MAGIC.isdisjoint(path) and not os.path.lexists(path):
                raise FileNotFoundError(path)
            details: dict[str, Any] = {each.name: {"size": each.stat.st_size} for each in search.run()}
            left_out |= search.left_out
        else:
            details = _there(fs, path)
    except FileNotFoundError as exc:
        raise InputError(f"{url}: no such file") from exc
    except InputError as exc:
        raise InputError(f"{url}: {exc}") from exc
    except Exception as exc:
        raise InputError(f"{url}: can't be listed: {type(exc).__name__}: {exc}") from exc
    count = 0
    for name in sorted(details):
        info = details[name]
        if info.get("type") == "directory":
            continue
        if not hidden and is_hidden(name, path):
            if not _is_mark(name, details):
                left_out[name] = False
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


def _is_mark(name: str, details: Mapping[str, Any]) -> bool:
    """Is it what a finished result has beside its parts, or in its `_bad`?"""
    folder, _, last = name.rpartition("/")
    if folder.endswith(f"/{MARKS[1]}"):
        folder, last = folder[: -len(MARKS[1]) - 1], MARKS[1]
    return last in MARKS and f"{folder}/{MARKS[0]}" in details


def _there(fs: Any, path: str) -> dict[str, Any]:
    """Files that a driver finds: name -> details. What there is by this very name is no pattern."""
    if not MAGIC.isdisjoint(path):
        try:
            fs.info(path)
        except Exception:  # noqa: BLE001 drivers say in many ways that there is no such name
            found: dict[str, Any] = fs.glob(path, detail=True)
            return found
    return fs.find(path, detail=True) if fs.isdir(path) else {path: fs.info(path)}
