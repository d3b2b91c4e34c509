"""What stands at OUT already: whether it may be replaced, and how it goes without taking anything else along.

Only what mrq wrote is ever removed: the files that a result's manifest names. Whatever lies beside them, put
there before the job or while it ran, is kept.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, count, islice
from typing import Final

from mrq.commit.filesystem import FileSystem
from mrq.commit.manifest import SUCCESS, Manifest, manifest_in
from mrq.commit.staging import Staging
from mrq.core.paths import is_url
from mrq.errors import OutputError
from mrq.io import disk

#: Names that a refusal lists, and files that it counts.
_NAMED: Final = 3
_COUNTED_MAX: Final = 10_000


def identity(fs: FileSystem, out: str) -> str | None:
    """What tells one result from another at the same place; None where there is none."""
    data = fs.read(f"{out}/{SUCCESS}")
    return f"manifest:{hashlib.sha256(data).hexdigest()}" if data else None


def replaceable(fs: FileSystem, staging: Staging, overwrite: bool, inputs: Sequence[str] = ()) -> str | None:
    """The identity of what stands at OUT and may be replaced; None when nothing stands there. Raises
    OutputError for what may not be, DiskFullError."""
    out, shown = staging.output_open, staging.output
    if not os.path.lexists(out):
        return None
    if not os.path.isdir(out):
        raise OutputError(f"{shown} exists and isn't a directory; choose another output")
    if os.path.ismount(out):
        raise OutputError(f"{shown} is a mount point, which can't be renamed; choose a directory inside it")
    with disk.naming(out):
        names = fs.names(out)
    if not names:
        return None  # rename(2) replaces an empty directory in one step
    refused = refusal(fs, out, shown)
    if not overwrite:
        raise refused or exists(staging)
    needed = [(os.path.expanduser("~"), "your home")]
    needed += [(path, f"the input {path}") for path in inputs if not is_url(path)]
    with suppress(FileNotFoundError):  # it is gone: nothing holds it
        needed.insert(0, (os.getcwd(), "the working directory"))
    for path, what in needed:
        real = os.path.realpath(path)
        if real == out or real.startswith(out.rstrip("/") + "/"):
            raise OutputError(f"{shown} holds {what} and can't be replaced; choose another output")
    if refused is not None:
        raise refused
    return identity(fs, out)


def exists(staging: Staging) -> OutputError:
    """That a result stands at OUT."""
    return OutputError(f"{staging.output} exists; choose another output, or replace it with `overwrite=True`")


def refusal(fs: FileSystem, out: str, shown: str) -> OutputError | None:
    """Why what stands at OUT can't be replaced: it isn't a result of ours, or other files lie in it. None
    where nothing would be lost; an empty folder is nothing."""
    data = fs.read(f"{out}/{SUCCESS}")
    manifest = manifest_in(data)
    found = list(islice(_others(out, manifest), _COUNTED_MAX + 1))
    if not found and (manifest is not None or data is None):
        return None
    if manifest is not None:
        return OutputError(
            f"{shown} holds {_listed(found)} beside the result in it, which would be lost if it were "
            "replaced; move that away, or choose another output"
        )
    its = f"its {SUCCESS} isn't a manifest that this mrq knows"
    why = f"there is no {SUCCESS} in it" if data is None else its
    return OutputError(
        f"{shown} isn't a finished result of mrq ({why}), so it can't be replaced: it holds "
        f"{_listed(found)}; move it away, or choose another output"
    )


def remove_result(fs: FileSystem, folder: str, kept: str) -> str | None:
    """Remove a displaced result, file by file as its manifest names them, the manifest last. What else is
    in the folder, put there in the last moment, stays in it, and the folder becomes `kept`: its path is the
    answer then. May be done again after a crash anywhere. Raises OSError."""
    names = fs.names(folder)
    if names is None:
        return None
    manifest = manifest_in(fs.read(f"{folder}/{SUCCESS}"))
    if manifest is not None:
        for name in _files(manifest):
            # A way that leads through a link leads out of the folder.
            if not any(os.path.islink(f"{folder}/{above}") for above in _above(name)):
                _unlink(fs, f"{folder}/{name}")
        for name in sorted(_folders(manifest), reverse=True):
            if not os.path.islink(f"{folder}/{name}"):
                fs.rmdir_empty(f"{folder}/{name}")
        _unlink(fs, f"{folder}/{SUCCESS}")
    if fs.rmdir_empty(folder):
        return None
    # A master that came too late to move anything has made this.
    if fs.rmdir_empty(f"{folder}/_bad") and fs.rmdir_empty(folder):
        return None
    names_after = (f"{kept}-{number}" for number in count(2))
    target = next(name for name in chain((kept,), names_after) if not os.path.lexists(name))
    fs.rename(folder, target)
    return target


def _files(manifest: Manifest) -> set[str]:
    return {file.final for file in manifest.files}


def _above(name: str) -> Iterator[str]:
    """The folders that a file lies in, nearest first."""
    while name := os.path.dirname(name):
        yield name


def _folders(manifest: Manifest) -> set[str]:
    """The folders in a result that its files lie in, relative to it."""
    return {above for name in _files(manifest) for above in _above(name)}


def _others(out: str, manifest: Manifest | None) -> Iterator[str]:
    """What lies in the folder and isn't its manifest's, relative to it: files, links and empty folders, in
    order. Links aren't followed."""
    files, folders = (set[str](), set[str]()) if manifest is None else (_files(manifest), _folders(manifest))
    if manifest is not None:
        files.add(SUCCESS)
    stack = [""]
    while stack:
        inside = stack.pop()
        try:
            with os.scandir(f"{out}/{inside}") as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError:  # what can't be looked at can't be told to be ours
            yield inside
            continue
        if not entries and inside and inside.rstrip("/") not in folders:
            yield inside
        for entry in entries:
            name = inside + entry.name
            if entry.is_dir(follow_symlinks=False):
                stack.append(name + "/")
            elif name not in files:
                yield name


def _listed(names: Sequence[str]) -> str:
    """`a.txt`, `a.txt and b/`, `a.txt, b.txt, c.txt and 7 more files`."""
    if len(names) <= _NAMED:
        return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    more = len(names) - _NAMED
    count = f"more than {_COUNTED_MAX:,}" if len(names) > _COUNTED_MAX else f"{more:,} more"
    return f"{', '.join(names[:_NAMED])} and {count} files"


def _unlink(fs: FileSystem, path: str) -> None:
    """Remove a file; a folder in its place isn't ours, and stays."""
    try:
        fs.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as exc:
        if exc.errno not in (errno.EISDIR, errno.EPERM) or not os.path.isdir(path):
            raise
